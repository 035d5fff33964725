# SPDX-License-Identifier: GPL-2.0-or-later
"""Follows a source with a watcher and a copy, and compares them when everything is at rest."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable

from helpers.modelrsync import visible
from helpers.replica import Replica, without_directory_times
from helpers.rig import watched_inodes
from helpers.trees import Snapshot, join, snapshot

from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.watch import inotify
from lsyncd_sd.watch.coverage import Scope
from lsyncd_sd.watch.watcher import Watcher

# More reads than any list of operations of the model needs to come to rest.
READS_TO_REST = 60

# How long nothing must happen before everything is taken to be at rest: other programs have ended by then.
QUIET_SECONDS = 0.01


class Follower:
    """A watched source and its copy (see helpers/replica.py); `close` it at the end."""

    def __init__(self, source: bytes, excludes: Iterable[str] = ()) -> None:
        self.source = source
        self.filters = Filter.from_excludes(excludes)
        self.queue = inotify.open_queue()
        scope = Scope(self.filters.excludes, self.filters.hides_alike)
        self.watcher = Watcher(self.queue, source, scope)
        self.now = 0.0

    def start(self) -> None:
        """Watch the source, and begin with a copy that is equal to it."""
        self.watcher.restart()
        while not self.watcher.walk(1000):
            pass
        self.replica = Replica(self.expected())
        self.rest()

    def close(self) -> None:
        """Watch no more."""
        os.close(self.queue)

    def expected(self) -> Snapshot:
        """Return what the copy should hold."""
        return visible(snapshot(self.source), self.filters)

    def take(self, seconds: float) -> None:
        """Read, so many seconds later."""
        self.now += seconds
        self.replica.take(self.watcher.read(self.now))
        assert not self.watcher.overflowed, "the queue has overflowed"
        assert not self.watcher.unwatched

    def follow(self, is_going_on: Callable[[], bool]) -> None:
        """Read whatever comes for as long as something goes on, in real time."""
        while True:
            goes_on = is_going_on()
            select.select([self.queue], [], [], QUIET_SECONDS)
            self.now = time.monotonic()
            self.take(0)
            if not goes_on:
                return

    def is_at_rest(self) -> bool:
        """Tell whether nothing is left to be read or settled."""
        return self.watcher.settled

    def rest(self) -> None:
        """Read until nothing is left, and compare."""
        for _read in range(READS_TO_REST):
            self.take(self.watcher.read_again_in(self.now))
            if self.is_at_rest():
                break
        else:
            raise AssertionError("it never settles")
        source = self.expected()
        self.replica.rest(source)
        assert without_directory_times(self.replica.entries) == without_directory_times(source)
        self.check_watches(source)

    def check_watches(self, source: Snapshot) -> None:
        """Check that exactly the directories of the source are watched, each under its name and inode."""
        wanted = {
            os.stat(join(self.source, path) if path else self.source).st_ino: path
            for path, entry in source.items()
            if entry.kind == "d"
        }
        assert set(watched_inodes(self.queue)) == set(wanted)
        tree = self.watcher._tree
        assert {node.number: tree.path(node) for node in tree._by_wd.values()} == wanted
