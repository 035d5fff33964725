# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests the event loop: timers in their order, descriptors that come and go, and signals that wake it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from helpers.looping import run_until
from helpers.waiting import DEADLINE

from lsyncd_sd.loop import Loop

# A pass that waits so long has not been woken.
FOR_EVER = DEADLINE


@pytest.fixture
def loop() -> Iterator[Loop]:
    one = Loop()
    yield one
    one.close()


@pytest.fixture
def seen() -> list[str]:
    return []


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for descriptor in ends:
        os.close(descriptor)


def note(seen: list[str], what: str) -> Callable[[], None]:
    return lambda: seen.append(what)


# ---- timers


def test_timers_run_in_the_order_of_their_times(loop: Loop, seen: list[str]) -> None:
    now = loop.now()
    for name, when in (("third", now - 1), ("first", now - 3), ("second", now - 2), ("also third", now - 1)):
        loop.call_at(when, note(seen, name))
    loop.run_once(0)
    assert seen == ["first", "second", "third", "also third"]
    loop.run_once(0)
    assert len(seen) == 4


def test_a_timer_waits_for_its_time(loop: Loop, seen: list[str]) -> None:
    loop.call_later(3600, note(seen, "later"))
    timer = loop.call_later(0.05, note(seen, "soon"))
    loop.run_once(0)
    assert seen == []
    run_until(loop, lambda: seen, "the timer is due")
    assert seen == ["soon"]
    assert loop.now() >= timer.when


def test_the_wait_ends_with_the_first_timer_or_the_given_time(loop: Loop, seen: list[str]) -> None:
    loop.run_once(0.01)
    loop.call_later(FOR_EVER, note(seen, "never"))
    loop.run_once(0.01)
    assert seen == []
    loop.call_later(0.01, note(seen, "soon"))
    begin = time.monotonic()
    loop.run_once(FOR_EVER)
    loop.run_once(FOR_EVER if not seen else 0)
    assert seen == ["soon"]
    assert time.monotonic() - begin < FOR_EVER


def test_a_cancelled_timer_never_runs(loop: Loop, seen: list[str]) -> None:
    timer = loop.call_at(loop.now() - 1, note(seen, "cancelled"))
    loop.call_at(loop.now(), note(seen, "other"))
    timer.cancel()
    timer.cancel()
    loop.run_once(0)
    assert seen == ["other"]


def test_a_cancelled_timer_wakes_nobody(loop: Loop, seen: list[str]) -> None:
    loop.call_at(loop.now() - 1, note(seen, "cancelled")).cancel()
    loop.call_later(0.02, note(seen, "other"))
    loop.run_once(FOR_EVER)
    assert seen == ["other"]


def test_a_timer_may_cancel_one_that_is_due_too(loop: Loop, seen: list[str]) -> None:
    now = loop.now()
    loop.call_at(now - 2, lambda: other.cancel())
    other = loop.call_at(now - 1, note(seen, "cancelled"))
    loop.run_once(0)
    loop.run_once(0)
    assert seen == []


def test_a_timer_may_be_cancelled_after_it_ran(loop: Loop, seen: list[str]) -> None:
    timer = loop.call_at(loop.now(), note(seen, "ran"))
    loop.run_once(0)
    timer.cancel()
    loop.run_once(0)
    assert seen == ["ran"]


def test_a_timer_that_arms_itself_again_does_not_keep_the_loop(loop: Loop, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    seen: list[str] = []

    def again() -> None:
        seen.append("timer")
        loop.call_at(loop.now(), again)

    def read() -> None:
        seen.append("read")
        os.read(reader, 1)

    again()
    loop.watch_reads(reader, read)
    os.write(writer, b"xx")
    loop.run_once(FOR_EVER)
    assert seen == ["timer", "read", "timer"]
    loop.run_once(FOR_EVER)
    assert seen == ["timer", "read", "timer", "read", "timer"]


# ---- descriptors


def test_reads(loop: Loop, seen: list[str], pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    loop.watch_reads(reader, note(seen, "read"))
    loop.run_once(0)
    assert seen == []
    os.write(writer, b"x")
    loop.run_once(FOR_EVER)
    # as long as there is something, in each pass
    loop.run_once(FOR_EVER)
    assert seen == ["read", "read"]
    os.read(reader, 1)
    loop.run_once(0)
    assert seen == ["read", "read"]


def test_writes(loop: Loop, seen: list[str], pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    while True:
        try:
            os.write(writer, b"x" * 4096)
        except BlockingIOError:
            break
    loop.watch_writes(writer, note(seen, "write"))
    loop.run_once(0)
    assert seen == []
    os.read(reader, 65536)
    loop.run_once(FOR_EVER)
    assert seen == ["write"]


def test_a_second_callback_takes_the_place_of_the_first(
    loop: Loop, seen: list[str], pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    loop.watch_reads(reader, note(seen, "first"))
    loop.watch_reads(reader, note(seen, "second"))
    os.write(writer, b"x")
    loop.run_once(FOR_EVER)
    assert seen == ["second"]


def test_what_is_forgotten_is_not_called(loop: Loop, seen: list[str], pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    loop.watch_reads(reader, note(seen, "read"))
    loop.forget(reader)
    loop.forget(reader)
    loop.forget(12345)
    os.write(writer, b"x")
    loop.run_once(0)
    assert seen == []


@pytest.fixture
def two_ready(pipe: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Two descriptors that can both be read: which one is called first is not known."""
    other = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(pipe[1], b"x")
    os.write(other[1], b"x")
    yield pipe[0], other[0]
    for descriptor in other:
        os.close(descriptor)


def test_a_callback_may_forget_another_that_is_ready_too(
    loop: Loop, seen: list[str], two_ready: tuple[int, int]
) -> None:
    def forget_the_other(mine: int, other: int) -> Callable[[], None]:
        def called() -> None:
            seen.append(f"{mine}")
            loop.forget(other)

        return called

    one, other = two_ready
    loop.watch_reads(one, forget_the_other(one, other))
    loop.watch_reads(other, forget_the_other(other, one))
    loop.run_once(FOR_EVER)
    assert len(seen) == 1


def test_a_number_used_again_is_not_called_for_what_it_was(
    loop: Loop, seen: list[str], two_ready: tuple[int, int]
) -> None:
    """The first callback closes the other's descriptor and gets its number for something of its own."""
    one, other = two_ready
    quiet_reader, quiet_writer = os.pipe2(os.O_CLOEXEC)

    def take_number(of: int) -> Callable[[], None]:
        def called() -> None:
            seen.append("called")
            loop.forget(of)
            kept = os.dup(of)
            os.dup2(quiet_reader, of, inheritable=False)
            os.close(kept)
            loop.watch_reads(of, note(seen, "the new one, which has nothing to read"))

        return called

    loop.watch_reads(one, take_number(other))
    loop.watch_reads(other, take_number(one))
    loop.run_once(FOR_EVER)
    assert seen == ["called"]
    for descriptor in (quiet_reader, quiet_writer):
        os.close(descriptor)


def test_a_callback_may_watch_more(loop: Loop, seen: list[str], two_ready: tuple[int, int]) -> None:
    one, other = two_ready

    def watch_the_other() -> None:
        loop.forget(one)
        loop.watch_reads(other, note(seen, "other"))

    loop.watch_reads(one, watch_the_other)
    loop.run_once(FOR_EVER)
    assert seen == []
    loop.run_once(FOR_EVER)
    assert seen == ["other"]


# ---- signals


def test_a_signal_wakes_the_loop(loop: Loop, seen: list[str]) -> None:
    loop.on_signals({signal.SIGUSR1: note(seen, "usr1")})
    # most likely when the kernel is already asked to wait
    with subprocess.Popen(["sh", "-c", f"sleep 0.05; kill -USR1 {os.getpid()}"]):
        run_until(loop, lambda: seen, "the signal is seen")
    assert seen == ["usr1"]


def test_a_signal_only_queues(loop: Loop, seen: list[str]) -> None:
    loop.on_signals({signal.SIGUSR1: note(seen, "usr1"), signal.SIGUSR2: note(seen, "usr2")})
    for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    assert seen == []
    loop.run_once(FOR_EVER)
    assert seen == ["usr2", "usr1", "usr1"]
    loop.run_once(0)
    assert len(seen) == 3


def test_a_signal_during_a_pass_is_not_left_for_the_wait(
    loop: Loop, seen: list[str], pipe: tuple[int, int]
) -> None:
    loop.on_signals({signal.SIGUSR1: note(seen, "usr1")})
    loop.call_at(loop.now(), lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.run_once(FOR_EVER)
    loop.run_once(FOR_EVER)
    assert seen == ["usr1"]


def test_more_signals_than_the_pipe_that_wakes_the_loop_holds(
    loop: Loop, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    loop.on_signals({signal.SIGUSR1: note(seen, "usr1")})
    for _ in range(66_000):
        signal.raise_signal(signal.SIGUSR1)
    run_until(loop, lambda: len(seen) == 66_000, "all are seen")
    # and none of them wakes it again
    loop.run_once(0)
    loop.call_later(0.02, note(seen, "timer"))
    loop.run_once(FOR_EVER)
    assert seen[-1] == "timer"
    assert capfd.readouterr().err == ""


# ---- run and close


def test_run_ends_with_the_pass_in_which_it_was_stopped(loop: Loop, seen: list[str]) -> None:
    def stop() -> None:
        seen.append("stop")
        loop.stop()

    now = loop.now()
    loop.call_at(now - 2, note(seen, "before"))
    loop.call_at(now - 1, stop)
    loop.call_at(now, note(seen, "same pass"))
    loop.run(note(seen, "after pass"))
    assert seen == ["before", "stop", "same pass", "after pass"]


def test_run_calls_after_each_pass(loop: Loop, seen: list[str]) -> None:
    def again() -> None:
        seen.append("timer")
        loop.call_at(loop.now(), loop.stop)

    loop.call_at(loop.now(), again)
    loop.run(note(seen, "after"))
    assert seen == ["timer", "after", "after"]


def test_close_gives_everything_back(seen: list[str], pipe: tuple[int, int]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    loop = Loop()
    loop.on_signals({signal.SIGUSR1: note(seen, "usr1"), signal.SIGWINCH: note(seen, "winch")})
    loop.watch_reads(pipe[0], note(seen, "read"))
    loop.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGWINCH) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
    # by default this one is ignored: it must not be queued for a loop that never runs again
    os.kill(os.getpid(), signal.SIGWINCH)
    assert seen == []


def test_its_descriptors_are_not_inherited() -> None:
    before = set(os.listdir("/proc/self/fd"))
    loop = Loop()
    new = set(os.listdir("/proc/self/fd")) - before
    assert new
    inherited = [number for number in new if os.path.exists(f"/proc/self/fd/{number}")]
    assert not any(os.get_inheritable(int(number)) for number in inherited)
    loop.close()
