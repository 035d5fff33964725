# SPDX-License-Identifier: GPL-2.0-or-later
"""Strategies for the places that the operations of a model test are done at."""

from __future__ import annotations

from helpers.trees import Spot
from hypothesis import strategies as st


def spots(new: st.SearchStrategy[bool]) -> st.SearchStrategy[Spot]:
    """Return a strategy for places in a small tree; `new`: whether nothing stands there yet."""
    return st.builds(Spot, st.integers(0, 7), st.integers(0, 3), new)


NEW, OLD, ANY = spots(st.just(True)), spots(st.just(False)), spots(st.booleans())

# Names beside the source, which things are moved out to and in from.
OUTSIDE = st.sampled_from([b"x", b"y"])
