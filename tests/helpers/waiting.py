# SPDX-License-Identifier: GPL-2.0-or-later
"""Waits for a condition with a deadline: the only way in which a test waits for anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

# Long enough that a loaded machine is not a failure, short enough that a hang is seen: no test takes this
# long when it passes.
DEADLINE = 60.0
POLL_INTERVAL = 0.05


def wait_until(
    condition: Callable[[], Value],
    what: str,
    deadline: float = DEADLINE,
    describe: Callable[[], object] | None = None,
) -> Value:
    """Call `condition` until it returns something true, and return that.

    `deadline` is in seconds. Raises AssertionError after it, naming `what` and what `describe` returns then.
    """
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            seen = f"\n{describe()}" if describe is not None else ""
            raise AssertionError(f"not within {deadline:g} s: {what}{seen}")
        time.sleep(POLL_INTERVAL)
