# SPDX-License-Identifier: GPL-2.0-or-later
"""Hands text to a process bit by bit, as it can take it, while the loop goes on."""

from __future__ import annotations

import os

from lsyncd_sd.loop import Loop


class Feed:
    """A pipe: `descriptor` is the end for the process to read from, until `close_reader`."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.descriptor, self._writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writer, False)
        self._text = memoryview(b"")

    def close_reader(self) -> None:
        """The process has its own by now."""
        os.close(self.descriptor)

    def write(self, text: bytes) -> None:
        """Have this written, behind what is not written yet."""
        if self._writer < 0:
            return
        self._text = memoryview(bytes(self._text) + text)
        self._loop.watch_writes(self._writer, self._go_on)

    def _go_on(self) -> None:
        try:
            written = os.write(self._writer, self._text)
        except BlockingIOError:
            return
        except BrokenPipeError:
            # It has ended, and how is told elsewhere.
            self.close()
            return
        self._text = self._text[written:]
        if not self._text:
            self._loop.forget(self._writer)

    def close(self) -> None:
        """Write no more; may be called twice."""
        if self._writer >= 0:
            self._loop.forget(self._writer)
            os.close(self._writer)
            self._writer = -1
