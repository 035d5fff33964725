# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills a daemon that is about to change its files, at the n-th change since it was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from helpers import tracing
from helpers.waiting import wait_until

# Runs a command that waits for SIGCONT first, so that nothing of it is missed.
HELD_BACK = ("sh", "-c", 'kill -STOP $$ && exec "$@"', "sh")


class Ambush:
    """Lies in wait for a process that was begun with `HELD_BACK`, lets it go on, and is a context manager.

    Before the `number`-th change of a file at or below `folder` it kills the `victim`: `child` is whoever
    makes the change, `parent` the process itself. What happened is written to `log`.
    """

    def __init__(self, pid: int, folder: Path, number: int, victim: str, log: Path) -> None:
        self._pid = pid
        self._arguments = [str(pid), str(folder), str(number), victim]
        self._log = log

    def __enter__(self) -> Ambush:
        wait_until(self._is_held_back, "it waits to be traced")
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, tracing.__file__, *self._arguments], stdout=log, stderr=log
            )
        wait_until(lambda: tracing.ATTACHED in self._lines(), "it is traced", describe=self._lines)
        os.kill(self._pid, signal.SIGCONT)
        return self

    def __exit__(self, *_error: object) -> None:
        # what was traced goes on by itself
        self._process.kill()
        self._process.wait()

    def _is_held_back(self) -> bool:
        state = Path(f"/proc/{self._pid}/stat").read_text("latin-1").rpartition(")")[2].split()[0]
        return state == "T"

    def _lines(self) -> list[str]:
        return self._log.read_text(errors="backslashreplace").splitlines()

    @property
    def steps(self) -> list[str]:
        """What was changed so far, and what was about to be."""
        return [line for line in self._lines() if line not in (tracing.ATTACHED, tracing.STRUCK)]

    def has_struck(self) -> bool:
        """Tell whether the victim was killed."""
        return tracing.STRUCK in self._lines()
