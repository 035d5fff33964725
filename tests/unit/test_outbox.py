# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/outbox.py: what finds the channel full is said later, in order, or is taken back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.looping import SteppedLoop

from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.outbox import AGAIN_SECONDS, Outbox


class House:
    """An outbox, and the other end of its channel."""

    def __init__(self) -> None:
        self.loop = SteppedLoop()
        self.here, self.there = Channel.pair()
        self.outbox = Outbox(self.loop, self.here)

    def fill(self) -> int:
        """Leave no room in the channel; return how many messages that took."""
        filled = 0
        while self.here.send({"id": -1}):
            filled += 1
        return filled

    def heard(self) -> list[int]:
        return [message["id"] for message in self.there.messages()]

    def wait(self) -> None:
        self.loop.ahead += AGAIN_SECONDS
        self.loop.run_once(0)

    def close(self) -> None:
        self.here.close()
        self.there.close()
        self.loop.close()


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def test_what_there_is_room_for_is_said_at_once(house: House) -> None:
    for number in range(3):
        house.outbox.send({"id": number})
    assert house.heard() == [0, 1, 2]
    assert len(house.outbox) == 0


def test_what_there_is_no_room_for_is_said_later_in_order(house: House) -> None:
    filled = house.fill()
    for number in range(3):
        house.outbox.send({"id": number})
    house.wait()
    assert len(house.outbox) == 3
    assert house.heard() == [-1] * filled
    house.outbox.send({"id": 3})
    assert house.heard() == [0, 1, 2, 3], "the next one takes those before it along"
    house.wait()
    assert house.heard() == []


def test_what_was_not_said_can_be_taken_back(house: House) -> None:
    house.outbox.send({"id": 0})
    assert not house.outbox.unsend(0)
    filled = house.fill()
    for number in (1, 2, 3):
        house.outbox.send({"id": number})
    assert house.outbox.unsend(2)
    assert not house.outbox.unsend(2)
    assert house.heard() == [0] + [-1] * filled
    house.wait()
    assert house.heard() == [1, 3]


def test_after_the_end_nothing_is_said(house: House) -> None:
    filled = house.fill()
    house.outbox.send({"id": 0})
    house.outbox.close()
    assert house.heard() == [-1] * filled
    house.wait()
    assert house.heard() == []
