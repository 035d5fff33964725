# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps every directory of one source watched, and turns what the kernel reports into changes.

Two rules carry the rest. *Watch first, then list*: what is created in between is seen at least once.
*The names lag*: an event's path is computed from what was read so far, while the tree is ahead; so a watch
may fail or land on another directory. Every place that was watched, vacated or filled since the queue was
last read empty is therefore *provisional*, and is checked again when the queue is empty. The rules by their
names (D1 to D10) are in docs/collating.md.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.watch import inotify
from lsyncd_sd.watch.tree import Node, Tree

# A directory that vanished between being heard of and being watched; its events tell the rest.
_GONE_ERRORS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

# How often one call of `read` goes round before it lets its caller do something else (send a watchdog
# ping, see a signal). A guess: large enough that a burst is drained faster than it grows.
_ROUNDS_PER_READ = 32

# A name came, went, or stands for something else now.
_RENEWALS = inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO

# Directories visited before the caller gets its turn: some tens of milliseconds where the tree is in the
# page cache.
WALK_STEP = 1000

# Directories that could not be watched are remembered one by one up to here; beyond, they are counted and
# only a comparison of the whole tree helps. Each event of a directory looks through all of them.
UNWATCHED_LIMIT = 1000

IsExcluded = Callable[[bytes, bool], bool]


class Place(NamedTuple):
    """A name in a watched directory; it stays right when a directory above it moves."""

    parent: Node
    name: bytes


class Watcher:
    """The watches of one source on one inotify queue; the queue belongs to the caller.

    `unwatched` maps each directory (relative path) that could not be watched to its error number.
    `unwatched_uncounted` is how often there was no room for one more.
    `overflowed` and `root_lost` are facts for the caller to act on: `restart` answers the first.
    """

    def __init__(self, queue: int, root: bytes, is_excluded: IsExcluded) -> None:
        self._queue = queue
        self._root_path = root
        self._is_excluded = is_excluded
        self._tree = Tree()
        self._to_visit: list[Place] = []
        self._provisional: set[Place] = set()
        # Watches of directories that left the table; they are removed once the queue is read empty,
        # unless the directory turned up at another place (adding its watch gives the number again).
        self._departed: set[int] = set()
        self._changes: list[Change] = []
        self._walking = False
        self.unwatched: dict[bytes, int] = {}
        self.unwatched_uncounted = 0
        self.overflowed = False
        self.root_lost = False

    @property
    def directories(self) -> int:
        """The number of directories watched."""
        return len(self._tree)

    @property
    def settled(self) -> bool:
        """Whether every directory heard of so far is watched: only then may a batch be dispatched.

        A batch that ran before would use up the mark of a directory whose later changes nobody sees.
        """
        return not self._to_visit and not self._provisional

    def restart(self) -> None:
        """Forget the table and begin to walk the source again, on the same queue.

        What is queued is thrown away: it happened before the walk, and the caller owes a full sync anyway.
        Raises OSError if the root cannot be watched.
        """
        while inotify.read_events(self._queue):
            pass
        if self._tree.root is not None:
            self._departed.update(self._tree.detach(self._tree.root))
        self._to_visit.clear()
        self._provisional.clear()
        self._changes.clear()
        self.unwatched.clear()
        self.unwatched_uncounted = 0
        self.overflowed = self.root_lost = False
        wd = inotify.add_watch(self._queue, self._root_path, inotify.ROOT_MASK)
        self._departed.discard(wd)
        self._walking = True
        self._list(self._tree.set_root(wd))

    def walk(self, directories: int) -> bool:
        """Visit up to so many of the directories not watched yet; return True when none is left."""
        while self._to_visit and directories > 0:
            self._visit(self._to_visit.pop())
            directories -= 1
        if not self._to_visit:
            self._walking = False
        return not self._to_visit

    def read(self) -> list[Change]:
        """Read the queue empty, as far as a bounded number of rounds goes, and return the changes.

        Call it again at once while not `settled`, although the descriptor may not be readable.
        """
        for _round in range(_ROUNDS_PER_READ):
            events = inotify.read_events(self._queue)
            for event in events:
                self._handle(event)
            if self.overflowed or self.root_lost:
                break
            if self._walking:
                break
            if self._to_visit:
                # A large tree that moved in is watched step by step, like the first walk.
                if not self.walk(WALK_STEP):
                    break
            elif not events:
                if not self._provisional:
                    self._release_departed()
                    break
                self._check_provisional()
        changes, self._changes = self._changes, []
        return changes

    # ------------------------------------------------------------------ events

    def _handle(self, event: inotify.RawEvent) -> None:
        if event.mask & inotify.IN_Q_OVERFLOW:
            self.overflowed = True
            return
        node = self._tree.get(event.wd)
        if node is None:
            if event.mask & inotify.IN_IGNORED:
                self._departed.discard(event.wd)
            return
        if event.mask & (inotify.IN_IGNORED | inotify.IN_UNMOUNT):
            self._watch_ended(node, event.wd)
        elif event.name:
            self._handle_name(node, event)
        elif node is self._tree.root and event.mask & (inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF):
            self.root_lost = True
        else:
            path = self._tree.path(node)
            self._mark(path, Depth.ENTRY, exact=False)
            self._retry_unwatched(path)

    def _watch_ended(self, node: Node, wd: int) -> None:
        """The kernel removed a watch: the directory was deleted, or its file system unmounted."""
        if node is self._tree.root:
            self.root_lost = True
            return
        assert node.parent is not None
        place = Place(node.parent, node.name)
        self._drop(node)
        self._departed.discard(wd)
        self._provisional.add(place)

    def _handle_name(self, parent: Node, event: inotify.RawEvent) -> None:
        is_directory = bool(event.mask & inotify.IN_ISDIR)
        parent_path = self._tree.path(parent)
        path = parent_path + b"/" + event.name if parent_path else event.name
        if self._is_excluded(path, is_directory):
            if event.mask & _RENEWALS:
                # The name is none of ours, but its directory has got another modification time.
                self._mark(parent_path, Depth.ENTRY, exact=False)
        elif event.mask & _RENEWALS:
            self._handle_renewal(Place(parent, event.name), path, event.mask, is_directory)
        else:
            # A directory's own attributes; or a file's, or its content, which CLOSE_WRITE tells.
            self._mark(path, Depth.ENTRY, exact=bool(event.mask & inotify.IN_CLOSE_WRITE))
            if is_directory:
                self._retry_unwatched(path)

    def _note_unwatched(self, path: bytes, error: OSError) -> None:
        if path in self.unwatched or len(self.unwatched) < UNWATCHED_LIMIT:
            self.unwatched[path] = error.errno or errno.EIO
        else:
            self.unwatched_uncounted += 1

    def _retry_unwatched(self, path: bytes) -> None:
        """The attributes of a directory changed: it, or what is below it, may be readable now."""
        for unwatched in self.unwatched:
            if path and unwatched != path and not unwatched.startswith(path + b"/"):
                continue
            place = self._place_at(unwatched)
            if place is not None:
                self._provisional.add(place)
                self._to_visit.append(place)
                self._mark(unwatched, Depth.SUBTREE, exact=True)

    def _handle_renewal(self, place: Place, path: bytes, mask: int, is_directory: bool) -> None:
        """A name came, went, or now stands for something else."""
        came = mask & (inotify.IN_CREATE | inotify.IN_MOVED_TO)
        if is_directory and self.unwatched:
            # Gone, or about to be looked at anew, under this name or another.
            below = path + b"/"
            for known_path in [one for one in self.unwatched if one == path or one.startswith(below)]:
                del self.unwatched[known_path]
        known = self._tree.child(place.parent, place.name)
        # A directory made under our eyes may have been found by the listing before its event was read.
        # Its watch is right then, and dropping it here would only mean setting it again (D7).
        if known is not None and not (is_directory and mask & inotify.IN_CREATE):
            self._drop(known)
        if came and is_directory:
            self._provisional.add(place)
            self._to_visit.append(place)
            self._mark(path, Depth.SUBTREE, exact=True)
        else:
            if is_directory or known is not None:
                self._provisional.add(place)
            self._mark(path, Depth.ENTRY, exact=True)

    def _mark(self, path: bytes, depth: Depth, *, exact: bool) -> None:
        self._changes.append(Change(path, depth, exact))

    # ------------------------------------------------------------------ the table

    def _drop(self, node: Node) -> None:
        self._departed.update(self._tree.detach(node))

    def _place_path(self, place: Place) -> bytes:
        parent_path = self._tree.path(place.parent)
        return parent_path + b"/" + place.name if parent_path else place.name

    def _place_at(self, path: bytes) -> Place | None:
        """Return the place of a path, None if the directory it is in is not watched."""
        parent_path, _slash, name = path.rpartition(b"/")
        node = self._tree.root
        for part in parent_path.split(b"/") if parent_path else ():
            if node is None:
                return None
            node = self._tree.child(node, part)
        return Place(node, name) if node is not None and name else None

    def _absolute(self, path: bytes) -> bytes:
        return self._root_path + b"/" + path if path else self._root_path

    def _visit(self, place: Place) -> None:
        """Watch the directory at `place`, enter it into the table, and queue what it contains."""
        if not self._tree.holds(place.parent):
            return
        path = self._place_path(place)
        wd = self._add_watch(place, path)
        if wd is None:
            return
        self._departed.discard(wd)
        self.unwatched.pop(path, None)
        known = self._tree.get(wd)
        at_place = self._tree.child(place.parent, place.name)
        if known is not None and known is at_place:
            return
        if known is not None:
            if self._tree.is_at_or_above(known, place.parent):
                # A symlink put into the path just now leads back up (D7): change nothing, look again.
                self._provisional.add(place)
                return
            self._rob(known)
        if at_place is not None and self._tree.holds(at_place):
            self._drop(at_place)
        self._list(self._tree.attach(wd, place.parent, place.name))

    def _rob(self, known: Node) -> None:
        """The directory is watched under another name: it moved here, ahead of its events (D4)."""
        assert known.parent is not None
        robbed = Place(known.parent, known.name)
        wd = known.wd
        self._drop(known)
        self._departed.discard(wd)
        self._provisional.add(robbed)

    def _add_watch(self, place: Place, path: bytes) -> int | None:
        try:
            return inotify.add_watch(self._queue, self._absolute(path), inotify.DIRECTORY_MASK)
        except OSError as error:
            if error.errno in _GONE_ERRORS:
                # Not there under the name we computed; that is not the same as gone (D2).
                if self._walking or place not in self._provisional:
                    self._provisional.add(place)
            else:
                self._note_unwatched(path, error)
            return None

    def _list(self, node: Node) -> None:
        path = self._tree.path(node)
        try:
            with os.scandir(self._absolute(path)) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    name = entry.name
                    child_path = path + b"/" + name if path else name
                    if not self._is_excluded(child_path, True):
                        self._to_visit.append(Place(node, name))
        except OSError as error:
            if error.errno in _GONE_ERRORS:
                if node.parent is not None:
                    self._provisional.add(Place(node.parent, node.name))
            else:
                self._note_unwatched(path, error)

    def _check_provisional(self) -> None:
        """The queue is empty: see whether each place in doubt holds what the table says (D3)."""
        places, self._provisional = self._provisional, set()
        for place in places:
            if self._tree.holds(place.parent):
                self._check(place)
        # What was queued while we looked may concern any of them again.
        events = inotify.read_events(self._queue)
        if events:
            self._provisional |= places
        for event in events:
            self._handle(event)

    def _check(self, place: Place) -> None:
        path = self._place_path(place)
        known = self._tree.child(place.parent, place.name)
        try:
            wd = inotify.add_watch(self._queue, self._absolute(path), inotify.DIRECTORY_MASK)
        except OSError as error:
            if error.errno not in _GONE_ERRORS:
                self._note_unwatched(path, error)
            elif known is not None:
                self._drop(known)
            return
        if known is not None and known.wd == wd:
            return
        if self._is_excluded(path, True):
            # It was in doubt as a directory that left; what stands here now is none of ours.
            if self._tree.get(wd) is None:
                inotify.remove_watch(self._queue, wd)
            return
        # A batch may have used up the mark of this place before the watch existed (D5).
        self._mark(path, Depth.SUBTREE, exact=True)
        self._to_visit.append(place)
        if self._tree.get(wd) is None:
            # Set just now: if the visit finds another directory here, this watch must not be left over.
            self._departed.add(wd)

    def _release_departed(self) -> None:
        for wd in self._departed:
            inotify.remove_watch(self._queue, wd)
        self._departed.clear()
