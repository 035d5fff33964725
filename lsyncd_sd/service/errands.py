# SPDX-License-Identifier: GPL-2.0-or-later
"""What a full sync and a batch consist of: first the guards, then the mirror, then what is remembered."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from lsyncd_sd.config.model import Sync, TargetKind
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.rsync import Report, RsyncMirror
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.batch import Marks, Sample
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Hold, Identity, check_first_run, check_source, check_target
from lsyncd_sd.service.interruptions import HeldError, HostBusyError, SourceLostError, TroubleError
from lsyncd_sd.service.journal import Journal
from lsyncd_sd.service.ledger import Ledger
from lsyncd_sd.service.links import LinkedNames
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.state import Record, Store
from lsyncd_sd.watch.source import Source


class SourceGate:
    """Opens the source for one run, as long as it is the directory that is watched."""

    def __init__(self, path: str, *, one_file_system: bool = False) -> None:
        self._path = os.fsencode(path)
        self._one_file_system = one_file_system
        # Set by whoever watches; None while nobody does.
        self.identity: Identity | None = None

    def open(self) -> Source:
        """Open the source's root. Raises SourceLostError unless it is the one that is watched."""
        try:
            source = Source(self._path, one_file_system=self._one_file_system)
        except OSError as error:
            raise SourceLostError(str(error)) from None
        try:
            if source.identity() == self.identity:
                return source
        except OSError as error:
            source.close()
            raise SourceLostError(str(error)) from None
        source.close()
        raise SourceLostError("another directory stands in its place")


class Errands:
    """The errands of one sync to one target; owns what is remembered of them (the state file).

    `accepted` is the token of the hold that the operator has released: it counts for one full sync.
    """

    def __init__(
        self,
        sync: Sync,
        filters: Filter,
        gate: SourceGate,
        mirror: RsyncMirror,
        links: LinkedNames,
        ledger: Ledger,
        store: Store,
        locks: Locks,
        journal: Journal,
        accepted: str,
    ) -> None:
        self._sync = sync
        self._filters = filters
        self._gate = gate
        self._mirror = mirror
        self._links = links
        self._ledger = ledger
        self._store = store
        self._locks = locks
        self._journal = journal
        self._accepted = accepted
        self._first_run_hold: Hold | None = None
        self._record = store.load()
        mirror.on_run = ledger.run_begins
        mirror.commands.traits = replace(
            mirror.commands.traits,
            nanoseconds=self._record.nanoseconds,
            secluded=self._record.secluded,
        )

    @property
    def full_sync_deletes(self) -> bool:
        """Whether a full sync deletes on the target at all."""
        return self._mirror.commands.full_sync_deletes

    @property
    def trusts_source(self) -> bool:
        """Whether the source looks as if it may be mirrored without asking anybody."""
        try:
            identity, is_empty, _sample = self._look_at_source()
        except SourceLostError:
            return False
        return check_source(self._record.memory, identity, is_empty, deletes=True) is None

    def full_sync(self, on_begin: Callable[[], None]) -> Steps[Report]:
        """Make the whole target equal; `on_begin` is called when the guards are passed.

        Raises one of INTERRUPTIONS if it must not or cannot begin.
        """
        if self._sync.target.kind is TargetKind.LOCAL:
            return (yield from self._full_sync(on_begin))
        slot = self._locks.take_host_slot(self._sync.target.host)
        if slot is None:
            raise HostBusyError
        try:
            return (yield from self._full_sync(on_begin))
        finally:
            os.close(slot)

    def batch(self, take_marks: Callable[[], Marks]) -> Steps[Report]:
        """Make the target right for the marks, which are taken when the guards are passed."""
        yield from self._check_target()
        marks = yield from self._links.bring_along(take_marks())
        with self._ledger.at_work(marks):
            return (yield from self._mirror.batch(marks))

    def note_emptiness(self) -> None:
        """Remember whether the source holds anything: an empty one after a restart is suspicious then."""
        try:
            with self._gate.open() as source:
                had_entries = not source.is_empty(self._filters.excludes)
        except (SourceLostError, OSError):
            return
        memory = replace(self._record.memory, source_had_entries=had_entries)
        self._remember(replace(self._record, memory=memory))

    def _look_at_source(self) -> tuple[Identity, bool, Sample | None]:
        """Return its identity, whether it is empty, and a sample. Raises SourceLostError."""
        try:
            with self._gate.open() as source:
                is_empty = source.is_empty(self._filters.excludes)
                return source.identity(), is_empty, source.find_sample(self._filters.excludes)
        except OSError as error:
            raise SourceLostError(str(error)) from None

    def _full_sync(self, on_begin: Callable[[], None]) -> Steps[Report]:
        identity, is_empty, sample = self._look_at_source()
        deletes = self.full_sync_deletes
        self._check(check_source(self._record.memory, identity, is_empty, deletes))
        yield from self._check_target()
        if is_empty and deletes and self._record.memory.source is None:
            yield from self._check_first_run(identity)
        on_begin()
        probed = yield from self._mirror.find_traits(sample)
        if probed.is_whole:
            return probed
        report = yield from self._mirror.full_sync(
            may_create=not self._record.was_mirrored, sample=sample
        )
        report.done = report.done.plus(probed.done)
        if not report.is_whole:
            yield from self._remember_roots(identity, is_empty)
        return report

    def _check_first_run(self, identity: Identity) -> Steps[None]:
        """Count once what the first full sync of an empty source would delete; it stays held by that."""
        if self._first_run_hold is None:
            count = yield from self._mirror.would_delete()
            if isinstance(count, Verdict):
                raise TroubleError(count)
            self._first_run_hold = check_first_run(identity, count)
        self._check(self._first_run_hold)

    def _check_target(self) -> Steps[None]:
        """See that the target is there, and a local one the same as before. Raises if it cannot be used."""
        if self._sync.target.kind is TargetKind.DAEMON and self._record.was_mirrored:
            verdict = yield from self._mirror.presence()
            if verdict.outcome not in (Outcome.OK, Outcome.VANISHED, Outcome.PARTIAL):
                raise TroubleError(verdict)
        if self._sync.target.kind is not TargetKind.LOCAL:
            return
        identity = yield from self._mirror.target_identity()
        if isinstance(identity, Verdict):
            raise TroubleError(identity)
        if identity is None and self._record.was_mirrored:
            message = f"{self._sync.target.text} is not there"
            raise TroubleError(Verdict(Outcome.TARGET_MISSING, message, 0))
        self._check(check_target(self._record.memory, identity))

    def _check(self, hold: Hold | None) -> None:
        if hold is not None and hold.token != self._accepted:
            raise HeldError(hold)

    def _remember_roots(self, source: Identity, is_empty: bool) -> Steps[None]:
        """After a full sync: what the two roots are from now on."""
        target: Identity | None = None
        if self._sync.target.kind is TargetKind.LOCAL:
            answer = yield from self._mirror.target_identity()
            if answer is None:
                # Whatever rsync said: the target was not made, and may be made by the next one.
                return
            target = answer if isinstance(answer, Identity) else self._record.memory.target
        memory = replace(
            self._record.memory, source=source, source_had_entries=not is_empty, target=target
        )
        # What was accepted has been carried out; the same situation another time is a new question.
        self._accepted = ""
        self._remember(replace(self._record, memory=memory, was_mirrored=True))

    def _remember(self, record: Record) -> None:
        traits = self._mirror.commands.traits
        record = replace(record, nanoseconds=traits.nanoseconds, secluded=traits.secluded)
        # After a dry run, the target is what it was: the next one is as much the first as this one.
        if record == self._record or self._sync.is_dry_run:
            return
        self._record = record
        try:
            self._store.save(record)
        except OSError as error:
            self._journal.error(
                f"cannot write {self._store.path}: {error.strerror}; after a restart the guards "
                "against an emptied or replaced source know less",
                errno=error.errno or 0,
            )
