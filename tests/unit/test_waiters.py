# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/waiters.py: an answer comes when all that was dirty is mirrored, and never before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from helpers.looping import SteppedLoop

from lsyncd_sd.plan.guard import Hold
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.fullsyncs import Stamp
from lsyncd_sd.service.journal import Entry, Journal, Priority
from lsyncd_sd.service.outbox import AGAIN_SECONDS
from lsyncd_sd.service.standing import Standing
from lsyncd_sd.service.status import State
from lsyncd_sd.service.waiters import Waiters


class Cookies:
    """Cookies that are heard of when the test says so."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.arrived: set[bytes] = set()
        self.error: OSError | None = None

    def send(self) -> bytes:
        if self.error is not None:
            raise self.error
        self.sent.append(b"cookie %d" % len(self.sent))
        return self.sent[-1]

    def received(self) -> set[bytes]:
        arrived, self.arrived = self.arrived, set()
        return arrived


class Delivery:
    """A delivery that has mirrored what the test says; remembers what it was asked to do."""

    def __init__(self) -> None:
        self.hold: Hold | None = None
        self.is_ready = True
        self.asked: list[str] = []
        self.given = 0
        self.done = 0

    def request_full_sync(self, reason: str) -> None:
        self.asked.append(f"full: {reason}")

    def expedite(self) -> None:
        self.asked.append("expedite")

    def accept(self, hold: Hold) -> None:
        self.asked.append(f"accept: {hold.token}")

    def stamp(self) -> Stamp:
        self.given += 1
        return Stamp(self.given, 0)

    def is_mirrored(self, stamp: Stamp) -> bool:
        return stamp.dirty <= self.done


@dataclass
class Outlet:
    """What goes to one target."""

    target: str
    standing: Standing
    delivery: Delivery = field(default_factory=Delivery)


class House:
    """The waiters of one child, with the parent's end of the channel."""

    def __init__(self, *targets: str) -> None:
        self.loop = SteppedLoop()
        self.parent, self.channel = Channel.pair()
        self.cookies = Cookies()
        self.looked = 0
        journal = Journal(self, Priority.DEBUG)
        self.outlets = [Outlet(target, Standing(journal, lambda: None)) for target in targets]
        self.delivery, self.standing = self.outlets[0].delivery, self.outlets[0].standing
        self.waiters = Waiters(
            self.loop,
            "home",
            self.channel,
            self.cookies,  # type: ignore[arg-type]
            self.outlets,  # type: ignore[arg-type]
            self._look,
        )
        self._number = 0

    def write(self, entry: Entry) -> None:
        pass

    def accept(self, hold_id: str, target: str = "/target") -> list[dict[str, Any]]:
        """Return what is answered at once."""
        self.parent.send({"do": "accept", "id": 7, "target": target, "hold_id": hold_id})
        self.step()
        return self.answers()

    def _look(self) -> None:
        assert len(self.cookies.sent) <= self.looked, "what is found by looking is found before the cookie"
        self.looked += 1

    def ask(self, *, full: bool = False) -> int:
        self._number += 1
        self.parent.send({"do": "sync", "id": self._number, "full": full})
        self.step()
        return self._number

    def step(self) -> None:
        for _ in range(3):
            self.loop.run_once(0)

    def read(self, *, is_settled: bool = True) -> None:
        """The queue is read with every cookie in it."""
        self.cookies.arrived = set(self.cookies.sent)
        self.waiters.changed(is_settled=is_settled)

    def mirror(self, *targets: int) -> None:
        """All that was dirty is mirrored, to some targets or to all."""
        for number, outlet in enumerate(self.outlets):
            if number in targets or not targets:
                outlet.delivery.done = outlet.delivery.given
        self.waiters.check()

    def answers(self) -> list[dict[str, Any]]:
        return list(self.parent.messages())

    def close(self) -> None:
        self.parent.close()
        self.channel.close()
        self.loop.close()


@pytest.fixture
def house() -> Iterator[House]:
    house = House("/target")
    house.waiters.watching_begins()
    yield house
    house.close()


@pytest.fixture
def two() -> Iterator[House]:
    """The waiters of a sync with two targets."""
    house = House("/one", "host:/two")
    house.waiters.watching_begins()
    yield house
    house.close()


def test_an_answer_comes_when_what_was_dirty_is_mirrored(house: House) -> None:
    number = house.ask()
    assert house.looked == 1
    house.waiters.changed(is_settled=True)
    house.mirror()
    assert house.delivery.given == 0, "the cookie was not heard of"
    house.read()
    assert house.delivery.asked == ["expedite"]
    assert house.answers() == []
    house.mirror()
    assert house.answers() == [{"id": number}]
    house.mirror()
    assert house.answers() == []


def test_where_nothing_is_dirty_the_answer_comes_with_the_cookie(house: House) -> None:
    house.delivery.done = 1000
    number = house.ask()
    house.read()
    assert house.answers() == [{"id": number}]


def test_a_full_sync_is_asked_for_once_before_the_stamp(house: House) -> None:
    house.ask(full=True)
    house.ask()
    house.ask(full=True)
    house.read()
    assert house.delivery.asked == ["full: asked for", "expedite"]
    house.read()
    assert house.delivery.asked == ["full: asked for", "expedite"]
    house.mirror()
    assert len(house.answers()) == 3


def test_nothing_is_known_while_a_directory_is_in_doubt(house: House) -> None:
    house.ask()
    house.read(is_settled=False)
    house.mirror()
    assert house.answers() == []
    house.waiters.changed(is_settled=True)
    assert house.delivery.given == 1
    house.mirror()
    assert len(house.answers()) == 1


def test_nothing_is_known_before_the_source_was_walked(house: House) -> None:
    house.delivery.is_ready = False
    house.ask()
    house.read()
    house.mirror()
    assert (house.delivery.asked, house.answers()) == ([], [])
    house.delivery.is_ready = True
    house.waiters.changed(is_settled=True)
    house.mirror()
    assert len(house.answers()) == 1


def test_each_waits_for_its_own_cookie(house: House) -> None:
    first, _second = house.ask(), house.ask()
    house.cookies.arrived = {house.cookies.sent[0]}
    house.waiters.changed(is_settled=True)
    house.mirror()
    assert house.answers() == [{"id": first}]


@pytest.mark.parametrize("had_read", [False, True])
def test_after_the_queue_was_thrown_away_it_is_asked_anew(house: House, had_read: bool) -> None:
    """An overflow, or the source was away: what the walk marks is known only behind another cookie."""
    house.ask()
    if had_read:
        house.read(is_settled=False)
    house.waiters.watching_ends()
    house.waiters.watching_begins()
    assert len(house.cookies.sent) == 2
    house.cookies.arrived = {house.cookies.sent[0]}
    house.waiters.changed(is_settled=True)
    house.mirror()
    assert (house.delivery.given, house.answers()) == (0, [])
    house.read()
    house.mirror()
    assert len(house.answers()) == 1


def test_what_is_stamped_already_is_not_asked_anew(house: House) -> None:
    house.ask()
    house.read()
    house.waiters.watching_ends()
    house.waiters.watching_begins()
    assert len(house.cookies.sent) == 1
    house.mirror()
    assert len(house.answers()) == 1


def test_what_is_asked_while_nothing_is_watched_waits(house: House) -> None:
    house.waiters.watching_ends()
    house.ask()
    house.waiters.changed(is_settled=True)
    house.mirror()
    assert (house.cookies.sent, house.delivery.given, house.answers()) == ([], 0, [])
    house.waiters.watching_begins()
    house.read()
    house.mirror()
    assert len(house.answers()) == 1


def test_what_is_found_late_does_not_wait_for_the_delay(house: House) -> None:
    house.waiters.recovered(house.outlets[0])
    assert house.delivery.asked == [], "nobody waits"
    number = house.ask()
    house.waiters.recovered(house.outlets[0])
    house.read()
    house.waiters.recovered(house.outlets[0])
    assert house.delivery.asked == ["expedite"] * 2
    assert house.answers() == []
    house.delivery.done = house.delivery.given
    house.waiters.recovered(house.outlets[0])
    assert house.answers() == [{"id": number}], "nothing was found"


def test_a_cookie_that_cannot_be_sent_is_an_error(house: House) -> None:
    house.cookies.error = OSError(28, "No space left on device", "/run/cookies.home")
    number = house.ask()
    reason = "cannot make /run/cookies.home to ask the queue with: No space left on device"
    error = {"error": "Unavailable", "parameters": {"name": "home", "reason": reason}}
    assert house.answers() == [{"id": number, **error}]
    house.waiters.watching_ends()
    number = house.ask()
    assert house.answers() == []
    house.waiters.watching_begins()
    assert house.answers() == [{"id": number, **error}]
    house.mirror()


def test_what_nobody_waits_for_any_more_is_forgotten(house: House) -> None:
    number, other = house.ask(), house.ask()
    for unknown in (number, 4711):
        house.parent.send({"do": "forget", "id": unknown})
    house.step()
    house.read()
    house.mirror()
    assert house.answers() == [{"id": other}]


def test_what_is_held_now_can_be_accepted_and_nothing_else(house: House) -> None:
    held = State.HELD, "the source is empty: lsyncd-sd accept home"
    house.standing.enter(*held)
    house.delivery.hold = hold = Hold("the source is empty", "look", "token")
    changed = {"name": "home", "reason": held[1], "hold_id": "token"}
    assert house.accept("older") == [{"id": 7, "error": "HoldChanged", "parameters": changed}]
    assert house.delivery.asked == []
    assert house.accept(hold.token) == [{"id": 7}]
    assert house.delivery.asked == ["accept: token"]


def test_what_is_not_held_cannot_be_accepted(house: House) -> None:
    house.standing.enter(State.SYNCING)
    not_held = {"name": "home", "state": "syncing"}
    for hold_id in ("token", ""):
        assert house.accept(hold_id) == [{"id": 7, "error": "NotHeld", "parameters": not_held}]
    assert house.delivery.asked == []


def test_a_parent_that_does_not_read_is_told_later(house: House) -> None:
    filled = 0
    while house.channel.send({"filled": filled}):
        filled += 1
    numbers = [house.ask() for _ in range(3)]
    house.read()
    house.mirror()
    assert len(house.answers()) == filled
    house.loop.ahead += AGAIN_SECONDS
    house.step()
    assert house.answers() == [{"id": number} for number in numbers]


def test_one_that_is_told_to_stop_takes_nothing_in(house: House) -> None:
    house.waiters.close()
    house.ask()
    assert house.looked == 0


def test_the_end_of_the_parent_does_not_keep_the_loop_awake(house: House) -> None:
    house.parent.close()
    house.step()
    later: list[int] = []
    house.loop.call_later(0.05, lambda: later.append(1))
    passes = 0
    while not later:
        house.loop.run_once()
        passes += 1
    assert passes <= 2


# several targets


def test_every_target_is_waited_for(two: House) -> None:
    number = two.ask(full=True)
    two.read()
    assert [outlet.delivery.asked for outlet in two.outlets] == [["full: asked for", "expedite"]] * 2
    two.mirror(1)
    assert two.answers() == []
    two.mirror(0)
    assert two.answers() == [{"id": number}]


def test_what_one_target_finds_late_does_not_hasten_the_other(two: House) -> None:
    two.ask()
    two.read()
    two.waiters.recovered(two.outlets[1])
    assert [outlet.delivery.asked for outlet in two.outlets] == [["expedite"], ["expedite"] * 2]


def test_only_the_target_that_is_named_is_released(two: House) -> None:
    for outlet in two.outlets:
        outlet.standing.enter(State.HELD, "the source is empty")
        outlet.delivery.hold = Hold("the source is empty", "look", "token")
    assert two.accept("token", "host:/two") == [{"id": 7}]
    assert [outlet.delivery.asked for outlet in two.outlets] == [[], ["accept: token"]]


def test_what_one_target_is_held_for_says_nothing_of_the_other(two: House) -> None:
    two.outlets[0].delivery.hold = Hold("the source is empty", "look", "token")
    two.outlets[1].standing.enter(State.SYNCING)
    not_held = {"name": "home", "state": "syncing"}
    assert two.accept("token", "host:/two") == [{"id": 7, "error": "NotHeld", "parameters": not_held}]
