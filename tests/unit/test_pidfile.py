# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/pidfile.py: whose number it holds, when it is there, what it never overwrites."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lsyncd_sd.errors import LsyncdError
from lsyncd_sd.service.pidfile import pid_file

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pid"


def refusal(path: Path) -> str:
    with pytest.raises(LsyncdError) as caught, pid_file(str(path)):
        pytest.fail("it was taken")
    assert "-pidfile" in caught.value.hint
    return caught.value.message


def test_it_is_there_while_it_runs(path: Path) -> None:
    with pid_file(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_it_is_gone_after_an_error(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), pid_file(str(path)):
        raise ZeroDivisionError
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "1\n", "12345678901\n", " 7 "])
def test_what_a_dead_process_has_left_is_replaced(path: Path, content: str) -> None:
    path.write_text(content)
    with pid_file(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("content", ["root:x:0:0\n", "-1", "1 2", "\0", "1\nrm -rf\n", "9" * 31 + "x"])
def test_anything_else_is_not_overwritten(path: Path, content: str) -> None:
    path.write_text(content)
    assert refusal(path) == f"cannot use the pid file {path}: there is something else in it"
    assert path.read_text() == content


def test_a_file_that_cannot_be_made(path: Path) -> None:
    assert refusal(path / "missing").endswith(": No such file or directory")
    path.mkdir()
    assert refusal(path).endswith(": Is a directory")
    assert refusal(path.parent / "\x1b[2J/x").isprintable()


def test_one_file_is_one_process(path: Path) -> None:
    program = (
        "import sys; from lsyncd_sd.service.pidfile import pid_file\n"
        "with pid_file(sys.argv[1]): print('taken', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(argv, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        assert refusal(path) == f"cannot use the pid file {path}: another process runs with it"
        assert path.read_text() == f"{other.pid}\n"
    assert not path.exists()


def test_what_was_put_in_its_place_stays(path: Path) -> None:
    with pid_file(str(path)):
        path.rename(path.with_name("old"))
        path.write_text("7\n")
    assert path.read_text() == "7\n"


def test_a_child_does_not_keep_it(path: Path) -> None:
    """Children have the descriptor, and may outlive their parent."""
    read, write = os.pipe()
    with pid_file(str(path)):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    with pid_file(str(path)):
        assert path.exists()
    os.close(write)
    os.waitpid(child, 0)
    os.close(read)
