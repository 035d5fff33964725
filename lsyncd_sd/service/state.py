# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps what outlives the process: for each sync and target what was mirrored last, in one small file.

The file is written as a whole and renamed into place; one that is torn, foreign or of another format is
treated as if it was not there, which is always safe: it means a full sync, and that nothing is known.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lsyncd_sd.config.model import Sync
from lsyncd_sd.plan.guard import Identity, Memory, MountPoint
from lsyncd_sd.service.durable import replace_file
from lsyncd_sd.service.statefiles import StateFiles

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a sync.

    `is_ours`: a full sync has begun once, so what the target holds comes from us or was accepted;
    `was_mirrored`: one has ended; `is_stopped`: the last run deleted as much as it might, and not all;
    `is_unclean`: runs have begun, and no process has ended in order since, so temporary files may be there.
    `entries`: how many the target holds, roughly; `peak`: how many it held at most lately. `nanoseconds`:
    whether it keeps them, None if not known.
    """

    memory: Memory = field(default_factory=Memory)
    is_ours: bool = False
    was_mirrored: bool = False
    is_stopped: bool = False
    is_unclean: bool = False
    entries: int = 0
    peak: int = 0
    nanoseconds: bool | None = None
    secluded: bool = True


class Store:
    """The state file of one sync."""

    def __init__(self, directory: Path, sync: Sync) -> None:
        self.path = StateFiles.of(directory, sync).record
        # Another source or target under the same name has nothing to do with what was remembered.
        self._about = {"source": sync.source, "target": sync.target.text}

    def is_about_us(self) -> bool:
        """Tell whether something is remembered of this source and this target."""
        try:
            return bool(json.loads(self.path.read_bytes())["about"] == self._about)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return False

    def load(self) -> Record:
        """Return what is remembered; an empty record if there is nothing that can be trusted."""
        try:
            document = json.loads(self.path.read_bytes())
            if document["format"] != FORMAT or document["about"] != self._about:
                return Record()
            return _record(document)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return Record()

    def save(self, record: Record) -> None:
        """Write `record` so that a crash at any moment leaves the old or the new one. Raises OSError."""
        document = {"format": FORMAT, "about": self._about, **_document(record)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, self.path.with_suffix(".new"), [json.dumps(document).encode("ascii")])


def take_over(directory: Path, sync: Sync) -> None:
    """Give the files of a target the names that it has now, where it became one of several, or the only one.

    What is under those names is removed, unless it is about this target. Raises OSError.
    """
    before = replace(sync, is_one_of_several=not sync.is_one_of_several)
    if Store(directory, sync).is_about_us() or not Store(directory, before).is_about_us():
        return
    old, new = StateFiles.of(directory, before), StateFiles.of(directory, sync)
    if new.checkpoints.exists():
        shutil.rmtree(new.checkpoints)
    if old.checkpoints.exists():
        old.checkpoints.rename(new.checkpoints)
    # Last: what was broken off is done again.
    old.record.rename(new.record)


def _document(record: Record) -> dict[str, Any]:
    return {
        "source_identity": record.memory.source,
        "source_had_entries": record.memory.source_had_entries,
        "mounts": _mounts_as_json(record.memory.mounts),
        "target_identity": record.memory.target,
        "is_ours": record.is_ours,
        "was_mirrored": record.was_mirrored,
        "is_stopped": record.is_stopped,
        "is_unclean": record.is_unclean,
        "entries": record.entries,
        "peak": record.peak,
        "nanoseconds": record.nanoseconds,
        "secluded": record.secluded,
    }


def _record(document: dict[str, Any]) -> Record:
    return Record(
        memory=Memory(
            source=_identity(document["source_identity"]),
            source_had_entries=_flag(document["source_had_entries"]),
            mounts=_mounts(document["mounts"]),
            target=_identity(document["target_identity"]),
        ),
        is_ours=_flag(document["is_ours"]),
        was_mirrored=_flag(document["was_mirrored"]),
        is_stopped=_flag(document["is_stopped"]),
        is_unclean=_flag(document["is_unclean"]),
        entries=_count(document["entries"]),
        peak=_count(document["peak"]),
        nanoseconds=None if document["nanoseconds"] is None else _flag(document["nanoseconds"]),
        secluded=_flag(document["secluded"]),
    )


def _identity(value: Any) -> Identity | None:
    if value is None:
        return None
    file_system, inode = value
    if type(file_system) is not int or type(inode) is not int:
        raise ValueError("an identity is two numbers")
    return Identity(file_system, inode)


def _mounts_as_json(mounts: frozenset[MountPoint] | None) -> list[list[Any]] | None:
    if mounts is None:
        return None
    # latin-1: any bytes, as a text that JSON can carry.
    return [
        [mount.path.decode("latin-1"), mount.top.decode("latin-1"), mount.kind, mount.number]
        for mount in sorted(mounts)
    ]


def _mounts(value: Any) -> frozenset[MountPoint] | None:
    if value is None:
        return None
    return frozenset(
        MountPoint(path.encode("latin-1"), top.encode("latin-1"), str(kind), _count(number))
        for path, top, kind, number in value
    )


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a whole number from 0")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not true or false")
    return value
