# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of mirror/moveprogram.py: what dash, bash and busybox do with the text, on real directories."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers.shells import SHELLS, Shell, shell_named
from helpers.trees import snapshot

from lsyncd_sd.mirror import moveprogram
from lsyncd_sd.mirror.moveprogram import Answers, beginning, ending
from lsyncd_sd.plan.change import Move

TALK = "0123456789abcdef"


def file(old: str | bytes, new: str | bytes) -> Move:
    return Move(os.fsencode(old), os.fsencode(new), False)


def tree(old: str | bytes, new: str | bytes) -> Move:
    return Move(os.fsencode(old), os.fsencode(new), True)


class Case:
    """A target in a login directory, and a shell there."""

    def __init__(self, shell: Shell, folder: Path) -> None:
        self.shell = shell
        self.login = folder / "login"
        self.target = self.login / "target"
        self.target.mkdir(parents=True)
        self.outside = folder / "outside"
        self.outside.mkdir()

    def make(self, *paths: str | bytes) -> None:
        """Make files that say their own names; a name that ends with a slash is a directory."""
        for path in map(os.fsencode, paths):
            place = os.path.join(os.fsencode(self.target), path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            if not path.endswith(b"/"):
                Path(os.fsdecode(place)).write_bytes(path)

    def run(self, *moves: Move, may_replace: int | None = None, root: str = "target") -> Answers:
        return self.read(beginning(root) + ending(moves, may_replace))

    def read(self, text: bytes) -> Answers:
        answers = Answers(TALK)
        answers.take(self.shell.run(text, self.login, TALK).stdout)
        return answers

    def held(self) -> dict[str, str]:
        """Return what each path of the target holds: a directory nothing, a link where it leads."""
        found = snapshot(os.fsencode(self.target))
        return {
            os.fsdecode(path): entry.kind if entry.kind != "f" else os.fsdecode(entry.content)
            for path, entry in found.items()
            if path
        }


@pytest.fixture(params=SHELLS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(shell_named(request.param, tmp_path / "bin"), tmp_path)


# ---- what is moved


def test_files_and_directories_are_renamed_in_order(case: Case) -> None:
    case.make("a", "d/x", "e/")
    before = os.stat(case.target / "a").st_ino
    answers = case.run(file("a", "b"), tree("d", "e/d"), file("e/d/x", "e/x"), file("b", "e/d/b"))
    assert (answers.made, answers.replaced, answers.refusal) == (4, 0, b"")
    assert case.held() == {"e": "d", "e/d": "d", "e/x": "d/x", "e/d/b": "a"}
    assert os.stat(case.target / "e" / "d" / "b").st_ino == before


@pytest.mark.parametrize("kind", ["link", "link to nothing", "link to a directory", "pipe"])
def test_what_is_neither_file_nor_directory_is_renamed(case: Case, kind: str) -> None:
    place = case.target / "old"
    case.make("d/")
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to({"link": "old", "link to nothing": "nothing", "link to a directory": "d"}[kind])
    before = os.lstat(place).st_ino
    assert case.run(file("old", "new")).made == 1
    assert os.lstat(case.target / "new").st_ino == before
    assert sorted(os.listdir(case.target)) == ["d", "new"]


def test_swaps_and_names_that_begin_alike(case: Case) -> None:
    case.make("a/f", "ab/f", "b")
    moves = [tree("a", "tmp"), tree("ab", "a"), tree("tmp", "ab"), file("b", "B"), file("B", "a/ab")]
    assert case.run(*moves).made == 5
    assert case.held() == {"a": "d", "ab": "d", "a/f": "ab/f", "ab/f": "a/f", "a/ab": "b"}


ODD = [
    "it's", "'", "''", '"', "a'b\"c", "new\nline", "\n", "tail\n", "$(touch pwned)", "`touch pwned`", "${x}",
    "; touch pwned", "& touch pwned", "| touch pwned", "-", "--", "-f", "-t target", "--no-copy", "*", "?",
    "[a]", "a b", " ", "\t", "\\", "\\n", "a\\", "~", "#", "!", "{a,b}", "%s", "\r", "\x1b[31m", "\x7f",
    "\u00fc", "\u2028", ".", "..",
]  # fmt: skip
ODD_BYTES = [bytes([number]) for number in range(1, 256) if bytes([number]) not in b"/."] + [
    b"\xff\xfe", b"\xc3\x28", b"\x81\x82\x83\x84\x85\x86\x87\x88", b"\x81'\x88\\", b"a\xe0",
]  # fmt: skip


def odd_names() -> Iterable[bytes]:
    yield from (name.encode() for name in ODD if name not in (".", ".."))
    yield from ODD_BYTES


def test_any_name_is_moved_and_none_is_interpreted(case: Case) -> None:
    names = list(dict.fromkeys(odd_names()))
    case.make(*(name + b"/" + name for name in names))
    moves = []
    for name in names:
        moves += [file(name + b"/" + name, name + b"/new " + name), tree(name, b"moved " + name)]
    assert case.run(*moves).made == len(moves)
    assert snapshot(os.fsencode(case.target)).keys() - {b""} == {
        path for name in names for path in (b"moved " + name, b"moved " + name + b"/new " + name)
    }
    assert os.listdir(case.login) == ["target"]


@pytest.mark.parametrize("root", ["target", "./target", "{target}", "{target}/"])
def test_the_root_may_be_below_the_login_directory(case: Case, root: str) -> None:
    case.make("a")
    assert case.run(file("a", "b"), root=root.format(target=case.target)).made == 1


@pytest.mark.parametrize("root", ["it's $(touch pwned)", "-", "--", "\n", "\udcff\udc81"])
def test_the_root_may_have_any_name(case: Case, root: str) -> None:
    (case.login / root).mkdir()
    (case.login / root / "a").touch()
    assert case.run(file("a", "b"), root=root).made == 1
    assert os.listdir(case.login / root) == ["b"]


# ---- what is not


@pytest.mark.parametrize(
    ("there", "move", "refusal"),
    [
        (["b"], file("a", "b/x"), b"above"),
        (["a", "b"], file("a", "b/x"), b"above"),
        (["a"], file("a", "new/x"), b"above"),
        (["b"], file("a", "b"), b"gone"),
        (["a/"], file("a", "b"), b"kind"),
        (["a"], tree("a", "b"), b"kind"),
        (["a", "b/"], file("a", "b"), b"kind"),
        (["a/", "b"], tree("a", "b"), b"kind"),
        (["a/"], tree("a", "a/x"), b"mv"),
    ],
)
def test_it_stops_at_what_the_target_does_not_have_as_it_should(
    case: Case, there: list[str], move: Move, refusal: bytes
) -> None:
    case.make("first", "last", *there)
    expected = case.held() | {"second": "first"}
    del expected["first"]
    answers = case.run(file("first", "second"), move, file("last", "never"))
    assert answers.made == 1
    assert answers.refusal == refusal
    assert answers.refusal_words
    assert case.held() == expected


def test_a_full_directory_is_neither_replaced_nor_moved_into(case: Case) -> None:
    case.make("a/x", "b/y")
    expected = case.held()
    answers = case.run(tree("a", "b"))
    assert (answers.made, bool(answers.refusal)) == (0, True)
    assert case.held() == expected


@pytest.mark.parametrize(
    "move", [file("link/x", "b"), file("a", "link/x"), tree("link/d", "d"), file("d/link/x", "b")]
)
def test_no_link_is_followed(case: Case, move: Move) -> None:
    (case.outside / "x").write_text("outside")
    (case.outside / "d").mkdir()
    case.make("a", "d/")
    for place in ("link", "d/link"):
        (case.target / place).symlink_to(case.outside)
    expected = case.held()
    assert case.run(move).refusal == b"above"
    assert case.held() == expected
    assert sorted(os.listdir(case.outside)) == ["d", "x"]


def test_a_link_to_a_directory_is_not_moved_into(case: Case) -> None:
    case.make("a")
    (case.target / "link").symlink_to(case.outside)
    answers = case.run(file("a", "link"))
    assert os.listdir(case.outside) == []
    if case.shell.name == "busybox":
        # What has no -T would follow it.
        assert answers.refusal == b"full"
        assert case.held() == {"a": "a", "link": "l"}
    else:
        assert (answers.made, answers.replaced) == (1, 1)
        assert case.held() == {"link": "a"}


# ---- what is replaced


def test_a_file_and_an_empty_directory_are_replaced(case: Case) -> None:
    case.make("a", "b", "c/x", "d/", "e")
    answers = case.run(file("a", "b"), tree("c", "d"), file("e", "f"))
    assert (answers.made, answers.replaced) == (3, 2)
    assert case.held() == {"b": "a", "d": "d", "d/x": "c/x", "f": "e"}


@pytest.mark.parametrize(("may_replace", "made"), [(0, 1), (1, 2), (2, 4), (None, 4)])
def test_no_more_is_replaced_than_may_be(case: Case, may_replace: int | None, made: int) -> None:
    case.make(*"abcdefg")
    moves = [file("a", "free"), file("b", "c"), file("d", "e"), file("f", "other")]
    answers = case.run(*moves, may_replace=may_replace)
    assert answers.made == made
    assert answers.refusal == (b"" if made == 4 else b"many")
    assert len(case.held()) == 7 - answers.replaced


def test_of_two_names_of_one_file_the_old_one_goes(case: Case) -> None:
    case.make("a")
    os.link(case.target / "a", case.target / "b")
    answers = case.run(file("a", "b"))
    # Where mv does as rename(2), which keeps both, it must not be told as done.
    assert (answers.made == 1) == (sorted(case.held()) == ["b"])


# ---- more than one file system


@pytest.fixture
def mounted(case: Case) -> Iterable[Path]:
    """A directory of the target on which another file system is mounted."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    place = case.target / "mounted"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "lsyncd-sd-test", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_nothing_is_copied_to_another_file_system(case: Case, mounted: Path) -> None:
    case.make("a", "mounted/x", "d/")
    assert case.run(file("a", "d/a"), file("mounted/x", "mounted/y")).made == 2
    assert case.run(file("d/a", "mounted/a")).refusal in (b"elsewhere", b"mv")
    assert case.run(tree("d", "mounted/d")).refusal in (b"elsewhere", b"mv")
    assert case.held() == {"d": "d", "d/a": "a", "mounted": "d", "mounted/y": "mounted/x"}


# ---- a text that ends somewhere


def test_a_text_that_is_cut_makes_no_other_move(case: Case) -> None:
    """Whole moves up to there are made, and the last one not at all."""
    case.make("a b", "it's/x")
    text = ending([file("a b", "c d"), tree("it's", "'"), file("c d", "e")], None)
    begin = beginning("target")
    allowed = [
        {"a b": "a b", "it's": "d", "it's/x": "it's/x"},
        {"c d": "a b", "it's": "d", "it's/x": "it's/x"},
        {"c d": "a b", "'": "d", "'/x": "it's/x"},
        {"e": "a b", "'": "d", "'/x": "it's/x"},
    ]
    for end in range(len(text)):
        subprocess.run(["rm", "-rf", str(case.target)], check=True)
        case.make("a b", "it's/x")
        answers = case.read(begin + text[:end])
        assert case.held() == allowed[answers.made], text[:end]


def test_it_ends_when_nobody_hears_its_answers(case: Case) -> None:
    names = [str(number) for number in range(200)]
    case.make(*names)
    read, write = os.pipe()
    process = subprocess.Popen(
        [case.shell.program, "-s", TALK],
        cwd=case.login,
        env={"PATH": case.shell.path},
        stdin=subprocess.PIPE,
        stdout=write,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    assert process.stdin is not None
    process.stdin.write(beginning("target"))
    process.stdin.flush()
    answers = Answers(TALK)
    while not answers.number:
        answers.take(os.read(read, 100))
    assert answers.number == process.pid
    os.close(read)
    process.stdin.write(ending([file(name, f"moved {name}") for name in names], None))
    process.stdin.close()
    assert process.wait() != 0
    assert sum(name.startswith("moved") for name in os.listdir(case.target)) <= 1


# ---- an earlier one


def test_an_earlier_shell_is_ended_and_no_other_process(case: Case) -> None:
    def start(token: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([case.shell.program, "-s", token], stdin=subprocess.PIPE)

    ours, another = start("aaaaaaaaaaaaaaaa"), start("bbbbbbbbbbbbbbbb")
    try:
        for process in (ours, another):
            shell = moveprogram.Shell("aaaaaaaaaaaaaaaa", process.pid)
            assert case.read(beginning("target", shell)).number
        assert ours.wait() == -signal.SIGKILL
        assert another.poll() is None
        # it is gone: nothing is said of that
        assert case.read(beginning("target", moveprogram.Shell("aaaaaaaaaaaaaaaa", ours.pid))).number
    finally:
        for process in (ours, another):
            process.kill()
            process.communicate()


# ---- answers


def test_a_target_that_is_missing_or_closed(case: Case) -> None:
    answers = case.run(file("a", "b"), root="nothing")
    assert answers.is_root_missing and not answers.is_root_closed and not answers.number
    (case.login / "file").touch()
    assert case.run(root="file").is_root_missing


def test_answers_come_in_pieces_and_among_other_things() -> None:
    answers = Answers(TALK)
    lines = ["Welcome!", "hello 1", f"{TALK} hello 4711", f"{TALK} ok", f"noise {TALK} ok", f"{TALK} over"]
    text = "\n".join([*lines, f"{TALK} no mv", ""])
    for number in range(len(text)):
        answers.take(text[number : number + 1].encode())
    assert (answers.number, answers.made, answers.replaced) == (4711, 2, 1)
    assert answers.refusal_words == "mv refuses"


def test_what_a_login_prints_does_not_hide_an_answer(case: Case) -> None:
    answers = Answers(TALK)
    answers.take(b"no line break at the end" + case.shell.run(beginning("target"), case.login, TALK).stdout)
    assert answers.number
