# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps every directory of one source watched, although the tree is ahead of what was read from the queue.

Two rules carry the rest. *Watch first, then list*: what is created in between is seen at least once; watch,
inode and listing are of one open directory. *The names lag*: the path of a place is computed from what was
read so far, so nothing may stand there, or another directory. Every place that was watched, vacated or
filled since the queue was last read empty is therefore *provisional*, and is checked again when it is empty.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lsyncd_sd import opening
from lsyncd_sd.plan.change import Move
from lsyncd_sd.watch import inotify
from lsyncd_sd.watch.ground import directory_number
from lsyncd_sd.watch.tree import Node, Place, Tree
from lsyncd_sd.watch.twins import Twins
from lsyncd_sd.watch.unwatched import Unwatched

# A directory that vanished between being heard of and being watched; its events tell the rest.
_GONE_ERRORS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

# Places that are looked at before the queue is read again. A guess: some tens of milliseconds.
PLACES_PER_CHECK = 1000

IsExcluded = Callable[[bytes, bool], bool]


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a source is watched.

    `is_excluded` takes a relative path and whether it is a directory. `is_alike` takes two: whether a
    directory that is renamed so holds the same names that are left out. `modify`: writing is a change, not
    only closing. `one_file_system`: what lies on another file system than the root is none of ours.
    """

    is_excluded: IsExcluded
    is_alike: Callable[[bytes, bytes], bool] = lambda _old, _new: True
    modify: bool = True
    one_file_system: bool = False


class Coverage:
    """The watches on one queue. `on_found` is told the path of each place where a directory was found late.

    `tree` is what is watched, `twins` where it is seen a second time, `unwatched` what cannot be watched.
    `root_lost`: the root's path leads elsewhere now.
    """

    def __init__(self, queue: int, root: bytes, scope: Scope, on_found: Callable[[bytes], None]) -> None:
        self._queue = queue
        self._root_path = root
        self._scope = scope
        self._is_excluded = scope.is_excluded
        self._mask = inotify.DIRECTORY_MASK | (inotify.IN_MODIFY if scope.modify else 0)
        self._root_mask = inotify.ROOT_MASK | self._mask & inotify.IN_MODIFY
        self._on_found = on_found
        self.tree = Tree()
        self.twins = Twins(self.tree)
        self.unwatched = Unwatched()
        self.is_walking = False
        self.root_lost = False
        self._root_identity = 0, 0
        # In order: the last one is the next.
        self._to_visit: dict[Place, None] = {}
        self._provisional: set[Place] = set()
        # Watches of directories that left the table; they are removed once the queue is read empty,
        # unless the directory turned up at another place (adding its watch gives the number again).
        self._departed: set[int] = set()

    @property
    def has_to_visit(self) -> bool:
        """Whether directories wait for their watch."""
        return bool(self._to_visit)

    @property
    def has_doubts(self) -> bool:
        """Whether places are to be checked when the queue is empty."""
        return bool(self._provisional)

    # ------------------------------------------------------------------ the walk

    def restart(self) -> None:
        """Forget the table and begin to walk the source. Raises OSError if the root cannot be watched."""
        if self.tree.root is not None:
            self._drop(self.tree.root)
        self._to_visit.clear()
        self._provisional.clear()
        self.twins.clear()
        self.unwatched.clear()
        self.root_lost = False
        root = os.open(self._root_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            status = os.fstat(root)
            self._root_identity = status.st_dev, status.st_ino
            wd = inotify.add_watch(self._queue, root, self._root_mask)
            self._departed.discard(wd)
            self.is_walking = True
            self._list(self.tree.set_root(wd, status.st_ino), b"", root)
        finally:
            os.close(root)

    def walk(self, directories: int) -> bool:
        """Visit up to so many of the directories not watched yet; return True when none is left."""
        if self._to_visit:
            try:
                with self._opened() as root:
                    while self._to_visit and directories > 0:
                        self._visit(root, self._to_visit.popitem()[0])
                        directories -= 1
            except OSError:
                self.root_lost = True
        if not self._to_visit or self.root_lost:
            self._to_visit.clear()
            self.is_walking = False
        return not self._to_visit

    # ------------------------------------------------------------------ what events tell

    def adopt(self, place: Place) -> None:
        """Have the directory at `place` watched; what is found there may be ahead of its events."""
        self._provisional.add(place)
        self._to_visit[place] = None

    def doubt(self, *places: Place) -> None:
        """Check what stands at these places when the queue is empty (D3)."""
        self._provisional.update(places)

    def vacate(self, place: Place) -> None:
        """What stood at `place` is gone from there.

        It is not visited either: what stands there by now comes later in the queue, and until then its
        directories would be known under a name that is no directory, or is none of theirs (D7).
        """
        self._to_visit.pop(place, None)
        known = self.tree.child(*place)
        if known is not None:
            self._drop(known)
            self._provisional.add(place)

    def _drop(self, node: Node) -> None:
        """Take a directory and all below it out of the table."""
        self._departed.update(self.tree.detach(node))
        if self.twins:
            self._provisional.update(self.twins.forget_gone())

    def watch_ended(self, node: Node) -> None:
        """The kernel has removed a watch, not of the root: the directory or its file system is gone."""
        assert node.parent is not None
        place = Place(node.parent, node.name)
        self._drop(node)
        self._departed.discard(node.wd)
        self._provisional.add(place)

    def forget_watch(self, wd: int) -> None:
        """The kernel has removed a watch that the table does not hold."""
        self._departed.discard(wd)

    def move(self, old: Place, new: Place, move: Move) -> bool:
        """A directory moved; tell whether it and all below it keep their watches, under other names.

        `new` must be vacated. If not, the directory at `new` is to be adopted.
        """
        self._to_visit.pop(old, None)
        self._provisional.update((old, new))
        self.unwatched.forget(move.new)
        tree = self.tree
        known = tree.child(*old)
        if known is not None and tree.holds(new.parent) and not tree.is_at_or_above(known, new.parent):
            tree.move(known, *new)
            self.unwatched.rename(move.old, move.new)
            return True
        self.unwatched.forget(move.old)
        if known is not None:
            # It cannot lie below itself: the names lag, and which directory this is shows later (D7).
            self._drop(known)
        return False

    def retry_unwatched(self, path: bytes) -> None:
        """The attributes of a directory changed: it, or what is below it, may be readable now."""
        for unwatched in self.unwatched.below(path):
            place = self._place_at(unwatched)
            if place is not None:
                self._on_found(unwatched)
                self.adopt(place)

    def _place_at(self, path: bytes) -> Place | None:
        """Return the place of a path, None if the directory it is in is not watched."""
        parent_path, _slash, name = path.rpartition(b"/")
        node = self.tree.root
        for part in parent_path.split(b"/") if parent_path else ():
            if node is None:
                return None
            node = self.tree.child(node, part)
        return Place(node, name) if node is not None and name else None

    # ------------------------------------------------------------------ watching

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """Hold the root open, for nothing may stay open: it would keep the file system from being unmounted.

        Raises OSError, also where another directory stands at the root's path now.
        """
        root = os.open(self._root_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            status = os.fstat(root)
            if (status.st_dev, status.st_ino) != self._root_identity:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._root_path)
            yield root
        finally:
            os.close(root)

    def _visit(self, root: int, place: Place) -> None:
        """Watch the directory at `place`, enter it into the table, and queue what it contains."""
        if not self.tree.holds(place.parent):
            return
        path = self.tree.path_of(place)
        try:
            directory = opening.open_directory(root, path)
        except OSError as error:
            if error.errno in _GONE_ERRORS:
                # Not there under the name we computed; that is not the same as gone (D2).
                self._provisional.add(place)
            else:
                self.unwatched.note(path, error)
            return
        try:
            self._enter(place, path, directory)
        finally:
            os.close(directory)

    def _enter(self, place: Place, path: bytes, directory: int) -> None:
        status = os.fstat(directory)
        at_place = self.tree.child(*place)
        if self._is_foreign(status):
            if at_place is not None:
                self._drop(at_place)
            return
        try:
            number = directory_number(status, self._root_identity[0], directory)
            wd = inotify.add_watch(self._queue, directory, self._mask)
        except OSError as error:
            self.unwatched.note(path, error)
            return
        self._departed.discard(wd)
        self.unwatched.errors.pop(path, None)
        known = self.tree.get(wd)
        if known is not None:
            if known is at_place:
                return
            if self.tree.is_at_or_above(known, place.parent):
                # It seems to lie in itself: the names lag (D7), or it is mounted there. Look again later.
                self._provisional.add(place)
                return
            self._rob(known)
        if at_place is not None and self.tree.holds(at_place):
            self._drop(at_place)
        self._list(self.tree.attach(wd, number, place.parent, place.name), path, directory)

    def _is_foreign(self, status: os.stat_result) -> bool:
        return self._scope.one_file_system and status.st_dev != self._root_identity[0]

    def _rob(self, known: Node) -> None:
        """The directory is watched under another name: it moved here, ahead of its events (D4)."""
        assert known.parent is not None
        robbed = Place(known.parent, known.name)
        wd = known.wd
        self._drop(known)
        self._departed.discard(wd)
        self._provisional.add(robbed)

    def _list(self, node: Node, path: bytes, directory: int) -> None:
        """Queue the directories in the open `directory`, whose place is `node`."""
        prefix = path + b"/" if path else b""
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    name = os.fsencode(entry.name)
                    if not self._is_excluded(prefix + name, True):
                        self._to_visit[Place(node, name)] = None
        except OSError as error:
            self.unwatched.note(path, error)

    # ------------------------------------------------------------------ the queue is empty

    def check_doubts(self) -> set[Place]:
        """See whether some places in doubt hold what the table says (D3); return them.

        The caller gives back with `doubt` those that something was queued about meanwhile.
        """
        places = set(itertools.islice(self._provisional, PLACES_PER_CHECK))
        self._provisional -= places
        try:
            with self._opened() as root:
                for place in places:
                    if self.tree.holds(place.parent):
                        self._check(root, place)
        except OSError:
            self.root_lost = True
        return places

    def rest(self) -> None:
        """The queue is empty and nothing is in doubt: give back the watches of what is gone."""
        for wd in self._departed:
            inotify.remove_watch(self._queue, wd)
        self._departed.clear()

    def _check(self, root: int, place: Place) -> None:
        path = self.tree.path_of(place)
        known = self.tree.child(*place)
        if self._is_excluded(path, True):
            # It was in doubt as something else, or under another name of a directory above.
            if known is not None:
                self._drop(known)
            return
        try:
            directory = opening.open_directory(root, path)
        except OSError as error:
            if error.errno not in _GONE_ERRORS:
                self.unwatched.note(path, error)
            elif known is not None:
                self._drop(known)
            self.twins.set(place, None)
            return
        try:
            self._compare(root, place, path, directory)
        finally:
            os.close(directory)

    def _compare(self, root: int, place: Place, path: bytes, directory: int) -> None:
        """See whether the table has the open `directory`, which stands at `place`, there."""
        known = self.tree.child(*place)
        if self._is_foreign(os.fstat(directory)):
            if known is not None:
                self._drop(known)
            return
        try:
            wd = inotify.add_watch(self._queue, directory, self._mask)
        except OSError as error:
            self.unwatched.note(path, error)
            return
        found = self.tree.get(wd)
        is_twin = found is not None and found is not known and self._stands_there(root, found, directory)
        is_new_twin = self.twins.set(place, found if is_twin else None)
        if is_twin:
            if known is not None:
                self._drop(known)
            if is_new_twin:
                self._on_found(path)
        elif found is None or found is not known:
            # A batch may have used up the mark of this place before the watch existed (D5).
            self._on_found(path)
            self._to_visit[place] = None
            if found is None:
                # Set just now: if the visit finds another directory here, this watch must not be left over.
                self._departed.add(wd)

    def _stands_there(self, root: int, node: Node, directory: int) -> bool:
        """Tell whether the open `directory` stands where the table has it, too: it is mounted twice."""
        try:
            other = opening.open_directory(root, self.tree.path(node))
        except OSError:
            return False
        try:
            return os.path.samestat(os.fstat(other), os.fstat(directory))
        finally:
            os.close(other)
