# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells where changes of the source are not seen, and what has to be compared now and then for that."""

from __future__ import annotations

import errno
import os

from lsyncd_sd.printable import printable
from lsyncd_sd.service.journal import Event, Journal
from lsyncd_sd.service.standing import Standings
from lsyncd_sd.watch import ground
from lsyncd_sd.watch.ground import Mount
from lsyncd_sd.watch.watcher import Watcher

# How often what is not seen is compared with the target. A guess: seldom enough for a large tree.
COMPARE_SECONDS = 600.0

_EVERY = f"compared with the target every {COMPARE_SECONDS / 60:.0f} minutes"


class BlindSpots:
    """What of the source at `path` no event tells of: what has no watch, and what others may change."""

    def __init__(
        self, path: bytes, watcher: Watcher, journal: Journal, standing: Standings, *, one_file_system: bool
    ) -> None:
        self._path = path
        self._watcher = watcher
        self._journal = journal
        self._standing = standing
        self._one_file_system = one_file_system
        self._told: set[bytes] = set()
        self._shared: list[Mount] = []

    def paths(self) -> list[bytes]:
        """Return what has to be compared, with all below it."""
        if self._watcher.unwatched_uncounted:
            return [b""]
        return [*self._watcher.unwatched, *(mount.path for mount in self._shared)]

    def look_at_ground(self) -> None:
        """See which file systems the source lies on. Raises OSError."""
        shared = ground.look(self._path).shared(one_file_system=self._one_file_system)
        if shared == self._shared:
            return
        self._shared = shared
        places = ", ".join(f"{self._shown(mount)} is on {mount.kind}" for mount in shared)
        message = f"{places}: what others change there no event tells of, so it is {_EVERY}"
        self._standing.set_blind_spot("shared", message if shared else "")

    def _shown(self, mount: Mount) -> str:
        return printable(os.path.join(self._path, mount.path).rstrip(b"/"))

    def tell(self) -> None:
        """Tell of each directory that cannot be watched, once."""
        new = self._watcher.unwatched.keys() - self._told
        if not new:
            return
        self._told |= new
        self._tell_watch_limit([path for path in new if self._watcher.unwatched[path] == errno.ENOSPC])
        for path in sorted(new):
            number = self._watcher.unwatched[path]
            if number != errno.ENOSPC:
                self._journal.warning(
                    f"cannot watch {printable(path)}: {os.strerror(number)}; what is below it is {_EVERY}",
                    Event.DIRECTORY_UNREADABLE,
                    path=path,
                    errno=number,
                )

    def _tell_watch_limit(self, paths: list[bytes]) -> None:
        if not paths:
            return
        total = sum(number == errno.ENOSPC for number in self._watcher.unwatched.values())
        total += self._watcher.unwatched_uncounted
        hint = watch_limit_hint(self._watcher.directories + total)
        message = f"{total} directories and what is below them are not watched: {hint}"
        self._standing.set_blind_spot("watches", message)
        self._journal.error(
            message,
            Event.WATCH_LIMIT,
            repeats_as="watch limit",
            errno=errno.ENOSPC,
            path=min(paths),
        )


def watch_limit_hint(needed: int) -> str:
    """Return what to type; half as many again leaves room for the other programs of the same user."""
    return (
        f"sysctl fs.inotify.max_user_watches={max(8192, needed + needed // 2)} "
        "(and in /etc/sysctl.d/ to keep it), then `lsyncd-sd restart` this sync"
    )
