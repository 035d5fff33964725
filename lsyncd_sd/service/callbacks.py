# SPDX-License-Identifier: GPL-2.0-or-later
"""What a delivery asks of the worker that it works for, and what it tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The worker of one delivery.

    `catch_up`: read all that has happened until now; returns False if some directory is not watched yet.
    `table`: the directories that are watched (see Ledger). `on_progress`: the figures changed. `on_ended`:
    an errand came to its end. `on_source_lost`: the source is not there. `on_blind`: there were more changes
    than can be remembered.
    """

    catch_up: Callable[[], bool]
    table: Callable[[], Iterable[tuple[int, int, bytes]]]
    on_progress: Callable[[], None]
    on_ended: Callable[[], None]
    on_source_lost: Callable[[], None]
    on_blind: Callable[[], None]
