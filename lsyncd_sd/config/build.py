# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a sync out of what a file gives for it, its defaults, and the defaults of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lsyncd_sd.config.model import RsyncOptions, SshOptions, Sync, Target, TargetKind
from lsyncd_sd.config.report import Report, shown
from lsyncd_sd.config.rules import rule_fields
from lsyncd_sd.config.setting import Scope, Setting
from lsyncd_sd.config.settings import settings_of
from lsyncd_sd.config.values import Section


@dataclass(frozen=True, slots=True)
class Given:
    """A value that a file gives, and where; the value of a section is again a mapping of given values."""

    value: Any
    place: str


Values = Mapping[str, Given]
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


def _rsync_options(values: Values, own: Values, target: Target, report: Report) -> RsyncOptions:
    given = dict(_section(values, "rsync"))
    if target.kind is not TargetKind.DAEMON and "password_file" in given:
        # in the defaults it is for those syncs that go to a daemon
        del given["password_file"]
        if "password_file" in _section(own, "rsync"):
            report.error(
                _section(own, "rsync")["password_file"].place,
                "password_file: this target is no rsync daemon",
                "over ssh the login is the business of ssh, see 'ssh: identity_file'",
            )
    effective = _effective(given, settings_of(Scope.RSYNC))
    if effective["ipv4"] and effective["ipv6"]:
        report.error(given["ipv6"].place, "ipv6: ipv4 is true as well", "leave both out for either")
    keys = {name: value for name, value in effective.items() if name not in _NOT_KEYS}
    return RsyncOptions(effective["binary"], render_flags(keys), effective["extra"], tuple(keys.items()))


def _ssh_options(values: Values, own: Values, target: Target, report: Report) -> SshOptions:
    given = _section(values, "ssh")
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
        max_deletes=_effective(_section(values, "brake"), settings_of(Scope.BRAKE))["max_deletes"],
        rsync=_rsync_options(values, own, target, report),
        ssh=_ssh_options(values, own, target, report),
        file_stem=stem,
        name_place=name.place,
        source_place=own["source"].place,
        target_place=own["target"].place,
    )
