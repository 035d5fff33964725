# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration as the rest of the program sees it: frozen values, compared as a whole on reload."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from lsyncd_sd.plan.filters import Filter, WrittenRule

RSYNCSSH = "rsyncssh"
"""The mode in which what moves is moved on the target, by a shell there."""

DIRECT = "direct"
"""The mode for targets on this machine."""


class TargetKind(enum.Enum):
    """How rsync reaches a target."""

    LOCAL = "local"
    SSH = "ssh"
    DAEMON = "daemon"


class Delete(enum.Enum):
    """When what is gone from the source is deleted on the target; the values are what the file says."""

    ALWAYS = "true"
    NEVER = "false"
    STARTUP = "startup"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a sync goes.

    `text` is what rsync gets, without slashes at its end. `host` is "" for a local target, else lower case
    and without user, port or the brackets of IPv6. `path` is what follows the host: for a daemon it begins
    with the module's name, for ssh it is relative to the login directory if it has no leading slash ("" is
    that directory itself). `port` is that of an rsync daemon, None for the usual one and for other kinds.
    """

    text: str
    kind: TargetKind
    host: str
    path: str
    user: str = ""
    port: int | None = None


@dataclass(frozen=True, slots=True)
class RsyncOptions:
    """The `rsync:` section.

    `flags` is rendered from `keys`, the effective value of every key of the section but binary and extra
    (None where rsync decides); both are kept because a person reads the keys and rsync the flags. Some keys
    render to nothing: they say how a run is made. `own_rules` go before all others: they are for
    what rsync keeps for itself in the target. `places` says where the keys that are given stand.
    """

    binary: str
    flags: tuple[str, ...]
    extra: tuple[str, ...]
    keys: tuple[tuple[str, bool | str | None], ...] = ()
    own_rules: tuple[WrittenRule, ...] = ()
    places: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    def is_on(self, key: str) -> bool:
        """Tell whether the key of a flag is true; rsync's own choice is not."""
        return dict(self.keys).get(key) is True

    def is_off(self, key: str) -> bool:
        """Tell whether the key of a flag is false; rsync's own choice is not."""
        return dict(self.keys).get(key) is False

    def is_given(self, key: str) -> bool:
        """Tell whether the key of a flag is true, or that of a text has any."""
        return bool(dict(self.keys).get(key))

    @property
    def password_file(self) -> str | None:
        """The file with the password for an rsync daemon."""
        return self.text("password_file")

    @property
    def rsh(self) -> str | None:
        """The command in place of ssh."""
        return self.text("rsh")

    def text(self, key: str) -> str | None:
        """Return the value of the key of a text."""
        value = dict(self.keys).get(key)
        return value if isinstance(value, str) else None

    def place_of(self, key: str) -> str:
        """Return where a key stands, for messages."""
        return dict(self.places).get(key, "")


@dataclass(frozen=True, slots=True)
class SshOptions:
    """The `ssh:` section; all defaults for a target that is not reached over ssh."""

    binary: str
    port: int | None
    identity_file: str | None
    user: str | None
    options: tuple[tuple[str, str], ...]
    extra: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MaxDeletes:
    """How many entries may be deleted without asking: a number, a percentage of the source's, or, with
    neither, any number.
    """

    number: int | None = None
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class Sync:
    """One source and where it goes.

    `delay`, `open_file_delay` and `timeout` are seconds (a timeout of 0 is none). `batch_size_limit` is
    bytes, None for no limit. `max_processes` limits this sync, `max_processes_of_file` all syncs of its file
    together; None for no limit. `exit_codes` is sorted by code. `max_deletes` and `hold_first` are those of
    the section `brake:`. `file_stem` is the name of the file it came from without folder and suffix: state
    is kept under it and the name. `rules` is what filter, filter_from, exclude and exclude_from come to, in
    this order, with what their files held when they were read. `others` is the same sync to each further
    target, `target` being the first one; with `is_one_of_several`, what concerns this target alone must be
    told from the others. The places (`file:line:column`) are for messages only and make no difference
    between syncs.
    """

    name: str
    source: str
    target: Target
    mode: str
    delay: float
    max_changes: int
    max_processes: int | None
    open_file_delay: float
    watch_modify: bool
    batch_size_limit: int | None
    delete: Delete
    exclude: tuple[str, ...]
    timeout: int
    exit_codes: tuple[tuple[int, str], ...]
    log_level: str
    max_deletes: MaxDeletes
    rsync: RsyncOptions
    ssh: SshOptions
    file_stem: str
    exclude_from: tuple[str, ...] = ()
    filter: tuple[str, ...] = ()
    filter_from: tuple[str, ...] = ()
    rules: tuple[WrittenRule, ...] = ()
    hold_first: bool = True
    name_place: str = field(default="", compare=False)
    source_place: str = field(default="", compare=False)
    target_place: str = field(default="", compare=False)
    max_processes_of_file: int | None = None
    others: tuple[Sync, ...] = ()
    is_one_of_several: bool = False

    def each_target(self) -> tuple[Sync, ...]:
        """Return a sync for each target alone."""
        return (replace(self, others=()), *self.others)

    def make_filter(self) -> Filter:
        """Return what the rules decide."""
        return Filter.from_rules(
            self.rules,
            first=self.rsync.own_rules,
            delete_excluded=self.rsync.is_on("delete_excluded"),
        )

    @property
    def one_file_system(self) -> bool:
        """Whether what is mounted below the source is left out."""
        return self.rsync.is_on("one_file_system")

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is ever changed on the target."""
        return self.rsync.is_on("dry_run")

    @property
    def moves_on_target(self) -> bool:
        """Whether what moves in the source is moved on the target, too.

        Not where the target is no plain copy: where links are followed, or nothing new is made.
        """
        return not (self.follows_links or self.is_dry_run or self.rsync.is_on("existing"))

    @property
    def keeps_what_is_replaced(self) -> bool:
        """Whether rsync is to keep some of what it would replace on the target."""
        return any(self.rsync.is_given(key) for key in ("backup", "backup_dir", "update"))

    @property
    def follows_links(self) -> bool:
        """Whether what symbolic links lead to is mirrored in their place, for some links at least."""
        keys = ("copy_links", "copy_unsafe_links", "copy_dirlinks")
        return any(self.rsync.is_on(key) for key in keys)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one file says; `file` is its path as given, `stem` its name without folder and suffix."""

    file: str
    stem: str
    syncs: tuple[Sync, ...]
