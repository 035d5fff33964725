# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/answers.py: each method asks the parent for the right thing, or refuses."""

from __future__ import annotations

from typing import Any

import pytest

from lsyncd_sd.service.answers import methods
from lsyncd_sd.service.control_interface import PARAMETERS, ControlError, Deferred
from lsyncd_sd.service.status import State, SyncStatus, TargetStatus, document

HELD_A = TargetStatus("/a", State.HELD, 1.0, hold_id="a")
HELD_B = TargetStatus("/b", State.HELD, 1.0, hold_id="b")
HELD_AS_A = TargetStatus("/as-a", State.HELD, 1.0, hold_id="a")
GOOD = TargetStatus("/good", State.IN_SYNC, 1.0)
GIVEN_UP = TargetStatus("/given-up", State.FAILED, 1.0)


class Parent:
    """Has some syncs and remembers what it was asked to do."""

    def __init__(self) -> None:
        self.syncs = [
            SyncStatus("home", "/home", "h:/home", State.IN_SYNC, 1.0),
            SyncStatus("mail", "/mail", "h:/mail", State.HELD, 1.0, hold_id="token"),
            # A child that has not yet said what it is held for.
            SyncStatus("new", "/new", "h:/new", State.HELD, 1.0),
            SyncStatus("both", "/both", "2 targets", State.HELD, 1.0, targets=(HELD_A, HELD_B, GOOD)),
            SyncStatus("one", "/one", "2 targets", State.FAILED, 1.0, targets=(HELD_A, GOOD, GIVEN_UP)),
            SyncStatus("same", "/same", "2 targets", State.HELD, 1.0, targets=(HELD_A, HELD_AS_A)),
        ]
        self.asked: list[tuple[str, ...]] = []
        self.reply: Deferred | None = None

    def statuses(self) -> list[SyncStatus]:
        return self.syncs

    def reload(self) -> list[str]:
        self.asked.append(("reload",))
        return ["mail"]

    def restart(self, name: str) -> None:
        self.asked.append(("restart", name))

    def accept(self, name: str, target: str, hold_id: str, reply: Deferred) -> None:
        self.asked.append(("accept", name, target, hold_id))
        self.reply = reply

    def sync(self, name: str, *, full: bool, reply: Deferred | None) -> None:
        self.asked.append(("sync", name, str(full)))
        self.reply = reply


@pytest.fixture
def parent() -> Parent:
    return Parent()


def ask(parent: Parent, method: str, **parameters: Any) -> dict[str, Any]:
    answer = methods(parent)[method](parameters)
    assert isinstance(answer, dict)
    return answer


def test_every_method_of_the_interface_is_answered(parent: Parent) -> None:
    of_the_interface = {name.rpartition(".")[2] for name in PARAMETERS if name.startswith("org.lsyncd-sd.")}
    assert methods(parent).keys() == of_the_interface


def test_status_of_all_and_of_one(parent: Parent) -> None:
    assert ask(parent, "Status") == document(parent.syncs)
    assert ask(parent, "Status", name="mail") == document(parent.syncs[1:2])


def test_reload_returns_what_changed(parent: Parent) -> None:
    assert ask(parent, "Reload") == {"changed": ["mail"]}
    assert parent.asked == [("reload",)]


def test_restart(parent: Parent) -> None:
    assert ask(parent, "Restart", name="mail") == {}
    assert parent.asked == [("restart", "mail")]


@pytest.mark.parametrize(
    ("parameters", "full"), [({}, False), ({"full": False}, False), ({"full": True}, True)]
)
def test_sync_may_be_a_full_one(parent: Parent, parameters: dict[str, bool], full: bool) -> None:
    assert ask(parent, "Sync", name="mail", **parameters) == {"sync": parent.syncs[1].to_json()}
    assert parent.asked == [("sync", "mail", str(full))]
    assert parent.reply is None


@pytest.mark.parametrize("full", [False, True])
def test_sync_with_wait_is_answered_later(parent: Parent, full: bool) -> None:
    reply = methods(parent)["Sync"]({"name": "mail", "wait": True, "full": full})
    assert isinstance(reply, Deferred)
    assert reply is parent.reply
    assert parent.asked == [("sync", "mail", str(full))]


@pytest.mark.parametrize(("parameters", "hold_id"), [({}, "token"), ({"hold_id": "older"}, "older")])
def test_accept_releases_what_was_seen(parent: Parent, parameters: dict[str, str], hold_id: str) -> None:
    reply = methods(parent)["Accept"]({"name": "mail", **parameters})
    assert isinstance(reply, Deferred)
    assert reply is parent.reply
    assert parent.asked == [("accept", "mail", "h:/mail", hold_id)]


@pytest.mark.parametrize(("name", "state"), [("home", "in-sync"), ("new", "held")])
def test_accept_refuses_what_is_not_held(parent: Parent, name: str, state: str) -> None:
    with pytest.raises(ControlError) as caught:
        ask(parent, "Accept", name=name)
    assert caught.value.name == "org.lsyncd-sd.Control.NotHeld"
    assert caught.value.parameters == {"name": name, "state": state}
    assert parent.asked == []


@pytest.mark.parametrize(
    ("name", "parameters", "asked"),
    [
        ("both", {"target": "/b"}, ("/b", "b")),
        ("both", {"target": "/b", "hold_id": "older"}, ("/b", "older")),
        ("both", {"hold_id": "a"}, ("/a", "a")),
        ("one", {}, ("/a", "a")),
        ("one", {"hold_id": "older"}, ("/a", "older")),
        ("same", {"target": "/as-a", "hold_id": "a"}, ("/as-a", "a")),
        ("mail", {"target": "h:/mail"}, ("h:/mail", "token")),
    ],
)
def test_accept_is_for_one_target(
    parent: Parent, name: str, parameters: dict[str, str], asked: tuple[str, str]
) -> None:
    methods(parent)["Accept"]({"name": name, **parameters})
    assert parent.asked == [("accept", name, *asked)]


@pytest.mark.parametrize(
    ("name", "parameters", "error", "more"),
    [
        ("both", {}, "SeveralHeld", {"targets": ["/a", "/b"]}),
        ("both", {"hold_id": "older"}, "SeveralHeld", {"targets": ["/a", "/b"]}),
        ("same", {"hold_id": "a"}, "SeveralHeld", {"targets": ["/a", "/as-a"]}),
        ("both", {"target": "/c"}, "NoSuchTarget", {"target": "/c"}),
        ("both", {"target": "/good"}, "NotHeld", {"state": "in-sync"}),
        ("one", {"target": "/given-up", "hold_id": "a"}, "NotHeld", {"state": "failed"}),
    ],
)
def test_accept_refuses_what_is_not_clear(
    parent: Parent, name: str, parameters: dict[str, str], error: str, more: dict[str, Any]
) -> None:
    with pytest.raises(ControlError) as caught:
        ask(parent, "Accept", name=name, **parameters)
    assert caught.value.name == f"org.lsyncd-sd.Control.{error}"
    assert caught.value.parameters == {"name": name, **more}
    assert parent.asked == []


@pytest.mark.parametrize("method", ["Status", "Restart", "Sync", "Accept"])
def test_an_unknown_sync_is_refused(parent: Parent, method: str) -> None:
    with pytest.raises(ControlError) as caught:
        ask(parent, method, name="hom")
    assert caught.value.name == "org.lsyncd-sd.Control.NoSuchSync"
    assert parent.asked == []
