# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of watch/walk.py: what several rescans find in one walk is what each would find alone."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers.rescanning import Found, KnownTree, LoneRescan, add_found, nothing

from lsyncd_sd.plan.change import Depth
from lsyncd_sd.watch import walk
from lsyncd_sd.watch.rescan import Intent, Known, Rescan
from lsyncd_sd.watch.walk import Walk

MOMENTS = 4
CHANGES = 6


class History:
    """A source at which somebody works, and what was known of it at several moments."""

    def __init__(self, root: Path, seed: int) -> None:
        root.mkdir()
        self.tree = KnownTree(root)
        self._random = random.Random(seed)  # noqa: S311  (to be replayed)
        self.tree.make(*(f"{a}/{b}/{c}" for a in "abc" for b in "de" for c in "fg"), "h")
        self.known: list[Known] = []
        for _moment in range(MOMENTS):
            self.tree.swaps_unseen = self._random.random() < 0.2
            self.tree.intents = {
                self._path(): Intent(
                    self._random.choice((Depth.ENTRY, Depth.LEVEL, Depth.SUBTREE)),
                    self._random.random() < 0.5,
                    self._random.choice((None, self.tree.later())),
                )
                for _ in range(3)
            }
            self.tree.remember()
            self.known.append(self.tree.known())
            for _ in range(CHANGES):
                self._change()

    def directories(self) -> list[Path]:
        """Return all below the root."""
        return sorted(path for path in self.tree.root.rglob("*") if path.is_dir())

    def _path(self) -> bytes:
        return os.fsencode(
            self._random.choice(sorted(self.tree.root.rglob("*"))).relative_to(self.tree.root)
        )

    def _change(self) -> None:
        directories = [self.tree.root, *self.directories()]
        place = self._random.choice(directories) / self._random.choice("abcdefgh")
        match self._random.randrange(4):
            case 0:
                shutil.rmtree(place, ignore_errors=True)
            case 1:
                moved = self._random.choice(directories)
                if not place.exists() and moved != self.tree.root and moved not in place.parents:
                    moved.rename(place)
            case 2:
                if not place.exists():
                    place.mkdir()
            case _:
                if not place.is_dir():
                    place.write_text("new")

    def alone(self, known: Known) -> Found:
        """Return what a walk for one alone finds."""
        lone, found = LoneRescan(self.tree.root, known), Found()
        while not lone.done:
            add_found(found, lone.step(1000))
        return found


@pytest.fixture(params=range(12))
def history(request: pytest.FixtureRequest, tmp_path: Path) -> History:
    return History(tmp_path / "source", request.param)


def begin(history: History, known: Sequence[Known]) -> tuple[Walk, list[Rescan]]:
    rescans = [Rescan(one) for one in known]
    return Walk(os.fsencode(history.tree.root), rescans, nothing), rescans


def go_on(walk: Walk, rescans: Sequence[Rescan], found: Sequence[Found], entries: int) -> None:
    while not walk.done:
        walk.step(entries)
        for rescan, some in zip(rescans, found, strict=True):
            add_found(some, rescan.take())


@pytest.mark.parametrize("entries", [1, 3, 1000])
def test_each_finds_what_it_would_find_alone(history: History, entries: int) -> None:
    together, rescans = begin(history, history.known)
    found = [Found() for _ in rescans]
    go_on(together, rescans, found, entries)
    assert found == [history.alone(known) for known in history.known]


@pytest.mark.parametrize("steps", [0, 1, 2, 4, 8, 16, 32])
def test_one_that_is_left_behind_finds_the_rest_later(history: History, steps: int) -> None:
    together, rescans = begin(history, history.known)
    found = [Found() for _ in rescans]
    for _ in range(steps):
        if not together.done:
            together.step(1)
    left = steps % len(rescans)
    rest = together.leave_behind(rescans[left])
    others = [one for one in range(len(rescans)) if one != left]
    go_on(together, [rescans[one] for one in others], [found[one] for one in others], 5)
    assert all(rescan.take() == [] for rescan in (rescans[one] for one in others))
    go_on(rest, [rescans[left]], [found[left]], 5)
    assert found == [history.alone(known) for known in history.known]


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[History, list[int]]]:
    """A source in which nothing has changed, and the directories that were read since."""
    history = History(tmp_path / "source", seed=1)
    history.tree.intents = {}
    history.tree.remember()
    read: list[int] = []
    listdir = os.listdir
    with monkeypatch.context() as patches:
        patches.setattr(walk.os, "listdir", lambda place: read.append(place) or listdir(place))
        yield history, read


def test_each_directory_is_read_once_for_all(quiet: tuple[History, list[int]]) -> None:
    history, read = quiet
    together, rescans = begin(history, [history.tree.known()] * 3)
    go_on(together, rescans, [Found() for _ in rescans], 1000)
    assert len(read) == len(history.directories()) + 1


def test_what_nobody_looks_at_is_not_read(quiet: tuple[History, list[int]]) -> None:
    """Nothing is known below the root: each takes all of it as a whole."""
    history, read = quiet
    together, rescans = begin(history, [KnownTree(history.tree.root).known()] * 2)
    go_on(together, rescans, [Found() for _ in rescans], 1000)
    assert len(read) == 1


def test_what_only_the_one_left_behind_looks_at_is_left_to_that(quiet: tuple[History, list[int]]) -> None:
    history, read = quiet
    known = [KnownTree(history.tree.root).known(), history.tree.known()]
    together, rescans = begin(history, known)
    while len(read) < 3:
        together.step(1)
    rest = together.leave_behind(rescans[1])
    go_on(together, rescans[:1], [Found()], 1000)
    assert len(read) == 3
    go_on(rest, rescans[1:], [Found()], 1000)
    assert len(read) >= len(history.directories()) + 1
