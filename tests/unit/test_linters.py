# SPDX-License-Identifier: GPL-2.0-or-later
"""The linters as tests: ruff, mypy and shellcheck find nothing; packaging/test.sh installs all three."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
CODE = ("lsyncd_sd", "tests", "packaging")

SHELL_SCRIPTS = [
    *TOP.glob("packaging/*.sh"),
    *TOP.glob("packaging/completion/bash/*"),
    *TOP.glob("debian/*.p*inst"),
    *TOP.glob("debian/*.p*rm"),
    *(path for path in TOP.glob("debian/tests/*") if path.name != "control"),
    TOP / ".ci/run",
]


def run(*argv: str | Path) -> None:
    """Run a linter at the top of the tree; fails with all it says."""
    completed = subprocess.run(argv, cwd=TOP, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def module(name: str) -> tuple[str, ...]:
    """Return the start of a command line for a linter written in Python; skips the test without it."""
    pytest.importorskip(name)
    return (sys.executable, "-m", name)


def test_ruff() -> None:
    run(*module("ruff"), "check", *CODE)


def test_mypy() -> None:
    run(*module("mypy"))


def test_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    run("shellcheck", *SHELL_SCRIPTS)


def test_zsh_reads_the_completion() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    run("zsh", "--no-exec", TOP / "packaging/completion/zsh/_lsyncd-sd")


@pytest.mark.parametrize("path", sorted(TOP.glob("lsyncd_sd/**/*.py")), ids=lambda path: path.name)
def test_modules_open_with_licence_and_one_sentence(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    assert first == "# SPDX-License-Identifier: GPL-2.0-or-later"
    assert second.startswith('"""') and not second.startswith('"""\n')
