# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/lookout.py with a real queue: what it tells of how far the queue was read.

Waiting, walking and losing the source are tested with the daemon (tests/live/test_source.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers.looping import run_until
from helpers.syncs import make_sync

from lsyncd_sd.loop import Loop
from lsyncd_sd.plan.change import Change, Move
from lsyncd_sd.service.journal import Entry, Journal, Priority
from lsyncd_sd.service.lookout import Listener, Lookout
from lsyncd_sd.service.mounted import Mounted
from lsyncd_sd.service.standing import Standing
from lsyncd_sd.watch import inotify, watcher
from lsyncd_sd.watch.coverage import Scope
from lsyncd_sd.watch.watcher import Watcher


class Case:
    """A lookout on a directory that is watched already, and what it has told since, in order."""

    def __init__(self, source: Path) -> None:
        self.source = source
        source.mkdir()
        self.loop = Loop()
        self.told: list[str] = []
        self.queue = inotify.open_queue()
        sync = make_sync(source=str(source))
        filters = sync.make_filter()
        self.watcher = Watcher(self.queue, os.fsencode(source), Scope(filters.excludes))
        journal = Journal(self, Priority.DEBUG)
        self.lookout = Lookout(
            self.loop,
            sync,
            self.queue,
            self.watcher,
            journal,
            Standing(journal, lambda: None),
            # whoever is the parent of this one
            Mock(),
            3600,
            Listener(
                lambda: None,
                lambda _identity: self.told.append("watched"),
                self._changed,
                lambda: self.told.append("caught up"),
                lambda _reason: None,
                lambda: None,
            ),
            Mounted(sync, filters),
        )
        self.lookout.start()
        run_until(self.loop, lambda: "caught up" in self.told, "the source is watched")
        self.told.clear()

    def write(self, entry: Entry) -> None:
        pass

    def _changed(self, changes: Sequence[Change | Move], _is_settled: bool) -> None:
        self.told += [os.fsdecode(change.path) for change in changes if isinstance(change, Change)]


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    case = Case(tmp_path / "source")
    yield case
    case.lookout.stop()
    case.loop.close()
    os.close(case.queue)


@pytest.fixture
def busy(case: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    """So much happens in its source that one call of `read` does not come to the end of the queue."""
    monkeypatch.setattr(watcher, "_ROUNDS_PER_READ", 1)
    names = iter(["second", "third"])
    read_events = inotify.read_events

    def read_events_while_something_happens(queue: int) -> list[inotify.RawEvent]:
        events = read_events(queue)
        if events and (name := next(names, None)):
            (case.source / name).touch()
        return events

    monkeypatch.setattr(inotify, "read_events", read_events_while_something_happens)
    (case.source / "first").touch()
    return case


def in_one_read(case: Case) -> None:
    case.loop.run_once(0)


def in_one_go(case: Case) -> None:
    assert case.lookout.catch_up()


@pytest.mark.parametrize("how", [in_one_read, in_one_go])
def test_it_has_caught_up_only_when_the_queue_was_read_empty(
    busy: Case, how: Callable[[Case], None]
) -> None:
    how(busy)
    assert busy.watcher.settled, "which is not enough"
    run_until(busy.loop, lambda: "caught up" in busy.told, "the queue is empty")
    before = busy.told[: busy.told.index("caught up")]
    assert [name for name in ("first", "second", "third") if name in before] == ["first", "second", "third"]


def test_to_catch_up_is_to_read_the_queue_empty(busy: Case) -> None:
    assert busy.lookout.catch_up()
    assert busy.told[-1] == "caught up"


def test_it_goes_on_although_the_queue_never_ends(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    read_events = inotify.read_events

    def read_events_of_a_busy_source(queue: int) -> list[inotify.RawEvent]:
        (case.source / "file").touch()
        return read_events(queue)

    monkeypatch.setattr(inotify, "read_events", read_events_of_a_busy_source)
    assert case.lookout.catch_up()
    assert "file" in case.told
    assert "caught up" not in case.told
