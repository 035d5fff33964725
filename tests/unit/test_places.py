# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that paths are resolved like the kernel does it, up to mounts that can hang."""

import os
import pathlib

import pytest

from lsyncd_sd.config.places import Resolved, mounts_that_can_hang, resolve

NOTHING: frozenset[str] = frozenset()


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with links of every kind; itself without any in its path."""
    root = pathlib.Path(os.path.realpath(tmp_path))
    (root / "a" / "b").mkdir(parents=True)
    (root / "file").touch()
    (root / "absolute").symlink_to(root / "a")
    (root / "relative").symlink_to("a/b")
    (root / "up").symlink_to("a/../a/b/..")
    (root / "chain").symlink_to("relative/../b")
    (root / "dangling").symlink_to("missing/x")
    (root / "loop").symlink_to("loop")
    return root


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "absolute",
        "relative",
        "up",
        "chain",
        "dangling",
        "missing/y",
        "absolute/b/c",
        "file/x",
        "./a//b",
    ],
)
def test_links_are_followed_as_the_kernel_does(root: pathlib.Path, name: str) -> None:
    path = f"{root}/{name}"
    assert resolve(path, NOTHING) == Resolved(os.path.realpath(path), is_whole=True)


def test_a_loop_of_links_ends(root: pathlib.Path) -> None:
    assert resolve(f"{root}/loop/x", NOTHING) == Resolved(f"{root}/loop/x", is_whole=True)


def test_the_root_is_itself() -> None:
    assert resolve("/", NOTHING) == Resolved("/", is_whole=True)


def test_the_walk_ends_at_a_mount_that_can_hang(root: pathlib.Path) -> None:
    """What lies below the mount is a link in truth, and must not be looked at."""
    found = resolve(f"{root}/absolute/b/../x", frozenset([f"{root}/a"]))
    assert found == Resolved(f"{root}/a/x", is_whole=False)


def test_network_mounts_are_found_and_their_names_unescaped(tmp_path: pathlib.Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "23 22 0:40 / /mnt/a\\040b rw shared:1 master:2 - nfs4 server:/x rw\n"
        "24 22 0:41 / /mnt/ssh rw - fuse.sshfs host: rw\n"
        "25 22 0:42 / /mnt/auto rw - autofs systemd-1 rw\n"
        "26 22 0:43 / /tmp rw - tmpfs tmpfs rw\n"
        "a line nobody understands\n"
    )
    assert mounts_that_can_hang(str(mountinfo)) == {"/mnt/a b", "/mnt/ssh", "/mnt/auto"}


def test_without_proc_nothing_is_avoided(tmp_path: pathlib.Path) -> None:
    assert mounts_that_can_hang(str(tmp_path / "missing")) == NOTHING
