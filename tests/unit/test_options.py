# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests what every rsync command begins with, as far as test_command.py does not: links, ssh, some keys."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.syncs import PLAIN_RSYNC, PLAIN_SSH, make_sync

from lsyncd_sd.config.model import RsyncOptions
from lsyncd_sd.config.target import parse_target
from lsyncd_sd.mirror.options import Traits, common_options, ssh_command
from lsyncd_sd.mirror.process import environment


def common(**changes: Any) -> list[str]:
    return common_options(make_sync(**changes), Traits(), "/source")


# ---- hard links


def test_with_hard_links_the_list_is_made_at_once() -> None:
    linked = replace(PLAIN_RSYNC, keys=(("hard_links", True),))
    assert "--no-inc-recursive" in common(rsync=linked)
    assert "--no-inc-recursive" not in common()


# ---- ssh

SSH_DEFAULTS = "-o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"


def test_ssh_fails_rather_than_asks() -> None:
    assert ssh_command(PLAIN_SSH) == f"ssh {SSH_DEFAULTS}"
    words = common(target=parse_target("host:/target"))
    assert words[words.index("-e") + 1] == f"ssh {SSH_DEFAULTS}"


def test_the_users_ssh_options_come_first() -> None:
    ssh = replace(
        PLAIN_SSH,
        binary="/opt/ssh",
        port=2222,
        identity_file="/etc/key",
        user="mirror",
        options=(("ConnectTimeout", "5"), ("Ciphers", "a,b")),
        extra=("-4", "-C"),
    )
    assert ssh_command(ssh) == (
        "/opt/ssh -p 2222 -i /etc/key -o IdentitiesOnly=yes -l mirror -o ConnectTimeout=5 -o Ciphers=a,b "
        f"{SSH_DEFAULTS} -4 -C"
    )


def test_words_are_quoted_by_rsyncs_rules() -> None:
    ssh = replace(PLAIN_SSH, binary="/opt/my ssh", extra=("it's", 'say "hi"', "", "tab\there", "$(x)", "*"))
    assert ssh_command(ssh) == (f"'/opt/my ssh' {SSH_DEFAULTS} 'it''s' 'say \"hi\"' '' 'tab\there' $(x) *")


def test_a_real_rsync_gives_ssh_these_words(tmp_path: Path) -> None:
    program = tmp_path / "my ssh"
    program.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > '{tmp_path}/words'\nexit 255\n")
    program.chmod(0o755)
    odd = (
        "it's",
        '"',
        "'",
        "''",
        'say "hi"',
        "",
        "tab\there",
        "new\nline",
        "$(x)",
        "`x`",
        "\\",
        "a b ",
        "ü",
        "*",
    )
    ssh = replace(PLAIN_SSH, binary=str(program), extra=odd)
    arguments = [*common(target=parse_target("host:/target"), ssh=ssh), "-r", "--", "./", "host:/target"]
    subprocess.run(arguments, cwd=tmp_path, env=environment(), capture_output=True, check=False)
    words = (tmp_path / "words").read_text().split("\0")
    assert words[: words.index("host")] == [*SSH_DEFAULTS.split(), *odd]


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
