# SPDX-License-Identifier: GPL-2.0-or-later
"""Which moves of a list are possible although others are not made (C4)."""

from __future__ import annotations

from collections.abc import Iterable

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Depth, Move
from lsyncd_sd.plan.marktree import MarkTree

_WHOLE = Mark(Depth.SUBTREE, exact=True)


class Blocked:
    """Places of the target that no move may concern: it would not be what the source has moved."""

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        self._places = MarkTree()
        for path in paths:
            self._places.put(path, _WHOLE)

    def add(self, move: Move) -> None:
        """This one was not made, or nobody knows: nothing is sure at, above and below both its names."""
        self._places.put(move.old, _WHOLE)
        self._places.put(move.new, _WHOLE)

    def take_out(self, moves: Iterable[Move]) -> tuple[list[Move], list[Move]]:
        """Return the moves that can be made, and the others, which block what comes after them."""
        free: list[Move] = []
        others: list[Move] = []
        for move in moves:
            if self._places.is_clean(move.old) and self._places.is_clean(move.new):
                free.append(move)
            else:
                others.append(move)
                self.add(move)
        return free, others
