# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy of a tree, kept true by a watcher's changes and moves alone: what they do not tell, it lacks.

Moves are carried out at once and in order, changes are remembered as dirty paths under the names they have
later, and only what is dirty is copied when everything is at rest. So a move of something else than what
moved, a change under a wrong name, or one that is missing leaves a copy that is not equal.
"""

from __future__ import annotations

from collections.abc import Iterable

from helpers.trees import Snapshot, parent_of

from lsyncd_sd.plan.change import Change, Depth, Move, Sign


def is_at_or_below(path: bytes, top: bytes) -> bool:
    """Tell whether `path` is `top` or lies below it."""
    return not top or path == top or path.startswith(top + b"/")


def renamed(path: bytes, old: bytes, new: bytes) -> bytes:
    """Return the path of what is at or below `old` after that became `new`."""
    return new + path[len(old) :]


class Replica:
    """What a target without delay and without faults would hold, and which of its paths are dirty."""

    def __init__(self, entries: Snapshot) -> None:
        self.entries = dict(entries)
        self.moves = 0
        self._dirty: dict[bytes, Depth] = {}
        # Came into being where there was nothing: the copy does not hold it, so when it goes all is said.
        self._new: set[bytes] = set()

    def take(self, changes: Iterable[Change | Move]) -> None:
        """Take in what the watcher tells."""
        for change in changes:
            if isinstance(change, Move):
                self._move(change)
            else:
                self._change(change)

    def _change(self, change: Change) -> None:
        path = change.path
        if change.sign is Sign.WENT and path in self._new:
            for dirty in [one for one in self._dirty if is_at_or_below(one, path)]:
                del self._dirty[dirty]
                self._new.discard(dirty)
            return
        if change.sign is Sign.CAME and self._is_clean(path):
            assert path not in self.entries, f"{path!r} came, but the copy holds it"
            self._new.add(path)
        if change.sign is Sign.ARRIVED:
            self._new.discard(path)
        self._dirty[path] = self._dirty.get(path, Depth(0)) | change.depth

    def _is_clean(self, path: bytes) -> bool:
        return not any(is_at_or_below(one, path) or is_at_or_below(path, one) for one in self._dirty)

    def _move(self, move: Move) -> None:
        old, new, is_directory = move
        depth = Depth.SUBTREE if is_directory else Depth.ENTRY
        covered = any(
            is_at_or_below(old, path) for path, known in self._dirty.items() if known & Depth.SUBTREE
        )
        was_dirty = covered or old in self._dirty
        if not was_dirty:
            assert old in self.entries, f"{old!r} moved, but was never told of"
            assert is_directory == (self.entries[old].kind == "d"), f"{old!r} is of another kind"
        # What stood at the new name is gone, with its dirt; the copy has something there now, and above it.
        for path in [one for one in self._dirty if is_at_or_below(one, new)]:
            del self._dirty[path]
            self._new.discard(path)
        if any(is_at_or_below(path, new) for path in self.entries):
            self.entries = {path: one for path, one in self.entries.items() if not is_at_or_below(path, new)}
        self._new = {path for path in self._new if not is_at_or_below(new, path)}
        for path in [one for one in self._dirty if is_at_or_below(one, old)]:
            self._dirty[renamed(path, old, new)] = self._dirty.pop(path)
            self._new.discard(path)
        self.entries = {
            renamed(path, old, new) if is_at_or_below(path, old) else path: entry
            for path, entry in self.entries.items()
        }
        if covered:
            self._dirty[new] = depth
        self.moves += not was_dirty

    def rest(self, source: Snapshot) -> None:
        """Copy what is dirty from the source, which is at rest."""
        for path, depth in sorted(self._dirty.items()):
            if path not in source or depth & Depth.SUBTREE or self._differs_in_kind(path, source):
                self._remove(path)
            wanted = [path] if path in source else []
            if depth & Depth.SUBTREE:
                wanted = [one for one in source if is_at_or_below(one, path)]
            for one in wanted:
                self.entries[one] = source[one]
                above = parent_of(one)
                while above and above not in self.entries:
                    self.entries[above] = source[above]
                    above = parent_of(above)
        self._dirty.clear()
        self._new.clear()

    def _differs_in_kind(self, path: bytes, source: Snapshot) -> bool:
        return path in self.entries and self.entries[path].kind != source[path].kind

    def _remove(self, path: bytes) -> None:
        self.entries = {
            one: entry for one, entry in self.entries.items() if not is_at_or_below(one, path) or not one
        }


def without_directory_times(entries: Snapshot) -> Snapshot:
    """Return a snapshot in which directories have no time: a rename in them on the copy would change it."""
    return {path: entry._replace(mtime=0) if entry.kind == "d" else entry for path, entry in entries.items()}
