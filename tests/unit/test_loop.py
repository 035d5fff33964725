# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests loop.py with real descriptors and signals; the clock is the loop's own, so nothing waits for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from lsyncd_sd.loop import Loop


class FrozenLoop(Loop):
    """A loop whose clock stands still until a test moves it."""

    clock = 1000.0

    def now(self) -> float:
        return self.clock


@pytest.fixture
def loop() -> Iterator[FrozenLoop]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    loop = FrozenLoop()
    yield loop
    loop.close()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def pipes() -> Iterator[list[tuple[int, int]]]:
    """Two pipes; each has a byte to read."""
    pipes = [os.pipe(), os.pipe()]
    for _reading, writing in pipes:
        os.write(writing, b"x")
    yield pipes
    for pipe in pipes:
        for descriptor in pipe:
            os.close(descriptor)


# ---- descriptors


def test_reads_and_writes_are_told(loop: Loop, pipes: list[tuple[int, int]]) -> None:
    told: list[str] = []
    loop.watch_reads(pipes[0][0], lambda: told.append("read"))
    loop.watch_writes(pipes[1][1], lambda: told.append("write"))
    loop.run_once(0)
    assert sorted(told) == ["read", "write"]


def test_a_second_registration_replaces_the_first(loop: Loop, pipes: list[tuple[int, int]]) -> None:
    told: list[str] = []
    loop.watch_reads(pipes[0][0], lambda: told.append("old"))
    loop.watch_reads(pipes[0][0], lambda: told.append("new"))
    loop.run_once(0)
    assert told == ["new"]


def test_what_is_forgotten_is_not_told(loop: Loop, pipes: list[tuple[int, int]]) -> None:
    told: list[str] = []
    loop.watch_reads(pipes[0][0], lambda: told.append("read"))
    loop.forget(pipes[0][0])
    loop.forget(pipes[0][0])
    loop.run_once(0)
    assert told == []


def test_a_descriptor_forgotten_in_the_same_pass_is_not_told(
    loop: Loop, pipes: list[tuple[int, int]]
) -> None:
    told: list[int] = []

    def tell(index: int) -> None:
        told.append(index)
        loop.forget(pipes[1 - index][0])

    for index in (0, 1):
        loop.watch_reads(pipes[index][0], lambda index=index: tell(index))  # type: ignore[misc]
    loop.run_once(0)
    assert len(told) == 1


def test_a_new_owner_of_a_number_is_not_told_of_its_predecessor(
    loop: Loop, pipes: list[tuple[int, int]]
) -> None:
    told: list[str] = []

    def replace(own: int, other: int) -> None:
        told.append("replacing")
        loop.forget(own)
        loop.forget(other)
        loop.watch_reads(other, lambda: told.append("new owner"))

    first, second = pipes[0][0], pipes[1][0]
    loop.watch_reads(first, lambda: replace(first, second))
    loop.watch_reads(second, lambda: replace(second, first))
    loop.run_once(0)
    assert told == ["replacing"]
    loop.run_once(0)
    assert told == ["replacing", "new owner"]


# ---- timers


def test_timers_run_in_the_order_of_their_times(loop: FrozenLoop) -> None:
    told: list[str] = []
    loop.call_later(2, lambda: told.append("second"))
    loop.call_later(1, lambda: told.append("first"))
    loop.call_at(1002, lambda: told.append("third"))
    loop.run_once(0)
    assert told == []
    loop.clock = 1002
    loop.run_once(0)
    assert told == ["first", "second", "third"]
    loop.run_once(0)
    assert len(told) == 3


def test_a_timer_waits_for_its_time(loop: FrozenLoop) -> None:
    told: list[str] = []
    loop.call_later(5, lambda: told.append("too early"))
    loop.clock = 1004.999
    loop.run_once(0)
    assert told == []


def test_a_cancelled_timer_does_not_run(loop: FrozenLoop) -> None:
    told: list[str] = []
    timer = loop.call_later(0, lambda: told.append("cancelled"))
    timer.cancel()
    timer.cancel()
    loop.run_once(0)
    assert told == []


def test_a_timer_cancelled_by_one_of_the_same_pass_does_not_run(loop: FrozenLoop) -> None:
    told: list[str] = []
    loop.call_at(1000, lambda: late.cancel())
    late = loop.call_at(1000, lambda: told.append("cancelled"))
    loop.run_once(0)
    assert told == []


def test_a_timer_that_sets_itself_anew_does_not_keep_the_loop(
    loop: FrozenLoop, pipes: list[tuple[int, int]]
) -> None:
    told: list[str] = []

    def again() -> None:
        told.append("timer")
        loop.call_later(0, again)

    loop.call_later(0, again)
    loop.watch_reads(pipes[0][0], lambda: told.append("read"))
    for _pass in range(3):
        loop.run_once(0)
    assert told == ["read", "timer"] * 3


def test_the_next_timer_bounds_the_wait(loop: FrozenLoop) -> None:
    loop.call_later(3600, lambda: None).cancel()
    loop.call_later(7, lambda: None)
    assert loop._wait_time(None) == 7
    assert loop._wait_time(2) == 2
    loop.clock = 1010
    assert loop._wait_time(None) == 0


def test_an_idle_loop_waits_for_ever(loop: FrozenLoop) -> None:
    assert loop._wait_time(None) is None
    loop.call_later(1, lambda: None).cancel()
    assert loop._wait_time(None) is None


# ---- signals


def test_a_signal_is_told_from_the_loop(loop: Loop) -> None:
    told: list[str] = []
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.on_signals({number: lambda name=number.name: told.append(name)})  # type: ignore[misc]
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert told == []
    loop.run_once()
    assert sorted(told) == ["SIGUSR1", "SIGUSR2"]


def test_a_signal_ends_a_wait(loop: Loop) -> None:
    told: list[str] = []
    loop.on_signals({signal.SIGUSR1: lambda: told.append("USR1")})
    main = threading.main_thread().ident
    assert main is not None
    helper = threading.Thread(target=lambda: signal.pthread_kill(main, signal.SIGUSR1))
    helper.start()
    while not told:
        # without a time limit: pytest's own ends the test if the signal is not seen
        loop.run_once()
    helper.join()
    assert told == ["USR1"]


def test_a_signal_in_a_signals_callback_is_told_too(loop: Loop) -> None:
    told: list[str] = []

    def first() -> None:
        told.append("USR1")
        os.kill(os.getpid(), signal.SIGUSR2)

    loop.on_signals({signal.SIGUSR1: first, signal.SIGUSR2: lambda: told.append("USR2")})
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_once()
    loop.run_once(0)
    assert told == ["USR1", "USR2"]


def test_many_signals_do_not_fill_the_pipe_for_ever(loop: Loop) -> None:
    told: list[int] = []
    loop.on_signals({signal.SIGUSR1: lambda: told.append(1)})
    for _signal in range(70_000):
        signal.raise_signal(signal.SIGUSR1)
    loop.run_once(0)
    assert len(told) == 70_000
    loop.run_once(0)
    assert loop._wait_time(None) is None
    signal.raise_signal(signal.SIGUSR1)
    loop.run_once()
    assert len(told) == 70_001


# ---- running


def test_run_goes_on_until_stopped(loop: FrozenLoop) -> None:
    passes: list[int] = []

    def after_pass() -> None:
        passes.append(len(passes))
        loop.call_later(0, loop.stop if len(passes) == 2 else lambda: None)

    loop.call_later(0, lambda: None)
    loop.run(after_pass)
    assert len(passes) == 3


def test_close_gives_everything_back() -> None:
    before = os.listdir("/proc/self/fd")
    loop = Loop()
    loop.on_signals({signal.SIGUSR1: lambda: None})
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_child_can_close_the_loop_it_inherited(loop: Loop, pipes: list[tuple[int, int]]) -> None:
    told: list[str] = []
    loop.watch_reads(pipes[0][0], lambda: told.append("read"))
    child = os.fork()
    if child == 0:
        try:
            loop.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    # closing must not have taken the parent's registrations out of the epoll instance they share
    loop.run_once(0)
    assert told == ["read"]
