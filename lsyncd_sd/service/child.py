# SPDX-License-Identifier: GPL-2.0-or-later
"""One sync's process as the parent sees it: what phase it is in, until when, and what follows.

Book-keeping only: forking, killing and logging is the supervisor's; time (monotonic seconds) is an argument.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field, replace

from lsyncd_sd.config.model import Sync
from lsyncd_sd.errors import ExitStatus
from lsyncd_sd.printable import visible
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.claims import Claims
from lsyncd_sd.service.status import State, SyncStatus, TargetStatus, of_targets

# A crash is *fruitless* if the process came to nothing: no full sync done, or dead within a second of its
# start. So many of them in a row are no accident, and neither are so many of any kind within the window:
# the child is given up until somebody looks. Guesses, but for their order: an out-of-memory killer that
# strikes every few seconds must not end a mirror that makes progress in between.
FRUITLESS_LIMIT = 5
FRUITLESS_SECONDS = 1.0
CRASH_LIMIT = 100
CRASH_WINDOW_SECONDS = 600.0

# Before a crashed child is replaced: doubled with each fruitless crash, so that a crash at start does not
# spin; after a fruitful one there is less reason to wait.
RESPAWN_FIRST_SECONDS = 0.25
RESPAWN_LIMIT_SECONDS = 30.0

# After SIGABRT, which makes a hung child show its stack, and after SIGKILL, which may have to wait for the
# kernel, before the next measure.
ABORT_SECONDS = 5.0
KILL_SECONDS = 10.0


class Phase(enum.Enum):
    """Where a child is in its life; the comment says what ends the phase."""

    WAITING = "waiting"  # its deadline: then it is (re)started
    RUNNING = "running"  # a missed ping, its death, or the supervisor's wish
    ABORTING = "aborting"  # its death, or its deadline: then SIGKILL
    KILLING = "killing"  # its death, or its deadline: then it is stuck
    STUCK = "stuck"  # its death: it sits in the kernel, and another beside it would not fare better
    STOPPING = "stopping"  # its death, or its deadline: then SIGKILL
    SWEEPING = "sweeping"  # its orphans' death, looked for at each deadline
    FAILED = "failed"  # the operator
    STOPPED = "stopped"  # nothing: it is about to be forgotten, or replaced by another configuration


@dataclass(slots=True)
class Child:
    """The process of one sync; the supervisor owns it, and the descriptors it names.

    `queue` is the inotify queue, -1 while none is open; `claims` are the locks of the targets; `channel`
    leads to its process, None while there is none.
    """

    sync: Sync
    status: SyncStatus
    claims: Claims
    phase: Phase = Phase.WAITING
    deadline: float = 0.0
    pid: int = 0
    queue: int = -1
    channel: Channel | None = None
    is_ready: bool = False
    full_sync_reason: str = "start"
    restarts: int = 0
    # It was told to stop: its death is no crash, and what follows is `successor` (None: nothing).
    is_unwanted: bool = False
    successor: Sync | None = None
    # Of the process that died last: its session, in which its orphans are, and what follows.
    session: int = 0
    # How long its orphans are waited for where everything stops: one may hang in the kernel.
    sweep_until: float = 0.0
    respawn_at: float = 0.0
    give_up_reason: str = ""
    # What the parent exits with when all its children have failed: USAGE if starting again cannot help.
    failure: ExitStatus = ExitStatus.NOT_GOOD
    crashes: list[float] = field(default_factory=list)
    fruitless_crashes: int = 0
    # Of the running process: when it was started, and whether it has mirrored anything.
    started_at: float = 0.0
    made_progress: bool = False

    def heard(self, now: float, limit: float) -> None:
        """A ping came: the next one is expected within `limit` seconds."""
        if self.phase is Phase.RUNNING:
            self.deadline = now + limit

    def crashed(self, now: float, random_source: random.Random) -> bool:
        """Count a crash and plan the replacement, at `respawn_at`; return False if it is given up."""
        self.crashes = [when for when in self.crashes if now - when < CRASH_WINDOW_SECONDS] + [now]
        is_fruitless = not self.made_progress or now - self.started_at < FRUITLESS_SECONDS
        self.fruitless_crashes = self.fruitless_crashes + 1 if is_fruitless else 0
        doublings = max(0, self.fruitless_crashes - 1)
        seconds = min(RESPAWN_LIMIT_SECONDS, RESPAWN_FIRST_SECONDS * 2.0**doublings)
        self.respawn_at = now + seconds * random_source.uniform(0.75, 1.25)
        return self.fruitless_crashes < FRUITLESS_LIMIT and len(self.crashes) < CRASH_LIMIT

    def started(self, pid: int, now: float, limit: float) -> None:
        """It runs as process `pid` and must be heard of within `limit` seconds."""
        self.pid, self.phase = pid, Phase.RUNNING
        self.started_at, self.deadline = now, now + limit
        self.made_progress = False

    def show(self, state: State, unix_time: float, reason: str = "") -> None:
        """Set the status that the parent knows by itself."""
        since = self.status.since if state is self.status.state else unix_time
        pid = self.pid or None
        status = self.status.shown_as(state, since, reason)
        self.status = replace(status, pid=pid, restarts=self.restarts)

    def take_status(self, status: SyncStatus) -> None:
        """Take over what the child says of itself."""
        if status.name == self.sync.name and self.phase in (Phase.RUNNING, Phase.STOPPING):
            self.status = replace(status, restarts=self.restarts)
            self.made_progress = self.made_progress or status.batches > 0


def new_child(sync: Sync, unix_time: float) -> Child:
    """Return a child that is to be started at once."""
    targets = [
        TargetStatus(target=visible(one.target.text), state=State.STARTING, since=unix_time)
        for one in sync.each_target()
    ]
    status = of_targets(targets, name=sync.name, source=visible(sync.source))
    return Child(sync, status, Claims(one.target for one in sync.each_target()))
