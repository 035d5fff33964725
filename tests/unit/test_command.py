# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests every rsync command line word by word, its list byte by byte, and what is read of rsync's output."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.syncs import PLAIN_RSYNC, local_target, make_sync

from lsyncd_sd.config.model import Delete, Target, TargetKind
from lsyncd_sd.config.target import parse_target
from lsyncd_sd.mirror.command import Commands, Run, Shape, Statistics, percent, statistics
from lsyncd_sd.mirror.options import Traits
from lsyncd_sd.mirror.pathrules import RULES_PER_RUN
from lsyncd_sd.mirror.process import environment
from lsyncd_sd.plan.batch import Batch
from lsyncd_sd.plan.filters import Filter, WrittenRule

# Written out, and not taken from the code: a change of any word must be seen here.
BEGINNING = ["rsync", "-l", "-p", "-t", "-g", "-o", "-D", "--no-human-readable"]
COMMON = [*BEGINNING, "-s"]
LIST = ["--from0", "--files-from=-", "--ignore-missing-args", "--force"]
END = ["--", "./", "/target/."]
RISK = ["--existing", "--ignore-existing", "--delete", *LIST]
COUNT = "--info=stats2"
PROGRESS = "--info=stats2,progress2"

BATCH_SHAPES = (
    Shape.EXACT_ENTRIES,
    Shape.ENTRIES,
    Shape.EXACT_SUBTREES,
    Shape.SUBTREES,
    Shape.EXACT_CONTENTS,
    Shape.CONTENTS,
    Shape.LEVELS,
)
CONTENTS = (Shape.EXACT_CONTENTS, Shape.CONTENTS)
BATCH = Batch(
    {b"exact"},
    {b"entry"},
    {b"exact-tree"},
    {b"tree"},
    {b"level"},
    exact_contents={b"exact-full"},
    contents={b"full"},
)

WITH_DELETE = {Delete.ALWAYS, Delete.RUNNING}


def commands(*exclude: str, **changes: Any) -> Commands:
    return Commands(make_sync(exclude=exclude, **changes), Filter.from_excludes(exclude))


def run_of(shape: Shape, some: Commands, batch: Batch = BATCH) -> Run:
    run = some.batch_run(batch, shape)
    assert run is not None
    assert run.shape is shape
    return run


def leftover_run(some: Commands, *paths: bytes) -> Run:
    (run,) = some.leftover_runs(paths)
    return run


def search_run(some: Commands) -> Run:
    run = some.search_run([b"d"], recursive=True)
    assert run is not None
    return run


# ---- the shapes


def test_exact_entries() -> None:
    run = run_of(Shape.EXACT_ENTRIES, commands())
    assert run.arguments == [*COMMON, "-d", "-I", *LIST, COUNT, *END]
    assert run.stdin == b"./exact\0"
    assert run.paths == {b"exact"}


def test_entries() -> None:
    run = run_of(Shape.ENTRIES, commands())
    assert run.arguments == [*COMMON, "-d", *LIST, COUNT, *END]
    assert run.stdin == b"./entry\0"


@pytest.mark.parametrize("delete", Delete)
def test_exact_subtrees(delete: Delete) -> None:
    run = run_of(Shape.EXACT_SUBTREES, commands(delete=delete))
    deletes = ["--delete"] if delete in WITH_DELETE else []
    assert run.arguments == [*COMMON, "-r", "-I", *deletes, *LIST, PROGRESS, *END]
    # no slash at its end: rsync would send what the directory holds, but not delete below it
    assert run.stdin == b"./exact-tree\0"


@pytest.mark.parametrize("delete", Delete)
def test_subtrees(delete: Delete) -> None:
    run = run_of(Shape.SUBTREES, commands(delete=delete))
    deletes = ["--delete"] if delete is Delete.ALWAYS else []
    assert run.arguments == [*COMMON, "-r", *deletes, *LIST, PROGRESS, *END]
    assert run.stdin == b"./tree\0"


@pytest.mark.parametrize("delete", Delete)
def test_contents(delete: Delete) -> None:
    # The slash at the end: all that the directory holds, but nothing below that. Levels delete.
    exact = run_of(Shape.EXACT_CONTENTS, commands(delete=delete))
    assert exact.arguments == [*COMMON, "-d", "-I", *LIST, COUNT, *END]
    assert exact.stdin == b"./exact-full/\0"
    loose = run_of(Shape.CONTENTS, commands(delete=delete))
    assert loose.arguments == [*COMMON, "-d", *LIST, COUNT, *END]
    assert loose.stdin == b"./full/\0"


@pytest.mark.parametrize("delete", Delete)
def test_levels(delete: Delete) -> None:
    run = run_of(Shape.LEVELS, commands(delete=delete))
    deletes = ["--delete"] if delete is Delete.ALWAYS else []
    assert run.arguments == [
        *COMMON,
        "-d",
        "--existing",
        "--ignore-existing",
        *deletes,
        *LIST,
        COUNT,
        *END,
    ]
    assert run.stdin == b"./level/\0"
    assert run.paths == {b"level"}


@pytest.mark.parametrize("delete", Delete)
def test_full_sync(delete: Delete) -> None:
    run = commands(delete=delete).full_run(may_create=False)
    deletes = ["--delete"] if delete in {Delete.ALWAYS, Delete.STARTUP} else []
    assert run.arguments == [*COMMON, "-r", *deletes, PROGRESS, *END]
    assert run.shape is Shape.FULL
    assert run.stdin == b""
    assert run.paths == {b""}


def test_only_a_full_sync_that_may_create_leaves_out_the_dot() -> None:
    run = commands().full_run(may_create=True)
    assert run.arguments == [*COMMON, "-r", "--delete", PROGRESS, "--", "./", "/target/"]


@pytest.mark.parametrize("delete", Delete)
def test_levels_that_could_not_be_read_go_apart(delete: Delete) -> None:
    some = commands(delete=delete)
    some.unread_levels = {b"level"}
    assert some.batch_run(BATCH, Shape.LEVELS) is None
    apart = run_of(Shape.UNREAD_LEVELS, some)
    some.unread_levels = set()
    assert some.batch_run(BATCH, Shape.UNREAD_LEVELS) is None
    together = run_of(Shape.LEVELS, some)
    assert replace(apart, shape=Shape.LEVELS) == together


@pytest.mark.parametrize("delete", Delete)
def test_leftovers_always_delete(delete: Delete) -> None:
    run = leftover_run(commands(delete=delete), b"d/.a.aZ09bc")
    assert run.arguments == [
        *COMMON,
        "--filter=P */",
        "--filter=R /d/.a.aZ09bc",
        "--filter=P *",
        "--ignore-errors",
        "-d",
        *RISK,
        COUNT,
        *END,
    ]
    assert run.shape is Shape.LEFTOVERS
    assert run.stdin == b"./d/\0"
    assert run.paths == {b"d/.a.aZ09bc"}


@pytest.mark.parametrize("delete", Delete)
@pytest.mark.parametrize(("recursive", "way", "listed"), [(False, "-d", b"./d/\0"), (True, "-r", b"./d\0")])
def test_temporary_files_are_searched_for_by_a_dry_run(
    delete: Delete, recursive: bool, way: str, listed: bytes
) -> None:
    run = commands(delete=delete).search_run([b"d"], recursive=recursive)
    assert run is not None and run.is_dry
    assert run.arguments == [
        *COMMON,
        "--filter=P */",
        f"--filter=R .*.{6 * '[A-Za-z0-9]'}",
        f"--filter=R .{6 * '[A-Za-z0-9]'}",
        "--filter=P *",
        "--ignore-errors",
        way,
        "-n",
        "--out-format=%i %n",
        *RISK,
        *END,
    ]
    assert (run.shape, run.stdin, run.paths) == (Shape.SEARCH, listed, {b"d"})


def test_nowhere_is_nothing_searched_for() -> None:
    assert commands().search_run([], recursive=True) is None


def test_no_file_is_read_and_no_backup_kept_for_temporary_files() -> None:
    flags = ("-t", "-c", "-b", "--backup-dir=.old", "--suffix=.old", "--bwlimit=9")
    some = commands(rsync=replace(PLAIN_RSYNC, flags=flags))
    for run in (leftover_run(some, b".a.aZ09bc"), search_run(some)):
        assert run.arguments[:4] == ["rsync", "-t", "--bwlimit=9", "--no-human-readable"]


@pytest.mark.parametrize(
    ("keys", "leaves"),
    [
        ({}, True),
        ({"inplace": False, "partial_dir": ".part"}, True),
        ({"inplace": True}, False),
        ({"append": True}, False),
        ({"append_verify": True}, False),
        ({"temp_dir": "/srv/incoming"}, False),
    ],
)
def test_where_no_temporary_file_lies_beside_its_file(keys: dict[str, Any], leaves: bool) -> None:
    some = commands(rsync=replace(PLAIN_RSYNC, keys=tuple(keys.items())))
    assert some.leaves_temporary_files is leaves


@pytest.mark.parametrize("allowance", [0, 17])
def test_every_run_that_may_delete_has_its_limit(allowance: int) -> None:
    some = commands(delete=Delete.RUNNING)
    some.allowance = allowance
    (gone,) = some.gone_runs([b"d/gone"])
    limit = f"--max-delete={allowance}"
    for run in (gone, *(run_of(shape, some) for shape in BATCH_SHAPES)):
        assert limit in run.arguments, run.shape
    for delete in Delete:
        full = commands(delete=delete)
        full.allowance = allowance
        arguments = full.full_run(may_create=True).arguments
        assert (limit in arguments) == ("--delete" in arguments)


def test_a_daemon_may_delete_one_more_to_show_that_it_has() -> None:
    some = commands(target=parse_target("rsync://host/module"))
    for allowance, limit in ((17, 18), (1, 2), (0, 0)):
        some.allowance = allowance
        assert f"--max-delete={limit}" in some.full_run(may_create=False).arguments


def test_our_own_temporary_files_are_deleted_without_a_limit() -> None:
    some = commands()
    some.allowance = 0
    assert not [word for word in leftover_run(some, b"a").arguments if word.startswith("--max-delete")]


def test_the_probe_for_nanoseconds_changes_nothing_and_always_asks() -> None:
    some = commands()
    words = [*COMMON, "--modify-window=-1", "-d", "-n", "-i", *LIST, *END]
    for nanoseconds in (None, False, True):
        some.traits = Traits(nanoseconds=nanoseconds)
        run = some.resend_probe(b"d/a")
        assert run.arguments == words
        assert run.stdin == b"./d/a\0"


def test_the_probe_for_confining_reaches_no_target() -> None:
    assert commands().confine_probe().arguments == ["rsync", "--confine-root=/", "--version"]


@pytest.mark.parametrize("shape", BATCH_SHAPES)
def test_an_empty_list_needs_no_run(shape: Shape) -> None:
    assert commands().batch_run(Batch(), shape) is None


@pytest.mark.parametrize(
    "shape", [one for one in Shape if one not in (*BATCH_SHAPES, Shape.LARGE, Shape.UNREAD_LEVELS)]
)
def test_other_shapes_are_no_part_of_a_batch(shape: Shape) -> None:
    with pytest.raises(ValueError, match="not part of a batch"):
        commands().batch_run(BATCH, shape)


def test_what_the_lane_sends_is_left_alone_by_all_others() -> None:
    some = commands("*.tmp", delete=Delete.RUNNING)
    some.in_lane = frozenset({b"d/[big]"})
    rules = ["--filter=P /d/.\\[big].[A-Za-z0-9]" + 5 * "[A-Za-z0-9]", "--exclude=/d/\\[big]"]
    runs = [run for run in all_runs(some) if run.shape is not Shape.PROBE]
    runs += some.gone_runs([b"d/gone"])
    assert {run.shape for run in runs} >= {Shape.FULL, Shape.LEFTOVERS, Shape.GONE, *BATCH_SHAPES}
    for run in runs:
        first = next(index for index, word in enumerate(run.arguments) if word in rules)
        assert run.arguments[first : first + 2] == rules
        assert not any(word.startswith(("--filter", "--exclude")) for word in run.arguments[:first])
    large = some.batch_run(Batch({b"d/[big]"}), Shape.LARGE)
    assert large is not None
    assert large.stdin == b"./d/[big]\0"
    assert not set(rules) & set(large.arguments)


def test_no_run_ever_ignores_errors_or_deletes_missing_arguments() -> None:
    for run in all_runs(commands("*.tmp")):
        assert "--delete-missing-args" not in run.arguments
        # Nothing but names that were looked up one by one can be deleted by those two.
        is_by_name = run.shape in (Shape.SEARCH, Shape.LEFTOVERS)
        assert ("--ignore-errors" in run.arguments) == is_by_name


def all_runs(some: Commands) -> list[Run]:
    """Return one run of every shape that reaches the target."""
    return [
        *(run_of(shape, some) for shape in BATCH_SHAPES),
        some.full_run(may_create=False),
        leftover_run(some, b"a"),
        search_run(some),
        some.resend_probe(b"a"),
    ]


# ---- what every command begins with


def test_nanoseconds_are_compared_once_the_target_is_known_to_keep_them() -> None:
    for traits, is_compared in (
        (Traits(nanoseconds=None), False),
        (Traits(nanoseconds=False), False),
        (Traits(nanoseconds=True), True),
        (Traits(nanoseconds=True, secluded=False), False),
    ):
        some = commands()
        some.traits = traits
        assert ("--modify-window=-1" in some.full_run(may_create=False).arguments) is is_compared


def test_rrsync_gets_no_secluded_arguments() -> None:
    some = commands()
    some.traits = Traits(nanoseconds=False, secluded=False)
    # --no-s: RSYNC_PROTECT_ARGS or a build's default must not bring it back
    assert some.full_run(may_create=False).arguments == [
        *BEGINNING,
        "--no-s",
        "-r",
        "--delete",
        PROGRESS,
        *END,
    ]


def test_every_run_is_confined_to_the_real_source_where_rsync_can() -> None:
    some = commands()
    some.source_root = "/srv/real source"
    for run in all_runs(some):
        assert not any(word.startswith("--confine-root") for word in run.arguments)
    some.traits = Traits(confines=True)
    for run in all_runs(some):
        assert "--confine-root=/srv/real source" in run.arguments


def test_the_order_of_the_common_options() -> None:
    some = commands("*.tmp", timeout=300, rsync=replace(PLAIN_RSYNC, extra=("--bwlimit=9",)))
    some.traits = Traits(nanoseconds=True, confines=True)
    assert run_of(Shape.ENTRIES, some).arguments == [
        *COMMON,
        "--modify-window=-1",
        "--confine-root=/source",
        "--timeout=300",
        "--filter=- *.tmp",
        "--bwlimit=9",
        "-d",
        *LIST,
        COUNT,
        *END,
    ]


def test_a_timeout_of_zero_is_none() -> None:
    for run in all_runs(commands(timeout=0)):
        assert not any("timeout" in word for word in run.arguments)
    for run in all_runs(commands(timeout=1)):
        assert "--timeout=1" in run.arguments


def test_only_a_daemon_has_a_time_limit_for_connecting() -> None:
    for text, is_given in (("/target", False), ("host:/target", False), ("host::module", True)):
        for run in all_runs(commands(target=parse_target(text))):
            assert ("--contimeout=30" in run.arguments) is is_given


def test_only_ssh_gets_a_remote_shell() -> None:
    for text, is_given in (("/target", False), ("host:/target", True), ("host::module", False)):
        for run in all_runs(commands(target=parse_target(text))):
            assert ("-e" in run.arguments) is is_given


def test_the_program_and_its_flags() -> None:
    rsync = replace(PLAIN_RSYNC, binary="/opt/rsync", flags=("-t", "--bwlimit=100"))
    run = commands(rsync=rsync).full_run(may_create=False)
    assert run.arguments[:4] == ["/opt/rsync", "-t", "--bwlimit=100", "--no-human-readable"]
    assert commands(rsync=rsync).confine_probe().arguments[0] == "/opt/rsync"


def test_every_run_that_reaches_the_target_has_the_filters() -> None:
    some = commands("+ /keep", "*.tmp", "with space")
    for run in all_runs(some):
        given = [word for word in run.arguments if word.startswith("--filter")]
        assert given[-3:] == ["--filter=+ /keep", "--filter=- *.tmp", "--filter=- with space"]


def test_temporary_files_are_at_risk_whatever_the_filters_say() -> None:
    for run in (leftover_run(commands("*"), b".a.aZ09bc"), search_run(commands("*"))):
        protection = run.arguments.index("--filter=P *")
        assert run.arguments[protection - 1].startswith("--filter=R ")
        assert run.arguments.index("--filter=- *") > protection


def test_no_word_stands_between_the_dashes_and_the_paths() -> None:
    for run in all_runs(commands("-x", rsync=replace(PLAIN_RSYNC, extra=("-v",)))):
        assert run.arguments[-3:] == END
        assert run.arguments.count("--") == 1


# ---- lists

ODD = [b"#hash", b";semicolon", b"new\nline", b"-leading", b"\xff\xfe", b" ", b"a" * 255, b"d/#x"]


@pytest.mark.parametrize("path", ODD)
def test_a_list_begins_each_name_with_a_dot_and_ends_it_with_nul(path: bytes) -> None:
    some = commands()
    batch = Batch({path}, {path}, {path}, {path}, levels={path})
    for shape in (Shape.EXACT_ENTRIES, Shape.ENTRIES, Shape.EXACT_SUBTREES, Shape.SUBTREES):
        assert run_of(shape, some, batch).stdin == b"./" + path + b"\0"
    assert run_of(Shape.LEVELS, some, batch).stdin == b"./" + path + b"/\0"
    assert some.resend_probe(path).stdin == b"./" + path + b"\0"


def test_no_name_is_ever_on_a_command_line_but_in_a_rule() -> None:
    secret = {b"secret"}
    batch = Batch(secret, secret, secret, secret, secret, exact_contents=secret, contents=secret)
    for shape in BATCH_SHAPES:
        assert not any("secret" in word for word in run_of(shape, commands(), batch).arguments)


def test_the_root_is_a_dot_and_one_slash() -> None:
    root = {b""}
    batch = Batch(exact_subtrees=root, subtrees=root, levels=root, exact_contents=root, contents=root)
    for shape in (Shape.EXACT_SUBTREES, Shape.SUBTREES, *CONTENTS, Shape.LEVELS):
        assert run_of(shape, commands(), batch).stdin == b"./\0"
    assert leftover_run(commands(), b"a").stdin == b"./\0"


def test_lists_are_sorted() -> None:
    batch = Batch(levels={b"b", b"a/c", b"a", b""})
    assert run_of(Shape.LEVELS, commands(), batch).stdin == b"./\0./a/\0./a/c/\0./b/\0"


# ---- temporary files


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        (b".a.aZ09bc", b"/.a.aZ09bc"),
        (b"d*/[x]/.a?b\\c.aZ09bc", b"/d\\*/\\[x]/.a\\?b\\\\c.aZ09bc"),
        (b"d/.\xff\n.aZ09bc", b"/d/.\xff\n.aZ09bc"),
    ],
)
def test_the_rule_matches_only_the_temporary_file_that_was_found(path: bytes, rule: bytes) -> None:
    words = leftover_run(commands(), path).arguments
    assert [word for word in words if " /" in word] == [f"--filter=R {os.fsdecode(rule)}"]


def test_many_leftovers_are_removed_in_several_runs() -> None:
    paths = [b"%d/%04d" % (number % 3, number) for number in range(2 * RULES_PER_RUN + 1)]
    runs = list(commands().leftover_runs(paths))
    assert [len(run.paths) for run in runs] == [RULES_PER_RUN, RULES_PER_RUN, 1]
    assert set().union(*(run.paths for run in runs)) == set(paths)
    for run in runs:
        assert set(run.stdin.split(b"\0")) - {b""} == {b"./" + path[:2] for path in run.paths}
    assert list(commands().leftover_runs([])) == []


@pytest.mark.parametrize("name", [b"a", b"*"])
def test_rules_for_long_paths_fit_into_the_command_line(name: bytes) -> None:
    paths = [b"%03d/" % number + b"/".join([name * 200] * 20) for number in range(RULES_PER_RUN)]
    some = commands(delete=Delete.RUNNING)
    for runs in (some.leftover_runs(paths), some.gone_runs(paths)):
        for run in runs:
            assert sum(len(os.fsencode(word)) + 9 for word in run.arguments) < 1_200_000
    some.unreadable = set(paths)
    arguments = some.full_run(may_create=False).arguments
    assert not any(word.startswith("--exclude") for word in arguments)


@pytest.mark.parametrize("name", [b".a.aZ09bc", b".*?[x]\\.aZ09bc", b".\xff\nb.aZ09bc", b".aZ09bc"])
def test_a_real_rsync_removes_the_temporary_file_and_nothing_else(tmp_path: Path, name: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for root in (source, target):
        (root / "d").mkdir(parents=True)
    others = {b"other", b".other.aZ09bc", b".a.aZ09bcd", b".a.aZ09-c", b"a.aZ09bc"}
    for entry in {name, *others}:
        (target / "d" / os.fsdecode(entry)).touch()
    run = leftover_run(commands(target=local_target(str(target)), delete=Delete.NEVER), b"d/" + name)
    subprocess.run(run.arguments, input=run.stdin, cwd=source, env=environment(), check=True)
    assert set(os.listdir(os.fsencode(target / "d"))) == others


def test_levels_remove_leftovers_where_they_delete_without_filters() -> None:
    assert commands().levels_remove_leftovers
    assert not commands(delete=Delete.RUNNING).levels_remove_leftovers
    assert not commands("*.tmp").levels_remove_leftovers
    assert not commands(delete=Delete.NEVER).levels_remove_leftovers
    assert not commands(delete=Delete.STARTUP).levels_remove_leftovers


# ---- what is gone, and what cannot be read


@pytest.mark.parametrize("delete", [Delete.ALWAYS, Delete.NEVER, Delete.STARTUP])
def test_only_running_deletes_name_by_name(delete: Delete) -> None:
    assert list(commands(delete=delete).gone_runs([b"a"])) == []


def test_what_is_gone_goes_and_what_filters_protect_stays(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for root in (source, target):
        (root / "d").mkdir(parents=True)
    (source / "d" / "here").touch()
    for name in ("here", "only on the target", "a[b", "back\\slash", "a*", "ab"):
        (target / "d" / name).touch()
    (target / "d" / "tree" / "below").mkdir(parents=True)
    (target / "d" / "tree" / "below" / "kept.tmp").touch()
    (target / "d" / "tree" / "x").touch()
    some = commands("*.tmp", target=local_target(str(target)), delete=Delete.RUNNING)
    (run,) = some.gone_runs([b"d/a[b", b"d/back\\slash", b"d/a*", b"d/tree"])
    subprocess.run(run.arguments, input=run.stdin, cwd=source, env=environment(), check=False)
    assert sorted(os.listdir(target / "d")) == ["ab", "here", "only on the target", "tree"]
    assert os.listdir(target / "d" / "tree") == ["below"]
    assert os.listdir(target / "d" / "tree" / "below") == ["kept.tmp"]


def test_an_exception_puts_nothing_at_risk_that_did_not_go(tmp_path: Path) -> None:
    """Our rules came behind those of the sync once: `+ *.c` then deleted every *.c of the target."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("gone.c", "gone.o", "other.c", "other.o", "gone/x.o", "gone/x.c", "gone/x", "protected"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).touch()
    rules = Filter.from_rules([WrittenRule(text) for text in ("+ *.c", "P *ted", "- *.o", "R *")])
    some = Commands(make_sync(target=local_target(str(target)), delete=Delete.RUNNING), rules)
    (run,) = some.gone_runs([b"gone.c", b"gone.o", b"gone", b"protected"])
    subprocess.run(run.arguments, input=run.stdin, cwd=source, env=environment(), check=False)
    assert sorted(os.listdir(target)) == ["gone", "gone.o", "other.c", "other.o", "protected"]
    assert os.listdir(target / "gone") == ["x.o"]


def test_what_is_gone_from_where_no_rule_can_protect_the_others_stays() -> None:
    some = commands(delete=Delete.RUNNING)
    (run,) = some.gone_runs([b"*" * 2048 + b"/a", b"a"])
    assert run.paths == {b"a"}


def test_what_cannot_be_read_is_left_out_of_recursive_runs_only() -> None:
    some = commands()
    some.unreadable = {b"d/locked", b"a[b"}
    rules = ["--exclude=/a\\[b", "--exclude=/d/locked"]
    for run in all_runs(some):
        given = [word for word in run.arguments if word.startswith("--exclude")]
        assert given == (rules if run.shape in {Shape.SUBTREES, Shape.FULL} else [])


def test_a_full_sync_that_owes_deletions_gets_them_by_its_repetition() -> None:
    some = commands(delete=Delete.STARTUP)
    root = Batch(subtrees={b""})
    assert "--delete" not in run_of(Shape.SUBTREES, some, root).arguments
    some.owes_deletions = True
    assert "--delete" in run_of(Shape.SUBTREES, some, root).arguments
    assert "--delete" not in run_of(Shape.SUBTREES, some, Batch(subtrees={b"d"})).arguments


# ---- the target


@pytest.mark.parametrize(
    ("text", "target", "creating"),
    [
        ("/target", "/target/.", "/target/"),
        ("/", "/.", "/"),
        ("host:", "host:./.", "host:./"),
        ("host:path", "host:path/.", "host:path/"),
        ("host:/path", "host:/path/.", "host:/path/"),
        ("user@host:/path with space", "user@host:/path with space/.", "user@host:/path with space/"),
        ("[2001:db8::1]:/path", "[2001:db8::1]:/path/.", "[2001:db8::1]:/path/"),
        ("host::module", "host::module/.", "host::module/"),
        ("host::module/path", "host::module/path/.", "host::module/path/"),
        (
            "rsync://host:8730/module/path",
            "rsync://host:8730/module/path/.",
            "rsync://host:8730/module/path/",
        ),
    ],
)
def test_the_target_is_a_directory_that_must_be_there(text: str, target: str, creating: str) -> None:
    kind = parse_target(text).kind if text != "/" else TargetKind.LOCAL
    some = commands(target=Target(text, kind, "", ""))
    assert some.target() == target
    assert some.creating_target() == creating
    assert some.full_run(may_create=False).arguments[-3:] == ["--", "./", target]
    assert some.full_run(may_create=True).arguments[-3:] == ["--", "./", creating]


# ---- what rsync says

OUTPUT = (
    b"\r              6   0%    0.00kB/s    0:00:00  \r              6   0%    0.00kB/s    0:00:00 (xfr#1, "
    b"to-chk=3/5)\r        3000006  99%  572.20MB/s    0:00:00 (xfr#2, to-chk=2/5)\r        3000009 100%  "
    b"357.63MB/s    0:00:00 (xfr#3, to-chk=0/5)\n"
    b"\n"
    b"Number of files: 5 (reg: 3, dir: 2)\n"
    b"Number of created files: 4 (reg: 3, dir: 1)\n"
    b"Number of deleted files: 2 (reg: 1, dir: 1)\n"
    b"Number of regular files transferred: 3\n"
    b"Total file size: 3000019 bytes\n"
    b"Total transferred file size: 3000009 bytes\n"
    b"Literal data: 3000009 bytes\n"
    b"Matched data: 0 bytes\n"
    b"File list size: 0\n"
    b"File list generation time: 0.001 seconds\n"
    b"File list transfer time: 0.000 seconds\n"
    b"Total bytes sent: 3000992\n"
    b"Total bytes received: 100\n"
    b"\n"
    b"sent 3000992 bytes  received 100 bytes  6002184.00 bytes/sec\n"
    b"total size is 3000009  speedup is 1.00\n"
)


def test_statistics_of_a_run() -> None:
    assert statistics(OUTPUT) == Statistics(files=3, bytes=3000009, deleted=2, made=4, listed=5)


def test_a_run_that_did_not_come_to_it_has_done_nothing() -> None:
    assert statistics(b"") == Statistics()
    assert statistics(OUTPUT[: OUTPUT.index(b"Number")]) == Statistics()


def test_statistics_are_added() -> None:
    assert Statistics(1, 2, 3, 4, 5).plus(Statistics(10, 20, 30, 40, 50)) == Statistics(11, 22, 33, 44, 55)


def test_a_real_rsync_counts_so_that_we_can_read_it(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d").mkdir(parents=True)
    (target / "gone").mkdir(parents=True)
    for number in range(1200):
        (source / "d" / str(number)).touch()
    (source / "big").write_bytes(b"x" * 12345)
    (target / "gone" / "too").touch()
    some = commands(target=local_target(str(target)))

    def output(run: Run) -> bytes:
        return subprocess.run(
            run.arguments, input=run.stdin, cwd=source, env=environment(), capture_output=True, check=True
        ).stdout

    written = output(some.full_run(may_create=False))
    # the root is listed, and not made
    assert statistics(written) == Statistics(files=1201, bytes=12345, deleted=2, made=1202, listed=1203)
    assert percent(written) == 100


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (b"", None),
        (OUTPUT[:60], 0),
        (OUTPUT, 100),
        (OUTPUT[: OUTPUT.index(b"100%")], 99),
        (b"      32,768  12%  ", 12),
        (b"   1   7%  \r   2  42%  \r   3  4", 42),
        (b"Number of files: 5", None),
        (b"\r  1234 103% 1kB/s 0:00:00", 100),
    ],
)
def test_the_newest_percentage(output: bytes, shown: int | None) -> None:
    assert percent(output) == shown
