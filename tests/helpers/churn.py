# SPDX-License-Identifier: GPL-2.0-or-later
"""Does random things to a tree: python churn.py SEED OPERATIONS SECONDS ROOT OUTSIDE [links].

What is tried follows from the seed alone, never from what is found: the same seed tries the same again.
Every path is walked without following a symlink, so nothing beyond ROOT and OUTSIDE is ever touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Few names, some of them much liked, and not too deep: different things often happen to one of them.
LIKED = (b"a", b"b", b"c", b"d")
# The last two are for filters.
ODD = (b"two words", b"-x", b"#;]", b"new\nline", b"\xff", b".hidden", b"n" * 255, b"f.o", b"cache")
NAMES = LIKED * 5 + ODD
DEPTHS = (1, 1, 2, 2, 2, 3, 3, 4)

# Operations come in bursts of up to so many.
BURST = 12

# Files that are written to for a while before they are closed.
OPEN_FILES = 3

RENAME_EXCHANGE = 2  # renameat2(2)
# A directory that holds more levels is not moved nor copied: a path of PATH_MAX is beyond rsync.
HIGHEST = 8

OWNERS = (0, 1, 65534)
MODES = (0o600, 0o644, 0o700, 0o755, 0o1777, 0o2775, 0o4711)
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

_libc = ctypes.CDLL(None, use_errno=True)

Parts = tuple[bytes, ...]
Place = tuple[int, bytes]


def put(place: Place, content: bytes, flags: int) -> None:
    """Write to a file; raises OSError where a FIFO stands, which would wait for a reader."""
    folder, name = place
    descriptor = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | flags, 0o644, dir_fd=folder)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def remove(place: Place) -> None:
    """Remove whatever stands at a place, with all below it."""
    folder, name = place
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        below = os.open(name, DIRECTORY, dir_fd=folder)
        try:
            for entry in os.listdir(below):
                remove((below, os.fsencode(entry)))
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=folder)


def check_height(place: Place, limit: int = HIGHEST) -> None:
    """Raise OSError if a directory holds more levels than `limit`."""
    if limit == 0:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    with contextlib.suppress(NotADirectoryError):
        below = os.open(place[1], DIRECTORY, dir_fd=place[0])
        try:
            for name in map(os.fsencode, os.listdir(below)):
                check_height((below, name), limit - 1)
        finally:
            os.close(below)


def rename(old: Place, new: Place) -> None:
    """rename(2): over a file, over an empty directory."""
    check_height(old)
    os.rename(old[1], new[1], src_dir_fd=old[0], dst_dir_fd=new[0])


def exchange(one: Place, other: Place) -> None:
    """Let two names swap what they stand for, at once."""
    check_height(one)
    check_height(other)
    if _libc.renameat2(one[0], one[1], other[0], other[1], RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def copy(old: Place, new: Place, limit: int = HIGHEST) -> None:
    """Copy as `cp -a` does: first the content, then owner, mode and times."""
    if limit == 0:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    status = os.stat(old[1], dir_fd=old[0], follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(new[1], dir_fd=new[0])
        source = os.open(old[1], DIRECTORY, dir_fd=old[0])
        target = os.open(new[1], DIRECTORY, dir_fd=new[0])
        try:
            for name in map(os.fsencode, os.listdir(source)):
                copy((source, name), (target, name), limit - 1)
        finally:
            os.close(source)
            os.close(target)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(old[1], dir_fd=old[0]), new[1], dir_fd=new[0])
    elif stat.S_ISREG(status.st_mode):
        descriptor = os.open(old[1], os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=old[0])
        try:
            put(new, os.read(descriptor, 1_000_000), os.O_CREAT | os.O_EXCL)
        finally:
            os.close(descriptor)
    os.chown(new[1], status.st_uid, status.st_gid, dir_fd=new[0], follow_symlinks=False)
    chmod(new, stat.S_IMODE(status.st_mode))
    os.utime(new[1], ns=(status.st_mtime_ns,) * 2, dir_fd=new[0], follow_symlinks=False)


def chmod(place: Place, mode: int) -> None:
    """Change a mode, but not that of what a symlink leads to."""
    descriptor = os.open(place[1], os.O_PATH | os.O_NOFOLLOW, dir_fd=place[0])
    try:
        if not stat.S_ISLNK(os.stat(descriptor).st_mode):
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


class Churn:
    """One process's share of the operations, on paths below `root` and, now and then, `outside`."""

    def __init__(self, seed: str, root: Path, outside: Path, *, links: bool = False) -> None:
        self._random = random.Random(seed)  # noqa: S311  (to be replayed)
        self._root = os.open(root, DIRECTORY)
        self._outside = os.open(outside, DIRECTORY)
        self._texts = (*LIKED, *ODD, b"..", os.fsencode(outside), b"a/b")
        self._open: list[int] = []
        self._operations: list[tuple[Callable[[], None], int]] = [
            (self._write, 30),
            (self._append, 10),
            (self._rewrite_with_same_size_and_time, 5),
            # Not with hard links: no event tells of a write through a name that is gone or outside.
            (self._write_slowly, 0 if links else 5),
            (self._make_directories, 15),
            (self._rename, 20),
            (self._rename_what_was_just_written, 8),
            (self._chain, 8),
            (self._exchange, 10),
            (self._remove, 8),
            (self._remove_directory, 4),
            (self._remove_tree, 3),
            (self._replace_by_another_kind, 8),
            (self._chmod, 8),
            (self._chown, 4),
            (self._touch, 5),
            (self._touch_root, 1),
            (self._symlink, 8),
            (self._fifo, 2),
            (self._save_as_editors_do, 8),
            (self._copy, 4),
            (self._unpack, 2),
            (self._check_out, 3),
            (self._move_out, 4),
            (self._move_in, 6),
            (self._link, 10 if links else 0),
        ]

    def run(self, operations: int, seconds: float) -> None:
        """Do so many operations that succeed, spread over about so many seconds."""
        done = 0
        start = time.monotonic()
        while done < operations:
            for _number in range(self._random.randint(1, BURST)):
                done += self._do_one()
            time.sleep(max(0.0, start + seconds * done / operations - time.monotonic()))
        for descriptor in self._open:
            os.close(descriptor)

    def _do_one(self) -> bool:
        functions, weights = zip(*self._operations, strict=True)
        (operation,) = self._random.choices(functions, weights)
        # All that is drawn is drawn before the file system can object.
        with contextlib.suppress(OSError):
            operation()
            return True
        return False

    # ------------------------------------------------------------------ drawing, and finding

    def _path(self) -> Parts:
        return tuple(self._random.choice(NAMES) for _level in range(self._random.choice(DEPTHS)))

    def _may_make(self) -> bool:
        """Draw whether missing directories are made first, as `mkdir -p` does."""
        return self._random.random() < 0.6

    def _content(self) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 100, 100, 20_000)))

    @contextlib.contextmanager
    def _at(self, path: Parts, *, make: bool = False) -> Iterator[Place]:
        """Open the directory that a path is in; `make` it if it is not there."""
        folder = os.dup(self._root)
        try:
            for name in path[:-1]:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=folder)
                below = os.open(name, DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder, path[-1]
        finally:
            os.close(folder)

    # ------------------------------------------------------------------ files

    def _write(self) -> None:
        path, content, make = self._path(), self._content(), self._may_make()
        with self._at(path, make=make) as place:
            put(place, content, os.O_CREAT | os.O_TRUNC)

    def _append(self) -> None:
        path, content = self._path(), self._content()
        with self._at(path) as place:
            put(place, content, os.O_APPEND)

    def _rewrite_with_same_size_and_time(self) -> None:
        path, seed = self._path(), self._random.random()
        with self._at(path) as (folder, name):
            before = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(before.st_mode):
                put((folder, name), random.Random(seed).randbytes(before.st_size), 0)  # noqa: S311
                os.utime(name, ns=(0, before.st_mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _write_slowly(self) -> None:
        path, content = self._path(), self._content()
        if len(self._open) == OPEN_FILES:
            os.close(self._open.pop(0))
        for descriptor in self._open:
            os.write(descriptor, content)
        with self._at(path) as (folder, name):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CREAT
            self._open.append(os.open(name, flags, 0o644, dir_fd=folder))

    def _save_as_editors_do(self) -> None:
        path, content = self._path(), self._content()
        with self._at(path) as (folder, name):
            put((folder, b".saving"), content, os.O_CREAT | os.O_TRUNC)
            rename((folder, b".saving"), (folder, name))

    def _symlink(self) -> None:
        path, text, make = self._path(), self._random.choice(self._texts), self._may_make()
        with self._at(path, make=make) as (folder, name):
            os.symlink(text, name, dir_fd=folder)

    def _fifo(self) -> None:
        # Under a name of its own: rsync would open one in a file's place, and wait.
        path = self._path()
        with self._at(path) as (folder, _name):
            os.mkfifo(b"fifo", dir_fd=folder)

    def _link(self) -> None:
        one, other, make = self._path(), self._path(), self._may_make()
        with self._at(one) as old, self._at(other, make=make) as new:
            os.link(old[1], new[1], src_dir_fd=old[0], dst_dir_fd=new[0], follow_symlinks=False)

    # ------------------------------------------------------------------ attributes

    def _chmod(self) -> None:
        path, mode = self._path(), self._random.choice(MODES)
        with self._at(path) as place:
            chmod(place, mode)

    def _chown(self) -> None:
        path, user, group = self._path(), self._random.choice(OWNERS), self._random.choice(OWNERS)
        with self._at(path) as (folder, name):
            os.chown(name, user, group, dir_fd=folder, follow_symlinks=False)

    def _touch(self) -> None:
        path, when = self._path(), self._random.randrange(10**18, 15 * 10**17)
        with self._at(path) as (folder, name):
            os.utime(name, ns=(when, when), dir_fd=folder, follow_symlinks=False)

    def _touch_root(self) -> None:
        mode, when = self._random.choice((0o700, 0o755)), self._random.randrange(10**18, 15 * 10**17)
        os.fchmod(self._root, mode)
        os.utime(self._root, ns=(when, when))

    # ------------------------------------------------------------------ names

    def _make_directories(self) -> None:
        path = self._path()
        with self._at((*path, b""), make=True):
            pass

    def _rename(self) -> None:
        one, other, make = self._path(), self._path(), self._may_make()
        with self._at(one) as old, self._at(other, make=make) as new:
            rename(old, new)

    def _rename_what_was_just_written(self) -> None:
        """A directory with content that was not sent yet, and more of it after the move."""
        directory, other = self._path(), self._path()
        name, content = self._random.choice(NAMES), self._content()
        with self._at((*directory, name), make=True) as place, self._at(other, make=True) as new:
            put(place, content, os.O_CREAT | os.O_TRUNC)
            with self._at(directory) as old:
                rename(old, new)
            put((place[0], b"late"), content, os.O_CREAT | os.O_TRUNC)

    def _chain(self) -> None:
        """a -> b, b -> c, c -> a, by way of a name that does not last."""
        paths = self._path(), self._path(), self._path()
        with self._at(paths[0]) as first, self._at(paths[1]) as second, self._at(paths[2]) as third:
            aside = first[0], b".aside"
            rename(first, aside)
            for old, new in ((second, first), (third, second), (aside, third)):
                with contextlib.suppress(OSError):
                    rename(old, new)

    def _exchange(self) -> None:
        one, other = self._path(), self._path()
        with self._at(one) as first, self._at(other) as second:
            exchange(first, second)

    def _remove(self) -> None:
        path = self._path()
        with self._at(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def _remove_directory(self) -> None:
        path = self._path()
        with self._at(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def _remove_tree(self) -> None:
        path = self._path()
        with self._at(path) as place:
            remove(place)

    def _replace_by_another_kind(self) -> None:
        path, kind, content = self._path(), self._random.randrange(3), self._content()
        text, name = self._random.choice(self._texts), self._random.choice(NAMES)
        with self._at(path) as place:
            with contextlib.suppress(FileNotFoundError):
                remove(place)
            if kind == 0:
                put(place, content, os.O_CREAT)
            elif kind == 1:
                os.symlink(text, place[1], dir_fd=place[0])
            else:
                os.mkdir(place[1], dir_fd=place[0])
                with self._at((*path, name)) as below:
                    put(below, content, os.O_CREAT)

    def _move_out(self) -> None:
        path, name = self._path(), b"%d" % self._random.randrange(10)
        with self._at(path) as place:
            rename(place, (self._outside, name))

    def _move_in(self) -> None:
        path, name = self._path(), b"%d" % self._random.randrange(10)
        with self._at(path) as place:
            rename((self._outside, name), place)

    # ------------------------------------------------------------------ trees

    def _copy(self) -> None:
        one, other, make = self._path(), self._path(), self._may_make()
        if other[: len(one)] == one:
            return
        with self._at(one) as old, self._at(other, make=make) as new:
            copy(old, new)

    def _unpack(self) -> None:
        """As tar: directories, files with times of their own, and the directories' times at last."""
        top, when = self._path(), self._random.randrange(10**18, 15 * 10**17)
        members = [
            (self._path(), self._random.randbytes(100)) for _number in range(self._random.randint(1, 20))
        ]
        for path, content in members:
            with contextlib.suppress(OSError), self._at((*top, *path), make=True) as place:
                put(place, content, os.O_CREAT | os.O_TRUNC)
                os.utime(place[1], ns=(when, when), dir_fd=place[0], follow_symlinks=False)
        for path, _content in members:
            with contextlib.suppress(OSError), self._at((*top, *path[:-1])) as (folder, name):
                os.utime(name, ns=(when, when), dir_fd=folder, follow_symlinks=False)

    def _check_out(self) -> None:
        """As git between two branches: what only the old one has goes, what differs is made anew."""
        top, branch = self._path(), self._random.randrange(3)
        for number in range(12):
            path = (*top, b"%d" % (number % 3), b"%d" % number)
            with contextlib.suppress(OSError), self._at(path, make=True) as place:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(place[1], dir_fd=place[0])
                if (number + branch) % 3:
                    put(place, b"%d %d" % (branch, number), os.O_CREAT | os.O_EXCL)
            with contextlib.suppress(OSError), self._at(path[:-1]) as (folder, name):
                os.rmdir(name, dir_fd=folder)


if __name__ == "__main__":
    seed, operations, seconds, root, outside, *more = sys.argv[1:]
    Churn(seed, Path(root), Path(outside), links="links" in more).run(int(operations), float(seconds))
