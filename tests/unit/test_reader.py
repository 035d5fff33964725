# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that the reader takes what it should, and refuses everything else at its place with a reason."""

from __future__ import annotations

import os
import pathlib
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.config.model import Configuration, Delete, MaxDeletes, SshOptions, Sync
from lsyncd_sd.config.reader import MAXIMUM_BYTES, read_file, read_text
from lsyncd_sd.errors import ConfigurationError, ExitStatus, Problem

TWO = "source: /home\ntarget: host:/srv/home\n"


def read(text: str) -> Configuration:
    configuration, warnings = read_text(textwrap.dedent(text), "/etc/lsyncd.d/home.yaml")
    assert warnings == []
    return configuration


def read_one(text: str) -> Sync:
    (sync,) = read(text).syncs
    return sync


def problems_of(text: str | bytes) -> list[Problem]:
    with pytest.raises(ConfigurationError) as caught:
        read_text(text, "home.yaml")
    assert caught.value.exit_status is ExitStatus.USAGE
    return list(caught.value.problems)


# ---- what is good ----


def test_two_lines_are_a_configuration() -> None:
    configuration = read(TWO)
    assert (configuration.file, configuration.stem) == ("/etc/lsyncd.d/home.yaml", "home")
    (sync,) = configuration.syncs
    assert (sync.name, sync.source, sync.target.text) == ("home", "/home", "host:/srv/home")
    assert (sync.mode, sync.delay, sync.max_changes, sync.delete) == ("rsync", 5.0, 1000, Delete.ALWAYS)
    assert (sync.exclude, sync.timeout, sync.exit_codes, sync.log_level) == ((), 300, (), "info")
    assert (sync.open_file_delay, sync.watch_modify, sync.batch_size_limit) == (300.0, True, None)
    assert sync.max_deletes == MaxDeletes(percent=50)
    assert not sync.one_file_system
    assert (sync.rsync.binary, sync.rsync.extra) == ("rsync", ())
    assert sync.rsync.flags == ("-l", "-p", "-t", "-g", "-o", "-D")
    assert sync.ssh == SshOptions("ssh", None, None, None, (), ())
    assert sync.file_stem == "home"


def test_a_list_of_syncs_takes_what_the_defaults_say() -> None:
    one, two = read(
        """
        defaults:
          delay: 10
          exclude: ['*.tmp']
          exit_codes: {23: ok, 24: ok}
          rsync: {links: false, acls: true}
          ssh: {port: 2222, options: {A: a, B: b}}
        syncs:
          - {name: one, source: /a, target: "h:/a"}
          - name: two
            source: /b
            target: h:/b
            delay: 1
            exclude: x
            exit_codes: {24: vanished}
            rsync: {acls: false}
            ssh: {options: {B: c}}
        """
    ).syncs
    assert (one.delay, one.exclude, one.exit_codes) == (10.0, ("*.tmp",), ((23, "ok"), (24, "ok")))
    assert (one.rsync.flags, one.ssh.port) == (("-p", "-t", "-g", "-o", "-D", "-A"), 2222)
    assert one.ssh.options == (("A", "a"), ("B", "b"))
    assert (two.delay, two.exclude, two.exit_codes) == (1.0, ("x",), ((23, "ok"), (24, "vanished")))
    assert (two.rsync.flags, two.ssh.port) == (("-p", "-t", "-g", "-o", "-D"), 2222)
    assert two.ssh.options == (("A", "a"), ("B", "c"))


def test_defaults_for_ssh_and_daemons_pass_over_other_targets() -> None:
    local, daemon = read(
        """
        defaults: {ssh: {port: 2222}, rsync: {password_file: /etc/secret}}
        syncs:
          - {name: local, source: /a, target: /m/a}
          - {name: daemon, source: /b, target: "h::m"}
        """
    ).syncs
    assert local.ssh.port is None and daemon.ssh.port is None
    assert local.rsync.password_file is None
    assert daemon.rsync.password_file == "/etc/secret"  # noqa: S105


def test_a_sync_may_have_several_targets() -> None:
    sync = read_one(
        """
        source: /home
        targets:
          - /mnt/mirror
          - u@host:srv/home
          - "rsync://host:99/module/home"
        ssh: {port: 7}
        rsync: {password_file: /p, backup_dir: /mnt/mirror/kept}
        """
    )
    local, ssh, daemon = sync.each_target()
    assert [one.target.text for one in sync.each_target()] == [
        "/mnt/mirror",
        "u@host:srv/home",
        "rsync://host:99/module/home",
    ]
    assert [one.target_place for one in sync.each_target()] == [
        f"/etc/lsyncd.d/home.yaml:{place}" for place in ("4:5", "5:5", "6:5")
    ]
    # each has of the settings what it can use
    assert [one.ssh.port for one in (local, ssh, daemon)] == [None, 7, None]
    assert [one.rsync.password_file for one in (local, ssh, daemon)] == [None, None, "/p"]
    # and all have one filter: what is one's folder of backups is left alone everywhere
    assert local.rsync.own_rules
    assert local.make_filter().rsync_arguments() == ssh.make_filter().rsync_arguments()
    assert all(one.is_one_of_several and not one.others for one in sync.each_target())


def test_who_logs_in_where_a_target_does_not_say() -> None:
    sync = read_one("source: /home\ntargets: ['u@host:/a', 'host:/b']\nssh: {user: v}\n")
    assert [(one.target.user, one.ssh.user) for one in sync.each_target()] == [("u", None), ("", "v")]


def test_a_list_of_one_target_is_one_target() -> None:
    sync = read_one("source: /home\ntargets: ['host:/srv/home']\n")
    assert sync == read_one("source: /home\ntarget: host:/srv/home\n")
    assert sync.each_target() == (sync,)


def test_another_target_makes_another_sync() -> None:
    several = [read_one(f"source: /home\ntargets: [{text}]\n") for text in ("/a, /b", "/a, /c", "/b, /a")]
    assert several[0] not in several[1:]


def test_a_limit_counts_where_it_stands() -> None:
    one, two = read(
        """
        defaults: {max_processes: 4}
        syncs:
          - {name: one, source: /a, target: /b, max_processes: 2}
          - {name: two, source: /c, target: /d}
        """
    ).syncs
    assert [(sync.max_processes, sync.max_processes_of_file) for sync in (one, two)] == [(2, 4), (None, 4)]
    alone = read_one("source: /a\ntarget: /b\nmax_processes: 3\n")
    assert (alone.max_processes, alone.max_processes_of_file) == (3, None)


def test_one_sync_of_a_list_may_go_without_a_name() -> None:
    syncs = read("syncs: [{source: /a, target: /m}, {name: b, source: /b, target: /n}]").syncs
    assert [sync.name for sync in syncs] == ["home", "b"]


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [
        ("name: no", "name", "no"),
        ("name: 'yes'", "name", "yes"),
        ("name: 0755", "name", "0755"),
        ("delay: 5", "delay", 5.0),
        ("delay: 2.5", "delay", 2.5),
        ("delay: 5s", "delay", 5.0),
        ("delay: 5 m", "delay", 300.0),
        ("delay: '1.5h'", "delay", 5400.0),
        ("delay: 0", "delay", 0.0),
        ("delay: 7d", "delay", 604800.0),
        ("max_changes: 1", "max_changes", 1),
        ("open_file_delay: 1h", "open_file_delay", 3600.0),
        ("watch_modify: no", "watch_modify", False),
        ("batch_size_limit: 1", "batch_size_limit", 1),
        ("batch_size_limit: 500M", "batch_size_limit", 500 * 1024**2),
        ("batch_size_limit: '1.5 k'", "batch_size_limit", 1536),
        ("batch_size_limit: 2T", "batch_size_limit", 2 * 1024**4),
        ("brake: {max_deletes: 0}", "max_deletes", MaxDeletes(number=0)),
        ("brake: {max_deletes: 1000}", "max_deletes", MaxDeletes(number=1000)),
        ("brake: {max_deletes: 0%}", "max_deletes", MaxDeletes(percent=0)),
        ("brake: {max_deletes: '100 %'}", "max_deletes", MaxDeletes(percent=100)),
        ("brake: {max_deletes: unlimited}", "max_deletes", MaxDeletes()),
        ("brake: {}", "max_deletes", MaxDeletes(percent=50)),
        ("brake: {}", "hold_first", True),
        ("brake: {hold_first: no}", "hold_first", False),
        ("rsync: {one_file_system: yes}", "one_file_system", True),
        ("rsync: {whole_file: yes}", "one_file_system", False),
        ("delete: true", "delete", Delete.ALWAYS),
        ("delete: no", "delete", Delete.NEVER),
        ("delete: startup", "delete", Delete.STARTUP),
        ("delete: 'running'", "delete", Delete.RUNNING),
        ("exclude: '*.tmp'", "exclude", ("*.tmp",)),
        ("exclude: []", "exclude", ()),
        ("exclude: [a, '+ b', \"a\\nb\", ' x ', 7]", "exclude", ("a", "+ b", "a\nb", " x ", "7")),
        ("timeout: 0", "timeout", 0),
        ("timeout: 5m", "timeout", 300),
        ("exit_codes: {24: ok, 23: target-full, '30': fail}", "exit_codes",
         ((23, "target-full"), (24, "ok"), (30, "fail"))),
        ("log_level: debug", "log_level", "debug"),
        ("mode: rsync", "mode", "rsync"),
    ],
)  # fmt: skip
def test_a_value_is_read_by_its_own_type(line: str, attribute: str, value: object) -> None:
    assert getattr(read_one(TWO + line + "\n"), attribute) == value


def test_a_mode_may_be_for_one_kind_of_target() -> None:
    assert read_one("source: /home\ntarget: /srv/home\nmode: direct\n").mode == "direct"


@pytest.mark.parametrize(
    ("section", "flags"),
    [
        ("archive: true", ("-l", "-p", "-t", "-g", "-o", "-D")),
        ("archive: false", ("-l", "-t")),
        ("{archive: false, links: off, times: no}", ()),
        ("links: false", ("-p", "-t", "-g", "-o", "-D")),
        ("devices: false", ("-l", "-p", "-t", "-g", "-o", "--specials")),
        ("specials: false", ("-l", "-p", "-t", "-g", "-o", "--devices")),
        ("{archive: no, perms: yes, acls: on, xattrs: True, hard_links: TRUE}", ("-l", "-p", "-t", "-A",
         "-X", "-H")),
        ("{archive: no, checksum: yes, compress: yes, executability: yes}", ("-l", "-t", "-c", "-z", "-E")),
        ("{archive: no, ipv4: yes, omit_dir_times: yes, omit_link_times: yes}", ("-l", "-t", "-4", "-O",
         "-J")),
        ("{archive: no, one_file_system: yes}", ("-l", "-t", "-x")),
        ("{archive: no, update: yes, existing: yes, ignore_times: yes}", ("-l", "-t", "-I", "-u",
         "--existing")),
        ("{archive: no, append: yes}", ("-l", "-t", "--append")),
        ("{archive: no, append_verify: yes}", ("-l", "-t", "--append-verify")),
        ("{archive: no, copy_links: yes, copy_unsafe_links: yes, copy_dirlinks: yes, keep_dirlinks: yes}",
         ("-l", "-t", "-L", "--copy-unsafe-links", "-k", "-K")),
        ("{archive: no, backup: yes, suffix: .old}", ("-l", "-t", "-b", "--suffix=.old")),
        ("{archive: no, backup_dir: .//old/x/}", ("-l", "-t", "--backup-dir=old/x")),
        ("{archive: no, temp_dir: /var//tmp, partial_dir: .part}", ("-l", "-t", "--temp-dir=/var/tmp",
         "--partial-dir=.part")),
        ("{archive: no, dry_run: yes}", ("-l", "-t", "-n")),
        ("{archive: no, quiet: yes, verbose: yes, protect_args: no, delete_excluded: yes, rsh: rsh}",
         ("-l", "-t")),
        ("{archive: no, sparse: yes, whole_file: yes}", ("-l", "-t", "-S", "-W")),
        ("{archive: no, whole_file: no, inplace: yes, numeric_ids: yes, ipv6: yes}",
         ("-l", "-t", "-6", "--no-whole-file", "--inplace", "--numeric-ids")),
        ("{archive: no, bwlimit: 100, chmod: 0755, chown: 'a:b'}",
         ("-l", "-t", "--bwlimit=100", "--chmod=0755", "--chown=a:b")),
        ("{archive: no, bwlimit: 1.5M, usermap: '*:x', groupmap: '*:y', rsync_path: sudo rsync}",
         ("-l", "-t", "--bwlimit=1.5M", "--usermap=*:x", "--groupmap=*:y", "--rsync-path=sudo rsync")),
    ],
)  # fmt: skip
def test_the_rsync_keys_render_to_options(section: str, flags: tuple[str, ...]) -> None:
    section = section if section.startswith("{") else "{" + section + "}"
    # some are risky, which is for test_rsyncrules.py
    (sync,) = read_text(f"{TWO}rsync: {section}\n", "home.yaml")[0].syncs
    assert sync.rsync.flags == flags


def test_extra_and_binary_of_rsync_are_taken_over() -> None:
    rsync = read_one(TWO + "rsync: {binary: /opt/rsync, extra: [--fsync, -y]}\n").rsync
    assert (rsync.binary, rsync.extra) == ("/opt/rsync", ("--fsync", "-y"))


def test_the_ssh_section_is_taken_over() -> None:
    ssh = read_one(
        TWO + "ssh: {binary: /opt/ssh, port: 22, identity_file: ~/.ssh/k, user: u, options: {X: no, Y: 5},"
        " extra: [-J, gate]}\n"
    ).ssh
    assert (ssh.binary, ssh.port, ssh.identity_file, ssh.user) == ("/opt/ssh", 22, "~/.ssh/k", "u")
    assert (ssh.options, ssh.extra) == ((("X", "no"), ("Y", "5")), ("-J", "gate"))


def test_the_targets_user_goes_before_that_of_the_defaults() -> None:
    sync = read_one("defaults: {ssh: {user: a}}\nsyncs: [{source: /a, target: 'b@h:/x'}]")
    assert sync.ssh.user is None


def test_places_make_no_difference_between_syncs() -> None:
    assert read_one(TWO) == read_one("\n\n# a comment\n" + TWO)
    assert hash(read_one(TWO)) == hash(read_one("\n" + TWO))


def test_places_point_at_the_values() -> None:
    sync = read_one("name: x\n" + TWO)
    assert sync.name_place == "/etc/lsyncd.d/home.yaml:1:7"
    assert sync.source_place == "/etc/lsyncd.d/home.yaml:2:9"
    assert sync.target_place == "/etc/lsyncd.d/home.yaml:3:9"


# ---- what is bad; the table of it is in test_reader_refusals.py ----


@pytest.mark.parametrize(
    "line",
    [
        "exlude: x",
        "delay: soon",
        "name: *x",
        "name: !x y",
        "rsync: {acls: 1}",
        "name: a b",
        "delete: {a: b}",
    ],
)
def test_one_mistake_is_one_problem(line: str) -> None:
    assert len(problems_of(TWO + line + "\n")) == 1


def test_all_mistakes_are_found_at_once() -> None:
    problems = problems_of(
        "source: home\ntarget: /\nexlude: x\ndelay: soon\n"
        "rsync: {acls: 1, extra: [-r, -n]}\nssh: {prot: 1}\nname: a b\n"
    )
    assert [problem.place for problem in problems] == [
        f"home.yaml:{place}" for place in ("1:9", "2:9", "3:1", "4:8", "5:15", "5:26", "5:30", "6:7", "7:7")
    ]


def test_mistakes_of_all_syncs_are_found_at_once() -> None:
    problems = problems_of(
        "defaults: {dely: 5}\n"
        "syncs:\n  - {source: a, target: b}\n  - {name: x, source: /c, target: /d, dleay: 5}\n"
    )
    assert [problem.place for problem in problems] == [
        f"home.yaml:{place}" for place in ("1:12", "3:14", "3:25", "4:39")
    ]


def test_an_error_is_shown_in_two_lines() -> None:
    (problem,) = problems_of(TWO + "\n\n\n  \nexlude: x\n")
    assert problem.lines() == ["home.yaml:7:1: unknown key 'exlude'", "    did you mean 'exclude'?"]


def test_a_file_whose_name_is_no_name_needs_one() -> None:
    with pytest.raises(ConfigurationError, match=r"the file's name 'my file' cannot be a name"):
        read_text(TWO, "my file.yaml")
    configuration, _ = read_text(TWO + "name: mine\n", "my file.yaml")
    assert configuration.syncs[0].name == "mine"


def test_an_alias_bomb_is_refused_before_it_is_expanded() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
    )
    problems = problems_of(bomb)
    assert any("aliases" in problem.message for problem in problems)
    assert len(problems) < 300


def test_a_long_value_is_cut_in_messages() -> None:
    (problem,) = problems_of(TWO + "delay: " + "x" * 10_000 + "\n")
    assert len(problem.message) < 300


def test_a_large_text_is_refused() -> None:
    (problem,) = problems_of(TWO + "#" * MAXIMUM_BYTES)
    assert "larger than" in problem.message


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? ", "a: ", '"a": [', "'", "*", "&a ", "!", "%"])
def test_a_file_full_of_openings_is_refused(piece: str) -> None:
    assert problems_of(piece * (MAXIMUM_BYTES // len(piece)))


# ---- files ----


def test_a_file_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.b.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + TWO.encode())
    configuration, _ = read_file(str(path))
    assert (configuration.stem, configuration.syncs[0].name) == ("a.b", "a.b")


def test_what_is_no_readable_file_is_an_error(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "large").write_bytes(b"#" * (MAXIMUM_BYTES + 1))
    for path, message in (
        ("missing", "there is no such file"),
        (".", "this is not a file"),
        ("fifo", "this is not a file"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("large", "larger than"),
        ("nul\0", "cannot be read"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            read_file(f"{tmp_path}/{path}")
        (problem,) = caught.value.problems
        assert message in problem.message
        assert "\0" not in problem.place


def test_a_file_that_cannot_be_opened_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lsyncd_sd.config.reader.os.open", refuse)
    with pytest.raises(ConfigurationError, match=r"home\.yaml: the file cannot be read: Permission denied"):
        read_file("home.yaml")


# ---- anything else ----

_WORDS = st.sampled_from(
    [
        "source", "target", "syncs", "defaults", "rsync", "ssh", "name", "delay", "exclude", "exit_codes",
        "extra", "options", ": ", ":\n", "\n", "\n  ", "\n  - ", "- ", "[", "]", "{", "}", ", ", "'", '"',
        "/a", "h:/b", "*a", "&a ", "!x ", "<<", "? ", "| ", "> ", "---\n", "...\n", "%YAML 1.1\n", "#", "\\",
        "\t", "\x85", "é", "5", "~",
    ]
)  # fmt: skip


@given(st.one_of(st.text(), st.binary(), st.lists(_WORDS, max_size=40).map("".join)))
def test_whatever_the_text_nothing_but_a_result_or_a_configuration_error(text: str | bytes) -> None:
    try:
        configuration, warnings = read_text(text, "x.yaml")
    except ConfigurationError as error:
        assert error.problems
        for problem in error.problems:
            assert all(line.isprintable() for line in problem.lines())
    else:
        assert configuration.syncs
        assert all(problem.is_warning for problem in warnings)
