# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the status of syncs into words for people: a line for `systemctl status`, a table for a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lsyncd_sd.service.status import State, SyncStatus, one_line

# How many names one state may list in the summary, which is a single line.
SUMMARY_NAMES = 3


def summary(statuses: Sequence[SyncStatus]) -> str:
    """Return the one line for `systemctl status`; times are shown in local time."""
    if not statuses:
        return "no syncs"
    if len(statuses) == 1:
        return _summary_of_one(statuses[0])
    groups = []
    for state in State:
        members = [status for status in statuses if status.state is state]
        if members:
            groups.append(_summary_of_group(members))
    return f"{len(statuses)} syncs: {', '.join(groups)}"


def _summary_of_one(status: SyncStatus) -> str:
    text = f"{status.state_text()} since {_clock_time(status.since)}"
    if status.pending:
        text += f", {status.pending} pending"
    reason = one_line(status.reason)
    return f"{text}: {reason}" if reason and not status.state.is_good else text


def _summary_of_group(members: Sequence[SyncStatus]) -> str:
    state = members[0].state_text() if len(members) == 1 else str(members[0].state)
    text = f"{len(members)} {state}"
    if members[0].state.is_good:
        return text
    names = [one_line(member.name) for member in members[:SUMMARY_NAMES]]
    if len(members) > SUMMARY_NAMES:
        names.append("...")
    return f"{text} ({', '.join(names)})"


def table(statuses: Sequence[SyncStatus], now: float) -> str:
    """Return all syncs as aligned columns, with a reason below each that is not good; ends without newline.

    `now` is the Unix time that ages are counted from.
    """
    header = ("NAME", "STATE", "SINCE", "PENDING", "LAST BATCH", "TARGET")
    rows = [_row(status, now) for status in statuses]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [_aligned(header, widths)]
    for status, row in zip(statuses, rows, strict=True):
        lines.append(_aligned(row, widths))
        if not status.state.is_good:
            lines.extend(status.reason_lines())
    return "\n".join(lines)


def _row(status: SyncStatus, now: float) -> tuple[str, ...]:
    return (
        one_line(status.name),
        status.state_text(),
        age(now - status.since),
        str(status.pending),
        "-" if status.last_batch is None else f"{age(now - status.last_batch)} ago",
        one_line(status.target),
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
