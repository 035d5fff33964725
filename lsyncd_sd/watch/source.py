# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at the source as it is now: its root's identity, whether it is empty, and what stands at a path."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from lsyncd_sd.opening import PATH_BYTES, open_directory
from lsyncd_sd.plan.batch import Kind, Sample
from lsyncd_sd.plan.guard import Identity
from lsyncd_sd.watch.links import Inode

# How many entries are looked at for a sample: enough for any ordinary tree, and no walk of a huge one.
SAMPLE_SEARCH_ENTRIES = 2000
SAMPLE_LARGEST_BYTES = 1024 * 1024


class Source:
    """The source's root, held open for as long as one batch is built and started.

    Nothing stays open between batches: an open directory would keep its file system from being unmounted.
    Use it as a context manager. With `one_file_system`, what is mounted below the root is not entered.
    Raises OSError from the constructor: ENOENT, ENOTDIR, EACCES.
    """

    def __init__(self, path: bytes, *, one_file_system: bool = False) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # As rsync does it: a bind mount of the same file system does not count.
        self._device = os.fstat(self.descriptor).st_dev if one_file_system else None
        self._kinds: dict[bytes, Kind] = {}

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the root; may be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def identity(self) -> Identity:
        """Return which directory this is: file system and inode."""
        return identity_of(self.descriptor)

    def is_empty(self, is_excluded: Callable[[bytes, bool], bool]) -> bool:
        """Tell whether the root holds nothing to mirror.

        `lost+found` alone is what a new file system looks like, and what is excluded does not count.
        Raises OSError.
        """
        with os.scandir(self.descriptor) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                is_directory = entry.is_dir(follow_symlinks=False)
                if not is_excluded(name, is_directory) and not (is_directory and name == b"lost+found"):
                    return False
        return True

    def kind(self, path: bytes) -> Kind:
        """Return what stands at `path` (relative) without following a symlink in any component.

        `Kind.MISSING` also when a component above is missing or is not a directory. Answers are
        remembered: one batch is built from one view of the tree.
        """
        if not path:
            return Kind.DIRECTORY
        known = self._kinds.get(path)
        if known is None:
            parent = path.rpartition(b"/")[0]
            known = self._lstat(path) if self.kind(parent) is Kind.DIRECTORY else Kind.MISSING
            self._kinds[path] = known
        return known

    def kind_followed(self, path: bytes) -> Kind:
        """Return what stands at `path`, or what a symlink there leads to, and any above it."""
        try:
            status = os.stat(path or b".", dir_fd=self.descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return Kind.MISSING
        except OSError:
            return Kind.OTHER
        return Kind.DIRECTORY if stat.S_ISDIR(status.st_mode) else Kind.OTHER

    def names(self, directory: bytes) -> list[bytes]:
        """Return the names in a directory (relative); none if there is no such directory."""
        try:
            descriptor = open_directory(self.descriptor, directory)
        except OSError:
            return []
        try:
            return [os.fsencode(name) for name in os.listdir(descriptor)]
        finally:
            os.close(descriptor)

    def is_link(self, path: bytes) -> bool:
        """Tell whether a symlink stands at `path` (relative, looked up before)."""
        try:
            return stat.S_ISLNK(os.lstat(path, dir_fd=self.descriptor).st_mode)
        except OSError:
            return False

    def leads_somewhere(self, path: bytes) -> bool:
        """Tell whether a symlink stands at `path` that leads to something, wherever that is."""
        try:
            os.stat(path, dir_fd=self.descriptor)
        except OSError:
            return False
        return self.is_link(path)

    def larger_than(self, limit: int, paths: Iterable[bytes]) -> set[bytes]:
        """Return those of `paths` that are regular files of more than `limit` bytes."""
        found = set()
        for path in paths:
            with contextlib.suppress(OSError):
                status = os.lstat(path, dir_fd=self.descriptor)
                if stat.S_ISREG(status.st_mode) and status.st_size > limit:
                    found.add(path)
        return found

    def is_file(self, path: bytes, inode: Inode) -> bool:
        """Tell whether `path` is a name of this very file."""
        try:
            status = os.lstat(path, dir_fd=self.descriptor)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) == inode

    def find_sample(
        self, is_excluded: Callable[[bytes, bool], bool], below: Iterable[bytes] = (b"",)
    ) -> Sample | None:
        """Return a small regular file whose modification time has broken seconds, None if none is near.

        It is searched for in the directories `below`, and in those that they hold.
        """
        pending = list(below)
        left = SAMPLE_SEARCH_ENTRIES
        while pending and left > 0:
            directory = pending.pop()
            for name, status in itertools.islice(self._entries(directory), left):
                left -= 1
                path = directory + b"/" + name if directory else name
                is_directory = stat.S_ISDIR(status.st_mode)
                if is_excluded(path, is_directory):
                    continue
                if is_directory:
                    if self._is_entered(status):
                        pending.append(path)
                elif _is_sample(status):
                    return Sample(path, _signature(status))
        return None

    def sample_among(self, paths: Iterable[bytes]) -> Sample | None:
        """Return the first of `paths` (relative, looked up before) that can be a sample, or None."""
        for path in itertools.islice(paths, SAMPLE_SEARCH_ENTRIES):
            try:
                status = os.lstat(path, dir_fd=self.descriptor)
            except OSError:
                continue
            if _is_sample(status):
                return Sample(path, _signature(status))
        return None

    def directory_among(self, paths: Iterable[bytes]) -> Sample | None:
        """Return the first of `paths` (relative, looked up before) that is a directory with such a time."""
        for path in itertools.islice(paths, SAMPLE_SEARCH_ENTRIES):
            try:
                status = os.lstat(path or b".", dir_fd=self.descriptor)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode) and _has_broken_seconds(status):
                return Sample(path, _signature(status))
        return None

    def is_unchanged(self, sample: Sample) -> bool:
        """Tell whether a sample is what it was when it was chosen."""
        try:
            return _signature(os.lstat(sample.path or b".", dir_fd=self.descriptor)) == sample.signature
        except OSError:
            return False

    def _entries(self, directory: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
        try:
            descriptor = os.open(
                directory or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.descriptor
            )
        except OSError:
            return
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        yield os.fsencode(entry.name), entry.stat(follow_symlinks=False)
        finally:
            os.close(descriptor)

    def _lstat(self, path: bytes) -> Kind:
        try:
            status = self._status(path)
        except (FileNotFoundError, NotADirectoryError):
            return Kind.MISSING
        except OSError:
            # Not to be looked at is not gone: rsync will say what is the matter, and it is tried again.
            return Kind.OTHER
        if not stat.S_ISDIR(status.st_mode):
            return Kind.OTHER
        return Kind.DIRECTORY if self._is_entered(status) else Kind.MOUNT

    def _is_entered(self, directory: os.stat_result) -> bool:
        return self._device is None or directory.st_dev == self._device

    def _status(self, path: bytes) -> os.stat_result:
        if len(path) <= PATH_BYTES:
            return os.lstat(path, dir_fd=self.descriptor)
        parent, _slash, name = path.rpartition(b"/")
        directory = open_directory(self.descriptor, parent)
        try:
            return os.lstat(name, dir_fd=directory)
        finally:
            os.close(directory)


def identity_of(target: int | bytes) -> Identity:
    """Return the identity of an open descriptor or a path: f_fsid of statvfs(3) and the inode number.

    st_dev is no part of it: it changes over reboots for the same file system.
    """
    return Identity(os.statvfs(target).f_fsid, os.stat(target).st_ino)


def _signature(status: os.stat_result) -> tuple[int, ...]:
    # The time of the last change of the inode cannot be set by programs: it tells of every other change.
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_sample(status: os.stat_result) -> bool:
    return (
        stat.S_ISREG(status.st_mode)
        and bool(status.st_mode & 0o400)
        and status.st_size <= SAMPLE_LARGEST_BYTES
        and _has_broken_seconds(status)
    )


def _has_broken_seconds(status: os.stat_result) -> bool:
    return status.st_mtime_ns % 1_000_000_000 != 0
