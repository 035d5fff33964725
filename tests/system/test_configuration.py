# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that cannot be used, edits of good and bad kind, and one parent for every file."""

from __future__ import annotations

from system.machine import Machine
from system.mirror import Mirrors

CONFIG_REJECTED = "088012c06ccb48c38c35d3da91acaa44"

BROKEN = "source: /srv\ntarget: /mnt/mirror\nexlude: [cache]\n"
BROKEN_PLACE = "{}.yaml:3:1:"


def test_broken_edit_makes_the_reload_fail_and_mirroring_goes_on(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("kept")
    unit = mirrors.start("kept", sync.settings())
    sync.wait_for_state("in-sync")
    child = sync.child()

    mirrors.configure("kept", BROKEN)
    reload = machine.run("systemctl", "reload", unit, check=False)

    assert reload.returncode != 0
    assert machine.unit_property(unit, "ActiveState") == "active"
    said = machine.journal(f"_SYSTEMD_UNIT={unit}", f"MESSAGE_ID={CONFIG_REJECTED}")
    assert any(BROKEN_PLACE.format("kept") in entry["MESSAGE"] for entry in said)
    (sync.source / "file").write_text("mirrored with the configuration from before")
    sync.wait_until_equal()
    assert sync.child() == child


def test_good_edit_restarts_only_the_changed_sync(machine: Machine, mirrors: Mirrors) -> None:
    changed, same, dropped = mirrors.sync("changed"), mirrors.sync("same"), mirrors.sync("dropped")
    unit = mirrors.start("edited", changed.settings(), same.settings(), dropped.settings())
    parent = machine.unit_property(unit, "MainPID")
    children = {sync.name: sync.child() for sync in (changed, same, dropped)}
    added = mirrors.sync("added")

    edited = [changed.settings(exclude=["*.tmp"]), same.settings(), added.settings()]
    mirrors.configure("edited", {"syncs": edited})
    machine.run("systemctl", "reload", unit)

    machine.wait_until(
        lambda: changed.status().get("pid") not in (None, children["changed"]), "the changed one is new"
    )
    assert same.child() == children["same"]
    assert machine.unit_property(unit, "MainPID") == parent
    machine.wait_until(lambda: not dropped.status(), "the dropped one is gone")
    machine.run("test", "!", "-e", f"/proc/{children['dropped']}")
    (changed.source / "a.tmp").write_text("excluded now")
    (changed.source / "file").write_text("not excluded")
    (added.source / "file").write_text("new sync")
    (dropped.source / "file").write_text("not mirrored any more")
    changed.wait_until_equal("--exclude=*.tmp")
    added.wait_until_equal()
    assert not (changed.target / "a.tmp").exists()
    assert not (dropped.target / "file").exists()


def test_invalid_file_at_the_start_is_status_2_and_not_retried(machine: Machine, mirrors: Mirrors) -> None:
    unit = mirrors.configure("invalid", BROKEN)

    started = machine.run("systemctl", "start", unit, check=False)

    assert started.returncode != 0
    assert machine.unit_property(unit, "ActiveState") == "failed"
    assert machine.unit_property(unit, "ExecMainStatus") == "2"
    assert machine.unit_property(unit, "NRestarts") == "0"
    said = machine.journal(f"_SYSTEMD_UNIT={unit}")
    assert any(BROKEN_PLACE.format("invalid") in str(entry["MESSAGE"]) for entry in said)


def test_missing_file_is_said_clearly(machine: Machine, mirrors: Mirrors) -> None:
    started = machine.run("systemctl", "start", "lsyncd@nowhere.service", check=False)

    assert started.returncode != 0
    assert machine.unit_property("lsyncd@nowhere.service", "ExecMainStatus") == "2"
    said = machine.journal("_SYSTEMD_UNIT=lsyncd@nowhere.service")
    assert any("/etc/lsyncd.d/nowhere.yaml" in str(entry["MESSAGE"]) for entry in said)
    machine.run("systemctl", "reset-failed", "lsyncd@nowhere.service")


def test_one_parent_for_all_files_serves_the_valid_ones(machine: Machine, mirrors: Mirrors) -> None:
    first, second = mirrors.sync("first"), mirrors.sync("second")
    mirrors.configure("first", first.settings())
    mirrors.configure("second", second.settings())
    mirrors.configure("wrong", BROKEN)

    machine.run("systemctl", "start", "lsyncd-sd.service")
    try:
        for sync in (first, second):
            (sync.source / "file").write_text("mirrored")
            sync.wait_until_equal()
        shown = machine.run("lsyncd-sd", "status", check=False)
        assert shown.returncode == 1
        assert "failed" in shown.stdout and "wrong" in shown.stdout
    finally:
        machine.run("systemctl", "stop", "lsyncd-sd.service")


def test_two_parents_never_write_to_one_target(machine: Machine, mirrors: Mirrors) -> None:
    winner, loser = mirrors.sync("winner"), mirrors.sync("loser")
    mirrors.start("winner", winner.settings())
    (winner.source / "file").write_text("the first keeps it")
    winner.wait_until_equal()

    inside = mirrors.configure("loser", {"syncs": [loser.settings(target=f"{winner.target_inside}/inside")]})
    machine.run("systemctl", "start", inside, check=False)

    (loser.source / "file").write_text("must not arrive")
    (winner.source / "second").write_text("still mirrored")
    winner.wait_until_equal()
    assert not (winner.target / "inside").exists()
    assert any("winner" in str(entry["MESSAGE"]) for entry in machine.journal(f"_SYSTEMD_UNIT={inside}"))
