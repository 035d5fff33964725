# SPDX-License-Identifier: GPL-2.0-or-later
"""The one table of every setting: reader, schema, manual, sample file and show-config are made from it.

To add a setting, add it here, give it a field in model.py, and hand its value on in build.py; the tests say
what else is out of date.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from lsyncd_sd.config import parsers
from lsyncd_sd.config.model import Delete
from lsyncd_sd.config.rsyncextra import parse_extra
from lsyncd_sd.config.target import local_path, parse_target
from lsyncd_sd.config.values import (
    Choice,
    CodeMap,
    DeleteWhen,
    Duration,
    Flag,
    Integer,
    Section,
    Text,
    TextList,
    TextMap,
    ValueType,
)

WEEK = 7 * 86400
YEAR = 365 * 86400


class Scope(enum.StrEnum):
    """Where a setting stands: at the top of a file, in a sync (or the defaults), or in a section of that."""

    TOP = "top"
    SYNC = "sync"
    RSYNC = "rsync"
    SSH = "ssh"


class Effect(enum.StrEnum):
    """What a changed value does at a reload; the value completes "A reload …"."""

    RESTART = "restarts the sync"
    NEW = "ends the old sync and begins a new one with a full sync"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    `default` is what holds when the key is not given (None: nothing is set), `follows` names the setting
    whose value it takes instead, and `default_words` says it where a value cannot. `example` is YAML.
    `option` is the option of rsync that a true or given value renders to (with its value behind `=` if it
    takes one), `option_if_false` what an explicit false renders to.
    """

    name: str
    scope: Scope
    type: ValueType
    default: Any
    help: str
    example: str
    unit: str = ""
    default_words: str = ""
    follows: str = ""
    required: bool = False
    in_defaults: bool = True
    effect: Effect = Effect.RESTART
    option: str = ""
    option_if_false: str = ""


MODES_TO_COME = ("rsyncssh", "direct", "actions")
OUTCOMES = ("ok", "vanished", "partial", "target-full", "connection", "fail")
_LSYNCD_OUTCOMES = {"again": "Lsyncd's 'again' is 'connection' here", "die": "Lsyncd's 'die' is 'fail' here"}
LOG_LEVELS = ("error", "warning", "notice", "info", "debug")

_TOP = (
    Setting(
        "syncs", Scope.TOP, Section("sync", is_list=True), None,
        "The syncs of this file. A file with a single sync can do without: its settings then stand at the "
        "top.",
        "[{source: /home, target: 'backup.example.org:/srv/mirror/home'}]",
        required=True, in_defaults=False,
    ),
    Setting(
        "defaults", Scope.TOP, Section("defaults"), {},
        "What every sync of this file has in common. A sync's own value replaces the one given here; only "
        "the mappings rsync, ssh, exit_codes and ssh's options are merged key by key.",
        "{delay: 10}", in_defaults=False,
    ),
)  # fmt: skip

_SYNC = (
    Setting(
        "name", Scope.SYNC, Text("a name", parsers.parse_name, f"^{parsers.NAME_PATTERN}$"), None,
        "What the sync is called in commands, the journal and the status. No two syncs of a service may "
        "have the same.",
        "home", default_words="the file's name without its suffix; of several syncs one may go without",
        in_defaults=False, effect=Effect.NEW,
    ),
    Setting(
        "source", Scope.SYNC, Text("an absolute path", local_path, "^/."), None,
        "The directory to mirror. If it is not there (yet), the sync waits for it.",
        "/home", required=True, in_defaults=False, effect=Effect.NEW,
    ),
    Setting(
        "target", Scope.SYNC, Text("a target", parse_target), None,
        "Where to: /path on this machine, host:/path or user@host:/path over ssh, host::module/path or "
        "rsync://host/module/path for an rsync daemon. An IPv6 address stands in brackets: [::1]:/path. "
        "Without a slash behind the colon the path is below the login directory. No two targets may be "
        "equal or lie in one another, and a local target may not touch its source.",
        "backup.example.org:/srv/mirror/home", required=True, in_defaults=False, effect=Effect.NEW,
    ),
    Setting(
        "mode", Scope.SYNC,
        Choice(("rsync",), {mode: f"this version does not have {mode} yet" for mode in MODES_TO_COME}),
        "rsync", "How changes get to the target.", "rsync", effect=Effect.NEW,
    ),
    Setting(
        "delay", Scope.SYNC, Duration(WEEK), 5.0,
        "How long changes are collected before they are sent, counted from the first one.",
        "5", unit="seconds",
    ),
    Setting(
        "max_changes", Scope.SYNC, Integer(1, 1_000_000_000), 1000,
        "With so many changes collected the delay is cut short.", "1000", unit="changes",
    ),
    Setting(
        "delete", Scope.SYNC, DeleteWhen(), Delete.ALWAYS,
        "Whether what is gone from the source is deleted on the target: always, never, only in full syncs "
        "(startup), or only while running.",
        "true",
    ),
    Setting(
        "exclude", Scope.SYNC, TextList("patterns", parsers.parse_pattern), (),
        "What is not mirrored, in the pattern language of rsync(1); the first pattern that fits decides. A "
        "pattern with the prefix '+ ' is an exception. What is excluded is left alone on the target, too. A "
        "pattern that begins with * or ! must be in quotes.",
        "['*.tmp', /lost+found]",
    ),
    Setting(
        "timeout", Scope.SYNC, Duration(YEAR, whole=True), 300,
        "After so long without any data a transfer is given up and tried again. 0 is for ever.",
        "300", unit="seconds",
    ),
    Setting(
        "exit_codes", Scope.SYNC, CodeMap(Integer(1, 255), Choice(OUTCOMES, _LSYNCD_OUTCOMES)), {},
        "What exit codes of rsync mean, where that is not what they usually mean: ok (done), vanished "
        "(done, but look once more), partial (some of it failed: those paths again), target-full (wait for "
        "room), connection (the target cannot be reached: all of it again, more and more slowly), fail "
        "(show the error, try again slowly). Codes that are not given keep their meaning.",
        "{23: ok}",
    ),
    Setting(
        "log_level", Scope.SYNC, Choice(LOG_LEVELS), "info",
        "The least important messages that go to the journal.", "info",
    ),
    Setting(
        "rsync", Scope.SYNC, Section("rsync"), {}, "How rsync is called.", "{acls: true, xattrs: true}",
    ),
    Setting(
        "ssh", Scope.SYNC, Section("ssh"), {},
        "How ssh is called; only for a target that is reached over ssh. Without a terminal nobody can type "
        "a passphrase: the key must do without, or an agent hold it.",
        "{port: 2222, identity_file: /root/.ssh/mirror}",
    ),
)  # fmt: skip


def _flag(name: str, option: str, help_text: str, default: bool = False) -> Setting:
    return Setting(name, Scope.RSYNC, Flag(), default, help_text, "true", option=option)


def _of_archive(name: str, option: str, help_text: str) -> Setting:
    return Setting(
        name,
        Scope.RSYNC,
        Flag(),
        None,
        help_text,
        "true",
        default_words="as archive",
        follows="archive",
        option=option,
    )


def _rsync_text(
    name: str, option: str, type_: ValueType, help_text: str, example: str, unit: str = ""
) -> Setting:
    return Setting(name, Scope.RSYNC, type_, None, help_text, example, unit=unit, option=option)


_SPEC = Text("text", parsers.parse_text, allows_number=True)

_RSYNC = (
    Setting(
        "binary", Scope.RSYNC, Text("a program", parsers.parse_program), "rsync",
        "The rsync of this machine, found by PATH or given as an absolute path.", "/usr/bin/rsync",
    ),
    Setting(
        "archive", Scope.RSYNC, Flag(), True,
        "Turns on those of perms, group, owner, devices and specials that are not given themselves. (Links "
        "and times are on anyway.)",
        "true",
    ),
    _flag("links", "-l", "Copy symbolic links as links.", default=True),
    _of_archive("perms", "-p", "Copy permissions."),
    _flag("times", "-t", "Copy modification times.", default=True),
    _of_archive("group", "-g", "Copy the group."),
    _of_archive("owner", "-o", "Copy the owner; only root can."),
    _of_archive("devices", "--devices", "Copy device files; only root can."),
    _of_archive("specials", "--specials", "Copy sockets and FIFOs."),
    _flag("acls", "-A", "Copy access control lists."),
    _flag("xattrs", "-X", "Copy extended attributes."),
    _flag("hard_links", "-H", "Keep files that are hard links of each other linked."),
    _flag("checksum", "-c", "Compare content instead of size and time in full syncs: slow, but thorough."),
    _flag("compress", "-z", "Compress on the way."),
    _flag("executability", "-E", "Copy whether a file is executable, if perms is off."),
    _flag("ipv4", "-4", "Use IPv4 only."),
    _flag("ipv6", "-6", "Use IPv6 only."),
    _flag("omit_dir_times", "-O", "Leave the times of directories alone."),
    _flag("omit_link_times", "-J", "Leave the times of symbolic links alone."),
    _flag("sparse", "-S", "Write long runs of zeros as holes."),
    Setting(
        "whole_file", Scope.RSYNC, Flag(), None,
        "Send whole files, not only what differs in them.", "true",
        default_words="rsync's choice: true for a local target", option="-W",
        option_if_false="--no-whole-file",
    ),
    _flag("inplace", "--inplace", "Write into the target's files: their readers can see half-written ones."),
    _flag("numeric_ids", "--numeric-ids", "Copy the numbers of users and groups instead of their names."),
    _rsync_text(
        "bwlimit", "--bwlimit",
        Text("a rate", parsers.parse_rate, f"^{parsers.RATE_PATTERN}$", allows_number=True),
        "The most that goes over the line: KiB per second, or with a unit as 500K or 1.5M.", "1000",
        "KiB/s",
    ),
    _rsync_text("chmod", "--chmod", _SPEC, "Changes to permissions, as in rsync(1).", "D755,F644"),
    _rsync_text("chown", "--chown", _SPEC, "User and group of everything: USER:GROUP.", "mirror:mirror"),
    _rsync_text("usermap", "--usermap", _SPEC, "Users for other users, as in rsync(1).", "0-99:nobody"),
    _rsync_text("groupmap", "--groupmap", _SPEC, "Groups for other groups, as in rsync(1).", "users:mirror"),
    _rsync_text(
        "password_file", "--password-file", Text("an absolute path", parsers.parse_file, "^/."),
        "A file with the password for the module of an rsync daemon, readable by its owner only.",
        "/etc/lsyncd.d/module.secret",
    ),
    _rsync_text("rsync_path", "--rsync-path", _SPEC, "The rsync of the target's machine.", "sudo rsync"),
    Setting(
        "extra", Scope.RSYNC, TextList("options", parse_extra), (),
        "More options, one to an item: --option=value. Options that would change what is listed or deleted, "
        "or rsync's output, are refused.",
        "[--skip-compress=gz/zip]",
    ),
)  # fmt: skip

_SSH = (
    Setting(
        "binary", Scope.SSH, Text("a program", parsers.parse_program), "ssh",
        "The ssh of this machine, found by PATH or given as an absolute path.", "/usr/bin/ssh",
    ),
    Setting("port", Scope.SSH, Integer(1, 65535), None, "The port of the target's sshd.", "2222"),
    Setting(
        "identity_file", Scope.SSH,
        Text("an absolute path or one below ~/", parsers.parse_identity, "^(/|~/)."), None,
        "The private key to log in with.", "/root/.ssh/mirror",
    ),
    Setting(
        "user", Scope.SSH, Text("a user's name", parsers.parse_user), None,
        "Who to log in as, where the target itself does not say.", "mirror",
    ),
    Setting(
        "options", Scope.SSH,
        TextMap("a mapping from words to their values", "[A-Za-z]+", parsers.parse_ssh_argument),
        {}, "Options of ssh_config(5).", "{ServerAliveInterval: 30}",
    ),
    Setting(
        "extra", Scope.SSH, TextList("arguments", parsers.parse_ssh_argument), (),
        "More arguments, one to an item.", "[-J, gate.example.org]",
    ),
)  # fmt: skip

SETTINGS = _TOP + _SYNC + _RSYNC + _SSH


def settings_of(scope: Scope) -> dict[str, Setting]:
    """Return the settings of a scope by name, in the order of the table."""
    return {setting.name: setting for setting in SETTINGS if setting.scope is scope}


def default_settings() -> dict[str, Setting]:
    """Return the settings that `defaults:` takes, by name, in the order of the table."""
    return {name: setting for name, setting in settings_of(Scope.SYNC).items() if setting.in_defaults}
