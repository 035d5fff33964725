# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/collator.py and plan/dirt.py: moves, what is new, and what changes while a batch is under way.

What goes wrong without each rule is told by the stories of tests/model/test_collating.py.
"""

from __future__ import annotations

import pytest

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Change, Depth, Move, Sign
from lsyncd_sd.plan.collator import Collator, Limits
from lsyncd_sd.plan.dirt import MayMove

ENTRY, SUBTREE = Depth.ENTRY, Depth.SUBTREE
EXACT, LOOSE, NEW = Mark(ENTRY, True), Mark(ENTRY, False), Mark(ENTRY, True, is_new=True)
TREE, NEW_TREE = Mark(SUBTREE, True), Mark(SUBTREE, True, is_new=True)

TOUCHED_TREE = Mark(ENTRY | SUBTREE, True, is_new=True)

A_TO_B, B_TO_C = Move(b"a", b"b", False), Move(b"b", b"c", False)
D_TO_E = Move(b"d", b"e", True)


def collator(max_moves: int = 100, may_move: MayMove = lambda _move: True) -> Collator:
    return Collator(Limits(delay=5, max_changes=1000, max_moves=max_moves), may_move)


def came(path: bytes) -> Change:
    return Change(path, ENTRY, True, Sign.CAME)


def tree_came(path: bytes) -> Change:
    return Change(path, SUBTREE, True, Sign.CAME)


def arrived(path: bytes) -> Change:
    return Change(path, ENTRY, True, Sign.ARRIVED)


def went(path: bytes) -> Change:
    return Change(path, ENTRY, True, Sign.WENT)


def tree_went(path: bytes) -> Change:
    return Change(path, SUBTREE, True, Sign.WENT)


def written(path: bytes) -> Change:
    return Change(path, ENTRY, True)


def after(*changes: Change | Move, max_moves: int = 100) -> Collator:
    some = collator(max_moves)
    some.add(changes, now=1)
    return some


# ---- moves that the target makes


def test_a_move_is_carried_and_changes_the_times_of_both_directories() -> None:
    some = after(Move(b"p/a", b"q/b", False))
    assert some.due_at() == 6
    assert len(some) == 3
    load = some.take(6)
    assert load.moves == (Move(b"p/a", b"q/b", False),)
    assert load.marks == {b"p": LOOSE, b"q": LOOSE}
    assert some.moves == []


def test_moves_are_carried_in_their_order() -> None:
    moves = (A_TO_B, D_TO_E, B_TO_C)
    assert after(*moves).take(6).moves == moves


def test_what_is_dirty_moves_along() -> None:
    some = after(written(b"d/x/f"), written(b"a"), D_TO_E, A_TO_B)
    assert some.take(6).marks == {b"": LOOSE, b"e/x/f": EXACT, b"b": EXACT}


def test_what_is_troubled_or_open_moves_along() -> None:
    some = after(written(b"d/f"))
    some.take(6)
    some.failed_in_part({b"d/f": EXACT}, 7, retry_after=100)
    some.caught_up()
    some.add([Change(b"d/log", ENTRY, True, Sign.OPEN), D_TO_E], 8)
    assert some.troubled == {b"e/f": EXACT}
    assert set(some.open) == {b"e/log"}


def test_more_moves_than_a_batch_may_carry_are_made_by_sending() -> None:
    some = after(written(b"d/f"), D_TO_E, A_TO_B, max_moves=1)
    load = some.take(6)
    assert load.moves == ()
    assert load.marks == {b"": LOOSE, b"d": TREE, b"e": TREE, b"a": EXACT, b"b": EXACT}


def test_moves_count_as_changes() -> None:
    some = Collator(Limits(delay=5, max_changes=3, max_moves=100))
    some.add([Move(b"d/a", b"d/b", False), Move(b"d/x", b"d/y", False)], 1)
    assert some.due_at() == 1


def test_no_move_into_what_the_target_cannot_hold_yet() -> None:
    some = after(tree_came(b"n"), Move(b"d", b"n/d", True))
    load = some.take(6)
    assert load.moves == ()
    assert load.marks == {b"n": NEW_TREE, b"d": TREE}


def test_moves_go_with_whatever_goes_next() -> None:
    some = after(written(b"bad"))
    some.take(6)
    some.failed_in_part({b"bad": EXACT}, 7, retry_after=0)
    some.add([Move(b"bad", b"worse", False), written(b"c")], 8)
    load = some.take(8)
    assert load.moves == (Move(b"bad", b"worse", False),)
    assert load.marks == {b"worse": EXACT}
    assert some.moves == []
    assert b"c" in some.pending


# ---- moves that the target does not make


@pytest.mark.parametrize(
    ("changes", "marks"),
    [
        ([A_TO_B], {b"a": EXACT, b"b": EXACT}),
        ([D_TO_E], {b"d": TREE, b"e": TREE}),
        ([written(b"d/f"), written(b"e/g"), D_TO_E], {b"d": TREE, b"e": TREE}),
        ([tree_came(b"d"), D_TO_E], {b"": LOOSE, b"e": TREE}),
        ([came(b"a"), A_TO_B, B_TO_C], {b"": LOOSE, b"b": EXACT, b"c": EXACT}),
    ],
)
def test_where_no_moves_are_made_both_ends_are_dirty(
    changes: list[Change | Move], marks: dict[bytes, Mark]
) -> None:
    load = after(*changes, max_moves=0).take(6)
    assert load.moves == ()
    assert load.marks == marks


def test_where_no_moves_are_made_what_is_open_goes_at_once() -> None:
    kept_open = (Change(path, ENTRY, True, Sign.OPEN) for path in (b"a", b"d/f"))
    some = after(*kept_open, A_TO_B, D_TO_E, max_moves=0)
    assert not some.open
    assert some.pending == {b"a": EXACT, b"b": EXACT, b"d": TREE, b"e": TREE}


def test_what_the_target_must_not_move_is_dirty_at_both_ends() -> None:
    some = collator(may_move=lambda move: move.old != b"d")
    some.add([written(b"d/f"), D_TO_E, A_TO_B], 1)
    load = some.take(6)
    assert load.moves == (A_TO_B,)
    assert load.marks == {b"": LOOSE, b"d": TREE, b"e": TREE}


def test_a_target_that_turns_out_to_make_no_moves_gets_none_any_more() -> None:
    some = after(A_TO_B)
    some.take(6)
    some.add([D_TO_E], 7)
    some.succeeded([A_TO_B])
    some.make_no_moves()
    some.add([B_TO_C], 8)
    load = some.take(13)
    assert load.moves == ()
    assert load.marks == {b"": LOOSE, b"a": EXACT, b"b": EXACT, b"c": EXACT, b"d": TREE, b"e": TREE}


# ---- what is new


@pytest.mark.parametrize(
    ("changes", "marks"),
    [
        ([came(b"a")], {b"a": NEW}),
        ([came(b"a"), written(b"a")], {b"a": NEW}),
        ([tree_came(b"d"), came(b"d/f")], {b"d": NEW_TREE}),
        # gone again: only the directory's time has changed
        ([came(b"d/a"), went(b"d/a")], {b"d": LOOSE}),
        ([tree_came(b"d/e"), came(b"d/e/f"), tree_went(b"d/e")], {b"d": LOOSE}),
        ([tree_came(b"d"), came(b"d/f"), went(b"d/f")], {b"d": TOUCHED_TREE}),
        # elsewhere: nothing is known of what stood there
        ([came(b"p/a"), Move(b"p/a", b"q/b", False)], {b"p": LOOSE, b"q/b": EXACT}),
        ([tree_came(b"n"), Move(b"n/a", b"b", False)], {b"n": TOUCHED_TREE, b"b": EXACT}),
        # not new
        ([arrived(b"a")], {b"a": EXACT}),
        ([arrived(b"a"), went(b"a")], {b"a": EXACT}),
        ([came(b"a"), arrived(b"a"), went(b"a")], {b"a": EXACT}),
        ([went(b"a"), came(b"a")], {b"a": EXACT}),
        ([tree_went(b"d"), tree_came(b"d")], {b"d": TREE}),
    ],
)
def test_what_is_new(changes: list[Change | Move], marks: dict[bytes, Mark]) -> None:
    assert after(*changes).pending == marks


def test_nothing_is_due_once_what_was_new_is_gone_from_the_root_too() -> None:
    some = after(tree_came(b"d"), came(b"d/a"))
    some.take(6)
    some.succeeded()
    some.caught_up()
    some.add([came(b"d/b"), went(b"d/b")], 8)
    assert some.pending == {b"d": LOOSE}


def test_nothing_is_new_where_a_run_may_have_been() -> None:
    some = after(tree_went(b"d"))
    some.take(6)
    some.add([came(b"d/a")], 7)
    some.succeeded()
    some.add([came(b"d/b")], 8)
    some.caught_up()
    some.add([came(b"d/c")], 9)
    assert some.pending == {b"d/a": EXACT, b"d/b": EXACT, b"d/c": NEW}


def test_nothing_is_new_where_something_is_troubled() -> None:
    some = after(written(b"t/x"))
    some.take(6)
    some.failed_in_part({b"t": Mark(Depth.LEVEL, False)}, 7, retry_after=100)
    some.caught_up()
    some.add([came(b"t/a"), came(b"else")], 9)
    assert some.pending == {b"t/a": EXACT, b"else": NEW}


def test_what_comes_back_is_not_new() -> None:
    some = after(came(b"a"))
    some.take(6)
    some.failed({}, 7)
    some.add([went(b"a")], 8)
    assert some.pending == {b"a": EXACT}


def test_nothing_is_new_in_a_batch_with_moves() -> None:
    assert after(A_TO_B, came(b"a")).take(6).marks == {b"": LOOSE, b"a": EXACT}


# ---- while something is under way


def test_what_a_run_may_have_written_is_looked_at_where_it_moved() -> None:
    some = after(written(b"d/f"), Change(b"d/g", ENTRY, False))
    some.take(6)
    some.in_flight_touches([b"d/x"])
    some.add([D_TO_E], 7)
    assert some.pending == {b"": LOOSE, b"e/f": TREE, b"e/g": TREE, b"e/x": TREE}
    some.succeeded()
    some.add([Move(b"e", b"f", True)], 8)
    some.caught_up()
    some.take(13)
    some.succeeded()
    some.caught_up()
    some.add([Move(b"f", b"g", True)], 14)
    assert some.pending == {b"": LOOSE}


def test_what_fails_follows_the_moves_made_since() -> None:
    some = after(written(b"d/f"))
    some.take(6)
    some.add([D_TO_E], 7)
    some.failed({b"d/tmp": Mark(Depth.LEVEL, False)}, 8)
    assert set(some.pending) == {b"", b"e/f", b"e/tmp"}


def test_what_fails_in_part_follows_the_moves_made_since() -> None:
    some = after(written(b"d/f"))
    some.take(6)
    some.add([D_TO_E], 7)
    some.failed_in_part({b"d/f": EXACT}, 8, retry_after=0)
    assert some.troubled == {b"e/f": EXACT}


@pytest.mark.parametrize("how", ["succeeded", "failed", "failed in part"])
def test_moves_of_which_nobody_knows_that_they_were_made(how: str) -> None:
    some = after(D_TO_E, Move(b"x/a", b"x/b", False))
    some.take(6)
    some.add([Move(b"x/b", b"x/c", False)], 7)
    if how == "succeeded":
        some.succeeded([Move(b"x/a", b"x/b", False)])
    elif how == "failed":
        some.failed({}, 8, [Move(b"x/a", b"x/b", False)])
    else:
        some.failed_in_part({b"y": EXACT}, 8, 100, [Move(b"x/a", b"x/b", False)])
    assert some.pending[b"x/a"] == EXACT
    assert some.pending[b"x/c"] == EXACT
    assert b"e" not in some.pending


def test_unconfirmed_moves_are_due_at_once() -> None:
    some = after(A_TO_B)
    some.take(6)
    some.succeeded([A_TO_B])
    due = some.due_at()
    assert due is not None and due <= 6


# ---- full syncs and rescans


def test_a_full_sync_makes_no_moves_and_all_their_ends_stay_dirty() -> None:
    some = after(A_TO_B)
    some.full_sync_begins(deletes=True)
    assert some.moves == []
    assert some.pending == {b"a": EXACT, b"b": EXACT}


def test_a_full_sync_may_have_been_anywhere() -> None:
    some = collator()
    some.full_sync_begins(deletes=True)
    some.add([came(b"n"), D_TO_E], 1)
    assert some.pending == {b"": LOOSE, b"n": EXACT, b"e": TREE}


def test_while_changes_are_missed_nothing_is_new_and_no_move_is_trusted() -> None:
    some = collator()
    some.rescan_begins()
    some.add([came(b"n"), D_TO_E], 1)
    assert some.moves == []
    assert some.pending == {b"n": EXACT, b"d": TREE, b"e": TREE}
    some.rescan_ends()
    some.add([came(b"m"), A_TO_B], 2)
    assert some.moves == [A_TO_B]
    assert some.pending[b"m"] == NEW
