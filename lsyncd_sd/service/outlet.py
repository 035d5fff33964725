# SPDX-License-Identifier: GPL-2.0-or-later
"""Joins what is one target's own: its queue and delivery, its state, its memory, and how it recovers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lsyncd_sd.config.model import Sync
from lsyncd_sd.loop import Loop
from lsyncd_sd.plan.change import Change
from lsyncd_sd.printable import visible
from lsyncd_sd.service.callbacks import Callbacks
from lsyncd_sd.service.checkpoint import Checkpoints
from lsyncd_sd.service.delivery import Delivery
from lsyncd_sd.service.journal import Journal
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.permits import Permits
from lsyncd_sd.service.recovery import Patient
from lsyncd_sd.service.sourceside import SourceSide
from lsyncd_sd.service.standing import Standing
from lsyncd_sd.service.state import Store, take_over
from lsyncd_sd.service.status import TargetStatus


@dataclass(frozen=True, slots=True)
class Owner:
    """Who wants to know.

    `on_state`: the state changed. `on_recovered`: what nobody had seen is known now. The others are those of
    a delivery, see Callbacks.
    """

    on_state: Callable[[], None]
    on_progress: Callable[[], None]
    on_ended: Callable[[], None]
    on_source_lost: Callable[[], None]
    on_blind: Callable[[Outlet], None]
    on_recovered: Callable[[Outlet], None]


class Outlet:
    """One target of a sync; `sync` has that one alone. Whatever becomes of it, the others do not notice."""

    def __init__(
        self,
        loop: Loop,
        sync: Sync,
        source: SourceSide,
        state_directory: Path,
        locks: Locks,
        runtime: Path,
        permits: Permits,
        journal: Journal,
        owner: Owner,
    ) -> None:
        self.sync = sync
        self._source = source
        self.standing = Standing(journal, owner.on_state)
        try:
            take_over(state_directory, sync)
        except OSError as error:
            journal.error(f"cannot take over the state of this target: {error}", errno=error.errno or 0)
        checkpoints = Checkpoints(state_directory, sync)
        self.delivery = Delivery(
            loop,
            sync,
            source,
            Store(state_directory, sync),
            checkpoints,
            locks,
            runtime,
            permits,
            journal,
            self.standing,
            Callbacks(owner.on_progress, owner.on_ended, owner.on_source_lost, lambda: owner.on_blind(self)),
        )
        self.patient = Patient(
            journal=journal,
            load=checkpoints.load,
            begins=self.delivery.rescan_begins,
            take=self._take,
            ends=self.delivery.rescan_ends,
            proceed=self.delivery.proceed,
            recovered=lambda: owner.on_recovered(self),
            compare=self.delivery.request_full_sync,
            pending=lambda: self.delivery.pending,
        )

    @property
    def target(self) -> str:
        """The target as it is shown."""
        return visible(self.sync.target.text)

    def _take(self, changes: list[Change]) -> None:
        self.delivery.add(changes, is_settled=self._source.is_settled())

    def status(self) -> TargetStatus:
        """Return how things stand now."""
        delivery, figures = self.delivery, self.delivery.figures
        return TargetStatus(
            target=self.target,
            state=self.standing.state,
            since=self.standing.since,
            reason=self.standing.reason,
            pending=delivery.pending,
            batches=figures.batches,
            failures=delivery.failures,
            files=figures.files,
            bytes=figures.bytes,
            last_batch=figures.last_batch,
            full_sync_percent=figures.full_sync_percent,
            hold_id=delivery.hold.token if delivery.hold is not None else "",
        )
