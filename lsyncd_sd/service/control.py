# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: a server that no client can stop or slow."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Mapping

from lsyncd_sd.errors import LsyncdError
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.service.address import address_of, directory_of
from lsyncd_sd.service.control_interface import Deferred, Dispatcher, Handler, ProtocolError

# More clients than any admin and monitor have; beyond it the one that was silent longest has to go.
MAX_CONNECTIONS = 64
# More scripts than wait for a sync at one time; beyond it the one that has waited longest has to go.
MAX_WAITING = 128
# A request is a method and a name; a longer one is a mistake or an attack.
MAX_REQUEST = 64 * 1024
# A client of ours is done within milliseconds; this is for one that was stopped or forgot to hang up.
IDLE_TIMEOUT = 60.0
# How long to let the queue of new clients wait when this process has no descriptor left for them.
ACCEPT_PAUSE = 1.0
READ_SIZE = 64 * 1024


class ControlServer:
    """Listens on a Unix socket and answers Varlink requests from the loop, each in one short step.

    In a pass of the loop a client gets an answer or two, and none before it took the last one: neither
    many requests nor slow reading cost more than that client's own time. One that waits for a deferred
    answer costs a descriptor, and does not count as silent.
    """

    def __init__(self, loop: Loop, path: str, methods: Mapping[str, Handler], mode: int = 0o660) -> None:
        """Listen on `path`, with the permissions `mode`.

        The socket of a dead daemon is replaced. Raises LsyncdError if a live one listens there, or if the
        socket cannot be made.
        """
        self._loop = loop
        self._path = path
        self._dispatcher = Dispatcher(methods)
        # In the order of their last sign of life, the oldest first.
        self._connections: dict[_Connection, None] = {}
        # Those whose answer is deferred, in the order of their requests.
        self._waiting: dict[_Connection, None] = {}
        self._accept_again: Timer | None = None
        self._idle_check: Timer | None = None
        self._listener = _listen(path, mode)
        self._identity = _identity(path)
        loop.watch_reads(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        # One per pass: the others stay in the kernel's queue and wake the loop again.
        try:
            client, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # Out of descriptors or memory: the listener stays readable and would keep the loop spinning.
            self._loop.forget(self._listener.fileno())
            self._accept_again = self._loop.call_later(ACCEPT_PAUSE, self._resume_accepting)
            return
        client.setblocking(False)
        self.saw_life(_Connection(self, self._loop, client))

    def _resume_accepting(self) -> None:
        self._loop.watch_reads(self._listener.fileno(), self._accept)

    def _close_idle(self) -> None:
        """Hang up on who was silent for too long; one timer for all, and none while nobody is connected."""
        self._idle_check = None
        for connection in list(self._connections):
            idle_at = connection.last_life + IDLE_TIMEOUT
            if idle_at > self._loop.now():
                self._idle_check = self._loop.call_at(idle_at, self._close_idle)
                return
            connection.close()

    def answer(self, raw: bytes) -> bytes | Deferred:
        """Return the encoded reply to one request, or the promise of one; for the connections."""
        return self._dispatcher.answer(raw)

    def saw_life(self, connection: _Connection) -> None:
        """Put `connection`, new or not, at the end of those that may be closed for being idle."""
        connection.last_life = self._loop.now()
        self.forget(connection)
        self._connections[connection] = None
        if len(self._connections) > MAX_CONNECTIONS:
            next(iter(self._connections)).close()
        if self._idle_check is None:
            self._idle_check = self._loop.call_later(IDLE_TIMEOUT, self._close_idle)

    def waits(self, connection: _Connection) -> None:
        """Take note that it is not `connection` that keeps silent, until `saw_life`."""
        self.forget(connection)
        self._waiting[connection] = None
        if len(self._waiting) > MAX_WAITING:
            next(iter(self._waiting)).close()

    def forget(self, connection: _Connection) -> None:
        """Take note that `connection` has closed."""
        self._connections.pop(connection, None)
        self._waiting.pop(connection, None)

    def close(self) -> None:
        """Stop listening, hang up on everybody, and remove the socket file if it is still this one.

        May be called twice.
        """
        if self._listener.fileno() < 0:
            return
        for timer in (self._accept_again, self._idle_check):
            if timer is not None:
                timer.cancel()
        self._loop.forget(self._listener.fileno())
        for connection in [*self._connections, *self._waiting]:
            connection.close()
        # While the listener is open its inode is in use, so the same number means the same socket.
        with contextlib.suppress(OSError):
            if _identity(self._path) == self._identity:
                os.unlink(self._path)
        self._listener.close()

    def close_in_child(self) -> None:
        """Close the inherited descriptors after a fork, touching neither the socket file nor the loop.

        Otherwise a child that outlives its parent would make the next daemon believe that one still listens.
        """
        self._listener.close()
        for connection in [*self._connections, *self._waiting]:
            connection.close_in_child()


class _Connection:
    """One client: reads a request, answers it, waits until the answer is taken, reads the next."""

    def __init__(self, server: ControlServer, loop: Loop, client: socket.socket) -> None:
        self._server = server
        self._loop = loop
        self._socket = client
        self._input = bytearray()
        self._searched = 0  # up to here there is no NUL in the input
        self._output = memoryview(b"")
        self._deferred: Deferred | None = None
        self.last_life = loop.now()
        self._next_step: Timer | None = None
        loop.watch_reads(client.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._input += data
        self._take_request()

    def _take_request(self) -> None:
        """Answer the first complete request of the input, or read on."""
        self._next_step = None
        end = self._input.find(b"\0", self._searched)
        if (len(self._input) if end < 0 else end) > MAX_REQUEST:
            self.close()
            return
        if end < 0:
            self._searched = len(self._input)
            self._loop.watch_reads(self._socket.fileno(), self._read)
            return
        raw = bytes(self._input[:end])
        del self._input[: end + 1]
        self._searched = 0
        self._server.saw_life(self)
        try:
            answer = self._server.answer(raw)
        except ProtocolError:
            self.close()
            return
        if isinstance(answer, Deferred):
            self._deferred = answer
            self._server.waits(self)
            answer.listen(self._take_news)
            self._take_news()
        else:
            self._output = memoryview(answer)
            self._write()

    def _take_news(self) -> None:
        """Send what there is of a deferred answer; until there is more, wait for it or for the hang-up."""
        if self._output or self._deferred is None:
            return
        self._output = memoryview(self._deferred.take())
        if self._output:
            self._write()
        elif self._deferred.is_over:
            self._deferred = None
            self._server.saw_life(self)
            self._go_on()
        else:
            self._loop.watch_reads(self._socket.fileno(), self._read_ahead)

    def _read_ahead(self) -> None:
        """Keep what a waiting client sends for later; to have seen its end is to have been left by it."""
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._input += data
        if not data or len(self._input) > MAX_REQUEST:
            self.close()

    def _write(self) -> None:
        if self._output:
            try:
                sent = self._socket.send(self._output)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            self._output = self._output[sent:]
            if sent and self._deferred is None:
                self._server.saw_life(self)
        if self._output:
            self._loop.watch_writes(self._socket.fileno(), self._write)
        elif self._deferred is not None:
            self._take_news()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """See to the next request, if it came along with this one, in the next pass; read nothing before."""
        self._loop.forget(self._socket.fileno())
        self._next_step = self._loop.call_later(0, self._take_request)

    def close(self) -> None:
        """Hang up; may be called twice."""
        if self._socket.fileno() < 0:
            return
        if self._next_step is not None:
            self._next_step.cancel()
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._server.forget(self)
        if self._deferred is not None:
            self._deferred.abandon()

    def close_in_child(self) -> None:
        """Close the inherited descriptor."""
        self._socket.close()


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _listen(path: str, mode: int) -> socket.socket:
    """Return a listening, non-blocking socket at `path`, made while nobody else makes one there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with directory_of(path) as directory:
            address = address_of(path, directory)
            _lock(directory, path)
            _remove_dead_socket(path, address)
            # The mode of the open socket becomes the mode of its file: nobody gets in before the chmod.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(address)
            os.chmod(path, mode)
            # The kernel shortens it; a client that finds the queue full gets an error at once.
            listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise LsyncdError(
            f"cannot make the control socket {path}: {error.strerror}",
            "RUNTIME_DIRECTORY names a directory that this user may write to",
        ) from error
    except LsyncdError:
        listener.close()
        raise
    return listener


def _lock(directory: int, path: str) -> None:
    """Lock the directory as long as it stays open: of two daemons that start together one must lose."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _already_running(path) from None


def _remove_dead_socket(path: str, address: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "something that is not a socket is in its place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            # Alive, with a full queue.
            pass
    raise _already_running(path)


def _already_running(path: str) -> LsyncdError:
    return LsyncdError(
        f"a service already running listens on {path}",
        "lsyncd-sd status asks it; stop it before starting another one in the same place",
    )
