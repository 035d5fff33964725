# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of mirror/sshmaster.py with programs that stand for ssh; the real one is in tests/live."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.looping import run_until
from helpers.waiting import wait_until

from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror import sshmaster
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.sshcommand import LONGEST_SOCKET
from lsyncd_sd.mirror.sshmaster import SshMaster
from lsyncd_sd.mirror.steps import Task

OK = Verdict(Outcome.OK, "", 0)
KEEPS = "echo ready; exec sleep 1000"


class Case:
    """A program that stands for ssh: it notes each of its starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = Loop()
        self.program = folder / "ssh"
        self.become(KEEPS)
        self.master = SshMaster(self.loop, [str(self.program)], folder / "m1")
        self.answers: list[Verdict] = []

    def become(self, body: str) -> None:
        self.program.write_text(f"#!/bin/sh\necho $$ >> {self.folder}/starts\n{body}\n")
        self.program.chmod(0o755)

    def begin(self) -> Task:
        task = Task(self.master.open(), self.answers.append, lambda _error: None, ())
        task.start()
        return task

    def open(self) -> Verdict:
        known = len(self.answers)
        self.begin()
        run_until(self.loop, lambda: len(self.answers) > known, "it is open, or not")
        return self.answers[-1]

    def starts(self) -> list[int]:
        place = self.folder / "starts"
        return [int(line) for line in place.read_text().split()] if place.exists() else []

    def has_ended(self) -> bool:
        return self.master._process is None


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    case = Case(tmp_path)
    yield case
    case.master.close()
    run_until(case.loop, case.has_ended, "it ends")
    case.loop.close()


def test_one_connection_serves_all(case: Case) -> None:
    assert case.open() == OK
    assert case.open() == OK
    assert len(case.starts()) == 1
    assert case.master.last_words == ""


def test_several_can_wait_for_it(case: Case) -> None:
    case.become(f"until [ -e {case.folder}/go ]; do sleep 0.05; done; {KEEPS}")
    for _number in range(3):
        case.begin()
    wait_until(case.starts, "it starts")
    case.loop.run_once(0)
    assert case.answers == []
    (case.folder / "go").touch()
    run_until(case.loop, lambda: len(case.answers) == 3, "all are told")
    assert case.answers == [OK] * 3
    assert len(case.starts()) == 1


@pytest.mark.parametrize(
    ("body", "message", "status"),
    [
        ("echo 'ssh: connect to host x port 22: Connection refused' >&2; exit 255", "refused", 255),
        (
            "printf '@@@\\nBANNER\\n\\nHost key verification failed.\\r\\n' >&2; exit 255",
            "Host key ver",
            255,
        ),
        ("kill -KILL $$", "ended by signal 9", -9),
        ("exit 0", "ssh ended", 255),
    ],
)
def test_why_there_is_none(case: Case, body: str, message: str, status: int) -> None:
    case.become(body)
    verdict = case.open()
    assert verdict.outcome is Outcome.CONNECTION
    assert message in verdict.message
    assert "BANNER" not in verdict.message
    assert verdict.exit_status == status
    # and another time it may go well
    case.become(KEEPS)
    assert case.open() == OK


def test_no_ssh_is_no_matter_of_the_connection(case: Case) -> None:
    case.program.unlink()
    verdict = case.open()
    assert verdict.outcome is Outcome.FAIL
    assert str(case.program) in verdict.message


def test_one_that_is_never_ready_is_given_up(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshmaster, "READY_SECONDS", 0.1)
    case.become("exec sleep 1000")
    verdict = case.open()
    assert verdict.outcome is Outcome.CONNECTION
    assert "no connection within" in verdict.message


def test_one_that_was_ready_is_not_given_up(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshmaster, "READY_SECONDS", 0.5)
    assert case.open() == OK
    passed: list[bool] = []
    case.loop.call_later(0.6, lambda: passed.append(True))
    run_until(case.loop, lambda: passed, "the time is over")
    assert not case.has_ended()


def test_it_is_opened_anew_when_it_has_ended(case: Case) -> None:
    case.become(f"echo 'Timeout, server x not responding.' >&2; {KEEPS}")
    assert case.open() == OK
    os.kill(case.starts()[0], signal.SIGKILL)
    run_until(case.loop, case.has_ended, "its end is heard of")
    assert case.master.last_words == "Timeout, server x not responding."
    assert case.open() == OK
    assert case.master.last_words == ""
    assert len(case.starts()) == 2


def test_the_socket_of_one_that_was_killed_is_taken_away(case: Case) -> None:
    (case.folder / "m1").touch()
    case.become(f"[ ! -e {case.folder}/m1 ] || exit 1; touch {case.folder}/m1; {KEEPS}")
    assert case.open() == OK
    case.master.close()
    assert not (case.folder / "m1").exists()
    run_until(case.loop, case.has_ended, "it ends")


def test_who_is_cut_short_waits_no_more(case: Case) -> None:
    case.become(f"until [ -e {case.folder}/go ]; do sleep 0.05; done; {KEEPS}")
    first, _second = case.begin(), case.begin()
    first.cut_short()
    run_until(case.loop, lambda: case.answers, "it is told")
    assert [verdict.outcome for verdict in case.answers] == [Outcome.CUT_SHORT]
    first.cut_short()
    (case.folder / "go").touch()
    run_until(case.loop, lambda: len(case.answers) == 2, "the other one is told")
    assert case.answers[1] == OK


def test_a_path_that_is_too_long_for_ssh_is_told(tmp_path: Path) -> None:
    loop = Loop()
    socket = tmp_path / ("x" * (LONGEST_SOCKET - len(str(tmp_path))))
    assert len(str(socket)) == LONGEST_SOCKET + 1
    try:
        next(SshMaster(loop, ["true"], socket).open())
    except StopIteration as stop:
        assert stop.value.outcome is Outcome.FAIL
        assert str(socket) in stop.value.message
    loop.close()
