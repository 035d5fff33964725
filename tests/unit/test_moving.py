# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of mirror/moving.py with a mover that does what the test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lsyncd_sd.mirror.moving import MOST_REFUSED, Moved, make_moves
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.change import Move

GONE = Verdict(Outcome.CONNECTION, "gone", 255)


def move(text: str) -> Move:
    old, new = text.encode().split()
    return Move(old, new, False)


@dataclass
class FakeMover:
    """Makes moves up to the first of `refused`; with `lost`, its connection ends at that one."""

    refused: set[Move] = field(default_factory=set)
    lost: Move | None = None
    asked: list[tuple[list[Move], int | None]] = field(default_factory=list)

    def make(self, moves: Sequence[Move], may_replace: int | None) -> Steps[Moved]:
        self.asked.append((list(moves), may_replace))
        for number, one in enumerate(moves):
            if one == self.lost:
                return Moved(tuple(moves[number:]), number, GONE)
            if one in self.refused:
                return Moved(tuple(moves[number:]), number, refusal=f"not {one.old.decode()}")
        return Moved(replaced=len(moves))
        yield


def make(
    mover: FakeMover, *texts: str, busy: Sequence[bytes] = (), may_replace: int | None = None
) -> tuple[Moved, list[Move]]:
    """Return what became of the moves, and all that were asked for."""
    steps = make_moves(mover, [move(text) for text in texts], busy, may_replace)
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value, [one for moves, _left in mover.asked for one in moves]
    raise AssertionError("nothing is to be started here")


def test_all_are_made_in_one_go() -> None:
    moved, asked = make(FakeMover(), "a b", "b c")
    assert moved == Moved(replaced=2)
    assert asked == [move("a b"), move("b c")]


def test_without_moves_nobody_is_asked() -> None:
    assert make(FakeMover()) == (Moved(), [])


def test_what_has_nothing_to_do_with_a_refused_one_is_made() -> None:
    mover = FakeMover(refused={move("b c"), move("x y")})
    moved, _asked = make(mover, "a b", "b c", "c d", "k l", "x y", "m n", may_replace=9)
    assert moved.unconfirmed == (move("b c"), move("c d"), move("x y"))
    assert moved.replaced == 3
    assert moved.refusal == "not b"
    assert [(moves[0], left) for moves, left in mover.asked] == [
        (move("a b"), 9),
        (move("k l"), 8),
        (move("m n"), 7),
    ]


def test_after_a_lost_connection_nothing_more_is_asked() -> None:
    mover = FakeMover(refused={move("a b")}, lost=move("e f"))
    moved, asked = make(mover, "a b", "c d", "e f", "g h")
    assert moved == Moved((move("a b"), move("e f"), move("g h")), 1, GONE, "not a")
    assert len(mover.asked) == 2
    assert asked[-1] == move("g h"), "it was on its way"


def test_what_concerns_a_busy_path_is_left() -> None:
    moved, asked = make(FakeMover(), "d e", "d2 e2", "x d/y", busy=[b"d/big"])
    assert moved.unconfirmed == (move("d e"), move("x d/y"))
    assert asked == [move("d2 e2")]
    assert make(FakeMover(), "d e", busy=[b"d/big"])[1] == []


def test_a_target_that_refuses_again_and_again_is_asked_no_more() -> None:
    texts = [f"a{number} b{number}" for number in range(3 * MOST_REFUSED)]
    mover = FakeMover(refused={move(text) for text in texts})
    moved, _asked = make(mover, *texts)
    assert len(mover.asked) == MOST_REFUSED
    assert set(moved.unconfirmed) == {move(text) for text in texts}
    assert len(moved.unconfirmed) == len(texts)
