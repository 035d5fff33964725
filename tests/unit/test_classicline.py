# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of classicline.py: which words are Lsyncd's, which belong together, and what is wrong with them."""

from __future__ import annotations

import pytest

from lsyncd_sd.classicline import OPTIONS, Call, is_classic, parse
from lsyncd_sd.errors import ExitStatus, LsyncdError

SYNC = ["-rsync", "a", "b"]


# ---- whose words they are


@pytest.mark.parametrize(
    "words",
    [
        SYNC,
        ["--rsync", "a", "b"],
        ["-nodaemon", *SYNC],
        ["-rsync"],
        ["-direct", "a", "b"],
        ["-rsyncssh", "a", "b", "c"],
        ["-help"],
        ["-version"],
        ["-insist"],
        ["-foo", *SYNC],
        ["-script", "x.lua"],
        ["lsyncd.conf.lua"],
        ["/etc/lsyncd/config", "-nodaemon"],
        ["lsyncd.conf"],
        ["./x"],
    ],
)
def test_these_are_lsyncds(words: list[str]) -> None:
    assert is_classic(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["-h"],
        ["--version"],
        ["--help", *SYNC],
        ["--verbose"],
        ["-"],
        ["--"],
        ["status"],
        ["run", "home.yaml"],
        ["sync", "home", "--wait"],
        ["status", "-log"],
        ["rsync", "a", "b"],
        [""],
    ],
)
def test_these_are_ours(words: list[str]) -> None:
    assert not is_classic(words)


# ---- what belongs together


def test_one_dash_is_as_good_as_two_and_the_order_is_free() -> None:
    one = parse(["-delay", "5", "-insist", *SYNC, "-log", "Exec"])
    two = parse(["--delay", "5", "--insist", "--rsync", "a", "b", "--log", "Exec"])
    assert one == two
    assert one.syncs == (Call("rsync", ("a", "b")),)
    assert parse([*SYNC, "-insist"]).has("insist")


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_takes_its_words(option: str) -> None:
    words = [f"w{number}" for number in range(len(OPTIONS[option]))]
    line = parse([f"-{option}", *words, "-rsync", "a", "b"])
    assert line.calls[0] == Call(option, tuple(words))
    assert line.has(option)


def test_several_syncs_stay_in_their_order() -> None:
    line = parse([*SYNC, "-direct", "c", "d", "-nodaemon", "-rsyncssh", "e", "f", "g", *SYNC])
    assert [call.option for call in line.syncs] == ["rsync", "direct", "rsyncssh", "rsync"]
    assert line.syncs[2].words == ("e", "f", "g")


def test_of_what_is_said_twice_the_last_one_counts() -> None:
    last = parse(["-delay", "1", *SYNC, "-delay", "2"]).last("delay")
    assert last is not None
    assert last.words == ("2",)
    assert parse(SYNC).last("delay") is None


@pytest.mark.parametrize("path", ["", " ", "a b", "it's", '"', "-x", "--", "$HOME", "a\nb", "\udcff", "-1"])
def test_any_word_is_a_word(path: str) -> None:
    assert parse(["-rsync", path, path]).syncs[0].words == (path, path)


def test_a_call_is_shown_as_one_line_that_can_be_typed() -> None:
    assert parse(["--rsync", "a b", "it's"]).syncs[0].text == "-rsync 'a b' 'it'\"'\"'s'"
    assert parse(["-rsync", "\x1b[2J\n", "b"]).syncs[0].text.isprintable()


@pytest.mark.parametrize("word", ["-help", "-version", "--version"])
def test_who_only_asks_needs_no_sync(word: str) -> None:
    assert parse(["-nodaemon", word]).syncs == ()


# ---- what is wrong


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["-rsync"], "-rsync needs 2 words", "-rsync SOURCE TARGET"),
        (["-rsync", "a"], "-rsync needs 2 words", "-rsync SOURCE TARGET"),
        (["-rsync", "a", "-nodaemon"], "-rsync needs 2 words", "-rsync SOURCE TARGET"),
        (["-rsyncssh", "a", "b"], "-rsyncssh needs 3 words", "-rsyncssh SOURCE HOST TARGETDIR"),
        (["-direct", "a"], "-direct needs 2 words", "-direct SOURCE TARGETDIR"),
        ([*SYNC, "-delay"], "-delay needs a word", "-delay SECONDS"),
        (["-delay", *SYNC], "-delay needs a word", "-delay SECONDS"),
        ([*SYNC, "-pidfile"], "-pidfile needs a word", "-pidfile FILE"),
        ([*SYNC, "c"], "c belongs to no option", "-rsync SOURCE TARGET"),
        ([*SYNC, "-dealy", "5"], "unknown option -dealy", "did you mean -delay?"),
        ([*SYNC, "-NoDaemon"], "unknown option -NoDaemon", "did you mean -nodaemon?"),
        ([*SYNC, "---insist"], "unknown option ---insist", "did you mean -insist?"),
        ([*SYNC, "--delay=5"], "unknown option --delay=5", "did you mean -delay?"),
        ([*SYNC, "-xyz"], "unknown option -xyz", "-rsync SOURCE TARGET"),
        (["-nodaemon"], "nothing to mirror is given", "-rsync SOURCE TARGET"),
        (["-script", "x", *SYNC], "-script of Lsyncd is not taken", "no Lua is run"),
        (["--runner", "x", *SYNC], "-runner of Lsyncd is not taken", "leave it out"),
        (["-monitor", "inotify", *SYNC], "-monitor of Lsyncd is not taken", "leave it out"),
        (["home.yaml"], "home.yaml needs a command before it", "lsyncd-sd run home.yaml"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(words: list[str], message: str, hint: str) -> None:
    error = refused(words)
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize("file", ["lsyncd.conf.lua", "/etc/lsyncd/lsyncd.conf.lua", "/etc/lsyncd.conf"])
@pytest.mark.parametrize("before", [[], ["-nodaemon"], ["-log", "all"]])
def test_a_lua_file_is_answered_with_the_way_out(before: list[str], file: str) -> None:
    error = refused([*before, file])
    assert error.message.startswith(f"{file}: Lsyncd's configuration files, in Lua, are not read")
    for words in (
        "`source: /src`",
        "`target: host:/dst`",
        "/etc/lsyncd.d/NAME.yaml",
        "enable --now lsyncd@NAME",
    ):
        assert words in error.hint
    assert "COMING FROM LSYNCD in lsyncd-sd(8)" in error.hint


def test_no_message_controls_the_terminal() -> None:
    for words in (["-\x1b[2J", *SYNC], ["\x1b[2J.lua"], [*SYNC, "\x1b[2J"], ["\udcff/x"]):
        assert refused(words).message.isprintable()


def refused(words: list[str]) -> LsyncdError:
    with pytest.raises(LsyncdError) as caught:
        parse(words)
    assert caught.value.exit_status is ExitStatus.USAGE
    return caught.value
