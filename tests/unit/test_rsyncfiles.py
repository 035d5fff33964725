# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests what the file system tells of the files and folders that rsync is to use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lsyncd_sd.config.checks import check_together
from lsyncd_sd.config.reader import read_text
from lsyncd_sd.errors import Problem


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder without links in its path, with a source and a target."""
    root = tmp_path.resolve()
    for name in ("source/sub", "target", "elsewhere"):
        (root / name).mkdir(parents=True)
    return root


def problems_of(source: Path | str, target: Path | str, *rsync: str) -> list[Problem]:
    lines = "".join(f"  {line}\n" for line in rsync)
    text = f"source: {source}\ntarget: '{target}'\nrsync:\n{lines}"
    return check_together([read_text(text, "home.yaml")[0]])


# ---- the password


def password_problems(root: Path, path: Path) -> list[Problem]:
    return problems_of(root / "source", "h::m", f"password_file: {path}")


def test_a_good_password_file_is_nothing_to_talk_about(root: Path) -> None:
    (root / "secret").write_text("x\n")
    for mode in (0o600, 0o640, 0o400):
        (root / "secret").chmod(mode)
        assert password_problems(root, root / "secret") == []


@pytest.mark.parametrize(
    ("mode", "message", "hint"),
    [
        (0o604, "will be refused", "others can read or write it: chmod 600 "),
        (0o602, "will be refused", "others can read or write it: chmod 600 "),
        (None, "No such file or directory", "make it"),
    ],
)
def test_a_bad_password_file_is_a_warning(root: Path, mode: int | None, message: str, hint: str) -> None:
    secret = root / "secret"
    if mode is not None:
        secret.write_text("x\n")
        secret.chmod(mode)
    (problem,) = password_problems(root, secret)
    assert problem.is_warning
    assert problem.place == "home.yaml:4:18"
    assert problem.message.startswith(f"password_file: '{secret}'") and problem.message.endswith(message)
    assert problem.hint.startswith(hint)


def test_a_folder_is_no_password_file(root: Path) -> None:
    (problem,) = password_problems(root, root / "elsewhere")
    assert problem.is_warning and "first line" in problem.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_password_file_of_root_belongs_to_root(root: Path) -> None:
    (root / "secret").touch(0o600)
    os.chown(root / "secret", 65534, 0)
    (problem,) = password_problems(root, root / "secret")
    assert problem.is_warning and "chown root" in problem.hint


def test_what_many_syncs_have_in_common_is_told_once(root: Path) -> None:
    text = f"""
        defaults: {{rsync: {{password_file: {root}/missing, verbose: true}}}}
        syncs:
          - {{name: a, source: {root}/source, target: 'h::a'}}
          - {{name: b, source: {root}/source, target: 'h::b'}}
        """
    configuration, warnings = read_text(text, "home.yaml")
    assert [warning.message for warning in warnings] == ["verbose: it has no effect here"]
    assert len(check_together([configuration])) == 1


# ---- folders beside a local target


@pytest.mark.parametrize(
    ("key", "folder", "message"),
    [
        ("backup_dir", "{root}/source/old", "lies in the source"),
        ("backup_dir", "{root}/source", "lies in the source"),
        ("backup_dir", "../source/old", "lies in the source"),
        ("backup_dir", "{root}/link-to-source/old", "lies in the source"),
        ("partial_dir", "{root}/source/sub", "lies in the source"),
        ("temp_dir", "{root}/source/sub", "lies in the source"),
        ("backup_dir", "{root}/link-to-target/old", "leads into the target over a symbolic link"),
        ("temp_dir", "../link-to-target/old", "leads into the target over a symbolic link"),
    ],
)
def test_folders_in_the_way(root: Path, key: str, folder: str, message: str) -> None:
    (root / "link-to-source").symlink_to("source")
    (root / "link-to-target").symlink_to("target")
    lines = [f"{key}: {folder.format(root=root)}", *(["partial_dir: .part"] if key == "temp_dir" else [])]
    (problem,) = problems_of(root / "source", root / "target", *lines)
    assert not problem.is_warning
    assert problem.place == f"home.yaml:4:{len(key) + 5}"
    assert message in problem.message


def test_a_backup_folder_around_the_source(root: Path) -> None:
    (root / "away").mkdir()
    (problem,) = problems_of(root / "source/sub", root / "away", f"backup_dir: {root}/source")
    assert "contains the source" in problem.message


@pytest.mark.parametrize(
    "lines",
    [
        ["backup_dir: .old"],
        ["backup_dir: {root}/elsewhere/new"],
        ["backup_dir: {root}/target/old"],
        ["backup_dir: ../elsewhere"],
        ["temp_dir: {root}/elsewhere", "partial_dir: .part"],
        ["partial_dir: sub"],
        ["partial_dir: {root}/elsewhere"],
    ],
)
def test_folders_beside_and_below_the_target_are_good(root: Path, lines: list[str]) -> None:
    filled = [line.format(root=root) for line in lines]
    assert problems_of(root / "source", root / "target", *filled) == []


def test_of_another_machine_nothing_is_known(root: Path) -> None:
    for target in ("h:/m", "h::m"):
        assert problems_of(root / "source", target, f"backup_dir: {root}/source/old") == []


def test_a_missing_folder_for_temporary_files_is_a_warning(root: Path) -> None:
    (problem,) = problems_of(root / "source", root / "target", "temp_dir: .incoming")
    assert problem.is_warning and problem.message == "temp_dir: '.incoming' is not there"
    (root / "target/.incoming").mkdir()
    assert problems_of(root / "source", root / "target", "temp_dir: .incoming") == []
