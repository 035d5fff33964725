# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares plan/patterns.py with the real rsync, on generated trees and generated patterns.

Rules of other kinds and their sides are compared in test_filter_rules_against_rsync.py.

Tried with 37 mutants, all of which it caught: `?`, a class or one star matches a slash;
`**` is like `*`; `dir/***` without dir, or with a file dir; backslash escapes without wildcards, too; a
`]` that comes first ends the class; ranges with another start or end, or chained; named classes with a
byte less; malformed classes and a last backslash taken literally; a slash in a class not counted; `^`,
`+ ` or `!` ignored; anchors ignored; a match begins inside a name; the last match wins; hides() without
parents or grandparents; a newline ends a name; invalid UTF-8 replaced.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest
from helpers.filter_cases import MATCHES
from helpers.filter_trees import (
    DEEP_PIECES,
    ODD_PIECES,
    Profile,
    all_combined,
    create,
    deep_tree,
    generated_trees,
    names_in,
    odd_tree,
    output_of_rsync,
    patterns_for,
    with_parents,
)
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.patterns import MAX_PATTERN_BYTES

pytestmark = pytest.mark.live


def sent_by_rsync(root: Path, arguments: list[str]) -> set[bytes]:
    """Return the paths below root that rsync would send."""
    output = output_of_rsync("-rlni8", "--out-format=%n", *arguments, "--", f"{root}/", f"{root}.target/")
    return {name.removesuffix(b"/") for name in names_in(output)} - {b"."}


def kept_by_us(tree: dict[bytes, str], patterns: Filter) -> set[bytes]:
    """Return the paths of the tree that our filter does not hide."""
    return {path for path, kind in tree.items() if not patterns.hides(path, kind == "d")}


def check(tree: dict[bytes, str], root: Path, pattern_list: list[str]) -> None:
    """Fail unless rsync and we keep the same paths."""
    patterns = Filter.from_excludes(pattern_list)
    arguments = [f"--exclude={pattern}" for pattern in pattern_list]
    assert kept_by_us(tree, patterns) == sent_by_rsync(root, arguments), pattern_list


@pytest.fixture
def run(full: bool) -> Profile:
    return Profile(full)


@pytest.mark.parametrize("pattern", MATCHES)
def test_the_table_of_the_unit_test(pattern: str, tmp_path: Path) -> None:
    """Paths that cannot be there together (a file and a directory) take turns."""
    matching, others = MATCHES[pattern]
    trees: list[dict[bytes, str]] = []
    for order in (matching + others, others + matching):
        tree: dict[bytes, str] = {}
        for path in order:
            with_parents(tree, os.fsencode(path.removesuffix("/")), "d" if path.endswith("/") else "f")
        if tree not in trees:
            trees.append(tree)
    for number, tree in enumerate(trees):
        root = tmp_path / str(number)
        root.mkdir()
        create(tree, root)
        check(tree, root, [pattern])


@pytest.mark.parametrize(
    "patterns",
    [
        *(["a", "!"], ["a", "!", "b"], ["a", "- !"], ["a", "!b"], [""], ["", "a"], ["+ */", "+ a", "*"]),
        *(["a", "+ a"], ["+ a", "a"], ["*"], ["**"], ["."]),
    ],
)
def test_lists_of_patterns(patterns: list[str], tmp_path: Path) -> None:
    tree = all_combined((b"a", b"b", b"!"), (b"a", b"c"), (b"a", b"d"))
    create(tree, tmp_path)
    check(tree, tmp_path, patterns)


@pytest.mark.parametrize(
    "name",
    "alnum alpha blank cntrl digit graph lower print punct space upper xdigit word".split(),  # noqa: SIM905
)
def test_every_byte_in_every_named_class(name: str, tmp_path: Path) -> None:
    tree = {b"x" + bytes([byte]): "f" for byte in range(1, 256) if byte != ord("/")}
    create(tree, tmp_path)
    check(tree, tmp_path, [f"x[[:{name}:]]"])


def test_what_we_refuse_is_of_no_use_to_rsync(tmp_path: Path) -> None:
    def answer(pattern: str) -> tuple[int, bytes]:
        command = ["rsync", "-rn", f"--exclude={pattern}", f"{tmp_path}/", f"{tmp_path}.target/"]
        run = subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=60)
        return run.returncode, run.stderr

    assert answer("- ")[0] == answer("+ ")[0] == 1
    assert answer("a" * MAX_PATTERN_BYTES) == (0, b"")
    assert b"discarding" in answer("a" * (MAX_PATTERN_BYTES + 1))[1]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("tree", "vocabulary"), [(odd_tree(), ODD_PIECES), (deep_tree(), DEEP_PIECES)], ids=["odd", "deep"]
)
def test_generated_patterns(
    run: Profile, tmp_path: Path, tree: dict[bytes, str], vocabulary: list[str]
) -> None:
    create(tree, tmp_path)

    @given(st.lists(patterns_for(list(tree), vocabulary), min_size=1, max_size=3))
    def compare(pattern_list: list[str]) -> None:
        check(tree, tmp_path, pattern_list)

    run(50, compare)


@pytest.mark.timeout(1800)
def test_generated_patterns_on_generated_trees(run: Profile, tmp_path: Path) -> None:
    numbers = itertools.count()

    @given(st.data())
    def compare(data: st.DataObject) -> None:
        tree = data.draw(generated_trees())
        root = tmp_path / str(next(numbers))
        root.mkdir()
        create(tree, root)
        pattern_lists = st.lists(patterns_for(list(tree), ODD_PIECES), min_size=1, max_size=4)
        for pattern_list in data.draw(st.lists(pattern_lists, min_size=6, max_size=6)):
            check(tree, root, pattern_list)

    run(10, compare)
