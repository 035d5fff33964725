# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that freeze or die, targets that go away or hang: nothing is lost, nobody else is affected."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from system.machine import Machine
from system.mirror import Mirrors, Sync

CHILD_HUNG = "2da04a08e3a647dc892c92e00b177cdd"
CHILD_CRASHED = "ed598cb72a0a4e1cacadd7fe8e606977"

# The packaged unit's 30 s would do as well; a test need not wait for so long.
SHORT_WATCHDOG = "[Service]\nWatchdogSec=6\n"

# Retries of what is gone come after growing intervals.
RETRY_DEADLINE = 180.0

# Slow enough that rsync is still at it when the test comes to kill it.
SLOW_RSYNC = {"bwlimit": 200, "whole_file": True}
BIG_FILE = os.urandom(800_000)


def test_frozen_child_is_replaced_while_its_sibling_mirrors(machine: Machine, mirrors: Mirrors) -> None:
    frozen, sibling = mirrors.sync("frozen"), mirrors.sync("sibling")
    mirrors.drop_in("lsyncd@freeze.service", SHORT_WATCHDOG)
    unit = mirrors.start("freeze", frozen.settings(), sibling.settings())
    parent = machine.unit_property(unit, "MainPID")
    child = frozen.child()
    sibling_child = sibling.child()

    machine.run("kill", "-STOP", str(child))
    (frozen.source / "file").write_text("written while frozen")
    (sibling.source / "file").write_text("written while the other is frozen")

    sibling.wait_until_equal()
    machine.wait_until(
        lambda: frozen.status().get("pid") not in (None, child), "the frozen child is replaced", 90
    )
    frozen.wait_until_equal()
    assert machine.journal(f"MESSAGE_ID={CHILD_HUNG}", "LSYNCD_SYNC=frozen")
    assert machine.unit_property(unit, "MainPID") == parent
    assert sibling.child() == sibling_child


def test_frozen_parent_is_restarted_by_the_watchdog(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("orphan")
    mirrors.drop_in("lsyncd@orphan.service", SHORT_WATCHDOG)
    unit = mirrors.start("orphan", sync.settings())
    sync.wait_for_state("in-sync")
    parent = machine.unit_property(unit, "MainPID")

    machine.run("kill", "-STOP", parent)
    (sync.source / "file").write_text("written while frozen")

    machine.wait_until(
        lambda: machine.unit_property(unit, "MainPID") not in ("0", parent), "the parent is replaced", 90
    )
    sync.wait_until_equal()
    assert int(machine.unit_property(unit, "NRestarts")) == 1
    machine.run("test", "!", "-e", f"/proc/{parent}")


def test_killed_child_is_replaced_and_nothing_is_lost(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("killed")
    unit = mirrors.start("killed", sync.settings())
    (sync.source / "directory").mkdir()
    sync.wait_until_equal()
    parent = machine.unit_property(unit, "MainPID")
    child = sync.child()
    (sync.source / "before").write_text("noticed by the child that dies")

    machine.run("kill", "-KILL", str(child))
    (sync.source / "directory" / "after").write_text("noticed by nobody")

    machine.wait_until(lambda: sync.status().get("pid") not in (None, child), "the child is replaced")
    sync.wait_until_equal()
    assert machine.unit_property(unit, "MainPID") == parent
    assert machine.journal(f"MESSAGE_ID={CHILD_CRASHED}", "LSYNCD_SYNC=killed")


def test_killed_parent_is_replaced_and_nothing_is_lost(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("beheaded")
    unit = mirrors.start("beheaded", sync.settings())
    sync.wait_for_state("in-sync")
    parent, child = machine.unit_property(unit, "MainPID"), sync.child()
    (sync.source / "before").write_text("noticed by the child that dies")

    machine.run("kill", "-KILL", parent)
    (sync.source / "after").write_text("noticed by nobody")

    machine.wait_until(
        lambda: machine.unit_property(unit, "MainPID") not in ("0", parent), "the parent is replaced"
    )
    sync.wait_until_equal()
    machine.run("test", "!", "-e", f"/proc/{child}")


def test_child_that_crashes_again_and_again_fails_alone(machine: Machine, mirrors: Mirrors) -> None:
    broken, healthy = mirrors.sync("broken"), mirrors.sync("healthy")
    unit = mirrors.start("crashes", broken.settings(), healthy.settings())
    healthy.wait_for_state("in-sync")

    def killed_until_failed() -> bool:
        status = broken.status()
        if status["pid"] is not None:
            machine.run("kill", "-KILL", str(status["pid"]), check=False)
        return status["state"] == "failed"

    machine.wait_until(killed_until_failed, "it is given up", RETRY_DEADLINE, describe=broken.status)
    (healthy.source / "file").write_text("still mirrored")
    healthy.wait_until_equal()
    assert machine.unit_property(unit, "ActiveState") == "active"

    machine.run("lsyncd-sd", "restart", "broken")
    (broken.source / "file").write_text("mirrored again")
    broken.wait_until_equal()


def wait_until_whole(sync: Sync) -> None:
    """Wait until the big file is on the target, nothing is under way, and no temporary file is left."""
    sync.wait_until_equal()
    sync.wait_for_state("in-sync")
    assert [path.name for path in sync.target.iterdir()] == ["big"]
    assert (sync.target / "big").read_bytes() == BIG_FILE


def test_killed_rsync_is_run_again(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("interrupted")
    mirrors.start("interrupted", sync.settings(rsync=SLOW_RSYNC))
    sync.wait_for_state("in-sync")
    (sync.source / "big").write_bytes(BIG_FILE)
    machine.wait_until(lambda: list(sync.target.glob(".big.*")), "rsync has begun to write")

    processes = machine.run("pgrep", "--exact", "rsync").stdout.split()
    # Once the first one is gone, the others may end before it is their turn.
    machine.run("kill", "-KILL", *processes, check=False)

    wait_until_whole(sync)


def test_restart_during_a_transfer_loses_nothing(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("restarted")
    unit = mirrors.start("restarted", sync.settings(rsync=SLOW_RSYNC))
    sync.wait_for_state("in-sync")
    (sync.source / "big").write_bytes(BIG_FILE)
    machine.wait_until(lambda: list(sync.target.glob(".big.*")), "rsync has begun to write")

    machine.run("systemctl", "restart", unit)

    wait_until_whole(sync)


def test_target_renamed_away_and_back(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("away")
    mirrors.start("away", sync.settings())
    (sync.source / "first").write_text("first")
    sync.wait_until_equal()
    sync.wait_for_state("in-sync")
    away = sync.target.with_name("elsewhere")

    sync.target.rename(away)
    (sync.source / "second").write_text("second")
    (sync.source / "first").unlink()
    sync.wait_for_state("target-missing")
    (sync.source / "third").write_text("third")
    machine.wait_until(lambda: sync.status().get("pending"), "changes are noted", describe=sync.status)
    assert not sync.target.exists()
    assert [path.name for path in away.iterdir()] == ["first"]

    away.rename(sync.target)
    sync.wait_until_equal(deadline=RETRY_DEADLINE)
    sync.wait_for_state("in-sync")
    assert not away.exists()


@pytest.fixture
def hung_daemon(machine: Machine) -> Iterator[str]:
    """The URL of an rsync daemon which takes connections and never says a word."""
    listen = "import signal, socket; s = socket.create_server(('127.0.0.1', 8730)); signal.pause()"
    machine.run("systemd-run", "--unit=hung-daemon", "--collect", "/usr/bin/python3", "-c", listen)
    yield "rsync://127.0.0.1:8730/module"
    machine.run("systemctl", "stop", "hung-daemon.service", check=False)


def test_missing_source_and_hung_target_leave_two_healthy_syncs_alone(
    machine: Machine, mirrors: Mirrors, hung_daemon: str
) -> None:
    one, other = mirrors.sync("one"), mirrors.sync("other")
    missing, hung = mirrors.sync("missing"), mirrors.sync("hung")
    missing.source.rmdir()
    (hung.source / "file").write_text("will not arrive")

    unit = mirrors.start(
        "mixed", missing.settings(), one.settings(), hung.settings(target=hung_daemon), other.settings()
    )

    assert machine.unit_property(unit, "ActiveState") == "active"
    assert missing.wait_for_state("source-missing")
    for sync in (one, other):
        (sync.source / "file").write_text("healthy")
    for sync in (one, other):
        sync.wait_until_equal()
    assert hung.status()["state"] != "in-sync"
    assert machine.run("lsyncd-sd", "status", check=False).returncode == 1

    missing.source.mkdir()
    (missing.source / "file").write_text("there at last")
    missing.wait_until_equal()
