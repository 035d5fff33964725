# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/outlets.py: every target gets everything that happens, in the order in which it did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lsyncd_sd.plan.change import Change, Depth, Move
from lsyncd_sd.service.outlets import Outlets

CHANGES = [Change(b"%d" % number, Depth.ENTRY, True) for number in range(3)]


def nothing() -> None:
    """Do nothing."""


@dataclass(eq=False)
class Delivery:
    """A delivery that remembers what it was told, and what acting on it leads to."""

    on_proceed: Callable[[], None] = nothing
    told: list[object] = field(default_factory=list)
    is_idle: bool = True
    on_stopped: Callable[[], None] = nothing

    def add(self, changes: Sequence[Change | Move], *, is_settled: bool) -> None:
        self.told += [*changes, is_settled]

    def proceed(self) -> None:
        on_proceed, self.on_proceed = self.on_proceed, nothing
        on_proceed()

    def caught_up(self) -> None:
        self.told.append("caught up")

    def source_ready(self) -> None:
        self.told.append("ready")

    def source_lost(self) -> None:
        self.told.append("lost")

    def request_full_sync(self, reason: str) -> None:
        self.told.append(reason)

    def stop(self, grace: float, on_stopped: Callable[[], None]) -> None:
        self.told.append(grace)
        self.on_stopped = on_stopped
        if self.is_idle:
            on_stopped()


@dataclass(eq=False)
class Outlet:
    """What goes to one target."""

    delivery: Delivery


def fan(*deliveries: Delivery) -> Outlets:
    return Outlets([Outlet(delivery) for delivery in deliveries])  # type: ignore[arg-type]


def test_what_is_read_while_one_acts_comes_later_for_all() -> None:
    """Each one that begins a batch reads what has happened until then."""
    deliveries = [Delivery() for _ in range(3)]
    outlets = fan(*deliveries)
    deliveries[0].on_proceed = lambda: outlets.changed(CHANGES[1:2], is_settled=False)
    deliveries[1].on_proceed = lambda: outlets.changed(CHANGES[2:], is_settled=True)
    outlets.changed(CHANGES[:1], is_settled=True)
    in_order = [CHANGES[0], True, CHANGES[1], False, CHANGES[2], True]
    assert [delivery.told for delivery in deliveries] == [in_order] * 3


def test_what_concerns_the_source_concerns_all() -> None:
    deliveries = [Delivery(), Delivery()]
    outlets = fan(*deliveries)
    outlets.source_ready()
    outlets.caught_up()
    outlets.request_full_sync("a reason")
    outlets.source_lost()
    assert [delivery.told for delivery in deliveries] == [["ready", "caught up", "a reason", "lost"]] * 2


def test_the_end_is_when_all_have_ended() -> None:
    quick, slow, slower = Delivery(), Delivery(is_idle=False), Delivery(is_idle=False)
    ended: list[str] = []
    fan(quick, slow, slower).stop(7.0, lambda: ended.append("ended"))
    assert [delivery.told for delivery in (quick, slow, slower)] == [[7.0]] * 3
    slower.on_stopped()
    assert ended == []
    slow.on_stopped()
    assert ended == ["ended"]


def test_the_end_comes_at_once_where_nothing_runs() -> None:
    ended: list[str] = []
    fan(Delivery(), Delivery()).stop(7.0, lambda: ended.append("ended"))
    assert ended == ["ended"]
