# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of watched directories: which watch descriptor stands for which place in the source.

Pure book-keeping: no system call happens here. The kernel's numbers are believed, our names follow them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

# Changes come in bursts from few directories: so many of their paths are remembered. A guess; some 500 KB
# when full.
PREFIXES_REMEMBERED = 4096


class Node:
    """One watched directory. `parent` is None for the root, and for what is no longer in the table.

    `number` names it for a rescan (see ground.directory_number).
    """

    __slots__ = ("children", "name", "number", "parent", "wd")

    def __init__(self, wd: int, number: int, parent: Node | None, name: bytes) -> None:
        self.wd = wd
        self.number = number
        self.parent = parent
        self.name = name
        # Most directories have no subdirectories: the dictionary is made with the first one.
        self.children: dict[bytes, Node] | None = None


class Place(NamedTuple):
    """A name in a watched directory; it stays right when a directory above it moves."""

    parent: Node
    name: bytes


class Tree:
    """Watched directories by watch descriptor, and by parent and name; paths are relative to the root.

    Invariant: `_by_wd` holds exactly the nodes that can be reached from `root`, each under its own `wd`.
    """

    def __init__(self) -> None:
        self.root: Node | None = None
        self._by_wd: dict[int, Node] = {}
        self._prefixes: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._by_wd)

    def set_root(self, wd: int, number: int) -> Node:
        """Make `wd` the root of an empty table."""
        assert not self._by_wd, "the root of a table is set once"
        self.root = Node(wd, number, None, b"")
        self._by_wd[wd] = self.root
        return self.root

    def get(self, wd: int) -> Node | None:
        """Return the directory that `wd` stands for, None if the table does not hold it."""
        return self._by_wd.get(wd)

    def child(self, parent: Node, name: bytes) -> Node | None:
        """Return what the table has at `name` in `parent`, which may have left it."""
        if parent.children is None or not self.holds(parent):
            return None
        return parent.children.get(name)

    def holds(self, node: Node) -> bool:
        """Tell whether `node` is (still) part of the table."""
        return self._by_wd.get(node.wd) is node

    def path(self, node: Node) -> bytes:
        """Return the path of `node` relative to the root; empty for the root itself."""
        parts = []
        current: Node | None = node
        while current is not None and current.parent is not None:
            parts.append(current.name)
            current = current.parent
        return b"/".join(reversed(parts))

    def path_of(self, place: Place) -> bytes:
        """Return the path of a place in the table, relative to the root."""
        prefix = self.prefix(place.parent.wd)
        assert prefix is not None, "the directory of the place is watched"
        return prefix + place.name

    def prefix(self, wd: int) -> bytes | None:
        """Return what goes before a name in the directory that `wd` stands for; None if there is none."""
        known = self._prefixes.get(wd)
        if known is None:
            node = self._by_wd.get(wd)
            if node is None:
                return None
            if len(self._prefixes) >= PREFIXES_REMEMBERED:
                self._prefixes.clear()
            path = self.path(node)
            known = self._prefixes[wd] = path + b"/" if path else b""
        return known

    def attach(self, wd: int, number: int, parent: Node, name: bytes) -> Node:
        """Enter a directory; its descriptor and its place must both be free."""
        assert wd not in self._by_wd, "detach a directory before attaching it elsewhere"
        node = Node(wd, number, parent, name)
        self._enter(node, parent, name)
        self._by_wd[wd] = node
        return node

    def _enter(self, node: Node, parent: Node, name: bytes) -> None:
        if parent.children is None:
            parent.children = {}
        assert name not in parent.children, "detach what holds the place first"
        parent.children[name] = node
        node.parent, node.name = parent, name

    def detach(self, node: Node) -> list[int]:
        """Take `node` and all below it out of the table; return their watch descriptors."""
        if node.parent is not None and node.parent.children is not None:
            del node.parent.children[node.name]
        else:
            self.root = None
        gone = [below.wd for below in self._walk(node)]
        for wd in gone:
            del self._by_wd[wd]
            self._prefixes.pop(wd, None)
        node.parent = None
        return gone

    def move(self, node: Node, parent: Node, name: bytes) -> None:
        """Give `node`, with all below it, another place; it must be free and not lie below `node` itself."""
        assert node.parent is not None and node.parent.children is not None, "the root has no place"
        assert not self.is_at_or_above(node, parent), "detach what would hold itself"
        del node.parent.children[node.name]
        self._enter(node, parent, name)
        self._prefixes.clear()

    def rows(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield each directory but the root: its number, that of its parent, its name."""
        for node in self._by_wd.values():
            if node.parent is not None:
                yield node.number, node.parent.number, node.name

    def is_at_or_below_any(self, place: Place, spots: set[tuple[int, bytes]]) -> bool:
        """Tell whether a place, or a directory above it, is at one of `spots`: watch descriptor and name."""
        node, name = place
        while (node.wd, name) not in spots:
            if node.parent is None:
                return False
            node, name = node.parent, node.name
        return True

    def is_at_or_above(self, node: Node, other: Node) -> bool:
        """Tell whether `node` is `other` or one of its ancestors."""
        current: Node | None = other
        while current is not None:
            if current is node:
                return True
            current = current.parent
        return False

    def _walk(self, node: Node) -> Iterator[Node]:
        pending = [node]
        while pending:
            current = pending.pop()
            yield current
            if current.children is not None:
                pending.extend(current.children.values())
