# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of watch/rescan.py on real directories; what is new is told by a time that the test chooses."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.rescanning import KnownTree, LoneRescan

from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.watch.ground import directory_number
from lsyncd_sd.watch.rescan import RENAME_SLACK_NS, Intent, fingerprint

ENTRY, LEVEL, SUBTREE = Depth.ENTRY, Depth.LEVEL, Depth.SUBTREE

NEW_DIRECTORY = SUBTREE, True
NEW_FILE = ENTRY, True
CHANGED_DIRECTORY = ENTRY | LEVEL, False


@pytest.fixture
def tree(tmp_path: Path) -> KnownTree:
    root = tmp_path / "source"
    root.mkdir()
    return KnownTree(root)


# ---- what changed by itself


def test_nothing_is_found_where_nothing_changed(tree: KnownTree) -> None:
    tree.make("a/b/f", "a/g", "h")
    (tree.root / "link").symlink_to("a")
    tree.remember()
    assert tree.rescan() == {}


def test_what_is_new_and_what_was_written_is_found(tree: KnownTree) -> None:
    tree.make("a/old", "a/written", "b/c/mode")
    tree.remember()
    tree.make("a/new")
    (tree.root / "a/written").write_text("x")
    (tree.root / "b/c/mode").chmod(0o600)
    (tree.root / "link").symlink_to("a")
    os.mkfifo(tree.root / "fifo")
    assert tree.rescan() == {
        b"": CHANGED_DIRECTORY,
        b"a": CHANGED_DIRECTORY,
        b"a/new": NEW_FILE,
        b"a/written": NEW_FILE,
        b"b/c/mode": NEW_FILE,
        b"link": NEW_FILE,
        b"fifo": NEW_FILE,
    }


def test_a_time_set_back_hides_nothing(tree: KnownTree) -> None:
    tree.make("f")
    tree.remember()
    (tree.root / "f").write_text("x")
    os.utime(tree.root / "f", ns=(0, 0))
    assert tree.rescan() == {b"f": NEW_FILE}


def test_what_went_makes_its_directory_a_level(tree: KnownTree) -> None:
    tree.make("a/f", "b/c/g")
    tree.remember()
    (tree.root / "a/f").unlink()
    shutil.rmtree(tree.root / "b/c")
    assert tree.rescan() == {b"a": CHANGED_DIRECTORY, b"b": CHANGED_DIRECTORY}


def test_a_renamed_file_is_found_whatever_its_own_times(tree: KnownTree) -> None:
    tree.make("a/f", "b/g")
    tree.remember()
    (tree.root / "a/f").rename(tree.root / "b/g")
    assert tree.rescan() == {b"a": CHANGED_DIRECTORY, b"b": CHANGED_DIRECTORY, b"b/g": NEW_FILE}


def test_a_directory_that_moved_is_sent_with_all_it_holds(tree: KnownTree) -> None:
    tree.make("a/b/c/f", "d/")
    tree.remember()
    (tree.root / "a/b").rename(tree.root / "d/b")
    assert tree.rescan() == {b"a": CHANGED_DIRECTORY, b"d": CHANGED_DIRECTORY, b"d/b": NEW_DIRECTORY}


def test_a_directory_is_known_by_place_and_not_by_name_alone(tree: KnownTree) -> None:
    tree.make("a/f", "b/g")
    tree.remember()
    for old, new in [("a", "x"), ("b", "a"), ("x", "b")]:
        (tree.root / old).rename(tree.root / new)
    assert tree.rescan() == {b"": CHANGED_DIRECTORY, b"a": NEW_DIRECTORY, b"b": NEW_DIRECTORY}


def test_what_lies_below_a_moved_directory_is_known_by_its_parent(tree: KnownTree) -> None:
    tree.make("a/x/f", "b/x/g")
    tree.remember()
    # each under the name of the other: the same names, another parent
    (tree.root / "a/x").rename(tree.root / "y")
    (tree.root / "b/x").rename(tree.root / "a/x")
    (tree.root / "y").rename(tree.root / "b/x")
    found = tree.rescan()
    assert found[b"a/x"] == found[b"b/x"] == NEW_DIRECTORY


def test_a_file_that_became_a_directory_and_the_other_way_round(tree: KnownTree) -> None:
    tree.make("a/f", "b")
    tree.remember()
    shutil.rmtree(tree.root / "a")
    (tree.root / "b").unlink()
    tree.make("a", "b/f")
    assert tree.rescan() == {b"": CHANGED_DIRECTORY, b"a": NEW_FILE, b"b": NEW_DIRECTORY}


def test_symlinks_are_not_followed(tree: KnownTree, tmp_path: Path) -> None:
    tree.make("a/f")
    tree.remember()
    (tmp_path / "outside").mkdir()
    (tree.root / "a/f").unlink()
    (tree.root / "a").rmdir()
    (tree.root / "a").symlink_to(tmp_path / "outside")
    (tmp_path / "outside/f").touch()
    assert tree.rescan() == {b"": CHANGED_DIRECTORY, b"a": NEW_FILE}


# ---- what is left out


def test_what_is_excluded_is_neither_found_nor_entered(tree: KnownTree) -> None:
    tree.make("a/f", "b/c/", "b/g")
    tree.remember()
    tree.make("a/new", "b/c/new", "b/new")
    excluded = {(b"a", True), (b"b/new", False), (b"b/c/new", True)}
    found = tree.rescan(is_excluded=lambda path, is_directory: (path, is_directory) in excluded)
    assert found == {b"b": CHANGED_DIRECTORY, b"b/c": CHANGED_DIRECTORY, b"b/c/new": NEW_FILE}


def test_names_of_any_bytes(tree: KnownTree) -> None:
    name = b"\xff\n*"
    os.makedirs(os.path.join(os.fsencode(tree.root), name))
    tree.remember()
    with open(os.path.join(os.fsencode(tree.root), name, name), "w"):
        pass
    assert tree.rescan() == {name: CHANGED_DIRECTORY, name + b"/" + name: NEW_FILE}


def test_paths_that_are_too_long_for_a_system_call(tree: KnownTree) -> None:
    descriptor = os.open(tree.root, os.O_RDONLY)
    rows = []
    names = [b"d" * 200] * 30
    for name in names:
        above = os.fstat(descriptor).st_ino
        os.mkdir(name, dir_fd=descriptor)
        inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
        rows.append(fingerprint(os.fstat(inner).st_ino, above, name))
    tree.directories = array("Q", sorted(rows))
    tree.since = tree.later()
    os.close(os.open(b"f", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)
    deepest = b"/".join(names)
    assert tree.rescan() == {deepest: CHANGED_DIRECTORY, deepest + b"/f": NEW_FILE}


def test_a_root_that_cannot_be_opened_is_an_error(tree: KnownTree) -> None:
    walk = LoneRescan(tree.root / "none", tree.known())
    with pytest.raises(FileNotFoundError):
        walk.step(10)


# ---- step by step


@pytest.mark.parametrize("entries", [1, 2, 3, 7])
def test_steps_of_any_size_find_the_same(tree: KnownTree, entries: int) -> None:
    tree.make(*(f"{a}/{b}/{c}" for a in "abc" for b in "de" for c in "fgh"), "x", "y")
    tree.remember()
    tree.make("a/d/new", "b/new/f", "x")
    (tree.root / "c/e").rename(tree.root / "z")
    tree.intents[b"b/d/f"] = Intent(ENTRY, True, 5)
    assert tree.rescan(entries) == tree.rescan()


def test_a_step_is_no_longer_than_asked(tree: KnownTree) -> None:
    tree.make(*(f"a/{number}" for number in range(100)))
    tree.remember()
    for path in (tree.root / "a").iterdir():
        path.write_text("x")
    walk = LoneRescan(tree.root, tree.known())
    sizes = []
    while not walk.done:
        sizes.append(len(walk.step(10)))
    assert sum(sizes) == 100
    assert max(sizes) <= 10


def test_nothing_stays_open_between_steps(tree: KnownTree) -> None:
    tree.make(*(f"a/b/{number}" for number in range(10)))
    tree.remember()
    walk = LoneRescan(tree.root, tree.known())
    before = os.listdir("/proc/self/fd")
    while not walk.done:
        walk.step(1)
        assert os.listdir("/proc/self/fd") == before


@pytest.fixture
def halfway(tree: KnownTree) -> Iterator[tuple[KnownTree, LoneRescan]]:
    tree.make(*(f"a/{number}" for number in range(10)))
    tree.remember()
    walk = LoneRescan(tree.root, tree.known())
    # the root, the entry into it, and some of the ten
    assert walk.step(5) == []
    yield tree, walk
    assert walk.done


def finish(walk: LoneRescan) -> list[Change]:
    found = []
    while not walk.done:
        found += walk.step(3)
    return found


def test_a_directory_that_goes_while_it_is_looked_at(halfway: tuple[KnownTree, LoneRescan]) -> None:
    tree, walk = halfway
    shutil.rmtree(tree.root / "a")
    assert finish(walk) == [Change(b"a", SUBTREE, True)]


def test_a_directory_that_is_replaced_while_it_is_looked_at(halfway: tuple[KnownTree, LoneRescan]) -> None:
    tree, walk = halfway
    (tree.root / "a").rename(tree.root / "b")
    tree.make("a/x")
    assert finish(walk) == [Change(b"a", SUBTREE, True)]


def test_names_that_go_while_they_are_looked_at(halfway: tuple[KnownTree, LoneRescan]) -> None:
    tree, walk = halfway
    for path in (tree.root / "a").iterdir():
        path.unlink()
    found = finish(walk)
    assert found
    assert {change[1:3] for change in found} == {NEW_FILE}


def test_a_root_that_is_replaced_is_an_error(tree: KnownTree) -> None:
    tree.make(*(str(number) for number in range(10)))
    tree.remember()
    walk = LoneRescan(tree.root, tree.known())
    walk.step(3)
    tree.root.rename(tree.root.with_name("elsewhere"))
    tree.root.mkdir()
    with pytest.raises(OSError, match="another directory"):
        walk.step(3)
    tree.root.rmdir()


# ---- what runs were to do


def test_a_touched_subtree_is_sent_with_all_it_holds(tree: KnownTree) -> None:
    tree.make("a/b/f")
    tree.remember()
    (tree.root / "a/b/f").write_text("x")
    tree.intents[b"a"] = Intent(SUBTREE, False, time.time_ns())
    assert tree.rescan() == {b"a": NEW_DIRECTORY}


def test_a_touched_file_is_sent_and_its_directory_cleared(tree: KnownTree) -> None:
    """A killed run leaves `.f.XXXXXX` beside it."""
    tree.make("a/f", "a/g")
    tree.remember()
    for path in (b"a/f", b"a/none", b"none/f"):
        tree.intents[path] = Intent(ENTRY, False, time.time_ns())
    assert tree.rescan() == {
        b"a/f": (ENTRY, True),
        b"a/none": (ENTRY, True),
        b"none/f": (ENTRY, True),
        b"a": (LEVEL, False),
        b"none": (LEVEL, False),
    }


@pytest.mark.parametrize("depth", [ENTRY, LEVEL, ENTRY | LEVEL])
def test_a_touched_directory_that_stayed_in_its_place_is_what_it_was(tree: KnownTree, depth: Depth) -> None:
    tree.make("a/b/f", "a/b/c/g")
    tree.remember()
    tree.intents[b"a/b"] = Intent(depth, False, time.time_ns() + RENAME_SLACK_NS)
    assert tree.rescan() == {b"a/b": (depth, False)}


@pytest.mark.parametrize("depth", [ENTRY, LEVEL])
@pytest.mark.parametrize("moved", ["a", "a/b"])
def test_a_touched_directory_that_was_away_is_looked_through(
    tree: KnownTree, depth: Depth, moved: str
) -> None:
    """The run may have meant another one: a/b was a file for a moment, or held other names."""
    tree.make("a/b/f", "a/b/c/g")
    tree.remember()
    tree.intents[b"a/b"] = Intent(depth, False, tree.later() + RENAME_SLACK_NS)
    (tree.root / moved).rename(tree.root / "away")
    (tree.root / "away").rename(tree.root / moved)
    found = tree.rescan()
    assert found[b"a/b"] == (ENTRY | LEVEL | SUBTREE, False) if moved == "a/b" else (depth | SUBTREE, False)
    # what holds nothing but old files is covered by it, what is new still has to be exact
    assert b"a/b/f" not in found


def test_a_name_that_was_away_while_its_level_was_made_equal(tree: KnownTree) -> None:
    tree.make("a/b/f", "a/c/f")
    tree.remember()
    tree.intents[b"a"] = Intent(LEVEL, False, tree.later() + RENAME_SLACK_NS)
    (tree.root / "a/b").rename(tree.root.parent / "away")
    (tree.root.parent / "away").rename(tree.root / "a/b")
    assert tree.rescan() == {b"a": CHANGED_DIRECTORY, b"a/b": (ENTRY | LEVEL | SUBTREE, False)}


def test_names_that_come_and_go_do_not_make_a_directory_one_that_was_away(tree: KnownTree) -> None:
    tree.make("a/b/f")
    tree.remember()
    tree.intents[b"a/b"] = Intent(LEVEL, False, tree.later() + RENAME_SLACK_NS)
    tree.make("a/b/new")
    (tree.root / "a/b/new").unlink()
    assert tree.rescan() == {b"a/b": (ENTRY | LEVEL, False)}


def test_where_exchanges_are_unseen_the_time_of_the_directory_above_counts_alone(tree: KnownTree) -> None:
    tree.make("a/b/f", "a/g")
    tree.remember()
    tree.swaps_unseen = True
    tree.intents[b"a/b"] = Intent(ENTRY, False, tree.later() + RENAME_SLACK_NS)
    (tree.root / "a/g").unlink()
    (tree.root / "a/h").touch()
    assert tree.rescan()[b"a/b"] == (ENTRY | SUBTREE, False)


def test_where_exchanges_are_unseen_the_files_of_a_changed_directory_are_compared(tree: KnownTree) -> None:
    tree.make("a/f", "b/f")
    tree.remember()
    tree.swaps_unseen = True
    tree.make("a/g")
    assert tree.rescan() == {b"a": CHANGED_DIRECTORY, b"a/g": NEW_FILE, b"a/f": (ENTRY, False)}


def test_what_was_only_dirty_is_so_still(tree: KnownTree) -> None:
    tree.make("a/b/f", "a/c/f", "d/f")
    tree.remember()
    tree.intents.update(
        {
            b"a/b": Intent(SUBTREE, True, None),
            b"a/c": Intent(ENTRY, False, None),
            b"d/f": Intent(ENTRY, False, None),
            b"gone": Intent(ENTRY, True, None),
        }
    )
    assert tree.rescan() == {
        b"a/b": (SUBTREE, True),
        b"a/c": (ENTRY, False),
        b"d/f": (ENTRY, False),
        b"gone": (ENTRY, True),
    }


def test_below_a_subtree_that_is_not_exact_what_is_new_is_found_still(tree: KnownTree) -> None:
    tree.make("a/b/f", "a/b/g")
    tree.remember()
    tree.intents[b"a"] = Intent(SUBTREE, False, None)
    (tree.root / "a/b/f").write_text("x")
    assert tree.rescan() == {b"a": (SUBTREE, False), b"a/b/f": NEW_FILE}


def test_intents_merge_to_what_covers_both() -> None:
    one, other = Intent(ENTRY, False, 7), Intent(LEVEL, True, 5)
    assert one.merged(other) == other.merged(one) == Intent(ENTRY | LEVEL, True, 5)
    dirty = Intent(ENTRY, False, None)
    assert dirty.merged(one).touched_at == one.merged(dirty).touched_at == 7
    assert dirty.merged(dirty) == dirty


# ---- what cannot be looked at


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody who may not read everything")
def test_a_directory_that_may_not_be_read(tree: KnownTree) -> None:
    tree.make("a/f", "b/f")
    (tree.root / "a").chmod(0)
    tree.remember()
    for path in (tree.root, *tree.root.parents):
        if path == Path("/tmp"):  # noqa: S108
            break
        path.chmod(path.stat().st_mode | 0o055)
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            tree.since = time.time_ns()
            os._exit(0 if tree.rescan() == {b"a": NEW_DIRECTORY} else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---- other file systems


@pytest.fixture
def mounted(tree: KnownTree) -> Iterator[Path]:
    """A file system in memory in the directory `a` of a source."""
    tree.make("a/mnt/")
    point = tree.root / "a/mnt"
    done = subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("may not mount here")
    tree.make("a/mnt/b/f")
    yield point
    subprocess.run(["umount", "--lazy", str(point)], check=True)


def test_what_is_mounted_is_looked_through(tree: KnownTree, mounted: Path) -> None:
    tree.remember()
    assert tree.rescan() == {}
    (mounted / "b/f").write_text("x")
    assert tree.rescan() == {b"a/mnt/b/f": NEW_FILE}


def test_what_is_mounted_is_left_out(tree: KnownTree, mounted: Path) -> None:
    tree.remember()
    (mounted / "b/f").write_text("x")
    assert tree.rescan(one_file_system=True) == {}
    (mounted / "new").touch()
    assert tree.rescan(one_file_system=True) == {b"a/mnt": (ENTRY, False)}


def test_another_file_system_in_the_same_place_is_not_known(tree: KnownTree, mounted: Path) -> None:
    """Its root has the same inode, and old files may be in it."""
    tree.remember()
    known_inode = mounted.stat().st_ino
    subprocess.run(["mount", "-t", "tmpfs", "none", str(mounted)], check=True)
    try:
        assert mounted.stat().st_ino == known_inode
        tree.since = tree.later()
        assert tree.rescan() == {b"a/mnt": NEW_DIRECTORY}
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


# ---- numbers


def test_another_file_system_has_a_number_of_its_own(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        assert directory_number(status, status.st_dev, descriptor) == status.st_ino
        mixed = directory_number(status, status.st_dev + 1, descriptor)
        assert mixed == status.st_ino ^ os.statvfs(tmp_path).f_fsid
        assert 0 <= fingerprint(mixed, 2**64 - 1, b"x") < 2**64
    finally:
        os.close(descriptor)


def test_a_fingerprint_depends_on_all_of_its_parts() -> None:
    base = fingerprint(1, 2, b"a")
    assert len({base, fingerprint(3, 2, b"a"), fingerprint(1, 3, b"a"), fingerprint(1, 2, b"b")}) == 4
