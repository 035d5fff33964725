# SPDX-License-Identifier: GPL-2.0-or-later
"""The watcher beside programs that change the source as fast as they can: nothing is missed or misnamed."""

from __future__ import annotations

import itertools
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers import churn
from helpers.follower import Follower
from helpers.trees import Snapshot, snapshot

pytestmark = pytest.mark.live

Command = Sequence[str | Path]


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    (tmp_path / "source").mkdir()
    (tmp_path / "outside").mkdir()
    one = Follower(os.fsencode(tmp_path / "source"))
    one.start()
    yield one
    one.close()


@pytest.fixture
def size(full: bool) -> int:
    """How many directories a tree has."""
    return 1000 if full else 100


def make_tree(root: Path, size: int) -> None:
    """Fill a folder with so many directories, up to five levels deep, of three files each."""
    chosen = random.Random(size)  # noqa: S311  (the same tree each time)
    directories = [root]
    for number in range(size):
        above = chosen.choice([one for one in directories if len(one.relative_to(root).parts) < 5])
        directory = above / f"directory{number}"
        directory.mkdir(parents=True)
        directories.append(directory)
        for name in ("a", "b", "\N{SNOWMAN} c"):
            (directory / name).write_text(f"{directory}{name}")


def run(follower: Follower, *commands: Command, folder: Path | None = None) -> None:
    """Follow for as long as these run, all at once, and compare."""
    processes = [subprocess.Popen(command, cwd=folder) for command in commands]
    follower.follow(lambda: any(process.poll() is None for process in processes))
    assert [process.returncode for process in processes] == [0] * len(commands)
    follower.rest()


def shell(text: str) -> Command:
    return "sh", "-ec", text


def source_of(follower: Follower) -> Path:
    return Path(os.fsdecode(follower.source))


def test_a_tree_that_is_copied_moved_and_removed(follower: Follower, tmp_path: Path, size: int) -> None:
    root = source_of(follower)
    make_tree(tmp_path / "outside" / "tree", size)
    run(follower, ("cp", "-a", tmp_path / "outside" / "tree", root / "copy"))
    assert follower.watcher.directories == size + 2
    run(follower, ("mv", root / "copy", root / "moved"))
    assert follower.replica.moves == 1
    run(follower, ("cp", "-al", root / "moved", root / "linked"), ("chmod", "-R", "go-w", root / "moved"))
    run(follower, ("rm", "-r", root / "moved"), ("mv", root / "linked", tmp_path / "outside" / "out"))
    assert follower.watcher.directories == 1


def test_trees_that_are_unpacked_at_once(follower: Follower, tmp_path: Path, size: int) -> None:
    root = source_of(follower)
    make_tree(tmp_path / "outside" / "tree", size)
    archive = tmp_path / "outside" / "archive"
    subprocess.run(["tar", "-c", "-C", tmp_path / "outside" / "tree", "-f", archive, "."], check=True)
    for name in ("one", "other"):
        (root / name).mkdir()
    run(follower, *(("tar", "-x", "-C", root / name, "-f", archive) for name in ("one", "other")))
    # over what is there: each file is replaced
    run(follower, ("tar", "-x", "-C", root / "one", "-f", archive), ("rm", "-r", root / "other"))


def test_branches_that_are_checked_out(follower: Follower, size: int) -> None:
    """As fast as git goes, which replaces files by directories, and both by symlinks, by renames."""
    root = source_of(follower)
    git = "git -c user.name=x -c user.email=x@example.org -c core.fsync=none -c gc.auto=0"
    run(follower, shell(f"{git} init -q -b one"), folder=root)
    make_tree(root / "tree", size // 2)
    run(follower, shell(f"{git} add .; {git} commit -q -m one; {git} checkout -q -b two"), folder=root)
    changes = "git mv tree moved; rm -r moved/directory0; touch moved/directory0; ln -s moved tree; "
    run(follower, shell(f"{changes} {git} add .; {git} commit -q -m two"), folder=root)
    run(follower, shell("for step in 1 2 3; do git checkout -q one; git checkout -q two; done"), folder=root)


def test_deep_directories_that_come_and_go(follower: Follower, full: bool) -> None:
    """`mkdir -p` and `rm -r` of the same paths by several processes: each step finds another one done."""
    root = shlex.quote(str(source_of(follower)))
    steps = "0 1 2 3 4 5 6 7 8 9 " * (20 if full else 3)
    make = f"cd {root}; for i in {steps}; do (mkdir -p a/b/c/$i/d && echo x > a/b/c/$i/d/f) || :; done 2>&-"
    remove = f"cd {root}; for i in {steps}; do rm -rf a/b/c || :; done 2>&-"
    run(follower, shell(make), shell(make), shell(remove))


RENAMES = """
import os, random, sys
seed, count, root = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
chosen = random.Random(seed)
os.chdir(root)
names = "abcdefgh"
for _step in range(count):
    old, new = chosen.sample([*names, *(f"{one}/{other}" for one in names for other in names)], 2)
    try:
        os.rename(old, new)
    except OSError:
        pass
"""


def test_a_storm_of_renames(follower: Follower, full: bool) -> None:
    root = source_of(follower)
    for one, other in itertools.product("abcdefgh", repeat=2):
        (root / one / other).mkdir(parents=True, exist_ok=True)
        (root / one / other / "file").write_text(one + other)
    follower.follow(lambda: False)
    follower.rest()
    count = "20000" if full else "1000"
    run(follower, *((sys.executable, "-c", RENAMES, str(seed), count, root) for seed in (1, 2)))


@pytest.mark.parametrize("seed", range(3))
def test_churn(follower: Follower, tmp_path: Path, full: bool, seed: int) -> None:
    """Random changes by several processes; what went wrong is replayed by the seed, but not in its order."""
    places = source_of(follower), tmp_path / "outside"
    amount = ("5000", "10") if full else ("400", "1")
    run(
        follower,
        *((sys.executable, churn.__file__, f"{seed}.{number}", *amount, *places) for number in range(3)),
    )
    held: Snapshot = snapshot(follower.source)
    assert len(held) > 10
