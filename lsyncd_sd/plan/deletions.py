# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run would delete on the target: how much, which, and what of it has only moved elsewhere.

Bounded in memory by 16 bytes for each deletion and 8 for each new name, whatever their lengths.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter

# So many of the topmost paths are known by name, for people to look at. A directory stands for all below it.
SHOWN_PATHS = 16

# While a directory's content is counted nobody knows yet that the directory goes too.
_PATHS_AT_ONCE = 1000

_PARTS = 256


class Fingerprints:
    """Many byte strings, each as a hash of 8 bytes, and as often as it was added.

    Two of a million different ones are taken for the same with a probability of 1 in 30 million.
    """

    def __init__(self) -> None:
        # By the first byte: so that comparing, which needs far more memory, can go part by part.
        self._parts = [array("Q") for _part in range(_PARTS)]

    def add(self, text: bytes) -> None:
        """Take in one more."""
        value = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
        self._parts[value % _PARTS].append(value)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def digest(self) -> str:
        """Return a hash of all of them, whatever the order they came in."""
        whole = hashlib.sha256()
        for part in self._parts:
            whole.update(array("Q", sorted(part)).tobytes())
        return whole.hexdigest()[:16]

    def without(self, others: Fingerprints) -> int:
        """Return how many are left when each of `others` has taken one of its kind away."""
        return sum(
            (Counter(part) - Counter(theirs)).total()
            for part, theirs in zip(self._parts, others._parts, strict=True)
        )


class Deletions:
    """Counts the deletions of one or several runs, as they are told; what is told twice counts twice."""

    def __init__(self) -> None:
        self._paths = Fingerprints()
        self._names = Fingerprints()
        self._made = Fingerprints()
        self._topmost: list[bytes] = []

    def deleted(self, path: bytes, *, is_directory: bool) -> None:
        """One entry would be deleted; a directory comes right after what it holds."""
        self._paths.add(path)
        self._names.add(_name(path))
        shown = path + b"/" if is_directory else path
        while is_directory and self._topmost and self._topmost[-1].startswith(shown):
            self._topmost.pop()
        if len(self._topmost) < _PATHS_AT_ONCE:
            self._topmost.append(shown)

    def made(self, path: bytes) -> None:
        """One entry would be made that the target does not have."""
        self._made.add(_name(path))

    def __len__(self) -> int:
        """All that would be deleted."""
        return len(self._paths)

    @property
    def lost(self) -> int:
        """How many names would be deleted and not be made in another place.

        A directory that was renamed is deleted at its old place and made at its new one: nothing of it is
        lost. Its names tell, for they are the same at both places.
        """
        return self._names.without(self._made)

    @property
    def topmost(self) -> tuple[bytes, ...]:
        """Some of the paths, sorted, directories with a slash, and none that lies below another one."""
        return tuple(sorted(self._topmost)[:SHOWN_PATHS])

    def digest(self) -> str:
        """Return what names exactly these deletions, in any order."""
        return self._paths.digest()


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]
