# SPDX-License-Identifier: GPL-2.0-or-later
"""Mirrors to a local target: with rsync, but for large files whose blocks the file system can share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from lsyncd_sd.config.model import RsyncOptions, Sync
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.cloning import SIGN_OF_LIFE, NotClonedError, clone
from lsyncd_sd.mirror.command import Statistics
from lsyncd_sd.mirror.localtarget import LocalTarget
from lsyncd_sd.mirror.opensource import OpenSource
from lsyncd_sd.mirror.process import OnExit, Process, start_telling
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.rsync import RsyncMirror
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.batch import Kind, Mark, Marks
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Identity

# A smaller file rsync has written in the time that it takes to start a process (decision 0013).
SMALLEST_CLONED = 4 * 1024 * 1024

# What a clone always takes over, and what makes no difference to it. With any other key, rsync would do
# something else to the file.
_TAKEN_OVER = ("perms", "times", "group", "owner")
_OF_NO_MATTER = frozenset(
    {
        *_TAKEN_OVER,
        "archive", "links", "devices", "specials", "acls", "xattrs", "hard_links", "checksum", "compress",
        "executability", "ipv4", "ipv6", "one_file_system", "omit_dir_times", "omit_link_times",
        "sparse", "whole_file", "numeric_ids", "delete_excluded", "protect_args", "quiet", "verbose",
    }
)  # fmt: skip

# What the process answers for a file that is left to rsync.
_NOT_CLONED = b"-"

_ATTRIBUTES = Mark(Depth.ENTRY, exact=False)


@dataclass(slots=True)
class _Cloned:
    """The paths that were renewed, with their bytes; `leftovers`: where a temporary file may be left."""

    sizes: dict[bytes, int] = field(default_factory=dict)
    leftovers: dict[bytes, Mark] = field(default_factory=dict)
    seconds: float = 0.0

    def add_to(self, report: Report) -> None:
        """Tell of it in the report of what rsync did after it."""
        report.done = report.done.plus(Statistics(files=len(self.sizes), bytes=sum(self.sizes.values())))
        report.seconds += self.seconds
        if report.is_whole:
            report.fail(self.leftovers)
        else:
            report.again.update(self.leftovers)


class DirectMirror(RsyncMirror):
    """As its base, but for large files that were written to.

    `target` says which directory may be used; what uses it does so in a process of its own.
    """

    def __init__(
        self,
        loop: Loop,
        sync: Sync,
        filters: Filter,
        open_source: Callable[[], OpenSource],
        on_percent: Callable[[int], None],
    ) -> None:
        super().__init__(loop, sync, filters, open_source, on_percent)
        self.target = LocalTarget(sync.target.path)
        self._may_clone = may_clone(sync.rsync)

    def use_target(self, identity: Identity | None) -> None:
        """A local target was found in order: it is used as long as it is this directory."""
        self.target.checked = identity

    def batch(self, marks: Marks) -> Steps[Report]:
        """Make the target right for `marks`."""
        cloned = yield from self._clone(marks)
        # What has changed meanwhile, rsync sends.
        looked_at = dict.fromkeys(cloned.sizes, _ATTRIBUTES)
        report = yield from super().batch({**marks, **looked_at})
        cloned.add_to(report)
        return report

    def large(self, marks: Marks) -> Steps[Report]:
        """Send the files of `marks` while other runs go on."""
        cloned = yield from self._clone(marks)
        report = yield from super().large(
            {path: mark for path, mark in marks.items() if path not in cloned.sizes}
        )
        # Other runs may have been at work in the same directories.
        parents = {path.rpartition(b"/")[0] for path in cloned.sizes}
        report.again.update(dict.fromkeys({*cloned.sizes, *parents}, _ATTRIBUTES))
        cloned.add_to(report)
        return report

    def _clone(self, marks: Marks) -> Steps[_Cloned]:
        paths = self._clonable(marks) if self._may_clone else []
        if not paths:
            return _Cloned()
        told = bytearray()
        result = yield partial(self._start_cloning, paths, told)
        # The last line may have been broken off.
        answers = bytes(told).split(b"\n")[:-1]
        cloned = _Cloned(seconds=result.seconds)
        for path, answer in zip(paths, answers, strict=False):
            if not answer.endswith(_NOT_CLONED):
                cloned.sizes[path] = int(answer.lstrip(SIGN_OF_LIFE))
        if result.code < 0:
            cloned.leftovers = self._aftermath.left_behind(set(paths))
        return cloned

    def _clonable(self, marks: Marks) -> list[bytes]:
        """Return the files that may be worth it."""
        with self._open_source() as source:
            exact = [path for path, mark in marks.items() if mark.exact and mark.depth == Depth.ENTRY]
            return [
                path
                for path in sorted(source.larger_than(SMALLEST_CLONED, exact))
                if source.kind(path) is Kind.OTHER
                and not self._filters.hides(path, False)
                and path not in self.commands.unreadable
            ]

    def _start_cloning(self, paths: Sequence[bytes], told: bytearray, on_exit: OnExit) -> Process:
        def hear(output: bytes) -> None:
            told.extend(output)
            if self._sync.timeout:
                process.limit(self._sync.timeout)

        with self._open_source() as source:
            work = partial(_clone_all, source.descriptor, self.target, paths, self._sync.rsync)
            process = start_telling(self._loop, work, on_exit)
        process.show_output(hear)
        hear(b"")
        return process


def may_clone(options: RsyncOptions) -> bool:
    """Tell whether rsync, with these options, would make of a file exactly what a clone is."""
    given = {key for key, value in options.keys if value}
    return given.issuperset(_TAKEN_OVER) and given <= _OF_NO_MATTER and not options.extra


def _clone_all(
    source: int, target: LocalTarget, paths: Sequence[bytes], options: RsyncOptions
) -> Iterator[bytes]:
    """Clone what can be, and answer for each path with a line: its size, or that it was not done."""
    root = target.open()
    acls, xattrs = options.is_on("acls"), options.is_on("xattrs")
    for path in paths:
        try:
            size = yield from clone(source, root, path, acls=acls, xattrs=xattrs)
        except (NotClonedError, OSError):
            yield _NOT_CLONED + b"\n"
        else:
            yield b"%d\n" % size
