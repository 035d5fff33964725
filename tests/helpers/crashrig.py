# SPDX-License-Identifier: GPL-2.0-or-later
"""A rig that keeps checkpoints, and loses everything else when it crashes.

What a crash leaves is the source, what the target holds, and the files of the checkpoints. The target began
as a copy of the source, and there are no full syncs: only a rescan can find what was missed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from helpers.carrier import LIMITS, Operation
from helpers.modelmoves import make_moves
from helpers.modelrsync import Command, Fault, ModelTarget, visible
from helpers.rescanning import LoneRescan
from helpers.rig import Rig
from helpers.syncs import make_sync
from helpers.trees import Playground, Spot, parent_of

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Change, Depth, Move
from lsyncd_sd.plan.collator import Limits
from lsyncd_sd.service import checkpoint, snapshot
from lsyncd_sd.service.checkpoint import Checkpoints
from lsyncd_sd.service.moments import Moment
from lsyncd_sd.watch import ground, inotify, rescan
from lsyncd_sd.watch.rescan import Known

# More rounds than any list of operations of these tests needs to come to rest.
ROUNDS_TO_SETTLE = 80

# Times to read before what is watched is taken to be beyond catching up with.
ROUNDS_TO_CATCH_UP = 20

EVERYTHING = 1 << 30
"""More events, directories or names than there are in these tests."""


class FileClock:
    """Tells the time that files are given on the file system of the source, so that no slack is needed.

    What is changed after a moment has its time or a later one. What was changed before has an earlier one;
    or perhaps the same, where the kernel's times go in steps (before Linux 6.13).
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> Moment:
        self._path.write_bytes(b"x")
        return Moment(self._path.stat().st_ctime_ns, 0, "this boot")


class CrashRig(Rig):
    """A sync that may crash at every step; use it as a context manager.

    With `lane`, every file named `b` counts as large.
    """

    def __init__(
        self, playground: Playground, rules: Sequence[str], *, limits: Limits = LIMITS, lane: bool = False
    ) -> None:
        self._rules, self._limits, self._lane = rules, limits, lane
        self._folder = Path(os.fsdecode(playground.base))
        self._clock = FileClock(self._folder / "clock")
        self._begin(playground)
        self._target = ModelTarget()
        self._target.entries = visible(playground.entries(), self.filters)
        self.model = self._target

    def _begin(self, playground: Playground) -> None:
        """Be a process that has just been started, and knows nothing."""
        super().__init__(playground, self._rules, limits=self._limits)
        self._has_lane = self._lane
        self.checkpoints = Checkpoints(self._folder / "state", make_sync(), self._clock)
        self._rescan: LoneRescan | None = None
        self._is_blind = True
        self._write: Callable[[], bytes] | None = None

    def __enter__(self) -> CrashRig:
        super().__enter__()
        for owner, name, replacement in (
            (snapshot, "sync_file_system", lambda _path: None),
            (checkpoint, "SLACK_NS", 0),
            (rescan, "RENAME_SLACK_NS", 0),
        ):
            self._patches.enter_context(mock.patch.object(owner, name, replacement))
        self._is_blind = False
        self.walk(EVERYTHING)
        self.checkpoints.forget()
        self.checkpoint()
        self.write()
        return self

    def crash(self, fault: Fault) -> None:
        """End everything, with what runs in the middle of its work."""
        for errand in (self.batch, self.large):
            if errand.moves:
                make_moves(self._target, errand.moves, fault)
            elif errand.command is not None:
                self._carry_out(errand, fault)
        self._loop.close()
        patches, queue = self._patches, self.queue
        # The parent has kept it, with its watches and what is queued.
        with mock.patch.object(inotify, "open_queue", lambda: queue):
            self._begin(self.source)
        self._patches = patches
        self.model = self._target

    # ------------------------------------------------------------------ watching

    def do(self, operations: Iterable[Operation]) -> None:
        """Change the source, whether somebody watches or not."""
        for operation in operations:
            self.source.do(operation)

    def walk(self, directories: int) -> None:
        """Go on to watch the source, or begin; a rescan begins when all is watched."""
        self.now += 1
        if not self._is_watching:
            self.watcher.restart()
            self._is_watching = True
        if not self._is_walked and self.watcher.walk(directories):
            self._is_walked = self._is_settled = True
            if self._is_blind:
                known = self.checkpoints.load(ground.look(self.source.path))
                assert isinstance(known, Known), known
                self.collator.rescan_begins()
                self._rescan = LoneRescan(self.source.path, known, self.filters.excludes)

    def look(self, names: int) -> None:
        """Go on with the rescan if there is one."""
        if self._rescan is not None and not self._rescan.done:
            self.now += 1
            self.collator.add(self._rescan.step(names), self.now)

    def read(self, rounds: int, bite: int, meanwhile: Iterable[Operation]) -> list[Change | Move]:
        """Read the queue as the child does when it wakes up."""
        changes = super().read(rounds, bite, meanwhile)
        if not self._is_watching and not self._is_blind:
            self._is_blind = True
            self.abandon()
        return changes

    def _catch_up(self) -> bool:
        """Read all there is; tell whether everything up to now is known, or will be found by the rescan."""
        for _round in range(ROUNDS_TO_CATCH_UP):
            self.read(32, EVERYTHING, ())
            if not self._is_walked:
                self._rescan = None
                return False
            if self._is_settled:
                if self._rescan is not None and self._rescan.done:
                    self._rescan, self._is_blind = None, False
                    self.collator.rescan_ends()
                return True
        return False

    def overflow(self) -> None:
        """Lose what is queued, as the kernel does when it is too much."""
        if self._is_watching:
            while self._read_events(self.queue):
                pass
            self._unread = [inotify.RawEvent(-1, inotify.IN_Q_OVERFLOW, 0, b"")]

    # ------------------------------------------------------------------ checkpoints

    def checkpoint(self) -> None:
        """Begin a checkpoint if that is possible now."""
        taken_at = self._clock()
        if self._write is not None or not self._catch_up() or self._is_blind or self.collator.needs_rescan:
            return
        self._write = self.checkpoints.begin(
            taken_at,
            ground.look(self.source.path),
            list(self.watcher.directory_table()),
            self.collator.unsent(),
            self._at_work(),
        )

    def _at_work(self) -> dict[bytes, Mark]:
        """Return what runs may change, with the lists of those that have begun."""
        marks = {**self.collator.in_flight, **self.collator.large_in_flight}
        for errand in (self.batch, self.large):
            if errand.command is not None:
                marks = _merged(marks, _touched(*errand.command))
            marks = dict(checkpoint.with_ends(marks, (*errand.moves, *errand.made)))
        return marks

    def write(self) -> None:
        """Write what was begun, and let it count."""
        if self._write is not None:
            write, self._write = self._write, None
            write()
            self.checkpoints.commit()

    def abandon(self) -> None:
        """Give up what was begun."""
        if self._write is not None:
            self._write = None
            self.checkpoints.abandon()

    # ------------------------------------------------------------------ sending

    def _keep_moves(self, moves: Sequence[Move]) -> None:
        self.checkpoints.intend({}, moves)
        super()._keep_moves(moves)

    def _keep_command(self, *arguments: Any, **options: Any) -> mock.Mock:
        if "-n" not in arguments[1]:
            self.checkpoints.intend(_touched(arguments[1], options["stdin"]))
        return super()._keep_command(*arguments, **options)

    def dispatch(self) -> None:
        """Begin a batch if it is its time; what it may change is on disk before."""
        self.on_begin = self.checkpoints.intend
        super().dispatch()

    def dispatch_large(self) -> None:
        """Send large files if there are any."""
        self.on_begin = self.checkpoints.intend
        super().dispatch_large()

    def cycle(self, faults: Iterable[Fault], finish: bool) -> None:
        """Read all there is, begin what is due, and let its first runs, or all, do their work."""
        self._catch_up()
        super().cycle(faults, finish)

    # ------------------------------------------------------------------ what only a run can have seen

    def detour(
        self, path: bytes | Spot, up: int, stand_in: Operation | None, faults: Iterable[Fault]
    ) -> None:
        """Move something away for as long as some runs take: what is at `path`, or so many levels above it.

        `stand_in` is the operation, without its path, that puts something else there.
        """
        path = self._found(path, up)
        if path:
            self.do([("move_out", path, b"detour")])
            if stand_in is not None:
                self.do([(stand_in[0], path, *stand_in[1:])])
            self._run_all(faults)
            self.do([("remove", path), ("move_in", b"detour", path)])

    def swap_for_a_while(
        self, one: bytes | Spot, up: int, other: bytes | Spot, faults: Iterable[Fault]
    ) -> None:
        """Let two things change places for as long as some runs take."""
        exchange = "exchange", self._found(one, up), self._found(other, 0)
        self.do([exchange])
        self._run_all(faults)
        self.do([exchange])

    def move_for_a_while(self, old: bytes | Spot, new: bytes | Spot, faults: Iterable[Fault]) -> None:
        """Rename something, begin to send that, and rename it back before it is done."""
        here, there = self._found(old, 0), self._found(new, 0)
        self.do([("rename", here, there)])
        self._catch_up()
        self.dispatch()
        self.do([("rename", there, here)])
        self._run_all(faults)

    def _run_all(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self.run(fault)

    def _found(self, path: bytes | Spot, up: int) -> bytes:
        if isinstance(path, Spot):
            path = self.source.spot(path)
        for _level in range(up):
            path = parent_of(path)
        return path

    # ------------------------------------------------------------------ the end

    def settle(self) -> None:
        """Let everything run its course, without any trouble, and check what has become of the target."""
        for _round in range(ROUNDS_TO_SETTLE):
            self.walk(EVERYTHING)
            self.look(EVERYTHING)
            self._catch_up()
            self.dispatch()
            self.dispatch_large()
            self.run_to_end()
            if self._is_at_rest() and not self._is_blind:
                self.check_target()
                return
        raise AssertionError(f"not at rest: {self.watcher.settled=} {dict(self.collator.pending)=}")


def _touched(arguments: list[str], stdin: bytes) -> dict[bytes, Mark]:
    """Return what one command may change at the paths that it lists."""
    command = Command.parse(arguments, stdin)
    depth = Depth.LEVEL if command.level else Depth.ENTRY
    if command.recursive:
        depth = Depth.SUBTREE
    elif command.content:
        depth = Depth.CONTENT
    return {path: Mark(depth, command.exact) for path in command.paths}


def _merged(marks: dict[bytes, Mark], others: dict[bytes, Mark]) -> dict[bytes, Mark]:
    known = {path: mark.merged(marks[path]) if path in marks else mark for path, mark in others.items()}
    return marks | known
