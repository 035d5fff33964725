# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds what the file system tells of the files and folders that rsync is to use."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator

from lsyncd_sd.config.model import Sync, TargetKind
from lsyncd_sd.config.places import Resolved, resolve
from lsyncd_sd.config.report import shown
from lsyncd_sd.config.rsyncrules import path_in_target
from lsyncd_sd.errors import Problem


def check_rsync_files(sync: Sync, source: Resolved, avoid: frozenset[str]) -> list[Problem]:
    """Return what is wrong or doubtful with the password file and, next to a local target, with folders.

    `avoid` are the mounts that can hang; nothing below them is looked at.
    """
    problems = list(_password_file(sync, avoid))
    if sync.target.kind is TargetKind.LOCAL:
        for key in ("backup_dir", "temp_dir", "partial_dir"):
            folder = sync.rsync.text(key)
            if folder is not None and (key != "partial_dir" or folder.startswith("/")):
                problems += _folder(sync, key, folder, source, avoid)
    return problems


def _password_file(sync: Sync, avoid: frozenset[str]) -> Iterator[Problem]:
    path = sync.rsync.password_file
    if path is None:
        return
    place = sync.rsync.place_of("password_file")
    resolved = resolve(path, avoid)
    if not resolved.is_whole:
        return
    try:
        status = os.stat(resolved.path)
    except PermissionError:
        # who runs the check may see less than who runs the sync
        return
    except OSError as error:
        yield Problem(place, f"password_file: {shown(path)}: {error.strerror}", "make it", is_warning=True)
        return
    hint = ""
    if not stat.S_ISREG(status.st_mode):
        hint = "name a file whose first line is the password"
    elif status.st_mode & 0o006:
        hint = f"others can read or write it: chmod 600 {path}"
    elif os.geteuid() == 0 and status.st_uid != 0:
        hint = f"it must belong to root: chown root {path}"
    if hint:
        yield Problem(place, f"password_file: {shown(path)} will be refused", hint, is_warning=True)


def _folder(sync: Sync, key: str, folder: str, source: Resolved, avoid: frozenset[str]) -> Iterator[Problem]:
    place = sync.rsync.place_of(key)
    target = resolve(sync.target.path, avoid)
    resolved = resolve(posixpath.normpath(posixpath.join(target.path, folder)), avoid)
    in_source = _is_within(resolved.path, source.path)
    if in_source or (key == "backup_dir" and _is_within(source.path, resolved.path)):
        relation = "lies in" if in_source else "contains"
        yield Problem(
            place,
            f"{key}: {shown(folder)} {relation} the source {shown(sync.source)}",
            "rsync would write into the source; choose a directory outside",
        )
    elif _is_within(resolved.path, target.path) and path_in_target(folder, sync.target) is None:
        yield Problem(
            place,
            f"{key}: {shown(folder)} leads into the target over a symbolic link",
            "what rsync keeps there would be deleted; write it as a path below the target",
        )
    elif key == "temp_dir" and resolved.is_whole and not os.path.isdir(resolved.path):
        yield Problem(
            place, f"temp_dir: {shown(folder)} is not there", "rsync does not make it", is_warning=True
        )


def _is_within(path: str, other: str) -> bool:
    return (path + "/").startswith(other.rstrip("/") + "/")
