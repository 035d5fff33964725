# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests plan/pathtree.py: a mapping like any other, whose branches can be cut off and put elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.plan.pathtree import PathTree

PATHS = st.lists(st.sampled_from([b"a", b"b", b"ab", b"\xff"]), max_size=3).map(b"/".join)
ACTIONS = st.one_of(
    st.tuples(st.just("set"), PATHS, st.integers(0, 9)),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("drop"), PATHS),
    st.tuples(st.just("rename"), PATHS.filter(bool), PATHS.filter(bool)),
    st.tuples(st.just("clear")),
)


def tree(*paths: bytes) -> PathTree[int]:
    some: PathTree[int] = PathTree()
    for number, path in enumerate(paths):
        some.set(path, number)
    return some


def is_within(path: bytes, directory: bytes) -> bool:
    return not directory or (path + b"/").startswith(directory + b"/")


class Plain:
    """The same with a dictionary, slowly."""

    def __init__(self) -> None:
        self.values: dict[bytes, int] = {}

    def set(self, path: bytes, value: int) -> None:
        self.values[path] = value

    def remove(self, path: bytes) -> None:
        self.values.pop(path, None)

    def drop(self, path: bytes) -> None:
        self.values = {known: value for known, value in self.values.items() if not is_within(known, path)}

    def rename(self, old: bytes, new: bytes) -> None:
        moved = {known: value for known, value in self.values.items() if is_within(known, old)}
        self.drop(old)
        self.drop(new)
        self.values |= {new + known[len(old) :]: value for known, value in moved.items()}

    def clear(self) -> None:
        self.values = {}


@given(st.lists(ACTIONS, max_size=20))
def test_it_does_what_a_dictionary_does(actions: list[tuple[str, bytes, int]]) -> None:
    some, plain = tree(), Plain()
    for name, *arguments in actions:
        if name == "rename" and (
            is_within(arguments[0], arguments[1]) or is_within(arguments[1], arguments[0])  # type: ignore[arg-type]
        ):
            continue
        getattr(some, name)(*arguments)
        getattr(plain, name)(*arguments)
        assert some == plain.values
        assert len(some) == len(plain.values)
        assert sorted(some) == sorted(plain.values)
        for path in (b"", b"a", b"a/b", b"b"):
            below = {known: value for known, value in plain.values.items() if is_within(known, path)}
            assert dict(some.at_or_below(path)) == below
            assert some.holds(path) == bool(below)
            assert some.get(path) == plain.values.get(path)


def test_nothing_is_left_of_what_was_taken_away() -> None:
    some = tree(b"a/b/c", b"a/d")
    assert some.remove(b"a/b/c") == 0
    assert some.remove(b"a/b/c") is None
    assert some.remove(b"a/b") is None
    some.drop(b"a/d")
    assert not some.holds(b"a") and not some.holds(b"")


def test_a_missing_path_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        tree(b"a/b")[b"a"]


def test_what_moves_replaces_what_was_there() -> None:
    some = tree(b"a/x", b"b/y")
    some.rename(b"a", b"b")
    assert some == {b"b/x": 0}
    some.rename(b"nothing", b"b")
    assert len(some) == 0
