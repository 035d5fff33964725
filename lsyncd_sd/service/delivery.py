# SPDX-License-Identifier: GPL-2.0-or-later
"""The way of one sync's changes to one target: when to dispatch, whether it is safe, what to do on failure.

It owns the collator. Nothing here waits: everything that touches the target is a step of a `Task`.
"""

from __future__ import annotations

import itertools
import random
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from lsyncd_sd.config.model import Sync
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.mirror.modes import mirror_of
from lsyncd_sd.mirror.outcome import PATIENCE, BackOff, Outcome, Verdict
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.steps import Task
from lsyncd_sd.plan.batch import Marks
from lsyncd_sd.plan.change import Change, Move
from lsyncd_sd.plan.collator import Collator, Load
from lsyncd_sd.plan.guard import Hold
from lsyncd_sd.printable import visible
from lsyncd_sd.service.callbacks import Callbacks
from lsyncd_sd.service.checkpoint import Checkpoints
from lsyncd_sd.service.environment import ssh_socket
from lsyncd_sd.service.errands import Errands
from lsyncd_sd.service.figures import PATHS_PER_ENTRY, Figures
from lsyncd_sd.service.fullsyncs import FullSyncs, Stamp
from lsyncd_sd.service.interruptions import (
    INTERRUPTIONS,
    HeldError,
    HostBusyError,
    TroubleError,
    UnsettledError,
)
from lsyncd_sd.service.journal import Journal
from lsyncd_sd.service.lane import Lane
from lsyncd_sd.service.ledger import Ledger, Look
from lsyncd_sd.service.limits import limits_of
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.permits import Permits
from lsyncd_sd.service.sourceside import SourceSide
from lsyncd_sd.service.standing import Standing, state_of
from lsyncd_sd.service.state import Store
from lsyncd_sd.service.status import State
from lsyncd_sd.service.tries import Tries

# After so many failed tries of the same paths the sync is shown as degraded; it goes on trying.
TRIES_BEFORE_DEGRADED = 3

# How often a full sync that waits for others to the same host asks whether it is its turn.
HOST_BUSY_SECONDS = 2.0


class Delivery:
    """One queue to one target; it and the worker keep the `standing` that the user sees."""

    def __init__(
        self,
        loop: Loop,
        sync: Sync,
        source: SourceSide,
        store: Store,
        checkpoints: Checkpoints,
        locks: Locks,
        runtime: Path,
        permits: Permits,
        journal: Journal,
        standing: Standing,
        callbacks: Callbacks,
    ) -> None:
        self._loop = loop
        self._sync = sync
        self._source = source
        self._permits = permits
        self._journal = journal
        self._standing = standing
        self._callbacks = callbacks
        filters, gate = source.filters, source.gate
        socket = ssh_socket(runtime, sync.name, sync.target.text)
        mirror, mover = mirror_of(loop, sync, filters, gate.open, self._progress, socket)
        self._collator = Collator(limits_of(sync, makes_moves=mover is not None), filters.may_move)
        # Nobody has watched until now.
        self._collator.rescan_begins()
        look = Look(source.catch_up, source.table, self._is_blind)
        self._ledger = Ledger(loop, sync.source, checkpoints, journal, self._collator, look)
        self._errands = Errands(
            sync, filters, gate, mirror, mover, source.links, self._ledger, store, locks, journal
        )
        back_off = BackOff(random.Random())  # noqa: S311  (jitter, not a secret)
        self._lane = Lane(loop, self._collator, self._errands, permits, back_off, self._lane_ended)
        self._tries = Tries(BackOff(random.Random()))  # noqa: S311  (jitter, not a secret)
        self._is_settled = False
        self._is_rescanning = False
        self._full_syncs = FullSyncs()
        # The collator's stamp of when the whole tree had to be looked at once more.
        self._once_more = 0
        self._flight_paths: list[bytes] = []
        self._timer: Timer | None = None
        self._task: Task | None = None
        self._on_stopped: Callable[[], None] | None = None
        self.figures = Figures(journal, is_dry_run=sync.is_dry_run)
        if sync.is_dry_run:
            standing.set_blind_spot("dry run", "dry_run: nothing is changed on the target")

    # ------------------------------------------------------------------ what the worker tells

    @property
    def pending(self) -> int:
        """The number of changes known and not yet on the target."""
        return len(self._collator)

    @property
    def failures(self) -> int:
        """The number of failures in a row."""
        return self._tries.failures

    @property
    def hold(self) -> Hold | None:
        """What the target is held for, None if it is not."""
        return self._tries.hold

    @property
    def wants_full_sync(self) -> bool:
        """Whether nothing less than a full sync can make the target right."""
        return self._full_syncs.are_needed

    def source_ready(self) -> None:
        """The source is watched from now on; what was missed is told by a rescan, or by a full sync."""
        self._errands.source_came()
        self._is_settled = True

    def rescan_begins(self, reason: str, intents: Marks) -> None:
        """Changes will be added that happened while nobody watched; runs may have begun on `intents`."""
        self._errands.expect_leftovers(intents)
        self._is_rescanning = True
        self._collator.rescan_begins()
        self._standing.enter(State.RESCANNING, reason)

    def rescan_ends(self) -> None:
        """All changes that nobody saw have been added; what follows is for `proceed` to see."""
        self._is_rescanning = False
        self._collator.rescan_ends()

    def source_lost(self) -> None:
        """Dispatch nothing until `source_ready`; what runs is cut short, for it may see an empty tree."""
        self._is_rescanning = False
        self._collator.rescan_begins()
        self._is_settled = False
        self._cut_short()
        self._arm(None)

    def add(self, changes: Sequence[Change | Move], *, is_settled: bool) -> None:
        """Take in changes; nothing is dispatched before `is_settled`: some directory is not watched yet.

        Nor before `proceed`, which may read more: by then everybody must have these.
        """
        self._collator.add(changes, self._loop.now())
        self._errands.saw(changes)
        self._is_settled = is_settled

    def proceed(self) -> None:
        """See what follows from the changes that were added."""
        if self._collator.needs_rescan and not self.wants_full_sync:
            self._callbacks.on_blind()
        self._poke()

    def caught_up(self) -> None:
        """All that had happened in the source when this is called was added."""
        self._collator.caught_up()

    def request_full_sync(self, reason: str) -> None:
        """Have a full sync, as soon as what runs has ended."""
        self._want_full_sync(reason)
        self._tries.at_once()
        self._poke()

    def _want_full_sync(self, reason: str) -> None:
        if self._full_syncs.want(reason):
            self._ledger.forget()

    def expedite(self) -> None:
        """Wait for nothing any more, neither the end of the delay nor the next try after a failure."""
        self._collator.expedite(self._loop.now())
        self._lane.expedite()
        self._tries.at_once()
        self._poke()

    def accept(self, hold: Hold) -> None:
        """Somebody has agreed to what this hold stands for."""
        self._errands.accept(hold.token)
        self._tries.at_once()
        self._poke()

    @property
    def is_ready(self) -> bool:
        """Whether the source is watched and may be mirrored."""
        return self._source.is_watched

    def stamp(self) -> Stamp:
        """Return what stands for everything that is not on the target now, as far as it is known."""
        return Stamp(self._collator.stamp(), self._full_syncs.number_of_next())

    def is_mirrored(self, stamp: Stamp) -> bool:
        """Tell whether everything that the stamp stands for is on the target."""
        dirty = max(stamp.dirty, self._once_more)
        return self._full_syncs.are_done(stamp.full_syncs) and self._collator.is_done(dirty)

    def stop(self, grace: float, on_stopped: Callable[[], None]) -> None:
        """Let what runs finish for at most `grace` seconds, then cut it short; then call `on_stopped`."""
        self._on_stopped = on_stopped
        self._ledger.stop()
        self._arm(None)
        if self._is_idle:
            self._errands.close()
            on_stopped()
        else:
            self._loop.call_later(grace, self._cut_short)

    @property
    def _is_idle(self) -> bool:
        return self._task is None and not self._lane.is_busy

    def _cut_short(self) -> None:
        if self._task is not None:
            self._task.cut_short()
        self._lane.cut_short()

    # ------------------------------------------------------------------ what is next

    def _poke(self) -> None:
        """Begin what is due, or arm the timer for it."""
        if self._task is not None or self._on_stopped is not None or not self.is_ready:
            return
        due = self._due_at()
        if not self._full_syncs.wanted:
            self._lane.begin()
        if due is None:
            self._arm(None)
            if self._lane.is_needed:
                if not self._lane.has_failed:
                    self._show_syncing()
                return
            self._standing.enter(State.RESCANNING if self._is_rescanning else State.IN_SYNC)
            self._ledger.consider()
        elif due > self._loop.now():
            self._arm(due)
            if self._is_untroubled():
                self._standing.enter(State.RESCANNING if self._is_rescanning else State.PENDING)
            self._callbacks.on_progress()
        elif self._is_settled and not (self._full_syncs.wanted and self._lane.is_busy):
            if self._permits.take(self._poke):
                self._begin()
            elif self._tries.are_good:
                state = State.STARTING if self._full_syncs.wanted else State.PENDING
                self._standing.enter(state, "waits for its turn: as many run as max_processes allows")

    def _is_blind(self) -> bool:
        """Whether more is wrong on the target than is known, or the source is not there."""
        is_behind = self._is_rescanning or self._collator.needs_rescan
        return is_behind or self.wants_full_sync or not self.is_ready

    def _is_untroubled(self) -> bool:
        """Whether nothing but the delay keeps the target from being equal."""
        return not self._full_syncs.wanted and self._tries.are_good and self._collator.troubled is None

    def _due_at(self) -> float | None:
        if self._full_syncs.wanted:
            return self._tries.not_before
        due = self._collator.due_at()
        return None if due is None else max(due, self._tries.not_before)

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._loop.call_at(when, self._poke)

    def _begin(self) -> None:
        self._arm(None)
        if self._full_syncs.begin():
            steps = self._errands.full_sync(self._show_full_sync, self._full_sync_begins)
        else:
            steps = self._errands.batch(self._take_load, self._batch_begins)
        self._task = Task(steps, self._done, self._interrupted, INTERRUPTIONS)
        self._task.start()

    def _show_full_sync(self) -> None:
        if self._tries.are_good:
            self._standing.enter(State.FULL_SYNC, self._full_syncs.under_way)

    def _full_sync_begins(self) -> None:
        self._catch_up()
        self._tries.released()
        self._show_full_sync()
        # Whatever was seen until here is on disk now, where the full sync will find (nearly) all of it.
        self._collator.full_sync_begins(deletes=self._errands.full_sync_deletes)

    def _take_load(self) -> Load:
        self._catch_up()
        self._show_syncing()
        load = self._collator.take(self._loop.now())
        self._flight_paths = list(itertools.islice(load.paths(), PATHS_PER_ENTRY))
        self._collator.set_apart(self._errands.large_among(load.marks))
        self._lane.begin()
        return load

    def _show_syncing(self) -> None:
        if self._tries.are_good and self._collator.troubled is None:
            self._standing.enter(State.SYNCING)

    def _batch_begins(self) -> None:
        self._tries.released()
        self._show_syncing()

    def _catch_up(self) -> None:
        """Take in what happened while the guards were asked: less of it is sent ahead, and then again."""
        if not self._source.catch_up():
            raise UnsettledError

    # ------------------------------------------------------------------ how it ended

    def _done(self, report: Report) -> None:
        self._task = None
        if not self._errands.can_move:
            self._collator.make_no_moves()
        self.figures.full_sync_percent = None
        if report.is_whole:
            self._want_again()
            self._failed_as_a_whole(report)
        else:
            self._succeeded(report)
        self._full_syncs.end(succeeded=not report.is_whole)
        self._permits.give_back()
        self._after_task()

    def _want_again(self) -> None:
        """A full sync that did not come to its end is still wanted."""
        if self._full_syncs.under_way:
            self._want_full_sync(self._full_syncs.under_way)

    def _succeeded(self, report: Report) -> None:
        now = self._loop.now()
        self._tries.succeeded()
        again = (Change(path, mark.depth, mark.exact) for path, mark in report.again.items())
        self._collator.add(again, now)
        if report.failed:
            self._failed_in_part(report, now)
        else:
            self._collator.succeeded(self._errands.unconfirmed)
        if b"" in report.again:
            # What seemed to be right everywhere may not be: whoever waits for it has to wait for that, too.
            self._once_more = self._collator.stamp()
            self._collator.expedite(now)
        state = State.PENDING if len(self._collator) else State.IN_SYNC
        was_full_sync = bool(self._full_syncs.under_way)
        self.figures.count(report, state, None if was_full_sync else self._flight_paths)
        if not was_full_sync:
            self._errands.note_emptiness()

    def _failed_in_part(self, report: Report, now: float) -> None:
        wait = PATIENCE[report.verdict.outcome].seconds(self._collator.attempts())
        tries = self._collator.failed_in_part(report.failed, now, wait, self._errands.unconfirmed)
        state = State.DEGRADED if tries >= TRIES_BEFORE_DEGRADED else State.FAILING
        paths = sorted(report.failed)[:PATHS_PER_ENTRY]
        self._standing.enter(state, report.verdict.message, report.verdict.exit_status, paths)
        self._journal.debug(f"trying again in {wait:.0f} s, {tries} tries so far")

    def _failed_as_a_whole(self, report: Report) -> None:
        self._collator.failed(report.failed, self._loop.now(), self._errands.unconfirmed)
        self._trouble(report.verdict)

    def _interrupted(self, error: Exception) -> None:
        """The steps ended by themselves before they came to their end."""
        self._task = None
        self.figures.full_sync_percent = None
        self._collator.failed({}, self._loop.now(), self._errands.unconfirmed)
        self._want_again()
        self._full_syncs.end(succeeded=False)
        if isinstance(error, HeldError):
            self._held(error.hold)
        elif isinstance(error, TroubleError):
            self._trouble(error.verdict)
        elif isinstance(error, HostBusyError):
            self._tries.not_before = self._loop.now() + HOST_BUSY_SECONDS
            self._standing.enter(State.STARTING, "waits for other full syncs to the same host")
        elif isinstance(error, UnsettledError):
            # Whoever watches says when.
            self._is_settled = False
        elif self._on_stopped is None:
            self._callbacks.on_source_lost()
        self._permits.give_back()
        self._after_task()

    def _held(self, hold: Hold) -> None:
        self._tries.held(hold, self._loop.now())
        if hold.doubt:
            # Once it is gone, nothing short of a full sync is enough.
            self._want_full_sync("the sync was held")
        reason = f"{hold.reason}; {hold.hint}: lsyncd-sd accept {self._sync.name}"
        if self._sync.is_one_of_several:
            reason += f" {shlex.quote(visible(self._sync.target.text))}"
        self._standing.enter(State.HELD, reason, paths=hold.paths)

    def _trouble(self, verdict: Verdict) -> None:
        """The whole batch failed: wait, longer each time, and say so."""
        if self._on_stopped is not None or not self.is_ready:
            # We ended it ourselves, or what it was for.
            return
        wait = self._tries.failed(verdict.outcome, self._loop.now())
        if verdict.outcome is Outcome.TARGET_MISSING:
            self._want_full_sync("the target was missing")
        state = state_of(verdict.outcome)
        self._standing.enter(state, verdict.message, verdict.exit_status)
        self._journal.debug(f"trying again in {wait:.0f} s")

    def _lane_ended(self, report: Report | None) -> None:
        if report is not None:
            verdict, paths = report.verdict, sorted(report.failed)[:PATHS_PER_ENTRY]
            if paths:
                state = state_of(verdict.outcome)
                self._standing.enter(state, verdict.message, verdict.exit_status, paths)
            self.figures.count(report, self._standing.state, paths)
        self._after_task()

    def _after_task(self) -> None:
        self._callbacks.on_ended()
        if self._on_stopped is not None:
            if self._is_idle:
                self._errands.close()
                self._on_stopped()
        else:
            self._poke()
        self._callbacks.on_progress()

    # ------------------------------------------------------------------ figures

    def _progress(self, percent: int) -> None:
        if self._full_syncs.under_way and percent != self.figures.full_sync_percent:
            self.figures.full_sync_percent = percent
            # After an outage the old state is shown until the target answers: now it did.
            self._standing.enter(State.FULL_SYNC, self._full_syncs.under_way)
            self._callbacks.on_progress()
