# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides whether a sync must be held before it may touch its target: the root and its emptiness.

A tool that runs `rsync --delete` unattended must not mirror an accident: a source that was unmounted,
emptied or replaced while nobody looked looks just like one whose files were all deleted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple


class Identity(NamedTuple):
    """Which directory this is, over reboots and renames: file system id (f_fsid) and inode number."""

    file_system: int
    inode: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a sync remembers about its last success on one target; None where nothing is known yet."""

    source: Identity | None = None
    source_had_entries: bool = False
    target: Identity | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a sync is held. `token` names this very situation: `accept` releases it and no other one."""

    reason: str
    hint: str
    token: str


def _hold(reason: str, hint: str, *facts: object) -> Hold:
    token = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return Hold(reason, hint, token)


def check_source(memory: Memory, identity: Identity, is_empty: bool, deletes: bool) -> Hold | None:
    """Return why a full sync of this source must not run now, None if it may.

    `deletes` tells whether the full sync would delete at all: one that cannot is never held.
    """
    if not deletes or memory.source is None:
        return None
    if is_empty and memory.source_had_entries:
        return _hold(
            "the source is empty, but held files when it was mirrored last",
            "is it unmounted? nothing was deleted; mount it, or release the deletions with",
            "emptied",
            identity,
        )
    if identity != memory.source:
        return _hold(
            "the source is another directory (file system or inode) than the one mirrored last",
            "is another file system mounted there? nothing was changed; mount the right one, or go on with",
            "replaced",
            memory.source,
            identity,
        )
    return None


def check_first_run(identity: Identity, would_delete: int) -> Hold | None:
    """Return why the first full sync of an empty source must not run, None if it deletes nothing."""
    if would_delete == 0:
        return None
    return _hold(
        f"the source is empty and the first full sync would delete {would_delete} entries on the target",
        "is the source mounted, and is it the right target? nothing was deleted; to go on, say",
        "first",
        identity,
        would_delete,
    )


def check_target(memory: Memory, identity: Identity | None) -> Hold | None:
    """Return why nothing must be sent to this local target now, None if it may.

    `identity` is None for a target whose identity cannot be known (a remote one).
    """
    if memory.target is None or identity is None or identity == memory.target:
        return None
    return _hold(
        "the target is another directory (file system or inode) than the one mirrored to last",
        "is the target's file system mounted? nothing was changed; mount it, or go on with",
        "target",
        memory.target,
        identity,
    )
