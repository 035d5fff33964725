# SPDX-License-Identifier: GPL-2.0-or-later
"""What a delivery tells the worker that it works for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The worker of one delivery.

    `on_progress`: the figures changed. `on_ended`: an errand came to its end. `on_source_lost`: the source
    is not there. `on_blind`: there were more changes than can be remembered.
    """

    on_progress: Callable[[], None]
    on_ended: Callable[[], None]
    on_source_lost: Callable[[], None]
    on_blind: Callable[[], None]
