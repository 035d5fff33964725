# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients asked of the children, kept until it is answered, whichever process of a sync does so.

A process that dies takes nothing along: what it has not answered is asked again of the one that follows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any

from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.child import Child

# How soon a message is tried again that found the channel full. A guess: a child that does not read for so
# long is very busy, or hangs, which is its watchdog's matter.
AGAIN_SECONDS = 1.0


@dataclass(slots=True)
class Request:
    """One request to a sync, as it goes down; `is_sent` to the process that runs now."""

    message: dict[str, Any]
    is_sent: bool = False


class Requests:
    """The requests to all children of one parent, by the names of their syncs."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._ids = itertools.count(1)
        self._open: dict[str, dict[int, Request]] = {}
        self._channels: dict[str, Channel] = {}
        self._again: Timer | None = None

    def sync(self, name: str, *, full: bool) -> None:
        """Ask a sync to make what is pending due at once, or for a full sync."""
        number = next(self._ids)
        requests = self._open.setdefault(name, {})
        # One that is the same says the same: however often somebody asks, no more than one of each is kept.
        for known, request in list(requests.items()):
            if request.message["full"] is full:
                del requests[known]
        requests[number] = Request({"do": "sync", "id": number, "full": full})
        self._send(name)

    # ------------------------------------------------------------------ the processes

    def started(self, child: Child) -> None:
        """A process of a sync runs: ask it everything that none before it has answered."""
        assert child.channel is not None
        name = child.sync.name
        self._channels[name] = child.channel
        self._loop.watch_reads(child.channel.fileno(), partial(self._hear, name))
        for request in self._open.get(name, {}).values():
            request.is_sent = False
        self._send(name)

    def ended(self, child: Child) -> None:
        """The process of a sync is dead: take in what it has said, and close its channel."""
        if child.channel is None:
            return
        self._hear(child.sync.name)
        self._loop.forget(child.channel.fileno())
        child.channel.close()
        child.channel = None
        del self._channels[child.sync.name]

    def forget(self, name: str) -> None:
        """There is no sync of this name any more."""
        self._open.pop(name, None)

    def _send(self, name: str) -> None:
        channel = self._channels.get(name)
        if channel is None:
            return
        for request in self._open.get(name, {}).values():
            if not request.is_sent:
                if not channel.send(request.message):
                    self._send_again()
                    return
                request.is_sent = True

    def _send_again(self) -> None:
        if self._again is None:
            self._again = self._loop.call_later(AGAIN_SECONDS, self._send_all)

    def _send_all(self) -> None:
        self._again = None
        for name in self._channels:
            self._send(name)

    def _hear(self, name: str) -> None:
        channel = self._channels[name]
        for message in channel.messages():
            self._open.get(name, {}).pop(message["id"], None)
        if channel.is_ended:
            # The signal that tells of its death is on its way.
            self._loop.forget(channel.fileno())
