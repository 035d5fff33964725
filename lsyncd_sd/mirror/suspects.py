# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells temporary files of our own on the target from what somebody else keeps there under such a name."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field

from lsyncd_sd.mirror.temporary import is_cut, names_of, stem, stem_of
from lsyncd_sd.plan.batch import IsHidden, Kind, is_below
from lsyncd_sd.plan.change import Depth

LookUp = Callable[[bytes], Kind]
NamesIn = Callable[[bytes], Iterable[bytes]]


@dataclass(slots=True)
class Search:
    """Where runs were at work that did not come to their end.

    `listed`: names that were to be sent, each as its directory and the stem of its temporary files. In
    `contents`, and in and below `subtrees`, any file may have been sent.
    """

    listed: set[tuple[bytes, bytes]] = field(default_factory=set)
    contents: set[bytes] = field(default_factory=set)
    subtrees: set[bytes] = field(default_factory=set)

    def add(self, path: bytes, part: Depth) -> None:
        """Add a path where a run wrote: under its name, in it, or anywhere below."""
        match part:
            case Depth.ENTRY:
                directory, _slash, name = path.rpartition(b"/")
                self.listed.add((directory, stem(name)))
            case Depth.CONTENT:
                self.contents.add(path)
            case Depth.SUBTREE:
                self.subtrees.add(path)
            case _:
                raise ValueError(f"nothing is written at depth {part!r}")

    def tops(self) -> set[bytes]:
        """Return the directories to be searched with all below."""
        return {path for path in self.subtrees if not is_below(path, self.subtrees)}

    def levels(self) -> set[bytes]:
        """Return the directories to be searched besides, each by itself."""
        levels = {directory for directory, _stem in self.listed} | self.contents
        return {path for path in levels if not self._is_in_subtree(path)}

    def covers(self, directory: bytes) -> bool:
        """Tell whether any file of this directory may have been sent."""
        return directory in self.contents or self._is_in_subtree(directory)

    def _is_in_subtree(self, directory: bytes) -> bool:
        return directory in self.subtrees or is_below(directory, self.subtrees)


class Suspects:
    """Judges what was found, by what the source holds now, or held a moment ago (`gone`).

    `names_in` returns the names in one of its directories.
    """

    def __init__(
        self,
        search: Search,
        is_hidden: IsHidden,
        gone: Container[bytes],
        look_up: LookUp,
        names_in: NamesIn,
    ) -> None:
        self._search = search
        self._is_hidden = is_hidden
        self._gone = gone
        self._look_up = look_up
        self._names_in = names_in
        self._cut: dict[bytes, list[bytes]] = {}

    def is_ours(self, path: bytes) -> bool:
        """Tell whether what only the target holds at `path` is the temporary file of something we sent."""
        directory, _slash, name = path.rpartition(b"/")
        begin = stem_of(name)
        if begin is None or self._look_up(path) is not Kind.MISSING:
            # The source's own, which is hidden: so is that of the target.
            return False
        if (directory, begin) in self._search.listed:
            return True
        if not self._search.covers(directory):
            return False
        return any(self._may_have_been_sent(one) for one in self._paths(directory, begin))

    def _paths(self, directory: bytes, begin: bytes) -> Iterator[bytes]:
        """Yield the paths whose temporary files begin so: first those that need no look at the directory."""
        above = directory + b"/" if directory else b""
        yield from (above + name for name in names_of(begin))
        if directory not in self._cut:
            self._cut[directory] = [name for name in self._names_in(directory) if is_cut(name)]
        yield from (above + name for name in self._cut[directory] if stem(name) == begin)

    def _may_have_been_sent(self, path: bytes) -> bool:
        if self._is_hidden(path, False):
            return False
        return self._look_up(path) is Kind.OTHER or path in self._gone
