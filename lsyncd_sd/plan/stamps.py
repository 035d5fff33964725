# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells when all that was dirty at some moment is on the target, without a note on each path."""

from __future__ import annotations

import enum


class Stage(enum.Enum):
    """Where dirty paths wait, or what will find them."""

    OPEN = "open"
    PENDING = "pending"
    IN_FLIGHT = "in flight"
    TROUBLED = "troubled"
    LARGE = "large"
    IN_LANE = "in the lane of large files"
    FULL_SYNC = "left to a full sync"
    RESCAN = "to be found by a rescan"


class Stamps:
    """Remembers of each stage how old the oldest path at it may be, in stamps given before."""

    def __init__(self) -> None:
        self._given = 0
        self._oldest: dict[Stage, int] = {}

    def give(self) -> int:
        """Return a stamp: whatever entered a stage before is older."""
        self._given += 1
        return self._given

    def enter(self, stage: Stage, *, is_old: bool = False) -> None:
        """Something is at this stage now; `is_old`: older than any stamp."""
        age = 0 if is_old else self._given
        self._oldest[stage] = min(age, self._oldest.get(stage, age))

    def leave(self, stage: Stage) -> None:
        """Nothing is at this stage any more."""
        self._oldest.pop(stage, None)

    def copy(self, origin: Stage, stage: Stage) -> None:
        """Some of what is at one stage is at another one, too."""
        if origin in self._oldest:
            age = self._oldest[origin]
            self._oldest[stage] = min(age, self._oldest.get(stage, age))

    def move(self, origin: Stage, stage: Stage) -> None:
        """All that was at one stage is at another one."""
        self.copy(origin, stage)
        self.leave(origin)

    def is_done(self, stamp: int) -> bool:
        """Tell whether nothing that is older than the stamp is at any stage."""
        return all(age >= stamp for age in self._oldest.values())
