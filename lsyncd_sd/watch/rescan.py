# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds by lstat what changed in the source since a time, instead of comparing all of it with the target.

Every change moves the ctime of an inode or of the directory that holds its name, and no program can set a
ctime. What cannot be told by time is told by place: a directory that was not mirrored *there* is dirty with
all below it. docs/rescan.md has the rules (E1 to E5) and what they rest on; walk.py does the looking.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lsyncd_sd.plan.change import Change, Depth

# How long a rename may take between giving the inode its time and showing the new name, with the one
# second that a file system without finer times rounds down. A guess.
RENAME_SLACK_NS = 2_000_000_000

_NUMBERS = struct.Struct("=QQ")


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


class Seen(NamedTuple):
    """A directory as a walk finds it: its path, its number (see ground.directory_number), its ctime."""

    path: bytes
    number: int
    ctime: int


@dataclass(slots=True)
class View:
    """A directory that a rescan goes through, as that sees it.

    `moved_at` is the latest time at which another directory may have become, or ceased to be, what stands
    here; `emptied_at`: since when a level run may have deleted on the target a name that was not here for a
    moment, None if none did.
    """

    rescan: Rescan
    ctime: int
    moved_at: int
    emptied_at: int | None = None

    def has_moved(self, since: int) -> bool:
        """Tell whether another directory may stand here than at this time."""
        return self.moved_at >= since - RENAME_SLACK_NS

    def is_new(self, ctime: int) -> bool:
        """Tell whether what has this ctime may have changed since all was known."""
        return ctime >= self.rescan.known.since

    @property
    def hides_swaps(self) -> bool:
        """Whether names in this directory may have been exchanged without a trace in what they name."""
        return self.rescan.known.swaps_unseen and self.is_new(self.ctime)


class Rescan:
    """What may be wrong on one target, as a walk through the source finds it.

    Set the watches before the walk begins, and go on reading the queue. Whoever takes in its changes must
    not carry out moves that were read meanwhile, up to the first time that the queue is read empty after the
    end of the walk: what has not been found yet would move along, to a place that may have been passed
    already. Both ends of such a move are changes, the new one an exact subtree.
    """

    def __init__(self, known: Known) -> None:
        self.known = known
        self._intents = dict(known.intents)
        self._levels: set[bytes] = set()
        self._changes: list[Change] = []

    def take(self) -> list[Change]:
        """Return what was found since the last time."""
        changes, self._changes = self._changes, []
        return changes

    # ------------------------------------------------------------------ what the walk tells

    def report(self, path: bytes, depth: Depth, *, exact: bool) -> None:
        """This may be wrong."""
        self._changes.append(Change(path, depth, exact))

    def begin(self, root: Seen) -> View | None:
        """Return how to go through the root; None if all of it may be wrong."""
        # The root cannot be moved away unseen: every run works in the very directory that is watched.
        return self._look_at(root, None, moved_at=-RENAME_SLACK_NS)

    def enter(self, place: Seen, place_print: int, above: View) -> View | None:
        """Return how to go through a directory of this fingerprint; None if all of it may be wrong."""
        if not self.known.holds(place_print):
            self.report(place.path, Depth.SUBTREE, exact=True)
            return None
        # Whoever moves a directory moves its ctime, and that of the directory it comes from or goes to.
        moved_at = above.ctime
        if not self.known.swaps_unseen:
            moved_at = min(moved_at, place.ctime)
        return self._look_at(place, above, moved_at=max(moved_at, above.moved_at))

    def _look_at(self, place: Seen, above: View | None, *, moved_at: int) -> View | None:
        """Say what may be wrong with a directory that was mirrored here."""
        view = View(self, place.ctime, moved_at)
        depth, exact = Depth(0), False
        if view.is_new(place.ctime):
            depth = Depth.ENTRY | Depth.LEVEL
        intent = self._intents.pop(place.path, None)
        if intent is not None:
            depth, exact = depth | intent.depth, intent.exact
            if intent.touched_at is not None:
                if intent.depth & Depth.SUBTREE or view.has_moved(intent.touched_at):
                    # The run may have done to it what was meant for another directory. If that was sent
                    # without its content, what the target holds below is right or missing.
                    depth |= Depth.SUBTREE
                    exact = bool(intent.depth & ~(Depth.ENTRY | Depth.LEVEL))
                elif intent.depth & ~Depth.ENTRY:
                    view.emptied_at = intent.touched_at
        if above is not None and above.emptied_at is not None and view.has_moved(above.emptied_at):
            depth |= Depth.SUBTREE
        if depth:
            self.report(place.path, depth, exact=exact)
        return None if exact and depth & Depth.SUBTREE else view

    def finish(self) -> bool:
        """After all was looked at, say one thing more that was to be done; return False if there is none.

        That is at what is no directory, or was not mirrored here before.
        """
        if self._intents:
            path, intent = self._intents.popitem()
            is_touched = intent.touched_at is not None
            self.report(path, intent.depth, exact=intent.exact or is_touched)
            if is_touched:
                # A run that was killed has left its temporary file beside what it was to send.
                self._levels.add(path.rpartition(b"/")[0])
        elif self._levels:
            self.report(self._levels.pop(), Depth.LEVEL, exact=False)
        else:
            return False
        return True
