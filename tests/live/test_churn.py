# SPDX-License-Identifier: GPL-2.0-or-later
"""Random operations of several processes while things are killed: in the end the target is the source."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import churn
from helpers.comparing import age, differences, rsync_differences
from helpers.daemon import Daemon
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

PROCESSES = 3

# Operations of all processes together, and the seconds they are spread over.
QUICK = (2_000, 10.0)
FULL = (10_000, 60.0)

CHILD_KILL_SECONDS = 2.0

# Seconds after which the operations must be over, and the whole test.
CHURN_LIMIT = 240
TIME_LIMIT = 600


@pytest.fixture
def seed() -> str:
    """The seed of this run, given or new; shown when a test fails."""
    given = os.environ.get("LSYNCD_SD_SEED") or str(random.SystemRandom().randrange(2**32))
    print(f"LSYNCD_SD_SEED={given}")
    return given


@contextlib.contextmanager
def churning(seed: str, root: Path, full: bool) -> Iterator[Callable[[], bool]]:
    """Do random operations in the background; yields a function that tells whether they are over."""
    operations, seconds = FULL if full else QUICK
    outside = root.parent / "outside"
    outside.mkdir(exist_ok=True)
    share = str(operations // PROCESSES)
    running = [
        subprocess.Popen(
            [
                sys.executable,
                churn.__file__,
                f"{seed}-{number}",
                share,
                str(seconds),
                str(root),
                str(outside),
            ]
        )
        for number in range(PROCESSES)
    ]
    try:
        yield lambda: all(process.poll() is not None for process in running)
        assert [process.returncode for process in running] == [0] * PROCESSES
    finally:
        for process in running:
            process.kill()
            process.wait()


# For when it is a full sync that finds what has changed: it does not see a file of the same size and time
# without.
CHECKSUM = {"rsync": {"checksum": True}}


def start(pair: Pair, daemon: StartDaemon, **more: object) -> Daemon:
    """Start a daemon on a tree with a few files."""
    (pair.source / "a" / "b").mkdir(parents=True)
    (pair.source / "a" / "b" / "c").write_text("c")
    age(pair.source)
    running = daemon(pair.settings(**more))
    running.wait_until_mirrored("home", pair.source, pair.target)
    return running


def check(pair: Pair, running: Daemon) -> None:
    """Wait until what came last is on the target and nothing is pending: then everything must be there."""
    (pair.source / "marker").write_text("the last change")
    wait_until((pair.target / "marker").exists, "the marker arrives", 120, describe=running.log)
    running.wait_for(
        "home",
        lambda status: status.get("state") == "in-sync" and status["pending"] == 0,
        "nothing is pending",
        120,
    )
    assert rsync_differences(pair.source, pair.target) == []
    assert differences(pair.source, pair.target) == []


@pytest.mark.timeout(TIME_LIMIT)
def test_churn(some_pair: Pair, daemon: StartDaemon, seed: str, full: bool) -> None:
    running = start(some_pair, daemon)
    with churning(seed, some_pair.source, full) as is_over:
        wait_until(is_over, "the operations are over", CHURN_LIMIT)
    check(some_pair, running)
    assert running.status("home")["restarts"] == 0


@pytest.mark.timeout(TIME_LIMIT)
def test_churn_while_the_child_is_killed(
    some_pair: Pair, daemon: StartDaemon, seed: str, full: bool
) -> None:
    running = start(some_pair, daemon, **CHECKSUM)
    last = time.monotonic()

    def kill_now_and_then() -> None:
        nonlocal last
        if time.monotonic() - last > CHILD_KILL_SECONDS:
            last = time.monotonic()
            pid = running.status("home").get("pid")
            if pid:
                os.kill(pid, signal.SIGKILL)

    with churning(seed, some_pair.source, full) as is_over:
        wait_until(lambda: kill_now_and_then() or is_over(), "the operations are over", CHURN_LIMIT)
    check(some_pair, running)
    assert running.status("home")["restarts"] >= 3


@pytest.mark.timeout(TIME_LIMIT)
def test_churn_while_rsync_is_killed(some_pair: Pair, daemon: StartDaemon, seed: str, full: bool) -> None:
    running = start(some_pair, daemon)
    chosen = random.Random(seed)  # noqa: S311  (to be replayed)
    killed = 0

    def kill_at_random() -> None:
        nonlocal killed
        for pid in running.processes_named("rsync"):
            if chosen.random() < 0.3:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1

    with churning(seed, some_pair.source, full) as is_over:
        wait_until(lambda: kill_at_random() or is_over(), "the operations are over", CHURN_LIMIT)
    check(some_pair, running)
    assert killed > 0
    assert running.status("home")["restarts"] == 0


@pytest.mark.timeout(TIME_LIMIT)
def test_churn_while_the_daemon_is_restarted(
    some_pair: Pair, daemon: StartDaemon, seed: str, full: bool
) -> None:
    running = start(some_pair, daemon, **CHECKSUM)
    chosen = random.Random(seed)  # noqa: S311  (to be replayed)
    with churning(seed, some_pair.source, full) as is_over:
        while not is_over():
            if chosen.random() < 0.5:
                assert running.stop() == 0
            else:
                running.kill()
                wait_until(lambda: not running.processes(), "all its processes are gone")
            running.start("home")
            running.wait_for("home", lambda status: status.get("batches", 0) > 0, "a full sync is done", 120)
    check(some_pair, running)
