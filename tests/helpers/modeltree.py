# SPDX-License-Identifier: GPL-2.0-or-later
"""A source held in memory: the operations of helpers/trees.py, and the changes that a watcher would read.

Every change is told with the path that it had when it happened, as a watcher computes it from what it read
before; what makes that difficult in reality is left to the tests with a kernel.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count
from types import TracebackType
from typing import Any

from helpers.trees import FILE_TIME, Entry, Snapshot, Spot, join, parent_of, spot_in

from lsyncd_sd.plan.batch import Kind, Sample
from lsyncd_sd.plan.change import Change, Depth, Move, Sign
from lsyncd_sd.plan.filters import Filter


class ImpossibleError(Exception):
    """The kernel would refuse."""


class Inode:
    """A file ("f"), directory ("d") or symlink ("l"); `inside` are the names of a directory."""

    def __init__(self, kind: str, content: bytes = b"", mode: int = 0o644, mtime: int = FILE_TIME) -> None:
        self.kind = kind
        self.content = content
        self.mode = mode
        self.mtime = mtime
        self.inside: dict[bytes, Inode] = {}


class ModelTree:
    """The source. `told` counts all changes that were ever put into the queue.

    `states` is what the tree held after each operation, by the number of changes told then.
    """

    path = b"/source"

    def __init__(self, filters: Filter) -> None:
        self._filters = filters
        self._contents = count()
        self._clock = count(1_000_000_000)
        self._root = Inode("d", mode=0o755, mtime=next(self._clock))
        self._outside: dict[bytes, Inode] = {}
        self._queue: deque[tuple[int, Change | Move]] = deque()
        self.told = 0
        self.states: dict[int, Snapshot] = {}

    # ------------------------------------------------------------------ looking

    def entries(self) -> Snapshot:
        """Return all that the tree holds."""
        found: Snapshot = {}
        pending = [(b"", self._root)]
        while pending:
            path, inode = pending.pop()
            mode = 0 if inode.kind == "l" else inode.mode
            found[path] = Entry(inode.kind, inode.content, mode, inode.mtime)
            pending += [(join(path, name), below) for name, below in inode.inside.items()]
        return found

    def look(self) -> ModelSource:
        """Return it as a mirror sees it."""
        return ModelSource(self.entries())

    def _at(self, path: bytes) -> Inode:
        inode = self._root
        for name in path.split(b"/") if path else ():
            if name not in inode.inside:
                raise ImpossibleError
            inode = inode.inside[name]
        return inode

    # ------------------------------------------------------------------ telling

    @property
    def read_up_to(self) -> int:
        """The number of the last change that was read, or lost."""
        return self._queue[0][0] - 1 if self._queue else self.told

    def lose(self) -> None:
        """Throw away what is queued."""
        self._queue.clear()

    def _tell(self, change: Change | Move) -> None:
        self.told += 1
        self._queue.append((self.told, change))

    def _tell_of(
        self, path: bytes, inode: Inode, sign: Sign, *, exact: bool = True, whole: bool = False
    ) -> None:
        is_directory = inode.kind == "d"
        if parent_of(path) and self._filters.hides(parent_of(path), True):
            return
        if self._filters.excludes(path, is_directory):
            if sign in (Sign.CAME, Sign.ARRIVED, Sign.WENT):
                self._tell(Change(parent_of(path), Depth.ENTRY, False))
            return
        depth = Depth.SUBTREE if whole and is_directory else Depth.ENTRY
        self._tell(Change(path, depth, exact, sign))

    def _tell_move(self, old: bytes, new: bytes, inode: Inode) -> None:
        is_directory = inode.kind == "d"
        is_alike = not is_directory or self._filters.hides_alike(old, new)
        hides = self._filters.hides
        if not is_alike or hides(old, is_directory) or hides(new, is_directory):
            self._tell_of(old, inode, Sign.WENT, whole=True)
            self._tell_of(new, inode, Sign.ARRIVED, whole=True)
        else:
            self._tell(Move(old, new, is_directory))

    # ------------------------------------------------------------------ names

    def _put(self, path: bytes, inode: Inode) -> None:
        parent, name = self._at(parent_of(path)), path.rpartition(b"/")[2]
        if parent.kind != "d" or not path:
            raise ImpossibleError
        parent.inside[name] = inode
        parent.mtime = next(self._clock)

    def _take(self, path: bytes) -> Inode:
        inode = self._at(path)
        if not path:
            raise ImpossibleError
        parent = self._at(parent_of(path))
        del parent.inside[path.rpartition(b"/")[2]]
        parent.mtime = next(self._clock)
        return inode

    def _create(self, path: bytes, inode: Inode) -> None:
        with contextlib.suppress(ImpossibleError):
            self._at(path)
            raise FileExistsError
        self._put(path, inode)
        self._tell_of(path, inode, Sign.CAME, whole=True)

    # ------------------------------------------------------------------ operations

    def do(self, operation: tuple[Any, ...]) -> None:
        """Carry out one operation, named by the method and followed by its arguments, if it is possible."""
        name, *arguments = operation
        with contextlib.suppress(ImpossibleError, FileExistsError):
            getattr(self, name)(*(self._found(argument) for argument in arguments))
        self.states[self.told] = self.entries()

    def _found(self, argument: object) -> object:
        return self.spot(argument) if isinstance(argument, Spot) else argument

    def spot(self, spot: Spot) -> bytes:
        """Return the path that a spot stands for now."""
        return spot_in(self.entries(), spot)

    def write(self, path: bytes) -> None:
        with contextlib.suppress(FileExistsError):
            self._create(path, Inode("f"))
        self.append(path)
        self.close(path)

    def append(self, path: bytes) -> None:
        """Write, and keep the file open."""
        inode = self._file(path)
        inode.content, inode.mtime = b"%08d" % next(self._contents), FILE_TIME
        self._tell_of(path, inode, Sign.OPEN)

    def close(self, path: bytes) -> None:
        """Close a file that was open for writing."""
        self._tell_of(path, self._file(path), Sign.CHANGED)

    def _file(self, path: bytes) -> Inode:
        inode = self._at(path)
        if inode.kind != "f":
            raise ImpossibleError
        return inode

    def touch(self, path: bytes, seconds: int) -> None:
        inode = self._at(path)
        inode.mtime = FILE_TIME + seconds * 1_000_000_000
        self._tell_of(path, inode, Sign.CHANGED, exact=False)

    def chmod(self, path: bytes, mode: int) -> None:
        inode = self._at(path)
        if inode.kind != "l":
            inode.mode = mode
            self._tell_of(path, inode, Sign.CHANGED, exact=False)

    def mkdir(self, path: bytes) -> None:
        self._create(path, Inode("d", mode=0o755, mtime=next(self._clock)))

    def deep(self, path: bytes) -> None:
        end = path.find(b"/")
        while end != -1:
            with contextlib.suppress(FileExistsError):
                self.mkdir(path[:end])
            end = path.find(b"/", end + 1)
        with contextlib.suppress(FileExistsError):
            self.mkdir(path)
        self.write(path + b"/f")

    def rmdir(self, path: bytes) -> None:
        if self._at(path).kind != "d" or self._at(path).inside:
            raise ImpossibleError
        self._tell_of(path, self._take(path), Sign.WENT, whole=True)

    def remove(self, path: bytes) -> None:
        for name in list(self._at(path).inside):
            self.remove(join(path, name))
        self._tell_of(path, self._take(path), Sign.WENT, whole=True)

    def rename(self, old: bytes, new: bytes) -> None:
        inode = self._at(old)
        if not old or not new or old == new or (new + b"/").startswith(old + b"/"):
            raise ImpossibleError
        if self._at(parent_of(new)).kind != "d":
            raise ImpossibleError
        with contextlib.suppress(ImpossibleError):
            self._check_replaceable(inode, self._at(new))
        self._take(old)
        self._put(new, inode)
        self._tell_move(old, new, inode)

    def _check_replaceable(self, inode: Inode, there: Inode) -> None:
        if there.inside or (inode.kind == "d") != (there.kind == "d"):
            raise FileExistsError

    def exchange(self, one: bytes, other: bytes) -> None:
        if (one + b"/").startswith(other + b"/") or (other + b"/").startswith(one + b"/"):
            raise ImpossibleError
        here, there = self._at(one), self._at(other)
        self._put(one, there)
        self._put(other, here)
        self._tell_move(one, other, here)
        if self._filters.hides(one, there.kind == "d") or self._filters.hides(other, there.kind == "d"):
            self._tell_move(other, one, there)
            return
        # The watcher recognizes the move back.
        for path in (one, other):
            self._tell(Change(path, Depth.SUBTREE, True, Sign.ARRIVED))

    def symlink(self, path: bytes, target: bytes) -> None:
        self._create(path, Inode("l", target, mtime=next(self._clock)))

    def swap(self, path: bytes, kind: str) -> None:
        self.remove(path)
        match kind:
            case "f":
                self.write(path)
            case "d":
                self.mkdir(path)
            case "l":
                self.symlink(path, b"/secret")

    def move_out(self, path: bytes, name: bytes) -> None:
        inode = self._at(path)
        if name in self._outside:
            self._check_replaceable(inode, self._outside[name])
        self._outside[name] = self._take(path)
        self._tell_of(path, inode, Sign.WENT, whole=True)

    def move_in(self, name: bytes, path: bytes) -> None:
        if name not in self._outside:
            raise ImpossibleError
        inode = self._outside[name]
        with contextlib.suppress(ImpossibleError):
            self._check_replaceable(inode, self._at(path))
        self._put(path, inode)
        del self._outside[name]
        self._tell_of(path, inode, Sign.ARRIVED, whole=True)

    # ------------------------------------------------------------------ reading

    def read(self, changes: int, torn: int, unseen: bool) -> list[Change | Move]:
        """Return so many changes, as a watcher reads them.

        The bits of `torn` say which of the moves come as two halves that belong to nothing. `unseen`: what
        happened in a new directory before its change was read is not told: nobody had a watch there yet.
        """
        read: list[Change | Move] = []
        while self._queue and len(read) < changes:
            _number, change = self._queue.popleft()
            if isinstance(change, Move):
                if torn & 1:
                    depth = Depth.SUBTREE if change.is_directory else Depth.ENTRY
                    read.append(Change(change.old, depth, True, Sign.WENT))
                    change = Change(change.new, depth, True, Sign.ARRIVED)
                torn >>= 1
            read.append(change)
            came = isinstance(change, Change) and change.sign in (Sign.CAME, Sign.ARRIVED)
            if unseen and came and change.depth & Depth.SUBTREE:
                self._queue = deque(_seen_from_outside(change.path, self._queue))
        return read


def _seen_from_outside(
    directory: bytes, queue: Iterable[tuple[int, Change | Move]]
) -> Iterator[tuple[int, Change | Move]]:
    """Yield what of a queue is told if nobody watches `directory` and what is in it."""
    inside: bytes | None = directory + b"/"
    for number, change in queue:
        if inside is None:
            yield number, change
        elif isinstance(change, Change):
            if not change.path.startswith(inside):
                yield number, change
                if change.path + b"/" == inside and change.sign is not Sign.CHANGED:
                    inside = None
        else:
            depth = Depth.SUBTREE if change.is_directory else Depth.ENTRY
            left, entered = change.old.startswith(inside), change.new.startswith(inside)
            if left and not entered:
                yield number, Change(change.new, depth, True, Sign.ARRIVED)
            elif entered and not left:
                yield number, Change(change.old, depth, True, Sign.WENT)
            elif not left:
                yield number, change
                inside = _renamed(inside, change)


def _renamed(inside: bytes, move: Move) -> bytes | None:
    if inside == move.new + b"/":
        return None
    if inside.startswith(move.old + b"/"):
        return move.new + inside[len(move.old) :]
    return inside


class ModelSource:
    """One view of the tree, as a mirror asks for it."""

    descriptor = 0

    def __init__(self, entries: Snapshot) -> None:
        self._entries = entries

    def __enter__(self) -> ModelSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def kind(self, path: bytes) -> Kind:
        entry = self._entries.get(path)
        if entry is None:
            return Kind.MISSING
        return Kind.DIRECTORY if entry.kind == "d" else Kind.OTHER

    def names(self, directory: bytes) -> list[bytes]:
        return [path.rpartition(b"/")[2] for path in self._entries if path and parent_of(path) == directory]

    def sample_among(self, _paths: object) -> Sample | None:
        return None

    def is_unchanged(self, _sample: Sample) -> bool:
        return False
