# SPDX-License-Identifier: GPL-2.0-or-later
"""In the child: does what clients ask of this sync by way of the parent, and answers when it is done.

An `accept` is answered at once: it counts only for what the sync is held for in that moment.

A `sync` is done when everything that was changed before it is on the target. What was changed is known when
the queue was read up to a cookie sent after the request, and no directory is in doubt; from then on it is
for the deliveries to say when all that was dirty then has been mirrored, to every target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lsyncd_sd.loop import Loop
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.cookies import Cookies
from lsyncd_sd.service.delivery import Delivery
from lsyncd_sd.service.fullsyncs import Stamp
from lsyncd_sd.service.outbox import Outbox
from lsyncd_sd.service.outlet import Outlet


@dataclass(slots=True)
class Waiter:
    """One request. `cookie` was sent after it, None if nothing can be; `has_read`: and was heard of.

    `stamps` stand for all that was dirty on each target when everything before the request was known.
    """

    number: int
    full: bool
    cookie: bytes | None = None
    has_read: bool = False
    stamps: list[Stamp] | None = None


class Waiters:
    """What was asked of one sync and is not answered.

    `look_again` sees to what no event tells of, before a cookie is sent.
    """

    def __init__(
        self,
        loop: Loop,
        name: str,
        channel: Channel,
        cookies: Cookies,
        outlets: Sequence[Outlet],
        look_again: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._name = name
        self._channel = channel
        self._cookies = cookies
        self._outlets = outlets
        self._look_again = look_again
        self._is_watching = False
        self._waiting: dict[int, Waiter] = {}
        self._answers = Outbox(loop, channel)
        loop.watch_reads(channel.fileno(), self._hear)

    def close(self) -> None:
        """Take in no more: what is not answered is asked again of the process that follows."""
        self._loop.forget(self._channel.fileno())

    def _hear(self) -> None:
        for message in self._channel.messages():
            match message["do"]:
                case "forget":
                    self._waiting.pop(message["id"], None)
                case "accept":
                    self._accept(message["id"], message["target"], message["hold_id"])
                case "sync":
                    self._sync(message["id"], full=message["full"])
        if self._channel.is_ended:
            # The parent is dead, and so are we in a moment.
            self.close()

    def _accept(self, number: int, target: str, hold_id: str) -> None:
        outlet = next(outlet for outlet in self._outlets if outlet.target == target)
        hold, standing = outlet.delivery.hold, outlet.standing
        if hold is None:
            self._answer(number, "NotHeld", state=standing.state.value)
        elif hold.token != hold_id:
            self._answer(number, "HoldChanged", reason=standing.reason, hold_id=hold.token)
        else:
            self._answer(number)
            outlet.delivery.accept(hold)

    def _sync(self, number: int, *, full: bool) -> None:
        self._waiting[number] = waiter = Waiter(number, full)
        self._look_again()
        self._send_cookie(waiter)

    # ------------------------------------------------------------------ what was changed before

    def watching_begins(self) -> None:
        """The queue reports what happens from now on; whatever it held before was thrown away."""
        self._is_watching = True
        for waiter in list(self._waiting.values()):
            if waiter.stamps is None:
                self._send_cookie(waiter)

    def watching_ends(self) -> None:
        """The queue is not read until `watching_begins`."""
        self._is_watching = False

    def _send_cookie(self, waiter: Waiter) -> None:
        waiter.cookie, waiter.has_read = None, False
        if not self._is_watching:
            return
        try:
            waiter.cookie = self._cookies.send()
        except OSError as error:
            reason = f"cannot make {error.filename or 'a file'} to ask the queue with: {error.strerror}"
            del self._waiting[waiter.number]
            self._answer(waiter.number, "Unavailable", reason=reason)

    def changed(self, *, is_settled: bool) -> None:
        """The deliveries got what was read of the queue; `is_settled`: no directory is in doubt."""
        received = self._cookies.received()
        known = []
        for waiter in self._waiting.values():
            waiter.has_read = waiter.has_read or waiter.cookie in received
            if waiter.has_read and waiter.stamps is None:
                known.append(waiter)
        if known and is_settled and all(delivery.is_ready for delivery in self._deliveries):
            self._stamp(known)
        self.check()

    @property
    def _deliveries(self) -> list[Delivery]:
        return [outlet.delivery for outlet in self._outlets]

    def _stamp(self, waiters: list[Waiter]) -> None:
        for delivery in self._deliveries:
            if any(waiter.full for waiter in waiters):
                delivery.request_full_sync("asked for")
            delivery.expedite()
        stamps = [delivery.stamp() for delivery in self._deliveries]
        for waiter in waiters:
            waiter.stamps = stamps

    def recovered(self, outlet: Outlet) -> None:
        """What nobody had seen is known now: no more than the rest does it wait for the delay."""
        if any(waiter.stamps is not None for waiter in self._waiting.values()):
            outlet.delivery.expedite()
        self.check()

    # ------------------------------------------------------------------ what was mirrored

    def check(self) -> None:
        """Answer everybody for whom all is on the target."""
        for waiter in list(self._waiting.values()):
            if waiter.stamps is not None and self._are_mirrored(waiter.stamps):
                del self._waiting[waiter.number]
                self._answer(waiter.number)

    def _are_mirrored(self, stamps: Sequence[Stamp]) -> bool:
        pairs = zip(self._deliveries, stamps, strict=True)
        return all(delivery.is_mirrored(stamp) for delivery, stamp in pairs)

    def _answer(self, number: int, error: str = "", **parameters: str) -> None:
        """Say that it is done, or which error of the control interface it is."""
        answer: dict[str, Any] = {"id": number}
        if error:
            answer |= {"error": error, "parameters": {"name": self._name, **parameters}}
        self._answers.send(answer)
