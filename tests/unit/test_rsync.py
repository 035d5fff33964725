# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/rsync.py: which runs a batch and a full sync become, and what is counted and found out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.bench import (
    ALL_SHAPES,
    EXACT_ENTRY,
    EXACT_SUBTREE,
    LOOSE_ENTRY,
    LOOSE_LEVEL,
    LOOSE_SUBTREE,
    Bench,
    ended,
    make_source,
)

from lsyncd_sd.config.model import Delete
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.command import Shape
from lsyncd_sd.mirror.options import Traits
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.deletions import Deletions
from lsyncd_sd.watch.source import Source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path)


@pytest.fixture
def bench(source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(source, loop, monkeypatch)


# ---- a batch that succeeds


def test_a_batch_sends_first_and_then_deletes(bench: Bench) -> None:
    report = bench.batch(ALL_SHAPES)
    assert bench.runs.seen == [
        ("-d -I", [b"./d/file"]),
        ("-d", [b"./touched"]),
        ("-r -I --delete", [b"./new"]),
        ("-r --delete", [b"./again"]),
        ("-d --existing --delete", [b"./d/"]),
    ]
    assert report.verdict.outcome is Outcome.OK
    assert not report.failed and not report.is_whole and not report.again
    assert (report.done.files, report.done.deleted, report.done.bytes) == (10, 15, 200)
    assert report.seconds == 2.5


def test_each_run_is_told_just_before_its_command_is_started(bench: Bench) -> None:
    told: list[tuple[Shape, frozenset[bytes], int]] = []
    bench.mirror.on_run = lambda run: told.append((run.shape, run.paths, len(bench.runs.seen)))
    bench.batch(ALL_SHAPES)
    assert told == [
        (Shape.EXACT_ENTRIES, frozenset([b"d/file"]), 0),
        (Shape.ENTRIES, frozenset([b"touched"]), 1),
        (Shape.EXACT_SUBTREES, frozenset([b"new"]), 2),
        (Shape.SUBTREES, frozenset([b"again"]), 3),
        (Shape.LEVELS, frozenset([b"d"]), 4),
    ]


def test_a_batch_of_nothing_that_is_left_runs_nothing(bench: Bench) -> None:
    report = bench.batch({})
    assert bench.runs.seen == [] and report.seconds == 0


def test_what_stands_at_a_path_is_looked_up_before_each_run(bench: Bench) -> None:
    steps = bench.mirror.batch({b"d/file": EXACT_ENTRY, b"new": EXACT_SUBTREE})
    bench.begin(steps)
    # while the first run goes on, the directory of the second is replaced
    (bench.source / "new" / "file").unlink()
    (bench.source / "new").rmdir()
    (bench.source / "new").symlink_to("/etc")
    report = bench.go_on(steps, ended())
    assert bench.runs.seen == []
    assert report.verdict.outcome is Outcome.OK


def test_percentages_of_recursive_runs_are_passed_on(bench: Bench) -> None:
    bench.batch({b"new": EXACT_SUBTREE})
    bench.runs.processes[0].on_data(b"  1,234  42%  1.2MB/s\r")  # type: ignore[operator]
    bench.runs.processes[0].on_data(b"nothing of interest")  # type: ignore[operator]
    assert bench.percents == [42]


# ---- a target behind rrsync


def test_a_restricted_target_is_asked_again_in_its_words(bench: Bench) -> None:
    refusal = ended(12, b"rrsync error: option -s has been disabled on this server.\n")
    report = bench.batch({b"d/file": EXACT_ENTRY}, refusal)
    assert report.verdict.outcome is Outcome.OK
    first, second = bench.runs.arguments
    assert "-s" in first and "--modify-window=-1" in first
    assert "-s" not in second and "--no-s" in second and "--modify-window=-1" not in second
    assert bench.mirror.commands.traits.secluded is False


def test_it_is_asked_only_twice(bench: Bench) -> None:
    refusal = ended(12, b"rrsync error: option -s has been disabled on this server.\n")
    report = bench.batch({b"d/file": EXACT_ENTRY}, refusal, refusal)
    assert report.is_whole and len(bench.runs.seen) == 2


# ---- full syncs and what they need to know


@pytest.mark.parametrize(("may_create", "target"), [(True, "/target/"), (False, "/target/.")])
def test_only_the_first_full_sync_may_create_the_target(bench: Bench, may_create: bool, target: str) -> None:
    report = bench.full_sync(may_create=may_create)
    assert bench.runs.seen == [("-r --delete", [])]
    assert bench.runs.arguments[0][-2:] == ["./", target]
    assert report.verdict.outcome is Outcome.OK


def test_a_full_sync_that_failed_in_part_tries_the_whole_again(bench: Bench) -> None:
    result = ended(23, bench.unreadable("d/file"))
    report = bench.full_sync(result)
    assert report.failed == {b"": LOOSE_SUBTREE, b"d/file": EXACT_SUBTREE}


def test_a_full_sync_that_did_not_delete_leaves_it_to_its_repetition(
    source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(source, loop, monkeypatch, delete=Delete.STARTUP)
    result = ended(23, bench.unreadable("d", "[sender] opendir"))
    report = bench.full_sync(result)
    for expected in ("-r --delete", "-r"):
        bench.batch({b"": report.failed[b""]})
        assert bench.runs.seen == [(expected, [b"./"])]


COUNTED = b"""\
*deleting   gone/a
*deleting   gone/
*deleting   d/\\#012
>f+++++++++ d/new
cd+++++++++ other/
cL+++++++++ link
hf+++++++++ same
.d..t...... ./
>f..t...... d/file
"""


def test_what_a_full_sync_would_delete_is_counted(bench: Bench) -> None:
    bench.mirror.commands.allowance = 0
    steps = bench.mirror.count_full_sync()
    deletions = bench.drive(steps, ended(output=b""))
    assert isinstance(deletions, Deletions) and len(deletions) == 0
    assert bench.runs.seen == [("-r -n --delete", [])]
    assert "--max-delete=0" not in bench.runs.arguments[0], "it would end the count"


def test_what_keeps_a_full_sync_from_deleting_is_left_out_of_the_count(bench: Bench) -> None:
    message = f'rsync: [sender] opendir "{bench.source}/d" failed: Permission denied (13)\n'
    bench.runs_say(COUNTED)
    deletions = bench.drive(bench.mirror.count_full_sync(), ended(23, message.encode()), ended())
    assert len(deletions) == 3, "the second count replaces the first"
    assert bench.runs.seen == [("-r -n --delete", [])] * 2
    assert ["--exclude=/d" in arguments for arguments in bench.runs.arguments] == [False, True]
    assert bench.mirror.commands.unreadable == set(), "nobody would be told of it"


def test_what_a_batch_would_delete_is_counted_in_all_its_runs(bench: Bench) -> None:
    bench.runs_say(COUNTED)
    deletions = bench.drive(bench.mirror.count_batch(ALL_SHAPES))
    assert bench.runs.seen == [
        ("-d -I -n", [b"./d/file"]),
        ("-d -n", [b"./touched"]),
        ("-r -I -n --delete", [b"./new"]),
        ("-r -n --delete", [b"./again"]),
        ("-d -n --existing --delete", [b"./d/"]),
    ]
    assert len(deletions) == 3 * 5
    assert deletions.topmost[:2] == (b"d/\n", b"d/\n") and deletions.topmost[-1] == b"gone/"


def test_what_is_gone_is_counted_by_name(source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(source, loop, monkeypatch, delete=Delete.RUNNING)
    bench.runs_say(COUNTED)
    deletions = bench.drive(bench.mirror.count_batch({b"d/gone": EXACT_ENTRY}))
    assert bench.runs.seen == [
        ("-d -n --existing", [b"./d/"]),
        ("-d -n --existing --delete", [b"./d/"]),
    ]
    assert len(deletions) == 6


@pytest.mark.parametrize(("code", "is_counted"), [(0, True), (23, True), (24, True), (12, False)])
@pytest.mark.parametrize("full", [False, True])
def test_a_count_that_broke_off_is_no_count(bench: Bench, full: bool, code: int, is_counted: bool) -> None:
    mirror = bench.mirror
    steps = mirror.count_full_sync() if full else mirror.count_batch({b"d/file": EXACT_ENTRY})
    answer = bench.drive(steps, ended(code, output=b""))
    assert isinstance(answer, Deletions if is_counted else Verdict)


def test_counting_finds_out_about_rrsync_too(bench: Bench) -> None:
    refused = ended(12, b"rrsync error: option -s has been disabled on this server\n", output=b"")
    deletions = bench.drive(bench.mirror.count_full_sync(), refused, ended(output=b""))
    assert isinstance(deletions, Deletions)
    assert "--no-s" in bench.runs.arguments[1] and "-n" in bench.runs.arguments[1]


@pytest.mark.parametrize(
    ("marks", "limit", "needed"),
    [
        ({b"d/file": EXACT_ENTRY, b"touched": LOOSE_ENTRY}, 0, False),
        ({b"d/gone": EXACT_ENTRY}, 1, False),
        ({b"d/gone": EXACT_ENTRY, b"d/too": EXACT_ENTRY}, 1, True),
        ({b"away/gone": EXACT_ENTRY}, 9, True),
        ({b"touched/gone": EXACT_ENTRY}, 9, True),
        ({b"away": EXACT_SUBTREE}, 9, True),
        ({b"new": EXACT_SUBTREE}, 9, True),
        ({b"d": LOOSE_LEVEL}, 9, True),
    ],
)
def test_only_what_may_delete_much_is_counted(
    bench: Bench, marks: dict[bytes, Mark], limit: int, needed: bool
) -> None:
    assert bench.mirror.needs_counting(marks, limit) is needed


@pytest.mark.parametrize("delete", Delete)
def test_batches_that_delete_nothing_are_not_counted(
    source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch, delete: Delete
) -> None:
    bench = Bench(source, loop, monkeypatch, delete=delete)
    deletes = delete in (Delete.ALWAYS, Delete.RUNNING)
    assert bench.mirror.needs_counting({b"away": EXACT_SUBTREE}, 9) is deletes


def test_what_a_run_has_deleted_the_next_may_not(bench: Bench) -> None:
    bench.mirror.commands.allowance = 5
    bench.batch(ALL_SHAPES)
    left = [word for arguments in bench.runs.arguments for word in arguments if "--max-delete" in word]
    assert left == [f"--max-delete={number}" for number in (5, 2)]


def test_more_than_allowed_is_the_brake_whatever_the_exit_status(bench: Bench) -> None:
    bench.mirror.commands.allowance = 5
    report = bench.batch(ALL_SHAPES)
    assert report.is_whole and report.verdict.outcome is Outcome.BRAKE
    assert len(bench.runs.seen) == 2
    bench.mirror.commands.allowance = 15
    assert not bench.batch(ALL_SHAPES).is_whole


@pytest.mark.parametrize(
    ("itemized", "keeps"),
    [(b"", True), (b".d..t...... ./\n", True), (b">f..t...... d/file\n", False)],
)
def test_a_target_is_asked_for_nanoseconds(bench: Bench, itemized: bytes, keeps: bool) -> None:
    bench.mirror.commands.traits = Traits()
    with Source(os.fsencode(bench.source)) as opened:
        sample = opened.sample_among([b"d/file"])
    assert sample is not None
    bench.drive(bench.mirror.find_traits(sample), ended(1), ended(), ended(output=itemized))
    assert bench.runs.seen[1:] == [("-d -I", [b"./d/file"]), ("-d -n", [b"./d/file"])]
    assert bench.mirror.commands.traits == Traits(nanoseconds=keeps, secluded=True, confines=False)


def test_a_sample_that_changed_leaves_the_question_open(bench: Bench) -> None:
    bench.mirror.commands.traits = Traits()
    with Source(os.fsencode(bench.source)) as opened:
        sample = opened.sample_among([b"d/file"])
    (bench.source / "d" / "file").write_text("y")
    bench.drive(bench.mirror.find_traits(sample))
    assert bench.mirror.commands.traits.nanoseconds is None


def test_our_rsync_is_asked_once_whether_it_confines(bench: Bench) -> None:
    bench.drive(bench.mirror.find_traits(None))
    assert len(bench.runs.arguments) == 1 and "--confine-root=/" in bench.runs.arguments[0]
    assert bench.mirror.commands.traits.confines
    bench.drive(bench.mirror.find_traits(None))
    assert bench.runs.arguments == []
