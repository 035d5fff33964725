# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/status.py: the model, and its JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from helpers.statuses import HOME

from lsyncd_sd.errors import ExitStatus
from lsyncd_sd.service.status import (
    State,
    SyncStatus,
    TargetStatus,
    document,
    exit_status,
    from_document,
    of_targets,
)

TARGETS = (
    TargetStatus("/a", State.SYNCING, 5.0, "", 2, 10, 0, 100, 1000, 90.0),
    TargetStatus("b:/b", State.HELD, 7.0, "the source\nis empty", 3, 1, 2, 10, 100, 80.0, 41, "token"),
    TargetStatus("c:/c", State.HELD, 6.0, "too many deletions", 0, 0, 1, 0, 0, None, 12, ""),
)
MANY = of_targets(TARGETS, name="many", source="/many", directories=3, pid=7)


def sync(name: str, state: State, **changes: Any) -> SyncStatus:
    return replace(HOME, name=name, state=state, **changes)


@pytest.mark.parametrize(
    "status",
    [
        HOME,
        MANY,
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


# several targets


def test_a_sync_is_what_its_targets_are_together() -> None:
    assert (
        SyncStatus(
            name="many",
            source="/many",
            target="3 targets",
            state=State.HELD,
            since=6.0,
            reason="b:/b: held: the source is empty\nc:/c: held: too many deletions",
            pending=5,
            batches=11,
            failures=2,
            files=110,
            bytes=1100,
            last_batch=90.0,
            full_sync_percent=12,
            directories=3,
            pid=7,
            hold_id="token",
            targets=TARGETS,
        )
        == MANY
    )


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        (["in-sync", "pending"], "pending"),
        (["in-sync", "full-sync"], "full-sync"),
        (["unreachable", "degraded", "in-sync"], "unreachable"),
        (["target-full", "target-missing"], "target-missing"),
        (["held", "failing"], "held"),
        (["failed", "held", "in-sync"], "failed"),
        (["stopping", "failed"], "stopping"),
    ],
)
def test_a_sync_shows_the_worst_of_its_targets(states: list[str], worst: str) -> None:
    targets = [TargetStatus(f"/{state}", State(state), 1.0) for state in states]
    assert of_targets(targets, name="n", source="/s").state == worst


def test_what_is_the_matter_with_all_targets_is_said_once() -> None:
    targets = [TargetStatus(name, State.SOURCE_MISSING, 1.0, "/s is gone") for name in ("/a", "/b")]
    assert of_targets(targets, name="n", source="/s").reason == "/s is gone"


def test_where_more_than_one_is_held_none_is_meant() -> None:
    targets = [TargetStatus(name, State.HELD, 1.0, hold_id="same") for name in ("/a", "/b")]
    assert of_targets(targets, name="n", source="/s").hold_id == ""


def test_a_sync_with_one_target_shows_no_list() -> None:
    one = of_targets(TARGETS[1:2], name="n", source="/s")
    assert (one.target, one.reason, one.hold_id) == ("b:/b", "the source\nis empty", "token")
    assert "targets" not in one.to_json()
    assert one.each_target() == (one,)


def test_targets_are_objects_of_the_same_fields() -> None:
    value = MANY.to_json()
    assert all(target.keys() < value.keys() for target in value["targets"])
    assert type(value["targets"][0]["state"]) is str


@pytest.mark.parametrize("key", list(MANY.to_json()["targets"][0]))
def test_a_missing_key_of_a_target_is_named(key: str) -> None:
    value = MANY.to_json()
    del value["targets"][1][key]
    with pytest.raises(ValueError, match=f"'{key}'"):
        SyncStatus.from_json(value)


@pytest.mark.parametrize("targets", [None, {}, [7], "x", [{**MANY.to_json()["targets"][0], "since": "now"}]])
def test_other_targets_are_refused(targets: object) -> None:
    with pytest.raises(ValueError, match="'targets'"):
        SyncStatus.from_json({**MANY.to_json(), "targets": targets})


def test_what_the_parent_knows_by_itself_is_true_of_all_targets() -> None:
    shown = MANY.shown_as(State.STUCK, 100.0, "it hangs")
    assert (shown.state, shown.since, shown.reason, shown.hold_id) == (State.STUCK, 100.0, "it hangs", "")
    assert {(one.state, one.since, one.reason, one.hold_id) for one in shown.targets} == {
        (State.STUCK, 100.0, "it hangs", "")
    }
    assert [one.target for one in shown.targets] == ["/a", "b:/b", "c:/c"]
    assert shown.targets[0].pending == 2


def test_a_sync_has_failed_when_all_its_targets_have() -> None:
    failed, good = TargetStatus("/a", State.FAILED, 1.0), TargetStatus("/b", State.IN_SYNC, 1.0)
    assert not of_targets([failed, good], name="n", source="/s").has_failed
    assert of_targets([failed, failed], name="n", source="/s").has_failed
    assert of_targets([failed], name="n", source="/s").has_failed
    assert not of_targets([good], name="n", source="/s").has_failed
