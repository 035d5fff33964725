# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds what only the file system or other syncs can tell: a source that is missing, a target in the way."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from lsyncd_sd.config.model import Configuration, Sync, Target, TargetKind
from lsyncd_sd.config.places import Resolved, mounts_that_can_hang, resolve
from lsyncd_sd.config.report import shown
from lsyncd_sd.config.rsyncfiles import check_rsync_files
from lsyncd_sd.errors import Problem

# a place among all targets: what must be equal for two paths to mean the same machine, and the path's parts
_Space = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Checked:
    """A sync to one target, with its paths as the file system has them."""

    sync: Sync
    source: Resolved
    space: _Space
    target: tuple[str, ...]

    @property
    def local_target(self) -> str | None:
        """The resolved path of a local target."""
        return "/" + "/".join(self.target) if self.sync.target.kind is TargetKind.LOCAL else None


def check_together(
    configurations: Sequence[Configuration], *, waits_for_sources: bool = True
) -> list[Problem]:
    """Return what is wrong or doubtful with syncs that are to run at the same time.

    A problem's place begins with the `file` of the configuration to blame: of two syncs, the later one.
    No file system is touched that could hang. `waits_for_sources`: it is no error if one is not there yet.
    """
    avoid = mounts_that_can_hang()
    syncs = [sync for configuration in configurations for sync in configuration.syncs]
    checked = [_resolve(one, avoid) for sync in syncs for one in sync.each_target()]
    problems: list[Problem] = []
    problems += _same_names(syncs)
    for one in checked:
        problems += _check_source(one, waits=waits_for_sources)
        problems += _check_local_target(one, avoid)
        problems += check_rsync_files(one.sync, one.source, avoid)
    problems += _overlapping_targets(checked)
    problems += _circles(checked)
    # what stands in the defaults is judged for every sync, and what a sync has for each of its targets
    return list(dict.fromkeys(problems))


def _resolve(sync: Sync, avoid: frozenset[str]) -> _Checked:
    source = resolve(sync.source, avoid)
    space, path = _target_space(sync, avoid)
    return _Checked(sync, source, space, path)


def _target_space(sync: Sync, avoid: frozenset[str]) -> tuple[_Space, tuple[str, ...]]:
    target = sync.target
    if target.kind is TargetKind.LOCAL:
        return (target.kind.value, "", ""), _parts(resolve(target.path, avoid).path)
    if target.kind is TargetKind.DAEMON:
        return (target.kind.value, target.host, str(target.port or "")), _parts(target.path)
    # a relative path is below the login directory of whoever logs in
    root = () if target.path.startswith("/") else (f"~{_login(sync, target)}",)
    return (target.kind.value, target.host, str(sync.ssh.port or "")), root + _parts(target.path)


def _login(sync: Sync, target: Target) -> str:
    return target.user or sync.ssh.user or ""


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _same_names(syncs: Sequence[Sync]) -> list[Problem]:
    """Return the names that two files share; within one file the reader has seen to it."""
    first: dict[str, Sync] = {}
    problems = []
    for sync in syncs:
        other = first.setdefault(sync.name, sync)
        if other is not sync:
            problems.append(
                Problem(
                    sync.name_place,
                    f"another sync has the name {shown(sync.name)}",
                    f"it is at {other.name_place}",
                )
            )
    return problems


def _check_source(one: _Checked, *, waits: bool) -> list[Problem]:
    if not one.source.is_whole:
        return []
    path, place = one.sync.source, one.sync.source_place
    try:
        mode = os.stat(one.source.path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        hint = "the sync will wait for it" if waits else "-insist waits for it"
        return [Problem(place, f"source: {shown(path)} is not there", hint, is_warning=waits)]
    except OSError as error:
        return [Problem(place, f"source: {shown(path)}: {error.strerror}", is_warning=True)]
    if not stat.S_ISDIR(mode):
        return [
            Problem(place, f"source: {shown(path)} is not a directory", "only directories can be watched")
        ]
    if not os.access(one.source.path, os.R_OK | os.X_OK):
        return [
            Problem(
                place,
                f"source: {shown(path)} cannot be read",
                "run it as a user who can, or change the permissions",
                is_warning=True,
            )
        ]
    return []


def _check_local_target(one: _Checked, avoid: frozenset[str]) -> list[Problem]:
    target = one.local_target
    if target is None:
        return []
    place, text = one.sync.target_place, one.sync.target.text
    relation = _relation(target, one.source.path)
    if relation:
        return [
            Problem(
                place,
                f"target: {shown(text)} {relation} the source {shown(one.sync.source)}",
                "it would be mirrored into itself, or deleted; choose a directory outside",
            )
        ]
    resolved = resolve(one.sync.target.path, avoid)
    if resolved.is_whole and os.path.exists(resolved.path) and not os.path.isdir(resolved.path):
        return [Problem(place, f"target: {shown(text)} is not a directory")]
    return []


def _relation(path: str, other: str) -> str:
    """Return how a path stands to another, as words for a message; "" if they have nothing in common."""
    if path == other:
        return "is the same as"
    if path.startswith(other.rstrip("/") + "/"):
        return "lies in"
    if other.startswith(path.rstrip("/") + "/"):
        return "contains"
    return ""


def _overlapping_targets(checked: Sequence[_Checked]) -> list[Problem]:
    """Return the targets that are equal or nested: each would have the other's files deleted.

    Sorted by components, everything below a path follows right after it.
    """
    problems: list[tuple[int, Problem]] = []
    outer: tuple[int, _Checked] | None = None
    for number, one in sorted(enumerate(checked), key=lambda item: (item[1].space, item[1].target, item[0])):
        if (
            outer is None
            or outer[1].space != one.space
            or one.target[: len(outer[1].target)] != outer[1].target
        ):
            outer = (number, one)
            continue
        later, earlier = (one, outer[1]) if number > outer[0] else (outer[1], one)
        problem = _overlap(
            later.sync, earlier.sync, _relation("/".join(later.target), "/".join(earlier.target))
        )
        problems.append((max(number, outer[0]), problem))
    return [problem for _, problem in sorted(problems, key=lambda item: item[0])]


def _overlap(later: Sync, earlier: Sync, relation: str) -> Problem:
    if later.name_place == earlier.name_place:
        other, who = "another target of this sync", "they"
    else:
        other, who = f"the target of {shown(earlier.name)}", "two syncs"
    return Problem(
        later.target_place,
        f"target: {shown(later.target.text)} {relation} {other}",
        f"{who} would delete each other's files; the other is at {earlier.target_place}",
    )


def _circles(checked: Sequence[_Checked]) -> list[Problem]:
    """Return the pairs of syncs that mirror into each other: one would wipe out the other's changes."""
    problems = []
    local = [(one, target) for one in checked if (target := one.local_target) is not None]
    for number, (one, target) in enumerate(local):
        for other, other_target in local[:number]:
            if one.sync.name_place == other.sync.name_place:
                # Then each of the two lies in the source, or holds it.
                continue
            if _relation(target, other.source.path) and _relation(other_target, one.source.path):
                problems.append(
                    Problem(
                        one.sync.target_place,
                        f"target: this sync and {shown(other.sync.name)} mirror into each other",
                        "mirroring goes one way only",
                    )
                )
    return problems
