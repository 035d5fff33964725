# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong in a way the user should read: messages with a hint, and numbered exit statuses."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class ExitStatus(enum.IntEnum):
    """The command's exit statuses; documented in lsyncd-sd(8), never renumbered.

    The units rely on USAGE: `RestartPreventExitStatus=2` keeps systemd from restarting what cannot start.
    """

    OK = 0
    NOT_GOOD = 1
    USAGE = 2
    NOT_RUNNING = 3


class LsyncdError(Exception):
    """An error the user can do something about; printed as two lines, never as a traceback.

    `message` says what and where, `hint` what to do about it.
    """

    def __init__(self, message: str, hint: str = "", exit_status: ExitStatus = ExitStatus.NOT_GOOD) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_status = exit_status


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong (or, with `is_warning`, doubtful) in a configuration file.

    `place` is `file:line:column`, or as much of it as is known; lines and columns count from 1.
    """

    place: str
    message: str
    hint: str = ""
    is_warning: bool = False

    def lines(self) -> list[str]:
        """Return the one or two lines that show this problem to a person."""
        first = f"{self.place}: {'warning: ' if self.is_warning else ''}{self.message}"
        return [first, f"    {self.hint}"] if self.hint else [first]


class ConfigurationError(LsyncdError):
    """One or more files cannot be used; carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(
            "\n".join(line for problem in problems for line in problem.lines()),
            exit_status=ExitStatus.USAGE,
        )
        self.problems = tuple(problems)
