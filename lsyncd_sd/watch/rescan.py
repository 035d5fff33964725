# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds by lstat what changed in the source since a time, instead of comparing all of it with the target.

Every change moves the ctime of an inode or of the directory that holds its name, and no program can set a
ctime. What cannot be told by time is told by place: a directory that was not mirrored *there* is dirty with
all below it. docs/rescan.md has the rules (E1 to E5) and what they rest on.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lsyncd_sd.opening import open_directory
from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.watch.ground import directory_number

# How long a rename may take between giving the inode its time and showing the new name, with the one
# second that a file system without finer times rounds down. A guess.
RENAME_SLACK_NS = 2_000_000_000

_NUMBERS = struct.Struct("=QQ")

IsExcluded = Callable[[bytes, bool], bool]


class Intent(NamedTuple):
    """What an earlier run was to do at a path, or still had to.

    `touched_at` (ns) is when a run began that may have changed the target there, by what the source held
    at that moment; None if none did, and the path is only dirty.
    """

    depth: Depth
    exact: bool
    touched_at: int | None

    def merged(self, other: Intent) -> Intent:
        """Return the intent that covers both: deeper, exact, touched since the earlier time."""
        times = [time for time in (self.touched_at, other.touched_at) if time is not None]
        return Intent(self.depth | other.depth, self.exact or other.exact, min(times, default=None))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known from before: up to which time, and for which directories, the target was right.

    `since` (ns of CLOCK_REALTIME) has the slack in it. `directories` are sorted fingerprints.
    `swaps_unseen`: two names may have been exchanged (RENAME_EXCHANGE) without moving the ctime of either.
    """

    since: int
    directories: array[int]
    intents: Mapping[bytes, Intent] = field(default_factory=dict)
    swaps_unseen: bool = False

    def holds(self, fingerprint: int) -> bool:
        """Tell whether the directory of this fingerprint was mirrored at its place."""
        position = bisect_left(self.directories, fingerprint)
        return position < len(self.directories) and self.directories[position] == fingerprint


def fingerprint(number: int, above: int, name: bytes) -> int:
    """Return 64 bits that stand for a directory at its place: its number, that of its parent, its name."""
    digest = hashlib.blake2b(_NUMBERS.pack(number, above), digest_size=8)
    digest.update(name)
    return int.from_bytes(digest.digest(), "little")


class _Place:
    """A directory that is being looked at; `names` and `below` are what is still to be looked at in it."""

    __slots__ = ("below", "ctime", "device", "emptied_at", "inode", "moved_at", "names", "number", "path")

    def __init__(self, path: bytes, status: os.stat_result, number: int, moved_at: int) -> None:
        self.path = path
        self.device, self.inode = status.st_dev, status.st_ino
        self.number = number
        self.ctime = status.st_ctime_ns
        # The latest time at which another directory may have become, or ceased to be, what stands here.
        self.moved_at = moved_at
        # Since when a level run may have deleted on the target a name that was not here for a moment.
        self.emptied_at: int | None = None
        self.names: list[bytes] | None = None
        self.below: list[bytes] = []


class Rescan:
    """One walk through the source; `step` goes on with it until `done`.

    Set the watches before it begins, and go on reading the queue. Whoever takes in its changes must not
    carry out moves that were read meanwhile, up to the first time that the queue is read empty after `done`:
    what has not been found yet would move along, to a place that may have been passed already. Both ends of
    such a move are changes, the new one an exact subtree.
    """

    def __init__(
        self, root: bytes, known: Known, is_excluded: IsExcluded, *, one_file_system: bool = False
    ) -> None:
        self._root = root
        self._known = known
        self._is_excluded = is_excluded
        self._one_file_system = one_file_system
        self._intents = dict(known.intents)
        self._levels: set[bytes] = set()
        self._stack: list[_Place] = []
        self._top: _Place | None = None
        self._changes: list[Change] = []
        self.done = False

    def step(self, entries: int) -> list[Change]:
        """Look at about `entries` more names, and return what may be wrong on the target.

        Nothing stays open in between. Raises OSError if the root cannot be opened or is another directory.
        """
        if self._top is None:
            self._begin()
        while entries > 0 and not self.done:
            if self._stack:
                entries -= self._go_on(self._stack[-1], entries)
            else:
                self._finish()
                entries -= 1
        changes, self._changes = self._changes, []
        return changes

    def _begin(self) -> None:
        descriptor = self._open(b"")
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        # The root cannot be moved away unseen: every run works in the very directory that is watched.
        self._top = _Place(b"", status, status.st_ino, moved_at=-RENAME_SLACK_NS)
        self._look_at(self._top, None)

    def _report(self, path: bytes, depth: Depth, *, exact: bool) -> None:
        self._changes.append(Change(path, depth, exact))

    # ------------------------------------------------------------------ the walk

    def _go_on(self, place: _Place, entries: int) -> int:
        """Look at some names of a directory, or enter one below it; return how many names that were."""
        if place.names is None or place.names:
            return self._look_at_names(place, entries)
        if place.below:
            self._enter(place, place.below.pop())
        else:
            self._stack.pop()
        return 1

    def _look_at_names(self, place: _Place, entries: int) -> int:
        try:
            descriptor = self._open_again(place)
        except OSError:
            if not place.path:
                raise
            # It went, or is locked: the watcher tells of the first, and nothing is known in either case.
            self._stack.pop()
            self._report(place.path, Depth.SUBTREE, exact=True)
            return 1
        try:
            if place.names is None:
                place.names = [os.fsencode(name) for name in os.listdir(descriptor)]
            names = place.names[-entries:]
            del place.names[-entries:]
            for name in names:
                self._look_at_name(place, descriptor, name)
        finally:
            os.close(descriptor)
        return len(names) + 1

    def _look_at_name(self, place: _Place, descriptor: int, name: bytes) -> None:
        path = place.path + b"/" + name if place.path else name
        try:
            status = os.lstat(name, dir_fd=descriptor)
        except OSError:
            self._report(path, Depth.ENTRY, exact=True)
            return
        is_new = status.st_ctime_ns >= self._known.since
        if not stat.S_ISDIR(status.st_mode):
            is_swapped = self._known.swaps_unseen and place.ctime >= self._known.since
            if (is_new or is_swapped) and not self._is_excluded(path, False):
                self._report(path, Depth.ENTRY, exact=is_new)
        elif self._is_excluded(path, True):
            pass
        elif self._one_file_system and self._top is not None and status.st_dev != self._top.device:
            if is_new:
                self._report(path, Depth.ENTRY, exact=False)
        else:
            place.below.append(name)

    def _enter(self, above: _Place, name: bytes) -> None:
        assert self._top is not None, "it has begun"
        path = above.path + b"/" + name if above.path else name
        try:
            descriptor = self._open(path)
            try:
                status = os.fstat(descriptor)
                number = directory_number(status, self._top.device, descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            self._report(path, Depth.SUBTREE, exact=True)
            return
        if not self._known.holds(fingerprint(number, above.number, name)):
            self._report(path, Depth.SUBTREE, exact=True)
            return
        # Whoever moves a directory moves its ctime, and that of the directory it comes from or goes to.
        moved_at = above.ctime
        if not self._known.swaps_unseen:
            moved_at = min(moved_at, status.st_ctime_ns)
        self._look_at(_Place(path, status, number, max(moved_at, above.moved_at)), above)

    def _look_at(self, place: _Place, above: _Place | None) -> None:
        """Say what may be wrong with a directory that was mirrored here, and go on below it."""
        depth, exact = Depth(0), False
        if place.ctime >= self._known.since:
            depth = Depth.ENTRY | Depth.LEVEL
        intent = self._intents.pop(place.path, None)
        if intent is not None:
            depth, exact = depth | intent.depth, intent.exact
            if intent.touched_at is not None:
                if intent.depth & Depth.SUBTREE or self._has_moved(place, intent.touched_at):
                    # The run may have done to it what was meant for another directory. If that was sent
                    # without its content, what the target holds below is right or missing.
                    depth |= Depth.SUBTREE
                    exact = bool(intent.depth & ~(Depth.ENTRY | Depth.LEVEL))
                elif intent.depth & ~Depth.ENTRY:
                    place.emptied_at = intent.touched_at
        if above is not None and above.emptied_at is not None and self._has_moved(place, above.emptied_at):
            depth |= Depth.SUBTREE
        if depth:
            self._report(place.path, depth, exact=exact)
        if not (exact and depth & Depth.SUBTREE):
            self._stack.append(place)

    @staticmethod
    def _has_moved(place: _Place, since: int) -> bool:
        return place.moved_at >= since - RENAME_SLACK_NS

    def _finish(self) -> None:
        """Say what else was to be done: at what is no directory, or was not mirrored here before."""
        if self._intents:
            path, intent = self._intents.popitem()
            is_touched = intent.touched_at is not None
            self._report(path, intent.depth, exact=intent.exact or is_touched)
            if is_touched:
                # A run that was killed has left its temporary file beside what it was to send.
                self._levels.add(path.rpartition(b"/")[0])
        elif self._levels:
            self._report(self._levels.pop(), Depth.LEVEL, exact=False)
        else:
            self.done = True

    # ------------------------------------------------------------------ opening

    def _open(self, path: bytes) -> int:
        # The root itself may be given as a symlink.
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not path:
            return root
        try:
            return open_directory(root, path)
        finally:
            os.close(root)

    def _open_again(self, place: _Place) -> int:
        descriptor = self._open(place.path)
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) == (place.device, place.inode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.ESTALE, "another directory stands in its place", place.path)
