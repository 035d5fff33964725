# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs an sshd and an rsync daemon on loopback, with keys, ports and configurations of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.waiting import DEADLINE, wait_until

ADDRESS = "127.0.0.1"


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process that can be stopped and started again on its port."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> Sequence[str]:
        """Return the command line that stays in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                self.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._accepts, "the server listens", describe=(self.folder / "log").read_text)

    def _accepts(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "log").read_text()
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, self.port), DEADLINE):
            return True
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to all sessions it serves."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """End it and all sessions it serves."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(DEADLINE)
        self._process = None


def _is_root_locked() -> bool:
    """Tell whether sshd would refuse root for a locked password, as it does unless it asks PAM."""
    lines = Path("/etc/shadow").read_text().splitlines()
    return any(line.startswith("root:!") for line in lines)


class Sshd(Server):
    """An sshd that lets root in with a key of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._make_key("host_key")
        self._make_key("user_key")
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.know_host("host_key")
        # sshd insists on it, and only the package's unit makes it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        (folder / "config").write_text(
            f"ListenAddress {ADDRESS}\nPort {self.port}\nHostKey {folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nPermitRootLogin prohibit-password\n"
            f"StrictModes no\nUsePAM {'yes' if _is_root_locked() else 'no'}\n"
            "PasswordAuthentication no\nMaxStartups 100\n"
        )

    def _make_key(self, name: str) -> None:
        path = str(self.folder / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)

    def know_host(self, key: str) -> None:
        """Make the clients expect the host key of this name."""
        public = (self.folder / f"{key}.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[{ADDRESS}]:{self.port} {public}")

    def know_another_host(self) -> None:
        """Make the clients expect a key that this server does not have."""
        self._make_key("other_key")
        self.know_host("other_key")

    def arguments(self) -> Sequence[str]:
        """Return the command line that stays in the foreground."""
        return ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "config")]

    def section(self) -> dict[str, Any]:
        """Return the `ssh:` section of a sync that uses this server."""
        return {
            "port": self.port,
            "identity_file": str(self.folder / "user_key"),
            "options": {
                "UserKnownHostsFile": str(self.folder / "known_hosts"),
                "StrictHostKeyChecking": "yes",
            },
        }


class RsyncDaemon(Server):
    """An rsync daemon with one writable directory, `module`: as the module `mirror`, and as `unjailed`.

    And as `locked`, for the user `mirror` with the password in `secret`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.module = folder / "module"
        self.module.mkdir()
        self.secret = folder / "secret"
        for path, text in ((self.secret, "open sesame\n"), (folder / "secrets", "mirror:open sesame\n")):
            path.touch(mode=0o600)
            path.write_text(text)
        (folder / "config").write_text(
            # without a chroot it would change what symlinks say
            f"use chroot = yes\nuid = root\ngid = root\n[mirror]\npath = {self.module}\nread only = no\n"
            f"[unjailed]\nuse chroot = no\npath = {self.module}\nread only = no\n"
            f"[locked]\npath = {self.module}\nread only = no\n"
            f"auth users = mirror\nsecrets file = {folder}/secrets\n"
        )

    def arguments(self) -> Sequence[str]:
        """Return the command line that stays in the foreground."""
        return [
            "rsync",
            "--daemon",
            "--no-detach",
            f"--config={self.folder}/config",
            f"--address={ADDRESS}",
            f"--port={self.port}",
        ]
