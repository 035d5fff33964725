# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps one source watched: waits for it, walks it, reads what happens, and begins anew when it was lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lsyncd_sd.config.model import Sync
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.plan.change import Change, Depth, Move
from lsyncd_sd.plan.guard import Identity, MountPoint
from lsyncd_sd.printable import printable
from lsyncd_sd.service.blindspots import COMPARE_SECONDS, BlindSpots, watch_limit_hint
from lsyncd_sd.service.journal import Event, Journal
from lsyncd_sd.service.mounted import Mounted
from lsyncd_sd.service.notify import Notifier
from lsyncd_sd.service.standing import Standings
from lsyncd_sd.service.status import State
from lsyncd_sd.watch.source import Source
from lsyncd_sd.watch.watcher import WALK_STEP, Watcher

# How often a missing source is looked for.
SOURCE_POLL_SECONDS = 2.0

# How soon the watches are set anew after the queue has overflowed: at once would lose the race again.
OVERFLOW_PAUSE_SECONDS = 1.0

# How soon the watches are set anew after something was mounted or unmounted below the source: what is
# mounted together comes together. A guess.
MOUNT_PAUSE_SECONDS = 1.0

# How often `catch_up` reads. A guess: a tree that grows without end must not keep the loop for itself.
CATCH_UP_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Listener:
    """Who wants to know.

    `on_begin`: the queue is read from now on, and the walk begins. `on_watched`: everything is watched from
    now on; called after each walk. `on_changes`: what was seen, and whether every directory heard of is
    watched. `on_caught_up`: all that was queued was told by `on_changes`. `on_lost`: nothing is seen until
    `on_begin`, because of this reason. `on_progress`: the figures changed.
    """

    on_begin: Callable[[], None]
    on_watched: Callable[[Identity], None]
    on_changes: Callable[[Sequence[Change | Move], bool], None]
    on_caught_up: Callable[[], None]
    on_lost: Callable[[str], None]
    on_progress: Callable[[], None]


class Lookout:
    """The watches of one source on the inotify queue `queue`, which belongs to the caller."""

    def __init__(
        self,
        loop: Loop,
        sync: Sync,
        queue: int,
        watcher: Watcher,
        journal: Journal,
        standing: Standings,
        notifier: Notifier,
        ping_interval: float,
        listener: Listener,
        mounted: Mounted,
    ) -> None:
        self._loop = loop
        self._mounted = mounted
        self._path = path = os.fsencode(sync.source)
        self._queue = queue
        self._watcher = watcher
        self._journal = journal
        self._standing = standing
        self._notifier = notifier
        self._ping_interval = ping_interval
        self._listener = listener
        self._is_stopped = False
        self._is_watching = False
        # Which directory the watches are on, and what was mounted below it then.
        self._watched: Identity | None = None
        self._mounts: frozenset[MountPoint] = frozenset()
        self._read_timer: Timer | None = None
        self._walk_timer: Timer | None = None
        self._blind_spots = BlindSpots(
            path, watcher, journal, standing, one_file_system=sync.one_file_system
        )

    @property
    def directories(self) -> int:
        """The number of directories watched."""
        return self._watcher.directories

    def start(self) -> None:
        """Begin to watch; the source is waited for as long as it is not there."""
        self._start_watching()
        self._loop.call_later(COMPARE_SECONDS, self._rescan_now_and_then)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopped = True
        self._loop.forget(self._queue)

    def check_source(self) -> None:
        """See whether the path still leads to the directory that is watched.

        No event tells of a mount on top of it or below it, nor of a symlink above it that leads elsewhere
        now.
        """
        if not self._is_watching or self._is_stopped:
            return
        try:
            with Source(self._path) as source:
                is_the_same = source.identity() == self._watched
            mounts = self._mounted.look()
        except OSError:
            is_the_same = False
        if not is_the_same:
            self.source_is_gone()
        elif mounts != self._mounts:
            self._pause("what is mounted below the source has changed", MOUNT_PAUSE_SECONDS)

    @property
    def is_settled(self) -> bool:
        """Whether everything heard of so far is watched."""
        return self._is_watching and self._watcher.settled

    def catch_up(self) -> bool:
        """Read all that has happened until now, and tell it to the listener as ever.

        Return False if the source is not watched, or something in it is not watched yet.
        """
        for _attempt in range(CATCH_UP_ROUNDS):
            self._read()
            if not self._is_watching:
                return False
            if self._watcher.has_read_all:
                return True
        return self._watcher.settled

    # ------------------------------------------------------------------ watching

    def _start_watching(self) -> None:
        """Watch the source from its root on; keep trying where that is not possible."""
        if self._is_stopped:
            return
        try:
            with Source(self._path) as source:
                self._watched = source.identity()
                self._mounts = self._mounted.look()
                self._watcher.restart()
            self._blind_spots.look_at_ground()
        except OSError as error:
            self._cannot_watch(error)
            return
        self._is_watching = True
        self._standing.enter(State.WATCHING)
        self._loop.watch_reads(self._queue, self._read)
        self._listener.on_begin()
        self._walk()

    def _cannot_watch(self, error: OSError) -> None:
        place = printable(self._path)
        if error.errno == errno.ENOSPC:
            reason = f"no inotify watches are left: {watch_limit_hint(1)}"
            self._journal.error(f"cannot watch {place}: {reason}", Event.WATCH_LIMIT, errno=errno.ENOSPC)
            self._standing.enter(State.FAILING, reason)
        else:
            self._standing.enter(State.SOURCE_MISSING, f"{place}: {error.strerror}; waiting for it")
        self._notifier.ready()
        self._loop.call_later(SOURCE_POLL_SECONDS, self._start_watching)

    def _walk(self) -> None:
        """Set the watches of a new walk step by step, so that pings, events and signals get their turn."""
        if self._is_stopped:
            return
        if not self._watcher.walk(WALK_STEP):
            self._notifier.walking(self._ping_interval * 3)
            self._listener.on_progress()
            self._walk_timer = self._loop.call_later(0, self._walk)
            return
        self._blind_spots.tell()
        self.check_source()
        if not self._is_watching or self._watched is None:
            return
        self._listener.on_watched(self._watched)
        self._notifier.ready()
        self._schedule_read()

    def _read(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        if not self._is_watching or self._is_stopped:
            return
        changes = self._watcher.read(self._loop.now())
        if self._watcher.root_lost:
            self.source_is_gone()
        elif self._watcher.overflowed:
            self._overflowed()
        else:
            self._blind_spots.tell()
            if changes:
                self._listener.on_progress()
            self._listener.on_changes(changes, self._watcher.settled)
            if self._watcher.has_read_all:
                self._listener.on_caught_up()
            else:
                self._schedule_read(self._watcher.read_again_in(self._loop.now()))

    def _schedule_read(self, seconds: float = 0) -> None:
        """Read again although the queue may stay silent: places in doubt wait for an empty queue."""
        if self._read_timer is None:
            self._read_timer = self._loop.call_later(seconds, self._read)

    def _overflowed(self) -> None:
        self._journal.warning(
            "the inotify queue has overflowed: the source will be looked through for what was missed",
            Event.OVERFLOW,
        )
        self._pause("the inotify queue has overflowed", OVERFLOW_PAUSE_SECONDS)

    def source_is_gone(self) -> None:
        """The source is not there, or another directory than the one that is watched: wait for it."""
        if not self._is_watching:
            return
        place = printable(self._path)
        self._standing.enter(State.SOURCE_MISSING, f"{place} is gone or was replaced; waiting for it")
        self._pause("the source was away", SOURCE_POLL_SECONDS)

    def _pause(self, reason: str, seconds: float) -> None:
        """Begin anew in a while; a walk under way ends here."""
        self._is_watching = False
        if self._walk_timer is not None:
            self._walk_timer.cancel()
        self._loop.forget(self._queue)
        self._listener.on_lost(reason)
        self._loop.call_later(seconds, self._start_watching)

    # ------------------------------------------------------------------ what no event tells of

    def look_again(self) -> None:
        """See to what no event tells of: another source at the same path, and what is not watched."""
        self.check_source()
        self._rescan_unwatched()

    def _rescan_now_and_then(self) -> None:
        self._rescan_unwatched()
        self._loop.call_later(COMPARE_SECONDS, self._rescan_now_and_then)

    def _rescan_unwatched(self) -> None:
        changes = [Change(path, Depth.SUBTREE, False) for path in self._blind_spots.paths()]
        if changes and self._is_watching and not self._is_stopped:
            self._listener.on_changes(changes, self._watcher.settled)
