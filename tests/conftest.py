# SPDX-License-Identifier: GPL-2.0-or-later
"""Options and profiles of all tests: `--full` runs the figures of the issues, without it the quick ones."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A machine under load is no failure: examples have no deadline of their own, pytest's time limit holds.
COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", COMMON, max_examples=50)
settings.register_profile("full", COMMON, max_examples=2000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the figures of the issues, not the quick profile")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if config.getoption("--full") else "quick")
    # Daemons that tests start show where they hung or crashed, as this process does by pytest's own plugin.
    os.environ["PYTHONFAULTHANDLER"] = "1"


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether this is the full profile."""
    return bool(pytestconfig.getoption("--full"))
