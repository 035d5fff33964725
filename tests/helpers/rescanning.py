# SPDX-License-Identifier: GPL-2.0-or-later
"""A source of which something is known, and walks through it for a single rescan."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from pathlib import Path

from helpers.waiting import wait_until

from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.watch.ground import directory_number
from lsyncd_sd.watch.rescan import Intent, Known, Rescan, fingerprint
from lsyncd_sd.watch.walk import Walk


def nothing(_path: bytes, _is_directory: bool) -> bool:
    """Exclude nothing."""
    return False


Found = dict[bytes, tuple[Depth, bool]]
"""Depth and exactness of each path that was found."""


def add_found(found: Found, changes: list[Change]) -> None:
    """Take in changes; a path that is found twice has the depths of both."""
    for path, depth, exact, _sign in changes:
        known_depth, known_exact = found.get(path, (Depth(0), False))
        found[path] = known_depth | depth, known_exact or exact


class LoneRescan:
    """A rescan, and the walk for it alone."""

    def __init__(
        self,
        root: Path | bytes,
        known: Known,
        is_excluded: Callable[[bytes, bool], bool] = nothing,
        *,
        one_file_system: bool = False,
    ) -> None:
        self.rescan = Rescan(known)
        self.walk = Walk(os.fsencode(root), [self.rescan], is_excluded, one_file_system=one_file_system)

    @property
    def done(self) -> bool:
        """Whether all was looked at."""
        return self.walk.done

    def step(self, entries: int) -> list[Change]:
        """Look at some more names, and return what is found."""
        self.walk.step(entries)
        return self.rescan.take()


class KnownTree:
    """A source, and what was known of it at one moment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.intents: dict[bytes, Intent] = {}
        self.swaps_unseen = False
        self.since = 0
        self.directories: array[int] = array("Q")

    def make(self, *paths: str) -> None:
        """Make files, and directories where a path ends with a slash."""
        for path in paths:
            place = self.root / path
            (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            if not path.endswith("/"):
                place.touch()

    def remember(self) -> None:
        """Take what there is for known, and see that whatever changes from now on has a later time."""
        numbers = [
            (self.number(place), self.number(place.parent), os.fsencode(place.name))
            for place in self.root.rglob("*")
            if place.is_dir() and not place.is_symlink()
        ]
        self.directories = array("Q", sorted(fingerprint(*row) for row in numbers))
        self.since = self.later()

    def number(self, directory: Path) -> int:
        """Return what stands for a directory in a fingerprint."""
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            return directory_number(os.fstat(descriptor), self.root.stat().st_dev, descriptor)
        finally:
            os.close(descriptor)

    def later(self) -> int:
        """Wait until what changes has a later time than what changed before; return a time in between."""
        probe = self.root.parent / "clock"
        probe.write_bytes(b"")
        before = probe.stat().st_ctime_ns

        def has_moved() -> bool:
            probe.write_bytes(b"x")
            return probe.stat().st_ctime_ns > before

        wait_until(has_moved, "the time that files are given to go on")
        return probe.stat().st_ctime_ns

    def known(self) -> Known:
        """Return what is known of the moment that was remembered."""
        return Known(self.since, self.directories, dict(self.intents), self.swaps_unseen)

    def rescan(
        self,
        entries: int = 1000,
        is_excluded: Callable[[bytes, bool], bool] = nothing,
        *,
        one_file_system: bool = False,
    ) -> Found:
        """Return depth and exactness of each path that is found; one that is found twice has both."""
        walk = LoneRescan(self.root, self.known(), is_excluded, one_file_system=one_file_system)
        found: Found = {}
        while not walk.done:
            add_found(found, walk.step(entries))
        return found
