# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of mirror/sshcommand.py: the words, their order, and how a real rsync hands them on."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from helpers.syncs import PLAIN_SSH, make_sync

from lsyncd_sd.config.target import parse_target
from lsyncd_sd.mirror.options import Traits, common_options
from lsyncd_sd.mirror.process import environment
from lsyncd_sd.mirror.sshcommand import keeping_command, login_command, over_command, remote_shell

DEFAULTS = "-o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
GIVEN = replace(
    PLAIN_SSH,
    binary="/opt/ssh",
    port=2222,
    identity_file="/etc/key",
    user="mirror",
    options=(("ConnectTimeout", "5"), ("ControlMaster", "no")),
    extra=("-4", "-C"),
)
ALL_GIVEN = (
    "-p 2222 -i /etc/key -o IdentitiesOnly=yes -l mirror -o ConnectTimeout=5 -o ControlMaster=no "
    f"{DEFAULTS} -4 -C"
)
SOCKET = Path("/run/m1")


def test_ssh_fails_rather_than_asks() -> None:
    assert login_command(PLAIN_SSH) == ["ssh", *DEFAULTS.split()]
    words = common_options(make_sync(target=parse_target("host:/target")), Traits(), "/source")
    assert words[words.index("-e") + 1] == f"ssh {DEFAULTS}"


def test_the_users_options_come_before_the_defaults() -> None:
    assert login_command(GIVEN) == ["/opt/ssh", *ALL_GIVEN.split()]


def test_what_keeps_a_connection_puts_that_first() -> None:
    words = keeping_command(GIVEN, parse_target("host:/target"), SOCKET)
    first = "/opt/ssh -N -S /run/m1 -o ControlMaster=yes -o ControlPersist=no -o ForkAfterAuthentication=no"
    local = ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo ready"]
    assert words == [*first.split(), *local, *ALL_GIVEN.split(), "--", "host"]


def test_the_target_may_say_who_logs_in() -> None:
    words = keeping_command(PLAIN_SSH, parse_target("me@[::1]:/target"), SOCKET)
    assert words[-4:] == ["-l", "me", "--", "::1"]


def test_what_goes_over_a_connection_never_logs_in_by_itself() -> None:
    words = "/opt/ssh -F none -S /run/m1 -o ControlMaster=no -o ProxyCommand=false -o BatchMode=yes"
    assert over_command(GIVEN, SOCKET) == words.split()
    options = common_options(make_sync(target=parse_target("host:/t")), Traits(), "/source", words.split())
    assert options[options.index("-e") + 1] == words


def test_words_are_quoted_by_rsyncs_rules() -> None:
    words = ["/opt/my ssh", "-x", "it's", 'say "hi"', "", "tab\there", "$(x)", "*"]
    assert remote_shell(words) == "'/opt/my ssh' -x 'it''s' 'say \"hi\"' '' 'tab\there' $(x) *"


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
    common = common_options(make_sync(target=parse_target("host:/target"), ssh=ssh), Traits(), "/source")
    arguments = [*common, "-r", "--", "./", "host:/target"]
    subprocess.run(arguments, cwd=tmp_path, env=environment(), capture_output=True, check=False)
    words = (tmp_path / "words").read_text().split("\0")
    assert words[: words.index("host")] == [*DEFAULTS.split(), *odd]
