# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/recovery.py: a rescan goes on step by step, waits, and ends when all is known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.looping import run_until
from helpers.syncs import local_target, make_sync

from lsyncd_sd.loop import Loop
from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.service import recovery
from lsyncd_sd.service.checkpoint import Checkpoints
from lsyncd_sd.service.journal import Entry, Event, Journal, Priority
from lsyncd_sd.service.moments import Moment
from lsyncd_sd.service.recovery import ENOUGH_CHANGES, Patient, Recovery
from lsyncd_sd.watch import ground


class Case:
    """A source of twenty files, and what its recovery tells and is told."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        for path in (self.source, folder / "target"):
            path.mkdir()
        for number in range(20):
            (self.source / str(number)).touch()
        self.sync = make_sync(source=str(self.source), target=local_target(str(folder / "target")))
        self.checkpoints = Checkpoints(folder / "state", self.sync)
        self.loop = Loop()
        self.entries: list[Entry] = []
        self.told: list[str] = []
        self.found: list[Change] = []
        self.is_caught_up: Callable[[], bool] = lambda: True
        self.pending = 0
        self.patient = Patient(
            journal=Journal(self, Priority.DEBUG),
            load=self.checkpoints.load,
            begins=lambda reason, *_more: self.told.append(f"begins: {reason}"),
            take=self._take,
            proceed=lambda: self.on_take(),
            ends=lambda: self.told.append("ends"),
            recovered=lambda: self.told.append("recovered"),
            compare=lambda reason: self.told.append(f"compare: {reason}"),
            pending=lambda: self.pending,
        )
        self.on_take: Callable[[], None] = lambda: None
        self.recovery = Recovery(self.loop, self.sync, Filter.from_rules(()), lambda: self.is_caught_up())

    def begin(self, reason: str) -> None:
        """Find out what was missed."""
        self.recovery.begin(reason, [self.patient])

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)

    def _take(self, changes: list[Change]) -> None:
        self.found += changes

    def remember(self) -> None:
        """Make a checkpoint of before all that there is."""
        before = Moment.now()._replace(realtime=1)
        self.checkpoints.begin(before, ground.look(os.fsencode(self.source)), [], {})()
        self.checkpoints.commit()


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    monkeypatch.setattr(recovery, "ENTRIES_PER_STEP", 5)
    monkeypatch.setattr(recovery, "WAITING_SECONDS", 0.01)
    case = Case(tmp_path)
    yield case
    case.recovery.stop()
    case.loop.close()


def test_where_nothing_is_known_all_is_compared(case: Case) -> None:
    case.begin("it was away")
    assert case.told == ["compare: it was away; nothing is known from before"]


def test_all_that_changed_is_found(case: Case) -> None:
    case.remember()
    case.begin("it was away")
    assert case.told == ["begins: it was away"]
    run_until(case.loop, lambda: "recovered" in case.told, "it ends")
    files = {Change(b"%d" % number, Depth.ENTRY, True) for number in range(20)}
    assert set(case.found) == files | {Change(b"", Depth.ENTRY | Depth.LEVEL, False)}
    assert case.entries[-1].event is Event.RESCANNED


def test_it_waits_while_enough_changes_wait(case: Case) -> None:
    case.remember()
    case.on_take = lambda: setattr(case, "pending", ENOUGH_CHANGES + 1)
    case.begin("")
    case.on_take = lambda: None
    assert 0 < len(case.found) < 20
    found = len(case.found)
    rounds = []
    case.loop.call_later(0.05, lambda: rounds.append(1))
    run_until(case.loop, lambda: bool(rounds), "some time passes")
    assert len(case.found) == found
    case.pending = 0
    run_until(case.loop, lambda: "recovered" in case.told, "it ends")
    assert len(case.found) == 21


def test_it_is_over_when_all_that_happened_meanwhile_is_known(case: Case) -> None:
    case.remember()
    tries = []

    def catch_up() -> bool:
        # not before everything was looked at
        assert len(case.found) == 21
        tries.append("ends" in case.told)
        return len(tries) == 3

    case.is_caught_up = catch_up
    case.begin("")
    run_until(case.loop, lambda: "recovered" in case.told, "it ends")
    assert tries == [False, False, False]


def test_what_is_lost_while_it_catches_up_begins_it_anew(case: Case) -> None:
    case.remember()

    def lose() -> bool:
        case.recovery.stop()
        case.is_caught_up = lambda: True
        case.loop.call_later(0, lambda: case.begin("again"))
        return False

    case.is_caught_up = lose
    case.begin("first")
    run_until(case.loop, lambda: "recovered" in case.told, "it ends")
    assert case.told == ["begins: first", "begins: again", "ends", "recovered"]


def test_it_may_be_stopped_by_what_it_finds(case: Case) -> None:
    case.remember()
    case.on_take = case.recovery.stop
    case.begin("")
    rounds = []
    case.loop.call_later(0.05, lambda: rounds.append(1))
    run_until(case.loop, lambda: bool(rounds), "some time passes")
    assert "ends" not in case.told
    assert len(case.found) < 21


def test_a_source_that_goes_meanwhile_has_to_be_compared(case: Case) -> None:
    case.remember()
    case.begin("")
    shutil.rmtree(case.source)
    run_until(case.loop, lambda: len(case.told) > 1, "it is told")
    assert case.told[1].startswith("compare: the source cannot be looked through")
