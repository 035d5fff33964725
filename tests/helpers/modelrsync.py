# SPDX-License-Identifier: GPL-2.0-or-later
"""A model of what rsync does to a target in the call shapes of this program, read from its real arguments.

Where rsync may do more or less, the model does less: a convergence that holds with it holds with rsync.
tests/live/test_model_against_rsync.py compares the two.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from helpers.trees import Entry, Snapshot, join, parent_of

from lsyncd_sd.plan.batch import is_below
from lsyncd_sd.plan.filters import Filter, WrittenRule

TEMPORARY_SUFFIX = b".AbCdEf"


class Trouble(enum.Enum):
    """What may go wrong in a run."""

    NONE = "none"
    DEAD = "killed after some of its work"
    UNREADABLE = "a file or directory cannot be read, the message names it"
    UNNAMED = "a file or directory cannot be read, the message names nothing"
    VANISHED = "a path vanished just before it was read"


@dataclass(frozen=True)
class Fault:
    """A trouble, and which of the possible places it strikes (taken modulo their number).

    `stale`: what the run reads is what the source held when it began.
    """

    trouble: Trouble = Trouble.NONE
    place: int = 0
    stale: bool = False


@dataclass(frozen=True)
class Command:
    """What matters of one rsync command line; `paths` without `./` and the slash at the end.

    `filters` is what it leaves out and what it may not delete; `by_name`: with a rule of ours that protects
    all but the names that are to go. `dry`: it only says what it would delete.
    """

    paths: tuple[bytes, ...]
    recursive: bool
    exact: bool
    delete: bool
    existing: bool
    level: bool
    content: bool
    filters: Filter
    by_name: bool
    dry: bool

    @classmethod
    def parse(cls, arguments: list[str], stdin: bytes) -> Command:
        """Read a command line; raises AssertionError for one that no shape of ours gives."""
        options = arguments[: arguments.index("--")]
        recursive = "-r" in options
        assert recursive != ("-d" in options)
        assert ("--existing" in options) == ("--ignore-existing" in options)
        if "--files-from=-" in options:
            assert {"--from0", "--force", "--ignore-missing-args"} <= set(options)
            assert stdin.endswith(b"\0")
            listed = stdin.split(b"\0")[:-1]
        else:
            assert recursive and not stdin
            listed = [b"./"]
        assert all(path.startswith(b"./") for path in listed)
        has_slash = not recursive and listed[0].endswith(b"/")
        assert recursive or all(path.endswith(b"/") == has_slash for path in listed)
        return cls(
            tuple(path[2:].removesuffix(b"/") for path in listed),
            recursive=recursive,
            exact="-I" in options,
            delete="--delete" in options,
            existing="--existing" in options,
            level=has_slash and "--existing" in options,
            content=has_slash and "--existing" not in options,
            filters=_filters(options),
            by_name=any(option.startswith("--filter=P ") and option.endswith("*") for option in options),
            dry="-n" in options,
        )


def _filters(options: list[str]) -> Filter:
    """Return what rsync makes of all rules of a command line, in their order."""
    rules = []
    for option in options:
        for begin, is_pattern in (("--filter=", False), ("--exclude=", True)):
            if option.startswith(begin):
                rules.append(WrittenRule(option.removeprefix(begin), is_pattern))
    return Filter.from_rules(rules)


@dataclass(frozen=True)
class Answer:
    """The exit status and the messages of a run; and its output, for one that is dry."""

    code: int
    errors: bytes = b""
    output: bytes = b""


class ModelTarget:
    """A target held in memory, with what each run makes of it."""

    def __init__(self) -> None:
        self.entries: Snapshot = {b"": Entry("d", b"", 0, 0)}
        # What rsync itself changes in a directory gives it a new time; never one that the source has.
        self._clock = count(1)

    def run(
        self,
        command: Command,
        source: bytes,
        look: Callable[[], Snapshot],
        fault: Fault,
        remove: Callable[[bytes], None],
    ) -> Answer:
        """Do what the command does with what `look` sees at the path `source`.

        `remove` takes away a path of the source that is to vanish.
        """
        struck = self._struck(command, visible(look(), command.filters), fault)
        if struck is not None and fault.trouble is Trouble.VANISHED:
            remove(struck)
        held = visible(look(), command.filters)
        unreadable = struck if fault.trouble in (Trouble.UNREADABLE, Trouble.UNNAMED) else None
        actions = list(self._actions(command, held, unreadable))
        if command.dry:
            return Answer(
                -9 if fault.trouble is Trouble.DEAD else 0, output=self._said(command, actions, held)
            )
        if fault.trouble is Trouble.DEAD:
            done = fault.place % (len(actions) + 1)
            self._carry_out(command, actions[:done], held)
            self._leave_temporary_file(actions[done:], held)
            return Answer(-9)
        blocked = command.level and self._is_blocked(command, held)
        self._carry_out(command, actions, held)
        self._touch_up(actions, held)
        if blocked:
            return Answer(23, b"rsync: [generator] recv_generator: failed to stat: Not a directory (20)\n")
        if struck is None:
            return Answer(0)
        name = _shown(source + b"/" + struck)
        if fault.trouble is Trouble.VANISHED:
            return Answer(24, b'file has vanished: "' + name + b'"\nrsync warning: some files vanished\n')
        if fault.trouble is Trouble.UNNAMED:
            return Answer(23, b"rsync: something went wrong\nrsync error: some files\n")
        return Answer(
            23, b'rsync: [sender] opendir "' + name + b'" failed: Permission denied (13)\nrsync error: x\n'
        )

    def _struck(self, command: Command, held: Snapshot, fault: Fault) -> bytes | None:
        """Return what cannot be read or vanishes: something whose content this run reads."""
        if fault.trouble in (Trouble.NONE, Trouble.DEAD) or command.existing:
            return None
        listed = set(command.paths)
        read = [
            path
            for path, entry in sorted(held.items())
            if (path in listed and (command.recursive or command.content or entry.kind == "f"))
            or (command.recursive and is_below(path, listed))
            or (command.content and entry.kind == "f" and parent_of(path) in listed)
        ]
        read = [path for path in read if path]
        return read[fault.place % len(read)] if read else None

    # ------------------------------------------------------------------ what a run consists of

    def _actions(
        self, command: Command, held: Snapshot, unreadable: bytes | None
    ) -> Iterator[tuple[str, bytes, bool]]:
        """Yield what is done, in order: ("put" or "prune", path, whether content counts as changed)."""
        for path in command.paths:
            if path not in held:
                continue
            implied = "attributes" if command.existing else "put"
            yield from ((implied, above, False) for above in _ancestors(path))
            if command.level:
                if held[path].kind == "d":
                    yield "attributes", path, False
                    if command.delete:
                        yield "prune", path, False
                continue
            if not command.recursive and path != unreadable:
                yield "put", path, command.exact
            if command.content and held[path].kind == "d" and path != unreadable:
                inside = [below for below in sorted(held) if below and parent_of(below) == path]
                yield from (("put", below, command.exact) for below in inside if below != unreadable)
            for below in sorted(held) if command.recursive else ():
                if is_below(below, {path}) or below == path:
                    yield from self._one(command, held, below, unreadable)

    def _one(
        self, command: Command, held: Snapshot, path: bytes, unreadable: bytes | None
    ) -> Iterator[tuple[str, bytes, bool]]:
        if unreadable is not None and is_below(path, {unreadable}):
            return
        if command.existing:
            yield "attributes", path, False
        elif path != unreadable or held[path].kind == "d":
            yield "put", path, command.exact
        if command.delete and held[path].kind == "d" and unreadable is None:
            yield "prune", path, False

    def _is_blocked(self, command: Command, held: Snapshot) -> bool:
        """Tell whether something else stands on the target where a level of the source is.

        rsync notices it only by what the directory holds.
        """
        stood_on = {above for path in held if path for above in _ancestors(path)}
        return any(
            path in stood_on and path in self.entries and not self._is_directory(path)
            for level in command.paths
            if level in held
            for path in (*_ancestors(level), level)
        )

    def _carry_out(self, command: Command, actions: list[tuple[str, bytes, bool]], held: Snapshot) -> None:
        for what, path, exact in actions:
            match what:
                case "put":
                    self._put(path, held[path], exact)
                case "attributes":
                    if self._is_directory(path) and held[path].kind == "d":
                        self._put(path, held[path], exact)
                case "prune":
                    self._prune(path, held, command)

    def _put(self, path: bytes, wanted: Entry, exact: bool) -> None:
        known = self.entries.get(path)
        if known is not None and known.kind != wanted.kind:
            self._remove(path)
            known = None
        if wanted.kind == "d":
            if known is None:
                self._bump(parent_of(path))
            time = known.mtime if known is not None else next(self._clock)
            self.entries[path] = wanted._replace(mtime=time)
        elif known is None or _differs(known, wanted, exact):
            self.entries[path] = wanted
            self._bump(parent_of(path))
        else:
            self.entries[path] = wanted._replace(content=known.content)

    def _prune(self, directory: bytes, held: Snapshot, command: Command) -> None:
        for path in self._extra(directory, held, command):
            self._remove(path)

    def _extra(self, directory: bytes, held: Snapshot, command: Command) -> list[bytes]:
        """Return what a directory of the target holds, and nothing protects, but not the source."""
        if not self._is_directory(directory):
            return []
        return [
            path
            for path, entry in self.entries.items()
            if path and parent_of(path) == directory and path not in held
            if not command.filters.protects(path, entry.kind == "d")
        ]

    def _said(self, command: Command, actions: list[tuple[str, bytes, bool]], held: Snapshot) -> bytes:
        """Return what a dry run says; it is never told to show directories."""
        pruned = [path for what, path, _exact in actions if what == "prune"]
        deleted = [path for directory in pruned for path in self._extra(directory, held, command)]
        assert all(self.entries[path].kind != "d" for path in deleted)
        return b"".join(b"*deleting   " + _shown(path) + b"\n" for path in deleted)

    def _touch_up(self, actions: list[tuple[str, bytes, bool]], held: Snapshot) -> None:
        """A run that comes to its end sets the times of all directories it went through."""
        for _what, path, _exact in actions:
            if held[path].kind == "d" and self._is_directory(path):
                self.entries[path] = self.entries[path]._replace(mtime=held[path].mtime)

    def _leave_temporary_file(self, undone: list[tuple[str, bytes, bool]], held: Snapshot) -> None:
        for what, path, _exact in undone:
            if what == "put" and held[path].kind == "f":
                parent, _slash, name = path.rpartition(b"/")
                if self._is_directory(parent):
                    temporary = join(parent, b"." + name + TEMPORARY_SUFFIX)
                    self.entries[temporary] = Entry("f", b"half", 0o600, 0)
                return

    # ------------------------------------------------------------------ the target

    def is_reachable(self, path: bytes) -> bool:
        """Tell whether everything above a path is a directory, and no symlink."""
        return all(self._is_directory(above) for above in _ancestors(path))

    def rename(self, old: bytes, new: bytes) -> None:
        """Move what is at and below `old`, in the place of what is at `new`."""
        moved = {path: entry for path, entry in self.entries.items() if (path + b"/").startswith(old + b"/")}
        self._remove(new)
        self._remove(old)
        self.entries |= {new + path[len(old) :]: entry for path, entry in moved.items()}
        self._bump(parent_of(new))

    def _is_directory(self, path: bytes) -> bool:
        entry = self.entries.get(path)
        return entry is not None and entry.kind == "d"

    def _remove(self, path: bytes) -> None:
        for below in [known for known in self.entries if known == path or is_below(known, {path})]:
            del self.entries[below]
        self._bump(parent_of(path))

    def _bump(self, directory: bytes) -> None:
        self.entries[directory] = self.entries[directory]._replace(mtime=next(self._clock))


def visible(entries: Snapshot, filters: Filter) -> Snapshot:
    """Return what of a snapshot the filters do not hide."""
    return {path: entry for path, entry in entries.items() if not filters.hides(path, entry.kind == "d")}


def _ancestors(path: bytes) -> Iterator[bytes]:
    """Yield the directories above a path, from the top: rsync sends the attributes of each."""
    if path:
        yield b""
    end = path.find(b"/")
    while end != -1:
        yield path[:end]
        end = path.find(b"/", end + 1)


def _differs(known: Entry, wanted: Entry, exact: bool) -> bool:
    if wanted.kind == "l":
        return known.content != wanted.content
    return exact or (len(known.content), known.mtime) != (len(wanted.content), wanted.mtime)


def _shown(path: bytes) -> bytes:
    """Return a path as rsync shows it in a message."""
    return b"".join(bytes([byte]) if 32 <= byte < 127 else b"\\#%03o" % byte for byte in path)
