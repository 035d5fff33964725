# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots a throwaway copy of a Debian root under systemd-nspawn, and works inside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from helpers.waiting import DEADLINE, wait_until

Value = TypeVar("Value")

COMMAND_TIMEOUT = 120.0

# What is written goes to a tmpfs and is gone with the last process of the machine, like every mount made
# here: they are in a mount namespace of its own, so nothing is left behind, however the test run ends.
START = """
set -eu
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
exec systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --link-journal=no \
    --console=pipe --machine=lsyncd-sd-test --directory="$2/root" --bind="$3:/srv"
"""

APART = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private")
# Root and working directory as well: in a chroot, nspawn does not make its root that of the namespace.
INSIDE = ("-m", "-u", "-i", "-n", "-p", "-C", "--root", "--wd")

# The unified hierarchy also where this system mixes both: systemd 257 would refuse to start otherwise.
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}

INSIDE_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
)


class CannotBootError(Exception):
    """This system cannot run a container with systemd in it."""


class Machine:
    """One booted Debian; `srv` is a folder of this system which is /srv in there, on a real file system."""

    def __init__(self, release: str, root: Path, folder: Path) -> None:
        """Boot `root`, which stays as it is. `folder` is an empty one for the machine's files.

        Raises CannotBootError with what was printed if systemd does not come up.
        """
        self.release = release
        self.srv = folder / "srv"
        self.srv.mkdir()
        layers = folder / "layers"
        layers.mkdir()
        self._console = folder / "console"
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                [*APART, "sh", "-c", START, "start", root, layers, self.srv],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
            )
        try:
            self.wait_until(self._is_up, "systemd is up", 60)
        except AssertionError as error:
            self._process.kill()
            self._process.wait()
            raise CannotBootError(f"{error}\n{self._console.read_text(errors='replace')}") from None

    def _is_up(self) -> bool:
        assert self._process.poll() is None, "systemd-nspawn has ended"
        if self._leader() is None:
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _leader(self) -> int | None:
        """Return the process which is PID 1 in there."""
        tasks = Path(f"/proc/{self._process.pid}/task")
        children = [
            int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()
        ]
        return children[0] if children else None

    def run(
        self,
        *argv: str | os.PathLike[str],
        check: bool = True,
        input: str | None = None,
        timeout: float = COMMAND_TIMEOUT,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there as root; undecodable output is surrogate-escaped.

        Raises AssertionError with all that was printed if `check` and it fails.
        """
        leader = self._leader()
        assert leader is not None, "the machine is not running"
        completed = subprocess.run(
            ["nsenter", "-t", str(leader), *INSIDE, "env", "-i", *INSIDE_ENVIRONMENT, *argv],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout,
        )
        assert not check or completed.returncode == 0, (
            f"{argv} ended with {completed.returncode}\n{completed.stdout}\n{completed.stderr}"
        )
        return completed

    def install(self, package: Path) -> None:
        """Have apt install a package and, from its cache, what that depends on."""
        shutil.copy(package, self.srv)
        self.run("apt-get", "install", "-y", "--no-install-recommends", f"/srv/{package.name}")

    def write(self, path: str, text: str) -> None:
        """Write a file in there, and the folders above it."""
        self.run("mkdir", "-p", os.path.dirname(path))
        self.run("tee", path, input=text)

    def wait_until(
        self,
        condition: Callable[[], Value],
        what: str,
        deadline: float = DEADLINE,
        describe: Callable[[], object] | None = None,
    ) -> Value:
        """Wait as `helpers.waiting.wait_until` does."""
        return wait_until(condition, what, deadline, describe)

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Return the entries of this boot that match, oldest first; bytes come as lists of numbers."""
        lines = self.run("journalctl", "--boot", "--all", "--output=json", *matches).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def readable_journal(self, since: float) -> str:
        """Return all entries since a Unix time as lines: what a failed test shows."""
        return self.run("journalctl", f"--since=@{since:.0f}", "--no-pager", "-o", "short-precise").stdout

    def unit_property(self, unit: str, name: str) -> str:
        """Return one property of a unit, as systemctl shows it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.rstrip("\n")

    def power_off(self) -> None:
        """Shut down; what was written is lost but for `srv`."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            jobs = self.run("systemctl", "list-jobs", check=False).stdout
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the machine does not shut down\n{jobs}") from None
