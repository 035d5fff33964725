# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens, feeds and reads an inotify queue; the only importer of pyinotify.

Of pyinotify only the constants and the ctypes binding are used. Its WatchManager and Notifier die on a
name that is not UTF-8, lose most events of a burst, and get paths wrong after moves; docs/decisions/0001
has the figures.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Any, NamedTuple

import pyinotify

IN_ATTRIB: int = pyinotify.IN_ATTRIB
IN_CLOSE_WRITE: int = pyinotify.IN_CLOSE_WRITE
IN_CREATE: int = pyinotify.IN_CREATE
IN_DELETE: int = pyinotify.IN_DELETE
IN_DELETE_SELF: int = pyinotify.IN_DELETE_SELF
IN_IGNORED: int = pyinotify.IN_IGNORED
IN_ISDIR: int = pyinotify.IN_ISDIR
IN_MODIFY: int = pyinotify.IN_MODIFY
IN_MOVED_FROM: int = pyinotify.IN_MOVED_FROM
IN_MOVED_TO: int = pyinotify.IN_MOVED_TO
IN_MOVE_SELF: int = pyinotify.IN_MOVE_SELF
IN_Q_OVERFLOW: int = pyinotify.IN_Q_OVERFLOW
IN_UNMOUNT: int = pyinotify.IN_UNMOUNT

# IN_EXCL_UNLINK: a deleted file that a program still writes to is no longer a change of the tree.
DIRECTORY_MASK: int = (
    IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_CREATE
    | IN_DELETE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | pyinotify.IN_EXCL_UNLINK
    | pyinotify.IN_ONLYDIR
)
# Only the root needs to hear of its own end; below it the parent directory's events tell the same.
ROOT_MASK: int = DIRECTORY_MASK | IN_DELETE_SELF | IN_MOVE_SELF
# Of a folder outside the source, in which files come into being only to be heard of.
COOKIE_MASK: int = IN_CREATE | pyinotify.IN_ONLYDIR

# Room for several thousand events a read; a larger buffer brought nothing when measured.
READ_BYTES = 256 * 1024

_HEADER = struct.Struct("iIII")


class RawEvent(NamedTuple):
    """One event as the kernel gives it; `name` is empty when the watched directory itself is meant."""

    wd: int
    mask: int
    cookie: int
    name: bytes


class _Binding(pyinotify._CtypesLibcINotifyWrapper):  # type: ignore[misc]
    """pyinotify's binding to libc, for paths of any bytes and with errors that keep their errno.

    The stock `init` runs `ldconfig` in a subprocess to find the libc that this process has loaded already.
    """

    def init(self) -> bool:
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._get_errno_func = ctypes.get_errno
        return True


_binding = _Binding()
_binding.init()


def _checked(result: int, path: bytes | None = None) -> int:
    if result >= 0:
        return result
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)


def open_queue() -> int:
    """Return the descriptor of a new inotify queue, non-blocking and close-on-exec.

    Raises OSError: EMFILE when this user has `fs.inotify.max_user_instances` of them already.
    """
    descriptor = _checked(_binding._libc.inotify_init())
    os.set_blocking(descriptor, False)
    os.set_inheritable(descriptor, False)
    return descriptor


def add_watch(queue: int, directory: int, mask: int) -> int:
    """Watch the open `directory` and return the watch descriptor, which names its inode.

    A directory that is watched already, under whatever name, gives the same number again. By the descriptor
    and not by a path: another directory may stand at the path by now, or a symlink that leads elsewhere.
    Raises OSError: EACCES, ENOSPC (no watches left); ENOENT where /proc is not mounted.
    """
    path = b"/proc/self/fd/%d" % directory
    return _checked(_binding._libc.inotify_add_watch(queue, path, mask), path)


def remove_watch(queue: int, wd: int) -> None:
    """Remove a watch; one that the kernel has removed by itself meanwhile is not an error."""
    try:
        _checked(_binding._libc.inotify_rm_watch(queue, wd))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def read_events(queue: int) -> list[RawEvent]:
    """Return what one read of the queue gives, at most READ_BYTES of events; empty if nothing is queued."""
    try:
        data = os.read(queue, READ_BYTES)
    except BlockingIOError:
        return []
    events = []
    position, end = 0, len(data)
    unpack, header_size = _HEADER.unpack_from, _HEADER.size
    while position < end:
        wd, mask, cookie, length = unpack(data, position)
        position += header_size
        name = data[position : position + length].rstrip(b"\0") if length else b""
        position += length
        events.append(RawEvent(wd, mask, cookie, name))
    return events
