# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells whether a collator knows all that is wrong on a target, at any moment, and not only in the end.

What is wrong: where the target, all moves made, differs from the source as the changes read so far describe
it. Each such path must be marked, deep and exact enough, or in the reach of a run whose end was not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy

from helpers.modelmoves import make_moves
from helpers.modelrsync import TEMPORARY_SUFFIX, Fault, ModelTarget
from helpers.trees import Entry, Snapshot, parent_of

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Depth, Move
from lsyncd_sd.plan.marktree import left_undone

Marks = Mapping[bytes, Mark]


def unknown(
    target: ModelTarget,
    moves: Sequence[Move],
    wanted: Snapshot,
    marks: Iterable[Marks],
    reach: Iterable[Marks],
    *,
    extra: bool,
) -> set[bytes]:
    """Return the paths that are wrong without anybody knowing it.

    `moves` are still to be made. `wanted` is the source as the changes that were read describe it. `extra`:
    whether the target may hold more than that.
    """
    trial = copy(target)
    trial.entries = dict(target.entries)
    undone = make_moves(trial, moves, Fault())
    known = [*marks, left_undone(moves, undone)]
    runs = list(reach)
    return {
        path
        for path in trial.entries.keys() | wanted.keys()
        if not _is_right(trial.entries.get(path), wanted.get(path), extra=extra)
        and not path.endswith(TEMPORARY_SUFFIX)
        and not any(_covers(some, path, trial.entries, wanted) for some in known)
        and not any(_reaches(some, path, trial.entries, wanted) for some in runs)
    }


def held_although_new(target: ModelTarget, marks: Marks) -> set[bytes]:
    """Return what is marked as new, and yet on the target."""
    return {path for path, mark in marks.items() if mark.is_new and path in target.entries}


def _is_right(held: Entry | None, wanted: Entry | None, *, extra: bool) -> bool:
    if held is None or wanted is None:
        return held is wanted or (extra and wanted is None)
    if held.kind == wanted.kind == "d":
        # Every run below a directory sets its time right; the final comparison sees it.
        return held.mode == wanted.mode
    return held == wanted


def _covers(marks: Marks, path: bytes, held: Snapshot, wanted: Snapshot) -> bool:
    """Tell whether a batch of these marks makes the path right, on a source that is `wanted`."""
    if path not in wanted:
        gone = next(above for above in _from_the_top(path) if above not in wanted)
        if wanted[parent_of(gone)].kind != "d":
            # It stands below a directory that must become something else, and goes with it.
            return _covers(marks, parent_of(gone), held, wanted)
        if any((marked + b"/").startswith(gone + b"/") for marked in marks):
            return True
        return _is_told(marks, gone, Depth.LEVEL | Depth.CONTENT, exact=False)
    return _is_told(marks, path, Depth.CONTENT, exact=_needs_exact(held.get(path), wanted[path]))


def _is_told(marks: Marks, path: bytes, by_parent: Depth, *, exact: bool) -> bool:
    """Tell whether there is a mark at the path, a subtree above it, or such a mark of its directory."""
    for above in _from_the_top(path):
        mark = marks.get(above)
        if mark is None or (exact and not mark.exact):
            continue
        is_enough = Depth.SUBTREE | (by_parent if above == parent_of(path) else Depth(0))
        if above == path or mark.depth & is_enough:
            return True
    return False


def _needs_exact(held: Entry | None, wanted: Entry) -> bool:
    return (
        held is not None
        and held.kind == wanted.kind == "f"
        and held.content != wanted.content
        and (len(held.content), held.mtime) == (len(wanted.content), wanted.mtime)
    )


def _reaches(marks: Marks, path: bytes, held: Snapshot, wanted: Snapshot) -> bool:
    """Tell whether a run with these marks may have made the path what it is."""
    for above in _from_the_top(path):
        mark = marks.get(above)
        if mark is None:
            continue
        is_parent = above == parent_of(path)
        if above == path or mark.depth & Depth.SUBTREE or (is_parent and mark.depth & Depth.CONTENT):
            return True
        if path not in held:
            # Deleted from its directory; or a file was put in the place of one above it.
            return True
        if above in wanted and wanted[above].kind != "d":
            # Left there by a run that saw a directory again.
            return True
    # What it listed may have needed directories to stand in.
    return any(marked.startswith(path + b"/") for marked in marks)


def _from_the_top(path: bytes) -> Iterator[bytes]:
    yield b""
    end = path.find(b"/")
    while end != -1:
        yield path[:end]
        end = path.find(b"/", end + 1)
    if path:
        yield path
