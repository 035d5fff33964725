# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells what happens in a directory under its other name, too: one that is mounted a second time (`--bind`).

A watch is on an inode, so the kernel reports everything once, and nobody knows through which of the names it
was done. The directory is in the table at one place; each other place is its *twin*.
"""

from __future__ import annotations

from collections.abc import Iterator

from lsyncd_sd.plan.change import Change, Depth, Move
from lsyncd_sd.watch.tree import Node, Place, Tree


class Twins:
    """The places that show a directory which the table has at another place."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._shown: dict[Place, Node] = {}

    def __bool__(self) -> bool:
        return bool(self._shown)

    def clear(self) -> None:
        """Forget everything."""
        self._shown.clear()

    def set(self, place: Place, node: Node | None) -> bool:
        """`place` shows what the table has as `node`, None for nothing; tell whether that is new."""
        if node is None:
            self._shown.pop(place, None)
            return False
        is_new = self._shown.get(place) is not node
        self._shown[place] = node
        return is_new

    def forget_gone(self) -> list[Place]:
        """Forget the twins of directories that left the table, and return the places where those stood."""
        gone = [
            place
            for place, node in self._shown.items()
            if not (self._tree.holds(node) and self._tree.holds(place.parent))
        ]
        for place in gone:
            del self._shown[place]
        return [place for place in gone if self._tree.holds(place.parent)]

    def echo(self, change: Change | Move) -> Iterator[Change]:
        """Yield what is dirty at other places because of this.

        Never a move, nor a name that came or went: where a directory has just moved from one place to the
        other, they may have been taken for twins, and a mark too many does no harm.
        """
        if isinstance(change, Change):
            ends = [(change.path, change.depth, change.exact)]
        else:
            depth = Depth.SUBTREE if change.is_directory else Depth.ENTRY
            ends = [(change.old, depth, True), (change.new, depth, True)]
        for place, node in self._shown.items():
            top, other = self._tree.path(node), self._tree.path_of(place)
            for path, depth, exact in ends:
                shown = _shown(path, top, other)
                if shown is not None:
                    yield Change(shown, depth, exact)


def _shown(path: bytes, top: bytes, other: bytes) -> bytes | None:
    """Return the path below `other` of what is at or below `top`, None for what is not."""
    if path == top:
        return other
    if not top:
        return other + b"/" + path
    return other + path[len(top) :] if path.startswith(top + b"/") else None
