# SPDX-License-Identifier: GPL-2.0-or-later
"""Any sequence of changes, late reads and failing runs ends with an equal target, all directories watched.

The kernel's queue and the source are real, the target is a model of rsync (helpers/modelrsync.py) or, in
fewer examples, rsync itself. All files have the same size and time: only exact runs see their content.

It failed on each of these mutants: the old place of a rename is not marked; a directory that moved in is not
looked at; a new one is marked as an entry only; its content is not listed; symlinks are followed; watches of
what left are not released, or released although it is back; the root's watch is dropped at a restart;
CLOSE_WRITE is not exact; an excluded name does not touch its directory; a failed batch, the troubled rest or
a partly failed subtree is not merged back; a merge keeps the last mark; swallowing subtrees outlive their
batch; a full sync forgets exact marks; hidden paths are skipped; levels of temporary files or left-over
ones are forgotten; what could not be read is retried as an entry; entries or subtrees without -I; deletions
after a partial run although the sync deletes nothing.

Alone the following changed nothing, for another rule stands in for each of them: no doubt about arriving
places (D2, D3), none about robbed ones (D4), no mark at a late adoption (D5), no drop of a known name (D7).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from helpers.modelrsync import Fault, Trouble
from helpers.rig import Operation, Rig
from helpers.spots import ANY, NEW, OLD, OUTSIDE
from helpers.trees import Playground
from hypothesis import given, settings
from hypothesis import strategies as st

from lsyncd_sd.config.model import Delete

Step = tuple[Any, ...]


OPERATIONS = st.one_of(
    st.tuples(st.just("write"), ANY),
    st.tuples(st.just("rename"), OLD, NEW),
    st.tuples(st.just("rename"), OLD, ANY),
    st.tuples(st.just("deep"), NEW),
    st.tuples(st.just("mkdir"), NEW),
    st.tuples(st.just("remove"), OLD),
    st.tuples(st.just("exchange"), OLD, OLD),
    st.tuples(st.just("swap"), OLD, st.sampled_from("fdl")),
    st.tuples(st.just("symlink"), NEW, st.sampled_from([b"a", b"..", b"../b", b"../../secret"])),
    st.tuples(st.just("move_out"), OLD, OUTSIDE),
    st.tuples(st.just("move_in"), OUTSIDE, ANY),
    st.tuples(st.just("touch"), OLD, st.sampled_from([0, 1, 2])),
    st.tuples(st.just("chmod"), OLD, st.sampled_from([0o700, 0o711, 0o755])),
)
FAULTS = st.builds(Fault, st.sampled_from(Trouble), st.integers(0, 20)) | st.just(Fault())
LATE_READS = st.tuples(
    st.just("read"),
    st.integers(1, 4),
    st.sampled_from([1, 2, 5, 1000]),
    st.lists(OPERATIONS, max_size=4),
)
STEPS = st.one_of(
    st.tuples(st.just("do"), st.lists(OPERATIONS, min_size=1, max_size=5)),
    st.tuples(st.just("cycle"), st.lists(FAULTS, max_size=5), st.booleans()),
    st.tuples(st.just("do"), st.lists(OPERATIONS, min_size=1, max_size=2)),
    LATE_READS,
    st.tuples(st.just("cycle"), st.just([]), st.just(True)),
    st.tuples(st.just("dispatch")),
    st.tuples(st.just("run"), FAULTS),
    st.tuples(st.just("walk"), st.sampled_from([1, 2, 1000])),
    st.tuples(st.just("overflow")),
)
RULES = st.sampled_from([(), ("- b",), ("- a/",), ("- /a/b",), ("H b",), ("H /a/b", "- a/")])
DELETE = st.sampled_from([Delete.ALWAYS, Delete.ALWAYS, Delete.RUNNING, Delete.NEVER])


def check(
    folder: Path,
    before: list[Operation],
    steps: list[Step],
    *,
    watched_before: bool = True,
    rules: tuple[str, ...] = (),
    delete: Delete = Delete.ALWAYS,
    real_rsync: bool = False,
    leftovers: bool = True,
) -> None:
    """Carry out the steps, let everything come to rest, and look at the target and the watches."""
    with TemporaryDirectory(dir=folder) as base:
        playground = Playground(base.encode())
        for operation in before:
            playground.do(operation)
        with Rig(playground, rules, delete=delete, real_rsync=real_rsync) as rig:
            if watched_before:
                rig.settle()
            for name, *arguments in steps:
                rig.step(name, arguments)
            rig.settle()
            rig.check_target(leftovers=leftovers)
            rig.check_watches()


def number_of_examples(request: pytest.FixtureRequest, quick: int) -> int:
    """Return how many examples to try: twenty times as many in the full profile."""
    return quick * 20 if request.config.getoption("--full") else quick


def test_any_sequence_converges(folder: Path, request: pytest.FixtureRequest) -> None:
    @settings(max_examples=number_of_examples(request, 400))
    @given(st.lists(OPERATIONS, max_size=8), st.lists(STEPS, max_size=25), st.booleans(), RULES, DELETE)
    def converges(
        before: list[Operation],
        steps: list[Step],
        watched_before: bool,
        rules: tuple[str, ...],
        delete: Delete,
    ) -> None:
        check(
            folder,
            before,
            steps,
            watched_before=watched_before,
            rules=rules,
            delete=delete,
            leftovers=False,
        )

    converges()


def test_any_sequence_converges_with_rsync_itself(folder: Path, request: pytest.FixtureRequest) -> None:
    @settings(max_examples=number_of_examples(request, 15))
    @given(st.lists(OPERATIONS, max_size=8), st.lists(STEPS, max_size=15), RULES)
    def converges(before: list[Operation], steps: list[Step], rules: tuple[str, ...]) -> None:
        check(folder, before, steps, rules=rules, real_rsync=True)

    converges()


READ = ("read", 32, 1000, [])
CYCLE = ("cycle", [], True)


def do(*operations: Operation) -> Step:
    return "do", list(operations)


TWO_DIRECTORIES: list[Operation] = [("deep", b"a/b"), ("deep", b"b/b")]
ONE_FILE: list[Operation] = [("write", b"a")]

STORIES: dict[str, tuple[list[Operation], list[Step], dict[str, Any]]] = {
    "an excluded name changes the time of its directory": (
        [],
        [do(("write", b"b"))],
        {"rules": ("- b",)},
    ),
    "an excluded kind takes the place of a file": (
        ONE_FILE,
        [do(("swap", b"a", "d"))],
        {"rules": ("- a/",)},
    ),
    "a file that became another one waits while a full sync begins": (
        ONE_FILE,
        [do(("write", b"a")), READ, ("overflow",)],
        {},
    ),
    "a directory that cannot be read comes back with files of the same size and time": (
        TWO_DIRECTORIES,
        [do(("exchange", b"a", b"b")), ("cycle", [Fault(Trouble.UNREADABLE, 1)], True)],
        {},
    ),
    "nobody knows which part of a new directory could not be read": (
        TWO_DIRECTORIES,
        [do(("exchange", b"a", b"b")), ("cycle", [Fault(Trouble.UNNAMED, 2)], True)],
        {},
    ),
    "a new directory cannot be read and nothing may be deleted": (
        [],
        [do(("deep", b"a")), ("cycle", [Fault(Trouble.UNREADABLE, 1)], True)],
        {"delete": Delete.NEVER},
    ),
    "what could not be read moves away": (
        TWO_DIRECTORIES,
        [
            do(("rename", b"a", b"c")),
            ("cycle", [Fault(Trouble.UNREADABLE, 1)], True),
            do(("rename", b"c/b", b"b/c"), ("touch", b"b/b/f", 1)),
        ],
        {},
    ),
    "what was to be sent with all below it is a file when its run is killed": (
        [],
        [do(("deep", b"a")), ("cycle", [], False), do(("swap", b"a", "f")), ("run", Fault(Trouble.DEAD, 1))],
        {},
    ),
    "a run is killed and leaves half a file": (
        TWO_DIRECTORIES,
        [do(("write", b"a/b/f")), ("cycle", [Fault(Trouble.DEAD, 2)], True)],
        {},
    ),
    "a run is killed and leaves half a file where nothing may be deleted": (
        TWO_DIRECTORIES,
        [do(("write", b"a/b/f")), ("cycle", [Fault(Trouble.DEAD, 2)], True)],
        {"delete": Delete.NEVER},
    ),
    "a killed run leaves half a file in a new directory where nothing may be deleted": (
        [],
        [do(("deep", b"a")), ("cycle", [Fault(Trouble.DEAD, 2)], True)],
        {"delete": Delete.NEVER},
    ),
    "a killed full sync leaves half a file where nothing may be deleted": (
        [("deep", b"a")],
        [("walk", 1000), ("cycle", [Fault(Trouble.DEAD, 2)], True)],
        {"delete": Delete.NEVER, "watched_before": False},
    ),
    "half a file is left of one that goes where nothing may be deleted": (
        [],
        [do(("deep", b"a")), ("cycle", [Fault(Trouble.DEAD, 2)], False), do(("remove", b"a/f"))],
        {"delete": Delete.NEVER},
    ),
    "a run is cut short by an overflow and leaves half a file where nothing may be deleted": (
        ONE_FILE,
        [do(("write", b"a")), READ, ("dispatch",), do(("mkdir", b"b")), ("overflow",)],
        {"delete": Delete.NEVER},
    ),
    "a failed batch meets a move of what it held": (
        TWO_DIRECTORIES,
        [
            do(("write", b"a/b/f")),
            ("cycle", [], False),
            do(("rename", b"a", b"b/a")),
            READ,
            ("run", Fault(Trouble.DEAD, 0)),
        ],
        {},
    ),
    "two directories are exchanged (A5)": (
        TWO_DIRECTORIES,
        [do(("exchange", b"a", b"b")), CYCLE, do(("write", b"a/b/f"), ("write", b"b/b/f"))],
        {},
    ),
    "a chain of renames with the same size and time (B6)": (
        [("write", b"a"), ("write", b"b")],
        [do(("rename", b"a", b"x"), ("rename", b"b", b"a"), ("rename", b"x", b"b"))],
        {},
    ),
    "a directory is made and its parent moves before anything is read (D2)": (
        [("mkdir", b"a")],
        [do(("mkdir", b"a/b"), ("rename", b"a", b"b"), ("write", b"b/b/f")), CYCLE],
        {},
    ),
    "a name is left and taken again before anything is read (D3)": (
        [],
        [do(("mkdir", b"a"), ("rename", b"a", b"b"), ("mkdir", b"a")), ("read", 1, 1, [])],
        {},
    ),
    "a file becomes a directory and two directories change names (D4)": (
        [("write", b"a"), ("mkdir", b"b")],
        [do(("swap", b"a", "d"), ("exchange", b"a", b"b")), ("read", 1, 1, [("rename", b"b", b"a/b")])],
        {},
    ),
    "a symlink in the path leads back up (D7)": (
        [("deep", b"a/b/a")],
        [
            do(("move_out", b"a/b", b"x"), ("move_in", b"x", b"a/b"), ("remove", b"a/b/a")),
            ("read", 1, 1, [("symlink", b"a/b/a", b"../..")]),
            do(("remove", b"a/b"), ("symlink", b"a/b", b".."), ("mkdir", b"a/a")),
        ],
        {},
    ),
    "a directory is swapped for a symlink to outside while its run waits": (
        TWO_DIRECTORIES,
        [do(("write", b"a/b/f")), ("cycle", [], False), do(("swap", b"a", "l"))],
        {},
    ),
}


@pytest.mark.parametrize("delete", [Delete.RUNNING, Delete.NEVER])
@pytest.mark.parametrize("real_rsync", [False, True], ids=["model", "rsync"])
def test_what_is_seen_to_go(folder: Path, real_rsync: bool, delete: Delete) -> None:
    with TemporaryDirectory(dir=folder) as base:
        playground = Playground(base.encode())
        for operation in (*TWO_DIRECTORIES, ("write", b"a/c"), ("write", b"a/stays"), ("write", b"c")):
            playground.do(operation)
        with Rig(playground, ("- c/",), delete=delete, real_rsync=real_rsync) as rig:
            rig.settle()
            # gone while nobody looked, and gone before everybody's eyes
            playground.do(("remove", b"a/stays"))
            rig.overflow()
            rig.settle()
            # and a file in whose place is what the filter hides
            for operation in (("remove", b"a/c"), ("rename", b"b", b"d"), ("swap", b"c", "d")):
                playground.do(operation)
            rig.settle()
            extra = set(rig.held_by_target()) - set(rig.expected())
    seen_to_go = {b"a/c", b"b", b"b/b", b"b/b/f", b"c"}
    assert extra == {b"a/stays"} | (set() if delete is Delete.RUNNING else seen_to_go)


@pytest.mark.parametrize("real_rsync", [False, True], ids=["model", "rsync"])
@pytest.mark.parametrize("story", STORIES)
def test_stories(folder: Path, story: str, real_rsync: bool) -> None:
    before, steps, options = STORIES[story]
    check(folder, before, steps, real_rsync=real_rsync, **options)
