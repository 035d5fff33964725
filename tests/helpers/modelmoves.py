# SPDX-License-Identifier: GPL-2.0-or-later
"""A model of a target that can be told to move: rename(2) step by step, with failures and lost answers."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.modelrsync import Fault, ModelTarget, Trouble
from helpers.trees import parent_of

from lsyncd_sd.mirror import moving
from lsyncd_sd.mirror.moving import Moved
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.change import Move

_GONE = Verdict(Outcome.CONNECTION, "gone", 255)


def make_moves(target: ModelTarget, moves: Sequence[Move], fault: Fault) -> list[Move]:
    """Carry the moves out in their order, and return those of which nobody knows that they were made.

    A fault strikes one of them: it fails (`UNREADABLE`, `VANISHED`), it is made but its answer is lost
    (`UNNAMED`), or the connection ends there (`DEAD`).
    """
    steps = moving.make_moves(_ModelMover(target, moves, fault), moves, (), None)
    try:
        next(steps)
    except StopIteration as stop:
        return list(stop.value.unconfirmed)
    raise AssertionError("nothing is started here")


class _ModelMover:
    """Makes moves on a model target; the fault strikes one of `all_moves`."""

    def __init__(self, target: ModelTarget, all_moves: Sequence[Move], fault: Fault) -> None:
        self._target = target
        self._trouble = fault.trouble
        self._struck = all_moves[fault.place % len(all_moves)] if all_moves else None

    def make(self, moves: Sequence[Move], _may_replace: int | None) -> Steps[Moved]:
        """Make moves up to the first that cannot be made."""
        for number, move in enumerate(moves):
            trouble = self._trouble if move is self._struck else Trouble.NONE
            if trouble is Trouble.DEAD:
                return Moved(tuple(moves[number:]), verdict=_GONE)
            is_told = trouble is Trouble.NONE
            is_made = trouble in (Trouble.NONE, Trouble.UNNAMED) and make_move(self._target, move)
            if not (is_told and is_made):
                return Moved(tuple(moves[number:]))
        return Moved()
        yield


def make_move(target: ModelTarget, move: Move) -> bool:
    """Do what rename(2) does, and return whether it was done (C2).

    What moves must be of the right kind, and above both ends only directories may stand (C1).
    """
    entries = target.entries
    if move.old not in entries or not (target.is_reachable(move.old) and target.is_reachable(move.new)):
        return False
    there = entries.get(move.new)
    if (entries[move.old].kind == "d") != move.is_directory:
        return False
    if there is not None:
        if (there.kind == "d") != move.is_directory:
            return False
        if any(parent_of(path) == move.new for path in entries if path):
            return False
    target.rename(move.old, move.new)
    return True
