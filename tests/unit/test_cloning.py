# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/cloning.py on file systems that share blocks, and on one that does not."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import sharing

from lsyncd_sd.mirror import cloning
from lsyncd_sd.mirror.cloning import SIGN_OF_LIFE, NotClonedError, clone

MIB = 1024 * 1024
OLD = 1_600_000_000_123_456_789


@pytest.fixture(params=sharing.KINDS, scope="module")
def mounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system whose files can share blocks."""
    with sharing.sharing_file_system(request.param, tmp_path_factory.mktemp(request.param)) as place:
        yield place


@pytest.fixture
def on_it(mounted: Path, tmp_path: Path) -> Iterator[Path]:
    """An empty folder on it."""
    folder = mounted / tmp_path.name
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


class Ends:
    """A source and a target of one file, `d/file`."""

    def __init__(self, source: Path, target: Path) -> None:
        self.roots = source, target
        for root in self.roots:
            (root / "d").mkdir(parents=True)
        self.source, self.target = (root / "d/file" for root in self.roots)

    def clone(self, *, acls: bool = False, xattrs: bool = False) -> tuple[int, int]:
        """Clone the file; return the size, and the number of signs of life. Its directory keeps its time."""
        source, target = (os.open(root, os.O_RDONLY) for root in self.roots)
        signs = 0
        directory = self.target.parent
        os.utime(directory, ns=(OLD, OLD))
        steps = clone(source, target, b"d/file", acls=acls, xattrs=xattrs)
        try:
            while True:
                assert next(steps) == SIGN_OF_LIFE
                signs += 1
        except StopIteration as stop:
            return int(stop.value), signs
        finally:
            assert directory.stat().st_mtime_ns == OLD
            os.close(source)
            os.close(target)

    def assert_equal(self) -> None:
        assert self.target.read_bytes() == self.source.read_bytes()
        one, other = self.source.stat(), self.target.stat()
        assert (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)
        assert one.st_mtime_ns == other.st_mtime_ns
        assert os.listdir(self.target.parent) == ["file"], "something is left over"


@pytest.fixture
def same(on_it: Path) -> Ends:
    """Source and target on one file system."""
    return Ends(on_it / "source", on_it / "target")


@pytest.fixture
def across(tmp_path: Path, on_it: Path) -> Ends:
    """Only the target is on it."""
    return Ends(tmp_path / "source", on_it / "target")


# ---- what is shared


def test_the_source_is_shared(same: Ends) -> None:
    same.source.write_bytes(os.urandom(3 * MIB))
    same.source.chmod(0o640)
    os.utime(same.source, ns=(OLD, OLD))
    assert same.clone() == (3 * MIB, 0)
    same.assert_equal()
    assert sharing.shared_bytes(same.target, same.source) == 3 * MIB


def test_what_was_there_before_is_replaced(same: Ends) -> None:
    same.source.write_bytes(os.urandom(MIB))
    same.target.write_bytes(os.urandom(2 * MIB))
    with open(same.target, "rb") as reader:
        same.clone()
        # Whoever reads it goes on to read the old one.
        assert len(reader.read()) == 2 * MIB
    same.assert_equal()


@pytest.mark.parametrize("offset", [0, 5 * MIB, 5 * MIB + 17, 8 * MIB])
def test_only_what_differs_is_written(across: Ends, offset: int) -> None:
    content = bytearray(os.urandom(8 * MIB))
    across.target.write_bytes(content)
    content[offset : offset + 100] = os.urandom(100)
    across.source.write_bytes(content)
    old = across.target.parent / "old"
    os.link(across.target, old)
    assert across.clone() == (len(content), 0)
    assert sharing.shared_bytes(across.target, old) >= 7 * MIB
    old.unlink()
    across.assert_equal()


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 1])
def test_a_file_that_became_smaller_or_larger(across: Ends, size: int) -> None:
    across.target.write_bytes(os.urandom(2 * MIB))
    across.source.write_bytes(os.urandom(size))
    assert across.clone() == (size, 0)
    across.assert_equal()


def test_zeros_behind_the_old_end_become_a_hole(across: Ends) -> None:
    across.target.write_bytes(b"x" * MIB)
    across.source.write_bytes(b"x" * MIB + bytes(10 * MIB))
    across.clone()
    across.assert_equal()
    assert across.target.stat().st_blocks * 512 <= 2 * MIB


def test_it_shows_that_it_goes_on(across: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloning, "_PIECE_BYTES", 4096)
    across.target.write_bytes(os.urandom(MIB))
    across.source.write_bytes(os.urandom(MIB))
    assert across.clone() == (MIB, MIB // 4096 // 16)


def test_a_file_that_is_another_one_is_not_compared_to_its_end(
    across: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloning, "_PIECE_BYTES", 4096)
    pieces = 200
    across.target.write_bytes(os.urandom(pieces * 4096))
    across.source.write_bytes(os.urandom(pieces * 4096))
    compared: list[int] = []
    real = os.pread

    def read(descriptor: int, size: int, offset: int) -> bytes:
        compared.append(offset)
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", read)
    across.clone()
    # each piece of the source is read, and what is behind its end
    assert len(compared) == pieces + 1 + 64
    across.assert_equal()


# ---- its attributes


def test_it_belongs_to_the_same_owner(same: Ends) -> None:
    same.source.write_bytes(b"x")
    os.chown(same.source, 1234, 4321)
    same.source.chmod(0o6751)
    same.clone()
    same.assert_equal()


def test_an_access_control_list_comes_along_if_it_is_wanted(same: Ends) -> None:
    same.source.write_bytes(b"x")
    same.source.chmod(0o640)
    subprocess.run(["setfacl", "-m", "u:1234:r,g::-", same.source], check=True)
    for wanted in (False, True):
        same.clone(acls=wanted)
        same.assert_equal()
        told = subprocess.run(["getfacl", "-n", same.target], check=True, capture_output=True, text=True)
        assert ("user:1234:r--" in told.stdout) is wanted


def test_other_attributes_come_along_if_they_are_wanted(same: Ends) -> None:
    same.source.write_bytes(b"x")
    os.setxattr(same.source, "user.mine", b"1")
    for wanted in (False, True):
        same.clone(xattrs=wanted)
        assert os.listxattr(same.target) == (["user.mine"] if wanted else [])


# ---- what is left to rsync


def left_alone(ends: Ends) -> None:
    with contextlib.suppress(FileNotFoundError):
        before = os.lstat(ends.target)
    held = sorted(os.listdir(ends.target.parent))
    with pytest.raises((NotClonedError, OSError)):
        ends.clone()
    assert sorted(os.listdir(ends.target.parent)) == held
    if held:
        after = os.lstat(ends.target)
        assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (
            before.st_ino,
            before.st_mtime_ns,
            before.st_mode,
        )


def test_a_new_file_from_another_file_system(across: Ends) -> None:
    across.source.write_bytes(b"x")
    left_alone(across)


def test_a_file_system_that_shares_nothing(tmp_path: Path) -> None:
    ends = Ends(tmp_path / "source", tmp_path / "target")
    for path in (ends.source, ends.target):
        path.write_bytes(b"x")
    if subprocess.run(["stat", "-f", "-c%T", tmp_path], capture_output=True, check=True).stdout in (
        b"btrfs\n",
        b"xfs\n",
    ):
        pytest.skip("it may")
    left_alone(ends)


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def endless_zeros(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))


def a_directory(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    (path.parent.parent / "other").write_bytes(b"other")
    path.symlink_to("../other")


def nothing(_path: Path) -> None: ...


@pytest.mark.parametrize("make", [a_fifo, a_directory, a_link, nothing])
def test_what_is_no_file_in_the_source(same: Ends, make: Callable[[Path], None]) -> None:
    same.target.write_bytes(b"old")
    make(same.source)
    left_alone(same)


@pytest.mark.parametrize("make", [a_fifo, a_link, endless_zeros])
def test_what_has_become_something_else_just_now(
    same: Ends, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    same.source.write_bytes(b"x")
    same.target.write_bytes(b"old")
    real = os.lstat

    def look(path: bytes, *, dir_fd: int) -> os.stat_result:
        found = real(path, dir_fd=dir_fd)
        same.source.unlink()
        make(same.source)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", look)
        with pytest.raises((NotClonedError, OSError)):
            same.clone()
    assert same.target.read_bytes() == b"old"


def test_a_device_is_not_even_opened(same: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    endless_zeros(same.source)
    opened: list[object] = []
    real = os.open

    def note(path: Any, *arguments: Any, **more: Any) -> int:
        opened.append(path)
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", note)
    with pytest.raises(NotClonedError):
        same.clone()
    assert b"file" not in opened


def test_a_directory_on_the_target(same: Ends) -> None:
    same.source.write_bytes(b"x")
    same.target.mkdir()
    left_alone(same)
    (same.target / "full").touch()
    left_alone(same)


@pytest.mark.parametrize("make", [a_fifo, a_link, nothing])
def test_nobody_waits_for_what_is_on_the_target(across: Ends, make: Callable[[Path], None]) -> None:
    across.source.write_bytes(b"x")
    make(across.target)
    left_alone(across)


@pytest.mark.parametrize("make", [a_fifo, a_link])
def test_something_else_on_the_target_is_replaced(same: Ends, make: Callable[[Path], None]) -> None:
    same.source.write_bytes(b"x")
    make(same.target)
    same.clone()
    assert stat.S_ISREG(os.lstat(same.target).st_mode)
    same.assert_equal()


@pytest.mark.parametrize("side", [0, 1])
def test_a_link_above(same: Ends, side: int) -> None:
    same.source.write_bytes(b"x")
    root = same.roots[side]
    (root / "d").rename(root / "elsewhere")
    (root / "d").symlink_to("elsewhere")
    with pytest.raises(OSError):
        same.clone()
    assert not same.target.exists()
    assert os.listdir(same.roots[1] / ("elsewhere" if side else "d")) == []


def test_a_file_of_several_names(same: Ends) -> None:
    same.source.write_bytes(b"x")
    os.link(same.source, same.source.parent / "other")
    left_alone(same)


def test_a_target_without_room(across: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    across.source.write_bytes(b"new" * MIB)
    across.target.write_bytes(b"old")
    monkeypatch.setattr(os, "pwrite", lambda _descriptor, piece, _offset: len(piece) - 1)
    left_alone(across)
    assert across.target.read_bytes() == b"old"


# ---- names


@pytest.mark.parametrize("name", [b"x", b".hidden", b"n" * 255, b"." + b"n" * 254, b"\xff\n"])
def test_the_temporary_name_is_one_of_rsyncs(tmp_path: Path, name: bytes) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with cloning._temporary(folder, name) as (_file, temporary):
        assert os.listdir(os.fsencode(tmp_path)) == [temporary]
        assert temporary.startswith(b"." + name.removeprefix(b".")[:240])
        assert temporary[-7:-6] == b"." and temporary[-6:].isalnum()
        assert len(temporary) <= 255
    assert os.listdir(tmp_path) == []
    os.close(folder)
