# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths that are longer than rsync can send: they are named, and hold back nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from helpers.daemon import UNLIMITED
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

# 3,849 bytes, which rsync sends, also with the path of the source before it; with the next name 4,100, and
# it does not
NAMES = [*["d" * 200] * 19, "d" * 30]
TOO_LONG = "e" * 250


@pytest.fixture
def deep(local: Pair) -> Iterator[int]:
    """The open directory at NAMES in the source; it holds a file, and a directory whose path is too long."""
    with ExitStack() as stack:
        above = os.open(local.source, os.O_RDONLY)
        stack.callback(os.close, above)
        for name in NAMES:
            os.mkdir(name, dir_fd=above)
            above = os.open(name, os.O_RDONLY, dir_fd=above)
            stack.callback(os.close, above)
        _fill(above, "reached")
        os.mkdir(TOO_LONG, dir_fd=above)
        yield above
    # pytest's own cleaning takes no such path
    subprocess.run(["rm", "-r", str(local.source)], check=True)


def _fill(directory: int, name: str) -> None:
    with os.fdopen(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=directory), "w") as file:
        file.write("content")


def test_a_path_that_is_too_long_is_named_and_holds_back_nothing(
    local: Pair, daemon: StartDaemon, deep: int
) -> None:
    def there(*names: str) -> bool:
        return (local.target / "/".join(names)).exists()

    for name in ("kept", "gone", "later/kept"):
        (local.source / name).parent.mkdir(exist_ok=True)
        (local.source / name).write_text(name)
    # what comes after the path is deleted by no run that meets it
    (local.target / "later").mkdir(parents=True)
    (local.target / "later" / "only here").write_text("old")
    started = daemon(local.settings(brake=UNLIMITED))
    status = started.wait_for_state("home", "degraded")
    assert "filename overflows max-path len by 5" in status["reason"]
    # the full sync came to its deletions, and to what is beside the path
    assert there("kept") and there(*NAMES, "reached")
    assert not there("later", "only here")

    # a batch with such a path and others
    _fill(deep, f"{TOO_LONG}/unreached")
    (local.source / "new").write_text("new")
    (local.source / "gone").unlink()
    _fill(deep, "reached, too")
    wait_until(
        lambda: there("new") and not there("gone") and there(*NAMES, "reached, too"),
        "the rest of the batch is mirrored",
        describe=started.log,
    )
    started.wait_for(
        "home",
        lambda status: status.get("state") == "degraded" and "4093 bytes" in status["reason"],
        "the path of the batch is told",
    )
    # once it is away, all is well
    os.unlink(f"{TOO_LONG}/unreached", dir_fd=deep)
    os.rmdir(TOO_LONG, dir_fd=deep)
    started.call("Sync", name="home", wait=True)
    started.wait_for_state("home", "in-sync")
