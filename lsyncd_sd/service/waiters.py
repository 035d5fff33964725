# SPDX-License-Identifier: GPL-2.0-or-later
"""In the child: does what clients ask of this sync by way of the parent, and answers."""

from __future__ import annotations

from lsyncd_sd.loop import Loop
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.delivery import Delivery


class Waiters:
    """What was asked of one sync."""

    def __init__(self, loop: Loop, channel: Channel, delivery: Delivery) -> None:
        self._loop = loop
        self._channel = channel
        self._delivery = delivery
        loop.watch_reads(channel.fileno(), self._hear)

    def close(self) -> None:
        """Take in no more: what is not answered is asked again of the process that follows."""
        self._loop.forget(self._channel.fileno())

    def _hear(self) -> None:
        for message in self._channel.messages():
            if message["full"]:
                self._delivery.request_full_sync("asked for")
            self._delivery.expedite()
            self._channel.send({"id": message["id"]})
        if self._channel.is_ended:
            # The parent is dead, and so are we in a moment.
            self.close()
