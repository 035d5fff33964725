# SPDX-License-Identifier: GPL-2.0-or-later
"""Renews one file of a local target by sharing blocks (FICLONE), where rsync would write all of it anew.

For processes of their own: it hangs for as long as the file systems do. Decision 0013 has the figures.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import string
import time
from collections.abc import Generator, Iterator

from lsyncd_sd.mirror.temporary import stem
from lsyncd_sd.opening import open_directory

# fcntl has it from Python 3.12 on. Where the number is another one, as on powerpc, no file system knows
# this one, and rsync does it all.
_FICLONE: int = getattr(fcntl, "FICLONE", 0x40049409)

# Compared, and written if it differs, at once. A guess: file systems share blocks of 4 KiB or more, but a
# call for each of those costs more than what is written in vain.
_PIECE_BYTES = 1024 * 1024

# After so many pieces, if most of them have changed, no more are compared: so has the rest. A guess.
_PIECES_BEFORE_DOUBT = 64

# What is written to be seen that it goes on: once for so many pieces.
_PIECES_PER_SIGN = 16
SIGN_OF_LIFE = b"."

_ACL = "system.posix_acl_access"


class NotClonedError(Exception):
    """It is for rsync to do."""


def clone(source: int, target: int, path: bytes, *, acls: bool, xattrs: bool) -> Generator[bytes, None, int]:
    """Make the file at `path` below the open root `target` what it is below `source`, and return its size.

    It gets its owner, group, permissions and modification time, with `acls` its access control list, and
    with `xattrs` its other attributes, before it takes its name. Yields `SIGN_OF_LIFE` now and then. Raises
    NotClonedError or OSError if it was not done; then nothing has changed.
    """
    parent, _slash, name = path.rpartition(b"/")
    with (
        _closing(open_directory(source, parent)) as here,
        _closing(_open_file(here, name)) as file,
        _closing(open_directory(target, parent)) as there,
        _temporary(there, name) as (new, temporary),
    ):
        status = os.fstat(file)
        if status.st_nlink > 1:
            # Its other names are rsync's to find, and to link.
            raise NotClonedError
        if _share(new, file):
            size = status.st_size
        else:
            with _closing(_open_file(there, name)) as old:
                if not _share(new, old):
                    raise NotClonedError
            size = yield from _write_differences(file, new)
        os.fchown(new, status.st_uid, status.st_gid)
        _copy_attributes(file, new, acls=acls, xattrs=xattrs)
        os.fchmod(new, stat.S_IMODE(status.st_mode))
        os.utime(new, ns=(time.time_ns(), status.st_mtime_ns))
        os.rename(temporary, name, src_dir_fd=there, dst_dir_fd=there)
        return size


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_file(directory: int, name: bytes) -> int:
    """Open a regular file for reading. Raises NotClonedError if it is something else, or a link."""
    if not stat.S_ISREG(os.lstat(name, dir_fd=directory).st_mode):
        raise NotClonedError
    # What has become a FIFO just now must not be waited for.
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise NotClonedError


@contextlib.contextmanager
def _temporary(directory: int, name: bytes) -> Iterator[tuple[int, bytes]]:
    """Give an open file with a name that rsync, too, would give it, and remove what still has that name.

    The directory keeps its time, as after a run of rsync. A file left over after a crash is removed as those
    of rsync are (docs/rsync.md, broken-off runs).
    """
    letters = "".join(secrets.choice(string.ascii_letters + string.digits) for _letter in range(6))
    temporary = stem(name) + b"." + letters.encode()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    before = os.fstat(directory)
    with _closing(os.open(temporary, flags, 0o600, dir_fd=directory)) as file:
        try:
            yield file, temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def _share(new: int, old: int) -> bool:
    """Make one file share all blocks of another, and return whether the file systems can."""
    try:
        fcntl.ioctl(new, _FICLONE, old)
    except OSError:
        return False
    return True


def _write_differences(file: int, new: int) -> Generator[bytes, None, int]:
    """Write into `new` what is different in `file`, and return how large it is now."""
    offset = compared = different = 0
    while piece := os.pread(file, _PIECE_BYTES, offset):
        if compared < _PIECES_BEFORE_DOUBT or different * 2 < compared:
            compared += 1
            # Behind its end there are zeros, which need not be written.
            is_same = os.pread(new, len(piece), offset).ljust(len(piece), b"\0") == piece
            different += not is_same
        else:
            is_same = False
        if not is_same and os.pwrite(new, piece, offset) < len(piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        offset += len(piece)
        if offset % (_PIECES_PER_SIGN * _PIECE_BYTES) == 0:
            yield SIGN_OF_LIFE
    os.ftruncate(new, offset)
    return offset


def _copy_attributes(file: int, new: int, *, acls: bool, xattrs: bool) -> None:
    for name in os.listxattr(file):
        if (acls and name == _ACL) or (xattrs and not name.startswith("system.")):
            os.setxattr(new, name, os.getxattr(file, name))
