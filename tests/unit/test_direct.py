# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/direct.py with a real rsync: which files are cloned, and what if that goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import sharing
from helpers.comparing import differences
from helpers.house import ENTRY, EXACT_ENTRY, EXACT_SUBTREE, LEVEL, OLD, House, is_good

from lsyncd_sd.config.model import Sync
from lsyncd_sd.config.reader import read_text
from lsyncd_sd.config.rsynckeys import RSYNC_KEYS
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror import direct
from lsyncd_sd.mirror.cloning import SIGN_OF_LIFE
from lsyncd_sd.mirror.direct import DirectMirror, may_clone
from lsyncd_sd.mirror.process import Process
from lsyncd_sd.mirror.report import Report, nothing_done
from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Depth

LARGE = direct.SMALLEST_CLONED + 4096
ATTRIBUTES = Mark(Depth.ENTRY, exact=False)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with sharing.sharing_file_system("btrfs", tmp_path_factory.mktemp("btrfs")) as place:
        yield place


@pytest.fixture
def house(mounted: Path, tmp_path: Path) -> Iterator[House]:
    """A house whose files can share blocks."""
    base = mounted / tmp_path.name
    base.mkdir()
    loop = Loop()
    yield House(base, loop)
    loop.close()
    subprocess.run(["rm", "-rf", base], check=True)


def sync_of(house: House, rsync: str = "", more: str = "") -> Sync:
    text = f"source: {house.source}\ntarget: {house.target}\nrsync: {{{rsync}}}\n{more}"
    return read_text(text, "home.yaml")[0].syncs[0]


def mirror_of(house: House, sync: Sync | None = None) -> DirectMirror:
    """Return a mirror whose target was found in order; directories on both sides have the same times."""
    for root in (house.source, house.target):
        for path in (root, root / "d"):
            if path.is_dir():
                os.utime(path, ns=(OLD, OLD))
    mirror = house.mirror_of(sync or sync_of(house), DirectMirror)
    identity = house.do(mirror.target_identity())
    mirror.use_target(identity)
    return mirror


def write(path: Path, size: int = LARGE) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def is_shared(house: House, name: str) -> bool:
    return sharing.shared_bytes(house.source / name, house.target / name) > 0


def batch(house: House, mirror: DirectMirror, marks: Marks) -> Report:
    report = house.do(mirror.batch(marks))
    assert is_good(report), report
    assert differences(house.source, house.target) == []
    return report


# ---- which files


def test_a_large_file_that_was_written_to(house: House) -> None:
    write(house.source / "d/large")
    write(house.source / "d/small", 1000)
    (house.target / "d").mkdir()
    report = batch(house, mirror_of(house), dict.fromkeys([b"d/large", b"d/small"], EXACT_ENTRY))
    assert is_shared(house, "d/large")
    # each of them counts once
    assert (report.done.files, report.done.bytes) == (2, LARGE + 1000)


def test_the_time_that_it_took_counts() -> None:
    report = nothing_done()
    direct._Cloned(seconds=2.5).add_to(report)
    assert report.seconds == 2.5


@pytest.mark.parametrize("mark", [ENTRY, EXACT_SUBTREE])
def test_other_marks_are_for_rsync(house: House, mark: Mark) -> None:
    write(house.source / "large")
    report = batch(house, mirror_of(house), {b"large": mark})
    assert not is_shared(house, "large")
    assert (report.done.files, report.done.bytes) == (1, LARGE)


def test_a_directory_that_is_not_there_yet(house: House) -> None:
    write(house.source / "d/large")
    batch(house, mirror_of(house), {b"d": EXACT_ENTRY, b"d/large": EXACT_ENTRY})
    assert not is_shared(house, "d/large")


def test_a_directory_in_its_place(house: House) -> None:
    write(house.source / "large")
    write(house.target / "large/old", 10)
    batch(house, mirror_of(house), {b"large": EXACT_ENTRY})


def test_what_is_hidden_is_not_put_there(house: House) -> None:
    write(house.source / "hidden")
    sync = sync_of(house, more="exclude: [hidden]")
    assert is_good(house.do(mirror_of(house, sync).batch({b"hidden": EXACT_ENTRY})))
    assert os.listdir(house.target) == []


def test_what_could_not_be_read_is_for_rsync_to_try(house: House) -> None:
    write(house.source / "large")
    mirror = mirror_of(house)
    mirror.commands.unreadable = {b"large"}
    batch(house, mirror, {b"large": EXACT_ENTRY})
    assert not is_shared(house, "large")
    assert mirror.commands.unreadable == set()


def test_other_file_systems_are_left_out_if_they_are_to_be(house: House) -> None:
    (house.source / "mount").mkdir()
    write(house.target / "mount/large")
    subprocess.run(["mount", "-t", "tmpfs", "none", house.source / "mount"], check=True)
    try:
        write(house.source / "mount/large")
        mirror = mirror_of(house, sync_of(house, "one_file_system: true"))
        assert is_good(house.do(mirror.batch({b"mount/large": EXACT_ENTRY})))
        assert (house.source / "mount/large").read_bytes() != (house.target / "mount/large").read_bytes()
    finally:
        subprocess.run(["umount", house.source / "mount"], check=True)


def test_rsync_sends_what_has_changed_meanwhile(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    large = write(house.source / "large")
    real = direct.clone

    def clone_and_write(*arguments: Any, **more: Any) -> Generator[bytes, None, int]:
        size = yield from real(*arguments, **more)
        with open(large, "ab") as file:
            file.write(b"more")
        return size

    monkeypatch.setattr(direct, "clone", clone_and_write)
    batch(house, mirror_of(house), {b"large": EXACT_ENTRY})


# ---- which options

# With these, rsync makes something else of a file, or is to look at it itself.
IN_THE_WAY = {
    "append", "append_verify", "backup", "backup_dir", "bwlimit", "chmod", "chown", "copy_dirlinks",
    "copy_links", "copy_unsafe_links", "dry_run", "existing", "extra", "groupmap", "ignore_times", "inplace",
    "keep_dirlinks", "partial_dir", "rsync_path", "suffix", "temp_dir", "update", "usermap",
}  # fmt: skip

# Only where rsync is not alone.
FOR_OTHERS = {"password_file", "rsh", "binary"}


@pytest.mark.parametrize(
    "setting",
    [setting for setting in RSYNC_KEYS if setting.name not in FOR_OTHERS],
    ids=lambda setting: setting.name,
)
def test_each_key_of_rsync(tmp_path: Path, setting: Any) -> None:
    """A new key has to be put on one side or the other."""
    more = "\n  backup_dir: .old" if setting.name == "suffix" else ""
    text = f"source: /source\ntarget: /target\nrsync:\n  {setting.name}: {setting.example}{more}\n"
    syncs = read_text(text, "home.yaml")[0].syncs
    assert may_clone(syncs[0].rsync) is (setting.name not in IN_THE_WAY)


@pytest.mark.parametrize("key", ["archive", "perms", "times", "group", "owner"])
def test_all_that_a_clone_takes_over_must_be_wanted(key: str) -> None:
    text = f"source: /source\ntarget: /target\nrsync: {{{key}: false}}\n"
    assert not may_clone(read_text(text, "home.yaml")[0].syncs[0].rsync)


def test_with_such_an_option_rsync_does_it(house: House) -> None:
    write(house.source / "large")
    mirror = mirror_of(house, sync_of(house, "chmod: F600"))
    assert is_good(house.do(mirror.batch({b"large": EXACT_ENTRY})))
    assert (house.target / "large").stat().st_mode & 0o777 == 0o600


def test_lists_and_attributes(house: House) -> None:
    large = write(house.source / "large")
    subprocess.run(["setfacl", "-m", "u:1234:r", large], check=True)
    os.setxattr(large, "user.mine", b"1")
    batch(house, mirror_of(house, sync_of(house, "acls: true, xattrs: true")), {b"large": EXACT_ENTRY})
    assert is_shared(house, "large")
    assert sorted(os.listxattr(house.target / "large")) == ["system.posix_acl_access", "user.mine"]


# ---- what goes wrong


def test_without_sharing_rsync_does_it(tmp_path: Path, mounted: Path) -> None:
    loop = Loop()
    house = House(tmp_path, loop)
    write(house.source / "large")
    write(house.target / "large", 10)
    batch(house, mirror_of(house), {b"large": EXACT_ENTRY})
    loop.close()


def test_another_directory_in_the_place_of_the_target_gets_no_clone(house: House) -> None:
    write(house.source / "large")
    mirror = mirror_of(house)
    house.target.rename(house.base / "away")
    house.target.mkdir()
    batch(house, mirror, {b"large": EXACT_ENTRY})
    assert not is_shared(house, "large")


def stopped_by(what: Callable[[], None]) -> Callable[..., Generator[bytes, None, int]]:
    """Return what can stand for `clone`: something happens when the temporary file is there."""
    real = direct.clone

    def clone(source: int, target: int, path: bytes, **more: Any) -> Generator[bytes, None, int]:
        if path.endswith(b"second"):
            yield SIGN_OF_LIFE
            with open(f"/proc/self/fd/{target}/.second.AbC123", "wb") as file:
                file.write(b"half of it")
            what()
        return (yield from real(source, target, path, **more))

    return clone


@pytest.mark.parametrize("more", ["", "delete: false", "delete: false\nexclude: [/x]"])
def test_killed_in_the_middle(house: House, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    for name in ("first", "second", "third"):
        write(house.source / name)
    monkeypatch.setattr(direct, "clone", stopped_by(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    mirror = mirror_of(house, sync_of(house, more=more))
    marks = dict.fromkeys([b"first", b"second", b"third"], EXACT_ENTRY)
    report = house.do(mirror.batch(marks))
    assert is_good(report)
    assert (report.done.files, report.done.bytes) == (3, 3 * LARGE)
    # where nothing deletes it, it is gone before rsync begins
    assert (house.target / ".second.AbC123").exists() is not bool(more)
    assert report.again == ({} if more else {b"": LEVEL})
    monkeypatch.undo()
    batch(house, mirror, report.again)
    assert is_shared(house, "first") and not is_shared(house, "second") and not is_shared(house, "third")


def test_one_that_hangs_is_left_behind(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    write(house.source / "second")
    monkeypatch.setattr(direct, "clone", stopped_by(lambda: time.sleep(1000)))
    real = Process.limit
    given: list[float] = []

    def limit(process: Process, seconds: float) -> None:
        given.append(seconds)
        # However long a busy machine takes to the first sign of life.
        real(process, seconds if len(given) == 1 else 0.0)

    monkeypatch.setattr(Process, "limit", limit)
    mirror = mirror_of(house, replace(sync_of(house), timeout=77))
    given.clear()
    report = house.do(mirror.batch({b"second": EXACT_ENTRY}))
    assert is_good(report) and report.again == {b"": LEVEL}
    assert given == [77, 77]
    assert (house.target / "second").stat().st_size == LARGE


def test_nothing_is_forgotten_when_rsync_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        write(house.source / name)
    monkeypatch.setattr(direct, "clone", stopped_by(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    sync = sync_of(house, f"binary: {house.program('exit 1 #')['rsync'].binary}")
    report = house.do(mirror_of(house, sync).batch(dict.fromkeys([b"first", b"second"], EXACT_ENTRY)))
    assert report.is_whole and report.again == {}
    assert report.failed.keys() == {b"", b"first", b"second"}
    assert report.failed[b""] == LEVEL


# ---- the lane of large files


def test_the_lane(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("d/first", "d/second"):
        write(house.source / name)
    (house.target / "d").mkdir()
    real = direct.clone

    def only_the_first(source: int, target: int, path: bytes, **more: Any) -> Generator[bytes, None, int]:
        if path == b"d/second":
            raise OSError
        return (yield from real(source, target, path, **more))

    monkeypatch.setattr(direct, "clone", only_the_first)
    mirror = mirror_of(house)
    marks = dict.fromkeys([b"d/first", b"d/second"], EXACT_ENTRY)
    mirror.commands.in_lane = frozenset(marks)
    report = house.do(mirror.large(marks))
    assert is_good(report)
    assert report.again == dict.fromkeys([b"d", b"d/first"], ATTRIBUTES)
    assert (report.done.files, report.done.bytes) == (2, 2 * LARGE)
    assert is_shared(house, "d/first") and not is_shared(house, "d/second")
    mirror.commands.in_lane = frozenset()
    batch(house, mirror, report.again)


def test_the_lane_with_clones_alone(house: House) -> None:
    write(house.source / "d/first")
    (house.target / "d").mkdir()
    mirror = mirror_of(house)
    report = house.do(mirror.large({b"d/first": EXACT_ENTRY}))
    assert is_good(report) and report.again == dict.fromkeys([b"d", b"d/first"], ATTRIBUTES)
    # something else was at work there
    os.utime(house.target / "d")
    batch(house, mirror, report.again)
