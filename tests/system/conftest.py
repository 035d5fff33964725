# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the system tests: the package, and one booted machine for each Debian release."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from system.machine import CannotBootError, Machine
from system.mirror import Mirrors
from system.user import User

TOP = Path(__file__).resolve().parents[2]
RELEASES = ("bookworm", "trixie")
TOOLS = ("systemd-nspawn", "mmdebstrap", "dpkg-buildpackage", "nsenter", "unshare", "setpriv")

# The first test of each release also builds the package, makes the root if it is not cached, and boots.
TIME_LIMIT = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.timeout(TIME_LIMIT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    machine = getattr(item, "funcargs", {}).get("machine")
    # At a teardown the machine may be down.
    if report.failed and report.when != "teardown" and machine is not None:
        report.sections.append(("journal of the machine", machine.readable_journal(call.start)))
    return report


def unavailable(reason: str) -> NoReturn:
    """Skip; where the system tests are demanded, fail instead."""
    if os.environ.get("CI") == "true" or os.environ.get("LSYNCD_SD_REQUIRE_SYSTEM") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def script(*argv: str | Path) -> str:
    """Run a script of packaging/ and return the last line it prints."""
    completed = subprocess.run(["sh", *argv], cwd=TOP, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    assert completed.returncode == 0, f"{argv} ended with {completed.returncode}"
    return completed.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def able() -> None:
    """Make sure that this system can do what the machines need."""
    if os.geteuid() != 0:
        unavailable("system tests need root")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        unavailable(f"system tests need {', '.join(missing)}; packaging/test.sh installs them")


@pytest.fixture(scope="session")
def package(able: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, built from this work tree."""
    return Path(script("packaging/build-deb.sh", tmp_path_factory.mktemp("package")))


@pytest.fixture(scope="session")
def next_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package with a higher version."""
    folder = tmp_path_factory.mktemp("next-package")
    return Path(script("packaging/build-deb.sh", folder, "99.0-1"))


@pytest.fixture(scope="session", params=RELEASES)
def bare_machine(able: None, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A booted Debian of each release, without the package."""
    root = Path(script("packaging/make-root.sh", request.param))
    # Beside the root: a real file system, where /tmp may be something else.
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f"machine-{request.param}-") as folder:
        try:
            machine = Machine(request.param, root, Path(folder))
        except CannotBootError as error:
            unavailable(f"cannot boot {request.param} here: {error}")
        yield machine
        machine.power_off()


@pytest.fixture(scope="session")
def machine(bare_machine: Machine, package: Path) -> Machine:
    """A booted Debian of each release, with the package installed by apt."""
    bare_machine.install(package)
    return bare_machine


@pytest.fixture
def mirrors(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Mirrors]:
    """Syncs of this test alone; they and their files are gone after it."""
    made = Mirrors(machine, request.node.name.partition("[")[0].removeprefix("test_"))
    yield made
    made.remove()


@pytest.fixture
def user(machine: Machine) -> Iterator[User]:
    """A user with a manager of their own."""
    made = User(machine, "mirrorer")
    yield made
    made.remove()
