# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests which listed paths are found in rsync's messages: the lines are those of a real rsync 3.5.0."""

from __future__ import annotations

from collections.abc import Set

import pytest

from lsyncd_sd.mirror.attribution import Attribution, attribute

PREFIXES = (b"/source", b"/target")

CLOSING = (
    b"rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394)"
)


def attribution(
    *lines: bytes, entries: Set[bytes] = frozenset(), subtrees: Set[bytes] = frozenset()
) -> Attribution:
    return attribute(b"\n".join([*lines, CLOSING, b""]), entries, subtrees, PREFIXES)


LISTED = {
    b"a",
    b"d",
    b"d/a",
    b"d/.dot",
    b'say "hi"',
    b"two\nlines",
    b"two\nmore\n",
    b"\xff\xfe",
    b"back\\slash",
    b"\\#012",
    "ümläut".encode(),
    b".a.bcdefg",
    b"with -> arrow",
    b'with " -> " arrow',
}

MESSAGES: dict[str, tuple[bytes, set[bytes]]] = {
    "sender": (b'rsync: [sender] send_files failed to open "/source/d/a": Permission denied (13)', {b"d/a"}),
    "sender's directory": (b'rsync: [sender] opendir "/source/d" failed: Permission denied (13)', {b"d"}),
    "sender's link": (b'rsync: [sender] readlink_stat("/source/a") failed: Permission denied (13)', {b"a"}),
    "target": (
        b'rsync: [generator] failed to set permissions on "/target/d": Operation not permitted (1)',
        {b"d"},
    ),
    "target's mkdir": (
        b'rsync: [generator] recv_generator: mkdir "/target/d" failed: Permission denied (13)',
        {b"d"},
    ),
    "temporary name": (
        b'rsync: [receiver] mkstemp "/target/d/.a.BR83iC" failed: Permission denied (13)',
        {b"d/a"},
    ),
    "temporary name of a dot file": (
        b'rsync: [receiver] mkstemp "/target/d/.dot.eXZ0jq" failed: Permission denied (13)',
        {b"d/.dot"},
    ),
    "temporary name in the root": (
        b'rsync: [receiver] mkstemp "/target/.a.3mqvk4" failed: Permission denied (13)',
        {b"a"},
    ),
    "temporary name of odd bytes": (
        rb'rsync: [receiver] mkstemp "/target/.two\#012lines.SdUb5T" failed: Permission denied (13)',
        {b"two\nlines"},
    ),
    "what only looks like one": (
        b'rsync: [receiver] mkstemp "/target/.a.bcdefg" failed: Permission denied (13)',
        {b".a.bcdefg", b"a"},
    ),
    "a sender has no temporary names": (
        b'rsync: [sender] send_files failed to open "/source/.a.bcdefg": Permission denied (13)',
        {b".a.bcdefg"},
    ),
    "rename": (
        b'rsync: [receiver] rename "/target/d/.a.jsEVtW" -> "d/a": Operation not permitted (1)',
        {b"d/a"},
    ),
    "rename of a symlink": (
        b'rsync: [generator] rename "/target/d/.a.11670" -> ""/target/d/a"" failed: Not permitted (1)',
        {b"d/a"},
    ),
    "symlink": (
        b'rsync: [generator] symlink "/target/a" -> "x" failed: Operation not permitted (1)',
        {b"a"},
    ),
    "a followed link without a referent": (b'symlink has no referent: "/source/d/a"', {b"d/a"}),
    "what could not give way": (b"could not make way for new regular file: d/a", {b"d/a"}),
    "what could not give way to a directory": (b"could not make way for new directory: d", {b"d"}),
    "what could not give way to a backup": (b"could not make way for backup regular file: d/a", {b"d/a"}),
    "what could not give way, of odd bytes": (
        rb"could not make way for new device file: two\#012lines",
        {b"two\nlines"},
    ),
    "what could not be deleted": (
        b"rsync: [generator] delete_file: unlink(d/a) failed: Operation not permitted (1)",
        {b"d/a"},
    ),
    "a directory that could not be deleted": (
        b"rsync: [generator] delete_file: rmdir(d) failed: Device or resource busy (16)",
        {b"d"},
    ),
    "an entry whose path is too long": (b"filename overflows max-path len by 125: d/a/bb", {b"d/a"}),
    "vanished": (b'file has vanished: "/source/d/a"', {b"d/a"}),
    "relative": (
        b'rsync: [generator] recv_generator: failed to stat "d/a": Permission denied (13)',
        {b"d/a"},
    ),
    "relative with a dot": (b'rsync: [sender] link_stat "./d/a" failed: Permission denied (13)', {b"d/a"}),
    "quotes in the name": (
        b'rsync: [sender] send_files failed to open "/source/say "hi"": Permission denied (13)',
        {b'say "hi"'},
    ),
    "newline": (
        rb'rsync: [sender] send_files failed to open "/source/two\#012lines": Permission denied (13)',
        {b"two\nlines"},
    ),
    "newline at the end": (rb'file has vanished: "/source/two\#012more\#012"', {b"two\nmore\n"}),
    "not UTF-8": (rb'file has vanished: "/source/\#377\#376"', {b"\xff\xfe"}),
    "UTF-8": ('file has vanished: "/source/ümläut"'.encode(), {"ümläut".encode()}),
    "backslash": (rb'file has vanished: "/source/back\slash"', {b"back\\slash"}),
    "what only looks escaped": (rb'file has vanished: "/source/\#134#012"', {b"\\#012"}),
    "arrow": (b'file has vanished: "/source/with -> arrow"', {b"with -> arrow"}),
    "arrow with quotes": (b'file has vanished: "/source/with " -> " arrow"', {b'with " -> " arrow'}),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_finds_the_listed_path(name: str) -> None:
    line, paths = MESSAGES[name]
    found = attribution(line, entries=LISTED)
    assert found.paths == paths
    assert found.complete


def test_a_run_without_messages_is_understood() -> None:
    assert attribute(b"", {b"a"}, set(), PREFIXES) == Attribution(frozenset(), frozenset(), True)


def test_summaries_name_nothing_and_hide_nothing() -> None:
    found = attribution(
        b"IO error encountered -- skipping file deletion",
        b"",
        b"   ",
        b"rsync warning: some files vanished before they could be transferred (code 24) at main.c(1394)",
        b'file has vanished: "/source/a"',
        entries={b"a"},
    )
    assert found == Attribution(frozenset({b"a"}), frozenset(), True)


@pytest.mark.parametrize(
    "line",
    [
        b'rsync: [sender] send_files failed to open "/source/other": Permission denied (13)',
        b'rsync: [sender] send_files failed to open "/elsewhere/a": Permission denied (13)',
        b'rsync: [sender] send_files failed to open "/sources/a": Permission denied (13)',
        b'rsync: [sender] send_files failed to open "/source/d/a/x": Permission denied (13)',
        b"rsync: [generator] delete_file: unlink(d/gone) failed: Permission denied (13)",
        b"*** Skipping any contents from this failed directory ***",
        b"Welcome to backup.example.org",
        b'rsync: [sender] get_xattr_data: lgetxattr("","user.x",0) failed: Permission denied (13)',
        b'"',
        b'""',
    ],
)
def test_what_cannot_be_attributed_is_told(line: bytes) -> None:
    known = b'file has vanished: "/source/a"'
    found = attribution(line, known, entries={b"a", b"d", b""})
    assert not found.complete
    assert found.paths == {b"a"}
    assert attribution(known, line, entries={b"a", b"d", b""}) == found


def test_only_what_could_not_be_read_is_unsent() -> None:
    found = attribution(
        b'rsync: [sender] send_files failed to open "/source/a": Permission denied (13)',
        b'rsync: [receiver] mkstemp "/target/.b.BR83iC" failed: Permission denied (13)',
        b'rsync: [generator] failed to set times on "/target/c": Operation not permitted (1)',
        b'rsync: [sender] opendir "/source/d" failed: Permission denied (13)',
        entries={b"a", b"b", b"c", b"d"},
    )
    assert found == Attribution(frozenset({b"a", b"b", b"c", b"d"}), frozenset({b"a", b"d"}), True)


def test_finds_what_lies_below_a_subtree() -> None:
    found = attribution(
        b'rsync: [sender] opendir "/source/d/e" failed: Permission denied (13)',
        b'rsync: [generator] failed to set times on "/target/d": Operation not permitted (1)',
        subtrees={b"d"},
    )
    assert found == Attribution(frozenset({b"d", b"d/e"}), frozenset({b"d/e"}), True)
    assert not attribution(b'rsync: [sender] opendir "/source/de" failed: x', subtrees={b"d"}).complete


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b'rsync: [receiver] mkstemp "/target/d/.a.5WASGg" failed: Permission denied (13)', b"d/a"),
        (b'rsync: [receiver] mkstemp "/target/d/.dot.5WASGg" failed: Permission denied (13)', b"d/.dot"),
        (b'rsync: [receiver] rename "/target/d/.a.jsEVtW" -> "d/a": Operation not permitted (1)', b"d/a"),
    ],
)
def test_below_a_subtree_the_file_itself_is_among_what_is_named(line: bytes, path: bytes) -> None:
    """There every name is a listed one: the temporary one, which nobody will ever send, must not be all."""
    assert path in attribution(line, subtrees={b"d"}).paths
    assert path in attribution(line, subtrees={b""}).paths


@pytest.mark.parametrize(
    "line",
    [
        b'rsync: [sender] opendir "/source/." failed: Permission denied (13)',
        b'rsync: [generator] failed to set permissions on "/target/.": Operation not permitted (1)',
        b'rsync: [generator] failed to set times on ".": Operation not permitted (1)',
    ],
)
def test_the_root_has_the_empty_path(line: bytes) -> None:
    assert attribution(line, subtrees={b""}).paths == {b""}
    assert attribution(line, entries={b"a", b""}).paths == {b""}
    assert not attribution(line, subtrees={b"d"}).complete


def test_a_target_that_is_the_root_of_its_host() -> None:
    line = b'rsync: [receiver] mkstemp "/d/.a.BR83iC" failed: Permission denied (13)'
    assert attribute(line, {b"d/a"}, set(), (b"/source", b"")).paths == {b"d/a"}


def test_a_directory_with_a_path_that_is_too_long_was_not_read_whole() -> None:
    named = attribution(b"filename overflows max-path len by 1: d/a/bb", subtrees={b""})
    assert named == Attribution(frozenset({b"d/a"}), frozenset({b"d/a"}), complete=True)


def test_a_link_without_a_referent_was_not_sent() -> None:
    named = attribution(b'symlink has no referent: "/source/d/a"', subtrees={b"d"})
    assert named == Attribution(frozenset({b"d/a"}), frozenset({b"d/a"}), complete=True)
