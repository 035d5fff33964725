# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems that come and go at and below a source: what they hid or held is not deleted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.comparing import tree
from helpers.daemon import Daemon
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon, needs_root

pytestmark = pytest.mark.live

# A child pings, and looks at the mounts, in a sixth of it.
QUICK_WATCHDOG = {"WATCHDOG_USEC": "6000000"}


class Mounts:
    """Mounts small file systems in memory, and unmounts what is left of them."""

    def __init__(self) -> None:
        self._places: list[Path] = []

    def mount(self, place: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "lsyncd-sd-test", place], check=True)
        self._places.append(place)

    def move(self, place: Path, to: Path) -> None:
        subprocess.run(["mount", "--move", place, to], check=True)
        self._places[self._places.index(place)] = to

    def unmount(self, place: Path) -> None:
        # Not lazily: nobody may keep it from being unmounted.
        subprocess.run(["umount", place], check=True)
        self._places.remove(place)

    def clear(self) -> None:
        for place in reversed(self._places):
            subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def mounts(folder: Path) -> Iterator[Mounts]:
    needs_root()
    made = Mounts()
    # Below a shared mount, as systemd makes them, nothing can be moved.
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "--make-private", folder], check=True)
    yield made
    made.clear()
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def parking(local: Pair, mounts: Mounts) -> Path:
    """A place for a file system that is not mounted, as it were: the same one can come back."""
    place = local.source.parent / "parking"
    place.mkdir()
    return place


def wait_until_held(running: Daemon, *words: str) -> None:
    """Wait for a hold whose reason holds these words."""
    status = running.wait_for(
        "home",
        lambda status: status.get("state") == "held" and all(word in status["reason"] for word in words),
        f"held with {words}",
    )
    assert status["reason"].endswith("lsyncd-sd accept home")


def accept(running: Daemon) -> None:
    accepted = running.command("accept", "home")
    assert (accepted.returncode, accepted.stderr) == (0, "")


def fill(place: Path) -> None:
    for index in range(5):
        (place / f"file{index}").write_text("on it")


def with_mount_below(local: Pair, mounts: Mounts, daemon: StartDaemon, **more: object) -> Daemon:
    (local.source / "disk").mkdir()
    (local.source / "beside").touch()
    mounts.mount(local.source / "disk")
    fill(local.source / "disk")
    running = daemon(local.settings(**more), variables=QUICK_WATCHDOG)
    running.wait_for_state("home", "in-sync")
    return running


def test_a_file_system_below_that_leaves_and_comes_back(
    local: Pair, mounts: Mounts, parking: Path, daemon: StartDaemon
) -> None:
    running = with_mount_below(local, mounts, daemon)
    before = tree(local.target)
    assert b"disk/file0" in before
    mounts.move(local.source / "disk", parking)
    (local.source / "beside").write_text("changed")
    wait_until_held(running, "not mounted any more: disk", "delete 5 entries on the target: disk/file0,")
    running.stop()
    running.start("home", variables=QUICK_WATCHDOG)
    wait_until_held(running, "not mounted any more: disk")
    assert tree(local.target) == before
    mounts.move(parking, local.source / "disk")
    running.wait_until_mirrored("home", local.source, local.target)
    assert (local.target / "disk" / "file0").exists()


def test_a_file_system_below_that_is_unmounted_for_good(
    local: Pair, mounts: Mounts, daemon: StartDaemon
) -> None:
    running = with_mount_below(local, mounts, daemon)
    before = tree(local.target)
    assert b"disk/file0" in before
    # no change but this one, of which the watches tell
    mounts.unmount(local.source / "disk")
    wait_until_held(running, "not mounted any more: disk")
    assert tree(local.target) == before
    accept(running)
    running.wait_until_mirrored("home", local.source, local.target)
    assert list((local.target / "disk").iterdir()) == []
    # and it is watched
    (local.source / "disk" / "new").touch()
    running.wait_until_mirrored("home", local.source, local.target)


def test_a_file_system_that_is_mounted_below(local: Pair, mounts: Mounts, daemon: StartDaemon) -> None:
    (local.source / "disk").mkdir()
    fill(local.source / "disk")
    running = daemon(local.settings(), variables=QUICK_WATCHDOG)
    running.wait_until_mirrored("home", local.source, local.target)
    before = tree(local.target)
    # nothing tells of it but a look
    mounts.mount(local.source / "disk")
    wait_until_held(running, "a file system was mounted: disk", "5 entries", "disk/file0")
    assert tree(local.target) == before
    accept(running)
    running.wait_until_mirrored("home", local.source, local.target)
    (local.source / "disk" / "new").touch()
    running.wait_until_mirrored("home", local.source, local.target)
    mounts.unmount(local.source / "disk")
    wait_until_held(running, "not mounted any more: disk")


def test_what_is_not_mirrored_may_come_and_go(
    local: Pair, mounts: Mounts, parking: Path, daemon: StartDaemon
) -> None:
    running = with_mount_below(local, mounts, daemon, exclude=["/disk/", "/other/"])
    mounts.move(local.source / "disk", parking)
    (local.source / "other").mkdir()
    mounts.mount(local.source / "other")
    (local.source / "new").touch()
    wait_until((local.target / "new").exists, "it arrives", describe=running.log)
    running.command("restart", "home")
    running.wait_for("home", lambda status: status.get("state") == "in-sync", "in sync")
    assert "held" not in running.log()


def test_a_sync_of_one_file_system_does_not_care(
    local: Pair, mounts: Mounts, parking: Path, daemon: StartDaemon
) -> None:
    (local.source / "disk").mkdir()
    running = daemon(local.settings(rsync={"one_file_system": True}))
    running.wait_until_mirrored("home", local.source, local.target)
    mounts.mount(local.source / "disk")
    fill(local.source / "disk")
    (local.source / "new").touch()
    wait_until((local.target / "new").exists, "it arrives", describe=running.log)
    running.command("restart", "home")
    running.wait_for("home", lambda status: status.get("state") == "in-sync", "in sync")
    assert list((local.target / "disk").iterdir()) == []
    assert "held" not in running.log()


@pytest.mark.parametrize("delete", [True, False])
def test_a_source_that_is_a_mount_point(
    local: Pair, mounts: Mounts, parking: Path, daemon: StartDaemon, delete: bool
) -> None:
    mounts.mount(local.source)
    fill(local.source)
    running = daemon(local.settings(delete=delete), variables=QUICK_WATCHDOG)
    running.wait_until_mirrored("home", local.source, local.target)
    before = tree(local.target)
    mounts.move(local.source, parking)
    if delete:
        wait_until_held(running, "the source is empty", "delete 5 entries")
    running.stop()
    running.start("home", variables=QUICK_WATCHDOG)
    if delete:
        wait_until_held(running, "the source is empty", "delete 5 entries")
    else:
        running.wait_for_state("home", "in-sync")
    assert tree(local.target).keys() == before.keys()
    mounts.move(parking, local.source)
    (local.source / "new").touch()
    running.wait_until_mirrored("home", local.source, local.target)


def test_a_mount_point_that_is_not_empty(
    local: Pair, mounts: Mounts, parking: Path, daemon: StartDaemon
) -> None:
    """What lay below the mount comes to light: it is another tree."""
    (local.source / "README").write_text("mount me")
    mounts.mount(local.source)
    fill(local.source)
    running = daemon(local.settings(), variables=QUICK_WATCHDOG)
    running.wait_until_mirrored("home", local.source, local.target)
    before = tree(local.target)
    mounts.move(local.source, parking)
    wait_until_held(running, "another directory", "delete 5 entries")
    assert tree(local.target) == before
    mounts.move(parking, local.source)
    running.wait_until_mirrored("home", local.source, local.target)
