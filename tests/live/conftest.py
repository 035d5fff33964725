# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the live tests: real daemons, real servers, and a place for each kind of target."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers.comparing import age
from helpers.daemon import Daemon, Settings, settings, text_of
from helpers.servers import ADDRESS, RsyncDaemon, Sshd

StartDaemon = Callable[..., Daemon]


def needs_root() -> None:
    """Skip the calling test unless it is run by root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the trees of a test, beside that of the daemons."""
    (tmp_path / "trees").mkdir()
    return tmp_path / "trees"


@pytest.fixture
def daemons() -> Iterator[Callable[..., Daemon]]:
    """Make daemons without starting them; all are ended and looked after when the test is over.

    Their folder has a short name: ssh takes no path of more than 90 bytes for its socket.
    """
    made: list[Daemon] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daemons-")))

        def make(instance: str = "all", cls: type[Daemon] = Daemon, **options: Any) -> Daemon:
            daemon = cls(folder, instance, **options)
            made.append(daemon)
            return daemon

        yield make
        for daemon in made:
            stack.callback(daemon.finish)


@pytest.fixture
def daemon(daemons: Callable[..., Daemon]) -> StartDaemon:
    """Start a daemon on these syncs, in one file named home.yaml; their sources are aged first."""

    def start(*syncs: Settings, **options: Any) -> Daemon:
        for sync in syncs:
            # some are to come later
            if Path(sync["source"]).exists():
                age(Path(sync["source"]))
        started = daemons()
        started.write("home", text_of(*syncs))
        started.start("home", **options)
        return started

    return start


@pytest.fixture(scope="session")
def running_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd for every test that does not stop it."""
    needs_root()
    server = Sshd(tmp_path_factory.mktemp("sshd") / "server")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def running_rsyncd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RsyncDaemon]:
    """An rsync daemon for every test that does not stop it."""
    needs_root()
    server = RsyncDaemon(tmp_path_factory.mktemp("rsyncd") / "server")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An sshd of this test's own."""
    needs_root()
    server = Sshd(tmp_path / "sshd")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def rsyncd(tmp_path: Path) -> Iterator[RsyncDaemon]:
    """An rsync daemon of this test's own."""
    needs_root()
    server = RsyncDaemon(tmp_path / "rsyncd")
    server.start()
    yield server
    server.stop()


@dataclass
class Pair:
    """A source and a target of some kind; `target` is where it is on this machine, not made yet."""

    source: Path
    target: Path
    address: str
    more: Settings = field(default_factory=dict)

    def settings(self, **more: Any) -> Settings:
        """Return the mapping for a configuration file."""
        return settings(self.source, self.address, **{"name": "home", **self.more, **more})


@pytest.fixture
def local(folder: Path) -> Pair:
    """An empty source and a local target."""
    return local_pair(folder)


def local_pair(folder: Path) -> Pair:
    """Make an empty source in a folder, for a local target beside it."""
    (folder / "source").mkdir(parents=True)
    return Pair(folder / "source", folder / "target", str(folder / "target"))


@pytest.fixture
def seed() -> str:
    """The seed of this run, given or new; shown when a test fails."""
    given = os.environ.get("LSYNCD_SD_SEED") or str(random.SystemRandom().randrange(2**32))
    print(f"LSYNCD_SD_SEED={given}")
    return given


KINDS = ("local", "ssh", "rsyncssh", "daemon")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `pair` on each kind of target, what asks for `some_pair` so only with --full."""
    if "pair" in metafunc.fixturenames:
        metafunc.parametrize("pair", KINDS, indirect=True)
    if "some_pair" in metafunc.fixturenames:
        kinds = KINDS if metafunc.config.getoption("--full") else KINDS[:1]
        metafunc.parametrize("some_pair", kinds, indirect=True)
    if "make_pair" in metafunc.fixturenames:
        kinds = KINDS if metafunc.config.getoption("--full") else KINDS[:1]
        metafunc.parametrize("make_pair", kinds, indirect=True)


@pytest.fixture
def pair(request: pytest.FixtureRequest, local: Pair) -> Pair:
    """An empty source and a target of each kind in turn."""
    return pair_of(request.param, request, local)


@pytest.fixture
def some_pair(request: pytest.FixtureRequest, local: Pair) -> Pair:
    """An empty source and a target for what the target's kind makes no difference to, as far as is known."""
    return pair_of(request.param, request, local)


@pytest.fixture
def make_pair(request: pytest.FixtureRequest, folder: Path) -> Callable[[str], Pair]:
    """Make such pairs, of the same kind and each with a folder of its own, by their names."""
    return lambda name: pair_of(request.param, request, local_pair(folder / name))


def pair_of(kind: str, request: pytest.FixtureRequest, local: Pair) -> Pair:
    """Return an empty source and a target of this kind."""
    if kind in ("ssh", "rsyncssh"):
        server: Sshd = request.getfixturevalue("running_sshd")
        more: Settings = {"mode": "rsyncssh"} if kind == "rsyncssh" else {}
        return Pair(
            local.source, local.target, f"{ADDRESS}:{local.target}", {"ssh": server.section()} | more
        )
    if kind == "daemon":
        rsyncd: RsyncDaemon = request.getfixturevalue("running_rsyncd")
        name = f"tree-{uuid.uuid4().hex}"
        address = f"rsync://{ADDRESS}:{rsyncd.port}/mirror/{name}"
        return Pair(local.source, rsyncd.module / name, address)
    return local
