# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/filters.py by tables; tests/live/test_filters_against_rsync.py asks rsync itself.

Tried with the mutants named there, and with three more: the source itself is matched, a pattern may be one
byte longer, plain backtracking instead of atomic groups. Each made it fail.
"""

from __future__ import annotations

import pytest
from helpers.filter_cases import MATCHES

from lsyncd_sd.plan.filters import MAX_PATTERN_BYTES, Filter

TREE = [
    *("foo/", "foo/x", "foo/d/", "foo/d/y", "a/", "a/foo", "a/b", "a/c/", "a/c/foo/", "a/c/foo/x"),
    *("foobar", "xfoo", "ax", "bx", "cx", "[ab]x", "a*b", "acb", "b/", "b/foo", "z", "a\nc", "+ z"),
]
"""A path with a slash at its end is a directory."""


def hidden(patterns: list[str], tree: list[str]) -> list[str]:
    """Return the paths of a tree that the patterns hide."""
    chosen = Filter.from_excludes(patterns)
    return [path for path in tree if chosen.hides(path.removesuffix("/").encode(), path.endswith("/"))]


ALL_FOO = ["foo/", "foo/x", "foo/d/", "foo/d/y", "a/foo", "a/c/foo/", "a/c/foo/x", "b/foo"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("foo", ALL_FOO),
        ("/foo", ["foo/", "foo/x", "foo/d/", "foo/d/y"]),
        ("foo/", ["foo/", "foo/x", "foo/d/", "foo/d/y", "a/c/foo/", "a/c/foo/x"]),
        ("a/b", ["a/b"]),
        ("a**c", ["a/c/", "a/c/foo/", "a/c/foo/x", "a\nc"]),
        ("*", TREE),
        ("foo/*", ["foo/x", "foo/d/", "foo/d/y", "a/c/foo/x"]),
        ("foo/**", ["foo/x", "foo/d/", "foo/d/y", "a/c/foo/x"]),
        ("foo/***", ["foo/", "foo/x", "foo/d/", "foo/d/y", "a/c/foo/", "a/c/foo/x"]),
        ("**/foo", ALL_FOO),
        ("[ab]x", ["ax", "bx"]),
        ("a\\*b", ["a*b"]),
        ("", []),
        ("+ z", []),
    ],
)
def test_one_pattern_on_a_sample_tree(pattern: str, expected: list[str]) -> None:
    """The patterns where Lsyncd's own matcher and rsync agree, and all those where they differ."""
    assert hidden([pattern], TREE) == expected


@pytest.mark.parametrize("pattern", MATCHES)
def test_which_paths_a_pattern_matches(pattern: str) -> None:
    matching, others = MATCHES[pattern]
    chosen = Filter.from_excludes([pattern])
    paths = [*matching, *others]
    found = [
        path
        for path in paths
        if chosen.excludes(path.removesuffix("/").encode("utf-8", "surrogateescape"), path.endswith("/"))
    ]
    assert found == matching


def test_the_first_match_wins() -> None:
    tree = ["keep.c", "drop.h", "d/", "d/x.c", "d/x.h"]
    assert hidden(["+ */", "+ *.c", "*"], tree) == ["drop.h", "d/x.h"]
    assert hidden(["*.c", "+ keep.c"], tree) == ["keep.c", "d/x.c"]


def test_an_excluded_parent_cannot_be_undone_below() -> None:
    chosen = Filter.from_excludes(["+ a/b", "a"])
    assert not chosen.excludes(b"a/b", False)
    assert chosen.hides(b"a/b", False)
    assert chosen.hides(b"x/a/y/z", False)
    assert not chosen.hides(b"x/b", False)


def test_a_parent_is_a_directory_whatever_the_path_is() -> None:
    assert Filter.from_excludes(["a/"]).hides(b"a/b", False)
    assert not Filter.from_excludes(["b/"]).hides(b"a/b", False)


def test_an_exclamation_mark_forgets_what_came_before() -> None:
    assert hidden(["a", "!", "b"], ["a", "b", "!"]) == ["b"]


def test_the_source_itself_is_never_left_out() -> None:
    for pattern in ("*", "**", "***", ".", "/", "/***", "?"):
        chosen = Filter.from_excludes([pattern])
        assert not chosen.excludes(b"", True)
        assert not chosen.hides(b"", True)


def test_without_patterns_everything_stays() -> None:
    chosen = Filter.from_excludes([])
    assert not chosen.excludes(b"a", False)
    assert not chosen.hides(b"a/b", True)
    assert chosen.rsync_arguments() == []


def test_rsync_gets_the_patterns_as_they_were_written() -> None:
    patterns = ["+ a", "!", "", "-x", "\udcff*"]
    assert Filter.from_excludes(patterns).rsync_arguments() == [
        *("--exclude=+ a", "--exclude=!", "--exclude=", "--exclude=-x", "--exclude=\udcff*")
    ]


@pytest.mark.parametrize("pattern", ["- ", "+ ", "a\0b", "a" * (MAX_PATTERN_BYTES + 1), "é" * 2048])
def test_what_rsync_does_not_take_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Filter.from_excludes([pattern])


def test_the_prefix_does_not_count_for_the_length() -> None:
    longest = "a" * MAX_PATTERN_BYTES
    assert Filter.from_excludes(["- " + longest]).excludes(longest.encode(), False)


@pytest.mark.parametrize("pattern", ["*a*a*a*a*a*a*a*b", "**a**a**a**a**a**a**b", "/**a*a**a*a**a*a**b*"])
def test_many_stars_do_not_explode(pattern: str) -> None:
    """With plain backtracking this would outlast every time limit."""
    assert not Filter.from_excludes([pattern]).excludes(b"a" * 255 + b"/" + b"a" * 255, False)
