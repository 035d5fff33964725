# SPDX-License-Identifier: GPL-2.0-or-later
"""What to say about a key that is not in the table: a typing error, Lsyncd's word, or something to come."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from lsyncd_sd.config.setting import Scope
from lsyncd_sd.config.settings import SETTINGS

_YET = "this version does not have it yet"
_JOURNAL = "there is nothing to set: messages go to the journal, see 'log_level'"
_SYSTEMD = "there is nothing to set: systemd runs it"
_STATUS = "there is nothing to set: see 'lsyncd-sd status'"
_SSH = "use the section 'ssh' of the sync"

# keys that a later version will have, so that nobody hunts for a typing error
_TO_COME = {
    Scope.TOP: (),
    Scope.SYNC: (
        "actions", "hooks", "host", "startup", "targetdir",
    ),
    Scope.RSYNC: (),
    Scope.SSH: (),
    Scope.BRAKE: (),
}  # fmt: skip

# words of Lsyncd, in snake case, that are not simply ours
_LSYNCD = {
    "max_delays": "use 'max_changes'",
    "exitcodes": "use 'exit_codes'",
    "rsync_exit_codes": "use 'exit_codes'",
    "ssh_exit_codes": "use 'exit_codes'",
    "settings": "use 'defaults'",
    "sync": "use 'syncs', a list",
    "init": _YET,
    "on_move": "use 'mode'",
    "crontab": "a timer of systemd does this",
    "tunnel": "a service of systemd does this",
    "insist": "there is nothing to set: lsyncd-sd always goes on trying",
    "onepass": "there is nothing to set: see 'lsyncd-sd --help'",
    "logfile": _JOURNAL,
    "logfacility": _JOURNAL,
    "logident": _JOURNAL,
    "log": "use 'log_level'",
    "pidfile": _SYSTEMD,
    "nodaemon": _SYSTEMD,
    "status_file": _STATUS,
    "status_interval": _STATUS,
    "inotify_mode": "use 'watch_modify'",
}

_LSYNCD_RSYNC = {
    "_extra": "use 'extra'",
    "recursive": "there is nothing to set: lsyncd-sd decides for each run what is listed and how deep",
    "dirs": "there is nothing to set: lsyncd-sd decides for each run what is listed and how deep",
    "cvs_exclude": "batches cannot follow .cvsignore files: write the patterns into 'exclude', as '*.o'",
    "prune_empty_dirs": "a batch would take full directories for empty ones: exclude the directories",
    "partial": "it would put unfinished files in their places: use 'partial_dir'",
}

_LSYNCD_SSH = {"_extra": "use 'extra'", "key": "use 'identity_file'"}

_FOREIGN: Mapping[Scope, Mapping[str, str]] = {
    Scope.TOP: _LSYNCD,
    Scope.SYNC: _LSYNCD,
    Scope.RSYNC: _LSYNCD_RSYNC,
    Scope.SSH: _LSYNCD_SSH,
    Scope.BRAKE: {},
}
_PLACES = {
    Scope.TOP: "it belongs to the top of the file",
    Scope.SYNC: "it belongs to the sync itself",
    Scope.RSYNC: "it belongs under 'rsync:'",
    Scope.SSH: "it belongs under 'ssh:'",
    Scope.BRAKE: "it belongs under 'brake:'",
}


def snake_case(key: str) -> str:
    """Return a key as it would be written here: excludeFrom is exclude_from, Source is source."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).replace("-", "_").lower()


def hint_for(key: str, scope: Scope, known: list[str]) -> str:
    """Return what to tell the user about an unknown key; `known` are the keys that could stand there."""
    snake = snake_case(key)
    if snake in known:
        return f"did you mean '{snake}'?"
    if snake in _TO_COME[scope]:
        return _YET
    if snake in _FOREIGN[scope]:
        return _FOREIGN[scope][snake]
    elsewhere = next((setting for setting in SETTINGS if setting.name == snake), None)
    if elsewhere is not None:
        return _PLACES[elsewhere.scope]
    # a word cut to the length of ours at most: difflib's time grows with the square of it
    near = difflib.get_close_matches(snake[:40], known, n=1, cutoff=0.7)
    if near:
        return f"did you mean '{near[0]}'?"
    for other, names in _TO_COME.items():
        if snake in names:
            return f"{_PLACES[other]}, but {_YET}"
    return "lsyncd-sd.yaml(5) lists the settings"
