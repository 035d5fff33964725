# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a target as rsync would, and refuses what rsync would misunderstand."""

from __future__ import annotations

import re

from lsyncd_sd.config.model import Target, TargetKind
from lsyncd_sd.config.report import Refused, shown

RSYNC_DAEMON_PORT = 873
RSYNC_URL = "rsync://"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BAD_IN_HOST = re.compile(r"[\s\x00-\x1f\x7f'\"\\/@\[\]]")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


def local_path(text: str) -> str:
    """Return an absolute local path without doubled slashes, `.` components and slashes at its end.

    Raise Refused if it is empty, relative, holds `..` or a NUL, or is the root directory.
    """
    if not text:
        raise Refused("the path is empty")
    if text.startswith("~"):
        raise Refused(
            f"{shown(text)} is not an absolute path",
            "~ is a word of the shell: write the home directory out",
        )
    if not text.startswith("/"):
        raise Refused(f"{shown(text)} is not an absolute path", "a path begins with a slash")
    _refuse_nul(text)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"{shown(text)} holds '..'", "write the path as it is without '..'")
    if not parts:
        raise Refused("'/' is dangerous here", "name the directory below it")
    return "/" + "/".join(parts)


def parse_target(text: str) -> Target:
    """Return the target a text means, by rsync's own rule: a colon before the first slash makes it remote.

    Raise Refused with a hint if it is none.
    """
    _refuse_nul(text)
    url = _URL.match(text)
    if url and url.group(0).lower() == RSYNC_URL:
        return _url_target(text[len(RSYNC_URL) :])
    if url:
        raise Refused(
            f"{shown(url.group(0))} is no way rsync can go",
            "write host:/path for ssh, host::module/path or rsync://host/module/path for an rsync daemon",
        )
    host, colon, path = _split_host(text)
    if not colon:
        return _local_target(text)
    if path.startswith(":"):
        return _daemon_target(host, path[1:])
    return _ssh_target(host, path)


def is_local(text: str) -> bool:
    """Tell whether a text, if it means a target, means one on this machine."""
    return not _URL.match(text) and not _split_host(text)[1]


def _refuse_nul(text: str) -> None:
    if "\0" in text:
        raise Refused("a path cannot hold a NUL")


def _split_host(text: str) -> tuple[str, str, str]:
    """Return what is before the colon, the colon, and what follows; a local path has only the first."""
    bracket = re.match(r"([^\[/:]*\[[^\]/]*\])(:)", text)
    if bracket:
        return bracket.group(1), ":", text[bracket.end() :]
    head = text.split("/", 1)[0]
    if ":" not in head:
        return text, "", ""
    return text.partition(":")


def _local_target(text: str) -> Target:
    try:
        path = local_path(text)
    except Refused as refused:
        if text and not text.startswith(("/", "~")):
            raise Refused(
                refused.message, "a local target begins with a slash, a remote one is host:/path"
            ) from None
        raise
    return Target(path, TargetKind.LOCAL, "", path)


def _ssh_target(machine: str, path: str) -> Target:
    user, host = _user_and_host(machine)
    if path.startswith("~"):
        raise Refused(
            f"{shown(path)}: a remote ~ is not expanded",
            f"without a leading slash it is below the login directory: {machine}:{path.lstrip('~/') or '.'}",
        )
    _refuse_parents(path)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    is_absolute = path.startswith("/")
    if is_absolute and not parts:
        raise Refused("the root directory of a host is dangerous as a target", "name the directory below it")
    path = ("/" if is_absolute else "") + "/".join(parts)
    return Target(f"{machine}:{path or '.'}", TargetKind.SSH, host, path, user)


def _daemon_target(machine: str, path: str) -> Target:
    user, host = _user_and_host(machine)
    path = _module_path(path)
    return Target(f"{machine}::{path}", TargetKind.DAEMON, host, path, user)


def _url_target(rest: str) -> Target:
    authority, _, path = rest.partition("/")
    login, at, address = authority.rpartition("@")
    if ":" in login:
        raise Refused(
            "a target cannot hold a password", "put it into a file and name it as rsync: password_file"
        )
    host_text, port = address, None
    if ":" in address and not address.endswith("]"):
        host_text, _, port_text = address.rpartition(":")
        port = _port(port_text)
    user, host = _user_and_host(login + at + host_text)
    path = _module_path(path)
    text = f"{RSYNC_URL}{authority}/{path}"
    return Target(text, TargetKind.DAEMON, host, path, user, None if port == RSYNC_DAEMON_PORT else port)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise Refused(f"{shown(text)} is not a port", "a port is a number from 1 to 65535")
    return int(text)


def _module_path(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.startswith("/"):
        raise Refused("no module is named", "an rsync daemon is reached as host::module/path")
    if ":" in parts[0]:
        raise Refused(
            f"{shown(parts[0])} is not a module", "an IPv6 address stands in brackets: [fe80::1]:/path"
        )
    _refuse_parents(path)
    return "/".join(parts)


def _refuse_parents(path: str) -> None:
    if ".." in path.split("/"):
        raise Refused(f"{shown(path)} holds '..'", "write the path as it is without '..'")


def _user_and_host(machine: str) -> tuple[str, str]:
    user, at, host = machine.rpartition("@")
    in_brackets = host.startswith("[") and host.endswith("]")
    if in_brackets:
        host = host[1:-1]
    if not host:
        raise Refused(
            "no host stands before the colon", "a remote target is host:/path; IPv6 as [::1]:/path"
        )
    if ":" in host and not in_brackets:
        raise Refused(f"{shown(host)} is not a host", "an IPv6 address stands in brackets: [fe80::1]:/path")
    bad = _BAD_IN_HOST.search(host) or re.search(r"[\s\x00-\x1f\x7f'\"\\]", user)
    if bad or (at and not user):
        raise Refused(f"{shown(machine)} is not a host", "a remote target is host:/path or user@host:/path")
    if host.startswith("-") or user.startswith("-"):
        raise Refused(
            f"{shown(machine)} would be taken for an option", "a host or user cannot begin with '-'"
        )
    return user, host.lower()
