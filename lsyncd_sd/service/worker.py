# SPDX-License-Identifier: GPL-2.0-or-later
"""The child: one event loop that joins the watcher and the delivery of one sync, and nothing more."""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lsyncd_sd.config.model import Sync
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.mirror.process import die_with_parent
from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Identity
from lsyncd_sd.printable import printable, visible
from lsyncd_sd.service.delivery import Callbacks, Delivery
from lsyncd_sd.service.journal import Event, Journal
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.notify import Notifier
from lsyncd_sd.service.standing import Standing
from lsyncd_sd.service.state import Store
from lsyncd_sd.service.status import State, SyncStatus
from lsyncd_sd.watch.source import Source
from lsyncd_sd.watch.watcher import WALK_STEP, Watcher

# How often a missing source is looked for.
SOURCE_POLL_SECONDS = 2.0

# How soon the watches are set anew after the queue has overflowed: at once would lose the race again.
OVERFLOW_PAUSE_SECONDS = 1.0

# How often what could not be watched is mirrored by looking. A guess: seldom enough for a large tree.
UNWATCHED_RESCAN_SECONDS = 600.0

# How long a running transfer may go on after SIGTERM; the parent waits longer (lifecycle.STOP_SECONDS).
STOP_GRACE_SECONDS = 10.0

# Statuses are sent at most so often, except for a new state.
STATUS_INTERVAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the parent gives to a child: the sync, its inotify queue, and what is known from before.

    `ping_interval` in seconds; `accepted` is the token of the hold that the operator has released,
    `parent` the process that must be alive for as long as we are.
    """

    sync: Sync
    queue: int
    ping_interval: float
    state_directory: Path
    locks: Locks
    parent: int
    full_sync_reason: str
    accepted: str = ""


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
    """One sync: its watcher, its delivery, its word to the parent."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._sync = sync = assignment.sync
        self._loop = Loop()
        self._notifier = Notifier()
        self._journal = Journal.for_this_process(sync.log_level).bind(
            sync=sync.name, target=sync.target.text
        )
        self._standing = Standing(self._journal, self._report_state)
        filters = Filter.from_excludes(sync.exclude)
        self._watcher = Watcher(assignment.queue, os.fsencode(sync.source), filters.excludes)
        self._delivery = Delivery(
            self._loop,
            sync,
            filters,
            Store(assignment.state_directory, sync),
            assignment.locks,
            self._journal,
            self._standing,
            Callbacks(self._report_soon, self._source_is_gone),
            assignment.accepted,
        )
        self._full_sync_reason = assignment.full_sync_reason
        self._is_report_due = False
        self._is_stopping = False
        self._is_watching = False
        # Which directory the watches are on.
        self._watched: Identity | None = None
        self._is_read_scheduled = False
        self._walk_timer: Timer | None = None
        self._told_unwatched: set[bytes] = set()

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
        self._start_watching()
        self._loop.call_later(UNWATCHED_RESCAN_SECONDS, self._rescan_unwatched)
        self._loop.run()

    def _ping(self) -> None:
        self._notifier.ping()
        self._journal.report_repeats()
        self._check_source()
        self._loop.call_later(self._assignment.ping_interval, self._ping)

    def _check_source(self) -> None:
        """See whether the path still leads to the directory that is watched.

        No event tells of a mount on top of it, nor of a symlink above it that leads elsewhere now.
        """
        if not self._is_watching or self._is_stopping:
            return
        try:
            with Source(os.fsencode(self._sync.source)) as source:
                is_the_same = source.identity() == self._watched
        except OSError:
            is_the_same = False
        if not is_the_same:
            self._source_is_gone()

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        self._notifier.stopping()
        self._standing.enter(State.STOPPING)
        self._delivery.stop(STOP_GRACE_SECONDS, self._stopped)

    def _stopped(self) -> None:
        self._journal.report_repeats(everything=True)
        self._loop.stop()

    # ------------------------------------------------------------------ the source

    def _start_watching(self) -> None:
        """Watch the source from its root on; keep trying where that is not possible."""
        if self._is_stopping:
            return
        try:
            with Source(os.fsencode(self._sync.source)) as source:
                self._watched = source.identity()
                self._watcher.restart()
        except OSError as error:
            self._cannot_watch(error)
            return
        self._is_watching = True
        self._standing.enter(State.WATCHING)
        self._loop.watch_reads(self._assignment.queue, self._read)
        self._walk()

    def _cannot_watch(self, error: OSError) -> None:
        place = printable(os.fsencode(self._sync.source))
        if error.errno == errno.ENOSPC:
            reason = f"no inotify watches are left: {_watch_limit_hint(1)}"
            self._journal.error(f"cannot watch {place}: {reason}", Event.WATCH_LIMIT, errno=errno.ENOSPC)
            self._standing.enter(State.FAILING, reason)
        else:
            self._standing.enter(State.SOURCE_MISSING, f"{place}: {error.strerror}; waiting for it")
        self._notifier.ready()
        self._loop.call_later(SOURCE_POLL_SECONDS, self._start_watching)

    def _walk(self) -> None:
        """Set the watches of a new walk step by step, so that pings, events and signals get their turn."""
        if self._is_stopping:
            return
        if not self._watcher.walk(WALK_STEP):
            self._notifier.walking(self._assignment.ping_interval * 3)
            self._report_soon()
            self._walk_timer = self._loop.call_later(0, self._walk)
            return
        self._tell_unwatched()
        self._check_source()
        if not self._is_watching or self._watched is None:
            return
        self._delivery.source_ready(self._watched, self._full_sync_reason)
        self._notifier.ready()
        self._schedule_read()

    def _read(self) -> None:
        self._is_read_scheduled = False
        if self._is_stopping:
            self._loop.forget(self._assignment.queue)
        if not self._is_watching or self._is_stopping:
            return
        changes = self._watcher.read()
        if self._watcher.root_lost:
            self._source_is_gone()
        elif self._watcher.overflowed:
            self._overflowed()
        else:
            if self._watcher.unwatched:
                self._tell_unwatched()
            if changes:
                self._report_soon()
            self._delivery.add(changes, is_settled=self._watcher.settled)
            if not self._watcher.settled:
                self._schedule_read()

    def _schedule_read(self) -> None:
        """Read again although the descriptor may stay silent: places in doubt wait for an empty queue."""
        if not self._is_read_scheduled:
            self._is_read_scheduled = True
            self._loop.call_later(0, self._read)

    def _overflowed(self) -> None:
        self._journal.warning(
            "the inotify queue has overflowed: changes were lost, a full sync will find them",
            Event.OVERFLOW,
        )
        self._pause_watching("the inotify queue has overflowed", OVERFLOW_PAUSE_SECONDS)

    def _source_is_gone(self) -> None:
        if not self._is_watching:
            return
        place = printable(os.fsencode(self._sync.source))
        self._standing.enter(State.SOURCE_MISSING, f"{place} is gone or was replaced; waiting for it")
        self._pause_watching("the source was away", SOURCE_POLL_SECONDS)

    def _pause_watching(self, full_sync_reason: str, seconds: float) -> None:
        """Begin anew in a while; a walk under way ends here."""
        self._is_watching = False
        if self._walk_timer is not None:
            self._walk_timer.cancel()
        self._full_sync_reason = full_sync_reason
        self._loop.forget(self._assignment.queue)
        self._delivery.source_lost()
        self._loop.call_later(seconds, self._start_watching)

    # ------------------------------------------------------------------ what cannot be watched

    def _tell_unwatched(self) -> None:
        new = self._watcher.unwatched.keys() - self._told_unwatched
        if not new:
            return
        self._told_unwatched |= new
        self._tell_watch_limit([path for path in new if self._watcher.unwatched[path] == errno.ENOSPC])
        for path in sorted(new):
            number = self._watcher.unwatched[path]
            if number != errno.ENOSPC:
                self._journal.warning(
                    f"cannot watch {printable(path)}: {os.strerror(number)}; what is below it is "
                    f"compared every {UNWATCHED_RESCAN_SECONDS / 60:.0f} minutes",
                    Event.DIRECTORY_UNREADABLE,
                    path=path,
                    errno=number,
                )

    def _tell_watch_limit(self, paths: list[bytes]) -> None:
        if not paths:
            return
        total = sum(number == errno.ENOSPC for number in self._watcher.unwatched.values())
        total += self._watcher.unwatched_uncounted
        hint = _watch_limit_hint(self._watcher.directories + total)
        message = f"{total} directories and what is below them are not watched: {hint}"
        self._standing.set_blind_spot("watches", message)
        self._journal.error(
            message,
            Event.WATCH_LIMIT,
            repeats_as="watch limit",
            errno=errno.ENOSPC,
            path=min(paths),
        )

    def _rescan_unwatched(self) -> None:
        paths = [b""] if self._watcher.unwatched_uncounted else list(self._watcher.unwatched)
        changes = [Change(path, Depth.SUBTREE, False) for path in paths]
        if changes and not self._is_stopping:
            self._delivery.add(changes, is_settled=self._watcher.settled)
        self._loop.call_later(UNWATCHED_RESCAN_SECONDS, self._rescan_unwatched)

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
            directories=self._watcher.directories,
            pid=os.getpid(),
            hold_id=delivery.hold.token if delivery.hold is not None else "",
        )


def _watch_limit_hint(needed: int) -> str:
    """Return what to type; half as many again leaves room for the other programs of the same user."""
    return (
        f"sysctl fs.inotify.max_user_watches={max(8192, needed + needed // 2)} "
        "(and in /etc/sysctl.d/ to keep it), then `lsyncd-sd restart` this sync"
    )
