# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/permits.py and service/turns.py: never more run than may, and everybody's turn comes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from helpers.looping import run_until

from lsyncd_sd.loop import Loop
from lsyncd_sd.service.permits import Permits
from lsyncd_sd.service.turns import Turns


class Runner:
    """Somebody who has something to run now and then; notes when it begins."""

    def __init__(self, name: str, permits: Permits, begun: list[str]) -> None:
        self._name = name
        self._permits = permits
        self._begun = begun
        self.has_work = self.is_running = False
        self.on_begin: Callable[[], None] = lambda: None

    def want(self) -> None:
        """There is something to run."""
        self.has_work = True
        self.poke()

    def poke(self) -> None:
        """Begin, if there is something to run and it may."""
        if self.has_work and not self.is_running and self._permits.take(self.poke):
            self.has_work, self.is_running = False, True
            self._begun.append(self._name)
            self.on_begin()

    def end(self) -> None:
        """What runs has ended."""
        self.is_running = False
        self._permits.give_back()
        self.poke()


class House:
    """A parent's turns, and some processes with some runners each."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.turns = Turns(self.loop)
        self.begun: list[str] = []
        self.runners: dict[str, Runner] = {}
        self.permits: dict[str, Permits] = {}
        self.ends: list[Callable[[], None]] = []

    def process(self, name: str, runners: str, limit: int | None = None, of_file: int | None = None) -> None:
        """Start a process; each letter is a runner of it."""
        turns = None if of_file is None else self.turns.join(name, "file", of_file)
        self.permits[name] = permits = Permits(self.loop, limit, turns)
        for letter in runners:
            self.runners[letter] = Runner(letter, permits, self.begun)
        if turns is not None:
            self.ends.append(turns.close)

    def want(self, letters: str) -> None:
        for letter in letters:
            self.runners[letter].want()

    def end(self, letter: str) -> None:
        self.runners[letter].end()

    def settle(self) -> str:
        """Let all be heard that was said; return who has begun since the last time."""
        for _ in range(6):
            self.loop.run_once(0)
        begun, self.begun[:] = "".join(self.begun), []
        return begun

    def running(self) -> str:
        return "".join(letter for letter, runner in self.runners.items() if runner.is_running)

    def close(self) -> None:
        for end in self.ends:
            end()
        self.turns.close_in_child()
        self.loop.close()


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


# one process


def test_without_a_limit_everybody_may(house: House) -> None:
    house.process("home", "abc")
    house.want("abc")
    assert house.settle() == "abc"


def test_who_comes_first_is_served_first(house: House) -> None:
    house.process("home", "abcd", limit=2)
    house.want("abcd")
    assert house.settle() == "ab"
    house.end("b")
    assert house.settle() == "c"
    house.want("b")
    house.end("a")
    assert house.settle() == "d"
    house.end("c")
    assert house.settle() == "b"


def test_who_asks_again_and_again_waits_once(house: House) -> None:
    house.process("home", "abc", limit=1)
    house.want("abbbc")
    house.settle()
    assert len(house.permits["home"]._line) == 2
    house.end("a")
    assert house.settle() == "b"
    house.end("b")
    assert house.settle() == "c"


def test_who_wants_nothing_any_more_is_passed_over(house: House) -> None:
    house.process("home", "abc", limit=1)
    house.want("abc")
    house.settle()
    house.runners["b"].has_work = False
    house.end("a")
    assert house.settle() == "c"
    house.end("c")
    house.want("b")
    assert house.settle() == "b"


def test_who_has_more_to_do_waits_behind_the_others(house: House) -> None:
    house.process("home", "ab", limit=1)
    house.want("ab")
    house.runners["a"].has_work = True
    house.end("a")
    assert house.settle() == "ab"
    house.end("b")
    assert house.settle() == "a"


# several processes


def test_all_syncs_of_a_file_share_their_turns(house: House) -> None:
    house.process("one", "ab", of_file=2)
    house.process("two", "cd", of_file=2)
    for letter in "acbd":
        house.want(letter)
        house.settle()
    assert house.running() == "ac"
    house.end("c")
    house.settle()
    assert house.running() == "ab"
    house.end("a")
    house.settle()
    assert house.running() == "bd"


def test_each_limit_counts(house: House) -> None:
    house.process("one", "abc", limit=1, of_file=2)
    house.process("two", "de", limit=2, of_file=2)
    house.want("abcde")
    assert house.settle() == "ad"
    house.end("d")
    assert house.settle() == "e", "one may not, although it came first"
    house.end("a")
    assert house.settle() == "b"


def test_what_is_asked_for_while_one_begins_waits_behind_the_others(house: House) -> None:
    """To begin a batch is to read what happened, and that may be work for another target."""
    house.process("one", "abc", of_file=2)
    house.process("two", "de", of_file=2)
    house.want("de")
    house.settle()
    house.want("ab")
    house.settle()
    house.runners["a"].on_begin = lambda: house.want("c")
    house.end("d")
    house.end("e")
    # both turns come at once
    assert house.settle() == "ab"
    house.end("b")
    assert house.settle() == "c"


def test_a_turn_that_nobody_uses_goes_back(house: House) -> None:
    house.process("one", "ab", of_file=1)
    house.process("two", "c", of_file=1)
    house.want("abc")
    house.settle()
    house.runners["b"].has_work = False
    house.end("a")
    assert house.settle() == "c"


@pytest.mark.parametrize("says_so", [True, False])
def test_the_turns_of_a_process_that_dies_are_those_of_the_others(house: House, says_so: bool) -> None:
    house.process("one", "ab", of_file=1)
    house.process("two", "c", of_file=1)
    house.want("abc")
    assert house.settle() == "a"
    if says_so:
        house.ends.pop(0)()
        house.settle()
    house.turns.leave("one")
    house.turns.leave("one")
    assert house.settle() == "c"


def test_turns_that_were_given_back_are_not_given_twice(house: House) -> None:
    house.process("one", "a", of_file=1)
    for _ in range(3):
        house.want("a")
        house.settle()
        house.end("a")
        house.settle()
    house.turns.leave("one")
    house.process("two", "bc", of_file=1)
    house.want("bc")
    house.settle()
    assert house.running() == "b"


def test_a_process_that_comes_back_begins_anew(house: House) -> None:
    house.process("one", "a", of_file=1)
    house.want("a")
    house.settle()
    house.turns.leave("one")
    house.process("one", "b", of_file=1)
    house.want("b")
    assert house.settle() == "ab"[1:]


def test_the_newest_limit_counts(house: House) -> None:
    house.process("one", "ab", of_file=1)
    house.want("ab")
    assert house.settle() == "a"
    house.process("two", "c", of_file=2)
    house.want("c")
    assert house.settle() == "bc"[:1]


def test_the_parent_may_end(house: House) -> None:
    house.process("one", "ab", of_file=1)
    house.want("ab")
    house.settle()
    house.turns.leave("one")
    passes: list[int] = []
    house.loop.call_later(0.05, lambda: passes.append(1))
    run_until(house.loop, lambda: bool(passes), "the loop does not spin")
    house.end("a")
    assert house.settle() == ""


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_nobody_is_forgotten_and_no_limit_exceeded(house: House, seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311  (to be replayed)
    house.process("one", "abc", limit=2, of_file=3)
    house.process("two", "de", limit=None, of_file=3)
    house.process("three", "fghi", limit=3, of_file=3)
    for _ in range(300):
        letter = chosen.choice("abcdefghi")
        runner = house.runners[letter]
        if runner.is_running:
            runner.end()
        else:
            runner.want()
        if chosen.random() < 0.5:
            house.settle()
            running = house.running()
            assert len(running) <= 3
            assert len(set(running) & set("abc")) <= 2
    while running := house.running():
        house.end(running[0])
        house.settle()
    assert not any(runner.has_work for runner in house.runners.values())
