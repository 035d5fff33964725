# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests mirror/steps.py: one process after another, errors on the way, and being cut short at any point."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from helpers.looping import run_until

from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.process import OnExit, Process, Result, start_command
from lsyncd_sd.mirror.steps import Start, Steps, Task

GOOD = Result(0, b"output", b"", False, False, 0.5)


class ExpectedError(Exception):
    """One that the owner of the task knows what to do with."""


class Processes:
    """Stands for processes: a test says when the one that runs ends."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cut_short_calls: list[str] = []
        self._on_exit: OnExit | None = None

    def start(self, name: str, fails_with: Exception | None = None) -> Start:
        def start(on_exit: OnExit) -> Process:
            if fails_with is not None:
                raise fails_with
            assert self._on_exit is None, "one at a time"
            self.started.append(name)
            self._on_exit = on_exit
            return FakeProcess(self, name)  # type: ignore[return-value]

        return start

    def end(self, result: Result = GOOD) -> None:
        on_exit, self._on_exit = self._on_exit, None
        assert on_exit is not None, "nothing runs"
        on_exit(result)


class FakeProcess:
    def __init__(self, processes: Processes, name: str) -> None:
        self._processes = processes
        self._name = name

    def cut_short(self) -> None:
        self._processes.cut_short_calls.append(self._name)


class Owner:
    """Makes a task of some steps and keeps what it was told."""

    def __init__(self, steps: Steps[Any]) -> None:
        self.done: list[object] = []
        self.errors: list[Exception] = []
        self.task = Task(steps, self.done.append, self.errors.append, expected=(ExpectedError,))


@pytest.fixture
def processes() -> Processes:
    return Processes()


def two_steps(processes: Processes) -> Steps[list[bytes]]:
    first = yield processes.start("first")
    second = yield processes.start("second")
    return [first.output, second.output]


def test_one_process_after_the_other(processes: Processes) -> None:
    owner = Owner(two_steps(processes))
    owner.task.start()
    assert processes.started == ["first"]
    processes.end(replace(GOOD, output=b"1"))
    assert processes.started == ["first", "second"] and not owner.done
    processes.end(replace(GOOD, output=b"2"))
    assert owner.done == [[b"1", b"2"]]
    assert not owner.errors and not processes.cut_short_calls


def test_steps_may_need_no_process() -> None:
    def nothing() -> Steps[str]:
        return "nothing to do"
        yield

    owner = Owner(nothing())
    owner.task.start()
    assert owner.done == ["nothing to do"]


@pytest.mark.parametrize("at", ["the start", "the middle"])
def test_an_expected_error_is_told(processes: Processes, at: str) -> None:
    def steps() -> Steps[None]:
        if at == "the middle":
            yield processes.start("first")
        raise ExpectedError(at)

    owner = Owner(steps())
    owner.task.start()
    if at == "the middle":
        processes.end()
    assert [str(error) for error in owner.errors] == [at]
    assert not owner.done


def test_an_expected_error_of_what_is_started_is_told(processes: Processes) -> None:
    closed: list[bool] = []

    def steps() -> Steps[None]:
        try:
            yield processes.start("first", fails_with=ExpectedError("no source"))
        finally:
            closed.append(True)

    told: list[tuple[Exception, list[bool]]] = []

    def tell(error: Exception) -> None:
        told.append((error, list(closed)))

    Task(steps(), lambda _answer: None, tell, (ExpectedError,)).start()
    # what the steps held (a lock) was given back before the owner is told and may begin anew
    assert [(str(error), was_closed) for error, was_closed in told] == [("no source", [True])]


def test_any_other_error_is_a_bug(processes: Processes) -> None:
    def steps() -> Steps[None]:
        yield processes.start("first")
        raise ZeroDivisionError

    owner = Owner(steps())
    owner.task.start()
    with pytest.raises(ZeroDivisionError):
        processes.end()
    assert not owner.errors and not owner.done


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "rsync"), b"cannot start rsync: No such file"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), b"cannot start a process: Resource"),
        (PermissionError(errno.EACCES, "Denied", "/bin/\udcff"), b"cannot start /bin/\xff: Denied"),
    ],
)
def test_what_cannot_be_started_is_a_failed_command(
    processes: Processes, error: OSError, message: bytes
) -> None:
    def steps() -> Steps[tuple[Result, Result]]:
        first = yield processes.start("first", fails_with=error)
        second = yield processes.start("second")
        return first, second

    owner = Owner(steps())
    owner.task.start()
    assert processes.started == ["second"]
    processes.end()
    ((first, second),) = owner.done  # type: ignore[misc]
    assert first.code == 127 and first.errors.startswith(message) and not first.was_cut_short
    assert second is GOOD


# ---- cut short


def test_cutting_short_ends_the_process_that_runs(processes: Processes) -> None:
    owner = Owner(two_steps(processes))
    owner.task.start()
    owner.task.cut_short()
    assert processes.cut_short_calls == ["first"]
    assert not owner.done


def test_cutting_short_ends_every_later_process_too(processes: Processes) -> None:
    owner = Owner(two_steps(processes))
    owner.task.start()
    owner.task.cut_short()
    processes.end()
    assert processes.cut_short_calls == ["first", "second"]
    processes.end()
    assert owner.done == [[b"output", b"output"]]


def test_cutting_short_what_has_ended_does_nothing(processes: Processes) -> None:
    owner = Owner(two_steps(processes))
    owner.task.start()
    processes.end()
    processes.end()
    owner.task.cut_short()
    assert processes.cut_short_calls == []


def test_what_cannot_be_started_after_cutting_short_counts_as_cut_short(processes: Processes) -> None:
    def steps() -> Steps[Result]:
        yield processes.start("first")
        return (yield processes.start("second", fails_with=OSError(errno.ENOENT, "gone")))

    owner = Owner(steps())
    owner.task.start()
    owner.task.cut_short()
    processes.end()
    (result,) = owner.done
    assert isinstance(result, Result) and result.was_cut_short


# ---- with real ones


def test_real_processes(loop: Loop) -> None:
    def run(*arguments: str) -> Start:
        return lambda on_exit: start_command(loop, list(arguments), on_exit, stdin=b"in")

    def steps() -> Steps[list[tuple[int, bytes]]]:
        results = []
        for arguments in (["cat"], ["false"], ["/no/such/command"], ["echo", "end"]):
            results.append((yield run(*arguments)))
        return [(result.code, result.output) for result in results]

    owner = Owner(steps())
    owner.task.start()
    run_until(loop, lambda: owner.done, "all four have ended")
    assert owner.done == [[(0, b"in"), (1, b""), (127, b""), (0, b"end\n")]]


def test_a_real_process_is_cut_short(loop: Loop) -> None:
    def start(on_exit: OnExit) -> Process:
        return start_command(loop, ["sleep", "1000"], on_exit, stdin=b"")

    def steps() -> Steps[list[bool]]:
        first = yield start
        second = yield start
        return [first.was_cut_short, second.was_cut_short]

    owner = Owner(steps())
    owner.task.start()
    stop: Callable[[], None] = owner.task.cut_short
    loop.call_later(0, stop)
    run_until(loop, lambda: owner.done, "both were ended")
    assert owner.done == [[True, True]]
