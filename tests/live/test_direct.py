# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode direct, from a change to what it looks like on a local target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import sharing
from live.conftest import StartDaemon, local_pair

from lsyncd_sd.mirror.direct import SMALLEST_CLONED

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system whose files can share blocks."""
    with sharing.sharing_file_system("btrfs", tmp_path_factory.mktemp("btrfs")) as place:
        yield place


@pytest.mark.parametrize("limit", [None, 1_000_000])
def test_a_large_file_shares_its_blocks_also_after_more_was_written(
    mounted: Path, tmp_path: Path, daemon: StartDaemon, limit: int | None
) -> None:
    pair = local_pair(mounted / tmp_path.name)
    (pair.source / "folder").mkdir()
    large = pair.source / "folder/large"
    large.write_bytes(os.urandom(SMALLEST_CLONED))
    more = {} if limit is None else {"batch_size_limit": limit}
    running = daemon(pair.settings(mode="direct", **more))
    running.wait_until_mirrored("home", pair.source, pair.target)
    with open(large, "ab") as file:
        file.write(os.urandom(4096))
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert sharing.shared_bytes(large, pair.target / "folder/large") == SMALLEST_CLONED + 4096
    assert running.status("home")["files"] >= 1
    assert not list(pair.target.rglob(".*"))
