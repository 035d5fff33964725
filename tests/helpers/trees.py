# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes a real directory tree in every way a program can, and takes snapshots of one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from lsyncd_sd.watch.source import Source

RENAME_EXCHANGE = 2
"""renameat2(2): the two names change places at once."""

FILE_TIME = 1_600_000_000_123_456_789
"""Every file's modification time: with the size alike too, only an exact run sees another content."""

SECRET = b"secret"
"""What every file begins with that symlinks of the source lead to: none of it may ever reach a target."""

_libc = ctypes.CDLL(None, use_errno=True)


class Entry(NamedTuple):
    """One path of a snapshot; `content` is a file's bytes or a link's target.

    `kind` is "d", "f" or "l", and "o" for all others.
    """

    kind: str
    content: bytes
    mode: int
    mtime: int


Snapshot = dict[bytes, Entry]


def join(directory: bytes, name: bytes) -> bytes:
    """Return the path of `name` in `directory`, both relative."""
    return directory + b"/" + name if directory else name


def parent_of(path: bytes) -> bytes:
    """Return the directory of a relative path; that of a name at the top is empty."""
    return path.rpartition(b"/")[0]


def snapshot(root: bytes) -> Snapshot:
    """Return all that a tree holds, by relative path; the root itself is the empty path."""
    entries: Snapshot = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        entries[path] = entry = look(join(root, path) if path else root)
        if entry.kind == "d":
            pending += [join(path, name) for name in os.listdir(join(root, path) if path else root)]
    return entries


def files(entries: Snapshot) -> Snapshot:
    """Return the regular files of a snapshot."""
    return {path: entry for path, entry in entries.items() if entry.kind == "f"}


def look(path: bytes) -> Entry:
    """Return what stands at an absolute path."""
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return Entry("d", b"", mode, status.st_mtime_ns)
    if stat.S_ISLNK(status.st_mode):
        return Entry("l", os.readlink(path), 0, status.st_mtime_ns)
    if not stat.S_ISREG(status.st_mode):
        return Entry("o", b"", mode, status.st_mtime_ns)
    with open(path, "rb") as file:
        return Entry("f", file.read(), mode, status.st_mtime_ns)


NAMES = [b"a", b"b", b"\xff*"]
"""The names that operations use: few, so that they meet; one is no UTF-8 and means something in a filter."""


DEEPEST = 4
"""Slashes in the longest path of a directory; moving trees into each other would make them ever deeper."""


class Spot(NamedTuple):
    """A path that is chosen when it is needed: a directory of the source, and what it holds or a new name.

    All are numbers taken modulo how many there are; `new` asks for a name whether it exists or not.
    """

    directory: int
    child: int
    new: bool


def spot_in(entries: Snapshot, spot: Spot) -> bytes:
    """Return the path that a spot stands for in a tree."""
    directories = sorted(path for path, entry in entries.items() if entry.kind == "d")
    directory = directories[spot.directory % len(directories)]
    if directory.count(b"/") == DEEPEST:
        directory = parent_of(directory)
    children = sorted(path for path in entries if path and parent_of(path) == directory)
    if spot.new or not children:
        return join(directory, NAMES[spot.child % len(NAMES)])
    return children[spot.child % len(children)]


@dataclass
class Playground:
    """A source, a place outside of it to move things to and from, and the operations on both.

    Every operation takes relative paths and does nothing where it is not possible: a list of operations
    shrinks well only if each of them stands by itself.
    """

    base: bytes
    contents: count[int] = field(default_factory=count)
    _kept: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = self.source = self.base + b"/source"
        self.outside = self.base + b"/outside"
        self.secret = self.base + b"/secret"
        for path in (self.source, self.outside):
            os.mkdir(path)
        # With the names that the source has, so that a path through a symlink finds something.
        os.makedirs(self.secret + b"/a/b/c")
        for directory in (b"", b"/a", b"/a/b", b"/a/b/c"):
            with open(self.secret + directory + b"/f", "wb") as file:
                file.write(SECRET)

    def entries(self) -> Snapshot:
        """Return all that the source holds."""
        return snapshot(self.source)

    def look(self) -> Source:
        """Return the source as a mirror sees it."""
        return Source(self.source)

    def do(self, operation: tuple[Any, ...]) -> None:
        """Carry out one operation, named by the method and followed by its arguments."""
        name, *arguments = operation
        with contextlib.suppress(OSError, shutil.Error):
            getattr(self, name)(*(self._found(argument) for argument in arguments))

    def _found(self, argument: object) -> object:
        """Return the path that a spot stands for now, every other argument as it is."""
        return self.spot(argument) if isinstance(argument, Spot) else argument

    def spot(self, spot: Spot) -> bytes:
        """Return the path that a spot stands for now."""
        return spot_in(snapshot(self.source), spot)

    def age(self, paths: Iterable[bytes]) -> None:
        """Give each of these files a time that no file had before."""
        for path in paths:
            time = FILE_TIME + (1000 + next(self.contents)) * 1_000_000_000
            os.utime(join(self.source, path), ns=(time, time))

    def _at(self, path: bytes) -> bytes:
        """Return the absolute path; raises OSError where a symlink leads to it."""
        absolute = join(self.source, path)
        parent = parent_of(absolute)
        if os.path.realpath(parent) != parent:
            raise OSError(errno.ELOOP, "a symlink above", absolute)
        return absolute

    def _write(self, path: bytes) -> None:
        # All files are equally long and old, so that nothing but their content tells them apart.
        with open(path, "wb", opener=_open_without_following) as file:
            file.write(b"%08d" % next(self.contents))
        os.utime(path, ns=(FILE_TIME, FILE_TIME))

    def write(self, path: bytes) -> None:
        self._write(self._at(path))

    def append(self, path: bytes) -> None:
        """Write, and keep the file open; it gets a time of its own."""
        if path not in self._kept:
            self._kept[path] = os.open(self._at(path), os.O_WRONLY | os.O_NOFOLLOW)
        os.pwrite(self._kept[path], b"%08d" % next(self.contents), 0)

    def close(self, path: bytes) -> None:
        """Close the file that was opened under this name."""
        if path in self._kept:
            os.close(self._kept.pop(path))

    def close_all(self) -> None:
        """Close all files."""
        for path in list(self._kept):
            self.close(path)

    def touch(self, path: bytes, seconds: int) -> None:
        time = FILE_TIME + seconds * 1_000_000_000
        os.utime(self._at(path), ns=(time, time), follow_symlinks=False)

    def chmod(self, path: bytes, mode: int) -> None:
        if not os.path.islink(self._at(path)):
            os.chmod(self._at(path), mode)

    def mkdir(self, path: bytes) -> None:
        os.mkdir(self._at(path))

    def deep(self, path: bytes) -> None:
        """`mkdir -p` and a file at its end."""
        absolute = join(self.source, path)
        if os.path.realpath(absolute) == absolute:
            os.makedirs(absolute, exist_ok=True)
            self._write(absolute + b"/f")

    def remove(self, path: bytes) -> None:
        if os.path.isdir(self._at(path)) and not os.path.islink(self._at(path)):
            shutil.rmtree(self._at(path))
        else:
            os.unlink(self._at(path))

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self._at(path))

    def rename(self, old: bytes, new: bytes) -> None:
        os.rename(self._at(old), self._at(new))

    def exchange(self, one: bytes, other: bytes) -> None:
        _libc.renameat2(-100, self._at(one), -100, self._at(other), RENAME_EXCHANGE)

    def symlink(self, path: bytes, target: bytes) -> None:
        os.symlink(target, self._at(path))

    def swap(self, path: bytes, kind: str) -> None:
        """Put something of this kind where something else stands."""
        self.remove(path)
        match kind:
            case "f":
                self.write(path)
            case "d":
                self.mkdir(path)
            case "l":
                self.symlink(path, self.secret)

    def move_out(self, path: bytes, name: bytes) -> None:
        os.rename(self._at(path), join(self.outside, name))

    def move_in(self, name: bytes, path: bytes) -> None:
        os.rename(join(self.outside, name), self._at(path))


def _open_without_following(path: str | bytes, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)
