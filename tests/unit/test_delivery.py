# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/delivery.py with a real rsync: what a stamp stands for is there when it says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.comparing import age, tree
from helpers.fakersync import FakeRsync
from helpers.looping import run_until
from helpers.syncs import PLAIN_RSYNC, local_target, make_sync

from lsyncd_sd.config.model import Delete
from lsyncd_sd.loop import Loop
from lsyncd_sd.plan.change import Change, Depth, Sign
from lsyncd_sd.service.callbacks import Callbacks
from lsyncd_sd.service.checkpoint import Checkpoints
from lsyncd_sd.service.delivery import Delivery
from lsyncd_sd.service.fullsyncs import Stamp
from lsyncd_sd.service.journal import Entry, Journal, Priority
from lsyncd_sd.service.links import LinkedNames
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.permits import Permits
from lsyncd_sd.service.sourceside import SourceGate, SourceSide
from lsyncd_sd.service.standing import Standing
from lsyncd_sd.service.state import Store
from lsyncd_sd.watch.source import identity_of

# No test waits so long.
DELAY = 3600.0

LARGE = 10_000


class Case:
    """A delivery from a source with one old file, and what it told."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.source, self.target = folder / "source", folder / "target"
        self.source.mkdir()
        (self.source / "file").write_text("old")
        age(self.source)
        self.loop = Loop()
        self.ended = 0
        # Which of these were mirrored, in each moment in which an errand had ended.
        self.stamps: list[Stamp] = []
        self.mirrored: list[list[bool]] = []
        self.rsync = FakeRsync(folder / "fake")
        sync = make_sync(
            source=str(self.source),
            target=local_target(str(self.target)),
            delay=DELAY,
            batch_size_limit=LARGE,
            rsync=replace(PLAIN_RSYNC, binary=str(self.rsync.path)),
            **changes,
        )
        filters, gate = sync.make_filter(), SourceGate(sync.source)
        links = LinkedNames(self.loop, gate.open, filters)
        self.side = SourceSide(filters, gate, links, lambda: True, lambda: True, lambda: ())
        journal = Journal(self, Priority.DEBUG)
        self.store = Store(folder / "state", sync)
        self.delivery = Delivery(
            self.loop,
            sync,
            self.side,
            self.store,
            Checkpoints(folder / "state", sync),
            Locks(folder / "locks"),
            folder,
            Permits(self.loop),
            journal,
            Standing(journal, lambda: None),
            Callbacks(lambda: None, self._ended, lambda: None, lambda: None),
        )

    def write(self, entry: Entry) -> None:
        pass

    def _ended(self) -> None:
        self.ended += 1
        self.mirrored.append([self.delivery.is_mirrored(stamp) for stamp in self.stamps])

    def start(self) -> None:
        """The source is watched: a full sync begins."""
        self.side.found(identity_of(os.fsencode(self.source)))
        self.delivery.source_ready()
        self.delivery.request_full_sync("start")

    def change(self, name: str, content: str) -> None:
        (self.source / name).write_text(content)
        change = Change(os.fsencode(name), Depth.ENTRY, True, Sign.CHANGED)
        self.delivery.add([change], is_settled=True)
        self.delivery.proceed()

    def run_until_mirrored(self, stamp: Stamp) -> None:
        """Run until it says so; it is asked in every pass, and each time an errand ends."""
        run_until(self.loop, lambda: self.delivery.is_mirrored(stamp), "all is mirrored")

    def is_equal(self) -> bool:
        return tree(self.source) == tree(self.target)


@pytest.fixture
def case(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Case]:
    """A delivery; a test's parameter for it are settings of its sync."""
    case = Case(tmp_path, **getattr(request, "param", {}))
    yield case
    run_until(case.loop, lambda: case.delivery._task is None, "nothing runs")
    case.loop.close()


def test_an_end_in_order_is_remembered(case: Case) -> None:
    case.start()
    case.run_until_mirrored(case.delivery.stamp())
    assert case.store.load().is_unclean
    stopped: list[bool] = []
    case.delivery.stop(0, lambda: stopped.append(case.store.load().is_unclean))
    assert stopped == [False]


@pytest.mark.parametrize("case", [{"delete": Delete.NEVER}], indirect=True)
def test_an_end_that_cuts_something_short_is_not_in_order(case: Case) -> None:
    case.start()
    case.run_until_mirrored(case.delivery.stamp())
    case.rsync.become("gate")
    case.change("file", "new")
    case.delivery.expedite()
    run_until(case.loop, case.rsync.is_gated, "it sends")
    stopped: list[bool] = []
    case.delivery.stop(0, lambda: stopped.append(case.store.load().is_unclean))
    run_until(case.loop, lambda: stopped, "it stops")
    assert stopped == [True]


def test_a_full_sync_counts_before_its_first_command(case: Case) -> None:
    case.start()
    stamp = case.delivery.stamp()
    assert not case.delivery.is_mirrored(stamp), "the guards are being asked"
    case.run_until_mirrored(stamp)
    assert case.is_equal()
    assert case.delivery.is_mirrored(case.delivery.stamp()), "there is nothing to be done"


def test_a_full_sync_that_is_wanted_counts_while_another_one_runs(case: Case) -> None:
    case.start()
    case.delivery.request_full_sync("asked for")
    stamp = case.delivery.stamp()
    case.run_until_mirrored(stamp)
    assert case.delivery.figures.batches == 2


def test_a_full_sync_that_is_wanted_counts_while_a_batch_runs(case: Case) -> None:
    case.start()
    case.run_until_mirrored(case.delivery.stamp())
    case.change("file", "new")
    case.delivery.expedite()
    case.stamps.append(case.delivery.stamp())
    (case.target / "stray").touch()
    case.delivery.request_full_sync("asked for")
    case.stamps.append(case.delivery.stamp())
    case.mirrored.clear()
    case.run_until_mirrored(case.stamps[1])
    assert case.mirrored == [[True, False], [True, True]], "first the batch, then the full sync"
    assert case.is_equal()


def test_a_change_counts_until_its_batch_has_ended_and_no_later_one_does(case: Case) -> None:
    case.start()
    case.run_until_mirrored(case.delivery.stamp())
    case.change("file", "new")
    stamp = case.delivery.stamp()
    assert not case.delivery.is_mirrored(stamp)
    case.delivery.expedite()
    run_until(case.loop, lambda: case.delivery._collator.in_flight, "the batch is under way")
    case.change("later", "is not waited for")
    assert not case.delivery.is_mirrored(stamp)
    case.run_until_mirrored(stamp)
    assert (case.target / "file").read_text() == "new"
    assert not case.delivery.is_mirrored(case.delivery.stamp()), "the later one waits for the delay"


def test_the_second_look_at_the_whole_tree_counts(case: Case) -> None:
    """Whole seconds say nothing about the target's times; the first batch does, and all is compared."""
    (case.source / "file").unlink()
    os.utime(case.source, (10**9, 10**9))
    case.start()
    case.run_until_mirrored(case.delivery.stamp())
    case.change("file", "new")
    case.delivery.expedite()
    stamp = case.delivery.stamp()
    ended = case.ended
    run_until(case.loop, lambda: case.ended > ended, "the batch ends")
    assert not case.delivery.is_mirrored(stamp)
    case.run_until_mirrored(stamp)
    assert case.ended >= ended + 2


def test_a_batch_that_failed_counts_until_another_try_succeeds(case: Case) -> None:
    case.start()
    case.run_until_mirrored(case.delivery.stamp())
    case.target.rename(case.target.with_name("moved"))
    case.change("file", "new")
    case.delivery.expedite()
    stamp = case.delivery.stamp()
    for _ in range(3):
        ended = case.ended
        case.delivery.expedite()
        run_until(case.loop, lambda ended=ended: case.ended > ended, "it fails")
        assert not case.delivery.is_mirrored(stamp)
    case.target.with_name("moved").rename(case.target)
    case.delivery.expedite()
    case.run_until_mirrored(stamp)
    assert case.is_equal()


def test_a_large_file_counts_and_its_next_try_does_not_wait(case: Case) -> None:
    case.start()
    case.run_until_mirrored(case.delivery.stamp())
    case.rsync.become(10)
    case.change("large", "x" * LARGE * 2)
    stamp = case.delivery.stamp()
    lane = case.delivery._lane
    # The waits double from two seconds on: the last one would be longer than any test.
    for failures in range(8):
        case.delivery.expedite()
        run_until(case.loop, lambda last=failures: lane._back_off.failures > last, "it fails")
        assert not case.delivery.is_mirrored(stamp)
    case.rsync.become("pass")
    case.delivery.expedite()
    case.run_until_mirrored(stamp)
    assert case.is_equal()


def test_what_is_accepted_begins_at_once(case: Case) -> None:
    case.start()
    case.run_until_mirrored(case.delivery.stamp())
    case.target.rename(case.target.with_name("moved"))
    case.target.mkdir()
    case.change("file", "new")
    stamp = case.delivery.stamp()
    case.delivery.expedite()
    run_until(case.loop, lambda: case.delivery.hold is not None and case.delivery._task is None, "it holds")
    assert case.delivery.hold is not None
    case.delivery.accept(case.delivery.hold)
    assert case.delivery._task is not None
    case.run_until_mirrored(stamp)
    assert case.delivery.hold is None
    assert case.is_equal()


def test_what_is_cut_short_counts(case: Case) -> None:
    case.start()
    stamp = case.delivery.stamp()
    case.side.lost()
    case.delivery.source_lost()
    assert not case.delivery.is_ready
    run_until(case.loop, lambda: case.delivery._task is None, "it is cut short")
    assert not case.delivery.is_mirrored(stamp)
    case.start()
    assert not case.delivery.is_mirrored(stamp)
    case.run_until_mirrored(stamp)
    assert case.is_equal()
