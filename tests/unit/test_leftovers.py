# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/leftovers.py: when temporary files are searched for, where, and what follows if it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.bench import (
    ALL_SHAPES,
    EXACT_CONTENT,
    EXACT_ENTRY,
    EXACT_SUBTREE,
    LOOSE_ENTRY,
    LOOSE_LEVEL,
    LOOSE_SUBTREE,
    Bench,
    ended,
    make_source,
)
from helpers.syncs import PLAIN_RSYNC

from lsyncd_sd.config.model import Delete
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.outcome import Outcome
from lsyncd_sd.mirror.process import Result
from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Change, Depth, Move, Sign

MakeBench = Callable[..., Bench]

SEARCHED_LEVELS = "-d -n --existing --delete"
SEARCHED_BELOW = "-r -n --existing --delete"
REMOVED = "-d --existing --delete"
SOMETHING_ELSE = {b"touched": LOOSE_ENTRY}
SENT = ("-d", [b"./touched"])

NO_ANSWER = b"rsync: connection unexpectedly closed (0 bytes received so far) [sender]\n"


@pytest.fixture
def make_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeBench]:
    loop = Loop()
    source = make_source(tmp_path)
    yield lambda **changes: Bench(source, loop, monkeypatch, **{"delete": Delete.NEVER, **changes})
    loop.close()


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    """The mirror of a sync that deletes nothing."""
    return make_bench()


def said(*paths: bytes) -> Result:
    return ended(output=b"".join(b"*deleting   " + path + b"\n" for path in paths))


def at_risk(bench: Bench) -> list[str]:
    """Return the patterns of what the second run was to delete."""
    rule = "--filter=R "
    return [word.removeprefix(rule) for word in bench.runs.arguments[1] if word.startswith(rule)]


def went(path: bytes) -> Change:
    return Change(path, Depth.ENTRY, exact=True, sign=Sign.WENT)


# ---- where


@pytest.mark.parametrize(
    ("marks", "searched"),
    [
        ({b"d/file": EXACT_ENTRY}, (SEARCHED_LEVELS, [b"./d/"])),
        ({b"touched": LOOSE_ENTRY}, (SEARCHED_LEVELS, [b"./"])),
        ({b"d": EXACT_CONTENT}, (SEARCHED_LEVELS, [b"./d/"])),
        ({b"new": EXACT_SUBTREE}, (SEARCHED_BELOW, [b"./new"])),
        ({b"again": LOOSE_SUBTREE}, (SEARCHED_BELOW, [b"./again"])),
    ],
)
def test_where_a_run_broke_off_the_next_batch_searches_first(
    bench: Bench, marks: dict[bytes, Mark], searched: tuple[str, list[bytes]]
) -> None:
    assert bench.batch(marks, ended(-9)).failed == marks
    bench.batch(SOMETHING_ELSE)
    assert searched in bench.runs.seen
    assert bench.runs.seen[-1] == SENT
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [SENT], "once is enough"


def test_after_a_full_sync_that_broke_off_everything_is_searched(bench: Bench) -> None:
    bench.full_sync(ended(-9))
    bench.full_sync(said(b".touched.aZ09bc", b"new/.file.aZ09bc", b"new/.nobody.aZ09bc"))
    assert bench.runs.seen == [
        (SEARCHED_BELOW, [b"./"]),
        (REMOVED, [b"./", b"./new/"]),
        ("-r", []),
    ]
    assert at_risk(bench) == ["/.touched.aZ09bc", "/new/.file.aZ09bc"]
    bench.full_sync()
    assert bench.runs.seen == [("-r", [])]


def test_what_went_from_the_source_meanwhile_is_found_too(bench: Bench) -> None:
    saw = bench.mirror.leftovers.saw
    saw([went(b"before")])
    bench.batch(SOMETHING_ELSE)
    full_sync = bench.mirror.full_sync(may_create=False, sample=None)
    bench.begin(full_sync)
    saw([went(b"meanwhile"), Change(b"never", Depth.ENTRY, exact=True)])
    bench.go_on(full_sync, ended(-9))
    saw([Move(b"moved", b"never", is_directory=False)])
    names = (b"before", b"meanwhile", b"moved", b"never")
    bench.full_sync(said(*(b".%s.aZ09bc" % name for name in names)))
    assert at_risk(bench) == ["/.meanwhile.aZ09bc", "/.moved.aZ09bc"]


def test_not_more_names_that_went_are_remembered_than_there_is_room_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsyncd_sd.mirror.leftovers.MOST_GONE", 2)
    bench.full_sync(ended(-9))
    for names in ([b"one"], [b"two", b"three"]):
        bench.mirror.leftovers.saw(map(went, names))
    bench.full_sync(said(*(b".%s.aZ09bc" % name for name in (b"one", b"two", b"three"))))
    assert at_risk(bench) == ["/.three.aZ09bc", "/.two.aZ09bc"]


def test_of_listed_files_only_theirs_go(bench: Bench) -> None:
    bench.batch({b"new/gone": EXACT_ENTRY, b"d/file": EXACT_ENTRY}, ended(-9))
    bench.batch(SOMETHING_ELSE, said(b"d/.file.aZ09bc", b"d/.other.aZ09bc"))
    assert at_risk(bench) == ["/d/.file.aZ09bc"]


def test_directories_are_never_deleted(bench: Bench) -> None:
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    bench.batch(SOMETHING_ELSE, said(b"d/.file.aZ09bc/"))
    assert bench.runs.seen == [(SEARCHED_LEVELS, [b"./d/"]), SENT]


@pytest.mark.parametrize("code", [-9, 12, 30, 255])
def test_whatever_keeps_a_run_from_its_end_may_leave_one(bench: Bench, code: int) -> None:
    bench.full_sync(ended(code))
    assert bench.mirror.leftovers


def test_what_we_end_ourselves_may_leave_one(bench: Bench) -> None:
    bench.full_sync(ended(0, was_cut_short=True))
    assert bench.mirror.leftovers


@pytest.mark.parametrize("result", [ended(), ended(1), ended(23), ended(24), ended(255, NO_ANSWER)])
def test_a_run_that_ended_by_itself_or_never_began_leaves_none(bench: Bench, result: Result) -> None:
    bench.full_sync(result)
    bench.batch({b"new": EXACT_SUBTREE}, result)
    assert not bench.mirror.leftovers


# ---- where nothing has to be searched


def test_where_levels_delete_them_none_is_searched_for(make_bench: MakeBench) -> None:
    bench = make_bench(delete=Delete.ALWAYS)
    bench.full_sync(ended(-9))
    bench.batch(ALL_SHAPES, ended(-9))
    bench.mirror.leftovers.expect({b"": LOOSE_SUBTREE})
    assert not bench.mirror.leftovers


@pytest.mark.parametrize(
    "changes", [{"exclude": (".*",)}, {"delete": Delete.RUNNING}, {"delete": Delete.STARTUP}]
)
def test_where_something_may_keep_them_they_are(make_bench: MakeBench, changes: dict[str, Any]) -> None:
    bench = make_bench(**{"delete": Delete.ALWAYS, **changes})
    assert bench.batch({b"new": EXACT_SUBTREE}, ended(-9)).failed == {b"new": EXACT_SUBTREE}
    bench.batch(SOMETHING_ELSE)
    assert (SEARCHED_BELOW, [b"./new"]) in bench.runs.seen


def test_a_full_sync_that_deletes_them_need_not_search(make_bench: MakeBench) -> None:
    bench = make_bench(delete=Delete.STARTUP)
    bench.batch({b"new": EXACT_SUBTREE}, ended(-9))
    bench.full_sync(ended(-9))
    assert bench.mirror.leftovers
    bench.full_sync()
    assert bench.runs.seen == [("-r --delete", [])]
    assert not bench.mirror.leftovers


def test_what_is_written_in_place_leaves_none(make_bench: MakeBench) -> None:
    bench = make_bench(rsync=replace(PLAIN_RSYNC, keys=(("inplace", True),)))
    bench.full_sync(ended(-9))
    bench.mirror.leftovers.expect({b"": LOOSE_SUBTREE})
    assert not bench.mirror.leftovers


# ---- what a process before this one was at


def test_what_was_touched_before_a_kill_is_searched(bench: Bench) -> None:
    bench.mirror.leftovers.expect(
        {b"": LOOSE_LEVEL, b"new": EXACT_SUBTREE, b"d": LOOSE_LEVEL, b"d/gone": EXACT_ENTRY}
    )
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [
        (SEARCHED_LEVELS, [b"./d/"]),
        (SEARCHED_BELOW, [b"./new"]),
        SENT,
    ]


def test_runs_that_only_deleted_left_none(bench: Bench) -> None:
    bench.mirror.leftovers.expect({b"d": LOOSE_LEVEL, b"": LOOSE_LEVEL})
    assert not bench.mirror.leftovers


def test_nothing_is_searched_for_on_another_target(bench: Bench) -> None:
    bench.full_sync(ended(-9))
    bench.mirror.leftovers.forget()
    bench.full_sync()
    assert bench.runs.seen == [("-r", [])]


# ---- where it cannot be searched now


def test_temporary_files_of_a_directory_that_is_away(bench: Bench) -> None:
    bench.batch({b"d/file": EXACT_ENTRY, b"new": EXACT_SUBTREE}, ended(), ended(-9))
    bench.mirror.leftovers.expect({b"d/file": EXACT_ENTRY})
    for name in ("d", "new"):
        (bench.source / name).rename(bench.source / f"{name}.away")
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [SENT]
    for name in ("d", "new"):
        (bench.source / f"{name}.away").rename(bench.source / name)
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen[:2] == [(SEARCHED_LEVELS, [b"./d/"]), (SEARCHED_BELOW, [b"./new"])]


def test_what_replaced_a_directory_has_none(bench: Bench) -> None:
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    (bench.source / "d").rename(bench.source / "away")
    (bench.source / "d").touch()
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [SENT] and not bench.mirror.leftovers


def test_a_file_in_the_place_of_a_subtree_may_have_been_sent(bench: Bench) -> None:
    bench.batch({b"new": EXACT_SUBTREE}, ended(-9))
    (bench.source / "new").rename(bench.source / "away")
    (bench.source / "new").touch()
    bench.batch(SOMETHING_ELSE, said(b".new.aZ09bc", b".touched.aZ09bc"))
    assert bench.runs.seen == [(SEARCHED_LEVELS, [b"./"]), (REMOVED, [b"./"]), SENT]
    assert at_risk(bench) == ["/.new.aZ09bc"]


def test_what_is_deleted_with_its_directory_need_not_be_remembered(make_bench: MakeBench) -> None:
    bench = make_bench(delete=Delete.RUNNING)
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    (bench.source / "d").rename(bench.source / "away")
    bench.batch(SOMETHING_ELSE)
    assert not bench.mirror.leftovers


def test_what_the_lane_sends_again_waits_for_its_end(bench: Bench) -> None:
    bench.drive(bench.mirror.large({b"d/file": EXACT_ENTRY}), ended(-9))
    bench.mirror.commands.in_lane = frozenset({b"d/file"})
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [SENT]
    bench.mirror.commands.in_lane = frozenset()
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen[0] == (SEARCHED_LEVELS, [b"./d/"])


def test_what_breaks_off_in_the_lane_while_others_are_searched_for_is_kept(bench: Bench) -> None:
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    batch = bench.mirror.batch(SOMETHING_ELSE)
    bench.begin(batch)
    bench.drive(bench.mirror.large({b"d/file": EXACT_ENTRY}), ended(-9))
    bench.go_on(batch, ended())
    assert bench.mirror.leftovers


def test_through_links_that_are_followed(make_bench: MakeBench, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    bench = make_bench(rsync=replace(PLAIN_RSYNC, keys=(("copy_links", True),)))
    (bench.source / "link").symlink_to("../outside")
    bench.batch({b"link": EXACT_ENTRY}, ended(-9))
    bench.batch(SOMETHING_ELSE, said(b"link/.file.aZ09bc", b"link/.nobody.aZ09bc"))
    assert bench.runs.seen == [(SEARCHED_BELOW, [b"./link"]), (REMOVED, [b"./link/"]), SENT]
    assert at_risk(bench) == ["/link/.file.aZ09bc"]


# ---- what moves on the target

AWAY = Move(b"new", b"again/away", is_directory=True)


@pytest.mark.parametrize(
    ("marks", "searched"),
    [
        # in the directory, or the directory itself
        ({b"new/file": EXACT_ENTRY}, (SEARCHED_LEVELS, [b"./again/away/"])),
        ({b"new": EXACT_CONTENT}, (SEARCHED_LEVELS, [b"./again/away/"])),
        ({b"new": EXACT_SUBTREE}, (SEARCHED_BELOW, [b"./again/away"])),
        # that of a file lies beside it
        ({b"new": EXACT_ENTRY}, (SEARCHED_LEVELS, [b"./"])),
        ({b"touched": EXACT_ENTRY}, (SEARCHED_LEVELS, [b"./"])),
        # out of a subtree
        ({b"": EXACT_SUBTREE}, (SEARCHED_BELOW, [b"./"])),
    ],
)
def test_they_move_along(bench: Bench, marks: dict[bytes, Mark], searched: tuple[str, list[bytes]]) -> None:
    bench.mirror.leftovers.expect(marks)
    (bench.source / "new").rename(bench.source / "again" / "away")
    bench.mirror.moved([AWAY], ())
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [searched, SENT]


def test_where_it_is_not_known_whether_they_moved_both_places_are_searched(bench: Bench) -> None:
    bench.mirror.leftovers.expect({b"new/file": EXACT_ENTRY})
    shutil.copytree(bench.source / "new", bench.source / "again" / "away")
    bench.mirror.moved([AWAY], [AWAY])
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [(SEARCHED_LEVELS, [b"./again/away/", b"./new/"]), SENT]


def test_out_of_a_subtree_they_are_searched_for_where_they_are_now(bench: Bench) -> None:
    bench.mirror.leftovers.expect({b"new": EXACT_SUBTREE})
    (bench.source / "new" / "below").mkdir()
    shutil.move(bench.source / "new" / "below", bench.source / "d" / "below")
    bench.mirror.moved([Move(b"new/below", b"d/below", is_directory=True)], ())
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [(SEARCHED_BELOW, [b"./d/below", b"./new"]), SENT]


def test_a_file_that_moves_takes_nothing_along(bench: Bench) -> None:
    bench.mirror.leftovers.expect({b"d/file": EXACT_ENTRY})
    bench.mirror.moved([Move(b"d/file", b"new/other", is_directory=False)], ())
    bench.batch(SOMETHING_ELSE, said(b"d/.file.aZ09bc"))
    assert bench.runs.seen == [(SEARCHED_LEVELS, [b"./d/"]), (REMOVED, [b"./d/"]), SENT]


# ---- when it fails


@pytest.mark.parametrize(
    "failed", [(ended(12),), (said(b"d/.file.aZ09bc"), ended(12))], ids=["search", "removal"]
)
def test_a_target_that_cannot_be_reached_is_searched_as_long_as_it_takes(
    bench: Bench, failed: tuple[Result, ...]
) -> None:
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    for _try in range(2):
        report = bench.batch(SOMETHING_ELSE, *failed)
        assert (report.is_whole, report.failed) == (True, SOMETHING_ELSE)
        assert len(bench.runs.seen) == len(failed)
    bench.full_sync(*failed)
    assert len(bench.runs.seen) == len(failed)
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [(SEARCHED_LEVELS, [b"./d/"]), SENT]
    assert not bench.mirror.leftovers


def test_it_counts_as_searched_when_what_follows_succeeds(bench: Bench) -> None:
    bench.full_sync(ended(-9))
    # A dry run finds nothing wrong with a target that is not there.
    bench.full_sync(ended(), ended(11, b'rsync: mkdir "/target/." failed: No such file or directory (2)\n'))
    bench.full_sync()
    assert bench.runs.seen == [(SEARCHED_BELOW, [b"./"]), ("-r", [])]
    assert not bench.mirror.leftovers


def test_a_target_that_refuses_to_delete_is_filled_all_the_same(bench: Bench) -> None:
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    refusal = ended(4, b"rsync: The server is configured to refuse --delete\n")
    report = bench.batch(SOMETHING_ELSE, refusal)
    assert report.verdict.outcome is Outcome.OK
    assert bench.runs.seen == [(SEARCHED_LEVELS, [b"./d/"]), SENT]
    bench.batch(SOMETHING_ELSE)
    assert bench.runs.seen == [SENT], "it is not asked again"


def test_a_first_full_sync_may_still_make_its_target(bench: Bench) -> None:
    bench.full_sync(ended(-9), may_create=True)
    missing = ended(5, b"@ERROR: chdir failed\n")
    assert bench.full_sync(missing, may_create=True).verdict.outcome is Outcome.OK
    assert bench.runs.seen == [(SEARCHED_BELOW, [b"./"]), ("-r", [])]


def test_temporary_files_are_not_counted(bench: Bench) -> None:
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    bench.mirror.commands.allowance = 0
    # by its own account the second one has deleted more than it might
    report = bench.batch(SOMETHING_ELSE, said(b"d/.file.aZ09bc"), ended(), ended(output=b""))
    assert bench.runs.seen[1] == (REMOVED, [b"./d/"])
    assert not report.is_whole and report.done.deleted == 0
