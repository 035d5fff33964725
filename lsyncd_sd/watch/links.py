# SPDX-License-Identifier: GPL-2.0-or-later
"""Knows which names of the source are the same file: a write through one concerns them all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

# Names remembered, some 200 bytes each. Beyond it all are forgotten and looked for again when needed: a
# tree of linked snapshots has millions, of which hardly any are ever written to.
NAMES_LIMIT = 100_000

IsExcluded = Callable[[bytes, bool], bool]


class Inode(NamedTuple):
    """Which file it is, as long as it is there; never kept over a reboot, which may number devices anew."""

    device: int
    number: int


class Linked(NamedTuple):
    """One name (relative path) of a regular file that has so many `names`, somewhere on its file system."""

    path: bytes
    inode: Inode
    names: int

    def encode(self) -> bytes:
        """Return it as one record that ends with NUL."""
        return b"%d %d %d %s\0" % (self.inode.device, self.inode.number, self.names, self.path)

    @classmethod
    def decode_all(cls, records: bytes) -> Iterator[Linked]:
        """Yield what `encode` has made of each."""
        for record in records.split(b"\0")[:-1]:
            device, number, count, path = record.split(b" ", 3)
            yield cls(path, Inode(int(device), int(number)), int(count))


def at(root: int, paths: Iterable[bytes]) -> Iterator[Linked]:
    """Yield those of `paths` (relative to the open directory `root`) that are files with several names."""
    for path in paths:
        with contextlib.suppress(OSError):
            linked = _linked(path, os.lstat(path, dir_fd=root))
            if linked is not None:
                yield linked


def below(root: int, directories: Iterable[bytes], is_excluded: IsExcluded) -> Iterator[Linked]:
    """Yield the files with several names in these directories and everywhere below them.

    What cannot be read is left out: no name of it can be mirrored either.
    """
    pending = list(directories)
    while pending:
        directory = pending.pop()
        for path, status in _entries(root, directory):
            is_directory = stat.S_ISDIR(status.st_mode)
            if is_excluded(path, is_directory):
                continue
            if is_directory:
                pending.append(path)
            linked = _linked(path, status)
            if linked is not None:
                yield linked


def _linked(path: bytes, status: os.stat_result) -> Linked | None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink < 2:
        return None
    return Linked(path, Inode(status.st_dev, status.st_ino), status.st_nlink)


def _entries(root: int, directory: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    try:
        descriptor = os.open(
            directory or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root
        )
    except OSError:
        return
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield (directory + b"/" + name if directory else name), status
    finally:
        os.close(descriptor)


class LinkIndex:
    """The names of each file that had several when it was asked for, and how many it has elsewhere.

    Elsewhere is outside of the source, or excluded. A file that has one name is not in it: when it gets
    another one, nobody tells under which name it was there before. A name that is there no more is left in
    until it is removed. Several may look for names, and add some, at the same time.
    """

    def __init__(self) -> None:
        self.times_forgotten = 0
        self._names: dict[Inode, set[bytes]] = {}
        self._elsewhere: dict[Inode, int] = {}
        self._size = 0

    def lacks(self, found: Iterable[Linked]) -> bool:
        """Tell whether one of these files may have names that are neither among them nor known.

        Names that are there no more must have been removed, for their inode may be another file by now.
        """
        counts, seen = _grouped(found)
        return any(
            len(seen[inode] | self.others(inode)) + self._elsewhere.get(inode, 0) < count
            for inode, count in counts.items()
        )

    def fill(self, found: Iterable[Linked], since: int) -> None:
        """Take in the names of the whole source.

        `since` is `times_forgotten` from before they were looked for: what was added meanwhile may not be
        among them, and if that was forgotten, nobody knows how many of a file are elsewhere.
        """
        found = list(found)
        is_whole = since == self.times_forgotten
        self.add(found)
        if not is_whole:
            return
        counts, seen = _grouped(found)
        missing = {inode: count - len(seen[inode] | self.others(inode)) for inode, count in counts.items()}
        self._elsewhere = {
            inode: count for inode, count in missing.items() if count > 0 and inode in self._names
        }

    def add(self, found: Iterable[Linked]) -> None:
        """Take in names; forget all if they are too many."""
        for linked in found:
            names = self._names.setdefault(linked.inode, set())
            self._size += linked.path not in names
            names.add(linked.path)
        if self._size > NAMES_LIMIT:
            self.forget()

    def others(self, inode: Inode) -> set[bytes]:
        """Return every name that this file has, or had once."""
        return self._names.get(inode, set())

    def remove(self, inode: Inode, path: bytes) -> None:
        """Take out a name that is there no more."""
        names = self._names.get(inode, set())
        self._size -= path in names
        names.discard(path)
        if not names:
            self._names.pop(inode, None)
            self._elsewhere.pop(inode, None)

    def forget(self) -> None:
        """Know nothing: what changes was not followed for a while."""
        self.times_forgotten += 1
        self._names = {}
        self._elsewhere = {}
        self._size = 0


def _grouped(found: Iterable[Linked]) -> tuple[dict[Inode, int], dict[Inode, set[bytes]]]:
    """Return how many names each file has at all, and which of them are among these."""
    counts: dict[Inode, int] = {}
    seen: dict[Inode, set[bytes]] = {}
    for linked in found:
        counts[linked.inode] = linked.names
        seen.setdefault(linked.inode, set()).add(linked.path)
    return counts, seen
