# SPDX-License-Identifier: GPL-2.0-or-later
"""Says what one run has done, and what of it must be tried again, by how it ended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from dataclasses import replace

from lsyncd_sd.config.model import Sync
from lsyncd_sd.mirror.attribution import Attribution, attribute
from lsyncd_sd.mirror.command import RECURSIVE_SHAPES, Commands, Run, Shape, statistics
from lsyncd_sd.mirror.leftovers import Leftovers
from lsyncd_sd.mirror.outcome import Outcome, Verdict, never_began
from lsyncd_sd.mirror.process import Result
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Depth

# They write files into the directories of the listed paths: what was listed as a subtree, too, may have
# become a file by the time it is sent.
_LISTED_SHAPES = frozenset(
    {Shape.LARGE, Shape.EXACT_ENTRIES, Shape.ENTRIES, Shape.EXACT_SUBTREES, Shape.SUBTREES}
)
_CONTENT_SHAPES = frozenset({Shape.EXACT_CONTENTS, Shape.CONTENTS})
_LEVEL_SHAPES = frozenset({Shape.LEVELS, Shape.UNREAD_LEVELS})

# Their messages are about what lies below the listed paths, too.
_SHAPES_NAMING_BELOW = RECURSIVE_SHAPES | _CONTENT_SHAPES | _LEVEL_SHAPES

# After these the run did not come to its end, and a temporary file may be left behind on the target.
_BROKEN_OFF = frozenset({Outcome.KILLED, Outcome.CUT_SHORT, Outcome.CONNECTION, Outcome.TARGET_FULL})


class Aftermath:
    """What follows from the runs of one sync; notes what cannot be read, and where something was left."""

    def __init__(self, sync: Sync, commands: Commands, leftovers: Leftovers) -> None:
        self._target = os.fsencode(sync.target.path.rstrip("/"))
        self._commands = commands
        self._leftovers = leftovers

    def report(self, run: Run, result: Result, verdict: Verdict) -> Report:
        """Return what became of the run."""
        report = Report(verdict, done=statistics(result.output), seconds=result.seconds)
        match verdict.outcome:
            case Outcome.OK:
                pass
            case Outcome.VANISHED:
                named = self._attribute(run, result).paths
                report.again = dict.fromkeys(named, Mark(Depth.ENTRY, exact=True))
            case Outcome.PARTIAL:
                report.failed = self._failed_in_part(run, self._attribute(run, result))
            case _:
                report.is_whole = True
                if verdict.outcome in _BROKEN_OFF and not run.is_dry and not never_began(result):
                    report.failed = self._broken_off(run)
        return report

    def left_behind(self, paths: Set[bytes]) -> dict[bytes, Mark]:
        """Beside these files a temporary one may be left on the target: see to it that it goes."""
        if self._commands.levels_remove_leftovers:
            return _levels_above(paths)
        self._leftovers.expect(dict.fromkeys(paths, Mark(Depth.ENTRY, exact=True)))
        return {}

    def _broken_off(self, run: Run) -> dict[bytes, Mark]:
        """Do the same for wherever a run was at work."""
        if not self._commands.levels_remove_leftovers:
            self._leftovers.broke_off(run)
            return {}
        # Whatever sends files without listing them also deletes when it is repeated, or the levels of its
        # batch do.
        return _levels_above(run.paths) if run.shape in _LISTED_SHAPES else {}

    def _attribute(self, run: Run, result: Result) -> Attribution:
        named_below = run.shape in _SHAPES_NAMING_BELOW
        named = attribute(
            result.errors,
            frozenset() if named_below else run.paths,
            run.paths if named_below else frozenset(),
            (os.fsencode(self._commands.source_root), self._target),
        )
        # Where nothing is named, nobody knows what failed.
        is_complete = named.complete and bool(named.paths) and not result.errors_cut
        return replace(named, complete=is_complete)

    def _failed_in_part(self, run: Run, named: Attribution) -> dict[bytes, Mark]:
        """Return what of a run with exit status 23 must be tried again.

        Its subtrees and levels in any case: where a directory could not be read, rsync has skipped all
        deletions of the run.
        """
        entries = {path: Mark(Depth.ENTRY, exact=True) for path in named.paths}
        if run.shape in RECURSIVE_SHAPES:
            # If every message names its file, the others were sent: no need to send them all again.
            mark = Mark(Depth.SUBTREE, exact=not named.complete and run.shape is Shape.EXACT_SUBTREES)
            # But a directory that could not be read: nothing below it was compared at all.
            unsent = dict.fromkeys(named.unsent, Mark(Depth.SUBTREE, exact=True))
            self._commands.unreadable |= named.unsent - run.paths
            return entries | dict.fromkeys(run.paths, mark) | unsent
        if run.shape in _CONTENT_SHAPES:
            mark = Mark(Depth.CONTENT, run.shape is Shape.EXACT_CONTENTS)
            return entries | dict.fromkeys(named.unsent & run.paths if named.complete else run.paths, mark)
        if run.shape in _LEVEL_SHAPES:
            self._note_unread(run, named)
            return {path: Mark(Depth.LEVEL, exact=False) for path in run.paths}
        if named.complete:
            return entries
        return {path: Mark(Depth.ENTRY, run.shape is Shape.EXACT_ENTRIES) for path in run.paths}

    def _note_unread(self, run: Run, named: Attribution) -> None:
        """Because of these nothing was deleted in any of the levels: next time, the others go without."""
        # A link that leads nowhere, where links are followed: with it left out, the level can delete.
        self._commands.unreadable |= named.unsent - run.paths
        unread = (named.unsent | parents_of(named.unsent)) & run.paths
        if named.complete:
            self._commands.unread_levels -= run.paths
        self._commands.unread_levels |= unread


def _levels_above(paths: Set[bytes]) -> dict[bytes, Mark]:
    return dict.fromkeys(parents_of(paths), Mark(Depth.LEVEL, exact=False))


def parents_of(paths: Iterable[bytes]) -> set[bytes]:
    """Return the directories that hold these paths."""
    return {path.rpartition(b"/")[0] for path in paths}
