# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the model tests: a folder for those that work on a real file system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

MEMORY = Path("/dev/shm")  # noqa: S108  (memory is several times faster than a disk; the name is random)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for all examples, in memory where that is possible."""
    if not MEMORY.is_dir():
        yield tmp_path_factory.mktemp("model")
        return
    with TemporaryDirectory(dir=MEMORY, prefix="lsyncd-sd-model-") as name:
        yield Path(name)
