# SPDX-License-Identifier: GPL-2.0-or-later
"""`max_processes`: no more runs of rsync at the same time, and everything arrives all the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.comparing import age, tree
from helpers.daemon import Daemon, settings
from helpers.fakersync import FakeRsync
from helpers.waiting import wait_until

pytestmark = pytest.mark.live

MakeDaemon = Callable[..., Daemon]

# Whoever comes later sees the others: each of two at the same time would see only itself only if it was the
# first one.
COUNTING = """\
#!/bin/sh
mkdir {folder}/running/$$
ls {folder}/running | wc -l >> {folder}/counts
{rsync} "$@"
status=$?
rmdir {folder}/running/$$
exit $status
"""


class Counter:
    """A program to be run instead of rsync, which notes how many of it run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "running").mkdir(parents=True)
        self.path = folder / "rsync"
        self.path.write_text(COUNTING.format(folder=folder, rsync=shutil.which("rsync")))
        self.path.chmod(0o755)

    def counts(self) -> list[int]:
        """Return how many ran at each start."""
        return [int(line) for line in (self._folder / "counts").read_text().split()]


@pytest.fixture
def counter(folder: Path) -> Counter:
    return Counter(folder / "counter")


def plant(source: Path) -> None:
    """Make some files."""
    for name in ("a/file1", "a/file2", "b/deep/file3"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    age(source)


def write(daemon: Daemon, limit: int, *syncs: dict[str, Any]) -> None:
    """Write a file whose syncs share so many turns."""
    daemon.write("home", json.dumps({"defaults": {"max_processes": limit}, "syncs": list(syncs)}))


@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_of_a_sync_run(folder: Path, counter: Counter, daemons: MakeDaemon, limit: int) -> None:
    source, targets = folder / "source", [folder / f"target{number}" for number in range(3)]
    plant(source)
    running = daemons()
    sync = settings(source, "", rsync={"binary": str(counter.path)}, max_processes=limit)
    del sync["target"]
    running.write("home", json.dumps({**sync, "targets": [str(target) for target in targets]}))
    running.start("home")
    running.sync("home")
    for turn in range(3):
        (source / "a/file1").write_text(f"turn {turn}")
        (source / "b").rename(source / "c")
        running.sync("home")
        assert all(tree(target) == tree(source) for target in targets)
        (source / "c").rename(source / "b")
    running.sync("home")
    assert all(tree(target) == tree(source) for target in targets)
    assert max(counter.counts()) <= limit


def test_no_more_of_a_file_run(folder: Path, counter: Counter, daemons: MakeDaemon) -> None:
    names = ("one", "two", "three")
    for name in names:
        plant(folder / name)
    running = daemons()
    program = {"binary": str(counter.path)}
    write(
        running,
        1,
        *(settings(folder / name, folder / f"{name}-target", name=name, rsync=program) for name in names),
    )
    running.start("home")
    for turn in range(3):
        for name in names:
            (folder / name / "a/file1").write_text(f"turn {turn}")
        for name in names:
            running.sync(name)
            assert tree(folder / name) == tree(folder / f"{name}-target")
    assert set(counter.counts()) == {1}


def test_a_process_that_is_killed_gives_its_turn_back(folder: Path, daemons: MakeDaemon) -> None:
    fake = FakeRsync(folder / "fake")
    plant(folder / "hung")
    running = daemons()
    hung = settings(
        folder / "hung", folder / "hung-target", name="hung", rsync={"binary": str(fake.path)}, timeout=0
    )
    healthy = settings(folder / "healthy", folder / "healthy-target", name="healthy")
    write(running, 1, hung, healthy)
    running.start("home")
    running.wait_for_state("hung", "in-sync")
    # it was waited for: there is no turn to be had yet
    fake.become("hang")
    (folder / "hung/a/file1").write_text("changed")
    wait_until(lambda: running.processes_named("sleep"), "its run hangs", describe=running.log)
    plant(folder / "healthy")
    waiting = running.wait_for(
        "healthy", lambda status: "waits for its turn" in status["reason"], "the other one has to wait"
    )
    assert waiting["state"] == "starting"
    assert not (folder / "healthy-target").exists()
    fake.become("pass")
    os.kill(running.child("hung"), signal.SIGKILL)
    running.wait_until_mirrored("healthy", folder / "healthy", folder / "healthy-target")
    running.wait_until_mirrored("hung", folder / "hung", folder / "hung-target")


def test_a_reload_may_change_how_many_run(folder: Path, counter: Counter, daemons: MakeDaemon) -> None:
    plant(folder / "one")
    running = daemons()
    sync = settings(folder / "one", folder / "target", name="one", rsync={"binary": str(counter.path)})
    write(running, 1, sync)
    running.start("home")
    running.sync("one")
    snapshot = running.state / "home/one.rescan/snapshot"
    wait_until(snapshot.exists, "a checkpoint", describe=running.log)
    write(running, 2, sync)
    assert running.command("reload").stdout == "configuration read again; changed: one\n"
    (folder / "one/a/file1").write_text("changed")
    running.sync("one")
    assert tree(folder / "one") == tree(folder / "target")
    assert running.log().count("(full sync)") == 1, "what stands on the target is the same whatever runs"
