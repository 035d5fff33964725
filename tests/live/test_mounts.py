# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems mounted below the source, or mounted there twice: watched and mirrored, or left out."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.waiting import wait_until
from helpers.watched import (
    Watched,
    attributes,
    came,
    entry,
    file_moved,
    looked_at,
    paths,
    subtree,
    tree_came,
    tree_moved,
    tree_went,
    went,
    written,
)
from live.conftest import Pair, StartDaemon, needs_root

from lsyncd_sd.watch.coverage import Scope

pytestmark = pytest.mark.live

Mount = Callable[..., None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount something for as long as the test runs."""
    needs_root()
    with contextlib.ExitStack() as stack:

        def mount(place: Path, *arguments: str | Path) -> None:
            subprocess.run(["mount", *arguments, place], check=True)
            # lazily: a test that failed may have left something below it
            stack.callback(subprocess.run, ["umount", "--lazy", place], stderr=subprocess.DEVNULL)

        yield mount


def tmpfs(mount: Mount, place: Path) -> None:
    mount(place, "-t", "tmpfs", "none")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A source, not watched yet, that holds a/sub/, b/ and c/."""
    one = Watched(tmp_path)
    (one.root / "a" / "sub").mkdir(parents=True)
    for name in ("b", "c"):
        (one.root / name).mkdir()
    yield one
    os.close(one.queue)


def unmount(place: Path) -> None:
    subprocess.run(["umount", place], check=True)


# ---- another file system


def test_another_file_system_is_watched(watched: Watched, mount: Mount) -> None:
    tmpfs(mount, watched.root / "b")
    (watched.root / "b" / "sub").mkdir()
    watched.start()
    (watched.root / "b" / "sub" / "file").touch()
    assert watched.read() == {came("b/sub/file")}
    watched.check_watches()


def test_another_file_system_is_left_out_where_only_one_is_asked_for(watched: Watched, mount: Mount) -> None:
    tmpfs(mount, watched.root / "b")
    (watched.root / "b" / "sub").mkdir()
    watched.scope = Scope(watched.filters.excludes, one_file_system=True)
    watched.watcher = watched.new_watcher()
    watched.start()
    assert watched.watcher.directories == 4
    (watched.root / "b" / "sub" / "file").touch()
    (watched.root / "a" / "file").touch()
    assert watched.read() == {came("a/file")}


@pytest.mark.parametrize("one_file_system", [False, True])
def test_what_is_mounted_on_a_new_directory(watched: Watched, mount: Mount, one_file_system: bool) -> None:
    watched.scope = Scope(watched.filters.excludes, one_file_system=one_file_system)
    watched.watcher = watched.new_watcher()
    watched.start()
    (watched.root / "new").mkdir()
    tmpfs(mount, watched.root / "new")
    assert watched.read() == {tree_came("new")}
    (watched.root / "new" / "file").touch()
    assert watched.read() == (set() if one_file_system else {came("new/file")})


def test_an_unmount_is_told_by_the_kernel(watched: Watched, mount: Mount) -> None:
    tmpfs(mount, watched.root / "b")
    (watched.root / "b" / "sub").mkdir()
    watched.start()
    unmount(watched.root / "b")
    assert watched.read() == {subtree("b")}
    watched.check_watches()


def test_a_mounted_root_that_is_unmounted_is_lost(watched: Watched, mount: Mount) -> None:
    tmpfs(mount, watched.root)
    (watched.root / "sub").mkdir()
    watched.start()
    unmount(watched.root)
    watched.watcher.read(0)
    assert watched.watcher.root_lost


def test_a_mount_on_top_of_the_root_is_noticed(watched: Watched, mount: Mount) -> None:
    watched.start()
    (watched.root / "c" / "new").mkdir()
    tmpfs(mount, watched.root)
    (watched.root / "c" / "new").mkdir(parents=True)
    watched.watcher.read(0)
    assert watched.watcher.root_lost
    assert watched.watcher.directories == 5


def test_nothing_is_held_open(watched: Watched, mount: Mount) -> None:
    """What was watched and read can be unmounted without force."""
    tmpfs(mount, watched.root / "b")
    watched.start()
    for number in range(3):
        (watched.root / "b" / str(number) / "sub").mkdir(parents=True)
    watched.watcher.read(0)
    unmount(watched.root / "b")


# ---- the same directory at two places


@pytest.fixture
def twice(watched: Watched, mount: Mount) -> Watched:
    """A watched source of which b/ shows a/ once more."""
    mount(watched.root / "b", "--bind", watched.root / "a")
    watched.start()
    return watched


def names(twice: Watched) -> tuple[str, str]:
    """Return under which name the table has the directory, and that of its twin."""
    tree = twice.watcher._tree
    assert tree.root is not None
    return ("a", "b") if tree.child(tree.root, b"a") is not None else ("b", "a")


def test_what_happens_in_a_twin_is_told_of_both(twice: Watched) -> None:
    assert twice.watcher.directories == 4
    name, twin = names(twice)
    (twice.root / "a" / "sub" / "file").write_text("x")
    assert twice.read_in_order() == [came(f"{name}/sub/file"), entry(f"{twin}/sub/file")]
    (twice.root / "b" / "sub" / "file").write_text("y")
    assert twice.read() == {
        written(f"{name}/sub/file"),
        entry(f"{name}/sub/file"),
        entry(f"{twin}/sub/file"),
    }
    (twice.root / "b" / "sub" / "file").unlink()
    assert twice.read_in_order() == [went(f"{name}/sub/file"), entry(f"{twin}/sub/file")]


def test_moves_in_a_twin(twice: Watched) -> None:
    name, twin = names(twice)
    (twice.root / "b" / "sub").rename(twice.root / "b" / "moved")
    assert twice.read_in_order() == [
        tree_moved(f"{name}/sub", f"{name}/moved"),
        subtree(f"{twin}/sub"),
        subtree(f"{twin}/moved"),
    ]
    (twice.root / "a" / "moved" / "new").mkdir()
    assert paths(twice.read()) == {b"a/moved/new", b"b/moved/new"}


def test_moves_into_a_twin_and_out_of_it(twice: Watched) -> None:
    """The kernel allows no rename from one mount to another, so one of the names is always the same."""
    name, twin = names(twice)
    (twice.root / "c" / "file").touch()
    (twice.root / "c" / "deep").mkdir()
    twice.read()
    for moved in ("file", "deep"):
        (twice.root / "c" / moved).rename(twice.root / "a" / moved)
    assert twice.read_in_order() == [
        file_moved("c/file", f"{name}/file"),
        entry(f"{twin}/file"),
        looked_at(f"{name}/file"),
        looked_at(f"{twin}/file"),
        tree_moved("c/deep", f"{name}/deep"),
        subtree(f"{twin}/deep"),
    ]
    (twice.root / "a" / "deep").rename(twice.root / "c" / "new")
    assert twice.read_in_order() == [tree_moved(f"{name}/deep", "c/new"), subtree(f"{twin}/deep")]


def test_a_twin_that_is_new(watched: Watched, mount: Mount) -> None:
    watched.start()
    (watched.root / "new").mkdir()
    mount(watched.root / "new", "--bind", watched.root / "a")
    assert tree_came("new") in watched.read()
    (watched.root / "a" / "file").touch()
    assert paths(watched.read()) == {b"a/file", b"new/file"}
    unmount(watched.root / "new")
    watched.start()
    (watched.root / "a" / "file").unlink()
    assert watched.read() == {went("a/file")}
    watched.check_watches()


def test_a_twin_outlives_the_other_name(watched: Watched, mount: Mount) -> None:
    for real, shown in (("a", "b"), ("b", "a")):
        mount(watched.root / shown, "--bind", watched.root / real)
        watched.start()
        if names(watched) == (real, shown):
            break
        unmount(watched.root / shown)
    (watched.root / real).rename(watched.folder / "out")
    assert watched.read() == {tree_went(real), subtree(shown)}
    (watched.root / shown / "file").touch()
    assert watched.read() == {came(f"{shown}/file")}


def test_a_directory_that_is_mounted_below_itself(watched: Watched, mount: Mount) -> None:
    mount(watched.root / "a" / "sub", "--bind", watched.root)
    watched.start()
    assert watched.watcher.directories == 4
    (watched.root / "c" / "file").touch()
    assert watched.read_in_order() == [came("c/file"), entry("a/sub/c/file")]
    (watched.root / "c").chmod(0o700)
    assert watched.read() == {attributes("c"), attributes("a/sub/c")}


# ---- what is mirrored


@pytest.mark.parametrize("one_file_system", [False, True])
def test_what_is_mounted_is_mirrored_or_not(
    local: Pair, daemon: StartDaemon, mount: Mount, one_file_system: bool
) -> None:
    (local.source / "mnt").mkdir()
    tmpfs(mount, local.source / "mnt")
    (local.source / "mnt" / "first").touch()
    running = daemon(local.settings(rsync={"one_file_system": one_file_system}))
    running.wait_for_state("home", "in-sync")
    (local.source / "mnt" / "second").touch()
    (local.source / "mnt").chmod(0o711)
    (local.source / "last").touch()
    wait_until((local.target / "last").exists, "the last file is mirrored", describe=running.log)
    names = {str(path.relative_to(local.target)) for path in local.target.rglob("*")}
    assert names == {"mnt", "last"} | (set() if one_file_system else {"mnt/first", "mnt/second"})
