# SPDX-License-Identifier: GPL-2.0-or-later
"""`lsyncd-sd sync`: what is pending goes out at once, whatever it waits for."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.comparing import age
from helpers.fakersync import FakeRsync
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

# Longer than any test waits: what arrives did not wait for it.
LONG_DELAY = 3600


@pytest.fixture
def slow(local: Pair) -> Pair:
    """A local pair whose changes wait for an hour."""
    (local.source / "file").write_text("old")
    age(local.source)
    local.more = {"delay": LONG_DELAY}
    return local


def arrives(path: Path, content: str) -> None:
    """Wait until a file holds this."""
    wait_until(lambda: path.exists() and path.read_text() == content, f"{path.name} holds {content!r}")


def test_what_is_pending_is_mirrored_now(slow: Pair, daemon: StartDaemon) -> None:
    running = daemon(slow.settings())
    running.wait_for_state("home", "in-sync")
    (slow.source / "file").write_text("new")
    running.wait_for_state("home", "pending")
    done = running.command("sync", "home")
    assert (done.returncode, done.stderr) == (0, "")
    arrives(slow.target / "file", "new")
    running.wait_for_state("home", "in-sync")


def test_a_full_sync_finds_what_was_changed_on_the_target(slow: Pair, daemon: StartDaemon) -> None:
    running = daemon(slow.settings())
    running.wait_for_state("home", "in-sync")
    (slow.target / "file").unlink()
    (slow.target / "stray").touch()
    assert running.command("sync", "home", "--full").returncode == 0
    arrives(slow.target / "file", "old")
    running.wait_until_mirrored("home", slow.source, slow.target)


def test_a_retry_does_not_wait_either(slow: Pair, folder: Path, daemon: StartDaemon) -> None:
    fake = FakeRsync(folder / "fake")
    running = daemon(slow.settings(rsync={"binary": str(fake.path)}))
    running.wait_for_state("home", "in-sync")
    fake.become(10)
    (slow.source / "file").write_text("new")
    # The waits double from two seconds on: the last one would be longer than any test.
    for number in range(1, 8):
        assert running.command("sync", "home").returncode == 0
        running.wait_for("home", lambda status, number=number: status["failures"] >= number, "another try")
    assert running.status("home")["state"] == "unreachable"
    fake.become("pass")
    running.command("sync", "home")
    arrives(slow.target / "file", "new")
