# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of config/classic.py: what a command line of Lsyncd's becomes, and which words its errors blame."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from lsyncd_sd.classicline import parse
from lsyncd_sd.config.classic import Here, load_line
from lsyncd_sd.config.load import Loaded
from lsyncd_sd.config.model import Sync, TargetKind
from lsyncd_sd.config.parsers import parse_name
from lsyncd_sd.config.reader import read_text
from lsyncd_sd.errors import Problem


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """A current directory with a source in it, beside a home."""
    for name in ("work/source", "work/another", "home"):
        (tmp_path / name).mkdir(parents=True)
    root = os.path.realpath(tmp_path)
    return Here(f"{root}/work", f"{root}/home")


def load(line: str, here: Here) -> Loaded:
    """Load a command line as a shell would split it; %s stands for the current directory."""
    return load_line(parse(shlex.split(line.replace("%s", here.directory))), here)


def syncs(line: str, here: Here) -> tuple[Sync, ...]:
    loaded = load(line, here)
    assert loaded.failures == ()
    (configuration,) = loaded.configurations
    return configuration.syncs


def one(line: str, here: Here) -> Sync:
    (sync,) = syncs(line, here)
    return sync


def problems(line: str, here: Here) -> tuple[Problem, ...]:
    loaded = load(line, here)
    assert loaded.configurations == ()
    return loaded.problems


# ---- what it becomes


def test_it_is_what_a_file_would_be(here: Here) -> None:
    sync = one("-delay 2.5 -log Exec -rsync source backup:/srv/mirror/", here)
    text = (
        f"source: {here.directory}/source\ntarget: backup:/srv/mirror\ndelay: 2.5\nlog_level: debug\n"
        "brake: {hold_first: false}\n"
    )
    (same,) = read_text(text, "x.yaml")[0].syncs
    assert replace(sync, name=same.name, file_stem=same.file_stem) == same


def test_what_the_line_does_not_say_is_as_in_a_file(here: Here) -> None:
    sync = one("-rsync source backup:/srv/mirror", here)
    (same,) = read_text(f"source: {here.directory}/source\ntarget: backup:/srv/mirror\n", "x.yaml")[0].syncs
    assert replace(sync, name=same.name, file_stem=same.file_stem, hold_first=True) == same


@pytest.mark.parametrize(
    ("target", "kind", "text"),
    [
        ("mirror", TargetKind.LOCAL, "%s/mirror"),
        ("mirror/", TargetKind.LOCAL, "%s/mirror"),
        ("./mirror", TargetKind.LOCAL, "%s/mirror"),
        ("/srv//mirror/", TargetKind.LOCAL, "/srv/mirror"),
        ("./odd:name", TargetKind.LOCAL, "%s/odd:name"),
        ("-dash", TargetKind.LOCAL, "%s/-dash"),
        ("host:/srv/mirror/", TargetKind.SSH, "host:/srv/mirror"),
        ("host:mirror", TargetKind.SSH, "host:mirror"),
        ("ada@host:mirror/x/", TargetKind.SSH, "ada@host:mirror/x"),
        ("host::module/", TargetKind.DAEMON, "host::module"),
        ("host::module/x", TargetKind.DAEMON, "host::module/x"),
        ("rsync://host/module/x", TargetKind.DAEMON, "rsync://host/module/x"),
    ],
)
def test_targets_of_each_kind(here: Here, target: str, kind: TargetKind, text: str) -> None:
    sync = one(f"-rsync source {target}", here)
    assert (sync.target.kind, sync.target.text) == (kind, text.replace("%s", here.directory))


@pytest.mark.parametrize("target", ["mirror", "host:mirror", "host::mirror", "rsync://host/mirror"])
def test_direct_is_always_on_this_machine(here: Here, target: str) -> None:
    sync = one(f"-direct source {target}", here)
    assert sync.mode == "direct"
    assert sync.target.kind is TargetKind.LOCAL
    assert sync.target.path == f"{here.directory}/{target}".replace("//", "/")


def test_rsyncssh_has_a_host_and_a_directory_there(here: Here) -> None:
    sync = one("-rsyncssh source me@host /srv/mirror/ -sshopts \"-p 2222 -o 'User=it s me'\"", here)
    assert sync.mode == "rsyncssh"
    assert (sync.target.kind, sync.target.text) == (TargetKind.SSH, "me@host:/srv/mirror")
    assert sync.ssh.extra == ("-p", "2222", "-o", "User=it s me")


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ("-i key -F conf", ("-i", "work/key", "-F", "work/conf")),
        ("-i '../home/my key'", ("-i", "home/my key")),
        ("-i ~/key -F none -i /a/key", ("-i", "~/key", "-F", "none", "-i", "/a/key")),
    ],
)
def test_files_for_ssh_are_meant_where_the_line_is_typed(
    here: Here, options: str, extra: tuple[str, ...]
) -> None:
    root = os.path.dirname(here.directory)
    wanted = tuple(f"{root}/{word}" if word.startswith(("work/", "home/")) else word for word in extra)
    assert one(f"-sshopts {shlex.quote(options)} -rsyncssh source host x", here).ssh.extra == wanted


def test_options_of_ssh_are_for_those_who_use_it(here: Here) -> None:
    over_ssh, plain = syncs("-sshopts -4 -rsyncssh source host x -rsync another host:y", here)
    assert (over_ssh.ssh.extra, plain.ssh.extra) == (("-4",), ())
    assert one("-sshopts '' -rsyncssh source host x", here).ssh.extra == ()


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (".", "work"),
        ("./", "work"),
        ("source", "work/source"),
        ("source/", "work/source"),
        ("./source/.", "work/source"),
        ("../work/source", "work/source"),
        ("source/../another", "work/another"),
        ("%s/../home", "home"),
    ],
)
def test_sources_are_meant_where_the_line_is_typed(here: Here, words: str, path: str) -> None:
    sync = one(f"-rsync {words} host:/x", here)
    assert sync.source == f"{os.path.dirname(here.directory)}/{path}"


def test_above_a_link_is_where_it_leads(here: Here, tmp_path: Path) -> None:
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "work/link").symlink_to(tmp_path / "far/away")
    assert one("-rsync link/.. host:/x", here).source == os.path.realpath(tmp_path / "far")
    assert one("-rsync link host:/x", here).source == f"{here.directory}/link"


@pytest.mark.parametrize(
    "name", ["a b", "it's", 'a"b', "a\\b", "*", "#x", "null", "a: b", "\n", "\udcff", "ü"]
)
def test_names_are_whatever_they_are(here: Here, tmp_path: Path, name: str) -> None:
    (tmp_path / "work" / name).mkdir()
    sync = one(f"-rsync {shlex.quote(name)} {shlex.quote(f'./to {name}')}", here)
    assert sync.source == f"{here.directory}/{name}"
    assert sync.target.path == f"{here.directory}/to {name}"
    parse_name(sync.name)


def test_each_sync_of_a_line_has_what_the_line_says(here: Here) -> None:
    first, second = syncs("-rsync source host:/a -delay 3 -rsync another /b -log all", here)
    assert (first.delay, second.delay) == (3.0, 3.0)
    assert (first.log_level, second.log_level) == ("debug", "debug")
    assert (first.source, second.source) == (f"{here.directory}/source", f"{here.directory}/another")


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("", "info"),
        ("-log scarce", "warning"),
        ("-log all", "debug"),
        ("-log Normal", "info"),
        ("-log Error", "info"),
        ("-log Info", "info"),
        ("-log Exec", "debug"),
        ("-log Inotify -log Delay", "debug"),
        ("-log scarce -log Exec", "debug"),
        ("-log scarce -log Error", "warning"),
        ("-log scarce -log Normal", "info"),
        ("-log all -log scarce", "warning"),
        ("-log scarce -log all", "debug"),
    ],
)
def test_categories_are_levels(here: Here, words: str, level: str) -> None:
    assert one(f"{words} -rsync source host:/x", here).log_level == level


def test_what_has_no_setting_makes_no_difference(here: Here) -> None:
    plain = one("-rsync source host:/x", here)
    assert one("-nodaemon -insist -onepass -pidfile p -logfile l -rsync source host:/x", here) == plain


# ---- names


def test_the_same_line_gives_the_same_names_again(here: Here) -> None:
    assert one("-rsync source host:/x", here).name == one("-nodaemon -rsync ./source host:/x", here).name


def test_names_differ_by_source_and_target(here: Here, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/source").mkdir(parents=True)
    lines = ["source host:/x", "source host:/y", "another host:/x", "../elsewhere/source host:/x"]
    names = [one(f"-rsync {line}", here).name for line in lines]
    assert len(set(names)) == len(lines)
    assert names[0].startswith("source-")


@pytest.mark.parametrize(
    ("directory", "start"),
    [
        (".hidden", "hidden-"),
        ("___", "sync-"),
        ("a b", "a_b-"),
        ("ünder", "nder-"),
        ("x" * 200, "x" * 40 + "-"),
    ],
)
def test_names_can_be_typed(here: Here, tmp_path: Path, directory: str, start: str) -> None:
    (tmp_path / "work" / directory).mkdir()
    name = one(f"-rsync {shlex.quote(directory)} host:/x", here).name
    assert parse_name(name).startswith(start)


# ---- what may be deleted by the first full sync


@pytest.mark.parametrize(
    ("target", "is_held"),
    [
        ("mirror", False),
        ("host:/srv", False),
        ("host:mirror", False),
        ("host::module", False),
        ("/srv/mirror", False),
        (".", True),
        ("..", True),
        ("%s", True),
        ("%s/../home", True),
        ("../link-to-home", True),
        ("host:", True),
        ("ada@host:.", True),
    ],
)
def test_nobody_makes_a_home_or_where_he_is_for_a_mirror(
    here: Here, tmp_path: Path, target: str, is_held: bool
) -> None:
    (tmp_path / "link-to-home").symlink_to(tmp_path / "home")
    outside = tmp_path.parent / f"{tmp_path.name}-source"
    outside.mkdir()
    assert one(f"-rsync {outside} {target}", here).hold_first is is_held


# ---- mistakes


@pytest.mark.parametrize(
    ("line", "place", "message", "hint"),
    [
        ("-rsync nosuch host:/x", "-rsync nosuch host:/x", "source: '%s/nosuch' is not there", "-insist"),
        ("-rsync '' host:/x", "-rsync '' host:/x", "source: the path is empty", ""),
        ("-rsync '~/x' host:/x", "-rsync '~/x' host:/x", "source: '~/x' is not an absolute path", "shell"),
        ("-rsync / host:/x", "-rsync / host:/x", "source: '/' is dangerous", "directory below"),
        ("-rsync source ''", "-rsync source ''", "target: the path is empty", ""),
        ("-rsync source '~/x'", "-rsync source '~/x'", "target: '~/x' is not an absolute path", "shell"),
        ("-rsync source /", "-rsync source /", "target: '/' is dangerous", "directory below"),
        ("-rsync source host:/", "-rsync source host:/", "target: the root directory of a host", "below"),
        ("-rsync source host::", "-rsync source host::", "target: no module is named", "host::module"),
        ("-rsync source source", "-rsync source source", "is the same as the source", "outside"),
        ("-rsync . mirror", "-rsync . mirror", "lies in the source", "outside"),
        ("-rsync source .", "-rsync source .", "contains the source", "outside"),
        ('-sshopts "-i \'x" -rsyncssh source h x', "-sshopts '-i '\"'\"'x'", "are no words", "a quote"),
        ("-rsyncssh source '' x", "-rsyncssh source '' x", "target: no host stands before the colon", ""),
        ("-rsyncssh source h /", "-rsyncssh source h /", "target: the root directory of a host", "below"),
        ("-rsyncssh source h '~/x'", "-rsyncssh source h '~/x'", "a remote ~ is not expanded", "h:x"),
        ("-rsyncssh source h :m", "-rsyncssh source h :m", "mode: rsyncssh is for targets reached over", ""),
        ("-direct source source", "-direct source source", "is the same as the source", "outside"),
        ("-delay soon -rsync source host:/x", "-delay soon", "delay: 'soon' is not a duration", "300s"),
        ("-delay -1 -rsync source host:/x", "-delay -1", "delay: '-1' is not a duration", "300s"),
        ("-delay '' -rsync source host:/x", "-delay ''", "delay: no value is given", ""),
        ("-log exec -rsync source host:/x", "-log exec", "'exec' is no category", "did you mean Exec?"),
        ("-log ALL -rsync source host:/x", "-log ALL", "'ALL' is no category", "did you mean all?"),
        ("-log Qqq -rsync source host:/x", "-log Qqq", "'Qqq' is no category", "scarce, Error, Warn"),
        (
            "-sshopts '-p 22' -rsync source host:/x",
            "-sshopts '-p 22'",
            "it is for -rsyncssh",
            "leave it out",
        ),
        ("-logfile source/log -rsync source host:/x", "-logfile source/log", "lies in a source", "a change"),
        ("-logfile m/log -rsync source m", "-logfile m/log", "lies in a target", "deleted"),
        (
            "-rsync source host:/x -rsync another host:/x/y",
            "-rsync another host:/x/y",
            "target: 'host:/x/y' lies in the target",
            "the other is at -rsync source host:/x",
        ),
        (
            "-rsync source host:/x -rsync source host:/x/",
            "-rsync source host:/x/",
            "is the same as the target",
            "",
        ),
    ],
)
def test_a_mistake_names_the_words_to_blame(
    here: Here, line: str, place: str, message: str, hint: str
) -> None:
    (problem,) = problems(line, here)
    assert problem.place == place
    assert message.replace("%s", here.directory) in problem.message
    assert hint in problem.hint


def test_a_log_file_beside_the_trees_is_good(here: Here) -> None:
    assert one("-logfile source.log -rsync source mirror", here)
    assert one("-logfile log -rsync source host:/x", here)


def test_all_mistakes_are_told_at_once(here: Here) -> None:
    found = problems("-delay x -log y -rsync a host:/ -rsync b /", here)
    assert [problem.place for problem in found].count("-delay x") == 1
    assert {problem.place for problem in found} >= {"-delay x", "-log y", "-rsync a host:/", "-rsync b /"}


def test_a_source_is_waited_for_if_told_to_insist(here: Here) -> None:
    loaded = load("-insist -rsync nosuch host:/x", here)
    (warning,) = loaded.warnings
    assert warning.is_warning
    assert warning.hint == "the sync will wait for it"
    assert one("-insist -rsync nosuch host:/x", here).source == f"{here.directory}/nosuch"
