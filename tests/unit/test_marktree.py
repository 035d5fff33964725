# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/marktree.py: what covers what, what a move makes of marks, and how directories collapse."""

from __future__ import annotations

import pytest

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Depth, Move
from lsyncd_sd.plan.marktree import FEWEST_COLLAPSED, MarkTree, left_undone

ENTRY, LEVEL, SUBTREE, CONTENT = Depth.ENTRY, Depth.LEVEL, Depth.SUBTREE, Depth.CONTENT
EXACT, LOOSE, NEW = Mark(ENTRY, True), Mark(ENTRY, False), Mark(ENTRY, True, is_new=True)
TREE, LOOSE_TREE, NEW_TREE = Mark(SUBTREE, True), Mark(SUBTREE, False), Mark(SUBTREE, True, is_new=True)
WHOLE, LOOSE_WHOLE = Mark(CONTENT | LEVEL, True), Mark(CONTENT | LEVEL, False)

Marks = dict[bytes, Mark]


def tree(marks: Marks) -> MarkTree:
    some = MarkTree()
    for path, mark in marks.items():
        some.put(path, mark)
    return some


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        # an exact subtree says all of what is below it, whenever it came
        ({b"d": TREE, b"d/a": EXACT, b"d/e/f": TREE}, {b"d": TREE}),
        ({b"d/a": EXACT, b"d/e/f": TREE, b"dd": EXACT, b"d": TREE}, {b"d": TREE, b"dd": EXACT}),
        ({b"": TREE, b"a": EXACT}, {b"": TREE}),
        # one that is not exact says less than an exact mark, and it is not worth the search
        ({b"d": LOOSE_TREE, b"d/a": EXACT}, {b"d": LOOSE_TREE, b"d/a": EXACT}),
        # a content level says all of an entry that is as exact, and nothing of what is deeper
        ({b"d": WHOLE, b"d/a": EXACT, b"d/b": LOOSE}, {b"d": WHOLE}),
        ({b"d": LOOSE_WHOLE, b"d/a": EXACT, b"d/b": LOOSE}, {b"d": LOOSE_WHOLE, b"d/a": EXACT}),
        ({b"d": WHOLE, b"d/e": TREE, b"d/e2/f": EXACT}, {b"d": WHOLE, b"d/e": TREE, b"d/e2/f": EXACT}),
    ],
)
def test_what_needs_no_mark_of_its_own(marks: Marks, expected: Marks) -> None:
    some = tree(marks)
    assert some == expected
    assert len(some) == len(expected)


def test_a_mark_below_a_content_level_is_kept_with_its_own() -> None:
    some = tree({b"d": WHOLE, b"d/e/f": EXACT, b"d/e": LOOSE})
    assert some == {b"d": WHOLE, b"d/e/f": EXACT}


@pytest.mark.parametrize(
    ("known", "mark", "put", "touched"),
    [
        (NEW, EXACT, EXACT, NEW),
        (EXACT, NEW, EXACT, EXACT),
        (NEW, NEW, NEW, NEW),
        (LOOSE, EXACT, EXACT, EXACT),
        (NEW_TREE, LOOSE, Mark(ENTRY | SUBTREE, True), Mark(ENTRY | SUBTREE, True, is_new=True)),
    ],
)
def test_only_what_stays_the_same_name_stays_new(known: Mark, mark: Mark, put: Mark, touched: Mark) -> None:
    one, other = tree({b"a": known}), tree({b"a": known})
    one.put(b"a", mark)
    other.touch(b"a", mark)
    assert one == {b"a": put}
    assert other == {b"a": touched}


def test_older_marks_are_not_new() -> None:
    some = tree({b"a": NEW, b"b": NEW})
    some.put_older({b"a": LOOSE, b"c": NEW})
    assert some == {b"a": EXACT, b"b": NEW, b"c": EXACT}


def test_nothing_is_new_after_ageing() -> None:
    some = tree({b"a": NEW, b"d": NEW_TREE, b"e/f": LOOSE})
    some.age()
    assert some == {b"a": EXACT, b"d": TREE, b"e/f": LOOSE}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"tree/a/b", TREE),
        (b"loose/a", LOOSE_TREE),
        (b"whole/a", EXACT),
        (b"whole/a/b", None),
        (b"level/a", None),
        (b"entry/a", None),
        (b"tree", None),
        (b"", None),
        (b"elsewhere/a", None),
    ],
)
def test_what_the_marks_above_a_path_say_of_it(path: bytes, expected: Mark | None) -> None:
    marks = {b"tree": TREE, b"loose": LOOSE_TREE, b"whole": WHOLE, b"level": Mark(LEVEL, False)}
    assert tree(marks | {b"entry": EXACT}).covering(path) == expected


def test_marks_above_each_other_say_more_together() -> None:
    assert tree({b"d": LOOSE_TREE, b"d/e": WHOLE}).covering(b"d/e/f") == Mark(ENTRY | SUBTREE, True)


@pytest.mark.parametrize(
    ("path", "is_clean"),
    [
        (b"other", True),
        (b"entry/below", True),
        (b"level/a/b", True),
        (b"entry", False),
        (b"d", False),
        (b"tree/a/b", False),
        (b"level/a", False),
        (b"whole/a", False),
    ],
)
def test_what_is_clean(path: bytes, is_clean: bool) -> None:
    marks = {b"entry": EXACT, b"d/e/f": LOOSE, b"tree": TREE, b"level": Mark(LEVEL, False), b"whole": WHOLE}
    assert tree(marks).is_clean(path) is is_clean
    assert tree({}).is_clean(path)


def test_what_lies_in_something_new_is_new() -> None:
    some = tree({b"n": NEW_TREE, b"a": EXACT})
    assert some.is_new(b"n") and some.is_new(b"n/a/b")
    assert not some.is_new(b"a") and not some.is_new(b"")


# ---- moves


@pytest.mark.parametrize(
    ("marks", "move", "expected"),
    [
        # A1: what is at and below the old name
        (
            {b"a": LOOSE, b"a/x": EXACT, b"a/d": TREE, b"ab": EXACT},
            Move(b"a", b"c/b", True),
            {b"c/b": LOOSE, b"c/b/x": EXACT, b"c/b/d": TREE, b"ab": EXACT},
        ),
        # A2: what covers it
        ({b"d": TREE}, Move(b"d/a", b"b", True), {b"d": TREE, b"b": TREE}),
        ({b"d": TREE}, Move(b"d/a", b"b", False), {b"d": TREE, b"b": EXACT}),
        ({b"d": LOOSE_TREE}, Move(b"d/a", b"b", True), {b"d": LOOSE_TREE, b"b": LOOSE_TREE}),
        # A3: its directory is taken as a whole
        ({b"d": WHOLE}, Move(b"d/a", b"b", True), {b"d": WHOLE, b"b": EXACT}),
        ({b"d": Mark(LEVEL, False)}, Move(b"d/a", b"b", True), {b"d": Mark(LEVEL, False)}),
        # A4: what stood at the new name
        ({b"b": EXACT, b"b/x": EXACT}, Move(b"a", b"b", True), {}),
        ({b"a": LOOSE, b"b": EXACT}, Move(b"a", b"b", False), {b"b": LOOSE}),
        # but not if it may be a directory there that is in the way
        ({b"b": TREE}, Move(b"a", b"b", True), {b"b": TREE}),
        ({b"b": NEW_TREE}, Move(b"a", b"b", True), {}),
        # into what is sent anyway
        ({b"d": TREE, b"a": EXACT}, Move(b"a", b"d/b", False), {b"d": TREE}),
    ],
)
def test_what_a_move_makes_of_marks(marks: Marks, move: Move, expected: Marks) -> None:
    some = tree(marks)
    some.move(move)
    assert some == expected
    assert len(some) == len(expected)


def test_both_ends_of_a_move_that_is_not_made() -> None:
    some = MarkTree()
    some.put_both_ends(Move(b"a", b"b", True))
    some.put_both_ends(Move(b"f", b"g", False))
    assert some == {b"a": TREE, b"b": TREE, b"f": EXACT, b"g": EXACT}


def test_what_was_left_undone_follows_the_moves_after_it() -> None:
    first, then = Move(b"c", b"p/c", False), Move(b"p/c", b"z", False)
    assert left_undone([first, then], {first}) == {b"c": EXACT, b"z": EXACT}
    assert left_undone([first, then], {first, then}) == {b"c": EXACT, b"p/c": EXACT, b"z": EXACT}
    assert left_undone([first, then], ()) == {}


# ---- collapsing


def many(directory: bytes, number: int, mark: Mark) -> Marks:
    return {directory + b"/%d" % count: mark for count in range(number)}


def test_the_fullest_directories_become_levels() -> None:
    some = tree(many(b"a", 40, LOOSE) | many(b"b", 30, EXACT) | many(b"c", 20, LOOSE) | {b"b/0/x": EXACT})
    some.collapse(40)
    assert set(some) == {b"a", b"b", b"b/0/x", *many(b"c", 20, LOOSE)}
    assert (some[b"a"], some[b"b"]) == (LOOSE_WHOLE, WHOLE)
    assert len(some) == 23


def test_only_entries_collapse() -> None:
    marks = many(b"a", 20, LOOSE) | {b"a/d": TREE, b"a/l": Mark(LEVEL, False), b"a/e/f": EXACT, b"a": LOOSE}
    some = tree(marks)
    some.collapse(0)
    assert some == {
        b"a": Mark(ENTRY | LEVEL | CONTENT, False),
        b"a/d": TREE,
        b"a/l": Mark(LEVEL, False),
        b"a/e/f": EXACT,
    }


def test_a_directory_of_few_dirty_entries_is_not_worth_it() -> None:
    marks = many(b"a", FEWEST_COLLAPSED - 1, EXACT)
    some = tree(marks)
    some.collapse(0)
    assert some == marks


def test_nothing_collapses_without_need() -> None:
    marks = many(b"a", 20, EXACT)
    some = tree(marks)
    some.collapse(20)
    assert some == marks
