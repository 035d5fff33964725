# SPDX-License-Identifier: GPL-2.0-or-later
"""`lsyncd-sd accept`: releases what was shown, by the process that holds it, and nothing else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers.comparing import age, tree
from helpers.daemon import Daemon
from live.conftest import Pair, StartDaemon

from lsyncd_sd.service.control_interface import ControlError

pytestmark = pytest.mark.live


@pytest.fixture
def held(local: Pair, daemon: StartDaemon) -> Daemon:
    """A daemon whose target was exchanged for an empty directory after it was mirrored."""
    (local.source / "file").write_text("content")
    age(local.source)
    running = daemon(local.settings())
    running.sync("home")
    exchange(local.target)
    (local.source / "file").write_text("new content")
    running.wait_for_state("home", "held")
    return running


def exchange(target: Path) -> None:
    """Put an empty directory in the target's place."""
    # The others stay, so that no two have the same inode.
    target.rename(target.with_name(f"target {len(list(target.parent.iterdir()))}"))
    target.mkdir()


def test_it_goes_on_under_the_same_process_and_says_with_what(local: Pair, held: Daemon) -> None:
    before = held.status("home")
    done = held.command("accept", "home")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "home goes on with what it was held for"
    assert all(line.strip() in done.stdout for line in before["reason"].splitlines())
    held.sync("home")
    assert tree(local.source) == tree(local.target)
    after = held.status("home")
    assert (after["pid"], after["restarts"], after["hold_id"]) == (before["pid"], 0, "")


def test_what_is_held_for_something_else_by_now_is_not_released(local: Pair, held: Daemon) -> None:
    seen = held.status("home")["hold_id"]
    exchange(local.target)
    held.wait_for("home", lambda status: status["hold_id"] not in ("", seen), "it is another hold")
    for hold_id in (seen, "", "0123456789abcdef"):
        with pytest.raises(ControlError) as caught:
            held.call("Accept", name="home", hold_id=hold_id)
        assert caught.value.name == "org.lsyncd-sd.Control.HoldChanged"
        status = held.status("home")
        assert caught.value.parameters == {
            "name": "home",
            "reason": status["reason"],
            "hold_id": status["hold_id"],
        }
    assert held.status("home")["state"] == "held"
    assert list(local.target.iterdir()) == []
    held.call("Accept", name="home", hold_id=status["hold_id"])
    held.sync("home")
    assert tree(local.source) == tree(local.target)


def test_the_next_hold_is_another_question(local: Pair, held: Daemon) -> None:
    assert held.command("accept", "home").returncode == 0
    held.sync("home")
    exchange(local.target)
    (local.source / "file").write_text("newer content")
    held.wait_for_state("home", "held")
    assert list(local.target.iterdir()) == []


def test_what_is_not_held_or_has_just_died_cannot_be_accepted(local: Pair, held: Daemon) -> None:
    child = held.child("home")
    os.kill(child, signal.SIGKILL)
    held.wait_for("home", lambda status: status["pid"] not in (None, child), "another process")
    # The one that follows has to find out anew.
    held.wait_for_state("home", "held")
    assert list(local.target.iterdir()) == []
    assert held.command("accept", "home").returncode == 0
    held.sync("home")
    done = held.command("accept", "home")
    assert (done.returncode, done.stdout) == (1, "")
    assert "sync 'home' is not held: its state is " in done.stderr
