# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds out what a run would delete: the same command as a dry run, and what its output says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Protocol

from lsyncd_sd.mirror.attribution import unescaped
from lsyncd_sd.mirror.command import Run
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.process import OnOutput
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.deletions import Deletions

_DELETED = b"*deleting   "

# What is not there yet has a plus for each attribute: `>f+++++++++ name`, over a network `<f…`, `cd…` for a
# directory.
_MADE = re.compile(rb"[<>ch.][fdLDS]\+{9} ")


def counting(run: Run) -> Run:
    """Return the dry run of `run`, whose output a `Listing` understands."""
    end = run.arguments.index("--")
    # Progress and figures would only be in the way; a limit would end the count.
    options = [
        option for option in run.arguments[:end] if not option.startswith(("--info=", "--max-delete="))
    ]
    arguments = [*options, "-n", "--out-format=%i %n", *run.arguments[end:]]
    return replace(run, arguments=arguments, is_dry=True)


MakeRun = Callable[[], Run | None]


class OneRun(Protocol):
    """Carries out one run, which is made just before, and shows all that it says."""

    def __call__(self, make: MakeRun, *, on_output: OnOutput) -> Steps[Report]: ...


def count(one_run: OneRun, makers: Iterable[MakeRun]) -> Steps[Deletions | Verdict]:
    """Return what these runs would delete, all together; a verdict if that cannot be known."""
    listing = Listing()
    for make in makers:
        report = yield from one_run(partial(_counting_run, make), on_output=listing.take)
        # What could not be read deletes as little in the run itself; and more than allowed it never may.
        if report.verdict.outcome not in (Outcome.OK, Outcome.VANISHED, Outcome.PARTIAL):
            return report.verdict
    return listing.deletions


def _counting_run(make: MakeRun) -> Run | None:
    run = make()
    return None if run is None else counting(run)


class Listing:
    """Takes in the output of counting runs as it comes, which may be as long as the tree is large."""

    def __init__(self) -> None:
        self.deletions = Deletions()
        self._rest = b""

    def take(self, output: bytes) -> None:
        """Take in the next piece."""
        *lines, self._rest = (self._rest + output).split(b"\n")
        for line in lines:
            if line.startswith(_DELETED):
                path = unescaped(line.removeprefix(_DELETED))
                self.deletions.deleted(path.removesuffix(b"/"), is_directory=path.endswith(b"/"))
            elif found := _MADE.match(line):
                self.deletions.made(unescaped(line[found.end() :]).removesuffix(b"/"))
