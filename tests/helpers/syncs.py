# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the settings of one sync without a configuration file."""

from __future__ import annotations

from typing import Any

from lsyncd_sd.config.model import Delete, MaxDeletes, RsyncOptions, SshOptions, Sync, Target, TargetKind

ARCHIVE_FLAGS = ("-l", "-p", "-t", "-g", "-o", "-D")
"""What `archive: true` gives, without the recursion that each run's shape decides."""

PLAIN_RSYNC = RsyncOptions("rsync", ARCHIVE_FLAGS, ())
PLAIN_SSH = SshOptions("ssh", None, None, None, (), ())


def local_target(path: str) -> Target:
    """Return a target on this machine."""
    return Target(path, TargetKind.LOCAL, "", path)


def make_sync(**changes: Any) -> Sync:
    """Return a sync from /source to /target with every default; `changes` replaces single fields."""
    values: dict[str, Any] = {
        "name": "home",
        "source": "/source",
        "target": local_target("/target"),
        "mode": "rsync",
        "delay": 5.0,
        "max_changes": 1000,
        "max_processes": None,
        "open_file_delay": 300.0,
        "watch_modify": True,
        "batch_size_limit": None,
        "delete": Delete.ALWAYS,
        "exclude": (),
        "timeout": 0,
        "exit_codes": (),
        "log_level": "info",
        "max_deletes": MaxDeletes(percent=50),
        "rsync": PLAIN_RSYNC,
        "ssh": PLAIN_SSH,
        "file_stem": "home",
    }
    return Sync(**(values | changes))
