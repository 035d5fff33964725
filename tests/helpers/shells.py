# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs programs with the shells, and the tools, that a target may have."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SHELLS = ("dash", "bash", "busybox")

# All that busybox has of what a program for a target uses, and nothing else.
_APPLETS = ("sh", "mv", "rmdir", "df", "ps")


@dataclass(frozen=True)
class Shell:
    """A shell with its tools; `path` is where both are looked for."""

    name: str
    program: str
    path: str

    def run(self, text: bytes, directory: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Let it read `text`, in this directory, with a locale in which odd bytes are no characters."""
        return subprocess.run(
            [self.program, "-s", *arguments],
            input=text,
            cwd=directory,
            env={"PATH": self.path, "LC_ALL": "C.UTF-8", "CDPATH": "/"},
            capture_output=True,
            check=False,
        )


def shell_named(name: str, folder: Path) -> Shell:
    """Return one of SHELLS; busybox with its own tools, for which the links are made in `folder`."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    if name != "busybox":
        return Shell(name, program, os.defpath)
    folder.mkdir(exist_ok=True)
    for applet in _APPLETS:
        (folder / applet).symlink_to(program)
    return Shell(name, str(folder / "sh"), str(folder))
