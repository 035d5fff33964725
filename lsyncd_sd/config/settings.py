# SPDX-License-Identifier: GPL-2.0-or-later
"""The one table of every setting: reader, schema, manual, sample file and show-config are made from it.

To add a setting, add it here, give it a field in model.py, and hand its value on in build.py; the tests say
what else is out of date.
"""

from __future__ import annotations

from lsyncd_sd.config import parsers
from lsyncd_sd.config.model import DIRECT, RSYNCSSH, Delete, MaxDeletes
from lsyncd_sd.config.rsynckeys import RSYNC_KEYS
from lsyncd_sd.config.rules import RuleFiles, RuleList
from lsyncd_sd.config.setting import Effect, Scope, Setting
from lsyncd_sd.config.target import local_path, parse_target
from lsyncd_sd.config.values import (
    Choice,
    CodeMap,
    DeletesAtMost,
    DeleteWhen,
    Duration,
    Flag,
    Integer,
    Section,
    Size,
    TargetList,
    TargetText,
    Text,
    TextList,
    TextMap,
)

WEEK = 7 * 86400
YEAR = 365 * 86400


MODES = ("rsync", RSYNCSSH, DIRECT)
MODES_TO_COME = ("actions",)
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
        "the mappings brake, rsync, ssh, exit_codes and ssh's options are merged key by key.",
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
        "target", Scope.SYNC, TargetText("a target", parse_target), None,
        "Where to: /path on this machine, host:/path or user@host:/path over ssh, host::module/path or "
        "rsync://host/module/path for an rsync daemon. An IPv6 address stands in brackets: [::1]:/path. "
        "Without a slash behind the colon the path is below the login directory. No two targets may be "
        "equal or lie in one another, and a local target may not touch its source.",
        "backup.example.org:/srv/mirror/home",
        required=True, instead="targets", in_defaults=False, effect=Effect.NEW,
    ),
    Setting(
        "targets", Scope.SYNC, TargetList(parse_target), None,
        "Where to, if there is more than one target. The source is watched once, and each target gets its "
        "changes as if it was alone: one that is unreachable, full, held or slow does not delay the others. "
        "All other settings are the same for all of them; password_file, rsh and ssh are for those targets "
        "that can use them. A target with settings of its own is a sync of its own.",
        "[/mnt/mirror/home, 'backup.example.org:/srv/mirror/home']",
        default_words="the one target", in_defaults=False, effect=Effect.NEW,
    ),
    Setting(
        "mode", Scope.SYNC,
        Choice(MODES, {mode: f"this version does not have {mode} yet" for mode in MODES_TO_COME}),
        "rsync",
        "How changes get to the target. rsyncssh is for a target that is reached over ssh: what is renamed "
        "in the source is renamed there and not sent again, for which the login needs a shell, and all goes "
        "over one connection. direct is for a target on this machine: of large files that were written to, "
        "it has the file system share what is there already (btrfs, XFS); rsync does the rest.",
        "rsync", effect=Effect.NEW,
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
        "max_processes", Scope.SYNC, Integer(1, 1_000_000), None,
        "How many runs of rsync may be under way at the same time: in a sync, those to all of its targets, "
        "and of large files that are sent apart; in the defaults, those of all syncs of the file together. "
        "The others wait for their turn. A target that hangs keeps its turn until its timeout.",
        "4", unit="runs", default_words="as many as there is something to do for",
    ),
    Setting(
        "open_file_delay", Scope.SYNC, Duration(WEEK), 300.0,
        "A file that is written to and stays open, as a log does, is mirrored so long after it was first "
        "written to; once it is closed, after the usual delay.",
        "300", unit="seconds",
    ),
    Setting(
        "watch_modify", Scope.SYNC, Flag(), True,
        "Whether writing to a file is noticed before it is closed. If false, a file that stays open is "
        "mirrored when it is closed or by the next full sync, as Lsyncd does it.",
        "true",
    ),
    Setting(
        "batch_size_limit", Scope.SYNC, Size(), None,
        "Files larger than this are sent apart, one after another, while smaller changes go on.",
        "500M", unit="bytes", default_words="no file is sent apart",
    ),
    Setting(
        "delete", Scope.SYNC, DeleteWhen(), Delete.ALWAYS,
        "Whether what is gone from the source is deleted on the target: always, never, only in full syncs "
        "(startup), or only while running.",
        "true",
    ),
    Setting(
        "exclude", Scope.SYNC, RuleList("patterns", parsers.parse_pattern, is_pattern=True), (),
        "What is not mirrored, in the pattern language of rsync(1); the first pattern that fits decides. A "
        "pattern with the prefix '+ ' is an exception. What is excluded is left alone on the target, too. A "
        "pattern that begins with * or ! must be in quotes.",
        "['*.tmp', /lost+found]",
    ),
    Setting(
        "exclude_from", Scope.SYNC, RuleFiles(parsers.parse_pattern, is_pattern=True), (),
        "Files with a pattern on each line, as exclude has them; they are asked after exclude. Empty lines "
        "and those that begin with # or ; do not count. They are read when the configuration is, at a start "
        "or reload.",
        "/etc/lsyncd.d/home.exclude",
    ),
    Setting(
        "filter", Scope.SYNC, RuleList("rules", parsers.parse_rule), (),
        "Filter rules of rsync(1); the first that fits decides, and exclude is asked only if none does. "
        "'- PATTERN' excludes, '+ PATTERN' is an exception from rules below it. H only hides from the "
        "mirror, P only protects on the target; S and R are their exceptions; ! forgets the rules above it.",
        "['P /keep', '+ *.c', '- *']",
    ),
    Setting(
        "filter_from", Scope.SYNC, RuleFiles(parsers.parse_rule), (),
        "Files with a rule on each line, as filter has them; they are asked after filter. Otherwise as "
        "exclude_from.",
        "/etc/lsyncd.d/home.filter",
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
        "brake", Scope.SYNC, Section("brake"), {}, "What may be deleted without asking.",
        "{max_deletes: 1000}",
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

_BRAKE = (
    Setting(
        "max_deletes", Scope.BRAKE, DeletesAtMost(), MaxDeletes(percent=50),
        "What would delete more on the target holds the sync before anything is deleted, until 'lsyncd-sd "
        "accept' releases it. A percentage is of the entries of the source, and does not count for a source "
        "of at most 100.",
        "1000", default_words="50%",
    ),
    Setting(
        "hold_first", Scope.BRAKE, Flag(), True,
        "Whether the very first full sync to a target is held for anything that it would delete there. If "
        "false, only for more than max_deletes, which as a percentage is 100 entries here, and for anything "
        "if the source is empty.",
        "false",
    ),
)  # fmt: skip

SETTINGS = _TOP + _SYNC + RSYNC_KEYS + _SSH + _BRAKE


def settings_of(scope: Scope) -> dict[str, Setting]:
    """Return the settings of a scope by name, in the order of the table."""
    return {setting.name: setting for setting in SETTINGS if setting.scope is scope}


def default_settings() -> dict[str, Setting]:
    """Return the settings that `defaults:` takes, by name, in the order of the table."""
    return {name: setting for name, setting in settings_of(Scope.SYNC).items() if setting.in_defaults}
