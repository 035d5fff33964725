# SPDX-License-Identifier: GPL-2.0-or-later
"""Removes from the target the temporary files of runs that did not come to their end.

Where such a run was at work, a dry run says what the target holds under such names. What can be ours of that
is deleted, name by name: docs/rsync.md, "Broken-off runs".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from itertools import islice

from lsyncd_sd.config.model import Sync
from lsyncd_sd.mirror.command import Commands, Run, Shape
from lsyncd_sd.mirror.counting import DeletedFiles, OneRun
from lsyncd_sd.mirror.opensource import OpenSource
from lsyncd_sd.mirror.report import Report, nothing_done
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.mirror.suspects import LookUp, Search, Suspects
from lsyncd_sd.plan.batch import Kind, Marks, is_below
from lsyncd_sd.plan.change import Change, Depth, Move, Sign
from lsyncd_sd.plan.filters import Filter

# Where a run writes files: under the names it lists, in the directories it lists, or anywhere below those.
_WRITES = {
    Shape.LARGE: Depth.ENTRY,
    Shape.EXACT_ENTRIES: Depth.ENTRY,
    Shape.ENTRIES: Depth.ENTRY,
    Shape.EXACT_SUBTREES: Depth.SUBTREE,
    Shape.SUBTREES: Depth.SUBTREE,
    Shape.EXACT_CONTENTS: Depth.CONTENT,
    Shape.CONTENTS: Depth.CONTENT,
    Shape.FULL: Depth.SUBTREE,
}

_NOWHERE = Depth(0)

# So many names that went are remembered, the last ones. A guess: while one run is under way.
MOST_GONE = 10_000


class Leftovers:
    """What is known of them on the target of one sync: where they may be."""

    def __init__(
        self,
        sync: Sync,
        filters: Filter,
        commands: Commands,
        open_source: Callable[[], OpenSource],
        one_run: OneRun,
    ) -> None:
        self._filters = filters
        self._commands = commands
        self._open_source = open_source
        self._one_run = one_run
        self._follows_links = sync.follows_links
        self._places: dict[bytes, Depth] = {}
        # Searched just now; to be searched again unless what comes after it succeeds.
        self._searched: dict[bytes, Depth] = {}
        # What went from the source since the first run began that did not come to its end, or the last one;
        # in the order of going.
        self._gone: dict[bytes, None] = {}

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return bool(self._places or self._searched)

    def broke_off(self, run: Run) -> None:
        """This run did not come to its end."""
        self._note(dict.fromkeys(run.paths, _WRITES.get(run.shape, _NOWHERE)))

    def expect(self, marks: Marks) -> None:
        """Runs for these marks, or with these lists, were killed together with whoever knew of them."""
        # At the depth of a level, they only deleted.
        self._note({path: mark.depth & ~Depth.LEVEL for path, mark in marks.items()})

    def saw(self, changes: Iterable[Change | Move]) -> None:
        """All this changed in the source: what went may have been sent before."""
        if self._are_impossible:
            return
        for change in changes:
            if isinstance(change, Move):
                self._gone[change.old] = None
            elif change.sign is Sign.WENT:
                self._gone[change.path] = None
        for path in list(islice(self._gone, max(0, len(self._gone) - MOST_GONE))):
            del self._gone[path]

    def moved(self, moves: Iterable[Move], unconfirmed: Collection[Move]) -> None:
        """These were made on the target, or perhaps were: what is in a directory has moved along."""
        self._note(self._searched)
        self._searched = {}
        for move in moves:
            if move.is_directory and self._places:
                self._move(move, is_sure=move not in unconfirmed)

    def _move(self, move: Move, *, is_sure: bool) -> None:
        for path, depth in list(self._places.items()):
            if path == move.old:
                # That of a file of this name lies beside it.
                gone = depth & ~Depth.ENTRY
            elif is_below(path, {move.old}):
                gone = depth
            else:
                if depth & Depth.SUBTREE and is_below(move.old, {path}):
                    self._note({move.new: Depth.SUBTREE})
                continue
            self._note({move.new + path[len(move.old) :]: gone})
            if is_sure:
                self._places[path] &= ~gone
                if not self._places[path]:
                    del self._places[path]

    def forget(self) -> None:
        """There are none any more, or none of ours."""
        self._places, self._searched = {}, {}

    def settle(self, *, everywhere: bool = False) -> None:
        """What came after `remove` has succeeded: the target was there, and was searched.

        `everywhere`: what has succeeded deletes all of them.
        """
        self._searched = {}
        if everywhere:
            self._places = {}

    def remove(self) -> Steps[Report]:
        """Remove those that can be found; a report that `is_whole` says that this was not possible."""
        self._note(self._searched)
        if not self._places:
            self._gone.clear()
        search = self._choose()
        if not self._searched:
            return nothing_done()
        said = DeletedFiles()
        for directories, recursive in ((search.levels(), False), (search.tops(), True)):
            make = partial(self._commands.search_run, directories, recursive=recursive)
            report = yield from self._one_run(make, on_output=said.take)
            if report.is_whole:
                return report
        with self._open_source() as source:
            suspects = Suspects(search, self._filters.hides, self._gone, self._look_up(source), source.names)
            found = [path for path in said.paths if suspects.is_ours(path)]
        for run in self._commands.leftover_runs(found):
            report = yield from self._one_run(partial(_same, run))
            if report.is_whole:
                return report
        return nothing_done()

    @property
    def _are_impossible(self) -> bool:
        """Whether there can be none, or levels delete them anyway."""
        return not self._commands.leaves_temporary_files or self._commands.levels_remove_leftovers

    def _note(self, places: Mapping[bytes, Depth]) -> None:
        if self._are_impossible:
            return
        for path, depth in places.items():
            if not path:
                # It has no name of its own.
                depth &= ~Depth.ENTRY
            if depth:
                self._places[path] = self._places.get(path, _NOWHERE) | depth

    def _choose(self) -> Search:
        """Move to what is searched the places that the source still has: elsewhere rsync does not look."""
        search = Search()
        with self._open_source() as source:
            places, self._places, self._searched = self._places, {}, {}
            look_up = self._look_up(source)
            for path, depth in places.items():
                for part in depth:
                    self._choose_one(path, part, look_up, search)
        return search

    def _choose_one(self, path: bytes, part: Depth, look_up: LookUp, search: Search) -> None:
        if part is not Depth.ENTRY and look_up(path) is Kind.OTHER:
            # It has become a file, perhaps just before it was sent.
            part = Depth.ENTRY
        kind = look_up(path.rpartition(b"/")[0] if part is Depth.ENTRY else path)
        if kind is Kind.DIRECTORY and not self._is_being_written(path, part):
            search.add(path, part)
            self._searched[path] = self._searched.get(path, _NOWHERE) | part
        elif not self._is_settled(kind):
            self._places[path] = self._places.get(path, _NOWHERE) | part

    def _look_up(self, source: OpenSource) -> LookUp:
        return source.kind_followed if self._follows_links else source.kind

    def _is_being_written(self, path: bytes, part: Depth) -> bool:
        return part is Depth.ENTRY and path in self._commands.in_lane

    def _is_settled(self, kind: Kind) -> bool:
        """Tell whether there can be none where such a thing stands in the place of a directory.

        What became something else is replaced on the target, with all it holds. What is gone is deleted; or,
        where nothing is deleted, its turn comes when it is back.
        """
        return kind is Kind.OTHER or (kind is Kind.MISSING and self._commands.batches_delete)


def _same(run: Run) -> Run:
    return run
