# SPDX-License-Identifier: GPL-2.0-or-later
"""Syncs for a test: their trees, their configuration files, their units, and what can be asked of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from helpers.waiting import DEADLINE
from system.machine import Machine

# Short, so that tests are; long enough that several changes make one batch.
DELAY = 0.3


class Sync:
    """One source and one target; `source` and `target` are paths here, the same with `_inside` in there."""

    def __init__(self, machine: Machine, folder: str, name: str) -> None:
        self.machine = machine
        self.name = name
        self.source_inside = f"/srv/{folder}/{name}/source"
        self.target_inside = f"/srv/{folder}/{name}/target"
        self.source = machine.srv / folder / name / "source"
        self.target = machine.srv / folder / name / "target"
        self.source.mkdir(parents=True)
        self.target.mkdir()

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the mapping for a configuration file; `more` adds keys or replaces them."""
        own = {"name": self.name, "source": self.source_inside, "target": self.target_inside, "delay": DELAY}
        return {**own, **more}

    def differences(self, *options: str) -> str:
        """Return what rsync, run by hand with `options`, would still have to do, or why it cannot tell."""
        shape = ("--recursive", "--dry-run", "--itemize-changes", "--checksum", "--delete")
        ends = (f"{self.source_inside}/", f"{self.target_inside}/")
        completed = self.machine.run("rsync", "--archive", *shape, *options, "--", *ends, check=False)
        # Files that vanish under its eyes are changes on their way, not errors.
        return completed.stdout + (completed.stderr if completed.returncode else "")

    def wait_until_equal(self, *options: str, deadline: float = DEADLINE) -> None:
        """Wait until the target is the source."""
        self.machine.wait_until(
            lambda: not self.differences(*options),
            f"{self.name}: the target is the source",
            deadline,
            describe=lambda: f"{self.status()}\n{self.differences(*options)}",
        )

    def status(self) -> dict[str, Any]:
        """Return what `lsyncd-sd status --json` says about this sync; empty if it is not running."""
        completed = self.machine.run("lsyncd-sd", "status", "--json", check=False)
        if not completed.stdout:
            return {}
        syncs: list[dict[str, Any]] = json.loads(completed.stdout)["syncs"]
        return next((sync for sync in syncs if sync["name"] == self.name), {})

    def wait_for_state(self, *states: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait until the sync is in one of these states, and return its status."""

        def reached() -> dict[str, Any]:
            status = self.status()
            return status if status.get("state") in states else {}

        return self.machine.wait_until(
            reached, f"{self.name} is {' or '.join(states)}", deadline, describe=self.status
        )

    def child(self) -> int:
        """Return the process, as numbered in there, of the child that mirrors this sync."""
        return int(self.wait_for_state("in-sync")["pid"])


class Mirrors:
    """The syncs of one test; `folder` keeps them apart from those of the others."""

    def __init__(self, machine: Machine, folder: str) -> None:
        self.machine = machine
        self._folder = folder.replace("_", "-")
        self._units: list[str] = []
        self._files: list[str] = []
        self._has_drop_ins = False

    def sync(self, name: str) -> Sync:
        """Make two empty trees for a sync."""
        return Sync(self.machine, self._folder, name)

    def configure(self, stem: str, configuration: dict[str, Any] | str) -> str:
        """Write /etc/lsyncd.d/STEM.yaml and return the name of its unit, which is stopped after the test."""
        path = f"/etc/lsyncd.d/{stem}.yaml"
        text = configuration if isinstance(configuration, str) else yaml.safe_dump(configuration)
        self.machine.write(path, text)
        unit = f"lsyncd@{stem}.service"
        if path not in self._files:
            self._files.append(path)
            self._units.append(unit)
        return unit

    def start(self, stem: str, *syncs: dict[str, Any]) -> str:
        """Write a file with these syncs, enable and start its unit, and return the unit's name."""
        unit = self.configure(stem, {"syncs": list(syncs)})
        self.machine.run("systemctl", "enable", "--now", unit)
        return unit

    def drop_in(self, unit: str, text: str) -> None:
        """Add settings to a unit, until the end of the test."""
        path = f"/etc/systemd/system/{unit}.d/test.conf"
        self.machine.write(path, text)
        self._files.append(path)
        self._has_drop_ins = True
        self.machine.run("systemctl", "daemon-reload")

    def remove(self) -> None:
        """Stop the units of this test and remove their files."""
        if self._units:
            self.machine.run("systemctl", "disable", "--now", *self._units, check=False)
            self.machine.run("systemctl", "reset-failed", *self._units, check=False)
        if self._files:
            self.machine.run("rm", "-f", *self._files)
        if self._has_drop_ins:
            self.machine.run("systemctl", "daemon-reload")


def entries_of(machine: Machine, sync: Sync, *matches: str) -> list[dict[str, Any]]:
    """Return the journal's entries about a sync."""
    return machine.journal(f"LSYNCD_SYNC={sync.name}", *matches)


def read(path: Path) -> str | None:
    """Return the text of a file, or None if there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
