# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/tries.py: each trouble is waited out for as long as it deserves."""

from __future__ import annotations

import itertools
import random

import pytest

from lsyncd_sd.mirror.outcome import PATIENCE, BackOff, Outcome
from lsyncd_sd.plan.guard import Hold
from lsyncd_sd.service.tries import HOLD_RECHECK_SECONDS, Tries

DOUBT = Hold("the source is empty", "look", "token", doubt="doubt")
BRAKED = Hold("too much would be deleted", "look", "token")


@pytest.fixture
def tries() -> Tries:
    return Tries(BackOff(random.Random(1)))  # noqa: S311  (to be replayed)


def test_nothing_has_to_be_waited_for_at_first(tries: Tries) -> None:
    assert (tries.not_before, tries.failures, tries.hold, tries.are_good) == (0.0, 0, None, True)


def test_each_failure_is_waited_out_for_longer_until_one_succeeds(tries: Tries) -> None:
    waits = [tries.failed(Outcome.CONNECTION, 100.0) for _ in range(4)]
    assert all(later > earlier for earlier, later in itertools.pairwise(waits))
    assert (tries.not_before, tries.failures, tries.are_good) == (100.0 + waits[-1], 4, False)
    tries.succeeded()
    assert (tries.not_before, tries.failures, tries.are_good) == (0.0, 0, True)


def test_a_doubt_is_looked_at_again_and_again(tries: Tries) -> None:
    for now in (0.0, 100.0, 1000.0):
        tries.held(DOUBT, now)
        assert tries.not_before == now + HOLD_RECHECK_SECONDS
    assert tries.hold is DOUBT
    assert not tries.are_good


def test_what_takes_counting_is_counted_more_and_more_seldom(tries: Tries) -> None:
    for times in range(4):
        tries.held(BRAKED, 0.0)
        assert tries.not_before == PATIENCE[Outcome.BRAKE].seconds(times)
    tries.released()
    assert tries.hold is None
    tries.held(BRAKED, 0.0)
    assert tries.not_before == PATIENCE[Outcome.BRAKE].seconds(0)


def test_who_asks_need_not_wait(tries: Tries) -> None:
    tries.failed(Outcome.TARGET_FULL, 100.0)
    tries.at_once()
    assert (tries.not_before, tries.failures) == (0.0, 1)
