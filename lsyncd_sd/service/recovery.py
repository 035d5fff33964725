# SPDX-License-Identifier: GPL-2.0-or-later
"""After a time in which nobody watched: finds what changed by a rescan, or asks for a full sync."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lsyncd_sd.config.model import Sync
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.plan.change import Change
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.service.checkpoint import Checkpoints, Distrust
from lsyncd_sd.service.journal import Event, Journal
from lsyncd_sd.watch import ground
from lsyncd_sd.watch.rescan import Known, Rescan

# Names looked at before the loop goes on: some hundredths of a second where they are in the cache.
ENTRIES_PER_STEP = 2000

# More changes than this are not put on top of those that wait to be sent: the walk waits for them.
ENOUGH_CHANGES = 50_000

# How often a walk that waits looks whether it can go on. A guess.
WAITING_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Patient:
    """What recovers.

    `begins`: a rescan begins, for this reason; runs were at work on these paths. `take`: it has found these
    changes. `catch_up`: read all that has happened until now; returns False if not all of it is known.
    `ends`: the rescan has found all. `compare`: only a full sync helps, for this reason. `pending`: how many
    changes wait.
    """

    begins: Callable[[str, Iterable[bytes]], None]
    take: Callable[[list[Change]], None]
    catch_up: Callable[[], bool]
    ends: Callable[[], None]
    compare: Callable[[str], None]
    pending: Callable[[], int]


class Recovery:
    """The rescans of one sync, one at a time."""

    def __init__(
        self,
        loop: Loop,
        sync: Sync,
        filters: Filter,
        checkpoints: Checkpoints,
        journal: Journal,
        patient: Patient,
    ) -> None:
        self._loop = loop
        self._sync = sync
        self._source = os.fsencode(sync.source)
        self._filters = filters
        self._checkpoints = checkpoints
        self._journal = journal
        self._patient = patient
        self._rescan: Rescan | None = None
        self._timer: Timer | None = None
        self._found = 0
        self._began_at = 0.0

    def begin(self, reason: str) -> None:
        """Everything is watched again, after `reason`: find out what was missed."""
        self.stop()
        try:
            known = self._checkpoints.load(ground.look(self._source))
        except OSError as error:
            known = Distrust(f"the source cannot be looked at: {error.strerror}")
        if isinstance(known, Distrust):
            self._patient.compare(f"{reason}; {known.reason}")
        else:
            self._start(known, reason)

    def _start(self, known: Known, reason: str) -> None:
        self._rescan = Rescan(
            self._source, known, self._filters.excludes, one_file_system=self._sync.one_file_system
        )
        self._found, self._began_at = 0, self._loop.now()
        touched = [path for path, intent in known.intents.items() if intent.touched_at is not None]
        self._patient.begins(reason, touched)
        self._step()

    def stop(self) -> None:
        """What a rescan would find is not wanted any more."""
        self._rescan = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _step(self) -> None:
        rescan = self._rescan
        assert rescan is not None
        if not rescan.done and self._patient.pending() > ENOUGH_CHANGES:
            self._timer = self._loop.call_later(WAITING_SECONDS, self._step)
            return
        try:
            changes = rescan.step(ENTRIES_PER_STEP)
        except OSError as error:
            self.stop()
            self._patient.compare(f"the source cannot be looked through: {error.strerror}")
            return
        self._found += len(changes)
        self._patient.take(changes)
        # What moved before it was found is found where it went only if that move is known, too.
        is_over = rescan.done and self._rescan is rescan and self._patient.catch_up()
        if self._rescan is not rescan:
            return
        if is_over:
            self._finish()
        else:
            self._timer = self._loop.call_later(WAITING_SECONDS if rescan.done else 0, self._step)

    def _finish(self) -> None:
        self._rescan = None
        seconds = self._loop.now() - self._began_at
        self._journal.info(
            f"looked through the source: {self._found} changes, {seconds:.1f} s",
            Event.RESCANNED,
            duration_usec=int(seconds * 1e6),
        )
        self._patient.ends()
