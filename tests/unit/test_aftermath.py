# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/aftermath.py: what of a run must be tried again, by how it has ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.bench import (
    ALL_SHAPES,
    CONTENT,
    EXACT_CONTENT,
    EXACT_ENTRY,
    EXACT_SUBTREE,
    LEVEL,
    LOOSE_CONTENT,
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
from lsyncd_sd.mirror.process import Result
from lsyncd_sd.plan.batch import Mark


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path)


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


@pytest.mark.parametrize("errors", [b"what?\n", b"rsync error: some files were not sent (code 23)\n", b""])
def test_a_subtree_with_messages_that_name_nothing_stays_exact(bench: Bench, errors: bytes) -> None:
    report = bench.batch({b"new": EXACT_SUBTREE, b"again": LOOSE_SUBTREE}, *2 * [ended(23, errors)])
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


# ---- a directory of which all entries are sent

# As the collator makes them of a directory with very many dirty entries.
EXACT_WHOLE, LOOSE_WHOLE = Mark(CONTENT | LEVEL, True), Mark(CONTENT | LEVEL, False)
WHOLE = {b"d": EXACT_WHOLE, b"new": LOOSE_WHOLE}

FULL_DISK = b'rsync: [receiver] write failed on "/target/d/file": No space left on device (28)\n'


def test_its_entries_are_sent_and_then_what_is_gone_is_deleted(bench: Bench) -> None:
    assert not bench.batch(WHOLE).failed
    assert bench.runs.seen == [
        ("-d -I", [b"./d/"]),
        ("-d", [b"./new/"]),
        ("-d --existing --delete", [b"./d/", b"./new/"]),
    ]


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("source/d/file", "[sender] send_files failed to open"),
        ("target/d/file", "[generator] chgrp"),
        ("target/d/folder", "[generator] recv_generator: mkdir"),
    ],
)
def test_only_the_entries_that_are_named_are_tried_again(bench: Bench, path: str, what: str) -> None:
    path = path.replace("source", str(bench.source)).replace("target", "/target")
    errors = f'rsync: {what} "{path}" failed: Permission denied (13)\n'.encode()
    report = bench.batch(WHOLE, ended(23, errors))
    assert (report.is_whole, report.verdict.outcome) == (False, Outcome.PARTIAL)
    name = os.path.relpath(path, bench.source if "source" in path else "/target")
    assert report.failed == {name.encode(): EXACT_ENTRY}
    assert len(bench.runs.seen) == 3, "the rest goes on"


def test_under_the_name_of_its_temporary_file_an_entry_is_known_too(bench: Bench) -> None:
    errors = b'rsync: [receiver] mkstemp "/target/d/.file.aZ09bc" failed: Permission denied (13)\n'
    failed = bench.batch(WHOLE, ended(23, errors)).failed
    assert failed[b"d/file"] == EXACT_ENTRY and b"d" not in failed


@pytest.mark.parametrize(("number", "again"), [(0, EXACT_CONTENT), (1, LOOSE_CONTENT)])
def test_one_that_cannot_be_read_is_tried_again_whole(bench: Bench, number: int, again: Mark) -> None:
    path = list(WHOLE)[number]
    errors = bench.unreadable(path.decode(), "[sender] opendir")
    assert bench.batch(WHOLE, *[ended()] * number, ended(23, errors)).failed == {path: again}


@pytest.mark.parametrize("errors", [b"rsync: something else\n", b""])
@pytest.mark.parametrize(("number", "again"), [(0, EXACT_CONTENT), (1, LOOSE_CONTENT)])
def test_if_nobody_knows_what_failed_it_is_all(
    bench: Bench, number: int, again: Mark, errors: bytes
) -> None:
    path = list(WHOLE)[number]
    assert bench.batch(WHOLE, *[ended()] * number, ended(23, errors)).failed == {path: again}


def test_what_is_named_beside_what_is_not_stays_exact(bench: Bench) -> None:
    report = bench.batch({b"new": LOOSE_WHOLE}, ended(23, bench.unreadable("new/file") + b"what?\n"))
    assert report.failed == {b"new": LOOSE_CONTENT, b"new/file": EXACT_ENTRY}


def test_messages_that_were_cut_do_not_tell_all(bench: Bench) -> None:
    result = ended(23, bench.unreadable("d/file"), errors_cut=True)
    assert bench.batch({b"d": EXACT_WHOLE}, result).failed == {b"d": EXACT_CONTENT, b"d/file": EXACT_ENTRY}


def test_what_vanished_from_it_is_looked_at_again(bench: Bench) -> None:
    errors = f'file has vanished: "{bench.source}/d/file"\n'.encode()
    report = bench.batch(WHOLE, ended(24, errors))
    assert (report.again, report.failed, report.is_whole) == ({b"d/file": EXACT_ENTRY}, {}, False)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (ended(12), Outcome.CONNECTION),
        (ended(30), Outcome.CONNECTION),
        (ended(255, b"ssh: no route to host\n"), Outcome.CONNECTION),
        (ended(-9), Outcome.KILLED),
        (ended(20), Outcome.KILLED),
        (ended(0, was_cut_short=True), Outcome.CUT_SHORT),
        (ended(11, FULL_DISK), Outcome.TARGET_FULL),
        (ended(23, FULL_DISK), Outcome.TARGET_FULL),
        (ended(11, b"rsync: write failed: Input/output error (5)\n"), Outcome.FAIL),
        (ended(1), Outcome.FAIL),
        (ended(25), Outcome.BRAKE),
    ],
)
@pytest.mark.parametrize("delete", Delete)
def test_what_fails_as_a_whole_is_all_tried_again(
    source: Path,
    loop: Loop,
    monkeypatch: pytest.MonkeyPatch,
    delete: Delete,
    result: Result,
    outcome: Outcome,
    number: int,
) -> None:
    bench = Bench(source, loop, monkeypatch, delete=delete)
    marks = {**WHOLE, b"d/gone": EXACT_ENTRY, b"touched": EXACT_ENTRY}
    report = bench.batch(marks, *[ended()] * (number + 1), result)
    assert (report.is_whole, report.verdict.outcome) == (True, outcome)
    assert report.failed == marks
    assert len(bench.runs.seen) == number + 2, "nothing is deleted any more"
    # What was half-written goes: with the level that belongs to such a mark, or it is searched for.
    broke_off = outcome not in (Outcome.FAIL, Outcome.BRAKE)
    assert bool(bench.mirror.leftovers) is (broke_off and delete is not Delete.ALWAYS)


# ---- levels of which one cannot be read

LEVELS = {b"d": LOOSE_LEVEL, b"new": LOOSE_LEVEL, b"again": LOOSE_LEVEL}


def levels(bench: Bench) -> list[list[bytes]]:
    """Return what the runs of levels had listed; before them, attributes were sent."""
    assert [shape for shape, _paths in bench.runs.seen[:2]] == ["-d", "-d --existing --delete"]
    return [paths for _shape, paths in bench.runs.seen[1:]]


@pytest.mark.parametrize("name", ["d", "d/file"], ids=["it cannot be listed", "nor what it holds looked at"])
def test_one_that_cannot_be_read_keeps_the_others_from_deleting_only_once(bench: Bench, name: str) -> None:
    unread = ended(23, bench.unreadable(name, "[sender] opendir"))
    assert bench.batch(LEVELS, ended(), unread, unread).failed == LEVELS
    assert bench.batch(LEVELS, ended(), ended(), unread).failed == {b"d": LOOSE_LEVEL}
    assert levels(bench) == [[b"./again/", b"./new/"], [b"./d/"]]
    # it can be read at last
    assert not bench.batch({b"d": LOOSE_LEVEL}).failed
    bench.batch(LEVELS)
    assert levels(bench) == [[b"./again/", b"./d/", b"./new/"]]


def test_of_several_that_could_not_be_read_one_can(bench: Bench) -> None:
    both = bench.unreadable("d", "[sender] opendir") + bench.unreadable("new", "[sender] opendir")
    unread = ended(23, bench.unreadable("d", "[sender] opendir"))
    bench.batch(LEVELS, ended(), ended(23, both), ended(23, both))
    two = {b"d": LOOSE_LEVEL, b"new": LOOSE_LEVEL}
    assert bench.batch(LEVELS, ended(), ended(), unread).failed == two
    assert levels(bench) == [[b"./again/"], [b"./d/", b"./new/"]]
    assert bench.batch(two, ended(), ended(), unread).failed == {b"d": LOOSE_LEVEL}
    assert levels(bench) == [[b"./new/"], [b"./d/"]]


def test_one_that_is_gone_is_forgotten(bench: Bench) -> None:
    unread = ended(23, bench.unreadable("again", "[sender] opendir"))
    bench.batch(LEVELS, ended(), unread, unread)
    (bench.source / "again").rmdir()
    bench.batch({b"d": LOOSE_LEVEL})
    (bench.source / "again").mkdir()
    bench.batch(LEVELS)
    assert levels(bench) == [[b"./again/", b"./d/", b"./new/"]]
