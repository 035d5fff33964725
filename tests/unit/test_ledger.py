# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/ledger.py: a checkpoint that is not wanted any more never counts, however far it came."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.looping import run_until
from helpers.syncs import local_target, make_sync

from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.command import Run, Shape
from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Change, Depth, Move, Sign
from lsyncd_sd.plan.collator import Collator, Limits
from lsyncd_sd.plan.marktree import MarkTree
from lsyncd_sd.service.checkpoint import Checkpoints, Distrust
from lsyncd_sd.service.journal import Entry, Journal, Priority
from lsyncd_sd.service.ledger import _TOUCHES, Ledger, Look
from lsyncd_sd.watch import ground
from lsyncd_sd.watch.rescan import Known

ENTRY = Depth.ENTRY
FILE = Mark(ENTRY, exact=True)


class Case:
    """A ledger of a sync on which all is well, and what it says in the journal."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        for path in (self.source, folder / "target"):
            path.mkdir()
        self.sync = sync = make_sync(source=str(self.source), target=local_target(str(folder / "target")))
        self.entries: list[Entry] = []
        self.loop = Loop()
        self.checkpoints = Checkpoints(folder / "state", sync)
        journal = Journal(self, Priority.DEBUG)
        self.collator = collator = Collator(Limits(sync.delay, sync.max_changes))
        collator.large_in_flight.put(b"large", FILE)
        look = Look(lambda: True, self.table, lambda: False)
        self.ledger = Ledger(self.loop, sync.source, self.checkpoints, journal, collator, look)

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)

    def table(self) -> list[tuple[int, int, bytes]]:
        return [(self.source.stat().st_ino, 0, b"")]

    def known_intents(self) -> dict[bytes, Depth]:
        """Return what would be known after a crash, as a process that starts then would find it."""
        known = Checkpoints(self.checkpoints.folder.parents[1], self.sync).load(
            ground.look(os.fsencode(self.source))
        )
        assert isinstance(known, Known), known
        return {path: intent.depth for path, intent in known.intents.items()}

    def is_idle(self) -> bool:
        return self.ledger._process is None


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    case = Case(tmp_path)
    yield case
    case.ledger.stop()
    case.loop.close()


def test_a_checkpoint_counts_when_it_is_written(case: Case) -> None:
    case.ledger.forget()
    case.ledger.consider()
    assert not case.is_idle()
    run_until(case.loop, case.is_idle, "it is written")
    assert not isinstance(case.checkpoints.load(ground.look(os.fsencode(case.source))), Distrust)


def test_one_that_was_written_before_it_was_forgotten_does_not_count(case: Case) -> None:
    case.ledger.forget()
    case.ledger.consider()
    process = case.ledger._process
    assert process is not None
    # It has done its work, and nobody has heard of that.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    case.ledger.forget()
    run_until(case.loop, case.is_idle, "its end is heard of")
    assert isinstance(case.checkpoints.load(ground.look(os.fsencode(case.source))), Distrust)
    assert case.entries == []


def run_of(shape: Shape, *paths: bytes) -> Run:
    return Run(shape, ["rsync"], b"", frozenset(paths))


@pytest.fixture
def kept(case: Case) -> Case:
    """A ledger with a checkpoint that counts."""
    case.ledger.forget()
    case.ledger.consider()
    run_until(case.loop, case.is_idle, "it is written")
    return case


def test_what_a_batch_may_change_is_on_disk_before_it_begins(kept: Case) -> None:
    with kept.ledger.at_work({b"f": FILE}, ()):
        assert kept.known_intents() == {b"large": ENTRY, b"f": ENTRY}
        # what its commands list is looked up later, and may be something else
        kept.ledger.run_begins(run_of(Shape.LEVELS, b"", b"d"))
        kept.ledger.run_begins(run_of(Shape.EXACT_SUBTREES, b"f"))
        kept.ledger.run_begins(run_of(Shape.PROBE, b"probe"))
        kept.ledger.run_begins(replace(run_of(Shape.FULL, b"counted"), is_dry=True))
        assert kept.known_intents() == {
            b"large": ENTRY,
            b"f": ENTRY | Depth.SUBTREE,
            b"": Depth.LEVEL,
            b"d": Depth.LEVEL,
        }


def test_both_ends_of_a_move_are_on_disk_before_it_is_made(kept: Case) -> None:
    moves = [Move(b"a", b"b", False), Move(b"d", b"e", True), Move(b"e", b"f", True)]
    with kept.ledger.at_work({b"x": FILE}, moves):
        assert kept.known_intents() == {
            b"large": ENTRY,
            **dict.fromkeys((b"x", b"a", b"b"), ENTRY),
            **dict.fromkeys((b"d", b"e", b"f"), Depth.SUBTREE),
        }


NEW_FILE = Mark(ENTRY, exact=True, is_new=True)


@pytest.mark.parametrize(
    ("runs", "is_new"),
    [
        ([], True),
        ([run_of(Shape.ENTRIES, b"f")], True),
        ([run_of(Shape.LEVELS, b"d")], False),
        # a file that stands where the directory was
        ([run_of(Shape.EXACT_ENTRIES, b"d")], False),
        ([run_of(Shape.LARGE, b"d")], False),
        # its attributes were dirty, and what is in it was not
        ([run_of(Shape.ENTRIES, b"e")], True),
        ([run_of(Shape.LEVELS, b"e")], False),
        ([run_of(Shape.PROBE, b"d")], True),
        ([replace(run_of(Shape.LEVELS, b"d"), is_dry=True)], True),
    ],
)
def test_nothing_is_new_where_a_command_may_have_been(kept: Case, runs: list[Run], is_new: bool) -> None:
    """Before or after the events that told of it: that is known once all is read that happened meanwhile."""
    collator = kept.collator
    collator.rescan_begins()
    collator.rescan_ends()
    collator.large_in_flight = MarkTree()
    collator.add([Change(b"f", ENTRY, True), Change(b"e", ENTRY, False), Change(b"big", ENTRY, True)], 0)
    collator.take(0)
    collator.set_apart([b"big"])
    collator.take_large(1)
    for run in runs:
        kept.ledger.run_begins(run)
    collator.succeeded()
    collator.large_succeeded()
    collator.add([Change(path, ENTRY, True, Sign.CAME) for path in (b"d/a", b"e/a")], 0)
    assert (collator.pending[b"d/a"] == collator.pending[b"e/a"] == NEW_FILE) is is_new
    collator.caught_up()
    collator.add([Change(path, ENTRY, True, Sign.CAME) for path in (b"d/b", b"e/b")], 0)
    assert collator.pending[b"d/b"] == collator.pending[b"e/b"] == NEW_FILE


def test_a_checkpoint_that_is_made_meanwhile_has_it_all(kept: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoints, "due_in", lambda _self: 0.0)
    with kept.ledger.at_work({b"f": FILE}, ()):
        kept.ledger.run_begins(run_of(Shape.LEVELS, b"d"))
        kept.ledger.consider()
        run_until(kept.loop, kept.is_idle, "it is written")
        assert sorted(os.listdir(kept.checkpoints.folder)) == ["intents-2", "snapshot"]
        assert kept.known_intents() == {b"large": ENTRY, b"f": ENTRY, b"d": Depth.LEVEL}


def test_a_checkpoint_is_considered_after_each_batch(kept: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept.ledger.at_work({b"f": FILE}, ()):
        pass
    monkeypatch.setattr(Checkpoints, "due_in", lambda _self: 0.0)
    run_until(kept.loop, lambda: not kept.is_idle(), "another one is begun")
    monkeypatch.undo()
    run_until(kept.loop, kept.is_idle, "it is written")
    # what the batch did is over
    assert kept.known_intents() == {b"large": ENTRY}


def test_none_is_begun_after_the_end(kept: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoints, "due_in", lambda _self: 0.0)
    kept.ledger.stop()
    kept.ledger.consider()
    assert kept.is_idle()


def test_outside_of_a_batch_nothing_is_written_down(kept: Case) -> None:
    """During a full sync nothing is known anyway."""
    kept.ledger.run_begins(run_of(Shape.SUBTREES, b"d"))
    assert kept.known_intents() == {b"large": ENTRY}


def test_it_is_known_what_each_shape_may_change() -> None:
    assert set(Shape) - set(_TOUCHES) == {Shape.FULL, Shape.PROBE, Shape.SEARCH}
