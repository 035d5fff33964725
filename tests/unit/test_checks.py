# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of what only the file system and other syncs can tell, and of loading files together."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest

from lsyncd_sd.config.checks import check_together
from lsyncd_sd.config.load import load
from lsyncd_sd.config.model import Configuration
from lsyncd_sd.config.reader import read_text
from lsyncd_sd.errors import Problem

MISSING = "is not there"


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder without links in its path, with some sources in it."""
    root = pathlib.Path(os.path.realpath(tmp_path))
    for name in ("a", "b", "c/d"):
        (root / name).mkdir(parents=True)
    (root / "file").touch()
    return root


def configuration(*syncs: str, file: str = "x.yaml") -> Configuration:
    """Return the configuration of syncs written as `NAME SOURCE TARGET`, with more YAML behind."""
    lines = ["syncs:"]
    for sync in syncs:
        name, source, target, *more = sync.split(" ", 3)
        lines.append(
            f"  - {{name: {name}, source: {source!r}, target: {target!r}{', ' + more[0] if more else ''}}}"
        )
    return read_text("\n".join(lines), file)[0]


def errors(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.place, problem.message) for problem in problems if not problem.is_warning]


def several(source: str, *targets: object, more: str = "") -> Configuration:
    """Return the configuration of a sync with several targets, one on each line from the third on."""
    lines = [f"source: {source}", "targets:", *(f"  - {target}" for target in targets), more]
    return read_text("\n".join(lines), "x.yaml")[0]


# ---- sources ----


def test_a_good_source_is_nothing_to_talk_about(root: pathlib.Path) -> None:
    assert check_together([configuration(f"one {root}/a host:/a")]) == []


def test_a_missing_source_is_a_warning_only(root: pathlib.Path) -> None:
    (problem,) = check_together([configuration(f"one {root}/missing host:/a")])
    assert problem.is_warning
    assert problem.message == f"source: '{root}/missing' is not there"
    assert problem.place == "x.yaml:2:25"


def test_a_missing_source_is_an_error_where_it_is_not_waited_for(root: pathlib.Path) -> None:
    checked = configuration(f"one {root}/missing host:/a", f"two {root}/a host:/b")
    (problem,) = check_together([checked], waits_for_sources=False)
    assert not problem.is_warning
    assert (problem.place, problem.message) == ("x.yaml:2:25", f"source: '{root}/missing' is not there")


@pytest.mark.parametrize("name", ["file", "link"])
def test_a_source_that_is_a_file_is_an_error(root: pathlib.Path, name: str) -> None:
    (root / "link").symlink_to("file")
    assert errors(check_together([configuration(f"one {root}/{name} host:/a")])) == [
        ("x.yaml:2:25", f"source: '{root}/{name}' is not a directory")
    ]


def test_a_source_below_a_file_is_missing(root: pathlib.Path) -> None:
    (problem,) = check_together([configuration(f"one {root}/file/x host:/a")])
    assert problem.is_warning and MISSING in problem.message


def test_a_source_that_cannot_be_read_is_a_warning(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsyncd_sd.config.checks.os.access", lambda path, mode: False)
    (problem,) = check_together([configuration(f"one {root}/a host:/a")])
    assert problem.is_warning and "cannot be read" in problem.message


def test_a_source_that_cannot_be_reached_is_a_warning(root: pathlib.Path) -> None:
    (problem,) = check_together([configuration(f"one {root}/{'x' * 300} host:/a")])
    assert problem.is_warning and "too long" in problem.message


def test_nothing_is_asked_of_a_mount_that_can_hang(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsyncd_sd.config.checks.mounts_that_can_hang", lambda: frozenset([f"{root}/c"]))
    assert check_together([configuration(f"one {root}/c/missing {root}/file2")]) == []
    assert errors(check_together([configuration(f"one {root}/c/missing {root}/c")])) != []


# ---- a local target and its own source ----


@pytest.mark.parametrize(
    ("source", "target", "relation"),
    [
        ("a", "a", "is the same as"),
        ("a", "a/b", "lies in"),
        ("a", "a/new/b", "lies in"),
        ("c/d", "c", "contains"),
        ("a", "link-to-a", "is the same as"),
        ("a", "link-to-a/x", "lies in"),
        ("link-to-a", "a/x", "lies in"),
        ("c/d", "link-to-c", "contains"),
        ("missing", "missing/x", "lies in"),
    ],
)
def test_a_target_may_not_touch_its_source(
    root: pathlib.Path, source: str, target: str, relation: str
) -> None:
    (root / "link-to-a").symlink_to(root / "a")
    (root / "link-to-c").symlink_to("c")
    ((place, message),) = errors(check_together([configuration(f"one {root}/{source} {root}/{target}")]))
    assert place.startswith("x.yaml:2:")
    assert message == f"target: '{root}/{target}' {relation} the source '{root}/{source}'"


@pytest.mark.parametrize("target", ["ab", "b", "c", "new", "a2/a"])
def test_a_target_beside_the_source_is_good(root: pathlib.Path, target: str) -> None:
    assert check_together([configuration(f"one {root}/a {root}/{target}")]) == []


def test_a_target_that_is_a_file_is_an_error(root: pathlib.Path) -> None:
    ((_, message),) = errors(check_together([configuration(f"one {root}/a {root}/file")]))
    assert message == f"target: '{root}/file' is not a directory"


# ---- several syncs ----


@pytest.mark.parametrize(
    ("first", "second", "relation"),
    [
        ("/m/x", "/m/x", "is the same as"),
        ("/m/x", "/m//x/", "is the same as"),
        ("/m/x", "/m/x/y", "lies in"),
        ("/m/x/y", "/m/x", "contains"),
        ("h:/m", "H:/m/", "is the same as"),
        ("h:/m", "u@h:/m/x", "lies in"),
        ("[::1]:/m/x", "[::1]:/m", "contains"),
        ("h:m", "h:m/x", "lies in"),
        ("h:", "h:x/y", "lies in"),
        ("h::mod/x", "rsync://h/mod/x", "is the same as"),
        ("h::mod", "rsync://h:873/mod/x", "lies in"),
    ],
)
def test_two_targets_may_not_be_equal_or_nested(
    root: pathlib.Path, first: str, second: str, relation: str
) -> None:
    (problem,) = check_together([configuration(f"one {root}/a {first}", f"two {root}/b {second}")])
    assert problem.place.startswith("x.yaml:3:")
    assert f"{relation} the target of 'one'" in problem.message
    assert "x.yaml:2:" in problem.hint


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/m/x", "/m/xy"),
        ("/m/x", "h:/m/x"),
        ("h:/m", "g:/m"),
        ("h:/m", "h::m"),
        ("h:/m", "h:m"),
        ("u@h:m", "v@h:m"),
        ("rsync://h:1000/m", "rsync://h:1001/m"),
        ("h:/m", "h:/m ssh: {port: 2222}"),
        ("h::mod", "h::modx"),
    ],
)
def test_targets_beside_each_other_are_good(root: pathlib.Path, first: str, second: str) -> None:
    assert check_together([configuration(f"one {root}/a {first}", f"two {root}/a {second}")]) == []


def test_every_target_in_another_is_told(root: pathlib.Path) -> None:
    names = ["x/y", "x", "x/y/z", "w", "x/v"]
    found = check_together([configuration(*(f"s{n} {root}/a /m/{name}" for n, name in enumerate(names)))])
    assert [int(problem.place.split(":")[1]) for problem in found] == [3, 4, 6]


def test_links_are_followed_to_compare_targets(root: pathlib.Path) -> None:
    (root / "link").symlink_to("c")
    (problem,) = check_together([configuration(f"one {root}/a {root}/c/x", f"two {root}/b {root}/link/x/y")])
    assert "lies in the target of 'one'" in problem.message


def test_syncs_may_not_mirror_into_each_other(root: pathlib.Path) -> None:
    (problem,) = check_together([configuration(f"one {root}/a {root}/b/x", f"two {root}/b {root}/a/x")])
    assert problem.message == "target: this sync and 'one' mirror into each other"


def test_a_chain_of_syncs_is_good(root: pathlib.Path) -> None:
    assert check_together([configuration(f"one {root}/a {root}/b", f"two {root}/b {root}/c")]) == []


def test_files_may_not_share_names_and_targets(root: pathlib.Path) -> None:
    found = check_together(
        [
            configuration(f"one {root}/a h:/a", file="x.yaml"),
            configuration(f"one {root}/b h:/a/b", file="y.yaml"),
        ]
    )
    assert [problem.place.split(":")[0] for problem in found] == ["y.yaml", "y.yaml"]
    assert "another sync has the name 'one'" in found[0].message
    assert "lies in the target of 'one'" in found[1].message


# ---- load ----


@pytest.fixture
def write(root: pathlib.Path) -> Callable[[str, str], str]:
    def write(name: str, text: str) -> str:
        (root / name).write_text(text)
        return str(root / name)

    return write


def test_load_tells_good_files_from_bad_ones(root: pathlib.Path, write: Callable[[str, str], str]) -> None:
    good = write("good.yaml", f"source: {root}/a\ntarget: h:/a\n")
    doubtful = write("doubtful.yaml", f"source: {root}/missing\ntarget: h:/b\n")
    bad = write("bad.yaml", "exlude: x\n")
    clash = write("clash.yaml", f"source: {root}/b\ntarget: h:/a\n")
    missing = f"{root}/missing.yaml"
    loaded = load([good, doubtful, bad, clash, missing])
    assert [configuration.file for configuration in loaded.configurations] == [good, doubtful]
    assert [problem.place for problem in loaded.warnings] == [f"{doubtful}:1:9"]
    assert [path for path, _ in loaded.failures] == [bad, clash, missing]
    assert [len(problems) for _, problems in loaded.failures] == [3, 1, 1]
    assert len(loaded.problems) == 6


def test_checks_and_mistakes_in_the_text_are_told_at_once(
    root: pathlib.Path, write: Callable[[str, str], str]
) -> None:
    path = write("x.yaml", f"source: {root}/a\ntarget: {root}/a/b\nexlude: x\n")
    ((_, problems),) = load([path]).failures
    assert [problem.place for problem in problems] == [f"{path}:2:9", f"{path}:3:1"]


def test_a_file_named_twice_is_read_once(root: pathlib.Path, write: Callable[[str, str], str]) -> None:
    path = write("x.yaml", f"source: {root}/a\ntarget: h:/a\n")
    assert len(load([path, path]).configurations) == 1


# ---- several targets ----


def test_good_targets_are_nothing_to_talk_about(root: pathlib.Path) -> None:
    configurations = [several(f"{root}/a", f"{root}/b", "h:/b", "h::b/c", "h:b", "other:/b")]
    assert check_together(configurations) == []


@pytest.mark.parametrize(
    ("targets", "place", "message"),
    [
        (["h:/a", "h:/b", "h:/a/"], "5:5", "target: 'h:/a' is the same as another target of this sync"),
        (["h:/a/b", "h:/a"], "4:5", "target: 'h:/a' contains another target of this sync"),
        (["h::m/a", "h::m/a/b"], "4:5", "target: 'h::m/a/b' lies in another target of this sync"),
        (["{root}/b", "{root}/link/x"], "4:5", "lies in another target of this sync"),
        (["h:/a", "{root}/a/below"], "4:5", "lies in the source"),
        (["{root}/a", "h:/a"], "3:5", "is the same as the source"),
        (["h:/a", "{root}/file"], "4:5", "is not a directory"),
    ],
)
def test_targets_of_one_sync_keep_apart(
    root: pathlib.Path, targets: list[str], place: str, message: str
) -> None:
    (root / "link").symlink_to("b")
    found = errors(check_together([several(f"{root}/a", *(text.format(root=root) for text in targets))]))
    assert [(where, message in what) for where, what in found] == [(f"x.yaml:{place}", True)]


def test_what_concerns_the_source_is_said_once(root: pathlib.Path) -> None:
    (problem,) = check_together([several(f"{root}/missing", "h:/a", "h:/b")])
    assert MISSING in problem.message


def test_targets_of_several_syncs_keep_apart(root: pathlib.Path) -> None:
    found = check_together([configuration(f"one {root}/b h:/b/c"), several(f"{root}/a", "h:/a", "h:/b")])
    assert errors(found) == [("x.yaml:4:5", "target: 'h:/b' contains the target of 'one'")]


def test_folders_are_looked_at_for_each_target(root: pathlib.Path) -> None:
    options = "rsync: {backup_dir: ../a/kept}"
    found = check_together([several(f"{root}/a", "h:/x", f"{root}/b", more=options)])
    assert [message for _place, message in errors(found)] == [
        f"backup_dir: '../a/kept' lies in the source '{root}/a'"
    ]
