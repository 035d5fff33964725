# SPDX-License-Identifier: GPL-2.0-or-later
"""The child: one event loop that joins the lookout of one sync and its outlets, and nothing more."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsyncd_sd.config.model import Delete, Sync, Target
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.process import die_with_parent
from lsyncd_sd.plan.change import Change, Move
from lsyncd_sd.plan.guard import Identity
from lsyncd_sd.printable import printable, visible
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.cookies import Cookies
from lsyncd_sd.service.journal import Event, Journal, OpenJournal
from lsyncd_sd.service.links import LinkedNames
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.lookout import Listener, Lookout
from lsyncd_sd.service.mounted import Mounted
from lsyncd_sd.service.notify import Notifier
from lsyncd_sd.service.outlet import Outlet, Owner
from lsyncd_sd.service.outlets import Outlets
from lsyncd_sd.service.permits import Permits
from lsyncd_sd.service.recovery import Recovery
from lsyncd_sd.service.sourceside import SourceGate, SourceSide
from lsyncd_sd.service.standing import Standings
from lsyncd_sd.service.status import State, SyncStatus, TargetStatus, of_targets
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

    `ping_interval` in seconds; `runtime_directory` is for sockets, `cookie_directory` this sync's own;
    `parent` is the process that must be alive for as long as we are; `open_journal` is called with the
    level; `compares_first`: begin with a full sync, whatever is known from before. `refused` are the targets
    to do without, each with the reason. `turns` leads to the parent, where all syncs of the file share them.
    """

    sync: Sync
    queue: int
    ping_interval: float
    state_directory: Path
    locks: Locks
    parent: int
    full_sync_reason: str
    channel: Channel
    runtime_directory: Path
    cookie_directory: Path
    open_journal: OpenJournal
    compares_first: bool
    refused: Mapping[Target, str]
    turns: Channel | None


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
    """One sync: its lookout, an outlet for each target, its word to the parent."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._sync = sync = assignment.sync
        self._loop = Loop()
        self._notifier = Notifier()
        journal = assignment.open_journal(sync.log_level).bind(sync=sync.name)
        texts = [one.target.text for one in sync.each_target()]
        self._journal = journal.bind(targets=texts)
        filters = sync.make_filter()
        scope = Scope(filters.excludes, filters.hides_alike, sync.watch_modify, sync.one_file_system)
        watcher = Watcher(assignment.queue, os.fsencode(sync.source), scope)
        gate = SourceGate(sync.source, one_file_system=sync.one_file_system)
        self._source = SourceSide(
            filters,
            gate,
            LinkedNames(self._loop, gate.open, filters),
            catch_up=lambda: self._lookout.catch_up(),
            is_settled=lambda: self._lookout.is_settled,
            table=watcher.directory_table,
        )
        self._permits = Permits(self._loop, sync.max_processes, assignment.turns)
        self._outlets = Outlets(
            [
                self._make_outlet(one, journal)
                for one in sync.each_target()
                if one.target not in assignment.refused
            ]
        )
        self._refused = {
            target: TargetStatus(visible(target.text), State.FAILED, time.time(), reason)
            for target, reason in assignment.refused.items()
        }
        self._standings = Standings(
            self._journal, [outlet.standing for outlet in self._outlets], self._report_state
        )
        self._lookout = Lookout(
            self._loop,
            sync,
            assignment.queue,
            watcher,
            self._journal,
            self._standings,
            self._notifier,
            assignment.ping_interval,
            Listener(
                self._begun,
                self._watched,
                self._changed,
                self._outlets.caught_up,
                self._lost,
                self._report_soon,
            ),
            Mounted(sync, filters),
        )
        self._waiters = Waiters(
            self._loop,
            sync.name,
            assignment.channel,
            Cookies(watcher, assignment.cookie_directory),
            list(self._outlets),
            self._lookout.look_again,
        )
        self._recovery = Recovery(self._loop, sync, filters, self._lookout.catch_up)
        # Why nobody watched until now.
        self._gap_reason = assignment.full_sync_reason
        if sync.delete is Delete.STARTUP or assignment.compares_first:
            # With the former, what went before, also while somebody watched, is deleted now and never later.
            self._outlets.request_full_sync(self._gap_reason)
        self._is_report_due = False
        self._is_stopping = False

    def _make_outlet(self, sync: Sync, journal: Journal) -> Outlet:
        journal = journal.bind(targets=[sync.target.text])
        return Outlet(
            self._loop,
            sync,
            self._source,
            self._assignment.state_directory,
            self._assignment.locks,
            self._assignment.runtime_directory,
            self._permits,
            journal.about(sync.target.text) if sync.is_one_of_several else journal,
            Owner(
                on_state=self._report_state,
                on_progress=self._report_soon,
                on_ended=lambda: self._waiters.check(),
                on_source_lost=lambda: self._lookout.source_is_gone(),
                on_blind=self._went_blind,
                on_recovered=self._recovered,
            ),
        )

    def run(self, unblocked: Iterable[int | signal.Signals]) -> None:
        """Run the loop until stopped."""
        self._loop.on_signals(
            {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: lambda: None}
        )
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        self._ping()
        targets = ", ".join(outlet.target for outlet in self._outlets)
        self._journal.notice(
            f"mirroring {printable(os.fsencode(self._sync.source))} to {targets}",
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
        self._standings.enter(State.STOPPING)
        self._outlets.stop(STOP_GRACE_SECONDS, self._stopped)

    def _stopped(self) -> None:
        self._journal.report_repeats(everything=True)
        self._loop.stop()

    # ------------------------------------------------------------------ what the lookout tells

    def _begun(self) -> None:
        self._waiters.watching_begins()

    def _watched(self, identity: Identity) -> None:
        self._source.found(identity)
        self._outlets.source_ready()
        wanting = [outlet for outlet in self._outlets if outlet.delivery.wants_full_sync]
        patients = [outlet.patient for outlet in self._outlets if outlet not in wanting]
        self._recovery.begin(self._gap_reason, patients)
        for outlet in wanting:
            outlet.delivery.request_full_sync(self._gap_reason)

    def _changed(self, changes: Sequence[Change | Move], is_settled: bool) -> None:
        self._outlets.changed(changes, is_settled=is_settled)
        self._waiters.changed(is_settled=is_settled)

    def _lost(self, reason: str) -> None:
        self._gap_reason = reason
        self._source.lost()
        self._recovery.stop()
        self._waiters.watching_ends()
        self._outlets.source_lost()

    # ------------------------------------------------------------------ what outlets tell

    def _recovered(self, outlet: Outlet) -> None:
        outlet.delivery.proceed()
        self._waiters.recovered(outlet)

    def _went_blind(self, outlet: Outlet) -> None:
        self._recovery.begin("more changes waited than can be remembered", [outlet.patient])

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
        known = {outlet.sync.target: outlet.status() for outlet in self._outlets} | self._refused
        return of_targets(
            [known[one.target] for one in self._sync.each_target()],
            name=self._sync.name,
            source=printable(os.fsencode(self._sync.source)),
            directories=self._lookout.directories,
            pid=os.getpid(),
        )
