# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends large files beside everything else, so that nothing waits for them (`batch_size_limit`)."""

from __future__ import annotations

from collections.abc import Callable

from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.mirror.outcome import PATIENCE, BackOff, Outcome
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.steps import Task
from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Change
from lsyncd_sd.plan.collator import Collator
from lsyncd_sd.service.errands import Errands
from lsyncd_sd.service.interruptions import INTERRUPTIONS
from lsyncd_sd.service.permits import Permits

# Each has rules of its own in the commands beside it, and those have to fit into one command line.
FILES_AT_ONCE = 50


class Lane:
    """The lane of one sync to one target. `on_ended` is called when what was in it has arrived or failed.

    It may begin when nothing else runs, or just before the commands of a batch: those are told what is in
    it, and leave that alone.
    """

    def __init__(
        self,
        loop: Loop,
        collator: Collator,
        errands: Errands,
        permits: Permits,
        back_off: BackOff,
        on_ended: Callable[[Report | None], None],
    ) -> None:
        self._loop = loop
        self._collator = collator
        self._errands = errands
        self._permits = permits
        self._back_off = back_off
        self._on_ended = on_ended
        self._task: Task | None = None
        self._again: Timer | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something is under way in it."""
        return self._task is not None

    @property
    def is_needed(self) -> bool:
        """Whether something is under way in it, or waits for it."""
        return self.is_busy or bool(self._collator.large)

    @property
    def has_failed(self) -> bool:
        """Whether what waits for it has failed just now."""
        return self._again is not None

    def begin(self) -> None:
        """Send what waits, unless something is under way, or has failed just now."""
        if self.is_busy or self._again is not None or not self._collator.large:
            return
        if not self._permits.take(self._may_begin):
            return
        marks = self._collator.take_large(FILES_AT_ONCE)
        if not marks:
            # What is in the batch, or moves with it, has to wait for that.
            self._permits.give_back()
            return
        self._task = Task(self._errands.large(marks), self._done, self._interrupted, INTERRUPTIONS)
        self._task.start()

    def expedite(self) -> None:
        """Let what has failed wait no more."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def cut_short(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cut_short()

    def _done(self, report: Report) -> None:
        failed: dict[bytes, Mark] = dict(report.failed)
        if failed:
            self._wait(PATIENCE[report.verdict.outcome].seconds(self._back_off.failures))
            self._back_off.failures += 1
        else:
            self._back_off.reset()
        self._ended(failed)
        again = (Change(path, mark.depth, mark.exact) for path, mark in report.again.items())
        self._collator.add(again, self._loop.now())
        self._permits.give_back()
        self._on_ended(report)

    def _interrupted(self, _error: Exception) -> None:
        # Whatever is the matter with source or target concerns the batches, too: they tell.
        self._wait(self._back_off.next(PATIENCE[Outcome.CONNECTION]))
        self._ended(dict(self._collator.large_in_flight))
        self._permits.give_back()
        self._on_ended(None)

    def _ended(self, failed: Marks) -> None:
        self._task = None
        self._errands.lane_is_empty()
        self._collator.large_failed(failed)

    def _wait(self, seconds: float) -> None:
        self._again = self._loop.call_later(seconds, self._waited)

    def _waited(self) -> None:
        self._again = None
        self._may_begin()

    def _may_begin(self) -> None:
        # Whether it may do so now is not ours alone to say.
        self._on_ended(None)
