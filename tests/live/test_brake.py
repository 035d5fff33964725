# SPDX-License-Identifier: GPL-2.0-or-later
"""The brake: nothing of what is too much is deleted before somebody has agreed to exactly that."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.comparing import age, tree
from helpers.daemon import UNLIMITED, Daemon
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

# Seconds: a tree of this size is removed in a fraction of it, so that one batch sees all of that.
LONG_DELAY = 2.0

BIG, SMALL = 120, 40


def fill(source: Path) -> None:
    """Make a tree of 162 entries: most of them in `big`, the others in `small`."""
    for name, number in (("big", BIG), ("small", SMALL)):
        (source / name).mkdir()
        for index in range(number):
            (source / name / f"{name}{index:03}").write_text(name)


def mirrored(pair: Pair, daemon: StartDaemon, **more: Any) -> Daemon:
    """Start a daemon on such a tree, and wait for the first full sync."""
    fill(pair.source)
    running = daemon(pair.settings(**more))
    running.wait_until_mirrored("home", pair.source, pair.target)
    return running


def move_out(path: Path) -> None:
    """Let something go in one moment, so that no batch sees only a part of it gone."""
    path.rename(path.parents[1] / "outside")


def wait_until_held(running: Daemon, *words: str) -> str:
    """Wait for a hold whose reason holds these words; return its token."""
    status = running.wait_for(
        "home",
        lambda status: (
            status.get("state") == "held"
            and bool(status["hold_id"])
            and all(word in status["reason"] for word in words)
        ),
        f"held with {words}",
    )
    assert status["reason"].endswith("lsyncd-sd accept home")
    # the journal says the same
    assert f"held: {status['reason']}" in running.log()
    return str(status["hold_id"])


def accept(running: Daemon) -> None:
    """Agree to what is held."""
    accepted = running.command("accept", "home")
    assert (accepted.returncode, accepted.stderr) == (0, "")


def test_first_run_on_a_target_that_holds_something_else(pair: Pair, daemon: StartDaemon) -> None:
    fill(pair.source)
    shutil.copytree(pair.source, pair.target)
    (pair.target / "precious").mkdir()
    (pair.target / "precious" / "only here").write_text("somebody else's")
    (pair.source / "new").write_text("new")
    before = tree(pair.target)
    running = daemon(pair.settings())
    wait_until_held(running, "would delete 2 entries on the target: precious/;")
    running.stop()
    running.start("home")
    wait_until_held(running, "precious/")
    assert tree(pair.target) == before
    accept(running)
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert not (pair.target / "precious").exists()


def test_first_run_on_a_copy_of_the_source(some_pair: Pair, daemon: StartDaemon) -> None:
    fill(some_pair.source)
    shutil.copytree(some_pair.source, some_pair.target)
    (some_pair.source / "new").write_text("new")
    running = daemon(some_pair.settings())
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert "held" not in running.log()


def test_a_large_directory_removed_while_running(pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(pair, daemon, delay=LONG_DELAY)
    before = tree(pair.target)
    shutil.rmtree(pair.source / "big")
    wait_until_held(running, "delete 121 entries on the target: big/, and the brake allows 81 (50 % of 162)")
    # as long as it is held nothing else is sent either
    (pair.source / "small" / "new").write_text("new")
    assert running.command("status").returncode == 1
    assert tree(pair.target) == before
    accept(running)
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert not (pair.target / "big").exists()
    again = running.command("accept", "home")
    assert (again.returncode, "not held" in again.stderr) == (1, True)


def test_a_large_directory_moved_out_and_back(some_pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(some_pair, daemon)
    before = tree(some_pair.target)
    move_out(some_pair.source / "big")
    wait_until_held(running, "big/")
    assert tree(some_pair.target) == before
    (some_pair.source.parent / "outside").rename(some_pair.source / "big")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_everything_removed_while_running(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon, delay=LONG_DELAY)
    before = tree(local.target)
    for path in local.source.iterdir():
        shutil.rmtree(path)
    wait_until_held(running, "delete 162 entries on the target: big/, small/, and")
    assert tree(local.target) == before


def test_a_large_directory_removed_while_stopped(some_pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(some_pair, daemon)
    running.stop()
    before = tree(some_pair.target)
    shutil.rmtree(some_pair.source / "big")
    (some_pair.source / "small" / "small000").unlink()
    running.start("home")
    wait_until_held(running, "delete 122 entries on the target: big/, small/small000, and")
    assert tree(some_pair.target) == before
    accept(running)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_half_of_a_tree_is_not_too_much(some_pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(some_pair, daemon)
    shutil.rmtree(some_pair.source / "small")
    for index in range(40):
        (some_pair.source / "big" / f"big{index:03}").unlink()
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert "held" not in running.log()


def test_a_small_tree_may_go_as_a_whole(some_pair: Pair, daemon: StartDaemon) -> None:
    (some_pair.source / "small").mkdir()
    for index in range(90):
        (some_pair.source / "small" / f"{index}").touch()
    running = daemon(some_pair.settings())
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    move_out(some_pair.source / "small")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert "held" not in running.log()


def test_what_is_renamed_is_not_lost(some_pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(some_pair, daemon)
    (some_pair.source / "big").rename(some_pair.source / "small" / "other")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    running.stop()
    (some_pair.source / "small" / "other").rename(some_pair.source / "big again")
    running.start("home")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert "held" not in running.log()


@pytest.mark.parametrize("limit", [10, "10 %"])
def test_a_limit_of_ones_own(local: Pair, daemon: StartDaemon, limit: int | str) -> None:
    running = mirrored(local, daemon, brake={"max_deletes": limit})
    move_out(local.source / "small")
    wait_until_held(running, f"allows {'10' if limit == 10 else '16 (10 % of 162)'}")
    accept(running)
    running.wait_until_mirrored("home", local.source, local.target)


def test_files_one_by_one_count_too(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon, brake={"max_deletes": 10}, delay=LONG_DELAY)
    before = tree(local.target)
    for index in range(11):
        (local.source / "big" / f"big{index:03}").unlink()
    wait_until_held(running, "delete 11 entries on the target: big/big000,")
    assert tree(local.target) == before


def test_without_a_brake(local: Pair, daemon: StartDaemon) -> None:
    (local.source / "one").touch()
    (local.target / "foreign").mkdir(parents=True)
    fill(local.target / "foreign")
    running = daemon(local.settings(brake=UNLIMITED))
    running.wait_until_mirrored("home", local.source, local.target)
    fill(local.source)
    running.wait_until_mirrored("home", local.source, local.target)
    move_out(local.source / "big")
    running.wait_until_mirrored("home", local.source, local.target)
    assert "held" not in running.log()


def test_only_what_was_shown_is_released(some_pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(some_pair, daemon, brake={"max_deletes": 100})
    before = tree(some_pair.target)
    move_out(some_pair.source / "big")
    first = wait_until_held(running, "121 entries", "big/, and")
    # it would not be held alone, but came after somebody looked
    shutil.rmtree(some_pair.source / "small")
    (some_pair.source / "left").touch()
    running.call("Accept", name="home")
    second = wait_until_held(running, "162 entries", "big/, small/, and")
    assert first != second
    assert tree(some_pair.target) == before
    accept(running)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_deleted_by_name_while_running(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon, delete="running")
    before = tree(local.target)
    move_out(local.source / "big")
    wait_until_held(running, "121 entries", "big/")
    assert tree(local.target) == before
    shutil.copytree(local.target / "big", local.source / "big")
    age(local.source)
    running.wait_until_mirrored("home", local.source, local.target)


def test_what_only_the_target_has_is_deleted_up_to_the_limit(pair: Pair, daemon: StartDaemon) -> None:
    """Nothing has told of it, so nothing was counted: rsync itself stops."""
    running = mirrored(pair, daemon, brake={"max_deletes": 30})
    for index in range(100):
        (pair.target / "big" / f"foreign{index:03}").touch()
    (pair.source / "big" / "big000").unlink()
    wait_until_held(running, "a run was stopped", "on the target: big/big000, big/foreign000,")
    # of a daemon's only one more shows that there was more
    assert 119 + 100 + 1 - 31 <= len(list((pair.target / "big").iterdir())) <= 119 + 100 + 1 - 30
    accept(running)
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert "held" not in running.log().partition("accept home")[2].partition("full-sync")[2]


def test_a_directory_that_a_file_replaced_counts_with_what_it_held(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon)
    before = tree(local.target)
    (local.source / "big").rename(local.source.parent / "aside")
    (local.source / "big").write_text("a file now")
    wait_until_held(running, "120 entries", "big/big000")
    assert tree(local.target) == before
    accept(running)
    running.wait_until_mirrored("home", local.source, local.target)


def test_the_count_of_a_long_running_sync_follows_its_tree(local: Pair, daemon: StartDaemon) -> None:
    (local.source / "first").touch()
    running = daemon(local.settings())
    running.wait_until_mirrored("home", local.source, local.target)
    fill(local.source)
    running.wait_until_mirrored("home", local.source, local.target)
    move_out(local.source / "big")
    wait_until_held(running, "81 (50 % of 163)")


def test_a_tree_that_is_removed_slowly(local: Pair, daemon: StartDaemon) -> None:
    """No single batch would be too much."""
    parts = [local.source / f"part{index}" for index in range(4)]
    for part in parts:
        part.mkdir()
        for index in range(SMALL):
            (part / f"{part.name}-{index}").touch()
    running = daemon(local.settings())
    running.wait_until_mirrored("home", local.source, local.target)
    for part in parts[:2]:
        part.rename(local.source.parent / part.name)
        running.wait_until_mirrored("home", local.source, local.target)
    parts[2].rename(local.source.parent / "part2")
    wait_until_held(running, "41 entries", "part2/ after 82 that went lately", "82 (50 % of 164)")
    assert len(list((local.target / "part2").iterdir())) == SMALL
    # a restart is not a decision
    running.command("restart", "home")
    wait_until_held(running, "41 entries", "part2/ after 82 that went lately", "82 (50 % of 164)")
    accept(running)
    running.wait_until_mirrored("home", local.source, local.target)


COUNTING_RSYNC = """\
#!/bin/sh
echo "$*" >> {folder}/runs
exec rsync "$@"
"""


def test_a_hold_is_looked_at_again_without_a_word(local: Pair, daemon: StartDaemon) -> None:
    runs = local.source.parent / "runs"
    program = local.source.parent / "rsync"
    program.write_text(COUNTING_RSYNC.format(folder=local.source.parent))
    program.chmod(0o755)
    running = mirrored(local, daemon, rsync={"binary": str(program)})
    move_out(local.source / "big")
    wait_until_held(running)
    before = len(runs.read_text().splitlines())
    wait_until(lambda: len(runs.read_text().splitlines()) > before, "it is counted again")
    wait_until(lambda: not running.processes_named("rsync"), "that is over")
    assert running.log().count("home: held: ") == 1
    assert all(" -n " in line for line in runs.read_text().splitlines()[before:])


def test_what_cannot_delete_much_is_not_counted(local: Pair, daemon: StartDaemon) -> None:
    runs = local.source.parent / "runs"
    program = local.source.parent / "rsync"
    program.write_text(COUNTING_RSYNC.format(folder=local.source.parent))
    program.chmod(0o755)
    running = mirrored(local, daemon, rsync={"binary": str(program)})
    before = len(runs.read_text().splitlines())
    (local.source / "small" / "small000").write_text("changed")
    (local.source / "small" / "small001").unlink()
    (local.source / "small" / "small002").rename(local.source / "small" / "renamed")
    (local.source / "new" / "deep").mkdir(parents=True)
    (local.source / "new" / "deep" / "file").touch()
    running.wait_until_mirrored("home", local.source, local.target)
    assert not [line for line in runs.read_text().splitlines()[before:] if " -n " in line]
