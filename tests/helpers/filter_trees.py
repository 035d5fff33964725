# SPDX-License-Identifier: GPL-2.0-or-later
"""Generates trees of odd names and patterns that may match in them, and asks the real rsync about both."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from hypothesis import seed, settings
from hypothesis import strategies as st

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


def names_in(output: bytes) -> list[bytes]:
    """Return the lines of rsync's output with its escapes undone.

    With -8 rsync escapes control characters, and backslashes that would read like an escape, as \\#ooo.
    """
    return [
        re.sub(rb"\\#([0-7]{3})", lambda escape: bytes([int(escape[1], 8)]), line)
        for line in output.splitlines()
    ]


def output_of_rsync(*arguments: str) -> bytes:
    """Run rsync, and return what it says; fails if rsync does."""
    locale = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["rsync", *arguments], stdout=subprocess.PIPE, check=True, timeout=60, env=locale
    ).stdout


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
