# SPDX-License-Identifier: GPL-2.0-or-later
"""In the parent: lets only so many of some syncs run something at the same time (`max_processes`)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial

from lsyncd_sd.loop import Loop
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.outbox import Outbox

# What a child says of a turn: that it wants one, and that it needs one no more; and what it hears.
WANT = {"turn": "want"}
BACK = {"turn": "back"}
GO = {"turn": "go"}


@dataclass(eq=False, slots=True)
class _Group:
    """Syncs that share their turns, `limit` of them, and who waits for one."""

    limit: int
    running: int = 0
    line: deque[_Member] = field(default_factory=deque)


@dataclass(eq=False, slots=True)
class _Member:
    """The process of one sync."""

    channel: Channel
    words: Outbox
    group: _Group
    running: int = 0


class Turns:
    """The turns of all children of one parent, by the names of their syncs. Never waits for any of them."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._groups: dict[str, _Group] = {}
        self._members: dict[str, _Member] = {}

    def join(self, name: str, group: str, limit: int) -> Channel:
        """Let the process of a sync that is about to start take part; return its end. Raises OSError.

        `limit` holds for the whole group from now on.
        """
        ours, theirs = Channel.pair()
        shared = self._groups.setdefault(group, _Group(limit))
        shared.limit = limit
        member = self._members[name] = _Member(ours, Outbox(self._loop, ours), shared)
        self._loop.watch_reads(ours.fileno(), partial(self._hear, member))
        return theirs

    def leave(self, name: str) -> None:
        """The process of a sync has ended, or hangs for good: its turns are those of the others."""
        member = self._members.pop(name, None)
        if member is None:
            return
        self._loop.forget(member.channel.fileno())
        member.words.close()
        member.channel.close()
        group = member.group
        group.running -= member.running
        group.line = deque(one for one in group.line if one is not member)
        self._serve(group)

    def close_in_child(self) -> None:
        """In a new child: close what is the parent's."""
        for member in self._members.values():
            member.channel.close()

    def _hear(self, member: _Member) -> None:
        group = member.group
        for message in member.channel.messages():
            if message == WANT:
                group.line.append(member)
            elif message == BACK:
                member.running -= 1
                group.running -= 1
        if member.channel.is_ended:
            # The signal that tells of its death is on its way.
            self._loop.forget(member.channel.fileno())
        self._serve(group)

    def _serve(self, group: _Group) -> None:
        while group.line and group.running < group.limit:
            member = group.line.popleft()
            member.words.send(GO)
            member.running += 1
            group.running += 1
