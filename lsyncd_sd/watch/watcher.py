# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns what the kernel reports about one source into changes and moves, in the order they happened.

The rules by their names (D1 to D11) are in docs/collating.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lsyncd_sd.plan.change import Change, Depth, Move, Sign
from lsyncd_sd.watch import inotify
from lsyncd_sd.watch.coverage import Coverage, Scope
from lsyncd_sd.watch.pairing import Pairing, RecentRenames, Rename, Spot
from lsyncd_sd.watch.tree import Node, Place

# How often one call of `read` goes round before it lets its caller do something else (send a watchdog
# ping, see a signal). A guess: large enough that a burst is drained faster than it grows.
_ROUNDS_PER_READ = 32

# How often a restart reads before the walk begins although there is still something: events of before do
# no harm, and may never end. A guess: some 64 MB, more than a queue of a million events holds.
_READS_TO_DRAIN = 256

# A name came, went, or stands for something else now.
_ARRIVALS = inotify.IN_CREATE | inotify.IN_MOVED_TO
_RENEWALS = _ARRIVALS | inotify.IN_DELETE | inotify.IN_MOVED_FROM

# What happens to a file under its name, and what of it need not be told again where it was told already:
# of attributes nothing more, of what is written only what is more than that.
_ATTRIBUTES, _WRITTEN, _WHOLE = 1, 2, 4
_FACTS = {
    inotify.IN_ATTRIB: (_ATTRIBUTES, _ATTRIBUTES | _WHOLE),
    inotify.IN_MODIFY: (_WRITTEN, _WRITTEN | _WHOLE),
    inotify.IN_CLOSE_WRITE: (_WHOLE, _WHOLE),
}

# What may have made a path mean another directory.
_DIRECTORY_RENEWALS = frozenset(
    inotify.IN_ISDIR | renewal
    for renewal in (inotify.IN_CREATE, inotify.IN_DELETE, inotify.IN_MOVED_FROM, inotify.IN_MOVED_TO)
)

# How often is read to know what has happened during a check. A guess: if that is not all, everything that
# was checked is checked again.
_READS_AFTER_CHECK = 4

# Directories visited before the caller gets its turn: some tens of milliseconds where the tree is in the
# page cache.
WALK_STEP = 1000


class Watcher:
    """The watches of one source on one inotify queue; the queue belongs to the caller.

    `overflowed` and `root_lost` are facts for the caller to act on: `restart` answers the first.
    `has_read_all`: the last `read` came to the end of what was queued, and all of it is settled. `cookies`
    are the names that came into being in the folder of the cookies, since the caller emptied the list:
    everything that happened before was read, or lost in an overflow or a restart since.
    """

    def __init__(self, queue: int, root: bytes, scope: Scope) -> None:
        self._queue = queue
        self._scope = scope
        self._is_excluded = scope.is_excluded
        self._pairing = Pairing()
        self._coverage = Coverage(queue, root, scope, self._mark_found)
        self._tree = self._coverage.tree
        self._changes: list[Change | Move] = []
        self._recent = RecentRenames()
        # Files that the changes not passed on yet tell of already.
        self._told: dict[bytes, int] = {}
        self._cookie_watch = -1
        self.cookies: list[bytes] = []
        self.overflowed = False
        self.has_read_all = False

    @property
    def directories(self) -> int:
        """The number of directories watched."""
        return len(self._tree)

    def directory_table(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield each watched directory but the root: its number (see ground), its parent's, its name."""
        return self._tree.rows()

    @property
    def unwatched(self) -> Mapping[bytes, int]:
        """Each directory (relative path) that could not be watched, and its error number."""
        return self._coverage.unwatched.errors

    @property
    def unwatched_uncounted(self) -> int:
        """How many more could not be watched, without room to remember them."""
        return self._coverage.unwatched.uncounted

    @property
    def root_lost(self) -> bool:
        """Whether the root is gone, or its path leads to another directory now."""
        return self._coverage.root_lost

    @property
    def settled(self) -> bool:
        """Whether every directory heard of so far is watched: only then may a batch be dispatched.

        A batch that ran before would use up the mark of a directory whose later changes nobody sees.
        Nor while something that was read is held up by half of a rename.
        """
        return not (self._coverage.has_to_visit or self._coverage.has_doubts or self._pairing)

    def read_again_in(self, now: float) -> float:
        """Return in how many seconds `read` is to be called while not `settled`, 0 for at once."""
        due = self._pairing.due_at()
        return 0.0 if due is None or self._coverage.has_to_visit else max(0.0, due - now)

    def restart(self) -> None:
        """Forget the table and begin to walk the source again, on the same queue.

        What is queued is thrown away: it happened before the walk, and the caller owes a full sync anyway.
        Raises OSError if the root cannot be watched.
        """
        for _read in range(_READS_TO_DRAIN):
            if not inotify.read_events(self._queue):
                break
        self._pairing.clear()
        self._changes.clear()
        self._told.clear()
        self._recent.clear()
        self.overflowed = False
        self._coverage.restart()

    def watch_cookies(self, directory: int) -> None:
        """Have the same queue tell what comes into being in this open directory, which is not in the source.

        It stays so over a restart. Raises OSError if it cannot be watched.
        """
        self._cookie_watch = inotify.add_watch(self._queue, directory, inotify.COOKIE_MASK)

    def walk(self, directories: int) -> bool:
        """Visit up to so many of the directories not watched yet; return True when none is left."""
        return self._coverage.walk(directories)

    def read(self, now: float) -> list[Change | Move]:
        """Read the queue empty, as far as a bounded number of rounds goes; return what happened, in order.

        `now` is in monotonic seconds. While not `settled`, call it again after `read_again_in`, although
        the descriptor may not be readable.
        """
        coverage = self._coverage
        self.has_read_all = False
        for _round in range(_ROUNDS_PER_READ):
            events = inotify.read_events(self._queue)
            self._handle_all(events, now)
            if self.overflowed or self.root_lost or coverage.is_walking:
                break
            if coverage.has_to_visit:
                # A large tree that moved in is watched step by step, like the first walk.
                if not coverage.walk(WALK_STEP):
                    break
            elif not events:
                if self._pairing:
                    break
                if not coverage.has_doubts:
                    self.has_read_all = True
                    coverage.rest()
                    break
                self._check_doubts(now)
        self._told.clear()
        changes, self._changes = self._changes, []
        return changes

    def _check_doubts(self, now: float) -> None:
        """See what stands at some of the places in doubt, and which of them are in doubt again by now.

        What has become of a directory while we looked concerns its own place, and those below it.
        """
        places = self._coverage.check_doubts()
        touched: set[tuple[int, bytes]] = set()
        for _read in range(_READS_AFTER_CHECK):
            events = inotify.read_events(self._queue)
            touched.update((wd, name) for wd, mask, _, name in events if mask in _DIRECTORY_RENEWALS)
            self._handle_all(events, now)
            if not events:
                places = {place for place in places if self._tree.is_at_or_below_any(place, touched)}
                break
        self._coverage.doubt(*places)

    # ------------------------------------------------------------------ events

    def _handle_all(self, events: list[inotify.RawEvent], now: float) -> None:
        for item in self._pairing.arrange(events, now):
            if isinstance(item, Rename):
                self._handle_rename(item, now)
            elif item.mask in _FACTS:
                self._handle_file(item)
            else:
                if item.mask & inotify.IN_MOVED_FROM:
                    self._recent.note(Spot(item.wd, item.name), None, now)
                elif item.mask & inotify.IN_MOVED_TO:
                    self._recent.note(None, Spot(item.wd, item.name), now)
                self._handle(item)

    def _handle_file(self, event: inotify.RawEvent) -> None:
        """A file was written, or its attributes changed: most of what happens, so it is told but once."""
        wd, mask, _cookie, name = event
        prefix = self._tree.prefix(wd)
        if prefix is None:
            return
        path = prefix + name
        fact, implied_by = _FACTS[mask]
        told = self._told.get(path, 0)
        if told & implied_by or self._is_excluded(path, False):
            return
        self._told[path] = told | fact
        sign = Sign.OPEN if fact == _WRITTEN else Sign.CHANGED
        self._tell(Change(path, Depth.ENTRY, fact != _ATTRIBUTES, sign))

    def _handle(self, event: inotify.RawEvent) -> None:
        if event.mask & inotify.IN_Q_OVERFLOW:
            self.overflowed = True
            return
        node = self._tree.get(event.wd)
        if event.wd == self._cookie_watch:
            if event.name:
                self.cookies.append(event.name)
        elif node is None:
            if event.mask & inotify.IN_IGNORED:
                self._coverage.forget_watch(event.wd)
        elif event.mask & (inotify.IN_IGNORED | inotify.IN_UNMOUNT):
            if node is self._tree.root:
                self._coverage.root_lost = True
            else:
                self._coverage.watch_ended(node)
        elif event.name:
            self._handle_name(node, event)
        elif node is self._tree.root and event.mask & (inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF):
            self._coverage.root_lost = True
        else:
            self._handle_attributes(self._tree.path(node))

    def _handle_name(self, parent: Node, event: inotify.RawEvent) -> None:
        mask = event.mask
        is_directory = bool(mask & inotify.IN_ISDIR)
        place = Place(parent, event.name)
        path = self._tree.path_of(place)
        if self._is_excluded(path, is_directory):
            if mask & _RENEWALS:
                # The name is none of ours, but its directory has got another modification time.
                self._mark(self._tree.path(parent), Depth.ENTRY, exact=False)
        elif mask & _ARRIVALS:
            self._handle_arrival(place, path, mask, is_directory)
        elif mask & _RENEWALS:
            self._handle_departure(place, path, is_directory)
        else:
            self._handle_attributes(path)

    def _handle_attributes(self, path: bytes) -> None:
        """The attributes of a directory changed."""
        self._mark(path, Depth.ENTRY, exact=False)
        self._coverage.retry_unwatched(path)

    def _handle_arrival(self, place: Place, path: bytes, mask: int, is_directory: bool) -> None:
        """A name came into being, or moved in from where nobody looks."""
        # A directory made under our eyes may have been found by the listing before its event was read.
        # Its watch is right then, and dropping it here would only mean setting it again (D7).
        if not (is_directory and mask & inotify.IN_CREATE):
            self._coverage.vacate(place)
        # Only what was created took nobody's place.
        sign = Sign.CAME if mask & inotify.IN_CREATE else Sign.ARRIVED
        if is_directory:
            self._coverage.unwatched.forget(path)
            self._mark(path, Depth.SUBTREE, exact=True, sign=sign)
            self._coverage.adopt(place)
        else:
            self._mark(path, Depth.ENTRY, exact=True, sign=sign)
            self._told[path] = _WHOLE

    def _handle_departure(self, place: Place, path: bytes, is_directory: bool) -> None:
        """A name was deleted, or moved out to where nobody looks."""
        self._told.clear()
        self._coverage.vacate(place)
        if is_directory:
            self._coverage.doubt(place)
            self._coverage.unwatched.forget(path)
        self._mark(path, Depth.SUBTREE if is_directory else Depth.ENTRY, exact=True, sign=Sign.WENT)

    def _handle_rename(self, rename: Rename, now: float) -> None:
        """Both halves were read: it is a move, if both ends are ours."""
        departure, arrival = rename
        may_be_exchange = self._recent.note(
            Spot(departure.wd, departure.name), Spot(arrival.wd, arrival.name), now
        )
        self._told.clear()
        old_parent, new_parent = self._tree.get(departure.wd), self._tree.get(arrival.wd)
        if old_parent is not None and new_parent is not None:
            old, new = Place(old_parent, departure.name), Place(new_parent, arrival.name)
            move = Move(
                self._tree.path_of(old), self._tree.path_of(new), bool(departure.mask & inotify.IN_ISDIR)
            )
            if self._is_ours(move):
                if may_be_exchange:
                    self._handle_exchange(old, move.old)
                    self._handle_exchange(new, move.new)
                else:
                    self._handle_move(old, new, move)
                return
        self._handle(departure)
        self._handle(arrival)

    def _is_ours(self, move: Move) -> bool:
        """Tell whether both ends are watched, and what lies below is the same at either."""
        return not (
            self._coverage.is_walking
            or self._is_excluded(move.old, move.is_directory)
            or self._is_excluded(move.new, move.is_directory)
            or (move.is_directory and not self._scope.is_alike(move.old, move.new))
        )

    def _handle_move(self, old: Place, new: Place, move: Move) -> None:
        self._tell(move)
        self._coverage.vacate(new)
        if move.is_directory:
            if not self._coverage.move(old, new, move):
                self._mark(move.new, Depth.SUBTREE, exact=True)
                self._coverage.adopt(new)
            return
        # The kernel drops an arrival right after another one of the same name, although another file came:
        # of something moved in over what has just moved, nothing tells (D11). A directory is looked at.
        self._mark(move.new, Depth.ENTRY, exact=False)
        self._coverage.vacate(old)

    def _handle_exchange(self, place: Place, path: bytes) -> None:
        """What stands here may have changed places with something else: anything may be here now (A5)."""
        self._coverage.vacate(place)
        self._coverage.unwatched.forget(path)
        self._mark(path, Depth.SUBTREE, exact=True, sign=Sign.ARRIVED)
        self._coverage.doubt(place)

    def _mark(self, path: bytes, depth: Depth, *, exact: bool, sign: Sign = Sign.CHANGED) -> None:
        self._tell(Change(path, depth, exact, sign))

    def _tell(self, change: Change | Move) -> None:
        self._changes.append(change)
        if self._coverage.twins:
            self._changes.extend(self._coverage.twins.echo(change))

    def _mark_found(self, path: bytes) -> None:
        self._mark(path, Depth.SUBTREE, exact=True)
