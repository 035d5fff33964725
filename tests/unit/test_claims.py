# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/claims.py: what one target cannot have does not concern the others."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.syncs import local_target

from lsyncd_sd.config.model import Target
from lsyncd_sd.errors import ExitStatus, LsyncdError
from lsyncd_sd.service.claims import PATIENCE_SECONDS, Claims
from lsyncd_sd.service.locks import LockBusyError, Locks

ONE, TWO = local_target("/one"), local_target("/two")
TAKEN = LsyncdError("it is taken", "choose another one", ExitStatus.USAGE)
BROKEN = OSError(errno.ENOSPC, "No space left on device")


class SomeLocks(Locks):
    """Locks of which some cannot be had, for the reasons that a test gives."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.errors: dict[Target, Exception] = {}

    def take_target(self, target: Target, owner: str) -> int:
        if target in self.errors:
            raise self.errors[target]
        return super().take_target(target, owner)


@pytest.fixture
def locks(tmp_path: Path) -> SomeLocks:
    return SomeLocks(tmp_path / "locks")


@pytest.fixture
def both() -> Iterator[Claims]:
    claims = Claims([ONE, TWO])
    yield claims
    claims.release()


def test_each_target_has_a_lock_of_its_own(locks: SomeLocks, both: Claims) -> None:
    assert both.take(locks, "us", 0.0)
    assert both.refused == {}
    before = both.descriptors
    assert len(set(before)) == 2
    for target in (ONE, TWO):
        with pytest.raises(LockBusyError):
            locks.take_target(target, "others")
    assert both.take(locks, "us", 1.0)
    assert both.descriptors == before, "another start needs no others"


def test_released_they_can_be_taken_by_others(locks: SomeLocks, both: Claims) -> None:
    both.take(locks, "us", 0.0)
    both.release()
    assert both.descriptors == []
    for target in (ONE, TWO):
        os.close(locks.take_target(target, "others"))


@pytest.mark.parametrize(
    ("error", "reason", "failure"),
    [
        (TAKEN, "it is taken; choose another one", ExitStatus.USAGE),
        (
            BROKEN,
            "cannot use the lock of its target: [Errno 28] No space left on device",
            ExitStatus.NOT_GOOD,
        ),
    ],
)
def test_one_that_cannot_be_had_is_done_without(
    locks: SomeLocks, both: Claims, error: Exception, reason: str, failure: ExitStatus
) -> None:
    locks.errors[TWO] = error
    assert both.take(locks, "us", 0.0)
    assert (both.refused, len(both.descriptors)) == ({TWO: reason}, 1)
    assert not both.are_hopeless
    locks.errors[ONE] = error
    both.release()
    assert both.take(locks, "us", 0.0)
    assert both.are_hopeless
    assert both.failure is failure


def test_what_stands_in_the_way_is_for_a_person_only_if_all_of_it_is(locks: SomeLocks, both: Claims) -> None:
    locks.errors = {ONE: BROKEN, TWO: TAKEN}
    both.take(locks, "us", 0.0)
    assert both.are_hopeless
    assert both.failure is ExitStatus.NOT_GOOD


def test_it_is_tried_again_at_the_next_start(locks: SomeLocks, both: Claims) -> None:
    locks.errors[TWO] = TAKEN
    both.take(locks, "us", 0.0)
    del locks.errors[TWO]
    both.take(locks, "us", 1.0)
    assert (both.refused, len(both.descriptors)) == ({}, 2)


def test_one_that_is_about_to_be_given_up_is_waited_for_but_not_for_ever(
    locks: SomeLocks, both: Claims
) -> None:
    locks.errors[ONE] = LockBusyError()
    assert not both.take(locks, "us", 100.0)
    assert len(both.descriptors) == 1
    assert not both.take(locks, "us", 99.0 + PATIENCE_SECONDS)
    assert both.take(locks, "us", 100.0 + PATIENCE_SECONDS)
    assert list(both.refused) == [ONE]
    assert both.take(locks, "us", 1000.0), "the others have waited enough"


def test_a_single_target_is_waited_for_as_long_as_it_takes(locks: SomeLocks) -> None:
    claims = Claims([ONE])
    locks.errors[ONE] = LockBusyError()
    for now in (0.0, 1.0, 10 * PATIENCE_SECONDS):
        assert not claims.take(locks, "us", now)
    assert not claims.are_hopeless
