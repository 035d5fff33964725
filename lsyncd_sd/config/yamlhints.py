# SPDX-License-Identifier: GPL-2.0-or-later
"""Says in plain words why a text is not YAML, and what to do about it."""

from __future__ import annotations

import re

import yaml

from lsyncd_sd.config.report import Report, shown

TAB_HINT = "YAML indents with spaces only: replace the tab by spaces"
LUA_HINT = (
    "this looks like a Lua file of Lsyncd; lsyncd-sd reads YAML: see COMING FROM LSYNCD in lsyncd-sd(8)"
)
_LUA = re.compile(r"^\s*(--\s|settings\s*[{(=]|sync\s*\{)", re.MULTILINE)

# what the parser says (in its problem or its context) -> what to do; the first that fits is taken
_HINTS = (
    ("while scanning an alias", "a value that begins with * must be in quotes: '*.tmp'"),
    ("while scanning an anchor", "a value that begins with & must be in quotes"),
    ("while parsing a tag", "a value that begins with ! must be in quotes"),
    ("while scanning a tag", "a value that begins with ! must be in quotes"),
    ("while scanning a directive", "a value that begins with % must be in quotes"),
    (
        "mapping values are not allowed",
        "keys of a mapping begin in the same column; a value with ': ' in it must be quoted",
    ),
    ("cannot start any token", "a value that begins with this character must be in quotes"),
    ("while scanning a quoted scalar", "the quote that opens here is not closed"),
    ("while parsing a quoted scalar", "in double quotes a backslash begins an escape; use single quotes"),
    ("could not find expected ':'", "a key is followed by a colon and a space: 'key: value'"),
    ("while parsing a flow", "a bracket or a brace is not closed, or a comma is missing"),
    ("did not find expected '-' indicator", "the entries of a list begin in the same column"),
    ("did not find expected key", "keys of one mapping begin in the same column"),
)


def looks_like_lua(text: str) -> bool:
    """Tell whether a text that is no use as YAML seems to be a configuration of Lsyncd."""
    return _LUA.search(text) is not None


def explain(error: yaml.YAMLError, text: str, report: Report) -> tuple[str, str, str]:
    """Return place, message and hint for what the YAML parser refused."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return report.file, f"not YAML: {_first_line(str(error))}", ""
    mark = error.problem_mark or error.context_mark
    problem = _first_line(error.problem or error.context or "syntax error")
    if "end of stream" in problem and error.context_mark is not None:
        mark = error.context_mark  # where it began helps more than the end of the file
    place = report.place(mark.line, mark.column) if mark else report.file
    line = _line(text, mark.line) if mark else ""
    return place, f"not YAML: {problem}", _hint(error, text, line)


def _hint(error: yaml.MarkedYAMLError, text: str, line: str) -> str:
    if looks_like_lua(text):
        return LUA_HINT
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return TAB_HINT
    said = f"{error.context or ''} {error.problem or ''}"
    for words, hint in _HINTS:
        if words in said:
            return hint
    return f"the line reads {shown(line.strip())}" if line.strip() else ""


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number] if number < len(lines) else ""


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
