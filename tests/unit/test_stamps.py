# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/stamps.py: a stamp is done when everything older has left every stage."""

from __future__ import annotations

from lsyncd_sd.plan.stamps import Stage, Stamps


def test_a_stamp_of_nothing_is_done_at_once() -> None:
    stamps = Stamps()
    assert stamps.is_done(stamps.give())


def test_a_stamp_waits_for_what_was_there_before_it() -> None:
    stamps = Stamps()
    stamps.enter(Stage.PENDING)
    stamp = stamps.give()
    stamps.enter(Stage.PENDING)
    assert not stamps.is_done(stamp)
    stamps.leave(Stage.PENDING)
    assert stamps.is_done(stamp)


def test_a_stamp_does_not_wait_for_what_came_after_it() -> None:
    stamps = Stamps()
    stamp = stamps.give()
    stamps.enter(Stage.PENDING)
    assert stamps.is_done(stamp)
    assert not stamps.is_done(stamps.give())


def test_what_goes_on_keeps_its_age() -> None:
    stamps = Stamps()
    stamps.enter(Stage.PENDING)
    stamp = stamps.give()
    stamps.move(Stage.PENDING, Stage.IN_FLIGHT)
    stamps.enter(Stage.PENDING)
    assert not stamps.is_done(stamp)
    stamps.move(Stage.IN_FLIGHT, Stage.PENDING)
    assert not stamps.is_done(stamp)
    stamps.copy(Stage.PENDING, Stage.TROUBLED)
    stamps.leave(Stage.PENDING)
    assert not stamps.is_done(stamp)
    stamps.leave(Stage.TROUBLED)
    assert stamps.is_done(stamp)


def test_of_two_ages_the_older_one_counts() -> None:
    stamps = Stamps()
    stamps.enter(Stage.IN_FLIGHT)
    stamp = stamps.give()
    stamps.enter(Stage.PENDING)
    stamps.move(Stage.PENDING, Stage.IN_FLIGHT)
    assert not stamps.is_done(stamp)


def test_what_may_be_older_than_any_stamp() -> None:
    stamps = Stamps()
    stamp = stamps.give()
    stamps.enter(Stage.RESCAN, is_old=True)
    assert not stamps.is_done(stamp)


def test_nothing_goes_on_from_an_empty_stage() -> None:
    stamps = Stamps()
    stamps.move(Stage.PENDING, Stage.IN_FLIGHT)
    assert stamps.is_done(stamps.give())
