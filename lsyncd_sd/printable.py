# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows any bytes and any text so that no log and no terminal ever interprets them."""

from __future__ import annotations


def printable(path: bytes) -> str:
    """Return `path` as one line of harmless text that still says exactly which bytes it was.

    Printable UTF-8 stays as it is, a backslash is doubled, every other byte becomes `\\xNN`: bytes that
    are not UTF-8, control characters, and the invisible ones that reorder or hide text.
    """
    return visible(path.decode("utf-8", "surrogateescape").replace("\\", "\\\\"))


def visible(text: str) -> str:
    """Return `text` with every character that is not printable as the `\\xNN` of its UTF-8 bytes.

    For text that may hold already escaped paths: backslashes stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else "".join(f"\\x{byte:02x}" for byte in _bytes_of(character))
        for character in text
    )


def _bytes_of(character: str) -> bytes:
    try:
        return character.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Half of a surrogate pair: JSON can carry it, UTF-8 cannot.
        return character.encode("utf-8", "surrogatepass")
