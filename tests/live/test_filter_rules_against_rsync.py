# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares plan/filters.py with the real rsync on rules of all kinds: what is sent, and what is deleted.

Three answers must be the same: that of rsync with the rules as they were written, that of rsync with the
arguments that the filter makes of them, and that of the filter itself. Tried with mutants that made it fail:
one side's rules asked for the other's, delete_excluded ignored, negation lost.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.filter_trees import (
    DEEP_PIECES,
    ODD_PIECES,
    Profile,
    create,
    deep_tree,
    generated_trees,
    names_in,
    output_of_rsync,
    patterns_for,
)
from helpers.rig import watched_inodes
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.config.nodes import Scalar
from lsyncd_sd.config.parsers import parse_pattern, parse_rule
from lsyncd_sd.config.report import Report
from lsyncd_sd.config.rules import RuleFiles
from lsyncd_sd.plan.filters import BadRuleError, Filter, Rule, Side, WrittenRule
from lsyncd_sd.watch import inotify
from lsyncd_sd.watch.coverage import Scope
from lsyncd_sd.watch.watcher import Watcher

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]

Tree = dict[bytes, str]

SHORT = [
    *("-", "-", "-", "+", "+", "H", "S", "P", "P", "R"),
    *(
        "-!",
        "-p",
        "-s",
        "-r",
        "-sr",
        "-!p",
        "-pr",
        "+!",
        "+s",
        "+r",
        "+p",
        "H!",
        "Hp",
        "Pp",
        "P!",
        "Rp",
        "S!",
    ),
]
LONG = ["exclude", "include", "hide", "show", "protect", "risk"]
WITH_MODIFIERS = [
    *("-,", "P,p", "exclude,", "exclude,s", "exclude,pr", "include,!", "hide,p", "protect,!", "risk,p"),
]


class Answer(NamedTuple):
    """What a run sends or finds equal, and what it deletes."""

    sent: frozenset[bytes]
    deleted: frozenset[bytes]


def written_rules(patterns: st.SearchStrategy[str]) -> st.SearchStrategy[WrittenRule]:
    """Return a strategy for rules of all kinds and spellings with these patterns."""
    names = st.sampled_from([*SHORT, *LONG, *WITH_MODIFIERS])
    filters = st.builds("{}{}{}".format, names, st.sampled_from("   _"), patterns)
    clearing = st.sampled_from(["!", "clear", "!,"])
    # one rule in twenty: most of what a list begins with should count
    chosen = st.integers(0, 19).flatmap(lambda number: clearing if number == 7 else filters)
    return st.one_of(
        chosen.map(WrittenRule), chosen.map(WrittenRule), patterns.map(lambda text: WrittenRule(text, True))
    )


def as_written(rules: Sequence[WrittenRule]) -> list[str]:
    """Return the arguments that give rsync the rules as somebody wrote them."""
    return [f"--{'exclude' if rule.is_pattern else 'filter'}={rule.text}" for rule in rules]


def below(tree: Tree, directory: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield what stands in a directory of a tree, and whether it is one."""
    for path, kind in tree.items():
        if path and path.rpartition(b"/")[0] == directory:
            yield path, kind == "d"


class Ours:
    """What the filter says of two trees, with a second look at its rules for what goes with a directory."""

    def __init__(self, source: Tree, target: Tree, filters: Filter) -> None:
        self._target = target
        self._filters = filters
        self._sent = {path for path, kind in source.items() if not filters.hides(path, kind == "d")}
        self._deleted: set[bytes] = set()
        self._receiver = [rule for rule in filters._rules if Side.RECEIVER & (rule.sides or Side.RECEIVER)]
        self._prune(b"")

    def answer(self) -> Answer:
        return Answer(frozenset(self._sent), frozenset(self._deleted))

    def _prune(self, directory: bytes) -> None:
        for path, is_directory in below(self._target, directory):
            if path in self._sent:
                if is_directory:
                    self._prune(path)
            elif not self._filters.protects(path, is_directory) and self._is_cleared(path, is_directory):
                self._deleted.add(path)

    def _is_cleared(self, path: bytes, is_directory: bool) -> bool:
        """Delete what a directory that goes holds, and tell whether all of it went."""
        is_empty = True
        for child, child_is_directory in below(self._target, path) if is_directory else ():
            if self._goes_along(child, child_is_directory) and self._is_cleared(child, child_is_directory):
                self._deleted.add(child)
            else:
                is_empty = False
        return is_empty

    def _goes_along(self, path: bytes, is_directory: bool) -> bool:
        first = (
            rule for rule in self._receiver if not rule.is_perishable and rule.matches(path, is_directory)
        )
        deciding = next(first, None)
        return deciding is None or deciding.is_include


class House:
    """A source and a target on disk, of which the source lacks a part."""

    def __init__(self, base: Path, tree: Tree) -> None:
        self.source, self.target = base / "source", base / "target"
        for path in (self.source, self.target):
            path.mkdir(parents=True)
        lacking = {path for number, path in enumerate(sorted(tree)) if number % 5 == 3}
        self.target_tree = tree
        self.source_tree = {
            path: kind
            for path, kind in tree.items()
            if not any(path == gone or path.startswith(gone + b"/") for gone in lacking)
        }
        create(self.source_tree, self.source)

    def answer(self, arguments: Sequence[str], host: str = "") -> Answer:
        """Return what rsync does. A dry run would not do: it lists directories that cannot go, too."""
        shutil.rmtree(self.target)
        self.target.mkdir()
        create(self.target_tree, self.target)
        always = ("-rlii8I", "--delete", "--out-format=%i %n", *arguments, "--")
        lines = names_in(output_of_rsync(*always, f"{self.source}/", f"{host}{self.target}/"))
        # what is done takes eleven letters, or blanks
        sent = {line[12:].removesuffix(b"/") for line in lines if not line.startswith(b"*deleting ")}
        left = os.fsencode(self.target) + b"/"
        deleted = {path for path in self.target_tree if not os.path.lexists(left + path)}
        return Answer(frozenset(sent & self.source_tree.keys()), frozenset(deleted))

    def check(self, rules: Sequence[WrittenRule], delete_excluded: bool) -> None:
        """Fail unless all three answers are the same."""
        try:
            filters = Filter.from_rules(rules, delete_excluded=delete_excluded)
        except BadRuleError:
            return
        options = ["--delete-excluded"] * delete_excluded
        expected = self.answer([*as_written(rules), *options])
        ours = filters.rsync_arguments()
        assert self.answer(ours) == expected, (rules, ours)
        assert Ours(self.source_tree, self.target_tree, filters).answer() == expected, (rules, ours)
        self._check_explanations(filters, expected)

    def _check_explanations(self, filters: Filter, answer: Answer) -> None:
        for path, kind in self.target_tree.items():
            is_directory = kind == "d"
            reason = filters.explain(path, is_directory)
            is_hidden = reason is not None and not reason.rule.is_include
            assert is_hidden == filters.hides(path, is_directory), path
            if path in answer.sent or is_directory or not self._is_asked_alone(path, is_hidden, answer):
                continue
            reason = filters.explain_protection(path, is_directory)
            is_kept = reason is not None and not reason.rule.is_include
            assert is_kept == (path not in answer.deleted), path

    def _is_asked_alone(self, path: bytes, is_hidden: bool, answer: Answer) -> bool:
        """Tell whether a path goes by itself or with a hidden directory, and not with one that is gone."""
        parent = path.rpartition(b"/")[0]
        return not parent or parent in answer.sent or (is_hidden and path in self.source_tree)


@pytest.fixture
def run(full: bool) -> Profile:
    return Profile(full)


def test_generated_rules(run: Profile, tmp_path: Path) -> None:
    house = House(tmp_path, deep_tree())
    rules = written_rules(patterns_for(list(house.target_tree), DEEP_PIECES))

    @given(st.lists(rules, min_size=1, max_size=4), st.booleans())
    def compare(rules: list[WrittenRule], delete_excluded: bool) -> None:
        house.check(rules, delete_excluded)

    run(25, compare)


def test_generated_rules_on_generated_trees(run: Profile, tmp_path: Path) -> None:
    numbers = itertools.count()

    @given(st.data())
    def compare(data: st.DataObject) -> None:
        tree = data.draw(generated_trees())
        house = House(tmp_path / str(next(numbers)), tree)
        rules = st.lists(written_rules(patterns_for(list(tree), ODD_PIECES)), min_size=1, max_size=5)
        for rule_list in data.draw(st.lists(rules, min_size=5, max_size=5)):
            house.check(rule_list, delete_excluded=data.draw(st.booleans()))

    run(8, compare)


def test_rules_that_are_sent_to_another_host(run: Profile, tmp_path: Path) -> None:
    """Then rsync itself writes each rule anew for the other side."""
    house = House(tmp_path, deep_tree())
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    shell.chmod(0o755)

    @given(
        st.lists(written_rules(patterns_for(list(house.target_tree), DEEP_PIECES)), min_size=1, max_size=4),
        st.booleans(),
    )
    def compare(rules: list[WrittenRule], delete_excluded: bool) -> None:
        try:
            filters = Filter.from_rules(rules, delete_excluded=delete_excluded)
        except BadRuleError:
            return
        arguments = ["-s", "-e", str(shell), *filters.rsync_arguments()]
        answer = house.answer(arguments, "host:")
        assert answer == Ours(house.source_tree, house.target_tree, filters).answer(), rules

    run(12, compare)


# ---- what is a rule at all


def is_taken_by_rsync(folder: Path, text: str) -> bool:
    command = ["rsync", "-rn", f"--filter={text}", f"{folder}/", f"{folder}.target/"]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=60).returncode == 0


ONLY_RSYNC = ("merged", "in the directories", "modifier /", "modifier C", "modifier x")


def test_what_is_a_rule_and_what_is_none(run: Profile, tmp_path: Path) -> None:
    names = st.sampled_from(
        [*"-+HSPR!.:acdehimprs", *LONG, "clear", "merge", "dir-merge", "exclud", "riskx"]
    )
    rest = st.lists(st.sampled_from([*",_ !psr/Cxenw-+", "\t", "a", "*", ""]), max_size=4).map("".join)

    @given(st.builds("{}{}".format, names, rest))
    def compare(text: str) -> None:
        try:
            Rule.parse(WrittenRule(text))
        except BadRuleError as error:
            if not error.message.endswith("possible") and "merged" not in error.message:
                assert not is_taken_by_rsync(tmp_path, text), text
        else:
            assert is_taken_by_rsync(tmp_path, text), text

    run(150, compare)


# ---- files of rules


def lines_of(rules: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return a strategy for the content of a file: rules, comments and empty lines, ended in every way."""
    usable = rules.filter(lambda text: not set(text) & set("\r\n"))
    lines = st.one_of(usable, usable, st.sampled_from(["", "# - *", "; *", "#"]))
    ends = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"])
    return st.lists(st.builds("{}{}".format, lines, ends), max_size=6).map("".join)


@pytest.mark.parametrize("is_pattern", [True, False], ids=["patterns", "rules"])
def test_files_of_rules(run: Profile, tmp_path: Path, is_pattern: bool) -> None:
    house = House(tmp_path, deep_tree())
    path = tmp_path / "file"
    patterns = patterns_for(list(house.target_tree), DEEP_PIECES)
    option = "--exclude-from=" if is_pattern else "--filter=merge "
    parse: Callable[[str], str] = parse_pattern if is_pattern else parse_rule
    rules = patterns if is_pattern else written_rules(patterns).map(lambda rule: rule.text)

    @given(lines_of(rules))
    def compare(content: str) -> None:
        path.write_bytes(os.fsencode(content))
        report = Report("home.yaml")
        node = Scalar("home.yaml:1:1", str(path), is_plain=True)
        read = RuleFiles(parse, is_pattern=is_pattern).read_item(node, "file", report)
        if report.has_errors:
            return
        filters = Filter.from_rules(read.rules)
        answer = house.answer([f"{option}{path}"])
        assert answer == Ours(house.source_tree, house.target_tree, filters).answer(), content

    run(12, compare)


# ---- what is watched


def test_what_is_hidden_is_not_watched_and_all_else_is(run: Profile, tmp_path: Path) -> None:
    house = House(tmp_path, deep_tree())
    root = os.fsencode(house.source)
    inodes = {path: os.lstat(root + b"/" + path).st_ino for path in house.source_tree}
    inodes[b""] = os.lstat(root).st_ino

    @given(st.lists(written_rules(patterns_for(list(inodes), DEEP_PIECES)), min_size=1, max_size=4))
    def compare(rules: list[WrittenRule]) -> None:
        try:
            filters = Filter.from_rules(rules)
        except BadRuleError:
            return
        queue = inotify.open_queue()
        try:
            watcher = Watcher(queue, root, Scope(filters.excludes, filters.hides_alike))
            watcher.restart()
            while not watcher.walk(100):
                pass
            watched = set(watched_inodes(queue))
        finally:
            os.close(queue)
        shown = {
            path for path, kind in house.source_tree.items() if kind == "d" and not filters.hides(path, True)
        }
        assert watched == {inodes[path] for path in shown | {b""}}, rules

    run(60, compare)
