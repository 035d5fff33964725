# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings that hold filter rules, in the file itself or in files of their own.

The content of the files becomes part of the sync: what is watched and what rsync is told are decided by the
same text, and a reload notices a file that has changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lsyncd_sd.config.files import MAXIMUM_BYTES, read_file_bytes
from lsyncd_sd.config.nodes import Node
from lsyncd_sd.config.parsers import parse_file
from lsyncd_sd.config.places import mounts_that_can_hang, resolve
from lsyncd_sd.config.report import Refused, Report, shown
from lsyncd_sd.config.values import TextList
from lsyncd_sd.plan.filters import Rule, WrittenRule
from lsyncd_sd.printable import visible

# The rules go to rsync as arguments, all of which must fit into 2 MiB; those of our own need room, too.
MAXIMUM_RULE_BYTES = 512 * 1024
# To make one expression of so many takes 6 s (2 cores, Python 3.11), and a path may be compared with all.
MAXIMUM_RULES = 10_000

_Parse = Callable[[str], str]


class RuleList(TextList):
    """A list of rules; a value is a tuple of them with their places."""

    def __init__(self, what: str, parse: _Parse, *, is_pattern: bool = False) -> None:
        super().__init__(what, parse)
        self._is_pattern = is_pattern

    def read_item(self, node: Node, name: str, report: Report) -> Any:
        text = super().read_item(node, name, report)
        return None if text is None else WrittenRule(text, self._is_pattern, node.place)


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A file of rules, and what it held when it was read."""

    path: str
    rules: tuple[WrittenRule, ...]


class RuleFiles(TextList):
    """A list of files that hold a rule on each line; a value is a tuple of them with their content."""

    def __init__(self, parse: _Parse, *, is_pattern: bool = False) -> None:
        super().__init__("absolute paths", parse_file)
        self._parse = parse
        self._is_pattern = is_pattern

    def read_item(self, node: Node, name: str, report: Report) -> Any:
        path = super().read_item(node, name, report)
        if path is None:
            return None
        try:
            text = _read(path, report)
        except Refused as refused:
            report.error(node.place, f"{name}: {shown(path)}: {refused.message}", refused.hint)
            return None
        return RuleFile(path, tuple(self._rules(path, text, report)))

    def _rules(self, path: str, text: str, report: Report) -> Iterator[WrittenRule]:
        """Yield the rules of a file; those that are none go into the report, with their line."""
        file = visible(path)
        # as rsync reads it: both characters end a line, so that of the two at the end of a line of Windows
        # the second ends an empty one
        for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
            if not line or line.startswith(("#", ";")):
                continue
            place = f"{file}:{number}:1"
            try:
                rule = WrittenRule(self._parse(line), self._is_pattern, place)
            except Refused as refused:
                report.error(place, refused.message, refused.hint)
                continue
            parsed = Rule.parse(rule)
            if parsed is not None and parsed.pattern != parsed.pattern.strip(b" \t"):
                report.warning(place, f"a blank begins or ends the pattern of {shown(line)}", "it counts")
            yield rule


def _read(path: str, report: Report) -> str:
    """Return the text of a file of rules; raises Refused."""
    avoid = mounts_that_can_hang()
    if not resolve(path, avoid).is_whole and resolve(report.path, avoid).is_whole:
        raise Refused(
            "the file lies on a file system that can hang",
            "it would hold up every sync of the service; copy it to where the configuration is",
        )
    try:
        data = read_file_bytes(path)
    except OSError as error:
        raise Refused(f"the file cannot be read: {error.strerror}") from None
    if len(data) > MAXIMUM_BYTES:
        raise Refused(f"the file is larger than {MAXIMUM_BYTES} bytes", "is this the right file?")
    return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def rule_fields(effective: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Return the fields of a sync about rules; what is doubtful or too much goes into the report."""
    own: tuple[WrittenRule, ...] = effective["filter"]
    patterns: tuple[WrittenRule, ...] = effective["exclude"]
    files: dict[str, tuple[RuleFile, ...]] = {
        name: effective[name] for name in ("filter_from", "exclude_from")
    }
    read = {name: tuple(rule for file in files[name] for rule in file.rules) for name in files}
    rules = (*own, *read["filter_from"], *patterns, *read["exclude_from"])
    _check_size(rules, report)
    _check_anchors(rules, effective["source"], report)
    return {
        "filter": tuple(rule.text for rule in own),
        "exclude": tuple(rule.text for rule in patterns),
        **{name: tuple(file.path for file in files[name]) for name in files},
        "rules": rules,
    }


def _check_size(rules: tuple[WrittenRule, ...], report: Report) -> None:
    size = sum(len(rule.text.encode("utf-8", "surrogateescape")) for rule in rules)
    if size > MAXIMUM_RULE_BYTES or len(rules) > MAXIMUM_RULES:
        report.error(
            rules[-1].place,
            f"with this one the sync has {len(rules)} filter rules of {size} bytes together",
            f"it can have {MAXIMUM_RULES} of {MAXIMUM_RULE_BYTES} bytes; a wildcard saves many",
        )


def _check_anchors(rules: tuple[WrittenRule, ...], source: str, report: Report) -> None:
    """Warn of patterns that begin with the path of the source, as if they were absolute paths."""
    inside = re.compile(re.escape(source) + "(?=/|$)(.*)", re.DOTALL)
    for written in rules:
        rule = Rule.parse(written)
        found = inside.match(rule.pattern.decode("utf-8", "surrogateescape")) if rule else None
        if found:
            report.warning(
                written.place,
                f"the rule {shown(written.text)} begins with the path of the source",
                f"patterns begin at the source: this one fits only below {shown(source + source)}; "
                f"to mean what lies in the source, write {shown(found[1] or '/*')}",
            )
