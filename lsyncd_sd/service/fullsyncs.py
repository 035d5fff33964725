# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a full sync is wanted, and why the one under way was: a new wish may come while it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stamp:
    """Everything that was not on the target at some moment.

    `dirty` is the collator's; `full_syncs`: the number of the full sync that was wanted then, 0 if none was.
    """

    dirty: int
    full_syncs: int


class FullSyncs:
    """The full syncs of one sync to one target, counted for those who wait for one.

    `wanted` and `under_way` are reasons, empty if there is none.
    """

    def __init__(self) -> None:
        self.wanted = ""
        self.under_way = ""
        # The number of the last one that was begun, and of the last one that came to its end.
        self._begun = 0
        self._done = 0

    @property
    def are_needed(self) -> bool:
        """Whether nothing less than a full sync makes the target right."""
        return bool(self.wanted or self.under_way)

    def want(self, reason: str) -> bool:
        """Wish for one; return False if there is one wanted already, whose reason stays."""
        if self.wanted:
            return False
        self.wanted = reason
        return True

    def begin(self) -> bool:
        """Begin the one that is wanted; return False if none is."""
        self.under_way, self.wanted = self.wanted, ""
        self._begun += bool(self.under_way)
        return bool(self.under_way)

    def end(self, *, succeeded: bool) -> None:
        """What was begun, if anything, is over."""
        if succeeded and self.under_way:
            self._done = self._begun
        self.under_way = ""

    def number_of_next(self) -> int:
        """Return the number of the one that is wanted, 0 if none is."""
        return self._begun + 1 if self.wanted else 0

    def are_done(self, number: int) -> bool:
        """Tell whether that one, or a later one, has succeeded, and none was begun in vain since.

        What was dirty when one began is its to find: it counts until one has succeeded.
        """
        return self._done == self._begun and self._done >= number
