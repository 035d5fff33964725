# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes down, beside whatever runs, what a rescan will need: checkpoints, and what each run may change."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.mirror.command import Run, Shape
from lsyncd_sd.mirror.process import Process, Result, start_function
from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Depth, Move
from lsyncd_sd.plan.collator import Collator
from lsyncd_sd.plan.marktree import left_undone
from lsyncd_sd.service.checkpoint import Checkpoints
from lsyncd_sd.service.journal import Journal
from lsyncd_sd.service.moments import Moment
from lsyncd_sd.watch import ground

# Writing a checkpoint flushes file systems to disk; one that takes longer is given up. A guess.
WRITING_SECONDS = 600.0

_LEVEL = Mark(Depth.LEVEL, exact=False)

# What a run may do at the paths that it lists.
_TOUCHES = {
    Shape.EXACT_ENTRIES: Mark(Depth.ENTRY, exact=True),
    Shape.ENTRIES: Mark(Depth.ENTRY, exact=False),
    Shape.EXACT_SUBTREES: Mark(Depth.SUBTREE, exact=True),
    Shape.SUBTREES: Mark(Depth.SUBTREE, exact=False),
    Shape.EXACT_CONTENTS: Mark(Depth.CONTENT, exact=True),
    Shape.CONTENTS: Mark(Depth.CONTENT, exact=False),
    Shape.LARGE: Mark(Depth.ENTRY, exact=True),
    Shape.LEVELS: _LEVEL,
    Shape.UNREAD_LEVELS: _LEVEL,
    Shape.GONE: _LEVEL,
    Shape.LEFTOVERS: _LEVEL,
}


@dataclass(frozen=True, slots=True)
class Look:
    """How to see what there is at this moment.

    `catch_up`: read all that has happened; returns False if not all of the source is watched. `table`: the
    directories that are watched, each with its number, that of its parent, and its name. `is_blind`: more is
    wrong on the target than the collator knows of, or the source is not there.
    """

    catch_up: Callable[[], bool]
    table: Callable[[], Iterable[tuple[int, int, bytes]]]
    is_blind: Callable[[], bool]


class Ledger:
    """The checkpoints of one sync. A disk that cannot be written to costs a full sync later, no more."""

    def __init__(
        self,
        loop: Loop,
        source: str,
        checkpoints: Checkpoints,
        journal: Journal,
        collator: Collator,
        look: Look,
    ) -> None:
        self._loop = loop
        self._source = os.fsencode(source)
        self._checkpoints = checkpoints
        self._journal = journal
        self._collator = collator
        self._look = look
        self._timer: Timer | None = None
        self._process: Process | None = None
        self._is_looking = self._is_stopped = False
        # What the batch under way may change, as far as it is known.
        self._at_work: dict[bytes, Mark] = {}

    @contextlib.contextmanager
    def at_work(self, marks: Marks, moves: Sequence[Move]) -> Iterator[None]:
        """Have on disk what a batch may change, before it begins; it is at work on that until it ends."""
        self._intend(marks)
        if moves:
            self._intend(left_undone(moves, set(moves)))
        try:
            yield
        finally:
            self._at_work = {}
            # A sync that always has something to send is never idle.
            self._loop.call_later(0, self.consider)

    def run_begins(self, run: Run) -> None:
        """Have on disk what this command may change besides, for what stands there now is not what stood.

        And let the collator know: what moves there meanwhile may be what this command has written.
        """
        if run.shape is Shape.PROBE or run.is_dry:
            return
        if self._at_work:
            self._intend(dict.fromkeys(run.paths, _TOUCHES[run.shape]))
        if run.shape is Shape.LARGE:
            self._collator.lane_touches(run.paths)
        elif run.shape is Shape.LEVELS:
            self._collator.in_flight_touches(run.paths)
        else:
            # The others do no more at a path than its mark says, if it has one.
            marked = self._collator.in_flight
            self._collator.in_flight_touches(path for path in run.paths if path not in marked)

    def _intend(self, marks: Marks) -> None:
        for path, mark in marks.items():
            known = self._at_work.get(path)
            self._at_work[path] = mark if known is None else known.merged(mark)
        self.intend(marks)

    def intend(self, marks: Marks) -> None:
        """Have on disk what may be changed besides the batch under way."""
        try:
            self._checkpoints.intend(marks)
        except OSError as error:
            self._complain(error)

    def forget(self) -> None:
        """Only a full sync can make the target right: whatever happens, nothing else may be tried."""
        if self._process is not None:
            self._process.cut_short()
        try:
            self._checkpoints.forget()
        except OSError as error:
            self._complain(error)

    def consider(self) -> None:
        """Make a checkpoint if it is time; otherwise see again when it will be."""
        if self._process is not None or self._is_looking or self._is_stopped:
            return
        wait = self._checkpoints.due_in()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait is None:
            return
        if wait > 0:
            self._timer = self._loop.call_later(wait, self.consider)
            return
        # What is read now may be a reason to consider it.
        self._is_looking = True
        try:
            self._begin()
        finally:
            self._is_looking = False

    def _begin(self) -> None:
        taken_at = Moment.now()
        if not self._look.catch_up() or self._look.is_blind():
            return
        try:
            writing = self._checkpoints.begin(
                taken_at,
                ground.look(self._source),
                self._look.table(),
                self._collator.unsent(),
                {**self._collator.in_flight, **self._collator.large_in_flight, **self._at_work},
            )
            # The process begins as a copy of this one: the table cannot change under its hands.
            self._process = start_function(self._loop, writing, self._written)
        except OSError as error:
            self._checkpoints.abandon()
            self._complain(error)
            return
        self._process.limit(WRITING_SECONDS)

    def _written(self, result: Result) -> None:
        self._process = None
        if not self._checkpoints.is_writing:
            # Forgotten meanwhile, whether it could still be cut short or not.
            return
        if result.code != 0:
            self._checkpoints.abandon()
            self._journal.warning(f"no checkpoint: {result.errors.decode('utf-8', 'backslashreplace')}")
            return
        try:
            self._checkpoints.commit()
        except OSError as error:
            self._complain(error)

    def stop(self) -> None:
        """Give up a checkpoint that is being made; the one before goes on to count."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            self._process.cut_short()

    def _complain(self, error: OSError) -> None:
        self._journal.error(
            f"cannot write {self._checkpoints.folder}: {error.strerror}; after a crash or an overflow the "
            "whole tree will be compared",
            repeats_as="checkpoint",
            errno=error.errno or 0,
        )
