# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes to many files as fast as it can: python writer.py ROOT PATHS CHANGES."""

from __future__ import annotations

import os
import sys

# So many files stand in one directory.
FILES_PER_DIRECTORY = 1000


def names(paths: int) -> list[str]:
    """Return the paths of so many files."""
    return [
        f"directory{number // FILES_PER_DIRECTORY}/file{number % FILES_PER_DIRECTORY}"
        for number in range(paths)
    ]


def write(root: str, paths: int, changes: int) -> None:
    """Change so many files so often in all, one after another."""
    files = names(paths)
    for directory in {os.path.dirname(name) for name in files}:
        os.makedirs(os.path.join(root, directory), exist_ok=True)
    os.chdir(root)
    for number in range(changes):
        # in place: ext4 waits for the disk when a file is truncated and written anew
        descriptor = os.open(files[number % paths], os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(descriptor, b"%010d" % number)
        os.close(descriptor)


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
