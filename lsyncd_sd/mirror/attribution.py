# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds out which listed paths rsync's error messages are about, so that only those are retried."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

from lsyncd_sd.plan.batch import is_below

# rsync writes bytes that are not printable as `\#ooo` (three octal digits).
_ESCAPED = re.compile(rb"\\#([0-3][0-7][0-7])")

# Greedy: a name may itself contain quotes.
_QUOTED = re.compile(rb'"(.*)"')

# Summaries of what other lines have said; they name nothing.
_SUMMARY = re.compile(rb"rsync (?:error|warning): |IO error encountered|\s*$")

# A file is written as `.NAME.XXXXXX` in its directory until it is complete (mkstemp).
_TEMPORARY = re.compile(rb"(?:^|(?<=/))\.([^/]+)\.[A-Za-z0-9]{6}$")


# What the sending side complains about it has not sent; below a directory, nothing at all.
_UNSENT = re.compile(rb"rsync: \[sender\] ")


@dataclass(frozen=True, slots=True)
class Attribution:
    """What the messages of a run name (relative paths).

    `unsent` are those of `paths` that could not be read, and so were not sent with all below them; the
    others failed on the target. `complete`: whether every message was understood.
    """

    paths: frozenset[bytes]
    unsent: frozenset[bytes]
    complete: bool


def attribute(
    errors: bytes, entries: Set[bytes], subtrees: Set[bytes], prefixes: tuple[bytes, ...]
) -> Attribution:
    """Return the paths in `entries`, or below `subtrees`, that `errors` (rsync's stderr) is about.

    `prefixes` are the absolute directories that stand for the root: messages of the sending side begin with
    the source, those of the receiving side with the target.
    """
    found: set[bytes] = set()
    unsent: set[bytes] = set()
    complete = True
    below = set(subtrees)
    for line in errors.splitlines():
        if _SUMMARY.match(line):
            continue
        path = _listed_path(line, entries, below, prefixes)
        if path is None:
            complete = False
        else:
            found.add(path)
            if _UNSENT.match(line):
                unsent.add(path)
    return Attribution(frozenset(found), frozenset(unsent), complete)


def _listed_path(
    line: bytes, entries: Set[bytes], subtrees: set[bytes], prefixes: tuple[bytes, ...]
) -> bytes | None:
    quoted = _QUOTED.search(line)
    if quoted is None:
        return None
    name = _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), quoted[1])
    for candidate in _candidates(name, prefixes):
        for path in (candidate, _TEMPORARY.sub(rb"\1", candidate)):
            if path in entries or path in subtrees or is_below(path, subtrees):
                return path
    return None


def _candidates(name: bytes, prefixes: tuple[bytes, ...]) -> Iterator[bytes]:
    for prefix in prefixes:
        if name.startswith(prefix + b"/"):
            yield name[len(prefix) + 1 :].removeprefix(b"./")
    if not name.startswith(b"/"):
        yield name.removeprefix(b"./")
