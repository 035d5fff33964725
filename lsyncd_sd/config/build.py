# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a sync out of what a file gives for it, its defaults, and the defaults of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lsyncd_sd.config.model import (
    DIRECT,
    RSYNCSSH,
    Delete,
    RsyncOptions,
    SshOptions,
    Sync,
    Target,
    TargetKind,
)
from lsyncd_sd.config.report import Report, shown
from lsyncd_sd.config.rsyncrules import check, drop_what_is_for_others, own_rules
from lsyncd_sd.config.rules import rule_fields
from lsyncd_sd.config.setting import Given, Scope, Setting, Values
from lsyncd_sd.config.settings import settings_of
from lsyncd_sd.config.values import PlacedTarget, Section

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
    values: Values, own: Values, target: Target, targets: Sequence[Target], delete: Delete, report: Report
) -> RsyncOptions:
    given = dict(_section(values, "rsync"))
    own_section = _section(own, "rsync")
    drop_what_is_for_others(given, own_section, target, targets, delete, report)
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


def _ssh_options(
    values: Values, own: Values, target: Target, targets: Sequence[Target], has_rsh: bool, report: Report
) -> SshOptions:
    given = {} if has_rsh else _section(values, "ssh")
    own_section = _section(own, "ssh")
    if target.kind is not TargetKind.SSH:
        given = {}  # it is for those targets that are reached over ssh
        if "ssh" in own and all(one.kind is not TargetKind.SSH for one in targets):
            who = f"the target {shown(target.text)} is not" if len(targets) == 1 else "no target is"
            report.error(
                own["ssh"].place,
                f"ssh: {who} reached over ssh",
                "leave it out, or write the target as host:/path",
            )
    effective = _effective(given, settings_of(Scope.SSH))
    if target.user:
        is_for_others = any(one.kind is TargetKind.SSH and not one.user for one in targets)
        if "user" in own_section and own_section["user"].value != target.user and not is_for_others:
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
    placed = _placed_targets(own)
    if "source" not in own or not placed:
        return None
    values = merge(defaults, own, settings_of(Scope.SYNC))
    effective = _effective(values, settings_of(Scope.SYNC))
    targets = [target for target, _place in placed]
    rsync = [_rsync_options(values, own, target, targets, effective["delete"], report) for target in targets]
    for target, options in zip(targets, rsync, strict=True):
        _check_mode(effective["mode"], values, target, options, report)
    # What rsync keeps in one of the targets is left alone in all: they have one filter, as they have one
    # watch.
    rules = tuple(dict.fromkeys(rule for options in rsync for rule in options.own_rules))
    common = _common_fields(values, effective, report)
    # It is no default: each counts where it stands.
    limit, limit_of_file = (
        section["max_processes"].value if "max_processes" in section else None for section in (own, defaults)
    )
    syncs = [
        Sync(
            name=name.value,
            target=target,
            rsync=replace(options, own_rules=rules),
            ssh=_ssh_options(values, own, target, targets, options.rsh is not None, report),
            file_stem=stem,
            name_place=name.place,
            source_place=own["source"].place,
            target_place=place,
            is_one_of_several=len(targets) > 1,
            max_processes=limit,
            max_processes_of_file=limit_of_file,
            **common,
        )
        for (target, place), options in zip(placed, rsync, strict=True)
    ]
    return replace(syncs[0], others=tuple(syncs[1:]))


def _check_mode(mode: str, values: Values, target: Target, rsync: RsyncOptions, report: Report) -> None:
    if mode == DIRECT and target.kind is not TargetKind.LOCAL:
        report.error(
            values["mode"].place,
            f"mode: direct is for a target on this machine, and {shown(target.text)} is not",
            "leave the mode out: rsync is for all targets",
        )
    if mode != RSYNCSSH:
        return
    if target.kind is not TargetKind.SSH:
        report.error(
            values["mode"].place,
            f"mode: rsyncssh is for targets reached over ssh, and {shown(target.text)} is not",
            "leave the mode out: rsync is for all targets",
        )
    elif rsync.rsh is not None:
        report.error(
            values["mode"].place,
            "mode: rsyncssh keeps a connection of ssh, and rsh is something else",
            "use the section 'ssh'",
        )


def _placed_targets(own: Values) -> tuple[PlacedTarget, ...]:
    if "target" in own:
        return (PlacedTarget(own["target"].value, own["target"].place),)
    return own["targets"].value if "targets" in own else ()


def _common_fields(values: Values, effective: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Return the fields of a sync that do not depend on its target."""
    same = (
        "source", "mode", "delay", "max_changes", "open_file_delay", "watch_modify", "batch_size_limit",
        "delete", "timeout", "log_level",
    )  # fmt: skip
    return {
        **{name: effective[name] for name in same},
        **rule_fields(effective, report),
        "exit_codes": tuple(sorted(effective["exit_codes"].items())),
        **_effective(_section(values, "brake"), settings_of(Scope.BRAKE)),
    }
