# SPDX-License-Identifier: GPL-2.0-or-later
"""Remembers which directories could not be watched, under the names they have now."""

from __future__ import annotations

import errno

LIMIT = 1000
"""Directories are remembered one by one up to here; beyond, they are counted and only a comparison of the
whole tree helps. Each event of a directory looks through all of them."""


class Unwatched:
    """`errors` maps each directory (relative path) that could not be watched to its error number.

    `uncounted` is how often there was no room for one more.
    """

    def __init__(self) -> None:
        self.errors: dict[bytes, int] = {}
        self.uncounted = 0

    def clear(self) -> None:
        """Forget everything."""
        self.errors.clear()
        self.uncounted = 0

    def note(self, path: bytes, error: OSError) -> None:
        """This directory could not be watched, or not be listed."""
        if path in self.errors or len(self.errors) < LIMIT:
            self.errors[path] = error.errno or errno.EIO
        else:
            self.uncounted += 1

    def below(self, path: bytes) -> list[bytes]:
        """Return what is remembered at and below `path`; all of it for the root."""
        start = path + b"/"
        return [known for known in self.errors if not path or known == path or known.startswith(start)]

    def forget(self, path: bytes) -> None:
        """What is at and below `path` is gone, or is about to be looked at anew."""
        for known in self.below(path):
            del self.errors[known]

    def rename(self, old: bytes, new: bytes) -> None:
        """`old` became `new`, with all below it."""
        for known in self.below(old):
            self.errors[new + known[len(old) :]] = self.errors.pop(known)
