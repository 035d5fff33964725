# SPDX-License-Identifier: GPL-2.0-or-later
"""Says what becomes of one path, and which filter rule decides: `check --path`.

It answers for what stands at the path now: a rule that ends in a slash is about directories only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lsyncd_sd.config.load import load
from lsyncd_sd.config.model import Delete, Sync
from lsyncd_sd.errors import ConfigurationError, ExitStatus, LsyncdError
from lsyncd_sd.plan.filters import Filter, Reason
from lsyncd_sd.printable import printable, visible

Write = Callable[[str], object]

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True, slots=True)
class _Found:
    """What stands at a path, as rsync sees it.

    `words` say it, `barrier` is what above it keeps it from being mirrored. `by_link`: it is seen through a
    symbolic link, which rsync is told to follow.
    """

    is_directory: bool
    words: str
    barrier: str = ""
    by_link: bool = False


def check_path(files: Sequence[str], path: str, write: Write) -> ExitStatus:
    """Write, for each sync whose source can hold `path`, what becomes of it; NOT_GOOD if one leaves it out.

    A relative path is looked for in every source. Raises LsyncdError for a path outside of all sources, and
    for files with errors.
    """
    if not path:
        raise LsyncdError("the path is empty", exit_status=ExitStatus.USAGE)
    loaded = load(files)
    if loaded.failures:
        raise ConfigurationError([problem for _file, problems in loaded.failures for problem in problems])
    syncs = [sync for configuration in loaded.configurations for sync in configuration.syncs]
    places = [(sync, below) for sync in syncs if (below := _below_source(sync, path)) is not None]
    if not places:
        sources = ", ".join(sorted({visible(sync.source) for sync in syncs}))
        raise LsyncdError(
            f"{visible(path)} lies in no source", f"the sources are: {sources}", ExitStatus.USAGE
        )
    is_mirrored = [_say(sync, below, path.endswith("/"), write) for sync, below in places]
    return ExitStatus.OK if all(is_mirrored) else ExitStatus.NOT_GOOD


def _below_source(sync: Sync, path: str) -> bytes | None:
    """Return the path as seen from the source; None if it lies outside."""
    if not path.startswith("/"):
        return _relative(os.path.normpath(f"{sync.source}/{path}"), sync.source)
    found = _relative(os.path.normpath(path), sync.source)
    if found is not None:
        return found
    # by other names: links above it are followed, but what it is itself is the question
    parent, name = os.path.split(os.path.normpath(path))
    return _relative(os.path.join(os.path.realpath(parent), name), os.path.realpath(sync.source))


def _relative(path: str, source: str) -> bytes | None:
    if path == source:
        return b""
    return os.fsencode(path[len(source) + 1 :]) if path.startswith(f"{source}/") else None


def _say(sync: Sync, path: bytes, is_taken_for_directory: bool, write: Write) -> bool:
    """Write what becomes of a path of one sync, and return whether it is mirrored."""
    found = _look(sync, path, is_taken_for_directory)
    filters = sync.make_filter()
    reason = filters.explain(path, found.is_directory)
    is_hidden = reason is not None and not reason.rule.is_include
    is_mirrored = not is_hidden and not found.barrier
    shown = printable(os.fsencode(sync.source) + (b"/" + path if path else b""))
    write(f"{sync.name}: {shown} ({found.words}): {'' if is_mirrored else 'not '}mirrored\n")
    if found.barrier:
        write(f"    {found.barrier}\n")
        return False
    write(f"    {_why(reason, path, 'hidden', 'shown')}\n")
    if found.by_link:
        write("    not watched behind the link: only full syncs see what changes there\n")
    elif found.is_directory:
        write(f"    {'watched' if is_mirrored else 'not watched, nor is anything in it'}\n")
    write(f"    on the target: {_on_the_target(sync, filters, path, found.is_directory, is_hidden)}\n")
    return is_mirrored


def _look(sync: Sync, path: bytes, is_taken_for_directory: bool) -> _Found:
    root = os.fsencode(sync.source)
    device = None
    by_link = False
    for above in _steps(path):
        try:
            status = os.lstat(root + above)
            if above and sync.follows_links and stat.S_ISLNK(status.st_mode):
                status = os.stat(root + above)
                by_link = True
        except OSError as error:
            return _not_seen(error, is_taken_for_directory)
        if above == b"/" + path:
            words = f"{_kind(status.st_mode)}{' by a link' if by_link else ''}"
            return _Found(stat.S_ISDIR(status.st_mode), words, by_link=by_link)
        if above and not stat.S_ISDIR(status.st_mode):
            words = f"{printable(above[1:])} above it is {_kind(status.st_mode)}, and mirrored as that"
            return _Found(False, "behind it", words)
        if sync.one_file_system and device not in (None, status.st_dev):
            words = f"{printable(above[1:])} is on another file system, see one_file_system"
            return _Found(is_taken_for_directory, "behind a mount", words)
        device = device or status.st_dev
    return _Found(True, "the source itself")


def _steps(path: bytes) -> list[bytes]:
    """Return the source, the directories above the path and the path, each with its slash before it."""
    steps = [b""]
    for name in path.split(b"/") if path else []:
        steps.append(steps[-1] + b"/" + name)
    return steps


def _kind(mode: int) -> str:
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "a device")


def _not_seen(error: OSError, is_taken_for_directory: bool) -> _Found:
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    what = "not there" if missing else f"cannot be looked at: {error.strerror}"
    taken = "a directory" if is_taken_for_directory else "a file; a directory ends in a slash"
    return _Found(is_taken_for_directory, f"{what}, taken for {taken}")


def _why(reason: Reason | None, path: bytes, excluded: str, included: str) -> str:
    if reason is None:
        return "no rule is about it"
    what = "" if reason.path == path else f"{printable(reason.path)} above it is "
    return f"{what}{included if reason.rule.is_include else excluded} by {_shown(reason)}"


def _shown(reason: Reason) -> str:
    written = reason.rule.written
    return f"'{visible(written.text)}' ({written.place or 'a rule of lsyncd-sd'})"


def _on_the_target(sync: Sync, filters: Filter, path: bytes, is_directory: bool, is_hidden: bool) -> str:
    if not path:
        return "never deleted"
    if sync.delete is Delete.NEVER:
        return "kept, because delete is false"
    reason = filters.explain_protection(path, is_directory)
    if reason is not None and not reason.rule.is_include:
        unless = ", unless its directory is deleted" if reason.rule.is_perishable else ""
        return f"kept: {_why(reason, path, 'protected', '')}{unless}"
    when = "when it is gone from the source" if not is_hidden else "because the source hides it"
    if sync.delete is Delete.STARTUP:
        when += ", by the next full sync"
    elif sync.delete is Delete.RUNNING:
        if is_hidden:
            return "kept: delete is running, and nobody sees it go"
        when += ", if that is seen"
    at_risk = f"; put at risk by {_shown(reason)}" if reason is not None else ""
    return f"deleted {when}{at_risk}"
