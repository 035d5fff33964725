# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of watch/ground.py: what is mounted where, and whether its times can be trusted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lsyncd_sd.plan.guard import Identity
from lsyncd_sd.watch import ground
from lsyncd_sd.watch.ground import Ground, Mount, kind_at, look
from lsyncd_sd.watch.source import identity_of

MOUNTINFO = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
40 27 0:40 / /srv/a\040b rw - xfs /dev/vdb rw
41 40 0:40 /sub\011dir /srv/a\040b/c\134 rw shared:3 - xfs /dev/vdb rw
42 27 0:42 / /srv/a rw - fuse.sshfs me@there: rw
43 40 0:43 / /srv/a\040b/c\134 rw - tmpfs none rw
"""


@pytest.fixture
def mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    path.write_bytes(MOUNTINFO)
    monkeypatch.setattr(ground, "_MOUNTINFO", str(path))
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/", "ext4"),
        (b"/proc/1", "proc"),
        (b"/srv", "ext4"),
        (b"/srv/a b/x", "xfs"),
        (b"/srv/a b/c\\/x", "tmpfs"),
        (b"/srv/a b/c", "xfs"),
        (b"/srv/ab", "ext4"),
        (b"/srv/a/x", "fuse.sshfs"),
    ],
)
@pytest.mark.usefixtures("mountinfo")
def test_the_nearest_mount_above_holds_a_path(path: bytes, kind: str) -> None:
    assert ground._select(ground._read_mountinfo(), path)[0].kind == kind


@pytest.mark.usefixtures("mountinfo")
def test_what_is_mounted_below() -> None:
    _holder, below = ground._select(ground._read_mountinfo(), b"/srv/a b")
    assert [(line.point, line.top, line.kind) for line in below] == [
        (b"/srv/a b/c\\", b"/sub\tdir", "xfs"),
        (b"/srv/a b/c\\", b"/", "tmpfs"),
    ]


def test_the_ground_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    found = look(os.fsencode(tmp_path / "link"))
    assert found.root == identity_of(os.fsencode(tmp_path))
    assert len(found.mounts) == 1
    assert found.mounts[0].path == b""
    assert found.mounts[0].number == os.statvfs(tmp_path).f_fsid
    assert found == look(os.fsencode(tmp_path))
    assert kind_at(os.fsencode(tmp_path)) == found.mounts[0].kind


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look(os.fsencode(tmp_path / "none"))


HERE = Mount(b"", b"/", "ext4", 1)


def test_what_times_are_worth() -> None:
    good = Ground(Identity(1, 2), (HERE,))
    assert good.flaw(one_file_system=False) == ""
    assert not good.swaps_unseen
    bad = replace(good, mounts=(HERE, Mount(b"a\n", b"/", "nfs4", 0)))
    assert "nfs4 at a" in bad.flaw(one_file_system=False)
    assert "\n" not in bad.flaw(one_file_system=False)
    assert bad.flaw(one_file_system=True) == ""
    worst = replace(good, mounts=(Mount(b"", b"/", "overlay", 0),))
    assert "file system overlay do not" in worst.flaw(one_file_system=True)
    assert replace(good, mounts=(HERE, Mount(b"x", b"/", "xfs", 2))).swaps_unseen


def test_what_is_the_source_s_own() -> None:
    other, bound = Mount(b"a", b"/", "tmpfs", 2), Mount(b"b", b"/somewhere", "ext4", 1)
    found = Ground(Identity(1, 2), (HERE, other, bound))
    assert found.own(one_file_system=False) == found.mounts
    assert found.own(one_file_system=True) == (HERE, bound)


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory below the folder of a test."""
    point = tmp_path / "a b"
    point.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("may not mount here")
    yield point
    subprocess.run(["umount", "--lazy", str(point)], check=True)


def test_a_mount_is_seen(tmp_path: Path, mount_point: Path) -> None:
    found = look(os.fsencode(tmp_path))
    number = os.statvfs(mount_point).f_fsid
    assert found.mounts[1:] == (Mount(b"a b", b"/", "tmpfs", number),)


def test_a_mount_that_another_one_hides(tmp_path: Path, mount_point: Path) -> None:
    inner = mount_point / "inner"
    inner.mkdir()
    for point in (inner, mount_point):
        subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], check=True)
    try:
        numbers = [mount.number for mount in look(os.fsencode(tmp_path)).mounts]
        assert [number != 0 for number in numbers] == [True, True, False, True]
    finally:
        for point in (mount_point, inner):
            subprocess.run(["umount", str(point)], check=True)


def test_a_file_that_another_one_is_mounted_on_is_seen(tmp_path: Path, mount_point: Path) -> None:
    for name in ("one", "other"):
        (mount_point / name).touch()
    before = look(os.fsencode(mount_point))
    bind = ["mount", "--bind", str(mount_point / "one"), str(mount_point / "other")]
    subprocess.run(bind, check=True)
    try:
        after = look(os.fsencode(mount_point))
    finally:
        subprocess.run(["umount", str(mount_point / "other")], check=True)
    assert set(after.mounts) - set(before.mounts) == {
        Mount(b"other", b"/one", "tmpfs", os.statvfs(mount_point).f_fsid)
    }
    assert look(os.fsencode(mount_point)) == before
