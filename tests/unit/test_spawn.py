# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/spawn.py with real forks: session, signals, order, exit statuses."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lsyncd_sd.service import spawn as spawn_module
from lsyncd_sd.service.spawn import SignalMask, spawn

HELD_BACK = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


def nothing() -> None:
    """Give nothing back."""


def report(run: Callable[[SignalMask], object], give_back: Callable[[], None] = nothing) -> tuple[int, str]:
    """Return how a child ended, and what `run` returned in it."""
    read, write = os.pipe()

    def child(mask: SignalMask) -> None:
        os.write(write, repr(run(mask)).encode())

    pid = spawn(give_back, child)
    os.close(write)
    with open(read, "rb") as told:
        answer = told.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), answer


def test_the_child_leads_a_session_of_its_own() -> None:
    code, answer = report(lambda _mask: (os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()))
    assert (code, answer) == (0, "(True, True)")


def test_signals_wait_until_the_child_can_take_them() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    code, answer = report(
        lambda mask: (
            signal.pthread_sigmask(signal.SIG_BLOCK, []) >= HELD_BACK,
            signal.pthread_sigmask(signal.SIG_SETMASK, mask) >= HELD_BACK,
            signal.pthread_sigmask(signal.SIG_BLOCK, []) == before,
        )
    )
    assert (code, answer) == (0, "(True, True, True)")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before, "the parent takes signals again"


def test_a_signal_between_fork_and_loop_is_not_lost() -> None:
    """SIGTERM comes before the child has a handler for it, and reaches that handler."""
    caught: list[int] = []

    def run(mask: SignalMask) -> list[int]:
        signal.signal(signal.SIGTERM, lambda number, _frame: caught.append(number))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return caught

    assert report(run, lambda: os.kill(os.getpid(), signal.SIGTERM)) == (0, "[15]")


def test_what_is_the_parents_is_given_back_first() -> None:
    done: list[str] = []
    assert report(lambda _mask: done, lambda: done.append("given back")) == (0, "['given back']")
    assert done == [], "in the child only"


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(0), KeyboardInterrupt()])
def test_a_child_that_raises_leaves_a_traceback(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(_mask: SignalMask) -> None:
        raise error

    assert report(run)[0] == 1
    told = capfd.readouterr().err
    assert told.startswith("Traceback")
    assert type(error).__name__ in told


def test_a_child_that_cannot_give_back_does_not_run(capfd: pytest.CaptureFixture[str]) -> None:
    def give_back() -> None:
        raise OSError(errno.EBADF, "closed twice")

    assert report(lambda _mask: "ran", give_back) == (1, "")
    assert "closed twice" in capfd.readouterr().err


@pytest.mark.parametrize("stderr", ["none", "closed", "full"])
def test_a_child_ends_also_where_there_is_no_stderr(stderr: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not return into what the parent was doing."""
    with open("/dev/full", "w") as full:
        if stderr == "closed":
            full.close()
        monkeypatch.setattr(sys, "stderr", None if stderr == "none" else full)
        ends = [report(lambda _mask: "fine"), report(lambda _mask: 1 / 0)]
        monkeypatch.undo()
    assert ends == [(0, "'fine'"), (1, "")]


def test_the_child_runs_nothing_that_the_parent_wants_at_its_end(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    atexit.register(mark.touch)
    try:
        assert report(lambda _mask: None)[0] == 0
    finally:
        atexit.unregister(mark.touch)
    assert not mark.exists()


def test_a_fork_that_fails_leaves_the_parent_able_to_take_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError(errno.EAGAIN, "too many processes")

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    monkeypatch.setattr(spawn_module.os, "fork", fail)
    with pytest.raises(BlockingIOError):
        spawn(nothing, lambda _mask: None)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
