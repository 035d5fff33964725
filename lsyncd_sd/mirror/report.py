# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of a full sync or a batch, or of one of its runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from lsyncd_sd.mirror.command import Statistics
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.plan.batch import Mark, Marks


@dataclass(slots=True)
class Report:
    """What became of a full sync or a batch.

    `verdict` is the worst of its runs. `failed`: the marks that must be tried again; with `is_whole` nothing
    of it counts as done. `again`: marks that deserve one more look although nothing failed. `moved`: how
    many moves were made on the target; `not_moved`: how many are sent instead, the first for `refusal`.
    """

    verdict: Verdict
    failed: dict[bytes, Mark] = field(default_factory=dict)
    is_whole: bool = False
    again: dict[bytes, Mark] = field(default_factory=dict)
    done: Statistics = field(default_factory=Statistics)
    seconds: float = 0.0
    moved: int = 0
    not_moved: int = 0
    refusal: str = ""

    def add(self, report: Report) -> None:
        """Take in how the next run of the same batch ended."""
        self.done = self.done.plus(report.done)
        self.seconds += report.seconds
        self.again.update(report.again)
        self.fail(report.failed)
        # What vanished is the least of failures; a whole one ends the batch, so it comes last.
        if self.verdict.outcome in (Outcome.OK, Outcome.VANISHED) or report.is_whole:
            self.verdict = report.verdict

    def fail(self, marks: Marks) -> None:
        """These must be tried again, too."""
        for path, mark in marks.items():
            self.failed[path] = self.failed[path].merged(mark) if path in self.failed else mark


def nothing_done() -> Report:
    """Return the report of no run at all."""
    return Report(Verdict(Outcome.OK, "", 0))


def whole_failure(total: Report, marks: Marks) -> Report:
    """Nothing of the batch counts as done: all its marks, and what a broken-off run may have left."""
    total.is_whole = True
    total.fail(marks)
    return total
