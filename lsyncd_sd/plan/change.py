# SPDX-License-Identifier: GPL-2.0-or-later
"""What the watch room tells the plan room: a path whose state on the target may be wrong, and how deep."""

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


class Change(NamedTuple):
    """One thing seen on the source: "make the target agree with whatever the source holds at `path`".

    `path` is relative to the source, without a slash at either end; empty means the source itself.
    `exact` says that the name may have got another file (create, write, rename): then equal size and
    modification time prove nothing.
    """

    path: bytes
    depth: Depth
    exact: bool
