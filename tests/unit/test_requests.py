# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/requests.py: every request reaches a process of its sync, whichever runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.syncs import make_sync

from lsyncd_sd.loop import Loop
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.child import Child, new_child
from lsyncd_sd.service.requests import AGAIN_SECONDS, Requests


class SteppedLoop(Loop):
    """A loop whose clock can be put forward."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


class House:
    """A parent's requests, and the far ends of its children's channels."""

    def __init__(self) -> None:
        self.loop = SteppedLoop()
        self.requests = Requests(self.loop)
        self.ends: list[Channel] = []

    def start(self, child: Child) -> Channel:
        """Start a process of `child`: return its end of the channel."""
        child.channel, theirs = Channel.pair()
        self.ends.append(theirs)
        self.requests.started(child)
        return theirs

    def step(self) -> None:
        for _ in range(3):
            self.loop.run_once(0)

    def close(self) -> None:
        for end in self.ends:
            end.close()
        self.loop.close()


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


@pytest.fixture
def child(house: House) -> Iterator[Child]:
    child = new_child(make_sync(), 1000.0)
    yield child
    house.requests.ended(child)


def heard(process: Channel) -> list[dict[str, Any]]:
    return list(process.messages())


def kinds(process: Channel) -> list[bool]:
    return [message["full"] for message in process.messages()]


def test_a_request_goes_to_the_process_at_once(house: House, child: Child) -> None:
    process = house.start(child)
    house.requests.sync("home", full=False)
    house.requests.sync("home", full=True)
    first, second = heard(process)
    assert (first["do"], first["full"], second["full"]) == ("sync", False, True)
    assert first["id"] != second["id"]


def test_what_is_asked_while_no_process_runs_waits_for_one(house: House, child: Child) -> None:
    house.requests.sync("home", full=True)
    assert kinds(house.start(child)) == [True]


def test_what_a_dead_process_did_not_answer_is_asked_again(house: House, child: Child) -> None:
    process = house.start(child)
    house.requests.sync("home", full=False)
    house.requests.sync("home", full=True)
    answered, _lost = heard(process)
    # It dies right after its answer, which nobody has read so far.
    process.send({"id": answered["id"]})
    process.close()
    house.requests.ended(child)
    assert child.channel is None
    assert kinds(house.start(child)) == [True]


def test_what_is_answered_is_not_asked_again(house: House, child: Child) -> None:
    process = house.start(child)
    house.requests.sync("home", full=True)
    process.send({"id": heard(process)[0]["id"]})
    house.step()
    house.requests.ended(child)
    assert heard(house.start(child)) == []


def test_however_often_it_is_asked_no_more_than_one_of_each_is_kept(house: House, child: Child) -> None:
    for number in range(1000):
        house.requests.sync("home", full=number % 2 == 0)
    assert sorted(kinds(house.start(child))) == [False, True]


def test_another_answer_does_no_harm(house: House, child: Child) -> None:
    process = house.start(child)
    process.send({"id": 4711})
    house.step()
    house.requests.sync("home", full=False)
    assert kinds(process) == [False]


def test_a_process_that_does_not_read_is_told_later(house: House, child: Child) -> None:
    process = house.start(child)
    assert child.channel is not None
    filled = 0
    while child.channel.send({"filled": filled}):
        filled += 1
    house.requests.sync("home", full=True)
    house.requests.sync("home", full=False)
    house.step()
    assert len(heard(process)) == filled
    house.loop.ahead += AGAIN_SECONDS
    house.step()
    assert kinds(process) == [True, False]


def test_a_process_that_is_gone_does_not_keep_the_loop_awake(house: House, child: Child) -> None:
    house.start(child).close()
    house.step()
    later: list[int] = []
    house.loop.call_later(0.05, lambda: later.append(1))
    passes = 0
    while not later:
        house.loop.run_once()
        passes += 1
    assert passes <= 2
    house.requests.sync("home", full=True)
    house.requests.ended(child)
    assert kinds(house.start(child)) == [True]


def test_each_sync_hears_what_is_its_own(house: House, child: Child) -> None:
    other = new_child(make_sync(name="mail"), 1000.0)
    home, mail = house.start(child), house.start(other)
    house.requests.sync("mail", full=True)
    assert (heard(home), kinds(mail)) == ([], [True])
    house.requests.forget("mail")
    house.requests.ended(other)
    assert heard(house.start(other)) == []
    house.requests.ended(other)
