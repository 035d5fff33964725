# SPDX-License-Identifier: GPL-2.0-or-later
"""Says when a target is tried again after it was held, or failed as a whole."""

from __future__ import annotations

from lsyncd_sd.mirror.outcome import PATIENCE, BackOff, Outcome
from lsyncd_sd.plan.guard import Hold

# How often a held sync looks whether the reason is gone (the source mounted again).
HOLD_RECHECK_SECONDS = 5.0


class Tries:
    """The tries of one target: not before `not_before` (monotonic seconds); `hold` is what holds it now."""

    def __init__(self, back_off: BackOff) -> None:
        self._back_off = back_off
        self._times_held = 0
        self.not_before = 0.0
        self.hold: Hold | None = None

    @property
    def failures(self) -> int:
        """The number of failures in a row."""
        return self._back_off.failures

    @property
    def are_good(self) -> bool:
        """Whether the last one neither failed nor was held."""
        return self.failures == 0 and self.hold is None

    def at_once(self) -> None:
        """Wait no more."""
        self.not_before = 0.0

    def succeeded(self) -> None:
        """The target is not in trouble any more."""
        self._back_off.reset()
        self.at_once()

    def released(self) -> None:
        """It is not held, or not any more."""
        self.hold = None
        self._times_held = 0

    def held(self, hold: Hold, now: float) -> None:
        """It is held, once more."""
        self.hold = hold
        # To count again is to compare all that is concerned; the roots are looked at in no time.
        wait = HOLD_RECHECK_SECONDS if hold.doubt else PATIENCE[Outcome.BRAKE].seconds(self._times_held)
        self.not_before = now + wait
        self._times_held += 1

    def failed(self, outcome: Outcome, now: float) -> float:
        """It failed so: wait, longer each time. Return for how many seconds."""
        wait = self._back_off.next(PATIENCE[outcome])
        self.not_before = now + wait
        return wait
