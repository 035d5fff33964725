# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of one sync to one target as users see it, told by one journal entry for each change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lsyncd_sd.mirror.outcome import Outcome
from lsyncd_sd.service.journal import Event, Journal, Priority
from lsyncd_sd.service.status import State

_STATES = {
    Outcome.CONNECTION: State.UNREACHABLE,
    Outcome.TARGET_FULL: State.TARGET_FULL,
    Outcome.TARGET_MISSING: State.TARGET_MISSING,
    Outcome.BRAKE: State.HELD,
}

# What an admin may want to be woken by has a message id of its own; the others share one.
_EVENTS = {
    State.UNREACHABLE: Event.TARGET_UNREACHABLE,
    State.TARGET_FULL: Event.TARGET_FULL,
    State.TARGET_MISSING: Event.TARGET_MISSING,
    State.SOURCE_MISSING: Event.SOURCE_MISSING,
    State.FAILING: Event.TRANSFER_FAILED,
    State.DEGRADED: Event.TRANSFER_FAILED,
    State.HELD: Event.HELD,
}
_PRIORITIES = {
    State.UNREACHABLE: Priority.WARNING,
    State.TARGET_FULL: Priority.ERROR,
    State.TARGET_MISSING: Priority.WARNING,
    State.SOURCE_MISSING: Priority.WARNING,
    State.FAILING: Priority.WARNING,
    State.DEGRADED: Priority.ERROR,
    State.HELD: Priority.ERROR,
}


def state_of(outcome: Outcome) -> State:
    """Return the state of a sync whose last errand failed so."""
    return _STATES.get(outcome, State.FAILING)


class Standing:
    """In `state` since `since` (Unix seconds) because of `reason`; `on_change` is called after a change."""

    def __init__(self, journal: Journal, on_change: Callable[[], None]) -> None:
        self._journal = journal
        self._on_change = on_change
        self._blind_spots: dict[str, str] = {}
        self.state = State.STARTING
        self.since = time.time()
        self.reason = ""

    def set_blind_spot(self, kind: str, reason: str) -> None:
        """Say why the target may lag although all that was seen is on it; an empty reason: it does not.

        Until then the sync is `degraded` where it would be in one of the good states.
        """
        if reason:
            self._blind_spots[kind] = reason
        else:
            self._blind_spots.pop(kind, None)

    def enter(
        self,
        state: State,
        reason: str = "",
        exit_status: int | None = None,
        paths: Sequence[bytes] = (),
    ) -> None:
        """Enter a state: one journal entry for each change of state or reason, none for staying.

        The round of a healthy sync (pending, syncing, in-sync) is told by the one line of its batch.
        """
        if state.is_good and self._blind_spots:
            state, reason = State.DEGRADED, "; ".join(self._blind_spots.values())
        if self.state is State.STOPPING or (state is self.state and reason == self.reason):
            return
        before, self.state, self.reason = self.state, state, reason
        if state is not before:
            self.since = time.time()
        self._tell(before, exit_status, paths)
        self._on_change()

    def _tell(self, before: State, exit_status: int | None, paths: Sequence[bytes]) -> None:
        is_routine = before.is_good and self.state.is_good
        priority = Priority.DEBUG if is_routine else _PRIORITIES.get(self.state, Priority.NOTICE)
        journal = self._journal if exit_status is None else self._journal.bind(exit_status=exit_status)
        journal.send(
            priority,
            f"{self.state}: {self.reason}" if self.reason else str(self.state),
            _EVENTS.get(self.state, Event.STATE_CHANGED),
            state=self.state.value,
            paths=paths,
        )
