# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that says which directories were mirrored, where, and when: a line of JSON, numbers, a digest."""

from __future__ import annotations

import hashlib
import json
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsyncd_sd.plan.guard import Identity
from lsyncd_sd.service.durable import sync_file_system, write_file
from lsyncd_sd.service.moments import Moment
from lsyncd_sd.watch.ground import Ground, Mount
from lsyncd_sd.watch.rescan import fingerprint

FORMAT = 1

# A directory: its number, that of its parent (see watch.ground.directory_number), and its name.
Row = tuple[int, int, bytes]

_DIGEST_BYTES = 32


class UnusableError(Exception):
    """The file says nothing that can be relied on; the message says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the numbers are about.

    `about` stands for the settings they were mirrored with, `taken_at` for the last moment at which the
    source held them, `generation` for the first file of intents that belongs to them.
    """

    about: str
    ground: Ground
    taken_at: Moment
    generation: int


def write_snapshot(path: Path, header: Header, rows: Iterable[Row], flush: Sequence[bytes]) -> bytes:
    """Write a whole file and return nothing of interest; may take seconds, so let a helper process do it.

    Before, the file systems of `flush` are written to disk: after a power cut, source and target must not
    be older than what the file says of them. Raises OSError.
    """
    for place in flush:
        sync_file_system(place)
    directories = array("Q", sorted(fingerprint(*row) for row in rows))
    write_file(path, _chunks(header, directories))
    return b""


def read_snapshot(path: Path) -> tuple[Header, array[int]]:
    """Return what a file says. Raises UnusableError, FileNotFoundError and other OSErrors."""
    data = path.read_bytes()
    content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest() != digest:
        raise UnusableError("the state is torn or damaged")
    line, _newline, numbers = content.partition(b"\n")
    directories = array("Q")
    try:
        document = json.loads(line)
        if document["format"] != FORMAT or document["byte_order"] != sys.byteorder:
            raise UnusableError("the state was written by another version")
        directories.frombytes(numbers)
        return _header(document), directories
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UnusableError("the state makes no sense") from None


def _chunks(header: Header, directories: array[int]) -> Iterator[bytes]:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for chunk in (json.dumps(_document(header)).encode("ascii") + b"\n", directories.tobytes()):
        digest.update(chunk)
        yield chunk
    yield digest.digest()


def _document(header: Header) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "byte_order": sys.byteorder,
        "about": header.about,
        "root": header.ground.root,
        # JSON has no bytes: each becomes one character.
        "mounts": [
            [mount.path.decode("latin-1"), mount.top.decode("latin-1"), mount.kind, mount.number]
            for mount in header.ground.mounts
        ],
        "taken_at": header.taken_at,
        "generation": header.generation,
    }


def _header(document: dict[str, Any]) -> Header:
    mounts = tuple(
        Mount(path.encode("latin-1"), top.encode("latin-1"), kind, _whole(number))
        for path, top, kind, number in document["mounts"]
    )
    root, inode = map(_whole, document["root"])
    realtime, offset, boot = document["taken_at"]
    return Header(
        about=document["about"],
        ground=Ground(Identity(root, inode), mounts),
        taken_at=Moment(_whole(realtime), _whole(offset), boot),
        generation=_whole(document["generation"]),
    )


def _whole(number: Any) -> int:
    if type(number) is not int:
        raise ValueError("not a number")
    return number
