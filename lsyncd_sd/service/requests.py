# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients asked of the children, kept until it is answered, whichever process of a sync does so.

A process that dies takes no `sync` along: what it has not answered is asked again of the one that follows.
An `accept` dies with the process that was held. Of what nobody waits for one of each kind is kept, so that
nothing grows without end.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any

from lsyncd_sd.loop import Loop
from lsyncd_sd.service.child import Child, Phase
from lsyncd_sd.service.control_interface import ControlError, Deferred
from lsyncd_sd.service.outbox import Outbox
from lsyncd_sd.service.status import State, SyncStatus

Message = dict[str, Any]


@dataclass(slots=True)
class Request:
    """One `sync`: `reply` is what its client waits for, None if nobody does; `told` what was said so far."""

    full: bool
    reply: Deferred | None
    told: tuple[State, str] | None = None


class Requests:
    """The requests to all children of one parent, by the names of their syncs."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._numbers = itertools.count(1)
        self._open: dict[str, dict[int, Request]] = {}
        # Those who wait for the answer of the process that runs now, and of no other.
        self._accepting: dict[str, dict[int, Deferred]] = {}
        # What runs now, and what is to be sent to it.
        self._running: dict[str, Child] = {}
        self._outbox: dict[str, Outbox] = {}

    # ------------------------------------------------------------------ the clients

    def sync(self, name: str, *, full: bool, reply: Deferred | None) -> None:
        """Ask a sync to make what is pending due at once, or for a full sync.

        `reply` gets the answer when all that was changed before is on the target.
        """
        number = next(self._numbers)
        self._open.setdefault(name, {})[number] = Request(full, reply)
        if reply is None:
            self._keep_one(name, number)
        else:
            reply.on_abandoned = partial(self._abandoned, name, number)
        self._post(name, _as_message(number, full))

    def _abandoned(self, name: str, number: int) -> None:
        """The client hung up: what it asked for is done all the same, but it is not one of many then."""
        self._open[name][number].reply = None
        self._keep_one(name, number)

    def _keep_one(self, name: str, number: int) -> None:
        """Of requests alike, for which nobody waits, the last one does what all of them asked for."""
        full = self._open[name][number].full
        for other, request in list(self._open[name].items()):
            if other != number and request.reply is None and request.full is full:
                del self._open[name][other]
                self._withdraw(name, other)

    def accept(self, child: Child, target: str, hold_id: str, reply: Deferred) -> None:
        """Have the process of a sync do to a target what this hold names; `reply` says if it does."""
        name, number = child.sync.name, next(self._numbers)
        if name not in self._running:
            reply.fail(_not_held(child))
            return
        waiting = self._accepting.setdefault(name, {})
        waiting[number] = reply

        def abandoned() -> None:
            del waiting[number]
            self._unsend(name, number)

        reply.on_abandoned = abandoned
        self._post(name, {"do": "accept", "id": number, "target": target, "hold_id": hold_id})

    def look_at(self, child: Child) -> None:
        """The status of a sync may have changed: tell those who wait for it."""
        name, status = child.sync.name, child.status
        if child.phase is Phase.FAILED:
            self._refuse(name, ControlError("Unavailable", {"name": name, "reason": status.reason}))
        for request in list(self._open.get(name, {}).values()):
            if request.reply is not None and request.told != (status.state, status.reason):
                request.told = status.state, status.reason
                request.reply.tell(_shown(status))

    def forget(self, name: str) -> None:
        """There is no sync of this name any more."""
        self._refuse(name, ControlError("NoSuchSync", {"name": name}))

    def _refuse(self, name: str, error: ControlError) -> None:
        for request in self._open.pop(name, {}).values():
            if request.reply is not None:
                request.reply.fail(error)

    # ------------------------------------------------------------------ the processes

    def started(self, child: Child) -> None:
        """A process of a sync runs: ask it everything that none before it has answered."""
        assert child.channel is not None
        name = child.sync.name
        self._running[name] = child
        self._loop.watch_reads(child.channel.fileno(), partial(self._hear, child))
        self._outbox[name] = outbox = Outbox(self._loop, child.channel)
        for number, request in self._open.get(name, {}).items():
            outbox.send(_as_message(number, request.full))

    def ended(self, child: Child) -> None:
        """The process of a sync is dead: take in what it has said, and close its channel."""
        if child.channel is None:
            return
        self._hear(child)
        self._loop.forget(child.channel.fileno())
        child.channel.close()
        child.channel = None
        self._outbox.pop(child.sync.name).close()
        del self._running[child.sync.name]
        for reply in self._accepting.pop(child.sync.name, {}).values():
            reply.fail(_not_held(child))

    def _post(self, name: str, message: Message) -> None:
        if name in self._running:
            self._outbox[name].send(message)

    def _withdraw(self, name: str, number: int) -> None:
        """Nobody wants an answer to this request any more."""
        if not self._unsend(name, number):
            self._post(name, {"do": "forget", "id": number})

    def _unsend(self, name: str, number: int) -> bool:
        """Send a message no more; return False if it was sent already, or never to be."""
        return name in self._outbox and self._outbox[name].unsend(number)

    def _hear(self, child: Child) -> None:
        assert child.channel is not None
        name = child.sync.name
        for message in child.channel.messages():
            number = message["id"]
            accepting = self._accepting.get(name, {}).pop(number, None)
            request = self._open.get(name, {}).pop(number, None)
            if accepting is not None:
                _answer(accepting, message, {})
            elif request is not None and request.reply is not None:
                _answer(request.reply, message, _shown(child.status))
        if child.channel.is_ended:
            # The signal that tells of its death is on its way.
            self._loop.forget(child.channel.fileno())


def _answer(reply: Deferred, message: Message, parameters: Message) -> None:
    if "error" in message:
        reply.fail(ControlError(message["error"], message["parameters"]))
    else:
        reply.finish(parameters)


def _not_held(child: Child) -> ControlError:
    return ControlError("NotHeld", {"name": child.sync.name, "state": State.STARTING.value})


def _as_message(number: int, full: bool) -> Message:
    return {"do": "sync", "id": number, "full": full}


def _shown(status: SyncStatus) -> Message:
    return {"sync": status.to_json()}
