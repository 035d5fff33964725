# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a tree all the time and tells of every file that is not whole: python reader.py ROOT.

A whole file begins with the length and the digest of the rest of it, in one line. Files in directories named
steady that were there once must always be there. SIGTERM ends it; it prints how often it has read the tree.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys

# What rsync calls a file while it writes it; nobody else may use such a name here.
TEMPORARY = re.compile(rb"\..+\.[A-Za-z0-9]{6}")

STEADY = b"/steady/"


def whole(content: bytes) -> bytes:
    """Return a file that tells by itself whether it is whole."""
    return b"%d %s\n" % (len(content), hashlib.sha256(content).hexdigest().encode()) + content


def is_whole(data: bytes) -> bool:
    """Tell whether a file is one that `whole` has made."""
    head, _line_break, content = data.partition(b"\n")
    return data == whole(content) and bool(head)


class Reader:
    """Goes round in a tree until it is told to end."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._seen: set[bytes] = set()
        self._is_over = False
        self._rounds = 0

    def run(self) -> None:
        """Read on and on."""
        # others want to get on, too
        os.nice(10)
        signal.signal(signal.SIGTERM, self._end)
        while not self._is_over:
            self._round()
            self._rounds += 1
        print(self._rounds)

    def _end(self, *_arguments: object) -> None:
        self._is_over = True

    def _round(self) -> None:
        for folder, _directories, names in os.walk(self._root):
            for name in names:
                path = os.path.join(folder, name)
                if not TEMPORARY.fullmatch(name) and not os.path.islink(path):
                    self._read(path)
        for path in sorted(self._seen):
            self._read(path)

    def _read(self, path: bytes) -> None:
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            if path in self._seen:
                self._complain(f"{path!r} was there and is not any more: {error}")
            return
        if STEADY in path:
            self._seen.add(path)
        if not is_whole(data):
            self._complain(f"{path!r} is not whole: {len(data)} bytes, {data[:80]!r}")

    def _complain(self, text: str) -> None:
        print(text)
        self._is_over = True


if __name__ == "__main__":
    Reader(os.fsencode(sys.argv[1])).run()
