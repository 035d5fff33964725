# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps what a rescan needs after a crash: when all was known to be mirrored, and what runs did since.

Invariant, on disk at every moment: the target equals the source, except for what changed since the time of
the snapshot (which a rescan finds), and what the files of intents name. docs/rescan.md proves it step by
step, and says what the caller owes to it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from lsyncd_sd.config.model import Sync, TargetKind
from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Depth, Move
from lsyncd_sd.printable import printable
from lsyncd_sd.service.durable import sync_folder
from lsyncd_sd.service.intents import PATHS_PER_FILE, DamagedError, IntentsFile, Kind, read_intents
from lsyncd_sd.service.moments import SETBACK_NS, Moment, flaw_between
from lsyncd_sd.service.snapshot import Header, Row, UnusableError, read_snapshot, write_snapshot
from lsyncd_sd.service.statefiles import StateFiles
from lsyncd_sd.watch.ground import Ground, Mount
from lsyncd_sd.watch.rescan import Intent, Known

# How much older than a change its ctime may be: it is set when a write begins, and taken from a clock that
# goes in steps. With SETBACK_NS in it. A guess.
SLACK_NS = 5_000_000_000

# A checkpoint is made at most so often, and seldom enough that making them takes a fiftieth of the time.
INTERVAL_NS = 60_000_000_000
COST_LIMIT = 50

# Settings that change when and how something is sent, but not what stands on the target in the end; of the
# filters, only what they come to does.
_INDIFFERENT = {
    "batch_size_limit",
    "delay",
    "exclude",
    "exclude_from",
    "file_stem",
    "filter",
    "filter_from",
    "hold_first",
    "is_one_of_several",
    "log_level",
    "max_changes",
    "max_deletes",
    "max_processes",
    "max_processes_of_file",
    "name",
    "open_file_delay",
    "others",
    "rules",
    "ssh",
    "timeout",
    "watch_modify",
}

_SNAPSHOT = "snapshot"
_INTENTS = "intents-"
_NEW = ".new"

Writing = Callable[[], bytes]
"""Writes the snapshot; meant for `mirror.process.start_function`, which forks at once."""


@dataclass(frozen=True, slots=True)
class Distrust:
    """Nothing is known from before, because of `reason`: only comparing everything helps."""

    reason: str


class Checkpoints:
    """The files of one sync, in a folder of their own. Nothing else may write there.

    Begin with `load` or `forget`. `intend` before each run. From time to time, when it is due: `begin`, and
    then `commit` or `abandon`. `forget` as soon as only a full sync can make the target right.
    """

    def __init__(self, directory: Path, sync: Sync, clock: Callable[[], Moment] = Moment.now) -> None:
        self.folder = StateFiles.of(directory, sync).checkpoints
        self._clock = clock
        self._about = _about(sync)
        self._sync = sync
        self._snapshot = self.folder / _SNAPSHOT
        # Whether there may be a snapshot that would be trusted after a crash.
        self._is_kept = True
        self._intents: IntentsFile | None = None
        self._writing: int | None = None
        self._begun_at = 0
        self._next_at = 0
        self._has_flaw = False

    # ------------------------------------------------------------------ after a crash

    def load(self, ground: Ground) -> Known | Distrust:
        """Return what is known from before; `ground` is what the source stands on now.

        What cannot be trusted is forgotten: it may look better later, and be wrong all the same.
        """
        self.abandon()
        try:
            return self._load(ground)
        except (UnusableError, DamagedError) as error:
            reason = str(error)
        except FileNotFoundError:
            reason = "nothing is known from before"
        except OSError as error:
            reason = f"the state cannot be read: {error.strerror}"
        try:
            self.forget()
        except OSError as error:
            reason += f" (nor removed: {error.strerror})"
        return Distrust(reason)

    def _load(self, ground: Ground) -> Known:
        flaw = ground.flaw(one_file_system=self._sync.one_file_system)
        self._has_flaw = bool(flaw)
        if flaw:
            raise UnusableError(flaw)
        header, directories = read_snapshot(self._snapshot)
        if header.about != self._about:
            raise UnusableError("the settings have changed")
        difference = self._difference(header.ground, ground)
        if difference:
            raise UnusableError(difference)
        generations = sorted(self._generations())
        current = [one for one in generations if one >= header.generation]
        if current[:1] != [header.generation] or current != list(range(current[0], current[-1] + 1)):
            raise UnusableError("part of the state is missing")
        known = self._known(header, directories, current, ground)
        self._remove(one for one in generations if one < header.generation)
        return known

    def _known(
        self, header: Header, directories: array[int], generations: list[int], ground: Ground
    ) -> Known:
        now, then = self._clock(), header.taken_at
        intents, lowest, earliest = self._read_intents(generations)
        flaw = flaw_between(then, min(lowest, now.offset), now)
        if earliest < then.realtime - SETBACK_NS:
            flaw = flaw or "the clock was set back"
        if flaw:
            raise UnusableError(flaw)
        top = intents.get(b"")
        if top is not None and top.depth & Depth.SUBTREE:
            raise UnusableError("all of the source was to be compared")
        if now.boot != then.boot:
            if top is not None and top.touched_at is not None:
                raise UnusableError("the machine went down soon after the top of the source was mirrored")
            # What was not on disk yet may be as it was before, without a time that tells.
            shift = None
        else:
            shift = min(lowest, now.offset)
        intents = {path: _shifted(intent, shift) for path, intent in intents.items()}
        return Known(then.realtime - SLACK_NS, directories, intents, ground.swaps_unseen)

    def _read_intents(self, generations: list[int]) -> tuple[dict[bytes, Intent], int, int]:
        """Return the intents, touched at times since boot; the lowest offset; and the earliest time."""
        intents: dict[bytes, Intent] = {}
        lowest = earliest = self._clock().realtime
        for generation in generations:
            for record in read_intents(self._intents_path(generation)):
                lowest = min(lowest, record.offset)
                earliest = min(earliest, record.realtime)
                touched_at = record.realtime - record.offset if record.kind is Kind.TOUCHED else None
                for path, mark in record.marks.items():
                    intent = Intent(mark.depth, mark.exact, touched_at)
                    intents[path] = intent.merged(intents[path]) if path in intents else intent
            if len(intents) > PATHS_PER_FILE:
                raise UnusableError("too much was under way")
        return intents, lowest, earliest

    def _difference(self, before: Ground, now: Ground) -> str:
        if before.root != now.root:
            return "the source is another directory or on another file system"
        changed = set(self._own(before)) ^ set(self._own(now))
        if not changed:
            return ""
        shown = ", ".join(map(printable, sorted({mount.path for mount in changed})))
        return f"not the same file systems are mounted at the source: {shown}"

    def _own(self, ground: Ground) -> tuple[Mount, ...]:
        return ground.own(one_file_system=self._sync.one_file_system)

    # ------------------------------------------------------------------ before a run

    def intend(self, marks: Marks, moves: Sequence[Move] = ()) -> None:
        """Have on disk what the run that follows may change. Raises OSError.

        `marks` are all its marks, and what its lists hold besides; of each move, both ends are taken. After
        an error nothing is known any more, as far as that could be had on disk, either.
        """
        if not self._is_kept and self._writing is None:
            return
        try:
            if self._intents is None:
                self._intents = IntentsFile(self._intents_path(self._next_generation()))
            self._intents.append(Kind.TOUCHED, with_ends(marks, moves), self._clock())
        except OSError:
            with contextlib.suppress(OSError):
                self.forget()
            raise

    # ------------------------------------------------------------------ from time to time

    def due_in(self) -> float | None:
        """Return in how many seconds it is time for another checkpoint, None if there is no need for one."""
        if self._has_flaw or self._writing is not None:
            return None
        if self._is_kept and not self._intents:
            # No run since the last one.
            return None
        is_large = self._intents is not None and len(self._intents) > PATHS_PER_FILE // 2
        return 0.0 if is_large else max(0, self._next_at - self._clock().uptime) / 1e9

    def begin(
        self,
        taken_at: Moment,
        ground: Ground,
        table: Iterable[Row],
        dirty: Marks,
        in_flight: Marks | None = None,
    ) -> Writing:
        """Begin a checkpoint, and return what writes it: to be started now, before any other event is read.

        The queue was just read empty, all that was heard of is watched (`table`), no half of a rename
        waits, no full sync is wanted or under way. `taken_at` is from before that read. `dirty` is all that
        is known to be wrong on the target, with both ends of moves; `in_flight` what runs are at work on.

        Raises OSError: nothing has begun then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        generation = self._next_generation()
        path = self._intents_path(generation)
        intents: IntentsFile | None = None
        try:
            intents = IntentsFile(path)
            intents.append(Kind.DIRTY, dirty, taken_at)
            intents.append(Kind.TOUCHED, in_flight or {}, taken_at)
        except OSError:
            if intents is not None:
                intents.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            self._next_at = self._clock().uptime + INTERVAL_NS
            raise
        self._close_intents()
        self._intents = intents
        self._writing = generation
        self._begun_at = self._clock().uptime
        header = Header(self._about, ground, taken_at, generation)
        return functools.partial(
            write_snapshot, self._new_path(generation), header, table, self._places_to_flush(ground)
        )

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint was begun, and neither committed nor abandoned."""
        return self._writing is not None

    def commit(self) -> None:
        """The snapshot is written, and counts from now on. Raises OSError: the old one may still count."""
        assert self._writing is not None
        generation, self._writing = self._writing, None
        os.replace(self._new_path(generation), self._snapshot)
        sync_folder(self.folder)
        self._is_kept = True
        now = self._clock().uptime
        self._next_at = max(self._begun_at + INTERVAL_NS, now + COST_LIMIT * (now - self._begun_at))
        self._remove(one for one in self._generations() if one < generation)

    def abandon(self) -> None:
        """The snapshot could not be written, or is not wanted any more: the one before goes on to count."""
        if self._writing is None:
            return
        generation, self._writing = self._writing, None
        self._next_at = self._clock().uptime + INTERVAL_NS
        with contextlib.suppress(OSError):
            os.unlink(self._new_path(generation))

    def forget(self) -> None:
        """Know nothing any more: only a full sync can make the target right. Raises OSError."""
        self.abandon()
        self._close_intents()
        with contextlib.suppress(FileNotFoundError):
            # First of all: without it, the rest means nothing.
            os.unlink(self._snapshot)
            sync_folder(self.folder)
        self._is_kept = False
        self._remove(self._generations())

    # ------------------------------------------------------------------ files

    def _places_to_flush(self, ground: Ground) -> list[bytes]:
        source = os.fsencode(self._sync.source)
        # One that is hidden by another has no number, and nobody writes to it.
        by_number = {mount.number: mount.path for mount in reversed(self._own(ground)) if mount.number}
        places = [os.path.join(source, path) for path in sorted(by_number.values())]
        if self._sync.target.kind is TargetKind.LOCAL:
            places.append(os.fsencode(self._sync.target.path))
        return places

    def _close_intents(self) -> None:
        if self._intents is not None:
            self._intents.close()
            self._intents = None

    def _intents_path(self, generation: int) -> Path:
        return self.folder / f"{_INTENTS}{generation}"

    def _new_path(self, generation: int) -> Path:
        return self.folder / f"{_SNAPSHOT}-{generation}{_NEW}"

    def _generations(self) -> Iterator[int]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return
        for name in names:
            number = name.removeprefix(_INTENTS)
            if number != name and number.isdecimal():
                yield int(number)

    def _next_generation(self) -> int:
        return max(self._generations(), default=0) + 1

    def _remove(self, generations: Iterable[int]) -> None:
        for generation in generations:
            for path in (self._intents_path(generation), self._new_path(generation)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


def with_ends(marks: Marks, moves: Iterable[Move]) -> Marks:
    """Return `marks` and both ends of moves: whether a move was carried out, nobody may know later."""
    result = dict(marks)
    end = Mark(Depth.SUBTREE, exact=True)
    for move in moves:
        for path in (move.old, move.new):
            result[path] = result[path].merged(end) if path in result else end
    return result


def _about(sync: Sync) -> str:
    settings: list[object] = [
        (field.name, getattr(sync, field.name))
        for field in fields(sync)
        if field.compare and field.name not in _INDIFFERENT
    ]
    settings.append(sync.make_filter().rsync_arguments())
    return hashlib.sha256(repr(settings).encode("utf-8", "surrogateescape")).hexdigest()


def _shifted(intent: Intent, offset: int | None) -> Intent:
    """Return the intent touched at a time of the clock, by its offset; with none, at any time at all."""
    if intent.touched_at is None:
        return intent
    return intent._replace(touched_at=0 if offset is None else intent.touched_at + offset)
