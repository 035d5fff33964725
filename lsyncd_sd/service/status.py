# SPDX-License-Identifier: GPL-2.0-or-later
"""The status of every sync as one model, which the command line, STATUS= and the control socket all read."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lsyncd_sd.errors import ExitStatus
from lsyncd_sd.printable import visible

DOCUMENT_VERSION = 1

# The year 10000: what lies beyond cannot be shown as a date.
TIME_LIMIT = 253402300800


class State(enum.StrEnum):
    """What a sync is doing or what keeps it from doing it; the values are seen by users and never change."""

    IN_SYNC = "in-sync"
    PENDING = "pending"
    SYNCING = "syncing"
    STARTING = "starting"
    WATCHING = "watching"
    RESCANNING = "rescanning"
    FULL_SYNC = "full-sync"
    DEGRADED = "degraded"
    UNREACHABLE = "unreachable"
    TARGET_FULL = "target-full"
    TARGET_MISSING = "target-missing"
    SOURCE_MISSING = "source-missing"
    FAILING = "failing"
    HELD = "held"
    STUCK = "stuck"
    FAILED = "failed"
    STOPPING = "stopping"

    @property
    def is_good(self) -> bool:
        """Whether the target is the source as it was a few seconds ago, and follows it.

        Not while starting, watching, rescanning or in a full sync: until that is over the target may
        differ in anything, however well things go.
        """
        return self in (State.IN_SYNC, State.PENDING, State.SYNCING)


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """One sync at one moment. Times are Unix seconds; `files` and `bytes` count since its process started.

    `pending` are the changes not yet on the target, `failures` the failed batches in a row, `restarts`
    how often its process was replaced, `hold_id` names the plan that `accept` would release ("" if none).
    """

    name: str
    source: str
    target: str
    state: State
    since: float
    reason: str = ""
    pending: int = 0
    batches: int = 0
    failures: int = 0
    files: int = 0
    bytes: int = 0
    last_batch: float | None = None
    full_sync_percent: int | None = None
    directories: int = 0
    pid: int | None = None
    restarts: int = 0
    hold_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the status as an object of JSON."""
        return {**asdict(self), "state": self.state.value}

    @classmethod
    def from_json(cls, value: object) -> SyncStatus:
        """Return the status that `to_json` wrote; keys of a later release are ignored.

        Raises ValueError if a key is missing or its value is not of its type.
        """
        if not isinstance(value, Mapping):
            raise ValueError("the status of a sync is not an object")
        known: dict[str, Any] = {}
        for field in fields(cls):
            if field.name not in value:
                raise ValueError(f"the status of a sync lacks {field.name!r}")
            known[field.name] = _read(field.name, value[field.name])
        return cls(**known)

    def state_text(self) -> str:
        """Return the state, with the progress of a full sync if that is known."""
        if self.state is State.FULL_SYNC and self.full_sync_percent is not None:
            return f"{self.state} {self.full_sync_percent} %"
        return str(self.state)

    def reason_lines(self) -> list[str]:
        """Return the reason as harmless lines, indented."""
        return [f"    {visible(line)}" for line in self.reason.splitlines()]

    def reason_line(self) -> str:
        """Return the state and its reason in one harmless line."""
        return one_line(f"{self.state}: {self.reason}" if self.reason else str(self.state))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a whole number from 0")
    return value


def _time(value: object) -> float:
    # Written so that NaN, which is neither below nor above anything, is refused too.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < TIME_LIMIT:
        raise ValueError("not a time in seconds since 1970")
    return float(value)


def _optional(read: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else read(value)


_READERS: dict[str, Callable[[object], Any]] = {
    "str": _text,
    "int": _count,
    "float": _time,
    "State": lambda value: State(_text(value)),
    "int | None": _optional(_count),
    "float | None": _optional(_time),
}


def _read(name: str, value: object) -> Any:
    try:
        return _READERS[SyncStatus.__annotations__[name]](value)
    except ValueError as error:
        raise ValueError(f"in the status of a sync, {name!r} is wrong: {error}") from None


def document(statuses: Iterable[SyncStatus]) -> dict[str, Any]:
    """Return what `lsyncd-sd status --json` prints and the control socket answers."""
    return {"version": DOCUMENT_VERSION, "syncs": [status.to_json() for status in statuses]}


def from_document(value: object) -> list[SyncStatus]:
    """Return the statuses in what `document` made. Raises ValueError for anything else."""
    if not isinstance(value, Mapping) or value.get("version") != DOCUMENT_VERSION:
        raise ValueError("this is not a status document of a version known here")
    syncs = value.get("syncs")
    if not isinstance(syncs, list):
        raise ValueError("the status document has no list of syncs")
    return [SyncStatus.from_json(sync) for sync in syncs]


def exit_status(statuses: Iterable[SyncStatus]) -> ExitStatus:
    """Return OK if every sync is in-sync, pending or syncing, otherwise NOT_GOOD.

    So a loop until it is OK waits for the first full sync, and a monitor that asks now and then is told
    of everything that leaves a target behind its source.
    """
    return ExitStatus.OK if all(status.state.is_good for status in statuses) else ExitStatus.NOT_GOOD


def one_line(text: str) -> str:
    """Return a text as one harmless line."""
    return visible(" ".join(text.splitlines()))
