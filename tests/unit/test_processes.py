# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/processes.py with real sessions: all of one is found, nothing of another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.waiting import DEADLINE, wait_until

from lsyncd_sd.service.processes import end_session, session_members

# A leader that starts a process and then does as it is told: die, or wait for its own death. The copy of
# sleep is called so that a careless reader of /proc/PID/stat takes its fields from the wrong place.
LEADER = """\
import os, subprocess, sys
odd = os.path.join(sys.argv[1], ") Z 1 1 (")
os.symlink("/bin/sleep", odd)
helper = subprocess.Popen([odd, "1000"], stdout=subprocess.DEVNULL)
print(helper.pid, flush=True)
if sys.argv[2] == "stay":
    sys.stdin.read()
os._exit(0)
"""


class Session:
    """A session with a leader and one more process in it."""

    def __init__(self, folder: Path, word: str) -> None:
        folder.mkdir()
        self.leader = subprocess.Popen(
            [sys.executable, "-c", LEADER, str(folder), word],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.leader.stdout is not None
        self.helper = int(self.leader.stdout.readline())
        # It is the copy's process only after its exec, until then Python's.
        wait_until(lambda: self.helper in session_members(self.leader.pid), "the helper runs")

    def close(self) -> None:
        for pid in session_members(self.leader.pid):
            os.kill(pid, signal.SIGKILL)
        self.leader.communicate(timeout=DEADLINE)


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path / "living", "stay")
    yield session
    session.close()


@pytest.fixture
def headless(tmp_path: Path) -> Iterator[Session]:
    """A session whose leader is dead, and waits for somebody to ask how it ended."""
    session = Session(tmp_path / "headless", "die")
    os.waitid(os.P_PID, session.leader.pid, os.WEXITED | os.WNOWAIT)
    yield session
    session.close()


def test_all_of_a_session_is_found_and_nothing_else(living: Session, headless: Session) -> None:
    assert sorted(session_members(living.leader.pid)) == sorted([living.leader.pid, living.helper])
    assert session_members(headless.leader.pid) == [headless.helper], "a zombie is not alive"


def test_what_a_dead_leader_left_is_ended(living: Session, headless: Session) -> None:
    assert end_session(headless.leader.pid) is False
    wait_until(lambda: end_session(headless.leader.pid), "nothing is left of the session")
    assert len(session_members(living.leader.pid)) == 2


def test_a_stopped_process_is_ended_too(headless: Session) -> None:
    os.kill(headless.helper, signal.SIGSTOP)
    wait_until(lambda: end_session(headless.leader.pid), "nothing is left of the session")
    assert not Path(f"/proc/{headless.helper}").exists() or session_members(headless.leader.pid) == []


def test_a_session_that_never_was_is_ended() -> None:
    # Process ids end at 2^22 (proc(5), pid_max).
    assert end_session(2**22 + 1) is True
