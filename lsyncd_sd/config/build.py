# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a sync out of what a file gives for it, its defaults, and the defaults of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lsyncd_sd.config.model import DIRECT, Delete, RsyncOptions, SshOptions, Sync, Target, TargetKind
from lsyncd_sd.config.report import Report, shown
from lsyncd_sd.config.rsyncrules import check, drop_what_is_for_others, own_rules
from lsyncd_sd.config.rules import rule_fields
from lsyncd_sd.config.setting import Given, Scope, Setting, Values
from lsyncd_sd.config.settings import settings_of
from lsyncd_sd.config.values import Section

_NOT_KEYS = ("binary", "extra")


def merge(defaults: Values, own: Values, settings: Mapping[str, Setting]) -> Values:
    """Return what holds when both give values: the own one, or both key by key where the type says so."""
    merged = dict(defaults)
    for name, given in own.items():
        type_ = settings[name].type
        if name in defaults and isinstance(type_, Section):
            value = merge(defaults[name].value, given.value, settings_of(Scope(type_.scope)))
            merged[name] = Given(value, given.place)
        elif name in defaults and type_.merges:
            merged[name] = Given({**defaults[name].value, **given.value}, given.place)
        else:
            merged[name] = given
    return merged


def _effective(values: Values, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the value of every setting: given, else its default, else that of the setting it follows."""
    effective: dict[str, Any] = {}
    for name, setting in settings.items():
        if name in values:
            effective[name] = values[name].value
        else:
            effective[name] = effective[setting.follows] if setting.follows else setting.default
    return effective


def render_flags(keys: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options of rsync that the effective values of the keys of `rsync:` stand for."""
    flags: list[str] = []
    for name, setting in settings_of(Scope.RSYNC).items():
        value = keys.get(name)
        if not setting.option or value is None:
            continue
        if isinstance(value, str):
            flags.append(f"{setting.option}={value}")
        elif value:
            flags.append(setting.option)
        elif setting.option_if_false:
            flags.append(setting.option_if_false)
    if "--devices" in flags and "--specials" in flags:
        flags[flags.index("--devices")] = "-D"
        flags.remove("--specials")
    return tuple(flags)


def _section(values: Values, name: str) -> Values:
    section: Values = values[name].value if name in values else {}
    return section


def _rsync_options(
    values: Values, own: Values, target: Target, delete: Delete, report: Report
) -> RsyncOptions:
    given = dict(_section(values, "rsync"))
    own_section = _section(own, "rsync")
    drop_what_is_for_others(given, own_section, target, delete, report)
    if "rsh" in given and "ssh" in values:
        # the one that is the sync's own goes before the other's default
        if ("rsh" in own_section) is ("ssh" in own):
            report.error(given["rsh"].place, "rsh: 'ssh' is given as well", "leave one of them out")
        elif "ssh" in own:
            del given["rsh"]
    effective = _effective(given, settings_of(Scope.RSYNC))
    check(given, effective, target, report)
    keys = {name: value for name, value in effective.items() if name not in _NOT_KEYS}
    return RsyncOptions(
        effective["binary"],
        render_flags(keys),
        effective["extra"],
        tuple(keys.items()),
        own_rules(effective, target),
        tuple((name, value.place) for name, value in given.items()),
    )


def _ssh_options(values: Values, own: Values, target: Target, has_rsh: bool, report: Report) -> SshOptions:
    given = {} if has_rsh else _section(values, "ssh")
    own_section = _section(own, "ssh")
    if target.kind is not TargetKind.SSH:
        given = {}  # in the defaults it is for those syncs that go over ssh
        if "ssh" in own:
            report.error(
                own["ssh"].place,
                f"ssh: the target {shown(target.text)} is not reached over ssh",
                "leave it out, or write the target as host:/path",
            )
    effective = _effective(given, settings_of(Scope.SSH))
    if target.user:
        if "user" in own_section and own_section["user"].value != target.user:
            report.error(
                own_section["user"].place,
                f"user: the target says {shown(target.user)}",
                "say it in one place",
            )
        effective["user"] = None
    return SshOptions(
        effective["binary"],
        effective["port"],
        effective["identity_file"],
        effective["user"],
        tuple(sorted(effective["options"].items())),
        effective["extra"],
    )


def build_sync(own: Values, defaults: Values, name: Given, stem: str, report: Report) -> Sync | None:
    """Return the sync, or None if it has no source or target; `report` gets what does not go together."""
    settings = settings_of(Scope.SYNC)
    if "source" not in own or "target" not in own:
        return None
    values = merge(defaults, own, settings)
    effective = _effective(values, settings)
    target: Target = effective["target"]
    if effective["mode"] == DIRECT and target.kind is not TargetKind.LOCAL:
        report.error(
            values["mode"].place,
            f"mode: direct is for a target on this machine, and {shown(target.text)} is not",
            "leave the mode out: rsync is for all targets",
        )
    rsync = _rsync_options(values, own, target, effective["delete"], report)
    return Sync(
        name=name.value,
        source=effective["source"],
        target=target,
        mode=effective["mode"],
        delay=effective["delay"],
        max_changes=effective["max_changes"],
        open_file_delay=effective["open_file_delay"],
        watch_modify=effective["watch_modify"],
        batch_size_limit=effective["batch_size_limit"],
        delete=effective["delete"],
        **rule_fields(effective, report),
        timeout=effective["timeout"],
        exit_codes=tuple(sorted(effective["exit_codes"].items())),
        log_level=effective["log_level"],
        **_effective(_section(values, "brake"), settings_of(Scope.BRAKE)),
        rsync=rsync,
        ssh=_ssh_options(values, own, target, rsync.rsh is not None, report),
        file_stem=stem,
        name_place=name.place,
        source_place=own["source"].place,
        target_place=own["target"].place,
    )
