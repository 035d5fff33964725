# SPDX-License-Identifier: GPL-2.0-or-later
"""The parent and its children: what happens when one hangs, dies, is told to end, or is replaced."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.comparing import age
from helpers.daemon import Daemon, Settings, settings, text_of
from helpers.fakersync import FakeRsync
from helpers.servers import ADDRESS, free_port
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

from lsyncd_sd.service.locks import FULL_SYNCS_PER_HOST, Locks

pytestmark = pytest.mark.live

# More than a child that is told to stop waits for.
LONG = 25_000_000
SLOW = {"bwlimit": 1000, "whole_file": True}


class Sync(Pair):
    """A pair with a name, and a file in its source."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder / name / "source", folder / name / "target", str(folder / name / "target"))
        self.name = name
        self.source.mkdir(parents=True)
        (self.source / "file").write_text(name)
        age(self.source)

    def settings(self, **more: object) -> Settings:
        """Return the mapping for a configuration file."""
        return {**settings(self.source, self.target, name=self.name), **more}

    def change(self, running: Daemon, content: str) -> None:
        """Change the file and wait until that is mirrored."""
        (self.source / "file").write_text(content)
        self.wait(running)

    def wait(self, running: Daemon) -> None:
        """Wait until it is mirrored."""
        running.wait_until_mirrored(self.name, self.source, self.target)


@pytest.fixture
def one(folder: Path) -> Sync:
    """A sync."""
    return Sync(folder, "one")


@pytest.fixture
def two(folder: Path) -> Sync:
    """Another sync."""
    return Sync(folder, "two")


class Manager:
    """A service manager that only listens."""

    def __init__(self, watchdog_seconds: float) -> None:
        name = f"lsyncd-sd-test-{uuid.uuid4().hex}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"\0{name}")
        self.variables = {
            "NOTIFY_SOCKET": f"@{name}",
            "WATCHDOG_USEC": str(int(watchdog_seconds * 1e6)),
            "LISTEN_FDS": "0",
        }
        self.lines: list[str] = []

    def hear(self) -> list[str]:
        """Take in what has come, and return all that came so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.lines += self._socket.recv(65536).decode().splitlines()
        return self.lines

    def wait_for(self, line: str, count: int = 1) -> None:
        """Wait until a line that begins so has come so often."""
        wait_until(
            lambda: sum(heard.startswith(line) for heard in self.hear()) >= count,
            f"the manager is told {line}",
            describe=self.hear,
        )

    def close(self) -> None:
        """Hear nothing any more."""
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    """A service manager that wants to hear of its service every 4 s; children may be silent for 2 s."""
    listening = Manager(4.0)
    yield listening
    listening.close()


def test_what_a_sync_costs_the_parent(one: Sync, two: Sync, daemon: StartDaemon) -> None:
    """Three descriptors: tests/unit/test_units.py counts on it."""
    running = daemon(one.settings())
    one.wait(running)
    descriptors = Path(f"/proc/{running.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    running.write("home", text_of(one.settings(), two.settings()))
    assert running.command("reload").returncode == 0
    two.wait(running)
    wait_until(lambda: len(list(descriptors.iterdir())) == before + 3, "it keeps three more open")


# ---------------------------------------------------------------------- children that hang or die


def test_frozen_child_is_replaced_while_its_sibling_mirrors(
    one: Sync, two: Sync, daemon: StartDaemon, manager: Manager
) -> None:
    running = daemon(one.settings(), two.settings(), variables=manager.variables)
    one.wait(running)
    two.wait(running)
    frozen, sibling = running.child("one"), running.child("two")
    os.kill(frozen, signal.SIGSTOP)
    (one.source / "file").write_text("written while frozen")
    two.change(running, "written while the other is frozen")
    # the parent goes on telling the manager that it lives
    manager.wait_for("WATCHDOG=1", sum(line == "WATCHDOG=1" for line in manager.hear()) + 2)
    running.wait_for(
        "one", lambda status: status["pid"] not in (None, frozen), "the frozen child is replaced"
    )
    one.wait(running)
    assert "has not answered for 2 s" in running.log()
    assert running.status("one")["restarts"] == 1
    assert running.child("two") == sibling


def test_killed_child_is_replaced_and_nothing_is_lost(one: Sync, daemon: StartDaemon) -> None:
    (one.source / "directory").mkdir()
    age(one.source)
    running = daemon(one.settings())
    one.wait(running)
    for round_number in range(3):
        child = running.child("one")
        (one.source / "before").write_text(f"{round_number}")
        os.kill(child, signal.SIGKILL)
        (one.source / "directory" / "after").write_text(f"{round_number}")
        (one.source / "directory" / f"new{round_number}").mkdir()
        running.wait_for("one", lambda status, old=child: status["pid"] not in (None, old), "it is replaced")
        one.wait(running)
    assert running.status("one")["restarts"] == 3


def test_child_killed_in_the_middle_of_a_transfer_leaves_nothing(one: Sync, daemon: StartDaemon) -> None:
    running = daemon(one.settings(rsync={"bwlimit": 1500, "whole_file": True}))
    one.wait(running)
    (one.source / "big").write_bytes(os.urandom(3_000_000))
    wait_until(lambda: list(one.target.glob(".big.*")), "rsync writes", describe=running.log)
    transfer = running.processes_named("rsync")
    os.kill(running.child("one"), signal.SIGKILL)
    wait_until(lambda: not set(transfer) & set(running.processes()), "rsync ends, too")
    one.wait(running)


def kill_until(running: Daemon, name: str, is_enough: Callable[[], bool]) -> None:
    """Kill every process of a sync until something is true."""

    def killed_enough() -> bool:
        if is_enough():
            return True
        pid = running.status(name).get("pid")
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return False

    wait_until(killed_enough, f"{name} is given up", describe=running.log)


def test_child_that_crashes_again_and_again_fails_alone(one: Sync, two: Sync, daemon: StartDaemon) -> None:
    running = daemon(one.settings(), two.settings())
    two.wait(running)
    kill_until(running, "one", lambda: running.status("one")["state"] == "failed")
    two.change(running, "still mirrored")
    (one.source / "file").write_text("written while it is failed")
    status = running.command("status")
    assert status.returncode == 1
    assert "crashed" in status.stdout
    assert running.command("restart", "one").returncode == 0
    one.wait(running)
    assert running.command("status").returncode == 0


def test_parent_without_a_sync_that_works_ends(one: Sync, daemon: StartDaemon) -> None:
    running = daemon(one.settings())
    kill_until(running, "one", lambda: running.process.poll() is not None)
    assert running.wait_for_end() == 1
    assert "every sync has failed" in running.log()


# ---------------------------------------------------------------------- the end


def test_children_and_rsync_die_with_a_killed_parent(one: Sync, two: Sync, daemon: StartDaemon) -> None:
    (one.source / "big").write_bytes(os.urandom(LONG))
    running = daemon(one.settings(rsync=SLOW), two.settings())
    wait_until(lambda: list(one.target.glob(".big.*")), "rsync writes", describe=running.log)
    running.kill()
    wait_until(lambda: not running.processes(), "all its processes are gone", describe=running.processes)
    (one.source / "big").unlink()
    running.start("home")
    one.wait(running)
    two.wait(running)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end(one: Sync, two: Sync, daemon: StartDaemon, number: signal.Signals) -> None:
    running = daemon(one.settings(), two.settings())
    one.wait(running)
    running.signal(number)
    assert running.wait_for_end() == 0
    assert running.processes() == []
    assert not (running.runtime / "control").exists()
    assert running.command("status").returncode == 3


def test_told_to_end_during_a_transfer(one: Sync, daemon: StartDaemon) -> None:
    (one.source / "big").write_bytes(os.urandom(LONG))
    running = daemon(one.settings(rsync=SLOW))
    wait_until(lambda: list(one.target.glob(".big.*")), "rsync writes", describe=running.log)
    assert running.stop() == 0
    assert running.processes() == []
    assert list(one.target.glob(".*")) == []
    (one.source / "big").write_bytes(b"short")
    running.start("home")
    one.wait(running)


# ---------------------------------------------------------------------- reload


def edit(running: Daemon, *syncs: Settings) -> None:
    """Replace the configuration by another one, and make it count."""
    running.write("home", text_of(*syncs))
    answer = running.command("reload")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_good_edit_restarts_only_what_changed(one: Sync, two: Sync, daemon: StartDaemon) -> None:
    running = daemon(one.settings(), two.settings())
    one.wait(running)
    two.wait(running)
    pids = running.child("one"), running.child("two")
    edit(running, one.settings(), two.settings(exclude=["*.tmp"]))
    (two.source / "x.tmp").write_text("not any more")
    (two.source / "new").write_text("new")
    wait_until((two.target / "new").exists, "the new process mirrors", describe=running.log)
    one.change(running, "still mirrored")
    assert not (two.target / "x.tmp").exists()
    assert running.child("one") == pids[0]
    assert running.child("two") != pids[1]
    edit(running, one.settings(), two.settings(exclude=["*.tmp"]))
    assert running.command("reload").stdout.count("nothing") == 1


def test_sync_that_is_added_removed_and_renamed(
    one: Sync, two: Sync, folder: Path, daemon: StartDaemon
) -> None:
    running = daemon(one.settings())
    one.wait(running)
    pid = running.child("one")
    edit(running, one.settings(), two.settings())
    two.wait(running)

    three = Sync(folder, "three")
    edit(running, one.settings(), three.settings())
    three.wait(running)
    wait_until(lambda: set(running.syncs() or ()) == {"one", "three"}, "two is forgotten")
    (two.source / "file").write_text("nobody mirrors it")
    one.change(running, "still mirrored")
    assert (two.target / "file").read_text() == "two"
    assert running.child("one") == pid

    # the same source and target under another name: the old one must give back the target's lock first
    edit(running, one.settings(), {**three.settings(), "name": "four"})
    (three.source / "file").write_text("by another name")
    running.wait_until_mirrored("four", three.source, three.target)
    assert set(running.syncs() or ()) == {"one", "four"}
    assert running.child("one") == pid


def test_syncs_that_swap_their_targets(one: Sync, two: Sync, daemon: StartDaemon) -> None:
    running = daemon(one.settings(), two.settings())
    one.wait(running)
    two.wait(running)
    edit(running, one.settings(target=str(two.target)), two.settings(target=str(one.target)))
    running.wait_until_mirrored("one", one.source, two.target)
    running.wait_until_mirrored("two", two.source, one.target)


BROKEN = [
    ("not YAML", "{source: ", "home.yaml:2:1"),
    ("unknown key", "source: /tmp\ntarget: /nowhere\nexlude: []\n", "home.yaml:3:1"),
    ("empty", "", "home.yaml"),
]


@pytest.mark.parametrize("text, place", [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_broken_edit_changes_nothing(one: Sync, daemon: StartDaemon, text: str, place: str) -> None:
    running = daemon(one.settings())
    one.wait(running)
    pid = running.child("one")
    running.write("home", text)
    answer = running.command("reload")
    assert answer.returncode == 2
    assert place in answer.stderr
    assert answer.stdout == ""
    before = running.log().count("cannot be used")
    assert before == 1
    running.signal(signal.SIGHUP)
    one.change(running, "still mirrored")
    assert running.child("one") == pid
    assert running.status("one")["state"] == "in-sync"
    running.write("home", text_of(one.settings(delay=0.2)))
    running.signal(signal.SIGHUP)
    running.wait_for("one", lambda status: status.get("pid") not in (None, pid), "the good edit counts")
    one.change(running, "by the new process")


def test_configuration_that_is_removed_changes_nothing(one: Sync, daemon: StartDaemon) -> None:
    running = daemon(one.settings())
    one.wait(running)
    (running.configuration / "home.yaml").unlink()
    assert running.command("reload").returncode == 2
    one.change(running, "still mirrored")


def test_restart_does_not_undo_a_reload(one: Sync, two: Sync, folder: Path, daemon: StartDaemon) -> None:
    fake = FakeRsync(folder / "fake")
    fake.become("hang")
    slow = {"rsync": {"binary": str(fake.path)}}
    running = daemon(one.settings(**slow), two.settings(**slow))
    old = running.child("one")
    wait_until(lambda: len(running.processes_named("sleep")) == 2, "both hang", describe=running.log)
    fake.become("pass")
    # both processes now wait for what they have started
    edit(running, one.settings(**slow, exclude=["*.tmp"]))
    assert running.command("restart", "one").returncode == 0
    refused = running.command("restart", "two")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 2)
    # and once more, while they still stop: back to the beginning
    edit(running, one.settings(**slow))
    edit(running, one.settings(**slow, exclude=["*.tmp"]))
    running.signal_named("sleep", signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{old}").exists(), "the old process ends", describe=running.log)
    (one.source / "x.tmp").write_text("excluded")
    (one.source / "new").write_text("new")
    wait_until((one.target / "new").exists, "the new process mirrors", describe=running.log)
    wait_until(lambda: set(running.syncs() or ()) == {"one"}, "two is forgotten")
    assert not (one.target / "x.tmp").exists()


# ---------------------------------------------------------------------- locks


@pytest.mark.parametrize("below", ["", "below", ".."])
def test_target_of_another_daemon_is_refused(
    one: Sync, two: Sync, daemons: Callable[..., Daemon], below: str
) -> None:
    first, second = daemons("first"), daemons("second")
    first.write("first", text_of(one.settings()))
    first.start("first")
    one.wait(first)
    taken = os.path.normpath(one.target / below)
    if below == "..":
        shutil.move(one.source, one.source.parent.parent / "source of one")
        (one.source.parent.parent / "source of one").rename(one.source)
    second.write("second", text_of(two.settings(target=taken)))
    second.start("second", wait=False)
    assert second.wait_for_end() == 2
    assert "is mirrored to already" in second.log()
    one.change(first, "still mirrored")
    first.stop()
    if below == "":
        second.start("second")
        second.wait_for_state("two", "held", "in-sync", "full-sync")


def test_taken_target_fails_its_sync_alone(
    one: Sync, two: Sync, folder: Path, daemons: Callable[..., Daemon]
) -> None:
    three = Sync(folder, "three")
    first, second = daemons("first"), daemons("second")
    first.write("first", text_of(one.settings()))
    first.start("first")
    one.wait(first)
    second.write("second", text_of(two.settings(target=str(one.target)), three.settings()))
    second.start("second")
    three.wait(second)
    assert "is mirrored to already" in second.wait_for_state("two", "failed")["reason"]
    first.stop()
    assert second.command("restart", "two").returncode == 0
    second.wait_until_mirrored("two", two.source, one.target)


def test_two_daemons_in_one_place(one: Sync, two: Sync, daemons: Callable[..., Daemon]) -> None:
    first, second = daemons("same"), daemons("same")
    first.write("first", text_of(one.settings()))
    first.write("second", text_of(two.settings()))
    first.start("first")
    one.wait(first)
    second.start("second", wait=False)
    assert second.wait_for_end() != 0
    assert "already running" in second.log()
    one.change(first, "still mirrored")
    assert set(first.syncs() or ()) == {"one"}


# ---------------------------------------------------------------------- what is said


def test_status(one: Sync, two: Sync, daemon: StartDaemon) -> None:
    running = daemon(one.settings(), two.settings(source=str(two.source / "missing")))
    one.wait(running)
    running.wait_for_state("two", "source-missing")
    table = running.command("status")
    assert table.returncode == 1
    assert [line.split()[:2] for line in table.stdout.splitlines() if not line.startswith(" ")] == [
        ["NAME", "STATE"], ["one", "in-sync"], ["two", "source-missing"],
    ]  # fmt: skip
    good = running.command("status", "one", "--json")
    assert good.returncode == 0
    (status,) = json.loads(good.stdout)["syncs"]
    assert (status["name"], status["state"], status["files"]) == ("one", "in-sync", 1)
    assert running.command("status", "two").returncode == 1
    unknown = running.command("status", "three")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "'three'" in unknown.stderr
    running.stop()
    for verb in (["status"], ["reload"], ["restart", "one"], ["accept", "one"]):
        stopped = running.command(*verb)
        assert (stopped.returncode, stopped.stdout) == (3, "")
        assert "not running" in stopped.stderr


def test_broken_file_beside_good_ones(one: Sync, two: Sync, daemons: Callable[..., Daemon]) -> None:
    running = daemons()
    running.write("one", text_of(one.settings()))
    running.write("two", text_of(two.settings()))
    running.write("wrong", "sourc: /tmp\n")
    running.start()
    one.wait(running)
    two.wait(running)
    assert "wrong.yaml:1:1" in running.status("wrong")["reason"]
    assert running.status("wrong")["state"] == "failed"
    assert running.command("status").returncode == 1
    assert running.command("restart", "wrong").returncode == 2
    assert running.command("reload").returncode == 2
    running.write("wrong", text_of(one.settings(name="wrong")))
    refused = running.command("reload")
    assert refused.returncode == 2
    assert "target" in refused.stderr
    (running.configuration / "wrong.yaml").unlink()
    assert running.command("reload").returncode == 0
    assert running.command("status").returncode == 0


@pytest.mark.parametrize("names", [[], ["wrong"], ["missing"]], ids=["all", "wrong", "missing"])
def test_nothing_but_broken_files(one: Sync, daemons: Callable[..., Daemon], names: list[str]) -> None:
    running = daemons()
    running.write("wrong", "source: /tmp\ntarget: 7\n")
    running.start(*names, wait=False)
    assert running.wait_for_end() == 2
    assert f"{names[0] if names else 'wrong'}.yaml" in running.log()


def test_missing_source_and_hung_target_beside_healthy_syncs(
    one: Sync, two: Sync, folder: Path, daemon: StartDaemon, manager: Manager
) -> None:
    fake = FakeRsync(folder / "fake")
    fake.become("hang")
    hung, missing = Sync(folder, "hung"), Sync(folder, "missing")
    shutil.rmtree(missing.source)
    running = daemon(
        hung.settings(rsync={"binary": str(fake.path)}),
        missing.settings(),
        one.settings(),
        two.settings(),
        variables=manager.variables,
    )
    manager.wait_for("READY=1")
    one.wait(running)
    two.wait(running)
    one.change(running, "again")
    assert running.status("missing")["state"] == "source-missing"
    fake.become("pass")
    for pid in running.processes_named("sleep"):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        private = (b"NOTIFY_SOCKET=", b"WATCHDOG_", b"LISTEN_")
        assert [line for line in environment if line.startswith(private)] == []
        assert b"LC_ALL=C.UTF-8" in environment
        assert "Umask:\t0022\n" in Path(f"/proc/{pid}/status").read_text()
        os.kill(pid, signal.SIGKILL)
    hung.wait(running)


# ---------------------------------------------------------------------- the service manager


def test_what_the_service_manager_is_told(one: Sync, daemon: StartDaemon, manager: Manager) -> None:
    running = daemon(one.settings(), variables=manager.variables)
    manager.wait_for("READY=1")
    one.wait(running)
    manager.wait_for("STATUS=in-sync")
    assert manager.lines.count("READY=1") == 1
    manager.wait_for("WATCHDOG=1", 3)

    edit(running, one.settings(delay=0.2))
    manager.wait_for("RELOADING=1")
    manager.wait_for("MONOTONIC_USEC=")
    manager.wait_for("READY=1", 2)
    assert manager.lines.index("RELOADING=1") < len(manager.lines) - manager.lines[::-1].index("READY=1") - 1
    assert "STOPPING=1" not in manager.lines
    running.write("home", "broken")
    assert running.command("reload").returncode == 2
    assert manager.hear().count("RELOADING=1") == 1

    assert running.stop() == 0
    manager.wait_for("STOPPING=1")


def test_full_syncs_to_one_host_wait_for_each_other(local: Pair, daemons: Callable[..., Daemon]) -> None:
    running = daemons()
    locks = Locks(running.runtime.parent / "locks")
    slots = [locks.take_host_slot(ADDRESS) for _ in range(FULL_SYNCS_PER_HOST)]
    ssh = f"ssh: {{port: {free_port()}}}"
    running.write("home", f"source: {local.source}\ntarget: {ADDRESS}:/nowhere\n{ssh}\n")
    running.start("home")
    status = running.wait_for(
        "home", lambda status: "same host" in status.get("reason", ""), "it waits for its turn"
    )
    assert status["state"] == "starting"
    assert running.command("status").returncode == 1, "nothing is mirrored yet"
    for slot in slots:
        assert slot is not None
        os.close(slot)
    running.wait_for_state("home", "unreachable")
