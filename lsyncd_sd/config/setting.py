# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to know about one setting, an entry of the table in settings.py, and about its value."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lsyncd_sd.config.values import ValueType


class Scope(enum.StrEnum):
    """Where a setting stands: at the top of a file, in a sync (or the defaults), or in a section of that."""

    TOP = "top"
    SYNC = "sync"
    RSYNC = "rsync"
    SSH = "ssh"
    BRAKE = "brake"


class Effect(enum.StrEnum):
    """What a changed value does at a reload; the value completes "A reload …"."""

    RESTART = "restarts the sync"
    NEW = "ends the old sync and begins a new one with a full sync"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    `default` is what holds when the key is not given (None: nothing is set), `follows` names the setting
    whose value it takes instead, and `default_words` says it where a value cannot. `example` is YAML.
    `option` is the option of rsync that a true or given value renders to (with its value behind `=` if it
    takes one), `option_if_false` what an explicit false renders to. One that is `required` is not where
    the setting `instead` is given; both together are an error.
    """

    name: str
    scope: Scope
    type: ValueType
    default: Any
    help: str
    example: str
    unit: str = ""
    default_words: str = ""
    follows: str = ""
    required: bool = False
    instead: str = ""
    in_defaults: bool = True
    effect: Effect = Effect.RESTART
    option: str = ""
    option_if_false: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """A value that a file gives, and where; the value of a section is again a mapping of given values."""

    value: Any
    place: str


Values = Mapping[str, Given]
