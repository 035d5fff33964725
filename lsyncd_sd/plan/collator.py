# SPDX-License-Identifier: GPL-2.0-or-later
"""Collects changes into moves and dirty marks, and says when they are due; what fails comes back to it.

A mark says "make the target agree with whatever the source holds here when the batch runs", so creates,
writes, chmods and deletes of a path all collapse into one fact, in any order and number. Pure: the time
(monotonic seconds) is an argument. The rules by their names (A1 to C6) are in docs/collating.md.

Invariant: the target, once the moves have been made there, equals the source as the changes added so far
describe it, outside of all marks and of what a run under way may have written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Change, Depth, Move
from lsyncd_sd.plan.dirt import Dirt, MayMove, parent_of
from lsyncd_sd.plan.marktree import MarkTree, left_undone
from lsyncd_sd.plan.stamps import Stage, Stamps

# A batch that becomes smaller becomes so small that the next change does not begin it all over. A guess.
SMALLER = 0.75

_WHOLE = Mark(Depth.SUBTREE, exact=True)

PAST = float("-inf")
"""When something became due whose own time is over already."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is dispatched, and how much is remembered.

    `delay` seconds after its first change, or at `max_changes` marks; what is written to and stays open,
    after `open_file_delay` seconds. `max_moves`: so many a batch may carry; 0 for a mirror that makes none.
    `max_marks`: beyond so many, directories are taken as a whole.
    """

    delay: float
    max_changes: int
    open_file_delay: float = 300.0
    max_moves: int = 0
    max_marks: int = 100_000


class Load(NamedTuple):
    """What one batch carries: first the moves, in their order, then the marks, named as after the moves."""

    moves: tuple[Move, ...]
    marks: Marks

    def paths(self) -> Iterator[bytes]:
        """Yield what it concerns."""
        yield from (move.new for move in self.moves)
        yield from self.marks


class Collator:
    """The moves and dirty marks of one target: waiting, in flight, and troubled.

    `needs_rescan`: there were too many to remember; all were forgotten but what is in flight.
    """

    def __init__(self, limits: Limits, may_move: MayMove = lambda _move: True) -> None:
        """Begin without any changes; `may_move` tells which moves the target may make."""
        self._limits = limits
        self._dirt = Dirt(limits.max_moves, may_move)
        self.in_flight = MarkTree()
        self._flight_moves: tuple[Move, ...] = ()
        self._is_flying = False
        self._flight_attempts = 0
        self.large_in_flight = MarkTree()
        self._first_change_at: float | None = None
        self._next_open_at: float | None = None
        self._troubled_attempts = 0
        self._retry_at = 0.0
        self._stamps = Stamps()
        self.needs_rescan = False

    def __len__(self) -> int:
        """The number of dirty paths and of moves, wherever they are."""
        return (
            len(self._dirt)
            + len(self._dirt.moves)
            + len(self.in_flight)
            + len(self._flight_moves)
            + len(self.large_in_flight)
        )

    @property
    def pending(self) -> Marks:
        """What goes with the next batch."""
        return self._dirt.pending

    @property
    def moves(self) -> Sequence[Move]:
        """The moves that go with the next batch."""
        return self._dirt.moves

    @property
    def open(self) -> AbstractSet[bytes]:
        """The files that were written to and stay open."""
        return self._dirt.open.keys()

    @property
    def troubled(self) -> Marks | None:
        """What failed by itself (an unreadable file) and is retried apart from the rest, None if nothing."""
        return self._dirt.troubled or None

    @property
    def large(self) -> Marks:
        """What waits for the lane of large files."""
        return self._dirt.large

    # ------------------------------------------------------------------ changes

    def add(self, changes: Iterable[Change | Move], now: float) -> None:
        """Take in what the watch room saw."""
        open_until = now + self._limits.open_file_delay
        for change in changes:
            if isinstance(change, Move):
                self._dirt.move(change)
            else:
                self._dirt.change(change, open_until)
        self._note(now)

    def _note(self, now: float = PAST) -> None:
        """See what waits now, and since when."""
        dirt = self._dirt
        if len(dirt) > self._limits.max_marks:
            self._become_smaller()
        if not dirt.pending and not dirt.moves:
            self._first_change_at = None
        elif self._first_change_at is None:
            self._first_change_at = now
        if not dirt.open:
            self._next_open_at = None
        elif self._next_open_at is None:
            self._next_open_at = now + self._limits.open_file_delay
        for stage, is_waiting in (
            (Stage.PENDING, self._first_change_at is not None),
            (Stage.OPEN, self._next_open_at is not None),
            (Stage.TROUBLED, bool(dirt.troubled)),
            (Stage.LARGE, bool(dirt.large)),
        ):
            if is_waiting:
                # What a rescan finds may have happened before any stamp.
                self._stamps.enter(stage, is_old=dirt.is_blind)
            else:
                self._stamps.leave(stage)

    def _become_smaller(self) -> None:
        dirt = self._dirt
        self._take_open(float("inf"))
        for marks in (dirt.pending, dirt.troubled):
            others = len(dirt) - len(marks)
            marks.collapse(int(self._limits.max_marks * SMALLER) - others)
        if len(dirt) > self._limits.max_marks:
            dirt.clear()
            self._lose_sight()
            self.needs_rescan = True

    # ------------------------------------------------------------------ when

    def due_at(self) -> float | None:
        """Return when the next batch is due (monotonic seconds, may be past), None if nothing waits."""
        if self._is_flying:
            return None
        retry = self._retry_at if self._dirt.troubled else None
        return min((time for time in (self._fresh_due_at(), retry) if time is not None), default=None)

    def _fresh_due_at(self) -> float | None:
        if self._first_change_at is None:
            return self._next_open_at
        is_full = len(self._dirt.pending) + len(self._dirt.moves) >= self._limits.max_changes
        due = self._first_change_at + (0 if is_full else self._limits.delay)
        return due if self._next_open_at is None else min(due, self._next_open_at)

    def expedite(self, now: float) -> None:
        """Let everything that waits be due now: also open files, and what failed."""
        if self._first_change_at is not None:
            self._first_change_at = min(self._first_change_at, now - self._limits.delay)
        self._take_open(float("inf"))
        self._retry_at = min(self._retry_at, now)
        self._note(now - self._limits.delay)

    def _take_open(self, until: float) -> None:
        if not self._dirt.open:
            return
        self._dirt.take_open(until)
        self._stamps.copy(Stage.OPEN, Stage.PENDING)
        self._next_open_at = min(self._dirt.open.values(), default=None)

    def stamp(self) -> int:
        """Return a stamp for `is_done`: it stands for everything that is dirty now."""
        return self._stamps.give()

    def is_done(self, stamp: int) -> bool:
        """Tell whether everything that was dirty when the stamp was given is on the target."""
        return self._stamps.is_done(stamp)

    # ------------------------------------------------------------------ a batch

    def take(self, now: float) -> Load:
        """Move what is due into flight and return it; the troubled marks only if they are due alone.

        What is in flight is never touched by new changes: it is the caller's until `succeeded` or `failed`.
        The moves go with any batch: all marks are named as after them.
        """
        assert not self._is_flying, "one batch at a time"
        dirt = self._dirt
        is_retry = self._first_change_at is None and (self._next_open_at is None or self._next_open_at > now)
        if dirt.troubled and (is_retry or self._is_retry_first(now)):
            self.in_flight, dirt.troubled = dirt.troubled, MarkTree()
            self._flight_attempts = self._troubled_attempts
            self._stamps.move(Stage.TROUBLED, Stage.IN_FLIGHT)
            self._stamps.copy(Stage.PENDING, Stage.IN_FLIGHT)
        else:
            # What would be due within the delay anyway is not worth a batch of its own.
            self._take_open(now + self._limits.delay)
            self.in_flight, dirt.pending = dirt.pending, MarkTree()
            self._flight_attempts = 0
            self._stamps.move(Stage.PENDING, Stage.IN_FLIGHT)
        self._flight_moves, dirt.moves = tuple(dirt.moves), []
        if self._flight_moves:
            # A name is new where something moved away from: if it did so on the target, too.
            self.in_flight.age()
        self._is_flying = True
        self._keep_lane_apart()
        dirt.run_reach.begin(self.in_flight)
        self._note(now)
        return Load(self._flight_moves, self.in_flight)

    def _is_retry_first(self, now: float) -> bool:
        """Tell whether the retry is due, and has been for longer than what is fresh: neither may starve."""
        fresh = self._fresh_due_at()
        return self._retry_at <= now and (fresh is None or self._retry_at <= fresh)

    def in_flight_touches(self, paths: Iterable[bytes]) -> None:
        """The batch in flight lists these besides its marks: directories it deletes from, other names."""
        self._dirt.run_reach.add(paths)

    def lane_touches(self, paths: Iterable[bytes]) -> None:
        """What is in the lane is sent together with these: other names of the same files."""
        self._dirt.lane_reach.add(paths)

    def caught_up(self) -> None:
        """Every change queued up to now was added, half moves too: what a run did before is known."""
        if not self._is_flying:
            self._dirt.run_reach.end()
        if not self.large_in_flight:
            self._dirt.lane_reach.end()

    def succeeded(self, unconfirmed: Sequence[Move] = ()) -> None:
        """The batch in flight, or the full sync, did all it was asked to.

        `unconfirmed`: the moves of the batch of which nobody knows that they were made.
        """
        self._stamps.leave(Stage.FULL_SYNC)
        self._land((), unconfirmed)

    def failed(self, also: Marks, now: float, unconfirmed: Sequence[Move] = ()) -> None:
        """The batch in flight failed as a whole: all of it, and `also`, is dirty again, and due at once.

        When it is tried again is its caller's to say: the failure may concern the whole target.
        """
        self._land((self.in_flight, also), unconfirmed)
        if self._first_change_at is not None:
            self._first_change_at = min(self._first_change_at, now - self._limits.delay)

    def failed_in_part(
        self, failed: Marks, now: float, retry_after: float, unconfirmed: Sequence[Move] = ()
    ) -> int:
        """Only `failed` did not succeed: keep it apart, to be retried in `retry_after` seconds.

        Return how many attempts in a row these marks (or those they join) have failed.
        """
        attempts = self._flight_attempts + 1
        if self._dirt.troubled:
            attempts = max(attempts, self._troubled_attempts)
        self._troubled_attempts = attempts
        self._retry_at = now + retry_after
        # What a full sync could not do may have been waiting for ever.
        self._stamps.move(Stage.FULL_SYNC, Stage.TROUBLED)
        self._stamps.copy(Stage.IN_FLIGHT, Stage.TROUBLED)
        marks = MarkTree()
        self._bring_back(marks, failed)
        self._dirt.troubled.put_older(marks)
        self._land((), unconfirmed)
        return attempts

    def _land(self, returned: Iterable[Marks], unconfirmed: Sequence[Move]) -> None:
        """The batch in flight came to its end; what is returned follows the moves added since (C3, C6)."""
        marks = left_undone(self._flight_moves, set(unconfirmed))
        self._bring_back(marks, *returned)
        if marks:
            self._dirt.pending.put_older(marks)
            self._stamps.copy(Stage.IN_FLIGHT, Stage.PENDING)
        self._stamps.leave(Stage.IN_FLIGHT)
        self.in_flight = MarkTree()
        self._flight_moves = ()
        self._is_flying = False
        self._note()

    def _bring_back(self, marks: MarkTree, *returned: Marks) -> None:
        """Add to `marks` what comes back from the target, and give all their present names."""
        for some in returned:
            marks.put_older(some)
        for move in self._dirt.moves:
            marks.move(move)

    def attempts(self) -> int:
        """Return how often the marks in flight have failed before."""
        return self._flight_attempts

    # ------------------------------------------------------------------ full syncs and rescans

    def full_sync_begins(self, *, deletes: bool) -> None:
        """Forget what a full sync finds by size, time and attributes; `deletes`: by deleting, too.

        Exact marks stay dirty until a batch after it: of a file with another content but the same size and
        time only its event ever told, and the target may hold the old one. Its end is told as a batch's is.
        """
        assert not self._is_flying, "one at a time"
        dirt = self._dirt
        dirt.drop_moves()
        dirt.pending = _not_found(dirt.pending, deletes=deletes)
        dirt.troubled = _not_found(dirt.troubled, deletes=deletes)
        dirt.is_blind = self.needs_rescan = False
        dirt.run_reach.begin_everywhere()
        for path in self.large_in_flight:
            # What the lane sends now may be older than what the full sync finds, and be ready after it.
            dirt.large.put(path, Mark(Depth.ENTRY, exact=True))
        self._is_flying = True
        self._stamps.leave(Stage.RESCAN)
        self._stamps.enter(Stage.FULL_SYNC, is_old=True)
        self._note()

    def make_no_moves(self) -> None:
        """The target turned out to make none: they are sent instead from now on."""
        self._dirt.make_no_moves()

    def rescan_begins(self) -> None:
        """Changes were missed; all of them will have been added when `rescan_ends` is called."""
        self.needs_rescan = False
        self._lose_sight()

    def rescan_ends(self) -> None:
        """Whatever had been missed is dirty now, unless too much of it was found."""
        self._dirt.is_blind = self.needs_rescan
        if not self.needs_rescan:
            self._stamps.leave(Stage.RESCAN)

    def _lose_sight(self) -> None:
        self._dirt.is_blind = True
        self._stamps.enter(Stage.RESCAN, is_old=True)

    def unsent(self) -> Marks:
        """Return the marks of all that is not in flight; of a move, both its ends."""
        dirt = self._dirt
        marks = left_undone(dirt.moves, set(dirt.moves))
        for some in (dirt.pending, dirt.troubled, dirt.large):
            marks.put_older(some)
        for path in dirt.open:
            marks.put(path, Mark(Depth.ENTRY, exact=True))
        return marks

    # ------------------------------------------------------------------ the lane of large files

    def set_apart(self, paths: Iterable[bytes]) -> None:
        """These entries in flight are large files: they leave the batch and wait for their own lane."""
        for path in paths:
            mark = self.in_flight.remove(path)
            if mark is not None:
                self._dirt.large.put(path, mark.aged())
                self._stamps.copy(Stage.IN_FLIGHT, Stage.LARGE)

    def take_large(self, most: int) -> Marks:
        """Move at most so many large files into the lane and return them, but none that a move concerns."""
        assert not self.large_in_flight, "one lane"
        dirt = self._dirt
        ends = MarkTree()
        for move in (*self._flight_moves, *dirt.moves):
            ends.put_both_ends(Move(move.old, move.new, is_directory=True))
        for path, mark in list(dirt.large.items()):
            if len(self.large_in_flight) == most:
                break
            if ends.is_clean(path):
                dirt.large.remove(path)
                self.large_in_flight.put(path, mark)
        if self.large_in_flight:
            self._stamps.copy(Stage.LARGE, Stage.IN_LANE)
            dirt.lane_reach.begin(self.large_in_flight)
        return self.large_in_flight

    def large_succeeded(self) -> None:
        """Everything in the lane is on the target."""
        self.large_failed({})

    def large_failed(self, failed: Marks) -> None:
        """The lane is empty; these marks failed and wait for it again."""
        marks = MarkTree()
        marks.put_older(failed)
        for move in (*self._flight_moves, *self._dirt.moves):
            marks.move(move)
        self._dirt.large.put_older(marks)
        self._stamps.copy(Stage.IN_LANE, Stage.LARGE)
        self._stamps.leave(Stage.IN_LANE)
        self.large_in_flight = MarkTree()
        self._note()

    def _keep_lane_apart(self) -> None:
        """What the lane sends now and the batch would send too goes into the lane again, later.

        The lane reads the older content, and may be ready after the batch.
        """
        for path in self.large_in_flight:
            if not self.in_flight.is_clean(path):
                self._dirt.large.put(path, Mark(Depth.ENTRY, exact=True))
                self._stamps.copy(Stage.IN_FLIGHT, Stage.LARGE)
                if self.in_flight.get(path, _WHOLE).depth == Depth.ENTRY:
                    self.in_flight.remove(path)

    def large_directories(self) -> AbstractSet[bytes]:
        """Return the directories of the files in the lane: deleting there would take what is half sent."""
        return {parent_of(path) for path in self.large_in_flight}


def _not_found(marks: MarkTree, *, deletes: bool) -> MarkTree:
    left = MarkTree()
    for path, mark in marks.items():
        if mark.exact or (mark.depth & (Depth.LEVEL | Depth.CONTENT) and not deletes):
            left.put(path, mark.aged())
    return left
