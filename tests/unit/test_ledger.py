# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/ledger.py: a checkpoint that is not wanted any more never counts, however far it came."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.looping import run_until
from helpers.syncs import local_target, make_sync

from lsyncd_sd.loop import Loop
from lsyncd_sd.service.checkpoint import Checkpoints, Distrust
from lsyncd_sd.service.journal import Entry, Journal, Priority
from lsyncd_sd.service.ledger import Ledger
from lsyncd_sd.watch import ground


class Case:
    """A ledger of a sync on which all is well, and what it says in the journal."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        for path in (self.source, folder / "target"):
            path.mkdir()
        sync = make_sync(source=str(self.source), target=local_target(str(folder / "target")))
        self.entries: list[Entry] = []
        self.loop = Loop()
        self.checkpoints = Checkpoints(folder / "state", sync)
        journal = Journal(self, Priority.DEBUG)
        self.ledger = Ledger(self.loop, sync.source, self.checkpoints, journal, self)

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)

    def is_clear(self) -> bool:
        return True

    def table(self) -> list[tuple[int, int, bytes]]:
        return [(self.source.stat().st_ino, 0, b"")]

    def dirty(self) -> dict[bytes, object]:
        return {}

    in_flight = dirty

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
    case.ledger.intend({})
    case.ledger.consider()
    assert not case.is_idle()
    run_until(case.loop, case.is_idle, "it is written")
    assert not isinstance(case.checkpoints.load(ground.look(os.fsencode(case.source))), Distrust)


def test_one_that_was_written_before_it_was_forgotten_does_not_count(case: Case) -> None:
    case.ledger.forget()
    case.ledger.intend({})
    case.ledger.consider()
    process = case.ledger._process
    assert process is not None
    # It has done its work, and nobody has heard of that.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    case.ledger.forget()
    run_until(case.loop, case.is_idle, "its end is heard of")
    assert isinstance(case.checkpoints.load(ground.look(os.fsencode(case.source))), Distrust)
    assert case.entries == []
