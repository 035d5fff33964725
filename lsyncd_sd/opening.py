# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens directories of a tree: no symlink in the path leads elsewhere, and no path is too long."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

PATH_BYTES = 4095
"""The longest path that a system call takes (PATH_MAX of <linux/limits.h>, without the NUL)."""

# openat2(2) has had the same number everywhere since it came in Linux 5.6; libc has no function for it.
_OPENAT2 = 437
_RESOLVE_NO_SYMLINKS = 0x04
_HOW = ctypes.create_string_buffer(struct.pack("=QQQ", _FLAGS, 0, _RESOLVE_NO_SYMLINKS), 24)

# What an older kernel says, and what one says where a system call filter does not know openat2.
_UNKNOWN_CALL = frozenset({errno.ENOSYS, errno.EPERM})

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
_syscall.restype = ctypes.c_long


def open_directory(root: int, path: bytes) -> int:
    """Return a descriptor of the directory at `path` below the open directory `root`; the caller closes it.

    `path` is relative, without "." and ".."; empty means `root`. Raises OSError: ENOENT; ENOTDIR or ELOOP
    where a component is no directory, or a symlink.
    """
    above = root
    for piece in _pieces(path):
        try:
            below = _open_piece(above, piece)
        finally:
            if above != root:
                os.close(above)
        above = below
    return above


def _pieces(path: bytes) -> Iterator[bytes]:
    """Yield the path in pieces that a system call takes; no name is longer than one."""
    while len(path) > PATH_BYTES:
        end = path.rindex(b"/", 0, PATH_BYTES + 1)
        yield path[:end]
        path = path[end + 1 :]
    yield path or b"."


def _open_piece(directory: int, path: bytes) -> int:
    descriptor: int = _syscall(_OPENAT2, directory, path, ctypes.addressof(_HOW), len(_HOW))
    if descriptor >= 0:
        return descriptor
    number = ctypes.get_errno()
    if number in _UNKNOWN_CALL:
        return _open_by_components(directory, path)
    raise OSError(number, os.strerror(number), path)


def _open_by_components(directory: int, path: bytes) -> int:
    above = directory
    for name in path.split(b"/"):
        try:
            below = os.open(name, _FLAGS, dir_fd=above)
        finally:
            if above != directory:
                os.close(above)
        above = below
    return above
