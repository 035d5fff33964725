# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/batch.py: which lists the marks become, by what the source holds."""

from __future__ import annotations

import pytest

from lsyncd_sd.plan.batch import LONGEST_LISTED, Batch, Kind, Mark, build, is_below
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.plan.filters import Filter

ENTRY, LEVEL, SUBTREE = Depth.ENTRY, Depth.LEVEL, Depth.SUBTREE
EXACT, LOOSE = True, False

# what stands where; everything else is missing
SOURCE: dict[bytes, Kind] = {
    b"": Kind.DIRECTORY,
    b"d": Kind.DIRECTORY,
    b"d/e": Kind.DIRECTORY,
    b"d/e/f": Kind.OTHER,
    b"file": Kind.OTHER,
    b"link": Kind.OTHER,
    b"cache": Kind.DIRECTORY,
    b"d/x.o": Kind.OTHER,
    b"\xff\n": Kind.OTHER,
}
FILTER = Filter.from_excludes(["cache/", "*.o"])


def kind_of(path: bytes) -> Kind:
    return SOURCE.get(path, Kind.MISSING)


def lists(marks: dict[bytes, tuple[Depth, bool]]) -> dict[str, set[bytes]]:
    """Return the lists that are not empty, by the names of the fields."""
    batch = build({path: Mark(*mark) for path, mark in marks.items()}, kind_of, FILTER.hides)
    batch.is_unbounded = False
    return {name: getattr(batch, name) for name in Batch.__dataclass_fields__ if getattr(batch, name)}


@pytest.mark.parametrize(
    ("path", "mark", "expected"),
    [
        # what exists
        (b"file", (ENTRY, EXACT), {"exact_entries": {b"file"}}),
        (b"file", (ENTRY, LOOSE), {"entries": {b"file"}}),
        (b"link", (ENTRY, EXACT), {"exact_entries": {b"link"}}),
        (b"d", (ENTRY, LOOSE), {"entries": {b"d"}}),
        (b"d/e", (SUBTREE, EXACT), {"exact_subtrees": {b"d/e"}}),
        (b"d/e", (SUBTREE, LOOSE), {"subtrees": {b"d/e"}}),
        (b"\xff\n", (ENTRY, EXACT), {"exact_entries": {b"\xff\n"}}),
        # a subtree that became a file
        (b"file", (SUBTREE, EXACT), {"exact_entries": {b"file"}}),
        (b"file", (SUBTREE, LOOSE), {"entries": {b"file"}}),
        # levels, and with other depths
        (b"d", (LEVEL, LOOSE), {"entries": {b"d"}, "levels": {b"d"}}),
        (b"d", (ENTRY | LEVEL, EXACT), {"exact_entries": {b"d"}, "levels": {b"d"}}),
        (b"d", (SUBTREE | LEVEL, EXACT), {"exact_subtrees": {b"d"}}),
        (b"file", (LEVEL, LOOSE), {"entries": {b"file"}}),
        (b"gone", (LEVEL, LOOSE), {"levels": {b""}, "gone": {b"gone"}}),
        # what is gone: the nearest directory that exists
        (b"gone", (ENTRY, EXACT), {"levels": {b""}, "gone": {b"gone"}}),
        (b"d/gone", (ENTRY, EXACT), {"levels": {b"d"}, "gone": {b"d/gone"}}),
        (b"d/gone", (SUBTREE, EXACT), {"levels": {b"d"}, "gone": {b"d/gone"}}),
        (b"d/gone/deep/down", (ENTRY, EXACT), {"levels": {b"d"}, "gone": {b"d/gone"}}),
        # a component that is no directory any more: only it, and exact
        (b"link/below", (ENTRY, LOOSE), {"exact_entries": {b"link"}}),
        (b"file/below/deep", (SUBTREE, LOOSE), {"exact_entries": {b"file"}}),
        (b"d/e/f/below", (LEVEL, LOOSE), {"exact_entries": {b"d/e/f"}}),
        # the root
        (b"", (SUBTREE, LOOSE), {"subtrees": {b""}}),
        (b"", (SUBTREE, EXACT), {"exact_subtrees": {b""}}),
        (b"", (ENTRY, LOOSE), {"levels": {b""}}),
        (b"", (LEVEL, LOOSE), {"levels": {b""}}),
        # what the filter hides: the target may hold another kind under the name
        (b"cache", (SUBTREE, EXACT), {"levels": {b""}, "gone": {b"cache"}}),
        (b"d/x.o", (ENTRY, EXACT), {"levels": {b"d"}, "gone": {b"d/x.o"}}),
        (b"d/gone.o", (ENTRY, EXACT), {"levels": {b"d"}, "gone": {b"d/gone.o"}}),
    ],
)
def test_one_mark(path: bytes, mark: tuple[Depth, bool], expected: dict[str, set[bytes]]) -> None:
    assert lists({path: mark}) == expected


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        # an exact subtree swallows everything at and below it
        (
            {
                b"d": (SUBTREE, EXACT),
                b"d/e": (SUBTREE, EXACT),
                b"d/e/f": (ENTRY, EXACT),
                b"d/gone": (ENTRY, EXACT),
                b"file": (ENTRY, EXACT),
            },
            {"exact_subtrees": {b"d"}, "exact_entries": {b"file"}},
        ),
        # one that is not exact leaves the exact ones
        (
            {
                b"d": (SUBTREE, LOOSE),
                b"d/e": (SUBTREE, EXACT),
                b"d/gone": (ENTRY, EXACT),
            },
            {"subtrees": {b"d"}, "exact_subtrees": {b"d/e"}, "gone": {b"d/gone"}},
        ),
        (
            {b"d": (SUBTREE, LOOSE), b"d/e/f": (ENTRY, EXACT), b"d/e": (ENTRY, LOOSE)},
            {"subtrees": {b"d"}, "exact_entries": {b"d/e/f"}},
        ),
        # the root covers all
        (
            {b"": (SUBTREE, EXACT), b"d/e": (SUBTREE, LOOSE), b"gone": (ENTRY, EXACT)},
            {"exact_subtrees": {b""}},
        ),
        # two marks that become one path
        (
            {b"link": (ENTRY, LOOSE), b"link/below": (ENTRY, LOOSE)},
            {"exact_entries": {b"link"}},
        ),
        # a subtree below a name that only begins alike is not covered
        (
            {b"d": (SUBTREE, EXACT), b"dd": (ENTRY, EXACT)},
            {"exact_subtrees": {b"d"}, "levels": {b""}, "gone": {b"dd"}},
        ),
        ({}, {}),
    ],
)
def test_several_marks(marks: dict[bytes, tuple[Depth, bool]], expected: dict[str, set[bytes]]) -> None:
    assert lists(marks) == expected


def test_length_counts_all_lists() -> None:
    marks = {
        b"file": Mark(ENTRY, EXACT),
        b"link": Mark(ENTRY, LOOSE),
        b"d/e": Mark(SUBTREE, EXACT),
        b"gone": Mark(ENTRY, EXACT),
    }
    assert len(build(marks, kind_of, FILTER.hides)) == 4
    assert len(Batch()) == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Mark(ENTRY, LOOSE), Mark(LEVEL, LOOSE), Mark(ENTRY | LEVEL, LOOSE)),
        (Mark(ENTRY, EXACT), Mark(SUBTREE, LOOSE), Mark(ENTRY | SUBTREE, EXACT)),
        (Mark(SUBTREE, LOOSE), Mark(ENTRY, EXACT), Mark(ENTRY | SUBTREE, EXACT)),
    ],
)
def test_merged_marks_promise_what_both_do(one: Mark, other: Mark, expected: Mark) -> None:
    assert one.merged(other) == expected


@pytest.mark.parametrize(
    ("path", "directories", "expected"),
    [
        (b"a/b", {b"a"}, True),
        (b"a/b/c", {b"a/b"}, True),
        (b"a", {b"a"}, False),
        (b"ab", {b"a"}, False),
        (b"a/b", {b"b", b"a/b", b"a/b/c"}, False),
        (b"a", {b""}, True),
        (b"", {b""}, False),
        (b"", {b"a"}, False),
        (b"a/b", set(), False),
    ],
)
def test_is_below(path: bytes, directories: set[bytes], expected: bool) -> None:
    assert is_below(path, directories) is expected


@pytest.mark.parametrize("keeps_links", [False, True])
def test_files_travel_with_subtrees_where_links_are_kept(keeps_links: bool) -> None:
    marks = {
        b"d/e": Mark(SUBTREE, EXACT),
        b"d": Mark(ENTRY, EXACT),
        b"file": Mark(ENTRY, EXACT),
        b"link": Mark(ENTRY, LOOSE),
    }
    batch = build(marks, kind_of, FILTER.hides, keeps_links=keeps_links)
    files = {b"file", b"link"} if keeps_links else set()
    assert batch.exact_subtrees == {b"d/e"} | files
    assert batch.exact_entries == {b"d", b"file"} - files
    assert batch.entries == {b"link"} - files


def test_without_subtrees_files_stay_entries() -> None:
    batch = build({b"file": Mark(ENTRY, EXACT)}, kind_of, FILTER.hides, keeps_links=True)
    assert batch.exact_entries == {b"file"}


def test_links_that_are_followed_are_listed_whole() -> None:
    batch = Batch(
        exact_entries={b"link", b"file"},
        entries={b"touched link", b"touched"},
        exact_contents={b"d"},
        contents={b"e"},
        subtrees={b"f"},
    )
    batch.follow_links(lambda path: b"link" in path)
    assert batch == Batch(
        exact_entries={b"file"},
        entries={b"touched"},
        exact_subtrees={b"link", b"touched link", b"d"},
        subtrees={b"e", b"f"},
    )


def test_what_is_too_long_for_a_list_is_not_listed() -> None:
    longest, longer = b"a" * LONGEST_LISTED, b"b" * (LONGEST_LISTED + 1)
    kinds = {longest: Kind.OTHER, longer: Kind.OTHER, longer + b"/d": Kind.MISSING}
    batch = build({path: Mark(ENTRY, EXACT) for path in kinds}, kinds.__getitem__, FILTER.hides)
    assert (batch.exact_entries, batch.too_long) == ({longest}, {longer})


def test_where_nothing_was_sent_nothing_is_deleted() -> None:
    longest, longer = b"a" * (LONGEST_LISTED - 1), b"b" * LONGEST_LISTED
    marks = {longest: Mark(LEVEL, LOOSE), longer + b"/x": Mark(ENTRY, EXACT)}
    kinds = {longest: Kind.DIRECTORY, longer: Kind.DIRECTORY, longer + b"/x": Kind.MISSING}
    batch = build(marks, kinds.__getitem__, FILTER.hides)
    assert (batch.levels, batch.too_long) == ({longest}, set())


@pytest.mark.parametrize("depth", [ENTRY, LEVEL, SUBTREE])
@pytest.mark.parametrize("path", [b"mount", b"mount/below/deep"])
def test_of_what_is_mounted_only_the_directory_is_sent(path: bytes, depth: Depth) -> None:
    kinds = {b"mount": Kind.MOUNT}
    batch = build({path: Mark(depth, EXACT)}, kinds.__getitem__, FILTER.hides)
    batch.is_unbounded = False
    assert batch == Batch(entries={b"mount"})
