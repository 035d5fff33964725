# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends a full sync or a batch before its end, without being a fault of the program."""

from __future__ import annotations

from lsyncd_sd.mirror.outcome import Verdict
from lsyncd_sd.plan.guard import Hold


class SourceLostError(Exception):
    """The source's root is missing, or another directory than the one that is watched."""


class HeldError(Exception):
    """It is not safe to go on."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(hold.reason)
        self.hold = hold


class HostBusyError(Exception):
    """As many full syncs to this host as are allowed run already."""


class TroubleError(Exception):
    """The target cannot be used now; ends the steps before anything was sent."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class UnsettledError(Exception):
    """Some directory of the source is not watched yet: what is sent now would not be sent again."""


INTERRUPTIONS = (SourceLostError, HeldError, HostBusyError, TroubleError, UnsettledError)
