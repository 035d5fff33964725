# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/moments.py: clocks that go straight, and clocks that do not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lsyncd_sd.service import moments
from lsyncd_sd.service.checkpoint import SLACK_NS
from lsyncd_sd.service.moments import SETBACK_NS, Moment, flaw_between

SECOND = 1_000_000_000
THEN = Moment(1_700_000_000 * SECOND, 1_600_000_000 * SECOND, "a")


def later(seconds: float, set_by: float = 0, boot: str = "a") -> Moment:
    shift = int(set_by * SECOND)
    return Moment(THEN.realtime + int(seconds * SECOND) + shift, THEN.offset + shift, boot)


def test_now() -> None:
    before, now, after = time.time_ns(), Moment.now(), time.time_ns()
    assert before <= now.realtime <= after
    assert now.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # what it says about itself is true of the next one too
    assert abs(Moment.now().offset - now.offset) < SECOND
    assert abs(now.uptime - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) < SECOND


@pytest.mark.parametrize(
    ("now", "lowest", "expected"),
    [
        (later(0), THEN.offset, ""),
        (later(10**6), THEN.offset, ""),
        (later(5, set_by=3600), THEN.offset, ""),
        (later(5, set_by=-1), THEN.offset, ""),
        (later(5, set_by=-2), THEN.offset, "set back by 2.0 s"),
        (later(5), THEN.offset - 2 * SETBACK_NS, "set back by 3.0 s"),
        (later(5, set_by=-6), THEN.offset, "from the future"),
        (later(-1, boot="b"), THEN.offset, "from the future"),
        # the time since boot says nothing about another boot
        (later(5, set_by=-2, boot="b"), 0, ""),
    ],
)
def test_flaws(now: Moment, lowest: int, expected: str) -> None:
    flaw = flaw_between(THEN, lowest, now)
    assert expected in flaw
    assert bool(expected) == bool(flaw)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(moments, "_RUN", os.fsencode(tmp_path))
    monkeypatch.setattr(moments, "kind_at", lambda _path: "tmpfs")
    (tmp_path / "old").touch()
    return tmp_path


def test_a_machine_that_was_started_with_an_old_time(run: Path) -> None:
    oldest = (run / "old").stat().st_ctime_ns
    then = Moment(oldest + 2 * SETBACK_NS, 5, "a")
    now = Moment(then.realtime + SECOND, 7, "b")
    assert "when it was started" in flaw_between(then, 0, now)
    assert flaw_between(then, 0, now._replace(boot="a")) == ""
    assert flaw_between(then._replace(realtime=oldest), 0, now) == ""


def test_a_file_may_look_older_than_it_is_by_less_than_the_slack(tmp_path: Path) -> None:
    """The kernel gives files the time of its last tick."""
    for number in range(1000):
        now = Moment.now()
        (tmp_path / str(number)).touch()
        age = now.realtime - (tmp_path / str(number)).stat().st_ctime_ns
        if age > 0:
            assert age < SLACK_NS - SETBACK_NS
            return
    pytest.skip("this kernel has finer times")


def test_nothing_is_known_of_the_start_elsewhere(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oldest = (run / "old").stat().st_ctime_ns
    then = Moment(oldest + 2 * SETBACK_NS, 5, "a")
    monkeypatch.setattr(moments, "kind_at", lambda _path: "ext4")
    monkeypatch.setattr(time, "time_ns", lambda: then.realtime)
    assert flaw_between(then, 0, Moment(then.realtime, 7, "b")) == ""
