# SPDX-License-Identifier: GPL-2.0-or-later
"""A mirror whose runs do nothing, and end as a test has thought out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.syncs import make_sync

from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror import rsync
from lsyncd_sd.mirror.options import Traits
from lsyncd_sd.mirror.process import OnExit, Result
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.rsync import RsyncMirror
from lsyncd_sd.plan.batch import Mark
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.watch.source import Source

ENTRY, LEVEL, SUBTREE, CONTENT = Depth.ENTRY, Depth.LEVEL, Depth.SUBTREE, Depth.CONTENT
EXACT_ENTRY, LOOSE_ENTRY = Mark(ENTRY, True), Mark(ENTRY, False)
EXACT_SUBTREE, LOOSE_SUBTREE = Mark(SUBTREE, True), Mark(SUBTREE, False)
EXACT_CONTENT, LOOSE_CONTENT = Mark(CONTENT, True), Mark(CONTENT, False)
LOOSE_LEVEL = Mark(LEVEL, False)

STATISTICS = (
    b"Number of regular files transferred: 2\nNumber of deleted files: 3 (reg: 3)\n"
    b"Total transferred file size: 40 bytes\n"
)

# one mark for each shape but contents, on the tree of `make_source`
ALL_SHAPES = {
    b"d/file": EXACT_ENTRY,
    b"touched": LOOSE_ENTRY,
    b"new": EXACT_SUBTREE,
    b"again": LOOSE_SUBTREE,
    b"d/gone": EXACT_ENTRY,
}


def make_source(folder: Path) -> Path:
    """Make a source of d/file, touched, new/file and again/."""
    root = folder / "source"
    for path in ("d/file", "touched", "new/file"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    (root / "again").mkdir()
    return root


def ended(code: int = 0, errors: bytes = b"", output: bytes = STATISTICS, **changes: Any) -> Result:
    """Return how a run has ended."""
    return replace(Result(code, output, errors, False, False, 0.5), **changes)


class FakeProcess:
    """Takes what is asked of a process that runs."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.on_data: Any = lambda _output: None

    def show_output(self, on_data: Any) -> None:
        """Pass on all that it says, in pieces, as it comes through a pipe."""
        self.on_data = on_data
        self.say(self._says)

    def say(self, output: bytes) -> None:
        """Say so."""
        self.on_data(output[:7])
        self.on_data(output[7:])


class Runs:
    """Carries out the steps of a mirror with results that a test has thought out."""

    def __init__(self, results: list[Result], says: bytes = b"") -> None:
        self.results = results
        self.says = says
        self.seen: list[tuple[str, list[bytes]]] = []
        self.arguments: list[list[str]] = []
        self.processes: list[FakeProcess] = []

    def start_command(
        self,
        _loop: Loop,
        arguments: list[str],
        _on_exit: OnExit,
        *,
        stdin: bytes,
        directory: int = -1,
        **_more: Any,
    ) -> FakeProcess:
        """Note what is started."""
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        kept = [option for option in ("-r", "-d", "-I", "-n", "--existing", "--delete") if option in options]
        self.seen.append((" ".join(kept), [path for path in stdin.split(b"\0") if path]))
        self.arguments.append(arguments)
        self.processes.append(FakeProcess(self.says))
        return self.processes[-1]

    def drive(self, steps: Any, result: Result | None = None) -> Any:
        """Take the steps, after a process that has ended so, and return what they return."""
        while True:
            try:
                start = steps.send(result)
            except StopIteration as stop:
                return stop.value
            start(lambda _result: None)
            result = self.results.pop(0) if self.results else ended()
            self.processes[-1].say(result.output)


class Bench:
    """A mirror of the source, and what it is to be told."""

    def __init__(self, source: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.source = source
        self.percents: list[int] = []
        self.mirror = RsyncMirror(
            loop,
            make_sync(source=str(source), **changes),
            Filter.from_excludes(changes.get("exclude", ())),
            lambda: Source(os.fsencode(source)),
            self.percents.append,
        )
        self.mirror.commands.source_root = str(source)
        self.mirror.commands.traits = Traits(nanoseconds=True)
        self._monkeypatch = monkeypatch
        self._says = b""
        self.runs = Runs([])

    def runs_say(self, output: bytes) -> None:
        """Let each run from now on say so while it runs, to whom it is shown."""
        self._says = output

    def drive(self, steps: Any, *results: Result) -> Any:
        """Take the steps, with runs that end so, and well when there are more; return what they return."""
        self.runs = Runs(list(results), self._says)
        self._monkeypatch.setattr(rsync, "start_command", self.runs.start_command)
        return self.runs.drive(steps)

    def begin(self, steps: Any) -> None:
        """Take the first of the steps."""
        self.runs = Runs([])
        self._monkeypatch.setattr(rsync, "start_command", self.runs.start_command)
        next(steps)(lambda _result: None)

    def go_on(self, steps: Any, result: Result) -> Any:
        """Take the others, after a process that has ended so; return what they return."""
        self.runs = Runs([], self._says)
        self._monkeypatch.setattr(rsync, "start_command", self.runs.start_command)
        return self.runs.drive(steps, result)

    def batch(self, marks: dict[bytes, Mark], *results: Result) -> Report:
        """Carry out a batch."""
        report = self.drive(self.mirror.batch(marks), *results)
        assert isinstance(report, Report)
        return report

    def full_sync(self, *results: Result, may_create: bool = False, **more: Any) -> Report:
        """Carry out a full sync."""
        steps = self.mirror.full_sync(may_create=may_create, sample=None, **more)
        report = self.drive(steps, *results)
        assert isinstance(report, Report)
        return report

    def unreadable(self, path: str, what: str = "[sender] send_files failed to open") -> bytes:
        """Return what rsync says of something in the source that it cannot read."""
        return f'rsync: {what} "{self.source}/{path}": Permission denied (13)\n'.encode()
