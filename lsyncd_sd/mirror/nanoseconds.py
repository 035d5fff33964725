# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds out whether the target keeps nanoseconds: something just sent is listed again as a dry run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from lsyncd_sd.config.model import Sync
from lsyncd_sd.mirror.attribution import unescaped
from lsyncd_sd.mirror.command import Commands, Run, Shape
from lsyncd_sd.mirror.opensource import OpenSource
from lsyncd_sd.mirror.outcome import Outcome
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.steps import Start, Steps
from lsyncd_sd.plan.batch import Sample
from lsyncd_sd.plan.filters import Filter

# With these keys, a file that was listed exactly may be another one on the target all the same.
_MAY_NOT_SEND = ("update", "append", "append_verify", "dry_run")

OneRun = Callable[[Callable[[], Run | None]], Steps[Report]]


class NanosecondProbe:
    """The question of one target; `commands.traits` has the answer. Until then it is asked when it can be.

    `start` starts a run, `one_run` carries one out and reports.
    """

    def __init__(
        self,
        sync: Sync,
        filters: Filter,
        commands: Commands,
        open_source: Callable[[], OpenSource],
        start: Callable[[Run], Start],
        one_run: OneRun,
    ) -> None:
        self._rsync = sync.rsync
        self._filters = filters
        self._commands = commands
        self._open_source = open_source
        self._start = start
        self._one_run = one_run
        self._is_directory_refused = False

    @property
    def is_open(self) -> bool:
        """Whether it is not known yet, and a file just sent could tell."""
        may_not_send = any(self._rsync.is_on(key) for key in _MAY_NOT_SEND)
        return self._commands.traits.nanoseconds is None and not may_not_send

    def sample_of(self, run: Run) -> Sample | None:
        """Return a file that `run` is about to send and that shows what is not known yet."""
        if not self.is_open:
            return None
        with self._open_source() as source:
            if run.shape is Shape.EXACT_ENTRIES:
                return source.sample_among(sorted(run.paths))
            if run.shape is Shape.EXACT_SUBTREES:
                return source.find_sample(self._filters.hides, sorted(run.paths))
        return None

    def look_again(self, sample: Sample) -> Steps[None]:
        """See whether the target kept the nanoseconds of what was sent just now."""
        if not self.is_open or not self._commands.traits.secluded:
            return
        result = yield self._start(self._commands.resend_probe(sample.path))
        with self._open_source() as source:
            is_proof = result.code == 0 and source.is_unchanged(sample)
        if is_proof:
            keeps = keeps_nanoseconds(result.output, sample.path)
            self._commands.traits = replace(self._commands.traits, nanoseconds=keeps)

    def ask_after(self, run: Run, sample: Sample | None) -> Steps[None]:
        """See what a run that went well has shown; `sample` is what it has sent and may tell."""
        if sample is not None:
            yield from self.look_again(sample)
        elif run.shape in (Shape.ENTRIES, Shape.FULL):
            yield from self._ask_by_directory(sorted(run.paths))

    def _ask_by_directory(self, paths: Iterable[bytes]) -> Steps[None]:
        # After tar(1), say, no file has a time with a fraction, but the directories have, for theirs change
        # with what is put in.
        has_times = not self._rsync.is_off("times") and not self._rsync.is_on("omit_dir_times")
        if not self.is_open or not has_times or self._is_directory_refused:
            return
        with self._open_source() as source:
            sample = source.directory_among(paths)
        if sample is None:
            return
        report = yield from self._one_run(lambda: self._commands.directory_run(sample.path))
        if report.verdict.outcome is Outcome.OK:
            yield from self.look_again(sample)
        else:
            # It is somebody else's there, say: it would be refused with every batch.
            self._is_directory_refused = True


def keeps_nanoseconds(output: bytes, path: bytes) -> bool | None:
    """Return what a dry run with -i of `path`, just sent, says: whether the target kept all of its time.

    None if the target does not have it (`existing`).
    """
    for line in output.splitlines():
        # `>f..t...... d/file`, `.d..t...... d/`; a directory above it may differ for reasons of its own.
        item, _, name = line.partition(b" ")
        if unescaped(name).rstrip(b"/") == (path or b"."):
            return None if b"+" in item else b"t" not in item.lower()
    return True
