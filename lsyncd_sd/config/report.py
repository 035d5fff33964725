# SPDX-License-Identifier: GPL-2.0-or-later
"""Collects what is wrong with one file, so that the user sees all of it at once."""

from __future__ import annotations

from lsyncd_sd.errors import ConfigurationError, Problem
from lsyncd_sd.printable import visible

SHOWN_CHARACTERS = 200  # nearly every path is shown whole, and a file that is no text floods nothing


class Refused(ValueError):
    """A value that cannot be taken; the reader of the file knows the place and reports it.

    `message` completes the sentence that the setting's name begins ("delay: …"); `hint` says what would do.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def shown(text: str) -> str:
    """Return the text in quotes as messages show it: escaped, and cut when it is long."""
    safe = visible(text[: SHOWN_CHARACTERS + 1])
    if len(safe) > SHOWN_CHARACTERS:
        safe = safe[:SHOWN_CHARACTERS] + "..."
    return f"'{safe}'"


class Report:
    """The problems of one file, in the order they were found.

    `path` is the path as the user gave it, `file` the same as it is shown: what every place begins with.
    """

    def __init__(self, file: str) -> None:
        self.path = file
        self.file = visible(file)
        self.problems: list[Problem] = []

    def place(self, line: int, column: int) -> str:
        """Return `file:line:column` for a line and a column counted from 0, as YAML's marks are."""
        return f"{self.file}:{line + 1}:{column + 1}"

    def error(self, place: str, message: str, hint: str = "") -> None:
        """Add an error: the file will not be used."""
        self._add(Problem(place, message, hint))

    def warning(self, place: str, message: str, hint: str = "") -> None:
        """Add a warning: the file is used all the same."""
        self._add(Problem(place, message, hint, is_warning=True))

    def _add(self, problem: Problem) -> None:
        # what stands in the defaults is judged for every sync
        if problem not in self.problems:
            self.problems.append(problem)

    @property
    def has_errors(self) -> bool:
        """Tell whether anything but warnings was added."""
        return any(not problem.is_warning for problem in self.problems)

    def raise_if_errors(self) -> None:
        """Raise ConfigurationError with every problem, warnings too, if there is an error among them."""
        if self.has_errors:
            raise ConfigurationError(self.problems)
