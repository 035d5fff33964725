# SPDX-License-Identifier: GPL-2.0-or-later
"""A user of the machine with a systemd manager of their own, who mirrors what is theirs."""

from __future__ import annotations

import subprocess
from typing import Any

from system.machine import Machine
from system.mirror import Sync


class User:
    """One user, made with `useradd`, whose manager runs although nobody is logged in."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._name = name
        self._units: list[str] = []
        machine.run("useradd", "--create-home", name)
        machine.run("loginctl", "enable-linger", name)
        number = machine.run("id", "-u", name).stdout.strip()
        self._prefix = ("runuser", "-u", name, "--", "env", f"XDG_RUNTIME_DIR=/run/user/{number}")
        self._manager = f"user@{number}.service"
        machine.wait_until(
            lambda: machine.unit_property(self._manager, "ActiveState") == "active", "the manager runs"
        )

    def run(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, see `Machine.run`."""
        return self._machine.run(*self._prefix, *argv, **options)

    def start(self, sync: Sync) -> str:
        """Give the trees of a sync to the user, configure, enable and start it; return its unit."""
        folder = f"/home/{self._name}/.config/lsyncd.d"
        settings = f"source: {sync.source_inside}\ntarget: {sync.target_inside}\ndelay: 0.3\n"
        self._machine.write(f"{folder}/{sync.name}.yaml", settings)
        owned = (sync.source_inside, sync.target_inside, f"/home/{self._name}")
        self._machine.run("chown", "--recursive", f"{self._name}:", *owned)
        unit = f"lsyncd@{sync.name}.service"
        self.run("systemctl", "--user", "enable", "--now", unit)
        self._units.append(unit)
        return unit

    def main_process(self, unit: str) -> str:
        """Return the process of a unit as its number, "0" if it does not run."""
        return self.run("systemctl", "--user", "show", "--value", "--property=MainPID", unit).stdout.strip()

    def remove(self) -> None:
        """Stop the user's units and manager, and remove the user."""
        self.run("systemctl", "--user", "disable", "--now", *self._units, check=False)
        self._machine.run("loginctl", "disable-linger", self._name)
        self._machine.run("systemctl", "stop", self._manager)
        self._machine.run("userdel", "--remove", self._name, check=False)
