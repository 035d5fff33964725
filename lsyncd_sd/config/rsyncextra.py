# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells which options of rsync cannot be given in `rsync: extra`, and what to use instead.

Refused is what would undo the shapes in which rsync is called (what is listed, what is deleted, what is
followed), what would garble the output that is read back, what would leave unfinished files behind, and what
lsyncd-sd must know of: that has a key of its own.
"""

from __future__ import annotations

from lsyncd_sd.config.report import Refused, shown

_OURS = "lsyncd-sd decides for each run what is listed and how deep"
_DELETE = "use the setting 'delete' of the sync"
_EXCLUDE = "use the setting 'exclude' of the sync"
_FILTER = "use the setting 'filter' of the sync"
_OUTPUT = "lsyncd-sd reads rsync's output; for more in the journal use 'log_level'"
_UNFINISHED = "it would leave unfinished files on the target: use 'partial_dir' of the section rsync"
_SKIPS = "files that it skips would look like files that are gone"
_STALE = "what was changed would stay as it was on the target"
_OTHER_PLACE = "the target would not be whole in itself"
_DEVICES = "only a device itself can be mirrored"
_HALFWAY = "it would end runs halfway; see the setting 'timeout' of the sync"
_NOT_A_TRANSFER = "this is no transfer"


def _key(name: str) -> str:
    return f"use '{name}' of the section rsync"


# long name without dashes -> the hint; a name ending in * stands for all that begin so
_REFUSED_NAMES = {
    "archive": "use 'archive: true' of the section rsync",
    "recursive": _OURS,
    "dirs": _OURS,
    "old-dirs": _OURS,
    "old-d": _OURS,
    "files-from": _OURS,
    "from0": _OURS,
    "relative": _OURS,
    "implied-dirs": _OURS,
    "i-d": _OURS,
    "one-file-system": _key("one_file_system"),
    "force": _DELETE,
    "del": _DELETE,
    "delete-excluded": _key("delete_excluded"),
    "delete*": _DELETE,
    "max-delete": _DELETE,
    "ignore-errors": "after a read error rsync must not delete",
    "ignore-missing-args": _OURS,
    "remove-source-files": "a mirror does not touch its source",
    "remove-sent-files": "a mirror does not touch its source",
    "exclude-from": "use the setting 'exclude_from' of the sync",
    "exclude*": _EXCLUDE,
    "include*": _FILTER,
    "filter": _FILTER,
    "cvs-exclude": _EXCLUDE,
    "prune-empty-dirs": _EXCLUDE,
    "max-size": _SKIPS,
    "min-size": _SKIPS,
    "size-only": _STALE,
    "ignore-existing": _STALE,
    "ignore-times": _key("ignore_times"),
    "update": _key("update"),
    "existing": _key("existing"),
    "ignore-non-existing": _key("existing"),
    "append": _key("append"),
    "append-verify": _key("append_verify"),
    "compare-dest": _OTHER_PLACE,
    "link-dest": _OTHER_PLACE,
    "copy-dest": "where it can, rsync keeps to the source and the target here",
    "hard-links": _key("hard_links"),
    "copy-devices": _DEVICES,
    "write-devices": _DEVICES,
    "copy-links": _key("copy_links"),
    "copy-dirlinks": _key("copy_dirlinks"),
    "copy-unsafe-links": _key("copy_unsafe_links"),
    "keep-dirlinks": _key("keep_dirlinks"),
    "insecure-links": "nothing from outside the source may reach the target",
    "confine-root": "lsyncd-sd gives it where it can",
    "mkpath": "a target that vanished must not be made anew in silence",
    "dry-run": _key("dry_run"),
    "stop-after": _HALFWAY,
    "stop-at": _HALFWAY,
    "time-limit": _HALFWAY,
    "list-only": _NOT_A_TRANSFER,
    "server": _NOT_A_TRANSFER,
    "sender": _NOT_A_TRANSFER,
    "daemon": _NOT_A_TRANSFER,
    "help": _NOT_A_TRANSFER,
    "version": _NOT_A_TRANSFER,
    "write-batch": _NOT_A_TRANSFER,
    "only-write-batch": _NOT_A_TRANSFER,
    "read-batch": _NOT_A_TRANSFER,
    "verbose": _OUTPUT,
    "quiet": _OUTPUT,
    "info": _OUTPUT,
    "debug": _OUTPUT,
    "itemize-changes": _OUTPUT,
    "out-format": _OUTPUT,
    "log-format": _OUTPUT,
    "stats": _OUTPUT,
    "progress": _OUTPUT,
    "human-readable": _OUTPUT,
    "8-bit-output": _OUTPUT,
    "stderr": _OUTPUT,
    "msgs2stderr": _OUTPUT,
    "partial": _UNFINISHED,
    "partial-dir": _key("partial_dir"),
    "delay-updates": _UNFINISHED,
    "temp-dir": _key("temp_dir"),
    "backup": _key("backup"),
    "backup-dir": _key("backup_dir"),
    "suffix": _key("suffix"),
    "password-file": _key("password_file"),
    "rsh": "use the section 'ssh' of the sync, or 'rsh' of the section rsync",
    "protect-args": _key("protect_args"),
    "secluded-args": _key("protect_args"),
    "old-args": "names must not be interpreted by a shell",
    "timeout": "use the setting 'timeout' of the sync",
}

_LETTERS = {
    "a": "archive",
    "r": "recursive",
    "d": "dirs",
    "0": "from0",
    "R": "relative",
    "x": "one-file-system",
    "I": "ignore-times",
    "u": "update",
    "H": "hard-links",
    "f": "filter",
    "F": "filter",
    "C": "cvs-exclude",
    "m": "prune-empty-dirs",
    "L": "copy-links",
    "k": "copy-dirlinks",
    "K": "keep-dirlinks",
    "n": "dry-run",
    "v": "verbose",
    "q": "quiet",
    "i": "itemize-changes",
    "h": "human-readable",
    "8": "8-bit-output",
    "P": "partial",
    "T": "temp-dir",
    "b": "backup",
    "e": "rsh",
    "s": "protect-args",
    "V": "version",
}

# the rest of the item is their argument, not more letters
_LETTERS_WITH_ARGUMENT = frozenset("B@")
_REMOTE_OPTION = "--remote-option="


def _hint_for(name: str) -> str | None:
    if name in _REFUSED_NAMES:
        return _REFUSED_NAMES[name]
    for pattern, hint in _REFUSED_NAMES.items():
        if pattern.endswith("*") and name.startswith(pattern[:-1]):
            return hint
    return None


def _refuse(item: str, option: str, hint: str) -> Refused:
    where = f" in {shown(item)}" if option != item else ""
    return Refused(f"{shown(option)}{where} cannot be given to rsync here", hint)


def _check_long(item: str) -> None:
    option = item.split("=", 1)[0]
    name = option[2:]
    positive = name.removeprefix("no-")
    hint = _hint_for(name) or _hint_for(positive)
    if hint is None and positive != name and positive in _LETTERS:
        hint = _hint_for(_LETTERS[positive])
    if hint is not None:
        raise _refuse(item, option, hint)


def _check_letters(item: str) -> str:
    """Return what stands behind a -M: an option for the other side."""
    for position, letter in enumerate(item[1:], start=1):
        if letter in _LETTERS:
            hint = _hint_for(_LETTERS[letter])
            assert hint is not None, letter
            raise _refuse(item, f"-{letter}", hint)
        if letter == "M":
            return item[position + 1 :].removeprefix("=")
        if letter in _LETTERS_WITH_ARGUMENT:
            break
    return ""


def _check(item: str) -> str:
    if not item.startswith("-") or item in ("-", "--"):
        raise Refused(
            f"{shown(item)} is not an option",
            "write one option to an item, with its value as --option=value",
        )
    if item.startswith(_REMOTE_OPTION):
        return item.removeprefix(_REMOTE_OPTION)
    if item.startswith("--"):
        _check_long(item)
        return ""
    return _check_letters(item)


def parse_extra(item: str) -> str:
    """Return one item of `rsync: extra` as it is. Raise Refused if it cannot be given."""
    if "\0" in item:
        raise Refused("an argument cannot hold a NUL")
    remote = _check(item)
    if remote and _check(remote):
        raise Refused(f"{shown(item)} hands on an option that hands on an option", "write an item for each")
    return item
