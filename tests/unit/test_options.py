# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests what every rsync command begins with, as far as test_command.py does not: links, some keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from helpers.syncs import PLAIN_RSYNC, make_sync

from lsyncd_sd.config.model import RsyncOptions
from lsyncd_sd.config.target import parse_target
from lsyncd_sd.mirror.options import Traits, common_options


def common(**changes: Any) -> list[str]:
    return common_options(make_sync(**changes), Traits(), "/source")


# ---- hard links


def test_with_hard_links_the_list_is_made_at_once() -> None:
    linked = replace(PLAIN_RSYNC, keys=(("hard_links", True),))
    assert "--no-inc-recursive" in common(rsync=linked)
    assert "--no-inc-recursive" not in common()


# ---- keys that are no options


def with_keys(**keys: bool | str) -> RsyncOptions:
    return replace(PLAIN_RSYNC, keys=tuple(keys.items()))


def test_another_command_goes_in_the_place_of_ssh() -> None:
    words = common(target=parse_target("host:/t"), rsync=with_keys(rsh="my 'odd' ssh"))
    assert words[words.index("-e") + 1] == "my 'odd' ssh"


@pytest.mark.parametrize(
    ("traits", "keys", "option"),
    [
        (Traits(), {}, "-s"),
        (Traits(), {"protect_args": True}, "-s"),
        (Traits(), {"protect_args": False}, "--no-s"),
        (Traits(secluded=False), {"protect_args": True}, "--no-s"),
    ],
)
def test_arguments_are_kept_from_the_shell_unless_told_otherwise(
    traits: Traits, keys: dict[str, bool], option: str
) -> None:
    words = common_options(make_sync(rsync=with_keys(**keys)), traits, "/source")
    assert {"-s", "--no-s"} & set(words) == {option}


@pytest.mark.parametrize("target", ["/t", "h:/t", "h::t"])
@pytest.mark.parametrize("key", ["backup", "backup_dir", "temp_dir", "partial_dir", "inplace"])
def test_only_what_the_source_side_reads_is_confined(target: str, key: str) -> None:
    sync = make_sync(target=parse_target(target), rsync=with_keys(**{key: True}))
    words = common_options(sync, Traits(confines=True), "/source")
    assert ("--confine-root=/source" in words) is (target != "/t" or key == "inplace")
