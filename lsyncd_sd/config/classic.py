# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a configuration of a command line of Lsyncd's, by the reader and the checks that files go through.

What the line does not say is as in a file that does not say it, but for two things: what the first full sync
of all would delete is judged by the brake alone, and a source has to be there, unless -insist is given.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from lsyncd_sd.classicline import Call, Line
from lsyncd_sd.config.checks import check_together
from lsyncd_sd.config.load import Loaded
from lsyncd_sd.config.model import DIRECT, RSYNCSSH, Configuration, Target, TargetKind
from lsyncd_sd.config.nodes import ListNode, MapNode, Node, Scalar
from lsyncd_sd.config.places import mounts_that_can_hang, resolve
from lsyncd_sd.config.reader import read_syncs
from lsyncd_sd.config.report import Refused, Report, shown
from lsyncd_sd.config.settings import LOG_LEVELS
from lsyncd_sd.config.target import is_local, parse_target

# The name that such a configuration has in place of a file, and that the state is kept under.
NAME = "command-line"

# Of the source's name, in that of a sync; behind it comes what tells it from others.
_NAME_CHARACTERS = 40
_DIGEST_CHARACTERS = 6

# The level of ours that shows at least what a category of Lsyncd does.
_CATEGORIES: Mapping[str, str] = {
    "Error": "error",
    "Warn": "warning",
    "Normal": "info",
    "Info": "info",
    **dict.fromkeys(
        (
            "Alarm", "Call", "Debug", "Delay", "Exclude", "Exec", "Filter", "Fsevents", "Function", "FWrite",
            "Inotify", "Masterloop", "Statusfile", "Tunnel", "Warning",
        ),
        "debug",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Here:
    """Where a command line was typed, as absolute paths: the current directory, and the home."""

    directory: str
    home: str

    def absolute(self, path: str) -> str:
        """Return a path as it is meant here; "" and what begins with ~ stay, for the reader to refuse."""
        if not path or path.startswith("~"):
            return path
        whole = os.path.join(self.directory, path)
        # Above a link is not what stands left of it.
        return os.path.realpath(whole) if ".." in path.split("/") else os.path.normpath(whole)


def load_line(line: Line, here: Here) -> Loaded:
    """Return what a command line says, as if one file said it; its problems name the words to blame."""
    report = Report(NAME)
    root = _Translation(line, here, report).root()
    configuration = Configuration(NAME, NAME, read_syncs(root, NAME, report))
    _check_log_file(line, here, configuration, report)
    together = check_together([configuration], waits_for_sources=line.has("insist"))
    problems = tuple(dict.fromkeys([*report.problems, *together]))
    if all(problem.is_warning for problem in problems):
        return Loaded((configuration,), (), problems)
    return Loaded((), ((NAME, problems),), ())


class _Translation:
    """A command line as the tree of a file; what has no place in that is reported."""

    def __init__(self, line: Line, here: Here, report: Report) -> None:
        self._line = line
        self._here = here
        self._report = report
        self._avoid = mounts_that_can_hang()
        self._names: list[str] = []

    def root(self) -> MapNode:
        """Return the tree."""
        common = self._common()
        syncs = tuple(_mapping(call, self._sync(call) | common) for call in self._line.syncs)
        if (options := self._line.last("sshopts")) and not any(
            call.option == "rsyncssh" for call in self._line.syncs
        ):
            self._report.error(options.text, "it is for -rsyncssh, and there is none", "leave it out")
        return MapNode(NAME, ((Scalar(NAME, "syncs", is_plain=True), ListNode(NAME, syncs)),))

    def _common(self) -> dict[str, Node]:
        """Return the settings that all syncs of the line have."""
        settings: dict[str, Node] = {}
        if delay := self._line.last("delay"):
            settings["delay"] = Scalar(delay.text, delay.words[0], is_plain=True)
        if log := self._line.last("log"):
            settings["log_level"] = Scalar(log.text, self._log_level(), is_plain=True)
        return settings

    def _log_level(self) -> str:
        """Return the level at which all is shown that is asked for."""
        level = "info"
        for call in self._line.calls:
            if call.option != "log":
                continue
            word = call.words[0]
            if word in ("all", "scarce"):
                level = "debug" if word == "all" else "warning"
            elif word in _CATEGORIES:
                level = max(level, _CATEGORIES[word], key=LOG_LEVELS.index)
            else:
                known = ["all", "scarce", *_CATEGORIES]
                near = difflib.get_close_matches(word.capitalize()[:40], known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                self._report.error(call.text, f"{shown(word)} is no category of Lsyncd's", hint)
        return level

    def _sync(self, call: Call) -> dict[str, Node]:
        source = self._here.absolute(call.words[0])
        text = ":".join(call.words[1:])
        if is_local(text) or call.option == "direct":
            text = self._here.absolute(text)
        target = _target(text)
        name = self._name(source, target.text if target else text)
        settings: dict[str, Node] = {
            "name": _text(call, name),
            "source": _text(call, source),
            "target": _text(call, text),
        }
        if call.option == "direct":
            settings["mode"] = _text(call, DIRECT)
        elif call.option == "rsyncssh":
            settings["mode"] = _text(call, RSYNCSSH)
            settings |= self._ssh_options()
        if target and not self._is_no_mirror(target):
            no = Scalar(call.text, "false", is_plain=True)
            settings["brake"] = _mapping(call, {"hold_first": no})
        return settings

    def _ssh_options(self) -> dict[str, Node]:
        call = self._line.last("sshopts")
        if call is None:
            return {}
        try:
            words = shlex.split(call.words[0])
        except ValueError as error:
            self._report.error(call.text, f"these are no words: {error}", "a quote needs another one")
            return {}
        here = (self._as_here(before, word) for before, word in itertools.pairwise(["", *words]))
        extra = ListNode(call.text, tuple(_text(call, word) for word in here))
        return {"ssh": _mapping(call, {"extra": extra})}

    def _as_here(self, before: str, word: str) -> str:
        """Return an argument for an ssh that is run elsewhere; `before` is the one before it."""
        names_a_file = before == "-i" or (before == "-F" and word != "none")
        return self._here.absolute(word) if names_a_file else word

    def _name(self, source: str, target: str) -> str:
        """Return a name that the same line gives the same sync again, and no other sync has."""
        both = f"{source}\0{target}".encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(both).hexdigest()[:_DIGEST_CHARACTERS]
        words = re.sub(r"[^A-Za-z0-9_.@-]", "_", os.path.basename(source))
        name = f"{words.lstrip('_.@-')[:_NAME_CHARACTERS] or 'sync'}-{digest}"
        if name in self._names:
            # The same twice: there is more to say about that than that the names are equal.
            name += f"-{len(self._names)}"
        self._names.append(name)
        return name

    def _is_no_mirror(self, target: Target) -> bool:
        """Tell whether a target is, or holds, what nobody makes for a mirror: a home, or where we are."""
        if target.kind is TargetKind.SSH:
            return not target.path
        if target.kind is TargetKind.DAEMON:
            return False
        path = resolve(target.path, self._avoid).path
        ours = (self._here.directory, self._here.home)
        return any(_is_within(resolve(one, self._avoid).path, path) for one in ours)


def _target(text: str) -> Target | None:
    """Return the target that a text means, None if the reader will refuse it."""
    try:
        return parse_target(text)
    except Refused:
        return None


def _mapping(call: Call, settings: Mapping[str, Node]) -> MapNode:
    entries = ((Scalar(call.text, key, is_plain=True), node) for key, node in settings.items())
    return MapNode(call.text, tuple(entries))


def _text(call: Call, text: str) -> Scalar:
    return Scalar(call.text, text, is_plain=False)


def _is_within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _check_log_file(line: Line, here: Here, configuration: Configuration, report: Report) -> None:
    """Report a log file that would be mirrored each time that it is told of, or deleted."""
    call = line.last("logfile")
    if call is None:
        return
    avoid = mounts_that_can_hang()
    path = resolve(here.absolute(call.words[0]), avoid).path
    for sync in configuration.syncs:
        if _is_within(path, resolve(sync.source, avoid).path):
            report.error(
                call.text, "the file lies in a source", "each of its lines would be a change to mirror"
            )
        elif sync.target.kind is TargetKind.LOCAL and _is_within(
            path, resolve(sync.target.path, avoid).path
        ):
            report.error(call.text, "the file lies in a target", "it would be deleted there")
