# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/cookies.py with a real queue: what was heard of says that all before it was read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsyncd_sd.plan.change import Change
from lsyncd_sd.service.cookies import Cookies
from lsyncd_sd.watch import inotify
from lsyncd_sd.watch.coverage import Scope
from lsyncd_sd.watch.watcher import Watcher


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path


@pytest.fixture
def queue() -> Iterator[int]:
    descriptor = inotify.open_queue()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def watcher(folder: Path, queue: int) -> Watcher:
    watcher = Watcher(queue, os.fsencode(folder / "source"), Scope(lambda _path, _is_directory: False))
    watcher.restart()
    assert watcher.walk(1000)
    return watcher


@pytest.fixture
def cookies(folder: Path, watcher: Watcher) -> Cookies:
    return Cookies(watcher, folder / "cookies")


def paths(watcher: Watcher) -> set[bytes]:
    return {change.path for change in watcher.read(1.0) if isinstance(change, Change)}


def test_with_it_everything_before_it_was_read_and_nothing_is_left(
    folder: Path, watcher: Watcher, cookies: Cookies
) -> None:
    for number in range(100):
        (folder / "source" / f"file {number}").touch()
    name = cookies.send()
    (folder / "source" / "late").touch()
    assert cookies.received() == set()
    seen = paths(watcher)
    assert cookies.received() == {name}
    assert {b"file %d" % number for number in range(100)} <= seen
    assert cookies.received() == set(), "each is told once"
    assert list((folder / "cookies").iterdir()) == []


def test_it_is_no_change_of_the_source(watcher: Watcher, cookies: Cookies) -> None:
    cookies.send()
    assert paths(watcher) == set()


def test_it_is_held_up_by_half_of_a_rename(folder: Path, watcher: Watcher, cookies: Cookies) -> None:
    """Whoever heard of it knows also the end of what moved out before."""
    (folder / "source" / "leaving").touch()
    paths(watcher)
    (folder / "source" / "leaving").rename(folder / "gone")
    name = cookies.send()
    assert paths(watcher) == set()
    assert cookies.received() == set()
    assert b"leaving" in {change.path for change in watcher.read(100.0) if isinstance(change, Change)}
    assert cookies.received() == {name}


def test_what_was_sent_before_a_restart_is_lost_and_what_comes_after_is_not(
    watcher: Watcher, cookies: Cookies
) -> None:
    cookies.send()
    watcher.restart()
    assert watcher.walk(1000)
    watcher.read(1.0)
    assert cookies.received() == set()
    name = cookies.send()
    watcher.read(1.0)
    assert cookies.received() == {name}


def test_another_process_on_the_same_queue_has_other_names(
    folder: Path, watcher: Watcher, cookies: Cookies
) -> None:
    child = os.fork()
    if child == 0:
        cookies.send()
        os._exit(0)
    os.waitpid(child, 0)
    ours = cookies.send()
    watcher.read(1.0)
    received = cookies.received()
    assert len(received) == 2
    assert ours in received


def test_a_folder_that_was_removed_is_made_anew(folder: Path, watcher: Watcher, cookies: Cookies) -> None:
    cookies.send()
    (folder / "cookies").rmdir()
    name = cookies.send()
    watcher.read(1.0)
    assert name in cookies.received()


def test_what_cannot_be_made_is_said(folder: Path, cookies: Cookies) -> None:
    (folder / "cookies").write_text("in the way")
    with pytest.raises(OSError, match="cookies"):
        cookies.send()
    (folder / "cookies").unlink()
    (folder / "cookies").symlink_to(folder / "source")
    with pytest.raises(OSError, match="cookies"):
        cookies.send()
    assert list((folder / "source").iterdir()) == []
