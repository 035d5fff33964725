# SPDX-License-Identifier: GPL-2.0-or-later
"""Knows how rsync names a file that it is still writing: `.NAME.XXXXXX` beside where it belongs.

As get_tmpname() of rsync's receiver does it, seen with 3.2.7 and 3.5.0.
"""

from __future__ import annotations

import re

from lsyncd_sd.mirror.pathrules import anchored, escaped

# Of a longer name this is the beginning: a whole one must fit into 255 bytes with a dot, the suffix, and
# one byte more.
LONGEST_KEPT = 246

_SIX = b"[A-Za-z0-9]" * 6
_SUFFIX = re.compile(rb"\.[A-Za-z0-9]{6}\Z")

ANY_NAME = (b".*." + _SIX, b"." + _SIX)
"""Patterns of all such names; the second is of what was cut until nothing was left."""


def stem(name: bytes) -> bytes:
    """Return how the names of the temporary files for the file `name` begin, up to the dot of the suffix."""
    # A name that begins with a dot gets no second one.
    name = name.removeprefix(b".")
    kept = name[:LONGEST_KEPT]
    if name[LONGEST_KEPT : LONGEST_KEPT + 1] > b"\x7f":
        # It might cut a character in two: then all that is not ASCII before it goes.
        kept = re.sub(rb"[\x80-\xff]+\Z", b"", kept)
    return (b"." + kept).removesuffix(b".")


def pattern_of(path: bytes) -> bytes:
    """Return the filter pattern of the temporary files for the file `path`, and of no other name."""
    directory, _slash, name = path.rpartition(b"/")
    return anchored(directory) + escaped(stem(name)) + b"." + _SIX


def stem_of(temporary: bytes) -> bytes | None:
    """Return the stem of a name that may be that of a temporary file, None if it cannot be."""
    suffix = _SUFFIX.search(temporary)
    return temporary[: suffix.start()] if suffix is not None and temporary.startswith(b".") else None


def names_of(of_stem: bytes) -> set[bytes]:
    """Return the names whose temporary files begin so, but for those of which only a part is kept."""
    name = of_stem[1:]
    candidates = {dot + name + end for dot in (b"", b".") for end in (b"", b".")}
    return {one for one in candidates if one not in (b"", b".", b"..") and stem(one) == of_stem}


def is_cut(name: bytes) -> bool:
    """Tell whether the temporary files for the file `name` have only the beginning of its name."""
    return len(name.removeprefix(b".")) > LONGEST_KEPT
