# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests what the keys of `rsync:` mean together: for which syncs they are, what is risky, whose rules."""

from __future__ import annotations

import pytest

from lsyncd_sd.config.model import Sync
from lsyncd_sd.config.reader import read_text
from lsyncd_sd.errors import ConfigurationError, Problem


def read(text: str) -> tuple[tuple[Sync, ...], list[Problem]]:
    configuration, problems = read_text(text, "home.yaml")
    return configuration.syncs, problems


def sync_of(target: str, rsync: str, more: str = "") -> Sync:
    (sync,) = read(f"source: /source\ntarget: '{target}'\nrsync: {{{rsync}}}\n{more}")[0]
    return sync


# ---- risks


@pytest.mark.parametrize(
    ("rsync", "message"),
    [
        ("copy_links: true", "copy_links: what is outside of the source can get to the target"),
        ("copy_unsafe_links: true", "copy_unsafe_links: what is outside of the source"),
        ("copy_dirlinks: true", "copy_dirlinks: what is outside of the source"),
        ("keep_dirlinks: true", "keep_dirlinks: files outside of the target can be written and deleted"),
        ("append: true", "append: files that were rewritten or became shorter are not mirrored"),
        ("append_verify: true", "append_verify: files that were rewritten or became shorter are not"),
        ("dry_run: true", "dry_run: nothing is changed on the target"),
        ("quiet: true", "quiet: it has no effect here"),
        ("verbose: true", "verbose: it has no effect here"),
    ],
)
def test_what_is_risky_is_a_warning_at_its_place(rsync: str, message: str) -> None:
    _syncs, problems = read(f"source: /a\ntarget: h:/b\nrsync:\n  {rsync}\n")
    (problem,) = problems
    assert problem.is_warning
    assert problem.place == f"home.yaml:4:{rsync.index(':') + 5}"
    assert problem.message.startswith(message)
    assert problem.hint


def test_what_is_turned_off_is_no_risk() -> None:
    off = ", ".join(f"{name}: false" for name in ("copy_links", "append", "dry_run", "verbose", "backup"))
    assert read(f"source: /a\ntarget: h:/b\nrsync: {{{off}}}\n")[1] == []


# ---- for some syncs only


def test_in_the_defaults_a_key_is_for_those_syncs_that_can_have_it() -> None:
    (local, ssh, daemon), problems = read(
        """
        defaults: {rsync: {rsh: my-ssh, delete_excluded: true, password_file: /secret}}
        syncs:
          - {name: a, source: /a, target: /m, delete: false}
          - {name: b, source: /b, target: 'h:/b', delete: startup}
          - {name: c, source: /c, target: 'h::c', delete: running}
        """
    )
    assert problems == []
    assert (local.rsync.rsh, ssh.rsync.rsh, daemon.rsync.rsh) == (None, "my-ssh", None)
    assert [sync.rsync.is_on("delete_excluded") for sync in (local, ssh, daemon)] == [False, True, False]
    assert [sync.rsync.password_file for sync in (local, ssh, daemon)] == [None, None, "/secret"]


def test_ones_own_way_to_log_in_goes_before_that_of_the_defaults() -> None:
    (one,), _ = read("defaults: {rsync: {rsh: x}}\nsyncs: [{source: /a, target: 'h:/b', ssh: {port: 5}}]")
    assert (one.rsync.rsh, one.ssh.port) == (None, 5)
    (one,), _ = read("defaults: {ssh: {port: 5}}\nsyncs: [{source: /a, target: 'h:/b', rsync: {rsh: x}}]")
    assert (one.rsync.rsh, one.ssh.port) == ("x", None)


def test_two_ways_to_log_in_are_one_too_many_in_the_defaults_too() -> None:
    with pytest.raises(ConfigurationError, match="rsh: 'ssh' is given as well"):
        read("defaults: {rsync: {rsh: x}, ssh: {port: 5}}\nsyncs: [{source: /a, target: 'h:/b'}]")


# ---- folders of rsync's own


@pytest.mark.parametrize(
    ("target", "folder", "inside"),
    [
        ("/m/t", ".old", ".old"),
        ("/m/t", "a/b", "a/b"),
        ("/m/t", "/m/t/a/b", "a/b"),
        ("/m/t", "../t/x", "x"),
        ("/m/t", "../x", None),
        ("/m/t", "/m/tx", None),
        ("/m/t", "/x", None),
        ("h:/m/t", "/m/t/x", "x"),
        ("h:/m/t", "../../m/t/x", "x"),
        ("h:/m/t", "/m/x", None),
        ("h:t", "x", "x"),
        ("h:t", "../x", None),
        ("h:t", "../t/x", "x"),
        ("h:t", "/home/t/x", None),
        ("h:", "x", "x"),
        ("h:", "../x", None),
        ("h::mod/t", "x", "x"),
        ("h::mod/t", "/t/x", "x"),
        ("h::mod/t", "/x", None),
        ("h::mod", "/x", "x"),
        ("h::mod", "x", "x"),
    ],
)
def test_a_folder_within_the_target_is_hidden_and_protected(
    target: str, folder: str, inside: str | None
) -> None:
    sync = sync_of(target, f"backup_dir: {folder}")
    texts = [rule.text for rule in sync.rsync.own_rules]
    assert texts == ([] if inside is None else [f"H /{inside}/", f"P /{inside}/"])


@pytest.mark.parametrize(
    ("rsync", "rules"),
    [
        ("temp_dir: in", ["H /in/", "P /in/"]),
        ("partial_dir: .part", ["Hp .part/", "Pp .part/"]),
        ("partial_dir: /target/p", ["H /p/", "P /p/"]),
        ("partial_dir: /p", []),
        ("backup: true", ["H *~", "P *~"]),
        ("backup: true, suffix: '.b[k]'", [r"H *.b\[k]", r"P *.b\[k]"]),
        ("backup: true, backup_dir: x, suffix: .bak", ["H /x/", "P /x/"]),
        ("backup: true, backup_dir: 'x[1]*'", [r"H /x\[1]\*/", r"P /x\[1]\*/"]),
        (r"backup_dir: 'back\slash'", [r"H /back\slash/", r"P /back\slash/"]),
        ("temp_dir: /tmp, partial_dir: .p", ["Hp .p/", "Pp .p/"]),
        ("temp_dir: /tmp, inplace: true", []),
        ("", []),
    ],
)
def test_what_rsync_keeps_for_itself_has_rules_of_its_own(rsync: str, rules: list[str]) -> None:
    assert [rule.text for rule in sync_of("/target", rsync).rsync.own_rules] == rules


def test_no_rule_of_the_sync_takes_them_away() -> None:
    sync = sync_of("/target", "backup_dir: .old, delete_excluded: true", "filter: ['+ .old/', '!', 'R *']\n")
    filters = sync.make_filter()
    assert filters.excludes(b".old", True)
    assert filters.protects(b".old", True)
    assert filters.rsync_arguments()[:2] == ["--filter=H /.old/", "--filter=P /.old/"]


def test_where_a_key_stands_makes_no_difference() -> None:
    one = sync_of("/t", "backup_dir: .old")
    other = sync_of("/t", "\n  backup_dir: .old\n  ")
    assert one.rsync.places != other.rsync.places
    # what outlives the process is kept under a hash of it
    assert repr(one.rsync) == repr(other.rsync)
    assert one.rsync == other.rsync
