# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/state.py: what was saved comes back, anything else counts as nothing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.syncs import local_target, make_sync

from lsyncd_sd.config.model import Sync
from lsyncd_sd.plan.guard import Identity, Memory, MountPoint
from lsyncd_sd.service.state import FORMAT, Record, Store, take_over
from lsyncd_sd.service.statefiles import StateFiles

# An f_fsid takes all of its 64 bits.
FULL = Record(
    memory=Memory(
        Identity(2**64 - 1, 12),
        source_had_entries=True,
        mounts=frozenset({MountPoint(b"\xff\n", b"/d", "ext4", 2**64 - 1), MountPoint(b"m", b"/", "x", 0)}),
        target=Identity(3, 2**64 - 1),
    ),
    is_ours=True,
    was_mirrored=True,
    is_stopped=True,
    is_unclean=True,
    entries=1234,
    peak=2345,
    nanoseconds=False,
    secluded=False,
)
OTHER = replace(FULL, nanoseconds=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state", make_sync())


def edit(store: Store, **changes: Any) -> None:
    """Replace values in the file as it lies on disk."""
    document = json.loads(store.path.read_bytes())
    assert changes.keys() <= document.keys()
    store.path.write_text(json.dumps(document | changes))


@pytest.mark.parametrize(
    "record",
    [Record(), FULL, OTHER, replace(FULL, nanoseconds=None), Record(memory=Memory(source=Identity(1, 2)))],
)
def test_what_is_saved_is_loaded(store: Store, tmp_path: Path, record: Record) -> None:
    store.save(record)
    assert Store(tmp_path / "state", make_sync()).load() == record


def test_nothing_is_remembered_of_a_new_sync(store: Store) -> None:
    assert store.load() == Record()
    assert not store.path.parent.exists()


def test_the_place_is_named_after_file_and_sync(tmp_path: Path) -> None:
    places = {
        Store(tmp_path, make_sync(file_stem=stem, name=name)).path
        for stem, name in [("all", "home"), ("all", "home.new"), ("home", "home"), ("home", "mail")]
    }
    names = ("all/home.json", "all/home.new.json", "home/home.json", "home/mail.json")
    assert places == {tmp_path / name for name in names}


def test_names_that_look_like_its_temporary_file_do_not_meet(tmp_path: Path) -> None:
    first = Store(tmp_path, make_sync(name="home"))
    second = Store(tmp_path, make_sync(name="home.new"))
    second.save(OTHER)
    first.save(FULL)
    assert (first.load(), second.load()) == (FULL, OTHER)


def test_every_torn_file_counts_as_none(store: Store) -> None:
    store.save(FULL)
    whole = store.path.read_bytes()
    for length in range(len(whole)):
        store.path.write_bytes(whole[:length])
        assert store.load() == Record(), whole[:length]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"text"',
        b"17",
        b"{}",
        b"[" * 100_000,
        b'{"format": 1}',
        b'{"format": 1, "about": null}',
    ],
)
def test_a_foreign_file_counts_as_none(store: Store, content: bytes) -> None:
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(content)
    assert store.load() == Record()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", FORMAT + 1),
        ("format", str(FORMAT)),
        ("source_identity", [1]),
        ("source_identity", [1, 2, 3]),
        ("source_identity", ["1", 2]),
        ("source_identity", [True, 2]),
        ("source_identity", [1.5, 2]),
        ("target_identity", 7),
        ("target_identity", {"a": 1, "b": 2}),
        ("mounts", 7),
        ("mounts", [7]),
        ("mounts", [["a", "b", "c"]]),
        ("mounts", [[1, "b", "c", 4]]),
        ("mounts", [["a", "b", "c", -4]]),
        ("mounts", [["\u20ac", "b", "c", 4]]),
        ("source_had_entries", 1),
        ("source_had_entries", None),
        ("is_ours", 1),
        ("was_mirrored", "true"),
        ("is_stopped", None),
        ("peak", "1"),
        ("entries", -1),
        ("entries", 1.0),
        ("entries", True),
        ("nanoseconds", 0),
        ("secluded", None),
    ],
)
def test_a_wrong_value_makes_nothing_of_it_count(store: Store, key: str, value: object) -> None:
    store.save(FULL)
    edit(store, **{key: value})
    assert store.load() == Record()


def test_a_missing_value_makes_nothing_of_it_count(store: Store) -> None:
    store.save(FULL)
    whole = json.loads(store.path.read_bytes())
    for key in whole:
        store.path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        assert store.load() == Record(), key


@pytest.mark.parametrize("changes", [{"source": "/other"}, {"target": local_target("/other")}])
def test_another_source_or_target_has_nothing_to_do_with_it(
    store: Store, tmp_path: Path, changes: dict[str, Any]
) -> None:
    store.save(FULL)
    assert Store(tmp_path / "state", make_sync(**changes)).load() == Record()
    assert Store(tmp_path / "state", make_sync(delay=1.0)).load() == FULL


def test_names_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    sync = make_sync(source="/\udcff/ä", target=local_target("/\udcfe"))
    Store(tmp_path, sync).save(FULL)
    assert Store(tmp_path, sync).load() == FULL
    assert Store(tmp_path, replace(sync, source="/\udcfe/ä")).load() == Record()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_while_saving_leaves_the_old_record(
    store: Store, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(FULL)

    def crash(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, step, crash)
        store.save(OTHER)
    assert store.load() == FULL
    # What the crash left is in nobody's way.
    store.save(OTHER)
    assert store.load() == OTHER
    assert os.listdir(store.path.parent) == [store.path.name]


def test_the_content_is_on_disk_before_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.replace

    def kind(descriptor: int) -> str:
        return "directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"

    monkeypatch.setattr(os, "fsync", lambda target: (calls.append(f"fsync {kind(target)}"), fsync(target)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("rename"), rename(*paths)))
    store.save(FULL)
    assert calls == ["fsync file", "rename", "fsync directory"]


def test_a_directory_in_its_place_is_nothing_to_load_and_an_error_to_save(store: Store) -> None:
    store.path.mkdir(parents=True)
    assert store.load() == Record()
    with pytest.raises(IsADirectoryError):
        store.save(FULL)


def test_a_folder_that_cannot_be_made_is_an_error_to_save(store: Store) -> None:
    store.path.parent.parent.touch()
    with pytest.raises(OSError, match=r"exists|directory"):
        store.save(FULL)
    assert store.load() == Record()


# one of several targets

ONE, TWO = (make_sync(target=local_target(path)) for path in ("/one", "/two"))


def among_others(sync: Sync) -> Sync:
    return replace(sync, is_one_of_several=True)


def remember(directory: Path, sync: Sync, content: str) -> None:
    """Leave what a run of this sync leaves."""
    Store(directory, sync).save(FULL)
    checkpoints = StateFiles.of(directory, sync).checkpoints
    checkpoints.mkdir()
    (checkpoints / "snapshot").write_text(content)


def snapshot(directory: Path, sync: Sync) -> str:
    """Return what a run of this sync finds, empty if that is nothing."""
    path = StateFiles.of(directory, sync).checkpoints / "snapshot"
    return path.read_text() if path.exists() else ""


def test_a_single_target_has_the_names_that_it_always_had(tmp_path: Path) -> None:
    assert StateFiles.of(tmp_path, ONE) == (tmp_path / "home/home.json", tmp_path / "home/home.rescan")


def test_several_targets_have_names_of_their_own(tmp_path: Path) -> None:
    files = [StateFiles.of(tmp_path, sync) for sync in (ONE, among_others(ONE), among_others(TWO))]
    assert len({path for pair in files for path in pair}) == 6
    assert {path.parent for pair in files for path in pair} == {tmp_path / "home"}


@pytest.mark.parametrize(("before", "after"), [(ONE, among_others(ONE)), (among_others(ONE), ONE)])
def test_a_target_that_gets_company_or_loses_it_is_known_still(
    tmp_path: Path, before: Sync, after: Sync
) -> None:
    remember(tmp_path, before, "one")
    take_over(tmp_path, after)
    assert Store(tmp_path, after).load() == FULL
    assert snapshot(tmp_path, after) == "one"
    assert snapshot(tmp_path, before) == ""
    assert not Store(tmp_path, before).path.exists()
    take_over(tmp_path, after)
    assert snapshot(tmp_path, after) == "one"


def test_what_is_known_of_another_target_is_not_taken_over(tmp_path: Path) -> None:
    remember(tmp_path, ONE, "one")
    take_over(tmp_path, among_others(TWO))
    assert Store(tmp_path, among_others(TWO)).load() == Record()
    assert Store(tmp_path, ONE).load() == FULL
    assert (snapshot(tmp_path, among_others(TWO)), snapshot(tmp_path, ONE)) == ("", "one")


def test_what_is_known_of_another_target_makes_room(tmp_path: Path) -> None:
    remember(tmp_path, ONE, "one")
    remember(tmp_path, among_others(TWO), "two")
    take_over(tmp_path, TWO)
    assert Store(tmp_path, TWO).load() == FULL
    assert snapshot(tmp_path, TWO) == "two"


def test_what_is_older_does_not_replace_what_is_there(tmp_path: Path) -> None:
    remember(tmp_path, ONE, "old")
    remember(tmp_path, among_others(ONE), "new")
    take_over(tmp_path, among_others(ONE))
    assert snapshot(tmp_path, among_others(ONE)) == "new"


def test_where_nothing_is_known_nothing_is_taken_over(tmp_path: Path) -> None:
    take_over(tmp_path, ONE)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_without_a_record_are_not_trusted(tmp_path: Path) -> None:
    Store(tmp_path, ONE).save(FULL)
    remember(tmp_path, among_others(ONE), "foreign")
    Store(tmp_path, among_others(ONE)).path.unlink()
    take_over(tmp_path, among_others(ONE))
    assert Store(tmp_path, among_others(ONE)).load() == FULL
    assert snapshot(tmp_path, among_others(ONE)) == ""
