# SPDX-License-Identifier: GPL-2.0-or-later
"""What the watch room tells the plan room: a path whose state on the target may be wrong, or a move."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Depth(enum.IntFlag):
    """How much at and below a dirty path may be wrong; a mark may hold several."""

    ENTRY = 1
    """The path itself: its kind, content and attributes."""
    LEVEL = 2
    """A directory's own level: names may stand there on the target that the source does not hold."""
    SUBTREE = 4
    """The path and everything below it."""
    CONTENT = 8
    """A directory's own level, and every entry in it; not what is below these."""


class Sign(enum.Enum):
    """What became of the name of a changed path."""

    CHANGED = "changed"
    """It is the same name as before, or nobody knows."""
    CAME = "came"
    """It came into being, where there was none."""
    ARRIVED = "arrived"
    """Something was moved here from elsewhere, perhaps over something else."""
    WENT = "went"
    """It is gone."""
    OPEN = "open"
    """It was written to, and has not been closed."""


class Change(NamedTuple):
    """One thing seen on the source: "make the target agree with whatever the source holds at `path`".

    `path` is relative to the source, without a slash at either end; empty means the source itself.
    `exact` says that the name may have got another file (create, write, rename): then equal size and
    modification time prove nothing. A directory that went has depth SUBTREE, whatever else went ENTRY.
    """

    path: bytes
    depth: Depth
    exact: bool
    sign: Sign = Sign.CHANGED


class Move(NamedTuple):
    """A name of the source became another one: both ends are inside, neither is excluded.

    Whatever `new` had named before is gone. Paths as in `Change`.
    """

    old: bytes
    new: bytes
    is_directory: bool
