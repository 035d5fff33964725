# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that says, before a run begins, what it may change on the target; and what was still to be done.

It is only ever appended to. A record is whole, or it is the last one and torn: then its run never began.
"""

from __future__ import annotations

import enum
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Depth
from lsyncd_sd.service.durable import sync_folder, write_all
from lsyncd_sd.service.moments import Moment

# Paths in one record: some megabytes, so that no more than that is put together at once.
PATHS_PER_RECORD = 20_000

# Paths in one file. A target that cannot be reached for days is tried with more and more of them; beyond
# this many, comparing everything is as good. A guess.
PATHS_PER_FILE = 200_000

EVERYTHING: Marks = {b"": Mark(Depth.SUBTREE, exact=True)}

_MAGIC = b"lsyncd-sd intents 1\n"
_FRAME = struct.Struct("<II")  # length and checksum of what follows
_CHECKSUM = struct.Struct("<I")  # of the frame: a wrong length must not pass for a torn record
_HEAD = struct.Struct("<Bqq")  # kind, time, offset of the clock
_EXACT = 0x80  # beside the depth, in the byte before each path


class Kind(enum.IntEnum):
    """What the paths of a record are."""

    DIRTY = 0
    """Still to be done when the record was written; no run has begun with them since."""
    TOUCHED = 1
    """What a run may have changed on the target from then on."""


class Record(NamedTuple):
    """Paths that were written in one go, at this time (ns) with the clock at this offset (see `Moment`)."""

    kind: Kind
    realtime: int
    offset: int
    marks: Marks


class DamagedError(Exception):
    """The file holds something that was never written, or not all that was."""


class IntentsFile:
    """A file that is being appended to. `covers_everything`: it says so; nothing more needs to be said."""

    def __init__(self, path: Path) -> None:
        """Begin a new file, name on disk and all. Raises OSError: EEXIST, or what the disk has."""
        self.path = path
        # Of what was written, a hash of 64 bits each: a batch that is tried again has nothing to write.
        self._written: set[int] = set()
        self.covers_everything = False
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            write_all(self._descriptor, _MAGIC)
            os.fdatasync(self._descriptor)
            sync_folder(path.parent)
        except OSError:
            self.close()
            raise

    def __len__(self) -> int:
        """The number of paths written so far."""
        return len(self._written)

    def close(self) -> None:
        """Append nothing any more."""
        os.close(self._descriptor)

    def append(self, kind: Kind, marks: Marks, moment: Moment) -> None:
        """Append what is not there yet, and have it on disk. Raises OSError: part of it may be there."""
        if self.covers_everything:
            return
        texts = [text for text in map(_text, marks.items()) if hash((kind, text)) not in self._written]
        is_everything = kind is Kind.TOUCHED and bool(marks.get(b"", _NOTHING).depth & Depth.SUBTREE)
        if is_everything or len(self._written) + len(texts) > PATHS_PER_FILE:
            kind, texts, is_everything = Kind.TOUCHED, [_text(one) for one in EVERYTHING.items()], True
        if not texts:
            return
        for start in range(0, len(texts), PATHS_PER_RECORD):
            write_all(self._descriptor, _framed(kind, texts[start : start + PATHS_PER_RECORD], moment))
        os.fdatasync(self._descriptor)
        self.covers_everything = is_everything
        self._written.update(hash((kind, text)) for text in texts)


_NOTHING = Mark(Depth(0), exact=False)


def read_intents(path: Path) -> Iterator[Record]:
    """Yield what a file holds, a torn record at its end left out. Raises DamagedError and OSError."""
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        if _MAGIC.startswith(data):
            # It had just been made.
            return
        raise DamagedError("it does not begin as it should")
    position = len(_MAGIC)
    while position < len(data):
        payload = _payload(data, position)
        if payload is None:
            return
        position += _FRAME.size + _CHECKSUM.size + len(payload)
        yield _record(payload)


def _framed(kind: Kind, texts: list[bytes], moment: Moment) -> bytes:
    payload = _HEAD.pack(kind, moment.realtime, moment.offset) + b"\0".join(texts)
    frame = _FRAME.pack(len(payload), zlib.crc32(payload))
    return frame + _CHECKSUM.pack(zlib.crc32(frame)) + payload


def _payload(data: bytes, position: int) -> bytes | None:
    """Return what the record at `position` holds, None if it is torn."""
    start = position + _FRAME.size + _CHECKSUM.size
    if start > len(data):
        return None
    frame = data[position : position + _FRAME.size]
    if _CHECKSUM.unpack_from(data, position + _FRAME.size) != (zlib.crc32(frame),):
        raise DamagedError("the head of a record is damaged")
    length, checksum = _FRAME.unpack(frame)
    payload = data[start : start + length]
    if len(payload) < length:
        return None
    if zlib.crc32(payload) != checksum:
        raise DamagedError("a record is damaged")
    return payload


def _text(item: tuple[bytes, Mark]) -> bytes:
    path, mark = item
    return bytes([mark.depth | (_EXACT if mark.exact else 0)]) + path


def _record(payload: bytes) -> Record:
    try:
        kind, realtime, offset = _HEAD.unpack_from(payload)
        texts = payload[_HEAD.size :].split(b"\0")
        marks = {text[1:]: Mark(Depth(text[0] & ~_EXACT), bool(text[0] & _EXACT)) for text in texts}
        return Record(Kind(kind), realtime, offset, marks)
    except (struct.error, ValueError, IndexError):
        raise DamagedError("a record makes no sense") from None
