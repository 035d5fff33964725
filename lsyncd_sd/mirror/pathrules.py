# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes filter rules for single paths, and deals many of them out to command lines that hold them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from lsyncd_sd.plan.patterns import MAX_PATTERN_BYTES

# Rules go on the command line, which the kernel limits to 2 MiB; a sync's own may take a quarter of that.
RULES_PER_RUN = 400
_RULE_BYTES_PER_RUN = 1024 * 1024


def pattern(path: bytes) -> str:
    """Return the pattern of exactly this path."""
    # Without a wildcard rsync compares the pattern as it stands, backslashes too.
    has_wildcards = re.search(rb"[*?\[]", path) is not None
    return os.fsdecode(escaped(path) if has_wildcards else path)


def whole_pattern(path: bytes) -> str:
    """Return the pattern of exactly this path from the root on, as long as rsync takes it."""
    whole = "/" + pattern(path)
    while len(os.fsencode(whole)) > MAX_PATTERN_BYTES:
        # Without a slash in front it matches at the end of paths, of which only this one can be so long.
        path = path.partition(b"/")[2]
        whole = pattern(path)
    return whole


def anchored(directory: bytes) -> bytes:
    """Return how a pattern with wildcards for names in this directory begins."""
    return b"/" + escaped(directory) + b"/" if directory else b"/"


def escaped(name: bytes) -> bytes:
    """Return a name as part of a pattern with wildcards."""
    return re.sub(rb"([*?\[\\])", rb"\\\1", name)


def chunks(paths: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the paths in parts whose rules fit into one command line."""
    chunk: list[bytes] = []
    size = 0
    for path in sorted(paths):
        size += _rule_bytes(path)
        if chunk and (len(chunk) == RULES_PER_RUN or size > _RULE_BYTES_PER_RUN):
            yield chunk
            chunk, size = [], _rule_bytes(path)
        chunk.append(path)
    if chunk:
        yield chunk


def _rule_bytes(path: bytes) -> int:
    """Return about how many bytes the rules for a path take, at most.

    Escapes double a path; there are two rules for it and one for its directory, each with its option.
    """
    return 3 * (2 * len(path) + 64)
