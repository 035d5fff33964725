# SPDX-License-Identifier: GPL-2.0-or-later
"""Speaks sd_notify: up to the service manager, down from the children; and the watchdog's arithmetic."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import sdnotify
from systemd import daemon

from lsyncd_sd.service.environment import NOTIFY_SOCKET

# A child that says nothing for so long hangs, where no service manager asks for less. A guess: longer than
# any pass of its loop, short enough that nobody waits for a person to notice.
CHILD_SECONDS = 30.0

# The largest message is a child's status, well below a kilobyte; a longer one would be cut and is not ours.
_MESSAGE_BYTES = 64 * 1024
_CREDENTIALS = struct.Struct("3i")


def manager_watchdog_seconds() -> float | None:
    """Return how often the service manager wants to hear from this process, None if it does not ask.

    WATCHDOG_PID names who is asked: the variables are inherited by others (sd_watchdog_enabled(3)).
    """
    with contextlib.suppress(ValueError):
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
        if microseconds > 0 and os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            return microseconds / 1e6
    return None


def child_watchdog_seconds() -> float:
    """Return how long a child may stay silent: half of the parent's own limit, at most CHILD_SECONDS.

    Half, so that a hung child is replaced long before the manager loses patience with the parent.
    """
    manager = manager_watchdog_seconds()
    return CHILD_SECONDS if manager is None else min(CHILD_SECONDS, manager / 2)


class Manager:
    """The service manager, as the parent talks to it; silent where there is none."""

    def __init__(self) -> None:
        seconds = manager_watchdog_seconds()
        # A third: one ping may be late, and one lost, before the manager acts.
        self._ping_interval = None if seconds is None else seconds / 3
        self._next_ping = 0.0
        self._last_status = ""

    @property
    def ping_interval(self) -> float | None:
        """Seconds after which a ping is due again, None if nobody waits for it."""
        return self._ping_interval

    def _tell(self, message: str) -> None:
        # A manager that does not listen (any more) is no reason to stop mirroring.
        with contextlib.suppress(OSError):
            daemon.notify(message)

    def ready(self) -> None:
        """The service does its work."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. The time is what Type=notify-reload asks for."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """Show `text` in `systemctl status`; the same text again is not sent."""
        if text != self._last_status:
            self._last_status = text
            self._tell(f"STATUS={text}")

    def extend_start(self, microseconds: int) -> None:
        """Ask for more time to start."""
        self._tell(f"EXTEND_TIMEOUT_USEC={microseconds}")

    def ping(self, now: float) -> None:
        """Tell the watchdog that the loop goes round; called at the end of each pass, sent when due."""
        if self._ping_interval is not None and now >= self._next_ping:
            self._next_ping = now + self._ping_interval
            self._tell("WATCHDOG=1")


@dataclass(frozen=True, slots=True)
class Message:
    """What one child sent, by the kernel's word for who it was."""

    pid: int
    values: Mapping[str, str]


class ChildSocket:
    """The private socket that the children of one parent notify; made before the first fork."""

    def __init__(self, runtime: Path) -> None:
        self._directory = os.open(runtime, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # By way of the open directory: the address of a socket may have 108 bytes only, a path many more.
        self.address = f"/proc/self/fd/{self._directory}/{NOTIFY_SOCKET}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(NOTIFY_SOCKET, dir_fd=self._directory)
        self._socket.bind(self.address)
        os.chmod(NOTIFY_SOCKET, 0o600, dir_fd=self._directory)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def messages(self) -> Iterator[Message]:
        """Yield what has come in; whatever is not a notification of a process is dropped."""
        while True:
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(
                    _MESSAGE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(16)
                )
            except BlockingIOError:
                return
            pid = _sender(ancillary)
            if pid:
                yield Message(pid, _values(data))

    def close(self) -> None:
        """Close the socket and remove its name."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(NOTIFY_SOCKET, dir_fd=self._directory)
        os.close(self._directory)


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int:
    sender = 0
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS:
            sender = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
        elif kind == socket.SCM_RIGHTS:
            # No child sends descriptors; whoever does must not fill our table with them.
            descriptors = array.array("i")
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            for descriptor in descriptors:
                os.close(descriptor)
    return sender


def _values(data: bytes) -> dict[str, str]:
    pairs = (line.partition("=") for line in data.decode("utf-8", "replace").splitlines())
    return {name: value for name, separator, value in pairs if separator}


class Notifier:
    """The parent, as a child talks to it: with the plain sdnotify package, made after the fork.

    Only ASCII goes through it: sdnotify sends Latin-1, and drops in silence what that cannot hold.
    """

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()

    def ready(self) -> None:
        """All directories are watched, or it is known why not."""
        self._notifier.notify("READY=1")

    def ping(self) -> None:
        """The loop of this child goes round. To be called from that loop only."""
        self._notifier.notify("WATCHDOG=1")

    def walking(self, seconds: float) -> None:
        """The walk goes on: more time is needed before READY=1."""
        self._notifier.notify(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def stopping(self) -> None:
        """This child is about to end because it was told to."""
        self._notifier.notify("STOPPING=1")

    def status(self, status: Mapping[str, object]) -> None:
        """Send the whole status of this sync; the X_ prefix is what sd_notify(3) asks of private names."""
        self._notifier.notify("X_LSYNCD_STATUS=" + json.dumps(status))
