# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of moves that are not carried out, and which of them are one half of an exchange."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from lsyncd_sd.plan.change import Move
from lsyncd_sd.plan.marktree import MarkTree

# Renames of other processes that may come between the two halves of an exchange: the kernel holds the
# directories of the two names meanwhile, and no others. A guess.
MOST_BETWEEN = 32


def left_undone(moves: Iterable[Move], undone: Collection[Move]) -> MarkTree:
    """Return what is dirty after `moves`, made in their order, if of `undone` nobody knows it (C3)."""
    marks = MarkTree()
    for move in moves:
        marks.move(move)
        if move in undone:
            marks.put_both_ends(move)
    return marks


class _Half(NamedTuple):
    old: bytes | None
    new: bytes
    is_directory: bool


class LatestMoves:
    """The renames of a moment ago: an exchange of two names is seen as two moves, there and back (A5)."""

    def __init__(self) -> None:
        self._halves: list[_Half] = []

    def note_arrival(self, path: bytes, is_directory: bool) -> None:
        """Something was moved to this path from where nobody looks."""
        self._note(_Half(None, path, is_directory))

    def note(self, move: Move) -> None:
        """This move was seen."""
        kept = []
        for half in self._halves:
            if move.old in (half.old, half.new):
                continue
            old = None if half.old is None else _renamed(half.old, move)
            kept.append(_Half(old, _renamed(half.new, move), half.is_directory))
        self._halves = kept
        self._note(_Half(move.old, move.new, move.is_directory))

    def _note(self, half: _Half) -> None:
        self._halves = [*self._halves[-MOST_BETWEEN:], half]

    def other_half(self, move: Move) -> Move | None:
        """Return the exchange of which this move is the second half; None if it is none.

        The exchange is given as a move, of a directory if either end is one.
        """
        for half in self._halves:
            if half.new == move.old and half.old in (None, move.new):
                return Move(move.old, move.new, move.is_directory or half.is_directory)
        return None


def _renamed(path: bytes, move: Move) -> bytes:
    below = path.removeprefix(move.old + b"/")
    return path if below == path else move.new + b"/" + below
