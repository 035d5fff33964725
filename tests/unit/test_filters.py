# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/filters.py by tables; tests/live/test_filters_against_rsync.py asks rsync itself.

Tried with the mutants named there, and with three more: the source itself is matched, a pattern may be one
byte longer, plain backtracking instead of atomic groups. Each made it fail. So did, for rules: one side's
asked for the other's; `delete_excluded` ignored; a rule's `!`, `p` or name not handed on; negation lost, or
for directories only; clearing ignored; `s` with `r` as `r`; perishable rules counted in a directory that
goes, or never; a parent's exception taken for the answer; a comma or underscore not understood.
"""

from __future__ import annotations

import itertools

import pytest
from helpers.filter_cases import MATCHES
from helpers.filter_trees import DEEP_PIECES, patterns_for
from hypothesis import given, settings
from hypothesis import strategies as st

from lsyncd_sd.plan.change import Move
from lsyncd_sd.plan.filters import BadRuleError, Filter, WrittenRule
from lsyncd_sd.plan.patterns import MAX_PATTERN_BYTES

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


def test_rsync_gets_the_rules_that_are_left() -> None:
    patterns = ["- dropped", "!", "", "+ a", "-x", " _", "\udcff*"]
    assert Filter.from_excludes(patterns).rsync_arguments() == [
        *("--filter=+ a", "--filter=- -x", "--filter=-  _", "--filter=- \udcff*")
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


# ---- rules with sides


def rules(*texts: str, delete_excluded: bool = False) -> Filter:
    return Filter.from_rules([WrittenRule(text) for text in texts], delete_excluded=delete_excluded)


HIDES, PROTECTS = "hides", "protects"


@pytest.mark.parametrize(
    ("rule", "effect"),
    [
        *(("- x", {HIDES, PROTECTS}), ("-_x", {HIDES, PROTECTS}), ("-, x", {HIDES, PROTECTS})),
        *(("exclude x", {HIDES, PROTECTS}), ("exclude,s x", {HIDES}), ("-s x", {HIDES}), ("-,s_x", {HIDES})),
        *(("H x", {HIDES}), ("hide x", {HIDES}), ("hide,p x", {HIDES}), ("-r x", {PROTECTS})),
        *(("P x", {PROTECTS}), ("protect_x", {PROTECTS}), ("Pp x", {PROTECTS})),
        *(("-sr x", {HIDES, PROTECTS}), ("-rs x", {HIDES, PROTECTS}), ("-pp x", {HIDES, PROTECTS})),
        *(("-! y", {HIDES, PROTECTS}), ("-!s y", {HIDES}), ("-! x", set()), ("H! x/", {HIDES})),
        *(("+ x", set()), ("S x", set()), ("R x", set()), ("include x", set()), ("risk,! x", set())),
    ],
)
def test_what_a_rule_does(rule: str, effect: set[str]) -> None:
    chosen = rules(rule)
    found = {HIDES} if chosen.hides(b"x", False) else set()
    assert (found | ({PROTECTS} if chosen.protects(b"x", False) else set())) == effect


@pytest.mark.parametrize(
    ("exception", "effect"),
    [
        ("+ x", set()),
        ("S x", {PROTECTS}),
        ("show x", {PROTECTS}),
        ("R x", {HIDES}),
        ("+r x", {HIDES}),
        ("+! y", set()),
        ("+! x", {HIDES, PROTECTS}),
    ],
)
def test_an_exception_is_for_its_side(exception: str, effect: set[str]) -> None:
    chosen = rules(exception, "- x")
    found = {HIDES} if chosen.excludes(b"x", False) else set()
    assert (found | ({PROTECTS} if chosen.protects(b"x", False) else set())) == effect


def test_deleting_what_is_excluded_makes_rules_without_sides_hide_only() -> None:
    chosen = rules("- a", "P b", "-sr c", "+ d", "P d", delete_excluded=True)
    names = (b"a", b"b", b"c", b"d")
    assert [chosen.excludes(name, False) for name in names] == [True, False, True, False]
    assert [chosen.protects(name, False) for name in names] == [False, True, True, True]
    assert chosen.rsync_arguments() == [
        *("--filter=H a", "--filter=P b", "--filter=- c", "--filter=S d", "--filter=P d")
    ]


def test_a_rule_that_clears_the_list_is_carried_out_and_not_handed_on() -> None:
    for clear in ("!", "clear", "!,", "clear,"):
        chosen = rules("- a", "P b", clear, "- c")
        assert chosen.rsync_arguments() == ["--filter=- c"], clear
        assert not chosen.excludes(b"a", False)
        assert not chosen.protects(b"b", False)


@pytest.mark.parametrize(
    ("rule", "argument"),
    [
        ("hide,!p a b", "H!p a b"),
        ("-s!_  x", "H!   x"),
        ("include x", "+ x"),
        ("+rp x", "Rp x"),
        ("-rs \udcff", "- \udcff"),
    ],
)
def test_rsync_gets_every_rule_in_its_short_form(rule: str, argument: str) -> None:
    assert rules(rule).rsync_arguments() == [f"--filter={argument}"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        *(
            ("x", "no filter rule"),
            ("*.o", "no filter rule"),
            ("", "no filter rule"),
            (" - x", "no filter rule"),
        ),
        *(("excludex", "no filter rule"), ("exclud x", "no filter rule"), ("ex", "no filter rule")),
        *(("-", "no pattern"), ("- ", "no pattern"), ("-_", "no pattern"), ("hide", "no pattern")),
        *(("! x", "nothing can follow"), ("!x", "nothing can follow"), ("clear x", "nothing can follow")),
        *((". file", "merged"), ("merge file", "merged"), (".- file", "merged"), ("merge,C", "merged")),
        *(
            (": .rules", "in the directories"),
            ("dir-merge x", "in the directories"),
            (":C", "in the director"),
        ),
        *(
            ("-C", "modifier C"),
            ("-x user.a", "modifier x"),
            ("-/ /a", "modifier /"),
            ("P/ /a", "modifier /"),
        ),
        *(("-e a", "'e' is no"), ("+n a", "'n' is no"), ("-w a", "'w' is no"), ("-- a", "'-' is no")),
        *(
            ("Hs a", "'s' is no"),
            ("Pr a", "'r' is no"),
            ("exclude\ta", "no filter rule"),
            ("-\ta", "'\\\\t' is no"),
        ),
        *(("- a\0b", "NUL"), (f"P {'a' * (MAX_PATTERN_BYTES + 1)}", "4096 bytes")),
    ],
)
def test_a_rule_that_is_refused(rule: str, message: str) -> None:
    with pytest.raises(BadRuleError, match=message):
        rules(rule)


@pytest.mark.parametrize(
    ("text", "is_alike"),
    [
        *(("- a", True), ("- *.o", True), ("H d/", True), ("-! *.c", True), ("P d/b", True), ("R **", True)),
        *(("- a/b", False), ("+ a/b", False), ("H a**", False), ("- a/***", False), ("- a//", False)),
        # nothing that they match is below d/e or x/y
        *(("- /a", True), ("- /d", True), ("S /d/e/", True), ("- /d/f/g/h", True), ("- /*", True)),
        *(("- /d/*", True), ("- /f/*/g/h", True), ("- /de/f/g", True), ("-! /d/f/g", True)),
        # something that they match is
        *(("- /d/e/f", False), ("- /x/y/f", False), ("- /d/*/f", False), ("- /*/*/f", False)),
        *(("- /**", False), ("- /d/**", False), ("- /d/***", False), ("-! /d/e/f", False)),
    ],
)
def test_whether_a_renamed_directory_holds_the_same_hidden_names(text: str, is_alike: bool) -> None:
    assert rules(text).hides_alike(b"d/e", b"x/y") is is_alike
    assert rules(text).hides_alike(b"x/y", b"d/e") is is_alike


PLACES = [b"a", b"b", b"ab", b"a/b", b"b/a", b"a/b/ab"]
BELOW = [b"a", b"b", b"ab", b"a/b", b"b/a/b"]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.sampled_from(["-", "+", "-!", "H", "P", "R!"]), patterns_for(PLACES, DEEP_PIECES)),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_said_to_be_alike_is(written: list[tuple[str, str]]) -> None:
    try:
        chosen = rules(*(f"{name} {pattern}" for name, pattern in written))
    except BadRuleError:
        return
    for old, new in itertools.permutations(PLACES, 2):
        is_alike, may_move = chosen.hides_alike(old, new), chosen.may_move(Move(old, new, True))
        for below, is_directory in itertools.product(BELOW, (True, False)):
            ends = [path + b"/" + below for path in (old, new)]
            hidden_ends = {chosen.excludes(path, is_directory) for path in ends}
            protected_ends = {chosen.protects(path, is_directory) for path in ends}
            assert not is_alike or len(hidden_ends) == 1, (old, new, below)
            assert not may_move or len(protected_ends) == 1, (old, new, below)


@pytest.mark.parametrize(
    ("texts", "move", "may_move"),
    [
        ([], Move(b"d", b"e", True), True),
        (["H keep", "R /d/keep", "+ x"], Move(b"d", b"e", True), True),
        # what is kept anywhere goes along
        (["P keep", "- *.o"], Move(b"d", b"e", True), True),
        (["P keep"], Move(b"keep", b"e", True), False),
        (["P keep"], Move(b"d", b"x/keep", False), False),
        (["P keep/"], Move(b"keep", b"e", False), True),
        (["P /d/keep"], Move(b"d", b"e", True), False),
        (["P /d/keep"], Move(b"e", b"d", True), False),
        (["P /d/keep"], Move(b"d", b"e", False), True),
        (["P /d/keep"], Move(b"d/keep", b"e", False), False),
        (["P /other"], Move(b"d", b"e", True), True),
    ],
)
def test_what_the_target_may_move(texts: list[str], move: Move, may_move: bool) -> None:
    assert rules(*texts).may_move(move) is may_move


def test_what_may_protect_something() -> None:
    assert not rules("H a", "+ b", "R c").may_protect
    assert rules("- a").may_protect
    assert rules("P a").may_protect
    assert not rules("- a", delete_excluded=True).may_protect


def explained(chosen: Filter, path: bytes, is_directory: bool = False) -> tuple[str, bytes] | None:
    reason = chosen.explain(path, is_directory)
    return (reason.rule.written.text, reason.path) if reason else None


def test_the_rule_that_decides_is_explained() -> None:
    chosen = rules("P *", "+ d/keep", "- d/*", "- *.o", "+ x", "- x")
    assert explained(chosen, b"d/keep") == ("+ d/keep", b"d/keep")
    assert explained(chosen, b"d/keep/a.o") == ("- *.o", b"d/keep/a.o")
    assert explained(chosen, b"d/other/keep/x") == ("- d/*", b"d/other")
    assert explained(chosen, b"x") == ("+ x", b"x")
    assert explained(chosen, b"a.o/x/y", True) == ("- *.o", b"a.o")
    assert explained(chosen, b"y/z") is None
    assert explained(chosen, b"") is None


def kept(chosen: Filter, path: bytes, is_directory: bool = False) -> tuple[str, bytes] | None:
    reason = chosen.explain_protection(path, is_directory)
    return (reason.rule.written.text, reason.path) if reason else None


def test_what_the_target_keeps_is_explained() -> None:
    chosen = rules("H cache/", "P keep", "Pp junk", "- *.o", "R *.c", "P *.c")
    assert kept(chosen, b"d/keep") == ("P keep", b"d/keep")
    # A directory that both sides have protects nothing in it.
    assert kept(chosen, b"keep/x") is None
    # What goes with a hidden directory is protected by rules for it or for a directory in it.
    assert kept(chosen, b"d/cache", True) is None
    assert kept(chosen, b"d/cache/x") is None
    assert kept(chosen, b"d/cache/keep/x") == ("P keep", b"d/cache/keep")
    assert kept(chosen, b"d/cache/keep") == ("P keep", b"d/cache/keep")
    # A perishable rule does not count in a directory that goes.
    assert kept(chosen, b"junk") == ("Pp junk", b"junk")
    assert kept(chosen, b"cache/junk") is None
    assert kept(chosen, b"d.o/x") == ("- *.o", b"d.o")
    assert kept(chosen, b"x.c") == ("R *.c", b"x.c")
