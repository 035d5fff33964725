# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the password for an rsync daemon, since rsync, confined to the source, would refuse to (3.5.0)."""

from __future__ import annotations

import errno
import os
import stat

# The first line counts; rsync reads no more than this of the file, either.
_LONGEST = 1024


def variables_with(password_file: str | None) -> dict[str, str]:
    """Return the variables that hand the password in this file to rsync; none without a file.

    Raises OSError for a file that cannot be read and for one that rsync would refuse: that others can read
    or write, or, for root, that belongs to somebody else.
    """
    return {} if password_file is None else {"RSYNC_PASSWORD": _first_line(password_file)}


def _first_line(path: str) -> str:
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _refused(path, error.errno or errno.EIO, error.strerror or "it cannot be read") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, errno.EINVAL, "it is not a file")
        if status.st_mode & 0o006:
            raise _refused(path, errno.EPERM, "others than its owner and group can read or write it")
        if os.geteuid() == 0 and status.st_uid != 0:
            raise _refused(path, errno.EPERM, "it does not belong to root")
        content = os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)
    line = content.replace(b"\r", b"\n").partition(b"\n")[0]
    if not line or b"\0" in line:
        raise _refused(path, errno.EINVAL, "its first line is no password")
    return os.fsdecode(line)


def _refused(path: str, number: int, reason: str) -> OSError:
    return OSError(number, f"the password file {path} cannot be used: {reason}")
