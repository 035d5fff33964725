# SPDX-License-Identifier: GPL-2.0-or-later
"""Joins the real collator and mirror with a source and a target, one small step at a time.

The clock is not real, and rsync is the model or the real one. Moves are made on the model only, by a mirror
that makes moves first. What may happen late in reality (running, ending) happens when a step says so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from unittest import mock

from helpers.modelmoves import make_moves
from helpers.modelrsync import TEMPORARY_SUFFIX, Answer, Command, Fault, ModelTarget, Trouble, visible
from helpers.syncs import local_target, make_sync
from helpers.trees import SECRET, Snapshot, snapshot

from lsyncd_sd.config.model import Delete
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror import process, rsync
from lsyncd_sd.mirror.opensource import OpenSource
from lsyncd_sd.mirror.options import Traits
from lsyncd_sd.mirror.process import Result
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.rsync import RsyncMirror
from lsyncd_sd.plan.batch import Marks
from lsyncd_sd.plan.change import Change, Move
from lsyncd_sd.plan.collator import Collator, Limits, Load
from lsyncd_sd.plan.filters import Filter, WrittenRule

Operation = tuple[Any, ...]

LIMITS = Limits(delay=0, max_changes=1000, open_file_delay=8)
"""What a batch may hold; times count steps."""


def filter_of(rules: Iterable[str]) -> Filter:
    """Return the filter of these rules, as in the configuration."""
    return Filter.from_rules(WrittenRule(text) for text in rules)


ENDED = Fault(Trouble.DEAD, 0)
"""We end it ourselves before it has done anything."""


class SourceTree(Protocol):
    """A source that a carrier can look at, and change."""

    path: bytes

    def entries(self) -> Snapshot:
        """Return all that it holds."""

    def look(self) -> OpenSource:
        """Return it as a mirror sees it, a context manager."""

    def do(self, operation: Operation) -> None:
        """Carry out an operation where it is possible."""


@dataclass
class Errand:
    """What a mirror is doing.

    `command` is the run that it has started, with what is seen of its `process`, `seen` what the source held
    then. `moves` are those it is to
    make, `made` those it has tried, `unconfirmed` the ones among them that perhaps were not made.
    """

    mirror: RsyncMirror
    steps: Generator[Any, Any, Any] | None = None
    command: tuple[list[str], bytes] | None = None
    process: mock.Mock = field(default_factory=mock.Mock)
    moves: Sequence[Move] = ()
    made: Sequence[Move] = ()
    unconfirmed: Sequence[Move] = ()
    seen: Snapshot = field(default_factory=dict)


class Carrier:
    """The way from changes to a target; use it as a context manager.

    `target` is the path of a real target that the real rsync fills; a model if it is None. With `lane`,
    every file named `b` counts as large.
    """

    def __init__(
        self,
        source: SourceTree,
        rules: Sequence[str],
        *,
        delete: Delete,
        limits: Limits = LIMITS,
        target: str | None = None,
        lane: bool = False,
    ) -> None:
        self.source = source
        self.filters = filter_of(rules)
        self.collator = Collator(limits)
        self.delete = delete
        self.now = 0.0
        self.is_full_sync_due = False
        self.on_begin: Callable[[Marks], None] = lambda _marks: None
        self.on_list: Callable[[Iterable[bytes]], None] = lambda _paths: None
        self.on_end: Callable[[], None] = lambda: None
        self._target_path = target or "/target"
        self.model = ModelTarget() if target is None else None
        self._loop = Loop()
        sync = make_sync(
            source=os.fsdecode(source.path),
            target=local_target(self._target_path),
            filter=tuple(rules),
            delete=delete,
        )
        self.batch, self.large = (self._errand(sync) for _errand in range(2))
        self._has_lane = lane
        self._starting = self.batch
        self._patches = contextlib.ExitStack()

    def _errand(self, sync: Any) -> Errand:
        mirror = RsyncMirror(self._loop, sync, self.filters, self.source.look, lambda _percent: None)
        mirror.commands.traits = Traits(nanoseconds=True)
        return Errand(mirror)

    def __enter__(self) -> Carrier:
        self._patches.enter_context(mock.patch.object(rsync, "start_command", self._keep_command))
        return self

    def __exit__(self, *_error: object) -> None:
        self._patches.close()
        self._loop.close()

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
        if directory:
            assert os.path.samestat(os.fstat(directory), os.stat(self.source.path))
        self._starting.command, self._starting.process = (arguments, stdin), mock.Mock()
        self._starting.seen = self.source.entries() if self.model is not None else {}
        if self._starting is self.batch and not self.is_full_sync_due:
            command = Command.parse(arguments, stdin)
            if command.dry:
                return self._starting.process
            # Levels, and what stands in the way of a mark: seen by what the source holds now (B1).
            marked = self.collator.in_flight
            besides = [path for path in command.paths if command.level or path not in marked]
            self.collator.in_flight_touches(besides)
            self.on_list(besides)
        return self._starting.process

    # ------------------------------------------------------------------ beginning

    def step(self, name: str, arguments: Iterable[Any]) -> None:
        """Carry out the step of this name; "do" is a list of operations on the source."""
        getattr(self, name)(*arguments)

    def take_in(self, changes: Sequence[Change | Move]) -> None:
        """Take in what was read of the queue."""
        self.collator.add(changes, self.now)
        self.batch.mirror.leftovers.saw(changes)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return self.batch.steps is None and self.large.steps is None

    def dispatch(self) -> None:
        """Begin a full sync or a batch if it is its time."""
        if self.batch.steps is not None:
            return
        if self.is_full_sync_due:
            self.collator.full_sync_begins(deletes=True)
            self._advance(self.batch, self._full_sync(), None)
        elif (due := self.collator.due_at()) is not None and due <= self.now:
            load = self.collator.take(self.now)
            if self._has_lane:
                self.collator.set_apart(self._large_among(load))
            self.on_begin(load.marks)
            self._advance(self.batch, self._carry(load), None)

    def _large_among(self, load: Load) -> list[bytes]:
        entries = self.source.entries()
        return [
            path
            for path in load.marks
            if path.endswith(b"b") and path in entries and entries[path].kind == "f"
        ]

    def dispatch_large(self) -> None:
        """Send large files if there are any, beside what else is sent."""
        if self.large.steps is None and (marks := self.collator.take_large(1000)):
            self.on_begin(marks)
            self._advance(self.large, self.large.mirror.batch(marks), None)

    def _full_sync(self) -> Generator[Any, Any, tuple[Report, list[Move]]]:
        report = yield from self.batch.mirror.full_sync(may_create=False, sample=None)
        return report, []

    def _carry(self, load: Load) -> Generator[Any, Any, tuple[Report, list[Move]]]:
        unconfirmed: list[Move] = []
        if load.moves:
            unconfirmed = yield lambda _on_exit: self._keep_moves(load.moves)
        report = yield from self.batch.mirror.batch(load.marks)
        return report, unconfirmed

    def _keep_moves(self, moves: Sequence[Move]) -> None:
        self.batch.moves = moves

    # ------------------------------------------------------------------ running

    def run(self, fault: Fault) -> None:
        """Let what the batch has started do its work."""
        self._run(self.batch, fault)

    def run_large(self, fault: Fault) -> None:
        """Let what the lane of large files has started do its work."""
        self._run(self.large, fault)

    def _run(self, errand: Errand, fault: Fault) -> None:
        if errand.moves:
            errand.made, errand.moves = errand.moves, ()
            assert self.model is not None
            errand.unconfirmed = make_moves(self.model, errand.made, fault)
            errand.mirror.moved(errand.made, errand.unconfirmed)
            self._advance(errand, errand.steps, errand.unconfirmed)
        elif errand.command is not None:
            answer = self._carry_out(errand, fault)
            self._check_nothing_from_outside()
            for watcher in errand.process.show_output.call_args_list:
                watcher.args[0](answer.output)
            result = Result(answer.code, answer.output, answer.errors, False, fault is ENDED, 0.0)
            self._advance(errand, errand.steps, result)

    def _check_nothing_from_outside(self) -> None:
        stolen = [path for path, entry in self.held_by_target().items() if entry.content.startswith(SECRET)]
        assert not stolen, f"from outside the source: {stolen}"

    def cut_short(self) -> None:
        """End whatever runs."""
        for errand in (self.batch, self.large):
            while errand.steps is not None:
                self._run(errand, ENDED)

    def run_to_end(self) -> None:
        """Let all runs of what was begun do their work."""
        for errand in (self.batch, self.large):
            while errand.steps is not None:
                self._run(errand, Fault())

    def _carry_out(self, errand: Errand, fault: Fault) -> Answer:
        assert errand.command is not None
        (arguments, stdin), errand.command = errand.command, None
        command = Command.parse(arguments, stdin)
        assert arguments[-1] == self._target_path + "/."
        assert not command.delete or self._may_delete(command)
        if self.model is not None:
            look = (lambda: errand.seen) if fault.stale else self.source.entries
            return self.model.run(command, self.source.path, look, fault, self._remove)
        return self._carry_out_really(arguments, stdin, fault)

    def _may_delete(self, command: Command) -> bool:
        if command.by_name or self.delete is Delete.ALWAYS:
            return True
        return self.delete is Delete.RUNNING and command.recursive and command.exact

    def _carry_out_really(self, arguments: list[str], stdin: bytes, fault: Fault) -> Answer:
        if fault.trouble is Trouble.DEAD:
            return Answer(-9)
        done = subprocess.run(
            arguments,
            input=stdin,
            cwd=self.source.path,
            env=process.environment(),
            capture_output=True,
            check=False,
        )
        return Answer(done.returncode, done.stderr, done.stdout)

    def _remove(self, path: bytes) -> None:
        self.source.do(("remove", path))

    def _advance(self, errand: Errand, steps: Any, result: object) -> None:
        errand.steps = steps
        self._starting = errand
        try:
            start = steps.send(result)
        except StopIteration as stop:
            errand.steps = None
            errand.made = errand.unconfirmed = ()
            if errand is self.large:
                self._large_ended(stop.value)
            else:
                self._ended(*stop.value)
            self.on_end()
        else:
            start(lambda _result: None)

    def _ended(self, report: Report, unconfirmed: list[Move]) -> None:
        """Do with a report what the delivery does."""
        if report.is_whole:
            self.collator.failed(report.failed, self.now, unconfirmed)
            return
        self.is_full_sync_due = False
        self._look_again(report)
        if report.failed:
            self.collator.failed_in_part(report.failed, self.now, retry_after=3, unconfirmed=unconfirmed)
        else:
            self.collator.succeeded(unconfirmed)

    def _large_ended(self, report: Report) -> None:
        self._look_again(report)
        self.collator.large_failed(report.failed)

    def _look_again(self, report: Report) -> None:
        again = (Change(path, mark.depth, mark.exact) for path, mark in sorted(report.again.items()))
        self.collator.add(again, self.now)

    # ------------------------------------------------------------------ the end

    def check_target(self, *, leftovers: bool = True) -> None:
        """Check that the target is what the source says, and nothing else where it may delete.

        `leftovers`: whether temporary files count where nothing is deleted. Those of a directory that was
        something else in between are given up.
        """
        held, expected = self.held_by_target(), self.expected()
        if self.delete is not Delete.ALWAYS:
            temporary = {path for path in held if path.endswith(TEMPORARY_SUFFIX)}
            assert not leftovers or not temporary, f"left behind: {temporary}"
            held = {path: entry for path, entry in held.items() if path in expected}
        assert held == expected

    def held_by_target(self) -> Snapshot:
        """Return what the target holds now."""
        return self.model.entries if self.model is not None else snapshot(os.fsencode(self._target_path))

    def expected(self) -> Snapshot:
        """Return what the target should hold."""
        return visible(self.source.entries(), self.filters)
