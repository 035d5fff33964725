# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy that follows only what the watcher tells ends equal to the source, moves carried out as they come.

The queue and the tree are real; the copy (helpers/replica.py) needs no batches and no target. A move that
is told under a wrong name takes along what did not move, and nobody marks it: here it shows.

It failed on each of these mutants: an exchange is two moves; what was renamed in came into being; what may
have been replaced unseen after a move is not looked at; what is excluded is watched at a doubtful place; no
doubtful place is checked; what is found there is not marked; what a directory replaced stays in the table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from helpers.follower import Follower
from helpers.replica import Replica
from helpers.spots import ANY, NEW, OLD, OUTSIDE
from helpers.trees import Playground
from hypothesis import given, settings
from hypothesis import strategies as st

from lsyncd_sd.watch import inotify, watcher
from lsyncd_sd.watch.pairing import GRACE_SECONDS

Operation = tuple[Any, ...]


class LateFollower(Follower):
    """What happens late in reality (reading, changes after a watch is set) happens when a step says so."""

    def __init__(self, playground: Playground, excludes: Iterable[str] = ()) -> None:
        super().__init__(playground.source, excludes)
        self.playground = playground
        self._unread: list[inotify.RawEvent] = []
        self._bite = 1000
        self._meanwhile: list[Operation] = []
        self._patches = contextlib.ExitStack()
        self._read_events, self._add_watch = inotify.read_events, inotify.add_watch

    def __enter__(self) -> LateFollower:
        self._patches.enter_context(mock.patch.object(inotify, "read_events", self._read_some))
        self._patches.enter_context(mock.patch.object(inotify, "add_watch", self._add_watch_and_more))
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._patches.close()
        self.close()

    def _read_some(self, queue: int) -> list[inotify.RawEvent]:
        if not self._unread:
            self._unread = self._read_events(queue)
        bite, self._unread = self._unread[: self._bite], self._unread[self._bite :]
        return bite

    def _add_watch_and_more(self, queue: int, directory: int, mask: int) -> int:
        try:
            return self._add_watch(queue, directory, mask)
        finally:
            if self._meanwhile:
                self.playground.do(self._meanwhile.pop())

    def do(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            self.playground.do(operation)

    def read(self, rounds: int, bite: int, seconds: float, meanwhile: Iterable[Operation]) -> None:
        self._bite, self._meanwhile = bite, list(meanwhile)
        with mock.patch.object(watcher, "_ROUNDS_PER_READ", rounds):
            self.take(seconds)
        self._bite, self._meanwhile = 1000, []

    def is_at_rest(self) -> bool:
        return super().is_at_rest() and not self._unread


OPERATIONS = st.one_of(
    st.tuples(st.just("rename"), OLD, NEW),
    st.tuples(st.just("rename"), OLD, ANY),
    st.tuples(st.just("exchange"), OLD, OLD),
    st.tuples(st.just("deep"), NEW),
    st.tuples(st.just("mkdir"), NEW),
    st.tuples(st.just("write"), ANY),
    st.tuples(st.just("remove"), OLD),
    st.tuples(st.just("swap"), OLD, st.sampled_from("fdl")),
    st.tuples(st.just("symlink"), NEW, st.sampled_from([b"a", b"..", b"../b"])),
    st.tuples(st.just("move_out"), OLD, OUTSIDE),
    st.tuples(st.just("move_in"), OUTSIDE, ANY),
    st.tuples(st.just("chmod"), OLD, st.sampled_from([0o700, 0o711, 0o755])),
)
STEPS = st.one_of(
    st.tuples(st.just("do"), st.lists(OPERATIONS, min_size=1, max_size=5)),
    st.tuples(
        st.just("read"),
        st.integers(1, 4),
        st.sampled_from([1, 2, 5, 1000]),
        st.sampled_from([0, 0, GRACE_SECONDS / 2, 2.0]),
        st.lists(OPERATIONS, max_size=4),
    ),
    st.tuples(st.just("do"), st.lists(OPERATIONS, min_size=1, max_size=2)),
    st.tuples(st.just("rest")),
)
EXCLUDES = st.sampled_from([(), (), ("b",), ("a/",), ("/a/b",)])


def follow(
    folder: Path, before: list[Operation], steps: Iterable[tuple[Any, ...]], excludes: tuple[str, ...] = ()
) -> Replica:
    with TemporaryDirectory(dir=folder) as base:
        playground = Playground(base.encode())
        for operation in before:
            playground.do(operation)
        with LateFollower(playground, excludes) as follower:
            for name, *arguments in steps:
                getattr(follower, name)(*arguments)
            follower.rest()
        return follower.replica


def test_a_copy_that_only_follows_stays_true(folder: Path, request: pytest.FixtureRequest) -> None:
    @settings(max_examples=20_000 if request.config.getoption("--full") else 300)
    @given(st.lists(OPERATIONS, max_size=8), st.lists(STEPS, max_size=25), EXCLUDES)
    def stays_true(before: list[Operation], steps: list[tuple[Any, ...]], excludes: tuple[str, ...]) -> None:
        follow(folder, before, steps, excludes)

    stays_true()


def do(*operations: Operation) -> tuple[str, list[Operation]]:
    return "do", list(operations)


TWO: list[Operation] = [("deep", b"a/b"), ("deep", b"b/b")]
LATE = ("read", 1, 1, 0, [])

STORIES: dict[str, tuple[list[Operation], list[tuple[Any, ...]], tuple[str, ...]]] = {
    "a file is moved in over one that has just moved (D11)": (
        [("write", b"x"), ("move_out", b"x", b"x"), ("deep", b"a")],
        [do(("rename", b"a/f", b"a/a"), ("move_in", b"x", b"a/a"))],
        (),
    ),
    "a directory is moved in over one that has just moved (D11)": (
        [("mkdir", b"x"), ("move_out", b"x", b"x"), ("mkdir", b"b")],
        [do(("rename", b"b", b"a"), ("move_in", b"x", b"a")), do(("write", b"a/f"))],
        (),
    ),
    "something is moved in over a file, and goes (A6)": (
        [("write", b"x"), ("move_out", b"x", b"x"), ("write", b"a")],
        [do(("move_in", b"x", b"a"), ("remove", b"a"))],
        (),
    ),
    "two directories are exchanged (A5)": (
        TWO,
        [do(("exchange", b"a", b"b"), ("rename", b"a/b/f", b"c"), ("write", b"b/b/f"))],
        (),
    ),
    "two are exchanged of which the table has one below the other (D7)": (
        [("deep", b"a/b/a"), ("deep", b"b/a/b"), ("exchange", b"a/b", b"b"), ("swap", b"a/b", "d")],
        [
            do(("rename", b"a/b", b"b/a/b")),
            ("rest",),
            do(("symlink", b"b/b", b"a"), ("mkdir", b"b/a/b/a"), ("deep", b"c"), ("remove", b"b/a/b/a")),
            do(("deep", b"a"), ("exchange", b"a", b"b/b"), ("remove", b"b/a"), ("deep", b"b/b/a")),
            ("read", 3, 3, 0, []),
            ("read", 3, 5, 2, []),
            do(("exchange", b"b/b", b"c"), ("exchange", b"c/a/f", b"b")),
            ("read", 2, 1, 0, []),
        ],
        (),
    ),
    "a directory is gone before it is visited, and another one stands there later (D7)": (
        [("deep", b"b")],
        [
            do(("mkdir", b"a"), ("remove", b"a"), ("write", b"a")),
            do(("rename", b"b/f", b"c"), ("remove", b"a"), ("rename", b"b", b"a")),
            ("read", 1, 4, 0, []),
        ],
        (),
    ),
    "a file and a directory are exchanged (A5)": (
        [("deep", b"a/b"), ("write", b"b")],
        [do(("exchange", b"a", b"b"))],
        (),
    ),
    "two files are exchanged, and the first half is given up (A5)": (
        [("write", b"a"), ("write", b"b")],
        [do(("exchange", b"a", b"b")), LATE, ("read", 1, 1, 1, []), ("read", 1, 1, 0, [])],
        (),
    ),
    "two files are exchanged, and the third half is given up (A5)": (
        [("write", b"a"), ("write", b"b")],
        [do(("exchange", b"a", b"b")), LATE, LATE, LATE, ("read", 1, 1, 1, [])],
        (),
    ),
    "a file is exchanged with one in a directory that is not watched yet (A5)": (
        [("write", b"a")],
        [do(("remove", b"a"), ("write", b"a"), ("deep", b"b"), ("exchange", b"b/f", b"a"))],
        (),
    ),
    "an excluded file is exchanged with another one (A5)": (
        [("write", b"a"), ("write", b"b")],
        [do(("exchange", b"b", b"a"))],
        ("b",),
    ),
    "a file stands where a directory would be excluded": (
        [("write", b"b")],
        [do(("rename", b"b", b"a"), ("move_out", b"a", b"x"), ("mkdir", b"a"))],
        ("a/",),
    ),
    "a name is left and taken again before anything is read (D3)": (
        [("deep", b"a"), ("mkdir", b"b")],
        [do(("rename", b"a", b"c"), ("deep", b"a")), LATE, LATE, do(("rename", b"a/f", b"b/f"))],
        (),
    ),
    "a directory moves away before it is watched, and another one comes (D2, D4)": (
        [("deep", b"b")],
        [
            do(("mkdir", b"a"), ("rename", b"a", b"\xff*"), ("rename", b"b", b"a")),
            LATE,
            do(("rename", b"a/f", b"f")),
            LATE,
            do(("write", b"a/f"), ("rename", b"\xff*", b"b")),
        ],
        (),
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_stories(folder: Path, story: str) -> None:
    before, steps, excludes = STORIES[story]
    follow(folder, before, steps, excludes)


@pytest.mark.parametrize(
    ("before", "operations", "moves"),
    [
        (TWO, [("rename", b"a", b"c")], 1),
        (TWO, [("rename", b"a", b"c"), ("rename", b"b", b"a"), ("rename", b"c", b"b")], 3),
        (TWO, [("rename", b"a/b", b"b/c"), ("rename", b"b", b"a/b"), ("rename", b"a/b/c/f", b"f")], 3),
        (TWO, [("write", b"a/b/f"), ("rename", b"a/b/f", b"b/f")], 0),
        (TWO, [("write", b"a/b/f"), ("rename", b"a", b"b/a"), ("rename", b"b", b"c")], 2),
    ],
    ids=["one", "a chain", "below each other", "a written file", "with a written file"],
)
def test_what_is_moved_is_not_copied(
    folder: Path, before: list[Operation], operations: list[Operation], moves: int
) -> None:
    assert follow(folder, before, [do(*operations)]).moves == moves
