# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of each target of a sync as users see it, told by one journal entry for each change."""

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
        is_routine = self.state.is_good and state.is_good
        if self.take(state, reason):
            journal = self._journal if exit_status is None else self._journal.bind(exit_status=exit_status)
            _tell(journal, state, reason, paths, is_routine=is_routine)
            self._on_change()

    def take(self, state: State, reason: str) -> bool:
        """Be in this state, without a word; return False if that changes nothing."""
        if self.state is State.STOPPING or (state is self.state and reason == self.reason):
            return False
        if state is not self.state:
            self.since = time.time()
        self.state, self.reason = state, reason
        return True


class Standings:
    """The standings of all targets of one sync, for what concerns them all: it is told once."""

    def __init__(
        self, journal: Journal, standings: Sequence[Standing], on_change: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._standings = standings
        self._on_change = on_change

    def set_blind_spot(self, kind: str, reason: str) -> None:
        """Say why no target may be relied on, as Standing has it."""
        for standing in self._standings:
            standing.set_blind_spot(kind, reason)

    def enter(self, state: State, reason: str = "") -> None:
        """Enter a state that is none of the good ones, with every target."""
        changed = [standing for standing in self._standings if standing.take(state, reason)]
        if changed:
            _tell(self._journal, state, reason)
            self._on_change()


def _tell(
    journal: Journal, state: State, reason: str, paths: Sequence[bytes] = (), *, is_routine: bool = False
) -> None:
    journal.send(
        Priority.DEBUG if is_routine else _PRIORITIES.get(state, Priority.NOTICE),
        f"{state}: {reason}" if reason else str(state),
        _EVENTS.get(state, Event.STATE_CHANGED),
        state=state.value,
        paths=paths,
    )
