# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of what the units promise in figures."""

from __future__ import annotations

from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "units"

# What the manual page promises, and what the parent keeps open for each (tests/live/test_supervision.py).
MOST_SYNCS = 2000
DESCRIPTORS_PER_SYNC = 3

# For its own files and sockets, and for those who ask it something.
DESCRIPTORS_BESIDES = 200


@pytest.mark.parametrize("unit", ["lsyncd-sd.service", "lsyncd@.service", "user/lsyncd@.service"])
def test_there_are_descriptors_for_as_many_syncs_as_promised(unit: str) -> None:
    lines = (UNITS / unit).read_text(encoding="utf-8").splitlines()
    (limit,) = (line.removeprefix("LimitNOFILE=") for line in lines if line.startswith("LimitNOFILE="))
    soft, _hard = limit.split(":")
    assert int(soft) >= MOST_SYNCS * DESCRIPTORS_PER_SYNC + DESCRIPTORS_BESIDES
