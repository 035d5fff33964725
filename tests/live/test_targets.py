# SPDX-License-Identifier: GPL-2.0-or-later
"""Several targets of one sync: each gets everything, and the trouble of one costs the others nothing."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers.comparing import age, tree
from helpers.daemon import Daemon, settings, text_of
from helpers.servers import ADDRESS, RsyncDaemon, Sshd
from helpers.waiting import wait_until
from live.conftest import StartDaemon

from lsyncd_sd.service.control_interface import ControlError

pytestmark = pytest.mark.live

MakeDaemon = Callable[..., Daemon]

# Enough for rsync to be at it when the test comes to stop it.
BIG = os.urandom(2_000_000)
SLOW = {"bwlimit": 1500, "whole_file": True}

# What is changed while one target is not there.
ROUNDS = 3


class Place(NamedTuple):
    """A target: as the configuration has it, and where it is on this machine."""

    address: str
    path: Path


class Fan:
    """A source with some files, and the targets of its sync."""

    def __init__(self, folder: Path, *places: Place, **more: Any) -> None:
        self.source = folder / "source"
        self.places = places
        self._more = more
        for name in ("a/file1", "a/file2", "b/deep/file3"):
            (self.source / name).parent.mkdir(parents=True, exist_ok=True)
            (self.source / name).write_text(name)
        age(self.source)

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the mapping for a configuration file."""
        mapping = settings(self.source, "", name="home", **{**self._more, **more})
        del mapping["target"]
        return {**mapping, "targets": [place.address for place in self.places]}

    def write(self, name: str, content: str = "new") -> None:
        """Change a file of the source."""
        (self.source / name).parent.mkdir(parents=True, exist_ok=True)
        (self.source / name).write_text(content)

    def is_mirrored(self, number: int) -> bool:
        """Tell whether a target is what the source is."""
        path = self.places[number].path
        return path.is_dir() and tree(path) == tree(self.source)

    def wait(self, running: Daemon, number: int) -> None:
        """Wait until a target has everything, and says so."""

        def is_there() -> bool:
            status = self.status(running, number)
            return status["state"] == "in-sync" and status["pending"] == 0 and self.is_mirrored(number)

        wait_until(
            is_there,
            f"{self.places[number].address} is mirrored",
            describe=lambda: f"{running.status('home')}\n{running.log()}",
        )

    def wait_for_all(self, running: Daemon) -> None:
        """Wait until every target has everything."""
        for number in range(len(self.places)):
            self.wait(running, number)

    def status(self, running: Daemon, number: int) -> dict[str, Any]:
        """Return the status of one target."""
        targets = running.wait_for("home", lambda status: "targets" in status, "it says how the targets are")
        status = targets["targets"][number]
        assert status["target"] == self.places[number].address
        return dict(status)

    def wait_for_state(self, running: Daemon, number: int, *states: str) -> dict[str, Any]:
        """Wait until one target is in one of these states, and return its status."""

        def fulfilled() -> dict[str, Any]:
            status = self.status(running, number)
            return status if status["state"] in states else {}

        return wait_until(
            fulfilled,
            f"{self.places[number].address} is {' or '.join(states)}",
            describe=lambda: f"{running.status('home')}\n{running.log()}",
        )

    def go_on_with(self, running: Daemon, number: int) -> None:
        """See that a target gets change after change."""
        for turn in range(ROUNDS):
            self.write(f"b/turn{turn}")
            self.write("a/file1", f"turn {turn}")
            (self.source / f"a/gone{turn}").mkdir()
            self.wait(running, number)
            (self.source / f"a/gone{turn}").rmdir()
            self.wait(running, number)


def local(folder: Path, name: str) -> Place:
    """Return a target on this machine, not made yet."""
    return Place(str(folder / name), folder / name)


def over_ssh(folder: Path, name: str) -> Place:
    """Return a target that is reached over ssh."""
    return Place(f"{ADDRESS}:{folder / name}", folder / name)


def of_daemon(server: RsyncDaemon, name: str) -> Place:
    """Return a target of an rsync daemon."""
    return Place(f"rsync://{ADDRESS}:{server.port}/mirror/{name}", server.module / name)


@pytest.fixture
def two(folder: Path) -> Fan:
    """A source with two local targets."""
    return Fan(folder, local(folder, "one"), local(folder, "two"))


@pytest.fixture(params=["ssh", "daemon"])
def remote(request: pytest.FixtureRequest, folder: Path) -> Fan:
    """A source with a local and a remote target."""
    if request.param == "ssh":
        sshd: Sshd = request.getfixturevalue("running_sshd")
        return Fan(folder, local(folder, "one"), over_ssh(folder, "two"), ssh=sshd.section())
    rsyncd: RsyncDaemon = request.getfixturevalue("running_rsyncd")
    return Fan(folder, local(folder, "one"), of_daemon(rsyncd, f"two-{folder.parent.name}"))


def rsyncs_to(running: Daemon, place: Place) -> list[int]:
    """Return the processes of rsync on our side that mirror to a target."""
    found = []
    wanted = f"{place.address}/.".encode()
    for pid in running.processes_named("rsync"):
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


@contextlib.contextmanager
def frozen(running: Daemon, place: Place) -> Iterator[None]:
    """Stop what mirrors to a target; it ends by itself at the end."""
    pids = wait_until(lambda: rsyncs_to(running, place), "rsync mirrors", describe=running.log)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def full_syncs(running: Daemon, place: Place) -> int:
    """Return how many full syncs of a target have ended."""
    return len(re.findall(rf"home: {re.escape(place.address)}: batch \d+ \(full sync\):", running.log()))


def wait_for_checkpoints(running: Daemon, number: int) -> None:
    """Wait until as much is known of so many targets that a restart needs no full sync."""

    def are_there() -> bool:
        return len(list(running.state.glob("home/*.rescan/snapshot"))) >= number

    wait_until(are_there, f"{number} checkpoints", describe=running.log)


# ---------------------------------------------------------------------- all is well


def test_each_target_gets_everything(remote: Fan, daemon: StartDaemon) -> None:
    running = daemon(remote.settings())
    remote.wait_for_all(running)
    remote.write("a/file1", "changed")
    remote.write("new/file", "new")
    (remote.source / "a/file2").unlink()
    (remote.source / "b").rename(remote.source / "moved")
    running.sync("home")
    assert [remote.is_mirrored(number) for number in range(2)] == [True, True]
    assert all(full_syncs(running, place) == 1 for place in remote.places)
    shown = running.command("status")
    assert shown.returncode == 0
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == ["home", "home"]
    assert [line.split()[-1] for line in shown.stdout.splitlines()[1:]] == [
        place.address for place in remote.places
    ]
    # one watch for both
    assert running.status("home")["directories"] == 1 + len(
        [path for path in remote.source.rglob("*") if path.is_dir()]
    )


# ---------------------------------------------------------------------- one is frozen


def test_a_target_whose_rsync_is_frozen_keeps_none_waiting(remote: Fan, daemon: StartDaemon) -> None:
    running = daemon(remote.settings(rsync=SLOW, timeout=0))
    remote.wait_for_all(running)
    (remote.source / "big").write_bytes(BIG)
    with frozen(running, remote.places[1]):
        remote.wait(running, 0)
        before = (remote.status(running, 1)["batches"], tree(remote.places[1].path))
        remote.go_on_with(running, 0)
        status = remote.status(running, 1)
        assert (status["batches"], tree(remote.places[1].path)) == before, "it was not frozen"
        assert status["state"] == "syncing"
        assert status["pending"] > 1
        assert running.status("home")["state"] == "syncing"
        waited = running.command("sync", "home", "--wait", "--timeout", "0.5")
        assert waited.returncode == 1, "the other one is waited for as well"
        remote.wait(running, 0)
    running.sync("home")
    assert [remote.is_mirrored(number) for number in range(2)] == [True, True]


def test_a_target_whose_host_hangs_keeps_none_waiting(folder: Path, sshd: Sshd, daemon: StartDaemon) -> None:
    options = {**sshd.section()["options"], "ConnectTimeout": "1"}
    fan = Fan(
        folder, local(folder, "one"), over_ssh(folder, "two"), ssh={**sshd.section(), "options": options}
    )
    running = daemon(fan.settings())
    fan.wait_for_all(running)
    sshd.signal(signal.SIGSTOP)
    fan.go_on_with(running, 0)
    assert fan.wait_for_state(running, 1, "unreachable")["pending"] > 0
    fan.go_on_with(running, 0)
    assert running.status("home")["state"] == "unreachable"
    assert running.status("home")["reason"].startswith(f"{fan.places[1].address}: unreachable: ")
    assert running.command("status").returncode == 1
    sshd.signal(signal.SIGCONT)
    running.sync("home")
    assert fan.is_mirrored(1)


# ---------------------------------------------------------------------- one is dead


def test_a_target_that_is_dead_at_the_start(folder: Path, rsyncd: RsyncDaemon, daemon: StartDaemon) -> None:
    fan = Fan(folder, of_daemon(rsyncd, "dead"), local(folder, "living"))
    rsyncd.stop()
    running = daemon(fan.settings())
    fan.wait_for_state(running, 0, "unreachable")
    fan.go_on_with(running, 1)
    rsyncd.start()
    running.sync("home")
    assert fan.is_mirrored(0)
    assert [full_syncs(running, place) for place in fan.places] == [1, 1]


@pytest.mark.parametrize("how", ["stop", "kill", "kill child"])
def test_a_target_that_is_behind_catches_up_after_a_restart(
    folder: Path, rsyncd: RsyncDaemon, daemon: StartDaemon, how: str
) -> None:
    fan = Fan(folder, local(folder, "living"), of_daemon(rsyncd, "behind"))
    running = daemon(fan.settings())
    fan.wait_for_all(running)
    wait_for_checkpoints(running, 2)
    rsyncd.stop()
    fan.go_on_with(running, 0)
    (fan.source / "b/deep/file3").unlink()
    fan.wait_for_state(running, 1, "unreachable")
    if how == "kill child":
        os.kill(running.child("home"), signal.SIGKILL)
    else:
        if how == "stop":
            assert running.stop() == 0
        else:
            running.kill()
            wait_until(lambda: not running.processes(), "all its processes are gone")
        fan.write("a/while nobody watched")
        running.start("home")
    fan.wait(running, 0)
    fan.wait_for_state(running, 1, "unreachable")
    rsyncd.start()
    running.sync("home")
    assert fan.is_mirrored(1)
    for place in fan.places:
        assert full_syncs(running, place) == 1
        assert f"home: {place.address}: looked through the source" in running.log()


def test_kill_while_one_target_is_frozen(remote: Fan, daemon: StartDaemon) -> None:
    running = daemon(remote.settings(rsync=SLOW, timeout=0))
    remote.wait_for_all(running)
    (remote.source / "big").write_bytes(BIG)
    with frozen(running, remote.places[1]):
        remote.go_on_with(running, 0)
        child = running.child("home")
        os.kill(child, signal.SIGKILL)
        running.wait_for("home", lambda status: status["pid"] not in (None, child), "another process")
        remote.wait(running, 0)
        remote.wait(running, 1)
    assert running.status("home")["restarts"] == 1


# ---------------------------------------------------------------------- one is held


def exchange(place: Place) -> None:
    """Put another directory in a target's place."""
    place.path.rename(place.path.with_name(f"{place.path.name} before"))
    place.path.mkdir()


def test_a_target_that_is_held_keeps_none_waiting(two: Fan, daemon: StartDaemon) -> None:
    running = daemon(two.settings())
    two.wait_for_all(running)
    exchange(two.places[1])
    two.write("a/file1", "changed")
    status = two.wait_for_state(running, 1, "held")
    assert status["reason"].endswith(f"lsyncd-sd accept home {two.places[1].address}")
    two.go_on_with(running, 0)
    assert list(two.places[1].path.iterdir()) == []
    assert running.status("home")["state"] == "held"
    done = running.command("accept", "home")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"home goes on with what {two.places[1].address} was held for"
    running.sync("home")
    assert two.is_mirrored(1)


def test_of_several_that_are_held_only_the_one_that_is_named_goes_on(two: Fan, daemon: StartDaemon) -> None:
    running = daemon(two.settings())
    two.wait_for_all(running)
    for place in two.places:
        exchange(place)
    two.write("a/file1", "changed")
    for number in range(2):
        two.wait_for_state(running, number, "held")
    one, other = (place.address for place in two.places)
    refused = running.command("accept", "home")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"lsyncd-sd accept home {one}, lsyncd-sd accept home {other}" in refused.stderr
    unknown = running.command("accept", "home", "/elsewhere")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    with pytest.raises(ControlError, match="more than one target"):
        running.call("Accept", name="home")
    assert running.command("accept", "home", other).returncode == 0
    two.wait(running, 1)
    assert two.status(running, 0)["state"] == "held"
    assert list(two.places[0].path.iterdir()) == []
    assert running.command("accept", "home").returncode == 0, "there is only one left"
    two.wait(running, 0)


def test_a_missing_source_is_told_once(two: Fan, daemon: StartDaemon) -> None:
    running = daemon(two.settings())
    two.wait_for_all(running)
    two.source.rename(two.source.with_name("away"))
    running.wait_for_state("home", "source-missing")
    assert {two.status(running, number)["state"] for number in range(2)} == {"source-missing"}
    assert running.log().count("is gone or was replaced; waiting for it") == 1
    two.source.with_name("away").rename(two.source)
    two.write("a/file1", "changed")
    two.wait_for_all(running)


# ---------------------------------------------------------------------- one belongs to another


def test_a_target_of_another_service_keeps_none_waiting(two: Fan, folder: Path, daemons: MakeDaemon) -> None:
    first, second = daemons("first"), daemons("second")
    (folder / "other").mkdir()
    first.write("first", text_of(settings(folder / "other", two.places[0].address, name="first")))
    first.start("first")
    first.wait_for_state("first", "in-sync")
    second.write("second", text_of(two.settings()))
    second.start("second")
    two.go_on_with(second, 1)
    status = two.wait_for_state(second, 0, "failed")
    assert "is mirrored to already" in status["reason"]
    assert second.status("home")["state"] == "failed"
    waited = second.command("sync", "home", "--wait")
    assert waited.returncode == 1
    assert "is mirrored to already" in waited.stderr
    assert second.command("sync", "home").returncode == 0
    first.stop()
    assert second.command("restart", "home").returncode == 0
    two.wait_for_all(second)


# ---------------------------------------------------------------------- targets come and go


def test_what_is_known_of_a_target_outlasts_the_others(two: Fan, daemon: StartDaemon) -> None:
    """A second target comes, the order changes, the first one goes: neither is compared as a whole again."""
    one, other = two.places

    def run_with(*places: Place) -> None:
        two.places = places
        alone = {**settings(two.source, one.address, name="home"), "target": places[0].address}
        running.write("home", text_of(two.settings() if len(places) > 1 else alone))
        assert running.command("reload").returncode == 0
        two.write("a/file1", f"for {len(places)}")
        running.sync("home")
        assert all(two.is_mirrored(number) for number in range(len(places)))
        wait_for_checkpoints(running, len(places))

    running = daemon({**two.settings(), "targets": [one.address]})
    running.wait_for_state("home", "in-sync")
    run_with(one)
    assert [path.name for path in running.state.glob("home/*.json")] == ["home.json"]
    run_with(one, other)
    # whatever is there that the source does not have may be deleted only if the target is known
    (one.path / "stray").touch()
    run_with(other, one)
    assert len(list(running.state.glob("home/home+*.json"))) == 2
    run_with(other)
    assert running.log().count("(full sync)") == 2


def test_one_target_in_a_list_is_one_target(two: Fan, daemon: StartDaemon) -> None:
    two.places = two.places[:1]
    running = daemon(two.settings())
    status = running.wait_for_state("home", "in-sync")
    assert (status["target"], "targets" in status) == (two.places[0].address, False)
    assert f"home: {two.places[0].address}" not in running.log()
