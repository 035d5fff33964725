# SPDX-License-Identifier: GPL-2.0-or-later
"""What each mode consists of: what sends to the target, and what moves things there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lsyncd_sd.config.model import DIRECT, RSYNCSSH, Sync
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.direct import DirectMirror
from lsyncd_sd.mirror.moving import Mover
from lsyncd_sd.mirror.opensource import OpenSource
from lsyncd_sd.mirror.rsync import RsyncMirror
from lsyncd_sd.mirror.rsyncssh import SshMover
from lsyncd_sd.mirror.sshcommand import keeping_command, over_command
from lsyncd_sd.mirror.sshmaster import SshMaster
from lsyncd_sd.plan.filters import Filter


def mirror_of(
    loop: Loop,
    sync: Sync,
    filters: Filter,
    open_source: Callable[[], OpenSource],
    on_percent: Callable[[int], None],
    socket: Path,
) -> tuple[RsyncMirror, Mover | None]:
    """Return the mirror of a sync, and what makes moves for it; without that, what moves is sent again.

    Nothing is begun yet. `socket`: where a connection is to be found that is kept.
    """
    if sync.mode == RSYNCSSH:
        master = SshMaster(loop, keeping_command(sync.ssh, sync.target, socket), socket)
        mover = SshMover(loop, master, over_command(sync.ssh, socket), sync.target, sync.timeout)
        mirror = RsyncMirror(loop, sync, filters, open_source, on_percent, mover)
        return mirror, mover if sync.moves_on_target else None
    kind = DirectMirror if sync.mode == DIRECT else RsyncMirror
    return kind(loop, sync, filters, open_source, on_percent), None
