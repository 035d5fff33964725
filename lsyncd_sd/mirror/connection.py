# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mirror asks of a connection that is kept open to its target."""

from __future__ import annotations

from typing import Protocol

from lsyncd_sd.mirror.outcome import Verdict
from lsyncd_sd.mirror.steps import Steps


class Connection(Protocol):
    """A connection to one target; `words` is an ssh that goes over it, for a host behind them."""

    words: list[str]

    @property
    def last_words(self) -> str:
        """Why it has ended; empty while there is one."""

    def ready(self) -> Steps[Verdict]:
        """Have it, and nothing at work on the target that was asked for before; or learn why not."""

    def close(self) -> None:
        """Need it no more."""
