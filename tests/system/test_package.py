# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian package: what it installs, what it starts, what an upgrade and a removal do."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.machine import Machine
from system.mirror import Mirrors
from system.user import User

TOP = Path(__file__).resolve().parents[2]

WORST_EXPOSURE = 3.5

UNITS = ("lsyncd@.service", "lsyncd-sd.service")


@pytest.fixture
def installed_again(machine: Machine, package: Path) -> Iterator[None]:
    """Puts the package back after a test that removes or replaces it."""
    yield
    machine.run("dpkg", "--purge", "lsyncd-sd")
    machine.install(package)


def processes(machine: Machine) -> str:
    """Return the command lines of all processes that are ours."""
    return machine.run("pgrep", "--full", "--list-full", "lsyncd[-_]sd", check=False).stdout


def test_lintian_has_nothing_to_say(package: Path) -> None:
    changes = next(package.parent.glob("*.changes"))
    lintian = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", changes], capture_output=True, text=True
    )
    assert lintian.returncode == 0, lintian.stdout + lintian.stderr


@pytest.mark.parametrize(
    "path",
    [
        "/usr/bin/lsyncd-sd",
        "/usr/lib/systemd/system/lsyncd@.service",
        "/usr/lib/systemd/system/lsyncd-sd.service",
        "/usr/lib/systemd/user/lsyncd@.service",
        "/usr/lib/systemd/catalog/lsyncd-sd.catalog",
        "/usr/lib/tmpfiles.d/lsyncd-sd.conf",
        "/usr/share/bash-completion/completions/lsyncd-sd",
        "/usr/share/zsh/vendor-completions/_lsyncd-sd",
        "/etc/lsyncd.d",
        "/run/lsyncd-sd/locks",
    ],
)
def test_files_are_in_place(machine: Machine, path: str) -> None:
    machine.run("test", "-e", path)


@pytest.mark.parametrize("page", ["lsyncd-sd.8", "lsyncd-sd.yaml.5"])
def test_man_pages_are_there(machine: Machine, page: str) -> None:
    name, _, section = page.rpartition(".")
    shown = machine.run("man", "--pager=cat", section, name).stdout
    assert f"{name}({section})" in shown


def test_the_command_starts_with_what_the_package_depends_on(machine: Machine) -> None:
    assert "run" in machine.run("lsyncd-sd", "--help").stdout


def test_service_for_all_files_is_neither_enabled_nor_started(machine: Machine) -> None:
    assert machine.unit_property("lsyncd-sd.service", "UnitFileState") == "disabled"
    assert machine.unit_property("lsyncd-sd.service", "ActiveState") == "inactive"
    assert machine.unit_property("lsyncd-sd.service", "ActiveEnterTimestamp") == ""


def test_old_lsyncd_is_left_alone(machine: Machine) -> None:
    verified = machine.run("dpkg", "--verify", "lsyncd")
    # A root without the documentation has it "missing"; that is all dpkg may complain about.
    assert all(" /usr/share/" in line for line in verified.stdout.splitlines()), verified.stdout
    assert machine.unit_property("lsyncd.service", "LoadState") == "loaded"
    assert "/init.d/lsyncd" in machine.unit_property("lsyncd.service", "ExecStart")
    assert machine.run("pgrep", "--exact", "lsyncd", check=False).stdout == ""


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_well_sandboxed(machine: Machine, unit: str) -> None:
    path = f"/usr/lib/systemd/system/{unit}"
    shown = machine.run("systemd-analyze", "security", "--offline=true", "--no-pager", path).stdout
    found = re.search(r"Overall exposure level for \S+: (\S+)", shown)
    assert found is not None, shown
    assert float(found[1]) <= WORST_EXPOSURE, shown


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line_of_the_units(machine: Machine, unit: str) -> None:
    verified = machine.run("systemd-analyze", "verify", "--man=no", f"/usr/lib/systemd/system/{unit}")
    assert verified.stdout + verified.stderr == ""


def test_upgrade_restarts_running_instances_only(
    machine: Machine, mirrors: Mirrors, user: User, next_package: Path, installed_again: None
) -> None:
    users = user.start(mirrors.sync("users"))
    users_before = user.main_process(users)
    sync = mirrors.sync("upgraded")
    unit = mirrors.start("upgraded", sync.settings())
    idle = mirrors.configure("idle", mirrors.sync("idle").settings())
    before = machine.unit_property(unit, "MainPID")

    machine.install(next_package)

    assert machine.unit_property(unit, "ActiveState") == "active"
    assert machine.unit_property(unit, "MainPID") not in ("0", before)
    assert user.main_process(users) not in ("0", users_before)
    assert machine.unit_property(idle, "ActiveState") == "inactive"
    assert machine.unit_property("lsyncd-sd.service", "ActiveState") == "inactive"
    (sync.source / "after the upgrade").write_text("new")
    sync.wait_until_equal()


def completions(machine: Machine, *words: str) -> list[str]:
    """Return what bash offers for the last of these words."""
    complete = (
        "source /usr/share/bash-completion/completions/lsyncd-sd; "
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _lsyncd_sd; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return machine.run("bash", "-c", complete, "bash", *words).stdout.splitlines()


def test_bash_completes_verbs_files_and_syncs(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("completed")
    mirrors.start("file-of-it", sync.settings(name="sync-of-it"))

    assert completions(machine, "lsyncd-sd", "rel") == ["reload"]
    assert completions(machine, "lsyncd-sd", "check", "file") == ["file-of-it"]
    assert completions(machine, "lsyncd-sd", "restart", "") == ["sync-of-it"]
    assert "--json" in completions(machine, "lsyncd-sd", "status", "--")


@pytest.mark.parametrize("script", ["checks-a-file", "mirrors-a-tree"])
def test_autopkgtest_passes(machine: Machine, script: str) -> None:
    shutil.copy(TOP / "debian" / "tests" / script, machine.srv)
    machine.run(f"/srv/{script}")


def test_removal_leaves_no_process(
    machine: Machine, mirrors: Mirrors, user: User, installed_again: None
) -> None:
    user.start(mirrors.sync("users"))
    sync = mirrors.sync("removed")
    mirrors.start("removed", sync.settings())
    sync.wait_for_state("in-sync")
    assert processes(machine)

    machine.run("apt-get", "remove", "-y", "lsyncd-sd")

    assert processes(machine) == ""


def test_purge_removes_state_and_enable_links_but_no_file_of_the_admin(
    machine: Machine, mirrors: Mirrors, installed_again: None
) -> None:
    sync = mirrors.sync("purged")
    unit = mirrors.start("purged", sync.settings())
    link = f"/etc/systemd/system/multi-user.target.wants/{unit}"
    machine.run("test", "-L", link)

    machine.run("apt-get", "purge", "-y", "lsyncd-sd")

    places = (link, "/var/lib/lsyncd-sd", "/etc/lsyncd.d")
    left = machine.run("find", *places, "-not", "-type", "d", check=False)
    assert left.stdout.splitlines() == ["/etc/lsyncd.d/purged.yaml"]
