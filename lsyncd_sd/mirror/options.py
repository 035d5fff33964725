# SPDX-License-Identifier: GPL-2.0-or-later
"""The options that every rsync command begins with: those of the sync and of both ends, not of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lsyncd_sd.config.model import Sync, TargetKind
from lsyncd_sd.mirror.sshcommand import login_command, remote_shell

# Seconds to wait for a daemon to accept: rsync's own default is for ever.
_DAEMON_CONNECT_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known about the two ends, found out by trying (docs/rsync.md).

    `nanoseconds`: the target keeps them, None while not known. `secluded`: it takes `-s`, which rrsync
    does not. `confines`: our rsync knows `--confine-root`.
    """

    nanoseconds: bool | None = None
    secluded: bool = True
    confines: bool = False


def common_options(
    sync: Sync, traits: Traits, source_root: str, connection: Sequence[str] | None = None
) -> list[str]:
    """Return the program and its first options; filter rules, and what the run is for, go behind them.

    `source_root` is the real path of the source, `connection` an ssh that goes over one that is there.
    """
    # --no-human-readable: figures that can be parsed, whatever the build's default is.
    options = [sync.rsync.binary, *sync.rsync.flags, "--no-human-readable"]
    # -s: names never pass through the remote shell.
    options.append("-s" if traits.secluded and not sync.rsync.is_off("protect_args") else "--no-s")
    if traits.nanoseconds and traits.secluded:
        options.append("--modify-window=-1")
    if sync.rsync.is_on("hard_links"):
        # With -H and its list made bit by bit, rsync waits for itself for ever when a linked file changes
        # under it (docs/rsync.md).
        options.append("--no-inc-recursive")
    if traits.confines and not _confines_target_too(sync):
        options.append(f"--confine-root={source_root}")
    if sync.timeout:
        options.append(f"--timeout={sync.timeout}")
    if sync.target.kind is TargetKind.DAEMON:
        options.append(f"--contimeout={_DAEMON_CONNECT_TIMEOUT}")
    if sync.target.kind is TargetKind.SSH:
        ssh = remote_shell(connection or login_command(sync.ssh))
        options += ["-e", ssh if sync.rsync.rsh is None else sync.rsync.rsh]
    return options


def _confines_target_too(sync: Sync) -> bool:
    """Tell whether confining would keep rsync from the files it needs beside the target's.

    Where both ends are one program, all of it is confined. Then what should get a backup is not deleted, and
    nothing is said of it; and no finished file comes out of its temporary place (3.5.0).
    """
    needed = ("backup", "backup_dir", "temp_dir", "partial_dir")
    return sync.target.kind is TargetKind.LOCAL and any(sync.rsync.is_given(key) for key in needed)
