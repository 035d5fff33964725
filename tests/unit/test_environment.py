# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/environment.py: systemd's folders, the defaults, and what a name means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lsyncd_sd.errors import ExitStatus, LsyncdError
from lsyncd_sd.service import environment

VARIABLES = (
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "XDG_CONFIG_HOME",
)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable is set, and whoever runs the tests is root."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ada")


def test_the_folders_of_root() -> None:
    assert environment.runtime_directory("home") == Path("/run/lsyncd-sd/i/home")
    assert environment.runtime_directory("") == Path("/run/lsyncd-sd/all")
    assert environment.state_directory() == Path("/var/lib/lsyncd-sd")
    assert environment.configuration_directory() == Path("/etc/lsyncd.d")


@pytest.mark.usefixtures("user")
def test_the_folders_of_a_user() -> None:
    assert environment.runtime_directory("home") == Path("/run/user/1000/lsyncd-sd/i/home")
    assert environment.runtime_directory("") == Path("/run/user/1000/lsyncd-sd/all")
    assert environment.state_directory() == Path("/home/ada/.local/state/lsyncd-sd")
    assert environment.configuration_directory() == Path("/home/ada/.config/lsyncd.d")


@pytest.mark.usefixtures("user")
def test_a_user_who_keeps_them_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/r")
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    assert environment.runtime_directory("home") == Path("/r/lsyncd-sd/i/home")
    assert environment.state_directory() == Path("/s/lsyncd-sd")
    assert environment.configuration_directory() == Path("/c/lsyncd.d")


@pytest.mark.parametrize(("value", "folder"), [("/a/b", "/a/b"), ("/a:/b", "/a"), ("", None), (":/b", None)])
def test_systemds_variable_goes_before_the_default(
    value: str, folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES[:3]:
        monkeypatch.setenv(name, value)
    assert environment.runtime_directory("home") == Path(folder or "/run/lsyncd-sd/i/home")
    assert environment.state_directory() == Path(folder or "/var/lib/lsyncd-sd")
    assert environment.configuration_directory() == Path(folder or "/etc/lsyncd.d")


@pytest.mark.parametrize(
    ("runtime", "locks"),
    [
        ("/run/lsyncd-sd/i/home", "/run/lsyncd-sd/locks"),
        ("/run/lsyncd-sd/all", "/run/lsyncd-sd/locks"),
        ("/run/lsyncd-sd/lines/home-1", "/run/lsyncd-sd/locks"),
        ("/run/user/1000/lsyncd-sd/i/home", "/run/user/1000/lsyncd-sd/locks"),
        ("/tmp/try", "/tmp/try/locks"),  # noqa: S108  (never touched)
    ],
)
def test_locks_hold_between_all_instances(runtime: str, locks: str) -> None:
    assert environment.locks_directory(Path(runtime)) == Path(locks)


def test_the_folders_of_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.line_runtime_directory("home-1") == Path("/run/lsyncd-sd/lines/home-1")
    assert environment.line_state_directory() == Path("/var/lib/lsyncd-sd/lines")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/r")
    monkeypatch.setenv("STATE_DIRECTORY", "/s")
    assert environment.line_runtime_directory("home-1") == Path("/r/lines/home-1")
    assert environment.line_state_directory() == Path("/s/lines")
    for runtime in ("/r", "/r/lines/home-1"):
        assert environment.locks_directory(Path(runtime)) == Path("/r/locks"), "one folder for all of them"


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("home", "/etc/lsyncd.d/home.yaml"),
        ("home.de", "/etc/lsyncd.d/home.de.yaml"),
        ("home.yaml", "home.yaml"),
        ("home.yml", "home.yml"),
        ("lsyncd.conf.lua", "lsyncd.conf.lua"),
        ("./home", "./home"),
        ("/srv/home.conf", "/srv/home.conf"),
    ],
)
def test_a_name_is_a_file_of_the_folder(argument: str, path: str) -> None:
    assert environment.configuration_file(argument) == path


def test_all_files_in_the_order_of_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder that would mean something else as a pattern.
    folder = tmp_path / "[c]*"
    folder.mkdir()
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(folder))
    assert environment.configuration_files() == []
    for name in ("b.yaml", "a.yaml", "c.yml", ".hidden.yaml", "a.yaml.dpkg-old"):
        (folder / name).touch()
    assert environment.configuration_files() == [str(folder / "a.yaml"), str(folder / "b.yaml")]


def test_the_sockets_of_all_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert environment.control_sockets() == []
    base = tmp_path / "lsyncd-sd"
    for folder in ("i/b", "i/a", "all", "lines/x-1", "i/empty", "locks"):
        (base / folder).mkdir(parents=True)
    for folder in ("i/b", "i/a", "all", "lines/x-1"):
        (base / folder / "control").touch()
    expected = [str(base / folder / "control") for folder in ("i/a", "i/b", "all", "lines/x-1")]
    assert environment.control_sockets() == expected
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/lsyncd-sd/i/home")
    assert environment.control_sockets() == ["/run/lsyncd-sd/i/home/control"]
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(base))
    assert environment.control_sockets() == [f"{base}/control", f"{base}/lines/x-1/control"]


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    environment.make_directory(folder, 0o700)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_there_is_only_ever_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid)
    tmp_path.chmod(0o777)
    environment.make_directory(tmp_path, 0o755)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    tmp_path.chmod(0o700)
    environment.make_directory(tmp_path, 0o755)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LsyncdError) as caught:
        environment.make_directory(tmp_path / "file" / "run", 0o755)
    assert caught.value.message == f"cannot make the folder {tmp_path}/file/run: Not a directory"
    assert "RUNTIME_DIRECTORY" in caught.value.hint
    assert caught.value.exit_status is ExitStatus.USAGE
