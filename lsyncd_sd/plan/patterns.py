# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns one pattern of rsync's filter rules into regular expressions that match exactly what rsync matches.

The watcher must not watch what rsync will not send, and nothing may be sent that rsync would leave out; so
this module follows rsync where its manual page says less, and where it does something odd.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

MAX_PATTERN_BYTES = 4095
"""rsync drops a longer pattern, with a message in every run, and goes on without it."""

_NEVER = rb"(?!)"
_END = rb"\Z"
_END_OR_BELOW = rb"(?:/.*)?\Z"

# The pieces of a pattern are regular expressions for one byte each, and these two, which are none.
_STAR = b"*"
_STAR_STAR = b"**"

_PIECE = re.compile(rb"\*+|\\.|.", re.DOTALL)
_CLASS_MEMBER = re.compile(rb"\[:(?P<name>[^]]*):]|\\(.)|([^\\])", re.DOTALL)
_CLASS_RANGE_END = re.compile(rb"-(?:\\(.)|([^]\\]))", re.DOTALL)

# In the locale our rsync runs in, C.UTF-8, single bytes above 127 belong to no class.
_NAMED_CLASSES: dict[bytes, frozenset[int]] = {
    name: frozenset(members)
    for name, members in {
        b"alnum": (string.ascii_letters + string.digits).encode(),
        b"alpha": string.ascii_letters.encode(),
        b"blank": b" \t",
        b"cntrl": (*range(0x20), 0x7F),
        b"digit": string.digits.encode(),
        b"graph": range(0x21, 0x7F),
        b"lower": string.ascii_lowercase.encode(),
        b"print": range(0x20, 0x7F),
        b"punct": string.punctuation.encode(),
        b"space": string.whitespace.encode(),
        b"upper": string.ascii_uppercase.encode(),
        b"xdigit": string.hexdigits.encode(),
    }.items()
}


@dataclass(frozen=True, slots=True)
class Matcher:
    """Which paths a pattern matches: expressions for the whole of `/` + path, by what kind of file it is."""

    for_directories: bytes
    for_others: bytes

    @classmethod
    def from_pattern(cls, pattern: bytes) -> Matcher:
        """Return the matcher of one rsync pattern, given without any rule prefix."""
        only_directories = pattern.endswith(b"/")
        pattern = pattern.removesuffix(b"/")
        has_wildcards = any(byte in pattern for byte in b"*?[")
        try:
            pieces = _pieces(pattern.removeprefix(b"/"), has_wildcards)
        except _MatchesNothingError:
            return cls(for_directories=_NEVER, for_others=_NEVER)
        if pattern.endswith(b"***") and pieces[-2:] == [b"/", _STAR_STAR]:
            for_directories = _expression(pattern, pieces[:-2], _END_OR_BELOW)
        else:
            for_directories = _expression(pattern, pieces, _END)
        for_others = _NEVER if only_directories else _expression(pattern, pieces, _END)
        return cls(for_directories, for_others)

    def negated(self) -> Matcher:
        """Return the matcher of every path that this one does not match."""
        return Matcher(b"(?!" + self.for_directories + b")", b"(?!" + self.for_others + b")")


class _MatchesNothingError(Exception):
    """A pattern is malformed in a way that rsync accepts, but that fits no name."""


def _pieces(pattern: bytes, has_wildcards: bool) -> list[bytes]:
    """Return the pattern as a list of expressions for one byte each, _STAR and _STAR_STAR."""
    if not has_wildcards:
        # Then even a backslash is only itself.
        return [re.escape(pattern[index : index + 1]) for index in range(len(pattern))]
    pieces: list[bytes] = []
    position = 0
    while piece := _PIECE.match(pattern, position):
        text = piece.group()
        position = piece.end()
        if text.startswith(b"*"):
            pieces.append(_STAR if len(text) == 1 else _STAR_STAR)
        elif text == b"?":
            pieces.append(b"[^/]")
        elif text == b"[":
            expression, position = _character_class(pattern, position)
            pieces.append(expression)
        elif text == b"\\":
            raise _MatchesNothingError  # nothing is left to be escaped
        else:
            pieces.append(re.escape(text[-1:]))
    return pieces


def _character_class(pattern: bytes, position: int) -> tuple[bytes, int]:
    """Return the expression for the class whose `[` ends at position, and the position after its `]`."""
    is_negated = pattern.startswith((b"!", b"^"), position)
    position += is_negated
    members: set[int] = set()
    previous: int | None = None  # what a range could start with
    while True:
        range_end = _CLASS_RANGE_END.match(pattern, position) if previous is not None else None
        member = range_end or _CLASS_MEMBER.match(pattern, position)
        if member is None:
            raise _MatchesNothingError  # the class has no end
        position = member.end()
        byte = member[member.lastindex or 0][0:1]
        if range_end and previous is not None:
            members.update(range(previous, byte[0] + 1))
            previous = None
        elif member.re is _CLASS_MEMBER and member["name"] is not None:
            if member["name"] not in _NAMED_CLASSES:
                raise _MatchesNothingError
            members |= _NAMED_CLASSES[member["name"]]
            previous = None
        else:
            previous = byte[0]
            members.add(previous)
        # Looked for only now, because a `]` that comes first is a member.
        if pattern.startswith(b"]", position):
            return _one_of(members, is_negated), position + 1


def _one_of(members: set[int], is_negated: bool) -> bytes:
    """Return an expression for one byte in members, or not in members; neither ever matches a slash."""
    slash = ord("/")
    chosen = members | {slash} if is_negated else members - {slash}
    if not chosen:
        return _NEVER
    return (b"[^" if is_negated else b"[") + b"".join(b"\\x%02x" % byte for byte in sorted(chosen)) + b"]"


def _expression(pattern: bytes, pieces: list[bytes], end: bytes) -> bytes:
    """Return the expression for pieces and an end, beginning where in the path the pattern asks for.

    As in rsync the spelling counts: `**` and `/` say what is compared even when escaped or in a class.
    """
    body = _body(pieces) + end
    if pattern.startswith(b"/"):
        return b"/" + body
    if pattern.startswith(b"**"):
        return body
    if b"**" in pattern:
        return b".*/" + body
    if pieces.count(b"/") != pattern.count(b"/"):
        # rsync compares one trailing element more than the spelling has slashes; one in a class fits none.
        return _NEVER
    # Atomic where only the name is compared: no other slash is worth a try, which is 3 times faster.
    return (b".*/" if b"/" in pattern else b"(?>.*/)") + body


def _body(pieces: list[bytes]) -> bytes:
    """Return the expression for a list of pieces.

    What stands between two stars takes its first fit for good (an atomic group), the second star makes up
    for it. Otherwise, with a pattern like `*a*a*a*a*a*b`, a user could stop the service with one long name.
    """
    sections = [_split(section, _STAR) for section in _split(pieces, _STAR_STAR)]
    expression = b""
    for number, (first, *runs) in enumerate(sections, 1):
        is_last = number == len(sections)
        text = b"".join(first)
        for run_number, run in enumerate(runs, 1):
            if is_last and run_number == len(runs):
                text += b"[^/]*" + b"".join(run)
            else:
                text += b"(?>[^/]*?" + b"".join(run) + b")"
        if number == 1:
            expression = text
        else:
            expression += b".*" + text if is_last else b"(?>.*?" + text + b")"
    return expression


def _split(pieces: list[bytes], separator: bytes) -> list[list[bytes]]:
    """Return the lists of pieces between the separators, as bytes.split() does for bytes."""
    parts: list[list[bytes]] = [[]]
    for piece in pieces:
        if piece == separator:
            parts.append([])
        else:
            parts[-1].append(piece)
    return parts
