# SPDX-License-Identifier: GPL-2.0-or-later
"""A set of dirty marks that knows what marks cover, what a move makes of them, and how to become smaller."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Depth, Move
from lsyncd_sd.plan.pathtree import Node, PathTree, components

# Below so many dirty entries a directory is not taken as a whole: who knows how many more it holds. A guess.
FEWEST_COLLAPSED = 16


class MarkTree(PathTree[Mark]):
    """Dirty marks by path. What lies below an exact subtree has no mark of its own."""

    # ------------------------------------------------------------------ marking

    def put(self, path: bytes, mark: Mark) -> None:
        """Merge a mark into what is known of the path."""
        node = self._place(path, mark)
        if node is not None:
            self._give(node, mark if node.value is None else node.value.merged(mark))

    def touch(self, path: bytes, mark: Mark) -> None:
        """Do the same for a name that stays what it was: new, if it was that."""
        node = self._place(path, mark)
        if node is not None and node.value is not mark:
            self._give(node, mark if node.value is None else node.value.renewed(mark))

    def put_older(self, marks: Marks) -> None:
        """Merge marks of an older time: nothing that they concern is new any more."""
        for path, mark in marks.items():
            self.put(path, mark.aged())

    def age(self) -> None:
        """Take nothing for new any more."""
        pending = [self._root]
        while pending:
            node = pending.pop()
            if node.value is not None:
                node.value = node.value.aged()
            if node.below is not None:
                pending += node.below.values()

    def _place(self, path: bytes, mark: Mark) -> Node[Mark] | None:
        """Return the node of a path, made if needed; None if another mark says all that `mark` does."""
        above, node, name = None, self._root, b""
        for name in components(path):
            if node.value is not None and node.value.covers_below:
                return None
            if node.below is None:
                node.below = {}
            child = node.below.get(name)
            if child is None:
                child = node.below[name] = Node()
            above, node = node, child
        if above is not None and above.value is not None and above.value.covers_entries:
            is_told = mark.depth == Depth.ENTRY and (above.value.exact or not mark.exact)
            if is_told and node.value is None:
                if node.below is None:
                    assert above.below is not None
                    del above.below[name]
                return None
        return node

    def _give(self, node: Node[Mark], mark: Mark) -> None:
        self._size += node.value is None
        node.value = mark
        if mark.covers_below and node.below is not None:
            self._size -= self._count(node) - 1
            node.below = None

    # ------------------------------------------------------------------ what covers what

    def covering(self, path: bytes) -> Mark | None:
        """Return what the marks above a path say of it: a subtree, or an entry of a content level."""
        found: Mark | None = None
        for mark, is_parent in self._above(path):
            said = None
            if mark.depth & Depth.SUBTREE:
                said = Mark(Depth.SUBTREE, mark.exact)
            elif is_parent and mark.covers_entries:
                said = Mark(Depth.ENTRY, mark.exact)
            if said is not None:
                found = said if found is None else found.merged(said)
        return found

    def is_clean(self, path: bytes) -> bool:
        """Tell whether no mark is at or below a path, none above says anything of it, nor of its level."""
        if self._size == 0:
            return True
        for mark, is_parent in self._above(path):
            if mark.depth & (Depth.SUBTREE | Depth.LEVEL | Depth.CONTENT if is_parent else Depth.SUBTREE):
                return False
        return not self.holds(path)

    def is_new(self, path: bytes) -> bool:
        """Tell whether a path is, or lies in, what the target cannot hold yet."""
        return any(node.value is not None and node.value.is_new for node in self._way(path))

    def concerned(self, path: bytes) -> Iterator[bytes]:
        """Yield the marked paths at or below `path`; itself too, if a mark above says anything of it."""
        for mark, is_parent in self._above(path):
            if mark.depth & (Depth.SUBTREE | Depth.LEVEL | Depth.CONTENT if is_parent else Depth.SUBTREE):
                yield path
                break
        for marked, _mark in self.at_or_below(path):
            yield marked

    def _above(self, path: bytes) -> Iterator[tuple[Mark, bool]]:
        """Yield the marks above a path, from the top, and whether each is of its own directory."""
        depth = path.count(b"/") + 1 if path else 0
        for level, node in zip(range(1, depth + 1), self._way(path), strict=False):
            if node.value is not None:
                yield node.value, level == depth

    def _way(self, path: bytes) -> Iterator[Node[Mark]]:
        """Yield the nodes from the root to a path, as far as there are any."""
        node = self._root
        yield node
        for name in components(path):
            child = node.below.get(name) if node.below is not None else None
            if child is None:
                return
            node = child
            yield node

    # ------------------------------------------------------------------ moving

    def move(self, move: Move) -> None:
        """Let marks follow a move (A1); what covered the old name covers the new one (A2, A3).

        The marks of what stood at the new name are gone with it (A4), unless a directory stood there on the
        target: that one is in the way of the move, and more goes with it than was counted.
        """
        cover = self.covering(move.old)
        cover_there = self.covering(move.new)
        if cover_there is not None and cover_there.covers_below:
            self.drop(move.old)
            return
        there = self.get(move.new)
        self.rename(move.old, move.new)
        if there is not None and there.depth & Depth.SUBTREE and not there.is_new:
            self.put(move.new, there)
        if cover is not None:
            self.put(move.new, cover if move.is_directory else Mark(Depth.ENTRY, cover.exact))

    def put_both_ends(self, move: Move) -> None:
        """Mark both ends of a move that is not made, or of which nobody knows whether it was (A9, C3)."""
        mark = Mark(Depth.SUBTREE if move.is_directory else Depth.ENTRY, exact=True)
        self.put(move.old, mark)
        self.put(move.new, mark)

    # ------------------------------------------------------------------ becoming smaller

    def collapse(self, enough: int) -> None:
        """Make content levels of the directories with most dirty entries, until `enough` marks are left."""
        for full in sorted(self._full_directories(), reverse=True, key=lambda full: full.entries):
            if self._size <= enough:
                return
            self._collapse(full.node)

    def _full_directories(self) -> Iterator[_Full]:
        pending = [self._root]
        while pending:
            node = pending.pop()
            if node.below is not None:
                entries = sum(1 for child in node.below.values() if _is_entry(child))
                if entries >= FEWEST_COLLAPSED:
                    yield _Full(entries, node)
                pending += node.below.values()

    def _collapse(self, node: Node[Mark]) -> None:
        assert node.below is not None
        exact = False
        for name, child in list(node.below.items()):
            if _is_entry(child):
                assert child.value is not None
                exact |= child.value.exact
                child.value = None
                self._size -= 1
                if child.below is None:
                    del node.below[name]
        node.below = node.below or None
        mark = Mark(Depth.CONTENT | Depth.LEVEL, exact)
        self._give(node, mark if node.value is None else node.value.merged(mark))


class _Full(NamedTuple):
    entries: int
    node: Node[Mark]


def _is_entry(node: Node[Mark]) -> bool:
    return node.value is not None and node.value.depth == Depth.ENTRY


def left_undone(moves: Iterable[Move], undone: Collection[Move]) -> MarkTree:
    """Return what is dirty after `moves`, made in their order, if of `undone` nobody knows it (C3)."""
    marks = MarkTree()
    for move in moves:
        marks.move(move)
        if move in undone:
            marks.put_both_ends(move)
    return marks
