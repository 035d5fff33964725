# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/statustext.py: the line and the table, and that no text in them controls a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from helpers.statuses import HOME
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.service.status import State, SyncStatus, TargetStatus, of_targets
from lsyncd_sd.service.statustext import age, summary, table

TARGETS = (
    TargetStatus("/a", State.SYNCING, 86400.0, pending=2, last_batch=90000.0),
    TargetStatus("b:/b", State.UNREACHABLE, 93000.0, "no route\nto host", pending=5),
    TargetStatus("c:/c", State.FULL_SYNC, 93840.0, "start", full_sync_percent=41, last_batch=93000.0),
)
MANY = of_targets(TARGETS, name="many", source="/many")


def sync(name: str, state: State, **changes: Any) -> SyncStatus:
    return replace(HOME, name=name, state=state, **changes)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("statuses", "line"),
    [
        ([], "no syncs"),
        ([HOME], "in-sync since 1970-01-02 00:00:00"),
        ([sync("a", State.PENDING, pending=3)], "pending since 1970-01-02 00:00:00, 3 pending"),
        (
            [sync("a", State.HELD, reason="the source\nis empty")],
            "held since 1970-01-02 00:00:00: the source is empty",
        ),
        (
            [sync("a", State.FULL_SYNC, full_sync_percent=41)],
            "full-sync 41 % since 1970-01-02 00:00:00",
        ),
        (
            [sync("home", State.FULL_SYNC, full_sync_percent=41), sync("mail", State.IN_SYNC)],
            "2 syncs: 1 in-sync, 1 full-sync 41 % (home)",
        ),
        (
            [sync(name, State.FAILED) for name in "abcd"] + [sync("e", State.SYNCING)],
            "5 syncs: 1 syncing, 4 failed (a, b, c, ...)",
        ),
        ([MANY], "3 targets: 1 syncing, 1 full-sync 41 % (c:/c), 1 unreachable (b:/b)"),
        ([HOME, MANY], "2 syncs: 1 in-sync, 1 unreachable (many)"),
    ],
)
def test_summary(statuses: list[SyncStatus], line: str) -> None:
    assert summary(statuses) == line


def test_every_state_appears_in_the_summary() -> None:
    line = summary([sync(f"name-of-{state}", state) for state in State])
    assert line.startswith(f"{len(State)} syncs: ")
    assert all(f"1 {state}" in line for state in State)


def test_table_is_aligned_and_gives_reasons_below() -> None:
    statuses = [
        HOME,
        sync("mail", State.TARGET_FULL, pending=1234, reason="no space left\non device", last_batch=None),
        sync("www", State.SYNCING, reason="not shown while all is well"),
    ]
    assert table(statuses, now=93900.0).splitlines() == [
        "NAME  STATE        SINCE    PENDING  LAST BATCH   TARGET",
        "home  in-sync      2h 5min  0        1h 5min ago  backup:/srv/home",
        "mail  target-full  2h 5min  1234     -            backup:/srv/home",
        "    no space left",
        "    on device",
        "www   syncing      2h 5min  0        1h 5min ago  backup:/srv/home",
    ]


def test_each_target_has_a_line_of_its_own() -> None:
    assert table([HOME, MANY], now=93900.0).splitlines() == [
        "NAME  STATE           SINCE    PENDING  LAST BATCH   TARGET",
        "home  in-sync         2h 5min  0        1h 5min ago  backup:/srv/home",
        "many  syncing         2h 5min  2        1h 5min ago  /a",
        "many  unreachable     15min    5        -            b:/b",
        "    no route",
        "    to host",
        "many  full-sync 41 %  1min     0        15min ago    c:/c",
        "    start",
    ]


def test_table_of_nothing_is_its_header() -> None:
    assert table([], now=0.0) == "NAME  STATE  SINCE  PENDING  LAST BATCH  TARGET"


odd_text = st.text(st.characters())


@given(odd_text, odd_text, odd_text, st.sampled_from(State))
def test_no_text_controls_the_terminal(name: str, target: str, reason: str, state: State) -> None:
    status = sync(name, state, target=target, reason=reason)
    assert all(line.isprintable() for line in table([status], now=0.0).split("\n"))
    assert summary([status]).isprintable()
    assert summary([status, status]).isprintable()
    targets = [TargetStatus(target, state, 0.0, reason), TargetStatus("/other", State.IN_SYNC, 0.0)]
    several = of_targets(targets, name=name, source="/source")
    assert all(line.isprintable() for line in table([several], now=0.0).split("\n"))
    assert summary([several]).isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1min"),
        (61, "1min 1s"),
        (3600, "1h"),
        (3601, "1h"),
        (7500, "2h 5min"),
        (86400, "1d"),
        (90061, "1d 1h"),
    ],
)
def test_age_has_two_units_at_most(seconds: float, text: str) -> None:
    assert age(seconds) == text
