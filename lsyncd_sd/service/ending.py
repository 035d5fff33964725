# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides when a parent ends by itself: never, once a first sync has failed, or once all has been mirrored.

Lsyncd ends if it cannot begin, unless it is told to insist. Here that is so only while nothing at all has
begun: to end would also end what is being mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lsyncd_sd.errors import ExitStatus
from lsyncd_sd.service.control_interface import ControlError, Deferred
from lsyncd_sd.service.status import State, SyncStatus

# What keeps a sync from its beginning, for longer than a moment.
_TROUBLE = frozenset(
    (
        State.UNREACHABLE,
        State.TARGET_FULL,
        State.TARGET_MISSING,
        State.SOURCE_MISSING,
        State.FAILING,
        State.FAILED,
        State.STUCK,
    )
)


class _Pass(Deferred):
    """Told when everything of one sync is on the target, or never will be."""

    def __init__(self) -> None:
        super().__init__()
        self.has_failed = False

    def fail(self, error: ControlError) -> None:
        self.has_failed = True
        super().fail(error)


class Ending:
    """When a parent ends by itself, and how.

    `is_onepass`: when everything is mirrored that was there at the start; `insists`: what fails at the start
    is tried again.
    """

    def __init__(self, *, is_onepass: bool = False, insists: bool = True) -> None:
        self.is_onepass = is_onepass
        self._insists = insists
        self._begun: set[str] = set()
        self._passes: dict[str, _Pass] = {}

    def begin(
        self, names: Iterable[str], ask: Callable[[str, Deferred], None], on_news: Callable[[], None]
    ) -> None:
        """It starts: with one pass, `ask` each sync for an answer when everything of it is mirrored.

        `on_news` is called when `verdict` may be another one.
        """
        if self.is_onepass:
            for name in names:
                self._passes[name] = one = _Pass()
                one.listen(on_news)
                ask(name, one)

    def verdict(self, statuses: Sequence[SyncStatus]) -> ExitStatus | None:
        """Return how to end now, None if not yet."""
        if self.is_onepass:
            return self._verdict_on_passes(statuses)
        if self._insists or self._begun:
            return None
        self._begun = {status.name for status in statuses if _has_begun(status)}
        has_failed = all(_is_in_trouble(status) for status in statuses)
        return ExitStatus.NOT_GOOD if has_failed and not self._begun else None

    def why(self, statuses: Sequence[SyncStatus]) -> str:
        """Return what to say when it ends with anything but OK."""
        what = "not everything was mirrored" if self.is_onepass else "nothing could be mirrored"
        hint = "" if self._insists else "; -insist would go on trying"
        reasons = [
            f"{status.name}: {status.reason_line()}" for status in statuses if not status.state.is_good
        ]
        return "\n".join([f"ending, for {what}{hint}", *reasons])

    def _verdict_on_passes(self, statuses: Sequence[SyncStatus]) -> ExitStatus | None:
        in_trouble = {status.name for status in statuses if self._is_kept_from_passing(status)}
        is_good = True
        for name, one in self._passes.items():
            if not one.is_over and name not in in_trouble:
                return None
            is_good = is_good and one.is_over and not one.has_failed
        return ExitStatus.OK if is_good else ExitStatus.NOT_GOOD

    def _is_kept_from_passing(self, status: SyncStatus) -> bool:
        # Nobody is asked to accept anything, and what failed in part is not mirrored.
        held_up = _TROUBLE | {State.HELD}
        return not self._insists and status.state in held_up


def _has_begun(status: SyncStatus) -> bool:
    return status.state.is_good or status.state is State.DEGRADED or status.batches > 0


def _is_in_trouble(status: SyncStatus) -> bool:
    # What failed in part is a beginning, and `failures` counts what failed as a whole.
    is_in_part = status.state is State.FAILING and status.failures == 0
    return status.state in _TROUBLE and not is_in_part
