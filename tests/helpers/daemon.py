# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the real daemon for a test, asks it, and makes sure that nothing is left of it at the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.comparing import ARCHIVE, IsIgnored, assert_mirrored
from helpers.waiting import DEADLINE, wait_until

from lsyncd_sd.errors import LsyncdError
from lsyncd_sd.service.control_client import call

TOP = Path(__file__).resolve().parents[2]

# Every process that a daemon starts inherits it, and so can be found.
MARK = "LSYNCD_SD_TEST"

# A test waits for every batch: collecting for long would only make it slow.
DELAY = 0.1

# These would make the daemon talk to the manager of whoever runs the tests.
NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM")

Settings = dict[str, Any]

# For what is on a target before, or goes all at once, where the brake is not what is tested.
UNLIMITED: Settings = {"max_deletes": "unlimited"}


def settings(source: Path, target: Path | str, **more: Any) -> Settings:
    """Return the mapping of one sync for a configuration file."""
    return {"source": str(source), "target": str(target), "delay": DELAY, **more}


def text_of(*syncs: Settings) -> str:
    """Return a configuration file; JSON is YAML."""
    return json.dumps(syncs[0] if len(syncs) == 1 else {"syncs": list(syncs)}, indent=1)


class Daemon:
    """One parent with its folders. `folder` may be shared by several, which then share their locks."""

    # What it ends with when it is told to.
    status_by_signal = 0

    def __init__(self, folder: Path, instance: str = "all", prefix: Sequence[str] = ()) -> None:
        """Make the folders. `prefix` is a command line to run the daemon's own with, such as setpriv."""
        self.runtime = folder / "lsyncd-sd" / instance
        self.state = folder / "state"
        self.configuration = folder / "config"
        for directory in (self.runtime, self.state, self.configuration):
            directory.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"{instance}.log"
        self.allows_traceback = False
        self._prefix = prefix
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------------ life

    def write(self, stem: str, text: str) -> Path:
        """Write a configuration file and return its path."""
        path = self.configuration / f"{stem}.yaml"
        path.write_text(text)
        return path

    def start(self, *names: str, variables: Mapping[str, str] | None = None, wait: bool = True) -> None:
        """Start `lsyncd-sd run NAMES`; with `wait` until it answers on its control socket."""
        self._launch(["run", *names], TOP, variables or {}, wait=wait)

    def _launch(
        self, arguments: Sequence[str], directory: Path, variables: Mapping[str, str], *, wait: bool
    ) -> None:
        assert self._process is None or self._process.poll() is not None, "it runs already"
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "lsyncd_sd", *arguments],
                cwd=directory,
                env={**self._environment(), **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            wait_until(self._answers, "the daemon answers", describe=self.log)

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"it ended with status {self.process.returncode}\n{self.log()}"
        return self.syncs() is not None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The parent process."""
        assert self._process is not None, "it was never started"
        return self._process

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the parent."""
        os.kill(self.process.pid, number)

    def wait_for_end(self, deadline: float = DEADLINE) -> int:
        """Wait until the parent has ended, and return its exit status."""
        wait_until(lambda: self.process.poll() is not None, "the daemon ends", deadline, describe=self.log)
        assert self.process.returncode is not None
        return self.process.returncode

    def stop(self) -> int:
        """End it with SIGTERM and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait_for_end()

    def kill(self) -> None:
        """End the parent with SIGKILL."""
        self.signal(signal.SIGKILL)
        self.wait_for_end()

    def finish(self) -> None:
        """End it however it is, and check that no process is left and that nothing crashed."""
        if self._process is None:
            return
        status = None
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(DEADLINE)
        left = [] if self._process.returncode == -signal.SIGKILL else self.processes()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(DEADLINE)
        print(self.log())
        assert status in (None, self.status_by_signal), f"SIGTERM ended it with {status}"
        assert left == [], "processes are left over"
        assert self.allows_traceback or "Traceback" not in self.log()

    def processes(self) -> list[int]:
        """Return every living process that this daemon has started, and itself."""
        found = []
        wanted = f"{MARK}={self._mark}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def processes_named(self, name: str) -> list[int]:
        """Return those of its processes that have this command name, the oldest first."""
        found = []
        for pid in sorted(self.processes()):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    found.append(pid)
        return found

    def signal_named(self, name: str, number: int, choose: slice = slice(None)) -> None:
        """Send a signal to the processes of this command name, or some of them; they may end meanwhile."""
        for pid in self.processes_named(name)[choose]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def log(self) -> str:
        """Return all it has written so far."""
        return self.log_path.read_text(errors="backslashreplace") if self.log_path.exists() else ""

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        return {
            **inherited,
            "RUNTIME_DIRECTORY": str(self.runtime),
            "STATE_DIRECTORY": str(self.state),
            "CONFIGURATION_DIRECTORY": str(self.configuration),
            MARK: self._mark,
        }

    # ------------------------------------------------------------------ asking

    def command(self, *arguments: str, deadline: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        """Run `lsyncd-sd ARGUMENTS` beside the daemon."""
        return subprocess.run(
            [sys.executable, "-m", "lsyncd_sd", *arguments],
            cwd=TOP,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=deadline,
        )

    def begin(self, *arguments: str, told: Path) -> subprocess.Popen[bytes]:
        """Begin to run `lsyncd-sd ARGUMENTS` beside the daemon; what it tells on stderr goes to a file."""
        with open(told, "wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "lsyncd_sd", *arguments],
                cwd=TOP,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                # Whoever runs the tests in the background of a shell has it ignored.
                preexec_fn=_interruptible,
            )

    def sync(self, name: str, *options: str, deadline: float = DEADLINE) -> str:
        """Wait until everything that was changed so far is on the target; return what was told meanwhile.

        `options` are those of `lsyncd-sd sync`.
        """
        arguments = ("--wait", f"--timeout={deadline:g}", *options)
        done = self.command("sync", name, *arguments, deadline=2 * deadline)
        assert done.returncode == 0, f"{done.stderr}\n{self.status(name)}\n{self.log()}"
        return done.stderr

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method on the control socket. Raises LsyncdError."""
        return call(self._socket(), method, parameters, DEADLINE)

    def _socket(self) -> str:
        return str(self.runtime / "control")

    def syncs(self) -> dict[str, dict[str, Any]] | None:
        """Return the status of every sync by its name, None if nobody answers."""
        try:
            return {sync["name"]: sync for sync in self.call("Status")["syncs"]}
        except LsyncdError:
            return None

    def status(self, name: str) -> dict[str, Any]:
        """Return the status of one sync; empty if there is none."""
        return (self.syncs() or {}).get(name, {})

    def wait_for_state(self, name: str, *states: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait until a sync is in one of these states, and return its status."""
        return self.wait_for(
            name,
            lambda status: status.get("state") in states,
            f"{name} is {' or '.join(states)}",
            deadline,
        )

    def wait_for(
        self, name: str, condition: Callable[[dict[str, Any]], bool], what: str, deadline: float = DEADLINE
    ) -> dict[str, Any]:
        """Wait until the status of a sync fulfils a condition, and return it."""

        def fulfilled() -> dict[str, Any]:
            status = self.status(name)
            return status if condition(status) else {}

        return wait_until(fulfilled, what, deadline, describe=lambda: f"{self.status(name)}\n{self.log()}")

    def child(self, name: str) -> int:
        """Return the process of a sync that runs."""
        return int(self.wait_for(name, lambda status: bool(status.get("pid")), f"{name} runs")["pid"])

    def wait_until_mirrored(
        self,
        name: str,
        source: Path,
        target: Path,
        options: Sequence[str] = ARCHIVE,
        *,
        deadline: float = DEADLINE,
        is_ignored: IsIgnored | None = None,
    ) -> None:
        """Wait until a sync says that nothing is pending and the target is the source: promise 1."""

        def is_quiet() -> bool:
            status = self.status(name)
            return status.get("state") == "in-sync" and status["pending"] == 0

        assert_mirrored(
            source,
            target,
            options,
            deadline=deadline,
            is_ignored=is_ignored,
            # equal while it still works may be equal by accident, and not for long
            is_quiet=is_quiet,
            describe=lambda: f"{self.status(name)}\n{self.log()}",
        )


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
