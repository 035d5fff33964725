# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources that are not what they seem: empty but for what does not count, or another directory by now."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.daemon import Daemon
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon, needs_root

pytestmark = pytest.mark.live

# The child looks at its source whenever it pings: make that a second.
QUICK_WATCHDOG = {"WATCHDOG_USEC": "6000000"}


def precious(pair: Pair) -> set[str]:
    """Put something into the target that nobody wants deleted."""
    pair.target.mkdir(parents=True, exist_ok=True)
    (pair.target / "precious").write_text("the only copy")
    return {"precious"}


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_new_file_system_is_an_empty_source(local: Pair, daemon: StartDaemon) -> None:
    (local.source / "lost+found").mkdir()
    before = precious(local)
    daemon(local.settings(exclude=["/lost+found"])).wait_for_state("home", "held")
    assert names(local.target) == before


def test_source_of_excluded_files_is_empty(local: Pair, daemon: StartDaemon) -> None:
    (local.source / "a.tmp").touch()
    before = precious(local)
    daemon(local.settings(exclude=["*.tmp"])).wait_for_state("home", "held")
    assert names(local.target) == before


def test_count_that_fails_deletes_nothing(local: Pair, daemon: StartDaemon, tmp_path: Path) -> None:
    before = precious(local)
    binary = tmp_path / "rsync-without-dry-run"
    binary.write_text('#!/bin/sh\ncase " $* " in *" -n "*) exit 12;; esac\nexec rsync "$@"\n')
    binary.chmod(0o755)
    running = daemon(local.settings(rsync={"binary": str(binary)}))
    running.wait_for_state("home", "unreachable")
    assert names(local.target) == before


def test_link_that_leads_elsewhere_is_noticed(
    local: Pair, daemons: Callable[..., Daemon], tmp_path: Path
) -> None:
    first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "link"
    for directory in (first, second):
        directory.mkdir()
        (directory / directory.name).touch()
    link.symlink_to(first)
    running = daemons()
    running.write("home", f"source: {link}\ntarget: {local.target}\ndelay: 0.1\n")
    running.start("home", variables=QUICK_WATCHDOG)
    running.wait_for_state("home", "in-sync")

    link.unlink()
    link.symlink_to(second)
    running.wait_for_state("home", "held")
    assert names(local.target) == {"first"}
    assert running.command("accept", "home").returncode == 0
    wait_until(lambda: names(local.target) == {"second"}, "the other one is mirrored", describe=running.log)
    (second / "later").touch()
    wait_until((local.target / "later").exists, "and watched", describe=running.log)


def test_a_shared_file_system_is_compared_now_and_then(local: Pair, daemon: StartDaemon) -> None:
    """What is changed behind a file system in user space raises no event on it, as on a network's."""
    needs_root()
    behind = local.source.parent / "behind"
    behind.mkdir()
    subprocess.run(["bindfs", behind, local.source], check=True)
    try:
        (local.source / "file").write_text("first")
        running = daemon(local.settings())
        status = running.wait_for_state("home", "degraded")
        assert f"{local.source} is on fuse" in status["reason"]
        assert "compared with the target every 10 minutes" in status["reason"]
        (local.source / "through").write_text("the mount")
        wait_until((local.target / "through").exists, "what is changed here arrives", describe=running.log)
        (behind / "other").write_text("of another host")
        assert running.command("sync", "home", "--wait").returncode == 0
        assert (local.target / "other").read_text() == "of another host"
        assert running.stop() == 0
    finally:
        subprocess.run(["umount", local.source], check=True)


def test_a_shared_file_system_below_is_compared_too(local: Pair, daemon: StartDaemon) -> None:
    needs_root()
    behind, below = local.source.parent / "behind", local.source / "below"
    behind.mkdir()
    below.mkdir()
    subprocess.run(["bindfs", behind, below], check=True)
    try:
        running = daemon(local.settings())
        assert f"{below} is on fuse" in running.wait_for_state("home", "degraded")["reason"]
        (behind / "other").write_text("of another host")
        assert running.command("sync", "home", "--wait").returncode == 0
        assert (local.target / "below/other").read_text() == "of another host"
        assert running.stop() == 0
    finally:
        subprocess.run(["umount", below], check=True)
