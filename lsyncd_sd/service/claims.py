# SPDX-License-Identifier: GPL-2.0-or-later
"""The locks that one sync needs, one for each target: which it has, and why it cannot have others."""

from __future__ import annotations

from collections.abc import Iterable

from lsyncd_sd.config.model import Target
from lsyncd_sd.errors import ExitStatus, LsyncdError
from lsyncd_sd.service.locks import LockBusyError, Locks

# How long a sync with several targets waits for one that is about to be given up by somebody else, before it
# begins without. Longer than any process of ours may take to stop (lifecycle.STOP_SECONDS, KILL_SECONDS).
PATIENCE_SECONDS = 60.0


class Claims:
    """The locks of one sync in this process. Times are monotonic seconds.

    `refused` says of each target that is done without, why. `failure`: what the parent exits with if none
    can be had.
    """

    def __init__(self, targets: Iterable[Target]) -> None:
        self._targets = tuple(targets)
        self._held: dict[Target, int] = {}
        self._waits_since: float | None = None
        self.refused: dict[Target, str] = {}
        self.failure = ExitStatus.USAGE

    @property
    def descriptors(self) -> list[int]:
        """What holds the locks."""
        return list(self._held.values())

    @property
    def are_hopeless(self) -> bool:
        """Whether none of the targets can be had."""
        return len(self.refused) == len(self._targets)

    def take(self, locks: Locks, owner: str, now: float) -> bool:
        """Take all that can be had; return False if one of them is worth waiting for."""
        self.refused = {}
        self.failure = ExitStatus.USAGE
        is_patient = self._waits_since is None or now - self._waits_since < PATIENCE_SECONDS
        must_wait = False
        for target in self._targets:
            if target in self._held:
                continue
            try:
                self._held[target] = locks.take_target(target, owner)
            except LockBusyError:
                if len(self._targets) == 1 or is_patient:
                    must_wait = True
                else:
                    self._refuse(target, "its lock is held by a process that does not end")
            except LsyncdError as error:
                self._refuse(target, f"{error.message}; {error.hint}", error.exit_status)
            except OSError as error:
                self._refuse(target, f"cannot use the lock of its target: {error}")
        if must_wait and self._waits_since is None:
            self._waits_since = now
        return not must_wait

    def _refuse(self, target: Target, reason: str, failure: ExitStatus = ExitStatus.NOT_GOOD) -> None:
        self.refused[target] = reason
        # What a person has to sort out is that only if there is nothing else.
        if failure is not ExitStatus.USAGE:
            self.failure = failure

    def release(self) -> None:
        """Give all locks back, also where a process that was just forked still has the descriptors."""
        for descriptor in self._held.values():
            Locks.release(descriptor)
        self._held = {}
