# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/channel.py: messages keep their borders, nobody is made to wait, ends are told."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lsyncd_sd.service.channel import Channel

Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = Channel.pair()
    yield one, other
    one.close()
    other.close()


def test_messages_arrive_whole_and_in_order_both_ways(pair: Pair) -> None:
    one, other = pair
    sent = [{"id": number, "text": "grün\n\0" * number} for number in range(5)]
    for message in sent:
        assert one.send(message)
    assert other.send({"id": 7})
    assert list(other.messages()) == sent
    assert list(one.messages()) == [{"id": 7}]
    assert list(one.messages()) == []
    assert not one.is_ended and not other.is_ended


def test_a_side_that_does_not_read_makes_nobody_wait(pair: Pair) -> None:
    one, other = pair
    sent = 0
    while one.send({"id": sent}):
        sent += 1
        assert sent < 1_000_000
    assert [message["id"] for message in other.messages()] == list(range(sent)), "none is lost or half"
    assert one.send({"id": sent})


def test_what_was_said_before_the_end_is_still_heard(pair: Pair) -> None:
    one, other = pair
    other.send({"id": 1})
    other.close()
    other.close()
    assert list(one.messages()) == [{"id": 1}]
    assert one.is_ended
    assert one.send({"id": 2}), "nothing is gained by keeping it"
    assert list(one.messages()) == []


def test_an_end_with_something_unread_is_an_end(pair: Pair) -> None:
    one, other = pair
    one.send({"id": 1})
    other.close()
    assert list(one.messages()) == []
    assert one.is_ended


def test_no_other_program_inherits_it(pair: Pair) -> None:
    assert [os.get_inheritable(end.fileno()) for end in pair] == [False, False]
