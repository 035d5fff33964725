# SPDX-License-Identifier: GPL-2.0-or-later
"""Joins the real watcher, collator and mirror of one sync as the child does, one small step at a time.

The kernel, the queue and the source are real. The clock is not, and rsync is the model or the real one, as
the target says. What may happen late in reality (reading, walking, running) happens when a step says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from unittest import mock

from helpers.carrier import LIMITS, Carrier, Operation
from helpers.modelrsync import Fault
from helpers.trees import Playground, files, join

from lsyncd_sd.config.model import Delete
from lsyncd_sd.plan.change import Change, Move
from lsyncd_sd.plan.collator import Limits
from lsyncd_sd.watch import inotify, watcher
from lsyncd_sd.watch.coverage import Scope
from lsyncd_sd.watch.watcher import Watcher

# More rounds than any list of operations of these tests needs to come to rest.
ROUNDS_TO_SETTLE = 60


class Rig(Carrier):
    """One sync of a playground's source; use it as a context manager."""

    source: Playground

    def __init__(
        self,
        playground: Playground,
        rules: Sequence[str],
        *,
        delete: Delete = Delete.ALWAYS,
        limits: Limits = LIMITS,
        real_rsync: bool = False,
    ) -> None:
        target = os.fsdecode(playground.base + b"/target") if real_rsync else None
        super().__init__(playground, rules, delete=delete, limits=limits, target=target)
        if target is not None:
            os.mkdir(target)
        self.queue = inotify.open_queue()
        scope = Scope(self.filters.excludes, self.filters.hides_alike)
        self.watcher = Watcher(self.queue, playground.path, scope)
        self._unread: list[inotify.RawEvent] = []
        self._bite = 1000
        self._meanwhile: list[Operation] = []
        self._is_watching = self._is_walked = self._is_settled = False

    # ------------------------------------------------------------------ what is put between

    def __enter__(self) -> Rig:
        super().__enter__()
        self._read_events, self._add_watch = inotify.read_events, inotify.add_watch
        for name, replacement in (
            ("read_events", self._read_some),
            ("add_watch", self._add_watch_and_more),
        ):
            self._patches.enter_context(mock.patch.object(inotify, name, replacement))
        return self

    def __exit__(self, *_error: object) -> None:
        super().__exit__()
        self.source.close_all()
        os.close(self.queue)

    def _read_some(self, queue: int) -> list[inotify.RawEvent]:
        """Give out the queue in small pieces, so that the tree is ahead of what was read."""
        if not self._unread:
            self._unread = self._read_events(queue)
        bite, self._unread = self._unread[: self._bite], self._unread[self._bite :]
        return bite

    def _add_watch_and_more(self, queue: int, directory: int, mask: int) -> int:
        """Set a watch, and let something happen before the directory is listed."""
        try:
            return self._add_watch(queue, directory, mask)
        finally:
            if self._meanwhile:
                self.do([self._meanwhile.pop()])

    # ------------------------------------------------------------------ steps

    def do(self, operations: Iterable[Operation]) -> None:
        """Carry out operations; one that nobody may have seen is told by a file's time.

        As long as the source is walked, some of it is not watched: only the full sync finds what changes.
        """
        for operation in operations:
            before = {} if self._is_walked else files(self.source.entries())
            self.source.do(operation)
            if not self._is_walked:
                after = files(self.source.entries())
                self.source.age(path for path, entry in after.items() if before.get(path) != entry)

    def walk(self, directories: int) -> None:
        """Go on with the walk of the source; begin it if it has not begun."""
        self.now += 1
        if not self._is_watching:
            self._lose_events()
            self.watcher.restart()
            self._is_watching = True
        if not self._is_walked and self.watcher.walk(directories):
            self._is_walked = self._is_settled = self.is_full_sync_due = True

    def read(self, rounds: int, bite: int, meanwhile: Iterable[Operation]) -> list[Change | Move]:
        """Read the queue as the child does when it wakes up, at most so many events at a time."""
        self.now += 1
        if not self._is_watching:
            return []
        self._bite, self._meanwhile = bite, list(meanwhile)
        with mock.patch.object(watcher, "_ROUNDS_PER_READ", rounds):
            changes = self.watcher.read(self.now)
        self._bite, self._meanwhile = 1000, []
        assert not self.watcher.root_lost
        assert not self.watcher.unwatched
        if self.watcher.overflowed:
            self._is_watching = self._is_walked = self._is_settled = False
            self.cut_short()
        else:
            self.take_in(changes)
            if self._is_walked:
                self._is_settled = self.watcher.settled
            if self._is_settled and not self._unread and not self._fill_up():
                self.collator.caught_up()
        return changes

    def overflow(self) -> None:
        """Lose what is queued, as the kernel does when it is too much."""
        if self._is_watching:
            self._lose_events()
            self._unread = [inotify.RawEvent(-1, inotify.IN_Q_OVERFLOW, 0, b"")]

    def _lose_events(self) -> None:
        """Throw away what is queued, and let size or time tell of it: a full sync sees nothing else."""
        names = {event.name for event in self._unread}
        while events := self._read_events(self.queue):
            names |= {event.name for event in events}
        self._unread.clear()
        known = files(self.source.entries())
        self.source.age(path for path in known if not names.isdisjoint(path.split(b"/")))
        while self._read_events(self.queue):
            pass

    def _fill_up(self) -> bool:
        """Fetch what is queued; tell whether anything is."""
        self._unread += self._read_events(self.queue)
        return bool(self._unread)

    def dispatch(self) -> None:
        """Begin a full sync or a batch if it is its time."""
        self.now += 1
        if self._is_settled:
            super().dispatch()

    def cycle(self, faults: Iterable[Fault], finish: bool) -> None:
        """Read all there is, begin what is due, and let its first commands, or all, do their work."""
        self.read(32, 1000, ())
        self.dispatch()
        for fault in faults:
            self.run(fault)
        if finish:
            self.run_to_end()

    # ------------------------------------------------------------------ the end

    def settle(self) -> None:
        """Let everything run its course, without any trouble."""
        for _round in range(ROUNDS_TO_SETTLE):
            self.walk(1000)
            self.read(32, 1000, ())
            self.dispatch()
            self.run(Fault())
            if self._is_at_rest():
                return
        raise AssertionError(
            f"not at rest after {ROUNDS_TO_SETTLE} rounds: {self.watcher.settled=} {self.collator.pending=}"
        )

    def _is_at_rest(self) -> bool:
        return (
            self._is_walked
            and self._is_settled
            and not self.is_full_sync_due
            and self.is_idle
            and not len(self.collator)
            and not self._unread
        )

    def check_watches(self) -> None:
        """Check that exactly the directories of the source are watched, by the kernel's own account."""
        directories = {path for path, entry in self.expected().items() if entry.kind == "d"}
        wanted = {os.stat(join(self.source.path, path)).st_ino: path for path in directories if path}
        wanted[os.stat(self.source.path).st_ino] = b""
        watched = set(watched_inodes(self.queue))
        missing = {path for inode, path in wanted.items() if inode not in watched}
        assert not missing, f"not watched: {missing}"
        assert len(watched) == len(wanted), f"{len(watched)} watches for {len(wanted)} directories"
        assert self.watcher.directories == len(wanted)
        self._probe(directories)

    def _probe(self, directories: set[bytes]) -> None:
        """A new file in every directory must be seen there, under its right name."""
        probes = {join(directory, b"probe") for directory in directories}
        for path in probes:
            Path(os.fsdecode(join(self.source.path, path))).touch()
        changes = self.read(32, 1000, ())
        seen = {change.path for change in changes if isinstance(change, Change)}
        assert seen == probes, f"unseen: {probes - seen}, of none: {seen - probes}"


def watched_inodes(queue: int) -> Iterator[int]:
    """Yield the inode number of each watch that the kernel has on a queue."""
    account = Path(f"/proc/self/fdinfo/{queue}").read_text()
    for match in re.finditer(r"^inotify wd:\w+ ino:(\w+)", account, re.MULTILINE):
        yield int(match[1], 16)
