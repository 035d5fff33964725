# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/child.py: how often and how soon a crashed child is replaced, and what it may say."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from helpers.syncs import local_target, make_sync
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.service.child import (
    CRASH_LIMIT,
    CRASH_WINDOW_SECONDS,
    FRUITLESS_LIMIT,
    FRUITLESS_SECONDS,
    RESPAWN_FIRST_SECONDS,
    RESPAWN_LIMIT_SECONDS,
    Child,
    Phase,
    new_child,
)
from lsyncd_sd.service.status import State, SyncStatus

# More than any crash counts as being at the start.
LONG = FRUITLESS_SECONDS + 10


@pytest.fixture
def child() -> Child:
    return new_child(make_sync(), unix_time=1000.0)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  (jitter, not a secret)


@pytest.fixture
def dice() -> random.Random:
    return seeded(1)


def crash(child: Child, start: float, dice: random.Random, *, lived: float = LONG, batches: int = 0) -> bool:
    """Let one process live and crash; return whether another one follows."""
    child.started(4711, start, 30.0)
    child.take_status(replace(child.status, state=State.IN_SYNC, batches=batches))
    return child.crashed(start + lived, dice)


def test_a_new_child_is_to_be_started_at_once() -> None:
    child = new_child(make_sync(source="/a\nb", target=local_target("/\x1b[1m")), 1000.0)
    assert (child.phase, child.deadline) == (Phase.WAITING, 0.0)
    assert (child.pid, child.queue, child.claims.descriptors) == (0, -1, [])
    assert (child.status.state, child.status.since, child.status.pid) == (State.STARTING, 1000.0, None)
    assert (child.status.source, child.status.target) == ("/a\\x0ab", "/\\x1b[1m")


def test_a_running_child_must_be_heard_of(child: Child) -> None:
    child.started(4711, 100.0, 30.0)
    assert (child.phase, child.pid, child.deadline) == (Phase.RUNNING, 4711, 130.0)
    child.heard(120.0, 30.0)
    assert child.deadline == 150.0


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.RUNNING])
def test_a_late_ping_does_not_put_off_what_was_decided(child: Child, phase: Phase) -> None:
    child.phase, child.deadline = phase, 7.0
    child.heard(120.0, 30.0)
    assert child.deadline == 7.0


def test_fruitless_crashes_are_given_up_soon(child: Child, dice: random.Random) -> None:
    assert [crash(child, 100.0 * n, dice) for n in range(FRUITLESS_LIMIT)] == [True] * (
        FRUITLESS_LIMIT - 1
    ) + [False]


def test_a_crash_right_after_the_start_is_fruitless_whatever_was_done(
    child: Child, dice: random.Random
) -> None:
    lives = [crash(child, 100.0 * n, dice, lived=0.5, batches=3) for n in range(FRUITLESS_LIMIT)]
    assert lives[-1] is False


def test_progress_begins_the_count_anew(child: Child, dice: random.Random) -> None:
    for n in range(3 * FRUITLESS_LIMIT):
        is_fruitful = n % FRUITLESS_LIMIT == FRUITLESS_LIMIT - 1
        assert crash(child, 100.0 * n, dice, batches=int(is_fruitful))
        assert (child.fruitless_crashes == 0) is is_fruitful


def test_the_progress_of_one_process_is_not_that_of_the_next(child: Child, dice: random.Random) -> None:
    crash(child, 0.0, dice, batches=1)
    crash(child, 100.0, dice, batches=0)
    assert child.fruitless_crashes == 1


def test_progress_that_was_seen_once_stays(child: Child, dice: random.Random) -> None:
    child.started(4711, 0.0, 30.0)
    child.take_status(replace(child.status, batches=2))
    child.take_status(replace(child.status, batches=0))
    assert child.made_progress


def test_too_many_crashes_of_any_kind_within_the_window_are_given_up(
    child: Child, dice: random.Random
) -> None:
    step = CRASH_WINDOW_SECONDS / (CRASH_LIMIT * 2)
    answers = [crash(child, step * n, dice, lived=1.5, batches=1) for n in range(CRASH_LIMIT)]
    assert answers == [True] * (CRASH_LIMIT - 1) + [False]


def test_crashes_long_ago_are_forgotten(child: Child, dice: random.Random) -> None:
    step = CRASH_WINDOW_SECONDS / (CRASH_LIMIT - 2)
    assert all(crash(child, step * n, dice, batches=1) for n in range(3 * CRASH_LIMIT))
    assert len(child.crashes) < CRASH_LIMIT


@given(st.integers(1, 50), st.integers(0, 2**32))
def test_the_wait_doubles_up_to_its_limit(crashes: int, seed: int) -> None:
    child, dice = new_child(make_sync(), 0.0), seeded(seed)
    for _ in range(crashes):
        crash(child, 1000.0, dice)
    expected = min(RESPAWN_LIMIT_SECONDS, RESPAWN_FIRST_SECONDS * 2.0 ** (crashes - 1))
    assert 0.75 * expected <= child.respawn_at - (1000.0 + LONG) <= 1.25 * expected


def test_the_wait_after_a_fruitful_crash_is_short(child: Child, dice: random.Random) -> None:
    for _ in range(4):
        crash(child, 1000.0, dice)
    crash(child, 2000.0, dice, batches=1)
    assert child.respawn_at - (2000.0 + LONG) <= 1.25 * RESPAWN_FIRST_SECONDS


def test_not_all_children_wait_alike() -> None:
    """What made one crash may have made all of them crash."""
    waits = set()
    for seed in range(20):
        other = new_child(make_sync(), 0.0)
        crash(other, 0.0, seeded(seed))
        waits.add(other.respawn_at)
    assert len(waits) == 20


def test_what_the_parent_shows_keeps_the_time_of_the_state(child: Child) -> None:
    child.restarts = 3
    child.show(State.STARTING, 2000.0, "again")
    assert (child.status.since, child.status.reason, child.status.restarts) == (1000.0, "again", 3)
    child.pid = 12
    child.show(State.STUCK, 3000.0)
    assert (child.status.state, child.status.since, child.status.pid) == (State.STUCK, 3000.0, 12)


def said(child: Child) -> SyncStatus:
    return replace(child.status, state=State.IN_SYNC, files=5, restarts=0)


@pytest.mark.parametrize("phase", Phase)
def test_only_a_process_that_runs_speaks_for_its_sync(child: Child, phase: Phase) -> None:
    child.phase, child.restarts = phase, 2
    child.take_status(said(child))
    is_heard = phase in (Phase.RUNNING, Phase.STOPPING)
    assert (child.status.state, child.status.files) == (
        (State.IN_SYNC, 5) if is_heard else (State.STARTING, 0)
    )
    if is_heard:
        assert child.status.restarts == 2, "the parent counts them"


def test_a_child_does_not_speak_for_others(child: Child) -> None:
    child.phase = Phase.RUNNING
    child.take_status(replace(said(child), name="other"))
    assert child.status.state is State.STARTING
