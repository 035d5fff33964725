# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of mirror/localtarget.py, in real processes: a target that is there, is not, fails, and hangs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.looping import run_until

from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror import localtarget
from lsyncd_sd.mirror.localtarget import identity_of_target
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.steps import Task
from lsyncd_sd.plan.guard import Identity


def identity_of(loop: Loop, path: Path) -> object:
    told: list[object] = []
    Task(identity_of_target(loop, str(path)), told.append, told.append, expected=()).start()
    run_until(loop, lambda: told, "the target was looked at")
    return told[0]


def test_the_identity_of_a_target(tmp_path: Path, loop: Loop) -> None:
    expected = Identity(os.statvfs(tmp_path).f_fsid, tmp_path.stat().st_ino)
    assert identity_of(loop, tmp_path) == expected
    assert identity_of(loop, tmp_path / "gone") is None
    (tmp_path / "file").touch()
    assert identity_of(loop, tmp_path / "file" / "x") is None


def test_a_target_that_cannot_be_looked_at(
    tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: object) -> os.stat_result:
        raise OSError(5, "Input/output error", "/target")

    monkeypatch.setattr(os, "stat", refuse)
    verdict = identity_of(loop, tmp_path)
    assert isinstance(verdict, Verdict)
    assert verdict.outcome is Outcome.FAIL and "Input/output error" in verdict.message


def test_a_target_that_hangs(tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(localtarget, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(os, "statvfs", lambda _path: os.read(reading, 1))
    verdict = identity_of(loop, tmp_path)
    os.close(reading)
    os.close(writing)
    assert isinstance(verdict, Verdict)
    assert verdict.outcome is Outcome.CONNECTION and "did not answer" in verdict.message
