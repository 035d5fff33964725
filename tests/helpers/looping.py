# SPDX-License-Identifier: GPL-2.0-or-later
"""Event loops for tests: run until something is true, with a deadline, or with a clock put forward."""

from __future__ import annotations

import time
from collections.abc import Callable

from helpers.waiting import DEADLINE

from lsyncd_sd.loop import Loop


class SteppedLoop(Loop):
    """A loop whose clock can be put forward."""

    ahead = 0.0

    def now(self) -> float:
        """Return the time of the clock, plus `ahead` seconds."""
        return super().now() + self.ahead


def run_until(loop: Loop, condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
    """Run passes of `loop` until `condition` returns something true.

    `deadline` is in seconds. Raises AssertionError after it, naming `what`.
    """
    end = time.monotonic() + deadline
    while not condition():
        left = end - time.monotonic()
        assert left > 0, f"not within {deadline:g} s: {what}"
        loop.run_once(left)
