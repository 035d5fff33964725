# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests watch/watcher.py on real trees and queues: what it reports, and what is watched in the end."""

from __future__ import annotations

import errno
import os
import select
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.rig import watched_inodes
from helpers.watched import (
    SUBTREE,
    Watched,
    attributes,
    came,
    entry,
    exchange,
    file_moved,
    looked_at,
    paths,
    subtree,
    tree_arrived,
    tree_came,
    tree_moved,
    tree_went,
    went,
    written,
)

from lsyncd_sd import opening
from lsyncd_sd.plan.change import Change, Move, Sign
from lsyncd_sd.watch import inotify
from lsyncd_sd.watch import watcher as watcher_module
from lsyncd_sd.watch.coverage import Scope
from lsyncd_sd.watch.pairing import GRACE_SECONDS


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(*excludes: str) -> Watched:
        made.append(Watched(tmp_path, excludes))
        return made[-1]

    yield make
    for one in made:
        os.close(one.queue)


@pytest.fixture
def watched(make: Callable[..., Watched]) -> Watched:
    """A watched source that holds d/e/file, other/ and file."""
    watched = make()
    (watched.root / "d" / "e").mkdir(parents=True)
    (watched.root / "other").mkdir()
    (watched.root / "d" / "e" / "file").write_text("x")
    (watched.root / "file").write_text("x")
    watched.start()
    return watched


# ---- the walk


def test_the_walk_goes_in_steps(make: Callable[..., Watched]) -> None:
    watched = make()
    for name in ("a", "b", "c"):
        (watched.root / name / "sub").mkdir(parents=True)
    watched.watcher.restart()
    assert watched.watcher.directories == 1
    assert not watched.watcher.walk(2)
    assert watched.watcher.directories == 3
    assert not watched.watcher.settled
    assert watched.watcher.walk(100)
    assert watched.watcher.directories == 7
    watched.check_watches()


def test_an_empty_source_is_walked_at_once(make: Callable[..., Watched]) -> None:
    watched = make()
    watched.watcher.restart()
    assert watched.watcher.walk(1)
    watched.check_watches()


def test_what_appears_during_the_walk_is_watched(make: Callable[..., Watched]) -> None:
    watched = make()
    for name in ("a", "b", "c"):
        (watched.root / name).mkdir()
    watched.watcher.restart()
    watched.watcher.walk(1)
    for name in ("a", "b", "c", "new"):
        (watched.root / name / "sub" / "sub").mkdir(parents=True)
    watched.watcher.read(watched.now)
    while not watched.watcher.walk(1):
        pass
    watched.read()
    watched.check_watches()


def test_what_vanishes_during_the_walk_is_no_error(make: Callable[..., Watched]) -> None:
    watched = make()
    for name in ("a", "b", "c"):
        (watched.root / name / "sub").mkdir(parents=True)
    watched.watcher.restart()
    watched.watcher.walk(1)
    shutil.rmtree(watched.root / "a")
    (watched.root / "b").rename(watched.folder / "outside")
    while not watched.watcher.walk(1):
        pass
    watched.read()
    assert not watched.watcher.unwatched
    watched.check_watches()


def test_a_missing_root_is_an_error(make: Callable[..., Watched]) -> None:
    watched = make()
    watched.root.rmdir()
    with pytest.raises(FileNotFoundError):
        watched.watcher.restart()


# ---- single changes


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "new").touch(), {came("new")}),
        (lambda root: (root / "new").write_text("x"), {came("new")}),
        (lambda root: (root / "d/e/file").write_text("y"), {written("d/e/file"), entry("d/e/file")}),
        (lambda root: (root / "d/e/file").chmod(0o600), {attributes("d/e/file")}),
        (lambda root: (root / "d/e").chmod(0o700), {attributes("d/e")}),
        (lambda root: root.chmod(0o700), {attributes("")}),
        (lambda root: (root / "d/e/file").unlink(), {went("d/e/file")}),
        (lambda root: (root / "d/e/link").symlink_to("/etc"), {came("d/e/link")}),
        (lambda root: os.link(root / "file", root / "hard"), {came("hard")}),
        (lambda root: os.mkfifo(root / "fifo"), {came("fifo")}),
        (lambda root: (root / "other").rmdir(), {tree_went("other")}),
        (lambda root: (root / "other/new").mkdir(), {tree_came("other/new")}),
        (
            lambda root: (root / "file").rename(root / "d/moved"),
            {file_moved("file", "d/moved"), looked_at("d/moved")},
        ),
        (
            lambda root: (root / "file").rename(root / "d/e/file"),
            {file_moved("file", "d/e/file"), looked_at("d/e/file")},
        ),
        (lambda root: (root / "d").rename(root / "moved"), {tree_moved("d", "moved")}),
        (lambda root: (root / "d/e").rename(root / "other"), {tree_moved("d/e", "other")}),
        (lambda root: (root / "file").rename(root.parent / "out"), {went("file")}),
        (lambda root: (root / "d").rename(root.parent / "out"), {tree_went("d")}),
        (lambda root: os.utime(root / "file"), {attributes("file")}),
    ],
    ids=[
        "touch",
        "create",
        "write",
        "chmod file",
        "chmod directory",
        "chmod root",
        "unlink",
        "symlink",
        "hard link",
        "fifo",
        "rmdir",
        "mkdir",
        "rename file",
        "rename file over file",
        "rename directory",
        "rename directory over an empty one",
        "move file out",
        "move directory out",
        "utime",
    ],
)
def test_a_change_is_reported(
    watched: Watched, change: Callable[[Path], object], expected: set[Change | Move]
) -> None:
    change(watched.root)
    assert watched.read() == expected
    watched.check_watches()


def test_reading_a_file_is_no_change(watched: Watched) -> None:
    (watched.root / "file").read_text()
    os.listdir(watched.root / "d")
    assert watched.read() == set()


def test_what_was_told_is_not_told_again(watched: Watched) -> None:
    with (watched.root / "file").open("a") as one, (watched.root / "d/e/file").open("a") as other:
        for _time in range(100):
            for file in (one, other):
                file.write("x")
                file.flush()
        assert watched.read_in_order() == [written("file"), written("d/e/file")]
        one.write("x")
        one.flush()
        os.utime(one.fileno())
        one.write("x")
    for _time in range(2):
        (watched.root / "file").chmod(0o600)
        (watched.root / "file").write_text("y")
    # each that says more than the one before, and attributes do not wait for an open file to be due
    told = [written("file"), attributes("file"), entry("d/e/file"), entry("file")]
    assert watched.read_in_order() == told


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (lambda root: (root / "d/e/file").unlink(), [went("d/e/file"), came("d/e/file")]),
        (
            lambda root: (root / "d/e/file").rename(root / "d/e/x"),
            [file_moved("d/e/file", "d/e/x"), looked_at("d/e/x"), came("d/e/file")],
        ),
        (
            lambda root: (root / "d/e/file").rename(root.parent / "out"),
            [went("d/e/file"), came("d/e/file")],
        ),
        (
            lambda root: (root / "file").rename(root / "d/e/file"),
            [file_moved("file", "d/e/file"), looked_at("d/e/file"), written("d/e/file"), entry("d/e/file")],
        ),
    ],
    ids=["deleted", "moved away", "moved out", "moved over"],
)
def test_what_becomes_another_file_is_told_again(
    watched: Watched, between: Callable[[Path], object], expected: list[Change | Move]
) -> None:
    file = watched.root / "d" / "e" / "file"
    file.write_text("y")
    between(watched.root)
    file.write_text("z")
    changes = watched.read_in_order()
    assert changes == [written("d/e/file"), entry("d/e/file"), *expected]


def test_what_moves_along_is_told_under_its_new_name(watched: Watched) -> None:
    with (watched.root / "d/e/file").open("a") as file:
        for name in ("moved", "again"):
            file.write("x")
            file.flush()
            next(watched.root.rglob("e")).parent.rename(watched.root / name)
        file.write("x")
        file.flush()
        assert watched.read_in_order() == [
            written("d/e/file"),
            tree_moved("d", "moved"),
            written("moved/e/file"),
            tree_moved("moved", "again"),
            written("again/e/file"),
        ]


def test_writing_is_no_change_where_only_closing_is_one(make: Callable[..., Watched]) -> None:
    watched = make()
    watched.scope = Scope(watched.filters.excludes, modify=False)
    watched.watcher = watched.new_watcher()
    (watched.root / "file").touch()
    watched.start()
    with (watched.root / "file").open("a") as file:
        file.write("x")
        file.flush()
        assert watched.read() == set()
    assert watched.read() == {entry("file")}


@pytest.mark.parametrize("name", [b"\xff\xfe", b"new\nline", b"-rf", b"#;]*", b" ", b"\\"])
def test_names_of_any_bytes(watched: Watched, name: bytes) -> None:
    directory = os.fsencode(watched.root) + b"/" + name
    os.mkdir(directory)
    os.mkdir(directory + b"/" + name)
    watched.read()
    os.mkdir(directory + b"/" + name + b"/x")
    assert watched.read() == {Change(name + b"/" + name + b"/x", SUBTREE, True, Sign.CAME)}
    watched.check_watches()


# ---- directories that come and go


def before_each_watch(monkeypatch: pytest.MonkeyPatch, do: Callable[[bytes], None]) -> None:
    """Let something happen each time before a directory is opened, with its path."""
    real = opening.open_directory

    def do_and_open(root: int, path: bytes) -> int:
        do(path)
        return real(root, path)

    monkeypatch.setattr(opening, "open_directory", do_and_open)


def after_each_watch(monkeypatch: pytest.MonkeyPatch, do: Callable[[bytes], None]) -> None:
    """Let something happen each time between a watch and the listing, with the directory's path."""
    real = inotify.add_watch

    def add_and_do(queue: int, directory: int, mask: int) -> int:
        path = os.readlink(b"/proc/self/fd/%d" % directory)
        try:
            return real(queue, directory, mask)
        finally:
            do(path)

    monkeypatch.setattr(inotify, "add_watch", add_and_do)


def test_a_deep_directory_made_at_once(watched: Watched) -> None:
    deep = watched.root / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    assert tree_came("a") in watched.read()
    watched.check_watches()


def test_a_directory_made_between_the_watch_and_the_listing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_more(path: bytes) -> None:
        if path.count(b"/new") < 4 and path.endswith(b"/new"):
            os.makedirs(path + b"/new", exist_ok=True)

    after_each_watch(monkeypatch, make_more)
    (watched.root / "new").mkdir()
    watched.read()
    monkeypatch.undo()
    assert (watched.root / "new/new/new/new").is_dir()
    watched.check_watches()


def test_a_directory_moved_between_the_watch_and_the_listing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = [("moved", "again"), ("new", "moved")]

    def move(_path: bytes) -> None:
        if moves and os.path.exists(watched.root / moves[-1][0]):
            old, new = moves.pop()
            (watched.root / old).rename(watched.root / new)

    after_each_watch(monkeypatch, move)
    (watched.root / "new" / "sub").mkdir(parents=True)
    watched.read()
    monkeypatch.undo()
    assert moves == []
    watched.read()
    watched.check_watches()


def test_a_watched_directory_moves_into_a_new_one_just_before_its_listing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found at its new place before the event of its leaving the old one was read (D4)."""

    def move(path: bytes) -> None:
        if path.endswith(b"new") and (watched.root / "d").exists():
            (watched.root / "d").rename(watched.root / "new" / "d")

    before_each_watch(monkeypatch, move)
    (watched.root / "new").mkdir()
    assert {tree_came("new"), tree_went("d")} <= watched.read()
    monkeypatch.undo()
    watched.check_watches()


def test_a_directory_moved_in_brings_its_content(watched: Watched) -> None:
    (watched.folder / "outside" / "a" / "b").mkdir(parents=True)
    (watched.folder / "outside").rename(watched.root / "d" / "in")
    assert watched.read() == {tree_arrived("d/in")}
    watched.check_watches()


def test_a_directory_moved_out_is_not_watched(watched: Watched) -> None:
    (watched.root / "d").rename(watched.folder / "out")
    watched.read()
    (watched.folder / "out" / "e" / "new").touch()
    assert watched.read() == set()
    watched.check_watches()


def test_a_directory_moved_out_and_in_again_before_reading(watched: Watched) -> None:
    (watched.root / "d").rename(watched.folder / "out")
    (watched.folder / "out").rename(watched.root / "back")
    assert watched.read_in_order() == [tree_went("d"), tree_arrived("back")]
    watched.check_watches()


def test_changes_below_a_moved_directory_have_its_new_name(watched: Watched) -> None:
    (watched.root / "d").rename(watched.root / "other" / "moved")
    watched.read()
    (watched.root / "other/moved/e/file").write_text("y")
    assert paths(watched.read()) == {b"other/moved/e/file"}


def test_a_directory_that_moves_while_it_is_looked_for_at_two_places(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood at both, but not at the same time: it is not mounted twice."""
    moves = {b"x": ("d", "x"), b"d": ("x", "d")}

    def move(path: bytes) -> None:
        if path in moves:
            old, new = moves.pop(path)
            (watched.root / old).rename(watched.root / new)

    (watched.root / "x").mkdir()
    watched.read()
    (watched.root / "x").rmdir()
    before_each_watch(monkeypatch, move)
    watched.read()
    monkeypatch.undo()
    assert moves == {}
    (watched.root / "d" / "e" / "file").rename(watched.root / "d" / "e" / "moved")
    assert watched.read() == {file_moved("d/e/file", "d/e/moved"), looked_at("d/e/moved")}
    watched.check_watches()


def test_a_move_into_a_directory_that_is_not_watched_yet(watched: Watched) -> None:
    (watched.root / "new").mkdir()
    (watched.root / "d").rename(watched.root / "new" / "d")
    assert watched.read() == {tree_came("new"), tree_went("d")}
    watched.check_watches()


def test_a_directory_made_in_one_that_moves_before_reading(watched: Watched) -> None:
    (watched.root / "d" / "new").mkdir()
    (watched.root / "d").rename(watched.root / "moved")
    (watched.root / "moved" / "new" / "file").write_text("x")
    assert watched.read_in_order()[:2] == [tree_came("d/new"), tree_moved("d", "moved")]
    watched.check_watches()


def test_a_name_that_is_left_and_taken_again(watched: Watched) -> None:
    (watched.root / "d").rename(watched.root / "old")
    (watched.root / "d" / "new").mkdir(parents=True)
    assert watched.read_in_order() == [tree_moved("d", "old"), tree_came("d")]
    watched.check_watches()


def test_two_directories_that_change_places(watched: Watched) -> None:
    (watched.root / "d").rename(watched.root / "t")
    (watched.root / "other").rename(watched.root / "d")
    (watched.root / "t").rename(watched.root / "other")
    assert watched.read_in_order() == [
        tree_moved("d", "t"),
        tree_moved("other", "d"),
        tree_moved("t", "other"),
    ]
    watched.check_watches()


def test_a_directory_replaced_by_another_of_the_same_name(watched: Watched) -> None:
    shutil.rmtree(watched.root / "d")
    (watched.root / "d" / "other" / "deep").mkdir(parents=True)
    assert {tree_went("d"), tree_came("d")} <= watched.read()
    watched.check_watches()


def test_a_directory_replaced_again_and_again_before_reading(watched: Watched) -> None:
    for _time in range(50):
        shutil.rmtree(watched.root / "d")
        (watched.root / "d" / "e").mkdir(parents=True)
    assert {tree_went("d"), tree_came("d")} <= watched.read()
    watched.check_watches()


def test_a_directory_that_becomes_a_file_and_a_file_that_becomes_one(watched: Watched) -> None:
    shutil.rmtree(watched.root / "d")
    (watched.root / "d").write_text("x")
    (watched.root / "file").unlink()
    (watched.root / "file" / "sub").mkdir(parents=True)
    assert {tree_went("d"), came("d"), went("file"), tree_came("file")} <= watched.read()
    watched.check_watches()


def test_a_tree_that_is_deleted_leaves_no_watch(watched: Watched) -> None:
    shutil.rmtree(watched.root / "d")
    assert watched.read_in_order() == [went("d/e/file"), tree_went("d/e"), tree_went("d")]
    watched.check_watches()


def test_a_directory_whose_events_are_lost_is_dropped(watched: Watched) -> None:
    """The kernel removes a watch (IN_IGNORED) although no event named the directory: an unmount."""
    node = watched.watcher._tree.child(watched.watcher._tree.root, b"d")  # type: ignore[arg-type]
    assert node is not None
    inotify.remove_watch(watched.queue, node.wd)
    # it still stands there: it is found again, and what happened meanwhile counts as a change
    assert watched.read() == {subtree("d")}
    watched.check_watches()


# ---- moves


def watch_numbers(watched: Watched) -> dict[bytes, int]:
    """Return the watch of each directory."""
    tree = watched.watcher._tree
    return {tree.path(node): wd for wd, node in tree._by_wd.items()}


def test_a_directory_that_moves_keeps_its_watches(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    before = watch_numbers(watched)
    listed = []
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path))
    (watched.root / "d").rename(watched.root / "other" / "d")
    (watched.root / "other" / "d" / "e" / "file").chmod(0o600)
    assert watched.read_in_order() == [tree_moved("d", "other/d"), attributes("other/d/e/file")]
    assert listed == []
    after = watch_numbers(watched)
    assert after == {
        b"": before[b""],
        b"other": before[b"other"],
        b"other/d": before[b"d"],
        b"other/d/e": before[b"d/e"],
    }
    monkeypatch.undo()
    watched.check_watches()


def test_what_comes_between_the_halves_stays_in_its_order(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    (watched.root / "other" / "x").touch()
    watched.read()
    (watched.root / "file").rename(watched.root / "moved")
    (watched.root / "other" / "x").chmod(0o600)
    departure, arrival, between = inotify.read_events(watched.queue)
    reads = [[departure, between], [], [arrival], []]
    monkeypatch.setattr(inotify, "read_events", lambda _queue: reads.pop(0))
    assert watched.watcher.read(0) == []
    assert not watched.watcher.settled
    assert watched.watcher.read_again_in(0) == GRACE_SECONDS
    assert watched.watcher.read(0) == [
        file_moved("file", "moved"),
        looked_at("moved"),
        attributes("other/x"),
    ]
    assert watched.watcher.settled


def test_a_move_out_is_told_after_its_grace(watched: Watched) -> None:
    (watched.root / "d").rename(watched.folder / "out")
    (watched.root / "new").mkdir()
    assert watched.watcher.read(10) == []
    assert not watched.watcher.settled
    assert watched.watcher.read(10 + GRACE_SECONDS)[:2] == [tree_went("d"), tree_came("new")]
    assert watched.watcher.settled
    watched.check_watches()


def test_a_chain_of_moves_keeps_all_watches(watched: Watched) -> None:
    before = watch_numbers(watched)
    for old, new in (("d", "t"), ("other", "d"), ("t", "other"), ("other/e", "d/e"), ("d/e", "e")):
        (watched.root / old).rename(watched.root / new)
    assert len(watched.read_in_order()) == 5
    after = watch_numbers(watched)
    assert after == {
        b"": before[b""],
        b"d": before[b"other"],
        b"other": before[b"d"],
        b"e": before[b"d/e"],
    }
    watched.check_watches()


def test_a_move_over_an_empty_directory_gives_back_its_watch(watched: Watched) -> None:
    (watched.root / "d").rename(watched.root / "other")
    assert watched.read_in_order() == [tree_moved("d", "other")]
    watched.check_watches()


def test_two_directories_that_are_exchanged(watched: Watched) -> None:
    """The events look like two moves of which the first one destroys (A5)."""
    exchange(watched.root / "d", watched.root / "other")
    (watched.root / "other" / "e").rename(watched.root / "e")
    (watched.root / "d" / "new").touch()
    changes = watched.read_in_order()
    assert [change for change in changes if isinstance(change, Move)] == [tree_moved("d", "other")]
    assert {subtree("d"), subtree("other"), tree_arrived("e")} <= set(changes)
    watched.check_watches()


def test_an_unwatched_directory_is_told_under_its_new_name(
    make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = make()
    (watched.root / "d" / "bad").mkdir(parents=True)
    refuse(monkeypatch, {b"bad"}, errno.EACCES)
    watched.start()
    (watched.root / "d").rename(watched.root / "moved")
    assert watched.read_in_order() == [tree_moved("d", "moved")]
    assert watched.watcher.unwatched == {b"moved/bad": errno.EACCES}


# ---- what does not belong to the source


def test_symlinks_are_never_followed(watched: Watched) -> None:
    outside = watched.folder / "outside"
    (outside / "sub").mkdir(parents=True)
    (watched.root / "link").symlink_to(outside)
    (watched.root / "d" / "up").symlink_to("..")
    assert watched.read() == {came("link"), came("d/up")}
    (outside / "new").touch()
    assert watched.read() == set()
    watched.check_watches()


def test_a_directory_swapped_for_a_symlink_to_outside(watched: Watched) -> None:
    outside = watched.folder / "outside"
    (outside / "e" / "sub").mkdir(parents=True)
    shutil.rmtree(watched.root / "d")
    (watched.root / "d").symlink_to(outside)
    assert came("d") in watched.read()
    (outside / "e" / "new").touch()
    assert watched.read() == set()
    watched.check_watches()


def test_a_path_that_leads_over_a_symlink_is_not_believed(watched: Watched) -> None:
    """A new directory's parent became a symlink before the watch was set: the path leads outside."""
    outside = watched.folder / "outside"
    (outside / "new" / "sub").mkdir(parents=True)
    (watched.root / "other" / "new").mkdir()
    (watched.root / "other").rename(watched.root / "moved")
    (watched.root / "other").symlink_to(outside)
    watched.read()
    (outside / "new" / "file").touch()
    assert watched.read() == set()
    watched.check_watches()


def test_a_path_that_leads_back_up_is_not_believed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, but at the very moment of the watch, and it leads to the root itself."""

    def lead_up(path: bytes) -> None:
        if path == b"d/source" and not (watched.root / "d").is_symlink():
            (watched.root / "d").rename(watched.root / "other" / "d")
            (watched.root / "d").symlink_to("..")

    before_each_watch(monkeypatch, lead_up)
    (watched.root / "d" / "source").mkdir()
    watched.read()
    monkeypatch.undo()
    assert (watched.root / "d").is_symlink()
    watched.check_watches()


def test_an_excluded_directory_is_not_watched(make: Callable[..., Watched]) -> None:
    watched = make("cache/", "*.o")
    (watched.root / "d" / "cache" / "sub").mkdir(parents=True)
    watched.start()
    (watched.root / "cache").mkdir()
    (watched.root / "cache" / "file").touch()
    (watched.root / "d" / "cache" / "file").touch()
    (watched.root / "d" / "x.o").touch()
    # the time of the directories that hold them has changed, nothing else
    assert watched.read() == {attributes(""), attributes("d")}
    watched.check_watches()


def test_a_directory_renamed_to_an_excluded_name_is_gone(make: Callable[..., Watched]) -> None:
    watched = make("cache/")
    (watched.root / "d" / "sub").mkdir(parents=True)
    watched.start()
    (watched.root / "d").rename(watched.root / "cache")
    assert watched.read() == {tree_went("d"), attributes("")}
    watched.check_watches()
    (watched.root / "cache").rename(watched.root / "d")
    assert watched.read() == {attributes(""), tree_arrived("d")}
    watched.check_watches()


def test_a_file_with_a_name_that_is_excluded_for_directories(make: Callable[..., Watched]) -> None:
    watched = make("cache/")
    watched.start()
    (watched.root / "cache").touch()
    assert watched.read() == {came("cache")}
    (watched.root / "cache").unlink()
    (watched.root / "cache").mkdir()
    assert watched.read() == {went("cache"), attributes("")}
    watched.check_watches()


def test_a_move_under_an_anchored_exclude(make: Callable[..., Watched]) -> None:
    watched = make("/a/b")
    (watched.root / "c" / "b" / "sub").mkdir(parents=True)
    watched.scope = Scope(watched.filters.excludes, watched.filters.hides_alike)
    watched.watcher = watched.new_watcher()
    watched.start()
    (watched.root / "c").rename(watched.root / "a")
    assert watched.read_in_order() == [tree_went("c"), tree_arrived("a")]
    watched.check_watches()


# ---- the root


@pytest.mark.parametrize("end", ["removed", "moved"])
def test_the_end_of_the_root_is_told(make: Callable[..., Watched], end: str) -> None:
    watched = make()
    watched.start()
    if end == "removed":
        watched.root.rmdir()
    else:
        watched.root.rename(watched.folder / "moved")
    watched.watcher.read(watched.now)
    assert watched.watcher.root_lost


def test_a_restart_on_the_same_queue(watched: Watched) -> None:
    (watched.root / "d").rename(watched.folder / "out")
    watched.root.rename(watched.folder / "old")
    watched.watcher.read(watched.now)
    watched.watcher.read(watched.now + GRACE_SECONDS)
    assert watched.watcher.root_lost
    (watched.root / "new" / "sub").mkdir(parents=True)
    watched.start()
    assert not watched.watcher.root_lost
    watched.check_watches()


def test_a_restart_where_nothing_changed_keeps_every_watch(watched: Watched) -> None:
    before = sorted(watched_inodes(watched.queue))
    watched.start()
    assert sorted(watched_inodes(watched.queue)) == before
    watched.check_watches()


def test_a_new_watcher_on_the_queue_of_another(watched: Watched) -> None:
    """The child was replaced: the parent has kept the queue, with all its watches."""
    (watched.root / "d" / "e").rename(watched.root / "moved")
    shutil.rmtree(watched.root / "other")
    watched.watcher = watched.new_watcher()
    watched.start()
    (watched.root / "moved" / "file").write_text("y")
    assert paths(watched.read()) == {b"moved/file"}


def test_an_overflow_is_told_and_ended_by_a_restart(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [inotify.RawEvent(-1, inotify.IN_Q_OVERFLOW, 0, b"")]
    monkeypatch.setattr(inotify, "read_events", lambda _queue: lost)
    watched.watcher.read(watched.now)
    assert watched.watcher.overflowed
    monkeypatch.undo()
    watched.start()
    assert not watched.watcher.overflowed
    watched.check_watches()


def test_a_flood_does_not_keep_a_restart(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left in the queue has happened before the walk: names of before, and marks too many."""
    real = inotify.read_events
    made = 0

    def read_and_make(queue: int) -> list[inotify.RawEvent]:
        nonlocal made
        made += 1
        (watched.root / f"flood{made % 10}").mkdir(exist_ok=True)
        (watched.root / f"flood{made % 10}").rename(watched.root / f"moved{made % 7}")
        return real(queue)

    monkeypatch.setattr(inotify, "read_events", read_and_make)
    watched.watcher.restart()
    monkeypatch.undo()
    while not watched.watcher.walk(1):
        pass
    watched.read()
    watched.check_watches()


# ---- what cannot be watched


def refuse(monkeypatch: pytest.MonkeyPatch, names: set[bytes], number: int) -> None:
    """Let the kernel refuse to watch directories of these names."""
    real = inotify.add_watch

    def add(queue: int, directory: int, mask: int) -> int:
        if os.path.basename(os.readlink(b"/proc/self/fd/%d" % directory)) in names:
            raise OSError(number, os.strerror(number))
        return real(queue, directory, mask)

    monkeypatch.setattr(inotify, "add_watch", add)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOMEM])
def test_what_cannot_be_watched_is_told(
    make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    watched = make()
    (watched.root / "d" / "bad" / "sub").mkdir(parents=True)
    refuse(monkeypatch, {b"bad", b"worse"}, number)
    watched.start()
    assert watched.watcher.unwatched == {b"d/bad": number}
    (watched.root / "worse").mkdir()
    watched.read()
    assert watched.watcher.unwatched == {b"d/bad": number, b"worse": number}


def test_what_cannot_be_opened_is_told(
    make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for anybody but root where a directory is not theirs."""
    watched = make()
    for name in ("a", "b", "c"):
        (watched.root / name / "sub").mkdir(parents=True)

    def refuse(path: bytes) -> None:
        if path == b"b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    before_each_watch(monkeypatch, refuse)
    watched.start()
    assert watched.watcher.unwatched == {b"b": errno.EACCES}
    assert watched.watcher.directories == 5
    monkeypatch.undo()
    (watched.root / "b").chmod(0o755)
    assert subtree("b") in watched.read()
    assert watched.watcher.unwatched == {}
    watched.check_watches()


def test_what_can_be_watched_again_is_no_longer_told(
    make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = make()
    (watched.root / "d" / "bad" / "sub").mkdir(parents=True)
    refuse(monkeypatch, {b"bad"}, errno.EACCES)
    watched.start()
    monkeypatch.undo()
    (watched.root / "d" / "bad").chmod(0o700)
    assert subtree("d/bad") in watched.read()
    assert watched.watcher.unwatched == {}
    watched.check_watches()


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("end", ["removed", "moved out"])
def test_what_is_gone_is_no_longer_told(
    make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch, end: str, above: bool
) -> None:
    watched = make()
    (watched.root / "d" / "bad").mkdir(parents=True)
    refuse(monkeypatch, {b"bad"}, errno.EACCES)
    watched.start()
    victim = watched.root / "d" if above else watched.root / "d" / "bad"
    if end == "removed":
        shutil.rmtree(victim)
    else:
        victim.rename(watched.folder / "out")
    watched.read()
    assert watched.watcher.unwatched == {}
    watched.check_watches()


# ---- how it reads


def test_a_flood_does_not_keep_the_caller(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody creates directories as fast as they are read: one read still ends."""
    real = inotify.read_events
    made = 0

    def read_and_make(queue: int) -> list[inotify.RawEvent]:
        nonlocal made
        made += 1
        (watched.root / f"flood{made}").mkdir()
        return real(queue)

    monkeypatch.setattr(inotify, "read_events", read_and_make)
    watched.watcher.read(watched.now)
    assert made <= 2 * watcher_module._ROUNDS_PER_READ
    monkeypatch.undo()
    watched.read()
    watched.check_watches()


def test_nothing_is_settled_before_a_new_directory_is_watched(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "_ROUNDS_PER_READ", 1)
    (watched.root / "new").mkdir()
    assert watched.watcher.read(watched.now) == [tree_came("new")]
    assert not watched.watcher.settled
    watched.read()
    assert watched.watcher.settled


def test_the_queue_is_readable_while_something_waits(watched: Watched) -> None:
    (watched.root / "new").touch()
    assert select.select([watched.queue], [], [], 0)[0]
    watched.read()
    assert not select.select([watched.queue], [], [], 0)[0]
