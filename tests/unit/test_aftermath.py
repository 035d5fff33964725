# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/aftermath.py: what of a run must be tried again, by how it has ended."""

from __future__ import annotations

from collections.abc import Iterator
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
from lsyncd_sd.mirror.outcome import Outcome


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def bench(source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(source, loop, monkeypatch)


@pytest.fixture
def bench_that_deletes_nothing(source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(source, loop, monkeypatch, delete=Delete.NEVER)


# ---- a batch that fails as a whole


@pytest.mark.parametrize(
    ("code", "outcome", "broke_off"),
    [
        (12, Outcome.CONNECTION, True),
        (-9, Outcome.KILLED, True),
        (1, Outcome.FAIL, False),
        (25, Outcome.BRAKE, False),
    ],
)
def test_a_run_that_fails_ends_the_batch(bench: Bench, code: int, outcome: Outcome, broke_off: bool) -> None:
    report = bench.batch(ALL_SHAPES, ended(), ended(), ended(code))
    assert len(bench.runs.seen) == 3
    assert report.is_whole and report.verdict.outcome is outcome
    # the third is that of `new`, which may have become a file: a temporary one would lie beside it
    assert report.failed == (ALL_SHAPES | {b"": LOOSE_LEVEL} if broke_off else ALL_SHAPES)


def test_a_run_that_broke_off_leaves_levels_to_be_cleaned(bench: Bench) -> None:
    marks = {b"d/file": EXACT_ENTRY, b"new/file": EXACT_ENTRY, b"touched": LOOSE_ENTRY}
    report = bench.batch(marks, ended(-9))
    assert report.failed == marks | {b"d": LOOSE_LEVEL, b"new": LOOSE_LEVEL}


def test_a_run_that_ended_by_itself_leaves_nothing_behind(bench: Bench) -> None:
    assert bench.batch({b"d/file": EXACT_ENTRY}, ended(1)).failed == {b"d/file": EXACT_ENTRY}


def test_a_cut_short_run_is_never_a_success(bench: Bench) -> None:
    report = bench.batch({b"d/file": EXACT_ENTRY}, ended(0, was_cut_short=True))
    assert report.is_whole and report.verdict.outcome is Outcome.CUT_SHORT
    assert set(report.failed) == {b"d/file", b"d"}


# ---- a batch that fails in part


def test_only_named_entries_are_tried_again(bench: Bench) -> None:
    marks = {b"d/file": EXACT_ENTRY, b"touched": EXACT_ENTRY}
    report = bench.batch(marks, ended(23, bench.unreadable("touched")))
    assert not report.is_whole and report.verdict.outcome is Outcome.PARTIAL
    assert report.failed == {b"touched": EXACT_ENTRY}


@pytest.mark.parametrize("errors", [b"rsync: something else\n", b""])
def test_nobody_named_is_everybody(bench: Bench, errors: bytes) -> None:
    marks = {b"d/file": EXACT_ENTRY, b"touched": LOOSE_ENTRY}
    assert bench.batch(marks, ended(23, errors), ended(23, errors)).failed == marks


def test_messages_that_were_cut_name_everybody(bench: Bench) -> None:
    marks = {b"d/file": EXACT_ENTRY, b"touched": EXACT_ENTRY}
    result = ended(23, bench.unreadable("touched"), errors_cut=True)
    assert bench.batch(marks, result).failed == marks


def test_a_subtree_is_tried_again_and_its_unread_files_exactly(bench: Bench) -> None:
    report = bench.batch({b"new": EXACT_SUBTREE}, ended(23, bench.unreadable("new/file")))
    assert report.failed == {b"new": LOOSE_SUBTREE, b"new/file": EXACT_SUBTREE}


def test_an_unread_directory_is_tried_again_exactly(bench: Bench) -> None:
    errors = bench.unreadable("new", "[sender] opendir")
    assert bench.batch({b"new": EXACT_SUBTREE}, ended(23, errors)).failed == {b"new": EXACT_SUBTREE}


def test_what_cannot_be_read_is_left_out_of_larger_runs(bench: Bench) -> None:
    bench.batch({b"new": EXACT_SUBTREE}, ended(23, bench.unreadable("new/file")))
    bench.batch({b"new": LOOSE_SUBTREE, b"d": EXACT_SUBTREE})
    exact, loose = bench.runs.arguments
    assert "--exclude=/new/file" not in exact and "--exclude=/new/file" in loose
    # read at last
    bench.batch({b"new/file": EXACT_ENTRY})
    bench.batch({b"new": LOOSE_SUBTREE})
    assert "--exclude=/new/file" not in bench.runs.arguments[0]


@pytest.mark.parametrize("full", [False, True])
def test_what_is_gone_is_not_kept_by_leaving_it_out(bench: Bench, full: bool) -> None:
    bench.batch({b"new": EXACT_SUBTREE}, ended(23, bench.unreadable("new/file")))
    (bench.source / "new" / "file").unlink()
    if full:
        bench.full_sync()
    else:
        bench.batch({b"new": LOOSE_SUBTREE, b"new/file": EXACT_SUBTREE})
    assert len(bench.runs.arguments) == 1
    assert not [option for option in bench.runs.arguments[0] if option.startswith("--exclude")]


def test_what_the_target_refused_is_an_entry(bench: Bench) -> None:
    errors = b'rsync: [generator] chgrp "/target/new/file" failed: Operation not permitted (1)\n'
    report = bench.batch({b"new": EXACT_SUBTREE}, ended(23, errors))
    assert report.failed == {b"new": LOOSE_SUBTREE, b"new/file": EXACT_ENTRY}


def test_a_subtree_with_messages_that_name_nothing_stays_exact(bench: Bench) -> None:
    report = bench.batch({b"new": EXACT_SUBTREE, b"again": LOOSE_SUBTREE}, *2 * [ended(23, b"what?\n")])
    assert report.failed == {b"new": EXACT_SUBTREE, b"again": LOOSE_SUBTREE}


def test_a_level_is_tried_again(bench: Bench) -> None:
    errors = b'rsync: [generator] delete_file: unlink("/target/d/gone") failed: Not permitted (1)\n'
    assert bench.batch({b"d/gone": EXACT_ENTRY}, ended(23, errors)).failed == {b"d": LOOSE_LEVEL}


def test_the_rest_of_the_batch_goes_on_after_a_part_failed(bench: Bench) -> None:
    report = bench.batch(ALL_SHAPES, ended(23, bench.unreadable("d/file")))
    assert len(bench.runs.seen) == 5
    assert report.failed == {b"d/file": EXACT_ENTRY}
    assert report.verdict.outcome is Outcome.PARTIAL


def test_parts_that_failed_before_the_whole_are_not_lost(bench: Bench) -> None:
    report = bench.batch(
        {b"new": EXACT_SUBTREE, b"d/gone": EXACT_ENTRY}, ended(23, bench.unreadable("new/file")), ended(12)
    )
    assert report.is_whole
    assert report.failed == {
        b"new": EXACT_SUBTREE,
        b"new/file": EXACT_SUBTREE,
        b"d/gone": EXACT_ENTRY,
    }


def test_what_vanished_deserves_another_look(bench: Bench) -> None:
    errors = f'file has vanished: "{bench.source}/d/file"\n'.encode()
    report = bench.batch({b"d/file": EXACT_ENTRY}, ended(24, errors))
    assert report.again == {b"d/file": EXACT_ENTRY}
    assert not report.failed and not report.is_whole


def test_nothing_is_deleted_by_a_sync_that_does_not(bench_that_deletes_nothing: Bench) -> None:
    bench = bench_that_deletes_nothing
    bench.batch(ALL_SHAPES, *[ended(23, b"what?\n")] * 5)
    assert len(bench.runs.seen) == 5
    assert not [seen for seen, _paths in bench.runs.seen if "--delete" in seen]


def test_exit_codes_can_be_given_another_meaning(
    source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(source, loop, monkeypatch, exit_codes=((23, "ok"),))
    report = bench.batch({b"d/file": EXACT_ENTRY}, ended(23, b"never mind\n"))
    assert report.verdict.outcome is Outcome.OK and not report.failed
