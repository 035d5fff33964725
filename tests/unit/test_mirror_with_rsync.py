# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests the rsync mirror with a real rsync: what arrives, what stays, and what its own messages lead to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from helpers.house import (
    CONTENT,
    ENTRY,
    EXACT_ENTRY,
    EXACT_SUBTREE,
    LEVEL,
    OLD,
    SUBTREE,
    House,
    a_house,
    is_good,
)
from helpers.syncs import PLAIN_RSYNC, PLAIN_SSH

from lsyncd_sd.config.model import Delete
from lsyncd_sd.config.target import parse_target
from lsyncd_sd.mirror import process
from lsyncd_sd.mirror.outcome import Outcome
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.deletions import Deletions

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="rsync must run as somebody else than the owner")

NOBODY = 65534
AS_NOBODY = f"exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups rsync"


@pytest.fixture
def house() -> Iterator[House]:
    with a_house() as one:
        yield one


# ---- what arrives


def test_only_exact_entries_are_sent_whatever_size_and_time_say(house: House) -> None:
    house.write("d/a")
    house.on_target("d/a")
    mirror = house.mirror()
    assert is_good(house.do(mirror.batch({b"d/a": ENTRY})))
    assert (house.target / "d/a").read_text() == "old"
    report = house.do(mirror.batch({b"d/a": EXACT_ENTRY}))
    assert is_good(report)
    assert (house.target / "d/a").read_text() == "new"
    assert (report.done.files, report.done.bytes, report.done.deleted) == (1, 3, 0)


def test_a_subtree_comes_with_all_below_and_without_what_is_gone(house: House) -> None:
    house.write("d/same")
    house.write("d/e/new")
    for name in ("d/same", "d/e/gone", "other/gone"):
        house.on_target(name)
    mirror = house.mirror()
    assert is_good(house.do(mirror.batch({b"d": SUBTREE})))
    assert (house.target / "d/same").read_text() == "old"
    assert os.listdir(house.target / "d/e") == ["new"]
    assert (house.target / "other/gone").exists()
    assert is_good(house.do(mirror.batch({b"d": EXACT_SUBTREE})))
    assert (house.target / "d/same").read_text() == "new"


def test_what_is_gone_is_deleted_from_its_directory_only(house: House) -> None:
    house.write("d/unlisted")
    (house.source / "d/e").mkdir()
    house.on_target("d/gone/deep/file")
    house.on_target("d/e/below")
    assert is_good(house.do(house.mirror().batch({b"d/gone": EXACT_ENTRY})))
    assert os.listdir(house.target / "d") == ["e"]
    assert (house.target / "d/e/below").exists()


@pytest.mark.parametrize("delete", [Delete.NEVER, Delete.STARTUP])
def test_a_batch_deletes_nothing_where_it_must_not(house: House, delete: Delete) -> None:
    (house.source / "d").mkdir()
    house.on_target("d/gone")
    marks = {b"d": EXACT_SUBTREE, b"d/gone": EXACT_ENTRY, b"": LEVEL}
    assert is_good(house.do(house.mirror(delete=delete).batch(marks)))
    assert (house.target / "d/gone").exists()


@pytest.mark.parametrize(
    "marks",
    [{b"d": LEVEL}, {b"d/a": EXACT_ENTRY}, {b"d/e": EXACT_SUBTREE}, {b"d": SUBTREE}, {b"d/e": LEVEL}],
    ids=["level", "entry below", "subtree below", "subtree", "level below"],
)
def test_a_link_where_a_directory_was_is_not_followed(house: House, marks: dict[bytes, Mark]) -> None:
    outside = house.base / "outside"
    house.write("e/a", "secret", outside)
    house.write("a", "secret", outside)
    (house.source / "d").symlink_to("../outside")
    house.on_target("d/e/a")
    assert is_good(house.do(house.mirror().batch(marks)))
    assert os.readlink(house.target / "d") == "../outside"
    assert (outside / "e/a").read_text() == "secret"
    assert sorted(os.listdir(outside)) == ["a", "e"]


def test_a_missing_target_is_made_only_by_a_first_full_sync(house: House) -> None:
    house.write("a")
    house.target.rmdir()
    mirror = house.mirror()
    marks = {b"a": EXACT_ENTRY, b"gone": ENTRY}
    for report in (
        house.do(mirror.batch(marks)),
        house.do(mirror.full_sync(may_create=False, sample=None)),
    ):
        assert (report.verdict.outcome, report.is_whole) == (Outcome.TARGET_MISSING, True)
    counted = house.do(mirror.count_full_sync())
    assert isinstance(counted, Deletions) and len(counted) == 0
    assert not house.target.exists()
    assert is_good(house.do(mirror.full_sync(may_create=True, sample=None)))
    assert (house.target / "a").exists()


def test_a_long_run_has_its_figures_all_the_same(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    # it tells its progress with each file, and its figures at the end
    monkeypatch.setattr(process, "OUTPUT_LIMIT", 2000)
    for number in range(200):
        house.write(f"{number}")
    done = house.do(house.mirror().full_sync(may_create=False, sample=None)).done
    assert (done.files, done.made, done.listed) == (200, 200, 201)


# ---- what its messages lead to


@needs_root
def test_only_the_entries_that_failed_are_tried_again(house: House) -> None:
    house.write("good")
    for name in ("bad", ".bad"):
        house.write(name).chmod(0)
    os.chown(house.target, NOBODY, NOBODY)
    marks = {b"good": EXACT_ENTRY, b"bad": EXACT_ENTRY, b".bad": EXACT_ENTRY}
    report = house.do(house.mirror(**house.program(AS_NOBODY)).batch(marks))
    assert (report.verdict.outcome, report.is_whole) == (Outcome.PARTIAL, False)
    assert report.failed.keys() & marks.keys() == {b"bad", b".bad"}
    assert (house.target / "good").read_text() == "new"


@needs_root
def test_what_the_target_refuses_below_a_subtree_stays_exact_under_its_own_name(house: House) -> None:
    for name in ("d/a", "d/.dot"):
        house.write(name)
    house.on_target("d/a")
    report = house.do(house.mirror(**house.program(AS_NOBODY)).batch({b"d": EXACT_SUBTREE}))
    assert report.verdict.outcome is Outcome.PARTIAL
    assert (report.failed[b"d/a"], report.failed[b"d/.dot"]) == (EXACT_ENTRY, EXACT_ENTRY)


@needs_root
def test_a_rename_that_the_target_refuses_stays_exact(house: House) -> None:
    house.write("d/a")
    house.on_target("d/a")
    for path in (house.source / "d", house.target / "d"):
        path.chmod(0o1777)
    report = house.do(house.mirror(**house.program(AS_NOBODY)).batch({b"d": EXACT_SUBTREE}))
    assert report.verdict.outcome is Outcome.PARTIAL
    assert report.failed[b"d/a"] == EXACT_ENTRY


@needs_root
def test_a_root_that_cannot_be_read_is_the_root(house: House) -> None:
    house.source.chmod(0o711)
    os.chown(house.target, NOBODY, NOBODY)
    mirror = house.mirror(**house.program(AS_NOBODY))
    report = house.do(mirror.full_sync(may_create=False, sample=None))
    assert report.verdict.outcome is Outcome.PARTIAL
    assert report.failed == {b"": EXACT_SUBTREE}


@needs_root
def test_a_level_that_cannot_be_read_deletes_nothing(house: House) -> None:
    (house.source / "d").mkdir(mode=0o711)
    house.on_target("d/file")
    for path in (house.target, house.target / "d"):
        os.chown(path, NOBODY, NOBODY)
    report = house.do(house.mirror(**house.program(AS_NOBODY)).batch({b"d": LEVEL}))
    assert report.verdict.outcome is Outcome.PARTIAL
    assert report.failed == {b"d": LEVEL}
    assert (house.target / "d/file").exists()


@needs_root
@pytest.mark.parametrize("depth", [LEVEL, CONTENT])
def test_a_directory_that_cannot_be_read_keeps_nothing_alive_elsewhere(house: House, depth: Mark) -> None:
    for name in ("closed", "open"):
        house.write(f"{name}/file")
        house.on_target(f"{name}/gone")
        os.chown(house.target / name, NOBODY, NOBODY)
    (house.source / "closed").chmod(0o711)
    os.chown(house.target, NOBODY, NOBODY)
    mirror = house.mirror(**house.program(AS_NOBODY))
    report = house.do(mirror.batch({b"closed": depth, b"open": depth}))
    assert report.failed.keys() == {b"closed", b"open"}
    report = house.do(mirror.batch(report.failed))
    assert report.failed.keys() == {b"closed"}
    assert not (house.target / "open/gone").exists()
    assert (house.target / "closed/gone").exists()
    (house.source / "closed").chmod(0o755)
    assert is_good(house.do(mirror.batch(report.failed)))
    assert not (house.target / "closed/gone").exists()


# ---- what a killed run leaves behind

BREAKS_OFF = 'if [ -e $here/break ]; then touch "$here/target/d/.a.aZ09bc"; kill -KILL $$; fi; exec rsync'


@pytest.mark.parametrize("name", ["a", ".a"])
@pytest.mark.parametrize(
    ("exclude", "delete", "kept"),
    [
        ((), Delete.ALWAYS, []),
        ((), Delete.NEVER, [".a.other"]),
        ((".*.*",), Delete.ALWAYS, [".a.other"]),
    ],
    ids=["level", "deletes nothing", "filtered"],
)
def test_its_temporary_file_is_removed_and_no_other(
    house: House, exclude: tuple[str, ...], delete: Delete, kept: list[str], name: str
) -> None:
    path = f"d/{name}"
    house.write(path)
    house.on_target(path)
    house.on_target("d/.a.other")
    (house.base / "break").touch()
    mirror = house.mirror(*exclude, delete=delete, **house.program(BREAKS_OFF))
    report = house.do(mirror.batch({path.encode(): EXACT_ENTRY}))
    assert (report.verdict.outcome, report.is_whole) == (Outcome.KILLED, True)
    assert (house.target / "d/.a.aZ09bc").exists()
    (house.base / "break").unlink()
    assert is_good(house.do(mirror.batch(report.failed)))
    assert sorted(os.listdir(house.target / "d")) == sorted([name, *kept])
    assert (house.target / path).read_text() == "new"


# What the source, and the sync's filters, say of names that look like temporary ones.
OURS = ("d/.a.aZ09bc", "d/e/.b.aZ09bc", "d/.dot.aZ09bc")
FOREIGN = (
    "d/.nobody.aZ09bc",  # of no file
    "d/.e.aZ09bc",  # of a directory
    "d/.hidden.aZ09bc",  # of a file that is not sent
    "d/.own.aZ09bc",  # the source has it, too, and hides it
    "d/.a.directory",
    "d/.a.aZ09bc.d/.a.aZ09bc",  # in a directory that only the target has
    "d/.a.aZ09b",
    "d/a.aZ09bc",
)
KILLED = "if [ -e $here/break ]; then kill -KILL $$; fi; exec rsync"


def make_leftovers(house: House) -> None:
    """Let both trees hold something, and the target what a killed rsync has left, and what others keep."""
    for name in ("d/a", "d/e/b", "d/.dot", "d/hidden", "d/own", "d/.own.aZ09bc"):
        house.write(name)
    for name in (*OURS, *FOREIGN):
        house.on_target(name)
    (house.target / "d/.a.aZ09cd").mkdir()


def left(house: House) -> set[str]:
    """Return what of that is still there."""
    return {name for name in (*OURS, *FOREIGN) if (house.target / name).exists()}


@pytest.mark.parametrize(
    ("marks", "removed"),
    [
        (None, OURS),
        ({b"d": EXACT_SUBTREE}, OURS),
        ({b"d": CONTENT}, ("d/.a.aZ09bc", "d/.dot.aZ09bc")),
        ({b"d/e": EXACT_SUBTREE}, ("d/e/.b.aZ09bc",)),
        ({b"d/a": EXACT_ENTRY}, ("d/.a.aZ09bc",)),
    ],
    ids=["full sync", "subtree", "content", "subtree below", "entry"],
)
@pytest.mark.parametrize("is_remote", [False, True])
def test_what_a_killed_run_left_is_found_and_nothing_else(
    house: House, marks: dict[bytes, Mark] | None, removed: tuple[str, ...], is_remote: bool
) -> None:
    make_leftovers(house)
    changes = house.remote_target() if is_remote else {}
    mirror = house.mirror("hidden", ".own.*", delete=Delete.NEVER, **house.program(KILLED), **changes)

    def run() -> Report:
        steps = mirror.full_sync(may_create=False, sample=None) if marks is None else mirror.batch(marks)
        return house.do(steps)

    (house.base / "break").touch()
    assert run().verdict.outcome is Outcome.KILLED
    (house.base / "break").unlink()
    assert is_good(run())
    assert left(house) == {*OURS, *FOREIGN} - {*removed}
    assert (house.target / "d/.a.aZ09cd").is_dir()


@pytest.mark.parametrize("kind", [Delete.NEVER, Delete.ALWAYS])
def test_filters_that_protect_do_not_keep_them(house: House, kind: Delete) -> None:
    house.write("d/a")
    house.on_target("d/.a.aZ09bc")
    mirror = house.mirror(".*", delete=kind)
    mirror.leftovers.expect({b"": SUBTREE})
    assert is_good(house.do(mirror.full_sync(may_create=False, sample=None)))
    assert os.listdir(house.target / "d") == ["a"]


def test_there_is_no_backup_of_them(house: House) -> None:
    house.write("d/a")
    house.on_target("d/.a.aZ09bc")
    flags = (*PLAIN_RSYNC.flags, "-b", "--backup-dir=.old", "--suffix=~")
    mirror = house.mirror(delete=Delete.NEVER, rsync=replace(PLAIN_RSYNC, flags=flags))
    mirror.leftovers.expect({b"": SUBTREE})
    assert is_good(house.do(mirror.full_sync(may_create=False, sample=None)))
    assert os.listdir(house.target) == ["d"]
    assert os.listdir(house.target / "d") == ["a"]


@needs_root
def test_what_cannot_be_read_keeps_no_others_from_being_found(house: House) -> None:
    house.write("d/a")
    (house.source / "closed").mkdir(mode=0o700)
    house.on_target("d/.a.aZ09bc")
    for path in (house.target, house.target / "d"):
        os.chown(path, NOBODY, NOBODY)
    mirror = house.mirror(delete=Delete.NEVER, **house.program(AS_NOBODY))
    mirror.leftovers.expect({b"": SUBTREE})
    report = house.do(mirror.full_sync(may_create=False, sample=None))
    assert report.failed.keys() == {b"", b"closed"}
    assert os.listdir(house.target / "d") == ["a"]
    assert mirror.commands.unreadable == {b"closed"}


# ---- what is found out by trying


def test_directories_show_it_where_the_times_of_all_files_are_whole(house: House) -> None:
    house.write("a")
    os.utime(house.source / "a", ns=(0, 10**18))
    second, later = 10**18 + 123_456_789, 10**18 + 987_654_321
    os.utime(house.source, ns=(second, second))
    mirror = house.mirror()
    assert house.do(mirror.full_sync(may_create=True, sample=None)).again == {b"": SUBTREE}
    assert mirror.commands.traits.nanoseconds
    os.utime(house.source, ns=(later, later))
    assert is_good(house.do(mirror.batch({b"": ENTRY})))
    assert house.target.stat().st_mtime_ns == later


def test_a_batch_asks_by_a_directory_too(house: House) -> None:
    (house.source / "d\n").mkdir()
    mirror = house.mirror()
    report = house.do(mirror.batch({b"d\n": ENTRY}))
    assert mirror.commands.traits.nanoseconds and report.again == {b"": SUBTREE}


@pytest.mark.parametrize("keys", [{"omit_dir_times": True}, {"times": False}])
def test_directories_show_nothing_where_their_times_are_not_sent(
    house: House, keys: dict[str, bool]
) -> None:
    (house.source / "d").mkdir()
    mirror = house.mirror(rsync=replace(PLAIN_RSYNC, keys=tuple(keys.items())))
    house.do(mirror.batch({b"d": ENTRY}))
    assert mirror.commands.traits.nanoseconds is None


def test_a_local_target_keeps_nanoseconds(house: House) -> None:
    house.write("a")
    mirror = house.mirror()
    assert is_good(house.do(mirror.find_traits(house.sample())))
    assert mirror.commands.traits.nanoseconds is True


@pytest.mark.parametrize(
    ("meanwhile", "learnt"),
    [("true", False), ("touch $here/source/a", None), ("rm $here/source/a", None), ("exit 23", None)],
)
def test_a_target_that_loses_them(house: House, meanwhile: str, learnt: bool | None) -> None:
    house.write("a")
    # as if the dry run had found another time
    program = f'case " $* " in *" -i "*) {meanwhile}; echo ">f..t...... a"; exit 0;; esac; exec rsync'
    mirror = house.mirror(**house.program(program))
    house.do(mirror.find_traits(house.sample()))
    assert mirror.commands.traits.nanoseconds is learnt


def test_once_it_is_known_a_change_of_nanoseconds_alone_is_sent(house: House) -> None:
    house.write("a")
    os.utime(house.on_target("a"), ns=(OLD + 1, OLD + 1))
    # by this directory it would be known at once
    os.utime(house.source, ns=(10**18, 10**18))
    mirror = house.mirror()
    house.do(mirror.full_sync(may_create=False, sample=None))
    assert (house.target / "a").read_text() == "old"
    house.write("b")
    report = house.do(mirror.batch({b"b": EXACT_ENTRY}))
    assert report.again == {b"": SUBTREE}
    assert is_good(house.do(mirror.batch(report.again)))
    assert (house.target / "a").read_text() == "new"


def test_a_new_directory_tells_too_whether_nanoseconds_are_kept(house: House) -> None:
    house.write("d/e/a")
    mirror = house.mirror()
    report = house.do(mirror.batch({b"d": Mark(SUBTREE.depth, exact=True)}))
    assert mirror.commands.traits.nanoseconds is True
    assert report.again == {b"": SUBTREE}


@pytest.mark.skipif(shutil.which("rrsync") is None, reason="rrsync is not installed")
def test_a_real_rrsync_is_found_out_and_remembered(house: House) -> None:
    house.write("a")
    house.write("d/b")
    logins = house.base / "logins"
    shell = house.base / "ssh"
    shell.write_text(
        '#!/bin/sh\nwhile [ "$1" != host ]; do shift; done\nshift\n'
        f'echo one >> {logins}\nSSH_ORIGINAL_COMMAND="$*" exec rrsync {house.target}\n'
    )
    shell.chmod(0o755)
    mirror = house.mirror(target=parse_target("host:"), ssh=replace(PLAIN_SSH, binary=str(shell)))
    assert is_good(house.do(mirror.batch({b"a": EXACT_ENTRY})))
    assert (mirror.commands.traits.secluded, mirror.commands.traits.nanoseconds) == (False, False)
    assert (house.target / "a").read_text() == "new"
    assert logins.read_text().count("one") == 2
    assert is_good(house.do(mirror.batch({b"d": SUBTREE})))
    assert (house.target / "d/b").read_text() == "new"
    assert logins.read_text().count("one") == 3
