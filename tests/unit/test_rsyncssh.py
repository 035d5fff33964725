# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of mirror/rsyncssh.py: talks with a real shell, reached by a program that stands for ssh."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from helpers.looping import run_until
from helpers.waiting import wait_until

from lsyncd_sd.config.target import parse_target
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.moving import USABLE, Moved
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.rsyncssh import SshMover
from lsyncd_sd.mirror.sshmaster import SshMaster
from lsyncd_sd.mirror.steps import Steps, Task
from lsyncd_sd.plan.change import Move

Answer = TypeVar("Answer")


def file(old: str, new: str) -> Move:
    return Move(old.encode(), new.encode(), False)


class Case:
    """A target below a login directory, with programs that stand for ssh and, if wanted, for mv."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "target"
        self.target.mkdir()
        self.tools = folder / "tools"
        self.tools.mkdir()
        self.loop = Loop()
        self.master_is("echo ready; exec sleep 1000")
        # ARGUMENTS -- HOST COMMAND
        self.ssh_is(f'cd {folder}; PATH={self.tools}:$PATH; [ "$1 $2" = "-- host" ] && eval "$3"')
        self.mover = self.new_mover(60)

    def new_mover(self, timeout: float) -> SshMover:
        master = SshMaster(self.loop, [str(self.folder / "master")], self.folder / "m1")
        return SshMover(self.loop, master, [str(self.folder / "ssh")], parse_target("host:target"), timeout)

    def master_is(self, body: str) -> None:
        self._program(self.folder / "master", body)

    def ssh_is(self, body: str) -> None:
        self._program(self.folder / "ssh", body)

    def mv_is(self, body: str) -> None:
        # It has no options but -f.
        self._program(self.tools / "mv", f'case "$*" in *--help) exit 1 ;; esac\n{body}')

    def _program(self, place: Path, body: str) -> None:
        place.write_text(f"#!/bin/sh\n{body}\n")
        place.chmod(0o755)

    def do(self, steps: Steps[Answer]) -> Answer:
        answers: list[Answer] = []
        self.task = Task(steps, answers.append, lambda _error: None, ())
        self.task.start()
        run_until(self.loop, lambda: answers, "it is done")
        return answers[0]

    def make(self, *moves: Move, may_replace: int | None = None) -> Moved:
        assert self.do(self.mover.ready()) == USABLE
        return self.do(self.mover.make(moves, may_replace))

    def names(self) -> list[str]:
        return sorted(os.listdir(self.target))

    def fill(self, *names: str) -> None:
        for name in names:
            (self.target / name).write_text(name)


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    case = Case(tmp_path)
    yield case
    case.mover.close()
    run_until(case.loop, lambda: case.mover._master._process is None, "the connection ends")
    case.loop.close()


def is_running(mark: str) -> bool:
    """Tell whether some process has this in its command line."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in place.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_moves_are_made_in_one_talk(case: Case) -> None:
    case.fill("a", "b", "c")
    assert case.make(file("a", "x"), file("b", "c")) == Moved(replaced=1)
    assert case.names() == ["c", "x"]


def test_more_moves_than_a_pipe_holds(case: Case) -> None:
    names = [f"{'x' * 200}{number}" for number in range(1000)]
    case.mv_is('shift 2; [ "$1" = -- ] && shift; : > "$2"; rm "$1"')
    case.fill(*names)
    assert case.make(*(file(name, f"y{name}") for name in names)) == Moved()
    assert case.names() == sorted(f"y{name}" for name in names)


def test_it_stops_at_what_is_refused_and_says_why(case: Case) -> None:
    case.fill("a", "b", "c")
    moves = file("a", "x"), file("nothing", "y"), file("b", "z")
    assert case.make(*moves) == Moved(moves[1:], refusal="it is not there")
    assert case.names() == ["b", "c", "x"]
    moved = case.make(file("b", "c"), may_replace=0)
    assert (moved.unconfirmed, moved.replaced) == ((file("b", "c"),), 0)
    case.mv_is("echo 'mv: no, thanks' >&2; exit 1")
    assert case.make(file("b", "z")).refusal == "mv refuses (mv: no, thanks)"


def outcome_of(moved: Moved, *moves: Move) -> tuple[Outcome, str]:
    assert moved.unconfirmed == moves
    return moved.verdict.outcome, moved.verdict.message


def test_a_target_that_is_missing(case: Case) -> None:
    case.target.rmdir()
    assert outcome_of(case.make(file("a", "b")), file("a", "b")) == (
        Outcome.TARGET_MISSING,
        "host:target is not there",
    )


@pytest.mark.parametrize(
    ("ssh", "outcome", "message"),
    [
        ("echo 'rrsync error: invalid rsync-command syntax or options' >&2; exit 1", "restricted", "rrsync"),
        ("echo 'SSH_ORIGINAL_COMMAND is not rsync' >&2; exit 255", "restricted", "ORIGINAL"),
        ("echo 'This account is currently not available.'; exit 1", "restricted", ""),
        ("exit 0", "restricted", ""),
        ("echo 'sh: not found' >&2; exit 127", "restricted", "not found"),
        ("echo 'Session open refused by peer' >&2; exit 255", "connection", "refused"),
        ("kill -KILL $$", "killed", ""),
    ],
)
def test_what_gives_no_shell(case: Case, ssh: str, outcome: str, message: str) -> None:
    case.ssh_is(ssh)
    found, told = outcome_of(case.make(file("a", "b")), file("a", "b"))
    assert found is Outcome(outcome)
    assert message in told


def test_what_ends_in_the_middle(case: Case) -> None:
    case.fill("a", "b", "c")
    case.mv_is('[ "${3#*b}" = "$3" ] && exec /bin/mv "$@"; kill -KILL $PPID')
    found, _told = outcome_of(
        case.make(file("a", "x"), file("b", "y"), file("c", "z")), file("b", "y"), file("c", "z")
    )
    assert found is Outcome.KILLED
    assert case.names() == ["b", "c", "x"]


def test_a_connection_that_ends_in_the_middle_says_why(case: Case) -> None:
    case.fill("a")
    case.master_is(
        f"echo ready; until [ -e {case.folder}/end ]; do sleep 0.02; done; echo 'Timeout.' >&2; exit 255"
    )
    case.mv_is(f"touch {case.folder}/end; exec sleep 1000")
    assert case.do(case.mover.ready()) == USABLE
    # ssh ends when its master does
    case.ssh_is(
        f'cd {case.folder}; PATH={case.tools}:$PATH; exec 3<&0; eval "$3" <&3 & '
        f"until [ ! -e /proc/{case.mover._master._process.pid} ]; do sleep 0.02; done; exit 255"
    )
    found, told = outcome_of(case.do(case.mover.make([file("a", "b")], None)), file("a", "b"))
    assert (found, told) == (Outcome.CONNECTION, "Timeout.")


def test_one_that_keeps_silent_is_given_up_and_ended_before_anything_else(case: Case) -> None:
    case.mover = case.new_mover(1)
    case.fill("a", "b")
    # The client ends, and what it has begun on the target does not.
    case.ssh_is(f'cd {case.folder}; PATH={case.tools}:$PATH; setsid -w sh -c "$3"')
    case.mv_is(f'until [ -e {case.folder}/go ]; do sleep 0.02; done; exec /bin/mv "$@"')
    moves = file("a", "x"), file("b", "y")
    assert outcome_of(case.make(*moves), *moves) == (Outcome.CONNECTION, "no answer within 1 s")
    assert case.mover._doubtful is not None
    token = case.mover._doubtful.token
    assert is_running(token)
    assert case.do(case.mover.ready()) == USABLE
    wait_until(lambda: not is_running(token), "it is ended")
    (case.folder / "go").touch()
    wait_until(lambda: case.names() == ["b", "x"], "the move under way is made, and none after it")


def test_while_nobody_can_say_whether_it_has_ended_nothing_is_done(case: Case) -> None:
    case.fill("a")
    case.mv_is("kill -KILL $PPID")
    assert outcome_of(case.make(file("a", "b")), file("a", "b"))[0] is Outcome.KILLED
    case.ssh_is("echo 'Session open refused by peer' >&2; exit 255")
    assert case.do(case.mover.ready()) == Verdict(Outcome.CONNECTION, "Session open refused by peer", 255)


def test_what_is_cut_short_is_not_made(case: Case) -> None:
    case.fill("a")
    case.mv_is("exec sleep 1000")
    assert case.do(case.mover.ready()) == USABLE
    case.loop.call_later(0.3, lambda: case.task.cut_short())
    moved = case.do(case.mover.make([file("a", "b")], None))
    assert outcome_of(moved, file("a", "b"))[0] is Outcome.CUT_SHORT
