# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of packaging/demo.sh in a copy of the tree: it ends by itself, tells the truth, and cleans up."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.waiting import wait_until

TOP = Path(__file__).parents[2]
NEEDED = ("lsyncd_sd", "packaging", "pyproject.toml", "README.md")
PACKAGES = ("python3-venv", "python3-setuptools", "python3-wheel", "python3-systemd", "python3-pyinotify")

# Making .venv takes most of it.
DEADLINE = 240

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the demo needs; its .venv is made by the first test and used by the others."""
    missing = subprocess.run(["dpkg-query", "-W", *PACKAGES], capture_output=True).returncode != 0
    if missing and os.geteuid() != 0:
        pytest.skip("only root can install the packages that the demo needs")
    copy = tmp_path_factory.mktemp("demo") / "tree with a space"
    copy.mkdir()
    for name in NEEDED:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(TOP / name, copy)
    return copy


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """The folder for temporary folders; at the end it is empty and no process knows it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []
    assert processes_about(folder) == []


def processes_about(folder: Path) -> list[str]:
    """Return the command lines that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def environment(scratch: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch)}


def demo(
    tree: Path, scratch: Path, *arguments: str | Path, script: str = "demo.sh"
) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end, from another folder."""
    return subprocess.run(
        ["sh", tree / "packaging" / script, *arguments],
        cwd=scratch.parent,
        env=environment(scratch),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def test_it_shows_every_change_arriving_and_ends_by_itself(tree: Path, scratch: Path) -> None:
    completed = demo(tree, scratch)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    arrivals = re.findall(r"^  after +\d+\.\d\d s  (.+)$", completed.stdout, re.MULTILINE)
    for word in ("full sync", "created", "edited", "permissions", "in a folder", "renamed", "odd name"):
        assert any(word in arrival for arrival in arrivals), word
    assert "a folder deleted" in arrivals
    assert re.search(r"^  NAME +STATE .*\n  demo  in-sync ", completed.stdout, re.MULTILINE)
    assert "batch 2: 1 files sent" in completed.stdout
    assert completed.stdout.endswith("finds nothing to do.\n")
    assert (tree / ".venv" / "bin" / "lsyncd-sd").exists()


def test_it_fails_when_a_change_does_not_arrive_in_time(tree: Path, scratch: Path) -> None:
    text = (tree / "packaging" / "demo.sh").read_text()
    impatient = re.sub(r"\bDEADLINE_MS=\d+", "DEADLINE_MS=4000", text).replace("delay 1 ", "delay 60 ")
    assert impatient.count("4000") == 1 and "delay 60 " in impatient
    (tree / "packaging" / "impatient.sh").write_text(impatient)
    completed = demo(tree, scratch, script="impatient.sh")
    assert completed.returncode == 1
    assert "not within 4 s: a file created" in completed.stderr
    assert "this is what the daemon said" in completed.stderr


def test_it_mirrors_what_it_is_given_until_it_is_interrupted(tree: Path, scratch: Path) -> None:
    folder = scratch.parent
    (folder / "it's a source").mkdir()
    (folder / "it's a source" / "before").write_text("old")
    process = subprocess.Popen(
        ["sh", tree / "packaging" / "demo.sh", "it's a source", "target"],
        cwd=folder,
        env=environment(scratch),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until((folder / "target" / "before").exists, "the full sync", DEADLINE)
        (folder / "it's a source" / "after").write_text("new")
        wait_until((folder / "target" / "after").exists, "the change")
    finally:
        # As a terminal does it: to all in the foreground.
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output
    assert f"Mirroring {folder}/it's a source to {folder}/target until Ctrl-C" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one"], "usage: sh packaging/demo.sh [SOURCE TARGET]"),
        (["no-such-folder", "target"], "there is no no-such-folder"),
        (["file", "target"], "file is not a directory"),
        (["folder", "file"], "file is not a directory"),
        (["folder", "no-such-folder/target"], "there is no no-such-folder in which target could be made"),
        (["folder", "folder/target"], "lies in the source"),
        (["folder", "http://host/path"], "is no way rsync can go"),
        (["folder", "two\nlines"], "line break"),
    ],
)
def test_it_refuses_wrong_use_with_a_word(
    tree: Path, scratch: Path, arguments: list[str], message: str
) -> None:
    (scratch.parent / "folder").mkdir()
    (scratch.parent / "file").touch()
    completed = demo(tree, scratch, *arguments)
    assert completed.returncode == 2
    assert message in completed.stderr
    assert not (scratch.parent / "target").exists()
