# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds and ends the processes that a dead child left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Become the parent of all orphans below, so that none of them escapes to init."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def session_members(session: int) -> list[int]:
    """Return the living processes of a session; a child leads one, and all it starts stay in it."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # After the command's name, which may hold anything, also parentheses (proc(5)).
                state, _parent, _group, found = (
                    (entry / "stat").read_text("latin-1").rpartition(")")[2].split()[:4]
                )
                if int(found) == session and state not in "ZX":
                    members.append(int(entry.name))
    return members


def end_session(session: int) -> bool:
    """Kill what is left of a session; return whether nothing is left (call again later if not)."""
    members = session_members(session)
    for pid in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not members
