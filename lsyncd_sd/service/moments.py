# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells what time it is, and whether the clock went straight from an earlier moment to now."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import NamedTuple

from lsyncd_sd.watch.ground import kind_at

# A clock that went back by less is forgiven: a leap second, and reading two clocks one after the other.
# The slack of a rescan must be larger.
SETBACK_NS = 1_500_000_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# Emptied at each boot where it is a tmpfs: no inode of it can be older than the boot.
_RUN = b"/run"


class Moment(NamedTuple):
    """A point of time: `realtime` in ns since 1970, `offset` by which it is ahead of the time since boot.

    The offset stays the same as long as nobody sets the clock. `boot` is the kernel's id of this boot.
    """

    realtime: int
    offset: int
    boot: str

    @property
    def uptime(self) -> int:
        """The time since boot in ns, with what the machine was asleep."""
        return self.realtime - self.offset

    @classmethod
    def now(cls) -> Moment:
        """Return the present moment."""
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        realtime = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return cls(realtime, realtime - (before + after) // 2, _boot_id())


@functools.cache
def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()


def flaw_between(then: Moment, lowest_offset: int, now: Moment) -> str:
    """Return why a file changed after `then` may have an earlier time, "" if it cannot.

    `lowest_offset` is the lowest that was seen since `then`.
    """
    if then.realtime > now.realtime:
        return f"the state is from the future: {_shown(then)}, and now it is {_shown(now)}"
    if then.boot != now.boot:
        if _first_time_of_this_boot() < then.realtime - SETBACK_NS:
            return f"the clock of this machine was behind {_shown(then)} when it was started"
        return ""
    setback = then.offset - min(lowest_offset, now.offset)
    if setback > SETBACK_NS:
        return f"the clock was set back by {setback / 1e9:.1f} s since {_shown(then)}"
    return ""


def _first_time_of_this_boot() -> int:
    """Return the earliest time (ns) that the clock is known to have shown in this boot; too late if unknown.

    A machine without a battery for its clock starts with an old time, until the network tells the right one.
    """
    earliest = time.time_ns()
    try:
        if kind_at(_RUN) == "tmpfs":
            with os.scandir(_RUN) as entries:
                for entry in entries:
                    earliest = min(earliest, entry.stat(follow_symlinks=False).st_ctime_ns)
    except OSError:
        pass
    return earliest


def _shown(moment: Moment) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment.realtime / 1e9))
