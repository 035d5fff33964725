# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of plan/moves.py: what can still be moved where something was not."""

from __future__ import annotations

import pytest

from lsyncd_sd.plan.change import Move
from lsyncd_sd.plan.moves import Blocked


def move(old: str, new: str) -> Move:
    return Move(old.encode(), new.encode(), True)


@pytest.mark.parametrize(
    ("blocked", "moves", "others"),
    [
        ([], ["a b", "b c"], []),
        (["x"], ["a b", "b c"], []),
        # at, above and below either name
        (["a"], ["a b"], ["a b"]),
        (["b"], ["a b"], ["a b"]),
        (["a/x"], ["a b"], ["a b"]),
        (["b/x"], ["a b"], ["a b"]),
        (["d"], ["d/a b", "a d/b"], ["d/a b", "a d/b"]),
        (["d/x"], ["d/a d/b"], []),
        (["d"], ["da db"], []),
        # what is not made blocks what comes after it
        (["a"], ["a b", "b c", "c d", "x y"], ["a b", "b c", "c d"]),
        (["c"], ["a b", "b c", "c d"], ["b c", "c d"]),
        (["tmp"], ["x tmp", "y x", "tmp y", "p q"], ["x tmp", "y x", "tmp y"]),
    ],
)
def test_what_concerns_what_was_not_moved(blocked: list[str], moves: list[str], others: list[str]) -> None:
    everything = [move(*text.split()) for text in moves]
    free, left = Blocked(path.encode() for path in blocked).take_out(everything)
    assert left == [move(*text.split()) for text in others]
    assert free == [one for one in everything if one not in left]


def test_a_move_blocks_both_its_names() -> None:
    blocked = Blocked()
    blocked.add(move("a", "b/c"))
    free, left = blocked.take_out([move("a/x", "x"), move("y", "b/c"), move("z", "b/d")])
    assert (free, left) == ([move("z", "b/d")], [move("a/x", "x"), move("y", "b/c")])
