# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/collator.py: what is due when, and that nothing that failed is forgotten."""

from __future__ import annotations

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.plan.collator import Collator, Limits

ENTRY, LEVEL, SUBTREE = Depth.ENTRY, Depth.LEVEL, Depth.SUBTREE
DELAY = 5.0


def collator(max_changes: int = 1000) -> Collator:
    return Collator(Limits(delay=DELAY, max_changes=max_changes))


def written(*paths: bytes) -> list[Change]:
    return [Change(path, ENTRY, True) for path in paths]


def touched(*paths: bytes) -> list[Change]:
    return [Change(path, ENTRY, False) for path in paths]


def appeared(*paths: bytes) -> list[Change]:
    return [Change(path, SUBTREE, True) for path in paths]


# ---- when


def test_nothing_is_due_at_first() -> None:
    assert collator().due_at() is None
    assert len(collator()) == 0


def test_the_delay_counts_from_the_first_change() -> None:
    one = collator()
    one.add(written(b"a"), now=100)
    one.add(written(b"b", b"a"), now=103)
    assert one.due_at() == 100 + DELAY
    assert len(one) == 2


def test_many_changes_do_not_wait() -> None:
    one = collator(max_changes=2)
    one.add(written(b"a"), now=100)
    assert one.due_at() == 100 + DELAY
    one.add(written(b"b"), now=101)
    due = one.due_at()
    assert due is not None and due <= 101


def test_the_same_path_counts_once() -> None:
    one = collator(max_changes=2)
    for now in range(100, 104):
        one.add(written(b"a"), now=now)
    assert one.due_at() == 100 + DELAY


def test_nothing_is_due_while_a_batch_is_in_flight() -> None:
    one = collator()
    one.add(written(b"a"), now=100)
    one.take(now=106)
    one.add(written(b"b"), now=107)
    assert one.due_at() is None
    one.succeeded()
    assert one.due_at() == 107 + DELAY


def test_the_next_delay_begins_with_the_next_change() -> None:
    one = collator()
    one.add(written(b"a"), now=100)
    one.take(now=106)
    one.succeeded()
    assert one.due_at() is None
    one.add(written(b"a"), now=200)
    assert one.due_at() == 200 + DELAY


# ---- what


def test_changes_of_a_path_become_one_mark() -> None:
    one = collator()
    one.add([*touched(b"a"), *written(b"a"), *touched(b"a")], now=1)
    one.add([Change(b"d", ENTRY, False), Change(b"d", LEVEL, False)], now=1)
    assert one.take(now=10).marks == {b"a": Mark(ENTRY, True), b"d": Mark(ENTRY | LEVEL, False)}


def test_an_exact_subtree_swallows_what_comes_below_it() -> None:
    one = collator()
    one.add([*appeared(b"d"), *written(b"d/a", b"d/e/b", b"dd")], now=1)
    assert set(one.take(now=10).marks) == {b"d", b"dd"}


def test_an_exact_subtree_swallows_what_was_there_before_it() -> None:
    one = collator()
    one.add([*written(b"d/a", b"d/e/b", b"dd"), *appeared(b"d")], now=1)
    assert set(one.take(now=10).marks) == {b"d", b"dd"}


def test_a_subtree_that_is_not_exact_swallows_nothing() -> None:
    one = collator()
    one.add([Change(b"d", SUBTREE, False), *written(b"d/a")], now=1)
    assert set(one.take(now=10).marks) == {b"d", b"d/a"}


def test_a_subtree_swallows_in_its_own_batch_only() -> None:
    one = collator()
    one.add(appeared(b"d"), now=1)
    one.take(now=10)
    one.add(written(b"d/a"), now=11)
    one.succeeded()
    assert set(one.take(now=20).marks) == {b"d/a"}


def test_the_swallowing_begins_with_an_entry_that_becomes_a_subtree() -> None:
    one = collator()
    one.add([*written(b"d"), *appeared(b"d"), *written(b"d/a")], now=1)
    assert one.take(now=10).marks == {b"d": Mark(ENTRY | SUBTREE, True)}


# ---- failures


def test_a_batch_in_flight_is_not_touched() -> None:
    one = collator()
    one.add(written(b"a"), now=1)
    taken = one.take(now=10).marks
    one.add(written(b"a", b"b"), now=11)
    assert taken == one.in_flight == {b"a": Mark(ENTRY, True)}
    assert set(one.pending) == {b"a", b"b"}
    assert len(one) == 3


def test_a_failed_batch_comes_back_at_once_and_whole() -> None:
    one = collator()
    one.add([*touched(b"a"), *appeared(b"d")], now=1)
    one.take(now=10)
    one.add([*written(b"b", b"d/x")], now=11)
    one.failed({b"d/tmp": Mark(LEVEL, False), b"": Mark(LEVEL, False)}, now=12)
    due = one.due_at()
    assert due is not None and due <= 12
    assert one.take(now=12).marks == {
        b"a": Mark(ENTRY, False),
        b"b": Mark(ENTRY, True),
        b"d": Mark(SUBTREE, True),
        b"": Mark(LEVEL, False),
    }


def test_what_comes_back_merges_with_what_came_meanwhile() -> None:
    one = collator()
    one.add(written(b"a"), now=1)
    one.take(now=10)
    one.add(touched(b"a"), now=11)
    one.failed({b"a": Mark(LEVEL, False)}, now=12)
    assert one.take(now=12).marks == {b"a": Mark(ENTRY | LEVEL, True)}


def test_a_failure_of_nothing_leaves_nothing_due() -> None:
    one = collator()
    one.failed({}, now=1)
    assert one.due_at() is None


def test_what_failed_by_itself_waits_for_its_own_time() -> None:
    one = collator()
    one.add(written(b"a", b"b"), now=1)
    one.take(now=10)
    assert one.failed_in_part({b"a": Mark(ENTRY, True)}, now=11, retry_after=30) == 1
    assert one.due_at() == 41
    assert len(one) == 1
    one.add(written(b"c"), now=12)
    assert one.due_at() == 12 + DELAY
    assert set(one.take(now=20).marks) == {b"c"}
    one.succeeded()
    assert one.due_at() == 41
    assert one.take(now=41).marks == {b"a": Mark(ENTRY, True)}


def test_tries_of_what_failed_are_counted() -> None:
    one = collator()
    one.add(written(b"a"), now=1)
    one.take(now=10)
    assert one.attempts() == 0
    for tries in (1, 2, 3):
        assert one.failed_in_part({b"a": Mark(ENTRY, True)}, now=11, retry_after=0) == tries
        one.take(now=11)
        assert one.attempts() == tries
    one.succeeded()
    one.add(written(b"a"), now=12)
    one.take(now=20)
    assert one.attempts() == 0


def test_a_second_failure_joins_the_first() -> None:
    one = collator()
    one.add(written(b"a"), now=1)
    one.take(now=10)
    one.failed_in_part({b"a": Mark(ENTRY, True)}, now=11, retry_after=100)
    one.add(touched(b"a", b"b"), now=12)
    one.take(now=20)
    assert one.failed_in_part({b"a": Mark(LEVEL, False), b"b": Mark(ENTRY, False)}, 21, 100) == 1
    assert one.take(now=121).marks == {b"a": Mark(ENTRY | LEVEL, True), b"b": Mark(ENTRY, False)}


def test_a_retry_that_fails_as_a_whole_comes_back() -> None:
    one = collator()
    one.add(written(b"a"), now=1)
    one.take(now=10)
    one.failed_in_part({b"a": Mark(ENTRY, True)}, now=11, retry_after=10)
    one.take(now=21)
    one.failed({}, now=22)
    assert one.take(now=22).marks == {b"a": Mark(ENTRY, True)}


def test_neither_fresh_nor_troubled_marks_starve() -> None:
    one = collator()
    one.add(written(b"bad"), now=0)
    one.take(now=5)
    one.failed_in_part({b"bad": Mark(ENTRY, True)}, now=5, retry_after=20)
    served = []
    for now in range(6, 200, 6):
        # always something fresh, and always due when its turn comes
        one.add(written(b"fresh"), now=now - DELAY)
        marks = one.take(now=now).marks
        served.append(set(marks))
        if b"bad" in marks:
            one.failed_in_part({b"bad": Mark(ENTRY, True)}, now=now, retry_after=20)
        else:
            one.succeeded()
    assert served.count({b"bad"}) >= 5
    assert served.count({b"fresh"}) >= 15


# ---- full syncs


def test_a_full_sync_finds_all_but_the_exact_marks() -> None:
    one = collator()
    one.add([*written(b"a"), *touched(b"b"), *appeared(b"d"), Change(b"l", LEVEL, False)], now=1)
    one.full_sync_begins(deletes=True)
    assert one.pending == {b"a": Mark(ENTRY, True), b"d": Mark(SUBTREE, True)}
    assert one.due_at() is None
    one.succeeded()
    assert one.due_at() == 1 + DELAY


def test_a_full_sync_may_leave_nothing_to_do() -> None:
    one = collator()
    one.add(touched(b"b"), now=1)
    one.take(now=10)
    one.failed_in_part({b"b": Mark(ENTRY, False)}, now=11, retry_after=1)
    one.add(touched(b"c"), now=12)
    one.full_sync_begins(deletes=True)
    assert len(one) == 0
    assert one.due_at() is None


def test_a_full_sync_keeps_exact_troubled_marks() -> None:
    one = collator()
    one.add(written(b"a"), now=1)
    one.take(now=10)
    one.failed_in_part({b"a": Mark(ENTRY, True), b"b": Mark(LEVEL, False)}, now=11, retry_after=1)
    one.full_sync_begins(deletes=True)
    one.succeeded()
    assert one.take(now=12).marks == {b"a": Mark(ENTRY, True)}


def test_a_full_sync_that_deletes_nothing_leaves_the_levels_to_do() -> None:
    one = collator()
    one.add([Change(b"d", Depth.LEVEL, False), Change(b"a", ENTRY, False)], now=0)
    one.full_sync_begins(deletes=False)
    assert one.pending == {b"d": Mark(Depth.LEVEL, False)}


# ---- stamps


def test_what_a_full_sync_could_not_do_was_dirty_before_any_stamp() -> None:
    one = collator()
    one.full_sync_begins(deletes=True)
    stamp = one.stamp()
    one.failed_in_part({b"unreadable": Mark(ENTRY, exact=False)}, now=100, retry_after=5)
    assert not one.is_done(stamp)
    one.take(now=105)
    one.succeeded()
    assert one.is_done(stamp)
