# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests service/mounted.py: which of the file systems below a source matter, and what names them."""

from __future__ import annotations

import pytest
from helpers.syncs import make_sync

from lsyncd_sd.config.model import RsyncOptions
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Identity, MountPoint
from lsyncd_sd.service.mounted import Mounted
from lsyncd_sd.watch import ground
from lsyncd_sd.watch.ground import Ground, Mount

GROUND = Ground(
    Identity(1, 2),
    (
        Mount(b"", b"/", "ext4", 1),
        Mount(b"disk", b"/sub", "ext4", 2),
        Mount(b"memory", b"/", "tmpfs", 3),
        Mount(b"cache/inner", b"/", "ext4", 4),
        Mount(b"cache", b"/", "ext4", 5),
    ),
)
DISK = MountPoint(b"disk", b"/sub", "ext4", 2)
# a file system in memory has another number each time
MEMORY = MountPoint(b"memory", b"/", "tmpfs", 0)
CACHE = {MountPoint(b"cache/inner", b"/", "ext4", 4), MountPoint(b"cache", b"/", "ext4", 5)}


@pytest.mark.parametrize(
    ("excludes", "one_file_system", "expected"),
    [
        ([], False, {DISK, MEMORY, *CACHE}),
        (["cache/"], False, {DISK, MEMORY}),
        ([], True, set()),
    ],
)
def test_mounts_that_matter(
    monkeypatch: pytest.MonkeyPatch, excludes: list[str], one_file_system: bool, expected: set[MountPoint]
) -> None:
    monkeypatch.setattr(ground, "look", lambda _path: GROUND)
    keys = (("one_file_system", True),) if one_file_system else ()
    sync = make_sync(rsync=RsyncOptions("rsync", (), (), keys))
    assert Mounted(sync, Filter.from_excludes(excludes)).look() == expected
