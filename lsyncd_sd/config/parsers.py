# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks the texts that settings take: each function returns its final form or raises Refused."""

from __future__ import annotations

import itertools
import re

from lsyncd_sd.config.report import Refused, shown
from lsyncd_sd.config.target import local_path
from lsyncd_sd.plan.filters import BadRuleError, Rule, WrittenRule
from lsyncd_sd.plan.patterns import MAX_PATTERN_BYTES

NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}"
# rsync's own rule for --bwlimit: a number, a unit, and one byte more or less
RATE_PATTERN = r"[0-9]+(\.[0-9]+)?([KkMmGgTtPp]([Ii]?[Bb])?|[Bb])?([+-]1)?"


def parse_name(text: str) -> str:
    """Return a sync's name: it becomes part of file names, and is typed on command lines."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise Refused(
            f"{shown(text)} cannot be a name",
            "at most 64 letters, digits and _ . @ -, beginning with a letter or digit",
        )
    return text


def parse_text(text: str) -> str:
    """Return any text that can be an argument of a command."""
    if not text:
        raise Refused("the text is empty")
    if "\0" in text:
        raise Refused("the text holds a NUL")
    return text


def parse_pattern(text: str) -> str:
    """Return a pattern of rsync, with or without the prefixes `+ ` and `- `."""
    if "\0" in text:
        raise Refused("a pattern cannot hold a NUL")
    if text == "!":
        raise Refused("a lone '!' would drop every pattern before it", "leave those patterns out instead")
    if text in ("", "+ ", "- ", "+", "-"):
        raise Refused(
            f"the pattern {shown(text)} is empty", "to exclude a file named + or -, write /+ or /-"
        )
    # Its prefix does not count for rsync, but nobody is that close to the limit by intention.
    if len(text.encode("utf-8", "surrogateescape")) > MAX_PATTERN_BYTES:
        raise Refused(
            f"the pattern is longer than {MAX_PATTERN_BYTES} bytes", "rsync would go on without it"
        )
    return text


def parse_rule(text: str) -> str:
    """Return a filter rule of rsync."""
    try:
        Rule.parse(WrittenRule(text))
    except BadRuleError as error:
        raise Refused(f"{shown(text)}: {error.message}", error.hint) from None
    return text


def parse_folder(text: str) -> str:
    """Return a path for rsync on the target's side: absolute, or relative to the target."""
    if text.startswith(("/", "~")):
        return local_path(text)
    parse_text(text)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    below = list(itertools.dropwhile(lambda part: part == "..", parts))
    if ".." in below:
        raise Refused(f"{shown(text)} holds '..'", "write the path as it is without '..'")
    if not below:
        raise Refused(f"{shown(text)} is the target or holds it", "name a directory of its own")
    return "/".join(parts)


def parse_partial_dir(text: str) -> str:
    """Return a name of directories beside the files, or an absolute path."""
    if text.startswith(("/", "~")):
        return local_path(text)
    if parse_text(text) in (".", "..") or "/" in text:
        raise Refused(f"{shown(text)} is not a name", "write a single name, or an absolute path")
    return text


def parse_suffix(text: str) -> str:
    """Return what rsync puts behind the names of backups."""
    if "/" in parse_text(text):
        raise Refused(f"{shown(text)} is not a suffix", "it cannot hold a slash")
    return text


def parse_file(text: str) -> str:
    """Return an absolute path of a file on this machine."""
    return local_path(text)


def parse_identity(text: str) -> str:
    """Return the path of a key, which ssh may find in the home directory."""
    if text.startswith("~/") and "\0" not in text:
        return text
    return local_path(text)


def parse_program(text: str) -> str:
    """Return a program's name, to be found by PATH, or its absolute path."""
    if "/" in text:
        return local_path(text)
    if text.startswith("-") or not re.fullmatch(r"[^\s\x00]+", text):
        raise Refused(f"{shown(text)} is not a program", "write its name or its absolute path")
    return text


def parse_rate(text: str) -> str:
    """Return a bandwidth limit as rsync reads it."""
    if not re.fullmatch(RATE_PATTERN, text, re.ASCII):
        raise Refused(f"{shown(text)} is not a rate", "write KiB per second as a number, or 500K, 1.5M")
    return text


def parse_user(text: str) -> str:
    """Return a login name for ssh."""
    if text.startswith("-") or not re.fullmatch(r"[^\s\x00@:/'\"\\]+", text):
        raise Refused(f"{shown(text)} is not a user's name")
    return text


def parse_ssh_argument(text: str) -> str:
    """Return one argument of ssh, which rsync hands on in a single line."""
    if not text:
        raise Refused("the argument is empty")
    if re.search(r"[\x00\n\r]", text):
        raise Refused(f"{shown(text)} holds a line break or NUL")
    return text
