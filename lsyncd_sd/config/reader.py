# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a configuration file strictly: values by their declared types, all errors at once, in place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeGuard

from lsyncd_sd.config.build import build_sync
from lsyncd_sd.config.files import MAXIMUM_BYTES, read_file_bytes
from lsyncd_sd.config.model import Configuration, Sync
from lsyncd_sd.config.nodes import BrokenNode, ListNode, MapNode, Node, Scalar, describe, parse
from lsyncd_sd.config.parsers import parse_name
from lsyncd_sd.config.report import Refused, Report, shown
from lsyncd_sd.config.setting import Given, Scope, Setting, Values
from lsyncd_sd.config.settings import default_settings, settings_of
from lsyncd_sd.config.strangers import hint_for
from lsyncd_sd.config.values import Section
from lsyncd_sd.config.yamlhints import LUA_HINT, looks_like_lua
from lsyncd_sd.errors import ConfigurationError, Problem
from lsyncd_sd.printable import visible

SHORTEST_FILE = "the shortest file is two lines, 'source: /home' and 'target: host:/srv/mirror/home'"


def read_file(path: str) -> tuple[Configuration, list[Problem]]:
    """Return what a file says, and warnings. Raise ConfigurationError with all problems if it has errors.

    Only the text is judged, and that of the files with rules that it names; what else depends on the file
    system, or on other configuration files, is in checks.py.
    """
    return read_text(read_bytes(path), path)


def read_text(text: str | bytes, path: str) -> tuple[Configuration, list[Problem]]:
    """Return what a text says as if it stood in the file `path`. Raise as read_file does."""
    report = Report(path)
    configuration = read_into(text, path, report)
    report.raise_if_errors()
    return configuration, report.problems


def read_bytes(path: str) -> bytes:
    """Return the content of a file. Raise ConfigurationError if it is no file, unreadable or too large."""
    place = visible(path)
    try:
        return read_file_bytes(path)
    except Refused as refused:
        raise ConfigurationError([Problem(place, refused.message, "name a file of YAML text")]) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError([_not_readable(place, error)]) from None


def _not_readable(place: str, error: Exception) -> Problem:
    if isinstance(error, FileNotFoundError):
        return Problem(place, "there is no such file", "a unit lsyncd@NAME reads /etc/lsyncd.d/NAME.yaml")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return Problem(place, f"the file cannot be read: {reason}")


def stem_of(path: str) -> str:
    """Return a file's name without folder and suffix: `home` for `/etc/lsyncd.d/home.yaml`."""
    return os.path.splitext(os.path.basename(path))[0]


def read_into(text: str | bytes, path: str, report: Report) -> Configuration:
    """Return what could be read of a text; if the report has errors, it is good for further checks only."""
    stem = stem_of(path)
    if len(text) > MAXIMUM_BYTES:
        report.error(
            report.file, f"the file is larger than {MAXIMUM_BYTES} bytes", "is this the right file?"
        )
        return Configuration(path, stem, ())
    root = parse(text, report)
    if root is None or (isinstance(root, Scalar) and root.is_null):
        if not report.has_errors:
            report.error(report.place(0, 0), "the file is empty", SHORTEST_FILE)
        return Configuration(path, stem, ())
    return Configuration(path, stem, _read_root(root, stem, text, report))


def _read_root(root: Node, stem: str, text: str | bytes, report: Report) -> tuple[Sync, ...]:
    if isinstance(root, BrokenNode):
        return ()
    if not isinstance(root, MapNode):
        hint = SHORTEST_FILE
        if isinstance(root, ListNode):
            hint = "write 'syncs:' above the list"
        elif looks_like_lua(text.decode("utf-8", "replace") if isinstance(text, bytes) else text):
            hint = LUA_HINT
        report.error(root.place, f"a mapping (key: value) is expected, this is {describe(root)}", hint)
        return ()
    return read_syncs(root, stem, report)


def read_syncs(root: MapNode, stem: str, report: Report) -> tuple[Sync, ...]:
    """Return the syncs that the tree of a file holds; whatever is wrong is in the report."""
    top_keys = {key.text: key for key, _ in root.entries if key.text in settings_of(Scope.TOP)}
    if not top_keys:
        return _read_short_form(root, stem, report)
    return _read_general_form(root, stem, report)


def _read_short_form(root: MapNode, stem: str, report: Report) -> tuple[Sync, ...]:
    known = [*settings_of(Scope.SYNC), *settings_of(Scope.TOP)]
    own = _read_section(root, Scope.SYNC, settings_of(Scope.SYNC), report, known)
    name = _names([(own, root)], stem, report)[0]
    sync = build_sync(own, {}, name, stem, report)
    return (sync,) if sync else ()


def _read_general_form(root: MapNode, stem: str, report: Report) -> tuple[Sync, ...]:
    entries = []
    for key, node in root.entries:
        if key.text in settings_of(Scope.SYNC):
            report.error(
                key.place,
                f"{shown(key.text)} stands beside 'syncs' or 'defaults'",
                "put it into a sync of the list, or into 'defaults:' for all of them",
            )
        else:
            entries.append((key, node))
    top = _read_section(MapNode(root.place, tuple(entries)), Scope.TOP, settings_of(Scope.TOP), report)
    nodes = top["syncs"].value if "syncs" in top else ()
    defaults: Values = top["defaults"].value if "defaults" in top else {}
    given = [
        (_read_section(node, Scope.SYNC, settings_of(Scope.SYNC), report), node)
        for node in nodes
        if _is_sync(node, report)
    ]
    names = _names(given, stem, report)
    syncs = (
        build_sync(own, defaults, name, stem, report) for (own, _), name in zip(given, names, strict=True)
    )
    return tuple(sync for sync in syncs if sync)


def _is_sync(node: Node, report: Report) -> TypeGuard[MapNode]:
    if not isinstance(node, (MapNode, BrokenNode)):
        report.error(
            node.place, f"a sync is a mapping (key: value), this is {describe(node)}", SHORTEST_FILE
        )
    return isinstance(node, MapNode)


def _stem_as_name(node: MapNode, stem: str, report: Report) -> Given:
    try:
        parse_name(stem)
    except Refused as refused:
        report.error(
            node.place, f"the file's name {refused.message}", f"give the sync a 'name': {refused.hint}"
        )
    return Given(stem, node.place)


def _has_refused_name(own: Values, node: MapNode) -> bool:
    """Tell whether there is a name of which the report says all there is to say."""
    return "name" not in own and any(key.text == "name" for key, _ in node.entries)


def _names(given: list[tuple[Values, MapNode]], stem: str, report: Report) -> list[Given]:
    """Return a name for each sync: one may go without and is called like the file, no two are the same."""
    names: list[Given] = []
    places: dict[str, str] = {}
    unnamed = 0
    for own, node in given:
        if _has_refused_name(own, node):
            names.append(Given(stem, node.place))
            continue
        unnamed += "name" not in own
        if "name" not in own and unnamed > 1:
            report.error(node.place, "this sync needs a 'name'", "only one sync of a file can go without")
            names.append(Given(stem, node.place))
            continue
        name = own["name"] if "name" in own else _stem_as_name(node, stem, report)
        if name.value in places:
            message = f"another sync has the name {shown(name.value)}"
            report.error(name.place, message, f"it is at {places[name.value]}")
        places.setdefault(name.value, name.place)
        names.append(name)
    return names


def _read_section(
    node: MapNode,
    scope: Scope,
    settings: Mapping[str, Setting],
    report: Report,
    known: list[str] | None = None,
) -> Values:
    """Return the good values of a mapping; everything else is in the report."""
    values: dict[str, Given] = {}
    for key, value_node in node.entries:
        setting = settings.get(key.text)
        if setting is None:
            report.error(
                key.place,
                f"unknown key {shown(key.text)}",
                hint_for(key.text, scope, known or list(settings)),
            )
            continue
        value = _read_value(value_node, setting, report)
        if value is not None:
            values[setting.name] = Given(value, value_node.place)
    _check_required(node, settings, report)
    return values


def _check_required(node: MapNode, settings: Mapping[str, Setting], report: Report) -> None:
    present = {key.text: key.place for key, _ in node.entries}
    for setting in settings.values():
        if not setting.required:
            continue
        if setting.name not in present and setting.instead not in present:
            report.error(
                node.place,
                f"no {shown(setting.name)} is given",
                f"for example: {setting.name}: {setting.example}",
            )
        elif setting.name in present and setting.instead in present:
            report.error(
                present[setting.instead],
                f"{setting.instead}: {shown(setting.name)} is given as well",
                "leave one of them out",
            )


def _read_value(node: Node, setting: Setting, report: Report) -> object | None:
    if not isinstance(setting.type, Section):
        value: object | None = setting.type.read(node, setting.name, report)
        return value
    if isinstance(node, BrokenNode):
        return None
    if setting.type.is_list:
        return _read_list(node, setting, report)
    if not isinstance(node, MapNode):
        hint = (
            "leave the key out"
            if isinstance(node, Scalar) and node.is_null
            else f"for example: {setting.name}: {setting.example}"
        )
        report.error(node.place, f"{setting.name}: a mapping is expected, this is {describe(node)}", hint)
        return None
    if setting.name == "defaults":
        return _read_section(node, Scope.SYNC, default_settings(), report)
    scope = Scope(setting.type.scope)
    return _read_section(node, scope, settings_of(scope), report)


def _read_list(node: Node, setting: Setting, report: Report) -> tuple[Node, ...] | None:
    if not isinstance(node, ListNode):
        report.error(
            node.place,
            f"{setting.name}: a list is expected, this is {describe(node)}",
            "each sync begins with '- source: …'",
        )
        return None
    if not node.items:
        report.error(node.place, f"{setting.name}: the list is empty", SHORTEST_FILE)
    return node.items
