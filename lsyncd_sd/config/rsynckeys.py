# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of the table of settings that is about rsync: one key for each option of rsync's that fits in."""

from __future__ import annotations

from lsyncd_sd.config import parsers
from lsyncd_sd.config.rsyncextra import parse_extra
from lsyncd_sd.config.setting import Scope, Setting
from lsyncd_sd.config.values import Flag, Text, TextList, ValueType


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
_FOLDER = Text("a path, absolute or below the target", parsers.parse_folder, allows_number=True)

RSYNC_KEYS = (
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
    _flag(
        "ignore_times", "-I",
        "Send every file, whatever its size and time, in full syncs, too: even slower than checksum.",
    ),
    _flag(
        "update", "-u",
        "Leave files alone that are newer on the target: what an older file replaces in the source stays.",
    ),
    _flag("existing", "--existing", "Send nothing that the target does not have."),
    _flag("compress", "-z", "Compress on the way."),
    _flag("executability", "-E", "Copy whether a file is executable, if perms is off."),
    _flag("ipv4", "-4", "Use IPv4 only."),
    _flag("ipv6", "-6", "Use IPv6 only."),
    _flag(
        "one_file_system", "-x",
        "Stay in the file system of the source: what is mounted below it is neither watched nor mirrored.",
    ),
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
    _flag(
        "append", "--append",
        "Only append to files, and in place. Files that are not longer than on the target are left alone; "
        "one that was rewritten and is longer now becomes a mixture.",
    ),
    _flag(
        "append_verify", "--append-verify",
        "As append, but a file that was rewritten and is longer now is sent anew.",
    ),
    _flag("numeric_ids", "--numeric-ids", "Copy the numbers of users and groups instead of their names."),
    _flag(
        "copy_links", "-L",
        "Copy what symbolic links lead to, also from outside of the source. Changes there are seen by full "
        "syncs only.",
    ),
    _flag(
        "copy_unsafe_links", "--copy-unsafe-links",
        "As copy_links, but only for links that lead out of the source.",
    ),
    _flag("copy_dirlinks", "-k", "As copy_links, but only for links that lead to directories."),
    _flag(
        "keep_dirlinks", "-K",
        "On the target, take a symbolic link to a directory for that directory, wherever it is: what is "
        "below it there is written and deleted. An rsync of version 3.5 refuses to follow it.",
    ),
    _flag(
        "backup", "-b",
        "Keep what is replaced or deleted on the target: under its name with the suffix, or in backup_dir. "
        "Names with the suffix are neither mirrored nor deleted. A directory that holds such a name stays, "
        "and a file cannot take its place: backup_dir has no such limits.",
    ),
    _rsync_text(
        "backup_dir", "--backup-dir", _FOLDER,
        "Where backups go, with the folders they are in: a path below the target, or an absolute one on the "
        "target's file system. It turns backup on. Below the target, it is neither mirrored nor deleted.",
        ".old",
    ),
    _rsync_text(
        "suffix", "--suffix", Text("a suffix", parsers.parse_suffix, allows_number=True),
        "What is added to the names of backups; '~' if there is no backup_dir.", ".old",
    ),
    _rsync_text(
        "temp_dir", "--temp-dir", _FOLDER,
        "A directory on the target's machine, there already, for the files that are being written: a path "
        "below the target, which is then neither mirrored nor deleted, or an absolute one. What a killed "
        "rsync leaves there, nobody removes.",
        ".incoming",
    ),
    _rsync_text(
        "partial_dir", "--partial-dir",
        Text("a name, or an absolute path", parsers.parse_partial_dir, allows_number=True),
        "Keep half of a file whose transfer was broken off, to go on from there: in directories of this "
        "name beside the files, which are neither mirrored nor deleted, or in one place.",
        ".rsync-partial",
    ),
    Setting(
        "delete_excluded", Scope.RSYNC, Flag(), False,
        "Delete excluded files on the target, too.", "true",
    ),
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
        "password_file", "", Text("an absolute path", parsers.parse_file, "^/."),
        "A file with the password for the module of an rsync daemon, readable by its owner only.",
        "/etc/lsyncd.d/module.secret",
    ),
    _rsync_text(
        "rsh", "", Text("a command", parsers.parse_text),
        "A command to be used in place of ssh, with its arguments. The section 'ssh' does not count then, "
        "nor what is added to it so that ssh never asks and notices a dead peer.",
        "ssh -p 2222",
    ),
    Setting(
        "protect_args", Scope.RSYNC, Flag(), True,
        "Keep arguments from the shell of the target's login. Where the other side refuses it, this is "
        "turned off without being asked.",
        "false",
    ),
    _rsync_text("rsync_path", "--rsync-path", _SPEC, "The rsync of the target's machine.", "sudo rsync"),
    _flag(
        "dry_run", "-n",
        "Change nothing on the target: a rehearsal. The sync is never in sync then, but degraded.",
    ),
    Setting(
        "quiet", Scope.RSYNC, Flag(), False,
        "Without effect, for those who have it from Lsyncd: 'log_level' says what the journal gets.", "true",
    ),
    Setting(
        "verbose", Scope.RSYNC, Flag(), False,
        "Without effect, for those who have it from Lsyncd: 'log_level' says what the journal gets.", "true",
    ),
    Setting(
        "extra", Scope.RSYNC, TextList("options", parse_extra), (),
        "More options, one to an item: --option=value. Options that would change what is listed or deleted, "
        "or rsync's output, are refused.",
        "[--skip-compress=gz/zip]",
    ),
)  # fmt: skip
