# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of mirror/feed.py: more than a pipe holds, to readers that read on, and that do not."""

from __future__ import annotations

import os

from helpers.looping import run_until

from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.feed import Feed

# Several times what a pipe holds.
PARTS = [b"first", b"x" * 300_000, b"second" * 50_000, b"last"]


def test_all_arrives_in_order_as_the_reader_takes_it(loop: Loop) -> None:
    feed = Feed(loop)
    reader = os.dup(feed.descriptor)
    feed.close_reader()
    received = b""

    def take() -> None:
        nonlocal received
        received += os.read(reader, 70_000)

    loop.watch_reads(reader, take)
    for part in PARTS[:2]:
        feed.write(part)
    run_until(loop, lambda: len(received) > 100_000, "a part of it arrives")
    for part in PARTS[2:]:
        feed.write(part)
    run_until(loop, lambda: received == b"".join(PARTS), "all arrives")
    feed.close()
    run_until(loop, lambda: os.read(reader, 1) == b"", "its end arrives")
    loop.forget(reader)
    os.close(reader)


def test_a_reader_that_has_gone_is_no_error(loop: Loop) -> None:
    feed = Feed(loop)
    feed.write(b"x" * 300_000)
    loop.run_once(0)
    feed.close_reader()
    loop.run_once(1)
    feed.write(b"more")
    loop.run_once(0)
    feed.close()
    feed.close()


def test_nobody_waits_for_what_has_nothing_to_write(loop: Loop) -> None:
    feed = Feed(loop)
    feed.write(b"text")
    loop.run_once(1)
    turns = []
    loop.call_later(0.05, lambda: turns.append("timer"))
    loop.run_once(10)
    assert turns == ["timer"], "the loop slept until then"
    feed.close()
    feed.close_reader()
