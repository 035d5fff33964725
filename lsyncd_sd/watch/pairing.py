# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the two halves of a rename together again, without changing the order of anything else.

The kernel queues "moved from" and "moved to" one after the other, with a cookie that no other rename has;
but events of other directories may come between them, and a read may end there. A first half therefore
holds up all that was queued after it until the second one is read, which is lifted up to its place (D1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple

from lsyncd_sd.watch import inotify
from lsyncd_sd.watch.inotify import RawEvent

GRACE_SECONDS = 0.1
"""How long a first half waits for the second one, from when it was read. Microseconds lie between them,
unless the kernel put the program to sleep just there. A guess; too short, and what moved is sent anew."""

PATIENCE_SECONDS = 1.0
"""For so long some half may wait at any time. Afterwards none does, until nothing is held up any more: else
a program that moves files out all the time would keep us from ever being done. A guess."""

HELD_EVENTS = 50_000
"""Beyond so many held up events nothing waits either: some 10 MB. A guess."""


DIRECTORIES_REMEMBERED = 64
"""The second rename of an exchange is queued right after the first one, but programs on other processors may
come between. A guess: more directories than most machines have processors."""

EXCHANGE_SECONDS = 5.0
"""For so long a rename back may be half of an exchange, of which the other half was read before; as above,
only a program that is put to sleep takes longer than microseconds. A guess; too long costs that all is sent
again when something is renamed and renamed back."""


_COOKIE = itemgetter(RawEvent._fields.index("cookie"))


class Spot(NamedTuple):
    """A name in a watched directory, as an event tells it."""

    wd: int
    name: bytes


class Rename(NamedTuple):
    """Both halves of one rename."""

    departure: RawEvent
    arrival: RawEvent


class _Half:
    __slots__ = ("arrival", "departure", "read_at")

    def __init__(self, departure: RawEvent, read_at: float) -> None:
        self.departure = departure
        self.arrival: RawEvent | None = None
        self.read_at = read_at


class Pairing:
    """What was read from the queue and is not handled yet. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: deque[RawEvent | _Half] = deque()
        self._halves: dict[int, _Half] = {}
        self._held_up_since: float | None = None

    def __len__(self) -> int:
        """The number of events that wait."""
        return len(self._waiting)

    def arrange(self, events: list[RawEvent], now: float) -> Iterable[RawEvent | Rename]:
        """Take in what was read, return all up to the next half that waits. A lone half is an event."""
        if not self._waiting and not any(map(_COOKIE, events)):
            return events
        self._add(events, now)
        return self._ready(now)

    def _add(self, events: list[RawEvent], now: float) -> None:
        for event in events:
            if not event.cookie:
                self._waiting.append(event)
            elif event.mask & inotify.IN_MOVED_FROM:
                half = self._halves[event.cookie] = _Half(event, now)
                self._waiting.append(half)
            elif (known := self._halves.pop(event.cookie, None)) is not None:
                known.arrival = event
            else:
                self._waiting.append(event)

    def _ready(self, now: float) -> Iterator[RawEvent | Rename]:
        while self._waiting:
            item = self._waiting.popleft()
            if not isinstance(item, _Half):
                yield item
            elif item.arrival is not None:
                yield Rename(item.departure, item.arrival)
            elif self._waits(item, now):
                self._waiting.appendleft(item)
                return
            else:
                del self._halves[item.departure.cookie]
                yield item.departure
        self._held_up_since = None

    def due_at(self) -> float | None:
        """Return when the half in front is given up, None if none waits."""
        front = self._waiting[0] if self._waiting else None
        return front.read_at + GRACE_SECONDS if isinstance(front, _Half) else None

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._halves.clear()
        self._held_up_since = None

    def _waits(self, half: _Half, now: float) -> bool:
        if now >= half.read_at + GRACE_SECONDS or len(self._waiting) >= HELD_EVENTS:
            return False
        if self._held_up_since is None:
            self._held_up_since = now
        return now < self._held_up_since + PATIENCE_SECONDS


class _Remembered(NamedTuple):
    old: Spot | None
    new: Spot | None
    read_at: float


class RecentRenames:
    """The last rename in each directory, to know two that are none: an exchange is a -> b, b -> a (A5).

    No other rename can come between in either directory, for both are locked; elsewhere there may be some.
    """

    def __init__(self) -> None:
        self._last: dict[int, _Remembered] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._last.clear()

    def note(self, old: Spot | None, new: Spot | None, now: float) -> bool:
        """Remember a rename, and tell whether it may be the second one of an exchange.

        None stands for a half that nobody saw. Of an exchange of which the first half was given up, b is
        seen to arrive before b -> a; so is a name that was moved in and then renamed.
        """
        is_exchange = old is not None and new is not None and self._undoes(old, new, now)
        remembered = _Remembered(old, new, now)
        for spot in (old, new):
            if spot is not None:
                self._last.pop(spot.wd, None)
                self._last[spot.wd] = remembered
        while len(self._last) > DIRECTORIES_REMEMBERED:
            del self._last[next(iter(self._last))]
        return is_exchange

    def _undoes(self, old: Spot, new: Spot, now: float) -> bool:
        last = self._last.get(old.wd)
        if last is None or last.new != old or now - last.read_at > EXCHANGE_SECONDS:
            return False
        return last.old is None or (last.old == new and self._last.get(new.wd) is last)
