# SPDX-License-Identifier: GPL-2.0-or-later
"""The status of a sync that has nothing to do, to make others from."""

from __future__ import annotations

from lsyncd_sd.service.status import State, SyncStatus

HOME = SyncStatus(
    name="home",
    source="/home",
    target="backup:/srv/home",
    state=State.IN_SYNC,
    since=86400.0,
    reason="",
    pending=0,
    batches=12,
    failures=0,
    files=345,
    bytes=678900,
    last_batch=90000.0,
    full_sync_percent=None,
    directories=1000,
    pid=4711,
    restarts=1,
    hold_id="",
)
