# SPDX-License-Identifier: GPL-2.0-or-later
"""Where nothing is deleted: what killed runs have left on the target goes, on each kind of target."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.comparing import ARCHIVE
from helpers.daemon import Daemon
from helpers.fakersync import FakeRsync
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

# More than the marks that are kept one by one: beyond, the directory is taken as a whole.
MANY = 100_001

# Marks that are left then: of that directory, and of what is on its way.
FEW = 100

# What ends such a run as a whole: how, and what it says on stderr.
FAULTS = [
    ("die", ""),
    (12, ""),
    (23, "rsync: something that nobody has heard of"),
    (23, 'rsync: [receiver] write failed on "x": No space left on device (28)'),
]


class Foreign:
    """What somebody else keeps on the target under names that look like temporary ones."""

    def __init__(self, pair: Pair, *names: str) -> None:
        self._pair = pair
        self._names = names
        for name in names:
            (pair.target / name).write_text("somebody else's")

    def is_all_that_is_left(self, running: Daemon) -> bool:
        """Wait until all is mirrored; tell whether on the target nothing else has such a name."""
        running.wait_until_mirrored(
            "home",
            self._pair.source,
            self._pair.target,
            (*ARCHIVE, *(f"--filter=P /{name}" for name in self._names)),
            is_ignored=lambda path: path.decode() in self._names,
        )
        found = {str(path.relative_to(self._pair.target)) for path in self._pair.target.rglob(".*.*")}
        return found == set(self._names)


def test_what_killed_runs_left(pair: Pair, folder: Path, daemon: StartDaemon) -> None:
    fake = FakeRsync(folder / "fake")
    (pair.source / "d" / "e").mkdir(parents=True)
    for name in ("d/file", "d/e/.dot", "d/e/end."):
        (pair.source / name).write_text(name)
    running = daemon(pair.settings(delete=False, rsync={"binary": str(fake.path)}))
    running.wait_until_mirrored("home", pair.source, pair.target)
    foreign = Foreign(pair, "d/.nobody.aZ09bc", "d/e/.file.aZ09bc", "d/.e.aZ09bc")

    # a full sync
    fake.become("gate")
    assert running.command("sync", "home", "--full").returncode == 0
    let_go_until(fake, lambda: "-r" in fake.waiting_arguments())
    for name in ("d/.file.aZ09bc", "d/e/.dot.aZ09bc", "d/e/.end.aZ09bc"):
        (pair.target / name).write_text("half")
    fake.let_go("die")
    fake.become("pass")
    assert foreign.is_all_that_is_left(running)

    # a new directory
    fake.become("gate")
    (pair.source / "new" / "below").mkdir(parents=True)
    (pair.source / "new" / "below" / "file").write_text("new")
    let_go_until(fake, lambda: "-r" in fake.waiting_arguments())
    (pair.target / "new" / "below").mkdir(parents=True)
    (pair.target / "new" / "below" / ".file.aZ09bc").write_text("half")
    fake.let_go("die")
    fake.become("pass")
    assert foreign.is_all_that_is_left(running)


def let_go_until(fake: FakeRsync, is_wanted: Callable[[], bool]) -> None:
    """Let runs pass until the one that is wanted waits."""
    fake.wait_until_gated()
    while not is_wanted():
        fake.let_go("pass")
        fake.wait_until_gated()


def is_about(fake: FakeRsync, directory: str) -> bool:
    """Tell whether the run that waits is to send all that a directory holds."""
    is_level = "--existing" in fake.waiting_arguments()
    return not is_level and f"./{directory}/".encode() in fake.waiting_list().split(b"\0")


def test_a_directory_that_is_taken_as_a_whole(local: Pair, folder: Path, daemon: StartDaemon) -> None:
    fake = FakeRsync(folder / "fake")
    many = local.source / "many"
    many.mkdir()
    (many / "file").write_text("file")
    # they are made and sent faster than files
    for number in range(MANY):
        (many / f"{number}").symlink_to("nowhere")
    running = daemon(local.settings(delete=False, rsync={"binary": str(fake.path)}))
    running.wait_until_mirrored("home", local.source, local.target)
    foreign = Foreign(local, "many/.nobody.aZ09bc")

    # while one run is held up, more changes come than are remembered
    fake.become("gate")
    (local.source / "first").write_text("first")
    fake.wait_until_gated()
    for number in range(MANY):
        os.utime(many / f"{number}", ns=(0, 10**18 + number), follow_symlinks=False)
    wait_until(lambda: running.status("home")["pending"] < FEW, "few changes are left", describe=running.log)

    for mode, errors in FAULTS:
        fake.become("gate", errors)
        let_go_until(fake, lambda: is_about(fake, "many"))
        (local.target / "many" / ".file.aZ09bc").write_text("half")
        fake.let_go(mode)
        wait_until(lambda: running.status("home")["failures"] > 0, "it has failed", describe=running.log)
        assert running.command("sync", "home").returncode == 0
    fake.become("pass")
    assert foreign.is_all_that_is_left(running)
