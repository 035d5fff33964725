# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/reach.py: what a run may have written, until somebody has read all that it knew."""

from __future__ import annotations

import pytest

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.plan.marktree import MarkTree
from lsyncd_sd.plan.reach import MOST_RUNS, Reach


def marks(**depths: Depth) -> MarkTree:
    some = MarkTree()
    for name, depth in depths.items():
        some.put(name.replace("_", "/").encode(), Mark(depth, exact=True))
    return some


def reach(**depths: Depth) -> Reach:
    some = Reach()
    some.begin(marks(**depths))
    return some


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"entry", {b"entry"}),
        (b"entry/below", set()),
        (b"d", {b"d/entry", b"d/e/level"}),
        (b"d/e", {b"d/e/level"}),
        (b"tree", {b"tree"}),
        (b"tree/below/it", {b"tree/below/it"}),
        (b"d/e/level/name", {b"d/e/level/name"}),
        (b"d/e/level/name/below", set()),
        (b"other", set()),
        (b"entr", set()),
    ],
)
def test_what_concerns_a_path(path: bytes, expected: set[bytes]) -> None:
    some = reach(entry=Depth.ENTRY, d_entry=Depth.ENTRY, d_e_level=Depth.LEVEL, tree=Depth.SUBTREE)
    assert some.concerned(path) == expected
    assert some.is_clear_of(path) == (not expected)


def test_what_is_listed_besides_counts_as_entry_and_level() -> None:
    some = reach(a=Depth.ENTRY)
    some.add([b"d"])
    assert some.concerned(b"d") == {b"d"}
    assert some.concerned(b"d/x") == {b"d/x"}


def test_runs_add_up_until_all_is_read() -> None:
    some = reach(a=Depth.ENTRY)
    some.begin(marks(b=Depth.ENTRY))
    assert some
    assert not some.is_clear_of(b"a") and not some.is_clear_of(b"b")
    some.end()
    assert not some
    assert some.is_clear_of(b"a") and some.is_clear_of(b"b")


def test_a_full_sync_is_everywhere() -> None:
    some = Reach()
    some.begin_everywhere()
    assert some.concerned(b"a/b") == {b"a/b"}


def test_too_many_runs_are_everywhere() -> None:
    some = Reach()
    for _run in range(MOST_RUNS):
        some.begin(marks(a=Depth.ENTRY))
    assert some.is_clear_of(b"b")
    some.begin(marks(a=Depth.ENTRY))
    assert not some.is_clear_of(b"b")
