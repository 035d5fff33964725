# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes files that outlive a crash: what was written is on disk when a function returns, name and all."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def replace_file(path: Path, temporary: Path, chunks: Iterable[bytes]) -> None:
    """Put a file with this content at `path`: a crash at any moment leaves the old one or the new one.

    `temporary` is a name in the same folder that nobody else uses. Raises OSError.
    """
    write_file(temporary, chunks)
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file, whatever stands there, and have its content on disk. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        # Somebody may still be writing to it.
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for chunk in chunks:
            write_all(descriptor, chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; os.write may stop early, on a disk that is full. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk: without it, a power cut may lose a new name. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: bytes) -> None:
    """Have everything on disk that was written to the file system of `path` so far. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)
