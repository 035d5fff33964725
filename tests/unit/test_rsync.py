# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/rsync.py: which runs a batch becomes, and what follows from how each of them ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.syncs import make_sync

from lsyncd_sd.config.model import Delete
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror import rsync as rsync_module
from lsyncd_sd.mirror.command import Shape
from lsyncd_sd.mirror.options import Traits
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.process import OnExit, Result
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.rsync import RsyncMirror
from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.plan.deletions import Deletions
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.watch.source import Source

ENTRY, LEVEL, SUBTREE = Depth.ENTRY, Depth.LEVEL, Depth.SUBTREE
EXACT_ENTRY, LOOSE_ENTRY = Mark(ENTRY, True), Mark(ENTRY, False)
EXACT_SUBTREE, LOOSE_SUBTREE = Mark(SUBTREE, True), Mark(SUBTREE, False)
LOOSE_LEVEL = Mark(LEVEL, False)

STATISTICS = (
    b"Number of regular files transferred: 2\nNumber of deleted files: 3 (reg: 3)\n"
    b"Total transferred file size: 40 bytes\n"
)

# one mark for each shape, on the tree of the fixture
ALL_SHAPES = {
    b"d/file": EXACT_ENTRY,
    b"touched": LOOSE_ENTRY,
    b"new": EXACT_SUBTREE,
    b"again": LOOSE_SUBTREE,
    b"d/gone": EXACT_ENTRY,
}


def ended(code: int = 0, errors: bytes = b"", output: bytes = STATISTICS, **changes: Any) -> Result:
    return replace(Result(code, output, errors, False, False, 0.5), **changes)


class FakeProcess:
    """Takes what is asked of a process that runs."""

    def __init__(self, says: bytes) -> None:
        self._says = says

    def show_output(self, on_data: Any) -> None:
        self.on_data = on_data
        # In pieces, as it comes through a pipe.
        on_data(self._says[:7])
        on_data(self._says[7:])


class Runs:
    """Carries out the steps of a mirror with results that a test has thought out."""

    def __init__(self, results: list[Result], says: bytes = b"") -> None:
        self.results = results
        self.says = says
        self.seen: list[tuple[str, list[bytes]]] = []
        self.arguments: list[list[str]] = []
        self.processes: list[FakeProcess] = []

    def start_command(
        self,
        _loop: Loop,
        arguments: list[str],
        _on_exit: OnExit,
        *,
        stdin: bytes,
        directory: int = -1,
        **_more: Any,
    ) -> FakeProcess:
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        kept = [option for option in ("-r", "-d", "-I", "-n", "--existing", "--delete") if option in options]
        self.seen.append((" ".join(kept), [path for path in stdin.split(b"\0") if path]))
        self.arguments.append(arguments)
        self.processes.append(FakeProcess(self.says))
        return self.processes[-1]

    def drive(self, steps: Any) -> Any:
        result: Result | None = None
        while True:
            try:
                start = steps.send(result)
            except StopIteration as stop:
                return stop.value
            start(lambda _result: None)
            result = self.results.pop(0) if self.results else ended()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """d/file, touched, new/file and again/."""
    root = tmp_path / "source"
    for path in ("d/file", "touched", "new/file"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    (root / "again").mkdir()
    return root


class Bench:
    """A mirror of the source, and what it is to be told."""

    def __init__(self, source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.source = source
        excludes = changes.get("exclude", ())
        self.percents: list[int] = []
        self.mirror = RsyncMirror(
            loop,
            make_sync(source=str(source), **changes),
            Filter.from_excludes(excludes),
            lambda: Source(os.fsencode(source)),
            self.percents.append,
        )
        self.mirror.commands.source_root = str(source)
        self.mirror.commands.traits = Traits(nanoseconds=True)
        self._monkeypatch = monkeypatch
        self._says = b""
        self.runs = Runs([])

    def runs_say(self, output: bytes) -> None:
        """Let each run from now on say so while it runs, to whom it is shown."""
        self._says = output

    def drive(self, steps: Any, *results: Result) -> Any:
        self.runs = Runs(list(results), self._says)
        self._monkeypatch.setattr(rsync_module, "start_command", self.runs.start_command)
        return self.runs.drive(steps)

    def batch(self, marks: dict[bytes, Mark], *results: Result) -> Report:
        report = self.drive(self.mirror.batch(marks), *results)
        assert isinstance(report, Report)
        return report

    def unreadable(self, path: str, what: str = "[sender] send_files failed to open") -> bytes:
        return f'rsync: {what} "{self.source}/{path}": Permission denied (13)\n'.encode()


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
    bench.drive(iter_once(steps))
    # while the first run goes on, the directory of the second is replaced
    (bench.source / "new" / "file").unlink()
    (bench.source / "new").rmdir()
    (bench.source / "new").symlink_to("/etc")
    report = bench.drive(resume(steps))
    assert bench.runs.seen == []
    assert report.verdict.outcome is Outcome.OK


def iter_once(steps: Any) -> Any:
    """Give out the first thing that steps want to start."""
    yield next(steps)


def resume(steps: Any) -> Any:
    """Go on with steps whose first process ends now."""
    start = None
    try:
        start = steps.send(ended())
        while True:
            start = steps.send((yield start))
    except StopIteration as stop:
        return stop.value


def test_percentages_of_recursive_runs_are_passed_on(bench: Bench) -> None:
    bench.batch({b"new": EXACT_SUBTREE})
    bench.runs.processes[0].on_data(b"  1,234  42%  1.2MB/s\r")  # type: ignore[operator]
    bench.runs.processes[0].on_data(b"nothing of interest")  # type: ignore[operator]
    assert bench.percents == [42]


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


@pytest.mark.parametrize("changes", [{"delete": Delete.NEVER}, {"exclude": (".*",)}])
def test_temporary_files_that_no_level_removes(
    source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    bench = Bench(source, loop, monkeypatch, **changes)
    assert bench.batch({b"d/file": EXACT_ENTRY}, ended(-9)).failed == {b"d/file": EXACT_ENTRY}
    # the next batch begins with them, whatever it is about; as long as it takes
    for code in (12, 0):
        bench.batch({b"touched": LOOSE_ENTRY}, ended(code))
        assert bench.runs.seen[0] == ("-d --existing --delete", [b"./d/"])
        assert "--filter=R /d/.file." + "[A-Za-z0-9]" * 6 in bench.runs.arguments[0]
    bench.batch({b"touched": LOOSE_ENTRY})
    assert bench.runs.seen == [("-d", [b"./touched"])]


def test_temporary_files_of_a_directory_that_is_away(bench_that_deletes_nothing: Bench) -> None:
    bench = bench_that_deletes_nothing
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    (bench.source / "d").rename(bench.source / "away")
    bench.batch({b"touched": LOOSE_ENTRY})
    assert bench.runs.seen == [("-d", [b"./touched"])]
    (bench.source / "away").rename(bench.source / "d")
    bench.batch({b"touched": LOOSE_ENTRY})
    assert bench.runs.seen[0] == ("-d --existing --delete", [b"./d/"])


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
        bench.drive(bench.mirror.full_sync(may_create=False, sample=None))
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
    report = bench.drive(bench.mirror.full_sync(may_create=may_create, sample=None))
    assert bench.runs.seen == [("-r --delete", [])]
    assert bench.runs.arguments[0][-2:] == ["./", target]
    assert report.verdict.outcome is Outcome.OK


def test_a_full_sync_that_failed_in_part_tries_the_whole_again(bench: Bench) -> None:
    result = ended(23, bench.unreadable("d/file"))
    report = bench.drive(bench.mirror.full_sync(may_create=False, sample=None), result)
    assert report.failed == {b"": LOOSE_SUBTREE, b"d/file": EXACT_SUBTREE}


def test_a_full_sync_that_did_not_delete_leaves_it_to_its_repetition(
    source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(source, loop, monkeypatch, delete=Delete.STARTUP)
    result = ended(23, bench.unreadable("d", "[sender] opendir"))
    report = bench.drive(bench.mirror.full_sync(may_create=False, sample=None), result)
    for expected in ("-r --delete", "-r"):
        bench.batch({b"": report.failed[b""]})
        assert bench.runs.seen == [(expected, [b"./"])]


def test_a_full_sync_removes_left_over_temporary_files(bench_that_deletes_nothing: Bench) -> None:
    bench = bench_that_deletes_nothing
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    bench.drive(bench.mirror.full_sync(may_create=False, sample=None))
    assert bench.runs.seen == [("-r", []), ("-d --existing --delete", [b"./d/"])]


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


def test_temporary_files_are_not_counted(source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(source, loop, monkeypatch, delete=Delete.NEVER)
    bench.batch({b"d/file": EXACT_ENTRY}, ended(-9))
    bench.mirror.commands.allowance = 0
    report = bench.batch({b"touched": LOOSE_ENTRY}, ended(), ended(output=b""))
    assert bench.runs.seen[0] == ("-d --existing --delete", [b"./d/"])
    assert not report.is_whole


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
