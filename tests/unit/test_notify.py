# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/notify.py over real sockets: up to a manager, down from children; the watchdog."""

from __future__ import annotations

import array
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lsyncd_sd.service.notify import (
    CHILD_SECONDS,
    ChildSocket,
    Manager,
    Message,
    Notifier,
    child_watchdog_seconds,
    manager_watchdog_seconds,
)


@pytest.fixture(autouse=True)
def no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)


# the watchdog's sums


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("20000000", "", 20.0),
        ("20000000", "own", 20.0),
        ("20000000", "1", None),
        ("0", "", None),
        ("-1", "", None),
        ("soon", "", None),
        ("", "", None),
    ],
)
def test_who_is_asked_to_ping(
    microseconds: str, pid: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert manager_watchdog_seconds() == seconds


def test_nobody_asks() -> None:
    assert manager_watchdog_seconds() is None
    assert child_watchdog_seconds() == CHILD_SECONDS
    assert Manager().ping_interval is None


@pytest.mark.parametrize(("manager", "child"), [(20, 10.0), (600, CHILD_SECONDS)])
def test_a_hung_child_is_replaced_before_the_manager_loses_patience(
    manager: int, child: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", str(manager * 1_000_000))
    assert child_watchdog_seconds() == child
    assert child < manager


# up


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(tmp_path / "manager"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
        yield listener


def heard(listener: socket.socket) -> list[str]:
    """Return all messages that have come in."""
    messages = []
    while True:
        try:
            messages.append(listener.recv(65536).decode())
        except BlockingIOError:
            return messages


def test_what_the_manager_is_told(manager: socket.socket) -> None:
    told = Manager()
    told.ready()
    told.status("1 in-sync")
    told.extend_start(5_000_000)
    told.stopping()
    assert heard(manager) == ["READY=1", "STATUS=1 in-sync", "EXTEND_TIMEOUT_USEC=5000000", "STOPPING=1"]


def test_a_reload_says_when_it_began(manager: socket.socket) -> None:
    Manager().reloading()
    (message,) = heard(manager)
    first, second = message.split("\n")
    assert first == "RELOADING=1"
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    # Since the boot, and in microseconds: at least a second and at most a hundred years.
    assert 10**6 < int(microseconds) < 10**6 * 86400 * 36500


def test_a_status_is_sent_when_it_changes(manager: socket.socket) -> None:
    told = Manager()
    for text in ("a", "a", "b", "a"):
        told.status(text)
    assert heard(manager) == ["STATUS=a", "STATUS=b", "STATUS=a"]


def test_pings_are_sent_when_due(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    told = Manager()
    assert told.ping_interval == 10.0
    for now, expected in [(100.0, 1), (100.1, 0), (109.9, 0), (110.0, 1), (150.0, 1), (159.0, 0)]:
        told.ping(now)
        assert heard(manager) == ["WATCHDOG=1"] * expected, now


def test_a_manager_that_does_not_ask_is_not_pinged(manager: socket.socket) -> None:
    Manager().ping(100.0)
    assert heard(manager) == []


def test_a_manager_that_is_gone_stops_nobody(manager: socket.socket) -> None:
    manager.close()
    told = Manager()
    told.ready()
    told.status("fine")
    told.stopping()


# down


@pytest.fixture
def children(tmp_path: Path) -> Iterator[ChildSocket]:
    listener = ChildSocket(tmp_path)
    yield listener
    listener.close()


@pytest.fixture
def sender(children: ChildSocket) -> Iterator[socket.socket]:
    """A socket that is connected to the parent's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connected:
        connected.connect(children.address)
        yield connected


def received(children: ChildSocket) -> list[Message]:
    return list(children.messages())


def in_a_child(talk: Callable[[Notifier], None]) -> int:
    """Let another process talk; return its process id when it has ended."""
    pid = os.fork()
    if pid == 0:
        talk(Notifier())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    return pid


def test_what_the_parent_is_told(children: ChildSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", children.address)
    status = {"reason": "ä\n=\udcff", "pending": 3}

    def talk(notifier: Notifier) -> None:
        notifier.ready()
        notifier.ping()
        notifier.walking(2.5)
        notifier.stopping()
        notifier.status(status)

    pid = in_a_child(talk)
    messages = received(children)
    assert [message.pid for message in messages] == [pid] * 5
    assert [dict(message.values) for message in messages[:4]] == [
        {"READY": "1"},
        {"WATCHDOG": "1"},
        {"EXTEND_TIMEOUT_USEC": "2500000"},
        {"STOPPING": "1"},
    ]
    assert json.loads(messages[4].values["X_LSYNCD_STATUS"]) == status


def test_the_kernel_names_the_sender(children: ChildSocket) -> None:
    pid = os.fork()
    if pid == 0:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connected:
            connected.sendto(b"WATCHDOG=1\nMAINPID=1", children.address)
        os._exit(0)
    os.waitpid(pid, 0)
    assert received(children) == [Message(pid, {"WATCHDOG": "1", "MAINPID": "1"})]


def test_descriptors_that_somebody_passes_are_closed(children: ChildSocket, sender: socket.socket) -> None:
    before = os.listdir("/proc/self/fd")
    for count in (1, 3, 4, 5, 50, 250):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sender.fileno()] * count))]
        sender.sendmsg([b"WATCHDOG=1"], rights)
        assert received(children) == [Message(os.getpid(), {"WATCHDOG": "1"})]
        assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"", {}),
        (b"\0" * 100, {}),
        (b"no assignment", {}),
        (b"=", {"": ""}),
        (b"A=1=2", {"A": "1=2"}),
        (b"\xff=\xfe\nWATCHDOG=1", {"\ufffd": "\ufffd", "WATCHDOG": "1"}),
        (b"\n\nA=1\nA=2\n", {"A": "2"}),
    ],
)
def test_garbage_is_what_it_is(
    children: ChildSocket, sender: socket.socket, data: bytes, values: dict[str, str]
) -> None:
    sender.send(data)
    sender.send(b"READY=1")
    assert received(children) == [
        Message(os.getpid(), values),
        Message(os.getpid(), {"READY": "1"}),
    ]


def test_a_message_that_is_too_long_is_cut(children: ChildSocket, sender: socket.socket) -> None:
    sender.send(b"READY=1\nX=" + b"x" * 100_000)
    (message,) = received(children)
    assert message.values["READY"] == "1"
    assert len(message.values["X"]) < 100_000


def test_nothing_has_come_in(children: ChildSocket) -> None:
    assert received(children) == []


def test_only_its_user_may_write_to_the_socket(children: ChildSocket, tmp_path: Path) -> None:
    status = (tmp_path / "notify").stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_the_socket_of_a_dead_parent_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(tmp_path / "notify"))
    listener = ChildSocket(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connected:
        connected.sendto(b"READY=1", str(tmp_path / "notify"))
    assert received(listener) == [Message(os.getpid(), {"READY": "1"})]
    listener.close()
    assert list(tmp_path.iterdir()) == []


def test_a_path_longer_than_any_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    listener = ChildSocket(folder)
    assert len(listener.address) < 108
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    pid = in_a_child(lambda notifier: notifier.ping())
    assert received(listener) == [Message(pid, {"WATCHDOG": "1"})]
    listener.close()
    assert list(folder.iterdir()) == []


def test_all_descriptors_are_given_back(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    ChildSocket(tmp_path).close()
    assert os.listdir("/proc/self/fd") == before
