# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns dirty marks into the lists of one batch, by what the source holds at this moment.

Pure: what stands at a path is asked through a function that the caller gives. The lists follow four rules
that rsync's behaviour forces (docs/rsync.md): a path that is gone makes its nearest existing directory a
*level*; a path below something that is not a real directory is never listed, that component is; what a
subtree covers is listed nowhere else; what a filter hides is not listed, although its name may have to go.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lsyncd_sd.plan.change import Depth

# Of a list, rsync reads entries of 4095 bytes; ours begin with `./`, and a level ends with a slash. The rest
# it takes for nothing: what is longer would be some other path, or none, and no error.
LONGEST_LISTED = 4093


class Kind(enum.Enum):
    """What stands at a path of the source, symlinks not followed."""

    MISSING = "missing"
    DIRECTORY = "directory"
    MOUNT = "directory of another file system that is not to be entered"
    OTHER = "other"


class Sample(NamedTuple):
    """A file or directory that shows, sent and looked at again, whether the target keeps nanoseconds.

    `signature` changes with every change of it: one that changed meanwhile shows nothing.
    """

    path: bytes
    signature: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known about one dirty path; `is_new`: the target cannot hold anything there yet."""

    depth: Depth
    exact: bool
    is_new: bool = False
    covers_below: bool = field(init=False, repr=False, compare=False)
    """Whether no mark below it tells more: an exact subtree."""
    covers_entries: bool = field(init=False, repr=False, compare=False)
    """Whether no mark of an entry in this directory tells more, unless that one is exact and this is not."""
    _number: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "covers_below", self.exact and bool(self.depth & Depth.SUBTREE))
        set_field(self, "covers_entries", bool(self.depth & Depth.CONTENT))
        set_field(self, "_number", int(self.depth) + _EXACT * self.exact + _NEW * self.is_new)

    def merged(self, other: Mark) -> Mark:
        """Return the mark that promises what both promise; new is only what is new to both."""
        return self._either(other, self._number & other._number & _NEW)

    def renewed(self, other: Mark) -> Mark:
        """Return the mark that promises what both promise, as new as this one."""
        return self._either(other, self._number & _NEW)

    def _either(self, other: Mark, new: int) -> Mark:
        return _MARKS[(self._number | other._number) & ~_NEW | new]

    def aged(self) -> Mark:
        """Return the mark that is not new."""
        return _MARKS[self._number & ~_NEW]


# A mark's number: its depth and these. Flags of `enum` take a microsecond for what a table does at once, and
# 100,000 marks of a few kinds need not be 100,000 objects.
_EXACT, _NEW = 16, 32
_MARKS = [Mark(Depth(number % 16), bool(number & _EXACT), bool(number & _NEW)) for number in range(64)]


Marks = Mapping[bytes, Mark]


@dataclass(slots=True)
class Batch:
    """The lists of one dispatch; paths are relative to the source, the empty path is its root.

    `exact_entries`: sent whatever size and time say. `entries`: attributes, sent if they differ.
    `exact_subtrees` and `subtrees`: the same with everything below them. `exact_contents` and `contents`:
    directories of which every entry is sent, but nothing below those. `levels`: directories from which is
    deleted what the source does not hold; the directory's own attributes are made equal too. `gone`: the
    names that made levels of their directories, for a sync that deletes nothing else. `too_long`: paths that
    should be sent, but cannot be listed. `is_unbounded`: more than single names that were seen to go may be
    deleted.
    """

    exact_entries: set[bytes] = field(default_factory=set)
    entries: set[bytes] = field(default_factory=set)
    exact_subtrees: set[bytes] = field(default_factory=set)
    subtrees: set[bytes] = field(default_factory=set)
    levels: set[bytes] = field(default_factory=set)
    gone: set[bytes] = field(default_factory=set)
    exact_contents: set[bytes] = field(default_factory=set)
    contents: set[bytes] = field(default_factory=set)
    too_long: set[bytes] = field(default_factory=set)
    is_unbounded: bool = False

    def __len__(self) -> int:
        return sum(map(len, self._lists()))

    def follow_links(self, is_link: Callable[[bytes], bool]) -> None:
        """List whole whatever may be a symlink to a directory, for an rsync that is told to follow them."""
        links = {path for path in self.exact_entries | self.entries if is_link(path)}
        self.exact_entries -= links
        self.entries -= links
        self.exact_subtrees |= links | self.exact_contents
        self.subtrees |= self.contents
        self.exact_contents, self.contents = set(), set()

    def _lists(self) -> tuple[set[bytes], ...]:
        return (
            self.exact_entries,
            self.entries,
            self.exact_subtrees,
            self.subtrees,
            self.exact_contents,
            self.contents,
            self.levels,
        )


LookUp = Callable[[bytes], Kind]
IsHidden = Callable[[bytes, bool], bool]


def build(marks: Marks, kind_of: LookUp, is_hidden: IsHidden, *, keeps_links: bool = False) -> Batch:
    """Return the batch that makes the target right for `marks`.

    `kind_of(path)` must answer from one consistent look at the source; `is_hidden(path, is_directory)`
    tells what the filters exclude, by a rule for the path or for a directory above it. `keeps_links`: what
    is not a directory travels with the subtrees, because rsync links only what it sees in one run.
    """
    batch = Batch()
    for path, mark in marks.items():
        _list_one(batch, path, mark, kind_of, is_hidden)
    _drop_covered(batch)
    _drop_too_long(batch)
    batch.is_unbounded |= b"" in batch.levels
    if keeps_links and batch.exact_subtrees:
        files = {path for path in batch.exact_entries | batch.entries if kind_of(path) is Kind.OTHER}
        batch.exact_subtrees |= files
        batch.exact_entries -= files
        batch.entries -= files
    return batch


def _list_one(batch: Batch, path: bytes, mark: Mark, kind_of: LookUp, is_hidden: IsHidden) -> None:
    standing, kind, is_whole = _first_not_directory(path, kind_of)
    batch.is_unbounded |= not is_whole or _is_unbounded(path, mark)
    if kind is Kind.MISSING:
        batch.levels.add(_parent(standing))
        batch.gone.add(standing)
    elif is_hidden(standing, kind in (Kind.DIRECTORY, Kind.MOUNT)):
        # The filter may hide only what stands there now (`name/` hides directories): whether what the
        # target holds under the name must go is rsync's to decide, with the same filter.
        batch.levels.add(_parent(standing))
        batch.gone.add(standing)
    elif kind is Kind.DIRECTORY:
        _list_directory(batch, path, mark)
    elif kind is Kind.MOUNT:
        # Listed as anything else, rsync would begin there, and stay in that file system.
        batch.entries.add(standing)
    elif mark.exact or not is_whole:
        batch.exact_entries.add(standing)
    else:
        batch.entries.add(standing)


def _list_directory(batch: Batch, path: bytes, mark: Mark) -> None:
    if mark.depth & Depth.SUBTREE:
        (batch.exact_subtrees if mark.exact else batch.subtrees).add(path)
    elif path and not mark.depth & Depth.CONTENT:
        (batch.exact_entries if mark.exact else batch.entries).add(path)
    if mark.depth & Depth.CONTENT:
        (batch.exact_contents if mark.exact else batch.contents).add(path)
    # `./` cannot be listed as a mere entry: rsync would send what it contains. As a level the root gets its
    # attributes, and deletes nothing that the source has.
    if mark.depth & (Depth.LEVEL | Depth.CONTENT) or not (path or mark.depth & Depth.SUBTREE):
        batch.levels.add(path)


def _is_unbounded(path: bytes, mark: Mark) -> bool:
    """Tell whether more than this one name may have to be deleted."""
    if mark.depth & Depth.SUBTREE:
        return not mark.is_new
    return not path or bool(mark.depth & (Depth.LEVEL | Depth.CONTENT))


def _first_not_directory(path: bytes, kind_of: LookUp) -> tuple[bytes, Kind, bool]:
    """Return the first component that is not a real directory, or the path itself, and what it is."""
    end = path.find(b"/")
    while end != -1:
        ancestor = path[:end]
        kind = kind_of(ancestor)
        if kind is not Kind.DIRECTORY:
            return ancestor, kind, False
        end = path.find(b"/", end + 1)
    return path, kind_of(path), True


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _drop_covered(batch: Batch) -> None:
    """Drop what lies in a listed subtree, and what an exact list holds too."""
    if batch.exact_subtrees:
        covering = batch.exact_subtrees
        batch.exact_subtrees = {path for path in covering if not is_below(path, covering)}
        for paths in (
            batch.exact_entries,
            batch.entries,
            batch.subtrees,
            batch.exact_contents,
            batch.contents,
            batch.levels,
            batch.gone,
        ):
            _drop_below(paths, batch.exact_subtrees)
    if batch.subtrees:
        covering = batch.subtrees
        batch.subtrees = {path for path in covering if not is_below(path, covering)}
        # Not the exact ones: a subtree that is not exact promises less for them.
        for paths in (batch.entries, batch.contents, batch.levels):
            _drop_below(paths, batch.subtrees)
    batch.entries -= batch.exact_entries


def _drop_too_long(batch: Batch) -> None:
    for paths in (batch.exact_entries, batch.entries, batch.exact_subtrees, batch.subtrees):
        too_long = {path for path in paths if len(path) > LONGEST_LISTED}
        batch.too_long |= too_long
        paths -= too_long
    # What rsync could not send there is not on the target: there is nothing to delete.
    for paths in (batch.exact_contents, batch.contents, batch.levels):
        paths -= {path for path in paths if len(path) >= LONGEST_LISTED}


def _drop_below(paths: set[bytes], subtrees: set[bytes]) -> None:
    paths -= {path for path in paths if path in subtrees or is_below(path, subtrees)}


def is_below(path: bytes, directories: set[bytes]) -> bool:
    """Tell whether a directory above `path` is among `directories`."""
    if not path:
        return False
    if b"" in directories:
        return True
    end = path.find(b"/")
    while end != -1:
        if path[:end] in directories:
            return True
        end = path.find(b"/", end + 1)
    return False
