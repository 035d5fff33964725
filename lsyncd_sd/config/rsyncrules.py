# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges the keys of `rsync:` together: which contradict each other, which are risky, which need filters.

A folder of rsync's own within the target (backups, files being written) is neither ours to delete nor to be
replaced by what the source has under that name: rules for it go before all others.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from lsyncd_sd.config.model import Delete, Target, TargetKind
from lsyncd_sd.config.report import Report, shown
from lsyncd_sd.config.setting import Given, Values
from lsyncd_sd.plan.filters import WrittenRule

# What rsync appends to the names of backups when it is told nothing, in folders of their own.
_DEFAULT_SUFFIX = "~"

# keys that are for some syncs only: who takes them, what to say to the others
_FOR_SOME: Mapping[str, tuple[Callable[[Target, Delete], bool], str, str]] = {
    "password_file": (
        lambda target, _delete: target.kind is TargetKind.DAEMON,
        "this target is no rsync daemon",
        "over ssh the login is the business of ssh, see 'ssh: identity_file'",
    ),
    "rsh": (
        lambda target, _delete: target.kind is TargetKind.SSH,
        "the target is not reached over ssh",
        "leave it out, or write the target as host:/path",
    ),
    "delete_excluded": (
        lambda _target, delete: delete in (Delete.ALWAYS, Delete.STARTUP),
        "this sync does not delete what it does not have",
        "it goes with 'delete: true' or 'delete: startup'",
    ),
}

# each pair of keys that rsync refuses together, or that make no sense so
_EXCLUSIVE = (
    ("ipv4", "ipv6", "leave both out for either"),
    ("append", "append_verify", "append_verify does what append does, and looks"),
    ("inplace", "partial_dir", "in place there are no other files"),
    ("append", "partial_dir", "append works in place"),
    ("append_verify", "partial_dir", "append_verify works in place"),
    ("append", "whole_file", "append sends no whole files"),
    ("append_verify", "whole_file", "append_verify sends no whole files"),
)

_OUTSIDE = "what is outside of the source can get to the target"
_NO_EFFECT = ("it has no effect here", "for more or less in the journal use 'log_level'")
_RISKY = {
    "copy_links": (_OUTSIDE, "what a link leads to is compared by full syncs only"),
    "copy_unsafe_links": (_OUTSIDE, "what a link leads to is compared by full syncs only"),
    "copy_dirlinks": (_OUTSIDE, "what a link leads to is compared by full syncs only"),
    "keep_dirlinks": (
        "files outside of the target can be written and deleted",
        "an rsync of version 3.5 on the target follows no such link; it is better not to have any",
    ),
    "append": (
        "files that were rewritten or became shorter are not mirrored",
        "good for trees of growing files only; append_verify notices more",
    ),
    "append_verify": (
        "files that were rewritten or became shorter are not mirrored, unless they are longer now",
        "good for trees of growing files only",
    ),
    "dry_run": ("nothing is changed on the target", "the sync stays degraded until it is taken out"),
    "quiet": _NO_EFFECT,
    "verbose": _NO_EFFECT,
}


def drop_what_is_for_others(
    given: MutableMapping[str, Given],
    own: Values,
    target: Target,
    targets: Sequence[Target],
    delete: Delete,
    report: Report,
) -> None:
    """Take out of `given` what this target cannot have; an error if the sync says so itself.

    In the defaults it is for those syncs that can, and of several `targets` for those that can.
    """
    for name, (is_for, message, hint) in _FOR_SOME.items():
        if name not in given or given[name].value is False or is_for(target, delete):
            continue
        del given[name]
        if name in own and not any(is_for(one, delete) for one in targets):
            report.error(own[name].place, f"{name}: {message}", hint)


def check(given: Values, effective: Mapping[str, Any], target: Target, report: Report) -> None:
    """Report what goes wrong or not together in the effective values; `given` has their places."""
    for one, other, hint in _EXCLUSIVE:
        if effective[one] and effective[other]:
            report.error(given[other].place, f"{other}: {one} is given as well", hint)
    for name, (message, hint) in _RISKY.items():
        if effective[name]:
            report.warning(given[name].place, f"{name}: {message}", hint)
    if effective["suffix"] and not (effective["backup"] or effective["backup_dir"]):
        report.error(given["suffix"].place, "suffix: no backups are made", "add 'backup: true'")
    _check_folders(given, effective, target, report)


def _check_folders(given: Values, effective: Mapping[str, Any], target: Target, report: Report) -> None:
    for name in ("backup_dir", "temp_dir", "partial_dir"):
        folder = effective[name]
        if folder is None:
            continue
        inside = path_in_target(folder, target)
        if inside == "" or (inside is None and name == "backup_dir" and _holds(folder, target)):
            report.error(
                given[name].place,
                f"{name}: {shown(folder)} is the target or holds it",
                "name another directory",
            )
        elif inside is None and name == "temp_dir" and not _is_safe_across_file_systems(effective):
            report.error(
                given[name].place,
                f"temp_dir: {shown(folder)} may be on another file system than the target",
                "readers would see half-copied files: name a directory below the target, or add "
                "'partial_dir: .rsync-partial', through which rsync then copies",
            )


def _is_safe_across_file_systems(effective: Mapping[str, Any]) -> bool:
    if effective["inplace"] or effective["append"] or effective["append_verify"]:
        # asked for half-written files, or never has any
        return True
    partial_dir: str | None = effective["partial_dir"]
    return partial_dir is not None and not partial_dir.startswith("/")


def own_rules(effective: Mapping[str, Any], target: Target) -> tuple[WrittenRule, ...]:
    """Return the filter rules for what rsync keeps for itself in the target."""
    return tuple(
        WrittenRule(f"{side}{modifier} {pattern}", place=f"rsync: {key}")
        for key, modifier, pattern in _own_patterns(effective, target)
        for side in ("H", "P")
    )


def _own_patterns(effective: Mapping[str, Any], target: Target) -> Iterator[tuple[str, str, str]]:
    """Yield the key that a rule is for, its modifier, its pattern."""
    for key in ("backup_dir", "temp_dir", "partial_dir"):
        folder = effective[key]
        if folder is None:
            continue
        if key == "partial_dir" and not folder.startswith("/"):
            # Perishable: it goes with a directory that is deleted.
            yield key, "p", f"{_literal(folder)}/"
        elif inside := path_in_target(folder, target):
            yield key, "", f"/{_literal(inside)}/"
    if effective["backup"] and effective["backup_dir"] is None:
        yield "backup", "", "*" + _escaped(effective["suffix"] or _DEFAULT_SUFFIX)


def path_in_target(folder: str, target: Target) -> str | None:
    """Return where below the target a folder is, as far as its name tells: "" for the target itself.

    None if it is elsewhere. Of an absolute path nothing is known where the target is below the directory of
    a login.
    """
    top, whole = _top_and_whole(folder, target)
    below = whole[len(top) :]
    is_within = whole[: len(top)] == top and below[:1] != [".."]
    return "/".join(below) if is_within else None


def _holds(folder: str, target: Target) -> bool:
    top, whole = _top_and_whole(folder, target)
    return top[: len(whole)] == whole


def _top_and_whole(folder: str, target: Target) -> tuple[list[str], list[str]]:
    """Return the components of the target and of the folder, as rsync on the target's side sees them.

    Of an absolute path the first one is empty. For a daemon, the module is the root.
    """
    path = "/" + target.path.partition("/")[2] if target.kind is TargetKind.DAEMON else target.path
    return _components(path), _components(posixpath.join(path, folder))


def _components(path: str) -> list[str]:
    parts = posixpath.normpath(path).rstrip("/").split("/")
    return [] if parts == ["."] else parts


def _literal(name: str) -> str:
    # Without a wildcard rsync compares the pattern as it stands, backslashes too.
    return _escaped(name) if re.search(r"[*?\[]", name) else name


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[\\])", r"\\\1", name)
