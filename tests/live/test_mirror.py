# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever is done to a source arrives, on every kind of target, by one full sync or by batches."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.comparing import ARCHIVE, rsync_differences
from helpers.daemon import UNLIMITED
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon, needs_root

pytestmark = pytest.mark.live

# A step is over at each `yield`; what is done before the first one is there before the daemon starts.
Steps = Iterator[None]


def files(source: Path) -> Steps:
    """The life of ordinary files."""
    for number in range(8):
        (source / f"file{number}").write_text(f"{number}" * 10_000)
    yield
    (source / "new").write_text("new")
    (source / "empty").touch()
    yield
    (source / "file0").write_text("shorter")
    with (source / "file1").open("a") as file:
        file.write("longer")
    (source / "file2").chmod(0o600)
    os.utime(source / "file3", ns=(1, 1_234_567_890_123_456_789))
    with (source / "file4").open("r+") as file:
        file.truncate(10)
    (source / "file5").rename(source / "renamed")
    (source / "file6").rename(source / "file7")
    (source / "empty").unlink()
    yield
    # written aside and renamed over, as editors do
    (source / ".new.swp").write_text("new content")
    (source / ".new.swp").rename(source / "new")
    (source / "short-lived").touch()
    (source / "short-lived").unlink()
    yield
    os.utime(source / "new", ns=(1, 1_234_567_890_123_456_790))
    os.utime(source, ns=(1, 987_654_321_123_456_789))
    yield


def same_size_and_time(source: Path) -> Steps:
    """Rewrites that neither size nor modification time tell."""
    (source / "in place").write_text("first")
    (source / "renamed over").write_text("first")
    (source / "swapped 1").write_text("first")
    (source / "swapped 2").write_text("secnd")
    for path in source.iterdir():
        os.utime(path, ns=(0, 1_600_000_000_000_000_000))
    yield
    same = os.stat(source / "in place").st_mtime_ns
    (source / "in place").write_text("other")
    os.utime(source / "in place", ns=(0, same))
    (source / "aside").write_text("other")
    os.utime(source / "aside", ns=(0, same))
    (source / "aside").rename(source / "renamed over")
    (source / "swapped 1").rename(source / "aside")
    (source / "swapped 2").rename(source / "swapped 1")
    (source / "aside").rename(source / "swapped 2")
    yield


def directories(source: Path) -> Steps:
    """Directories that come, go, and move: within the source, into it and out of it."""
    outside = source.parent / "outside"
    deep = Path(*"abcdefghijklmnopqrstuvwxyz")

    def fill(directory: Path) -> None:
        (directory / deep).mkdir(parents=True)
        (directory / deep / "file").write_text("deep")
        (directory / "file").write_text("flat")

    for name in ("moved", "renamed", "gone", "emptied", "out", "swapped 1", "swapped 2/inner"):
        fill(source / name)
    fill(outside / "in")
    yield
    (source / deep).mkdir(parents=True)
    (source / "empty").mkdir(mode=0o700)
    yield
    (source / deep / "late").write_text("the directory was watched before")
    (source / "moved").rename(source / "empty" / "moved")
    (source / "renamed").rename(source / "another name")
    shutil.rmtree(source / "gone")
    shutil.rmtree(source / "emptied")
    (source / "emptied").mkdir()
    (source / "out").rename(outside / "out")
    (outside / "in").rename(source / "in")
    yield
    (source / "swapped 1").rename(outside / "aside")
    (source / "swapped 2").rename(source / "swapped 1")
    (outside / "aside").rename(source / "swapped 2")
    (outside / "out" / "file").write_text("nobody's business")
    yield
    # all of these were moved before: are they still watched, under their names of today?
    for name in ("empty/moved", "another name", "in", "swapped 1/inner", "swapped 2"):
        (source / name / deep / "late").write_text(name)
        (source / name / "file").unlink()
    yield
    (source / "swapped 2").rename(source / "swapped 1" / "inner" / "below")
    (source / "swapped 1").chmod(0o750)
    os.utime(source / "in", ns=(0, 1_111_111_111_111_111_111))
    yield


def symlinks(source: Path) -> Steps:
    """Symlinks are copied, never followed."""
    outside = source.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("never sent")
    (source / "file").write_text("file")
    (source / "to file").symlink_to("file")
    (source / "dangling").symlink_to("nowhere")
    (source / "to outside").symlink_to(outside)
    yield
    (source / "new").symlink_to("file")
    (source / "loop").symlink_to("loop")
    (source / "to root").symlink_to("/")
    (source / "directory").mkdir()
    (source / "directory" / "up").symlink_to("..")
    yield
    for name in ("to file", "dangling", "to outside"):
        (source / "aside").symlink_to("new/target")
        (source / "aside").rename(source / name)
    os.utime(source / "new", ns=(0, 1_222_222_222_222_222_222), follow_symlinks=False)
    (source / "loop").unlink()
    (outside / "secret").write_text("still not")
    yield


def special_files(source: Path) -> Steps:
    """What is neither a file nor a directory nor a symlink; modes beyond rwx; holes."""
    os.mkfifo(source / "old fifo")
    (source / "setuid").write_text("x")
    (source / "setuid").chmod(0o4755)
    yield
    os.mkfifo(source / "fifo", 0o640)
    (source / "sticky").mkdir()
    (source / "sticky").chmod(0o1777)
    (source / "setgid").mkdir()
    (source / "setgid").chmod(0o2775)
    (source / "setuid").chmod(0o6711)
    (source / "unreadable by others").write_text("x")
    (source / "unreadable by others").chmod(0)
    with (source / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    yield
    (source / "old fifo").chmod(0o604)
    (source / "fifo").unlink()
    if os.geteuid() == 0:
        os.mknod(source / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.chown(source / "setuid", 1, 2)
        os.chown(source / "sticky", 65534, 65534)
    yield


def replaced_kinds(source: Path) -> Steps:
    """A name that stands for something of another kind each time."""
    outside = source.parent / "outside"
    (outside / "directory").mkdir(parents=True)
    (outside / "directory" / "secret").write_text("never sent")
    kinds: list[Callable[[Path], None]] = [
        lambda path: Path(path).write_text("file") and None,
        lambda path: (path / "below" / "deep").mkdir(parents=True),
        lambda path: path.symlink_to(outside / "directory"),
        lambda path: (path / "other").mkdir(parents=True),
        lambda path: path.symlink_to("nowhere"),
        lambda path: os.mkfifo(path),
    ]

    def remove(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    # from every kind to every other one
    for shift in (0, 1, 3, 1, 0, 3):
        for number in range(len(kinds)):
            path = source / f"name{number}"
            remove(path)
            kinds[(number + shift) % len(kinds)](path)
            if path.is_dir() and not path.is_symlink():
                (path / "file").write_text(str(shift))
        yield


SCENARIOS = [files, directories, symlinks, replaced_kinds]
# The way to the target makes no difference to these, as far as is known.
LOCAL_SCENARIOS = [same_size_and_time, special_files]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_changes_arrive(pair: Pair, daemon: StartDaemon, scenario: Callable[[Path], Steps]) -> None:
    go_through(scenario, pair, daemon)


@pytest.mark.parametrize("scenario", LOCAL_SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_more_changes_arrive(
    some_pair: Pair, daemon: StartDaemon, scenario: Callable[[Path], Steps]
) -> None:
    go_through(scenario, some_pair, daemon)


def go_through(scenario: Callable[[Path], Steps], pair: Pair, daemon: StartDaemon) -> None:
    """Do a scenario step by step; each must arrive, and nothing from outside."""
    steps = scenario(pair.source)
    next(steps)
    (pair.source / "sample").write_text("shows that the target keeps nanoseconds")
    running = daemon(pair.settings())
    running.wait_until_mirrored("home", pair.source, pair.target)
    for _step in steps:
        running.wait_until_mirrored("home", pair.source, pair.target)
    secrets = [path for path in pair.target.rglob("*") if path.name == "secret"]
    assert secrets == []
    assert running.status("home")["failures"] == 0


def test_existing_target_is_made_equal(some_pair: Pair, daemon: StartDaemon) -> None:
    (some_pair.source / "directory").mkdir()
    (some_pair.source / "directory" / "same").write_text("same")
    (some_pair.source / "file").write_text("right")
    shutil.copytree(some_pair.source, some_pair.target)
    (some_pair.target / "file").write_text("wrong content")
    (some_pair.target / "directory" / "extra").mkdir()
    (some_pair.target / "directory" / "extra" / "file").write_text("goes")
    (some_pair.target / "directory" / "same").chmod(0o600)
    running = daemon(some_pair.settings(brake=UNLIMITED))
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_what_changes_during_the_full_sync_arrives(some_pair: Pair, daemon: StartDaemon) -> None:
    for number in range(200):
        (some_pair.source / f"directory{number}").mkdir()
        (some_pair.source / f"directory{number}" / "file").write_text("first")
    running = daemon(some_pair.settings())
    for number in range(0, 200, 3):
        (some_pair.source / f"directory{number}" / "file").write_text("second")
        (some_pair.source / f"directory{number + 1}").rename(some_pair.source / f"moved{number}")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_restart_of_the_daemon_finds_what_changed_meanwhile(some_pair: Pair, daemon: StartDaemon) -> None:
    (some_pair.source / "file").write_text("first")
    (some_pair.source / "gone").mkdir()
    running = daemon(some_pair.settings())
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert running.stop() == 0
    (some_pair.source / "file").write_text("second")
    (some_pair.source / "gone").rmdir()
    (some_pair.source / "new").symlink_to("file")
    running.start("home")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_empty_source_is_mirrored(pair: Pair, daemon: StartDaemon) -> None:
    running = daemon(pair.settings())
    running.wait_until_mirrored("home", pair.source, pair.target)
    (pair.source / "first").write_text("first")
    os.utime(pair.source / "first", ns=(0, 1_333_333_333_333_333_333))
    wait_until(
        lambda: not rsync_differences(pair.source, pair.target),
        "the file arrives",
        describe=running.log,
    )


def test_excluded_files_are_neither_sent_nor_deleted(pair: Pair, daemon: StartDaemon) -> None:
    patterns = ["*.tmp", "/cache/", "- skipped", "+ keep.o", "*.o"]

    def is_excluded(path: bytes) -> bool:
        name = path.rpartition(b"/")[2]
        if path == b"cache" or name == b"skipped":
            return True
        return name != b"keep.o" and name.endswith((b".tmp", b".o"))

    (pair.target / "cache").mkdir(parents=True)
    (pair.target / "theirs.tmp").write_text("stays")
    (pair.target / "cache" / "theirs").write_text("stays")
    (pair.target / "not excluded").write_text("goes")
    (pair.source / "cache").mkdir()
    (pair.source / "cache" / "ours").write_text("not sent")
    (pair.source / "directory" / "cache").mkdir(parents=True)
    (pair.source / "file").write_text("sent")
    running = daemon(pair.settings(exclude=patterns, brake=UNLIMITED))
    running.wait_until_mirrored(
        "home", pair.source, pair.target, (*ARCHIVE, *_filters(patterns)), is_ignored=is_excluded
    )
    # the source itself, directory and directory/cache: an excluded directory is not watched
    assert running.status("home")["directories"] == 3

    (pair.source / "cache" / "late").write_text("not sent")
    (pair.source / "late.tmp").write_text("not sent")
    (pair.source / "a.o").write_text("not sent")
    (pair.source / "keep.o").write_text("sent")
    (pair.source / "directory" / "cache" / "late").write_text("sent")
    (pair.source / "skipped").mkdir()
    (pair.source / "skipped" / "file").write_text("not sent")
    (pair.source / "gone").write_text("sent, and deleted below")
    running.wait_until_mirrored(
        "home", pair.source, pair.target, (*ARCHIVE, *_filters(patterns)), is_ignored=is_excluded
    )
    (pair.source / "gone").unlink()
    (pair.source / "late.tmp").rename(pair.source / "now included")
    (pair.source / "keep.o").rename(pair.source / "now excluded.o")
    running.wait_until_mirrored(
        "home", pair.source, pair.target, (*ARCHIVE, *_filters(patterns)), is_ignored=is_excluded
    )
    assert {path.name for path in pair.target.iterdir()} == {
        "cache", "theirs.tmp", "directory", "file", "now included",
    }  # fmt: skip
    assert [path.name for path in (pair.target / "cache").iterdir()] == ["theirs"]


def _filters(patterns: list[str]) -> list[str]:
    return [f"--exclude={pattern}" for pattern in patterns]


@pytest.mark.parametrize("delete", [True, False, "startup", "running"])
def test_delete_setting(some_pair: Pair, daemon: StartDaemon, delete: bool | str) -> None:
    # also beside what is deleted later: `running` deletes only what was seen to go
    some_pair.target.mkdir(exist_ok=True)
    (some_pair.target / "only here").write_text("old")
    (some_pair.target / "quiet" / "old directory" / "below").mkdir(parents=True)
    (some_pair.target / "quiet" / "old").write_text("old")
    (some_pair.source / "quiet").mkdir()
    (some_pair.source / "file").write_text("file")
    (some_pair.source / "directory" / "below").mkdir(parents=True)
    (some_pair.source / "directory" / "below" / "file").write_text("file")
    running = daemon(some_pair.settings(delete=delete, brake=UNLIMITED))
    running.wait_for_state("home", "in-sync")
    old = {"old", "old directory"} if delete in (False, "running") else set()
    assert {path.name for path in (some_pair.target / "quiet").iterdir()} == old
    only_here = {"only here"} if delete in (False, "running") else set()
    names = {"file", "directory", "quiet"} | only_here
    assert {path.name for path in some_pair.target.iterdir()} == names

    (some_pair.source / "file").unlink()
    shutil.rmtree(some_pair.source / "directory" / "below")
    (some_pair.source / "directory").rename(some_pair.source / "renamed")
    (some_pair.source / "renamed" / "new").write_text("new")
    wait_until((some_pair.target / "renamed" / "new").exists, "what is new arrives", describe=running.log)
    running.wait_for(
        "home",
        lambda status: status.get("state") == "in-sync" and status["pending"] == 0,
        "the batch is over",
    )
    kept = {"file", "directory"} if delete in (False, "startup") else set()
    assert {path.name for path in some_pair.target.iterdir()} == {"renamed", "quiet"} | kept | only_here
    assert {path.name for path in (some_pair.target / "quiet").iterdir()} == old
    assert (some_pair.target / "directory" / "below" / "file").exists() is bool(kept)


def test_replaced_kinds_with_delete_false(local: Pair, daemon: StartDaemon) -> None:
    (local.source / "was directory" / "below").mkdir(parents=True)
    (local.source / "was file").write_text("file")
    running = daemon(local.settings(delete=False))
    running.wait_until_mirrored("home", local.source, local.target)
    shutil.rmtree(local.source / "was directory")
    (local.source / "was directory").write_text("file")
    (local.source / "was file").unlink()
    (local.source / "was file").mkdir()
    running.wait_until_mirrored("home", local.source, local.target)


@pytest.mark.parametrize("key, options", [("acls", "-A"), ("xattrs", "-X")])
def test_extended_attributes(local: Pair, daemon: StartDaemon, key: str, options: str) -> None:
    needs_root()
    (local.source / "file").write_text("file")
    running = daemon(local.settings(rsync={key: True}))
    running.wait_until_mirrored("home", local.source, local.target)
    os.setxattr(local.source / "file", "user.note", b"\xff\n value")
    subprocess.run(["setfacl", "-m", "u:1:r", str(local.source / "file")], check=True)
    wait_until(
        lambda: not rsync_differences(local.source, local.target, (*ARCHIVE, options)),
        f"equal with {options}",
        describe=running.log,
    )


def test_large_file_is_never_seen_half_written(local: Pair, daemon: StartDaemon) -> None:
    first, second = b"1" * 3_000_000, b"2" * 3_000_000
    (local.source / "file").write_bytes(first)
    running = daemon(local.settings(rsync={"bwlimit": 3000}))
    running.wait_until_mirrored("home", local.source, local.target)
    (local.source / "file").write_bytes(second)
    seen = set()

    def arrived() -> bool:
        seen.add((local.target / "file").read_bytes())
        return second in seen

    wait_until(arrived, "the new content arrives", describe=running.log)
    assert seen <= {first, second}
    running.wait_until_mirrored("home", local.source, local.target)
