# SPDX-License-Identifier: GPL-2.0-or-later
"""rsync, targets and lines that fail in every way: the right state, tried again, and nothing lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.comparing import age, tree
from helpers.daemon import UNLIMITED, Daemon, settings, text_of
from helpers.fakersync import FakeRsync
from helpers.servers import ADDRESS, RsyncDaemon, Sshd
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon, needs_root

pytestmark = pytest.mark.live


# Exit status, what rsync says on stderr, and the state that follows.
OUTCOMES = [
    (1, "", "failing"),
    (2, "", "failing"),
    (3, "", "failing"),
    (4, "", "failing"),
    (5, "", "unreachable"),
    (6, "", "failing"),
    (10, "", "unreachable"),
    (11, "rsync: write failed: Input/output error (5)", "failing"),
    (11, 'rsync: [receiver] write failed on "x": No space left on device (28)', "target-full"),
    (12, "", "unreachable"),
    (13, "", "failing"),
    (19, "", "failing"),
    (20, "", "failing"),
    (23, "rsync: something that nobody has heard of", "failing"),
    (23, 'rsync: [receiver] mkstemp "x" failed: Disk quota exceeded (122)', "target-full"),
    (25, "", "held"),
    (30, "", "unreachable"),
    (35, "", "unreachable"),
    (126, "", "failing"),
    (127, "", "failing"),
    (255, "ssh: connect to host: Connection refused", "unreachable"),
    ("die", "", "failing"),
]

# These wait for a person, so their first retry is late: the test asks for it.
PATIENT = ("target-full", "held")

# Enough for rsync to be at it when the test comes to kill it.
BIG = os.urandom(2_000_000)
SLOW = {"bwlimit": 1500, "whole_file": True}


class Case:
    """One sync with a fake rsync."""

    def __init__(self, folder: Path, number: int, outcome: tuple[int | str, str, str]) -> None:
        self.mode, self.errors, self.state = outcome
        self.name = f"sync{number}"
        self.folder = folder / self.name
        self.source = self.folder / "source"
        self.source.mkdir(parents=True)
        (self.source / "file").write_text("file")
        (self.source / "gone").mkdir()
        (self.source / "gone" / "file").write_text("file")
        self.target = self.folder / "target"
        self.fake = FakeRsync(self.folder / "fake")

    def fail(self) -> None:
        """Fail from now on."""
        self.fake.become(self.mode, self.errors)

    def change(self) -> None:
        """Change something of each kind."""
        (self.source / "file").write_text("changed")
        (self.source / "new").write_text("new")
        shutil.rmtree(self.source / "gone")

    def settings(self) -> dict[str, object]:
        """Return the mapping for a configuration file."""
        return settings(self.source, self.target, name=self.name, rsync={"binary": str(self.fake.path)})


def recover(running: Daemon, cases: list[Case]) -> None:
    """Let every rsync work again, and wait until everything is mirrored."""
    for case in cases:
        case.fake.become("pass")
        if case.state in PATIENT:
            assert running.command("restart", case.name).returncode == 0
    for case in cases:
        running.wait_until_mirrored(case.name, case.source, case.target)


@pytest.fixture
def cases(folder: Path) -> list[Case]:
    """One sync for each outcome: they fail and wait side by side."""
    return [Case(folder, number, outcome) for number, outcome in enumerate(OUTCOMES)]


def test_every_exit_status_in_the_full_sync(cases: list[Case], daemon: StartDaemon) -> None:
    for case in cases:
        case.fail()
    running = daemon(*(case.settings() for case in cases))
    for case in cases:
        running.wait_for_state(case.name, case.state)
    recover(running, cases)


def test_every_exit_status_in_a_batch(cases: list[Case], daemon: StartDaemon) -> None:
    running = daemon(*(case.settings() for case in cases))
    for case in cases:
        running.wait_until_mirrored(case.name, case.source, case.target)
        case.fail()
        case.change()
    for case in cases:
        running.wait_for_state(case.name, case.state)
        assert running.status(case.name)["pending"] > 0
    recover(running, cases)


def test_hanging_rsync_stops_nobody_else(folder: Path, daemon: StartDaemon, full: bool) -> None:
    hung, healthy = (Case(folder, number, ("hang", "", "")) for number in range(2))
    hung.fail()
    running = daemon(hung.settings(), healthy.settings())
    running.wait_until_mirrored(healthy.name, healthy.source, healthy.target)
    healthy.change()
    running.wait_until_mirrored(healthy.name, healthy.source, healthy.target)
    hung.fake.become("pass")
    assert running.command("restart", hung.name).returncode == 0
    if not full:
        # a process that is told to end gives what it has started ten seconds
        running.signal_named("sleep", signal.SIGKILL)
    running.wait_until_mirrored(hung.name, hung.source, hung.target)


def test_rsync_that_is_not_installed(local: Pair, daemon: StartDaemon, folder: Path) -> None:
    (local.source / "file").write_text("file")
    running = daemon(local.settings(rsync={"binary": str(folder / "rsync")}))
    status = running.wait_for_state("home", "failing")
    assert str(folder / "rsync") in status["reason"]
    (folder / "rsync").symlink_to(shutil.which("rsync") or "")
    running.wait_until_mirrored("home", local.source, local.target)


# ---------------------------------------------------------------------- killed


def temporary_files(target: Path) -> list[Path]:
    """Return the files that an rsync under way, or one that was killed, has on the target."""
    return [path for path in target.rglob(".*") if re.fullmatch(r"\..+\.[A-Za-z0-9]{6}", path.name)]


@pytest.mark.parametrize("when", ["full sync", "new file", "new directory"])
def test_killed_rsync_is_run_again(local: Pair, daemon: StartDaemon, when: str) -> None:
    (local.source / "directory").mkdir()
    (local.source / "small").write_text("small")
    if when == "full sync":
        (local.source / "directory" / "big").write_bytes(BIG)
        running = daemon(local.settings(rsync=SLOW))
    else:
        running = daemon(local.settings(rsync=SLOW))
        running.wait_until_mirrored("home", local.source, local.target)
        folder = local.source / "directory"
        if when == "new directory":
            folder = local.source.parent / "aside"
            folder.mkdir()
        (folder / "big").write_bytes(BIG)
        if when == "new directory":
            folder.rename(local.source / "directory" / "new")
    wait_until(lambda: temporary_files(local.target), "rsync writes", describe=running.log)
    running.signal_named("rsync", signal.SIGKILL)
    running.wait_until_mirrored("home", local.source, local.target)
    assert temporary_files(local.target) == []


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_process_of_rsync_is_killed(local: Pair, daemon: StartDaemon, index: int) -> None:
    (local.source / "big").write_bytes(BIG)
    running = daemon(local.settings(rsync=SLOW))
    wait_until(lambda: temporary_files(local.target), "rsync writes", describe=running.log)
    running.signal_named("rsync", signal.SIGKILL, slice(index, index + 1))
    running.wait_until_mirrored("home", local.source, local.target)
    assert temporary_files(local.target) == []


# ---------------------------------------------------------------------- permissions


@pytest.fixture
def unprivileged(daemons: Callable[..., Daemon]) -> Daemon:
    """A daemon that file modes hold for, although it is root's; not started yet."""
    needs_root()
    without = "-dac_override,-dac_read_search"
    return daemons(prefix=["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"])


def start(daemon: Daemon, pair: Pair, **more: Any) -> None:
    """Start a daemon on this one sync."""
    age(pair.source)
    daemon.write("home", text_of(pair.settings(**more)))
    daemon.start("home")


def test_unreadable_file_blocks_nothing_else(local: Pair, unprivileged: Daemon, full: bool) -> None:
    (local.source / "directory").mkdir()
    (local.source / "directory" / "gone").write_text("deleted below")
    (local.source / "directory" / "file").write_text("first")
    (local.source / "directory" / "secret").write_text("secret")
    (local.source / "directory" / "secret").chmod(0)
    start(unprivileged, local)
    unprivileged.wait_for_state("home", "failing", "degraded")
    (local.source / "directory" / "gone").unlink()
    (local.source / "directory" / "file").write_text("second")
    (local.source / "new" / "below").mkdir(parents=True)
    (local.source / "new" / "below" / "secret").write_text("another secret")
    (local.source / "new" / "below" / "secret").chmod(0)
    (local.source / "new" / "below" / "file").write_text("new")

    def rest_is_mirrored() -> bool:
        wanted = tree(local.source, lambda path: path.endswith(b"secret"))
        found = tree(local.target)
        # times of directories follow once everything in them is there
        return {(path, facts[-1]) for path, facts in wanted.items()} == {
            (path, facts[-1]) for path, facts in found.items()
        }

    wait_until(rest_is_mirrored, "all the rest is mirrored", describe=unprivileged.log)
    # the quick profile does not wait for the third try
    states = ("degraded",) if full else ("failing", "degraded")
    assert "secret" in unprivileged.wait_for_state("home", *states)["reason"]
    for place in ("directory", "new/below"):
        (local.source / place / "secret").chmod(0o600)
    unprivileged.wait_until_mirrored("home", local.source, local.target)


def test_unreadable_directory_is_mirrored_once_it_can_be_read(local: Pair, unprivileged: Daemon) -> None:
    (local.source / "closed" / "below").mkdir(parents=True)
    (local.source / "closed" / "below" / "file").write_text("first")
    (local.source / "closed").chmod(0)
    start(unprivileged, local)
    unprivileged.wait_for_state("home", "failing", "degraded")
    (local.source / "other").write_text("other")
    wait_until((local.target / "other").exists, "the rest is mirrored", describe=unprivileged.log)
    (local.source / "closed").chmod(0o755)
    unprivileged.wait_until_mirrored("home", local.source, local.target)
    # it must be watched by now
    (local.source / "closed" / "below" / "file").write_text("second")
    unprivileged.wait_until_mirrored("home", local.source, local.target)


def test_unreadable_file_in_an_existing_target_does_not_stand_for_the_full_sync(
    local: Pair, unprivileged: Daemon
) -> None:
    # the only file there is, so the one that the target's abilities are tried with
    (local.source / "secret").write_text("secret")
    os.utime(local.source / "secret", ns=(0, 1_444_444_444_444_444_444))
    (local.source / "directory").mkdir()
    (local.target / "extra").mkdir(parents=True)
    os.chown(local.source / "secret", 1, 1)
    (local.source / "secret").chmod(0o600)
    start(unprivileged, local, brake=UNLIMITED)
    wait_until((local.target / "directory").exists, "the rest is mirrored", describe=unprivileged.log)
    wait_until(lambda: not (local.target / "extra").exists(), "extra is deleted", describe=unprivileged.log)


def test_what_a_foreign_target_holds_is_seen_past_an_unreadable_directory(
    local: Pair, unprivileged: Daemon
) -> None:
    """A run that meets it deletes nothing, and so a dry run shows nothing; but its repetition would."""
    (local.source / "closed").mkdir()
    (local.source / "closed").chmod(0)
    (local.source / "file").write_text("file")
    (local.target / "foreign").mkdir(parents=True)
    start(unprivileged, local)
    reason = unprivileged.wait_for_state("home", "held")["reason"]
    assert "would delete 1 entry on the target: foreign/" in reason
    assert unprivileged.command("accept", "home").returncode == 0
    unprivileged.wait_for_state("home", "degraded")
    assert {path.name for path in local.target.iterdir()} == {"file", "closed"}
    (local.source / "closed").chmod(0o755)
    unprivileged.wait_until_mirrored("home", local.source, local.target)


def test_modes_that_keep_rsync_out_are_put_right(local: Pair, unprivileged: Daemon) -> None:
    (local.source / "directory").mkdir()
    (local.source / "directory" / "file").write_text("first")
    (local.source / "gone").write_text("gone")
    start(unprivileged, local)
    unprivileged.wait_until_mirrored("home", local.source, local.target)
    (local.target / "directory").chmod(0o555)
    (local.target / "directory" / "file").chmod(0o400)
    (local.source / "directory" / "file").write_text("second")
    (local.source / "directory" / "new").write_text("new")
    (local.source / "gone").unlink()
    (local.source / "file").write_text("file")
    wait_until((local.target / "file").exists, "the rest is mirrored", describe=unprivileged.log)
    unprivileged.wait_until_mirrored("home", local.source, local.target)


# ---------------------------------------------------------------------- targets


@pytest.fixture
def small_file_system(folder: Path) -> Iterator[Path]:
    """A file system with room for one mebibyte."""
    needs_root()
    place = folder / "target"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "lsyncd-sd-test", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_full_target(small_file_system: Path, local: Pair, daemon: StartDaemon, full: bool) -> None:
    (local.source / "file").write_text("first")
    running = daemon(local.settings())
    running.wait_until_mirrored("home", local.source, local.target)
    (local.source / "big").write_bytes(BIG)
    (local.source / "file").write_text("second")
    status = running.wait_for_state("home", "target-full")
    assert "No space left on device" in status["reason"]
    assert status["pending"] > 0
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_file_system)], check=True)
    if not full:
        # it would look by itself, but not within the first quarter of a minute
        assert running.command("restart", "home").returncode == 0
    running.wait_until_mirrored("home", local.source, local.target)
    assert temporary_files(local.target) == []


def test_sshd_that_is_down(sshd: Sshd, local: Pair, daemon: StartDaemon) -> None:
    address = f"{ADDRESS}:{local.target}"
    (local.source / "file").write_text("first")
    running = daemon(settings(local.source, address, name="home", ssh=sshd.section()))
    running.wait_until_mirrored("home", local.source, local.target)
    sshd.stop()
    (local.source / "file").write_text("second")
    (local.source / "new").mkdir()
    status = running.wait_for_state("home", "unreachable")
    assert "refused" in status["reason"]
    (local.source / "file").unlink()
    sshd.start()
    running.wait_until_mirrored("home", local.source, local.target)
    assert running.status("home")["restarts"] == 0


def test_wrong_host_key(sshd: Sshd, local: Pair, daemon: StartDaemon) -> None:
    (local.source / "file").write_text("first")
    sshd.know_another_host()
    running = daemon(settings(local.source, f"{ADDRESS}:{local.target}", name="home", ssh=sshd.section()))
    running.wait_for_state("home", "unreachable")
    assert not local.target.exists()
    sshd.know_host("host_key")
    running.wait_until_mirrored("home", local.source, local.target)


def test_rsync_daemon_that_is_down(rsyncd: RsyncDaemon, local: Pair, daemon: StartDaemon) -> None:
    address = f"rsync://{ADDRESS}:{rsyncd.port}/mirror/tree"
    (local.source / "file").write_text("first")
    running = daemon(settings(local.source, address, name="home"))
    running.wait_until_mirrored("home", local.source, rsyncd.module / "tree")
    rsyncd.stop()
    (local.source / "file").write_text("second")
    running.wait_for_state("home", "unreachable")
    rsyncd.start()
    running.wait_until_mirrored("home", local.source, rsyncd.module / "tree")


def test_unknown_module_of_an_rsync_daemon(rsyncd: RsyncDaemon, local: Pair, daemon: StartDaemon) -> None:
    (local.source / "file").write_text("first")
    running = daemon(settings(local.source, f"rsync://{ADDRESS}:{rsyncd.port}/nonsense/x", name="home"))
    status = running.wait_for_state("home", "unreachable", "failing")
    assert "Unknown module" in status["reason"]


# ---------------------------------------------------------------------- the queue


@pytest.fixture
def short_queues() -> Iterator[Callable[[], None]]:
    """Give every new inotify queue room for a few events only, until the returned function is called."""
    needs_root()
    setting = Path("/proc/sys/fs/inotify/max_queued_events")
    before = setting.read_text()
    setting.write_text("16")
    yield lambda: setting.write_text(before) and None
    setting.write_text(before)


@pytest.mark.alone
def test_overflow(short_queues: Callable[[], None], local: Pair, daemon: StartDaemon) -> None:
    for number in range(20):
        (local.source / f"directory{number}").mkdir()
    running = daemon(local.settings())
    running.wait_until_mirrored("home", local.source, local.target)
    short_queues()
    child = running.child("home")
    os.kill(child, signal.SIGSTOP)
    for number in range(20):
        (local.source / f"directory{number}" / "file").write_text("file")
        (local.source / f"directory{number}").rename(local.source / f"moved{number}")
        (local.source / f"moved{number}" / "new" / "below").mkdir(parents=True)
    os.kill(child, signal.SIGCONT)
    wait_until(lambda: "overflowed" in running.log(), "the overflow is seen", describe=running.log)
    running.wait_until_mirrored("home", local.source, local.target)
    assert running.child("home") == child
    for number in range(20):
        (local.source / f"moved{number}" / "new" / "below" / "late").write_text("is it watched?")
    running.wait_until_mirrored("home", local.source, local.target)
