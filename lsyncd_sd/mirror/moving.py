# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the moves of a batch on the target: the seam between what is to move and whoever can do it there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.change import Move
from lsyncd_sd.plan.moves import Blocked

# A target on which so many moves are refused has drifted: what is left is not worth a command each. A guess.
MOST_REFUSED = 10


USABLE = Verdict(Outcome.OK, "", 0)


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a list of moves.

    `unconfirmed`: those of which nobody knows that they were made. `replaced`: how many entries of the
    target are gone because something moved in over them. `verdict`: whether the target can be used.
    `refusal`: why the first of them was not made, if the target said so.
    """

    unconfirmed: tuple[Move, ...] = ()
    replaced: int = 0
    verdict: Verdict = USABLE
    refusal: str = ""


class Mover(Protocol):
    """What can move things on one target."""

    def make(self, moves: Sequence[Move], may_replace: int | None) -> Steps[Moved]:
        """Make moves in their order, up to the first that cannot be made; that one and all later are left.

        Each is a rename(2), and every directory above its two names must be a real one. Nothing is replaced
        by something of another kind, no directory that holds anything, and no more than `may_replace`
        entries altogether (None: any number).
        """


def make_moves(
    mover: Mover, moves: Sequence[Move], busy: Iterable[bytes], may_replace: int | None
) -> Steps[Moved]:
    """Let `mover` make moves, but for those that concern `busy` paths, or what was not moved before (C4)."""
    blocked = Blocked(busy)
    todo, unconfirmed = blocked.take_out(moves)
    replaced = 0
    refusals: list[str] = []
    while todo and len(refusals) < MOST_REFUSED:
        left = None if may_replace is None else may_replace - replaced
        moved = yield from mover.make(todo, left)
        replaced += moved.replaced
        if moved.verdict.outcome is not Outcome.OK:
            unconfirmed += moved.unconfirmed
            return Moved(tuple(unconfirmed), replaced, moved.verdict, "".join(refusals[:1]))
        todo = []
        if moved.unconfirmed:
            refused, *rest = moved.unconfirmed
            refusals.append(moved.refusal)
            blocked.add(refused)
            todo, others = blocked.take_out(rest)
            unconfirmed += [refused, *others]
    return Moved((*unconfirmed, *todo), replaced, refusal="".join(refusals[:1]))
