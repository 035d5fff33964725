# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests watch/tree.py: numbers, places and paths stay one and the same thing."""

from __future__ import annotations

import pytest

from lsyncd_sd.watch.tree import Node, Tree


@pytest.fixture
def tree() -> Tree:
    """The root 1 with a (2), a/b (3), a/b/c (4) and d (5)."""
    tree = Tree()
    a = tree.attach(2, 102, tree.set_root(1, 101), b"a")
    tree.attach(4, 104, tree.attach(3, 103, a, b"b"), b"c")
    tree.attach(5, 105, node(tree, 1), b"d")
    return tree


def node(tree: Tree, wd: int) -> Node:
    found = tree.get(wd)
    assert found is not None
    return found


def test_paths(tree: Tree) -> None:
    assert {wd: tree.path(node(tree, wd)) for wd in (1, 2, 3, 4, 5)} == {
        1: b"",
        2: b"a",
        3: b"a/b",
        4: b"a/b/c",
        5: b"d",
    }
    assert len(tree) == 5


def test_children(tree: Tree) -> None:
    assert tree.child(node(tree, 1), b"d") is node(tree, 5)
    assert tree.child(node(tree, 1), b"b") is None
    assert tree.child(node(tree, 5), b"x") is None


def test_names_of_any_bytes(tree: Tree) -> None:
    odd = tree.attach(6, 106, node(tree, 5), b"\xff\n")
    assert tree.path(odd) == b"d/\xff\n"


def test_detached_is_everything_below(tree: Tree) -> None:
    a, b = node(tree, 2), node(tree, 3)
    assert sorted(tree.detach(a)) == [2, 3, 4]
    assert len(tree) == 2
    assert tree.child(node(tree, 1), b"a") is None
    assert not tree.holds(a) and not tree.holds(b)
    assert tree.holds(node(tree, 5))


def test_what_has_left_the_table_holds_nothing(tree: Tree) -> None:
    b = node(tree, 3)
    assert tree.child(b, b"c") is node(tree, 4)
    tree.detach(node(tree, 2))
    assert tree.child(b, b"c") is None


def test_a_detached_number_and_place_are_free_again(tree: Tree) -> None:
    old = node(tree, 2)
    tree.detach(old)
    new = tree.attach(2, 102, node(tree, 5), b"a")
    assert tree.path(new) == b"d/a"
    assert tree.holds(new) and not tree.holds(old)


def test_a_directory_moves_with_all_below_it(tree: Tree) -> None:
    b = node(tree, 3)
    tree.move(b, node(tree, 5), b"x")
    assert tree.path(b) == b"d/x" and tree.path(node(tree, 4)) == b"d/x/c"
    assert tree.child(node(tree, 2), b"b") is None and tree.child(node(tree, 5), b"x") is b
    assert len(tree) == 5
    tree.move(b, node(tree, 5), b"y")
    assert tree.path(node(tree, 4)) == b"d/y/c"
    assert tree.child(node(tree, 5), b"x") is None


def test_a_directory_moves_to_no_impossible_place(tree: Tree) -> None:
    with pytest.raises(AssertionError):
        tree.move(node(tree, 2), node(tree, 4), b"x")
    with pytest.raises(AssertionError):
        tree.move(node(tree, 3), node(tree, 1), b"d")
    with pytest.raises(AssertionError):
        tree.move(node(tree, 1), node(tree, 5), b"x")


def test_the_root_can_be_detached(tree: Tree) -> None:
    assert sorted(tree.detach(node(tree, 1))) == [1, 2, 3, 4, 5]
    assert len(tree) == 0 and tree.root is None
    assert tree.root is tree.get(1)
    tree.set_root(7, 107)
    assert len(tree) == 1


def test_at_or_above(tree: Tree) -> None:
    a, c, d = node(tree, 2), node(tree, 4), node(tree, 5)
    assert tree.is_at_or_above(a, c) and tree.is_at_or_above(a, a)
    assert not tree.is_at_or_above(c, a) and not tree.is_at_or_above(a, d)


def test_one_number_stands_for_one_place(tree: Tree) -> None:
    with pytest.raises(AssertionError):
        tree.attach(4, 104, node(tree, 5), b"x")
    with pytest.raises(AssertionError):
        tree.attach(9, 109, node(tree, 2), b"b")
    with pytest.raises(AssertionError):
        tree.set_root(9, 109)
