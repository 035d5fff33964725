# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests watch/source.py on real directories: what stands where, and which file is a sample."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsyncd_sd.plan.batch import Kind, Sample
from lsyncd_sd.watch import source as source_module
from lsyncd_sd.watch.source import Source, identity_of

BROKEN_SECONDS = 1_600_000_000_123_456_789
WHOLE_SECONDS = 1_600_000_000_000_000_000


def excludes_nothing(_path: bytes, _is_directory: bool) -> bool:
    return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def source(folder: Path) -> Iterator[Source]:
    with Source(os.fsencode(folder)) as source:
        yield source


def write(path: Path, time: int = BROKEN_SECONDS, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(time, time))


# ---- the root


@pytest.mark.parametrize(("name", "number"), [("gone", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_a_root_that_is_no_directory_is_an_error(folder: Path, name: str, number: int) -> None:
    write(folder / "file")
    with pytest.raises(OSError) as raised:
        Source(os.fsencode(folder / name))
    assert raised.value.errno == number


def test_nothing_stays_open(folder: Path) -> None:
    with Source(os.fsencode(folder)) as source:
        descriptor = source.descriptor
        os.fstat(descriptor)
    with pytest.raises(OSError):
        os.fstat(descriptor)
    source.close()


def test_identity_is_the_inode_and_the_file_system(folder: Path, source: Source) -> None:
    assert source.identity() == (os.statvfs(folder).f_fsid, folder.stat().st_ino)
    assert source.identity() == identity_of(os.fsencode(folder))
    (folder / "other").mkdir()
    assert identity_of(os.fsencode(folder / "other")) != source.identity()


def test_a_symlink_is_what_it_leads_to(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    with Source(os.fsencode(folder / "link")) as source:
        assert source.identity() == identity_of(os.fsencode(folder / "real"))


def nothing(_path: bytes, _is_directory: bool) -> bool:
    return False


def test_emptiness(folder: Path, source: Source) -> None:
    assert source.is_empty(nothing)
    (folder / ".hidden").touch()
    assert not source.is_empty(nothing)
    assert source.is_empty(lambda path, _is_directory: path == b".hidden")


def test_a_new_file_system_is_empty(folder: Path, source: Source) -> None:
    (folder / "lost+found").mkdir()
    assert source.is_empty(nothing)


def test_a_file_of_that_name_is_a_file(folder: Path, source: Source) -> None:
    (folder / "lost+found").touch()
    assert not source.is_empty(nothing)


def test_a_replaced_root_is_still_the_one_that_was_opened(folder: Path) -> None:
    (folder / "root").mkdir()
    with Source(os.fsencode(folder / "root")) as source:
        (folder / "root").rename(folder / "moved")
        (folder / "root").mkdir()
        (folder / "moved" / "a").touch()
        assert not source.is_empty(nothing)
        assert source.kind(b"a") is Kind.OTHER


# ---- what stands at a path


def test_kinds(folder: Path, source: Source) -> None:
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "d" / "file").touch()
    (folder / "link-to-d").symlink_to("d")
    (folder / "dangling").symlink_to("gone")
    os.mkfifo(folder / "fifo")
    (folder / os.fsdecode(b"\xff\n")).mkdir()
    expected = {
        b"": Kind.DIRECTORY,
        b"d": Kind.DIRECTORY,
        b"d/e": Kind.DIRECTORY,
        b"d/file": Kind.OTHER,
        b"fifo": Kind.OTHER,
        b"link-to-d": Kind.OTHER,
        b"dangling": Kind.OTHER,
        b"\xff\n": Kind.DIRECTORY,
        b"gone": Kind.MISSING,
        b"d/gone": Kind.MISSING,
        b"gone/e": Kind.MISSING,
        # what a symlink or a file leads to is not in the source
        b"link-to-d/e": Kind.MISSING,
        b"link-to-d/file": Kind.MISSING,
        b"d/file/x": Kind.MISSING,
    }
    assert {path: source.kind(path) for path in expected} == expected


def test_one_view_of_the_tree(folder: Path, source: Source) -> None:
    (folder / "a").mkdir()
    assert source.kind(b"a") is Kind.DIRECTORY
    assert source.kind(b"a/b") is Kind.MISSING
    (folder / "a" / "b").mkdir()
    assert source.kind(b"a/b") is Kind.MISSING
    with Source(os.fsencode(folder)) as later:
        assert later.kind(b"a/b") is Kind.DIRECTORY


# ---- samples


def test_a_sample_has_broken_seconds(folder: Path, source: Source) -> None:
    write(folder / "whole", WHOLE_SECONDS)
    write(folder / "d" / "broken")
    sample = source.find_sample(excludes_nothing)
    assert sample is not None and sample.path == b"d/broken"


def test_a_sample_is_searched_for_where_it_is_wanted(folder: Path, source: Source) -> None:
    write(folder / "a")
    write(folder / "d" / "e" / "broken")
    sample = source.find_sample(excludes_nothing, [b"gone", b"a", b"d"])
    assert sample is not None and sample.path == b"d/e/broken"


@pytest.mark.parametrize("what", ["nothing", "whole seconds", "large", "symlink", "unreadable", "excluded"])
def test_what_is_no_sample(folder: Path, source: Source, what: str) -> None:
    match what:
        case "whole seconds":
            write(folder / "a", WHOLE_SECONDS)
        case "large":
            write(folder / "a")
            os.truncate(folder / "a", source_module.SAMPLE_LARGEST_BYTES + 1)
            os.utime(folder / "a", ns=(BROKEN_SECONDS, BROKEN_SECONDS))
        case "symlink":
            (folder / "a").symlink_to("/etc/passwd")
        case "unreadable":
            write(folder / "a")
            (folder / "a").chmod(0)
        case "excluded":
            write(folder / "cache" / "a")
    assert source.find_sample(lambda path, is_directory: path == b"cache" and is_directory) is None
    assert source.sample_among([b"a", b"gone"]) is None


def test_the_search_ends(folder: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (folder / f"d{number}").mkdir()
    write(folder / "d0" / "e" / "a")
    looked_at: list[bytes] = []

    def exclude(path: bytes, _is_directory: bool) -> bool:
        looked_at.append(path)
        return False

    monkeypatch.setattr(source_module, "SAMPLE_SEARCH_ENTRIES", 3)
    assert source.find_sample(exclude) is None
    assert len(looked_at) == 3


def test_a_search_survives_what_cannot_be_opened(
    folder: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "d" / "a")
    (folder / "e").mkdir()
    real_open = os.open

    def fail_for_e(path: bytes, *arguments: int, **options: int) -> int:
        if path == b"e":
            raise PermissionError(errno.EACCES, "no", path)
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", fail_for_e)
    sample = source.find_sample(excludes_nothing)
    assert sample is not None and sample.path == b"d/a"


def test_a_search_leaves_nothing_open(folder: Path, source: Source) -> None:
    for number in range(3):
        (folder / f"d{number}").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    source.find_sample(excludes_nothing)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_first_fitting_one_of_a_list_is_taken(folder: Path, source: Source) -> None:
    write(folder / "whole", WHOLE_SECONDS)
    write(folder / "broken")
    sample = source.sample_among([b"gone", b"whole", b"broken"])
    assert sample is not None and sample.path == b"broken"


@pytest.mark.parametrize("change", ["content", "time", "mode", "replaced", "gone", "none"])
def test_a_sample_that_changed_proves_nothing(folder: Path, source: Source, change: str) -> None:
    write(folder / "a")
    sample = source.sample_among([b"a"])
    assert sample is not None
    match change:
        case "content":
            write(folder / "a", content=b"y")
        case "time":
            os.utime(folder / "a", ns=(1, 1))
        case "mode":
            (folder / "a").chmod(0o600)
        case "replaced":
            write(folder / "b")
            (folder / "b").rename(folder / "a")
        case "gone":
            (folder / "a").unlink()
    assert source.is_unchanged(sample) is (change == "none")


def test_a_sample_is_told_by_its_signature(folder: Path, source: Source) -> None:
    write(folder / "a")
    assert not source.is_unchanged(Sample(b"a", (0, 0, 0, 0)))


def test_links_and_where_they_lead(folder: Path, source: Source) -> None:
    (folder / "file").touch()
    (folder / "good").symlink_to("file")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    answers = {
        name: (source.is_link(name), source.leads_somewhere(name))
        for name in (b"file", b"good", b"dangling", b"loop", b"missing")
    }
    assert answers == {
        b"file": (False, False),
        b"good": (True, True),
        b"dangling": (True, False),
        b"loop": (True, False),
        b"missing": (False, False),
    }


def test_a_path_longer_than_a_system_call_takes(folder: Path, source: Source) -> None:
    names = [b"d" * 250] * 20
    with contextlib.ExitStack() as stack:
        above = source.descriptor
        for name in names:
            os.mkdir(name, dir_fd=above)
            above = os.open(name, os.O_RDONLY, dir_fd=above)
            stack.callback(os.close, above)
        os.close(os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=above))
    path = b"/".join(names)
    assert len(path) > 4095
    assert source.kind(path) is Kind.DIRECTORY
    assert source.kind(path + b"/file") is Kind.OTHER
    assert source.kind(path + b"/gone") is Kind.MISSING
    # pytest's own cleaning takes no such path
    subprocess.run(["rm", "-r", str(folder)], check=True)


@pytest.fixture
def mounted(folder: Path) -> Iterator[Path]:
    """A directory of another file system in the folder, with a file that could be a sample."""
    (folder / "d/mount").mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "none", folder / "d/mount"], check=False)
    if done.returncode != 0:
        pytest.skip("may not mount here")
    write(folder / "d/mount/sub/file")
    yield folder / "d/mount"
    subprocess.run(["umount", "--lazy", folder / "d/mount"], check=True)


def test_what_is_mounted_is_entered_unless_it_must_not(folder: Path, mounted: Path) -> None:
    paths = (b"d", b"d/mount", b"d/mount/sub", b"d/mount/sub/file")
    with Source(os.fsencode(folder)) as source:
        kinds = [source.kind(path) for path in paths]
        assert kinds == [Kind.DIRECTORY, Kind.DIRECTORY, Kind.DIRECTORY, Kind.OTHER]
        assert source.find_sample(excludes_nothing) is not None
    with Source(os.fsencode(folder), one_file_system=True) as source:
        kinds = [source.kind(path) for path in paths]
        assert kinds == [Kind.DIRECTORY, Kind.MOUNT, Kind.MISSING, Kind.MISSING]
        assert source.find_sample(excludes_nothing) is None
