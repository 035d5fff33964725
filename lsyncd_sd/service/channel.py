# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair of sockets between the parent and one child, for requests down and their answers up.

A message is one object of JSON. Neither side ever waits for the other: a hung child must not block the
parent, nor a busy parent a child.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

# The longest message is the error that names a hold with its reason; a longer one would be cut.
_MESSAGE_BYTES = 64 * 1024


class Channel:
    """One end of the pair; the other one lives in the other process."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self.is_ended = False

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Return both ends, close-on-exec. Raises OSError if there are no descriptors left."""
        # Packets keep their borders, and unlike datagrams tell the end of the other side.
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send a message; return False if there is no room for it now, and it was not sent.

        One that nobody can receive any more counts as sent: the end of the other side is told by `messages`.
        """
        try:
            self._socket.send(json.dumps(message).encode())
        except (BrokenPipeError, ConnectionResetError):
            return True
        except OSError:
            # The buffer is full, or the kernel has no memory for it.
            return False
        return True

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what has come in; sets `is_ended` when the other side is gone and nothing more can come."""
        while True:
            try:
                data = self._socket.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                self.is_ended = True
                return
            message = json.loads(data)
            assert isinstance(message, dict)
            yield message

    def close(self) -> None:
        """Close this end; may be called twice."""
        self._socket.close()
