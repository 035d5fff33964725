# SPDX-License-Identifier: GPL-2.0-or-later
"""Structured logging: entries go to the journal with all their fields, or to stderr as readable lines."""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, Self, TypedDict, TypeVar, Unpack

from systemd import journal as systemd_journal

from lsyncd_sd.printable import visible

IDENTIFIER = "lsyncd-sd"
JOURNAL_SOCKET = "/run/systemd/journal/socket"
STDERR = 2

# One line a minute is enough to see that something goes on, and too little to fill a disk.
REPEAT_INTERVAL = 60.0
# A bound for memory only: a sync in trouble has a handful of different errors, not hundreds.
REPEAT_KEYS = 256


class Priority(enum.IntEnum):
    """syslog's levels, as far as they are used; a smaller number is more urgent."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7

    @classmethod
    def from_word(cls, word: str) -> Priority:
        """Return the priority that a `log_level` names, in any case. Raises KeyError for another word."""
        return cls[word.upper()]


class Event(enum.Enum):
    """What an admin may want to be alerted of: each value is a MESSAGE_ID, fixed for ever.

    Every member has its text in packaging/lsyncd-sd.catalog, which `journalctl -x` shows.
    """

    STARTED = "d1b157ff491d4065beaaac2df139814b"
    STOPPING = "610cbc971a1147f39e25a65de036e992"
    CONFIG_REJECTED = "088012c06ccb48c38c35d3da91acaa44"
    CONFIG_RELOADED = "c75dcf2afc5d4ecca792d4e3a78bc2b7"
    SYNC_STARTED = "b92f38a6596b408a89268525f8b01d7c"
    FULL_SYNC_DONE = "b1223167f41940bea23ee0f0aa73d400"
    RESCANNED = "1b7824a19ed84fe1ac374f52155a957b"
    BATCH_DONE = "938b3ee768844f6792c090e09b5ada5e"
    STATE_CHANGED = "c69e99db051a453bba3f04676bfa776b"
    TRANSFER_FAILED = "8c1d66e4bd9043aabaaac4a9ef373fe7"
    TARGET_UNREACHABLE = "2565aa944c644a7fa8bf18c0cffb2fed"
    TARGET_FULL = "35bd22bac9a343408e7b51689309a8f5"
    TARGET_MISSING = "a06a660c5b60446a9784c142acf07800"
    HELD = "fddf94787c6f4196a1ce0931a68618c5"
    SOURCE_MISSING = "659d123f4a3f4fbab4d5cf143f10d4f8"
    OVERFLOW = "2687b1fd7351454a9ba7fd689e96fe0f"
    WATCH_LIMIT = "13067c3c06f04ab0802d4084391ee9b3"
    DIRECTORY_UNREADABLE = "2a2f4765198f4b51b55f20d8677b29d4"
    CHILD_HUNG = "2da04a08e3a647dc892c92e00b177cdd"
    CHILD_CRASHED = "ed598cb72a0a4e1cacadd7fe8e606977"
    CHILD_FAILED = "585a8871553c4c1f95696fc3ef78c28b"
    CHILD_STUCK = "c19d7491e6f6498a9d4a0240dd0bfbd4"


# What may be said besides the message; each becomes a journal field: LSYNCD_SYNC and so on, and ERRNO.
# In a class body, the field named `bytes` would hide the type that `path` has.
Fields = TypedDict(  # noqa: UP013
    "Fields",
    {
        "sync": str,
        "targets": Sequence[str],
        "state": str,
        "batch": int | str,
        "files": int,
        "bytes": int,
        "exit_status": int,
        "duration_usec": int,
        "path": bytes,
        "paths": Sequence[bytes],
        "errno": int,
    },
    total=False,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to log: its message is safe to show, its fields hold the exact values."""

    priority: Priority
    message: str
    event: Event | None
    fields: Fields

    def journal_fields(self) -> list[bytes]:
        """Return the entry as the `NAME=value` items of sd_journal_sendv(3)."""
        items = [
            b"MESSAGE=" + self.message.encode(),
            b"PRIORITY=%d" % self.priority,
            b"SYSLOG_IDENTIFIER=" + IDENTIFIER.encode(),
        ]
        if self.event is not None:
            items.append(b"MESSAGE_ID=" + self.event.value.encode())
        for name, value in self.fields.items():
            # A field may occur several times: `journalctl LSYNCD_PATH=...` finds each of them.
            if name == "paths":
                items.extend(b"LSYNCD_PATH=" + (path or b".") for path in self.fields["paths"])
                continue
            if name == "targets":
                items.extend(b"LSYNCD_TARGET=" + _raw(target) for target in self.fields["targets"])
                continue
            journal_name = "ERRNO" if name == "errno" else "LSYNCD_" + name.upper()
            items.append(journal_name.encode() + b"=" + _raw(value))
        return items

    def readable(self, unix_time: float) -> bytes:
        """Return the entry as lines for a person: local time, level, sync, message."""
        sync = self.fields.get("sync", "")
        start = (
            f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(unix_time))} "
            f"{self.priority.name.lower():7} {visible(sync) + ': ' if sync else ''}"
        )
        # Continuation lines are indented, so that none of them can pass for an entry of its own.
        return (start + self.message.replace("\n", "\n    ") + "\n").encode()


def _raw(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return str(value).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return visible(str(value)).encode()


class Sink(Protocol):
    """Where entries end; `write` never raises."""

    def write(self, entry: Entry) -> None:
        """Deliver `entry` as well as can be."""


class ReadableSink:
    """Writes entries as lines to a descriptor, usually stderr."""

    def __init__(self, descriptor: int = STDERR, clock: Callable[[], float] = time.time) -> None:
        self._descriptor = descriptor
        self._clock = clock

    def write(self, entry: Entry) -> None:
        """Write the lines; what the descriptor does not take (closed, broken, full) is lost."""
        rest = entry.readable(self._clock())
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            # There is no third place to complain to, and mirroring matters more than a lost line.
            return


class NativeSink:
    """Sends entries to journald with all their fields, or to `fallback` while journald is not there."""

    def __init__(self, fallback: Sink, socket_path: str = JOURNAL_SOCKET) -> None:
        self._fallback = fallback
        self._socket_path = socket_path

    def write(self, entry: Entry) -> None:
        """Send `entry`; nothing is lost in silence while journald restarts."""
        # sd_journal_sendv reports success when the socket does not exist.
        if not os.path.exists(self._socket_path):
            self._fallback.write(entry)
            return
        try:
            systemd_journal.sendv(*entry.journal_fields())
        except OSError:
            self._fallback.write(entry)


class FileSink:
    """Appends entries as lines to a file, and hands them on to `beside`, if there is one.

    The file is opened anew for each entry, so that it may be rotated; while it cannot be, `fallback` gets
    them.
    """

    def __init__(
        self, path: str, beside: Sink | None, fallback: Sink, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._beside = beside
        self._fallback = fallback
        self._clock = clock

    def write(self, entry: Entry) -> None:
        """Append the lines."""
        if self._beside is not None:
            self._beside.write(entry)
        try:
            descriptor = open_log(self._path)
        except OSError:
            if self._beside is None:
                self._fallback.write(entry)
            return
        ReadableSink(descriptor, self._clock).write(entry)
        os.close(descriptor)


def open_log(path: str) -> int:
    """Return a descriptor to append to a file, which is made if it is missing. Raises OSError."""
    # A FIFO that nobody reads must not stop a sync.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    return os.open(path, flags, 0o640)


T = TypeVar("T")


@dataclass(slots=True)
class _Window(Generic[T]):
    item: T
    ends: float
    suppressed: int = 0


class RateLimit(Generic[T]):
    """Lets the first of equal things through and counts the others until `interval` is over.

    Pure: every time is an argument, in seconds of one clock that never goes back.
    """

    def __init__(self, interval: float, most_keys: int) -> None:
        self._interval = interval
        self._most_keys = most_keys
        # All windows are equally long: in the order of their start they also end.
        self._windows: dict[Hashable, _Window[T]] = {}

    def admit(self, key: Hashable, item: T, now: float) -> bool:
        """Return whether `item` is to be shown, being the first of its `key` in the current interval.

        Call `ended` first: a window that is over still suppresses until it was taken away.
        """
        window = self._windows.get(key)
        if window is not None:
            window.suppressed += 1
            return False
        self._windows[key] = _Window(item, now + self._interval)
        return True

    def ended(self, now: float) -> Iterator[tuple[T, int]]:
        """Take away every interval that is over; yield the item and count of those that suppressed any.

        When there are too many different keys, the oldest ones end early.
        """
        while self._windows:
            key, window = next(iter(self._windows.items()))
            if window.ends > now and len(self._windows) <= self._most_keys:
                return
            del self._windows[key]
            if window.suppressed:
                yield window.item, window.suppressed

    def everything(self) -> Iterator[tuple[T, int]]:
        """End all intervals now, as `ended` does."""
        return self.ended(float("inf"))


@dataclass(frozen=True, slots=True)
class Journal:
    """Logs for one process, or with `bind` for one sync of it; each message begins with the `prefix`.

    Errors and warnings that repeat are shown once per REPEAT_INTERVAL and then counted. Nothing here raises
    because of a log that cannot be written.
    """

    sink: Sink
    level: Priority
    clock: Callable[[], float] = time.monotonic
    bound: Fields = field(default_factory=lambda: Fields())
    prefix: str = ""
    _repeats: RateLimit[Entry] = field(default_factory=lambda: RateLimit(REPEAT_INTERVAL, REPEAT_KEYS))

    @classmethod
    def for_this_process(cls, level: str) -> Self:
        """Return the journal of this process, showing what is at least as urgent as `level` (a word).

        It is native if stderr is already connected to journald, otherwise readable lines go to stderr.
        Make one after each fork, so that a child counts its own repeats.
        """
        return cls(_standard_sink(), Priority.from_word(level))

    @classmethod
    def in_file(cls, path: str, level: str, *, is_shown: bool) -> Self:
        """Return a journal of this process that is a file; `is_shown`: what goes there is shown, too."""
        standard = _standard_sink()
        return cls(FileSink(path, standard if is_shown else None, standard), Priority.from_word(level))

    def bind(self, **fields: Unpack[Fields]) -> Journal:
        """Return this journal with `fields` in each of its entries."""
        return replace(self, bound={**self.bound, **fields})

    def about(self, subject: str) -> Journal:
        """Return this journal for what its fields do not show to everybody: each message begins with it."""
        return replace(self, prefix=f"{visible(subject)}: ")

    def send(
        self,
        priority: Priority,
        message: str,
        event: Event | None = None,
        *,
        repeats_as: str = "",
        **fields: Unpack[Fields],
    ) -> None:
        """Log `message`, in which paths stand as `printable` wrote them; what else is odd gets escaped here.

        Errors and warnings with the same event, sync and `repeats_as` (default: the message) are repeats of
        each other: give it when the message holds a number that changes every time.
        """
        if priority > self.level:
            return
        safe = self.prefix + "\n".join(visible(line) for line in message.split("\n"))
        merged: Fields = {**self.bound, **fields}
        entry = Entry(priority, safe, event, merged)
        self.report_repeats()
        if priority <= Priority.WARNING:
            key = (event, merged.get("sync"), self.prefix, repeats_as or message)
            if not self._repeats.admit(key, entry, self.clock()):
                return
        self.sink.write(entry)

    def error(
        self, message: str, event: Event | None = None, *, repeats_as: str = "", **fields: Unpack[Fields]
    ) -> None:
        """Log something that keeps a sync from being true until somebody acts."""
        self.send(Priority.ERROR, message, event, repeats_as=repeats_as, **fields)

    def warning(
        self, message: str, event: Event | None = None, *, repeats_as: str = "", **fields: Unpack[Fields]
    ) -> None:
        """Log something that went wrong and is being tried again."""
        self.send(Priority.WARNING, message, event, repeats_as=repeats_as, **fields)

    def notice(self, message: str, event: Event | None = None, **fields: Unpack[Fields]) -> None:
        """Log something normal but worth an admin's look: a start, a change of state."""
        self.send(Priority.NOTICE, message, event, **fields)

    def info(self, message: str, event: Event | None = None, **fields: Unpack[Fields]) -> None:
        """Log normal work: the one line of a batch."""
        self.send(Priority.INFO, message, event, **fields)

    def debug(self, message: str, event: Event | None = None, **fields: Unpack[Fields]) -> None:
        """Log what only somebody who searches for a fault wants to read."""
        self.send(Priority.DEBUG, message, event, **fields)

    def report_repeats(self, everything: bool = False) -> None:
        """Say how often suppressed entries came again.

        Every entry sent does so first; a process that may stay silent calls it now and then, and with
        `everything` before it ends.
        """
        ended = self._repeats.everything() if everything else self._repeats.ended(self.clock())
        for entry, count in ended:
            times = "once more" if count == 1 else f"{count} times"
            message = f"{entry.message} (repeated {times})"
            self.sink.write(Entry(entry.priority, message, entry.event, entry.fields))


# Makes a journal of the level that it gets, in the process that is to use it.
OpenJournal = Callable[[str], Journal]


def _standard_sink() -> Sink:
    readable = ReadableSink()
    return NativeSink(readable) if _stderr_is_the_journal() else readable


def _stderr_is_the_journal() -> bool:
    """Compare JOURNAL_STREAM with stderr, as systemd.exec(5) says: the variable alone may be inherited."""
    try:
        device, inode = (int(number) for number in os.environ.get("JOURNAL_STREAM", "").split(":"))
        stderr = os.fstat(STDERR)
    except (ValueError, OSError):
        return False
    return (stderr.st_dev, stderr.st_ino) == (device, inode)
