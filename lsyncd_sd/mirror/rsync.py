# SPDX-License-Identifier: GPL-2.0-or-later
"""Mirrors with rsync: carries full syncs and batches to one target and reports what became of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from dataclasses import replace
from functools import partial

from lsyncd_sd.config.model import Sync, TargetKind
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.aftermath import Aftermath, parents_of
from lsyncd_sd.mirror.command import (
    RECURSIVE_SHAPES,
    Commands,
    Run,
    Shape,
    percent,
    statistics,
)
from lsyncd_sd.mirror.connection import Connection
from lsyncd_sd.mirror.counting import count
from lsyncd_sd.mirror.leftovers import Leftovers
from lsyncd_sd.mirror.localtarget import identity_of_target
from lsyncd_sd.mirror.nanoseconds import NanosecondProbe
from lsyncd_sd.mirror.opensource import OpenSource
from lsyncd_sd.mirror.outcome import Outcome, Verdict, judge
from lsyncd_sd.mirror.password import variables_with
from lsyncd_sd.mirror.process import OnExit, OnOutput, Process, Result, start_command
from lsyncd_sd.mirror.report import Report, nothing_done, whole_failure
from lsyncd_sd.mirror.steps import Start, Steps
from lsyncd_sd.plan.batch import LONGEST_LISTED, Kind, Mark, Marks, Sample, build
from lsyncd_sd.plan.change import Depth, Move
from lsyncd_sd.plan.deletions import Deletions
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Identity

_BATCH_SHAPES = (
    Shape.EXACT_ENTRIES,
    Shape.ENTRIES,
    Shape.EXACT_SUBTREES,
    Shape.SUBTREES,
    Shape.EXACT_CONTENTS,
    Shape.CONTENTS,
    Shape.LEVELS,
    Shape.UNREAD_LEVELS,
)


class RsyncMirror:
    """One sync's way to one target. Its steps are run one at a time, by a `Task`."""

    def __init__(
        self,
        loop: Loop,
        sync: Sync,
        filters: Filter,
        open_source: Callable[[], OpenSource],
        on_percent: Callable[[int], None],
        connection: Connection | None = None,
    ) -> None:
        """Begin without having touched anything; with a `connection`, all commands go over it."""
        self._loop = loop
        self._sync = sync
        self._filters = filters
        self._open_source = open_source
        self._on_percent = on_percent
        self._overrides = dict(sync.exit_codes)
        self.commands = Commands(sync, filters)
        self._connection = connection
        if connection is not None:
            self.commands.connection = connection.words
        self._keeps_links = sync.rsync.is_on("hard_links")
        self._nanoseconds = NanosecondProbe(
            sync, filters, self.commands, open_source, self._start, self._one_run
        )
        self._is_confine_probed = False
        # Called with each run just before its command is started.
        self.on_run: Callable[[Run], None] = lambda _run: None
        # Of runs that broke off, where nothing else would remove their temporary files.
        self.leftovers = Leftovers(sync, filters, self.commands, open_source, self._one_run)
        self._aftermath = Aftermath(sync, self.commands, self.leftovers)
        # Of the batch that was built last, what could not be listed.
        self._too_long: set[bytes] = set()

    # ------------------------------------------------------------------ what is asked of a mirror

    def reach(self) -> Steps[Verdict]:
        """See that there is a connection to the target, where one is kept."""
        if self._connection is None:
            return Verdict(Outcome.OK, "", 0)
        return (yield from self._connection.ready())

    def close(self) -> None:
        """Nothing more will be asked for."""
        if self._connection is not None:
            self._connection.close()

    def target_identity(self) -> Steps[Identity | Verdict | None]:
        """Return which directory a local target is, None if it is missing; a verdict if it is silent."""
        assert self._sync.target.kind is TargetKind.LOCAL
        return (yield from identity_of_target(self._loop, self._sync.target.path))

    def use_target(self, identity: Identity | None) -> None:
        """A local target was found in order: this directory, or none yet. rsync finds it by its path."""

    def presence(self) -> Steps[Verdict]:
        """Return how a run ended that needs nothing but the target's root."""
        report = yield from self._one_run(self.commands.presence_run)
        return report.verdict

    def count_full_sync(self) -> Steps[Deletions | Verdict]:
        """Return what a full sync would delete now, with its repetition; a verdict if that cannot be known.

        A run skips its deletions where it meets what cannot be read; the repetition leaves that out.
        """
        makers = [lambda: self._full_run(may_create=False)]
        with self._unreadable_kept() as known:
            counted = yield from count(self._one_run, makers)
            if self.commands.unreadable - known:
                counted = yield from count(self._one_run, makers)
            return counted

    def count_batch(self, marks: Marks) -> Steps[Deletions | Verdict]:
        """Return what a batch of `marks` would delete now; a verdict if that cannot be known."""
        makers: list[Callable[[], Run | None]] = [
            partial(self._batch_run, marks, shape) for shape in _BATCH_SHAPES
        ]
        makers += [lambda run=run: run for run in self._gone_runs(marks)]  # type: ignore[misc]
        with self._unreadable_kept():
            return (yield from count(self._one_run, makers))

    @contextlib.contextmanager
    def _unreadable_kept(self) -> Iterator[frozenset[bytes]]:
        """Give what is known as unreadable, and forget at the end what a count has found besides.

        Left out by the run itself, from the first on, it would be told to nobody.
        """
        known = frozenset(self.commands.unreadable)
        try:
            yield known
        finally:
            self.commands.unreadable = set(known)

    def needs_counting(self, marks: Marks, limit: int) -> bool:
        """Tell whether a batch of `marks` may delete more than `limit`, as far as can be seen here."""
        with self._open_source() as source:
            batch = build(marks, source.kind, self._filters.hides)
        # A link that was followed is a whole tree on the target.
        is_unbounded = batch.is_unbounded or self._sync.follows_links
        return self.commands.batches_delete and (is_unbounded or len(batch.gone) > limit)

    def find_traits(self, sample: Sample | None) -> Steps[Report]:
        """Find out by trying what both ends can do; the report tells whether the target can be used.

        The sample is sent and looked at again. Without one it stays open, until a batch sends one, whether
        the target keeps nanoseconds.
        """
        with self._open_source() as source:
            # The configured path may lead over symlinks, and only now is it sure to be there.
            self.commands.source_root = os.readlink(f"/proc/self/fd/{source.descriptor}")
        if not self._is_confine_probed:
            result = yield self._start(self.commands.confine_probe(), in_source=False)
            self.commands.traits = replace(self.commands.traits, confines=result.code == 0)
            # 1 is the answer of an rsync that does not know it; anything else is no answer.
            self._is_confine_probed = result.code in (0, 1)
        if not self._nanoseconds.is_open or sample is None:
            return nothing_done()
        marks = {sample.path: Mark(Depth.ENTRY, exact=True)}
        report = yield from self._one_run(partial(self._batch_run, marks, Shape.EXACT_ENTRIES))
        if report.verdict.outcome is Outcome.OK:
            yield from self._nanoseconds.look_again(sample)
        elif report.verdict.outcome is Outcome.TARGET_MISSING:
            # The first full sync creates it; another one says so itself.
            return nothing_done()
        return report

    def full_sync(self, *, may_create: bool, sample: Sample | None) -> Steps[Report]:
        """Make the whole target equal; `may_create` only for the very first one."""
        removes = self.commands.full_sync_removes_leftovers
        if not removes:
            cleaned = yield from self.leftovers.remove()
            is_made = may_create and cleaned.verdict.outcome is Outcome.TARGET_MISSING
            if _prevents(cleaned) and not is_made:
                return cleaned
        report = yield from self._full_sync(may_create, sample)
        if not report.is_whole:
            self.leftovers.settle(everywhere=removes)
        return report

    def _full_sync(self, may_create: bool, sample: Sample | None) -> Steps[Report]:
        run = self._full_run(may_create=may_create)
        report = yield from self._one_run(lambda: self._full_run(may_create=may_create), run)
        self.commands.owes_deletions = (
            report.verdict.outcome is Outcome.PARTIAL and self.commands.full_sync_deletes
        )
        if report.verdict.outcome is Outcome.OK and self._nanoseconds.is_open:
            yield from self._nanoseconds.ask_after(run, sample)
            if self.commands.traits.nanoseconds:
                # It has taken times of the same second for equal: those of the directories it made, too.
                report.again[b""] = Mark(Depth.SUBTREE, exact=False)
        return report

    def moved(self, moves: Iterable[Move], unconfirmed: Collection[Move]) -> None:
        """These were made on the target, or perhaps were: what was left behind there has moved along."""
        self.leftovers.moved(moves, unconfirmed)

    def batch(self, marks: Marks) -> Steps[Report]:
        """Make the target right for `marks`; what stands at a path is looked up just before each run."""
        cleaned = yield from self.leftovers.remove()
        if _prevents(cleaned):
            return whole_failure(cleaned, marks)
        report = yield from self._batch(marks)
        if not report.is_whole:
            self.leftovers.settle()
        return report

    def _batch(self, marks: Marks) -> Steps[Report]:
        total = nothing_done()
        for shape in _BATCH_SHAPES:
            run = self._batch_run(marks, shape)
            if run is None:
                continue
            sample = self._nanoseconds.sample_of(run)
            report = yield from self._one_run(partial(self._batch_run, marks, shape), run)
            self._note_deletions(shape, run, report)
            total.add(report)
            if report.is_whole:
                return whole_failure(total, marks)
            if report.verdict.outcome is Outcome.OK and self._nanoseconds.is_open:
                yield from self._nanoseconds.ask_after(run, sample)
                if self.commands.traits.nanoseconds:
                    # Until now times of the same second were taken for equal.
                    total.again[b""] = Mark(Depth.SUBTREE, exact=False)
        for run in self._gone_runs(marks):
            report = yield from self._one_run(lambda run=run: run)  # type: ignore[misc]
            total.add(report)
            if report.is_whole:
                return whole_failure(total, marks)
        if self._too_long:
            total.add(_not_listed(self._too_long, marks))
        return total

    def large(self, marks: Marks) -> Steps[Report]:
        """Send the files of `marks` while other runs go on; what is no file any more is left to those."""
        with self._open_source() as source:
            others = {path: mark for path, mark in marks.items() if source.kind(path) is not Kind.OTHER}
        files = {path: mark for path, mark in marks.items() if path not in others}
        report = yield from self._one_run(partial(self._batch_run, files, Shape.LARGE))
        report.again.update(others)
        # At its end the run gave their directories the times that they had when it began.
        report.again.update(dict.fromkeys(parents_of(files), Mark(Depth.ENTRY, exact=False)))
        return whole_failure(report, files) if report.is_whole else report

    def _note_deletions(self, shape: Shape, run: Run, report: Report) -> None:
        """What was read again is left out no more; a full sync's deletions are done with its repetition."""
        if report.verdict.outcome is not Outcome.OK:
            return
        if shape in (Shape.EXACT_ENTRIES, Shape.EXACT_SUBTREES):
            self._forget_read(run.paths)
        elif shape is Shape.UNREAD_LEVELS:
            self.commands.unread_levels -= run.paths
        elif shape is Shape.SUBTREES and b"" in run.paths:
            self.commands.owes_deletions = False

    # ------------------------------------------------------------------ one run

    def _full_run(self, *, may_create: bool) -> Run:
        with self._open_source() as source:
            self._forget_gone(source)
        return self.commands.full_run(may_create=may_create)

    def _forget_read(self, paths: Set[bytes]) -> None:
        """What was sent can be read; of a link that is to be followed, only where it leads can tell."""
        if self._sync.follows_links and not paths.isdisjoint(self.commands.unreadable):
            with self._open_source() as source:
                paths = {path for path in paths if not source.is_link(path)}
        self.commands.unreadable -= paths

    def _forget_gone(self, source: OpenSource) -> None:
        """What is gone could be read no better; but left out, it would be kept on the target."""
        self.commands.unreadable = {
            path
            for path in self.commands.unreadable
            if source.kind(path) is not Kind.MISSING
            and not (self._sync.follows_links and source.leads_somewhere(path))
        }
        self.commands.unread_levels = {
            path for path in self.commands.unread_levels if source.kind(path) is Kind.DIRECTORY
        }

    def _batch_run(self, marks: Marks, shape: Shape) -> Run | None:
        with self._open_source() as source:
            self._forget_gone(source)
            batch = build(marks, source.kind, self._filters.hides, keeps_links=self._keeps_links)
            self._too_long = batch.too_long
            if self._sync.follows_links:
                batch.follow_links(source.is_link)
            return self.commands.batch_run(batch, shape)

    def _gone_runs(self, marks: Marks) -> Iterable[Run]:
        if not self.commands.deletes_by_name:
            return ()
        with self._open_source() as source:
            return self.commands.gone_runs(build(marks, source.kind, self._filters.hides).gone)

    def _one_run(
        self,
        make: Callable[[], Run | None],
        run: Run | None = None,
        on_output: OnOutput | None = None,
    ) -> Steps[Report]:
        """Run what `make` returns; once more without `-s` where the target turns out to be rrsync.

        `run` is what it has returned just now, if the caller had to look at it. `on_output` is shown all
        that the run says.
        """
        run = run or make()
        if run is None:
            return nothing_done()
        result = yield self._start(run, on_output=on_output)
        verdict = self._judge(result)
        if verdict.outcome is Outcome.RESTRICTED and self.commands.traits.secluded:
            self.commands.traits = replace(self.commands.traits, secluded=False, nanoseconds=False)
            run = make()
            if run is None:
                return nothing_done()
            result = yield self._start(run, on_output=on_output)
            verdict = self._judge(result)
        deleted, allowance = statistics(result.output).deleted, self.commands.allowance
        if allowance is not None and run.shape is not Shape.LEFTOVERS:
            if deleted > allowance:
                verdict = Verdict(Outcome.BRAKE, f"as many as {deleted} entries were deleted", result.code)
            self.commands.allowance = max(0, allowance - deleted)
        return self._aftermath.report(run, result, verdict)

    def _judge(self, result: Result) -> Verdict:
        verdict = judge(result, self._overrides)
        words = self._connection.last_words if self._connection is not None else ""
        if words and verdict.outcome is Outcome.CONNECTION:
            # What went over the connection knows only that it has ended.
            return replace(verdict, message=words)
        return verdict

    def _start(self, run: Run, *, in_source: bool = True, on_output: OnOutput | None = None) -> Start:
        def start(on_exit: OnExit) -> Process:
            if not in_source:
                return start_command(self._loop, run.arguments, on_exit, stdin=run.stdin)
            self.on_run(run)
            with self._open_source() as source:
                process = start_command(
                    self._loop,
                    run.arguments,
                    on_exit,
                    stdin=run.stdin,
                    directory=source.descriptor,
                    variables=variables_with(self._sync.rsync.password_file),
                )
            if on_output is not None:
                process.show_output(on_output)
            elif run.shape in RECURSIVE_SHAPES:
                process.show_output(self._pass_percent)
            return process

        return start

    def _pass_percent(self, output: bytes) -> None:
        found = percent(output)
        if found is not None:
            self._on_percent(found)


def _prevents(cleaned: Report) -> bool:
    """Tell whether it is no use to go on after the target could not be cleaned.

    A target may refuse all that deletes, and take everything else.
    """
    return cleaned.is_whole and cleaned.verdict.outcome is not Outcome.FAIL


def _not_listed(paths: set[bytes], marks: Marks) -> Report:
    """Return the report of what is too long for rsync to be told of."""
    message = f"longer than the {LONGEST_LISTED} bytes of a path that rsync can be told"
    failed = {path: marks.get(path, Mark(Depth.ENTRY, exact=True)) for path in paths}
    return Report(Verdict(Outcome.PARTIAL, message, 0), failed)
