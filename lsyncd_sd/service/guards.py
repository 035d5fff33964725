# SPDX-License-Identifier: GPL-2.0-or-later
"""Sees before each full sync and each batch that it is safe to go on, and how much may be deleted."""

from __future__ import annotations

import time
from typing import NamedTuple

from lsyncd_sd.config.model import MaxDeletes, Sync, TargetKind
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.rsync import RsyncMirror
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.batch import Marks
from lsyncd_sd.plan.deletions import Deletions
from lsyncd_sd.plan.guard import (
    Brake,
    Hold,
    Identity,
    MountPoint,
    Size,
    check_deletions,
    check_first_run,
    check_mounts,
    check_rest,
    check_source,
    check_target,
)
from lsyncd_sd.service.interruptions import HeldError, TroubleError
from lsyncd_sd.service.state import Record

# A full sync that passed, and then had to wait for a directory that is not watched yet, as in a tree that
# changes all the time, is not counted once more, unless it had to wait for so long. A guess.
PASSED_SECONDS = 10.0


class Sight(NamedTuple):
    """What the source looks like just before something is done."""

    identity: Identity
    is_empty: bool
    mounts: frozenset[MountPoint]


class Guards:
    """The guards of one sync to one target. What they return is how many entries may be deleted.

    None is any number. They raise HeldError, or TroubleError where the target cannot be used. `size` is that
    of what the target holds.
    """

    def __init__(self, sync: Sync, mirror: RsyncMirror, size: Size) -> None:
        self.size = size
        self._sync = sync
        self._mirror = mirror
        # A dry run deletes nothing; it is to show what it would.
        limit = MaxDeletes() if sync.is_dry_run else sync.max_deletes
        self._brake = Brake(limit.number, limit.percent)
        self._is_source_passed = False
        self._accepted = ""
        # The doubt that was counted for last: for the same one, that need not be done again.
        self._doubted: Hold | None = None
        # What was counted last and may be deleted, and when, until it is.
        self._passed: tuple[Deletions, float] | None = None
        # Whether the full sync that was let pass goes to another directory than the one before.
        self.is_other_target = False

    def accept(self, token: str) -> None:
        """The operator has released the hold of this token: it counts until `carried_out`."""
        self._accepted = token

    def source_came(self) -> None:
        """The source may be another one, or emptied, since the last errand."""
        self._is_source_passed = False

    def before_full_sync(self, record: Record, sight: Sight) -> Steps[int | None]:
        """Check both roots, and what the full sync would delete."""
        target = yield from self._look_at_target(record)
        deletes = self._mirror.commands.full_sync_deletes
        doubt = check_source(record.memory, sight.identity, sight.is_empty, deletes)
        doubt = doubt or self._check_places(record, sight, target)
        if doubt is not None:
            deletions = yield from self._check_doubt(doubt, record)
        elif not deletes:
            deletions = Deletions()
        elif not record.is_ours:
            deletions = yield from self._check_first_run(record, target, sight)
        elif self._passed is not None and time.monotonic() < self._passed[1] + PASSED_SECONDS:
            deletions, _at = self._passed
        else:
            deletions = yield from self._check_full_sync(record)
            self._passed = deletions, time.monotonic()
        yield from self._check_presence(record)
        self._is_source_passed = True
        self._mirror.use_target(target)
        self.is_other_target = record.memory.target not in (None, target)
        return self._allowance(record, deletions)

    def before_batch(self, record: Record, sight: Sight) -> Steps[None]:
        """Check what has to be right whatever the batch is about."""
        target = yield from self._look_at_target(record)
        doubt = None
        if not self._is_source_passed:
            # Once it is watched, emptying it is an order like any other.
            deletes = self._mirror.commands.batches_delete
            doubt = check_source(record.memory, sight.identity, sight.is_empty, deletes)
        doubt = doubt or self._check_places(record, sight, target)
        if doubt is not None:
            yield from self._check_doubt(doubt, record)
        self._is_source_passed = True
        self._mirror.use_target(target)

    def before_runs(self, record: Record, marks: Marks) -> Steps[int | None]:
        """Check what a batch of these marks would delete, unless no more can go than was seen to go."""
        left = self.size.left(self._brake)
        deletions = Deletions()
        if left is not None and (record.is_stopped or self._mirror.needs_counting(marks, left)):
            deletions = _counted((yield from self._mirror.count_batch(marks)))
            self._check_number(record, deletions)
        yield from self._check_presence(record)
        return self._allowance(record, deletions)

    def may_replace(self, record: Record) -> int | None:
        """Return how many entries may be gone because something moves in over them, None for any number."""
        if record.is_stopped or self._sync.keeps_what_is_replaced:
            return 0
        return self.size.left(self._brake)

    def full_sync_begins(self) -> None:
        """What was counted is under way: for another full sync it is counted anew."""
        self._passed = None

    def carried_out(self) -> None:
        """A full sync or a batch came to its end: what was accepted for it is used up."""
        if self._accepted:
            self._accepted = ""
            self.size.forget_peak()

    def _check_places(self, record: Record, sight: Sight, target: Identity | None) -> Hold | None:
        commands = self._mirror.commands
        doubt = None
        if commands.full_sync_deletes or commands.batches_delete:
            doubt = check_mounts(record.memory, sight.mounts)
        return doubt or check_target(record.memory, target)

    def _check_doubt(self, doubt: Hold, record: Record) -> Steps[Deletions]:
        """Hold for a doubt about one of the roots, and tell what would be deleted if it was unfounded."""
        known = self._doubted
        if known is not None and known.doubt == doubt.doubt and known.token != self._accepted:
            raise HeldError(known)
        deletions = Deletions()
        if self._mirror.commands.full_sync_deletes:
            deletions = yield from self._count_full_sync(record)
        self._doubted = doubt.with_deletions(deletions)
        self._check(self._doubted)
        return deletions

    def _check_first_run(self, record: Record, target: Identity | None, sight: Sight) -> Steps[Deletions]:
        """Whatever the target holds was not put there by us."""
        is_there = target is not None or self._sync.target.kind is not TargetKind.LOCAL
        is_braked = self.size.left(self._brake) is not None
        deletions = Deletions()
        if is_there and (is_braked or sight.is_empty):
            deletions = yield from self._count_full_sync(record)
            if self._sync.hold_first or sight.is_empty:
                self._check(check_first_run(deletions))
            else:
                self._check_number(record, deletions)
        return deletions

    def _check_full_sync(self, record: Record) -> Steps[Deletions]:
        deletions = Deletions()
        if self.size.left(self._brake) is not None:
            deletions = yield from self._count_full_sync(record)
            self._check_number(record, deletions)
        return deletions

    def _check_number(self, record: Record, deletions: Deletions) -> None:
        if record.is_stopped:
            hold = check_rest(deletions)
        else:
            hold = check_deletions(self._brake, self.size, deletions)
        if hold is not None:
            self.size.keep_peak(time.monotonic())
        self._check(hold)

    def _count_full_sync(self, record: Record) -> Steps[Deletions]:
        counted = yield from self._mirror.count_full_sync()
        is_missing = isinstance(counted, Verdict) and counted.outcome is Outcome.TARGET_MISSING
        if is_missing and not record.was_mirrored:
            return Deletions()
        return _counted(counted)

    def _allowance(self, record: Record, deletions: Deletions) -> int | None:
        left = self.size.left(self._brake)
        if left is None:
            return None
        # Of a first run nothing may be deleted but what was counted and accepted.
        return max(left if record.is_ours else 0, len(deletions))

    def _check(self, hold: Hold | None) -> None:
        if hold is not None and hold.token != self._accepted:
            raise HeldError(hold)

    def _look_at_target(self, record: Record) -> Steps[Identity | None]:
        """Return which directory a local target is. Raises TroubleError if it cannot be reached."""
        if self._sync.target.kind is not TargetKind.LOCAL:
            verdict = yield from self._mirror.reach()
            if verdict.outcome is not Outcome.OK:
                raise TroubleError(verdict)
            return None
        identity = yield from self._mirror.target_identity()
        if isinstance(identity, Verdict):
            raise TroubleError(identity)
        if identity is None and record.was_mirrored:
            message = f"{self._sync.target.text} is not there"
            raise TroubleError(Verdict(Outcome.TARGET_MISSING, message, 0))
        return identity

    def _check_presence(self, record: Record) -> Steps[None]:
        """See that the target of a daemon is there; last of all, for it changes the root's attributes."""
        if self._sync.target.kind is TargetKind.DAEMON and record.was_mirrored:
            verdict = yield from self._mirror.presence()
            if verdict.outcome not in (Outcome.OK, Outcome.VANISHED, Outcome.PARTIAL):
                raise TroubleError(verdict)


def _counted(counted: Deletions | Verdict) -> Deletions:
    if isinstance(counted, Verdict):
        raise TroubleError(counted)
    return counted
