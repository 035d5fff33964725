# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/status.py: the model, and its JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from lsyncd_sd.errors import ExitStatus
from lsyncd_sd.service.status import (
    State,
    SyncStatus,
    document,
    exit_status,
    from_document,
)

HOME = SyncStatus(
    name="home",
    source="/home",
    target="backup:/srv/home",
    state=State.IN_SYNC,
    since=86400.0,
    reason="",
    pending=0,
    batches=12,
    failures=0,
    files=345,
    bytes=678900,
    last_batch=90000.0,
    full_sync_percent=None,
    directories=1000,
    pid=4711,
    restarts=1,
    hold_id="",
)


def sync(name: str, state: State, **changes: Any) -> SyncStatus:
    return replace(HOME, name=name, state=state, **changes)


@pytest.mark.parametrize(
    "status",
    [
        HOME,
        SyncStatus("n", "s", "t", State.STARTING, 0.0),
        sync("x", State.HELD, hold_id="f00", reason="empty\nsource", full_sync_percent=3, pid=None),
    ],
)
def test_status_comes_back_from_json_as_it_was(status: SyncStatus) -> None:
    assert from_document(json.loads(json.dumps(document([status])))) == [status]


def test_document_has_its_version_and_plain_states() -> None:
    found = document([HOME])
    assert found["version"] == 1
    assert found["syncs"][0]["state"] == "in-sync"
    assert type(found["syncs"][0]["state"]) is str


def test_keys_of_a_later_release_are_ignored() -> None:
    assert SyncStatus.from_json({**HOME.to_json(), "lanes": [1, 2]}) == HOME


@pytest.mark.parametrize("key", list(HOME.to_json()))
def test_a_missing_key_is_named(key: str) -> None:
    value = HOME.to_json()
    del value[key]
    with pytest.raises(ValueError, match=f"'{key}'"):
        SyncStatus.from_json(value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 7),
        ("name", None),
        ("state", "asleep"),
        ("state", None),
        ("state", []),
        ("since", "now"),
        ("since", None),
        ("since", True),
        ("since", math.nan),
        ("since", math.inf),
        ("since", 1e30),
        ("since", 10**400),
        ("pending", 1.0),
        ("pending", True),
        ("pending", -1),
        ("pending", None),
        ("bytes", "5"),
        ("last_batch", "yesterday"),
        ("full_sync_percent", 41.5),
        ("pid", False),
        ("hold_id", None),
    ],
)
def test_a_wrong_type_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{key}'"):
        SyncStatus.from_json({**HOME.to_json(), key: value})


@pytest.mark.parametrize(
    "value",
    [None, [], "x", {}, {"version": 2, "syncs": []}, {"version": 1}, {"version": 1, "syncs": {}},
     {"version": 1, "syncs": [7]}],
)  # fmt: skip
def test_other_documents_are_refused(value: object) -> None:
    with pytest.raises(ValueError):
        from_document(value)


@pytest.mark.parametrize("state", list(State))
def test_exit_status_is_good_only_while_the_target_follows(state: State) -> None:
    expected = ExitStatus.OK if state.value in ("in-sync", "pending", "syncing") else ExitStatus.NOT_GOOD
    assert exit_status([sync("a", state)]) is expected
    assert exit_status([HOME, sync("a", state), HOME]) is expected


def test_exit_status_of_nothing_is_good() -> None:
    assert exit_status([]) is ExitStatus.OK
