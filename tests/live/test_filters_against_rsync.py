# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares plan/filters.py with the real rsync, on generated trees and generated patterns.

Tried with 37 mutants of filters.py, all of which it caught: `?`, a class or one star matches a slash;
`**` is like `*`; `dir/***` without dir, or with a file dir; backslash escapes without wildcards, too; a
`]` that comes first ends the class; ranges with another start or end, or chained; named classes with a
byte less; malformed classes and a last backslash taken literally; a slash in a class not counted; `^`,
`+ ` or `!` ignored; anchors ignored; a match begins inside a name; the last match wins; hides() without
parents or grandparents; a newline ends a name; invalid UTF-8 replaced.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from helpers.filter_cases import MATCHES
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.patterns import MAX_PATTERN_BYTES

pytestmark = pytest.mark.live

NAME_BYTES = [b"a", b"b", b".", b"[", b"]", b"*", b"?", b"\\", b" ", b"\n", b"-", b"!", b"\xff"]
DEEP_PIECES = ["a", "b", "ab", "/", "/", "*", "*", "**", "**", "?", "[a]", "[!a]", "***", "\\*"]
ODD_PIECES = [
    *(os.fsdecode(byte) for byte in NAME_BYTES),
    *("a", "b", "/", "*", "**", "***", "/**", "/***", "/*", "*/", "?", "\\*", "\\\\", "\\[", "\\/"),
    *("[ab]", "[!a]", "[^b]", "[a-b]", "[]-a]", "[!]a]", "[a/]", "[!/]", "[**]", "[\\]b]", "[z-a]"),
    *("[[:alpha:]]", "[![:punct:]]", "[[:space:]a]", "[[:nonsense:]]", "[[:]", "[[:a]", "[\\!-b]"),
]

names = st.lists(st.sampled_from(NAME_BYTES), min_size=1, max_size=3).map(b"".join)
usable_names = names.filter(lambda name: name not in (b".", b".."))
paths = st.lists(usable_names, min_size=1, max_size=5).map(b"/".join)


def spelled(path: bytes, pieces: list[str], keep: list[bool]) -> str:
    """Return a pattern that resembles a path of the tree: some of its bytes replaced by other pieces."""
    choices = zip(os.fsdecode(path), itertools.cycle(keep), itertools.cycle(pieces), strict=False)
    return "".join(character if is_kept else piece for character, is_kept, piece in choices)


def patterns_for(tree: list[bytes], vocabulary: list[str]) -> st.SearchStrategy[str]:
    """Return a strategy for patterns with a fair chance to match something in the tree."""
    pieces = st.lists(st.sampled_from(vocabulary), min_size=1, max_size=7)
    wild = st.lists(st.sampled_from([piece for piece in vocabulary if set("*?[") & set(piece)]), min_size=1)
    keep = st.lists(st.booleans(), min_size=3, max_size=7)
    resembling = st.builds(spelled, st.sampled_from(tree), wild, keep)
    core = st.one_of(pieces.map("".join), resembling, resembling)
    prefixes = st.sampled_from(["", "", "", "/", "/", "**/", "+ ", "- ", "+ /"])
    suffixes = st.sampled_from(["", "", "", "", "/", "/***", "/**", "*", "//"])
    return st.builds("{}{}{}".format, prefixes, core, suffixes)


def with_parents(tree: dict[bytes, str], path: bytes, kind: str) -> None:
    """Add a path and the directories above it to a tree, unless one of those is something else already."""
    elements = path.split(b"/")
    parents = [b"/".join(elements[:count]) for count in range(1, len(elements))]
    if all(tree.get(parent, "d") == "d" for parent in parents):
        tree.update(dict.fromkeys(parents, "d"))
        tree.setdefault(path, kind)


def all_combined(*levels: Iterable[bytes]) -> dict[bytes, str]:
    """Return a tree with every name of a level in every directory above, the lowest of all kinds."""
    tree: dict[bytes, str] = {}
    for elements in itertools.product(*levels):
        with_parents(tree, b"/".join(elements), "dfl"[len(tree) % 3])
    return tree


def odd_tree() -> dict[bytes, str]:
    """Return a tree with every odd name next to, above and below every other."""
    odd_names = [*NAME_BYTES, b"ab", b"a]b", b"b\\a", b"**"]
    odd_names.remove(b".")
    return all_combined(odd_names, odd_names, (b"a", b"[", b"*"))


def deep_tree() -> dict[bytes, str]:
    """Return a tree of few names and many levels, for what stars do at slashes."""
    return all_combined(
        (b"a", b"b"), (b"a", b"ab"), (b"b", b"bab"), (b"a", b"*"), (b"a", b"b", b"ab"), (b"ab",)
    )


@st.composite
def generated_trees(draw: st.DrawFn) -> dict[bytes, str]:
    """Draw a tree: path to "d", "f" or "l", parents first."""
    tree: dict[bytes, str] = {}
    for path in draw(st.lists(paths, min_size=6, max_size=24)):
        with_parents(tree, path, draw(st.sampled_from("ddffl")))
    return tree


def create(tree: dict[bytes, str], root: Path) -> None:
    """Make the tree below root; its symlinks point to a directory, which must not make them one."""
    for path, kind in tree.items():
        place = os.fsencode(root) + b"/" + path
        if kind == "d":
            os.mkdir(place)
        elif kind == "f":
            Path(os.fsdecode(place)).touch()
        else:
            os.symlink(b"/", place)


def sent_by_rsync(root: Path, arguments: list[str]) -> set[bytes]:
    """Return the paths below root that rsync would send."""
    command = ["rsync", "-rlni8", "--out-format=%n", *arguments, "--", f"{root}/", f"{root}.target/"]
    locale = {**os.environ, "LC_ALL": "C.UTF-8"}
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60, env=locale).stdout
    # With -8 rsync escapes control characters, and backslashes that would read like an escape, as \#ooo.
    names = (
        re.sub(rb"\\#([0-7]{3})", lambda escape: bytes([int(escape[1], 8)]), line)
        for line in output.splitlines()
    )
    return {name.removesuffix(b"/") for name in names} - {b"."}


def kept_by_us(tree: dict[bytes, str], patterns: Filter) -> set[bytes]:
    """Return the paths of the tree that our filter does not hide."""
    return {path for path, kind in tree.items() if not patterns.hides(path, kind == "d")}


def check(tree: dict[bytes, str], root: Path, pattern_list: list[str]) -> None:
    """Fail unless rsync and we keep the same paths."""
    patterns = Filter.from_excludes(pattern_list)
    assert kept_by_us(tree, patterns) == sent_by_rsync(root, patterns.rsync_arguments()), pattern_list


class Profile:
    """How many examples hypothesis tries, and from which seed: LSYNCD_SD_TEST_SEED replays a failure."""

    def __init__(self, is_full: bool) -> None:
        default_seed = random.randrange(2**32) if is_full else 1  # noqa: S311
        self._seed = int(os.environ.get("LSYNCD_SD_TEST_SEED", default_seed))
        self._factor = 20 if is_full else 1

    def __call__(self, examples: int, test: Callable[..., None]) -> None:
        """Run a hypothesis test with so many examples, 20 times as many with --full."""
        print(f"LSYNCD_SD_TEST_SEED={self._seed}")
        wanted = settings(max_examples=examples * self._factor, deadline=None, database=None)
        seed(self._seed)(wanted(test))()


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
