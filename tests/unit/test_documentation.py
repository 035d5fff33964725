# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that the pages are true: what they name (modules, commands, links, settings, ids, fields) exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from lsyncd_sd import __version__, cli
from lsyncd_sd.classicline import OPTIONS, is_classic, parse
from lsyncd_sd.config.reader import read_text
from lsyncd_sd.config.settings import SETTINGS
from lsyncd_sd.mirror.command import Shape
from lsyncd_sd.mirror.outcome import _BY_EXIT_STATUS, PATIENCE, Outcome
from lsyncd_sd.service.control_interface import DESCRIPTION
from lsyncd_sd.service.journal import Event, Fields
from lsyncd_sd.service.status import State, SyncStatus

TOP = Path(__file__).parents[2]
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/**/*.md")])
SCRIPTS_WITH_YAML = sorted([*PAGES, *TOP.glob("docs/man/*.scd")])

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
ROW = re.compile(r"^\|(.*)\|$", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


def text_of(page: str) -> str:
    return (TOP / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced examples of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rows(page: str) -> list[list[str]]:
    """Return the cells of every row of every table."""
    return [[cell.strip() for cell in row.split("|")] for row in ROW.findall(text_of(page))]


def first_codes(page: str) -> set[str]:
    """Return what stands as code in the first cells of tables."""
    return {code for row in rows(page) for code in CODE.findall(row[0])}


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as they are made for links."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---- the map of the house


def modules() -> set[str]:
    return {name_of(path) for path in TOP.glob("lsyncd_sd/**/*.py") if path.name != "__init__.py"}


def test_the_map_names_every_module_once_and_no_other() -> None:
    named = [code for row in rows("CONTRIBUTING.md") for code in CODE.findall(row[0]) if "/" in code]
    in_map = [name for name in named if name.endswith(".py")]
    assert sorted(in_map) == sorted(modules())


def test_every_module_that_any_page_names_is_there() -> None:
    known = {name.split("/", start)[-1] for name in modules() for start in (0, 1, 2)}
    known |= {name_of(path) for path in TOP.glob("tests/**/*.py")}
    for page in PAGES:
        named = set(re.findall(r"`([a-z_/]+\.py)`", page.read_text(encoding="utf-8")))
        assert named - known == set(), name_of(page)


# ---- links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_resolves(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_every_decision_has_a_number_of_its_own_and_its_parts() -> None:
    decisions = sorted(TOP.glob("docs/decisions/*.md"))
    numbers = [path.name[:4] for path in decisions]
    assert numbers == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {path.name[:4]}: ")
        for part in ("**What.**", "**Why", "**Rejected.**", "**What follows.**"):
            assert part in text, (path.name, part)


# ---- commands


def command_lines() -> list[tuple[str, list[str]]]:
    """Return page and words of every command in a shell example, and of the commands within sentences."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
        lines += [code for code in CODE.findall(text) if code.startswith(("lsyncd-sd ", "sh packaging/"))]
        found += [(name_of(page), shlex.split(line, comments=True)) for line in lines if line.strip()]
    return found


def test_every_verb_that_is_shown_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    verbs = set(re.findall(r"^    ([a-z-]+)(?: |$)", capsys.readouterr().out, re.MULTILINE))
    shown = {
        (page, words[1])
        for page, words in command_lines()
        if words[0].endswith("lsyncd-sd") and len(words) > 1 and words[1] != "--version"
    }
    assert len(shown) > 10
    assert {(page, verb) for page, verb in shown if verb not in verbs and not is_classic([verb])} == set()


def test_every_command_line_of_lsyncds_that_is_shown_can_be_used() -> None:
    lines = [
        words[1:] for _page, words in command_lines() if words[0] == "lsyncd-sd" and is_classic(words[1:])
    ]
    assert [line for line in lines if parse(line).syncs] != []


def test_every_option_of_lsyncds_is_explained_and_completed() -> None:
    shown = {re.split(r"[ `]", code)[0] for code in first_codes("README.md")}
    manual = set(
        re.findall(r"\*(-[a-z]+)\*", text_of("docs/man/lsyncd-sd.8.scd").split("# COMING FROM LSYNCD")[1])
    )
    options = {f"-{option}" for option in OPTIONS}
    assert options - shown == set()
    assert options - manual == set()
    for page in ("bash/lsyncd-sd", "zsh/_lsyncd-sd"):
        completed = set(re.findall(r"-[a-z]+", text_of(f"packaging/completion/{page}")))
        assert options - completed <= {"-help", "-version"}


def test_every_script_that_is_shown_is_there() -> None:
    scripts = {words[1] for _page, words in command_lines() if words[:1] == ["sh"]}
    assert {"packaging/demo.sh", "packaging/test.sh", "packaging/build-deb.sh"} <= scripts
    assert [script for script in scripts if not (TOP / script).is_file()] == []


def test_the_readme_enables_a_unit_that_exists() -> None:
    units = {
        word.split("@")[0] + ("@" if "@" in word else "")
        for page, words in command_lines()
        if page == "README.md" and words[0] == "systemctl"
        for word in words[2:]
        if not word.startswith("-")
    }
    assert units == {"lsyncd@"}
    assert (TOP / "units/lsyncd@.service").is_file()


# ---- configuration


def yaml_examples() -> list[tuple[str, str]]:
    examples = []
    for path in SCRIPTS_WITH_YAML:
        text = path.read_text(encoding="utf-8")
        found = blocks(text, "yaml")
        if path.suffix == ".scd":
            # A manual page says nothing of languages; a whole file has a source.
            found = [block for block in blocks(text, "") if "source: " in block and "printf" not in block]
        examples += [(name_of(path), block) for block in found]
    return examples


@pytest.mark.parametrize(("page", "example"), yaml_examples())
def test_every_example_of_a_file_can_be_used(page: str, example: str) -> None:
    configuration, problems = read_text(example, "home.yaml")
    assert configuration.syncs
    assert problems == []


def test_there_is_an_example_in_the_readme() -> None:
    assert "README.md" in {page for page, _example in yaml_examples()}


def test_the_settings_named_for_those_who_move_over_exist() -> None:
    known = {setting.name for setting in SETTINGS}
    table = text_of("README.md").split("| Lsyncd | here |")[1].split("\n\n")[0]
    here = [row.split("|")[-1] for row in ROW.findall(table)]
    named = {re.split(r"[:{]", code)[0] for cell in here for code in CODE.findall(cell)}
    named = {name for name in named if re.fullmatch("[a-z_]+", name)}
    assert len(named) > 10
    assert named - known == set()


# ---- the versions


def test_all_say_the_same_version() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert project["version"] == __version__
    released = re.findall(r"^## (\d\S*)", text_of("CHANGELOG.md"), re.MULTILINE)
    assert released[0] == __version__
    assert re.match(rf"lsyncd-sd \({re.escape(__version__)}-", text_of("debian/changelog"))


# ---- docs/control.md, docs/journal.md, docs/rsync.md


def test_the_page_of_the_socket_has_every_field_state_method_and_error() -> None:
    named = first_codes("docs/control.md")
    assert {field.name for field in fields(SyncStatus)} <= named
    assert {state.value for state in State} <= named
    assert set(re.findall(r"^(?:method|error) (\w+)", DESCRIPTION, re.MULTILINE)) <= named


def test_the_readme_has_every_state_but_the_last() -> None:
    assert {state.value for state in State} - first_codes("README.md") == {"stopping"}


def test_the_page_of_the_journal_has_every_message_with_its_id_and_no_other() -> None:
    pairs = {(row[0].strip("`"), row[1].strip("`")) for row in rows("docs/journal.md")}
    ids = {(name, value) for name, value in pairs if re.fullmatch("[0-9a-f]{32}", value)}
    assert ids == {(event.name, event.value) for event in Event}


def test_the_page_of_the_journal_has_every_field() -> None:
    journal_names = {"errno": "ERRNO", "paths": "LSYNCD_PATH", "targets": "LSYNCD_TARGET"}
    expected = {journal_names.get(name, f"LSYNCD_{name.upper()}") for name in Fields.__annotations__}
    assert expected <= first_codes("docs/journal.md")


def test_ids_in_examples_are_of_messages() -> None:
    known = {event.value for event in Event}
    for page in PAGES:
        assert set(re.findall(r"\b[0-9a-f]{32}\b", page.read_text(encoding="utf-8"))) <= known


def test_the_page_of_rsync_has_every_shape() -> None:
    assert {shape.value for shape in Shape} <= {row[0] for row in rows("docs/rsync.md")}


def test_the_page_of_rsync_has_every_outcome_with_its_exit_statuses_and_waits() -> None:
    table = {row[0].strip("`"): row for row in rows("docs/rsync.md") if len(row) == 5}
    for outcome in Outcome:
        assert outcome.value in table
        wait = table[outcome.value][4]
        if outcome in PATIENCE and wait:
            patience = PATIENCE[outcome]
            assert wait == f"{spoken(patience.first)}, {spoken(patience.limit)}"
    for code, outcome in _BY_EXIT_STATUS.items():
        assert str(code) in re.findall(r"\d+", table[outcome.value][1])


def spoken(seconds: float) -> str:
    """Return a time as the table says it."""
    return f"{seconds / 60:.0f} min" if seconds % 60 == 0 else f"{seconds:.0f} s"
