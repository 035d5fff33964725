# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps one connection to a target, over which all else goes: one login, however many commands there are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.process import OnExit, Process, Result, start_command
from lsyncd_sd.mirror.sshcommand import LONGEST_SOCKET, READY
from lsyncd_sd.mirror.steps import Steps

# The connection is ready by then, or will never be: ssh gives up connecting by itself, but not waiting for a
# server that accepts and keeps silent. A guess.
READY_SECONDS = 90.0

# Local commands are run by this one: the login shell of the service's user may be none.
_VARIABLES = {"SHELL": "/bin/sh"}


class SshMaster:
    """The ssh process that has logged in. It is opened when it is needed, and ends with its parent.

    `words` is its command line (see sshcommand.py), `socket` where others find it. `last_words`: what it
    said when it ended, empty while it is of use.
    """

    def __init__(self, loop: Loop, words: list[str], socket: Path) -> None:
        self._loop = loop
        self._words = words
        self._socket = socket
        self._process: Process | None = None
        self._ready_timer: Timer
        self._is_ready = False
        self._waiting: list[_Waiting] = []
        self.last_words = ""

    def open(self) -> Steps[Verdict]:
        """Have a connection, or learn why there is none."""
        if self._is_ready:
            return Verdict(Outcome.OK, "", 0)
        if len(os.fsencode(self._socket)) > LONGEST_SOCKET:
            message = f"ssh takes no path of more than {LONGEST_SOCKET} bytes for its socket: {self._socket}"
            return Verdict(Outcome.FAIL, message, 0)
        result = yield self._wait
        message = result.errors.decode("utf-8", "backslashreplace")
        if result.was_cut_short:
            return Verdict(Outcome.CUT_SHORT, message, result.code)
        # 127: there is no ssh.
        outcome = {0: Outcome.OK, 127: Outcome.FAIL}.get(result.code, Outcome.CONNECTION)
        return Verdict(outcome, message, result.code)

    def close(self) -> None:
        """End the connection, and whatever goes over it."""
        if self._process is not None:
            self._process.cut_short()
            self._remove_socket()

    def _wait(self, on_exit: OnExit) -> _Waiting:
        if self._process is None:
            # ssh would say that it is there already, and go on without it.
            self._remove_socket()
            self._process = start_command(
                self._loop, self._words, self._ended, stdin=b"", variables=_VARIABLES
            )
            self._process.show_output(self._take)
            self._ready_timer = self._loop.call_later(READY_SECONDS, self._process.cut_short)
        waiting = _Waiting(on_exit, self._give_up)
        self._waiting.append(waiting)
        return waiting

    def _take(self, output: bytes) -> None:
        if READY in output and not self._is_ready:
            self._is_ready = True
            self.last_words = ""
            self._ready_timer.cancel()
            self._answer(0)

    def _ended(self, result: Result) -> None:
        self._process = None
        self._is_ready = False
        self._ready_timer.cancel()
        self._remove_socket()
        self.last_words = _last_words(result)
        self._answer(result.code or 255)

    def _answer(self, code: int) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.on_exit(_result(code, self.last_words))

    def _give_up(self, waiting: _Waiting) -> None:
        """Nobody waits for this one any more."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            self._loop.call_later(0, lambda: waiting.on_exit(_result(0, "", was_cut_short=True)))

    def _remove_socket(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.unlink()


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """Somebody who waits for the connection."""

    on_exit: OnExit
    _give_up: Callable[[_Waiting], None]

    def cut_short(self) -> None:
        """Wait no more."""
        self._give_up(self)


def _result(code: int, message: str, *, was_cut_short: bool = False) -> Result:
    return Result(code, b"", message.encode(), False, was_cut_short, 0.0)


def _last_words(result: Result) -> str:
    """Return why it ended, in ssh's words: the last ones, for the first may be a banner of the server."""
    lines = [line.strip() for line in result.errors.decode("utf-8", "backslashreplace").splitlines()]
    lines = [line for line in lines if line]
    if lines:
        return lines[-1]
    if result.was_cut_short:
        return f"no connection within {READY_SECONDS:.0f} s"
    return f"ssh was ended by signal {-result.code}" if result.code < 0 else "ssh ended"
