# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/lifecycle.py with real processes: hung, stopped and stuck ones, orphans, locks, the end.

The child's own work is replaced by what each test needs; the clock is an argument.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.syncs import local_target, make_sync
from helpers.waiting import wait_until

from lsyncd_sd.config.model import Sync
from lsyncd_sd.errors import ExitStatus
from lsyncd_sd.loop import Loop
from lsyncd_sd.service import lifecycle as lifecycle_module
from lsyncd_sd.service import worker
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.child import (
    ABORT_SECONDS,
    FRUITLESS_LIMIT,
    KILL_SECONDS,
    RESPAWN_LIMIT_SECONDS,
    Child,
    Phase,
    new_child,
)
from lsyncd_sd.service.claims import PATIENCE_SECONDS
from lsyncd_sd.service.journal import Entry, Event, Journal, Priority
from lsyncd_sd.service.lifecycle import LOOK_AGAIN_SECONDS, STOP_SECONDS, Circumstances, Lifecycle
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.processes import session_members
from lsyncd_sd.service.spawn import SignalMask
from lsyncd_sd.service.status import State
from lsyncd_sd.service.turns import Turns

LIMIT = 30.0

Work = Callable[[worker.Assignment], None]


def wait_for_signals(_assignment: worker.Assignment) -> None:
    """Be a child that does nothing."""
    while True:
        signal.pause()


def leave_an_orphan(assignment: worker.Assignment) -> None:
    """Be a child that starts something that ignores SIGTERM, says who it is, and dies."""
    orphan = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"])
    (assignment.state_directory / "orphan").write_text(str(orphan.pid))
    os._exit(3)


class House:
    """What a supervisor has, without its loop: one lifecycle, and children that do what the test says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.entries: list[Entry] = []
        self.locks = Locks(folder / "locks")
        self.loop = Loop()
        self.turns = Turns(self.loop)
        self.given_back: list[str] = []
        self.started: list[int] = []
        self.channels: list[Channel] = []
        self.work: Work = wait_for_signals
        self.lifecycle = Lifecycle(
            Circumstances(
                journal=Journal(self, Priority.DEBUG),
                locks=self.locks,
                turns=self.turns,
                owner="the test",
                limit=LIMIT,
                runtime=folder,
                state_directory=folder,
                give_back=lambda child: self.given_back.append(child.sync.name),
                started=self._started,
            )
        )
        monkeypatch.setattr(worker, "run", self._run)

    def _started(self, child: Child) -> None:
        assert child.channel is not None
        self.channels.append(child.channel)

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)

    def events(self) -> list[Event | None]:
        return [entry.event for entry in self.entries]

    def _run(self, assignment: worker.Assignment, mask: SignalMask) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in (signal.SIGTERM, signal.SIGABRT):
            signal.signal(number, signal.SIG_DFL)
        (self.folder / f"ready-{os.getpid()}").touch()
        self.work(assignment)

    def reach(self, child: Child, times: int = 1) -> float:
        """Let the deadline of `child` be reached, `times` after another; return when the last one was."""
        for _ in range(times):
            now = child.deadline
            self.lifecycle.deadline_reached(child, now)
            if child.phase is Phase.RUNNING and child.pid not in self.started:
                self.started.append(child.pid)
                wait_until((self.folder / f"ready-{child.pid}").exists, "the child runs")
        return now

    def bury(self, child: Child, now: float) -> int:
        """Wait until the process of `child` is dead and say so; return its exit code."""
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        self.started.remove(child.pid)
        self.lifecycle.ended(child, code, now)
        return code

    def sweep(self, child: Child) -> None:
        """Look after the orphans until there are none."""

        def is_swept() -> bool:
            if child.phase is Phase.SWEEPING:
                self.reach(child)
            return child.phase is not Phase.SWEEPING

        wait_until(is_swept, "its session is empty")

    def close(self) -> None:
        for pid in self.started:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for channel in self.channels:
            channel.close()
        self.turns.close_in_child()
        self.loop.close()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    house = House(tmp_path, monkeypatch)
    yield house
    house.close()


@pytest.fixture
def child() -> Iterator[Child]:
    child = new_child(make_sync(), 1000.0)
    child.deadline = 100.0
    yield child
    child.claims.release()
    if child.queue >= 0:
        os.close(child.queue)


def test_a_start_takes_the_lock_opens_the_queue_and_forks(house: House, child: Child) -> None:
    assert house.reach(child) == 100.0
    assert (child.phase, child.deadline) == (Phase.RUNNING, 100.0 + LIMIT)
    assert os.readlink(f"/proc/self/fd/{child.queue}") == "anon_inode:inotify"
    assert (child.status.state, child.status.pid) == (State.STARTING, child.pid)
    assert os.getsid(child.pid) == child.pid
    assert house.given_back == [], "that is for the child to do"
    assert house.entries == []


def test_the_child_gets_what_it_needs(house: House, child: Child) -> None:
    def tell(assignment: worker.Assignment) -> None:
        told = (
            assignment.sync == child.sync,
            assignment.queue == child.queue,
            assignment.parent == os.getppid(),
            assignment.full_sync_reason,
            assignment.ping_interval < LIMIT / 2,
            assignment.refused,
            house.given_back,
        )
        (house.folder / "told").write_text(repr(told))

    house.work = tell
    child.full_sync_reason = "a reason"
    house.reach(child)
    assert house.bury(child, 101.0) == 0
    expected = (True, True, True, "a reason", True, {}, ["home"])
    assert (house.folder / "told").read_text() == repr(expected)


def test_a_hung_child_shows_its_stack_and_is_replaced(house: House, child: Child) -> None:
    house.reach(child)
    queue, pid = child.queue, child.pid
    now = house.reach(child)
    assert (child.phase, child.deadline) == (Phase.ABORTING, now + ABORT_SECONDS)
    assert house.bury(child, now + 1) == -signal.SIGABRT
    assert house.events() == [Event.CHILD_HUNG, Event.CHILD_CRASHED]
    house.sweep(child)
    assert child.phase is Phase.WAITING
    assert (child.restarts, child.status.restarts) == (1, 1)
    assert child.deadline > now + 1, "not at once"
    house.reach(child)
    assert child.phase is Phase.RUNNING
    assert child.pid != pid
    assert child.queue == queue, "what happened meanwhile is in it"
    assert child.full_sync_reason == "its process was replaced"


def test_a_child_that_ignores_sigabrt_is_killed(house: House, child: Child) -> None:
    def ignore(assignment: worker.Assignment) -> None:
        signal.signal(signal.SIGABRT, signal.SIG_IGN)
        (house.folder / "ignores").touch()
        wait_for_signals(assignment)

    house.work = ignore
    house.reach(child)
    wait_until((house.folder / "ignores").exists, "it ignores SIGABRT")
    now = house.reach(child, times=2)
    assert (child.phase, child.deadline) == (Phase.KILLING, now + KILL_SECONDS)
    assert house.bury(child, now) == -signal.SIGKILL
    assert "out of memory" not in house.entries[-1].message, "that was us"


@pytest.mark.parametrize("is_told_to_stop", [False, True])
def test_a_stopped_process_is_killed(house: House, child: Child, is_told_to_stop: bool) -> None:
    house.reach(child)
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    if is_told_to_stop:
        house.lifecycle.stop(child, None, 105.0)
        assert (child.phase, child.deadline) == (Phase.STOPPING, 105.0 + STOP_SECONDS)
    else:
        house.reach(child)
    now = house.reach(child)
    assert house.bury(child, now) == -signal.SIGKILL
    house.sweep(child)
    assert child.phase is (Phase.STOPPED if is_told_to_stop else Phase.WAITING)


def test_a_process_that_cannot_be_killed_is_stuck_and_not_replaced(house: House, child: Child) -> None:
    house.reach(child)
    # Nothing in a test hangs in the kernel: the signals go nowhere instead.
    pid, child.pid = child.pid, 2**22 + 1
    house.reach(child, times=4)
    assert (child.phase, child.status.state) == (Phase.STUCK, State.STUCK)
    assert house.events()[-1] is Event.CHILD_STUCK
    assert child.deadline == float("inf")
    house.reach(child)
    assert child.phase is Phase.STUCK
    child.pid = pid
    os.kill(pid, signal.SIGKILL)
    house.bury(child, 1000.0)
    house.sweep(child)
    assert child.phase is Phase.WAITING, "once it is dead there may be another one"


def test_a_parent_that_ends_does_not_wait_for_what_is_stuck(house: House, child: Child) -> None:
    house.reach(child)
    pid, child.pid = child.pid, 2**22 + 1
    house.reach(child, times=4)
    house.lifecycle.stop(child, child.sync, 500.0)
    assert child.phase is Phase.STUCK, "a reload waits until it is dead"
    house.lifecycle.is_stopping = True
    house.lifecycle.stop(child, None, 500.0)
    assert child.phase is Phase.STOPPED
    child.pid = pid


def test_a_parent_that_ends_does_not_wait_for_what_gets_stuck(house: House, child: Child) -> None:
    house.reach(child)
    pid, child.pid = child.pid, 2**22 + 1
    house.lifecycle.is_stopping = True
    house.lifecycle.stop(child, None, 500.0)
    house.reach(child, times=2)
    assert child.phase is Phase.STOPPED
    child.pid = pid


def test_orphans_are_ended_before_the_next_start(house: House, child: Child) -> None:
    house.work = leave_an_orphan
    house.reach(child)
    session = child.pid
    assert house.bury(child, 101.0) == 3
    orphan = int((house.folder / "orphan").read_text())
    assert orphan in session_members(session)
    assert house.reach(child) == 101.0, "at once"
    assert (child.phase, child.deadline) == (Phase.SWEEPING, 101.0 + LOOK_AGAIN_SECONDS)
    house.sweep(child)
    assert session_members(session) == []
    assert child.phase is Phase.WAITING


@pytest.mark.parametrize("ends_by", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_that_is_told_to_stop_has_not_crashed(
    house: House, child: Child, ends_by: signal.Signals
) -> None:
    house.reach(child)
    successor = make_sync(delay=1.0)
    house.lifecycle.stop(child, successor, 105.0)
    if ends_by is signal.SIGKILL:
        os.kill(child.pid, signal.SIGKILL)
    house.bury(child, 106.0)
    house.sweep(child)
    assert (child.phase, child.restarts, child.successor) == (Phase.STOPPED, 0, successor)
    assert house.entries == []


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.FAILED])
def test_what_does_not_run_is_stopped_at_once(house: House, child: Child, phase: Phase) -> None:
    child.phase = phase
    house.lifecycle.stop(child, None, 100.0)
    assert child.phase is Phase.STOPPED


def test_what_is_swept_is_stopped_when_that_is_done(house: House, child: Child) -> None:
    house.work = leave_an_orphan
    house.reach(child)
    house.bury(child, 101.0)
    house.lifecycle.stop(child, None, 101.0)
    assert child.phase is Phase.SWEEPING
    house.sweep(child)
    assert child.phase is Phase.STOPPED


def test_a_kill_from_outside_may_have_been_the_kernels(house: House, child: Child) -> None:
    house.reach(child)
    os.kill(child.pid, signal.SIGKILL)
    house.bury(child, 101.0)
    assert "was ended by signal 9 (if nobody did it: was the machine out of memory?)" in (
        house.entries[-1].message
    )
    assert (child.status.state, child.status.pid) == (State.STARTING, None)


def test_a_child_that_comes_to_nothing_is_given_up(house: House, child: Child) -> None:
    house.work = lambda _assignment: os._exit(1)
    for _ in range(FRUITLESS_LIMIT):
        assert child.phase is Phase.WAITING
        house.bury(child, house.reach(child) + 5)
        house.sweep(child)
    assert child.phase is Phase.FAILED
    assert child.status.state is State.FAILED
    assert child.status.reason == "its process crashed 5 times; the last one ended with exit status 1"
    assert house.events()[-1] is Event.CHILD_FAILED
    assert "`lsyncd-sd restart home` tries again" in house.entries[-1].message
    assert child.failure is ExitStatus.NOT_GOOD


def other_sync() -> Sync:
    return make_sync(name="other", target=local_target("/target/below"))


def test_a_target_that_belongs_to_another_is_for_a_person(
    house: House, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # any other process that is there
        patch.setattr(os, "getpid", os.getppid)
        held = house.locks.take_target(other_sync().target, "another parent")
    house.reach(child)
    os.close(held)
    assert (child.phase, child.status.state) == (Phase.FAILED, State.FAILED)
    assert "mirrored to already" in child.status.reason
    assert "another parent" in child.status.reason
    assert child.failure is ExitStatus.USAGE
    assert child.is_ready, "the others need not wait for it"


def test_a_target_that_a_sibling_is_about_to_leave_is_waited_for(house: House, child: Child) -> None:
    held = house.locks.take_target(other_sync().target, "the test")
    house.reach(child)
    assert (child.phase, child.deadline) == (Phase.WAITING, 100.0 + LOOK_AGAIN_SECONDS)
    house.locks.release(held)
    house.reach(child)
    assert child.phase is Phase.RUNNING


@pytest.fixture
def torn(tmp_path: Path) -> Iterator[Child]:
    """A child for three targets, of which another parent has one."""
    one, two, three = (make_sync(target=local_target(f"/{name}")) for name in ("one", "two", "three"))
    child = new_child(replace(one, others=(two, three)), 1000.0)
    child.deadline = 100.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", os.getppid)
        held = Locks(tmp_path / "locks").take_target(two.target, "another parent")
    yield child
    os.close(held)
    child.claims.release()
    if child.queue >= 0:
        os.close(child.queue)


def test_a_target_that_belongs_to_another_keeps_none_of_the_others(house: House, torn: Child) -> None:
    def tell(assignment: worker.Assignment) -> None:
        (house.folder / "told").write_text(" ".join(target.text for target in assignment.refused))

    house.work = tell
    house.reach(torn)
    assert torn.phase is Phase.RUNNING
    assert house.bury(torn, 101.0) == 0
    assert (house.folder / "told").read_text() == "/two"
    entry = house.entries[0]
    assert entry.message.startswith("/two: failed: /two is mirrored to already")
    assert (entry.event, entry.fields.get("targets")) == (Event.CHILD_FAILED, ["/two"])


def test_a_target_that_is_not_given_up_is_done_without_in_the_end(
    house: House, torn: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # its holder is gone, and what it has started is not
        patch.setattr(os.path, "exists", lambda _path: False)
        house.reach(torn)
        assert (torn.phase, torn.deadline) == (Phase.WAITING, 100.0 + LOOK_AGAIN_SECONDS)
        torn.deadline = 100.0 + PATIENCE_SECONDS
        house.lifecycle.deadline_reached(torn, torn.deadline)
    assert torn.phase is Phase.RUNNING
    house.started.append(torn.pid)
    assert [target.text for target in torn.claims.refused] == ["/two"]


def test_no_more_queues_are_a_failure_with_a_hint(
    house: House, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(lifecycle_module.inotify, "open_queue", fail)
    house.reach(child)
    assert child.phase is Phase.FAILED
    assert "max_user_instances" in child.status.reason
    assert child.failure is ExitStatus.NOT_GOOD


def test_no_more_processes_are_waited_for(
    house: House, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle_module, "spawn", fail)
        house.reach(child)
    assert (child.phase, child.deadline) == (Phase.WAITING, 100.0 + RESPAWN_LIMIT_SECONDS)
    assert "Resource temporarily unavailable" in child.status.reason
    house.reach(child)
    assert child.phase is Phase.RUNNING
    assert child.status.reason == ""
