# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/guard.py: what holds a sync, what does not, and that an agreement is good for one situation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lsyncd_sd.plan.guard import Identity, Memory, check_first_run, check_source, check_target

SOURCE, OTHER, TARGET = Identity(1, 2), Identity(1, 3), Identity(7, 8)
OTHER_FILE_SYSTEM = Identity(9, 2)
KNOWN = Memory(source=SOURCE, source_had_entries=True, target=TARGET)


@pytest.mark.parametrize(
    ("memory", "identity", "is_empty", "deletes", "reason"),
    [
        (KNOWN, SOURCE, False, True, None),
        (KNOWN, SOURCE, True, True, "is empty"),
        (KNOWN, OTHER, True, True, "is empty"),
        (KNOWN, OTHER, False, True, "another directory"),
        (KNOWN, OTHER_FILE_SYSTEM, False, True, "another directory"),
        (replace(KNOWN, source_had_entries=False), SOURCE, True, True, None),
        (replace(KNOWN, source_had_entries=False), OTHER, True, True, "another directory"),
        # what deletes nothing can do no harm
        (KNOWN, SOURCE, True, False, None),
        (KNOWN, OTHER, False, False, None),
        # nothing is known yet: the first run is looked at in another way
        (Memory(), SOURCE, True, True, None),
        (Memory(source_had_entries=True), SOURCE, True, True, None),
    ],
)
def test_source(
    memory: Memory, identity: Identity, is_empty: bool, deletes: bool, reason: str | None
) -> None:
    hold = check_source(memory, identity, is_empty, deletes)
    assert (hold is None) == (reason is None)
    assert hold is None or (reason is not None and reason in hold.reason and hold.hint)


def test_first_run_of_an_empty_source() -> None:
    assert check_first_run(SOURCE, 0) is None
    hold = check_first_run(SOURCE, 17)
    assert hold is not None and "17 entries" in hold.reason


@pytest.mark.parametrize(
    ("memory", "identity", "is_held"),
    [
        (KNOWN, TARGET, False),
        (KNOWN, Identity(7, 9), True),
        (KNOWN, Identity(6, 8), True),
        (KNOWN, None, False),
        (Memory(source=SOURCE), TARGET, False),
    ],
)
def test_target(memory: Memory, identity: Identity | None, is_held: bool) -> None:
    assert (check_target(memory, identity) is not None) == is_held


def test_an_agreement_is_for_this_situation_and_no_other() -> None:
    emptied = check_source(KNOWN, SOURCE, True, True)
    replaced = check_source(KNOWN, OTHER, False, True)
    replaced_again = check_source(KNOWN, OTHER_FILE_SYSTEM, False, True)
    first, first_with_more = check_first_run(SOURCE, 1), check_first_run(SOURCE, 2)
    target, other_target = check_target(KNOWN, OTHER), check_target(KNOWN, SOURCE)
    holds = [emptied, replaced, replaced_again, first, first_with_more, target, other_target]
    tokens = {hold.token for hold in holds if hold is not None}
    assert len(tokens) == len(holds)


def test_the_same_situation_has_the_same_token_in_another_process() -> None:
    hold = check_first_run(Identity(1, 2), 3)
    assert hold is not None
    # a literal: a token that depends on the process (hash()) would never be accepted after a restart
    assert hold.token == "7e445a3785999ef5"  # noqa: S105  (no secret)
