# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts what a sync's process has done, and tells each batch and full sync in one line of the journal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lsyncd_sd.mirror.report import Report
from lsyncd_sd.service.journal import Event, Journal
from lsyncd_sd.service.status import State

PATHS_PER_ENTRY = 16
"""How many of its paths an entry of the journal names."""


class Figures:
    """What was done so far, for the status; `last_batch` is in Unix seconds."""

    def __init__(self, journal: Journal, *, is_dry_run: bool) -> None:
        self._journal = journal
        self._is_dry_run = is_dry_run
        self.batches = 0
        self.files = 0
        self.bytes = 0
        self.last_batch: float | None = None
        self.full_sync_percent: int | None = None

    def count(self, report: Report, state: State, paths: Sequence[bytes] | None) -> None:
        """One more has come to its end; `paths` are some of a batch's, None for a full sync."""
        if report.seconds == 0 and not report.moved:
            # Nothing had to be run: what was dirty is excluded, or gone again.
            return
        done = report.done
        self.batches += 1
        self.files += done.files
        self.bytes += done.bytes
        self.last_batch = time.time()
        what = f"{'dry run of ' * self._is_dry_run}batch {self.batches}{' (full sync)' * (paths is None)}"
        self._journal.info(
            f"{what}: {_told_moves(report)}{done.files} files sent ({done.bytes} bytes), "
            f"{done.deleted} deleted, {report.seconds:.1f} s",
            Event.FULL_SYNC_DONE if paths is None else Event.BATCH_DONE,
            state=state.value,
            batch=self.batches,
            files=done.files,
            bytes=done.bytes,
            exit_status=report.verdict.exit_status,
            duration_usec=int(report.seconds * 1e6),
            paths=paths or (),
        )


def _told_moves(report: Report) -> str:
    if not report.not_moved:
        return f"{report.moved} moved, " if report.moved else ""
    reason = f" ({report.refusal})" if report.refusal else ""
    return f"{report.moved} moved, {report.not_moved} not{reason}, "
