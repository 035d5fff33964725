# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the status of syncs into words for people: a line for `systemctl status`, a table for a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lsyncd_sd.service.status import State, SyncStatus, TargetStatus, one_line

# How many names one state may list in the summary, which is a single line.
SUMMARY_NAMES = 3


def summary(statuses: Sequence[SyncStatus]) -> str:
    """Return the one line for `systemctl status`; times are shown in local time."""
    if not statuses:
        return "no syncs"
    if len(statuses) > 1:
        named = [(one_line(status.name), status) for status in statuses]
        return f"{len(statuses)} syncs: {_groups(named)}"
    targets = statuses[0].targets
    if targets:
        return (
            f"{len(targets)} targets: {_groups([(one_line(target.target), target) for target in targets])}"
        )
    return _summary_of_one(statuses[0])


def _summary_of_one(status: SyncStatus) -> str:
    text = f"{status.state_text()} since {_clock_time(status.since)}"
    if status.pending:
        text += f", {status.pending} pending"
    reason = one_line(status.reason)
    return f"{text}: {reason}" if reason and not status.state.is_good else text


def _groups(named: Sequence[tuple[str, SyncStatus | TargetStatus]]) -> str:
    groups = []
    for state in State:
        members = [(name, status) for name, status in named if status.state is state]
        if members:
            groups.append(_summary_of_group(members))
    return ", ".join(groups)


def _summary_of_group(members: Sequence[tuple[str, SyncStatus | TargetStatus]]) -> str:
    status = members[0][1]
    text = f"{len(members)} {status.state_text() if len(members) == 1 else status.state}"
    if status.state.is_good:
        return text
    names = [name for name, _status in members[:SUMMARY_NAMES]]
    if len(members) > SUMMARY_NAMES:
        names.append("...")
    return f"{text} ({', '.join(names)})"


def table(statuses: Sequence[SyncStatus], now: float) -> str:
    """Return a line of aligned columns for each target of each sync, below it the reason if it is not good.

    `now` is the Unix time that ages are counted from. Ends without newline.
    """
    header = ("NAME", "STATE", "SINCE", "PENDING", "LAST BATCH", "TARGET")
    shown = [(status.name, target) for status in statuses for target in status.each_target()]
    rows = [_row(name, target, now) for name, target in shown]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [_aligned(header, widths)]
    for (_name, target), row in zip(shown, rows, strict=True):
        lines.append(_aligned(row, widths))
        if not target.state.is_good:
            lines.extend(target.reason_lines())
    return "\n".join(lines)


def _row(name: str, target: SyncStatus | TargetStatus, now: float) -> tuple[str, ...]:
    return (
        one_line(name),
        target.state_text(),
        age(now - target.since),
        str(target.pending),
        "-" if target.last_batch is None else f"{age(now - target.last_batch)} ago",
        one_line(target.target),
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def age(seconds: float) -> str:
    """Return a duration in its two largest units, as systemd writes them; a negative one counts as none."""
    left = max(0, int(seconds))
    parts: list[tuple[int, str]] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count) or "0s"


def _clock_time(unix_time: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_time))
