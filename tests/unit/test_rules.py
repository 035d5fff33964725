# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the settings that hold filter rules, and of the files they name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lsyncd_sd.config import rules
from lsyncd_sd.config.document import show
from lsyncd_sd.config.load import Loaded, load
from lsyncd_sd.config.model import Sync
from lsyncd_sd.config.rules import MAXIMUM_RULE_BYTES, MAXIMUM_RULES


class House:
    """A configuration file with one sync, and files of rules beside it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.source = base / "source"
        self.source.mkdir()
        self.file = base / "home.yaml"

    def rules(self, content: bytes | str, name: str = "some.rules") -> Path:
        path = self.base / name
        path.write_bytes(content if isinstance(content, bytes) else os.fsencode(content))
        return path

    def load(self, *lines: str) -> Loaded:
        text = "\n".join((f"source: {self.source}", "target: host:/b", *lines)) + "\n"
        self.file.write_text(text, encoding="utf-8")
        return load([str(self.file)])

    def sync(self, *lines: str) -> Sync:
        loaded = self.load(*lines)
        assert not loaded.problems
        return loaded.configurations[0].syncs[0]

    def lines(self, loaded: Loaded) -> list[str]:
        """Return all problems as they are shown, without the folder's name."""
        shown = [line for problem in loaded.problems for line in problem.lines()]
        return [line.replace(f"{self.base}/", "") for line in shown]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(Path(os.path.realpath(tmp_path)))


def test_the_four_settings_are_asked_in_this_order(house: House) -> None:
    patterns, own = house.rules("c\n+ d\n", "x"), house.rules("P b\n", "y")
    sync = house.sync(
        *("exclude: [b, 'a b']", f"exclude_from: {patterns}", "filter: ['+ a']", f"filter_from: [{own}]")
    )
    assert sync.make_filter().rsync_arguments() == [
        *("--filter=+ a", "--filter=P b", "--filter=- b", "--filter=- a b", "--filter=- c", "--filter=+ d")
    ]
    assert (sync.exclude, sync.filter) == (("b", "a b"), ("+ a",))
    assert (sync.exclude_from, sync.filter_from) == ((str(patterns),), (str(own),))


def test_every_rule_has_its_place(house: House) -> None:
    path = house.rules("# a comment\n\n- x\n", "x")
    sync = house.sync("exclude: a", f"filter_from: {path}", "filter:", "  - P q", "  - '- r'")
    places = {rule.text: rule.place.replace(f"{house.base}/", "") for rule in sync.rules}
    assert places == {"P q": "home.yaml:6:5", "- r": "home.yaml:7:5", "- x": "x:3:1", "a": "home.yaml:3:10"}


def test_the_places_make_no_difference_and_the_content_of_a_file_does(house: House) -> None:
    path = house.rules("a\n")
    line = f"exclude_from: {path}"
    first = house.sync(line)
    house.rules("# moved down\n\na\n")
    assert house.sync("delay: 5", line) == first
    house.rules("b\n")
    assert house.sync(line) != first
    assert "place" not in repr(first.rules)


def test_a_file_is_read_as_rsync_reads_it(house: House) -> None:
    content = b"\xef\xbb\xbf*.tmp\r\n;comment\r#comment\r\n\r\n+ a#b\n#\n- ;c\n\xff\xc3\xa9\nlast"
    sync = house.sync(f"exclude_from: {house.rules(content)}")
    assert [(rule.text, rule.place.split(":", 1)[1]) for rule in sync.rules] == [
        *(("*.tmp", "1:1"), ("+ a#b", "5:1"), ("- ;c", "7:1"), ("\udcffé", "8:1"), ("last", "9:1"))
    ]


def test_every_bad_line_of_a_file_is_reported_at_its_place(house: House) -> None:
    patterns, own = house.rules("a\n!\n- \n", "x"), house.rules("- a\nb\n: .rules\n-/ /c\n!\n", "y")
    loaded = house.load(f"exclude_from: {patterns}", f"filter_from: {own}", "delay: x")
    assert [line for line in house.lines(loaded) if not line.startswith("    ")] == [
        "home.yaml:5:8: delay: 'x' is not a duration",
        "x:2:1: a lone '!' would drop every pattern before it",
        "y:2:1: 'b': this is no filter rule",
        "x:3:1: the pattern '- ' is empty",
        "y:3:1: ': .rules': rules in the directories themselves are not possible",
        "y:4:1: '-/ /c': the modifier / is not possible",
    ]
    assert loaded.configurations == ()


def test_a_rule_that_clears_the_list_clears_what_was_given_before_it(house: House) -> None:
    path = house.rules("- b\n!\n")
    sync = house.sync("filter: ['- a']", f"filter_from: {path}", "exclude: c")
    assert sync.make_filter().rsync_arguments() == ["--filter=- c"]


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "large"])
def test_a_file_that_cannot_be_used(house: House, kind: str) -> None:
    path = house.base / "odd"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b"\n" * (1024 * 1024 + 1))
    (line, *_hint) = house.lines(house.load("delay: 1", f"exclude_from: [{path}]"))
    expected = {
        "missing": "the file cannot be read: No such file or directory",
        "folder": "this is not a file",
        "fifo": "this is not a file",
        "large": "the file is larger than 1048576 bytes",
    }
    assert line == f"home.yaml:4:16: exclude_from: '{path}': {expected[kind]}".replace(f"{house.base}/", "")


def test_a_file_that_could_hang_is_not_touched(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the configuration itself lies on such a file system: then nothing is gained."""
    far = house.base / "far"
    far.mkdir()
    path = house.rules("a\n", "far/x")
    monkeypatch.setattr(rules, "mounts_that_can_hang", lambda: frozenset([str(far)]))
    (line, hint) = house.lines(house.load(f"exclude_from: {path}"))
    assert line.endswith("the file lies on a file system that can hang")
    assert "copy it" in hint
    monkeypatch.setattr(rules, "mounts_that_can_hang", lambda: frozenset([str(house.base)]))
    assert house.sync(f"exclude_from: {path}").rules


def test_blanks_around_a_pattern_of_a_file_are_doubtful(house: House) -> None:
    path = house.rules("a \n b\n  \n+ c\n- d e\n- \tf\n")
    loaded = house.load(f"exclude_from: {path}")
    assert [line.split(" the pattern of ")[-1] for line in house.lines(loaded)[::2]] == [
        *("'a '", "' b'", "'  '", "'- \\x09f'")
    ]
    assert all(problem.is_warning for problem in loaded.problems)
    # in quotes it was meant
    assert house.sync("exclude: 'a '").exclude == ("a ",)


def test_patterns_that_begin_with_the_path_of_the_source_are_doubtful(house: House) -> None:
    source = str(house.source)
    loaded = house.load(
        f"exclude: [{source}/a/b, '+ {source}', {source}s/a, '*{source}/c', /a]",
        f"filter: ['P {source}/*.o', '!', 'H {source}/']",
    )
    hints = [problem.hint for problem in loaded.problems]
    assert [hint.rsplit(" ", 1)[1] for hint in hints] == ["'/a/b'", "'/*'", "'/*.o'", "'/'"]
    assert all(problem.is_warning for problem in loaded.problems)
    assert f"fits only below '{source}{source}'" in hints[0]


TOO_MANY = [(MAXIMUM_RULES + 1, 1), (MAXIMUM_RULE_BYTES // 4000 + 1, 4000)]


@pytest.mark.parametrize(("count", "length"), TOO_MANY)
def test_too_many_rules_are_an_error_at_the_last(house: House, count: int, length: int) -> None:
    line = "x" * length + "\n"
    path = house.rules(line * (count - 1))
    house.sync(f"exclude_from: {path}")
    house.rules(line * count)
    (problem,) = house.load(f"exclude_from: {path}").problems
    assert problem.place.endswith(f"some.rules:{count}:1")
    assert f"{count} filter rules of {count * length} bytes" in problem.message


def test_a_sync_replaces_the_rules_of_the_defaults(house: House) -> None:
    path = house.rules("a\n")
    house.file.write_text(
        f"defaults: {{exclude_from: {path}, filter: P p}}\n"
        "syncs:\n"
        f"- {{name: one, source: {house.source}, target: 'h:/a'}}\n"
        f"- {{name: two, source: {house.source}, target: 'h:/b', exclude_from: []}}\n"
    )
    one, two = load([str(house.file)]).configurations[0].syncs
    assert [rule.text for rule in one.rules] == ["P p", "a"]
    assert [rule.text for rule in two.rules] == ["P p"]


def test_show_config_names_the_files(house: House) -> None:
    path = house.rules("a\n")
    house.sync(f"exclude_from: {path}", "filter: '- *'")
    shown = show(load([str(house.file)]).configurations[0])
    assert f"exclude_from: [{path}]" in shown
    assert 'filter: ["- *"]' in shown
