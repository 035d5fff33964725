# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests the index of hard links on a real tree, and that it never grows without bound."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from lsyncd_sd.watch import links
from lsyncd_sd.watch.links import Inode, Linked, LinkIndex

FILE = Inode(1, 10)
OTHER = Inode(1, 11)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """An open directory: `a/x`, `b/y` and `b/deep/z` are one file; `single` has one name."""
    for folder in ("a", "b/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a/x").write_text("content")
    (tmp_path / "single").write_text("content")
    os.link(tmp_path / "a/x", tmp_path / "b/y")
    os.link(tmp_path / "a/x", tmp_path / "b/deep/z")
    os.symlink("deep", tmp_path / "b/link")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def nothing(_path: bytes, _is_directory: bool) -> bool:
    return False


def paths(found: Iterable[Linked]) -> set[bytes]:
    return {linked.path for linked in found}


def test_only_files_with_several_names_are_found(root: int) -> None:
    found = list(links.at(root, [b"a/x", b"single", b"a", b"gone", b"b/link"]))
    assert paths(found) == {b"a/x"}
    assert found[0].names == 3


def test_everything_below_is_looked_through_but_for_links(root: int) -> None:
    assert paths(links.below(root, [b""], nothing)) == {b"a/x", b"b/y", b"b/deep/z"}
    assert paths(links.below(root, [b"b"], nothing)) == {b"b/y", b"b/deep/z"}
    assert paths(links.below(root, [b"b/link", b"gone", b"single"], nothing)) == set()


def test_what_is_excluded_is_not_looked_at(root: int) -> None:
    found = links.below(root, [b""], lambda path, is_directory: path == b"b/deep" and is_directory)
    assert paths(found) == {b"a/x", b"b/y"}


@pytest.mark.parametrize("path", [b"a", b"with space", b"new\nline", b"\xff 1 2 3"])
def test_records(path: bytes) -> None:
    linked = [Linked(path, FILE, 2), Linked(b"other", OTHER, 7)]
    assert list(Linked.decode_all(b"".join(one.encode() for one in linked))) == linked


def test_the_index_lacks_what_nobody_has_looked_for() -> None:
    index = LinkIndex()
    both = [Linked(b"a", FILE, 2), Linked(b"b", FILE, 2)]
    assert index.lacks(both[:1])
    assert not index.lacks(both)
    index.fill(both, 0)
    assert not index.lacks(both[:1])


def test_a_file_that_had_one_name_may_be_anywhere() -> None:
    """It was not in the index, and its first name is no change of the source."""
    index = LinkIndex()
    index.fill([Linked(b"a", FILE, 2), Linked(b"b", FILE, 2)], 0)
    assert index.lacks([Linked(b"new", OTHER, 2)])
    assert index.lacks([Linked(b"c", FILE, 4)])
    assert not index.lacks([Linked(b"c", FILE, 3)])


def test_names_elsewhere_are_not_looked_for_each_time() -> None:
    index = LinkIndex()
    index.fill([Linked(b"a", FILE, 3)], 0)
    assert not index.lacks([Linked(b"a", FILE, 3)])
    assert index.lacks([Linked(b"a", FILE, 4)])
    index.remove(FILE, b"a")
    assert index.lacks([Linked(b"another file", FILE, 3)]), "it may have the number of one that is gone"


def test_names_come_and_go() -> None:
    index = LinkIndex()
    index.fill([Linked(b"a", FILE, 2), Linked(b"b", FILE, 2)], 0)
    index.add([Linked(b"c", FILE, 3), Linked(b"c", FILE, 3)])
    assert index.others(FILE) == {b"a", b"b", b"c"}
    index.remove(FILE, b"b")
    index.remove(FILE, b"never there")
    assert index.others(FILE) == {b"a", b"c"}
    assert index.others(OTHER) == set()


def test_after_a_gap_it_is_filled_anew() -> None:
    index = LinkIndex()
    index.fill([Linked(b"a", FILE, 2), Linked(b"b", FILE, 2)], 0)
    index.forget()
    assert index.lacks([Linked(b"a", FILE, 2)])
    assert index.others(FILE) == set()


def test_what_is_added_while_somebody_looks_for_all_names_stays() -> None:
    """By the number of its names one of the file must be elsewhere: it is the new one."""
    index = LinkIndex()
    since = index.times_forgotten
    index.add([Linked(b"new", FILE, 3)])
    index.fill([Linked(b"a", FILE, 3), Linked(b"b", FILE, 3)], since)
    assert index.others(FILE) == {b"a", b"b", b"new"}
    assert not index.lacks([Linked(b"a", FILE, 3)])
    assert index.lacks([Linked(b"a", FILE, 4)])


def test_what_was_forgotten_meanwhile_is_not_taken_for_elsewhere() -> None:
    index = LinkIndex()
    since = index.times_forgotten
    index.add([Linked(b"new", FILE, 3)])
    index.forget()
    index.fill([Linked(b"a", FILE, 3), Linked(b"b", FILE, 3)], since)
    assert index.lacks([Linked(b"a", FILE, 3)])


def test_too_many_names_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "NAMES_LIMIT", 3)
    index = LinkIndex()
    index.fill((Linked(b"%d" % number, FILE, 9) for number in range(3)), 0)
    assert len(index.others(FILE)) == 3
    index.add([Linked(b"one more", FILE, 9)])
    assert index.others(FILE) == set()
    assert index.lacks([Linked(b"1", FILE, 9)])
    for number in range(3):
        index.remove(FILE, b"%d" % number)
    index.add([Linked(b"1", FILE, 9)])
    assert index.others(FILE) == {b"1"}
