# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of printable.py: nothing that a terminal could interpret comes through, and nothing is confused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.printable import printable, visible


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"plain name", "plain name"),
        ("Grüße/日本".encode(), "Grüße/日本"),
        (b"", ""),
        (b"a\\b", "a\\\\b"),
        (b"line\nbreak\ttab", "line\\x0abreak\\x09tab"),
        (b"\x1b[2J", "\\x1b[2J"),
        (b"latin1 \xe9", "latin1 \\xe9"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("evil\u202etxt.exe".encode(), "evil\\xe2\\x80\\xaetxt.exe"),  # right-to-left override
        ("zero\u200bwidth".encode(), "zero\\xe2\\x80\\x8bwidth"),
        ("c1\u009b31m".encode(), "c1\\xc2\\x9b31m"),
        ("no-break\u00a0space".encode(), "no-break\\xc2\\xa0space"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),  # a surrogate, which UTF-8 forbids
        (b"\\xff", "\\\\xff"),
    ],
)
def test_printable_shows_exactly_the_odd_bytes_as_escapes(path: bytes, shown: str) -> None:
    assert printable(path) == shown


@given(st.binary())
def test_printable_is_one_printable_line_that_can_be_undone(path: bytes) -> None:
    shown = printable(path)
    assert shown.isprintable()
    undone = re.sub(
        rb"\\(\\|x([0-9a-f]{2}))",
        lambda match: b"\\" if match[1] == b"\\" else bytes.fromhex(match[2].decode()),
        shown.encode(),
    )
    assert undone == path


@given(st.text(st.characters()))
def test_visible_leaves_only_printable_characters(text: str) -> None:
    assert visible(text).isprintable()


def test_visible_keeps_escapes_and_shows_half_a_surrogate_pair() -> None:
    assert visible("\\x0a \ud800 \udcff") == "\\x0a \\xed\\xa0\\x80 \\xff"
