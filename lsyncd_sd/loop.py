# SPDX-License-Identifier: GPL-2.0-or-later
"""One event loop over selectors: descriptors, timers and signals, for the parent and for each child."""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import time
from collections.abc import Callable
from types import FrameType

Callback = Callable[[], None]


class Timer:
    """One callback at one time of the monotonic clock; `cancel` may be called at any time, also twice."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Make sure that the callback is not called any more."""
        self.callback = None


class Loop:
    """Waits for descriptors, timers and signals, and calls what was registered for them; owns its selector.

    Signal handlers only queue (they may run anywhere); `on_signal` callbacks run from the loop.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signal_callbacks: dict[int, Callback] = {}
        self._pending_signals: list[int] = []
        self._stopped = False
        # The C-level handler writes a byte here, so that a signal just before select() still ends it.
        self._wakeup_read, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wakeup_read, selectors.EVENT_READ, self._drain_wakeups)

    def now(self) -> float:
        """Return the monotonic clock, in seconds: the clock of every time in this loop."""
        return time.monotonic()

    def watch_reads(self, descriptor: int, callback: Callback) -> None:
        """Call `callback` in each pass in which `descriptor` can be read."""
        self._register(descriptor, selectors.EVENT_READ, callback)

    def watch_writes(self, descriptor: int, callback: Callback) -> None:
        """Call `callback` in each pass in which `descriptor` can be written."""
        self._register(descriptor, selectors.EVENT_WRITE, callback)

    def _register(self, descriptor: int, events: int, callback: Callback) -> None:
        if descriptor in self._selector.get_map():
            self._selector.modify(descriptor, events, callback)
        else:
            self._selector.register(descriptor, events, callback)

    def forget(self, descriptor: int) -> None:
        """Stop watching `descriptor`; must be called before it is closed. Unknown ones are ignored."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def call_at(self, when: float, callback: Callback) -> Timer:
        """Call `callback` once, at `when` (monotonic seconds) or soon after."""
        timer = Timer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call `callback` once, `seconds` from now."""
        return self.call_at(self.now() + seconds, callback)

    def on_signals(self, callbacks: dict[signal.Signals, Callback]) -> None:
        """Install a queueing handler for each signal; its callback runs in a later pass of the loop."""
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        for number, callback in callbacks.items():
            self._signal_callbacks[number] = callback
            signal.signal(number, self._queue_signal)

    def _queue_signal(self, number: int, _frame: FrameType | None) -> None:
        self._pending_signals.append(number)

    def _drain_wakeups(self) -> None:
        try:
            while os.read(self._wakeup_read, 512):
                pass
        except BlockingIOError:
            pass

    def stop(self) -> None:
        """Make `run` return at the end of the pass."""
        self._stopped = True

    def run(self, after_pass: Callback | None = None) -> None:
        """Run passes until `stop` was called; `after_pass` is called at the end of each."""
        while not self._stopped:
            self.run_once()
            if after_pass is not None:
                after_pass()

    def run_once(self, timeout: float | None = None) -> None:
        """Wait until something is due, at most `timeout` seconds, and call all that is due."""
        for key, _events in self._selector.select(self._wait_time(timeout)):
            # An earlier callback of this pass may have forgotten this descriptor, or registered another
            # under its number: what counts is what is registered now.
            current = self._selector.get_map().get(key.fd)
            if current is not None and current.data is key.data:
                key.data()
        while self._pending_signals:
            self._signal_callbacks[self._pending_signals.pop(0)]()
        self._call_due_timers()

    def _wait_time(self, timeout: float | None) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if self._pending_signals:
            return 0.0
        if not self._timers:
            return timeout
        until_timer = max(0.0, self._timers[0][0] - self.now())
        return until_timer if timeout is None else min(timeout, until_timer)

    def _call_due_timers(self) -> None:
        # Timers set by these callbacks wait for the next pass: a timer that re-arms itself with no
        # delay must not keep the loop from reading its descriptors.
        now = self.now()
        due: list[Timer] = []
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        for timer in due:
            if timer.callback is not None:
                callback, timer.callback = timer.callback, None
                callback()

    def close(self) -> None:
        """Give back the selector and put the signals this loop handled back to their defaults.

        A child calls it on the loop it inherited: it must neither read the parent's descriptors through
        the shared epoll instance nor queue signals for a loop that never runs again.
        """
        signal.set_wakeup_fd(-1)
        for number in self._signal_callbacks:
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        os.close(self._wakeup_read)
        os.close(self._wakeup_write)
