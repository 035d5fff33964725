# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks that hold between all parents of a system: one for each target, some slots for each host.

They are flock(2) locks on small files: the kernel gives them back however their holder ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import posixpath
from pathlib import Path

from lsyncd_sd.config.model import Target
from lsyncd_sd.errors import ExitStatus, LsyncdError

# Full syncs to one remote host at a time. A guess: enough to fill a line, and well below the ten logins
# after which sshd begins to refuse (MaxStartups).
FULL_SYNCS_PER_HOST = 4


# What a lock file says about its holder.
_DESCRIPTION_KEYS = ("kind", "host", "path", "text", "owner", "pid")


class LockBusyError(Exception):
    """Somebody is just taking the lock, or just about to lose it: try again soon."""


class Locks:
    """The folder of the locks; made if it is missing. Raises OSError if that is not possible."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # For nobody else: whoever can open a lock file can take its lock.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def take_target(self, target: Target, owner: str) -> int:
        """Return a descriptor that holds the lock of `target` until it is closed.

        Raises LsyncdError (USAGE: it takes a person to sort it out) if this target, or one around or inside
        it, is mirrored to already; LockBusyError if that may be over in a moment.
        """
        guard = self._open("guard")
        try:
            if not _try_lock(guard):
                raise LockBusyError
            self._refuse_overlap(target)
            descriptor = self._open(_file_name(target))
            if not _try_lock(descriptor):
                os.close(descriptor)
                raise LockBusyError
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_description(target, owner)).encode(), 0)
            return descriptor
        finally:
            os.close(guard)

    def take_host_slot(self, host: str) -> int | None:
        """Return a descriptor that holds one of the full-sync slots of `host`, None if all are taken."""
        for number in range(FULL_SYNCS_PER_HOST):
            descriptor = self._open(f"host-{_digest(host)}-{number}")
            if _try_lock(descriptor):
                return descriptor
            os.close(descriptor)
        return None

    @staticmethod
    def release(descriptor: int) -> None:
        """Give a lock back, also where a process that was just forked still has the descriptor."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def _open(self, name: str) -> int:
        return os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _refuse_overlap(self, target: Target) -> None:
        for path in sorted(self._directory.glob("target-*")):
            held = _held_by(path)
            if held is None or not _overlap(target, held):
                continue
            if held["pid"] == str(os.getpid()) or not os.path.exists(f"/proc/{held['pid']}"):
                # One configuration never has overlapping targets, so the sync of our own that holds it is
                # about to stop. And the children of a parent that is gone hold it until they end.
                raise LockBusyError
            raise LsyncdError(
                f"{target.text} is mirrored to already, as {held['text']} by {held['owner']}",
                "a target belongs to one sync: stop the other one, or choose a target of its own",
                ExitStatus.USAGE,
            )


def _held_by(path: Path) -> dict[str, str] | None:
    """Return what a lock file says if its lock is held; a free one is left over and is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _try_lock(descriptor):
            path.unlink(missing_ok=True)
            return None
        document = json.loads(os.pread(descriptor, 65536, 0))
        return {key: str(document[key]) for key in _DESCRIPTION_KEYS}
    except (ValueError, KeyError, TypeError):
        return None
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _description(target: Target, owner: str) -> dict[str, str]:
    return {
        "kind": target.kind.value,
        "host": _space(target),
        "path": _normal(target.path),
        "text": target.text,
        "owner": owner,
        "pid": str(os.getpid()),
    }


def _overlap(target: Target, held: dict[str, str]) -> bool:
    """Tell whether one target is the other or lies in it, by their names: a lock never touches a target."""
    if (target.kind.value, _space(target)) != (held["kind"], held["host"]):
        return False
    ours, theirs = _normal(target.path), held["path"]
    return ours == theirs or ours.startswith(_inside(theirs)) or theirs.startswith(_inside(ours))


def _inside(path: str) -> str:
    return "" if path == "." else path.rstrip("/") + "/"


def _normal(path: str) -> str:
    return posixpath.normpath(path) if path else "."


def _file_name(target: Target) -> str:
    return "target-" + _digest(f"{target.kind.value}\0{_space(target)}\0{_normal(target.path)}")


def _space(target: Target) -> str:
    """Return what must be equal for two paths to be on the same tree: another port is another daemon."""
    login = "" if target.path.startswith("/") else target.user
    return f"{login}@{target.host}:{target.port or ''}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
