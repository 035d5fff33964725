# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares a source with its target: by a walk over everything that can differ, and by rsync's own word."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.waiting import DEADLINE, wait_until

# What lsyncd-sd gives to rsync without any setting.
ARCHIVE = ("-lptgoD",)

# Differences shown; one is enough to fail.
SHOWN = 20

IsIgnored = Callable[[bytes], bool]
Facts = tuple[object, ...]


def _content(path: bytes, mode: int) -> object:
    if stat.S_ISLNK(mode):
        return os.readlink(path)
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return None


def _facts(path: bytes) -> Facts:
    status = os.lstat(path)
    mode = status.st_mode
    size = status.st_size if stat.S_ISREG(mode) else None
    return oct(mode), status.st_uid, status.st_gid, status.st_mtime_ns, size, _content(path, mode)


def tree(root: Path, is_ignored: IsIgnored | None = None) -> dict[bytes, Facts]:
    """Return what is at every path below `root`: mode with type, owner, mtime in ns, size, content.

    What vanishes meanwhile is left out. `is_ignored` is asked for every path.
    """
    found: dict[bytes, Facts] = {}
    pending = [b""]
    while pending:
        relative = pending.pop()
        path = os.path.join(os.fsencode(root), relative)
        try:
            found[relative] = facts = _facts(path)
            names = os.listdir(path) if str(facts[0]).startswith("0o4") else []
        except OSError:
            continue
        below = [os.path.join(relative, name) for name in names]
        pending += [name for name in below if is_ignored is None or not is_ignored(name)]
    return found


def differences(source: Path, target: Path, is_ignored: IsIgnored | None = None) -> list[str]:
    """Return what differs between two trees, as readable lines; empty if nothing does."""
    ours, theirs = tree(source, is_ignored), tree(target, is_ignored)
    return [
        f"{path!r}: source {ours.get(path)}, target {theirs.get(path)}"
        for path in sorted(ours.keys() | theirs.keys())
        if ours.get(path) != theirs.get(path)
    ]


def links(root: Path) -> set[frozenset[bytes]]:
    """Return the names of each file below `root` that has several there."""
    names: dict[int, set[bytes]] = {}
    for folder, _directories, files in os.walk(os.fsencode(root)):
        for name in files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                names.setdefault(status.st_ino, set()).add(os.path.relpath(path, os.fsencode(root)))
    return {frozenset(paths) for paths in names.values() if len(paths) > 1}


def assert_mirrored(
    source: Path,
    target: Path,
    options: Sequence[str] = ARCHIVE,
    *,
    deadline: float = DEADLINE,
    is_ignored: IsIgnored | None = None,
    is_quiet: Callable[[], bool] = lambda: True,
    describe: Callable[[], object] | None = None,
) -> None:
    """Wait until the target is the source, then let rsync, run by hand with `options`, say so too.

    `is_quiet` tells whether nothing is under way.
    """

    def seen() -> str:
        lines = differences(source, target, is_ignored)
        return "\n".join([*lines[:SHOWN], str(describe() if describe else "")])

    wait_until(
        lambda: is_quiet() and target.exists() and not differences(source, target, is_ignored),
        f"{target} equals {source}",
        deadline,
        describe=seen,
    )
    assert rsync_differences(source, target, options) == []


def age(root: Path) -> None:
    """Make a tree older by some time with nanoseconds, as trees are when a daemon is started.

    rsync takes two times within one second as equal until lsyncd-sd knows that the target keeps
    nanoseconds, which it finds out in the first full sync.
    """

    def age_one(path: bytes, directory: int | None = None) -> None:
        older = os.lstat(path, dir_fd=directory).st_mtime_ns - 1_000_123_456_789
        os.utime(path, ns=(older, older), dir_fd=directory, follow_symlinks=False)

    if not root.exists():
        # There are tests that begin without a source.
        return
    # by descriptors: some test has paths that are longer than a system call takes
    for _folder, directories, files, descriptor in os.fwalk(os.fsencode(root), topdown=False):
        for name in (*directories, *files):
            age_one(name, descriptor)
    age_one(os.fsencode(root))


def rsync_differences(source: Path, target: Path, options: Sequence[str] = ARCHIVE) -> list[str]:
    """Return what `rsync -r -n -i --checksum --delete` itemizes."""
    shape = ("-r", "-n", "-i", "--checksum", "--delete", "--", f"{source}/", f"{target}/")
    completed = subprocess.run(["rsync", *options, *shape], capture_output=True, check=False)
    assert completed.returncode == 0, completed.stderr
    return [repr(line) for line in completed.stdout.splitlines()]
