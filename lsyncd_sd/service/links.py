# SPDX-License-Identifier: GPL-2.0-or-later
"""Brings the other names of hard-linked files along: what changes through one name changes under all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.process import OnExit, Process, start_function
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.service.interruptions import TroubleError
from lsyncd_sd.watch import links
from lsyncd_sd.watch.links import Inode, Linked, LinkIndex
from lsyncd_sd.watch.source import Source


class LinkedNames:
    """The hard links of one source. `open_source` opens its root, checked; what it raises is passed on."""

    def __init__(self, loop: Loop, open_source: Callable[[], Source], filters: Filter) -> None:
        self._loop = loop
        self._open_source = open_source
        self._filters = filters
        self._index = LinkIndex()

    def forget(self) -> None:
        """Changes were lost: names may have come that nobody told of."""
        self._index.forget()

    def bring_along(self, marks: Marks) -> Steps[dict[bytes, Mark]]:
        """Return `marks` and, for each file among or below them that has other names, those too.

        All names of a file get the same mark, so that they travel in the same run.
        """
        found = yield from self._found_in(marks)
        if not found:
            return dict(marks)
        self._forget_gone({linked.inode for linked in found})
        if self._index.lacks(found):
            since = self._index.times_forgotten
            self._index.fill((yield from self._walk([b""])), since)
        self._index.add(found)
        return self._with_others(marks, found)

    def _found_in(self, marks: Marks) -> Steps[list[Linked]]:
        """Return the files with several names that these marks are about."""
        subtrees = [path for path, mark in marks.items() if mark.depth & Depth.SUBTREE]
        with self._open_source() as source:
            found = list(links.at(source.descriptor, marks))
        if subtrees:
            found += yield from self._walk(subtrees)
        return found

    def _walk(self, directories: list[bytes]) -> Steps[list[Linked]]:
        """Look through whole directories, in a process of its own: they may be large."""
        memory = os.memfd_create("lsyncd-sd-links", os.MFD_CLOEXEC)
        try:

            def start(on_exit: OnExit) -> Process:
                with self._open_source() as source:
                    walk = self._walker(source.descriptor, directories, memory)
                    return start_function(self._loop, walk, on_exit)

            result = yield start
            if result.code != 0:
                outcome = Outcome.CUT_SHORT if result.was_cut_short else Outcome.FAIL
                raise TroubleError(Verdict(outcome, "cannot look for other names of hard links", 0))
            os.lseek(memory, 0, os.SEEK_SET)
            with os.fdopen(os.dup(memory), "rb") as reader:
                return list(Linked.decode_all(reader.read()))
        finally:
            os.close(memory)

    def _walker(self, root: int, directories: list[bytes], memory: int) -> Callable[[], bytes]:
        def walk() -> bytes:
            with os.fdopen(os.dup(memory), "wb") as writer:
                for linked in links.below(root, directories, self._filters.excludes):
                    writer.write(linked.encode())
            return b""

        return walk

    def _forget_gone(self, inodes: Iterable[Inode]) -> None:
        """Take out the names that these files have no more."""
        with self._open_source() as source:
            for inode in inodes:
                for path in list(self._index.others(inode)):
                    if not source.is_file(path, inode):
                        self._index.remove(inode, path)

    def _with_others(self, marks: Marks, found: Iterable[Linked]) -> dict[bytes, Mark]:
        together = dict(marks)
        with self._open_source() as source:
            for inode, mark in _mark_of_each(marks, found).items():
                for path in self._names(source, inode):
                    together[path] = together[path].merged(mark) if path in together else mark
        return together

    def _names(self, source: Source, inode: Inode) -> Iterator[bytes]:
        """Yield the names of a file that are mirrored."""
        for path in sorted(self._index.others(inode)):
            # The walk may be old by now.
            if source.is_file(path, inode) and not self._filters.hides(path, False):
                yield path


def _mark_of_each(marks: Marks, found: Iterable[Linked]) -> dict[Inode, Mark]:
    """Return what all names of a file need: what any of them does."""
    needed: dict[Inode, Mark] = {}
    for linked in found:
        # Found below a subtree: as exact as that.
        is_exact = linked.path not in marks or marks[linked.path].exact
        mark = Mark(Depth.ENTRY, is_exact)
        needed[linked.inode] = needed[linked.inode].merged(mark) if linked.inode in needed else mark
    return needed
