# SPDX-License-Identifier: GPL-2.0-or-later
"""Names the files in which the state of a sync's target is kept."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple, Self

from lsyncd_sd.config.model import Sync


class StateFiles(NamedTuple):
    """The file that says what was mirrored, and the folder of what a rescan needs."""

    record: Path
    checkpoints: Path

    @classmethod
    def of(cls, directory: Path, sync: Sync) -> Self:
        """Return those of a sync with one target, or of one of its targets."""
        name = sync.name
        if sync.is_one_of_several:
            # By the target and not by its number: the list may be put into another order. No sync's name has
            # a plus.
            text = sync.target.text.encode("utf-8", "surrogateescape")
            name += f"+{hashlib.sha256(text).hexdigest()[:16]}"
        folder = directory / sync.file_stem
        return cls(folder / f"{name}.json", folder / f"{name}.rescan")
