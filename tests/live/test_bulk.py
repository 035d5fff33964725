# SPDX-License-Identifier: GPL-2.0-or-later
"""A million changes: the child stays small, whether the target is there or not, and all arrive."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import writer
from helpers.daemon import Daemon
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

CHANGES = 1_000_000
FEW_PATHS = 100
MANY_PATHS = 200_000

# The quick profile does a twentieth.
QUICK_DIVISOR = 20

# What the child may have used at most, in bytes.
MEMORY_LIMIT = 100_000_000

# Seconds for the changes, and for their way to the target.
TIME_LIMIT = 600


def peak_memory(pid: int) -> int:
    """Return the most memory that a process has ever used, in bytes."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def sync(running: Daemon) -> None:
    """Wait until all is mirrored."""
    waited = running.command("sync", "home", "--wait", deadline=TIME_LIMIT)
    assert waited.returncode == 0, waited.stderr


@pytest.mark.timeout(3 * TIME_LIMIT)
@pytest.mark.parametrize("is_there", [True, False], ids=["target there", "target missing"])
@pytest.mark.parametrize("paths", [FEW_PATHS, MANY_PATHS])
def test_a_million_changes(local: Pair, daemon: StartDaemon, full: bool, paths: int, is_there: bool) -> None:
    changes = CHANGES if full else CHANGES // QUICK_DIVISOR
    if paths == MANY_PATHS and not full:
        paths //= QUICK_DIVISOR
    running = daemon(local.settings(delay=1))
    running.wait_until_mirrored("home", local.source, local.target)
    child = running.child("home")
    away = local.target.with_name("away")
    if not is_there:
        local.target.rename(away)
    arguments = [str(local.source), str(paths), str(changes)]
    with subprocess.Popen([sys.executable, writer.__file__, *arguments]) as writing:
        wait_until(lambda: writing.poll() is not None, "the changes are made", TIME_LIMIT)
        assert writing.returncode == 0
    if not is_there:
        running.wait_for_state("home", "target-missing")
        away.rename(local.target)
    sync(running)
    assert running.child("home") == child
    used = peak_memory(child)
    print(f"{changes} changes on {paths} paths: the child used {used // 1_000_000} MB at most")
    assert used < MEMORY_LIMIT
    running.wait_until_mirrored("home", local.source, local.target)
