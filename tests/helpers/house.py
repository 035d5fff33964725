# SPDX-License-Identifier: GPL-2.0-or-later
"""A source, a target, and mirrors between them that run a real rsync, step by step as a test says."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from helpers.looping import run_until
from helpers.syncs import PLAIN_RSYNC, PLAIN_SSH, local_target, make_sync

from lsyncd_sd.config.model import Sync
from lsyncd_sd.config.target import parse_target
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.outcome import Outcome
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.rsync import RsyncMirror
from lsyncd_sd.mirror.steps import Steps, Task
from lsyncd_sd.plan.batch import Mark, Sample
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.watch.source import Source

Answer = TypeVar("Answer")
AnyMirror = TypeVar("AnyMirror", bound=RsyncMirror)

OLD = 1_600_000_000_123_456_789
"""The time of every file: with the size alike too, only an exact run sees another content."""

ENTRY = Mark(Depth.ENTRY, exact=False)
EXACT_ENTRY = Mark(Depth.ENTRY, exact=True)
CONTENT = Mark(Depth.CONTENT, exact=False)
LEVEL = Mark(Depth.LEVEL, exact=False)
SUBTREE = Mark(Depth.SUBTREE, exact=False)
EXACT_SUBTREE = Mark(Depth.SUBTREE, exact=True)


class House:
    """A source and a target, and mirrors from one to the other."""

    def __init__(self, base: Path, loop: Loop) -> None:
        self.base, self.source, self.target = base, base / "source", base / "target"
        self._loop = loop
        self.source.mkdir()
        self.target.mkdir()

    def mirror_of(self, sync: Sync, kind: type[AnyMirror] = RsyncMirror) -> AnyMirror:
        """Return a mirror for this sync, whatever its source."""
        return kind(
            self._loop,
            sync,
            sync.make_filter(),
            lambda: Source(os.fsencode(self.source), one_file_system=sync.one_file_system),
            lambda _percent: None,
        )

    def mirror(self, *exclude: str, **changes: Any) -> RsyncMirror:
        """Return a mirror for a sync with these fields."""
        values = {"source": str(self.source), "target": local_target(str(self.target))} | changes
        return RsyncMirror(
            self._loop,
            make_sync(exclude=exclude, **values),
            Filter.from_excludes(exclude),
            lambda: Source(os.fsencode(self.source)),
            lambda _percent: None,
        )

    def program(self, body: str) -> dict[str, Any]:
        """Return the setting for an rsync that is this script; `$here` is where all is."""
        path = self.base / "rsync"
        path.write_text(f'#!/bin/sh\nhere={self.base}\n{body} "$@"\n')
        path.chmod(0o755)
        return {"rsync": replace(PLAIN_RSYNC, binary=str(path))}

    def remote_target(self) -> dict[str, Any]:
        """Return the settings for the same target, on another host as it seems: what ssh does, but here."""
        shell = self.base / "ssh"
        shell.write_text('#!/bin/sh\nwhile [ "$1" != host ]; do shift; done\nshift\nexec sh -c "$*"\n')
        shell.chmod(0o755)
        return {"target": parse_target(f"host:{self.target}"), "ssh": replace(PLAIN_SSH, binary=str(shell))}

    def do(self, steps: Steps[Answer]) -> Answer:
        """Take the steps, and return what they return."""
        answers: list[Answer] = []
        Task(steps, answers.append, lambda _error: None, ()).start()
        run_until(self._loop, lambda: answers, "the steps end")
        return answers[0]

    def sample(self) -> Sample | None:
        """Return a file that shows whether the target keeps nanoseconds."""
        with Source(os.fsencode(self.source)) as source:
            return source.find_sample(lambda _path, _is_directory: False)

    def write(self, name: str, content: str = "new", root: Path | None = None) -> Path:
        """Write a file of the source, or of another root, with the same time as all the others."""
        path = (root or self.source) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, ns=(OLD, OLD))
        return path

    def on_target(self, name: str) -> Path:
        """Write a file of the target."""
        return self.write(name, "old", self.target)


@contextlib.contextmanager
def a_house() -> Iterator[House]:
    """Give a house, with its loop."""
    loop = Loop()
    # Not pytest's own folder: nobody else can enter that.
    with tempfile.TemporaryDirectory(prefix="mirror-") as base:
        Path(base).chmod(0o755)
        yield House(Path(base), loop)
    loop.close()


def is_good(report: Report) -> bool:
    """Tell whether all was done."""
    return report.verdict.outcome is Outcome.OK and not report.failed and not report.is_whole
