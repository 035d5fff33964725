# SPDX-License-Identifier: GPL-2.0-or-later
"""What a program writes to and keeps open arrives too: in its time, when it is closed, or when asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.daemon import Daemon
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

HOUR = 3600


def start(pair: Pair, daemon: StartDaemon, **more: object) -> Daemon:
    """Start a daemon on a source with one log, and wait until it is mirrored."""
    (pair.source / "log").write_text("first line\n")
    running = daemon(pair.settings(**more))
    running.wait_until_mirrored("home", pair.source, pair.target)
    return running


def append(log: int) -> None:
    os.write(log, b"one more line\n")


def wait_for_another_file(pair: Pair, running: Daemon) -> None:
    """Wait until something that happened later has arrived."""
    (pair.source / "later").write_text("closed")
    wait_until((pair.target / "later").exists, "what was closed later has arrived", describe=running.log)


def is_mirrored(pair: Pair) -> bool:
    return (pair.target / "log").read_bytes() == (pair.source / "log").read_bytes()


def test_a_log_arrives_without_being_closed(some_pair: Pair, daemon: StartDaemon) -> None:
    running = start(some_pair, daemon, open_file_delay=0.3)
    with open(some_pair.source / "log", "ab", buffering=0) as log:
        for _line in range(2):
            append(log.fileno())
            wait_until(lambda: is_mirrored(some_pair), "the open log arrives", describe=running.log)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_a_log_waits_until_it_is_closed(some_pair: Pair, daemon: StartDaemon) -> None:
    running = start(some_pair, daemon, open_file_delay=HOUR)
    with open(some_pair.source / "log", "ab", buffering=0) as log:
        append(log.fileno())
        wait_for_another_file(some_pair, running)
        assert not is_mirrored(some_pair)
        status = running.wait_for("home", lambda status: status["pending"] == 1, "the log is pending")
        assert status["state"] == "pending"
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_an_open_log_is_sent_when_asked_for(some_pair: Pair, daemon: StartDaemon) -> None:
    running = start(some_pair, daemon, open_file_delay=HOUR)
    with open(some_pair.source / "log", "ab", buffering=0) as log:
        append(log.fileno())
        assert running.command("sync", "home").returncode == 0
        wait_until(lambda: is_mirrored(some_pair), "the open log arrives", describe=running.log)


def test_an_open_log_that_is_renamed_arrives_under_its_new_name(
    some_pair: Pair, daemon: StartDaemon
) -> None:
    running = start(some_pair, daemon, open_file_delay=0.3)
    with open(some_pair.source / "log", "ab", buffering=0) as log:
        append(log.fileno())
        (some_pair.source / "log").rename(some_pair.source / "log.1")
        append(log.fileno())
        (some_pair.source / "log").write_text("the next one\n")
        running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_a_file_cut_by_its_path_arrives(some_pair: Pair, daemon: StartDaemon) -> None:
    running = start(some_pair, daemon, open_file_delay=0.3)
    os.truncate(some_pair.source / "log", 3)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_writing_is_not_watched_where_nobody_wants_it(some_pair: Pair, daemon: StartDaemon) -> None:
    running = start(some_pair, daemon, watch_modify=False, open_file_delay=0)
    with open(some_pair.source / "log", "ab", buffering=0) as log:
        append(log.fileno())
        wait_for_another_file(some_pair, running)
        running.wait_for_state("home", "in-sync")
        assert not is_mirrored(some_pair)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_a_file_that_is_always_written_to_arrives_again_and_again(
    some_pair: Pair, daemon: StartDaemon
) -> None:
    running = start(some_pair, daemon, open_file_delay=0.2)
    seen: set[int] = set()
    log = os.open(some_pair.source / "log", os.O_WRONLY | os.O_APPEND)
    try:

        def sizes() -> bool:
            append(log)
            seen.add(size_of(some_pair.target / "log"))
            return len(seen) > 3

        wait_until(sizes, "three states of the log arrive", describe=running.log)
    finally:
        os.close(log)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def size_of(path: Path) -> int:
    return path.stat().st_size
