# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells when everything that happened so far has been read: a file is made that the same queue reports.

Events come in the order in which they happened, those of the source and those of the folder in which the
files are made; so once the file was heard of, so was everything before it.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from lsyncd_sd.watch.watcher import Watcher


class Cookies:
    """Makes such files in `directory`, and says which of them were heard of."""

    def __init__(self, watcher: Watcher, directory: Path) -> None:
        self._watcher = watcher
        self._directory = directory
        self._numbers = itertools.count(1)

    def send(self) -> bytes:
        """Make a file and return its name. Raises OSError if that cannot be done, or not be heard of."""
        # Whatever has become of the folder: where it stands already and is watched, this changes nothing.
        self._directory.mkdir(mode=0o700, exist_ok=True)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            self._watcher.watch_cookies(directory)
            # The queue may still hold some that a process before this one has sent.
            name = f"{os.getpid()}-{next(self._numbers)}".encode()
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=directory))
            os.unlink(name, dir_fd=directory)
        finally:
            os.close(directory)
        return name

    def received(self) -> set[bytes]:
        """Return the names that were heard of since the last call."""
        names = set(self._watcher.cookies)
        self._watcher.cookies.clear()
        return names
