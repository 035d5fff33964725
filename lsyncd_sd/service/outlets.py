# SPDX-License-Identifier: GPL-2.0-or-later
"""Hands what happens in the source of a sync to all its targets, and none of it to one before another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lsyncd_sd.plan.change import Change, Move
from lsyncd_sd.service.outlet import Outlet


class Outlets:
    """The outlets of one sync, in the order of its targets."""

    def __init__(self, outlets: Sequence[Outlet]) -> None:
        self._outlets = tuple(outlets)

    def __iter__(self) -> Iterator[Outlet]:
        return iter(self._outlets)

    def source_ready(self) -> None:
        """The source is watched from now on."""
        for outlet in self._outlets:
            outlet.delivery.source_ready()

    def changed(self, changes: Sequence[Change | Move], *, is_settled: bool) -> None:
        """This was seen; `is_settled`: every directory heard of is watched.

        All have it before any of them acts on it: that may read more, and what is read later comes later.
        """
        for outlet in self._outlets:
            outlet.delivery.add(changes, is_settled=is_settled)
        for outlet in self._outlets:
            outlet.delivery.proceed()

    def caught_up(self) -> None:
        """All that had happened until now was seen."""
        for outlet in self._outlets:
            outlet.delivery.caught_up()

    def source_lost(self) -> None:
        """Nothing is seen until `source_ready`."""
        for outlet in self._outlets:
            outlet.delivery.source_lost()

    def request_full_sync(self, reason: str) -> None:
        """Have a full sync of each target."""
        for outlet in self._outlets:
            outlet.delivery.request_full_sync(reason)

    def stop(self, grace: float, on_stopped: Callable[[], None]) -> None:
        """Let what runs finish for at most `grace` seconds; then call `on_stopped`, once."""
        at_work = set(self._outlets)

        def stopped(outlet: Outlet) -> None:
            at_work.discard(outlet)
            if not at_work:
                on_stopped()

        for outlet in self._outlets:
            outlet.delivery.stop(grace, partial(stopped, outlet))
