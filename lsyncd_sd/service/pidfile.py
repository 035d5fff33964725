# SPDX-License-Identifier: GPL-2.0-or-later
"""A file with the number of this process, locked while it runs, for scripts that stop it by that."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from lsyncd_sd.errors import LsyncdError
from lsyncd_sd.printable import visible

# More digits than the number of a process has, and a line break.
_LONGEST = 32


@contextlib.contextmanager
def pid_file(path: str) -> Iterator[None]:
    """Have the file while the body runs. Raises LsyncdError if it cannot be, or is another process's.

    What is not a number is no such file, and is not overwritten.
    """
    try:
        descriptor = _open(path)
    except OSError as error:
        raise _refused(path, error.strerror or "") from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            # Somebody may have put another one in its place.
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                os.unlink(path)
        os.close(descriptor)


def _open(path: str) -> int:
    """Return a descriptor of the file, locked. Raises LsyncdError or OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o644)
    try:
        # Not flock(2): that one would be the children's, too, and outlive this process with them.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        content = os.pread(descriptor, _LONGEST, 0)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _refused(path, "another process runs with it") from None
        raise
    if content.strip() and not content.strip().isdigit():
        os.close(descriptor)
        raise _refused(path, "there is something else in it")
    return descriptor


def _refused(path: str, reason: str) -> LsyncdError:
    return LsyncdError(
        f"cannot use the pid file {visible(path)}: {reason}", "name another one with -pidfile"
    )
