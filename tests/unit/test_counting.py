# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/counting.py with what real rsyncs say: every deletion is heard, and nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from helpers.syncs import local_target, make_sync

from lsyncd_sd.mirror.command import Commands, Run, Shape
from lsyncd_sd.mirror.counting import Listing, counting
from lsyncd_sd.mirror.process import environment
from lsyncd_sd.plan.batch import Batch
from lsyncd_sd.plan.deletions import Deletions
from lsyncd_sd.plan.filters import Filter

ODD_NAMES = (
    b"deleting x",
    b"*deleting   x",
    b">f+++++++++ x",
    b"new\nline",
    b"bad\xff",
    b"\xc3\xbcn\xc3\xaf",
    b"back\\#012slash",
    b"#comment",
    b" space at both ends ",
    b"-n",
)


def run_of(target: Path, batch: Batch | None = None, shape: Shape = Shape.FULL) -> Run:
    commands = Commands(make_sync(target=local_target(str(target))), Filter.from_excludes([]))
    commands.allowance = 0
    run = commands.full_run(may_create=False) if batch is None else commands.batch_run(batch, shape)
    assert run is not None
    return run


def counted(source: Path, run: Run) -> Deletions:
    """Let rsync count, and check that it changes nothing."""
    run = counting(run)
    done = subprocess.run(
        run.arguments, input=run.stdin, cwd=source, env=environment(), capture_output=True, check=True
    )
    listing = Listing()
    # as it comes through a pipe
    for start in range(0, len(done.stdout), 11):
        listing.take(done.stdout[start : start + 11])
    return listing.deletions


def deletions_of(*paths: bytes) -> str:
    deletions = Deletions()
    for path in paths:
        deletions.deleted(path, is_directory=False)
    return deletions.digest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path, source: Path) -> Path:
    return tmp_path / "target"


def test_names_of_any_bytes_are_heard_right(source: Path, target: Path) -> None:
    for name in ODD_NAMES:
        (target / os.fsdecode(name)).touch()
    deletions = counted(source, run_of(target))
    assert deletions.digest() == deletions_of(*ODD_NAMES)
    assert deletions.topmost == tuple(sorted(ODD_NAMES))
    assert len(list(target.iterdir())) == len(ODD_NAMES), "it is a dry run"


def test_names_of_any_bytes_that_come_elsewhere_are_not_lost(source: Path, target: Path) -> None:
    (source / "elsewhere").mkdir()
    for name in ODD_NAMES:
        (target / os.fsdecode(name)).touch()
        (source / "elsewhere" / os.fsdecode(name)).touch()
    deletions = counted(source, run_of(target))
    assert (len(deletions), deletions.lost) == (len(ODD_NAMES), 0)


def test_every_kind_of_entry_counts(source: Path, target: Path) -> None:
    (target / "d" / "e").mkdir(parents=True)
    os.mkfifo(target / "d" / "fifo")
    (target / "link").symlink_to("d")
    (source / "n" / "e").mkdir(parents=True)
    os.mkfifo(source / "n" / "fifo")
    (source / "n" / "link").symlink_to("somewhere -> else")
    deletions = counted(source, run_of(target))
    assert deletions.digest() == deletions_of(b"d", b"d/e", b"d/fifo", b"link")
    assert deletions.topmost == (b"d/", b"link")
    # of `d`; all else has its name in `n`
    assert deletions.lost == 1


def test_what_stands_in_the_way_of_a_file_counts(source: Path, target: Path) -> None:
    (source / "name").touch()
    (target / "name" / "sub").mkdir(parents=True)
    (target / "name" / "sub" / "file").touch()
    whole = deletions_of(b"name/sub", b"name/sub/file")
    assert counted(source, run_of(target)).digest() == whole
    batch = Batch(exact_entries={b"name"})
    assert counted(source, run_of(target, batch, Shape.EXACT_ENTRIES)).digest() == whole


def test_a_level_counts_what_it_holds_no_more_and_all_below(source: Path, target: Path) -> None:
    (source / "kept").mkdir()
    (target / "kept").mkdir()
    (target / "kept" / "not asked for").touch()
    (target / "gone" / "deep").mkdir(parents=True)
    deletions = counted(source, run_of(target, Batch(levels={b""}), Shape.LEVELS))
    assert deletions.digest() == deletions_of(b"gone", b"gone/deep")


def test_a_count_has_no_limit_and_no_progress() -> None:
    run = run_of(Path("/target"))
    assert "--max-delete=0" in run.arguments
    words = counting(run).arguments
    assert not [word for word in words if word.startswith(("--max-delete", "--info"))]
    assert words[words.index("--") :] == run.arguments[run.arguments.index("--") :]
    assert counting(run).is_dry and not run.is_dry
