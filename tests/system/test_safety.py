# SPDX-License-Identifier: GPL-2.0-or-later
"""What must never happen under a real systemd: a mirror wiped by surprise or fed from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from helpers.waiting import wait_until
from system.machine import Machine
from system.mirror import Mirrors, Sync, read

HELD = "fddf94787c6f4196a1ce0931a68618c5"


def filled(mirrors: Mirrors, name: str) -> tuple[str, Sync]:
    """Start a sync with some files, wait for its mirror and stop it; return its unit and the sync."""
    sync = mirrors.sync(name)
    (sync.source / "directory").mkdir()
    (sync.source / "directory" / "file").write_text("precious")
    (sync.source / "file").write_text("precious")
    unit = mirrors.start(name, sync.settings())
    sync.wait_until_equal()
    sync.wait_for_state("in-sync")
    return unit, sync


def assert_nothing_was_deleted(sync: Sync) -> None:
    assert read(sync.target / "file") == "precious"
    assert read(sync.target / "directory" / "file") == "precious"


def test_source_emptied_while_stopped_is_held_until_accepted(machine: Machine, mirrors: Mirrors) -> None:
    unit, sync = filled(mirrors, "emptied")
    machine.run("systemctl", "stop", unit)
    sync.source.rename(sync.source.with_name("elsewhere"))
    sync.source.mkdir()

    machine.run("systemctl", "start", unit)

    sync.wait_for_state("held")
    assert machine.unit_property(unit, "ActiveState") == "active"
    assert machine.journal(f"MESSAGE_ID={HELD}", "LSYNCD_SYNC=emptied", "LSYNCD_PATH=directory")
    assert_nothing_was_deleted(sync)
    wait_until(lambda: "held" in machine.unit_property(unit, "StatusText"), "the unit shows it")

    machine.run("lsyncd-sd", "accept", "emptied")
    sync.wait_until_equal()


@pytest.fixture
def mounted(machine: Machine, mirrors: Mirrors) -> Iterator[Sync]:
    """A sync whose source is a file system of its own."""
    sync = mirrors.sync("unmounted")
    machine.run("mount", "-t", "tmpfs", "tmpfs", sync.source_inside)
    yield sync
    machine.run("umount", sync.source_inside, check=False)


def test_source_not_mounted_at_the_start_is_held(machine: Machine, mirrors: Mirrors, mounted: Sync) -> None:
    machine.write(f"{mounted.source_inside}/directory/file", "precious")
    machine.write(f"{mounted.source_inside}/file", "precious")
    unit = mirrors.start("unmounted", mounted.settings())
    mounted.wait_until_equal()
    mounted.wait_for_state("in-sync")
    machine.run("systemctl", "stop", unit)
    machine.run("umount", mounted.source_inside)

    machine.run("systemctl", "start", unit)

    mounted.wait_for_state("held")
    assert_nothing_was_deleted(mounted)


def test_source_removed_while_running_deletes_nothing(machine: Machine, mirrors: Mirrors) -> None:
    _unit, sync = filled(mirrors, "removed-root")

    sync.source.rename(sync.source.with_name("elsewhere"))

    sync.wait_for_state("source-missing", "held")
    assert_nothing_was_deleted(sync)


def test_directory_swapped_for_a_symlink_lets_nothing_in(machine: Machine, mirrors: Mirrors) -> None:
    _unit, sync = filled(mirrors, "swapped")
    outside = sync.source.with_name("outside")
    outside.mkdir()
    (outside / "file").write_text("secret")
    (outside / "other").write_text("secret")

    (sync.source / "directory" / "file").write_text("changed just before")
    (sync.source / "directory").rename(sync.source.with_name("elsewhere"))
    os.symlink("../outside", sync.source / "directory")

    sync.wait_until_equal()
    assert os.readlink(sync.target / "directory") == "../outside"
    assert sorted(os.listdir(sync.target)) == ["directory", "file"]
    assert sorted(os.listdir(outside)) == ["file", "other"]
    # The link on the target leads to a place beside the target, where nothing may have been written.
    assert sorted(os.listdir(sync.target.parent)) == ["elsewhere", "outside", "source", "target"]


def test_names_from_outside_never_arrive_through_a_symlinked_source_directory(mirrors: Mirrors) -> None:
    _unit, sync = filled(mirrors, "linked")
    outside = sync.source.with_name("outside")
    outside.mkdir()
    os.symlink(outside, sync.source / "link")
    sync.wait_until_equal()

    (outside / "new").write_text("made outside, seen through the link")
    (sync.source / "marker").write_text("arrives after whatever came before")
    sync.wait_until_equal()

    assert (sync.target / "link").is_symlink()
    assert read(sync.target / "file") == "precious"
