# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps values by path as the tree that the paths are: what a move takes along is found without a search."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from typing import Generic, TypeVar

V = TypeVar("V")


class Node(Generic[V]):
    """One component of a path: the value of the path that ends here, None without one, and what is below."""

    __slots__ = ("below", "value")

    def __init__(self) -> None:
        self.value: V | None = None
        self.below: dict[bytes, Node[V]] | None = None


def components(path: bytes) -> list[bytes]:
    """Return the names that a path consists of; the empty path has none."""
    return path.split(b"/") if path else []


class PathTree(Mapping[bytes, V]):
    """A mapping from relative paths to values; the empty path is the root.

    Iterating does not hold the paths: each is made anew from its components.
    """

    def __init__(self) -> None:
        self._root: Node[V] = Node()
        self._size = 0

    # ------------------------------------------------------------------ a mapping

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        for path, _value in self.at_or_below(b""):
            yield path

    def __getitem__(self, path: bytes) -> V:
        node = self._find(path)
        if node is None or node.value is None:
            raise KeyError(path)
        return node.value

    def items(self) -> ItemsView[bytes, V]:
        """Return the paths with their values."""
        return _Items(self)

    # ------------------------------------------------------------------ looking

    def holds(self, path: bytes) -> bool:
        """Tell whether anything is at or below `path`."""
        return self._find(path) is not None

    def at_or_below(self, path: bytes) -> Iterator[tuple[bytes, V]]:
        """Yield the paths at or below `path` with their values."""
        node = self._find(path)
        if node is not None:
            yield from self._walk(path, node)

    def _find(self, path: bytes) -> Node[V] | None:
        node = self._root
        for name in components(path):
            if node.below is None:
                return None
            child = node.below.get(name)
            if child is None:
                return None
            node = child
        return node if node is not self._root or self._size else None

    def _walk(self, path: bytes, top: Node[V]) -> Iterator[tuple[bytes, V]]:
        pending = [(path, top)]
        while pending:
            path, node = pending.pop()
            if node.value is not None:
                yield path, node.value
            if node.below is not None:
                prefix = path + b"/" if path else b""
                pending += [(prefix + name, child) for name, child in node.below.items()]

    # ------------------------------------------------------------------ changing

    def set(self, path: bytes, value: V) -> None:
        """Give `path` this value."""
        node = self._make(path)
        self._size += node.value is None
        node.value = value

    def remove(self, path: bytes) -> V | None:
        """Take away the value of `path` alone and return it, None if there was none."""
        node = self._find(path)
        if node is None or node.value is None:
            return None
        value, node.value = node.value, None
        self._size -= 1
        if node.below is None:
            self._unlink(path)
        return value

    def drop(self, path: bytes) -> None:
        """Take away what is at and below `path`."""
        node = self._unlink(path)
        if node is not None:
            self._size -= self._count(node)

    def clear(self) -> None:
        """Take away everything."""
        self._root = Node()
        self._size = 0

    def rename(self, old: bytes, new: bytes) -> None:
        """What was at and below `old` is at and below `new`, in the place of what was there."""
        node = self._unlink(old)
        self.drop(new)
        if node is None:
            return
        parent, _slash, name = new.rpartition(b"/")
        above = self._make(parent)
        if above.below is None:
            above.below = {}
        above.below[name] = node

    def _make(self, path: bytes) -> Node[V]:
        node = self._root
        for name in components(path):
            if node.below is None:
                node.below = {}
            child = node.below.get(name)
            if child is None:
                child = node.below[name] = Node()
            node = child
        return node

    def _unlink(self, path: bytes) -> Node[V] | None:
        """Cut off the node of `path`, and what above it holds nothing any more; return it."""
        if not path:
            root, self._root = self._root, Node()
            return root
        above = []
        node = self._root
        for name in components(path):
            child = node.below.get(name) if node.below is not None else None
            if child is None:
                return None
            above.append((node, name))
            node = child
        for parent, name in reversed(above):
            assert parent.below is not None
            del parent.below[name]
            if parent.below:
                break
            parent.below = None
            if parent.value is not None:
                break
        return node

    def _count(self, node: Node[V]) -> int:
        return sum(1 for _entry in self._walk(b"", node))


class _Items(ItemsView[bytes, V]):
    """Walks the tree once; what it inherits would look each path up."""

    _mapping: PathTree[V]

    def __iter__(self) -> Iterator[tuple[bytes, V]]:
        return self._mapping.at_or_below(b"")
