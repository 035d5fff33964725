# SPDX-License-Identifier: GPL-2.0-or-later
"""What a full sync and a batch consist of: first the guards, then the mirror, then what is remembered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lsyncd_sd.config.model import Sync, TargetKind
from lsyncd_sd.mirror.moving import USABLE, Moved, Mover, make_moves
from lsyncd_sd.mirror.outcome import Outcome
from lsyncd_sd.mirror.report import Report, whole_failure
from lsyncd_sd.mirror.rsync import RsyncMirror
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.batch import Mark, Marks, Sample
from lsyncd_sd.plan.change import Change, Depth, Move
from lsyncd_sd.plan.collator import Load
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Identity, Size
from lsyncd_sd.service.guards import Guards, Sight
from lsyncd_sd.service.interruptions import HostBusyError, SourceLostError
from lsyncd_sd.service.journal import Journal
from lsyncd_sd.service.ledger import Ledger
from lsyncd_sd.service.links import LinkedNames
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.mounted import Mounted
from lsyncd_sd.service.sourceside import SourceGate
from lsyncd_sd.service.state import Record, Store


class Errands:
    """The errands of one sync to one target; owns what is remembered of them (the state file)."""

    def __init__(
        self,
        sync: Sync,
        filters: Filter,
        gate: SourceGate,
        mirror: RsyncMirror,
        mover: Mover | None,
        links: LinkedNames,
        ledger: Ledger,
        store: Store,
        locks: Locks,
        journal: Journal,
    ) -> None:
        self._sync = sync
        self._filters = filters
        self._gate = gate
        self._mirror = mirror
        self._mover = mover
        # Whether moves can be made on the target, as far as is known.
        self.can_move = mover is not None
        # Of the batch that was taken last, the moves of which nobody knows that they were made.
        self.unconfirmed: tuple[Move, ...] = ()
        self._links = links
        self._mounted = Mounted(sync, filters)
        self._ledger = ledger
        self._store = store
        self._locks = locks
        self._journal = journal
        self._record = self._saved = record = store.load()
        # Whether the process before this one was killed, and nobody has said yet where it was at work.
        self._was_killed = record.is_unclean
        size = Size(record.entries, record.peak, time.monotonic())
        self._guards = Guards(sync, mirror, size)
        mirror.on_run = ledger.run_begins
        mirror.commands.traits = replace(
            mirror.commands.traits,
            nanoseconds=self._record.nanoseconds,
            secluded=self._record.secluded,
        )

    def accept(self, token: str) -> None:
        """The operator has released the hold of this token, and no other one."""
        self._guards.accept(token)

    def source_came(self) -> None:
        """The source is watched from now on: what it is and holds may have changed before."""
        self._guards.source_came()

    @property
    def full_sync_deletes(self) -> bool:
        """Whether a full sync deletes on the target at all."""
        return self._mirror.commands.full_sync_deletes

    def full_sync(self, on_look: Callable[[], None], on_begin: Callable[[], None]) -> Steps[Report]:
        """Make the whole target equal.

        `on_look` is called when it is its turn, `on_begin` when the guards are passed: until then nothing is
        changed. Raises one of INTERRUPTIONS if it must not or cannot begin.
        """
        if self._sync.target.kind is TargetKind.LOCAL:
            return (yield from self._full_sync(on_look, on_begin))
        slot = self._locks.take_host_slot(self._sync.target.host)
        if slot is None:
            raise HostBusyError
        try:
            return (yield from self._full_sync(on_look, on_begin))
        finally:
            os.close(slot)

    def batch(self, take_load: Callable[[], Load], on_begin: Callable[[], None]) -> Steps[Report]:
        """Make the target right for moves and marks, which are taken when the target is found in order.

        The moves go first: they delete nothing. `on_begin` is called when what the marks would delete may be
        deleted; until then nothing else is changed.
        """
        self.unconfirmed = ()
        sight = self._look_at_source()
        yield from self._guards.before_batch(self._record, sight)
        load = take_load()
        self.unconfirmed = load.moves
        marks = yield from self._links.bring_along(load.marks)
        with self._ledger.at_work(marks, load.moves):
            moved = yield from self._make_moves(load.moves)
            if moved.verdict.outcome is not Outcome.OK:
                return whole_failure(Report(moved.verdict), marks)
            allowance = yield from self._guards.before_runs(self._record, marks)
            on_begin()
            report = yield from self._carry_out(allowance, self._mirror.batch(marks))
        report.moved = len(load.moves) - len(moved.unconfirmed)
        report.not_moved, report.refusal = len(moved.unconfirmed), moved.refusal
        self._note_size(self._guards.size.entries + report.done.made - report.done.deleted)
        if not report.is_whole:
            self._guards.carried_out()
        self._remember(self._record)
        return report

    def _make_moves(self, moves: tuple[Move, ...]) -> Steps[Moved]:
        if not moves:
            return Moved()
        assert self._mover is not None, "nobody takes moves"
        may_replace = self._guards.may_replace(self._record)
        moved = yield from make_moves(self._mover, moves, self._mirror.commands.in_lane, may_replace)
        self.unconfirmed = moved.unconfirmed
        self._mirror.moved(moves, moved.unconfirmed)
        self._note_size(self._guards.size.entries - moved.replaced)
        if moved.verdict.outcome is Outcome.RESTRICTED:
            self.can_move = False
            self._journal.warning(
                f"the login at {self._sync.target.host} gives no shell ({moved.verdict.message}): until a "
                "restart, what moves in the source is sent again",
            )
            return replace(moved, verdict=USABLE)
        return moved

    def close(self) -> None:
        """Nothing is under way any more, and nothing more will be asked for."""
        self._mirror.close()
        self._remember(replace(self._record, is_unclean=self._was_killed or bool(self._mirror.leftovers)))

    def saw(self, changes: Sequence[Change | Move]) -> None:
        """All this changed in the source."""
        self._mirror.leftovers.saw(changes)

    def expect_leftovers(self, marks: Marks) -> None:
        """Runs have begun on these: if they were of a process that was killed, they were not ended."""
        if self._was_killed:
            self._was_killed = False
            self._mirror.leftovers.expect(marks)

    def large_among(self, marks: Marks) -> set[bytes]:
        """Return the files among `marks` that are to be sent in a lane of their own."""
        limit = self._sync.batch_size_limit
        if limit is None:
            return set()
        # Of the others only attributes are sent.
        paths = [path for path, mark in marks.items() if mark.exact and not mark.depth & ~Depth.ENTRY]
        with self._gate.open() as source:
            return source.larger_than(limit, paths)

    def large(self, marks: Marks) -> Steps[Report]:
        """Send large files beside whatever runs, which leaves them alone from now until `lane_is_empty`."""
        self._mirror.commands.in_lane = frozenset(marks)
        return self._large(marks)

    def _large(self, marks: Marks) -> Steps[Report]:
        yield from self._guards.before_batch(self._record, self._look_at_source())
        marks = yield from self._links.bring_along(marks)
        self._mirror.commands.in_lane = frozenset(marks)
        self._ledger.intend(marks)
        self._remember(replace(self._record, is_unclean=True))
        return (yield from self._mirror.large(marks))

    def lane_is_empty(self) -> None:
        """No large file is being sent any more."""
        self._mirror.commands.in_lane = frozenset()

    def note_emptiness(self) -> None:
        """Remember whether the source holds anything: an empty one after a restart is suspicious then."""
        try:
            with self._gate.open() as source:
                had_entries = not source.is_empty(self._filters.excludes)
        except (SourceLostError, OSError):
            return
        memory = replace(self._record.memory, source_had_entries=had_entries)
        self._remember(replace(self._record, memory=memory))

    def _look_at_source(self) -> Sight:
        """Return what the guards want to know of it. Raises SourceLostError."""
        try:
            with self._gate.open() as source:
                is_empty = source.is_empty(self._filters.excludes)
                return Sight(source.identity(), is_empty, self._mounted.look())
        except OSError as error:
            raise SourceLostError(str(error)) from None

    def _find_sample(self) -> Sample | None:
        with self._gate.open() as source:
            return source.find_sample(self._filters.excludes)

    def _full_sync(self, on_look: Callable[[], None], on_begin: Callable[[], None]) -> Steps[Report]:
        sight, sample = self._look_at_source(), self._find_sample()
        on_look()
        allowance = yield from self._guards.before_full_sync(self._record, sight)
        on_begin()
        self._guards.full_sync_begins()
        if self._guards.is_other_target:
            self._was_killed = False
            self._mirror.leftovers.forget()
        # Wherever that was at work.
        self.expect_leftovers({b"": Mark(Depth.SUBTREE, exact=False)})
        # On disk before anything is sent: what a broken-off run leaves is not somebody else's.
        self._remember(replace(self._record, is_ours=True, is_unclean=True))
        probed = yield from self._carry_out(allowance, self._mirror.find_traits(sample))
        if probed.is_whole:
            return probed
        may_create = not self._record.was_mirrored
        if may_create and allowance is not None and sample is not None:
            # It was sent just now, with the directories above it, and may be gone again.
            allowance += sample.path.count(b"/") + 1
        report = yield from self._carry_out(
            allowance, self._mirror.full_sync(may_create=may_create, sample=sample)
        )
        if not report.is_whole:
            if report.done.listed:
                # All but the root itself. Without a figure, what was known before is nearer.
                self._note_size(report.done.listed - 1)
            self._guards.carried_out()
            yield from self._remember_roots(sight)
        report.done = report.done.plus(probed.done)
        return report

    def _carry_out(self, allowance: int | None, steps: Steps[Report]) -> Steps[Report]:
        """Let the mirror do something, and delete no more than it is allowed."""
        self._mirror.commands.allowance = allowance
        self._remember(replace(self._record, is_unclean=True))
        report = yield from steps
        is_stopped = report.verdict.outcome is Outcome.BRAKE
        self._remember(replace(self._record, is_stopped=is_stopped))
        return report

    def _note_size(self, entries: int) -> None:
        self._guards.size.set(max(0, entries), time.monotonic())

    def _remember_roots(self, sight: Sight) -> Steps[None]:
        """After a full sync: what the two roots are from now on."""
        target: Identity | None = None
        if self._sync.target.kind is TargetKind.LOCAL:
            answer = yield from self._mirror.target_identity()
            if answer is None:
                # Whatever rsync said: the target was not made, and may be made by the next one.
                return
            target = answer if isinstance(answer, Identity) else self._record.memory.target
        memory = replace(
            self._record.memory,
            source=sight.identity,
            source_had_entries=not sight.is_empty,
            mounts=sight.mounts,
            target=target,
        )
        self._remember(replace(self._record, memory=memory, was_mirrored=True))

    def _remember(self, record: Record) -> None:
        traits, size = self._mirror.commands.traits, self._guards.size
        record = replace(
            record,
            entries=size.entries,
            peak=size.peak,
            nanoseconds=traits.nanoseconds,
            secluded=traits.secluded,
        )
        # After a dry run, the target is what it was: the next one is as much the first as this one.
        if self._sync.is_dry_run:
            return
        self._record = record
        if not _is_worth_writing(record, self._saved):
            return
        self._saved = record
        try:
            self._store.save(record)
        except OSError as error:
            self._journal.error(
                f"cannot write {self._store.path}: {error.strerror}; after a restart the guards "
                "against an emptied or replaced source know less",
                errno=error.errno or 0,
            )


def _is_worth_writing(record: Record, saved: Record) -> bool:
    """Tell whether anything changed, but for a few entries more or less: every batch brings those."""
    few = saved.entries // 10
    return (
        replace(record, entries=saved.entries, peak=saved.peak) != saved
        or abs(record.entries - saved.entries) > few
        or abs(record.peak - saved.peak) > few
    )
