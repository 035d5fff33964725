# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of `check --path`: what it says of a path, and its exit status."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from lsyncd_sd.config import pathcheck
from lsyncd_sd.config.pathcheck import check_path
from lsyncd_sd.errors import ConfigurationError, ExitStatus, LsyncdError

GONE = "on the target: deleted when it is gone from the source"


@dataclass
class House:
    """A source with some files, and configurations of it."""

    base: Path
    source: Path

    def write(self, *lines: str, name: str = "home") -> str:
        path = self.base / f"{name}.yaml"
        text = "\n".join((f"source: {self.source}", f"target: 'host:/{name}'", *lines)) + "\n"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def ask(self, path: str, *lines: str) -> tuple[ExitStatus, list[str]]:
        """Return the exit status and the lines, without the folders' names and the blanks before them."""
        written: list[str] = []
        status = check_path([self.write(*lines)], path, written.append)
        text = "".join(written).replace(f"{self.source}/", "").replace(f"{self.base}/", "")
        return status, [line.strip() for line in text.splitlines()]


@pytest.fixture
def house(tmp_path: Path) -> House:
    base = Path(os.path.realpath(tmp_path))
    source = base / "source"
    (source / "d" / "cache" / "e").mkdir(parents=True)
    (source / "d" / "file").touch()
    (source / "d" / "link").symlink_to("cache")
    os.mkfifo(source / "d" / "fifo")
    return House(base, source)


MIRRORED = [
    ("d/file", [], ["d/file (a file): mirrored", "no rule is about it", GONE]),
    ("d", [], ["d (a directory): mirrored", "no rule is about it", "watched", GONE]),
    ("d/link", ["exclude: link/"], ["d/link (a symbolic link): mirrored", "no rule is about it", GONE]),
    ("d/fifo/", [], ["d/fifo (a FIFO): mirrored", "no rule is about it", GONE]),
    (
        "d/file",
        ["filter: ['+ file', '- *']", "exclude: d"],
        ["d/file (a file): not mirrored", "d above it is hidden by '- *' (home.yaml:3:20)",
         "on the target: kept: d above it is protected by '- *' (home.yaml:3:20)"],
    ),
    (
        "d/file",
        ["exclude: [+ file, '*']", "filter: [+ d/]"],
        ["d/file (a file): mirrored", "shown by '+ file' (home.yaml:3:11)",
         f"{GONE}; put at risk by '+ file' (home.yaml:3:11)"],
    ),
    (
        "d/cache/e",
        ["exclude: cache/"],
        ["d/cache/e (a directory): not mirrored", "d/cache above it is hidden by 'cache/' (home.yaml:3:10)",
         "not watched, nor is anything in it",
         "on the target: kept: d/cache above it is protected by 'cache/' (home.yaml:3:10)"],
    ),
    (
        "d/cache",
        ["filter: H cache"],
        ["d/cache (a directory): not mirrored", "hidden by 'H cache' (home.yaml:3:9)",
         "not watched, nor is anything in it", "on the target: deleted because the source hides it"],
    ),
    (
        "d/file",
        ["filter: Pp file"],
        ["d/file (a file): mirrored", "no rule is about it",
         "on the target: kept: protected by 'Pp file' (home.yaml:3:9), unless its directory is deleted"],
    ),
    (
        "d/new",
        ["exclude: new/"],
        ["d/new (not there, taken for a file; a directory ends in a slash): mirrored",
         "no rule is about it", GONE],
    ),
    (
        "d/new/",
        ["exclude: new/"],
        ["d/new (not there, taken for a directory): not mirrored", "hidden by 'new/' (home.yaml:3:10)",
         "not watched, nor is anything in it", "on the target: kept: protected by 'new/' (home.yaml:3:10)"],
    ),
    (
        "d/link/x",
        ["exclude: x"],
        ["d/link/x (behind it): not mirrored", "d/link above it is a symbolic link, and mirrored as that"],
    ),
    (
        "d/link/e",
        ["rsync: {copy_dirlinks: true}"],
        ["d/link/e (a directory by a link): mirrored", "no rule is about it",
         "not watched behind the link: only full syncs see what changes there", GONE],
    ),
    (
        "d/link",
        ["rsync: {copy_links: true}", "exclude: link/"],
        ["d/link (a directory by a link): not mirrored", "hidden by 'link/' (home.yaml:4:10)",
         "not watched behind the link: only full syncs see what changes there",
         "on the target: kept: protected by 'link/' (home.yaml:4:10)"],
    ),
    (
        "d/a\n\udcff",
        [],
        ["d/a\\x0a\\xff (not there, taken for a file; a directory ends in a slash): mirrored",
         "no rule is about it", GONE],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("path", "settings", "lines"), MIRRORED)
def test_what_becomes_of_a_path(house: House, path: str, settings: list[str], lines: list[str]) -> None:
    status, said = house.ask(path, *settings)
    assert said == ["home: " + lines[0], *lines[1:]]
    assert status == (ExitStatus.NOT_GOOD if "not mirrored" in lines[0] else ExitStatus.OK)


@pytest.mark.parametrize(
    ("setting", "shown", "hidden"),
    [
        ("delete: false", "kept, because delete is false", "kept, because delete is false"),
        (
            "delete: startup",
            "deleted when it is gone from the source, by the next full sync",
            "deleted because the source hides it, by the next full sync",
        ),
        (
            "delete: running",
            "deleted when it is gone from the source, if that is seen",
            "kept: delete is running, and nobody sees it go",
        ),
    ],
)
def test_what_is_deleted_depends_on_the_setting(house: House, setting: str, shown: str, hidden: str) -> None:
    for name, words in (("file", shown), ("fifo", hidden)):
        assert house.ask(f"d/{name}", setting, "filter: H fifo")[1][-1] == f"on the target: {words}"


def test_the_source_itself(house: House) -> None:
    for path in (".", str(house.source), f"{house.source}/d/.."):
        status, lines = house.ask(path, "exclude: '*'")
        assert status is ExitStatus.OK
        assert lines[1:] == ["no rule is about it", "watched", "on the target: never deleted"]


def test_a_path_by_another_name_of_the_source(house: House) -> None:
    (house.base / "other").symlink_to("source")
    _status, lines = house.ask(f"{house.base}/other/d/link")
    assert lines[0] == "home: d/link (a symbolic link): mirrored"


@pytest.mark.parametrize("path", ["/", "..", "d/../../x", "/etc/x"])
def test_a_path_outside(house: House, path: str) -> None:
    with pytest.raises(LsyncdError, match="lies in no source") as caught:
        house.ask(path)
    assert caught.value.exit_status is ExitStatus.USAGE
    assert str(house.source) in caught.value.hint


def test_a_name_that_only_begins_like_the_source_is_outside(house: House) -> None:
    with pytest.raises(LsyncdError, match="lies in no source"):
        house.ask(f"{house.source}s/x")


def test_every_sync_that_could_have_it_answers(house: House) -> None:
    (house.base / "more").mkdir()
    files = [house.write(name="one"), house.write("exclude: file", name="two")]
    far = House(house.base, house.base / "more").write(name="far")
    for path, names in ((f"{house.source}/d/file", ["one", "two"]), ("d/file", ["one", "two", "far"])):
        written: list[str] = []
        assert check_path([*files, far], path, written.append) is ExitStatus.NOT_GOOD
        heads = [line for text in written for line in text.splitlines() if not line.startswith(" ")]
        assert [head.partition(":")[0] for head in heads] == names


def test_what_lies_behind_a_mount(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.lstat

    def lstat(path: bytes) -> os.stat_result:
        values = list(real(path))
        values[2] += path.endswith(b"/cache")
        return os.stat_result(values)

    monkeypatch.setattr(pathcheck.os, "lstat", lstat)
    assert house.ask("d/cache/e")[0] is ExitStatus.OK
    status, lines = house.ask("d/cache/e", "rsync: {one_file_system: true}")
    assert status is ExitStatus.NOT_GOOD
    assert lines[1] == "d/cache is on another file system, see one_file_system"


def test_what_cannot_be_looked_at(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def lstat(path: bytes) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(pathcheck.os, "lstat", lstat)
    _status, lines = house.ask("d/")
    assert lines[0] == "home: d (cannot be looked at: Permission denied, taken for a directory): mirrored"


def test_a_file_with_errors_has_no_answer(house: House) -> None:
    with pytest.raises(ConfigurationError, match="'maybe' is not"):
        house.ask("d", "delete: maybe")


def test_no_path_at_all(house: House) -> None:
    with pytest.raises(LsyncdError, match="empty"):
        house.ask("")
