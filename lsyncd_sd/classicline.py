# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a command line as Lsyncd takes it: which words are options, and which belong to them.

Options have one dash or two, and stand in any order. Nothing but the words is looked at here; and this loads
nothing, for it is asked before it is known what is needed.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lsyncd_sd.errors import ExitStatus, LsyncdError
from lsyncd_sd.printable import visible

# What Lsyncd ends with, whatever is wrong.
FAILURE = 255

MANUAL = "COMING FROM LSYNCD in lsyncd-sd(8)"
_USAGE = "lsyncd-sd [-delay SECONDS] [-insist] [-onepass] [-logfile FILE] … -rsync SOURCE TARGET"

# Each option, and the words that follow it: first those that stand for a sync.
SYNCS: Mapping[str, tuple[str, ...]] = {
    "rsync": ("SOURCE", "TARGET"),
    "rsyncssh": ("SOURCE", "HOST", "TARGETDIR"),
    "direct": ("SOURCE", "TARGETDIR"),
}
OPTIONS: Mapping[str, tuple[str, ...]] = {
    **SYNCS,
    "delay": ("SECONDS",),
    "help": (),
    "insist": (),
    "log": ("CATEGORY",),
    "logfile": ("FILE",),
    "nodaemon": (),
    "onepass": (),
    "pidfile": ("FILE",),
    "sshopts": ("OPTIONS",),
    "version": (),
}

# Options of Lsyncd that nothing here stands for.
_REFUSED: Mapping[str, str] = {
    "script": "no Lua is run: lsyncd-sd.yaml(5) has the settings that take its place",
    "runner": "there is no Lua to run: leave it out",
    "monitor": "inotify is the only one: leave it out",
}

_LUA_HINT = f"""\
`sync{{ default.rsync, source = "/src", target = "host:/dst" }}` becomes a file of two lines,
    `source: /src` and `target: host:/dst`, as /etc/lsyncd.d/NAME.yaml, and the command
    `systemctl enable --now lsyncd@NAME`; see {MANUAL}"""


@dataclass(frozen=True, slots=True)
class Call:
    """One option, without its dashes, and the words that belong to it."""

    option: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The option as one would type it, harmless to show."""
        return visible(shlex.join([f"-{self.option}", *self.words]))


@dataclass(frozen=True, slots=True)
class Line:
    """A command line: all of its options, in their order."""

    calls: tuple[Call, ...]

    @property
    def syncs(self) -> tuple[Call, ...]:
        """What is to be mirrored."""
        return tuple(call for call in self.calls if call.option in SYNCS)

    def has(self, option: str) -> bool:
        """Tell whether an option is given."""
        return self.last(option) is not None

    def last(self, option: str) -> Call | None:
        """Return an option as it was given last, None if it is not."""
        return next((call for call in reversed(self.calls) if call.option == option), None)


def is_classic(words: Sequence[str]) -> bool:
    """Tell whether this is a command line of Lsyncd's: options of its, or one of its files, come first."""
    if not words:
        return False
    if words[0].startswith("-"):
        # These are options of ours, too.
        return words[0] not in ("--help", "--version") and any(map(_option, words))
    # No verb looks like a path.
    return "/" in words[0] or "." in words[0]


def _option(word: str) -> str:
    """Return the option that a word is, without its dashes, and "" for any other word."""
    name = word[1:].removeprefix("-")
    return name if word.startswith("-") and (name in OPTIONS or name in _REFUSED) else ""


def parse(words: Sequence[str]) -> Line:
    """Return the options of a command line. Raise LsyncdError if it cannot be understood."""
    calls = []
    left = list(words)
    while left:
        word = left.pop(0)
        option = _option(word)
        if option in _REFUSED:
            raise _wrong(f"-{option} of Lsyncd is not taken", _REFUSED[option])
        if not option:
            raise _unknown(word)
        count = len(OPTIONS[option])
        taken, left = tuple(left[:count]), left[count:]
        if len(taken) < count or any(map(_option, taken)):
            raise _wrong(f"-{option} needs {_numbered(count)}", f"-{option} {' '.join(OPTIONS[option])}")
        calls.append(Call(option, taken))
    line = Line(tuple(calls))
    if not line.syncs and not line.has("help") and not line.has("version"):
        raise _wrong("nothing to mirror is given", _USAGE)
    return line


def _numbered(count: int) -> str:
    return f"{count} words" if count > 1 else "a word"


def _unknown(word: str) -> LsyncdError:
    shown = visible(shlex.quote(word))
    if word.startswith("-"):
        near = difflib.get_close_matches(word.lstrip("-").lower()[:40], OPTIONS, n=1)
        return _wrong(f"unknown option {shown}", f"did you mean -{near[0]}?" if near else _USAGE)
    if word.endswith((".yaml", ".yml")):
        return _wrong(f"{shown} needs a command before it", f"lsyncd-sd run {shown}")
    if "/" in word or word.endswith((".lua", ".conf")):
        return _wrong(
            f"{shown}: Lsyncd's configuration files, in Lua, are not read here, but YAML", _LUA_HINT
        )
    return _wrong(f"{shown} belongs to no option, and no files in Lua are read", _USAGE)


def _wrong(message: str, hint: str) -> LsyncdError:
    return LsyncdError(message, hint, ExitStatus.USAGE)
