# SPDX-License-Identifier: GPL-2.0-or-later
"""Random operations while what moves is moved on the target: where that drifts, and where all goes wrong."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.waiting import DEADLINE
from live.conftest import Pair, local_pair, pair_of
from live.test_churn import (
    SETTLE_LIMIT,
    TIME_LIMIT,
    Churned,
    Every,
    Filtered,
    Linked,
    MakeDaemon,
    churn_while,
    send,
    start,
)

pytestmark = pytest.mark.live


@pytest.fixture
def over_ssh(request: pytest.FixtureRequest, folder: Path) -> Callable[[str], Pair]:
    """Make an empty source and a target on which what moves is moved, by the name of their folder."""
    return lambda name: pair_of("rsyncssh", request, local_pair(folder / name))


@pytest.mark.timeout(TIME_LIMIT)
def test_churn_with_moves(
    over_ssh: Callable[[str], Pair], daemons: MakeDaemon, seed: str, full: bool
) -> None:
    syncs = [Churned(over_ssh("home")), Filtered(over_ssh("filtered")), Linked(over_ssh("linked"))]
    running = start(daemons, *syncs)
    churn_while(seed, full, (), *syncs)
    for sync in syncs:
        sync.check(running)
        assert running.status(sync.name)["restarts"] == 0
    assert " moved, " in running.log()


class Drift:
    """Somebody else who is at work on the target."""

    def __init__(self, root: Path, seed: str) -> None:
        self._root = root
        self._random = random.Random(seed)  # noqa: S311  (to be replayed)

    def __call__(self) -> None:
        """Remove something, or make something, or put something in the place of something else."""
        with contextlib.suppress(OSError):
            place = self._somewhere()
            action = self._random.choice(("remove", "file", "directory", "link", "replace"))
            if action in ("remove", "replace"):
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                else:
                    place.unlink()
            if action in ("file", "replace"):
                # There may be a FIFO by now, which nobody reads.
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
                with os.fdopen(os.open(place, flags, 0o644), "w") as file:
                    file.write("theirs")
            elif action == "directory":
                (place / "theirs").mkdir(parents=True)
            elif action == "link":
                place.symlink_to(self._root.parent)

    def _somewhere(self) -> Path:
        place = self._root
        for _level in range(self._random.randrange(4)):
            names = sorted(os.listdir(place)) if place.is_dir() and not place.is_symlink() else []
            if not names:
                break
            place /= self._random.choice(names)
        return place / self._random.choice("abcd") if place == self._root else place


@pytest.mark.timeout(TIME_LIMIT)
def test_churn_with_moves_on_a_target_that_drifts(
    over_ssh: Callable[[str], Pair], daemons: MakeDaemon, seed: str, full: bool
) -> None:
    sync = Churned(over_ssh("drifting"), "drifting")
    running = start(daemons, sync)
    churn_while(seed, full, [Every(0.02, Drift(sync.pair.target, seed))], sync)
    arguments = ("--full", "--wait", f"--timeout={SETTLE_LIMIT}")
    waited = running.command("sync", "drifting", *arguments, deadline=SETTLE_LIMIT + DEADLINE)
    assert waited.returncode == 0, f"{waited.stderr}\n{running.log()}"
    sync.compare()
    assert running.status("drifting")["restarts"] == 0
    assert " moved, " in running.log()


@pytest.mark.timeout(TIME_LIMIT)
def test_churn_with_moves_while_processes_are_killed(
    over_ssh: Callable[[str], Pair], daemons: MakeDaemon, seed: str, full: bool
) -> None:
    sync = Churned(over_ssh("unlucky"), "unlucky")
    running = start(daemons, sync)
    chosen = random.Random(seed)  # noqa: S311  (to be replayed)

    def kill_one() -> None:
        pids = [pid for name in ("ssh", "rsync") for pid in running.processes_named(name)]
        if chosen.random() < 0.1:
            pids = [running.status("unlucky").get("pid") or 0]
        send(chosen.choice(pids) if pids else 0, signal.SIGKILL)

    meddlers = [Every(1.0, kill_one), Every(3.0, lambda: running.command("sync", "unlucky"))]
    churn_while(seed, full, meddlers, sync)
    sync.check(running)
