# SPDX-License-Identifier: GPL-2.0-or-later
"""Knows what a run under way, or one that ended just now, may have written on the target.

A run reads the source, which is ahead of the changes that were read. So until every change is read that was
queued up to the run's end, nobody can say what the target holds where the run was at work (B2 in
docs/collating.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.plan.marktree import MarkTree

# Runs whose end was not reached are kept one by one up to here; beyond, all of the target counts as written.
# A guess: that many batches end while a queue is read that is never empty.
MOST_RUNS = 8

_EVERYTHING = Mark(Depth.SUBTREE, exact=True)


class Reach:
    """The marks of these runs, and what else they listed."""

    def __init__(self) -> None:
        self._runs: list[MarkTree] = []
        self._listed = MarkTree()

    def __bool__(self) -> bool:
        return bool(self._runs)

    def begin(self, marks: MarkTree) -> None:
        """A run begins with these marks; they must not change from now on but to become fewer."""
        self._runs.append(marks)
        if len(self._runs) > MOST_RUNS:
            self.begin_everywhere()

    def begin_everywhere(self) -> None:
        """A run begins that may write anywhere."""
        everything = MarkTree()
        everything.put(b"", _EVERYTHING)
        self._runs = [everything]

    def add(self, paths: Iterable[bytes]) -> None:
        """The run that began last lists these paths besides its marks, or deletes from these directories."""
        for path in paths:
            self._listed.put(path, Mark(Depth.ENTRY | Depth.LEVEL, exact=False))

    def end(self) -> None:
        """No run is under way, and all was read that was queued up to the end of the last one."""
        if self._runs:
            self._runs = []
            self._listed = MarkTree()

    def is_clear_of(self, path: bytes) -> bool:
        """Tell whether no run can have written at or below `path`."""
        return all(marks.is_clean(path) for marks in (*self._runs, self._listed))

    def concerned(self, path: bytes) -> set[bytes]:
        """Return the paths at and below `path` that a run may have written."""
        return {found for marks in (*self._runs, self._listed) for found in marks.concerned(path)}
