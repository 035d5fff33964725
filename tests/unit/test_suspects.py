# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/suspects.py: where temporary files are looked for, and which of those found are ours."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lsyncd_sd.mirror.suspects import Search, Suspects
from lsyncd_sd.plan.batch import Kind
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.plan.filters import Filter

SUFFIX = b".aZ09bc"
LONG = b"long" * 63

# What the source holds.
SOURCE = {
    b"file": Kind.OTHER,
    b"d": Kind.DIRECTORY,
    b"d/file": Kind.OTHER,
    b"d/.dot": Kind.OTHER,
    b"d/end.": Kind.OTHER,
    b"d/folder": Kind.DIRECTORY,
    b"d/hidden": Kind.OTHER,
    b"d/.own.aZ09bc": Kind.OTHER,
    b"d/own": Kind.OTHER,
    b"d/" + LONG: Kind.OTHER,
    b"d/e": Kind.DIRECTORY,
    b"d/e/file": Kind.OTHER,
    b"other": Kind.DIRECTORY,
    b"other/file": Kind.OTHER,
}


def names_in(directory: bytes) -> list[bytes]:
    return [path.rpartition(b"/")[2] for path in SOURCE if path.rpartition(b"/")[0] == directory]


def search(*places: tuple[bytes, Depth]) -> Search:
    some = Search()
    for path, depth in places:
        some.add(path, depth)
    return some


def judge(some: Search, gone: Iterable[bytes] = ()) -> Suspects:
    hides = Filter.from_excludes(["hidden", ".*"]).hides
    return Suspects(some, hides, set(gone), lambda path: SOURCE.get(path, Kind.MISSING), names_in)


# ---- where


def test_each_directory_is_searched_once() -> None:
    some = search(
        (b"a/x", Depth.ENTRY),
        (b"a/y", Depth.ENTRY),
        (b"b", Depth.CONTENT),
        (b"c", Depth.SUBTREE),
        (b"c/d", Depth.SUBTREE),
        (b"c/x", Depth.ENTRY),
        (b"c/e", Depth.CONTENT),
        (b"top", Depth.ENTRY),
    )
    assert some.levels() == {b"a", b"b", b""}
    assert some.tops() == {b"c"}


def test_the_root_holds_all() -> None:
    some = search((b"", Depth.SUBTREE), (b"c", Depth.SUBTREE), (b"a/x", Depth.ENTRY), (b"", Depth.CONTENT))
    assert (some.levels(), some.tops()) == (set(), {b""})


def test_a_run_that_deletes_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="nothing is written"):
        search((b"a", Depth.LEVEL))


# ---- which

EVERYWHERE = search((b"", Depth.SUBTREE))


@pytest.mark.parametrize(
    ("begin", "is_ours"),
    [
        (b".file", True),
        (b"d/.file", True),
        (b"d/e/.file", True),
        (b"d/.end", True),
        (b"d/." + LONG[:246], True),
        (b"d/.nobody", False),
        (b"d/.folder", False),
        (b"d/.own", False),
        (b"d/.hidden", False),
        (b"d/.dot", False),
        (b"d/." + LONG[:245], False),
        (b"d/", False),
    ],
)
def test_in_a_subtree_it_is_ours_if_the_source_has_such_a_file(begin: bytes, is_ours: bool) -> None:
    assert judge(EVERYWHERE).is_ours(begin + SUFFIX) is is_ours


def test_what_went_a_moment_ago_may_have_been_sent() -> None:
    assert judge(EVERYWHERE, [b"d/nobody"]).is_ours(b"d/.nobody" + SUFFIX)
    assert judge(EVERYWHERE, [b"d/folder"]).is_ours(b"d/.folder" + SUFFIX)
    assert not judge(EVERYWHERE, [b"d/hidden"]).is_ours(b"d/.hidden" + SUFFIX)
    assert not judge(EVERYWHERE, [b"d/own"]).is_ours(b"d/.own" + SUFFIX)


def test_other_names_are_never_ours() -> None:
    assert not judge(EVERYWHERE).is_ours(b"d/.file.aZ09b")


@pytest.mark.parametrize("part", [Depth.SUBTREE, Depth.CONTENT])
def test_only_where_a_run_was_at_work(part: Depth) -> None:
    some = judge(search((b"d", part)))
    assert some.is_ours(b"d/.file" + SUFFIX)
    assert some.is_ours(b"d/e/.file" + SUFFIX) is (part is Depth.SUBTREE)
    assert not some.is_ours(b".file" + SUFFIX)
    assert not some.is_ours(b"other/.file" + SUFFIX)


def test_of_what_was_listed_only_those_names_whether_they_are_still_there_or_not() -> None:
    some = judge(search((b"d/gone", Depth.ENTRY), (b"d/own", Depth.ENTRY), (b"d/" + LONG, Depth.ENTRY)))
    assert some.is_ours(b"d/.gone" + SUFFIX)
    assert some.is_ours(b"d/." + LONG[:246] + SUFFIX)
    assert not some.is_ours(b"d/.own" + SUFFIX)
    assert not some.is_ours(b"d/.file" + SUFFIX)
    assert not some.is_ours(b".gone" + SUFFIX)
