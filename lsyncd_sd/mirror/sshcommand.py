# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command line of ssh: that logs in by itself, that keeps a connection, that goes over one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lsyncd_sd.config.model import SshOptions, Target

# ssh must fail rather than ask, and notice a peer that is gone: a minute without an answer ends it.
# Given after the user's own options: of two settings ssh takes the first.
_DEFAULTS = (
    ("BatchMode", "yes"),
    ("ConnectTimeout", "30"),
    ("ServerAliveInterval", "15"),
    ("ServerAliveCountMax", "4"),
)

READY = b"ready"
"""What the command that keeps a connection prints once others can go over it."""

# To ssh's 108 bytes for the address of a socket belong 17 that it appends while it makes it.
LONGEST_SOCKET = 90

# Given before the user's own options: what these would change is what the connection is there for.
_KEEPING = (
    ("ControlMaster", "yes"),
    # A child of ours in the foreground, which ends when we say so or die.
    ("ControlPersist", "no"),
    ("ForkAfterAuthentication", "no"),
    # Run when the socket is there.
    ("PermitLocalCommand", "yes"),
    ("LocalCommand", f"echo {READY.decode()}"),
)

# Without these it would log in by itself where there is no connection.
_GOING_OVER = (("ControlMaster", "no"), ("ProxyCommand", "false"), ("BatchMode", "yes"))


def login_command(ssh: SshOptions) -> list[str]:
    """Return the words of an ssh that logs in by itself; a host goes behind them."""
    return [ssh.binary, *_settings(ssh)]


def keeping_command(ssh: SshOptions, target: Target, socket: Path) -> list[str]:
    """Return the command that logs in and lets others go over its connection, by this socket."""
    words = [ssh.binary, "-N", "-S", str(socket), *_options(_KEEPING), *_settings(ssh)]
    if target.user:
        words += ["-l", target.user]
    return [*words, "--", target.host]


def over_command(ssh: SshOptions, socket: Path) -> list[str]:
    """Return the words of an ssh that goes over the connection of this socket; a host goes behind them.

    How to log in is none of its business, and not what a file of ssh says about sessions, either: the one
    configuration of ssh is that of the command that has logged in.
    """
    return [ssh.binary, "-F", "none", "-S", str(socket), *_options(_GOING_OVER)]


def remote_shell(words: Sequence[str]) -> str:
    """Return a command as rsync's -e takes it: words, quoted by rsync's rules, not by a shell's."""
    return " ".join(_quote(word) for word in words)


def _settings(ssh: SshOptions) -> list[str]:
    words = []
    if ssh.port is not None:
        words += ["-p", str(ssh.port)]
    if ssh.identity_file is not None:
        # Without IdentitiesOnly an agent's keys are tried first, and too many of them end the login.
        words += ["-i", ssh.identity_file, "-o", "IdentitiesOnly=yes"]
    if ssh.user is not None:
        words += ["-l", ssh.user]
    return [*words, *_options((*ssh.options, *_DEFAULTS)), *ssh.extra]


def _options(options: tuple[tuple[str, str], ...]) -> list[str]:
    return [word for name, value in options for word in ("-o", f"{name}={value}")]


def _quote(word: str) -> str:
    """Quote one word for -e: rsync(1) splits at spaces outside quotes; a quote inside quotes is doubled."""
    if word and not re.search(r"[\s'\"]", word):
        return word
    return "'" + word.replace("'", "''") + "'"
