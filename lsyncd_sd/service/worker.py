# SPDX-License-Identifier: GPL-2.0-or-later
"""The child: one event loop that joins the lookout and the delivery of one sync, and nothing more."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsyncd_sd.config.model import Delete, Sync
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.process import die_with_parent
from lsyncd_sd.plan.change import Change, Move
from lsyncd_sd.plan.guard import Identity
from lsyncd_sd.printable import printable, visible
from lsyncd_sd.service.callbacks import Callbacks
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.checkpoint import Checkpoints
from lsyncd_sd.service.cookies import Cookies
from lsyncd_sd.service.delivery import Delivery
from lsyncd_sd.service.journal import Event, OpenJournal
from lsyncd_sd.service.links import LinkedNames
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.lookout import Listener, Lookout
from lsyncd_sd.service.mounted import Mounted
from lsyncd_sd.service.notify import Notifier
from lsyncd_sd.service.recovery import Patient, Recovery
from lsyncd_sd.service.sourceside import SourceGate, SourceSide
from lsyncd_sd.service.standing import Standing
from lsyncd_sd.service.state import Store
from lsyncd_sd.service.status import State, SyncStatus
from lsyncd_sd.service.waiters import Waiters
from lsyncd_sd.watch.coverage import Scope
from lsyncd_sd.watch.watcher import Watcher

# How long a running transfer may go on after SIGTERM; the parent waits longer (lifecycle.STOP_SECONDS).
STOP_GRACE_SECONDS = 10.0

# Statuses are sent at most so often, except for a new state.
STATUS_INTERVAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the parent gives to a child: the sync, its inotify queue, a channel, what is known from before.

    `ping_interval` in seconds; `cookie_directory` is this sync's own; `parent` is the process that must be
    alive for as long as we are; `open_journal` is called with the level; `compares_first`: begin with a full
    sync, whatever is known from before.
    """

    sync: Sync
    queue: int
    ping_interval: float
    state_directory: Path
    locks: Locks
    parent: int
    full_sync_reason: str
    channel: Channel
    cookie_directory: Path
    open_journal: OpenJournal
    compares_first: bool


def run(assignment: Assignment, unblocked: Iterable[int | signal.Signals]) -> None:
    """Be the child until SIGTERM; NOTIFY_SOCKET names the parent's socket.

    Called right after the fork, with signals blocked; `unblocked` is the mask to set when we can take them.
    """
    # A hung child gets SIGABRT: its Python stack goes to stderr, which is the journal.
    faulthandler.enable(sys.__stderr__ or 2)
    die_with_parent()
    if os.getppid() != assignment.parent:
        # It died before the kernel knew that we want to die with it.
        return
    Worker(assignment).run(unblocked)


class Worker:
    """One sync: its lookout, its delivery, its word to the parent."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._sync = sync = assignment.sync
        self._loop = Loop()
        self._notifier = Notifier()
        self._journal = assignment.open_journal(sync.log_level).bind(sync=sync.name, target=sync.target.text)
        self._standing = Standing(self._journal, self._report_state)
        filters = sync.make_filter()
        scope = Scope(filters.excludes, filters.depends_on_place, sync.watch_modify, sync.one_file_system)
        watcher = Watcher(assignment.queue, os.fsencode(sync.source), scope)
        self._lookout = Lookout(
            self._loop,
            sync,
            assignment.queue,
            watcher,
            self._journal,
            self._standing,
            self._notifier,
            assignment.ping_interval,
            Listener(
                self._begun, self._watched, self._changed, self._caught_up, self._lost, self._report_soon
            ),
            Mounted(sync, filters),
        )
        gate = SourceGate(sync.source, one_file_system=sync.one_file_system)
        self._source = SourceSide(
            filters,
            gate,
            LinkedNames(self._loop, gate.open, filters),
            self._lookout.catch_up,
            self._lookout.directory_table,
        )
        checkpoints = Checkpoints(assignment.state_directory, sync)
        self._delivery = Delivery(
            self._loop,
            sync,
            self._source,
            Store(assignment.state_directory, sync),
            checkpoints,
            assignment.locks,
            self._journal,
            self._standing,
            Callbacks(
                self._report_soon,
                self._errand_ended,
                self._lookout.source_is_gone,
                self._went_blind,
            ),
        )
        self._waiters = Waiters(
            self._loop,
            sync.name,
            assignment.channel,
            Cookies(watcher, assignment.cookie_directory),
            self._delivery,
            self._standing,
            self._lookout.look_again,
        )
        self._recovery = Recovery(
            self._loop,
            sync,
            filters,
            checkpoints,
            self._journal,
            Patient(
                begins=self._delivery.rescan_begins,
                take=self._found,
                catch_up=self._lookout.catch_up,
                ends=self._looked_through,
                compare=self._delivery.request_full_sync,
                pending=lambda: self._delivery.pending,
            ),
        )
        # Why nobody watched until now.
        self._gap_reason = assignment.full_sync_reason
        if sync.delete is Delete.STARTUP or assignment.compares_first:
            # With the former, what went before, also while somebody watched, is deleted now and never later.
            self._delivery.request_full_sync(self._gap_reason)
        self._is_report_due = False
        self._is_stopping = False

    def run(self, unblocked: Iterable[int | signal.Signals]) -> None:
        """Run the loop until stopped."""
        self._loop.on_signals(
            {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: lambda: None}
        )
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        self._ping()
        self._journal.notice(
            f"mirroring {printable(os.fsencode(self._sync.source))} to {visible(self._sync.target.text)}",
            Event.SYNC_STARTED,
            state=State.STARTING.value,
        )
        self._lookout.start()
        self._loop.run()

    def _ping(self) -> None:
        self._notifier.ping()
        self._journal.report_repeats()
        self._lookout.check_source()
        self._loop.call_later(self._assignment.ping_interval, self._ping)

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        self._waiters.close()
        self._notifier.stopping()
        self._lookout.stop()
        self._standing.enter(State.STOPPING)
        self._delivery.stop(STOP_GRACE_SECONDS, self._stopped)

    def _stopped(self) -> None:
        self._journal.report_repeats(everything=True)
        self._loop.stop()

    # ------------------------------------------------------------------ what the lookout tells

    def _begun(self) -> None:
        self._waiters.watching_begins()

    def _watched(self, identity: Identity) -> None:
        self._source.found(identity)
        self._delivery.source_ready()
        if self._delivery.wants_full_sync:
            self._delivery.request_full_sync(self._gap_reason)
        else:
            self._recovery.begin(self._gap_reason)

    def _changed(self, changes: Sequence[Change | Move], is_settled: bool) -> None:
        self._delivery.add(changes, is_settled=is_settled)
        self._delivery.proceed()
        self._waiters.changed(is_settled=is_settled)

    def _caught_up(self) -> None:
        self._delivery.caught_up()

    def _lost(self, reason: str) -> None:
        self._gap_reason = reason
        self._source.lost()
        self._recovery.stop()
        self._waiters.watching_ends()
        self._delivery.source_lost()

    def _errand_ended(self) -> None:
        self._waiters.check()

    def _found(self, changes: list[Change]) -> None:
        self._delivery.add(changes, is_settled=self._lookout.is_settled)
        self._delivery.proceed()

    def _looked_through(self) -> None:
        self._delivery.rescan_ends()
        self._waiters.recovered()

    def _went_blind(self) -> None:
        self._recovery.begin("more changes waited than can be remembered")

    # ------------------------------------------------------------------ status

    def _report_state(self) -> None:
        self._notifier.status(self._status().to_json())

    def _report_soon(self) -> None:
        if not self._is_report_due:
            self._is_report_due = True
            self._loop.call_later(STATUS_INTERVAL_SECONDS, self._report_now)

    def _report_now(self) -> None:
        self._is_report_due = False
        self._report_state()

    def _status(self) -> SyncStatus:
        delivery, figures = self._delivery, self._delivery.figures
        return SyncStatus(
            name=self._sync.name,
            source=printable(os.fsencode(self._sync.source)),
            target=visible(self._sync.target.text),
            state=self._standing.state,
            since=self._standing.since,
            reason=self._standing.reason,
            pending=delivery.pending,
            batches=figures.batches,
            failures=delivery.failures,
            files=figures.files,
            bytes=figures.bytes,
            last_batch=figures.last_batch,
            full_sync_percent=figures.full_sync_percent,
            directories=self._lookout.directories,
            pid=os.getpid(),
            hold_id=delivery.hold.token if delivery.hold is not None else "",
        )
