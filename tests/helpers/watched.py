# SPDX-License-Identifier: GPL-2.0-or-later
"""A watched source, what it should report, and a check that all of it is watched."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from helpers.rig import watched_inodes
from helpers.trees import RENAME_EXCHANGE

from lsyncd_sd.plan.change import Change, Depth, Move, Sign
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.watch import inotify
from lsyncd_sd.watch.coverage import Scope
from lsyncd_sd.watch.watcher import Watcher

ENTRY, SUBTREE = Depth.ENTRY, Depth.SUBTREE


def entry(path: str, sign: Sign = Sign.CHANGED) -> Change:
    return Change(os.fsencode(path), ENTRY, True, sign)


def attributes(path: str) -> Change:
    return Change(os.fsencode(path), ENTRY, False)


def subtree(path: str, sign: Sign = Sign.CHANGED) -> Change:
    return Change(os.fsencode(path), SUBTREE, True, sign)


def came(path: str) -> Change:
    return entry(path, Sign.CAME)


def went(path: str) -> Change:
    return entry(path, Sign.WENT)


def written(path: str) -> Change:
    return entry(path, Sign.OPEN)


def tree_came(path: str) -> Change:
    return subtree(path, Sign.CAME)


def tree_arrived(path: str) -> Change:
    return subtree(path, Sign.ARRIVED)


def tree_went(path: str) -> Change:
    return subtree(path, Sign.WENT)


def file_moved(old: str, new: str) -> Move:
    return Move(os.fsencode(old), os.fsencode(new), False)


def looked_at(path: str) -> Change:
    """What follows a move of a file: the same mark as for attributes."""
    return attributes(path)


def tree_moved(old: str, new: str) -> Move:
    return Move(os.fsencode(old), os.fsencode(new), True)


def paths(changes: Iterable[Change | Move]) -> set[bytes]:
    """Return the paths of all that are no moves."""
    return {change.path for change in changes if isinstance(change, Change)}


def exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), RENAME_EXCHANGE) == 0


class Watched:
    """A watched source below a folder that also holds what lies outside of it."""

    def __init__(self, folder: Path, excludes: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.root = folder / "source"
        self.root.mkdir()
        self.queue = inotify.open_queue()
        self.filters = Filter.from_excludes(excludes)
        self.scope = Scope(self.filters.excludes)
        self.now = 0.0
        self.watcher = self.new_watcher()

    def new_watcher(self) -> Watcher:
        return Watcher(self.queue, os.fsencode(self.root), self.scope)

    def start(self) -> None:
        self.watcher.restart()
        while not self.watcher.walk(1):
            pass
        self.read()

    def read_in_order(self) -> list[Change | Move]:
        """Read until all is settled, and return what was reported."""
        changes = self.watcher.read(self.now)
        while not self.watcher.settled:
            self.now += self.watcher.read_again_in(self.now)
            changes += self.watcher.read(self.now)
        return changes

    def read(self) -> set[Change | Move]:
        """Read until all is settled, and return what was reported, in any order."""
        return set(self.read_in_order())

    def directories(self) -> set[str]:
        """Return the directories of the source that are not excluded, without symlinks."""
        found = {""}
        for folder, names, _files in os.walk(self.root):
            for name in list(names):
                path = Path(folder, name)
                relative = str(path.relative_to(self.root))
                if path.is_symlink() or self.filters.excludes(os.fsencode(relative), True):
                    names.remove(name)
                else:
                    found.add(relative)
        return found

    def check_watches(self) -> None:
        """Check that exactly the source's directories are watched, each under its name."""
        directories = self.directories()
        inodes = {(self.root / name).stat().st_ino for name in directories}
        assert set(watched_inodes(self.queue)) == inodes
        assert self.watcher.directories == len(directories)
        for name in directories:
            (self.root / name / "probe").touch()
        probes = {os.fsencode(os.path.join(name, "probe")) for name in directories}
        assert paths(self.read()) == probes
