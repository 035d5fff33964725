# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides whether a sync must be held before it may touch its target: the two roots, and the brake.

A tool that runs `rsync --delete` unattended must not mirror an accident: a source that was unmounted,
emptied or replaced while nobody looked looks just like one whose files were all deleted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lsyncd_sd.plan.deletions import Deletions
from lsyncd_sd.printable import printable

# So few entries say nothing: half of them go whenever somebody tidies up.
SMALL_TREE = 100

# Seconds: longer than removing any tree takes, shorter than from one tidying up to the next. A guess.
LATELY = 3600.0

# How many paths the reason of a hold names; the journal entry has more.
PATHS_IN_REASON = 3


class Identity(NamedTuple):
    """Which directory this is, over reboots and renames: file system id (f_fsid) and inode number."""

    file_system: int
    inode: int


class MountPoint(NamedTuple):
    """A file system that is mounted below the source.

    `path` is relative to the source, `top` the directory of that file system that is seen there, `kind` its
    type, `number` its f_fsid, 0 where that says nothing.
    """

    path: bytes
    top: bytes
    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a sync remembers about its last success on one target; None where nothing is known yet."""

    source: Identity | None = None
    source_had_entries: bool = False
    mounts: frozenset[MountPoint] | None = None
    target: Identity | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a sync is held. `token` names this very situation: `accept` releases it and no other one.

    `deletions` are those that it was held for, or that would follow. `doubt`: it is not for their number
    that it is held; the same doubt another time need not count them again.
    """

    reason: str
    hint: str
    token: str
    doubt: str = ""
    deletions: Deletions = field(default_factory=Deletions, compare=False)

    @property
    def paths(self) -> tuple[bytes, ...]:
        """Some of what would be deleted, the topmost paths."""
        return tuple(path.removesuffix(b"/") for path in self.deletions.topmost)

    def with_deletions(self, deletions: Deletions) -> Hold:
        """Return this doubt with what would be deleted if it was unfounded: both are accepted together."""
        reason = f"{self.reason}; going on would delete {_told(deletions)}"
        token = _digest(self.token, deletions.digest())
        return replace(self, reason=reason, token=token, deletions=deletions)


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _doubt(reason: str, hint: str, *facts: object) -> Hold:
    token = _digest(*facts)
    return Hold(reason, hint, token, doubt=token)


def check_source(memory: Memory, identity: Identity, is_empty: bool, deletes: bool) -> Hold | None:
    """Return why a full sync of this source must not run now, None if it may.

    `deletes` tells whether the full sync would delete at all: one that cannot is never held.
    """
    if not deletes or memory.source is None:
        return None
    if is_empty and memory.source_had_entries:
        return _doubt(
            "the source is empty, but held files when it was mirrored last",
            "is it unmounted? nothing was deleted; mount it, or release the deletions with",
            "emptied",
            identity,
        )
    if identity != memory.source:
        return _doubt(
            "the source is another directory (file system or inode) than the one mirrored last",
            "is another file system mounted there? nothing was changed; mount the right one, or go on with",
            "replaced",
            memory.source,
            identity,
        )
    return None


def check_mounts(memory: Memory, mounts: frozenset[MountPoint]) -> Hold | None:
    """Return why what is below the source must not be mirrored now, None if it may.

    What a file system held that is not mounted is not gone, and what one holds that was mounted over a
    directory does not replace that.
    """
    if memory.mounts is None or mounts == memory.mounts:
        return None
    before = {mount.path for mount in memory.mounts - mounts}
    now = {mount.path for mount in mounts - memory.mounts}
    told = [
        f"{what}: {', '.join(map(printable, sorted(paths)[:PATHS_IN_REASON]))}"
        for what, paths in (
            ("a file system is not mounted any more", before - now),
            ("a file system was mounted", now - before),
            ("another file system is mounted", before & now),
        )
        if paths
    ]
    return _doubt(
        f"below the source, {'; '.join(told)}",
        "nothing was changed; mount what was mounted when it was mirrored last, or go on with",
        "mounts",
        sorted(memory.mounts),
        sorted(mounts),
    )


def check_target(memory: Memory, identity: Identity | None) -> Hold | None:
    """Return why nothing must be sent to this local target now, None if it may.

    `identity` is None for a target whose identity cannot be known (a remote one).
    """
    if memory.target is None or identity is None or identity == memory.target:
        return None
    return _doubt(
        "the target is another directory (file system or inode) than the one mirrored to last",
        "is the target's file system mounted? nothing was changed; mount it, or go on with",
        "target",
        memory.target,
        identity,
    )


@dataclass(frozen=True, slots=True)
class Brake:
    """How much one run may delete: a number, or a percentage of the tree; with neither, any number."""

    number: int | None
    percent: int | None

    def limit(self, entries: int) -> int | None:
        """Return how many entries a run may delete of a tree that has so many; None: any number."""
        if self.percent is None:
            return self.number
        # A small tree may go as a whole; but nothing larger that is on the target instead of it.
        return SMALL_TREE if entries <= SMALL_TREE else entries * self.percent // 100

    def told(self, entries: int) -> str:
        """Return the limit in words."""
        limit = self.limit(entries)
        if self.percent is None or entries <= SMALL_TREE:
            return f"{limit}"
        return f"{limit} ({self.percent} % of {entries})"


class Size:
    """How many entries the target holds, and how many it held at most lately.

    Lately is within the last one to two times LATELY. Times are monotonic seconds.
    """

    def __init__(self, entries: int, peak: int, now: float) -> None:
        self.entries = entries
        self._peaks = (peak, entries)
        self._begun_at = now

    @property
    def peak(self) -> int:
        """The most entries that it held lately."""
        return max(self._peaks)

    @property
    def went(self) -> int:
        """How many of these are gone."""
        return self.peak - self.entries

    def left(self, brake: Brake) -> int | None:
        """Return how many entries may still be deleted, None for any number."""
        limit = brake.limit(self.peak)
        return None if limit is None else max(0, limit - self.went)

    def set(self, entries: int, now: float) -> None:
        """It holds so many now."""
        self.entries = entries
        before, latest = self._peaks
        if now - self._begun_at >= LATELY:
            self._begun_at = now
            before, latest = latest, entries
        self._peaks = before, max(latest, entries)

    def keep_peak(self, now: float) -> None:
        """What is held for what it held lately is not released by time alone."""
        self._begun_at = now

    def forget_peak(self) -> None:
        """Somebody has agreed to what is gone."""
        self._peaks = self.entries, self.entries


def check_deletions(brake: Brake, size: Size, deletions: Deletions) -> Hold | None:
    """Return why these deletions must not be made on a target of this size, None if they may.

    What went lately counts too: a tree takes a while to remove, and the first batches are too soon to see.
    """
    left = size.left(brake)
    if left is None or len(deletions) <= left or deletions.lost <= left:
        return None
    lately = f" after {size.went} that went lately" if size.went else ""
    return Hold(
        f"this would delete {_told(deletions)}{lately}, and the brake allows {brake.told(size.peak)}",
        "nothing of it was deleted; if this is right, release it with",
        deletions.digest(),
        deletions=deletions,
    )


def check_rest(deletions: Deletions) -> Hold | None:
    """Return why a run that rsync has stopped must not go on, None if there is nothing left to delete."""
    if len(deletions) == 0:
        return None
    return Hold(
        f"a run was stopped when it had deleted as much as it might, and would go on to delete "
        f"{_told(deletions)}",
        "if this is right, release it with",
        deletions.digest(),
        deletions=deletions,
    )


def check_first_run(deletions: Deletions) -> Hold | None:
    """Return why the first full sync of all must not run, None if it deletes nothing."""
    if len(deletions) == 0:
        return None
    return Hold(
        f"the target holds what the source does not: the first full sync would delete {_told(deletions)}",
        "is it the right target, and is the source mounted? nothing was deleted; to go on, say",
        deletions.digest(),
        deletions=deletions,
    )


def _told(deletions: Deletions) -> str:
    count = len(deletions)
    if count == 0:
        return "nothing on the target"
    paths = deletions.topmost
    named = [printable(path) for path in paths[:PATHS_IN_REASON]]
    if len(paths) > PATHS_IN_REASON:
        named.append("...")
    entries = "entry" if count == 1 else "entries"
    return f"{count} {entries} on the target: {', '.join(named)}"
