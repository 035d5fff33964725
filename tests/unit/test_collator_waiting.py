# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/collator.py: what waits for another reason than the delay, stamps, and bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Change, Depth, Move, Sign
from lsyncd_sd.plan.collator import Collator, Limits

ENTRY = Depth.ENTRY
EXACT, LOOSE = Mark(ENTRY, True), Mark(ENTRY, False)
DELAY, OPEN_FILE_DELAY = 5.0, 300.0


def collator(max_marks: int = 1000) -> Collator:
    return Collator(Limits(DELAY, max_changes=10_000, open_file_delay=OPEN_FILE_DELAY, max_marks=max_marks))


def written(*paths: bytes) -> list[Change]:
    return [Change(path, ENTRY, True) for path in paths]


def touched(*paths: bytes) -> list[Change]:
    return [Change(path, ENTRY, False) for path in paths]


def kept_open(*paths: bytes) -> list[Change]:
    return [Change(path, ENTRY, True, Sign.OPEN) for path in paths]


# ---- files that stay open


def test_what_stays_open_waits_longer() -> None:
    some = collator()
    some.add(kept_open(b"log"), now=100)
    some.add(kept_open(b"log"), now=200)
    assert some.due_at() == 100 + OPEN_FILE_DELAY
    assert len(some) == 1
    assert set(some.open) == {b"log"}
    assert some.take(400).marks == {b"log": EXACT}
    assert not some.open


def test_what_is_closed_waits_no_longer() -> None:
    some = collator()
    some.add(kept_open(b"a", b"b"), now=100)
    some.add(written(b"a"), now=110)
    assert some.due_at() == 110 + DELAY
    assert some.take(115).marks == {b"a": EXACT}
    some.succeeded()
    assert some.due_at() == 100 + OPEN_FILE_DELAY


@pytest.mark.parametrize(
    "change",
    [
        Change(b"d/log", ENTRY, False),
        Change(b"d/log", ENTRY, True, Sign.WENT),
        Change(b"d", Depth.SUBTREE, True, Sign.WENT),
        Change(b"d", Depth.SUBTREE, True),
    ],
    ids=["attributes", "gone", "its directory is gone", "its directory is looked at"],
)
def test_what_goes_anyway_waits_no_longer(change: Change) -> None:
    some = collator()
    some.add(kept_open(b"d/log"), now=100)
    some.add([change], now=101)
    assert not some.open
    assert all(mark.exact for mark in some.pending.values())


def test_what_is_written_to_goes_with_what_is_dirty_of_it() -> None:
    some = collator()
    some.add([*touched(b"a"), *kept_open(b"a")], now=100)
    some.add([Change(b"d", Depth.SUBTREE, True), *kept_open(b"d/f")], now=100)
    assert not some.open
    assert some.pending == {b"a": EXACT, b"d": Mark(Depth.SUBTREE, True)}


def test_a_directory_of_which_only_attributes_are_sent_does_not_take_it_along() -> None:
    some = collator()
    some.add([Change(b"d", Depth.SUBTREE, False), *kept_open(b"d/f")], now=100)
    assert set(some.open) == {b"d/f"}


def test_what_is_due_soon_goes_along() -> None:
    some = collator()
    some.add(kept_open(b"a"), now=100)
    some.add(kept_open(b"b"), now=100 + DELAY)
    some.add(kept_open(b"c"), now=200)
    assert set(some.take(100 + OPEN_FILE_DELAY).marks) == {b"a", b"b"}
    some.succeeded()
    assert some.due_at() == 200 + OPEN_FILE_DELAY


def test_an_open_file_goes_when_it_is_due_though_it_never_rests() -> None:
    some = collator()
    sent = []
    for now in range(1000):
        some.add(kept_open(b"log"), now)
        due = some.due_at()
        if due is not None and due <= now:
            sent.append(now)
            some.take(now)
            some.succeeded()
    assert sent == [300, 601, 902]


# ---- expedite


def test_nothing_waits_any_more() -> None:
    some = collator()
    some.add(written(b"bad"), now=0)
    some.take(5)
    some.failed_in_part({b"bad": EXACT}, 5, retry_after=1000)
    some.add([*written(b"a"), *kept_open(b"log")], now=10)
    some.expedite(11)
    due = some.due_at()
    assert due is not None and due <= 11
    sent = set(some.take(11).marks)
    some.succeeded()
    due = some.due_at()
    assert due is not None and due <= 11
    assert sent | set(some.take(11).marks) == {b"a", b"log", b"bad"}


def test_only_what_is_open_waits_no_more() -> None:
    some = collator()
    some.add(kept_open(b"log"), now=10)
    some.expedite(11)
    due = some.due_at()
    assert due is not None and due <= 11


def test_there_may_be_nothing_to_expedite() -> None:
    some = collator()
    some.expedite(11)
    assert some.due_at() is None


# ---- stamps


def test_a_stamp_waits_for_the_batch_that_holds_what_was_dirty() -> None:
    some = collator()
    some.add(written(b"a"), 1)
    stamp = some.stamp()
    some.take(6)
    some.add(written(b"b"), 7)
    assert not some.is_done(stamp)
    some.succeeded()
    assert some.is_done(stamp)
    assert not some.is_done(some.stamp())


def test_a_stamp_waits_for_what_fails() -> None:
    some = collator()
    some.add(written(b"a"), 1)
    stamp = some.stamp()
    some.take(6)
    some.failed({}, 7)
    assert not some.is_done(stamp)
    some.take(7)
    some.failed_in_part({b"a": EXACT}, 8, retry_after=0)
    assert not some.is_done(stamp)
    some.take(8)
    some.succeeded()
    assert some.is_done(stamp)


def test_a_stamp_waits_for_what_is_open_and_what_is_large() -> None:
    some = collator()
    some.add([*kept_open(b"log"), *written(b"large")], 1)
    stamp = some.stamp()
    some.take(6)
    some.set_apart([b"large"])
    some.succeeded()
    assert not some.is_done(stamp)
    some.take_large(10)
    some.expedite(7)
    some.take(7)
    some.succeeded()
    assert not some.is_done(stamp)
    some.large_succeeded()
    assert some.is_done(stamp)


def test_a_stamp_does_not_wait_for_what_turned_out_to_be_nothing() -> None:
    some = collator()
    some.add([Change(b"a", ENTRY, True, Sign.CAME)], 1)
    stamp = some.stamp()
    some.add([Change(b"a", ENTRY, True, Sign.WENT)], 2)
    some.take(6)
    some.succeeded()
    assert some.is_done(stamp)


def test_a_stamp_waits_for_what_was_missed() -> None:
    some = collator()
    some.rescan_begins()
    stamp = some.stamp()
    some.add(written(b"found"), 2)
    some.rescan_ends()
    assert not some.is_done(stamp)
    some.take(7)
    some.succeeded()
    assert some.is_done(stamp)


def test_a_stamp_waits_for_the_full_sync_that_finds_what_was_dirty() -> None:
    some = collator()
    some.add(touched(b"a"), 1)
    stamp = some.stamp()
    some.full_sync_begins(deletes=True)
    some.failed({}, 2)
    assert len(some) == 0
    assert not some.is_done(stamp)
    some.full_sync_begins(deletes=True)
    some.succeeded()
    assert some.is_done(stamp)


# ---- the lane of large files


def test_large_files_leave_the_batch() -> None:
    some = collator()
    some.add(written(b"d/large", b"small"), 1)
    marks = some.take(6).marks
    some.set_apart([b"d/large", b"unknown"])
    assert marks == {b"small": EXACT}
    assert some.large == {b"d/large": EXACT}
    assert len(some) == 2
    assert some.take_large(10) == some.large_in_flight == {b"d/large": EXACT}
    assert some.large_directories() == {b"d"}
    some.succeeded()
    some.large_failed({b"d/large": EXACT})
    assert some.large == {b"d/large": EXACT}
    assert some.large_directories() == set()
    some.take_large(10)
    some.large_succeeded()
    assert len(some) == 0


def test_at_most_so_many_large_files_at_a_time() -> None:
    some = collator()
    some.add(written(b"a", b"b", b"c"), 1)
    some.take(6)
    some.set_apart([b"a", b"b", b"c"])
    assert len(some.take_large(2)) == 2
    assert len(some.large) == 1


def test_there_may_be_nothing_large() -> None:
    some = collator()
    assert not some.take_large(10)
    assert not some.take_large(10)


def test_what_the_lane_sends_is_sent_again_if_it_has_changed() -> None:
    some = collator()
    some.add(touched(b"a", b"d/b", b"c"), 1)
    some.take(6)
    some.set_apart([b"a", b"d/b", b"c"])
    some.succeeded()
    some.take_large(10)
    some.add([*written(b"a"), Change(b"d", Depth.SUBTREE, True)], 7)
    assert some.take(12).marks == {b"d": Mark(Depth.SUBTREE, True)}
    assert some.large == {b"a": EXACT, b"d/b": EXACT}


def test_what_the_lane_sends_is_sent_again_after_a_full_sync() -> None:
    some = collator()
    some.add(touched(b"a"), 1)
    some.take(6)
    some.set_apart([b"a"])
    some.succeeded()
    some.take_large(10)
    some.full_sync_begins(deletes=True)
    assert some.large == {b"a": EXACT}


def test_a_large_file_waits_for_a_move_that_concerns_it() -> None:
    some = Collator(Limits(DELAY, 1000, max_moves=10))
    some.add(written(b"d/a", b"b"), 1)
    some.take(6)
    some.set_apart([b"d/a", b"b"])
    some.succeeded()
    some.caught_up()
    some.add([Move(b"d", b"e", True)], 7)
    assert some.take_large(10) == {b"b": EXACT}
    some.large_succeeded()
    some.take(12)
    assert not some.take_large(10)
    some.succeeded()
    assert some.take_large(10) == {b"e/a": EXACT}


# ---- what is left


def test_all_that_is_not_in_flight() -> None:
    some = Collator(Limits(DELAY, 1000, max_moves=10))
    some.add(written(b"bad", b"large"), 1)
    some.take(6)
    some.set_apart([b"large"])
    some.failed_in_part({b"bad": LOOSE}, 7, retry_after=100)
    some.add([*written(b"sent")], 8)
    some.take(13)
    some.caught_up()
    some.add([*kept_open(b"log"), *touched(b"new"), Move(b"d/x", b"d/y", False)], 14)
    assert some.unsent() == {
        b"bad": LOOSE,
        b"large": EXACT,
        b"log": EXACT,
        b"new": LOOSE,
        b"d": LOOSE,
        b"d/x": EXACT,
        b"d/y": EXACT,
    }


# ---- bounded memory


def paths(directory: bytes, number: int) -> Iterator[bytes]:
    return (directory + b"/%d" % count for count in range(number))


def test_many_marks_of_one_directory_become_one() -> None:
    some = collator(max_marks=100)
    some.add(touched(*paths(b"d", 60)), 1)
    some.add(written(*paths(b"e", 30)), 2)
    assert len(some) == 90
    some.add(touched(*paths(b"f", 11)), 3)
    assert some.pending[b"d"] == Mark(Depth.CONTENT | Depth.LEVEL, False)
    assert len(some) == 42
    assert not some.needs_rescan


def test_what_is_open_counts_too() -> None:
    some = collator(max_marks=100)
    some.add(kept_open(*paths(b"d", 101)), 1)
    assert some.pending == {b"d": Mark(Depth.CONTENT | Depth.LEVEL, True)}
    assert not some.open


def test_what_is_troubled_counts_too() -> None:
    some = collator(max_marks=100)
    some.add(written(*paths(b"d", 100)), 1)
    some.take(6)
    some.failed_in_part(dict.fromkeys(paths(b"d", 100), EXACT), 7, retry_after=100)
    some.add(written(b"a"), 8)
    assert some.troubled == {b"d": Mark(Depth.CONTENT | Depth.LEVEL, True)}
    assert some.pending == {b"a": EXACT}


def test_too_many_marks_everywhere_are_forgotten() -> None:
    some = Collator(Limits(DELAY, 10_000, max_marks=100, max_moves=10))
    some.add(written(b"sent"), 0)
    some.take(5)
    stamp = some.stamp()
    some.add([Move(b"x", b"y", False), *kept_open(b"log")], 6)
    some.add((Change(b"%d/f" % count, ENTRY, True) for count in range(101)), 7)
    assert some.needs_rescan
    assert some.pending == {} and some.moves == [] and not some.open
    assert some.in_flight == {b"sent": EXACT}
    some.succeeded()
    assert some.due_at() is None
    assert not some.is_done(stamp)
    some.rescan_begins()
    assert not some.needs_rescan
    some.add(written(b"found"), 8)
    some.rescan_ends()
    some.take(13)
    some.succeeded()
    assert some.is_done(stamp)


def test_a_rescan_may_find_too_much() -> None:
    some = collator(max_marks=100)
    some.rescan_begins()
    some.add((Change(b"%d/f" % count, ENTRY, True) for count in range(101)), 7)
    some.rescan_ends()
    assert some.needs_rescan
    stamp = some.stamp()
    assert not some.is_done(stamp)
    some.full_sync_begins(deletes=True)
    some.succeeded()
    assert not some.needs_rescan
    assert some.is_done(stamp)
