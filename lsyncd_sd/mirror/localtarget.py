# SPDX-License-Identifier: GPL-2.0-or-later
"""Knows which directory a local target is: looked up in a process of its own, for it may not answer."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.process import OnExit, Process, start_function
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.guard import Identity

# A local file system that does not answer a stat for so long is down. A guess.
ANSWER_SECONDS = 30.0


def identity_of_target(loop: Loop, path: str) -> Steps[Identity | Verdict | None]:
    """Return which directory a local target is, None if it is missing; a verdict if it does not answer."""

    def look() -> bytes:
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return b"missing"
        return f"{os.statvfs(path).f_fsid} {status.st_ino}".encode()

    def start(on_exit: OnExit) -> Process:
        process = start_function(loop, look, on_exit)
        process.limit(ANSWER_SECONDS)
        return process

    result = yield start
    if result.was_cut_short:
        message = f"{path} did not answer within {ANSWER_SECONDS:.0f} s"
        return Verdict(Outcome.CONNECTION, message, result.code)
    if result.code != 0:
        return Verdict(Outcome.FAIL, result.errors.decode("utf-8", "backslashreplace"), result.code)
    if result.output == b"missing":
        return None
    file_system, inode = result.output.split()
    return Identity(int(file_system), int(inode))


@dataclass(slots=True)
class LocalTarget:
    """A local target, and which directory was found at its path when it was said that it may be used."""

    path: str
    checked: Identity | None = None

    def open(self) -> int:
        """Return a descriptor of the root, for its caller to close. It may hang: for processes of their own.

        Raises OSError: ENOENT or ENOTDIR if it is missing, ESTALE if another directory stands there now.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if Identity(os.fstatvfs(descriptor).f_fsid, os.fstat(descriptor).st_ino) == self.checked:
            return descriptor
        os.close(descriptor)
        raise OSError(errno.ESTALE, "another directory stands there now", self.path)
