# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests watch/pairing.py: what is put together, what waits, and that nothing else changes its place."""

from __future__ import annotations

import pytest

from lsyncd_sd.watch import inotify, pairing
from lsyncd_sd.watch.inotify import RawEvent
from lsyncd_sd.watch.pairing import (
    EXCHANGE_SECONDS,
    GRACE_SECONDS,
    PATIENCE_SECONDS,
    RENAMES_REMEMBERED,
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


def ready(pairing: Pairing, now: float = 0) -> list[RawEvent | Rename]:
    return list(pairing.ready(now))


def test_nothing_waits_without_renames() -> None:
    pairing = Pairing()
    pairing.add([written(b"a"), written(b"b")], 0)
    assert len(pairing) == 2 and pairing.due_at() is None
    assert ready(pairing) == [written(b"a"), written(b"b")]
    assert not pairing and ready(pairing) == []


def test_halves_are_paired_at_any_distance_where_the_first_one_stands() -> None:
    pairing = Pairing()
    pairing.add([departed(1), written(b"a"), departed(2), arrived(2), written(b"b"), arrived(1)], 0)
    assert ready(pairing) == [renamed(1), written(b"a"), renamed(2), written(b"b")]
    assert not pairing


def test_halves_are_paired_over_reads() -> None:
    pairing = Pairing()
    pairing.add([written(b"a"), departed(1), written(b"b")], 0)
    assert ready(pairing) == [written(b"a")]
    assert len(pairing) == 2 and pairing.due_at() == GRACE_SECONDS
    pairing.add([written(b"c"), arrived(1)], 0)
    assert ready(pairing) == [renamed(1), written(b"b"), written(b"c")]
    assert pairing.due_at() is None


def test_a_first_half_is_given_up_after_its_grace() -> None:
    pairing = Pairing()
    pairing.add([departed(1), written(b"a")], 5)
    assert ready(pairing, 5 + GRACE_SECONDS * 0.9) == []
    assert ready(pairing, 5 + GRACE_SECONDS) == [departed(1), written(b"a")]


def test_the_grace_begins_with_the_reading_not_with_the_waiting() -> None:
    """A thousand files that move out one after the other cost one grace, not a thousand."""
    pairing = Pairing()
    pairing.add([departed(cookie) for cookie in range(1, 1001)], 0)
    assert ready(pairing, 0) == []
    assert len(ready(pairing, GRACE_SECONDS)) == 1000


def test_a_second_half_alone_does_not_wait() -> None:
    pairing = Pairing()
    pairing.add([arrived(1)], 0)
    assert ready(pairing) == [arrived(1)]


def test_a_second_half_that_comes_too_late_stands_alone() -> None:
    pairing = Pairing()
    pairing.add([departed(1)], 0)
    assert ready(pairing, 1) == [departed(1)]
    pairing.add([arrived(1)], 1)
    assert ready(pairing, 1) == [arrived(1)]


def test_endless_moves_out_do_not_hold_up_for_ever() -> None:
    pairing = Pairing()
    now, cookie = 0.0, 0
    while now < PATIENCE_SECONDS:
        cookie += 1
        pairing.add([departed(cookie)], now)
        ready(pairing, now)
        assert pairing
        now += GRACE_SECONDS / 2
    pairing.add([departed(cookie + 1)], now)
    assert ready(pairing, now)[-1] == departed(cookie + 1)
    assert not pairing
    # and patience begins anew
    pairing.add([departed(cookie + 2)], now)
    assert ready(pairing, now) == []


def test_not_too_much_is_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "HELD_EVENTS", 3)
    one = Pairing()
    one.add([departed(1), written(b"a"), written(b"b")], 0)
    assert ready(one) == []
    one.add([written(b"c")], 0)
    assert len(ready(one)) == 4


def test_all_can_be_forgotten() -> None:
    pairing = Pairing()
    pairing.add([departed(1), written(b"a")], 0)
    ready(pairing)
    pairing.clear()
    assert not pairing and pairing.due_at() is None
    pairing.add([arrived(1)], 0)
    assert ready(pairing) == [arrived(1)]


# ---- exchanges

A, B, C = Spot(1, b"a"), Spot(1, b"b"), Spot(1, b"c")
ELSEWHERE = Spot(2, b"x"), Spot(2, b"y")


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
    for _time in range(RENAMES_REMEMBERED - 1):
        recent.note(*ELSEWHERE, 0)
    assert recent.note(B, A, 0)


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
