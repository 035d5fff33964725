# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets code that needs one process after another be written in a line, without ever waiting in the loop.

A *steps* generator yields what is to be started and is resumed with how it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

from lsyncd_sd.mirror.process import OnExit, Result


class Running(Protocol):
    """What was started: a process, or what else comes to an end that is told once."""

    def cut_short(self) -> None:
        """End it; it is told all the same."""


Start = Callable[[OnExit], Running]
Answer = TypeVar("Answer")
Steps = Generator[Start, Result, Answer]


class Task:
    """Drives one steps generator; `on_done` gets what it returns, `on_error` what it raises.

    Only exceptions of the kinds in `expected` go to `on_error`: anything else is a bug, and ends the child,
    which the parent replaces.
    """

    def __init__(
        self,
        steps: Steps[Answer],
        on_done: Callable[[Answer], None],
        on_error: Callable[[Exception], None],
        expected: tuple[type[Exception], ...],
    ) -> None:
        self._steps = steps
        self._on_done = on_done
        self._on_error = on_error
        self._expected = expected
        self._process: Running | None = None
        self._is_cut_short = False

    def start(self) -> None:
        """Run to the first process; may already end in one of the callbacks."""
        self._resume(lambda: next(self._steps))

    def cut_short(self) -> None:
        """End the running process, and every one that would follow it; the result says so."""
        self._is_cut_short = True
        if self._process is not None:
            self._process.cut_short()

    def _resume(self, advance: Callable[[], Start]) -> None:
        try:
            start = advance()
            try:
                self._process = start(self._ended)
            except OSError as error:
                # Such as an rsync that is not installed: told like any other failure of a command.
                self._resume_with_error(error)
                return
        except StopIteration as stop:
            self._on_done(stop.value)
            return
        except self._expected as error:
            # Raised by what it wanted to start, it is still in the middle: what it holds is given back now.
            self._steps.close()
            self._on_error(error)
            return
        if self._is_cut_short:
            self._process.cut_short()

    def _resume_with_error(self, error: OSError) -> None:
        # 127 is what a shell returns for a command that cannot be found.
        message = f"cannot start {error.filename or 'a process'}: {error.strerror}"
        self._ended(
            Result(127, b"", message.encode("utf-8", "surrogateescape"), False, self._is_cut_short, 0.0)
        )

    def _ended(self, result: Result) -> None:
        self._process = None
        self._resume(lambda: self._steps.send(result))
