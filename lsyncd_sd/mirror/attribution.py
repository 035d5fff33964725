# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds out which listed paths rsync's error messages are about, so that only those are retried."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

from lsyncd_sd.plan.batch import is_below

# rsync writes bytes that are not printable as `\#ooo` (three octal digits).
_ESCAPED = re.compile(rb"\\#([0-3][0-7][0-7])")

# Greedy: a name may itself contain quotes.
_QUOTED = re.compile(rb'"(.*)"')

# The messages of the receiving side about what it could not delete have no quotes.
_UNQUOTED = re.compile(
    rb"could not make way for (?:new|backup) [a-z ]+: (.*)|.*\bdelete_file: \w+\((.*)\) failed: "
)

# Between the two names of a rename that failed; the second has no quotes, or two on each side.
_ARROW = b'" -> "'

# Summaries of what other lines have said; they name nothing.
_SUMMARY = re.compile(rb"rsync (?:error|warning): |IO error encountered|\s*$")

# A file is written as `.NAME.XXXXXX` in its directory until it is complete (mkstemp); a NAME that begins
# with a dot gets no second one. Only the receiving side has such files.
_TEMPORARY = re.compile(rb"(?:^|(?<=/))\.([^/]+)\.[A-Za-z0-9]{6}\Z")


# What the sending side complains about it has not sent; below a directory, nothing at all.
_UNSENT = re.compile(rb"rsync: \[sender\] |symlink has no referent: |filename overflows ")

# Said of an entry while its directory is read: with the directory left out, it is not said.
_TOO_LONG = re.compile(rb"filename overflows max-path len by \d+: (.*)/")


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
        paths = {
            path
            for path in _meanings(line, prefixes)
            if path in entries or path in below or is_below(path, below)
        }
        complete = complete and bool(paths)
        found |= paths
        if _UNSENT.match(line):
            unsent |= paths
    return Attribution(frozenset(found), frozenset(unsent), complete)


def unescaped(text: bytes) -> bytes:
    """Return the bytes of a name from how rsync writes it, in messages and in lists."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), text)


def _meanings(line: bytes, prefixes: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield every path that a message may be about: one too many is tried again for nothing, and no harm."""
    quoted = _TOO_LONG.match(line) or _UNQUOTED.match(line) or _QUOTED.search(line)
    if quoted is None:
        return
    names = quoted[quoted.lastindex or 0]
    for text in {names, *(part.strip(b'"') for part in names.split(_ARROW))}:
        for path in _relative(unescaped(text), prefixes):
            yield path
            if not _UNSENT.match(line):
                yield _TEMPORARY.sub(rb"\1", path)
                yield _TEMPORARY.sub(rb".\1", path)


def _relative(name: bytes, prefixes: tuple[bytes, ...]) -> Iterator[bytes]:
    if not name:
        return
    # The root itself is `PREFIX/.` in messages.
    path = posixpath.normpath(name)
    for prefix in prefixes:
        if path == prefix or path.startswith(prefix + b"/"):
            yield path[len(prefix) + 1 :]
    if not path.startswith(b"/"):
        yield b"" if path == b"." else path
