# SPDX-License-Identifier: GPL-2.0-or-later
"""Collects changes into dirty marks, and says when they are due; what fails comes back to it.

A mark says "make the target agree with whatever the source holds here when the batch runs", so creates,
writes, chmods and deletes of a path all collapse into one fact, in any order and number. Pure: the time
(monotonic seconds) is an argument.

Invariant: the target equals the source outside of `pending`, `in_flight` and `troubled`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lsyncd_sd.plan.batch import Mark, Marks, is_below
from lsyncd_sd.plan.change import Change, Depth, Move


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is dispatched: `delay` seconds after its first change, or at `max_changes` marks."""

    delay: float
    max_changes: int


@dataclass(slots=True)
class Troubled:
    """Marks that failed by themselves (an unreadable file); they are retried apart from the rest."""

    marks: dict[bytes, Mark]
    attempts: int
    retry_at: float


class Collator:
    """The dirty marks of one target: pending, in flight, and troubled."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.pending: dict[bytes, Mark] = {}
        self.in_flight: dict[bytes, Mark] = {}
        self.troubled: Troubled | None = None
        # An exact subtree swallows every later mark below it.
        self._exact_subtrees: set[bytes] = set()
        self._first_change_at: float | None = None
        self._flight_attempts = 0

    def __len__(self) -> int:
        """The number of dirty paths, wherever they are."""
        troubled = len(self.troubled.marks) if self.troubled else 0
        return len(self.pending) + len(self.in_flight) + troubled

    def add(self, changes: Iterable[Change | Move], now: float) -> None:
        """Take in what the watch room saw; of a move, both ends are dirty."""
        for change in changes:
            if isinstance(change, Move):
                depth = Depth.SUBTREE if change.is_directory else Depth.ENTRY
                self._put(change.old, Mark(depth, True), now)
                self._put(change.new, Mark(depth, True), now)
            else:
                self._put(change.path, Mark(change.depth, change.exact), now)

    def _put(self, path: bytes, mark: Mark, now: float) -> None:
        if self._first_change_at is None:
            self._first_change_at = now
        known = self.pending.get(path)
        if known is not None:
            mark = known.merged(mark)
        elif self._exact_subtrees and is_below(path, self._exact_subtrees):
            return
        self.pending[path] = mark
        if mark.exact and mark.depth & Depth.SUBTREE:
            self._exact_subtrees.add(path)

    def due_at(self) -> float | None:
        """Return when the next batch is due (monotonic seconds, may be past), None if nothing waits."""
        if self.in_flight:
            return None
        fresh = self._fresh_due_at()
        retry = self.troubled.retry_at if self.troubled is not None else None
        return min((time for time in (fresh, retry) if time is not None), default=None)

    def _fresh_due_at(self) -> float | None:
        if self._first_change_at is None:
            return None
        is_full = len(self.pending) >= self._limits.max_changes
        return self._first_change_at + (0 if is_full else self._limits.delay)

    def expedite(self, now: float) -> None:
        """Make everything dirty due now."""
        if self._first_change_at is not None:
            self._first_change_at = min(self._first_change_at, now - self._limits.delay)
        if self.troubled is not None:
            self.troubled.retry_at = min(self.troubled.retry_at, now)

    def take(self, now: float) -> Marks:
        """Move what is due into flight and return it; the troubled marks only if they are due alone.

        What is in flight is never touched by new changes: it is the caller's until `succeeded` or `failed`.
        """
        assert not self.in_flight, "one batch at a time"
        if self._first_change_at is not None and not self._troubled_first(now):
            self.in_flight, self.pending = self.pending, {}
            self._exact_subtrees = set()
            self._first_change_at = None
            self._flight_attempts = 0
        elif self.troubled is not None:
            self.in_flight, self._flight_attempts = self.troubled.marks, self.troubled.attempts
            self.troubled = None
        return self.in_flight

    def _troubled_first(self, now: float) -> bool:
        """Tell whether the retry is due, and has been for longer than what is fresh: neither may starve."""
        fresh = self._fresh_due_at()
        return (
            self.troubled is not None
            and self.troubled.retry_at <= now
            and (fresh is None or self.troubled.retry_at <= fresh)
        )

    def succeeded(self) -> None:
        """The batch in flight did all it was asked to."""
        self.in_flight = {}

    def failed(self, also: Marks, now: float) -> None:
        """The batch in flight failed as a whole: all of it, and `also`, is dirty again, and due at once.

        When it is tried again is its caller's to say: the failure may concern the whole target.
        """
        returned, self.in_flight = self.in_flight, {}
        for marks in (returned, also):
            for path, mark in marks.items():
                self._put(path, mark, now)
        if returned or also:
            self._first_change_at = now - self._limits.delay

    def failed_in_part(self, failed: Marks, now: float, retry_after: float) -> int:
        """Only `failed` did not succeed: keep it apart, to be retried in `retry_after` seconds.

        Return how many attempts in a row these marks (or those they join) have failed.
        """
        self.in_flight = {}
        marks = dict(failed)
        attempts = self._flight_attempts + 1
        if self.troubled is not None:
            for path, mark in self.troubled.marks.items():
                marks[path] = marks[path].merged(mark) if path in marks else mark
            attempts = max(attempts, self.troubled.attempts)
        self.troubled = Troubled(marks, attempts, now + retry_after)
        return attempts

    def attempts(self) -> int:
        """Return how often the marks in flight have failed before."""
        return self._flight_attempts

    def full_sync_begins(self, *, deletes: bool) -> None:
        """Forget what a full sync finds by size, time and attributes; `deletes`: by deleting, too.

        Exact marks stay dirty until a batch after it: of a file with another content but the same size and
        time only its event ever told, and the target may hold the old one.
        """
        assert not self.in_flight, "one at a time"
        self.pending = _not_found(self.pending, deletes=deletes)
        if not self.pending:
            self._first_change_at = None
        if self.troubled is not None:
            self.troubled.marks = _not_found(self.troubled.marks, deletes=deletes)
            if not self.troubled.marks:
                self.troubled = None


def _not_found(marks: Marks, *, deletes: bool) -> dict[bytes, Mark]:
    return {
        path: mark
        for path, mark in marks.items()
        if mark.exact or (mark.depth & Depth.LEVEL and not deletes)
    }
