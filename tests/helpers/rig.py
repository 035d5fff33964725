# SPDX-License-Identifier: GPL-2.0-or-later
"""Joins the real watcher, collator and mirror of one sync as the child does, one small step at a time.

The kernel, the queue and the source are real. The clock is not, and rsync is the model or the real one, as
the target says. What may happen late in reality (reading, walking, running) happens when a step says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from helpers.modelrsync import TEMPORARY_SUFFIX, Answer, Command, Fault, ModelTarget, Trouble, visible
from helpers.syncs import local_target, make_sync
from helpers.trees import SECRET, Playground, Snapshot, files, join, snapshot

from lsyncd_sd.config.model import Delete
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror import process, rsync
from lsyncd_sd.mirror.options import Traits
from lsyncd_sd.mirror.process import Result
from lsyncd_sd.mirror.rsync import Report, RsyncMirror
from lsyncd_sd.plan.change import Change, Move
from lsyncd_sd.plan.collator import Collator, Limits
from lsyncd_sd.plan.filters import Filter, WrittenRule
from lsyncd_sd.watch import inotify, watcher
from lsyncd_sd.watch.coverage import Scope
from lsyncd_sd.watch.source import Source
from lsyncd_sd.watch.watcher import Watcher

Operation = tuple[Any, ...]

# More rounds than any list of operations of these tests needs to come to rest.
ROUNDS_TO_SETTLE = 60


class Rig:
    """One sync of a playground's source; use it as a context manager."""

    def __init__(
        self,
        playground: Playground,
        rules: Sequence[str],
        *,
        delete: Delete = Delete.ALWAYS,
        real_rsync: bool = False,
    ) -> None:
        self.playground = playground
        self.filters = Filter.from_rules(WrittenRule(text) for text in rules)
        self.queue = inotify.open_queue()
        scope = Scope(self.filters.excludes, self.filters.depends_on_place)
        self.watcher = Watcher(self.queue, playground.source, scope)
        self.collator = Collator(Limits(delay=0, max_changes=1000))
        self._delete = delete
        self._loop = Loop()
        self._target_path = os.fsdecode(playground.base + b"/target")
        self.model = None if real_rsync else ModelTarget()
        if real_rsync:
            os.mkdir(self._target_path)
        sync = make_sync(
            source=os.fsdecode(playground.source),
            target=local_target(self._target_path),
            filter=tuple(rules),
            delete=delete,
        )
        self._mirror = RsyncMirror(
            self._loop, sync, self.filters, lambda: Source(playground.source), lambda _percent: None
        )
        self._mirror.commands.traits = Traits(nanoseconds=True)
        self._now = 0.0
        self._steps: Any = None
        self._command: tuple[list[str], bytes] | None = None
        self._unread: list[inotify.RawEvent] = []
        self._bite = 1000
        self._meanwhile: list[Operation] = []
        self._is_watching = self._is_walked = self._is_settled = False
        self._is_full_sync_due = False
        self._patches = contextlib.ExitStack()

    # ------------------------------------------------------------------ what is put between

    def __enter__(self) -> Rig:
        self._read_events, self._add_watch = inotify.read_events, inotify.add_watch
        for owner, name, replacement in (
            (inotify, "read_events", self._read_some),
            (inotify, "add_watch", self._add_watch_and_more),
            (rsync, "start_command", self._keep_command),
        ):
            self._patches.enter_context(mock.patch.object(owner, name, replacement))
        return self

    def __exit__(self, *_error: object) -> None:
        self._patches.close()
        self._loop.close()
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
                self.do(self._meanwhile.pop())

    def _keep_command(
        self,
        _loop: Loop,
        arguments: list[str],
        _on_exit: object,
        *,
        stdin: bytes,
        directory: int,
        **_more: object,
    ) -> mock.Mock:
        assert os.path.samestat(os.fstat(directory), os.stat(self.playground.source))
        self._command = arguments, stdin
        return mock.Mock()

    # ------------------------------------------------------------------ steps

    def step(self, name: str, arguments: list[Any]) -> None:
        """Carry out the step of this name; "do" is a list of operations on the source."""
        if name == "do":
            for operation in arguments[0]:
                self.do(operation)
        else:
            getattr(self, name)(*arguments)

    def do(self, operation: Operation) -> None:
        """Carry out an operation; one that nobody may have seen is told by a file's time.

        As long as the source is walked, some of it is not watched: only the full sync finds what changes.
        """
        before = {} if self._is_walked else files(snapshot(self.playground.source))
        self.playground.do(operation)
        if not self._is_walked:
            after = files(snapshot(self.playground.source))
            self.playground.age(path for path, entry in after.items() if before.get(path) != entry)

    def walk(self, directories: int) -> None:
        """Go on with the walk of the source; begin it if it has not begun."""
        self._now += 1
        if not self._is_watching:
            self._lose_events()
            self.watcher.restart()
            self._is_watching = True
        if not self._is_walked and self.watcher.walk(directories):
            self._is_walked = self._is_settled = self._is_full_sync_due = True

    def read(self, rounds: int, bite: int, meanwhile: Iterable[Operation]) -> list[Change | Move]:
        """Read the queue as the child does when it wakes up, at most so many events at a time."""
        self._now += 1
        if not self._is_watching:
            return []
        self._bite, self._meanwhile = bite, list(meanwhile)
        with mock.patch.object(watcher, "_ROUNDS_PER_READ", rounds):
            changes = self.watcher.read(self._now)
        self._bite, self._meanwhile = 1000, []
        assert not self.watcher.root_lost
        assert not self.watcher.unwatched
        if self.watcher.overflowed:
            self._is_watching = self._is_walked = self._is_settled = False
            self._cut_short()
        else:
            self.collator.add(changes, self._now)
            if self._is_walked:
                self._is_settled = self.watcher.settled
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
        known = files(snapshot(self.playground.source))
        self.playground.age(path for path in known if not names.isdisjoint(path.split(b"/")))
        while self._read_events(self.queue):
            pass

    def dispatch(self) -> None:
        """Begin a full sync or a batch if it is its time."""
        self._now += 1
        if self._steps is not None or not self._is_settled:
            return
        if self._is_full_sync_due:
            self.collator.full_sync_begins(deletes=True)
            self._advance(self._mirror.full_sync(may_create=False, sample=None), None)
        elif (due := self.collator.due_at()) is not None and due <= self._now:
            self._advance(self._mirror.batch(self.collator.take(self._now).marks), None)

    def run(self, fault: Fault) -> None:
        """Let the command that was started do its work."""
        if self._command is None:
            return
        answer = self._carry_out(fault)
        self._check_nothing_from_outside()
        self._advance(self._steps, _result(answer))

    def _check_nothing_from_outside(self) -> None:
        stolen = [path for path, entry in self.held_by_target().items() if entry.content.startswith(SECRET)]
        assert not stolen, f"from outside the source: {stolen}"

    def cycle(self, faults: Iterable[Fault], finish: bool) -> None:
        """Read all there is, begin what is due, and let its first commands, or all, do their work."""
        self.read(32, 1000, ())
        self.dispatch()
        for fault in faults:
            self.run(fault)
        while finish and self._command is not None:
            self.run(Fault())

    def _cut_short(self) -> None:
        while self._command is not None:
            answer = self._carry_out(Fault(Trouble.DEAD, 0))
            self._advance(self._steps, _result(answer, was_cut_short=True))

    def _carry_out(self, fault: Fault) -> Answer:
        assert self._command is not None
        (arguments, stdin), self._command = self._command, None
        command = Command.parse(arguments, stdin)
        assert arguments[-1] == self._target_path + "/."
        assert not command.delete or self._may_delete(command)
        if self.model is not None:
            return self.model.run(command, self.playground.source, fault, self._remove)
        return self._carry_out_really(arguments, stdin, fault)

    def _may_delete(self, command: Command) -> bool:
        if command.by_name or self._delete is Delete.ALWAYS:
            return True
        return self._delete is Delete.RUNNING and command.recursive and command.exact

    def _carry_out_really(self, arguments: list[str], stdin: bytes, fault: Fault) -> Answer:
        if fault.trouble is Trouble.DEAD:
            return Answer(-9)
        done = subprocess.run(
            arguments,
            input=stdin,
            cwd=self.playground.source,
            env=process.environment(),
            capture_output=True,
            check=False,
        )
        return Answer(done.returncode, done.stderr)

    def _remove(self, path: bytes) -> None:
        self.do(("remove", path))

    def _advance(self, steps: Any, result: Result | None) -> None:
        self._steps = steps
        try:
            start = steps.send(result)
        except StopIteration as stop:
            self._steps = None
            self._ended(stop.value)
        else:
            start(lambda _result: None)

    def _ended(self, report: Report) -> None:
        """Do with a report what the delivery does."""
        if report.is_whole:
            self.collator.failed(report.failed, self._now)
            return
        self._is_full_sync_due = False
        again = (Change(path, mark.depth, mark.exact) for path, mark in sorted(report.again.items()))
        self.collator.add(again, self._now)
        if report.failed:
            self.collator.failed_in_part(report.failed, self._now, retry_after=3)
        else:
            self.collator.succeeded()

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
            and not self._is_full_sync_due
            and self._steps is None
            and not len(self.collator)
            and not self._unread
        )

    def check_target(self, *, leftovers: bool = True) -> None:
        """Check that the target is what the source says, and nothing else where it may delete.

        `leftovers`: whether temporary files count where nothing is deleted. Those of a directory that was
        something else in between are given up.
        """
        held, expected = self.held_by_target(), self.expected()
        if self._delete is not Delete.ALWAYS:
            temporary = {path for path in held if path.endswith(TEMPORARY_SUFFIX)}
            assert not leftovers or not temporary, f"left behind: {temporary}"
            held = {path: entry for path, entry in held.items() if path in expected}
        assert held == expected

    def held_by_target(self) -> Snapshot:
        """Return what the target holds now."""
        if self.model is not None:
            return self.model.entries
        return snapshot(os.fsencode(self._target_path))

    def expected(self) -> Snapshot:
        """Return what the target should hold."""
        return visible(snapshot(self.playground.source), self.filters)

    def check_watches(self) -> None:
        """Check that exactly the directories of the source are watched, by the kernel's own account."""
        directories = {path for path, entry in self.expected().items() if entry.kind == "d"}
        wanted = {os.stat(join(self.playground.source, path)).st_ino: path for path in directories if path}
        wanted[os.stat(self.playground.source).st_ino] = b""
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
            Path(os.fsdecode(join(self.playground.source, path))).touch()
        changes = self.read(32, 1000, ())
        seen = {change.path for change in changes if isinstance(change, Change)}
        assert seen == probes, f"unseen: {probes - seen}, of none: {seen - probes}"


def watched_inodes(queue: int) -> Iterator[int]:
    """Yield the inode number of each watch that the kernel has on a queue."""
    account = Path(f"/proc/self/fdinfo/{queue}").read_text()
    for match in re.finditer(r"^inotify wd:\w+ ino:(\w+)", account, re.MULTILINE):
        yield int(match[1], 16)


def _result(answer: Answer, was_cut_short: bool = False) -> Result:
    return Result(answer.code, b"", answer.errors, False, was_cut_short, 0.0)

