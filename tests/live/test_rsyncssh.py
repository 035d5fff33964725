# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves on a target over ssh, with a real sshd: what is renamed is renamed there, and no file is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.servers import ADDRESS, Sshd
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live


@pytest.fixture
def over_ssh(local: Pair, sshd: Sshd) -> Pair:
    """An empty source, and a target that is reached over a connection of ssh."""
    more = {"mode": "rsyncssh", "ssh": sshd.section()}
    return Pair(local.source, local.target, f"{ADDRESS}:{local.target}", more)


def inodes(root: Path) -> dict[str, int]:
    """Return the inode number of every file below `root`, by its path."""
    return {str(path.relative_to(root)): path.lstat().st_ino for path in root.rglob("*") if path.is_file()}


def test_100_directory_renames(over_ssh: Pair, sshd: Sshd, daemon: StartDaemon) -> None:
    for number in range(100):
        folder = over_ssh.source / f"directory{number}"
        folder.mkdir()
        for name in "abcde":
            (folder / name).write_text(f"{number} {name}")
    running = daemon(over_ssh.settings())
    running.wait_until_mirrored("home", over_ssh.source, over_ssh.target)
    before, sent = inodes(over_ssh.target), running.status("home")["files"]
    for number in range(100):
        (over_ssh.source / f"directory{number}").rename(over_ssh.source / f"renamed{number}")
    running.wait_until_mirrored("home", over_ssh.source, over_ssh.target)
    assert inodes(over_ssh.target) == {
        path.replace("directory", "renamed"): number for path, number in before.items()
    }
    assert running.status("home")["files"] == sent
