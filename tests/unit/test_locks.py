# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/locks.py with real locks of a second process: what overlaps, what is free."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.syncs import local_target

from lsyncd_sd.config.model import Target, TargetKind
from lsyncd_sd.errors import ExitStatus, LsyncdError
from lsyncd_sd.service import locks as locks_module
from lsyncd_sd.service.locks import FULL_SYNCS_PER_HOST, LockBusyError, Locks


def ssh(path: str, host: str = "backup", user: str = "") -> Target:
    return Target(f"{user}@{host}:{path}", TargetKind.SSH, host, path, user)


def rsyncd(path: str, host: str = "backup", port: int | None = None) -> Target:
    return Target(f"rsync://{host}:{port}/{path}", TargetKind.DAEMON, host, path, port=port)


Holder = Callable[[Target], int]


@pytest.fixture
def locks(tmp_path: Path) -> Locks:
    return Locks(tmp_path / "run" / "locks")


@pytest.fixture
def hold(locks: Locks) -> Iterator[Holder]:
    """Let another process take the lock of a target and keep it; returns its process id."""
    holders: list[int] = []

    def start(target: Target) -> int:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            with open(write, "wb") as told:
                locks.take_target(target, "lsyncd-sd run other")
                told.write(b"taken")
            signal.pause()
            os._exit(0)
        holders.append(pid)
        os.close(write)
        with open(read, "rb") as told:
            assert told.read() == b"taken"
        return pid

    yield start
    for pid in holders:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


OVERLAPPING = [
    (local_target("/srv/a"), local_target("/srv/a")),
    (local_target("/srv/a"), local_target("/srv/a/b")),
    (local_target("/srv/a"), local_target("/srv/a/b/c")),
    (local_target("/"), local_target("/srv")),
    (local_target("/srv//a/."), local_target("/srv/x/../a")),
    (ssh("/srv/a"), ssh("/srv/a/b")),
    # An absolute path is the same for every login.
    (ssh("/srv/a", user="ada"), ssh("/srv/a", user="bob")),
    # The login directory itself holds every relative path.
    (ssh(""), ssh("a/b")),
    (ssh("a"), ssh("./a/b")),
    (rsyncd("module"), rsyncd("module/a")),
    (rsyncd("module/a", port=8730), rsyncd("module/a", port=8730)),
]

APART = [
    (local_target("/srv/a"), local_target("/srv/ab")),
    (local_target("/srv/a/b"), local_target("/srv/a/c")),
    (local_target("/srv/a"), ssh("/srv/a")),
    (ssh("/srv/a"), rsyncd("srv/a")),
    (ssh("/srv/a", "one"), ssh("/srv/a", "two")),
    (ssh("a", user="ada"), ssh("a", user="bob")),
    (rsyncd("module/a"), rsyncd("module/a", port=8730)),
]


@pytest.mark.parametrize(("held", "wanted"), OVERLAPPING + [(b, a) for a, b in OVERLAPPING])
def test_what_overlaps_is_refused(locks: Locks, hold: Holder, held: Target, wanted: Target) -> None:
    hold(held)
    with pytest.raises(LsyncdError) as caught:
        locks.take_target(wanted, "me")
    assert caught.value.message == (
        f"{wanted.text} is mirrored to already, as {held.text} by lsyncd-sd run other"
    )
    assert caught.value.hint
    assert caught.value.exit_status is ExitStatus.USAGE


@pytest.mark.parametrize(("held", "wanted"), APART + [(b, a) for a, b in APART])
def test_what_lies_apart_is_free(locks: Locks, hold: Holder, held: Target, wanted: Target) -> None:
    hold(held)
    os.close(locks.take_target(wanted, "me"))


def test_one_of_our_own_is_waited_for(locks: Locks) -> None:
    descriptor = locks.take_target(local_target("/srv"), "one")
    with pytest.raises(LockBusyError):
        locks.take_target(local_target("/srv/a"), "two")
    locks.release(descriptor)
    os.close(locks.take_target(local_target("/srv/a"), "two"))


def test_a_lock_is_given_back_although_a_fork_still_has_its_descriptor(locks: Locks) -> None:
    descriptor = locks.take_target(local_target("/srv"), "one")
    inherited = os.dup(descriptor)
    locks.release(descriptor)
    os.close(locks.take_target(local_target("/srv"), "two"))
    os.close(inherited)


def test_a_lock_is_free_however_its_holder_ends(locks: Locks, hold: Holder) -> None:
    os.kill(pid := hold(local_target("/srv/a")), signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    os.close(locks.take_target(local_target("/srv/a"), "me"))


def test_the_heirs_of_a_dead_owner_are_waited_for(locks: Locks) -> None:
    """A parent that was killed leaves children, which hold its locks for a moment."""
    read, write = os.pipe()
    owner = os.fork()
    if owner == 0:
        locks.take_target(local_target("/srv/a"), "a parent")
        if os.fork() == 0:
            os.close(write)
            os.read(read, 1)
        os._exit(0)
    os.close(read)
    os.waitpid(owner, 0)
    try:
        for wanted in (local_target("/srv/a"), local_target("/srv/a/b"), local_target("/srv")):
            with pytest.raises(LockBusyError):
                locks.take_target(wanted, "me")
    finally:
        os.close(write)


def test_who_takes_a_lock_right_now_is_waited_for(locks: Locks, tmp_path: Path) -> None:
    guard = locks._open("guard")
    assert locks_module._try_lock(guard)
    with pytest.raises(LockBusyError):
        locks.take_target(local_target("/srv/a"), "me")
    os.close(guard)
    os.close(locks.take_target(local_target("/srv/a"), "me"))


def test_what_cannot_be_read_is_busy_when_it_is_our_own(locks: Locks, tmp_path: Path) -> None:
    """Somebody was stopped between taking a lock and saying so."""
    descriptor = locks.take_target(local_target("/srv/a"), "stopped")
    os.ftruncate(descriptor, 0)
    with pytest.raises(LockBusyError):
        locks.take_target(local_target("/srv/a"), "me")
    os.close(locks.take_target(local_target("/srv/b"), "me"))
    os.close(descriptor)


def test_files_that_are_left_over_are_removed(locks: Locks, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "locks"
    for path in ("/srv/a", "/srv/b"):
        os.close(locks.take_target(local_target(path), "me"))
    (folder / "target-torn").write_text('{"kind": "lo')
    (folder / "target-foreign").write_bytes(b"\xff")
    held = locks.take_target(local_target("/srv/c"), "me")
    assert len(list(folder.glob("target-*"))) == 1
    os.close(held)


def test_a_refusal_leaves_no_descriptor_open(locks: Locks, hold: Holder) -> None:
    hold(local_target("/srv"))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(LsyncdError):
        locks.take_target(local_target("/srv/a"), "me")
    assert os.listdir("/proc/self/fd") == before


def test_so_many_full_syncs_to_a_host_at_once(locks: Locks) -> None:
    taken = [locks.take_host_slot("backup") for _ in range(FULL_SYNCS_PER_HOST)]
    assert None not in taken
    before = os.listdir("/proc/self/fd")
    assert locks.take_host_slot("backup") is None
    assert os.listdir("/proc/self/fd") == before
    other = locks.take_host_slot("other")
    assert other is not None
    for descriptor in [*filter(None, taken[1:]), other]:
        os.close(descriptor)
    assert taken[0] is not None
    os.close(taken[0])
    again = locks.take_host_slot("backup")
    assert again is not None
    os.close(again)


def test_slots_hold_between_processes(locks: Locks) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        while locks.take_host_slot("backup") is not None:
            pass
        os.write(write, b"x")
        signal.pause()
        os._exit(0)
    assert os.read(read, 1) == b"x"
    assert locks.take_host_slot("backup") is None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    slot = locks.take_host_slot("backup")
    assert slot is not None
    for descriptor in (slot, read, write):
        os.close(descriptor)


def test_locks_are_not_passed_on_to_programs(locks: Locks) -> None:
    slot = locks.take_host_slot("backup")
    assert slot is not None
    for descriptor in (locks.take_target(local_target("/srv"), "me"), slot):
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        Locks(tmp_path / "file" / "locks")
