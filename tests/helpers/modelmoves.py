# SPDX-License-Identifier: GPL-2.0-or-later
"""A model of a target that can be told to move: rename(2) step by step, with failures and lost answers."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.modelrsync import Fault, ModelTarget, Trouble
from helpers.trees import parent_of

from lsyncd_sd.plan.change import Move


def make_moves(target: ModelTarget, moves: Sequence[Move], fault: Fault) -> list[Move]:
    """Carry the moves out in their order, and return those of which nobody knows that they were made.

    A fault strikes one of them: it fails (`UNREADABLE`, `VANISHED`), it is made but its answer is lost
    (`UNNAMED`), or the connection ends there (`DEAD`).
    """
    unconfirmed: list[Move] = []
    struck = fault.place % len(moves) if fault.trouble is not Trouble.NONE else -1
    for number, move in enumerate(moves):
        if number == struck and fault.trouble is Trouble.DEAD:
            return [*unconfirmed, *moves[number:]]
        if any(_meet(move, failed) for failed in unconfirmed):
            # What it would move may not be what the source has moved (C4).
            unconfirmed.append(move)
        elif number == struck and fault.trouble is Trouble.UNNAMED:
            make_move(target, move)
            unconfirmed.append(move)
        elif number == struck or not make_move(target, move):
            unconfirmed.append(move)
    return unconfirmed


def _meet(move: Move, other: Move) -> bool:
    """Tell whether an end of one move is, or lies above or below, an end of the other."""
    return any(
        (one + b"/").startswith(another + b"/") or (another + b"/").startswith(one + b"/")
        for one in (move.old, move.new)
        for another in (other.old, other.new)
    )


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
