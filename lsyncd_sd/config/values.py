# SPDX-License-Identifier: GPL-2.0-or-later
"""The types of settings: each reads a node by its own rules and describes itself for schema and manual.

A value is converted from the text of the file by the type the setting declares, never by YAML's guesses:
`no` is a fine name, `0755` a fine mode, `12:30` neither a number nor a duration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from lsyncd_sd.config.model import Delete, MaxDeletes, Target
from lsyncd_sd.config.nodes import BrokenNode, ListNode, MapNode, Node, Scalar, describe
from lsyncd_sd.config.report import Refused, Report, shown

Schema = dict[str, Any]
_TRUE_WORDS = frozenset(("true", "yes", "on"))
_FALSE_WORDS = frozenset(("false", "no", "off"))
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([smhd]?)")
# as dd, head and rsync count: K is 1024
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([KkMmGgTt]?)")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}")


class ValueType:
    """What a value can be. `words` completes "The value is …" for the manual and the messages."""

    words = ""
    # a mapping that a sync and the defaults both give is merged key by key, anything else replaced
    merges = False

    def read(self, node: Node, name: str, report: Report) -> Any:
        """Return the value of a node, or None after what is wrong with it went into the report."""
        if isinstance(node, BrokenNode):
            return None
        try:
            if isinstance(node, Scalar) and node.is_null:
                raise Refused("no value is given", f"the value is {self.words}, or leave the key out")
            return self.convert(node, name, report)
        except Refused as refused:
            report.error(node.place, f"{name}: {refused.message}", refused.hint)
            return None

    def convert(self, node: Node, name: str, report: Report) -> Any:
        """Return the value of a node that is there. Raise Refused, or report the items of a collection."""
        if not isinstance(node, Scalar):
            raise self.mismatch(node)
        return self.convert_scalar(node)

    def convert_scalar(self, node: Scalar) -> Any:
        """Return the value of a single word or text. Raise Refused."""
        raise NotImplementedError

    def mismatch(self, node: Node) -> Refused:
        """Return the error for a node of the wrong kind."""
        return Refused(f"{describe(node)} is not {self.words}")

    def schema(self) -> Schema:
        """Return the JSON Schema of the values, as an editor checks them."""
        raise NotImplementedError

    def plain(self, value: Any) -> Any:
        """Return a value as the text, number, truth value, list or mapping that stands for it in a file."""
        return value


class Text(ValueType):
    """Text, checked and turned into its final form by `parse`, which raises Refused."""

    def __init__(
        self, words: str, parse: Callable[[str], Any], pattern: str = "", allows_number: bool = False
    ) -> None:
        self.words = words
        self._parse = parse
        self._pattern = pattern
        self._allows_number = allows_number

    def convert_scalar(self, node: Scalar) -> Any:
        return self._parse(node.text)

    def mismatch(self, node: Node) -> Refused:
        quote = "text that begins with '- ', '[' or '{' or holds ': ' must be in quotes"
        return Refused(f"{describe(node)} is not {self.words}", quote)

    def schema(self) -> Schema:
        schema: Schema = {"type": ["string", "number"] if self._allows_number else "string", "minLength": 1}
        if self._pattern:
            schema["pattern"] = self._pattern
        return schema

    def plain(self, value: Any) -> Any:
        return value.text if isinstance(value, Target) else value


class Flag(ValueType):
    """True or false."""

    words = "true or false"

    def convert_scalar(self, node: Scalar) -> Any:
        word = node.text.lower()
        if word not in _TRUE_WORDS | _FALSE_WORDS:
            raise Refused(f"{shown(node.text)} is not {self.words}")
        if not node.is_plain:
            raise Refused(f"{shown(node.text)} in quotes is text", f"write {word} without the quotes")
        return word in _TRUE_WORDS

    def schema(self) -> Schema:
        return {"type": "boolean"}


class DeleteWhen(Flag):
    """A flag with two more answers."""

    words = "true, false, startup or running"

    def convert_scalar(self, node: Scalar) -> Any:
        if node.text in (Delete.STARTUP.value, Delete.RUNNING.value):
            return Delete(node.text)
        return Delete.ALWAYS if super().convert_scalar(node) else Delete.NEVER

    def schema(self) -> Schema:
        return {"enum": [True, False, Delete.STARTUP.value, Delete.RUNNING.value]}

    def plain(self, value: Any) -> Any:
        return {Delete.ALWAYS: True, Delete.NEVER: False}.get(value, value.value)


class Integer(ValueType):
    """A whole number between two limits."""

    def __init__(self, minimum: int, maximum: int) -> None:
        self.words = f"a whole number from {minimum} to {maximum}"
        self._minimum = minimum
        self._maximum = maximum

    def convert_scalar(self, node: Scalar) -> Any:
        if not node.is_plain:
            raise Refused(f"{shown(node.text)} in quotes is text, not {self.words}")
        return self.number(node.text)

    def number(self, text: str) -> int:
        """Return the number a text stands for. Raise Refused."""
        if not _INTEGER.fullmatch(text) or not self._minimum <= int(text) <= self._maximum:
            raise Refused(f"{shown(text)} is not {self.words}", "plain decimal digits, no leading zero")
        return int(text)

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self._minimum, "maximum": self._maximum}


class Duration(ValueType):
    """A time in seconds, or with a unit: 5, 2.5, 5s, 5m, 1h, 1d; `whole` takes whole seconds only."""

    def __init__(self, maximum: int, whole: bool = False) -> None:
        kind = "a duration in whole seconds" if whole else "a duration in seconds"
        self.words = f"{kind} or with one of the units s, m, h, d, up to {maximum} seconds"
        self._maximum = maximum
        self._whole = whole

    def convert_scalar(self, node: Scalar) -> Any:
        found = _DURATION.fullmatch(node.text)
        if not found:
            raise Refused(f"{shown(node.text)} is not a duration", "write 5m, 300s or 300")
        seconds = Decimal(found.group(1)) * _SECONDS[found.group(2)]
        if seconds > self._maximum:
            raise Refused(f"{shown(node.text)} is too long", f"at most {self._maximum} seconds")
        if not self._whole:
            return float(seconds)
        if seconds != int(seconds):
            raise Refused(f"{shown(node.text)} is not a number of whole seconds")
        return int(seconds)

    def schema(self) -> Schema:
        number = "integer" if self._whole else "number"
        text = {"type": "string", "pattern": f"^{_DURATION.pattern}$"}
        return {"anyOf": [{"type": number, "minimum": 0, "maximum": self._maximum}, text]}

    def plain(self, value: Any) -> Any:
        return int(value) if value == int(value) else value


class Size(ValueType):
    """A number of bytes, or with a unit: 1000000, 500M, 1.5G."""

    words = "a number of bytes, or of one of the units K, M, G, T"

    def convert_scalar(self, node: Scalar) -> Any:
        found = _SIZE.fullmatch(node.text)
        if not found:
            raise Refused(f"{shown(node.text)} is not a size", "write a number of bytes, or 500M, 1.5G")
        size = int(Decimal(found.group(1)) * _BYTES[found.group(2).upper()])
        if size == 0:
            raise Refused(f"{shown(node.text)} is no bytes at all", "leave the key out for no limit")
        return size

    def schema(self) -> Schema:
        text = {"type": "string", "pattern": f"^{_SIZE.pattern}$"}
        return {"anyOf": [{"type": "integer", "minimum": 1}, text]}


class DeletesAtMost(ValueType):
    """How much may be deleted without asking: a number, a percentage, or any number."""

    words = "a whole number, a percentage such as 50%, or unlimited"
    _UNLIMITED = "unlimited"
    _PERCENTAGE = re.compile(r"([0-9]|[1-9][0-9]|100) ?%")
    _NUMBER = Integer(0, 1_000_000_000)

    def convert_scalar(self, node: Scalar) -> Any:
        if node.text == self._UNLIMITED:
            return MaxDeletes()
        found = self._PERCENTAGE.fullmatch(node.text)
        if found:
            return MaxDeletes(percent=int(found.group(1)))
        if not re.fullmatch("[0-9]+", node.text):
            raise Refused(f"{shown(node.text)} is not {self.words}")
        return MaxDeletes(number=self._NUMBER.convert_scalar(node))

    def schema(self) -> Schema:
        percentage = {"type": "string", "pattern": f"^({self._PERCENTAGE.pattern})$"}
        return {"anyOf": [self._NUMBER.schema(), percentage, {"enum": [self._UNLIMITED]}]}

    def plain(self, value: Any) -> Any:
        if value.percent is not None:
            return f"{value.percent}%"
        return self._UNLIMITED if value.number is None else value.number


class Choice(ValueType):
    """One of a few words; `refused` holds what there is to say about some other words."""

    def __init__(self, options: tuple[str, ...], refused: Mapping[str, str] | None = None) -> None:
        head = ", ".join(options[:-1])
        self.words = f"{head} or {options[-1]}" if head else options[0]
        self.options = options
        self._refused = refused or {}

    def convert_scalar(self, node: Scalar) -> Any:
        if node.text not in self.options:
            hint = self._refused.get(node.text, "")
            raise Refused(f"{shown(node.text)} is not {self.words}", hint)
        return node.text

    def schema(self) -> Schema:
        return {"enum": list(self.options)}


class TextList(ValueType):
    """A list of texts, or a single one; every item goes through `parse`, which raises Refused."""

    def __init__(self, what: str, parse: Callable[[str], str]) -> None:
        self.words = f"a list of {what}, or a single one"
        self._item = Text(f"one of the {what}", parse, allows_number=True)

    def convert(self, node: Node, name: str, report: Report) -> Any:
        if isinstance(node, MapNode):
            raise self.mismatch(node)
        nodes = node.items if isinstance(node, ListNode) else (node,)
        values = [self.read_item(item, name, report) for item in nodes]
        return tuple(value for value in values if value is not None)

    def read_item(self, node: Node, name: str, report: Report) -> Any:
        """Return one item, or None after what is wrong with it went into the report."""
        return self._item.read(node, name, report)

    def schema(self) -> Schema:
        item = self._item.schema()
        return {"anyOf": [item, {"type": "array", "items": item}]}

    def plain(self, value: Any) -> Any:
        return list(value)


class PlacedTarget(NamedTuple):
    """One of several targets, and where it stands."""

    target: Target
    place: str


class TargetText(Text):
    """A single target."""

    def mismatch(self, node: Node) -> Refused:
        if isinstance(node, ListNode):
            return Refused(f"{describe(node)} is not {self.words}", "several are given as 'targets'")
        return super().mismatch(node)


class TargetList(ValueType):
    """A list of targets; a value is a tuple of them with their places. `parse` raises Refused."""

    words = "a list of targets"

    def __init__(self, parse: Callable[[str], Target]) -> None:
        self._item = Text("a target", parse)

    def convert(self, node: Node, name: str, report: Report) -> Any:
        if not isinstance(node, ListNode):
            raise Refused(f"{describe(node)} is not {self.words}", "a single one is given as 'target'")
        if not node.items:
            raise Refused("the list is empty", "name at least one target")
        read = [(self._read_item(item, name, report), item.place) for item in node.items]
        return tuple(PlacedTarget(target, place) for target, place in read if target is not None)

    def _read_item(self, node: Node, name: str, report: Report) -> Target | None:
        if isinstance(node, MapNode):
            report.error(
                node.place,
                f"{name}: {describe(node)} is not a target",
                "only the target itself stands here; one with settings of its own is a sync of its own",
            )
            return None
        target: Target | None = self._item.read(node, name, report)
        return target

    def schema(self) -> Schema:
        return {"type": "array", "minItems": 1, "items": self._item.schema()}

    def plain(self, value: Any) -> Any:
        return [placed.target.text for placed in value]


class CodeMap(ValueType):
    """A mapping from exit code to one word."""

    merges = True

    def __init__(self, code: Integer, word: Choice) -> None:
        self.words = f"a mapping from {code.words} to one of {word.words}"
        self._code = code
        self._word = word

    def convert(self, node: Node, name: str, report: Report) -> Any:
        if not isinstance(node, MapNode):
            raise self.mismatch(node)
        codes: dict[int, str] = {}
        for key, value in node.entries:
            try:
                code = self._code.number(key.text)
            except Refused as refused:
                report.error(key.place, f"{name}: {refused.message}", refused.hint)
                continue
            word = self._word.read(value, f"{name} {code}", report)
            if word is not None:
                codes[code] = word
        return codes

    def schema(self) -> Schema:
        code = "^([1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$"
        return {
            "type": "object",
            "patternProperties": {code: self._word.schema()},
            "additionalProperties": False,
        }


class TextMap(ValueType):
    """A mapping from word to text, both checked: what ssh takes after -o."""

    merges = True

    def __init__(self, words: str, key_pattern: str, parse: Callable[[str], str]) -> None:
        self.words = words
        self._key_pattern = key_pattern
        self._value = Text("text", parse, allows_number=True)

    def convert(self, node: Node, name: str, report: Report) -> Any:
        if not isinstance(node, MapNode):
            raise self.mismatch(node)
        texts: dict[str, str] = {}
        for key, value in node.entries:
            if not re.fullmatch(self._key_pattern, key.text):
                report.error(key.place, f"{name}: {shown(key.text)} is not a word", f"it is {self.words}")
                continue
            text = self._value.read(value, f"{name} {key.text}", report)
            if text is not None:
                texts[key.text] = text
        return texts

    def schema(self) -> Schema:
        value = {"type": ["string", "number", "boolean"]}
        return {
            "type": "object",
            "patternProperties": {f"^{self._key_pattern}$": value},
            "additionalProperties": False,
        }


class Section(ValueType):
    """A mapping of settings of its own; which ones, the reader finds under `scope` in the table."""

    merges = True

    def __init__(self, scope: str, is_list: bool = False) -> None:
        self.scope = scope
        self.is_list = is_list
        self.words = f"a list of {scope}s" if is_list else f"a mapping of the {scope} settings below"

    def schema(self) -> Schema:
        section = {"$ref": f"#/definitions/{self.scope}"}
        return {"type": "array", "minItems": 1, "items": section} if self.is_list else section
