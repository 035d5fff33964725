# SPDX-License-Identifier: GPL-2.0-or-later
"""After a time in which nobody watched: finds what changed by a rescan, or asks for a full sync."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lsyncd_sd.config.model import Sync
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Change
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.service.checkpoint import Distrust
from lsyncd_sd.service.journal import Event, Journal
from lsyncd_sd.watch import ground
from lsyncd_sd.watch.ground import Ground
from lsyncd_sd.watch.rescan import Known, Rescan
from lsyncd_sd.watch.walk import Walk

# Names looked at before the loop goes on: some hundredths of a second where they are in the cache.
ENTRIES_PER_STEP = 2000

# More changes than this are not put on top of those that wait to be sent: the walk waits for them.
ENOUGH_CHANGES = 50_000

# How often a walk that waits looks whether it can go on. A guess.
WAITING_SECONDS = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """What recovers: all that goes to one target.

    `load`: what is known from before, where the source stands on this ground. `begins`: a rescan begins, for
    this reason; runs were at work on these marks, or are to be once more. `take`: it has found these
    changes. `proceed`: act on it. `ends`: the rescan has found all. `recovered`: act on that. `compare`:
    only a full sync helps, for this reason. `pending`: how many changes wait. What acts may read what
    happens meanwhile, or lose the source.
    """

    journal: Journal
    load: Callable[[Ground], Known | Distrust]
    begins: Callable[[str, Marks], None]
    take: Callable[[list[Change]], None]
    ends: Callable[[], None]
    proceed: Callable[[], None]
    recovered: Callable[[], None]
    compare: Callable[[str], None]
    pending: Callable[[], int]


class _Round:
    """One walk, and those for whom it is."""

    def __init__(self, walk: Walk, rescans: dict[Patient, Rescan], began_at: float) -> None:
        self.walk = walk
        self.rescans = rescans
        self.began_at = began_at
        self.found = dict.fromkeys(rescans, 0)
        self.timer: Timer | None = None

    def leave_behind(self, patient: Patient) -> _Round:
        """Go on without one of them; return the rest of the walk for that one."""
        rescan = self.rescans.pop(patient)
        rest = _Round(self.walk.leave_behind(rescan), {patient: rescan}, self.began_at)
        rest.found[patient] = self.found[patient]
        return rest


class Recovery:
    """The rescans of one source; those who begin together have one walk.

    `catch_up`: read all that has happened until now; returns False if not all of it is known.
    """

    def __init__(self, loop: Loop, sync: Sync, filters: Filter, catch_up: Callable[[], bool]) -> None:
        self._loop = loop
        self._source = os.fsencode(sync.source)
        self._filters = filters
        self._is_one_file_system = sync.one_file_system
        self._catch_up = catch_up
        self._rounds: list[_Round] = []

    def begin(self, reason: str, patients: Sequence[Patient]) -> None:
        """Everything is watched again, after `reason`: find out what these have missed."""
        for patient in patients:
            self._forget(patient)
        known, distrusted = self._load(patients)
        begun = self._start(known, reason) if known else None
        for patient, distrust in distrusted.items():
            patient.compare(f"{reason}; {distrust.reason}")
        # To begin a full sync is to read what has happened: it may be the end of all.
        if begun is not None and begun in self._rounds:
            self._step(begun)

    def stop(self) -> None:
        """What rescans would find is not wanted any more."""
        for one in list(self._rounds):
            self._end(one)

    def _end(self, one: _Round) -> None:
        self._rounds.remove(one)
        if one.timer is not None:
            one.timer.cancel()

    def _forget(self, patient: Patient) -> None:
        for one in list(self._rounds):
            if patient not in one.rescans:
                continue
            if len(one.rescans) == 1:
                self._end(one)
            else:
                one.leave_behind(patient)

    def _load(self, patients: Iterable[Patient]) -> tuple[dict[Patient, Known], dict[Patient, Distrust]]:
        known: dict[Patient, Known] = {}
        distrusted: dict[Patient, Distrust] = {}
        try:
            here = ground.look(self._source)
        except OSError as error:
            distrust = Distrust(f"the source cannot be looked at: {error.strerror}")
            return known, dict.fromkeys(patients, distrust)
        for patient in patients:
            answer = patient.load(here)
            if isinstance(answer, Distrust):
                distrusted[patient] = answer
            else:
                known[patient] = answer
        return known, distrusted

    def _start(self, known: dict[Patient, Known], reason: str) -> _Round:
        rescans = {patient: Rescan(one) for patient, one in known.items()}
        walk = Walk(
            self._source,
            rescans.values(),
            self._filters.excludes,
            one_file_system=self._is_one_file_system,
        )
        one = _Round(walk, rescans, self._loop.now())
        self._rounds.append(one)
        for patient, before in known.items():
            intents = {path: Mark(intent.depth, intent.exact) for path, intent in before.intents.items()}
            patient.begins(reason, intents)
        return one

    def _step(self, one: _Round) -> None:
        if not one.walk.done and self._must_wait(one):
            self._go_on_in(one, WAITING_SECONDS)
            return
        try:
            one.walk.step(ENTRIES_PER_STEP)
        except OSError as error:
            self._end(one)
            for patient in one.rescans:
                patient.compare(f"the source cannot be looked through: {error.strerror}")
            return
        self._hand_out(one)
        # What moved before it was found is found where it went only if that move is known, too.
        is_over = one.walk.done and one in self._rounds and self._catch_up()
        if one not in self._rounds:
            return
        if is_over:
            self._finish(one)
        else:
            self._go_on_in(one, WAITING_SECONDS if one.walk.done else 0)

    def _go_on_in(self, one: _Round, seconds: float) -> None:
        one.timer = self._loop.call_later(seconds, lambda: self._step(one))

    def _must_wait(self, one: _Round) -> bool:
        """Tell whether enough changes wait; those with whom it is so do not keep the others waiting."""
        full = [patient for patient in one.rescans if patient.pending() > ENOUGH_CHANGES]
        if len(full) == len(one.rescans):
            return True
        for patient in full:
            rest = one.leave_behind(patient)
            self._rounds.append(rest)
            self._go_on_in(rest, WAITING_SECONDS)
        return False

    def _hand_out(self, one: _Round) -> None:
        patients = list(one.rescans)
        for patient in patients:
            changes = one.rescans[patient].take()
            one.found[patient] += len(changes)
            patient.take(changes)
        for patient in patients:
            patient.proceed()

    def _finish(self, one: _Round) -> None:
        self._end(one)
        seconds = self._loop.now() - one.began_at
        for patient in one.rescans:
            patient.journal.info(
                f"looked through the source: {one.found[patient]} changes, {seconds:.1f} s",
                Event.RESCANNED,
                duration_usec=int(seconds * 1e6),
            )
            patient.ends()
        for patient in one.rescans:
            patient.recovered()
