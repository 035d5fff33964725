# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds out what a run would delete: the same command as a dry run, and what its output says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

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
    """Carries out one run, which is made just before, and shows all that it says to whoever wants it."""

    def __call__(self, make: MakeRun, *, on_output: OnOutput | None = None) -> Steps[Report]: ...


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
    """Counts what the output of counting runs says, as it comes; it may be as long as the tree is large."""

    def __init__(self) -> None:
        self.deletions = Deletions()
        self._lines = _Lines()

    def take(self, output: bytes) -> None:
        """Take in the next piece."""
        for line in self._lines.of(output):
            if (deleted := _deleted(line)) is not None:
                self.deletions.deleted(deleted.path, is_directory=deleted.is_directory)
            elif found := _MADE.match(line):
                self.deletions.made(unescaped(line[found.end() :]).removesuffix(b"/"))


class DeletedFiles:
    """Keeps the paths of what the output of a dry run says would be deleted, but for directories."""

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self._lines = _Lines()

    def take(self, output: bytes) -> None:
        """Take in the next piece."""
        for line in self._lines.of(output):
            deleted = _deleted(line)
            if deleted is not None and not deleted.is_directory:
                self.paths.append(deleted.path)


class _Lines:
    """Puts together the lines of output that comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, output: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + output).split(b"\n")
        return lines


class _Deleted(NamedTuple):
    path: bytes
    is_directory: bool


def _deleted(line: bytes) -> _Deleted | None:
    if not line.startswith(_DELETED):
        return None
    path = unescaped(line.removeprefix(_DELETED))
    return _Deleted(path.removesuffix(b"/"), path.endswith(b"/"))
