# SPDX-License-Identifier: GPL-2.0-or-later
"""Resolves the symbolic links of local paths without touching a file system that can hang.

The parent checks every target before it starts the first sync. A hung NFS server must not keep the healthy
syncs from starting, so the walk ends where such a file system is mounted and takes the rest as written.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"
# file systems that answer over a network, through a user's program, or by mounting something first
_CAN_HANG = re.compile(
    r"(nfs4?|cifs|smb3|smbfs|ceph|glusterfs|afs|9p|ncpfs|lustre|gfs2|ocfs2|beegfs|coda|autofs|virtiofs|fuse(\..*)?)"
)
MAXIMUM_LINKS = 40  # as the kernel: more is a loop


@dataclass(frozen=True, slots=True)
class Resolved:
    """A path without symbolic links; `is_whole` is false if the walk ended at a mount that can hang."""

    path: str
    is_whole: bool


def mounts_that_can_hang(mountinfo: str = MOUNTINFO) -> frozenset[str]:
    """Return the mount points of network and user-space file systems; none if the kernel does not tell."""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return frozenset()
    found = set()
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if separator and len(fields) > 4 and _CAN_HANG.fullmatch(after.split(" ")[0]):
            found.add(_unescape(fields[4]))
    return frozenset(found)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)


def resolve(path: str, avoid: frozenset[str]) -> Resolved:
    """Return an absolute path with its symbolic links followed.

    What is missing or unreadable stays as written. The walk ends before the first component in `avoid`.
    """
    waiting = [part for part in reversed(path.split("/")) if part]
    done = ""
    links = 0
    while waiting:
        part = waiting.pop()
        if part in (".", ".."):
            done = done if part == "." else done.rpartition("/")[0]
            continue
        step = f"{done}/{part}"
        if step in avoid:
            return Resolved(os.path.normpath("/".join([step, *reversed(waiting)])), is_whole=False)
        link = _read_link(step)
        if link is None:
            done = step
            continue
        links += 1
        if links > MAXIMUM_LINKS:
            return Resolved(os.path.normpath("/".join([step, *reversed(waiting)])), is_whole=True)
        if link.startswith("/"):
            done = ""
        waiting.extend(part for part in reversed(link.split("/")) if part)
    return Resolved(done or "/", is_whole=True)


def _read_link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:  # no link, not there, or not ours to see: taken as written
        return None
