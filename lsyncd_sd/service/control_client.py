# SPDX-License-Identifier: GPL-2.0-or-later
"""The calls that the command line makes on the control socket."""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from lsyncd_sd.errors import ExitStatus, LsyncdError
from lsyncd_sd.service.address import address_of, directory_of
from lsyncd_sd.service.control_interface import (
    INTERFACE,
    ControlError,
    ProtocolError,
    decode,
    encode,
)

# What one answer may have at most: the status of some hundred thousand syncs.
MAX_REPLY = 64 * 1024 * 1024
READ_SIZE = 64 * 1024


def call(path: str, method: str, parameters: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return the parameters of the reply to one request, waiting at most `timeout` seconds altogether.

    `method` may be bare, like "Status". Raises ControlError if the service refuses, and LsyncdError, with
    the exit status NOT_RUNNING if nobody listens on `path`.
    """
    request = _request(method, parameters)
    with contextlib.closing(_converse(path, request, timeout, math.inf)) as replies:
        return next(replies)


def follow(
    path: str, method: str, parameters: Mapping[str, Any], timeout: float, patience: float
) -> Iterator[dict[str, Any]]:
    """Yield the parameters of every reply to a request for several of them.

    The first one must come within `timeout` seconds, the last one within `patience`, which may be infinite.
    Raises what `call` does, and TimeoutError at the end of the patience.
    """
    return _converse(path, {**_request(method, parameters), "more": True}, timeout, patience)


def _request(method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    full_name = method if "." in method else f"{INTERFACE}.{method}"
    return {"method": full_name, "parameters": dict(parameters)}


def _converse(
    path: str, request: Mapping[str, Any], timeout: float, patience: float
) -> Generator[dict[str, Any], None, None]:
    start = time.monotonic()
    deadline, end = start + min(timeout, patience), start + patience
    received = bytearray()
    has_answered = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.settimeout(_left(deadline))
            with directory_of(path) as directory:
                client.connect(address_of(path, directory))
            client.sendall(encode(request))
            while True:
                parameters, continues = _result(_receive(client, received, deadline), path)
                has_answered, deadline = True, end
                yield parameters
                if not continues:
                    return
        except TimeoutError as error:
            if time.monotonic() >= end:
                raise
            raise _explained(error, path, timeout) from error
        except OSError as error:
            if has_answered and isinstance(error, ConnectionResetError | BrokenPipeError):
                raise _stopped(path) from error
            raise _explained(error, path, timeout) from error


def _left(deadline: float) -> float | None:
    if deadline == math.inf:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _receive(client: socket.socket, received: bytearray, deadline: float) -> bytes:
    """Return the next message, without its NUL; what came after it stays in `received`."""
    searched = 0
    while (end := received.find(b"\0", searched)) < 0:
        if len(received) > MAX_REPLY:
            raise OSError(errno.EMSGSIZE, "the answer does not end")
        searched = len(received)
        client.settimeout(_left(deadline))
        data = client.recv(READ_SIZE)
        if not data:
            raise ConnectionResetError
        received += data
    message = bytes(received[:end])
    del received[: end + 1]
    return message


def _stopped(path: str) -> LsyncdError:
    return LsyncdError(
        f"lsyncd-sd hung up on {path} in the middle of an answer",
        "it was stopped, or too many wait for it",
        ExitStatus.NOT_RUNNING,
    )


def _explained(error: OSError, path: str, timeout: float) -> LsyncdError:
    match error:
        case FileNotFoundError() | NotADirectoryError() | ConnectionRefusedError():
            return LsyncdError(
                f"lsyncd-sd is not running (nobody listens on {path})",
                "systemctl status 'lsyncd@*' shows what systemd knows about it",
                ExitStatus.NOT_RUNNING,
            )
        case PermissionError():
            return LsyncdError(f"you may not talk to lsyncd-sd on {path}", "try again as root")
        case BlockingIOError():
            return LsyncdError(f"too many clients wait for lsyncd-sd on {path}", "try again later")
        case TimeoutError():
            return LsyncdError(
                f"lsyncd-sd does not answer on {path} within {timeout:g} s",
                "it is stopped or very busy; its watchdog ends it if that goes on",
            )
        case ConnectionResetError() | BrokenPipeError():
            return LsyncdError(
                f"lsyncd-sd hung up on {path} without an answer", "it may be stopping; try again"
            )
    return LsyncdError(f"cannot talk to lsyncd-sd on {path}: {error.strerror}")


def _result(raw: bytes, path: str) -> tuple[dict[str, Any], bool]:
    """Return the parameters in a reply, and whether another one follows."""
    try:
        reply = decode(raw)
        error = reply.get("error")
        parameters = reply.get("parameters")
        if not isinstance(error, str | None) or not isinstance(parameters, dict | None):
            raise ProtocolError("not a reply")
    except ProtocolError:
        raise LsyncdError(f"what listens on {path} does not answer like lsyncd-sd") from None
    if error is not None:
        raise ControlError(error, parameters or {})
    return parameters or {}, reply.get("continues") is True
