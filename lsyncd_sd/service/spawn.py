# SPDX-License-Identifier: GPL-2.0-or-later
"""Forks a child so that nothing of the parent leaks into it: signals, descriptors, exit handlers."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable

SignalMask = Iterable[int | signal.Signals]

# A signal between the fork and the child's own handlers would be queued for a loop that never runs.
_HELD_BACK = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


def spawn(give_back: Callable[[], None], run: Callable[[SignalMask], None]) -> int:
    """Fork; return the child's process id to the parent.

    The child leads a session of its own: whatever it starts can be found by it, and Ctrl-C is the parent's.
    It calls `give_back`, which closes what is the parent's, then `run` with the signal mask to set when it
    can take signals, and exits: 0 when `run` returned, 1 with a traceback when it raised. Raises OSError if
    there can be no more processes.
    """
    _flush_errors()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(give_back, run, mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _be_child(give_back: Callable[[], None], run: Callable[[SignalMask], None], mask: SignalMask) -> None:
    status = 1
    try:
        os.setsid()
        give_back()
        run(mask)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            _flush_errors()
        finally:
            os._exit(status)


def _flush_errors() -> None:
    # There is no sys.stderr in a program that was started without one.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
