# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads and checks all the files that belong together, and tells the good ones from the bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lsyncd_sd.config.checks import check_together
from lsyncd_sd.config.model import Configuration
from lsyncd_sd.config.reader import read_bytes, read_into
from lsyncd_sd.config.report import Report
from lsyncd_sd.errors import ConfigurationError, Problem
from lsyncd_sd.printable import visible


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of some files.

    `configurations` are the files that can be used, `failures` the paths of the others with all that is
    wrong with them (warnings, too), `warnings` what is doubtful in the good ones.
    """

    configurations: tuple[Configuration, ...]
    failures: tuple[tuple[str, tuple[Problem, ...]], ...]
    warnings: tuple[Problem, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything found, file by file."""
        return tuple(problem for _, problems in self.failures for problem in problems) + self.warnings


def load(paths: Sequence[str]) -> Loaded:
    """Return what the files say, checked one by one and together. Never raises for what is in them."""
    # the same file named twice is not two
    found = {path: _read(path) for path in paths}
    together = check_together([configuration for configuration, _ in found.values()])
    good: list[Configuration] = []
    failures: list[tuple[str, tuple[Problem, ...]]] = []
    warnings: list[Problem] = []
    for path, (configuration, own) in found.items():
        here = f"{visible(path)}:"
        everything = own + [problem for problem in together if problem.place.startswith(here)]
        problems = tuple(sorted(everything, key=lambda problem: _position(problem, here)))
        if all(problem.is_warning for problem in problems):
            good.append(configuration)
            warnings.extend(problems)
        else:
            failures.append((path, problems))
    return Loaded(tuple(good), tuple(failures), tuple(warnings))


def _position(problem: Problem, here: str) -> tuple[bool, tuple[int, ...]]:
    """Return what problems are shown in the order of: line and column, and those in files of rules last.

    What has no line comes first.
    """
    numbers = tuple(int(part) for part in problem.place.split(":")[-2:] if part.isdecimal())
    return not f"{problem.place}:".startswith(here), numbers


def _read(path: str) -> tuple[Configuration, list[Problem]]:
    report = Report(path)
    try:
        configuration = read_into(read_bytes(path), path, report)
    except ConfigurationError as error:
        return Configuration(path, "", ()), list(error.problems)
    return configuration, report.problems
