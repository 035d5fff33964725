# SPDX-License-Identifier: GPL-2.0-or-later
"""`lsyncd-sd sync`: what is pending goes out at once; with `--wait` it is there when the command ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import churn
from helpers.comparing import age, tree
from helpers.daemon import Daemon, settings, text_of
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


# ---------------------------------------------------------------------- waiting


def assert_equal(pair: Pair) -> None:
    """Compare now, and once."""
    assert tree(pair.target) == tree(pair.source)


def test_when_it_returns_the_target_is_equal(slow: Pair, daemon: StartDaemon, full: bool) -> None:
    """Also while the first full sync is still under way, and when there is nothing to do."""
    running = daemon(slow.settings())
    for number in range(100 if full else 10):
        (slow.source / "file").write_text(f"content {number}")
        if number:
            # Not before the first full sync: rsync takes the times of a new directory for right when they
            # are of the same second, until it is known that the target keeps nanoseconds.
            (slow.source / "directory" / str(number)).mkdir(parents=True)
            (slow.source / "directory" / str(number) / "new").write_text("new")
        running.sync("home")
        assert_equal(slow)
        running.sync("home")


def test_with_full_it_returns_after_the_full_sync(slow: Pair, daemon: StartDaemon) -> None:
    running = daemon(slow.settings())
    for _ in range(3):
        running.sync("home")
        (slow.target / "stray").touch()
        (slow.target / "file").unlink()
        (slow.source / "file").write_text("new")
        running.sync("home", "--full")
        assert_equal(slow)


def test_what_was_changed_before_is_there_while_changes_go_on(
    slow: Pair, folder: Path, daemon: StartDaemon, full: bool
) -> None:
    """Other processes change other directories all the time, faster than batches can follow."""
    busy = slow.source / "busy"
    (folder / "outside").mkdir()
    busy.mkdir()
    # What is removed at random is much, for so small a tree.
    running = daemon(slow.settings(delay=0.1, brake={"max_deletes": 1_000_000}))
    running.wait_for_state("home", "in-sync")
    # More operations than it can do while this test runs.
    arguments = ["seed", "10000000", "1000000", str(busy), str(folder / "outside")]
    churning = subprocess.Popen([sys.executable, churn.__file__, *arguments])
    try:
        for number in range(100 if full else 10):
            marker = slow.source / "markers" / str(number % 7) / f"marker {number}"
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text(str(number))
            running.sync("home")
            assert (slow.target / marker.relative_to(slow.source)).read_text() == str(number)
        assert churning.poll() is None
    finally:
        churning.kill()
        churning.wait()
    running.sync("home")
    assert_equal(slow)


def test_what_is_written_to_an_open_file_is_there(slow: Pair, daemon: StartDaemon) -> None:
    running = daemon(slow.settings(open_file_delay=LONG_DELAY))
    running.wait_for_state("home", "in-sync")
    with open(slow.source / "log", "wb", buffering=0) as log:
        for number in range(3):
            log.write(b"%d\n" % number)
            running.sync("home")
            assert (slow.target / "log").read_bytes() == (slow.source / "log").read_bytes()


# ---------------------------------------------------------------------- waiting for long


class Waiting:
    """A client that waits; `tells` is what it has said so far."""

    def __init__(self, running: Daemon, folder: Path, *options: str) -> None:
        self._running = running
        self._told = folder / f"told {len(list(folder.glob('told *')))}"
        self.process = running.begin("sync", "home", "--wait", *options, told=self._told)

    def tells(self) -> str:
        """Return what it has told."""
        return self._told.read_text()

    def hears(self, what: str) -> None:
        """Wait until it has told this, and still waits."""
        wait_until(lambda: what in self.tells(), f"it tells {what!r}", describe=self._describe)
        assert self.process.poll() is None

    def ends(self) -> int:
        """Wait for its end and return its exit status."""
        wait_until(lambda: self.process.poll() is not None, "the wait ends", describe=self._describe)
        return self.process.wait()

    def _describe(self) -> str:
        return f"{self.tells()}\n{self._running.status('home')}\n{self._running.log()}"


Wait = Callable[..., Waiting]


@pytest.fixture
def wait(tmp_path: Path) -> Iterator[Wait]:
    """Begin to wait for the sync `home` of a daemon."""
    with contextlib.ExitStack() as stack:

        def begin(running: Daemon, *options: str) -> Waiting:
            waiting = Waiting(running, tmp_path, *options)
            stack.callback(waiting.process.wait)
            stack.callback(waiting.process.kill)
            return waiting

        yield begin


@pytest.fixture
def fake(folder: Path) -> FakeRsync:
    """An rsync that can be told to fail."""
    return FakeRsync(folder / "fake")


def test_it_waits_for_a_target_that_is_missing_and_says_so(
    slow: Pair, daemon: StartDaemon, wait: Wait
) -> None:
    running = daemon(slow.settings())
    running.sync("home")
    slow.target.rename(slow.target.with_name("moved"))
    (slow.source / "file").write_text("new")
    waiting = wait(running)
    waiting.hears("home: target-missing: ")
    slow.target.with_name("moved").rename(slow.target)
    assert waiting.ends() == 0
    assert_equal(slow)


def test_it_waits_for_a_source_that_is_missing(slow: Pair, daemon: StartDaemon, wait: Wait) -> None:
    running = daemon(slow.settings())
    running.sync("home")
    slow.source.rename(slow.source.with_name("moved"))
    waiting = wait(running)
    waiting.hears("home: source-missing: ")
    (slow.source.with_name("moved") / "file").write_text("new")
    slow.source.with_name("moved").rename(slow.source)
    assert waiting.ends() == 0
    assert_equal(slow)


def test_it_goes_on_with_the_next_process_when_one_is_killed(
    slow: Pair, fake: FakeRsync, daemon: StartDaemon, wait: Wait
) -> None:
    running = daemon(slow.settings(rsync={"binary": str(fake.path)}))
    running.sync("home")
    fake.become(10)
    (slow.source / "file").write_text("new")
    waits = [wait(running), wait(running, "--full"), wait(running)]
    for waiting in waits:
        waiting.hears("home: unreachable: ")
    for _ in range(3):
        # One that is killed too soon again and again would be given up.
        killed = running.child("home")
        running.wait_for("home", lambda status: status["state"] == "unreachable", "it tries again")
        os.kill(killed, signal.SIGKILL)
        running.wait_for("home", lambda status, old=killed: status["pid"] not in (None, old), "another one")
    running.command("restart", "home")
    for waiting in waits:
        waiting.hears("was ended by signal 9")
    fake.become("pass")
    running.command("sync", "home")
    assert [waiting.ends() for waiting in waits] == [0, 0, 0]
    assert_equal(slow)


def test_a_process_that_hangs_is_waited_for_as_well(slow: Pair, daemon: StartDaemon, wait: Wait) -> None:
    running = daemon(slow.settings())
    running.sync("home")
    child = running.child("home")
    os.kill(child, signal.SIGSTOP)
    (slow.source / "file").write_text("new")
    waits = [wait(running) for _ in range(5)]
    assert running.command("sync", "home").returncode == 0, "the parent does not hang with it"
    assert running.status("home")["state"] == "in-sync"
    assert [waiting.process.poll() for waiting in waits] == [None] * 5
    os.kill(child, signal.SIGKILL)
    assert [waiting.ends() for waiting in waits] == [0] * 5
    assert_equal(slow)


def test_it_waits_for_what_replaces_an_overflowed_queue(slow: Pair, daemon: StartDaemon, wait: Wait) -> None:
    for name in ("one", "two"):
        (slow.source / name).touch()
    running = daemon(slow.settings())
    running.sync("home")
    child = running.child("home")
    os.kill(child, signal.SIGSTOP)
    # The same event twice in a row is one, so they take turns.
    for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())):
        (slow.source / ("one", "two")[number % 2]).chmod(0o600 + number % 8)
    (slow.source / "file").write_text("its event is lost")
    waiting = wait(running)
    # It is not known when the request is in the child's hands; before or after, nothing may be missed.
    wait_until(lambda: running.syncs() is not None, "the parent answers")
    os.kill(child, signal.SIGCONT)
    assert waiting.ends() == 0
    assert_equal(slow)
    assert "overflowed" in running.log()


def test_it_waits_for_a_path_that_cannot_be_mirrored(
    slow: Pair, fake: FakeRsync, daemon: StartDaemon, wait: Wait
) -> None:
    running = daemon(slow.settings(rsync={"binary": str(fake.path)}))
    running.sync("home")
    path = slow.source / "file"
    fake.become(23, f'rsync: [sender] send_files failed to open "{path}": Permission denied (13)')
    (slow.source / "file").write_text("new")
    waits = [wait(running), wait(running, "--full")]
    for waiting in waits:
        waiting.hears("Permission denied")
    for _ in range(3):
        # Also when it was tried again alone, and failed again.
        running.command("sync", "home")
    running.wait_for_state("home", "degraded")
    assert [waiting.process.poll() for waiting in waits] == [None, None]
    fake.become("pass")
    running.command("sync", "home")
    assert [waiting.ends() for waiting in waits] == [0, 0]
    assert_equal(slow)


def test_it_waits_until_a_held_sync_goes_on(slow: Pair, daemon: StartDaemon, wait: Wait) -> None:
    running = daemon(slow.settings())
    running.sync("home")
    moved = slow.target.with_name("moved")
    slow.target.rename(moved)
    slow.target.mkdir()
    (slow.source / "file").write_text("new")
    waiting = wait(running)
    waiting.hears("home: held: ")
    assert list(slow.target.iterdir()) == []
    assert running.command("accept", "home").returncode == 0
    assert waiting.ends() == 0
    assert_equal(slow)


# ---------------------------------------------------------------------- other ends


def test_the_time_is_over(slow: Pair, fake: FakeRsync, daemon: StartDaemon) -> None:
    running = daemon(slow.settings(rsync={"binary": str(fake.path)}))
    running.sync("home")
    fake.become(10)
    (slow.source / "file").write_text("new")
    done = running.command("sync", "home", "--wait", "--timeout", "1")
    assert done.returncode == 1
    assert "not everything is on the target of home after 1 s" in done.stderr


def test_a_client_that_is_interrupted(slow: Pair, fake: FakeRsync, daemon: StartDaemon, wait: Wait) -> None:
    running = daemon(slow.settings(rsync={"binary": str(fake.path)}))
    running.sync("home")
    fake.become(10)
    (slow.source / "file").write_text("new")
    waiting, staying = wait(running), wait(running)
    waiting.hears("home: unreachable: ")
    waiting.process.send_signal(signal.SIGINT)
    assert waiting.ends() == 130
    fake.become("pass")
    running.command("sync", "home")
    assert staying.ends() == 0
    assert_equal(slow)


def test_the_service_is_stopped_meanwhile(
    slow: Pair, fake: FakeRsync, daemon: StartDaemon, wait: Wait
) -> None:
    fake.become(10)
    running = daemon(slow.settings(rsync={"binary": str(fake.path)}))
    waiting = wait(running)
    waiting.hears("home: unreachable: ")
    running.stop()
    assert waiting.ends() == 3


def test_the_sync_is_changed_and_then_taken_out_of_the_configuration(
    slow: Pair, folder: Path, fake: FakeRsync, daemon: StartDaemon, wait: Wait
) -> None:
    other = folder / "other"
    other.mkdir()
    fake.become(10)
    running = daemon(slow.settings(rsync={"binary": str(fake.path)}))
    waits = [wait(running), wait(running, "--full")]
    for waiting in waits:
        waiting.hears("home: unreachable: ")
    running.write("home", text_of({**slow.settings(), "target": f"{slow.target}-new"}))
    assert running.command("reload").returncode == 0
    assert [waiting.ends() for waiting in waits] == [0, 0]
    assert tree(slow.source) == tree(Path(f"{slow.target}-new")), "what counts is the target of now"

    running.write("home", text_of(slow.settings(rsync={"binary": str(fake.path)})))
    assert running.command("reload").returncode == 0
    waiting = wait(running)
    waiting.hears("home: unreachable: ")
    running.write("home", text_of(settings(other, folder / "elsewhere", name="other")))
    assert running.command("reload").returncode == 0
    assert waiting.ends() == 2
    assert "there is no sync 'home'" in waiting.tells()


def test_a_sync_that_was_given_up(slow: Pair, folder: Path, daemon: StartDaemon, wait: Wait) -> None:
    """One of two, so that the service goes on."""
    (folder / "other").mkdir()
    running = daemon(
        slow.settings(delay=0.1), settings(folder / "other", folder / "other target", name="other")
    )
    os.kill(running.child("home"), signal.SIGSTOP)
    waiting = wait(running)
    while running.status("home")["state"] != "failed":
        pid = running.status("home")["pid"]
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert waiting.ends() == 1
    assert "sync 'home' cannot do it: its process crashed" in waiting.tells()
    done = running.command("sync", "home", "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    assert running.command("sync", "home").returncode == 1


def test_there_is_no_such_sync_or_no_service(slow: Pair, daemon: StartDaemon) -> None:
    running = daemon(slow.settings())
    assert running.command("sync", "hose", "--wait").returncode == 2
    assert running.command("sync", "home", "--timeout", "3").returncode == 2
    running.stop()
    assert running.command("sync", "home", "--wait").returncode == 3
