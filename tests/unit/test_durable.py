# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/durable.py; that nothing is lost is tested with those who use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsyncd_sd.service.durable import replace_file, sync_file_system, write_all, write_file


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path, temporary = tmp_path / "file", tmp_path / "file.new"
    path.write_text("old")
    temporary.write_text("left behind, and longer than what follows")

    def chunks() -> Iterator[bytes]:
        yield b"new"
        assert path.read_text() == "old"
        yield b"er"

    replace_file(path, temporary, chunks())
    assert path.read_text() == "newer"
    assert os.listdir(tmp_path) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_who_still_writes_to_the_old_file_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with open(path, "wb", buffering=0) as late:
        write_file(path, [b"new"])
        late.write(b"from before")
    assert path.read_bytes() == b"new"


def test_a_write_that_stops_early_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
    with open(tmp_path / "file", "wb") as file:
        write_all(file.fileno(), b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_a_file_system_is_flushed(tmp_path: Path) -> None:
    sync_file_system(os.fsencode(tmp_path))
    with pytest.raises(FileNotFoundError):
        sync_file_system(os.fsencode(tmp_path / "none"))
