# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests the keys of `rsync:` with a real rsync in our call shapes: what they do there, and what stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.house import ENTRY, EXACT_ENTRY, EXACT_SUBTREE, LEVEL, OLD, SUBTREE, House, a_house, is_good

from lsyncd_sd.config.reader import read_text
from lsyncd_sd.mirror.outcome import Outcome
from lsyncd_sd.mirror.rsync import RsyncMirror
from lsyncd_sd.plan.batch import Mark

# They leave out what the shapes depend on; so they are errors (config/strangers.py).
UNDO_THE_SHAPES = {"prune_empty_dirs": "-m", "cvs_exclude": "-C"}


@pytest.fixture
def house() -> Iterator[House]:
    with a_house() as one:
        yield one


def mirror_of(house: House, rsync: str, more: str = "") -> RsyncMirror:
    """Return a mirror as a file would configure it, after it knows both ends."""
    text = f"source: {house.source}\ntarget: {house.target}\nrsync: {{{rsync}}}\n{more}"
    (sync,) = read_text(text, "home.yaml")[0].syncs
    mirror = house.mirror_of(sync)
    house.do(mirror.find_traits(house.sample()))
    return mirror


def full_sync(house: House, mirror: RsyncMirror) -> None:
    assert is_good(house.do(mirror.full_sync(may_create=False, sample=house.sample())))


def batch(house: House, mirror: RsyncMirror, marks: dict[bytes, Mark]) -> None:
    report = house.do(mirror.batch(marks))
    assert is_good(report), report


def names(folder: Path) -> set[str]:
    """Return everything below a folder, with a slash behind directories."""
    return {f"{path.relative_to(folder)}{'/' * path.is_dir()}" for path in folder.rglob("*")}


# ---- backups


@pytest.mark.parametrize("place", [".old", "../backups", "{base}/backups", "{target}/.old"])
def test_backups_in_a_folder(house: House, place: str) -> None:
    place = place.format(base=house.base, target=house.target)
    mirror = mirror_of(house, f"backup_dir: {place}")
    for name in ("changed", "gone", "tree/gone", "d2f/x", "f2d"):
        house.write(name, "first")
    full_sync(house, mirror)
    house.write("changed", "second")
    for name in ("gone", "f2d"):
        (house.source / name).unlink()
    for name in ("tree", "d2f"):
        shutil.rmtree(house.source / name)
    house.write("f2d/x", "second")
    house.write("d2f", "second")
    changed = dict.fromkeys([b"changed", b"gone", b"tree", b"d2f"], EXACT_ENTRY)
    batch(house, mirror, changed | {b"f2d": EXACT_SUBTREE})
    # the folder survives levels and full syncs
    batch(house, mirror, {b"": LEVEL})
    full_sync(house, mirror)
    folder = house.target / place
    kept = {path: (folder / path).read_text() for path in names(folder) if not path.endswith("/")}
    assert kept == dict.fromkeys(["changed", "gone", "tree/gone", "d2f/x", "f2d"], "first")
    arrived = {name for name in names(house.target) if not name.startswith(".old/")}
    assert arrived == names(house.source)
    assert (house.target / "changed").read_text() == "second"


def test_backups_beside_the_files(house: House) -> None:
    mirror = mirror_of(house, "backup: true, suffix: .bak")
    for name in ("changed", "gone", "tree/gone", "d2f/x"):
        house.write(name, "first")
    full_sync(house, mirror)
    house.write("changed", "second")
    house.write("mine.bak", "not mirrored")
    (house.source / "gone").unlink()
    shutil.rmtree(house.source / "tree")
    batch(house, mirror, dict.fromkeys([b"changed", b"gone", b"tree", b"mine.bak"], EXACT_ENTRY))
    full_sync(house, mirror)
    backups = {"changed.bak", "gone.bak", "tree/", "tree/gone.bak"}
    assert names(house.target) == {"changed", "d2f/", "d2f/x"} | backups
    # a directory with backups cannot give way: that is told, by name
    shutil.rmtree(house.source / "d2f")
    house.write("d2f", "second")
    house.write("other", "second")
    report = house.do(mirror.batch(dict.fromkeys([b"d2f", b"other"], EXACT_ENTRY)))
    assert report.verdict.outcome is Outcome.PARTIAL
    assert report.verdict.message == "could not make way for new regular file: d2f"
    assert report.failed == {b"d2f": EXACT_ENTRY}
    assert (house.target / "other").exists() and (house.target / "d2f/x.bak").exists()


# ---- files that are being written


def test_temporary_files_in_a_folder_of_the_target(house: House) -> None:
    mirror = mirror_of(house, "temp_dir: .in")
    (house.target / ".in").mkdir()
    house.write("d/a", "first")
    house.write(".in/x", "not mirrored")
    full_sync(house, mirror)
    house.write("d/a", "second")
    batch(house, mirror, {b"d/a": EXACT_ENTRY, b".in/x": EXACT_ENTRY, b"": LEVEL, b"d": LEVEL})
    assert (house.target / "d/a").read_text() == "second"
    assert names(house.target) == {"d/", "d/a", ".in/"}


def test_temporary_files_elsewhere_come_to_their_place_whole(house: House) -> None:
    # another file system, as a rule; through the partial directory rsync renames in any case
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        mirror = mirror_of(house, f"temp_dir: {elsewhere}, partial_dir: .part")
        house.write("d/a", "first")
        full_sync(house, mirror)
        with (house.target / "d/a").open() as reader:
            house.write("d/a", "second")
            batch(house, mirror, {b"d/a": EXACT_ENTRY, b"d": LEVEL})
            assert reader.read() == "first"
        assert (house.target / "d/a").read_text() == "second"
        assert names(house.target) == {"d/", "d/a"}
        assert os.listdir(elsewhere) == []


def test_unfinished_files_stay_until_their_file_or_directory_is_over(house: House) -> None:
    mirror = mirror_of(house, "partial_dir: .part")
    house.write("d/a")
    house.write("e/a")
    house.write("d/.part/mine", "not mirrored")
    full_sync(house, mirror)
    house.on_target("d/.part/a")
    house.on_target("e/.part/a")
    batch(house, mirror, {b"d": LEVEL, b"e": LEVEL})
    assert (house.target / "d/.part/a").exists() and (house.target / "e/.part/a").exists()
    shutil.rmtree(house.source / "e")
    batch(house, mirror, {b"e": EXACT_ENTRY, b"d/a": EXACT_ENTRY})
    assert names(house.target) == {"d/", "d/a"}


# ---- what is sent


def test_only_what_is_there_already(house: House) -> None:
    mirror = mirror_of(house, "existing: true")
    house.write("new")
    house.write("d/new")
    house.write("d/known")
    house.on_target("d/known")
    house.on_target("gone")
    os.utime(house.source / "d/known", ns=(OLD + 5_000_000_000, OLD + 5_000_000_000))
    full_sync(house, mirror)
    assert names(house.target) == {"d/", "d/known"}
    assert (house.target / "d/known").read_text() == "new"
    house.write("d/known", "newer")
    batch(house, mirror, {b"new": EXACT_ENTRY, b"d": EXACT_SUBTREE})
    assert names(house.target) == {"d/", "d/known"}
    assert (house.target / "d/known").read_text() == "newer"


def test_nothing_is_learnt_from_a_file_that_may_not_have_been_sent(house: House) -> None:
    house.write("new")
    for rsync in ("existing: true", "update: true", "dry_run: true"):
        assert mirror_of(house, rsync).commands.traits.nanoseconds is None
    assert mirror_of(house, "ignore_times: true").commands.traits.nanoseconds is True
    # now it is there
    assert mirror_of(house, "existing: true").commands.traits.nanoseconds is True


def test_what_is_newer_on_the_target_is_left_alone(house: House) -> None:
    mirror = mirror_of(house, "update: true")
    house.write("a")
    house.write("b")
    os.utime(house.on_target("a"), ns=(OLD + 10_000_000_000, OLD + 10_000_000_000))
    full_sync(house, mirror)
    batch(house, mirror, {b"a": EXACT_ENTRY, b"b": EXACT_ENTRY})
    assert ((house.target / "a").read_text(), (house.target / "b").read_text()) == ("old", "new")


@pytest.mark.parametrize("key", ["append", "append_verify"])
def test_growing_files(house: House, key: str) -> None:
    mirror = mirror_of(house, f"{key}: true")
    for name in ("grows", "rewritten", "shorter", "same"):
        house.write(name, "1234")
    full_sync(house, mirror)
    contents = {"grows": "12345678", "rewritten": "9876 and ended", "shorter": "9", "same": "9876"}
    for name, content in contents.items():
        house.write(name, content)
    batch(house, mirror, {name.encode(): EXACT_ENTRY for name in contents})
    arrived = {name: (house.target / name).read_text() for name in contents}
    if key == "append":
        # the old beginning, with the new end
        assert arrived.pop("rewritten") == "1234" + contents.pop("rewritten")[4:]
    else:
        assert arrived.pop("rewritten") == contents.pop("rewritten")
    assert arrived == {"grows": "12345678", "shorter": "1234", "same": "1234"}


def test_every_file_in_every_full_sync(house: House) -> None:
    mirror = mirror_of(house, "ignore_times: true")
    house.write("a")
    house.on_target("a")
    full_sync(house, mirror)
    assert (house.target / "a").read_text() == "new"


def test_a_dry_run_changes_nothing(house: House) -> None:
    mirror = mirror_of(house, "dry_run: true")
    house.write("a", "second")
    house.write("d/b")
    house.on_target("a")
    house.on_target("gone")
    report = house.do(mirror.full_sync(may_create=True, sample=house.sample()))
    assert (report.done.files, report.done.deleted) == (2, 1)
    batch(house, mirror, {b"a": EXACT_ENTRY, b"d": EXACT_SUBTREE, b"": LEVEL, b"gone": ENTRY})
    assert names(house.target) == {"a", "gone"}
    assert (house.target / "a").read_text() == "old"


# ---- deleting


def test_what_is_excluded_is_deleted_if_so_wanted(house: House) -> None:
    mirror = mirror_of(house, "delete_excluded: true, backup_dir: .old", "exclude: ['*.o', /.old]\n")
    for name in ("d/a", "d/a.o", "e/only.o"):
        house.write(name)
    for name in ("d/x.o", "d/deep/x.o", "e/only.o"):
        house.on_target(name)
    full_sync(house, mirror)
    assert {name for name in names(house.target) if not name.startswith(".old/")} == {"d/", "d/a", "e/"}
    house.on_target("d/x.o")
    batch(house, mirror, {b"d": LEVEL})
    house.on_target("d/x.o")
    batch(house, mirror, {b"d": EXACT_SUBTREE})
    assert names(house.target / "d") == {"a"}
    assert (house.target / ".old/d/x.o").exists()


def test_what_could_not_be_read_is_kept_all_the_same(house: House) -> None:
    mirror = mirror_of(house, "delete_excluded: true")
    house.write("secret/a")
    house.on_target("secret/a")
    mirror.commands.unreadable.add(b"secret")
    full_sync(house, mirror)
    assert (house.target / "secret/a").read_text() == "old"


# ---- links


@pytest.mark.parametrize("key", ["copy_links", "copy_dirlinks", "copy_unsafe_links"])
def test_links_to_directories_arrive_with_what_they_lead_to(house: House, key: str) -> None:
    mirror = mirror_of(house, f"{key}: true")
    outside = house.base / "outside"
    house.write("deep/f", "outside", outside)
    house.write("before")
    full_sync(house, mirror)
    (house.source / "link").symlink_to("../outside")
    batch(house, mirror, {b"link": EXACT_ENTRY})
    full = names(house.target)
    assert full == {"before", "link/", "link/deep/", "link/deep/f"}
    assert is_good(house.do(mirror.full_sync(may_create=False, sample=None)))
    assert names(house.target) == full
    (house.source / "link").unlink()
    batch(house, mirror, {b"link": EXACT_ENTRY})
    assert names(house.target) == {"before"}
    assert (outside / "deep/f").exists()


def test_a_link_that_goes_may_be_a_tree_on_the_target(house: House) -> None:
    (house.source / "d").mkdir()
    marks = {b"d/gone": EXACT_ENTRY}
    assert not mirror_of(house, "links: true").needs_counting(marks, 1)
    assert mirror_of(house, "copy_links: true").needs_counting(marks, 1)
    assert not mirror_of(house, "copy_links: true", "delete: false\n").needs_counting(marks, 1)


def test_a_link_that_leads_nowhere_holds_back_nothing_else(house: House) -> None:
    mirror = mirror_of(house, "copy_links: true")
    (house.source / "d").mkdir()
    (house.source / "d/dangling").symlink_to("nowhere")
    house.write("d/good")
    house.on_target("d/gone")
    house.on_target("gone")
    report = house.do(mirror.full_sync(may_create=False, sample=None))
    assert report.verdict.outcome is Outcome.PARTIAL
    assert report.verdict.message.startswith("symlink has no referent: ")
    assert report.failed == {b"": SUBTREE, b"d/dangling": EXACT_SUBTREE}
    # then it is left out
    batch(house, mirror, report.failed)
    assert names(house.target) == {"d/", "d/good"}
    full_sync(house, mirror)
    house.on_target("d/gone")
    batch(house, mirror, {b"d/gone": EXACT_ENTRY})
    assert names(house.target) == {"d/", "d/good"}


def test_a_level_with_a_link_that_leads_nowhere_deletes_when_it_is_tried_again(house: House) -> None:
    mirror = mirror_of(house, "copy_links: true")
    (house.source / "d").mkdir()
    (house.source / "d/dangling").symlink_to("nowhere")
    house.on_target("d/gone")
    report = house.do(mirror.batch({b"d/gone": EXACT_ENTRY}))
    assert report.failed == {b"d": LEVEL}
    batch(house, mirror, report.failed | {b"d/dangling": EXACT_ENTRY})
    assert names(house.target) == {"d/"}
    house.on_target("d/gone")
    batch(house, mirror, {b"d/gone": EXACT_ENTRY})
    assert names(house.target) == {"d/"}
    # once it leads somewhere, it is one file among others
    house.write("d/nowhere")
    full_sync(house, mirror)
    assert (house.target / "d/dangling").read_text() == "new"
    assert mirror.commands.unreadable == set()


# ---- file systems


def test_what_is_mounted_in_the_source_is_left_out(house: House) -> None:
    mount = house.source / "d/mount"
    mount.mkdir(parents=True)
    house.write("d/file")
    if subprocess.run(["mount", "-t", "tmpfs", "none", mount], check=False).returncode != 0:
        pytest.skip("may not mount here")
    try:
        house.write("d/mount/sub/file")
        mirror = mirror_of(house, "one_file_system: true")
        full_sync(house, mirror)
        expected = {"d/", "d/file", "d/mount/"}
        assert names(house.target) == expected
        # whatever is marked there: rsync, told of it, would begin in that file system
        for path in (b"d/mount", b"d/mount/sub", b"d/mount/sub/file"):
            for mark in (EXACT_ENTRY, EXACT_SUBTREE, SUBTREE, LEVEL):
                batch(house, mirror, {path: mark})
                assert names(house.target) == expected
        mount.chmod(0o751)
        batch(house, mirror, {b"d/mount": ENTRY})
        assert (house.target / "d/mount").stat().st_mode & 0o777 == 0o751
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


# ---- what has no key


def run(house: House, *options: str, stdin: bytes = b"") -> None:
    arguments = ["rsync", "-lptgoD", *options, "--", "./", f"{house.target}/."]
    subprocess.run(arguments, cwd=house.source, input=stdin, check=True, capture_output=True)


def test_leaving_out_empty_directories_would_empty_full_ones(house: House) -> None:
    house.write("d/a")
    house.on_target("d/a")
    level = ("-d", "--existing", "--ignore-existing", "--delete", "--from0", "--files-from=-", "--force")
    run(house, *level, stdin=b"./\0")
    assert names(house.target) == {"d/", "d/a"}
    run(house, UNDO_THE_SHAPES["prune_empty_dirs"], *level, stdin=b"./\0")
    assert names(house.target) == set()


def test_what_cvs_ignores_would_be_sent_by_a_batch_and_deleted_by_a_full_sync(house: House) -> None:
    house.write("d/.cvsignore", "*.foo\n")
    house.write("d/a.foo")
    option = UNDO_THE_SHAPES["cvs_exclude"]
    run(house, option, "-d", "-I", "--from0", "--files-from=-", stdin=b"./d/a.foo\0")
    assert names(house.target) == {"d/", "d/a.foo"}
    (house.target / "d/a.foo").unlink()
    run(house, option, "-r", "--delete")
    assert names(house.target) == {"d/", "d/.cvsignore"}
