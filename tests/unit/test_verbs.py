# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of check and show-config as a user sees them."""

from __future__ import annotations

import pathlib

import pytest

from lsyncd_sd.config import verbs
from lsyncd_sd.config.document import sample_text, schema_text
from lsyncd_sd.errors import ExitStatus


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder to be in, with a source, a good file, a doubtful one and a bad one."""
    (tmp_path / "source").mkdir()
    (tmp_path / "good.yaml").write_text(f"source: {tmp_path}/source\ntarget: h:/good\n")
    (tmp_path / "doubtful.yaml").write_text("source: /missing\ntarget: h:/doubtful\n")
    (tmp_path / "bad.yaml").write_text("source: /\ntarget: h:/bad\nexlude: x\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("files", "status", "lines"),
    [
        (["good.yaml"], ExitStatus.OK, ["good.yaml: good, 1 sync"]),
        (
            ["doubtful.yaml"],
            ExitStatus.OK,
            [
                "doubtful.yaml:1:9: warning: source: '/missing' is not there",
                "    the sync will wait for it",
                "doubtful.yaml: good, 1 sync",
            ],
        ),
        (
            ["bad.yaml", "good.yaml", "none.yaml"],
            ExitStatus.USAGE,
            [
                "bad.yaml:1:9: source: '/' is dangerous here",
                "    name the directory below it",
                "bad.yaml:3:1: unknown key 'exlude'",
                "    did you mean 'exclude'?",
                "none.yaml: there is no such file",
                "    a unit lsyncd@NAME reads /etc/lsyncd.d/NAME.yaml",
                "good.yaml: good, 1 sync",
            ],
        ),
    ],
)
def test_check_says_all_there_is_to_say(files: list[str], status: ExitStatus, lines: list[str]) -> None:
    written: list[str] = []
    assert verbs.check(files, written.append) is status
    assert "".join(written).splitlines() == lines


def test_check_counts_syncs(folder: pathlib.Path) -> None:
    text = "syncs: [{source: S, target: S-one}, {name: b, source: S, target: S-two}]\n"
    (folder / "two.yaml").write_text(text.replace("S", f"{folder}/source"))
    written: list[str] = []
    assert verbs.check(["two.yaml"], written.append) is ExitStatus.OK
    assert written == ["two.yaml: good, 2 syncs\n"]


@pytest.mark.usefixtures("folder")
def test_show_config_writes_yaml_and_nothing_else() -> None:
    written: list[str] = []
    assert verbs.show_config(["good.yaml", "doubtful.yaml"], written.append) is ExitStatus.OK
    text = "".join(written)
    assert text.count("\n---\n") == 1
    assert "name: good\n" in text and "name: doubtful\n" in text and "warning" not in text


@pytest.mark.usefixtures("folder")
def test_show_config_of_a_bad_file_writes_what_is_wrong() -> None:
    written: list[str] = []
    assert verbs.show_config(["good.yaml", "bad.yaml"], written.append) is ExitStatus.USAGE
    assert "syncs:" not in "".join(written)
    assert "unknown key 'exlude'" in "".join(written)


def test_the_schema_and_the_sample_are_written() -> None:
    written: list[str] = []
    assert verbs.show_schema(written.append) is verbs.show_sample(written.append) is ExitStatus.OK
    assert written == [schema_text(), sample_text()]
