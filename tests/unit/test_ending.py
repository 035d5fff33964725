# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/ending.py: when a parent ends by itself, and with what."""

from __future__ import annotations

import pytest

from lsyncd_sd.errors import ExitStatus
from lsyncd_sd.service.control_interface import ControlError, Deferred
from lsyncd_sd.service.ending import Ending
from lsyncd_sd.service.status import State, SyncStatus

TROUBLE = (
    State.UNREACHABLE,
    State.TARGET_FULL,
    State.TARGET_MISSING,
    State.SOURCE_MISSING,
    State.FAILING,
    State.FAILED,
    State.STUCK,
)
UNDER_WAY = (State.STARTING, State.WATCHING, State.RESCANNING, State.FULL_SYNC)
GOOD = (State.IN_SYNC, State.PENDING, State.SYNCING)


def status(state: State, name: str = "a", *, failures: int = 1, batches: int = 0) -> SyncStatus:
    return SyncStatus(name, "/s", "/t", state, 0.0, reason="the reason", failures=failures, batches=batches)


# ---- as a service


@pytest.mark.parametrize("state", State)
def test_it_never_ends_unless_it_is_told_so(state: State) -> None:
    ending = Ending()
    ending.begin(["a"], lambda _name, _reply: pytest.fail("nothing is asked"), lambda: None)
    assert ending.verdict([status(state)]) is None


# ---- without -insist


@pytest.mark.parametrize("state", TROUBLE)
def test_a_start_that_fails_is_the_end(state: State) -> None:
    assert Ending(insists=False).verdict([status(state)]) is ExitStatus.NOT_GOOD


@pytest.mark.parametrize("state", [*UNDER_WAY, *GOOD, State.HELD, State.DEGRADED, State.STOPPING])
def test_anything_else_goes_on(state: State) -> None:
    assert Ending(insists=False).verdict([status(state)]) is None


@pytest.mark.parametrize("begun", [*GOOD, State.DEGRADED])
@pytest.mark.parametrize("state", TROUBLE)
def test_what_has_begun_is_never_ended(begun: State, state: State) -> None:
    ending = Ending(insists=False)
    assert ending.verdict([status(begun)]) is None
    assert ending.verdict([status(state)]) is None


def test_a_full_sync_that_failed_in_part_is_a_beginning() -> None:
    ending = Ending(insists=False)
    assert ending.verdict([status(State.FAILING, failures=0)]) is None
    assert ending.verdict([status(State.FAILING, failures=0, batches=1)]) is None
    assert ending.verdict([status(State.FAILING)]) is None


def test_one_that_can_begin_keeps_all_alive() -> None:
    ending = Ending(insists=False)
    assert ending.verdict([status(State.UNREACHABLE), status(State.FULL_SYNC, "b")]) is None
    assert ending.verdict([status(State.UNREACHABLE), status(State.IN_SYNC, "b")]) is None
    assert ending.verdict([status(State.UNREACHABLE), status(State.UNREACHABLE, "b")]) is None


def test_where_none_can_begin_it_ends() -> None:
    ending = Ending(insists=False)
    states = [status(State.UNREACHABLE), status(State.TARGET_FULL, "b")]
    assert ending.verdict(states) is ExitStatus.NOT_GOOD
    assert ending.why(states).splitlines() == [
        "ending, for nothing could be mirrored; -insist would go on trying",
        "a: unreachable: the reason",
        "b: target-full: the reason",
    ]


# ---- with -onepass


class Asked:
    """Who was asked for an answer, and how often something was new."""

    def __init__(self, *names: str, insists: bool = False) -> None:
        self.ending = Ending(is_onepass=True, insists=insists)
        self.replies: dict[str, Deferred] = {}
        self.news = 0
        self.ending.begin(names, self.replies.__setitem__, self._new)

    def _new(self) -> None:
        self.news += 1


def test_it_ends_when_each_sync_is_done() -> None:
    asked = Asked("a", "b")
    states = [status(State.IN_SYNC), status(State.IN_SYNC, "b")]
    assert asked.ending.verdict(states) is None
    asked.replies["b"].finish({})
    assert (asked.ending.verdict(states), asked.news) == (None, 1)
    asked.replies["a"].finish({})
    assert (asked.ending.verdict(states), asked.news) == (ExitStatus.OK, 2)


def test_what_is_done_is_done_whatever_comes_after() -> None:
    asked = Asked("a")
    asked.replies["a"].finish({})
    assert asked.ending.verdict([status(State.UNREACHABLE)]) is ExitStatus.OK


def test_being_told_how_things_stand_is_no_answer() -> None:
    asked = Asked("a")
    asked.replies["a"].tell({})
    assert asked.ending.verdict([status(State.FULL_SYNC)]) is None


@pytest.mark.parametrize("state", [*TROUBLE, State.HELD])
def test_one_that_fails_is_waited_for_no_longer(state: State) -> None:
    asked = Asked("a", "b")
    states = [status(state, failures=0), status(State.FULL_SYNC, "b")]
    assert asked.ending.verdict(states) is None, "the other one may be done"
    asked.replies["b"].finish({})
    assert asked.ending.verdict(states) is ExitStatus.NOT_GOOD
    assert asked.ending.why(states).startswith("ending, for not everything was mirrored; -insist")


@pytest.mark.parametrize("state", [*TROUBLE, State.HELD])
def test_with_insist_it_is_waited_for(state: State) -> None:
    asked = Asked("a", insists=True)
    assert asked.ending.verdict([status(state)]) is None
    asked.replies["a"].finish({})
    assert asked.ending.verdict([status(State.IN_SYNC)]) is ExitStatus.OK


@pytest.mark.parametrize("insists", [True, False])
def test_a_process_that_was_given_up_is_a_failure(insists: bool) -> None:
    asked = Asked("a", "b", insists=insists)
    asked.replies["a"].fail(ControlError("Unavailable", {}))
    asked.replies["b"].finish({})
    states = [status(State.FAILED), status(State.IN_SYNC, "b")]
    assert asked.ending.verdict(states) is ExitStatus.NOT_GOOD
    assert ("-insist" in asked.ending.why(states)) is not insists
