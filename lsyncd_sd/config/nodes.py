# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns YAML text into a small tree in which every value knows its place, and refuses YAML's traps.

The tree is built from the parser's events and not by a composer: there is no recursion that deep nesting
could exhaust, and an alias is seen before anything is expanded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

import yaml

from lsyncd_sd.config.report import Report, shown
from lsyncd_sd.config.yamlhints import explain

# pure Python yields the same events, some 7 times slower
LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# of open lists and mappings; the settings need 5: the file, syncs, one of them, ssh, options
MAXIMUM_DEPTH = 12
NULL_WORDS = frozenset(("", "~", "null", "Null", "NULL"))
# everything outside of what YAML 1.1 calls printable
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; `is_plain` tells `no` from `'no'`, which only the declared type can judge."""

    place: str
    text: str
    is_plain: bool

    @property
    def is_null(self) -> bool:
        """Tell whether nothing stands here, or one of YAML's words for it."""
        return self.is_plain and self.text in NULL_WORDS


@dataclass(frozen=True, slots=True)
class ListNode:
    """A sequence of values."""

    place: str
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapNode:
    """Keys and their values in the order of the file; no key is there twice."""

    place: str
    entries: tuple[tuple[Scalar, Node], ...]


@dataclass(frozen=True, slots=True)
class BrokenNode:
    """Where something was refused that has already been reported; whoever reads it says nothing more."""

    place: str


Node: TypeAlias = Scalar | ListNode | MapNode | BrokenNode


def describe(node: Node) -> str:
    """Return in words what kind of thing a node is, for "… is expected, this is …"."""
    match node:
        case ListNode():
            return "a list"
        case MapNode():
            return "a mapping (key: value)"
        case Scalar() if node.is_null:
            return "nothing"
        case Scalar():
            return shown(node.text)
    return "something else"


@dataclass(slots=True)
class _OpenList:
    place: str
    items: list[Node]

    def add(self, node: Node, report: Report) -> None:
        self.items.append(node)

    def close(self) -> Node:
        return ListNode(self.place, tuple(self.items))


class _OpenMap:
    """A mapping whose end has not been read: takes keys and values in turn."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.entries: list[tuple[Scalar, Node]] = []
        self.places: dict[str, str] = {}
        self.key: Node | None = None

    def add(self, node: Node, report: Report) -> None:
        if self.key is None:
            self.key = node
            return
        key, self.key = self.key, None
        if self._accepts(key, report):
            assert isinstance(key, Scalar)
            self.places[key.text] = key.place
            self.entries.append((key, node))

    def _accepts(self, key: Node, report: Report) -> bool:
        if isinstance(key, BrokenNode):
            return False
        if not isinstance(key, Scalar):
            report.error(key.place, f"a key must be a word, this is {describe(key)}")
            return False
        if key.is_plain and key.text == "<<":
            report.error(
                key.place,
                "merge keys ('<<') are not supported",
                "'defaults:' holds what syncs have in common",
            )
            return False
        if key.text in self.places:
            report.error(
                key.place,
                f"the key {shown(key.text)} is here twice",
                f"it is first at {self.places[key.text]}",
            )
            return False
        return True

    def close(self) -> Node:
        return MapNode(self.place, tuple(self.entries))


class _Builder:
    """Puts the parser's events together; `root` is the tree when the last one was taken."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.root: Node | None = None
        self._open: list[_OpenList | _OpenMap] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> bool:
        """Take one event and return whether it makes sense to go on."""
        mark = event.start_mark
        place = self.report.place(mark.line, mark.column) if mark else self.report.file
        if isinstance(event, yaml.DocumentStartEvent):
            return self._begin_document(place)
        if isinstance(event, yaml.AliasEvent):
            self.report.error(
                place,
                f"aliases ({shown(f'*{event.anchor}')}) are not supported",
                "a value that begins with * must be in quotes; 'defaults:' holds what syncs have in common",
            )
            self._add(BrokenNode(place))
        elif isinstance(event, yaml.ScalarEvent):
            self._check_decorations(event, place)
            self._add(
                BrokenNode(place) if event.tag else Scalar(place, event.value, is_plain=event.implicit[0])
            )
        elif isinstance(event, yaml.CollectionStartEvent):
            self._check_decorations(event, place)
            if len(self._open) >= MAXIMUM_DEPTH:
                self.report.error(place, "this is nested too deep")
                return False
            is_list = isinstance(event, yaml.SequenceStartEvent)
            self._open.append(_OpenList(place, []) if is_list else _OpenMap(place))
        elif isinstance(event, yaml.CollectionEndEvent):
            self._add(self._open.pop().close())
        return True

    def _begin_document(self, place: str) -> bool:
        self._documents += 1
        if self._documents > 1:
            self.report.error(
                place,
                "a second YAML document begins here",
                "one file holds one document; use 'syncs:' for more syncs",
            )
        return self._documents == 1

    def _check_decorations(self, event: yaml.NodeEvent, place: str) -> None:
        if event.anchor:
            self.report.error(
                place,
                f"anchors ({shown(f'&{event.anchor}')}) are not supported",
                "a value that begins with & must be in quotes; 'defaults:' holds what syncs have in common",
            )
        tag = getattr(event, "tag", None)
        if tag:
            self.report.error(
                place,
                f"tags ({shown(tag)}) are not supported",
                "a value that begins with ! must be in quotes",
            )

    def _add(self, node: Node) -> None:
        if self._open:
            self._open[-1].add(node, self.report)
        else:
            self.root = node


def _decode(data: bytes, report: Report) -> str | None:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line_start = before.rfind(b"\n") + 1
        place = report.place(before.count(b"\n"), len(before[line_start:].decode("utf-8", "replace")))
        report.error(place, "the file is not UTF-8 text", f"the byte 0x{data[error.start]:02x} stands here")
        return None


def _check_characters(text: str, report: Report) -> bool:
    found = _FORBIDDEN.search(text)
    if found is None:
        return True
    line_start = text.rfind("\n", 0, found.start()) + 1
    place = report.place(text.count("\n", 0, found.start()), found.start() - line_start)
    report.error(
        place,
        f"the character U+{ord(found.group()):04X} cannot stand in a YAML file",
        'is this a text file? In double quotes, control characters are written as escapes such as "\\t"',
    )
    return False


def parse(data: bytes | str, report: Report) -> Node | None:
    """Return the tree of a file's text, or None if there is none; whatever is wrong is in the report."""
    text = _decode(data, report) if isinstance(data, bytes) else data
    if text is None or not _check_characters(text, report):
        return None
    builder = _Builder(report)
    try:
        for event in yaml.parse(text, Loader=LOADER):
            if not builder.take(event):
                return None
    except yaml.YAMLError as error:
        place, message, hint = explain(error, text, report)
        report.error(place, message, hint)
        return None
    return builder.root
