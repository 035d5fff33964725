# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells what the source stands on: which directory, which file systems, and what their times are worth."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import NamedTuple

from lsyncd_sd.plan.guard import Identity
from lsyncd_sd.printable import printable
from lsyncd_sd.watch.source import identity_of

# Where a rename moves the ctime of the inode that is renamed, which POSIX leaves open. Tried on Linux 6.18,
# except for f2fs, of which the kernel's source says it (fs/f2fs/namei.c).
KINDS_WITH_TIMES = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs"})

# Where RENAME_EXCHANGE does not: of two names that change places only their directory's time tells.
KINDS_WITH_UNSEEN_SWAPS = frozenset({"f2fs", "xfs"})

# Where others may change what no event here tells of: hosts on the network, and file systems in user space,
# which show what lies elsewhere. (fuseblk is a disk of this machine.)
KINDS_SHARED = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "gfs2", "lustre", "nfs", "nfs4", "ocfs2"}
    | {"orangefs", "smb3", "smbfs", "virtiofs"}
)

_MOUNTINFO = "/proc/self/mountinfo"
_ESCAPE = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A file system at or below the source.

    `path` is relative to the source, empty for the one that holds its root. `top` is the directory of that
    file system that is seen there, `kind` its type as the kernel names it, `number` its f_fsid, 0 if it is
    not known.
    """

    path: bytes
    top: bytes
    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class Ground:
    """The source's root and everything mounted there, hidden mounts too; the first holds the root."""

    root: Identity
    mounts: tuple[Mount, ...]

    def own(self, *, one_file_system: bool) -> tuple[Mount, ...]:
        """Return the mounts whose content is part of the source: all, or those of the root's file system."""
        if not one_file_system:
            return self.mounts
        return tuple(mount for mount in self.mounts if mount.number == self.mounts[0].number)

    def flaw(self, *, one_file_system: bool) -> str:
        """Return why changes cannot be found by time here, "" if they can."""
        for mount in self.own(one_file_system=one_file_system):
            if mount.kind not in KINDS_WITH_TIMES:
                where = f" at {printable(mount.path)}" if mount.path else ""
                return f"the times of the file system {mount.kind}{where} do not tell of every change"
        return ""

    def shared(self, *, one_file_system: bool) -> list[Mount]:
        """Return the file systems on which others may change something that no event tells of."""
        mounts = self.mounts[:1] if one_file_system else self.mounts
        return [mount for mount in mounts if mount.kind.partition(".")[0] in KINDS_SHARED]

    @property
    def swaps_unseen(self) -> bool:
        """Whether two names may have been exchanged without moving the ctime of either."""
        return any(mount.kind in KINDS_WITH_UNSEEN_SWAPS for mount in self.mounts)


def directory_number(status: os.stat_result, device_of_root: int, descriptor: int) -> int:
    """Return what names an open directory over reboots, among those of one source. Raises OSError.

    That is its inode; on another file system than the root's, mixed with the id of that: the roots of two
    file systems have the same inode, and a subvolume of btrfs can be exchanged for its snapshot, full of
    other files of which none has a new ctime.
    """
    if status.st_dev == device_of_root:
        return status.st_ino
    return status.st_ino ^ os.statvfs(descriptor).f_fsid


class _Line(NamedTuple):
    """What one line of mountinfo says; see proc_pid_mountinfo(5)."""

    point: bytes
    top: bytes
    kind: str


def look(root: bytes) -> Ground:
    """Look at the source's root and the mounts at and below it. Raises OSError."""
    path = os.path.realpath(root)
    holder, below = _select(_read_mountinfo(), path)
    mounts = [_mount(b"", path, holder)]
    mounts += [_mount(os.path.relpath(line.point, path), line.point, line) for line in below]
    return Ground(identity_of(root), tuple(mounts))


def kind_at(path: bytes) -> str:
    """Return the type of the file system that holds `path`. Raises OSError."""
    holder, _below = _select(_read_mountinfo(), os.path.realpath(path))
    return holder.kind


def _mount(path: bytes, absolute: bytes, line: _Line) -> Mount:
    number = 0
    # A server that is gone would let us wait; what it says would not be needed.
    if line.kind in KINDS_WITH_TIMES:
        # Another file system may have been mounted above it since, and hide it.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            number = os.statvfs(absolute).f_fsid
    return Mount(path, line.top, line.kind, number)


def _read_mountinfo() -> list[_Line]:
    with open(_MOUNTINFO, "rb") as file:
        return [_line(fields) for fields in map(bytes.split, file)]


def _line(fields: list[bytes]) -> _Line:
    kind = fields[fields.index(b"-") + 1]
    return _Line(_unescaped(fields[4]), _unescaped(fields[3]), os.fsdecode(kind))


def _unescaped(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)


def _select(lines: list[_Line], path: bytes) -> tuple[_Line, list[_Line]]:
    """Return the mount that holds `path`, and those below it, in the order of mounting."""
    holder = _Line(b"", b"", "rootfs")
    for line in lines:
        # The later of two at one place is on top.
        if _is_at_or_below(path, line.point) and len(line.point) >= len(holder.point):
            holder = line
    return holder, [line for line in lines if line.point != path and _is_at_or_below(line.point, path)]


def _is_at_or_below(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")
