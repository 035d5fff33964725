# SPDX-License-Identifier: GPL-2.0-or-later
"""In the child: says whose turn it is where not everything may run at the same time (`max_processes`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from lsyncd_sd.loop import Loop
from lsyncd_sd.service.channel import Channel
from lsyncd_sd.service.outbox import Outbox
from lsyncd_sd.service.turns import BACK, GO, WANT


class Permits:
    """The permits of one sync, `limit` of them; None is any number. Who comes first is served first.

    With `turns`, which leads to the parent, each takes a turn of its as well.
    """

    def __init__(self, loop: Loop, limit: int | None = None, turns: Channel | None = None) -> None:
        self._loop = loop
        self._limit = limit
        self._turns = turns
        self._words = None if turns is None else Outbox(loop, turns)
        self._taken = 0
        # Turns that the parent gave and nobody uses, and those that it was asked for and did not give yet.
        self._given = 0
        self._asked = 0
        self._line: deque[Callable[[], None]] = deque()
        self._is_serving = False
        if turns is not None:
            loop.watch_reads(turns.fileno(), self._hear)

    def take(self, again: Callable[[], None]) -> bool:
        """Take a permit; if there is none now, `again` is called when it is worth another try.

        Whoever asks several times waits once. A permit that was taken is given back with `give_back`.
        """
        if self._is_free and (self._is_serving or not self._line):
            self._is_serving = False
            self._taken += 1
            self._given -= self._turns is not None
            return True
        if again not in self._line:
            self._line.append(again)
        self._ask()
        return False

    def give_back(self) -> None:
        """What needed the permit is over. Others may begin before this returns."""
        self._taken -= 1
        if self._words is not None:
            self._words.send(BACK)
        self._serve()

    @property
    def _is_free(self) -> bool:
        return self._is_within_limit(self._taken) and (self._turns is None or self._given > 0)

    def _is_within_limit(self, taken: int) -> bool:
        return self._limit is None or taken < self._limit

    def _ask(self) -> None:
        """Ask the parent for as many turns as could be used."""
        while (
            self._words is not None
            and self._given + self._asked < len(self._line)
            and self._is_within_limit(self._taken + self._given + self._asked)
        ):
            self._asked += 1
            self._words.send(WANT)

    def _hear(self) -> None:
        assert self._turns is not None
        for message in self._turns.messages():
            assert message == GO
            self._asked -= 1
            self._given += 1
        if self._turns.is_ended:
            # The parent is dead, and so are we in a moment.
            self._loop.forget(self._turns.fileno())
        self._serve()

    def _serve(self) -> None:
        while self._line and self._is_free:
            again = self._line.popleft()
            self._is_serving = True
            again()
            self._is_serving = False
        if self._words is not None:
            while self._given > len(self._line):
                # Whoever wanted it has nothing to do any more.
                self._given -= 1
                self._words.send(BACK)
        self._ask()
