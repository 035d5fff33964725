# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells which file systems are mounted below a source, as far as they matter for what is mirrored."""

from __future__ import annotations

import os

from lsyncd_sd.config.model import Sync
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import MountPoint
from lsyncd_sd.watch import ground

# These get another id each time they are mounted.
_WITHOUT_NUMBER = frozenset({"tmpfs"})


class Mounted:
    """The mounts below one source."""

    def __init__(self, sync: Sync, filters: Filter) -> None:
        self._path = os.fsencode(sync.source)
        self._filters = filters
        self._is_one_file_system = sync.one_file_system

    def look(self) -> frozenset[MountPoint]:
        """Return those that are mirrored: none if the sync stays in one file system. Raises OSError."""
        if self._is_one_file_system:
            return frozenset()
        # The first is the one that the root is on: which directory that is, its identity tells.
        mounts = ground.look(self._path).mounts[1:]
        return frozenset(
            MountPoint(*mount[:3], 0 if mount.kind in _WITHOUT_NUMBER else mount.number)
            for mount in mounts
            if not self._filters.hides(mount.path, True)
        )
