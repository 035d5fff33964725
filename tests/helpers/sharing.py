# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes small file systems on which files can share blocks, in files of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

KINDS = ("btrfs", "xfs")

# mkfs.xfs refuses less than 300 MiB; of the file that holds it, only what is written needs room.
_SIZE = 320 * 1024 * 1024


@contextlib.contextmanager
def sharing_file_system(kind: str, folder: Path) -> Iterator[Path]:
    """Give the root of a new, empty file system; skips the calling test where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    image, place = folder / "image", folder / "mounted"
    place.mkdir(parents=True)
    with open(image, "wb") as file:
        file.truncate(_SIZE)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"{kind} cannot be mounted here: {mounted.stderr.decode(errors='replace')}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def shared_bytes(path: Path, other: Path) -> int:
    """Return how many bytes of a file lie where those of the other do, too."""
    return len(_extents(path) & _extents(other)) * 4096


def _extents(path: Path) -> set[int]:
    """Return the physical blocks of a file, of 4 KiB each."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    lines = subprocess.run(
        ["filefrag", "-v", "-b4096", path], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    found: set[int] = set()
    for line in lines:
        fields = line.split(":")
        if fields[0].strip().isdigit():
            first, last = (int(number) for number in fields[2].split(".."))
            found.update(range(first, last + 1))
    return found
