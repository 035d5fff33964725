# SPDX-License-Identifier: GPL-2.0-or-later
"""The way of one sync's changes to one target: when to dispatch, whether it is safe, what to do on failure.

It owns the collator and the state that the user sees. Nothing here waits: everything that touches the
target is a step of a `Task`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from lsyncd_sd.config.model import Sync, TargetKind
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.mirror.outcome import PATIENCE, BackOff, Outcome, Verdict
from lsyncd_sd.mirror.rsync import Report, RsyncMirror
from lsyncd_sd.mirror.steps import Steps, Task
from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.plan.collator import Collator, Limits
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Hold, Identity, check_first_run, check_source, check_target
from lsyncd_sd.service.journal import Event, Journal
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.state import Record, Store
from lsyncd_sd.service.status import State
from lsyncd_sd.watch.source import Source

# After so many failed tries of the same paths the sync is shown as degraded; it goes on trying.
TRIES_BEFORE_DEGRADED = 3

# How often a held sync looks whether the reason is gone (the source mounted again).
HOLD_RECHECK_SECONDS = 5.0


# How often a full sync that waits for others to the same host asks whether it is its turn.
HOST_BUSY_SECONDS = 2.0


class SourceLostError(Exception):
    """The source's root is missing, or another directory than the one that is watched."""


class HeldError(Exception):
    """It is not safe to go on."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(hold.reason)
        self.hold = hold


class HostBusyError(Exception):
    """As many full syncs to this host as are allowed run already."""


class TroubleError(Exception):
    """The target cannot be used now; ends the steps before anything was sent."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


@dataclass(slots=True)
class Figures:
    """What this process has done so far, for the status."""

    batches: int = 0
    files: int = 0
    bytes: int = 0
    last_batch: float | None = None
    full_sync_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a delivery tells its worker: the state changed, the figures changed, the source is not there."""

    on_state: Callable[[], None]
    on_progress: Callable[[], None]
    on_source_lost: Callable[[], None]


_STATES = {
    Outcome.CONNECTION: State.UNREACHABLE,
    Outcome.TARGET_FULL: State.TARGET_FULL,
    Outcome.TARGET_MISSING: State.TARGET_MISSING,
    Outcome.BRAKE: State.HELD,
}

_EVENTS = {
    State.UNREACHABLE: Event.TARGET_UNREACHABLE,
    State.TARGET_FULL: Event.TARGET_FULL,
    State.TARGET_MISSING: Event.TARGET_MISSING,
    State.HELD: Event.HELD,
}


class Delivery:
    """One queue to one target. `state` since `since` (Unix seconds) because of `reason`."""

    def __init__(
        self,
        loop: Loop,
        sync: Sync,
        filters: Filter,
        store: Store,
        locks: Locks,
        journal: Journal,
        callbacks: Callbacks,
        accepted: str,
    ) -> None:
        self._loop = loop
        self._sync = sync
        self._filters = filters
        self._store = store
        self._locks = locks
        self._journal = journal
        self._callbacks = callbacks
        self._accepted = accepted
        self._record = store.load()
        self._collator = Collator(Limits(sync.delay, sync.max_changes))
        self._mirror = RsyncMirror(loop, sync, filters, self._open_source, self._progress)
        self._mirror.commands.traits = replace(
            self._mirror.commands.traits,
            nanoseconds=self._record.nanoseconds,
            secluded=self._record.secluded,
        )
        self._back_off = BackOff(random.Random())  # noqa: S311  (jitter, not a secret)
        self._source_identity: Identity | None = None
        self._is_settled = False
        self._full_sync_reason = ""
        self._retry_at = 0.0
        self._timer: Timer | None = None
        self._task: Task | None = None
        self._on_stopped: Callable[[], None] | None = None
        self.figures = Figures()
        self.hold: Hold | None = None
        # Why the target may lag although all that was seen is on it: set by the worker when directories
        # could not be watched.
        self.blind_spot = ""
        self.state = State.STARTING
        self.since = time.time()
        self.reason = ""

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
        self._source_identity = identity
        self._is_settled = True
        self._full_sync_reason = full_sync_reason
        self._poke()

    def source_lost(self) -> None:
        """Dispatch nothing until `source_ready`; what runs is cut short, for it may see an empty tree."""
        self._source_identity = None
        self._is_settled = False
        if self._task is not None:
            self._task.cut_short()
        self._arm(None)

    def add(self, changes: list[Change], *, is_settled: bool) -> None:
        """Take in changes; nothing is dispatched before `is_settled`: some directory is not watched yet."""
        self._collator.add(changes, self._loop.now())
        self._is_settled = is_settled
        self._poke()

    def set_state(self, state: State, reason: str = "") -> None:
        """Enter a state: one journal entry for each change, none for staying.

        The round of a healthy sync (pending, syncing, in-sync) is told by the one line of its batch.
        """
        if state.is_good and self.blind_spot:
            state, reason = State.DEGRADED, self.blind_spot
        if state is self.state and reason == self.reason:
            return
        before, self.state, self.reason = self.state, state, reason
        if state is not before:
            self.since = time.time()
            text = f"{state}: {reason}" if reason else str(state)
            is_routine = before.is_good and state.is_good
            log = self._journal.debug if is_routine else self._journal.notice
            log(text, Event.STATE_CHANGED, state=state.value)
        self._callbacks.on_state()

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
        if self._task is not None or self._on_stopped is not None or self._source_identity is None:
            return
        due = self._due_at()
        if due is None:
            self._arm(None)
            self.set_state(State.IN_SYNC)
        elif due > self._loop.now():
            self._arm(due)
            if self._back_off.failures == 0 and self.hold is None and self._collator.troubled is None:
                self.set_state(State.PENDING)
            self._callbacks.on_progress()
        elif self._is_settled:
            self._begin()

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
        steps = self._full_sync() if self._full_sync_reason else self._batch()
        self._task = Task(
            steps,
            self._done,
            self._interrupted,
            expected=(SourceLostError, HeldError, HostBusyError, TroubleError),
        )
        self._task.start()

    # ------------------------------------------------------------------ the steps

    def _open_source(self) -> Source:
        """Open the source's root for one run. Raises SourceLostError unless it is the one we watch."""
        try:
            source = Source(os.fsencode(self._sync.source))
        except OSError as error:
            raise SourceLostError(str(error)) from None
        if source.identity() != self._source_identity:
            source.close()
            raise SourceLostError("another directory stands in its place")
        return source

    def _full_sync(self) -> Steps[Report]:
        if self._sync.target.kind is TargetKind.LOCAL:
            return (yield from self._full_sync_now())
        slot = self._locks.take_host_slot(self._sync.target.host)
        if slot is None:
            raise HostBusyError
        try:
            return (yield from self._full_sync_now())
        finally:
            os.close(slot)

    def _full_sync_now(self) -> Steps[Report]:
        with self._open_source() as source:
            identity, is_empty = source.identity(), source.is_empty()
            sample = source.find_sample(self._filters.excludes)
        deletes = self._mirror.commands.full_sync_deletes
        self._check(check_source(self._record.memory, identity, is_empty, deletes))
        yield from self._check_target()
        if is_empty and deletes and self._record.memory.source is None:
            count = yield from self._mirror.would_delete()
            self._check(check_first_run(identity, count))
        self.hold = None
        if self._back_off.failures == 0:
            self.set_state(State.FULL_SYNC, self._full_sync_reason)
        # Whatever was seen until here is on disk now, where the full sync will find it.
        self._collator.clear()
        trouble = yield from self._mirror.find_traits(sample)
        if trouble is not None:
            return trouble
        report = yield from self._mirror.full_sync(
            may_create=not self._record.was_mirrored, sample=sample
        )
        if not report.is_whole:
            yield from self._remember_roots(identity, is_empty)
        return report

    def _batch(self) -> Steps[Report]:
        yield from self._check_target()
        self.hold = None
        if self._back_off.failures == 0 and self._collator.troubled is None:
            self.set_state(State.SYNCING)
        marks = self._collator.take(self._loop.now())
        return (yield from self._mirror.batch(marks))

    def _check_target(self) -> Steps[None]:
        """Compare a local target's root with the one mirrored to before. Raises if it is not to be used."""
        if self._sync.target.kind is not TargetKind.LOCAL:
            return
        identity = yield from self._mirror.target_identity()
        if isinstance(identity, Verdict):
            raise TroubleError(identity)
        if identity is None and self._record.was_mirrored:
            message = f"{self._sync.target.text} is not there"
            raise TroubleError(Verdict(Outcome.TARGET_MISSING, message, 0))
        self._check(check_target(self._record.memory, identity))

    def _check(self, hold: Hold | None) -> None:
        if hold is not None and hold.token != self._accepted:
            raise HeldError(hold)

    def _remember_roots(self, source: Identity, is_empty: bool) -> Steps[None]:
        """After a full sync: what the two roots are from now on."""
        target: Identity | None = None
        if self._sync.target.kind is TargetKind.LOCAL:
            answer = yield from self._mirror.target_identity()
            target = answer if isinstance(answer, Identity) else self._record.memory.target
        memory = replace(
            self._record.memory, source=source, source_had_entries=not is_empty, target=target
        )
        # What was accepted has been carried out; the same situation another time is a new question.
        self._accepted = ""
        self._remember(replace(self._record, memory=memory, was_mirrored=True))

    def _remember(self, record: Record) -> None:
        traits = self._mirror.commands.traits
        record = replace(record, nanoseconds=traits.nanoseconds, secluded=traits.secluded)
        if record == self._record:
            return
        self._record = record
        try:
            self._store.save(record)
        except OSError as error:
            self._journal.error(
                f"cannot write {self._store.path}: {error.strerror}; after a restart the guards "
                "against an emptied or replaced source know less",
                errno=error.errno or 0,
            )

    # ------------------------------------------------------------------ how it ended

    def _done(self, report: Report) -> None:
        self._task = None
        was_full_sync = bool(self._full_sync_reason)
        self.figures.full_sync_percent = None
        if report.is_whole:
            self._failed_as_a_whole(report)
        else:
            self._succeeded(report, was_full_sync)
        self._after_task()

    def _succeeded(self, report: Report, was_full_sync: bool) -> None:
        now = self._loop.now()
        self._back_off.reset()
        self._retry_at = 0.0
        self._full_sync_reason = ""
        self._collator.add((Change(path, Depth.ENTRY, True) for path in sorted(report.again)), now)
        if report.failed:
            self._failed_in_part(report, now)
        else:
            self._collator.succeeded()
        self._count(report, was_full_sync)
        if not was_full_sync:
            self._note_emptiness()

    def _failed_in_part(self, report: Report, now: float) -> None:
        tries = self._collator.attempts() + 1
        patience = PATIENCE[report.verdict.outcome]
        wait = min(patience.limit, patience.first * 2.0 ** min(tries - 1, 20))
        tries = self._collator.failed_in_part(report.failed, now, wait)
        reason = f"{report.verdict.message} (try {tries})"
        self._journal.warning(
            f"not everything could be mirrored, trying again in {wait:.0f} s: {report.verdict.message}",
            Event.TRANSFER_FAILED,
            repeats_as=report.verdict.message,
            exit_status=report.verdict.exit_status,
        )
        if tries >= TRIES_BEFORE_DEGRADED:
            self.set_state(State.DEGRADED, report.verdict.message)
        else:
            self.set_state(State.FAILING, reason)

    def _failed_as_a_whole(self, report: Report) -> None:
        self._collator.failed(report.failed, self._loop.now())
        self._trouble(report.verdict)

    def _interrupted(self, error: Exception) -> None:
        """The steps ended by themselves before they came to their end."""
        self._task = None
        self.figures.full_sync_percent = None
        self._collator.failed({}, self._loop.now())
        if isinstance(error, HeldError):
            self._held(error.hold)
        elif isinstance(error, TroubleError):
            self._trouble(error.verdict)
        elif isinstance(error, HostBusyError):
            self._retry_at = self._loop.now() + HOST_BUSY_SECONDS
        else:
            self._source_identity = None
            if self._on_stopped is None:
                self._callbacks.on_source_lost()
        self._after_task()

    def _held(self, hold: Hold) -> None:
        if self.hold != hold:
            self._journal.error(
                f"held: {hold.reason}; {hold.hint} `lsyncd-sd accept {self._sync.name}`", Event.HELD
            )
        self.hold = hold
        self._retry_at = self._loop.now() + HOLD_RECHECK_SECONDS
        # Whatever made the guard doubt: once it is gone, nothing short of a full sync is enough.
        self._full_sync_reason = self._full_sync_reason or "the sync was held"
        self.set_state(State.HELD, f"{hold.reason}; {hold.hint}: lsyncd-sd accept {self._sync.name}")

    def _trouble(self, verdict: Verdict) -> None:
        """The whole batch failed: wait, longer each time, and say so."""
        if verdict.outcome is Outcome.CUT_SHORT and (self._on_stopped or self._source_identity is None):
            return
        wait = self._back_off.next(PATIENCE[verdict.outcome])
        self._retry_at = self._loop.now() + wait
        if verdict.outcome is Outcome.TARGET_MISSING:
            self._full_sync_reason = self._full_sync_reason or "the target was missing"
        state = _STATES.get(verdict.outcome, State.FAILING)
        self._journal.warning(
            f"{verdict.outcome.value}, trying again in {wait:.0f} s: {verdict.message}",
            _EVENTS.get(state, Event.TRANSFER_FAILED),
            repeats_as=verdict.message,
            state=state.value,
            exit_status=verdict.exit_status,
        )
        self.set_state(state, verdict.message)

    def _after_task(self) -> None:
        if self._on_stopped is not None:
            self._on_stopped()
        else:
            self._poke()
        self._callbacks.on_progress()

    # ------------------------------------------------------------------ figures

    def _progress(self, percent: int) -> None:
        if self._full_sync_reason and percent != self.figures.full_sync_percent:
            self.figures.full_sync_percent = percent
            # After an outage the old state is shown until the target answers: now it did.
            self.set_state(State.FULL_SYNC, self._full_sync_reason)
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
        what = "full sync" if was_full_sync else f"batch {self.figures.batches}"
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
        )

    def _note_emptiness(self) -> None:
        """Remember whether the source holds anything: an empty one after a restart is suspicious then."""
        try:
            with self._open_source() as source:
                had_entries = not source.is_empty()
        except (SourceLostError, OSError):
            return
        memory = replace(self._record.memory, source_had_entries=had_entries)
        self._remember(replace(self._record, memory=memory))
