# SPDX-License-Identifier: GPL-2.0-or-later
"""The source of a sync, as all that goes to its targets has it in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Identity
from lsyncd_sd.service.interruptions import SourceLostError
from lsyncd_sd.service.links import LinkedNames
from lsyncd_sd.watch.source import Source


class SourceGate:
    """Opens the source for one run, as long as it is the directory that is watched."""

    def __init__(self, path: str, *, one_file_system: bool = False) -> None:
        self._path = os.fsencode(path)
        self._one_file_system = one_file_system
        # Set by whoever watches; None while nobody does.
        self.identity: Identity | None = None

    def open(self) -> Source:
        """Open the source's root. Raises SourceLostError unless it is the one that is watched."""
        try:
            source = Source(self._path, one_file_system=self._one_file_system)
        except OSError as error:
            raise SourceLostError(str(error)) from None
        try:
            if source.identity() == self.identity:
                return source
        except OSError as error:
            source.close()
            raise SourceLostError(str(error)) from None
        source.close()
        raise SourceLostError("another directory stands in its place")


@dataclass(frozen=True, slots=True)
class SourceSide:
    """What is known of one source, and how to learn what has happened in it.

    `catch_up`: read all that has happened until now; returns False if some directory is not watched yet.
    `is_settled`: whether everything heard of so far is watched.
    `table`: the directories that are watched, each with its number, that of its parent, and its name.
    """

    filters: Filter
    gate: SourceGate
    links: LinkedNames
    catch_up: Callable[[], bool]
    is_settled: Callable[[], bool]
    table: Callable[[], Iterable[tuple[int, int, bytes]]]

    @property
    def is_watched(self) -> bool:
        """Whether the source is there, is watched, and may be mirrored."""
        return self.gate.identity is not None

    def found(self, identity: Identity) -> None:
        """The source is this directory, and watched from now on; changes may have been missed before."""
        self.gate.identity = identity
        self.links.forget()

    def lost(self) -> None:
        """Nobody watches the source until it is `found` again."""
        self.gate.identity = None
