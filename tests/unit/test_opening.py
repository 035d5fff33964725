# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests opening.py: no symlink is followed, no path is too long, nothing stays open."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsyncd_sd import opening
from lsyncd_sd.opening import PATH_BYTES, open_directory


@pytest.fixture(params=["openat2", "components"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A root that holds a/b/c/, a/file and links; with a kernel that knows openat2(2), and one without."""
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a" / "b" / "up").symlink_to("..")
    if request.param == "components":

        def unknown(*_arguments: object) -> int:
            opening.ctypes.set_errno(errno.ENOSYS)
            return -1

        monkeypatch.setattr(opening, "_syscall", unknown)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)
    # pytest's own cleaning does not come to an end of so many levels
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b"a/b/c"])
def test_directories_are_opened(root: int, path: bytes) -> None:
    before = open_descriptors()
    descriptor = open_directory(root, path)
    assert os.path.samestat(os.fstat(descriptor), os.stat(path or b".", dir_fd=root))
    assert not os.get_inheritable(descriptor)
    assert descriptor != root
    os.close(descriptor)
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        (b"gone", {errno.ENOENT}),
        (b"a/gone/c", {errno.ENOENT}),
        (b"a/file", {errno.ENOTDIR}),
        (b"a/file/c", {errno.ENOTDIR}),
        (b"link", {errno.ENOTDIR, errno.ELOOP}),
        (b"link/b", {errno.ENOTDIR, errno.ELOOP}),
        (b"a/b/up", {errno.ENOTDIR, errno.ELOOP}),
        (b"a/b/up/b/c", {errno.ENOTDIR, errno.ELOOP}),
    ],
)
def test_what_is_no_directory_or_behind_a_symlink_is_refused(
    root: int, path: bytes, numbers: set[int]
) -> None:
    before = open_descriptors()
    with pytest.raises(OSError) as raised:
        open_directory(root, path)
    assert raised.value.errno in numbers
    assert open_descriptors() == before


@pytest.mark.parametrize("length", [1, 7, 100, 255])
def test_a_path_may_be_longer_than_a_system_call_takes(root: int, length: int) -> None:
    name = b"n" * length
    depth = 2 * PATH_BYTES // (length + 1) + 3
    here = os.dup(root)
    for _step in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    path = b"/".join([name] * depth)
    assert len(path) > 2 * PATH_BYTES
    before = open_descriptors()
    descriptor = open_directory(root, path)
    assert os.path.samestat(os.fstat(descriptor), os.fstat(here))
    os.close(descriptor)
    os.symlink(b".", b"link", dir_fd=here)
    with pytest.raises(OSError):
        open_directory(root, path + b"/link")
    assert open_descriptors() == before
    os.close(here)


@pytest.mark.parametrize("path", [b"a" * 200, b"a/" * 2047 + b"a", b"a/" * 2048 + b"a"])
def test_pieces_are_short_enough_and_lose_nothing(path: bytes) -> None:
    pieces = list(opening._pieces(path))
    assert b"/".join(pieces) == path
    assert max(len(piece) for piece in pieces) <= PATH_BYTES
    assert not any(piece.startswith(b"/") or piece.endswith(b"/") for piece in pieces)
