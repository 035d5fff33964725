# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a file that somebody named in or for a configuration: it may be no file, or far too large."""

from __future__ import annotations

import os
import stat

from lsyncd_sd.config.report import Refused

# a thousand syncs written out are a tenth of it; a larger file is a mistake, and would be slow to tell so
MAXIMUM_BYTES = 1024 * 1024


def read_file_bytes(path: str) -> bytes:
    """Return the content of a file, one byte more than MAXIMUM_BYTES at most.

    Raises Refused if it is no regular file, and OSError or ValueError (for a NUL) if it cannot be read.
    """
    # without O_NONBLOCK, opening a FIFO would wait for its writer
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused("this is not a file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAXIMUM_BYTES + 1)
    finally:
        os.close(descriptor)
