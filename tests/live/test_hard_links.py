# SPDX-License-Identifier: GPL-2.0-or-later
"""A file with several names is the same under all of them on the target, however it was changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.comparing import ARCHIVE
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

Steps = Iterator[None]


def written_through_one_name(source: Path) -> Steps:
    """The content changes under a name that is not the one that existed first, and in another directory."""
    plant(source)
    yield
    (source / "b/second").write_text("new content")
    yield
    with open(source / "a/first", "a") as file:
        file.write(", longer")


def changed_attributes(source: Path) -> Steps:
    """Mode and time are the file's, not the name's."""
    plant(source)
    yield
    (source / "a/first").chmod(0o600)
    yield
    os.utime(source / "b/second", ns=(5, 10**18 + 7))


def one_more_name(source: Path) -> Steps:
    """A name is added long after the others were mirrored; then the file is written through it."""
    plant(source)
    yield
    os.link(source / "a/first", source / "third")
    yield
    (source / "third").write_text("through the third")


def a_name_for_a_file_that_had_one(source: Path) -> Steps:
    """Others are known by then: only the new name is told of, not the one that was there."""
    plant(source)
    (source / "single").write_text("single")
    yield
    (source / "b/second").write_text("new content")
    yield
    os.link(source / "single", source / "a/double")
    yield
    (source / "a/double").write_text("through the second")


def a_name_becomes_a_file_of_its_own(source: Path) -> Steps:
    """Editors write anew and rename: the other names keep the old content."""
    plant(source)
    yield
    (source / "b/new").write_text("of its own")
    (source / "b/new").rename(source / "b/second")
    yield
    (source / "a/first").write_text("changed once more")


def a_linked_copy_of_a_directory(source: Path) -> Steps:
    """`cp -al` makes a directory in which every file is a second name."""
    plant(source)
    yield
    shutil.copytree(source / "a", source / "copy", copy_function=os.link)
    yield
    (source / "copy/first").write_text("through the copy")


def a_directory_with_linked_files_is_renamed(source: Path) -> Steps:
    """The names below the directory are others now, and still of the same file."""
    plant(source)
    yield
    (source / "b").rename(source / "renamed")
    yield
    (source / "a/first").write_text("after the rename")
    yield
    (source / "renamed/second").write_text("the other way round")


def a_name_goes(source: Path) -> Steps:
    """What is left is a file like any other."""
    plant(source)
    yield
    (source / "a/first").unlink()
    yield
    (source / "b/second").write_text("the last one")


STORIES = [
    written_through_one_name,
    changed_attributes,
    one_more_name,
    a_name_for_a_file_that_had_one,
    a_name_becomes_a_file_of_its_own,
    a_linked_copy_of_a_directory,
    a_directory_with_linked_files_is_renamed,
    a_name_goes,
]


def plant(source: Path) -> None:
    """Make a file with two names, and one beside it."""
    for name in "ab":
        (source / name).mkdir()
    (source / "a/first").write_text("content")
    os.link(source / "a/first", source / "b/second")
    (source / "a/single").write_text("content")


def groups(root: Path) -> set[frozenset[str]]:
    """Return which files are hard links of each other."""
    names: dict[int, set[str]] = {}
    for path in root.rglob("*"):
        if path.is_file():
            names.setdefault(path.stat().st_ino, set()).add(str(path.relative_to(root)))
    return {frozenset(group) for group in names.values() if len(group) > 1}


@pytest.mark.parametrize("hard_links", [False, True], ids=["copied", "linked"])
@pytest.mark.parametrize("story", STORIES)
def test_all_names_change(some_pair: Pair, daemon: StartDaemon, story: object, hard_links: bool) -> None:
    assert callable(story)
    steps = story(some_pair.source)
    next(steps)
    running = daemon(some_pair.settings(rsync={"hard_links": hard_links}))
    options = [*ARCHIVE, "-H"] if hard_links else ARCHIVE
    running.wait_until_mirrored("home", some_pair.source, some_pair.target, options)
    for _step in steps:
        running.wait_until_mirrored("home", some_pair.source, some_pair.target, options)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target, options)
    wanted = groups(some_pair.source) if hard_links else set()
    wait_until(lambda: groups(some_pair.target) == wanted, f"linked are {wanted}", describe=running.log)
    assert running.status("home")["restarts"] == 0
