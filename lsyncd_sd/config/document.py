# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes out the table of settings: JSON Schema, section of the manual, sample file, effective values."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from lsyncd_sd.config.model import Configuration, Sync, TargetKind
from lsyncd_sd.config.nodes import NULL_WORDS
from lsyncd_sd.config.setting import Effect, Scope, Setting
from lsyncd_sd.config.settings import SETTINGS, default_settings, settings_of
from lsyncd_sd.config.values import Flag, PlacedTarget, Schema, Section
from lsyncd_sd.printable import visible

SAMPLE_WIDTH = 96
MANUAL_WIDTH = 90  # of the source of the page only
# plain text that no reader of YAML takes for anything but text; everything else is quoted
_PLAIN = re.compile(r"(?=.*[/.@_-])[A-Za-z/][A-Za-z0-9/._@-]*(:[A-Za-z0-9/._@-]+)*|[a-z]+")
_NOT_PLAIN = NULL_WORDS | {"true", "false", "yes", "no", "on", "off", "y", "n"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\0": "\\0"}


# ---- JSON Schema ----


def schema() -> Schema:
    """Return the JSON Schema of a configuration file, for editors; the reader itself is stricter."""
    sync = _object(settings_of(Scope.SYNC))
    general = _object(settings_of(Scope.TOP))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "lsyncd-sd configuration file",
        "anyOf": [{"$ref": "#/definitions/sync"}, general],
        "definitions": {
            "sync": sync,
            "defaults": _object(default_settings()),
            "rsync": _object(settings_of(Scope.RSYNC)),
            "ssh": _object(settings_of(Scope.SSH)),
            "brake": _object(settings_of(Scope.BRAKE)),
        },
    }


def schema_text() -> str:
    """Return the JSON Schema as the text of a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _object(settings: Mapping[str, Setting]) -> Schema:
    result: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(setting) for name, setting in settings.items()},
    }
    required = [name for name, setting in settings.items() if setting.required and not setting.instead]
    if required:
        result["required"] = required
    either = [setting for setting in settings.values() if setting.instead]
    if either:
        result["allOf"] = [
            {"oneOf": [{"required": [setting.name]}, {"required": [setting.instead]}]} for setting in either
        ]
    return result


def _property(setting: Setting) -> Schema:
    described: Schema = {"description": setting.help}
    value = setting.type.schema()
    # draft 7 ignores everything that stands beside a reference
    described.update({"allOf": [value]} if "$ref" in value else value)
    if setting.default is not None and not isinstance(setting.type, Section):
        described["default"] = setting.type.plain(setting.default)
    return described


# ---- YAML ----


def yaml_value(value: Any) -> str:
    """Return a plain value (as ValueType.plain gives it) as YAML in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")  # never with an exponent
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{yaml_value(key)}: {yaml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(yaml_value(item) for item in value) + "]"
    return _yaml_text(str(value))


def _yaml_text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_PLAIN:
        return text
    return '"' + "".join(_yaml_character(character) for character in text) + '"'


def _yaml_character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _default_words(setting: Setting) -> str:
    if setting.default_words:
        return setting.default_words
    if setting.default is None:
        return "not set"
    value = yaml_value(setting.type.plain(setting.default))
    return "none" if value in ("[]", "{}") else value


# ---- show-config ----


def show(configuration: Configuration) -> str:
    """Return the effective value of every setting as YAML that reads back as the same configuration."""
    lines = [f"# {visible(configuration.file)}, with all defaults filled in"]
    limit = next((sync.max_processes_of_file for sync in configuration.syncs), None)
    if limit is not None:
        # Of all that the defaults say, this alone is not a matter of each sync.
        lines += ["defaults:", f"  max_processes: {limit}"]
    lines.append("syncs:")
    for sync in configuration.syncs:
        lines += _show_sync(sync)
    return "\n".join(lines) + "\n"


def _show_sync(sync: Sync) -> list[str]:
    lines = []
    for name, setting in settings_of(Scope.SYNC).items():
        if name == "rsync":
            lines += _show_section("rsync", Scope.RSYNC, _rsync_values(sync))
        elif name == "ssh":
            lines += _show_section("ssh", Scope.SSH, values) if (values := _ssh_values(sync)) else []
        elif name == "brake":
            lines += _show_section("brake", Scope.BRAKE, _brake_values(sync))
        else:
            lines.append(_show_value(setting, _sync_value(sync, name)))
    return ["  - " + lines[0], *("    " + line for line in lines[1:])]


def _sync_value(sync: Sync, name: str) -> Any:
    if name == "exit_codes":
        return dict(sync.exit_codes)
    if name == ("target" if sync.others else "targets"):
        return None
    if name == "targets":
        return [PlacedTarget(one.target, one.target_place) for one in sync.each_target()]
    return getattr(sync, name)


def _rsync_values(sync: Sync) -> dict[str, Any]:
    options = sync.rsync
    # Each target has what it can use.
    keys = _first_given([dict(one.rsync.keys) for one in sync.each_target()])
    return {**keys, "binary": options.binary, "extra": options.extra}


def _brake_values(sync: Sync) -> dict[str, Any]:
    return {name: getattr(sync, name) for name in settings_of(Scope.BRAKE)}


def _ssh_values(sync: Sync) -> dict[str, Any]:
    """Return what holds for the targets that are reached over ssh; empty if there is none."""
    over_ssh = [
        one.ssh for one in sync.each_target() if one.target.kind is TargetKind.SSH and one.rsync.rsh is None
    ]
    values = [{name: getattr(ssh, name) for name in settings_of(Scope.SSH)} for ssh in over_ssh]
    return {**_first_given(values), "options": dict(over_ssh[0].options)} if over_ssh else {}


def _first_given(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = values[0] if values else ()
    return {name: next((one[name] for one in values if one[name] is not None), None) for name in names}


def _show_section(name: str, scope: Scope, values: Mapping[str, Any]) -> list[str]:
    lines = [f"{name}:"]
    lines += ["  " + _show_value(setting, values[setting.name]) for setting in settings_of(scope).values()]
    return lines


def _show_value(setting: Setting, value: Any) -> str:
    if value is None:
        return f"# {setting.name}: {_default_words(setting)}"
    return f"{setting.name}: {yaml_value(setting.type.plain(value))}"


# ---- sample file ----

_SAMPLE_HEAD = """\
# A configuration file of lsyncd-sd, with every setting. Copy it to /etc/lsyncd.d/NAME.yaml, then
#   lsyncd-sd check /etc/lsyncd.d/NAME.yaml
#   systemctl enable --now lsyncd@NAME
# Only source and target are needed. The other settings are commented out by a '#' without a space behind it,
# and show examples. lsyncd-sd.yaml(5) says more.
"""


def sample_text() -> str:
    """Return a configuration file with every setting explained, all but two commented out."""
    lines = [_SAMPLE_HEAD]
    for setting in settings_of(Scope.SYNC).values():
        if isinstance(setting.type, Section):
            lines += _comment(setting, "")
            lines.append(f"#{setting.name}:")
            for inner in settings_of(Scope(setting.type.scope)).values():
                lines += _comment(inner, "  ")
                lines.append(f"#  {inner.name}: {inner.example}")
        else:
            lines += _comment(setting, "")
            lines.append(f"{'' if setting.required else '#'}{setting.name}: {setting.example}")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _comment(setting: Setting, indent: str) -> list[str]:
    text = setting.help
    if not setting.required and not isinstance(setting.type, Section):
        text += f" Default: {_default_words(setting)}."
    prefix = f"# {indent}"
    return textwrap.wrap(
        text, SAMPLE_WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False
    )


# ---- manual ----

_MANUAL_SECTIONS = (
    (Scope.TOP, "THE TOP OF A FILE", "A file with more than one sync has these two keys, and no other:"),
    (Scope.SYNC, "SETTINGS OF A SYNC", "They stand in an entry of *syncs*, in *defaults*, or at the top of "
     "a file with a single sync."),
    (Scope.RSYNC, "SETTINGS OF RSYNC", "They stand in the mapping *rsync* of a sync or of the defaults."),
    (Scope.SSH, "SETTINGS OF SSH", "They stand in the mapping *ssh* of a sync or of the defaults."),
    (Scope.BRAKE, "SETTINGS OF THE BRAKE", "It stands in the mapping *brake* of a sync or of the defaults."),
)  # fmt: skip


def manual_options() -> str:
    """Return the sections of lsyncd-sd.yaml(5) about the settings, as text for scdoc."""
    return "\n".join(_manual_section(*section) for section in _MANUAL_SECTIONS)


def _manual_section(scope: Scope, title: str, introduction: str) -> str:
    entries = [_manual_entry(setting) for setting in SETTINGS if setting.scope is scope]
    return "\n".join([f"# {title}", "", introduction, "", *entries])


def _manual_entry(setting: Setting) -> str:
    sentences = [_escape(setting.help)]
    if not (isinstance(setting.type, Section) or type(setting.type) is Flag):
        sentences.append(_escape(f"The value is {setting.type.words}."))
    if setting.effect is Effect.NEW:
        sentences.append(_escape(f"A reload with another value {setting.effect.value}."))
    if setting.example != "true":
        sentences.append(f"Example: _{_escape(setting.name)}: {_escape(setting.example)}_")
    lines = textwrap.wrap(" ".join(sentences), MANUAL_WIDTH, break_on_hyphens=False)
    # a dash at the beginning of a line would begin a list
    body = "\n".join("\t" + line.replace("-", "\\-", line.startswith("-")) for line in lines)
    facts = "; ".join(_facts(setting))
    return f"*{setting.name}*{_escape(f' ({facts})') if facts else ''}\n{body}\n"


def _facts(setting: Setting) -> Iterable[str]:
    if type(setting.type) is Flag:
        yield setting.type.words
    if setting.required:
        yield f"required, or {setting.instead}" if setting.instead else "required"
    elif setting.default_words:
        yield f"default: {setting.default_words}"
    elif setting.default is not None and not isinstance(setting.type, Section):
        yield f"default: {_default_words(setting)} {setting.unit}".rstrip()
    if setting.option:
        yield f"rsync {setting.option}"


def _escape(text: str) -> str:
    return re.sub(r"([\\*_\[\]<>#|~`])", r"\\\1", text)
