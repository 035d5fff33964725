# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/requests.py: every request reaches a process of its sync, whichever runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from helpers.looping import SteppedLoop
from helpers.syncs import make_sync

from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.child import Child, Phase, new_child
from lsyncd_sd.service.control_interface import INTERFACE, Deferred
from lsyncd_sd.service.outbox import AGAIN_SECONDS
from lsyncd_sd.service.requests import Requests
from lsyncd_sd.service.status import State


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

    def sync(self, name: str, *, full: bool) -> None:
        """Ask for something without waiting for it."""
        self.requests.sync(name, full=full, reply=None)

    def wait(self, name: str = "home", *, full: bool = False) -> Deferred:
        """Ask for something and wait for it."""
        reply = Deferred()
        reply.wants_more = True
        self.requests.sync(name, full=full, reply=reply)
        return reply

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


def taken(reply: Deferred) -> dict[str, Any]:
    """Return what a client is sent next; empty if nothing."""
    message = reply.take()
    return json.loads(message[:-1]) if message else {}


def heard(process: Channel) -> list[dict[str, Any]]:
    return list(process.messages())


def kinds(process: Channel) -> list[bool]:
    return [message["full"] for message in process.messages() if message["do"] == "sync"]


def test_a_request_goes_to_the_process_at_once(house: House, child: Child) -> None:
    process = house.start(child)
    house.sync("home", full=False)
    house.sync("home", full=True)
    first, second = heard(process)
    assert (first["do"], first["full"], second["full"]) == ("sync", False, True)
    assert first["id"] != second["id"]


def test_what_is_asked_while_no_process_runs_waits_for_one(house: House, child: Child) -> None:
    house.sync("home", full=True)
    assert kinds(house.start(child)) == [True]


def test_what_a_dead_process_did_not_answer_is_asked_again(house: House, child: Child) -> None:
    process = house.start(child)
    house.sync("home", full=False)
    house.sync("home", full=True)
    answered, _lost = heard(process)
    # It dies right after its answer, which nobody has read so far.
    process.send({"id": answered["id"]})
    process.close()
    house.requests.ended(child)
    assert child.channel is None
    assert kinds(house.start(child)) == [True]


def test_what_is_answered_is_not_asked_again(house: House, child: Child) -> None:
    process = house.start(child)
    house.sync("home", full=True)
    process.send({"id": heard(process)[0]["id"]})
    house.step()
    house.requests.ended(child)
    assert heard(house.start(child)) == []


def test_however_often_it_is_asked_no_more_than_one_of_each_is_kept(house: House, child: Child) -> None:
    for number in range(1000):
        house.sync("home", full=number % 2 == 0)
    assert sorted(kinds(house.start(child))) == [False, True]


def test_another_answer_does_no_harm(house: House, child: Child) -> None:
    process = house.start(child)
    process.send({"id": 4711})
    house.step()
    house.sync("home", full=False)
    assert kinds(process) == [False]


def test_a_process_that_does_not_read_is_told_later(house: House, child: Child) -> None:
    process = house.start(child)
    assert child.channel is not None
    filled = 0
    while child.channel.send({"filled": filled}):
        filled += 1
    house.sync("home", full=True)
    house.sync("home", full=False)
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
    house.sync("home", full=True)
    house.requests.ended(child)
    assert kinds(house.start(child)) == [True]


def test_each_sync_hears_what_is_its_own(house: House, child: Child) -> None:
    other = new_child(make_sync(name="mail"), 1000.0)
    home, mail = house.start(child), house.start(other)
    house.sync("mail", full=True)
    assert (heard(home), kinds(mail)) == ([], [True])
    house.requests.forget("mail")
    house.requests.ended(other)
    assert heard(house.start(other)) == []
    house.requests.ended(other)


# clients that wait


def test_a_client_gets_the_answer_of_the_process_and_the_status(house: House, child: Child) -> None:
    process = house.start(child)
    first, second = house.wait(), house.wait(full=True)
    _first, asked = heard(process)
    child.status = replace(child.status, state=State.IN_SYNC)
    process.send({"id": asked["id"]})
    house.step()
    assert taken(first) == {}
    assert taken(second) == {"parameters": {"sync": child.status.to_json()}}


def test_a_client_gets_the_error_of_the_process(house: House, child: Child) -> None:
    process = house.start(child)
    reply = house.wait()
    error = {"error": "Unavailable", "parameters": {"name": "home", "reason": "no room"}}
    process.send({"id": heard(process)[0]["id"], **error})
    house.step()
    assert taken(reply) == {**error, "error": f"{INTERFACE}.Unavailable"}


def test_a_wait_goes_on_with_the_process_that_follows(house: House, child: Child) -> None:
    replies = [house.wait(), house.wait(full=True)]
    for _ in range(3):
        process = house.start(child)
        assert kinds(process) == [False, True]
        process.close()
        house.requests.ended(child)
    assert [taken(reply) for reply in replies] == [{}, {}], "nobody has said that it is done"
    process = house.start(child)
    for message in heard(process):
        process.send({"id": message["id"]})
    house.requests.ended(child)
    assert all("parameters" in taken(reply) for reply in replies), "it said so before it died"


def test_clients_hear_of_each_state_and_reason_once(house: House, child: Child) -> None:
    reply = house.wait()
    for state, reason in [(State.HELD, "why"), (State.HELD, "why else"), (State.SYNCING, "")]:
        child.status = replace(child.status, state=state, reason=reason)
        for _ in range(2):
            house.requests.look_at(child)
        assert taken(reply) == {"parameters": {"sync": child.status.to_json()}, "continues": True}
        child.status = replace(child.status, pending=child.status.pending + 1)
        house.requests.look_at(child)
        assert taken(reply) == {}


def test_who_waits_for_what_is_given_up_is_told(house: House, child: Child) -> None:
    reply = house.wait()
    house.sync("home", full=True)
    child.phase = Phase.FAILED
    child.status = replace(child.status, state=State.FAILED, reason="it crashed")
    house.requests.look_at(child)
    expected = {"error": f"{INTERFACE}.Unavailable", "parameters": {"name": "home", "reason": "it crashed"}}
    assert taken(reply) == expected
    assert heard(house.start(child)) == [], "a restart is a new beginning"


def test_who_waits_for_what_is_taken_out_of_the_configuration_is_told(house: House, child: Child) -> None:
    process = house.start(child)
    reply = house.wait()
    number = heard(process)[0]["id"]
    house.requests.forget("home")
    assert taken(reply) == {"error": f"{INTERFACE}.NoSuchSync", "parameters": {"name": "home"}}
    process.send({"id": number})
    house.step()
    assert taken(reply) == {}


def test_what_a_client_asked_for_is_done_although_it_hung_up(house: House, child: Child) -> None:
    house.wait(full=True).abandon()
    assert kinds(house.start(child)) == [True]


def test_clients_that_come_and_go_leave_little_behind(house: House, child: Child) -> None:
    staying = house.wait()
    process = house.start(child)
    for number in range(1000):
        house.wait(full=number % 2 == 0).abandon()
        house.step()
    # What the process was told to forget is one less to remember for it as well.
    remembered = {}
    while messages := heard(process):
        for message in messages:
            if message["do"] == "forget":
                del remembered[message["id"]]
            else:
                remembered[message["id"]] = message["full"]
        house.loop.ahead += AGAIN_SECONDS
        house.step()
    assert sorted(remembered.values()) == [False, False, True]
    house.requests.ended(child)
    process = house.start(child)
    assert sorted(kinds(process)) == [False, False, True]
    assert taken(staying) == {}


def test_clients_that_come_and_go_while_a_process_does_not_read_cost_nothing(
    house: House, child: Child
) -> None:
    process = house.start(child)
    assert child.channel is not None
    while child.channel.send({"filled": True}):
        pass
    for _ in range(1000):
        house.wait().abandon()
    assert len(house.requests._outbox["home"]) == 1
    assert len(house.requests._open["home"]) == 1
    list(process.messages())
    house.loop.ahead += AGAIN_SECONDS
    house.step()
    assert kinds(process) == [False]


# what is accepted


def accept(house: House, child: Child, hold_id: str = "token") -> Deferred:
    reply = Deferred()
    house.requests.accept(child, "/target", hold_id, reply)
    return reply


NOT_HELD = {"error": f"{INTERFACE}.NotHeld", "parameters": {"name": "home", "state": "starting"}}


def test_what_is_accepted_is_for_the_process_to_compare(house: House, child: Child) -> None:
    process = house.start(child)
    good, bad = accept(house, child), accept(house, child, "older")
    first, second = heard(process)
    assert [message["hold_id"] for message in (first, second)] == ["token", "older"]
    assert first["do"] == "accept"
    error = {"error": "HoldChanged", "parameters": {"name": "home", "reason": "why", "hold_id": "token"}}
    process.send({"id": first["id"]})
    process.send({"id": second["id"], **error})
    house.step()
    assert taken(good) == {"parameters": {}}
    assert taken(bad) == {**error, "error": f"{INTERFACE}.HoldChanged"}


def test_what_is_accepted_is_not_for_another_process(house: House, child: Child) -> None:
    assert taken(accept(house, child)) == NOT_HELD, "none runs"
    process = house.start(child)
    reply = accept(house, child)
    house.requests.ended(child)
    assert taken(reply) == NOT_HELD
    process.close()
    assert heard(house.start(child)) == []


def test_a_process_that_accepts_and_dies_has_accepted(house: House, child: Child) -> None:
    process = house.start(child)
    reply = accept(house, child)
    process.send({"id": heard(process)[0]["id"]})
    house.requests.ended(child)
    assert taken(reply) == {"parameters": {}}


def test_who_hangs_up_before_it_was_sent_has_accepted_nothing(house: House, child: Child) -> None:
    process = house.start(child)
    accept(house, child, "sent").abandon()
    assert child.channel is not None
    while child.channel.send({"do": "nothing"}):
        pass
    for _ in range(1000):
        accept(house, child, "unsent").abandon()
    assert len(house.requests._outbox["home"]) == 0
    assert not house.requests._accepting["home"]
    assert {message.get("hold_id") for message in heard(process)} == {"sent", None}
