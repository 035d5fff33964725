# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns changes into moves and dirty marks: what is new, what follows a move, and when a move is none.

The rules by their names (A1 to B3) are in docs/collating.md.
"""

from __future__ import annotations

from collections.abc import Callable

from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Change, Depth, Move, Sign
from lsyncd_sd.plan.marktree import MarkTree, left_undone
from lsyncd_sd.plan.pathtree import PathTree
from lsyncd_sd.plan.reach import Reach

_ATTRIBUTES = Mark(Depth.ENTRY, exact=False)
_ENTRY = Mark(Depth.ENTRY, exact=True)
_SUBTREE = Mark(Depth.SUBTREE, exact=True)

MayMove = Callable[[Move], bool]


class Dirt:
    """What is not on its way to the target yet; every path is named as it is after all of `moves`.

    `open`: files written to and not closed, with the time when they are due. `troubled`: what failed by
    itself. `large`: what has a lane of its own. `pending`: the rest. `is_blind`: nobody knows what was
    missed, so no move is trusted and nothing is new. `may_move` tells what the target may make: what else
    moves is sent again.
    """

    def __init__(self, max_moves: int, may_move: MayMove) -> None:
        self._max_moves = max_moves
        self._may_move = may_move
        self.moves: list[Move] = []
        self.pending = MarkTree()
        self.open: PathTree[float] = PathTree()
        self.troubled = MarkTree()
        self.large = MarkTree()
        self.run_reach = Reach()
        self.lane_reach = Reach()
        self.is_blind = False

    def __len__(self) -> int:
        return len(self.pending) + len(self.open) + len(self.troubled) + len(self.large)

    # ------------------------------------------------------------------ changes

    def change(self, change: Change, open_until: float) -> None:
        """Take in a change; a file that is open is due at `open_until`."""
        path, depth, exact, sign = change
        if sign is Sign.OPEN:
            self._written(path, open_until)
            return
        if self.open:
            exact = self._close(path, depth, exact=exact)
        if sign is Sign.CHANGED:
            self.pending.touch(path, Mark(depth, exact))
        elif sign is Sign.CAME:
            self.pending.put(path, Mark(depth, exact, is_new=self._is_clean(path)))
        elif sign is Sign.WENT and self.pending.is_new(path):
            self._forget_new(path)
        else:
            self.pending.put(path, Mark(depth, exact))

    def _written(self, path: bytes, until: float) -> None:
        """A file was written to: it goes with what is dirty of it anyway, or later."""
        if path in self.pending:
            self.pending.touch(path, _ENTRY)
            return
        cover = self.pending.covering(path)
        if (cover is None or not cover.exact) and path not in self.open:
            self.open.set(path, until)

    def _close(self, path: bytes, depth: Depth, *, exact: bool) -> bool:
        """What is dirty anyway is not left for later; return whether it is exact."""
        was_open = self.open.remove(path) is not None
        exact = exact or was_open
        if exact and depth & Depth.SUBTREE:
            self.open.drop(path)
        return exact

    def _is_clean(self, path: bytes) -> bool:
        """Tell whether the target, all moves made, knowably agrees with the source at `path` (A6)."""
        return (
            not self.is_blind
            and self.pending.is_clean(path)
            and self.run_reach.is_clear_of(path)
            and self.lane_reach.is_clear_of(path)
            and self.troubled.is_clean(path)
            and self.large.is_clean(path)
            and not self.open.holds(path)
        )

    def _forget_new(self, path: bytes) -> None:
        """What the target cannot hold is gone again: only its directory has got another time."""
        self.pending.drop(path)
        self.pending.touch(parent_of(path), _ATTRIBUTES)

    # ------------------------------------------------------------------ moves

    def move(self, move: Move) -> None:
        """Take in a move; it is carried out on the target, or what it concerns becomes dirty."""
        if self.pending.is_new(move.old):
            self._forget_new(move.old)
            self.pending.put(move.new, _SUBTREE if move.is_directory else _ENTRY)
        elif self._is_possible(move):
            self._keep(move)
        else:
            self._mark_both_ends(move)

    def _is_possible(self, move: Move) -> bool:
        return (
            self._max_moves > 0
            and not self.is_blind
            and not self.pending.is_new(parent_of(move.new))
            and self._may_move(move)
        )

    def _mark_both_ends(self, move: Move) -> None:
        self.pending.put_both_ends(move)
        for path in (move.old, move.new):
            if move.is_directory:
                self.open.drop(path)
            else:
                self.open.remove(path)

    def _keep(self, move: Move) -> None:
        for reach in (self.run_reach, self.lane_reach):
            for found in reach.concerned(move.old):
                self.pending.put(found, _SUBTREE)
        for marks in (self.pending, self.troubled, self.large):
            marks.move(move)
        self.open.rename(move.old, move.new)
        for path in (move.old, move.new):
            # Making the move gives both directories another time.
            self.pending.touch(parent_of(path), _ATTRIBUTES)
        self.moves.append(move)
        if len(self.moves) > self._max_moves:
            self.drop_moves()

    def make_no_moves(self) -> None:
        """Carry out none of the moves, and none that are still to come."""
        self._max_moves = 0
        self.drop_moves()

    def drop_moves(self) -> None:
        """Carry out none of the moves: all their ends become dirty (A9)."""
        self.pending.put_older(left_undone(self.moves, set(self.moves)))
        self.moves = []

    # ------------------------------------------------------------------ all of it

    def take_open(self, until: float) -> None:
        """The open files that are due until then wait no longer."""
        due = [path for path, time in self.open.items() if time <= until]
        for path in due:
            self.open.remove(path)
            self.pending.touch(path, _ENTRY)

    def clear(self) -> None:
        """Forget everything that is not on its way."""
        self.moves = []
        self.pending = MarkTree()
        self.open = PathTree()
        self.troubled = MarkTree()
        self.large = MarkTree()


def parent_of(path: bytes) -> bytes:
    """Return the directory of a path; that of a name at the top is empty."""
    return path.rpartition(b"/")[0]
