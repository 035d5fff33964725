# SPDX-License-Identifier: GPL-2.0-or-later
"""After a gap in watching only what changed meanwhile is sent; where it cannot be known, all is compared."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.comparing import age
from helpers.daemon import Daemon, text_of
from helpers.waiting import DEADLINE, wait_until
from live.conftest import Pair, StartDaemon

from lsyncd_sd.service.checkpoint import SLACK_NS

pytestmark = pytest.mark.live

SNAPSHOT = "home/home.rescan/snapshot"


def plant(source: Path) -> None:
    """Make a tree that is old enough not to be looked at again for its times."""
    for name in ("a", "b", "a/deep"):
        (source / name).mkdir(parents=True)
        for number in range(5):
            (source / name / f"file{number}").write_text(f"{name} {number}")


def start(pair: Pair, daemon: StartDaemon, **more: object) -> Daemon:
    """Start a daemon and wait until it is in sync and has written down what a rescan needs."""
    plant(pair.source)
    running = daemon(pair.settings(**more))
    running.wait_until_mirrored("home", pair.source, pair.target)
    wait_for_checkpoint(running)
    return running


def wait_for_checkpoint(running: Daemon) -> None:
    wait_until((running.state / SNAPSHOT).exists, "a checkpoint is written", describe=running.log)


def kill(running: Daemon) -> None:
    running.kill()
    wait_until(lambda: not running.processes(), "all its processes are gone")


def full_syncs(running: Daemon) -> int:
    return running.log().count("(full sync)")


def change(source: Path) -> None:
    """Change a little of everything."""
    (source / "a/file1").write_text("changed")
    (source / "a/file2").unlink()
    (source / "b/new").write_text("new")
    shutil.rmtree(source / "a/deep")
    (source / "b").rename(source / "moved")
    os.link(source / "a/file3", source / "a/linked")


@pytest.mark.parametrize("when", ["child", "parent", "stopped"])
def test_what_changed_while_nobody_watched_arrives_without_a_full_sync(
    pair: Pair, daemon: StartDaemon, when: str
) -> None:
    running = start(pair, daemon)
    if when == "child":
        child = running.child("home")
        running.signal(signal.SIGSTOP)
        os.kill(child, signal.SIGKILL)
        change(pair.source)
        running.signal(signal.SIGCONT)
    else:
        if when == "parent":
            kill(running)
        else:
            running.stop()
        change(pair.source)
        running.start("home")
    wait_until(lambda: "looked through the source" in running.log(), "a rescan", describe=running.log)
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert full_syncs(running) == 1


def test_only_what_changed_is_sent(local: Pair, daemons: Callable[..., Daemon]) -> None:
    plant(local.source)
    age(local.source)
    young = time.time_ns() + SLACK_NS
    wait_until(lambda: time.time_ns() > young, "the tree is older than the slack", DEADLINE)
    running = daemons()
    running.write("home", text_of(local.settings()))
    running.start("home")
    running.wait_until_mirrored("home", local.source, local.target)
    wait_for_checkpoint(running)
    running.stop()
    (local.source / "a/file1").write_text("changed")
    before = inodes(local.target)
    running.start("home")
    running.wait_until_mirrored("home", local.source, local.target)
    after = inodes(local.target)
    assert full_syncs(running) == 1
    assert {path for path in after if before.get(path) != after[path]} == {"a/file1"}


def test_what_is_only_deleted_at_a_start_is_deleted_at_each(local: Pair, daemon: StartDaemon) -> None:
    running = start(local, daemon, delete="startup")
    (local.source / "a/file1").unlink()
    (local.source / "a/new").touch()
    wait_until((local.target / "a/new").exists, "what came after it", describe=running.log)
    assert (local.target / "a/file1").exists()
    running.stop()
    (local.source / "b/file2").unlink()
    running.start("home")
    running.wait_until_mirrored("home", local.source, local.target)
    assert full_syncs(running) == 2
    assert not (local.target / "a/file1").exists()
    assert not (local.target / "b/file2").exists()


def inodes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_ino for path in root.rglob("*")}


def tear(state: Path) -> None:
    snapshot = state / SNAPSHOT
    snapshot.write_bytes(snapshot.read_bytes()[:-5])


def lose(state: Path) -> None:
    shutil.rmtree(state / "home/home.rescan")


def lose_intents(state: Path) -> None:
    for path in (state / "home/home.rescan").glob("intents-*"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"), [(tear, "torn or damaged"), (lose, "nothing is known"), (lose_intents, "missing")]
)
def test_a_state_that_cannot_be_trusted_means_a_full_sync(
    local: Pair, daemon: StartDaemon, spoil: Callable[[Path], None], reason: str
) -> None:
    running = start(local, daemon)
    running.stop()
    change(local.source)
    spoil(running.state)
    running.start("home")
    running.wait_until_mirrored("home", local.source, local.target)
    assert full_syncs(running) == 2
    assert re.search(f"full-sync: .*{reason}", running.log())


def test_another_configuration_means_a_full_sync(local: Pair, daemon: StartDaemon) -> None:
    running = start(local, daemon)
    running.stop()
    (local.source / "a/excluded").write_text("now it is one of ours")
    running.write("home", text_of(local.settings(rsync={"perms": False, "times": True})))
    running.start("home")
    running.wait_for("home", lambda status: status.get("batches", 0) > 0, "a full sync")
    assert re.search("full-sync: .*settings have changed", running.log())


def test_an_emptied_source_is_held_and_not_rescanned(local: Pair, daemon: StartDaemon) -> None:
    running = start(local, daemon)
    running.stop()
    before = inodes(local.target)
    for path in local.source.iterdir():
        shutil.rmtree(path)
    running.start("home")
    running.wait_for_state("home", "held")
    assert inodes(local.target) == before


def test_what_a_killed_batch_left_is_removed_where_nothing_is_deleted(
    local: Pair, daemon: StartDaemon
) -> None:
    running = start(local, daemon, delete=False, rsync={"bwlimit": "500"})
    (local.source / "a/file1").write_bytes(os.urandom(1_000_000))

    def half_sent() -> list[Path]:
        return list(local.target.glob("a/.file1.??????"))

    wait_until(half_sent, "rsync writes", describe=running.log)
    child = running.child("home")
    # All at once, as when the machine stops: rsync has no time to remove it.
    os.kill(child, signal.SIGSTOP)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        running.signal_named("rsync", number)
    os.kill(child, signal.SIGKILL)
    running.wait_until_mirrored("home", local.source, local.target)
    wait_until(lambda: not half_sent(), "it is removed", describe=running.log)
    assert full_syncs(running) == 1
