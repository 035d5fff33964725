# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/temporary.py: the names of rsync's temporary files, as rsync itself gives them, and back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from helpers.waiting import wait_until

from lsyncd_sd.mirror.temporary import is_cut, names_of, pattern_of, stem, stem_of

SIX = b"[A-Za-z0-9]" * 6

CYRILLIC = "ж".encode()

# The name of a file, and how those of its temporary files begin.
STEMS = [
    (b"a", b".a"),
    (b"a b\n\xff", b".a b\n\xff"),
    (b".dot", b".dot"),
    (b"..two", b"..two"),
    (b"end.", b".end"),
    (b"end..", b".end."),
    (b".both.", b".both"),
    (b"...", b".."),
    (b"n" * 246, b"." + b"n" * 246),
    (b"n" * 247, b"." + b"n" * 246),
    (b"." + b"n" * 254, b"." + b"n" * 246),
    (b"n" * 245 + b".long", b"." + b"n" * 245),
    (CYRILLIC * 123, b"." + CYRILLIC * 123),
    (CYRILLIC * 124, b""),
    (b"abc." + CYRILLIC * 124, b".abc"),
    (b"n" * 240 + CYRILLIC * 7, b"." + b"n" * 240),
    (CYRILLIC * 120 + b"n" * 10, b"." + CYRILLIC * 120 + b"n" * 6),
]


@pytest.mark.parametrize(("name", "begin"), STEMS)
def test_a_name_has_the_stem_that_rsync_makes_of_it(name: bytes, begin: bytes) -> None:
    assert stem(name) == begin
    assert is_cut(name) is (name not in names_of(begin))


@pytest.mark.parametrize(("name", "begin"), STEMS)
def test_rsync_itself_names_its_file_so(tmp_path: Path, name: bytes, begin: bytes) -> None:
    source, target = os.fsencode(tmp_path / "source"), os.fsencode(tmp_path / "target")
    os.mkdir(source)
    os.mkdir(target)
    with open(source + b"/" + name, "wb") as file:
        file.write(os.urandom(200_000))
    process = subprocess.Popen(
        ["rsync", "--bwlimit=10", "-r", source + b"/", target], start_new_session=True
    )
    try:
        wait_until(lambda: os.listdir(target), "rsync writes")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (temporary,) = os.listdir(target)
    assert stem_of(temporary) == begin
    assert re.fullmatch(re.escape(begin) + rb"\." + SIX, temporary)


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        (b".a.aZ09bc", b".a"),
        (b".aZ09bc", b""),
        (b"...aZ09bc", b".."),
        (b".a.aZ09b", None),
        (b".a.aZ09bcd", None),
        (b".a.aZ09-c", None),
        (b".a.aZ09bc\n", None),
        (b"a.aZ09bc", None),
        (b".aZ09b", None),
    ],
)
def test_what_may_be_the_name_of_a_temporary_file(name: bytes, begin: bytes | None) -> None:
    assert stem_of(name) == begin


def test_a_stem_may_be_that_of_several_names() -> None:
    assert names_of(b".a") == {b"a", b".a", b"a.", b".a."}
    assert names_of(b"..") == {b"..."}
    assert names_of(b"") == set()


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        (b"a", b"/.a."),
        (b"d/e/a", b"/d/e/.a."),
        (b"d*/[x]/a?b\\c", b"/d\\*/\\[x]/.a\\?b\\\\c."),
        (b"\xff\n", b"/.\xff\n."),
        (b".d/.dot.", b"/.d/.dot."),
        (b"d/" + b"*" * 255, b"/d/." + b"\\*" * 246 + b"."),
        (b"d/" + CYRILLIC * 127, b"/d/."),
    ],
)
def test_the_pattern_matches_only_the_temporary_files_of_a_name(path: bytes, pattern: bytes) -> None:
    assert pattern_of(path) == pattern + SIX
