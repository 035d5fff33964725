# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that the table of settings is whole, and that nothing in it contradicts the rest."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lsyncd_sd.config.model import SshOptions, Sync
from lsyncd_sd.config.nodes import parse
from lsyncd_sd.config.report import Report
from lsyncd_sd.config.rules import RuleFiles
from lsyncd_sd.config.setting import Scope, Setting
from lsyncd_sd.config.settings import SETTINGS, default_settings, settings_of
from lsyncd_sd.config.strangers import _LSYNCD, _LSYNCD_RSYNC, _LSYNCD_SSH, _TO_COME, snake_case
from lsyncd_sd.config.values import Flag, Section


def names(scope: Scope) -> set[str]:
    return set(settings_of(scope))


def ident(setting: Setting) -> str:
    return f"{setting.scope}-{setting.name}"


@pytest.mark.parametrize("setting", SETTINGS, ids=ident)
def test_every_setting_says_what_it_is(setting: Setting) -> None:
    assert re.fullmatch("[a-z][a-z0-9_]*", setting.name)
    assert re.fullmatch(r"[A-Z].*[.)]", setting.help)
    assert setting.type.words
    assert setting.example
    if isinstance(setting.type, Flag):
        assert setting.default is not None or setting.default_words


@pytest.mark.parametrize(
    "setting", [one for one in SETTINGS if not isinstance(one.type, Section)], ids=ident
)
def test_every_example_is_good(setting: Setting, tmp_path: Path) -> None:
    report = Report("example")
    example = setting.example
    if isinstance(setting.type, RuleFiles):
        example = example.replace("/etc/lsyncd.d", str(tmp_path))
        Path(example).touch()
    node = parse(example, report)
    assert node is not None
    assert setting.type.read(node, setting.name, report) is not None
    assert report.problems == []


def test_no_name_is_there_twice_in_a_scope() -> None:
    assert len({(setting.scope, setting.name) for setting in SETTINGS}) == len(SETTINGS)


def test_no_option_of_rsync_is_there_twice() -> None:
    options = [option for one in SETTINGS for option in (one.option, one.option_if_false) if option]
    assert len(set(options)) == len(options)


# these say how rsync is run
NOT_RENDERED = {
    "archive", "binary", "delete_excluded", "extra", "password_file", "protect_args", "quiet", "rsh",
    "verbose",
}  # fmt: skip


def test_only_rsync_settings_render_to_options() -> None:
    for setting in SETTINGS:
        rendered = setting.scope is Scope.RSYNC and setting.name not in NOT_RENDERED
        assert bool(setting.option) is rendered


def test_a_followed_setting_comes_first() -> None:
    known = list(settings_of(Scope.RSYNC))
    for setting in settings_of(Scope.RSYNC).values():
        if setting.follows:
            assert known.index(setting.follows) < known.index(setting.name)


def test_every_setting_has_its_field() -> None:
    extra = {"file_stem", "rules", "name_place", "source_place", "target_place"}
    # what becomes of `targets`
    extra |= {"others", "is_one_of_several"}
    # what `max_processes` is in the defaults
    extra |= {"max_processes_of_file"}
    # the brake's are few enough to be the sync's own
    wanted = names(Scope.SYNC) - {"brake", "targets"} | names(Scope.BRAKE)
    assert {field.name for field in fields(Sync)} - extra == wanted
    assert {field.name for field in fields(SshOptions)} == names(Scope.SSH)


def test_the_defaults_take_everything_but_what_is_one_syncs_own() -> None:
    assert names(Scope.SYNC) - set(default_settings()) == {"name", "source", "target", "targets"}


def test_what_is_to_come_or_foreign_is_not_there_already() -> None:
    for scope in Scope:
        assert not names(scope) & set(_TO_COME[scope])
    assert not (names(Scope.SYNC) | names(Scope.TOP)) & set(_LSYNCD)
    assert not names(Scope.RSYNC) & set(_LSYNCD_RSYNC)
    assert not names(Scope.SSH) & set(_LSYNCD_SSH)


@pytest.mark.parametrize(
    ("key", "snake"),
    [
        ("excludeFrom", "exclude_from"),
        ("Source", "source"),
        ("max-changes", "max_changes"),
        ("ipv4", "ipv4"),
    ],
)
def test_other_spellings_are_recognised(key: str, snake: str) -> None:
    assert snake_case(key) == snake


# the keys of `rsync = {…}` in Lsyncd 2.3.1
LSYNCD_RSYNC_KEYS = frozenset(
    (
        "_extra", "acls", "append", "append_verify", "archive", "backup", "backup_dir", "binary", "bwlimit",
        "checksum", "chmod", "chown", "compress", "copy_dirlinks", "copy_links", "copy_unsafe_links",
        "cvs_exclude", "delete_excluded", "dry_run", "executability", "existing", "group", "groupmap",
        "hard_links", "ignore_times", "inplace", "ipv4", "ipv6", "keep_dirlinks", "links", "omit_dir_times",
        "omit_link_times", "one_file_system", "owner", "password_file", "perms", "protect_args",
        "prune_empty_dirs", "quiet", "rsh", "rsync_path", "sparse", "suffix", "temp_dir", "timeout", "times",
        "update", "usermap", "verbose", "whole_file", "xattrs",
    )
)  # fmt: skip


def test_every_key_that_lsyncd_gives_to_rsync_is_a_setting_to_come_or_has_a_hint() -> None:
    known = names(Scope.RSYNC) | set(_TO_COME[Scope.RSYNC]) | set(_LSYNCD_RSYNC)
    elsewhere = names(Scope.SYNC)
    assert LSYNCD_RSYNC_KEYS - known - elsewhere == set()
    assert len(LSYNCD_RSYNC_KEYS) == 51
