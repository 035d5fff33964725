# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that schema, sample, manual and show-config say what the table says, the committed ones too."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.config.document import manual_options, sample_text, schema, schema_text, show, yaml_value
from lsyncd_sd.config.model import Configuration
from lsyncd_sd.config.nodes import ListNode, Scalar, parse
from lsyncd_sd.config.reader import read_text
from lsyncd_sd.config.report import Report
from lsyncd_sd.config.setting import Scope
from lsyncd_sd.config.settings import SETTINGS, default_settings, settings_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAN_PAGE = ROOT / "docs" / "man" / "lsyncd-sd.yaml.5.scd"


def configuration(text: str, path: str = "/etc/lsyncd.d/home.yaml") -> Configuration:
    return read_text(textwrap.dedent(text), path)[0]


# ---- what is committed ----


@pytest.mark.parametrize(
    ("name", "made", "command"),
    [("lsyncd-sd.schema.json", schema_text, "--schema"), ("sample.yaml", sample_text, "--sample")],
)
def test_the_committed_file_is_up_to_date(name: str, made: Any, command: str) -> None:
    current = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert current == made(), f"run: python3 -m lsyncd_sd show-config {command} > docs/{name}"


# ---- show-config ----

EVERYTHING = """
    defaults: {delay: 0.000000001, rsync: {links: off, whole_file: no, bwlimit: 1.5M}, ssh: {user: u}}
    syncs:
      - name: no
        source: "/a b\\n\\t\\u2028\\U0001F600\\"\\\\ # x: y"
        target: h:x/y
        delete: startup
        exclude: ["*.tmp", "+ a", "é", "!x", "5", "true", "~", "a: b", "\\x01"]
        filter: ["hide,p a b", "!", "P_x", "-_ "]
        exit_codes: {23: ok, 24: target-full}
        log_level: debug
        batch_size_limit: 1.5G
        brake: {max_deletes: 7%}
        rsync: {extra: [--fsync], chmod: 0755, chown: "5", rsync_path: "a 'b' \\"c\\""}
        ssh: {port: 22, identity_file: ~/.ssh/k, options: {A: "yes", B: "a b"}, extra: [-J, "g h"]}
      - {name: "1e3", source: /null, target: /true, timeout: 1d, delete: no, max_changes: 7, delay: 604800,
        brake: {max_deletes: 7, hold_first: no}}
      - {name: d, source: /d, target: "rsync://u@[::1]:99/m/p", rsync: {password_file: /p}}
      - {name: e, source: /e, targets: [/e1, "h:e2", "u@h:/e3", "h::m/e4"], ssh: {user: v, port: 7},
        rsync: {password_file: /p, backup_dir: /e1/kept}}
    """


LIMITED = "defaults: {max_processes: 3}\nsyncs:\n- {source: /a, target: /b, max_processes: 2}\n"


@pytest.mark.parametrize(
    "text", ["source: /a\ntarget: h:/b\n", "source: /a\ntarget: /b\n", LIMITED, EVERYTHING]
)
def test_what_show_config_writes_reads_back_as_the_same(text: str) -> None:
    first = configuration(text)
    again = configuration(show(first))
    assert again == first
    assert show(again) == show(first)


def test_show_config_says_every_setting() -> None:
    text = show(configuration("source: /a\ntarget: h:/b\n"))
    for setting in SETTINGS:
        if setting.scope is not Scope.TOP:
            assert re.search(rf"^[- #]*{setting.name}:", text, re.MULTILINE), setting.name


def test_show_config_shows_a_file_of_any_name_in_one_line() -> None:
    text = show(configuration("name: x\nsource: /a\ntarget: h:/b\n", "a\nsyncs: 5\udcff.yaml"))
    assert text.splitlines()[1] == "syncs:"


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]))))
def test_any_text_survives_being_written(texts: list[str]) -> None:
    report = Report("x")
    node = parse(yaml_value(texts), report)
    assert report.problems == []
    assert isinstance(node, ListNode)
    assert [item.text for item in node.items if isinstance(item, Scalar) and not item.is_null] == texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), (5, "5"), (2.5, "2.5"), (1e-9, "0.000000001"), ([], "[]"), ({}, "{}"),
        ("home", "home"), ("/a/b", "/a/b"), ("host:/a", "host:/a"), ("[::1]:/x", '"[::1]:/x"'),
        ("yes", '"yes"'), ("no", '"no"'), ("NO", '"NO"'), ("", '""'), ("5", '"5"'), ("null", '"null"'),
        ("a: b", '"a: b"'), ({23: "ok"}, "{23: ok}"), (["a", "*.x"], '[a, "*.x"]'),
    ],
)  # fmt: skip
def test_a_value_is_written_as_plain_as_it_can_be(value: object, text: str) -> None:
    assert yaml_value(value) == text


# ---- sample ----


def uncommented(sample: str) -> str:
    return re.sub(r"^#(?=[^ ]|  [a-z_]+:)", "", sample, flags=re.MULTILINE)


def test_the_sample_is_a_good_configuration() -> None:
    (sync,) = configuration(sample_text()).syncs
    assert (sync.name, sync.source) == ("home", "/home")


def test_the_sample_with_everything_turned_on_is_a_good_configuration(tmp_path: pathlib.Path) -> None:
    text = uncommented(sample_text())
    for name in ("home.exclude", "home.filter"):
        (tmp_path / name).touch()
        text = text.replace(f"/etc/lsyncd.d/{name}\n", f"{tmp_path}/{name}\n")
    for name in settings_of(Scope.SYNC):
        assert re.search(rf"^{name}:", text, re.MULTILINE)
    # those that go only with another, or with another target, or without one
    text = re.sub(r"^targets:.*\n", "", text, flags=re.MULTILINE)
    left_out = "ipv6|password_file|rsh|append|append_verify|inplace"
    text = re.sub(rf"^  ({left_out}):.*\n", "", text, flags=re.MULTILINE)
    (sync,) = configuration(text).syncs
    assert sync.ssh.port == 2222
    assert "--bwlimit=1000" in sync.rsync.flags


def test_the_sample_fits_a_terminal() -> None:
    assert max(map(len, sample_text().splitlines())) <= 110


# ---- schema ----


def test_the_schema_has_every_setting_and_no_other() -> None:
    definitions = schema()["definitions"]
    for scope in set(Scope) - {Scope.TOP}:
        name = scope.value
        assert set(definitions[name]["properties"]) == set(settings_of(scope))
        assert definitions[name]["additionalProperties"] is False
    assert set(definitions["defaults"]["properties"]) == set(default_settings())
    assert definitions["sync"]["required"] == ["source"]
    assert definitions["sync"]["allOf"] == [{"oneOf": [{"required": ["target"]}, {"required": ["targets"]}]}]


def test_the_schemas_references_and_patterns_are_good() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                assert value["$ref"].removeprefix("#/definitions/") in schema()["definitions"]
            if isinstance(value.get("pattern"), str):
                re.compile(value["pattern"])
            for pattern in value.get("patternProperties", {}):
                re.compile(pattern)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(schema())
    json.dumps(schema())


@pytest.mark.parametrize(
    ("value", "good"),
    [("5", True), ("2.5s", True), ("5 m", True), ("soon", False), ("-1", False)],
)
def test_the_schema_takes_durations_as_the_reader_does(value: str, good: bool) -> None:
    pattern = schema()["definitions"]["sync"]["properties"]["delay"]["anyOf"][1]["pattern"]
    assert bool(re.search(pattern, value)) is good


# ---- manual ----


def test_the_manual_explains_every_setting() -> None:
    text = manual_options()
    for setting in SETTINGS:
        assert f"\n*{setting.name}*" in text


def manual_examples() -> list[str]:
    return re.findall(r"^```\n(.*?)^```", MAN_PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", manual_examples())
def test_the_manuals_examples_are_good(example: str) -> None:
    if "source:" not in example:
        example = "source: /a\ntarget: h:/b\n" + example
    assert configuration(example).syncs


@pytest.mark.skipif(shutil.which("scdoc") is None, reason="scdoc is not installed")
def test_the_manual_pages_are_made_without_a_warning(tmp_path: pathlib.Path) -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "packaging" / "make-man.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    page = (tmp_path / "lsyncd-sd.yaml.5").read_text(encoding="utf-8")
    assert "@SETTINGS@" not in page
    assert "max_changes" in page
