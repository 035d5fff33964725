# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests filter rules in a running daemon: what each side does with them, and files of rules at a reload."""

from __future__ import annotations

from pathlib import Path

from helpers.comparing import ARCHIVE
from helpers.daemon import UNLIMITED
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

RULES = ["H hidden", "P protected*", "- /a/x/"]


def is_theirs(path: bytes) -> bool:
    """Tell what is on one side only, by the rules; /a/x is asked for by itself."""
    return path.rpartition(b"/")[2] in (b"hidden", b"protected", b"protected too") or path == b"a/x"


def test_each_side_has_rules_of_its_own(pair: Pair, daemon: StartDaemon) -> None:
    for path in ("hidden/x", "protected", "a/x/theirs", "theirs"):
        (pair.target / path).parent.mkdir(parents=True, exist_ok=True)
        (pair.target / path).write_text("of the target")
    for path in ("hidden/y", "a/x/ours", "a/y/file", "protected too", "plain"):
        (pair.source / path).parent.mkdir(parents=True, exist_ok=True)
        (pair.source / path).write_text("of the source")
    options = (*ARCHIVE, *(f"--filter={rule}" for rule in RULES))
    running = daemon(pair.settings(filter=RULES, brake=UNLIMITED))
    running.wait_until_mirrored("home", pair.source, pair.target, options, is_ignored=is_theirs)
    assert {path.name for path in pair.target.iterdir()} == {"a", "plain", "protected", "protected too"}
    assert (pair.target / "a" / "x" / "theirs").exists()
    # the source itself, a and a/y
    assert running.status("home")["directories"] == 3

    (pair.source / "plain").rename(pair.source / "a" / "hidden")
    (pair.source / "protected too").unlink()
    running.wait_until_mirrored("home", pair.source, pair.target, options, is_ignored=is_theirs)
    assert {path.name for path in pair.target.iterdir()} == {"a", "protected", "protected too"}
    assert {path.name for path in (pair.target / "a").iterdir()} == {"x", "y"}


def test_excluded_files_of_the_target_can_be_deleted(some_pair: Pair, daemon: StartDaemon) -> None:
    rules = ["- *.o", "P kept.o"]
    for name in ("theirs.o", "kept.o", "cache.o/x"):
        (some_pair.target / name).parent.mkdir(parents=True, exist_ok=True)
        (some_pair.target / name).write_text("of the target")
    for name in ("ours.o", "plain", "d/plain"):
        (some_pair.source / name).parent.mkdir(parents=True, exist_ok=True)
        (some_pair.source / name).write_text("of the source")
    options = (*ARCHIVE, "--delete-excluded", *(f"--filter={rule}" for rule in rules))
    running = daemon(some_pair.settings(filter=rules, rsync={"delete_excluded": True}, brake=UNLIMITED))

    def wait() -> None:
        running.wait_until_mirrored(
            "home", some_pair.source, some_pair.target, options, is_ignored=lambda path: path[-2:] == b".o"
        )

    wait()
    assert {path.name for path in some_pair.target.iterdir()} == {"kept.o", "plain", "d"}
    (some_pair.source / "plain").rename(some_pair.source / "plain.o")
    (some_pair.source / "d").rename(some_pair.source / "d.o")
    (some_pair.target / "late.o").write_text("of the target")
    wait()
    assert {path.name for path in some_pair.target.iterdir()} == {"kept.o"}


def test_what_a_renamed_directory_holds_may_not_be_hidden_any_more(local: Pair, daemon: StartDaemon) -> None:
    """The rule is about /a/x alone: as /b/x the same directory is to be sent, and watched from then on."""
    for path in ("a/x/first", "b/y/first"):
        (local.source / path).parent.mkdir(parents=True)
        (local.source / path).write_text("first")
    # something to find out by that the target keeps nanoseconds
    (local.source / "plain").write_text("plain")
    running = daemon(local.settings(exclude=["/a/x", "/b/y", "/c/y"]))
    options = (*ARCHIVE, "--exclude=/a/x", "--exclude=/b/y", "--exclude=/c/y")
    running.wait_until_mirrored(
        "home", local.source, local.target, options, is_ignored=lambda path: path in (b"a/x", b"b/y")
    )
    (local.source / "a").rename(local.source / "c")
    (local.source / "b").rename(local.source / "a")
    running.wait_until_mirrored("home", local.source, local.target, options)
    for path in ("c/x/late", "a/y/late"):
        (local.source / path).write_text("late")
    running.wait_until_mirrored("home", local.source, local.target, options)
    assert (local.target / "c" / "x" / "late").exists()
    assert (local.target / "a" / "y" / "late").exists()


def test_a_changed_file_of_rules_counts_after_a_reload(
    local: Pair, daemon: StartDaemon, folder: Path
) -> None:
    rules = folder / "rules"
    rules.write_text("# not yet\n*.log\n")
    for name in ("a.log", "a.tmp", "a"):
        (local.source / name).write_text(name)
    running = daemon(local.settings(exclude_from=str(rules)))
    running.wait_for_state("home", "in-sync")
    assert {path.name for path in local.target.iterdir()} == {"a.tmp", "a"}
    pid = running.child("home")
    assert running.command("reload").stdout.count("nothing") == 1
    assert running.child("home") == pid

    rules.write_text("# now\n*.tmp\n")
    (local.source / "b.log").write_text("b.log")
    wait_until(lambda: running.status("home")["pending"] == 0, "the old rules count", describe=running.log)
    assert running.command("reload").returncode == 0
    wait_until((local.target / "b.log").exists, "the new rules count", describe=running.log)
    (local.source / "b.tmp").write_text("b.tmp")
    (local.source / "b").write_text("b")
    wait_until((local.target / "b").exists, "it mirrors", describe=running.log)
    assert {path.name for path in local.target.iterdir()} == {"a.log", "a.tmp", "a", "b.log", "b"}

    rules.unlink()
    answer = running.command("reload")
    assert answer.returncode == 2
    assert "the file cannot be read: No such file or directory" in answer.stdout + answer.stderr
    (local.source / "c").write_text("c")
    wait_until((local.target / "c").exists, "the old configuration goes on", describe=running.log)
