# SPDX-License-Identifier: GPL-2.0-or-later
"""What real programs do to a tree at full speed: unpack, copy, check out, save, rotate."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.comparing import differences, rsync_differences
from helpers.daemon import UNLIMITED
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

DIRECTORIES = 60
FILES_PER_DIRECTORY = 10

# A program is done at each `yield`.
Steps = Iterator[None]


def run(*argv: str | Path) -> None:
    """Run a program; its own word is shown when it fails."""
    completed = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr


def grow(root: Path, text: str) -> None:
    """Make a tree, deeper here than there, with a link and modes of its own."""
    for number in range(DIRECTORIES):
        place = root.joinpath(*f"{number:06b}"[: 1 + number % 6], f"directory{number}")
        place.mkdir(parents=True, exist_ok=True)
        for file in range(FILES_PER_DIRECTORY):
            (place / f"file{file}").write_text(f"{text} {number} {file}")
        (place / "file0").chmod(0o750)
        (place / "link").unlink(missing_ok=True)
        (place / "link").symlink_to(text)


def tar(source: Path, aside: Path) -> Steps:
    """Unpacked into nothing, over what is there, and over something else."""
    for version in ("first", "second"):
        grow(aside / version, version)
        run("tar", "-cf", aside / f"{version}.tar", "-C", aside / version, ".")
    (source / "tree").mkdir()
    for version in ("first", "second", "first"):
        run("tar", "-xf", aside / f"{version}.tar", "-C", source / "tree")
        yield
    run("tar", "-xf", aside / "second.tar", "--unlink-first", "--recursive-unlink", "-C", source / "tree")
    yield


def cp(source: Path, aside: Path) -> Steps:
    """Copied in, copied within, copied as links, moved away as a whole and back, removed."""
    grow(aside / "tree", "original")
    run("cp", "-a", aside / "tree", source / "tree")
    yield
    run("cp", "-a", source / "tree", source / "copy")
    run("cp", "-al", source / "tree", source / "linked")
    run("cp", "-r", source / "copy/0", source / "copy/again")
    yield
    run("mv", source / "tree", aside / "away")
    run("mv", source / "copy", source / "tree")
    run("mv", aside / "away", source / "tree/inside")
    run("rm", "-rf", source / "linked")
    yield


def git(source: Path, aside: Path) -> Steps:
    """Cloned, then from branch to branch."""
    home = ("git", "-C", aside / "origin", "-c", "user.name=test", "-c", "user.email=test@example.org")
    run("git", "init", "-q", "-b", "main", aside / "origin")
    for branch in ("main", "other", "third"):
        if branch != "main":
            run(*home, "checkout", "-q", "-b", branch)
        grow(aside / "origin", branch)
        shutil.rmtree(aside / "origin" / "1", ignore_errors=branch != "other")
        run(*home, "add", "-A")
        run(*home, "commit", "-q", "-m", branch)
    run("git", "clone", "-q", aside / "origin", source / "work")
    yield
    for branch in ("main", "other", "main", "third", "other"):
        run("git", "-C", source / "work", "checkout", "-q", branch)
    yield
    run("git", "-C", source / "work", "gc", "-q")
    run("git", "-C", source / "work", "checkout", "-q", "main")
    yield


def rsync(source: Path, aside: Path) -> Steps:
    """Another mirror writes into the source: temporary files, renamed one after another."""
    grow(aside / "tree", "first")
    run("rsync", "-a", f"{aside}/tree/", source / "tree")
    yield
    grow(aside / "tree", "second")
    shutil.rmtree(aside / "tree" / "0")
    run("rsync", "-a", "--delete", f"{aside}/tree/", source / "tree")
    yield


def rotation(source: Path, aside: Path) -> Steps:
    """Logs that are renamed in a chain, and one that is copied and truncated."""
    del aside
    (source / "log").write_text("0")
    (source / "copied").write_text("0")
    yield
    for number in range(1, 15):
        (source / "log.9").unlink(missing_ok=True)
        for old in range(8, 0, -1):
            if (source / f"log.{old}").exists():
                (source / f"log.{old}").rename(source / f"log.{old + 1}")
        (source / "log").rename(source / "log.1")
        (source / "log").write_text(f"{number}")
        run("gzip", "-f", "-k", source / "log.1")
        shutil.copy2(source / "copied", source / "copied.1")
        os.truncate(source / "copied", 0)
        with open(source / "copied", "a") as file:
            file.write(f"{number}")
        if number % 5 == 0:
            yield


@pytest.mark.parametrize("program", [tar, cp, git, rsync, rotation], ids=lambda program: program.__name__)
def test_program(
    some_pair: Pair, daemon: StartDaemon, tmp_path: Path, program: Callable[[Path, Path], Steps]
) -> None:
    (some_pair.source / "sample").write_text("shows that the target keeps nanoseconds")
    # git packs what were many files
    running = daemon(some_pair.settings(brake=UNLIMITED))
    running.wait_for_state("home", "in-sync")
    (tmp_path / "aside").mkdir()
    for _step in program(some_pair.source, tmp_path / "aside"):
        waited = running.command("sync", "home", "--wait")
        assert waited.returncode == 0, waited.stderr
        assert differences(some_pair.source, some_pair.target) == []
        assert rsync_differences(some_pair.source, some_pair.target) == []
    assert running.status("home")["restarts"] == 0
