# SPDX-License-Identifier: GPL-2.0-or-later
"""The options that every rsync command begins with: those of the sync and of both ends, not of the run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lsyncd_sd.config.model import SshOptions, Sync, TargetKind

# ssh must fail rather than ask, and notice a peer that is gone: a minute without an answer ends it.
# Given after the user's own options: of two settings ssh takes the first.
_SSH_DEFAULTS = (
    ("BatchMode", "yes"),
    ("ConnectTimeout", "30"),
    ("ServerAliveInterval", "15"),
    ("ServerAliveCountMax", "4"),
)

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


def common_options(sync: Sync, traits: Traits, source_root: str) -> list[str]:
    """Return the program and its first options; filter rules, and what the run is for, go behind them.

    `source_root` is the real path of the source.
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
        options += ["-e", ssh_command(sync.ssh) if sync.rsync.rsh is None else sync.rsync.rsh]
    return options


def _confines_target_too(sync: Sync) -> bool:
    """Tell whether confining would keep rsync from the files it needs beside the target's.

    Where both ends are one program, all of it is confined. Then what should get a backup is not deleted, and
    nothing is said of it; and no finished file comes out of its temporary place (3.5.0).
    """
    needed = ("backup", "backup_dir", "temp_dir", "partial_dir")
    return sync.target.kind is TargetKind.LOCAL and any(sync.rsync.is_given(key) for key in needed)


def ssh_command(ssh: SshOptions) -> str:
    """Return the ssh command as rsync's -e takes it: words, quoted by rsync's rules, not by a shell's."""
    words = [ssh.binary]
    if ssh.port is not None:
        words += ["-p", str(ssh.port)]
    if ssh.identity_file is not None:
        # Without IdentitiesOnly an agent's keys are tried first, and too many of them end the login.
        words += ["-i", ssh.identity_file, "-o", "IdentitiesOnly=yes"]
    if ssh.user is not None:
        words += ["-l", ssh.user]
    for name, value in (*ssh.options, *_SSH_DEFAULTS):
        words += ["-o", f"{name}={value}"]
    return " ".join(_quote(word) for word in (*words, *ssh.extra))


def _quote(word: str) -> str:
    """Quote one word for -e: rsync(1) splits at spaces outside quotes; a quote inside quotes is doubled."""
    if word and not re.search(r"[\s'\"]", word):
        return word
    return "'" + word.replace("'", "''") + "'"
