# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that a password file is read as rsync would, and refused where rsync would refuse it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lsyncd_sd.mirror.password import variables_with


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("open sesame")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"open sesame", "open sesame"),
        (b"first\nsecond\n", "first"),
        (b"from windows\r\n", "from windows"),
        (b" with spaces \n", " with spaces "),
        (b"b\xe4r\n", "b\udce4r"),
    ],
)
def test_the_first_line_is_the_password(secret: Path, content: bytes, password: str) -> None:
    secret.write_bytes(content)
    assert variables_with(str(secret)) == {"RSYNC_PASSWORD": password}


def test_without_a_file_there_is_none() -> None:
    assert variables_with(None) == {}


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_one_that_others_can_use_is_refused(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(PermissionError, match="others than its owner and group can read or write it"):
        variables_with(str(secret))


def test_one_for_a_group_is_taken(secret: Path) -> None:
    secret.chmod(0o640)
    assert variables_with(str(secret))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_takes_only_its_own(secret: Path) -> None:
    os.chown(secret, 65534, 0)
    with pytest.raises(PermissionError, match="does not belong to root"):
        variables_with(str(secret))


@pytest.mark.parametrize("content", [b"", b"\npassword", b"a\0b"])
def test_one_without_a_password_is_refused(secret: Path, content: bytes) -> None:
    secret.write_bytes(content)
    with pytest.raises(OSError, match="its first line is no password"):
        variables_with(str(secret))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(OSError, match="it is not a file"):
            variables_with(str(path))


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"the password file {tmp_path}/x cannot be used: No such file"):
        variables_with(f"{tmp_path}/x")
