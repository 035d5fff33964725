# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds rsync's command lines and lists; what makes the call shapes is here, with its reason.

The shapes and the traps behind them are described in docs/rsync.md.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lsyncd_sd.config.model import Delete, Sync, TargetKind
from lsyncd_sd.mirror.options import Traits, common_options
from lsyncd_sd.mirror.pathrules import anchored, chunks, pattern, whole_pattern
from lsyncd_sd.mirror.temporary import ANY_NAME, pattern_of
from lsyncd_sd.plan.batch import Batch
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.patterns import MAX_PATTERN_BYTES

# They would itemize a file that is equal, or keep one that is missing from being itemized.
_NOT_IN_A_PROBE = ("-I", "--existing")

# They would read every file, or keep a backup of what is half-written.
_NOT_FOR_TEMPORARY_FILES = re.compile(r"-[cb]\Z|--(?:backup-dir|suffix)=")


class Shape(enum.Enum):
    """What one rsync run is for; the order is the order of the runs of a batch: first send, then delete."""

    EXACT_ENTRIES = "exact entries"
    ENTRIES = "entries"
    EXACT_SUBTREES = "exact subtrees"
    SUBTREES = "subtrees"
    EXACT_CONTENTS = "exact contents"
    CONTENTS = "contents"
    LEVELS = "levels"
    UNREAD_LEVELS = "unread levels"
    LARGE = "large files"
    FULL = "full sync"
    SEARCH = "search for temporary files"
    LEFTOVERS = "temporary files"
    GONE = "what is gone"
    PROBE = "probe"


RECURSIVE_SHAPES = frozenset({Shape.EXACT_SUBTREES, Shape.SUBTREES, Shape.FULL})
"""Those that send all that is below a directory."""


@dataclass(frozen=True, slots=True)
class Run:
    """One rsync command, what it reads on its standard input, and the paths it was asked for.

    `is_dry`: it changes nothing, and is only to show what the command would do.
    """

    shape: Shape
    arguments: list[str]
    stdin: bytes
    paths: frozenset[bytes]
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a run did, by its own account: files sent, their bytes, entries deleted and made.

    `listed`: the entries that were compared, with the directories above them.
    """

    files: int = 0
    bytes: int = 0
    deleted: int = 0
    made: int = 0
    listed: int = 0

    def plus(self, other: Statistics) -> Statistics:
        """Return the sum of both."""
        return Statistics(
            self.files + other.files,
            self.bytes + other.bytes,
            self.deleted + other.deleted,
            self.made + other.made,
            self.listed + other.listed,
        )


class Commands:
    """The rsync commands of one sync to one target.

    `traits` may be replaced as more is found out; `source_root` is the real path of the source, which is
    known once it was opened. `unreadable`: what could not be read lately; recursive runs leave it out,
    because rsync skips every deletion of a run that could not read some directory. `unread_levels`: those of
    the levels of late; they have a run of their own, for the same reason. `owes_deletions`: a full
    sync that should have deleted did not come to it, so its repetition has to. `allowance`: how many entries
    a run may delete, None for any number. `in_lane`: the large files that a run of their own sends now.
    `connection`: an ssh that goes over a connection that is kept, None to log in for each command.
    """

    def __init__(self, sync: Sync, filters: Filter) -> None:
        self._sync = sync
        self._filters = filters
        self.source_root = sync.source
        self.traits = Traits()
        self.unreadable: set[bytes] = set()
        self.unread_levels: set[bytes] = set()
        self.owes_deletions = False
        self.allowance: int | None = None
        self.in_lane: frozenset[bytes] = frozenset()
        self.connection: Sequence[str] | None = None

    def batch_run(self, batch: Batch, shape: Shape) -> Run | None:
        """Return the run of this shape that `batch` needs, None if it needs none."""
        match shape:
            case Shape.EXACT_ENTRIES:
                # -I: a name may have got another file of the same size and time.
                return self._list_run(shape, ["-d", "-I"], batch.exact_entries)
            case Shape.ENTRIES:
                return self._list_run(shape, ["-d"], batch.entries)
            case Shape.EXACT_SUBTREES:
                # What the target holds under a renewed name was there before it was renewed.
                delete = ["--delete"] if self.batches_delete else []
                return self._list_run(shape, ["-r", "-I", *delete], batch.exact_subtrees)
            case Shape.SUBTREES:
                owes = self.owes_deletions and b"" in batch.subtrees
                delete = ["--delete"] if self._levels_delete or owes else []
                return self._list_run(shape, ["-r", *delete], batch.subtrees)
            case Shape.EXACT_CONTENTS:
                return self._list_run(shape, ["-d", "-I"], batch.exact_contents, suffix=b"/")
            case Shape.CONTENTS:
                return self._list_run(shape, ["-d"], batch.contents, suffix=b"/")
            case Shape.LARGE:
                return self._list_run(shape, ["-d", "-I"], batch.exact_entries | batch.entries)
            case Shape.LEVELS | Shape.UNREAD_LEVELS:
                # --existing --ignore-existing: nothing is sent, so no file is read, and one that cannot
                # be read does not make a level fail each time it is tried (decision 0003).
                delete = ["--delete"] if self._levels_delete else []
                options = ["-d", "--existing", "--ignore-existing", *delete]
                are_unread = shape is Shape.UNREAD_LEVELS
                levels = {path for path in batch.levels if (path in self.unread_levels) is are_unread}
                return self._list_run(shape, options, levels, suffix=b"/")
            case _:
                raise ValueError(f"{shape} is not part of a batch")

    def full_run(self, *, may_create: bool) -> Run:
        """Return the full sync; only the very first one may create the target."""
        options = ["-r", *(["--delete", *self._max_delete()] if self.full_sync_deletes else [])]
        target = self.creating_target() if may_create else self.target()
        arguments = [*self._options([*self._lane_rules(), *self._unreadable_rules()]), *options]
        return Run(Shape.FULL, [*arguments, *self._progress(), "--", "./", target], b"", frozenset({b""}))

    @property
    def deletes_by_name(self) -> bool:
        """Whether only what was seen to go is deleted, name by name, and no level as a whole."""
        return self._sync.delete is Delete.RUNNING

    @property
    def _levels_delete(self) -> bool:
        # With `running`, only what was seen to go is deleted: `gone_runs` do that.
        return self._sync.delete is Delete.ALWAYS

    @property
    def levels_remove_leftovers(self) -> bool:
        """Whether a level removes the temporary file of a broken-off run: no rule may protect it."""
        return self._levels_delete and not self._filters.may_protect

    @property
    def full_sync_removes_leftovers(self) -> bool:
        """Whether a full sync does."""
        return self.full_sync_deletes and not self._filters.may_protect

    def gone_runs(self, gone: Iterable[bytes]) -> Iterator[Run]:
        """Yield the runs that delete the paths of `gone`, and nothing else, for `delete: running`.

        What the sync's filters protect stays, in the directories that go, too.
        """
        if not self.deletes_by_name:
            return
        # rsync drops a longer rule, and with it would go the protection of all other names.
        shown = (path for path in gone if len(anchored(path.rpartition(b"/")[0])) < MAX_PATTERN_BYTES)
        for some in chunks(shown):
            rules = [*self._lane_rules(), *self._gone_rules(some)]
            options = [*self._options(rules), *self._max_delete()]
            yield self._risk_run(Shape.GONE, some, options)

    def _gone_rules(self, paths: Sequence[bytes]) -> list[str]:
        """Return rules for the directories of `paths` that put nothing else in them at risk.

        They go before the sync's own: one of those may be an exception, which puts at risk whatever it
        matches. So what those say about the paths is asked here; for what lies below they decide.
        """
        rules = []
        for path in paths:
            for is_directory, end in ((True, "/"), (False, "")):
                name = "P" if self._filters.protects(path, is_directory) else "R"
                rules.append(f"--filter={name} /{pattern(path)}{end}")
        for directory in sorted({path.rpartition(b"/")[0] for path in paths}):
            rules.append(f"--filter=P {os.fsdecode(anchored(directory))}*")
        return rules

    @property
    def leaves_temporary_files(self) -> bool:
        """Whether a broken-off run may leave a temporary file beside the file that it wrote."""
        in_place = any(self._sync.rsync.is_on(key) for key in ("inplace", "append", "append_verify"))
        return not in_place and not self._sync.rsync.is_given("temp_dir")

    def search_run(self, directories: Iterable[bytes], *, recursive: bool) -> Run | None:
        """Return a dry run that says what only the target has, in these directories, under temporary names.

        With `recursive` also what is below them. None without directories. Names that the source has, but
        hides, are said too. The first rules that match decide: what is protected is not said. That holds
        for all directories, and rsync goes through those that the source has all the same.
        """
        listed = sorted(directories)
        if not listed:
            return None
        at_risk = [f"--filter=R {os.fsdecode(one)}" for one in ANY_NAME]
        rules = [*self._lane_rules(), "--filter=P */", *at_risk, "--filter=P *"]
        options = ["-r" if recursive else "-d", "-n", "--out-format=%i %n", *self._risk_options()]
        arguments = [*self._options_for_temporary_files(rules), *options, "--", "./", self.target()]
        # With a slash at its end, rsync would not look for what only the target has below a directory.
        lines = _list(listed, b"" if recursive else b"/")
        return Run(Shape.SEARCH, arguments, lines, frozenset(listed), is_dry=True)

    def leftover_runs(self, found: Iterable[bytes]) -> Iterator[Run]:
        """Yield the runs that remove the temporary files of these paths, and delete nothing else."""
        for some in chunks(found):
            at_risk = [f"--filter=R {whole_pattern(path)}" for path in some]
            rules = [*self._lane_rules(), "--filter=P */", *at_risk, "--filter=P *"]
            # Without a limit: they are ours, and no part of any tree.
            yield self._risk_run(Shape.LEFTOVERS, some, self._options_for_temporary_files(rules))

    def _options_for_temporary_files(self, rules: Sequence[str]) -> list[str]:
        words = [word for word in self._options(rules) if not _NOT_FOR_TEMPORARY_FILES.match(word)]
        # What cannot be read keeps nothing else from being found: each name is looked up by itself.
        return [*words, "--ignore-errors"]

    def _risk_options(self) -> list[str]:
        return ["--existing", "--ignore-existing", "--delete", *self._list_options()]

    def _risk_run(self, shape: Shape, paths: Sequence[bytes], options: Sequence[str]) -> Run:
        """Return the run that deletes, in the directories of `paths`, what the rules put at risk."""
        levels = {path.rpartition(b"/")[0] for path in paths}
        arguments = [*options, "-d", *self._risk_options(), "--info=stats2"]
        return Run(
            shape,
            [*arguments, "--", "./", self.target()],
            _list(sorted(levels), b"/"),
            frozenset(paths),
        )

    def presence_run(self) -> Run:
        """Return the run that fails if the target is missing, and changes nothing but its root's attributes.

        A daemon without chroot makes a directory below its module anew for a recursive run, `/.` or not; a
        dry run succeeds without it. This is the shape that it refuses.
        """
        run = self._list_run(Shape.PROBE, ["-d", "--existing", "--ignore-existing"], [b""])
        assert run is not None, "the root is listed"
        return run

    def resend_probe(self, path: bytes) -> Run:
        """Return a dry run that itemizes `path`, just sent, if the target did not keep its nanoseconds."""
        return self._precise_run(Shape.PROBE, path, "-n", "-i")

    def directory_run(self, path: bytes) -> Run:
        """Return the run that gives a directory its time to the nanosecond, as far as the target can."""
        # Of the root, what is in it is listed too: that is left alone.
        return self._precise_run(Shape.ENTRIES, path, "--existing", "--ignore-existing", *self._max_delete())

    def _precise_run(self, shape: Shape, path: bytes, *more: str) -> Run:
        options = [word for word in self._options(window=False) if word not in _NOT_IN_A_PROBE]
        arguments = [*options, "--modify-window=-1", "-d", *more, *self._list_options()]
        return Run(shape, [*arguments, "--", "./", self.target()], _list([path]), frozenset({path}))

    def confine_probe(self) -> Run:
        """Return the command that succeeds if our rsync knows `--confine-root`."""
        return Run(Shape.PROBE, [self._sync.rsync.binary, "--confine-root=/", "--version"], b"", frozenset())

    @property
    def batches_delete(self) -> bool:
        """Whether a batch deletes what was seen to go."""
        return self._sync.delete in (Delete.ALWAYS, Delete.RUNNING)

    @property
    def full_sync_deletes(self) -> bool:
        """Whether a full sync deletes on the target at all."""
        return self._sync.delete in (Delete.ALWAYS, Delete.STARTUP)

    def target(self) -> str:
        """Return the target so that rsync fails, instead of creating it, where it is missing."""
        return self._base() + "."

    def creating_target(self) -> str:
        """Return the target so that rsync creates its last component where it is missing."""
        return self._base()

    def _base(self) -> str:
        text = self._sync.target.text
        if self._sync.target.kind is TargetKind.SSH and text.endswith(":"):
            return text + "./"
        return text.rstrip("/") + "/"

    def _list_run(
        self, shape: Shape, options: list[str], paths: Iterable[bytes], suffix: bytes = b""
    ) -> Run | None:
        listed = sorted(paths)
        if not listed:
            return None
        recurses = shape in (Shape.EXACT_SUBTREES, Shape.SUBTREES)
        progress = self._progress() if recurses else ["--info=stats2"]
        is_level = shape in (Shape.LEVELS, Shape.UNREAD_LEVELS)
        leaves_out = shape is Shape.SUBTREES or (is_level and self._sync.follows_links)
        rules = [] if shape is Shape.LARGE else self._lane_rules()
        rules += self._unreadable_rules() if leaves_out else []
        arguments = [*self._options(rules), *options, *self._list_options(), *self._max_delete(), *progress]
        return Run(shape, [*arguments, "--", "./", self.target()], _list(listed, suffix), frozenset(listed))

    def _list_options(self) -> list[str]:
        # --ignore-missing-args: what vanished since we looked has its own event under way.
        # --force: a directory that became a file may hold something on the target.
        return ["--from0", "--files-from=-", "--ignore-missing-args", "--force"]

    def _max_delete(self) -> list[str]:
        # For every run that may delete, if only by --force: what was counted before may have grown since.
        if self.allowance is None:
            return []
        # A daemon's client ends with 0 all the same: that the limit was reached is seen by the one beyond.
        beyond = 1 if self.allowance and self._sync.target.kind is TargetKind.DAEMON else 0
        return [f"--max-delete={self.allowance + beyond}"]

    def _progress(self) -> list[str]:
        return ["--info=stats2,progress2"]

    def _lane_rules(self) -> list[str]:
        """Return rules that leave alone what the lane of large files sends, half-sent files included."""
        rules = []
        for path in sorted(self.in_lane):
            rules.append(f"--filter=P {os.fsdecode(pattern_of(path))}")
            rules.append(f"--exclude={whole_pattern(path)}")
        return rules

    def _unreadable_rules(self) -> list[str]:
        # Beyond a command line's worth there is no point: then everything is tried, and fails, together.
        parts = list(chunks(self.unreadable))
        return [f"--exclude={whole_pattern(path)}" for path in parts[0] if path] if len(parts) == 1 else []

    def _options(self, before: Sequence[str] = (), *, window: bool = True) -> list[str]:
        """Return what every command begins with; `before` are rules that go before the sync's own."""
        traits = self.traits if window else replace(self.traits, nanoseconds=None)
        options = common_options(self._sync, traits, self.source_root, self.connection)
        return [*options, *before, *self._filters.rsync_arguments(), *self._sync.rsync.extra]


def _list(paths: Iterable[bytes], suffix: bytes = b"") -> bytes:
    """Return a --from0 list. Without `./`, rsync drops names that begin with `#` or `;`, in silence."""
    return b"".join(b"./" + path + (suffix if path else b"") + b"\0" for path in paths)


_COUNTS = re.compile(
    rb"^(?:Number of files: (?P<listed>\d+)"
    rb"|Number of created files: (?P<made>\d+)"
    rb"|Number of regular files transferred: (?P<files>\d+)"
    rb"|Number of deleted files: (?P<deleted>\d+)"
    rb"|Total transferred file size: (?P<bytes>\d+))",
    re.MULTILINE,
)


def statistics(output: bytes) -> Statistics:
    """Return the figures that `--info=stats2` has printed; zero where it did not come to that."""
    counts: dict[str, int] = {}
    for match in _COUNTS.finditer(output):
        assert match.lastgroup is not None
        counts[match.lastgroup] = int(match[match.lastgroup])
    return Statistics(**counts)


_PERCENT = re.compile(rb"\s(\d{1,3})%\s")


def percent(output: bytes) -> int | None:
    """Return the newest percentage that `--info=progress2` has printed in this piece of output."""
    found = _PERCENT.findall(output)
    return min(100, int(found[-1])) if found else None
