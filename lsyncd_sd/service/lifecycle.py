# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts, ends and replaces the processes of the children, each by its phase and its deadline."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lsyncd_sd.config.model import Sync
from lsyncd_sd.service import worker
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.child import (
    ABORT_SECONDS,
    KILL_SECONDS,
    RESPAWN_LIMIT_SECONDS,
    Child,
    Phase,
)
from lsyncd_sd.service.environment import cookie_directory
from lsyncd_sd.service.journal import Event, Journal, OpenJournal
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.processes import end_session
from lsyncd_sd.service.spawn import spawn
from lsyncd_sd.service.status import State
from lsyncd_sd.service.turns import Turns
from lsyncd_sd.watch import inotify

# How long children may take to stop. They cut a running transfer short after worker.STOP_GRACE_SECONDS, and
# rsync gets process.KILL_AFTER more; the units' TimeoutStopSec is longer than all of that.
STOP_SECONDS = 20.0

# How soon to look again: for orphans that do not die, and for a lock that somebody takes right now.
LOOK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What all children of a parent share.

    `limit`: seconds after which a silent child hangs. `owner`: who takes the locks, for others to read.
    `give_back`: closes, in a new child, what is the parent's or a sibling's. `started`: a child has a new
    process, and a channel to it. `open_journal`: called in a new child, where to log. `compares_first`: each
    child begins with a full sync.
    """

    journal: Journal
    locks: Locks
    turns: Turns
    owner: str
    limit: float
    runtime: Path
    state_directory: Path
    give_back: Callable[[Child], None]
    started: Callable[[Child], None]
    open_journal: OpenJournal = Journal.for_this_process
    compares_first: bool = False


class Lifecycle:
    """What happens to a child, and when; times are monotonic seconds."""

    def __init__(self, circumstances: Circumstances) -> None:
        self._with = circumstances
        self._random = random.Random()  # noqa: S311  (jitter, not a secret)
        # While all end, a child that cannot be ended is left to the service manager.
        self.is_stopping = False

    def deadline_reached(self, child: Child, now: float) -> None:
        """Do what the phase of `child` asks for at its deadline."""
        match child.phase:
            case Phase.WAITING:
                self._start(child, now)
            case Phase.RUNNING:
                self._with.journal.error(
                    f"the process of this sync (pid {child.pid}) has not answered for "
                    f"{self._with.limit:.0f} s: it is replaced",
                    Event.CHILD_HUNG,
                    sync=child.sync.name,
                )
                self._signal(child, signal.SIGABRT, Phase.ABORTING, now + ABORT_SECONDS)
            case Phase.ABORTING | Phase.STOPPING:
                self._signal(child, signal.SIGKILL, Phase.KILLING, now + KILL_SECONDS)
            case Phase.KILLING:
                self._stuck(child)
            case Phase.SWEEPING:
                self._sweep(child, now)
            case _:
                # Nothing can be done for it until it dies.
                child.deadline = float("inf")

    def _signal(self, child: Child, number: signal.Signals, phase: Phase, deadline: float) -> None:
        child.phase, child.deadline = phase, deadline
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)

    def _stuck(self, child: Child) -> None:
        # While stopping, waiting for it would only make the service manager wait, too.
        child.phase = Phase.STOPPED if self.is_stopping else Phase.STUCK
        child.deadline = float("inf")
        self._with.turns.leave(child.sync.name)
        reason = f"process {child.pid} hangs in the kernel and cannot be ended"
        child.show(State.STUCK, time.time(), reason)
        self._with.journal.error(reason, Event.CHILD_STUCK, sync=child.sync.name, state=State.STUCK.value)

    def stop(self, child: Child, successor: Sync | None, now: float) -> None:
        """Stop a child; `successor` is what then runs under its name, None for nothing."""
        child.is_unwanted, child.successor = True, successor
        if child.phase is Phase.RUNNING:
            self._signal(child, signal.SIGTERM, Phase.STOPPING, now + STOP_SECONDS)
        elif child.phase in (Phase.WAITING, Phase.FAILED) or (
            self.is_stopping and child.phase is Phase.STUCK
        ):
            child.phase = Phase.STOPPED

    def _start(self, child: Child, now: float) -> None:
        if not self._take_locks(child, now):
            return
        try:
            if child.queue < 0:
                child.queue = inotify.open_queue()
        except OSError as error:
            hint = (
                "sysctl fs.inotify.max_user_instances, or LimitNOFILE= of the unit, may be too small for "
                "so many syncs"
            )
            self._fail(child, f"cannot open an inotify queue: {error.strerror}; {hint}")
            return
        self._fork(child, now)

    def _take_locks(self, child: Child, now: float) -> bool:
        """Take the locks of the targets; return False if one has to be waited for, or none can be had."""
        claims = child.claims
        if not claims.take(self._with.locks, self._with.owner, now):
            child.deadline = now + LOOK_AGAIN_SECONDS
            child.show(State.STARTING, time.time(), "waits for the lock of its target")
            return False
        if claims.are_hopeless:
            child.failure = claims.failure
            self._fail(child, "; ".join(dict.fromkeys(claims.refused.values())))
            return False
        for target, reason in claims.refused.items():
            journal = self._with.journal.bind(targets=[target.text]).about(target.text)
            self._tell_failure(child, reason, journal)
        return True

    def _fork(self, child: Child, now: float) -> None:
        try:
            ours, theirs = Channel.pair()
        except OSError as error:
            self._cannot_fork(child, error, now)
            return
        try:
            turns = self._join_turns(child.sync)
        except OSError as error:
            ours.close()
            theirs.close()
            self._cannot_fork(child, error, now)
            return
        assignment = worker.Assignment(
            sync=child.sync,
            queue=child.queue,
            ping_interval=self._with.limit / 3,
            state_directory=self._with.state_directory,
            locks=self._with.locks,
            parent=os.getpid(),
            full_sync_reason=child.full_sync_reason,
            channel=theirs,
            runtime_directory=self._with.runtime,
            cookie_directory=cookie_directory(self._with.runtime, child.sync.name),
            open_journal=self._with.open_journal,
            compares_first=self._with.compares_first,
            refused=child.claims.refused,
            turns=turns,
        )

        def give_back() -> None:
            ours.close()
            self._with.give_back(child)

        try:
            pid = spawn(give_back, lambda mask: worker.run(assignment, mask))
        except OSError as error:
            ours.close()
            self._with.turns.leave(child.sync.name)
            self._cannot_fork(child, error, now)
            return
        finally:
            theirs.close()
            if turns is not None:
                turns.close()
        child.started(pid, now, self._with.limit)
        child.channel = ours
        child.show(State.STARTING, time.time())
        self._with.started(child)

    def _join_turns(self, sync: Sync) -> Channel | None:
        limit = sync.max_processes_of_file
        return None if limit is None else self._with.turns.join(sync.name, sync.file_stem, limit)

    def _cannot_fork(self, child: Child, error: OSError, now: float) -> None:
        """There is too little of something, memory for one: that passes, and the other syncs go on."""
        child.deadline = now + RESPAWN_LIMIT_SECONDS
        reason = f"cannot start its process: {error.strerror}; trying again in {RESPAWN_LIMIT_SECONDS:.0f} s"
        child.show(State.STARTING, time.time(), reason)
        self._with.journal.error(reason, sync=child.sync.name, errno=error.errno or 0)

    def ended(self, child: Child, code: int, now: float) -> None:
        """The process of `child` has died; `code` is its exit status, or minus the signal."""
        was = child.phase
        pid, child.pid = child.pid, 0
        child.is_ready = True
        child.phase, child.deadline = Phase.SWEEPING, now
        child.session, child.sweep_until = pid, now + KILL_SECONDS
        self._with.turns.leave(child.sync.name)
        if child.is_unwanted:
            return
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code}"
        if code == -signal.SIGKILL and was is Phase.RUNNING:
            how += " (if nobody did it: was the machine out of memory?)"
        self._with.journal.error(
            f"the process of this sync (pid {pid}) {how}", Event.CHILD_CRASHED, sync=child.sync.name
        )
        child.restarts += 1
        child.full_sync_reason = "its process was replaced"
        child.give_up_reason = ""
        if not child.crashed(now, self._random):
            child.give_up_reason = f"its process crashed {len(child.crashes)} times; the last one {how}"
        child.show(State.STARTING, time.time(), f"its process {how}")

    def _sweep(self, child: Child, now: float) -> None:
        """End what a dead child left behind; only then may another one be started."""
        if not end_session(child.session) and not (self.is_stopping and now > child.sweep_until):
            child.deadline = now + LOOK_AGAIN_SECONDS
            return
        if child.is_unwanted:
            child.phase = Phase.STOPPED
        elif child.give_up_reason:
            self._fail(child, child.give_up_reason)
        else:
            child.phase, child.deadline = Phase.WAITING, max(child.respawn_at, now)

    def _fail(self, child: Child, reason: str) -> None:
        child.phase = Phase.FAILED
        child.show(State.FAILED, time.time(), reason)
        child.is_ready = True
        self._tell_failure(child, reason, self._with.journal)

    @staticmethod
    def _tell_failure(child: Child, reason: str, journal: Journal) -> None:
        journal.error(
            f"failed: {reason}; `lsyncd-sd restart {child.sync.name}` tries again",
            Event.CHILD_FAILED,
            sync=child.sync.name,
            state=State.FAILED.value,
        )
