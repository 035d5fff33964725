# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mirror asks of the source: the one interface over which the two rooms know each other."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Protocol

from lsyncd_sd.plan.batch import IsHidden, Kind, Sample


class OpenSource(Protocol):
    """The source's root, open, with its identity checked; a context manager."""

    descriptor: int

    def kind(self, path: bytes) -> Kind:
        """Return what stands at `path`, symlinks not followed."""

    def kind_followed(self, path: bytes) -> Kind:
        """Return what stands at `path`, or what a symlink there leads to, and any above it."""

    def names(self, directory: bytes) -> list[bytes]:
        """Return the names in a directory; none if there is no such directory."""

    def is_link(self, path: bytes) -> bool:
        """Tell whether a symlink stands at `path`."""

    def leads_somewhere(self, path: bytes) -> bool:
        """Tell whether a symlink stands at `path` that leads to something."""

    def larger_than(self, limit: int, paths: Iterable[bytes]) -> set[bytes]:
        """Return those of `paths` that are regular files of more than `limit` bytes."""

    def find_sample(self, is_excluded: IsHidden, below: Iterable[bytes]) -> Sample | None:
        """Return a file below these directories that can show whether the target keeps nanoseconds."""

    def sample_among(self, paths: Iterable[bytes]) -> Sample | None:
        """Return a file among `paths` that can show whether the target keeps nanoseconds."""

    def directory_among(self, paths: Iterable[bytes]) -> Sample | None:
        """Return the first of `paths` that is a directory and can be a sample, or None."""

    def is_unchanged(self, sample: Sample) -> bool:
        """Tell whether a sample is what it was when it was chosen."""

    def __enter__(self) -> OpenSource: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
