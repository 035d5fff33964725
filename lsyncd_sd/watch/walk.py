# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks through the source step by step, once for all rescans that begin together."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable

from lsyncd_sd.opening import open_directory
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.watch.ground import directory_number
from lsyncd_sd.watch.rescan import Rescan, Seen, View, fingerprint

IsExcluded = Callable[[bytes, bool], bool]


class _Place:
    """A directory that is being looked at, by those who have `views` of it.

    `names` and `below` are what is still to be looked at in it. `since`: what has an older ctime is new to
    nobody.
    """

    __slots__ = ("below", "device", "inode", "names", "seen", "since", "views")

    def __init__(self, seen: Seen, device: int, inode: int, views: list[View]) -> None:
        self.seen = seen
        self.device, self.inode = device, inode
        self.names: list[bytes] | None = None
        self.below: list[bytes] = []
        self.look_with(views)

    def look_with(self, views: list[View]) -> None:
        """Let these look at it from now on."""
        self.views = views
        hides_swaps = any(view.hides_swaps for view in views)
        self.since = 0 if hides_swaps else min((view.rescan.known.since for view in views), default=0)

    def apart(self, view: View) -> _Place:
        """Return what one of them still has to look at, for itself."""
        place = _Place(self.seen, self.device, self.inode, [view])
        place.names = None if self.names is None else list(self.names)
        place.below = list(self.below)
        return place


class Walk:
    """One walk through the source for several rescans; `step` goes on with it until `done`."""

    def __init__(
        self,
        root: bytes,
        rescans: Iterable[Rescan],
        is_excluded: IsExcluded,
        *,
        one_file_system: bool = False,
    ) -> None:
        self._root = root
        self._rescans = list(rescans)
        self._is_excluded = is_excluded
        self._one_file_system = one_file_system
        self._stack: list[_Place] = []
        # The device of the root, None before it begins.
        self._device: int | None = None
        self.done = False

    def step(self, entries: int) -> None:
        """Look at about `entries` more names.

        Nothing stays open in between. Raises OSError if the root cannot be opened or is another directory.
        """
        if self._device is None:
            self._begin()
        while entries > 0 and not self.done:
            if self._stack:
                entries -= self._go_on(self._stack[-1], entries)
            else:
                self.done = not any(rescan.finish() for rescan in self._rescans)
                entries -= 1

    def leave_behind(self, rescan: Rescan) -> Walk:
        """Go on without one of the rescans; return the rest of the walk for that one."""
        rest = Walk(self._root, [rescan], self._is_excluded, one_file_system=self._one_file_system)
        rest._device = self._device
        self._rescans.remove(rescan)
        for place in self._stack:
            rest._stack += [place.apart(view) for view in place.views if view.rescan is rescan]
            place.look_with([view for view in place.views if view.rescan is not rescan])
        # Whoever looks at a directory looks at those above it, too.
        self._stack = [place for place in self._stack if place.views]
        return rest

    def _begin(self) -> None:
        descriptor = self._open(b"")
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        self._device = status.st_dev
        seen = Seen(b"", status.st_ino, status.st_ctime_ns)
        self._look_into(seen, status, (rescan.begin(seen) for rescan in self._rescans))

    def _look_into(self, seen: Seen, status: os.stat_result, found: Iterable[View | None]) -> None:
        views = [view for view in found if view is not None]
        if views:
            self._stack.append(_Place(seen, status.st_dev, status.st_ino, views))

    def _go_on(self, place: _Place, entries: int) -> int:
        """Look at some names of a directory, or enter one below it; return how many names that were."""
        if place.names is None or place.names:
            return self._look_at_names(place, entries)
        if place.below:
            self._enter(place, place.below.pop())
        else:
            self._stack.pop()
        return 1

    def _look_at_names(self, place: _Place, entries: int) -> int:
        try:
            descriptor = self._open_again(place)
        except OSError:
            if not place.seen.path:
                raise
            # It went, or is locked: the watcher tells of the first, and nothing is known in either case.
            self._stack.pop()
            _report(place, place.seen.path, Depth.SUBTREE)
            return 1
        try:
            if place.names is None:
                place.names = [os.fsencode(name) for name in os.listdir(descriptor)]
            names = place.names[-entries:]
            del place.names[-entries:]
            for name in names:
                self._look_at_name(place, descriptor, name)
        finally:
            os.close(descriptor)
        return len(names) + 1

    def _look_at_name(self, place: _Place, descriptor: int, name: bytes) -> None:
        above = place.seen.path
        path = above + b"/" + name if above else name
        try:
            status = os.lstat(name, dir_fd=descriptor)
        except OSError:
            _report(place, path, Depth.ENTRY)
            return
        ctime = status.st_ctime_ns
        if not stat.S_ISDIR(status.st_mode):
            if ctime < place.since:
                return
            concerned = [view for view in place.views if view.is_new(ctime) or view.hides_swaps]
            if concerned and not self._is_excluded(path, False):
                for view in concerned:
                    view.rescan.report(path, Depth.ENTRY, exact=view.is_new(ctime))
        elif self._is_excluded(path, True):
            pass
        elif self._one_file_system and status.st_dev != self._device:
            for view in place.views:
                if view.is_new(ctime):
                    view.rescan.report(path, Depth.ENTRY, exact=False)
        else:
            place.below.append(name)

    def _enter(self, above: _Place, name: bytes) -> None:
        assert self._device is not None, "it has begun"
        path = above.seen.path + b"/" + name if above.seen.path else name
        try:
            descriptor = self._open(path)
            try:
                status = os.fstat(descriptor)
                number = directory_number(status, self._device, descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            _report(above, path, Depth.SUBTREE)
            return
        seen = Seen(path, number, status.st_ctime_ns)
        place_print = fingerprint(number, above.seen.number, name)
        self._look_into(seen, status, (view.rescan.enter(seen, place_print, view) for view in above.views))

    # ------------------------------------------------------------------ opening

    def _open(self, path: bytes) -> int:
        # The root itself may be given as a symlink.
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not path:
            return root
        try:
            return open_directory(root, path)
        finally:
            os.close(root)

    def _open_again(self, place: _Place) -> int:
        descriptor = self._open(place.seen.path)
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) == (place.device, place.inode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.ESTALE, "another directory stands in its place", place.seen.path)


def _report(place: _Place, path: bytes, depth: Depth) -> None:
    """Nothing is known of this, to none of those who look at a directory."""
    for view in place.views:
        view.rescan.report(path, depth, exact=True)
