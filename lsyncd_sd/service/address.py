# SPDX-License-Identifier: GPL-2.0-or-later
"""The address of a Unix socket, however long its path is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

# sun_path of unix(7), without its NUL.
ADDRESS_LIMIT = 107


@contextlib.contextmanager
def directory_of(path: str) -> Iterator[int]:
    """Open the directory of `path` for as long as it is needed. Raises OSError."""
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield directory
    finally:
        os.close(directory)


def address_of(path: str, directory: int) -> str:
    """Return an address for `path`, valid while `directory` is open if the path is too long for one."""
    is_short = len(os.fsencode(path)) <= ADDRESS_LIMIT
    return path if is_short else f"/proc/self/fd/{directory}/{os.path.basename(path)}"
