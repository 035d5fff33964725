# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the unit tests: a loop for whatever waits for something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lsyncd_sd.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop, closed at the end of the test."""
    loop = Loop()
    yield loop
    loop.close()
