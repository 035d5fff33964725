# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever happens before, in and after a crash or an overflow, a rescan makes it up: the target is equal.

The source, the kernel's times and queue, and the files of the checkpoints are real; the target is a model
of rsync and of renames. All files have the same size and time: only exact runs see their content. There are
no full syncs: what a rescan misses stays wrong.

The stories failed on each of these mutants: no intents; none of what a run lists; none of moves; nothing is
known to be dirty at a checkpoint, or nothing to be under way; its time, or its table, is that of its end;
half of what is queued is read before it; only the intents of the snapshot's own number are read; a directory
is known by its inode, its name, both, or its parent's inode and name; unknown directories, files, or touched
subtrees are not exact; changed directories are no levels, nor those of files that a killed run was sending;
no directory may have been away; nothing in a touched level may have been; it is taken to have been touched
later than it was; moves are trusted during a rescan, or between its end and the next read; a checkpoint is
made during it.

Alone the following changed nothing: no intents of a batch's marks besides what its runs list (after a power
cut they say more); no mark where a directory could not be opened, for its events do.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from helpers.carrier import ENDED, Operation
from helpers.crashrig import CrashRig
from helpers.modelrsync import Fault, Trouble
from helpers.spots import ANY, NEW, OLD, OUTSIDE
from helpers.trees import Playground, Spot
from hypothesis import given, settings
from hypothesis import strategies as st

from lsyncd_sd.plan.collator import Limits

Step = tuple[Any, ...]


OPERATIONS = st.one_of(
    st.tuples(st.just("write"), ANY),
    st.tuples(st.just("rename"), OLD, NEW),
    st.tuples(st.just("rename"), OLD, ANY),
    st.tuples(st.just("exchange"), OLD, OLD),
    st.tuples(st.just("deep"), NEW),
    st.tuples(st.just("mkdir"), NEW),
    st.tuples(st.just("remove"), OLD),
    st.tuples(st.just("swap"), OLD, st.sampled_from("fdl")),
    st.tuples(st.just("move_out"), OLD, OUTSIDE),
    st.tuples(st.just("move_in"), OUTSIDE, ANY),
    st.tuples(st.just("touch"), OLD, st.sampled_from([0, 1, 2])),
    st.tuples(st.just("chmod"), OLD, st.sampled_from([0o700, 0o711, 0o755])),
)
FAULTS = st.builds(Fault, st.sampled_from(Trouble), st.integers(0, 20), st.booleans()) | st.just(Fault())
DEATHS = st.builds(Fault, st.just(Trouble.DEAD), st.integers(0, 20), st.booleans())
STEPS = st.one_of(
    st.tuples(st.just("do"), st.lists(OPERATIONS, min_size=1, max_size=4)),
    st.tuples(st.just("cycle"), st.lists(FAULTS, max_size=4), st.booleans()),
    st.tuples(st.just("crash"), DEATHS),
    st.tuples(st.just("do"), st.lists(OPERATIONS, min_size=1, max_size=2)),
    st.tuples(
        st.just("read"),
        st.integers(1, 4),
        st.sampled_from([1, 2, 5, 1000]),
        st.lists(OPERATIONS, max_size=3),
    ),
    st.tuples(st.just("cycle"), st.just([]), st.just(True)),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("write")),
    st.tuples(st.just("abandon")),
    st.tuples(st.just("dispatch")),
    st.tuples(st.just("dispatch_large")),
    st.tuples(st.just("run"), FAULTS),
    st.tuples(st.just("run_large"), FAULTS),
    st.tuples(st.just("walk"), st.sampled_from([1, 2, 1000])),
    st.tuples(st.just("look"), st.sampled_from([1, 3, 1000])),
    st.tuples(st.just("settle")),
    st.tuples(st.just("overflow")),
)
RULES = st.sampled_from([(), (), ("- b",), ("- a/",), ("- /a/b",)])
LIMITS = st.builds(
    Limits,
    delay=st.just(0),
    max_changes=st.just(1000),
    open_file_delay=st.just(8),
    max_moves=st.sampled_from([0, 100]),
    max_marks=st.sampled_from([100_000, 6]),
)

CALM: list[Step] = [("settle",), ("checkpoint",), ("write",)]
READ: Step = ("read", 32, 1000, [])


def undone(
    change: Operation, spot: Spot, other: Spot, up: int, detour: str, runs: list[Fault], death: Fault
) -> list[Step]:
    """Return a story of which only the target keeps a trace: what changes back before it is seen."""
    if detour == "move":
        return [*CALM, ("move_for_a_while", spot, other, runs), ("crash", death)]
    steps: list[Step] = [*CALM, ("do", [(change[0], spot, *change[1:])]), READ, ("dispatch",)]
    if detour == "swap":
        steps.append(("swap_for_a_while", spot, up, other, runs))
    else:
        steps.append(("detour", spot, up, STAND_INS[detour], runs))
    return [*steps, ("crash", death)]


STAND_INS: dict[str, Operation | None] = {
    "nothing": None,
    "file": ("write",),
    "directory": ("mkdir",),
    "symlink": ("symlink", b"../../secret"),
}
UNDONE = st.builds(
    undone,
    st.sampled_from([("write",), ("chmod", 0o711), ("remove",), ("deep",), ("touch", 1), ("swap", "d")]),
    OLD,
    ANY,
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([*STAND_INS, "swap", "move"]),
    st.lists(FAULTS, min_size=1, max_size=3),
    DEATHS,
)


def check(
    folder: Path,
    before: list[Operation],
    steps: list[Step],
    rules: tuple[str, ...] = (),
    limits: Limits | None = None,
    lane: bool = False,
) -> None:
    """Carry out the steps, crash once more, let everything come to rest, and look at the target.

    Whenever everything has come to rest, the target has to be equal.
    """
    limits = limits or Limits(delay=0, max_changes=1000)
    with TemporaryDirectory(dir=folder) as base:
        playground = Playground(base.encode())
        for operation in before:
            playground.do(operation)
        with CrashRig(playground, rules, limits=limits, lane=lane) as rig:
            for name, *arguments in steps:
                rig.step(name, arguments)
            rig.crash(ENDED)
            rig.settle()


def number_of_examples(request: pytest.FixtureRequest, quick: int) -> int:
    """Return how many examples to try: twenty times as many in the full profile."""
    return quick * 20 if request.config.getoption("--full") else quick


def test_any_crash_is_made_up_for(folder: Path, request: pytest.FixtureRequest) -> None:
    @settings(max_examples=number_of_examples(request, 300))
    @given(st.lists(OPERATIONS, max_size=8), st.lists(STEPS, max_size=25), RULES, LIMITS, st.booleans())
    def is_made_up_for(
        before: list[Operation], steps: list[Step], rules: tuple[str, ...], limits: Limits, lane: bool
    ) -> None:
        check(folder, before, steps, rules, limits, lane)

    is_made_up_for()


def test_what_runs_did_and_nobody_saw_is_made_up_for(folder: Path, request: pytest.FixtureRequest) -> None:
    @settings(max_examples=number_of_examples(request, 200))
    @given(st.lists(OPERATIONS, max_size=10), st.lists(UNDONE, min_size=1, max_size=4), RULES, LIMITS)
    def is_made_up_for(
        before: list[Operation], stories: list[list[Step]], rules: tuple[str, ...], limits: Limits
    ) -> None:
        check(folder, before, [step for story in stories for step in story], rules, limits)

    is_made_up_for()


def do(*operations: Operation) -> Step:
    return "do", list(operations)


CRASH: Step = ("crash", ENDED)
CUT_SHORT: Step = ("crash", Fault(Trouble.DEAD, 2))
BEGIN: list[Step] = [READ, ("dispatch",)]
RUN = Fault()
TWO_DIRECTORIES: list[Operation] = [("deep", b"a/b"), ("deep", b"b/b")]
MOVES = Limits(delay=0, max_changes=1000, max_moves=100)

STORIES: dict[str, tuple[list[Operation], list[Step]]] = {
    # ---- what changes while nobody watches
    "a file is written": ([("write", b"a")], [CRASH, do(("write", b"a"))]),
    "a file goes": (TWO_DIRECTORIES, [CRASH, do(("remove", b"a/b/f"))]),
    "two directories are exchanged": (TWO_DIRECTORIES, [CRASH, do(("exchange", b"a", b"b"))]),
    "two directories of one name change parents": (
        TWO_DIRECTORIES,
        [CRASH, do(("rename", b"a/b", b"x"), ("rename", b"b/b", b"a/b"), ("rename", b"x", b"b/b"))],
    ),
    "an old directory takes the place of another": (
        [("deep", b"a/b"), ("move_out", b"a", b"x"), ("deep", b"a/b")],
        [CRASH, do(("move_out", b"a", b"y"), ("move_in", b"x", b"a"))],
    ),
    # ---- what is known at a checkpoint
    "a change was not sent when it was made": (TWO_DIRECTORIES, [do(("write", b"a/b/f")), *CALM[1:]]),
    "a move was not sent when it was made": (TWO_DIRECTORIES, [do(("rename", b"a", b"c")), *CALM[1:]]),
    "a run was under way when it was made": (
        TWO_DIRECTORIES,
        [do(("write", b"a/b/f")), *BEGIN, *CALM[1:]],
    ),
    "a move was under way when it was made": (
        TWO_DIRECTORIES,
        [do(("rename", b"a", b"c")), *BEGIN, *CALM[1:], ("crash", Fault(Trouble.UNNAMED, 0))],
    ),
    "a file is written while it is made": (
        TWO_DIRECTORIES,
        [("checkpoint",), do(("write", b"a/b/f")), ("write",)],
    ),
    "a directory moves while it is made": (
        TWO_DIRECTORIES,
        [("checkpoint",), do(("rename", b"a", b"c")), READ, ("write",)],
    ),
    "a run begins while it is made": (
        TWO_DIRECTORIES,
        [
            *CALM,
            do(("chmod", b"a/b", 0o711)),
            READ,
            ("checkpoint",),
            ("dispatch",),
            ("detour", b"a/b", 0, ("write",), [RUN]),
            ("write",),
        ],
    ),
    "a run begins and ends while it is made, and it never is": (
        TWO_DIRECTORIES,
        [
            *CALM,
            ("checkpoint",),
            do(("chmod", b"a/b", 0o711)),
            *BEGIN,
            ("detour", b"a/b", 0, ("write",), [RUN]),
            CRASH,
        ],
    ),
    # ---- what only the target keeps a trace of
    "a directory is a file while its attributes are sent (E2)": (
        TWO_DIRECTORIES,
        [*CALM, do(("chmod", b"a/b", 0o711)), *BEGIN, ("detour", b"a/b", 0, ("write",), [RUN])],
    ),
    "the directory above is empty while its names are made equal": (
        [*TWO_DIRECTORIES, ("write", b"a/b/x")],
        [*CALM, do(("remove", b"a/b/x")), *BEGIN, ("detour", b"a/b", 0, ("mkdir",), [RUN])],
    ),
    "a directory is away while the names beside it are made equal": (
        [("deep", b"a/b/c"), ("write", b"a/b/x")],
        [*CALM, do(("remove", b"a/b/x")), *BEGIN, ("detour", b"a/b/c", 0, None, [RUN])],
    ),
    "another directory stands there while it is sent": (
        [*TWO_DIRECTORIES, ("move_out", b"b", b"x")],
        [
            *CALM,
            do(("move_in", b"x", b"b")),
            *BEGIN,
            ("swap_for_a_while", b"a", 0, b"b", [RUN]),
        ],
    ),
    "a move is made and taken back": (
        TWO_DIRECTORIES,
        [*CALM, ("move_for_a_while", b"a", b"c", []), ("crash", Fault(Trouble.UNNAMED, 0))],
    ),
    "a run is killed with half a file": (
        TWO_DIRECTORIES,
        [*CALM, do(("write", b"a/b/f")), *BEGIN, CUT_SHORT],
    ),
    # ---- what happens while the source is looked through
    **{
        f"a directory moves after {names} names": (
            [*TWO_DIRECTORIES, ("mkdir", b"c"), ("deep", b"d")],
            [
                CRASH,
                do(("write", b"a/b/f"), ("write", b"d/f")),
                ("walk", 1000),
                ("look", names),
                do(("rename", b"a", b"c/a"), ("rename", b"d", b"x")),
                READ,
                ("settle",),
            ],
        )
        for names in range(1, 12)
    },
    **{
        f"a directory moves after {names} names and is seen when all were looked at": (
            [*TWO_DIRECTORIES, ("mkdir", b"c"), ("deep", b"d")],
            [
                CRASH,
                do(("write", b"a/b/f"), ("write", b"d/f")),
                ("walk", 1000),
                ("look", names),
                do(("rename", b"a", b"c/a"), ("rename", b"d", b"x")),
                ("look", 1000),
                ("settle",),
            ],
        )
        for names in range(1, 12)
    },
    "a checkpoint is asked for meanwhile": (
        TWO_DIRECTORIES,
        [
            *[CRASH, do(("write", b"a/b/f"), ("write", b"b/b/f")), ("walk", 1000), ("look", 2)],
            *CALM[1:],
        ],
    ),
    "it crashes meanwhile": (
        TWO_DIRECTORIES,
        [
            *[CRASH, do(("write", b"a/b/f"), ("write", b"b/b/f")), ("walk", 1000), ("look", 3)],
            ("cycle", [], True),
        ],
    ),
}


@pytest.mark.parametrize("limits", [None, MOVES], ids=["no moves", "moves"])
@pytest.mark.parametrize("story", STORIES)
def test_stories(folder: Path, story: str, limits: Limits | None) -> None:
    before, steps = STORIES[story]
    check(folder, before, steps, limits=limits)
