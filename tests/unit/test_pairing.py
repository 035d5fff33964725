# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests watch/pairing.py: what is put together, what waits, and that nothing else changes its place."""

from __future__ import annotations

import pytest

from lsyncd_sd.watch import inotify, pairing
from lsyncd_sd.watch.inotify import RawEvent
from lsyncd_sd.watch.pairing import (
    DIRECTORIES_REMEMBERED,
    EXCHANGE_SECONDS,
    GRACE_SECONDS,
    PATIENCE_SECONDS,
    Pairing,
    RecentRenames,
    Rename,
    Spot,
)


def written(name: bytes) -> RawEvent:
    return RawEvent(1, inotify.IN_CLOSE_WRITE, 0, name)


def departed(cookie: int) -> RawEvent:
    return RawEvent(1, inotify.IN_MOVED_FROM, cookie, b"old")


def arrived(cookie: int) -> RawEvent:
    return RawEvent(2, inotify.IN_MOVED_TO, cookie, b"new")


def renamed(cookie: int) -> Rename:
    return Rename(departed(cookie), arrived(cookie))


def arranged(pairing: Pairing, *events: RawEvent, now: float = 0) -> list[RawEvent | Rename]:
    return list(pairing.arrange(list(events), now))


def test_nothing_waits_without_renames() -> None:
    pairing = Pairing()
    assert arranged(pairing, written(b"a"), written(b"b")) == [written(b"a"), written(b"b")]
    assert not pairing and pairing.due_at() is None
    assert arranged(pairing) == []


def test_halves_are_paired_at_any_distance_where_the_first_one_stands() -> None:
    pairing = Pairing()
    events = departed(1), written(b"a"), departed(2), arrived(2), written(b"b"), arrived(1)
    assert arranged(pairing, *events) == [renamed(1), written(b"a"), renamed(2), written(b"b")]
    assert not pairing


def test_halves_are_paired_over_reads() -> None:
    pairing = Pairing()
    assert arranged(pairing, written(b"a"), departed(1), written(b"b")) == [written(b"a")]
    assert len(pairing) == 2 and pairing.due_at() == GRACE_SECONDS
    assert arranged(pairing, written(b"c")) == []
    expected = [renamed(1), written(b"b"), written(b"c"), written(b"d")]
    assert arranged(pairing, arrived(1), written(b"d")) == expected
    assert not pairing and pairing.due_at() is None


def test_a_first_half_is_given_up_after_its_grace() -> None:
    pairing = Pairing()
    assert arranged(pairing, departed(1), written(b"a"), now=5) == []
    assert arranged(pairing, now=5 + GRACE_SECONDS * 0.9) == []
    assert arranged(pairing, now=5 + GRACE_SECONDS) == [departed(1), written(b"a")]


def test_the_grace_begins_with_the_reading_not_with_the_waiting() -> None:
    """A thousand files that move out one after the other cost one grace, not a thousand."""
    pairing = Pairing()
    assert arranged(pairing, *(departed(cookie) for cookie in range(1, 1001))) == []
    assert len(arranged(pairing, now=GRACE_SECONDS)) == 1000


def test_a_second_half_alone_does_not_wait() -> None:
    assert arranged(Pairing(), arrived(1)) == [arrived(1)]


def test_a_second_half_that_comes_too_late_stands_alone() -> None:
    pairing = Pairing()
    arranged(pairing, departed(1))
    assert arranged(pairing, now=1) == [departed(1)]
    assert arranged(pairing, arrived(1), now=1) == [arrived(1)]


def test_endless_moves_out_do_not_hold_up_for_ever() -> None:
    pairing = Pairing()
    now, cookie = 0.0, 0
    while now < PATIENCE_SECONDS:
        cookie += 1
        arranged(pairing, departed(cookie), now=now)
        assert pairing
        now += GRACE_SECONDS / 2
    assert arranged(pairing, departed(cookie + 1), now=now)[-1] == departed(cookie + 1)
    assert not pairing
    # and patience begins anew
    assert arranged(pairing, departed(cookie + 2), now=now) == []


def test_not_too_much_is_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "HELD_EVENTS", 3)
    one = Pairing()
    assert arranged(one, departed(1), written(b"a"), written(b"b")) == []
    assert len(arranged(one, written(b"c"))) == 4


def test_all_can_be_forgotten() -> None:
    pairing = Pairing()
    arranged(pairing, departed(1), written(b"a"))
    pairing.clear()
    assert not pairing and pairing.due_at() is None
    assert arranged(pairing, arrived(1)) == [arrived(1)]


# ---- exchanges

A, B, C = Spot(1, b"a"), Spot(1, b"b"), Spot(1, b"c")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((A, B), (B, A), True),
        ((A, B), (B, C), False),
        ((A, B), (C, A), False),
        ((None, A), (A, None), False),
        ((None, A), (A, B), True),
        ((A, B), (B, None), False),
        ((A, None), (None, A), False),
        ((None, A), (B, None), False),
        ((A, None), (B, None), False),
    ],
)
def test_what_may_be_an_exchange(
    first: tuple[Spot | None, Spot | None], second: tuple[Spot | None, Spot | None], expected: bool
) -> None:
    recent = RecentRenames()
    assert not recent.note(*first, 0)
    assert recent.note(*second, EXCHANGE_SECONDS) is expected
    recent.clear()
    recent.note(*first, 0)
    assert not recent.note(*second, EXCHANGE_SECONDS * 1.1)


def test_renames_elsewhere_do_not_hide_an_exchange() -> None:
    recent = RecentRenames()
    recent.note(A, B, 0)
    for wd in range(2, DIRECTORIES_REMEMBERED):
        recent.note(Spot(wd, b"a"), Spot(wd + 1, b"a"), 0)
    assert recent.note(B, A, 0)


def test_not_all_renames_are_remembered() -> None:
    recent = RecentRenames()
    for wd in range(1, 3 * DIRECTORIES_REMEMBERED):
        recent.note(Spot(wd, b"a"), Spot(wd, b"b"), 0)
    assert len(recent._last) == DIRECTORIES_REMEMBERED
    assert not recent.note(B, A, 0)


@pytest.mark.parametrize("wd", [1, 2])
def test_a_rename_in_either_directory_ends_an_exchange_of_two(wd: int) -> None:
    there = Spot(2, b"b")
    recent = RecentRenames()
    recent.note(A, there, 0)
    recent.note(Spot(wd, b"c"), None, 0)
    assert not recent.note(there, A, 0)
    recent.note(A, there, 0)
    assert recent.note(there, A, 0)


def test_a_rename_in_the_same_directory_ends_an_exchange() -> None:
    recent = RecentRenames()
    recent.note(A, B, 0)
    recent.note(C, None, 0)
    assert not recent.note(B, A, 0)


def test_recent_renames_can_be_forgotten() -> None:
    recent = RecentRenames()
    recent.note(A, B, 0)
    recent.clear()
    assert not recent.note(B, A, 0)
