# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of rsync that a sync can have, each with a mirror that uses it: full syncs and batches."""

from __future__ import annotations

import pytest
from helpers.comparing import assert_mirrored
from helpers.daemon import settings
from helpers.servers import ADDRESS, RsyncDaemon
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live


def test_a_module_with_a_password(daemon: StartDaemon, local: Pair, rsyncd: RsyncDaemon) -> None:
    (local.source / "file").write_text("first")
    address = f"rsync://mirror@{ADDRESS}:{rsyncd.port}/locked/tree"
    rsync = {"password_file": str(rsyncd.secret)}
    started = daemon(settings(local.source, address, name="home", rsync=rsync))
    started.wait_until_mirrored("home", local.source, rsyncd.module / "tree")
    (local.source / "file").write_text("second")
    started.wait_until_mirrored("home", local.source, rsyncd.module / "tree")
    # read anew for each run: it may be changed, and be in order again
    rsyncd.secret.chmod(0o644)
    (local.source / "file").write_text("third")
    status = started.wait_for_state("home", "failing")
    assert "others than its owner" in status["reason"]
    rsyncd.secret.chmod(0o600)
    assert_mirrored(local.source, rsyncd.module / "tree", describe=started.log)
