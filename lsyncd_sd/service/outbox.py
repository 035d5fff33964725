# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps what a channel has no room for, and says it later: parent and child never wait for each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.service.channel import Channel

# How soon a message is tried again that found the channel full. A guess: who does not read for so long is
# very busy, or hangs, which is the watchdog's matter.
AGAIN_SECONDS = 1.0


class Outbox:
    """What is to be said on one channel."""

    def __init__(self, loop: Loop, channel: Channel) -> None:
        self._loop = loop
        self._channel = channel
        self._unsent: deque[Mapping[str, Any]] = deque()
        self._again: Timer | None = None

    def __len__(self) -> int:
        """The number of messages that were not sent yet."""
        return len(self._unsent)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message as soon as all before it were sent, and there is room."""
        self._unsent.append(message)
        self._send()

    def unsend(self, number: int) -> bool:
        """Do not send the message of this `id`; return False if that is too late, or there is none."""
        unsent = [message for message in self._unsent if message["id"] == number]
        for message in unsent:
            self._unsent.remove(message)
        return bool(unsent)

    def close(self) -> None:
        """Say nothing any more."""
        self._unsent.clear()
        if self._again is not None:
            self._again.cancel()

    def _send(self) -> None:
        while self._unsent:
            if not self._channel.send(self._unsent[0]):
                if self._again is None:
                    self._again = self._loop.call_later(AGAIN_SECONDS, self._try_again)
                return
            self._unsent.popleft()

    def _try_again(self) -> None:
        self._again = None
        self._send()
