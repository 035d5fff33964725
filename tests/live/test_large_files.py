# SPDX-License-Identifier: GPL-2.0-or-later
"""A large file is sent beside everything else: nothing waits for it, and nothing else disturbs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.daemon import Daemon
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

LIMIT = 100_000
LARGE = 3_000_000

# KiB a second: the large file takes some seconds, a small one none.
SLOWLY = 1000

# It takes longer than anything else may need that has to come first, on a busy machine, too.
VERY_SLOWLY = 150


def start(pair: Pair, daemon: StartDaemon, limit: int = SLOWLY) -> Daemon:
    """Start a daemon on a few small files, and wait until they are mirrored."""
    folder = pair.source / "folder"
    (folder / "below").mkdir(parents=True)
    for name in ("small", "other", "below/file"):
        (folder / name).write_text("content")
    running = daemon(pair.settings(batch_size_limit=LIMIT, rsync={"bwlimit": limit}))
    running.wait_until_mirrored("home", pair.source, pair.target)
    return running


def make_large(path: Path) -> None:
    path.write_bytes(os.urandom(LARGE))


def half_sent(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".large.??????")]


def wait_until_half_sent(pair: Pair, running: Daemon) -> None:
    wait_until(
        lambda: half_sent(pair.target / "folder"), "the large file is being sent", describe=running.log
    )


def test_small_files_do_not_wait_for_a_large_one(pair: Pair, daemon: StartDaemon) -> None:
    running = start(pair, daemon, VERY_SLOWLY)
    # not of interest: a missing target that a loaded machine's sshd closed the connection over, in silence
    begun = len(running.log())
    make_large(pair.source / "folder/large")
    wait_until_half_sent(pair, running)
    (pair.source / "folder/small").write_text("changed")
    (pair.source / "folder/other").unlink()
    (pair.source / "folder/new").mkdir()
    (pair.source / "folder/below").rename(pair.source / "folder/moved")

    def is_ahead() -> bool:
        folder = pair.target / "folder"
        return (
            (folder / "small").read_text() == "changed"
            and not (folder / "other").exists()
            and (folder / "new").exists()
            and (folder / "moved/file").exists()
            and not (folder / "below").exists()
        )

    wait_until(is_ahead, "the small changes arrive", describe=running.log)
    assert not (pair.target / "folder/large").exists(), "they had to wait for the large file"
    assert half_sent(pair.target / "folder"), "it was disturbed"
    assert running.status("home")["state"] not in ("in-sync", "failing", "degraded")
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert "failing" not in running.log()[begun:]


def test_a_large_file_that_changes_while_it_is_sent_is_sent_again(
    some_pair: Pair, daemon: StartDaemon
) -> None:
    running = start(some_pair, daemon)
    large = some_pair.source / "folder/large"
    make_large(large)
    wait_until_half_sent(some_pair, running)
    make_large(large)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    large.write_text("small by now")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_a_large_file_goes_or_moves_while_it_is_sent(some_pair: Pair, daemon: StartDaemon) -> None:
    running = start(some_pair, daemon)
    for what in ("goes", "moves", "its folder moves"):
        make_large(some_pair.source / "folder/large")
        wait_until_half_sent(some_pair, running)
        match what:
            case "goes":
                (some_pair.source / "folder/large").unlink()
            case "moves":
                (some_pair.source / "folder/large").rename(some_pair.source / "elsewhere")
            case _:
                (some_pair.source / "folder").rename(some_pair.source / "another")
        running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_a_wait_counts_a_large_file(some_pair: Pair, daemon: StartDaemon) -> None:
    running = start(some_pair, daemon)
    make_large(some_pair.source / "folder/large")
    assert running.command("sync", "home", "--wait").returncode == 0
    assert (some_pair.target / "folder/large").stat().st_size == LARGE
    assert (some_pair.target / "folder/large").read_bytes() == (
        some_pair.source / "folder/large"
    ).read_bytes()
