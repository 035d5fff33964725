# SPDX-License-Identifier: GPL-2.0-or-later
"""Does random things to a tree: python churn.py SEED OPERATIONS SECONDS ROOT OUTSIDE.

What is done follows from the seed alone, never from what is found: the same seed does the same again.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Few names, so that different things often happen to one of them.
NAMES = ("a", "b", "c", "d", "two words", "-x", "#;]", "new\nline", "\udcff", ".hidden")
DEPTH = 4

# Operations come in bursts of up to so many.
BURST = 12


def put(path: Path, content: bytes, flags: int) -> None:
    """Write to a file; raises OSError where a FIFO stands, which would wait for a reader."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags, 0o644)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


class Churn:
    """One process's share of the operations, on paths below `root` and, now and then, `outside`."""

    def __init__(self, seed: str, root: Path, outside: Path) -> None:
        self._random = random.Random(seed)  # noqa: S311  (to be replayed)
        self._root = root
        self._outside = outside
        self._operations: list[tuple[Callable[[], None], int]] = [
            (self._write, 30),
            (self._append, 10),
            (self._rewrite_with_same_size_and_time, 5),
            (self._make_directories, 15),
            (self._rename, 20),
            (self._remove, 10),
            (self._remove_tree, 5),
            (self._chmod, 8),
            (self._touch, 5),
            (self._symlink, 8),
            (self._fifo, 2),
            (self._save_as_editors_do, 8),
            (self._move_out, 4),
            (self._move_in, 6),
        ]

    def run(self, operations: int, seconds: float) -> None:
        """Do so many operations, spread over about so many seconds."""
        done = 0
        start = time.monotonic()
        while done < operations:
            for _number in range(self._random.randint(1, BURST)):
                self._do_one()
                done += 1
            time.sleep(max(0.0, start + seconds * done / operations - time.monotonic()))

    def _do_one(self) -> None:
        functions, weights = zip(*self._operations, strict=True)
        (operation,) = self._random.choices(functions, weights)
        # All that is drawn is drawn before the file system can object.
        with contextlib.suppress(OSError, shutil.Error):
            operation()

    def _path(self) -> Path:
        depth = self._random.randint(1, DEPTH)
        return self._root.joinpath(*(self._random.choice(NAMES) for _level in range(depth)))

    def _content(self) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 100, 100, 20_000)))

    def _write(self) -> None:
        put(self._path(), self._content(), os.O_CREAT | os.O_TRUNC)

    def _append(self) -> None:
        put(self._path(), self._content(), os.O_APPEND)

    def _rewrite_with_same_size_and_time(self) -> None:
        path, seed = self._path(), self._random.random()
        if path.is_file() and not path.is_symlink():
            before = path.stat()
            put(path, random.Random(seed).randbytes(before.st_size), 0)  # noqa: S311
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _make_directories(self) -> None:
        self._path().mkdir(parents=True, exist_ok=True)

    def _rename(self) -> None:
        one, other = self._path(), self._path()
        one.rename(other)

    def _remove(self) -> None:
        self._path().unlink()

    def _remove_tree(self) -> None:
        path = self._path()
        if not path.is_symlink():
            shutil.rmtree(path)

    def _chmod(self) -> None:
        path, mode = self._path(), self._random.choice((0o600, 0o644, 0o700, 0o755, 0o1777))
        if not path.is_symlink():
            path.chmod(mode)

    def _touch(self) -> None:
        path, when = self._path(), self._random.randrange(10**18, 15 * 10**17)
        os.utime(path, ns=(when, when), follow_symlinks=False)

    def _symlink(self) -> None:
        path, text = self._path(), self._random.choice((*NAMES, "..", str(self._outside), "a/b"))
        path.symlink_to(text)

    def _fifo(self) -> None:
        # Under a name of its own: shutil.rmtree would open one in a directory's place, and wait.
        os.mkfifo(self._path().with_name("fifo"))

    def _save_as_editors_do(self) -> None:
        path, content = self._path(), self._content()
        aside = path.with_name(".saving")
        put(aside, content, os.O_CREAT | os.O_TRUNC)
        aside.rename(path)

    def _move_out(self) -> None:
        path, name = self._path(), str(self._random.randrange(10))
        path.rename(self._outside / name)

    def _move_in(self) -> None:
        path, name = self._path(), str(self._random.randrange(10))
        (self._outside / name).rename(path)


if __name__ == "__main__":
    seed, operations, seconds, root, outside = sys.argv[1:]
    Churn(seed, Path(root), Path(outside)).run(int(operations), float(seconds))
