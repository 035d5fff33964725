# SPDX-License-Identifier: GPL-2.0-or-later
"""The way of one sync's changes to one target: when to dispatch, whether it is safe, what to do on failure.

It owns the collator. Nothing here waits: everything that touches the
target is a step of a `Task`.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lsyncd_sd.config.model import Sync
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.mirror.outcome import PATIENCE, BackOff, Outcome, Verdict
from lsyncd_sd.mirror.rsync import Report, RsyncMirror
from lsyncd_sd.mirror.steps import Task
from lsyncd_sd.plan.batch import Marks
from lsyncd_sd.plan.change import Change, Move
from lsyncd_sd.plan.collator import Collator, Limits
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Hold, Identity
from lsyncd_sd.service.errands import Errands, SourceGate
from lsyncd_sd.service.interruptions import (
    INTERRUPTIONS,
    HeldError,
    HostBusyError,
    TroubleError,
    UnsettledError,
)
from lsyncd_sd.service.journal import Event, Journal
from lsyncd_sd.service.links import LinkedNames
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.standing import Standing
from lsyncd_sd.service.state import Store
from lsyncd_sd.service.status import State

# After so many failed tries of the same paths the sync is shown as degraded; it goes on trying.
TRIES_BEFORE_DEGRADED = 3

# How many of its paths an entry of the journal names.
PATHS_PER_ENTRY = 16

# How often a held sync looks whether the reason is gone (the source mounted again).
HOLD_RECHECK_SECONDS = 5.0


# How often a full sync that waits for others to the same host asks whether it is its turn.
HOST_BUSY_SECONDS = 2.0


@dataclass(slots=True)
class Figures:
    """What this process has done so far, for the status."""

    batches: int = 0
    files: int = 0
    bytes: int = 0
    last_batch: float | None = None
    full_sync_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """Everything that was not on the target at some moment.

    `dirty` is the collator's; `full_syncs`: the number of the full sync that was wanted then, 0 if none was.
    """

    dirty: int
    full_syncs: int


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a delivery asks of its worker, and what it tells.

    `catch_up`: read all that has happened until now; returns the time (ns of CLOCK_REALTIME) before which
    everything was seen, None if some directory is not watched yet. `on_progress`: the figures changed.
    `on_ended`: an errand came to its end. `on_source_lost`: the source is not there.
    """

    catch_up: Callable[[], int | None]
    on_progress: Callable[[], None]
    on_ended: Callable[[], None]
    on_source_lost: Callable[[], None]


_STATES = {
    Outcome.CONNECTION: State.UNREACHABLE,
    Outcome.TARGET_FULL: State.TARGET_FULL,
    Outcome.TARGET_MISSING: State.TARGET_MISSING,
    Outcome.BRAKE: State.HELD,
}


class Delivery:
    """One queue to one target; it and the worker keep the `standing` that the user sees."""

    def __init__(
        self,
        loop: Loop,
        sync: Sync,
        filters: Filter,
        store: Store,
        locks: Locks,
        journal: Journal,
        standing: Standing,
        callbacks: Callbacks,
        accepted: str,
    ) -> None:
        self._loop = loop
        self._sync = sync
        self._journal = journal
        self._standing = standing
        self._callbacks = callbacks
        self._collator = Collator(Limits(sync.delay, sync.max_changes, sync.open_file_delay))
        self._gate = SourceGate(sync.source)
        mirror = RsyncMirror(loop, sync, filters, self._gate.open, self._progress)
        self._links = LinkedNames(loop, self._gate.open, filters)
        self._errands = Errands(
            sync, filters, self._gate, mirror, self._links, store, locks, journal, accepted
        )
        self._back_off = BackOff(random.Random())  # noqa: S311  (jitter, not a secret)
        self._is_settled = False
        # Why a full sync is wanted; and why the one under way was: a new wish may come while it runs.
        self._full_sync_reason = ""
        self._flight_reason = ""
        # The number of the last one that was begun, and of the last one that came to its end.
        self._full_syncs_begun = 0
        self._full_syncs_done = 0
        # The collator's stamp of when the whole tree had to be looked at once more.
        self._once_more = 0
        self._retry_at = 0.0
        self._flight_paths: list[bytes] = []
        self._timer: Timer | None = None
        self._task: Task | None = None
        self._on_stopped: Callable[[], None] | None = None
        self.figures = Figures()
        self.hold: Hold | None = None
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
        return self._back_off.failures

    def source_ready(self, identity: Identity, full_sync_reason: str) -> None:
        """The source is watched: begin with a full sync."""
        self._gate.identity = identity
        self._links.forget()
        self._is_settled = True
        self._full_sync_reason = full_sync_reason or self._full_sync_reason
        self._poke()

    def source_lost(self) -> None:
        """Dispatch nothing until `source_ready`; what runs is cut short, for it may see an empty tree."""
        self._gate.identity = None
        self._is_settled = False
        self._cut_short()
        self._arm(None)

    def add(self, changes: Sequence[Change | Move], *, is_settled: bool) -> None:
        """Take in changes; nothing is dispatched before `is_settled`: some directory is not watched yet."""
        self._collator.add(changes, self._loop.now())
        self._is_settled = is_settled
        self._poke()

    def request_full_sync(self, reason: str) -> None:
        """Have a full sync, as soon as what runs has ended."""
        self._full_sync_reason = self._full_sync_reason or reason
        self._retry_at = 0.0
        self._poke()

    def expedite(self) -> None:
        """Wait for nothing any more, neither the end of the delay nor the next try after a failure."""
        self._collator.expedite(self._loop.now())
        self._retry_at = 0.0
        self._poke()

    @property
    def is_ready(self) -> bool:
        """Whether the source is watched and may be mirrored."""
        return self._gate.identity is not None

    def stamp(self) -> Stamp:
        """Return what stands for everything that is not on the target now, as far as it is known."""
        needed = self._full_syncs_begun + 1 if self._full_sync_reason else 0
        return Stamp(self._collator.stamp(), needed)

    def is_mirrored(self, stamp: Stamp) -> bool:
        """Tell whether everything that the stamp stands for is on the target.

        A full sync that was begun since takes over what was dirty: it counts until one has succeeded.
        """
        return (
            self._full_syncs_done == self._full_syncs_begun
            and self._full_syncs_done >= stamp.full_syncs
            and self._collator.is_done(max(stamp.dirty, self._once_more))
        )

    def stop(self, grace: float, on_stopped: Callable[[], None]) -> None:
        """Let what runs finish for at most `grace` seconds, then cut it short; then call `on_stopped`."""
        self._on_stopped = on_stopped
        self._arm(None)
        if self._task is None:
            on_stopped()
        else:
            self._loop.call_later(grace, self._cut_short)

    def _cut_short(self) -> None:
        if self._task is not None:
            self._task.cut_short()

    # ------------------------------------------------------------------ what is next

    def _poke(self) -> None:
        """Begin what is due, or arm the timer for it."""
        if self._task is not None or self._on_stopped is not None or self._gate.identity is None:
            return
        due = self._due_at()
        if due is None:
            self._arm(None)
            self._standing.enter(State.IN_SYNC)
        elif due > self._loop.now():
            self._arm(due)
            if self._is_untroubled():
                self._standing.enter(State.PENDING)
            self._callbacks.on_progress()
        elif self._is_settled:
            self._begin()

    def _is_untroubled(self) -> bool:
        """Whether nothing but the delay keeps the target from being equal."""
        return (
            not self._full_sync_reason
            and self._back_off.failures == 0
            and self.hold is None
            and self._collator.troubled is None
        )

    def _due_at(self) -> float | None:
        if self._full_sync_reason:
            return self._retry_at
        due = self._collator.due_at()
        return None if due is None else max(due, self._retry_at)

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._loop.call_at(when, self._poke)

    def _begin(self) -> None:
        self._arm(None)
        self._flight_reason, self._full_sync_reason = self._full_sync_reason, ""
        if self._flight_reason:
            self._full_syncs_begun += 1
            steps = self._errands.full_sync(self._full_sync_begins)
        else:
            steps = self._errands.batch(self._batch_begins)
        self._task = Task(steps, self._done, self._interrupted, INTERRUPTIONS)
        self._task.start()

    def _full_sync_begins(self) -> None:
        self._catch_up()
        self.hold = None
        if self._back_off.failures == 0:
            self._standing.enter(State.FULL_SYNC, self._flight_reason)
        # Whatever was seen until here is on disk now, where the full sync will find (nearly) all of it.
        self._collator.full_sync_begins(deletes=self._errands.full_sync_deletes)

    def _batch_begins(self) -> Marks:
        self._catch_up()
        self.hold = None
        if self._back_off.failures == 0 and self._collator.troubled is None:
            self._standing.enter(State.SYNCING)
        marks = self._collator.take(self._loop.now()).marks
        self._flight_paths = list(itertools.islice(marks, PATHS_PER_ENTRY))
        return marks

    def _catch_up(self) -> None:
        """Take in what happened while the guards were asked: less of it is sent ahead, and then again."""
        if self._callbacks.catch_up() is None:
            raise UnsettledError
        self._collator.caught_up()

    # ------------------------------------------------------------------ how it ended

    def _done(self, report: Report) -> None:
        self._task = None
        was_full_sync = bool(self._flight_reason)
        self.figures.full_sync_percent = None
        if report.is_whole:
            self._want_again()
            self._failed_as_a_whole(report)
        else:
            self._succeeded(report, was_full_sync)
        self._after_task()

    def _want_again(self) -> None:
        """A full sync that did not come to its end is still wanted."""
        self._full_sync_reason = self._full_sync_reason or self._flight_reason

    def _succeeded(self, report: Report, was_full_sync: bool) -> None:
        now = self._loop.now()
        self._back_off.reset()
        self._retry_at = 0.0
        again = (Change(path, mark.depth, mark.exact) for path, mark in report.again.items())
        self._collator.add(again, now)
        if report.failed:
            self._failed_in_part(report, now)
        else:
            self._collator.succeeded()
        if b"" in report.again:
            # What seemed to be right everywhere may not be: whoever waits for it has to wait for that, too.
            self._once_more = self._collator.stamp()
            self._collator.expedite(now)
        self._count(report, was_full_sync)
        if was_full_sync:
            self._full_syncs_done = self._full_syncs_begun
        else:
            self._errands.note_emptiness()

    def _failed_in_part(self, report: Report, now: float) -> None:
        wait = PATIENCE[report.verdict.outcome].seconds(self._collator.attempts())
        tries = self._collator.failed_in_part(report.failed, now, wait)
        state = State.DEGRADED if tries >= TRIES_BEFORE_DEGRADED else State.FAILING
        paths = sorted(report.failed)[:PATHS_PER_ENTRY]
        self._standing.enter(state, report.verdict.message, report.verdict.exit_status, paths)
        self._journal.debug(f"trying again in {wait:.0f} s, {tries} tries so far")

    def _failed_as_a_whole(self, report: Report) -> None:
        self._collator.failed(report.failed, self._loop.now())
        self._trouble(report.verdict)

    def _interrupted(self, error: Exception) -> None:
        """The steps ended by themselves before they came to their end."""
        self._task = None
        self.figures.full_sync_percent = None
        self._collator.failed({}, self._loop.now())
        self._want_again()
        if isinstance(error, HeldError):
            self._held(error.hold)
        elif isinstance(error, TroubleError):
            self._trouble(error.verdict)
        elif isinstance(error, HostBusyError):
            self._retry_at = self._loop.now() + HOST_BUSY_SECONDS
            self._standing.enter(State.STARTING, "waits for other full syncs to the same host")
        elif isinstance(error, UnsettledError):
            # Whoever watches says when.
            self._is_settled = False
        else:
            self._gate.identity = None
            if self._on_stopped is None:
                self._callbacks.on_source_lost()
        self._after_task()

    def _held(self, hold: Hold) -> None:
        self.hold = hold
        self._retry_at = self._loop.now() + HOLD_RECHECK_SECONDS
        # Whatever made the guard doubt: once it is gone, nothing short of a full sync is enough.
        self._full_sync_reason = self._full_sync_reason or "the sync was held"
        self._standing.enter(State.HELD, f"{hold.reason}; {hold.hint}: lsyncd-sd accept {self._sync.name}")

    def _trouble(self, verdict: Verdict) -> None:
        """The whole batch failed: wait, longer each time, and say so."""
        if self._on_stopped is not None or self._gate.identity is None:
            # We ended it ourselves, or what it was for.
            return
        wait = self._back_off.next(PATIENCE[verdict.outcome])
        self._retry_at = self._loop.now() + wait
        if verdict.outcome is Outcome.TARGET_MISSING:
            self._full_sync_reason = self._full_sync_reason or "the target was missing"
        state = _STATES.get(verdict.outcome, State.FAILING)
        self._standing.enter(state, verdict.message, verdict.exit_status)
        self._journal.debug(f"trying again in {wait:.0f} s")

    def _after_task(self) -> None:
        self._callbacks.on_ended()
        if self._on_stopped is not None:
            self._on_stopped()
        else:
            self._poke()
        self._callbacks.on_progress()

    # ------------------------------------------------------------------ figures

    def _progress(self, percent: int) -> None:
        if self._flight_reason and percent != self.figures.full_sync_percent:
            self.figures.full_sync_percent = percent
            # After an outage the old state is shown until the target answers: now it did.
            self._standing.enter(State.FULL_SYNC, self._flight_reason)
            self._callbacks.on_progress()

    def _count(self, report: Report, was_full_sync: bool) -> None:
        if report.seconds == 0:
            # Nothing had to be run: what was dirty is excluded, or gone again.
            return
        done = report.done
        self.figures.batches += 1
        self.figures.files += done.files
        self.figures.bytes += done.bytes
        self.figures.last_batch = time.time()
        what = f"{'dry run of ' * self._sync.is_dry_run}batch {self.figures.batches}"
        what += " (full sync)" * was_full_sync
        self._journal.info(
            f"{what}: {done.files} files sent ({done.bytes} bytes), {done.deleted} deleted, "
            f"{report.seconds:.1f} s",
            Event.FULL_SYNC_DONE if was_full_sync else Event.BATCH_DONE,
            state=(State.PENDING if len(self._collator) else State.IN_SYNC).value,
            batch=self.figures.batches,
            files=done.files,
            bytes=done.bytes,
            exit_status=report.verdict.exit_status,
            duration_usec=int(report.seconds * 1e6),
            paths=() if was_full_sync else self._flight_paths,
        )
