# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/recovery.py: a rescan goes on step by step, waits, and ends when all is known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.looping import run_until
from helpers.syncs import local_target, make_sync

from lsyncd_sd.config.model import Sync
from lsyncd_sd.loop import Loop
from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.service import recovery
from lsyncd_sd.service.checkpoint import Checkpoints
from lsyncd_sd.service.journal import Entry, Event, Journal, Priority
from lsyncd_sd.service.moments import Moment
from lsyncd_sd.service.recovery import ENOUGH_CHANGES, Patient, Recovery
from lsyncd_sd.watch import ground
from lsyncd_sd.watch.walk import Walk


class OneTarget:
    """What recovers: what it is told, and does when it acts."""

    def __init__(self, folder: Path, sync: Sync, write: Callable[[Entry], None]) -> None:
        self.source = os.fsencode(sync.source)
        self.checkpoints = Checkpoints(folder, sync)
        self.write = write
        self.told: list[str] = []
        self.found: list[Change] = []
        self.pending = 0
        self.on_take: Callable[[], None] = lambda: None
        self.on_compare: Callable[[], None] = lambda: None
        self.patient = Patient(
            journal=Journal(self, Priority.DEBUG).about(sync.target.text),
            load=self.checkpoints.load,
            begins=self._begins,
            take=self._take,
            proceed=lambda: self.on_take(),
            ends=lambda: self.told.append("ends"),
            recovered=lambda: self.told.append("recovered"),
            compare=self._compare,
            pending=lambda: self.pending,
        )

    def _begins(self, reason: str, intents: Marks) -> None:
        self.told.append(f"begins: {reason}")
        self.intents = intents

    def _take(self, changes: list[Change]) -> None:
        self.found += changes

    def _compare(self, reason: str) -> None:
        self.told.append(f"compare: {reason}")
        self.on_compare()

    def remember(self, dirty: Marks | None = None) -> None:
        """Make a checkpoint of before all that there is."""
        before = Moment.now()._replace(realtime=1)
        self.checkpoints.begin(before, ground.look(self.source), [], dirty or {})()
        self.checkpoints.commit()

    @property
    def has_recovered(self) -> bool:
        """Whether it was told so."""
        return "recovered" in self.told


class Case(OneTarget):
    """A source of twenty files, and the recovery of one of its targets, or of two."""

    def __init__(self, folder: Path) -> None:
        source = folder / "source"
        for path in (source, folder / "target", folder / "other"):
            path.mkdir()
        for number in range(20):
            (source / str(number)).touch()
        sync = make_sync(source=str(source), target=local_target(str(folder / "target")))
        self.entries: list[Entry] = []
        super().__init__(folder / "state", sync, self.entries.append)
        other = replace(sync, target=local_target(str(folder / "other")))
        self.other = OneTarget(folder / "state of the other", other, self.entries.append)
        self.loop = Loop()
        self.is_caught_up: Callable[[], bool] = lambda: True
        self.recovery = Recovery(self.loop, sync, Filter.from_rules(()), lambda: self.is_caught_up())

    def begin(self, reason: str) -> None:
        """Find out what one has missed."""
        self.recovery.begin(reason, [self.patient])

    def begin_both(self) -> None:
        """Find out what both have missed."""
        self.recovery.begin("", [self.patient, self.other.patient])

    def pass_some_time(self) -> None:
        """Let the loop go round."""
        rounds: list[int] = []
        self.loop.call_later(0.05, lambda: rounds.append(1))
        run_until(self.loop, lambda: bool(rounds), "some time passes")


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
    run_until(case.loop, lambda: case.has_recovered, "it ends")
    files = {Change(b"%d" % number, Depth.ENTRY, True) for number in range(20)}
    assert set(case.found) == files | {Change(b"", Depth.ENTRY | Depth.LEVEL, False)}
    assert case.entries[-1].event is Event.RESCANNED


def test_what_runs_were_at_or_are_to_repeat_is_told(case: Case) -> None:
    failed, begun = {b"1": Mark(Depth.SUBTREE, exact=True)}, {b"2": Mark(Depth.ENTRY, exact=True)}
    case.remember(failed)
    case.checkpoints.intend(begun)
    case.begin("it was away")
    assert case.intents == failed | begun


def test_it_waits_while_enough_changes_wait(case: Case) -> None:
    case.remember()
    case.on_take = lambda: setattr(case, "pending", ENOUGH_CHANGES + 1)
    case.begin("")
    case.on_take = lambda: None
    assert 0 < len(case.found) < 20
    found = len(case.found)
    case.pass_some_time()
    assert len(case.found) == found
    case.pending = 0
    run_until(case.loop, lambda: case.has_recovered, "it ends")
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
    run_until(case.loop, lambda: case.has_recovered, "it ends")
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
    run_until(case.loop, lambda: case.has_recovered, "it ends")
    assert case.told == ["begins: first", "begins: again", "ends", "recovered"]


def test_it_may_be_stopped_by_what_it_finds(case: Case) -> None:
    case.remember()
    case.on_take = case.recovery.stop
    case.begin("")
    case.pass_some_time()
    assert "ends" not in case.told
    assert len(case.found) < 21


def test_a_source_that_goes_meanwhile_has_to_be_compared(case: Case) -> None:
    case.remember()
    case.begin("")
    shutil.rmtree(case.source)
    run_until(case.loop, lambda: len(case.told) > 1, "it is told")
    assert case.told[1].startswith("compare: the source cannot be looked through")


# several targets


ALL = {Change(b"%d" % number, Depth.ENTRY, True) for number in range(20)} | {
    Change(b"", Depth.ENTRY | Depth.LEVEL, False)
}


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Walk]:
    """The walks that were begun."""
    begun: list[Walk] = []

    class Noted(Walk):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            begun.append(self)

    monkeypatch.setattr(recovery, "Walk", Noted)
    return begun


def test_those_who_begin_together_have_one_walk(case: Case, walks: list[Walk]) -> None:
    case.remember()
    case.other.remember()
    case.begin_both()
    run_until(case.loop, lambda: case.has_recovered and case.other.has_recovered, "both end")
    assert len(walks) == 1
    assert set(case.found) == set(case.other.found) == ALL
    assert case.told == case.other.told == ["begins: ", "ends", "recovered"]
    places = [entry.message.partition(": looked through")[0] for entry in case.entries]
    assert [Path(place).name for place in places] == ["target", "other"]


def test_one_of_which_nothing_is_known_does_not_concern_the_other(case: Case) -> None:
    case.other.remember()
    case.begin_both()
    assert case.told == ["compare: ; nothing is known from before"]
    run_until(case.loop, lambda: case.other.has_recovered, "the other ends")
    assert set(case.other.found) == ALL


def test_one_that_is_full_keeps_none_waiting(case: Case, walks: list[Walk]) -> None:
    case.remember()
    case.other.remember()
    case.on_take = lambda: setattr(case, "pending", ENOUGH_CHANGES + 1)
    case.begin_both()
    run_until(case.loop, lambda: case.other.has_recovered, "the other ends")
    assert set(case.other.found) == ALL
    found = len(case.found)
    assert 0 < found < len(ALL)
    case.pass_some_time()
    assert len(case.found) == found
    case.on_take = lambda: None
    case.pending = 0
    run_until(case.loop, lambda: case.has_recovered, "it ends")
    assert set(case.found) == ALL
    assert len(case.found) == len(case.other.found) == len(ALL), "what was found is not looked for again"
    assert len(walks) == 1


def test_two_that_are_full_wait_together(case: Case) -> None:
    case.remember()
    case.other.remember()
    for one in (case, case.other):
        one.on_take = lambda one=one: setattr(one, "pending", ENOUGH_CHANGES + 1)
    case.begin_both()
    case.pass_some_time()
    assert 0 < len(case.found) == len(case.other.found) < len(ALL)
    for one in (case, case.other):
        one.on_take, one.pending = lambda: None, 0
    run_until(case.loop, lambda: case.has_recovered and case.other.has_recovered, "both end")
    assert set(case.found) == set(case.other.found) == ALL


def test_one_that_begins_anew_does_not_disturb_the_other(case: Case) -> None:
    case.remember()
    case.other.remember()

    def begin_anew() -> None:
        case.on_take = lambda: None
        case.begin("again")

    case.on_take = begin_anew
    case.begin_both()
    run_until(case.loop, lambda: case.has_recovered and case.other.has_recovered, "both end")
    assert case.told == ["begins: ", "begins: again", "ends", "recovered"]
    assert case.other.told == ["begins: ", "ends", "recovered"]
    assert set(case.found) == set(case.other.found) == ALL


def test_what_is_lost_when_one_begins_to_compare_ends_the_walk_for_the_other(case: Case) -> None:
    case.other.remember()
    case.on_compare = case.recovery.stop
    case.begin_both()
    case.pass_some_time()
    assert case.other.told == ["begins: "]
    assert case.other.found == []


def test_what_is_lost_when_one_has_recovered_leaves_the_other_recovered(case: Case) -> None:
    """All are told that they have found everything before anybody acts on it."""
    case.remember()
    case.other.remember()
    order: list[str] = []
    patients = [
        replace(
            one.patient,
            ends=lambda name=name: order.append(f"{name} ends"),
            recovered=lambda name=name: order.append(f"{name} recovered"),
        )
        for name, one in (("one", case), ("other", case.other))
    ]
    case.recovery.begin("", patients)
    run_until(case.loop, lambda: len(order) == 4, "both end")
    assert order == ["one ends", "other ends", "one recovered", "other recovered"]


def test_a_source_that_goes_has_to_be_compared_with_all(case: Case) -> None:
    case.remember()
    case.other.remember()
    case.begin_both()
    shutil.rmtree(case.source)
    run_until(case.loop, lambda: len(case.other.told) > 1, "it is told")
    for one in (case, case.other):
        assert one.told[1].startswith("compare: the source cannot be looked through")
