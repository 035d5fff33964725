# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of one sync goes with one batch, and when."""

from __future__ import annotations

from lsyncd_sd.config.model import Sync
from lsyncd_sd.plan.collator import Limits

# So many moves are kept for one batch; beyond, all of them are made by sending. One takes the target about a
# millisecond (dash and bash, 2 cores), and nothing else goes there meanwhile. A guess.
MOST_MOVES = 10_000


def limits_of(sync: Sync, *, makes_moves: bool) -> Limits:
    """Return the limits of a sync; `makes_moves`: its target can be told to move."""
    max_moves = MOST_MOVES if makes_moves else 0
    return Limits(sync.delay, sync.max_changes, sync.open_file_delay, max_moves=max_moves)
