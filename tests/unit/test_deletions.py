# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/deletions.py: how much would be deleted, how much of it is lost, and what is shown of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest

from lsyncd_sd.plan.deletions import SHOWN_PATHS, Deletions, Fingerprints


def told(deleted: Iterable[bytes], made: Iterable[bytes] = ()) -> Deletions:
    """Return deletions as a run tells them; names with a slash at their end are directories."""
    deletions = Deletions()
    for path in deleted:
        deletions.deleted(path.removesuffix(b"/"), is_directory=path.endswith(b"/"))
    for path in made:
        deletions.made(path)
    return deletions


def test_nothing() -> None:
    nothing = Deletions()
    assert (len(nothing), nothing.lost, nothing.topmost) == (0, 0, ())
    assert nothing.digest() == Deletions().digest() != told([b"a"]).digest()


def test_deletions_have_a_name_in_whatever_order_they_come() -> None:
    paths = [b"d/%d" % number for number in range(1000)]
    first = told(paths).digest()
    paths.reverse()
    assert told(paths).digest() == first
    assert told(paths[1:]).digest() != first
    assert told([*paths, b"d/1"]).digest() != first
    # what is made at the same time makes no difference to what is deleted
    assert told(paths, [b"new"]).digest() == first


def test_the_same_deletions_have_the_same_name_in_another_process() -> None:
    # a literal: what depends on the process (hash()) would never be accepted after a restart
    assert told([b"a", b"d/\xff"]).digest() == "8a3f99f7f19206c1"


@pytest.mark.parametrize(
    ("deleted", "made", "lost"),
    [
        ([b"a", b"b"], [], 2),
        # a directory renamed
        ([b"big/a", b"big/b/", b"big/"], [b"other", b"other/a", b"other/b"], 1),
        # into another one
        ([b"big/a", b"big/"], [b"x/big", b"x/big/a"], 0),
        # every name went another way
        ([b"a", b"b"], [b"a.locked", b"b.locked"], 2),
        # one name that came does not stand for two that went
        ([b"1/index", b"2/index"], [b"3/index"], 1),
        ([b"1/index"], [b"2/index", b"3/index"], 0),
    ],
)
def test_what_has_moved_is_not_lost(deleted: list[bytes], made: list[bytes], lost: int) -> None:
    deletions = told(deleted, made)
    assert (len(deletions), deletions.lost) == (len(deleted), lost)


def test_a_directory_stands_for_what_it_holds() -> None:
    deletions = told([b"b", b"d/deep/x", b"d/deep/", b"d/y", b"d/", b"da", b"kept/a", b"kept/b/"])
    assert deletions.topmost == (b"b", b"d/", b"da", b"kept/a", b"kept/b/")


def test_only_some_paths_are_shown_of_very_many() -> None:
    deletions = told(b"%06d" % number for number in range(5000))
    assert deletions.topmost == tuple(b"%06d" % number for number in range(SHOWN_PATHS))
    # one directory alone, however large
    deletions = told([*(b"d/%d" % number for number in range(5000)), b"d/"])
    assert (len(deletions), deletions.topmost) == (5001, (b"d/",))


def test_a_million_deletions_fit_in_a_child() -> None:
    tracemalloc.start()
    deletions = told(b"some/where/%d" % number for number in range(50_000))
    deletions.digest()
    assert deletions.lost == 50_000
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # a twentieth of a million, and a twentieth of 25 MB
    assert most < 1_250_000


def test_fingerprints_are_taken_away_one_by_one() -> None:
    some, others = Fingerprints(), Fingerprints()
    for text in (b"a", b"a", b"b", b"c"):
        some.add(text)
    for text in (b"a", b"c", b"c", b"d"):
        others.add(text)
    assert (len(some), some.without(others), others.without(some)) == (4, 2, 2)
