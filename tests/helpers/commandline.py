# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command line of Lsyncd's for a test, in a directory of the test's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from helpers.daemon import TOP, Daemon
from helpers.waiting import DEADLINE

from lsyncd_sd.classicline import parse
from lsyncd_sd.config.classic import Here, load_line


class CommandLine(Daemon):
    """One process that was started with options of Lsyncd's; it is asked as any other daemon.

    Several may have the same folders, also those of a service.
    """

    status_by_signal = 143

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.log_path = self.log_path.with_name(f"line-{id(self)}.log")
        self._name = ""

    def start_line(self, directory: Path, *words: str | bytes, wait: bool = True) -> None:
        """Start `lsyncd-sd WORDS` in a directory; with `wait` until it answers on its control socket."""
        arguments = [os.fsdecode(word) for word in words]
        if wait:
            here = Here(os.path.realpath(directory), os.path.expanduser("~"))
            (configuration,) = load_line(parse(arguments), here).configurations
            self._name = configuration.syncs[0].name
        self._launch(arguments, directory, {"PYTHONPATH": str(TOP)}, wait=wait)

    def run_line(self, directory: Path, *words: str | bytes) -> int:
        """Run `lsyncd-sd WORDS` in a directory until it ends by itself, and return its exit status."""
        self.start_line(directory, *words, wait=False)
        return self.wait_for_end(DEADLINE)

    def names(self) -> list[str]:
        """Return the names of its syncs, in the order of the line."""
        return list(self.syncs() or {})

    def _socket(self) -> str:
        # The folder is called like the first sync.
        return str(self.runtime / "lines" / self._name / "control")
