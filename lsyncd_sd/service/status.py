# SPDX-License-Identifier: GPL-2.0-or-later
"""The status of every sync as one model, which the command line, STATUS= and the control socket all read."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from lsyncd_sd.errors import ExitStatus
from lsyncd_sd.printable import visible

DOCUMENT_VERSION = 1

# The year 10000: what lies beyond cannot be shown as a date.
TIME_LIMIT = 253402300800


class State(enum.StrEnum):
    """What a sync is doing or what keeps it from doing it; the values are seen by users and never change.

    From the best to the worst: of several targets, the sync shows that of the last one here.
    """

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


class _Told:
    """How the state of a sync, or of one of its targets, is told."""

    __slots__ = ()

    state: State
    reason: str
    full_sync_percent: int | None

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


@dataclass(frozen=True, slots=True)
class TargetStatus(_Told):
    """One target of a sync at one moment; the fields are those of a sync, as far as they are about it."""

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
    hold_id: str = ""


@dataclass(frozen=True, slots=True)
class SyncStatus(_Told):
    """One sync at one moment. Times are Unix seconds; `files` and `bytes` count since its process started.

    `pending` are the changes not yet on the target, `failures` the failed batches in a row, `restarts`
    how often its process was replaced, `hold_id` names the plan that `accept` would release ("" if none).
    `targets` are those of a sync with several, which is then what they are together; otherwise empty.
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
    targets: tuple[TargetStatus, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the status as an object of JSON; one target is not listed besides."""
        value = {**asdict(self), "state": self.state.value}
        value["targets"] = [{**asdict(target), "state": target.state.value} for target in self.targets]
        if not self.targets:
            del value["targets"]
        return value

    @classmethod
    def from_json(cls, value: object) -> SyncStatus:
        """Return the status that `to_json` wrote; keys of a later release are ignored.

        Raises ValueError if a key is missing or its value is not of its type.
        """
        if not isinstance(value, Mapping):
            raise ValueError("the status of a sync is not an object")
        return cls(**_known(cls, {"targets": [], **value}))

    def each_target(self) -> tuple[SyncStatus | TargetStatus, ...]:
        """Return the status of each target, which is that of the sync where it has one."""
        return self.targets or (self,)

    @property
    def has_failed(self) -> bool:
        """Whether nothing of it works any more until somebody acts."""
        return all(target.state is State.FAILED for target in self.each_target())

    def shown_as(self, state: State, since: float, reason: str) -> SyncStatus:
        """Return the status of a sync that is in this state as a whole."""
        targets = tuple(
            replace(target, state=state, since=since, reason=reason, hold_id="") for target in self.targets
        )
        return replace(self, state=state, since=since, reason=reason, hold_id="", targets=targets)


def of_targets(
    targets: Sequence[TargetStatus], name: str, source: str, directories: int = 0, pid: int | None = None
) -> SyncStatus:
    """Return the status of a sync with these targets: the worst of their states, and all that they did."""
    worst = max((target.state for target in targets), key=list(State).index)
    lasts = [target.last_batch for target in targets if target.last_batch is not None]
    percents = [target.full_sync_percent for target in targets if target.full_sync_percent is not None]
    held = [target.hold_id for target in targets if target.hold_id]
    return SyncStatus(
        name=name,
        source=source,
        target=targets[0].target if len(targets) == 1 else f"{len(targets)} targets",
        state=worst,
        since=min(target.since for target in targets if target.state is worst),
        reason=_reason(targets),
        pending=sum(target.pending for target in targets),
        batches=sum(target.batches for target in targets),
        failures=max(target.failures for target in targets),
        files=sum(target.files for target in targets),
        bytes=sum(target.bytes for target in targets),
        last_batch=max(lasts, default=None),
        full_sync_percent=min(percents, default=None),
        directories=directories,
        pid=pid,
        hold_id=held[0] if len(held) == 1 else "",
        targets=tuple(targets) if len(targets) > 1 else (),
    )


def _reason(targets: Sequence[TargetStatus]) -> str:
    """Return what is the matter: with all of them, or with each one that is not well."""
    if len({(target.state, target.reason) for target in targets}) == 1:
        return targets[0].reason
    ill = [target for target in targets if not target.state.is_good]
    return "\n".join(f"{target.target}: {target.reason_line()}" for target in ill)


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


def _targets(value: object) -> tuple[TargetStatus, ...]:
    if not isinstance(value, list) or not all(isinstance(target, Mapping) for target in value):
        raise ValueError("not a list of objects")
    return tuple(TargetStatus(**_known(TargetStatus, target)) for target in value)


_READERS: dict[str, Callable[[object], Any]] = {
    "str": _text,
    "int": _count,
    "float": _time,
    "State": lambda value: State(_text(value)),
    "int | None": _optional(_count),
    "float | None": _optional(_time),
    "tuple[TargetStatus, ...]": _targets,
}


def _known(kind: type[SyncStatus | TargetStatus], value: Mapping[str, object]) -> dict[str, Any]:
    """Return the values of all fields. Raises ValueError with the name of one that is missing or wrong."""
    known = {}
    for field in fields(kind):
        if field.name not in value:
            raise ValueError(f"the status of a sync lacks {field.name!r}")
        try:
            known[field.name] = _READERS[kind.__annotations__[field.name]](value[field.name])
        except ValueError as error:
            raise ValueError(f"in the status of a sync, {field.name!r} is wrong: {error}") from None
    return known


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
