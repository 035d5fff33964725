# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/guard.py: what holds a sync, what does not, and that an agreement is good for one situation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lsyncd_sd.plan.deletions import Deletions
from lsyncd_sd.plan.guard import (
    LATELY,
    Brake,
    Identity,
    Memory,
    MountPoint,
    Size,
    check_deletions,
    check_first_run,
    check_mounts,
    check_rest,
    check_source,
    check_target,
)

SOURCE, OTHER, TARGET = Identity(1, 2), Identity(1, 3), Identity(7, 8)
OTHER_FILE_SYSTEM = Identity(9, 2)
MOUNT = MountPoint(b"m", b"/", "ext4", 5)
KNOWN = Memory(source=SOURCE, source_had_entries=True, target=TARGET)

HALF = Brake(None, 50)
UNLIMITED = Brake(None, None)


def deletions(*paths: str, made: tuple[str, ...] = ()) -> Deletions:
    counted = Deletions()
    for path in paths:
        counted.deleted(path.removesuffix("/").encode(), is_directory=path.endswith("/"))
    for path in made:
        counted.made(path.encode())
    return counted


def of(entries: int) -> Size:
    return Size(entries, entries, 0.0)


def files(number: int) -> tuple[str, ...]:
    return tuple(f"f{index:04}" for index in range(number))


@pytest.mark.parametrize(
    ("memory", "identity", "is_empty", "deletes", "reason"),
    [
        (KNOWN, SOURCE, False, True, None),
        (KNOWN, SOURCE, True, True, "is empty"),
        (KNOWN, OTHER, True, True, "is empty"),
        (KNOWN, OTHER, False, True, "another directory"),
        (KNOWN, OTHER_FILE_SYSTEM, False, True, "another directory"),
        (replace(KNOWN, source_had_entries=False), SOURCE, True, True, None),
        (replace(KNOWN, source_had_entries=False), OTHER, True, True, "another directory"),
        # what deletes nothing can do no harm
        (KNOWN, SOURCE, True, False, None),
        (KNOWN, OTHER, False, False, None),
        # nothing is known yet: the first run is looked at in another way
        (Memory(), SOURCE, True, True, None),
        (Memory(source_had_entries=True), SOURCE, True, True, None),
    ],
)
def test_source(
    memory: Memory, identity: Identity, is_empty: bool, deletes: bool, reason: str | None
) -> None:
    hold = check_source(memory, identity, is_empty, deletes)
    assert (hold is None) == (reason is None)
    assert hold is None or (reason is not None and reason in hold.reason and hold.hint)


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (None, {MOUNT}, None),
        (set(), set(), None),
        ({MOUNT}, {MOUNT}, None),
        ({MOUNT}, set(), "below the source, a file system is not mounted any more: m"),
        (set(), {MOUNT}, "below the source, a file system was mounted: m"),
        ({MOUNT}, {MOUNT._replace(number=6)}, "below the source, another file system is mounted: m"),
        ({MOUNT}, {MOUNT._replace(kind="xfs")}, "below the source, another file system is mounted: m"),
        ({MOUNT}, {MOUNT._replace(top=b"/d")}, "below the source, another file system is mounted: m"),
        (
            {MOUNT},
            {MOUNT._replace(path=b"\n")},
            "below the source, a file system is not mounted any more: m; a file system was mounted: \\x0a",
        ),
    ],
)
def test_mounts(before: set[MountPoint] | None, now: set[MountPoint], words: str | None) -> None:
    memory = replace(KNOWN, mounts=None if before is None else frozenset(before))
    hold = check_mounts(memory, frozenset(now))
    assert (hold and hold.reason) == words
    if hold is not None:
        again = check_mounts(memory, frozenset(now | {MOUNT._replace(path=b"other")}))
        assert again is not None and again.doubt != hold.doubt


def test_a_first_run_deletes_nothing_by_itself() -> None:
    assert check_first_run(deletions()) is None
    hold = check_first_run(deletions("d/a", "d/", "\x1b[31m"))
    assert hold is not None and not hold.doubt
    assert "3 entries on the target: \\x1b[31m, d/;" in f"{hold.reason};"
    assert hold.paths == (b"\x1b[31m", b"d")


@pytest.mark.parametrize(
    ("brake", "entries", "limit", "words"),
    [
        (Brake(1000, None), 0, 1000, "1000"),
        (Brake(0, None), 10**6, 0, "0"),
        (HALF, 10_001, 5000, "5000 (50 % of 10001)"),
        (HALF, 101, 50, "50 (50 % of 101)"),
        (HALF, 100, 100, "100"),
        (HALF, 0, 100, "100"),
        (Brake(None, 0), 101, 0, "0 (0 % of 101)"),
        (Brake(None, 100), 10**9, 10**9, "1000000000 (100 % of 1000000000)"),
    ],
)
def test_the_limit(brake: Brake, entries: int, limit: int, words: str) -> None:
    assert brake.limit(entries) == limit
    assert brake.told(entries) == words


def test_without_a_brake_there_is_no_limit() -> None:
    assert UNLIMITED.limit(10**9) is None
    assert check_deletions(UNLIMITED, of(200), deletions(*files(200))) is None


@pytest.mark.parametrize(
    ("brake", "entries", "count", "is_held"),
    [
        (HALF, 200, 100, False),
        (HALF, 200, 101, True),
        (HALF, 100, 100, False),
        # more than the tree can have lost
        (HALF, 100, 101, True),
        (Brake(3, None), 10**6, 3, False),
        (Brake(3, None), 10**6, 4, True),
    ],
)
def test_more_than_the_limit_is_held(brake: Brake, entries: int, count: int, is_held: bool) -> None:
    hold = check_deletions(brake, of(entries), deletions(*files(count)))
    assert (hold is not None) == is_held
    if hold is not None:
        assert f"delete {count} entries on the target: f0000, f0001, f0002, ...," in hold.reason
        assert hold.reason.endswith(f"the brake allows {brake.told(entries)}")
        assert len(hold.paths) == min(count, 16)


def test_what_has_only_moved_is_not_counted() -> None:
    old = tuple(f"old/{name}" for name in files(150))
    new = tuple(f"new/{name}" for name in files(150))
    assert check_deletions(HALF, of(160), deletions(*old, "old/", made=(*new, "new"))) is None
    assert check_deletions(HALF, of(160), deletions(*old, "old/", made=new[:60])) is not None


@pytest.mark.parametrize(
    ("memory", "identity", "is_held"),
    [
        (KNOWN, TARGET, False),
        (KNOWN, Identity(7, 9), True),
        (KNOWN, Identity(6, 8), True),
        (KNOWN, None, False),
        (Memory(source=SOURCE), TARGET, False),
    ],
)
def test_target(memory: Memory, identity: Identity | None, is_held: bool) -> None:
    assert (check_target(memory, identity) is not None) == is_held


def test_what_went_lately_counts_too() -> None:
    """A large tree that is removed slowly: batch after batch takes a little."""
    size = of(200)
    for gone in (40, 80):
        assert check_deletions(HALF, size, deletions(*files(40))) is None
        size.set(200 - gone, 60.0)
    assert (size.entries, size.peak, size.went, size.left(HALF)) == (120, 200, 80, 20)
    assert check_deletions(HALF, size, deletions(*files(20))) is None
    hold = check_deletions(HALF, size, deletions(*files(21)))
    assert hold is not None
    assert "f0002, ... after 80 that went lately, and the brake allows 100 (50 % of 200)" in hold.reason
    size.forget_peak()
    assert check_deletions(HALF, size, deletions(*files(60))) is None


def test_what_comes_makes_up_for_what_went() -> None:
    size = of(200)
    for _job in range(50):
        size.set(150, 1.0)
        size.set(200, 2.0)
    assert size.left(HALF) == 100
    size.set(300, 3.0)
    assert (size.peak, size.left(HALF)) == (300, 150)


def test_what_went_long_ago_does_not_count() -> None:
    size = of(200)
    size.set(150, 10.0)
    for now in (LATELY - 1, LATELY + 1):
        size.set(150, now)
        assert size.peak == 200
    size.set(150, 2 * LATELY)
    assert size.peak == 200
    size.set(150, 2 * LATELY + 2)
    assert size.peak == 150


def test_what_is_held_is_not_released_by_time() -> None:
    size = of(200)
    size.set(110, 0.0)
    for hours in range(1, 50):
        size.keep_peak(hours * LATELY / 2)
    size.set(110, 25 * LATELY)
    assert size.peak == 200


def test_nothing_is_never_too_much() -> None:
    size = of(200)
    size.set(10, 0.0)
    assert size.left(HALF) == 0
    assert check_deletions(HALF, size, deletions()) is None
    assert check_deletions(HALF, size, deletions("a")) is not None


def test_what_rsync_has_stopped_goes_no_further() -> None:
    assert check_rest(deletions()) is None
    hold = check_rest(deletions("a"))
    assert hold is not None and "would go on to delete 1 entry on the target: a" in hold.reason


def test_an_agreement_is_for_this_situation_and_no_other() -> None:
    emptied = check_source(KNOWN, SOURCE, True, True)
    replaced = check_source(KNOWN, OTHER, False, True)
    replaced_again = check_source(KNOWN, OTHER_FILE_SYSTEM, False, True)
    target, other_target = check_target(KNOWN, OTHER), check_target(KNOWN, SOURCE)
    doubts = [emptied, replaced, replaced_again, target, other_target]
    plans = [deletions("a"), deletions("b"), deletions("a", "b")]
    holds = [check_first_run(plan) for plan in plans]
    holds += [doubt.with_deletions(plan) for doubt in doubts for plan in plans if doubt is not None]
    tokens = {hold.token for hold in holds if hold is not None}
    assert len(tokens) == len(holds) == len(plans) * 6


def test_a_doubt_says_what_would_follow() -> None:
    doubt = check_source(KNOWN, SOURCE, True, True)
    assert doubt is not None and doubt.doubt
    hold = doubt.with_deletions(deletions("d/a", "d/"))
    assert hold.doubt == doubt.doubt
    assert hold.reason == f"{doubt.reason}; going on would delete 2 entries on the target: d/"
    assert hold.paths == (b"d",)
    assert doubt.with_deletions(deletions()).reason.endswith("would delete nothing on the target")
    assert doubt.with_deletions(deletions("a")).reason.endswith("would delete 1 entry on the target: a")


def test_the_same_situation_has_the_same_token_in_another_process() -> None:
    doubt = check_source(KNOWN, Identity(1, 3), False, True)
    assert doubt is not None
    # a literal: a token that depends on the process (hash()) would never be accepted after a restart
    assert doubt.with_deletions(deletions("a")).token == "76f6dac623ba6c01"  # noqa: S105  (no secret)
