# SPDX-License-Identifier: GPL-2.0-or-later
"""After any changes and failing runs the collator knows all that is wrong, and the target ends equal.

Source, target and kernel are models in memory (helpers/purerig.py); collator and mirror are the real ones.
The target makes moves, or drops them all. After each step an oracle (helpers/oracle.py) asks whether
something is wrong on the target that no mark and no run tells of. All files have the same size and time.

The stories failed on each of these mutants: a move does not rename the marks below it, or leaves them behind
(A1); a mark that covers it from above stays (A2, A3); what a move lands on stays new, or is new in flight or
in trouble (A6); a dropped move marks one end (A9), or not the parents' times; what a run may have written is
not dirty when it moves, forgotten at the run's end, or an entry only (B2, B3); marks as ATTRIB makes them
where a name changed its file (B6); what failed is not renamed by later moves, or not brought back (C3, C6);
what is in the lane goes with a batch too, or is not brought back; open files do not move; collapsed
directories lose their names; troubled marks are lost.

Not caught by a story: lists of a batch outside of what it may have touched (B1), for levels only delete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from helpers.carrier import Operation
from helpers.modelrsync import Fault, Trouble
from helpers.purerig import EVERYTHING, check
from helpers.spots import ANY, NEW, OLD, OUTSIDE
from hypothesis import given, settings
from hypothesis import strategies as st

from lsyncd_sd.config.model import Delete
from lsyncd_sd.plan import marktree
from lsyncd_sd.plan.collator import Limits

Step = tuple[Any, ...]


@pytest.fixture(autouse=True)
def _small_directories() -> Iterator[None]:
    """Collapse directories that are as small as those of these tests."""
    with mock.patch.object(marktree, "FEWEST_COLLAPSED", 2):
        yield


OPERATIONS = st.one_of(
    st.tuples(st.just("write"), ANY),
    st.tuples(st.just("rename"), OLD, NEW),
    st.tuples(st.just("rename"), OLD, ANY),
    st.tuples(st.just("deep"), NEW),
    st.tuples(st.just("mkdir"), NEW),
    st.tuples(st.just("remove"), OLD),
    st.tuples(st.just("exchange"), OLD, OLD),
    st.tuples(st.just("swap"), OLD, st.sampled_from("fdl")),
    st.tuples(st.just("append"), OLD),
    st.tuples(st.just("close"), OLD),
    st.tuples(st.just("rmdir"), OLD),
    st.tuples(st.just("symlink"), NEW, st.sampled_from([b"a", b"..", b"../b"])),
    st.tuples(st.just("move_out"), OLD, OUTSIDE),
    st.tuples(st.just("move_in"), OUTSIDE, ANY),
    st.tuples(st.just("touch"), OLD, st.sampled_from([0, 1, 2])),
    st.tuples(st.just("chmod"), OLD, st.sampled_from([0o700, 0o711, 0o755])),
)
STARTS: st.SearchStrategy[list[Operation]] = st.sampled_from(
    [
        [],
        [("deep", b"a/b"), ("deep", b"b/b"), ("write", b"a/c")],
        [("deep", b"a/b"), ("write", b"b"), ("mkdir", b"c")],
        [("write", b"a"), ("write", b"b"), ("mkdir", b"c")],
    ]
)
FAULTS = st.builds(Fault, st.sampled_from(Trouble), st.integers(0, 20), st.booleans())
RUNS = st.tuples(st.just("run"), FAULTS | st.builds(Fault, stale=st.booleans()))
CHANGES = st.tuples(st.just("do"), st.lists(OPERATIONS, min_size=1, max_size=3))
READS = st.tuples(
    st.just("read"), st.sampled_from([1, 1, 2, 3, EVERYTHING]), st.integers(0, 7), st.booleans()
)
STEPS = st.one_of(
    CHANGES,
    CHANGES,
    READS,
    READS,
    RUNS,
    RUNS,
    st.tuples(st.just("dispatch")),
    st.tuples(st.just("dispatch")),
    st.tuples(st.just("cycle"), st.lists(FAULTS, max_size=4), st.booleans()),
    st.tuples(st.just("overflow")),
    st.tuples(st.just("dispatch_large")),
    st.tuples(st.just("run_large"), FAULTS),
)
LIMITS = st.builds(
    Limits,
    delay=st.just(0),
    max_changes=st.just(1000),
    open_file_delay=st.just(8),
    max_moves=st.sampled_from([0, 2, 1000, 1000]),
    max_marks=st.sampled_from([6, 100_000, 100_000, 100_000]),
)
RULES = st.sampled_from([(), (), (), ("- b",), ("- a/",), ("H b",), ("- /a/b",)])
DELETE = st.sampled_from([*[Delete.ALWAYS] * 4, Delete.RUNNING, Delete.NEVER])


def test_all_that_is_wrong_is_known(full: bool) -> None:
    @settings(max_examples=20_000 if full else 500)
    @given(
        STARTS,
        st.lists(OPERATIONS, max_size=4),
        st.lists(STEPS, max_size=40),
        RULES,
        DELETE,
        LIMITS,
        st.booleans(),
    )
    def is_known(
        before: list[Operation],
        more: list[Operation],
        steps: list[Step],
        rules: tuple[str, ...],
        delete: Delete,
        limits: Limits,
        lane: bool,
    ) -> None:
        check(
            [*before, *more],
            steps,
            rules=rules,
            delete=delete,
            limits=limits,
            lane=lane,
            leftovers=False,
        )

    is_known()


READ = ("read", EVERYTHING)
READ_ONE = ("read", 1)
SEND = ("cycle", [], True)
BEGIN = ("dispatch",)
RUN = ("run", Fault())
FAIL = ("run", Fault(Trouble.UNREADABLE, 0))
DIE = ("run", Fault(Trouble.DEAD, 0))
TWO: list[Operation] = [("deep", b"a/b"), ("deep", b"b/b")]
FEW_MARKS = {"limits": Limits(0, 1000, 8, 1000, max_marks=2)}


def do(*operations: Operation) -> Step:
    return "do", list(operations)


STORIES: dict[str, tuple[list[Operation], list[Step], dict[str, Any]]] = {
    "what was written moves along (A1)": (
        [("deep", b"p")],
        [do(("write", b"p/f"), ("rename", b"p", b"q"))],
        {},
    ),
    "what could not be read moves along (A1)": (
        [("deep", b"p")],
        [do(("write", b"p/f")), READ, BEGIN, FAIL, READ, do(("rename", b"p", b"q")), SEND],
        {},
    ),
    "a large file moves before it is sent (A1)": (
        [("deep", b"p"), ("write", b"p/b")],
        [do(("write", b"p/b")), READ, BEGIN, RUN, READ, do(("rename", b"p", b"q")), SEND],
        {"lane": True},
    ),
    "what is written to and stays open moves along (A1)": (
        [("deep", b"p")],
        [do(("append", b"p/f")), READ, do(("rename", b"p", b"q")), SEND],
        {},
    ),
    "a name leaves a dirty subtree (A2)": (
        [("deep", b"p"), ("move_out", b"p", b"x"), ("deep", b"p")],
        [do(("remove", b"p"), ("move_in", b"x", b"p"), ("rename", b"p/f", b"z"))],
        {},
    ),
    "a name leaves a directory that is taken as a whole (A3)": (
        [("deep", b"p"), ("write", b"p/a"), ("write", b"p/b"), ("mkdir", b"q")],
        [do(("write", b"p/a"), ("write", b"p/b"), ("write", b"p/f")), READ, do(("rename", b"p/a", b"q/a"))],
        FEW_MARKS,
    ),
    "a move lands on a dirty file (A4)": (
        [("write", b"a"), ("write", b"b")],
        [do(("write", b"b"), ("rename", b"a", b"b"))],
        {},
    ),
    "two names are exchanged (A5)": ([*TWO, ("write", b"b/x")], [do(("exchange", b"a", b"b")), SEND], {}),
    "two names are exchanged, and between its halves a batch is sent (A5)": (
        TWO,
        [do(("exchange", b"a/b", b"b/b")), READ_ONE, BEGIN, RUN, RUN, RUN],
        {},
    ),
    "two names are exchanged, and the first half is given up (A5)": (
        [("write", b"a"), ("write", b"b")],
        [do(("exchange", b"a", b"b")), ("read", 1, 1), BEGIN, RUN, ("read", 1)],
        {},
    ),
    "a file comes and goes ahead of its changes (A6)": (
        [("deep", b"p"), ("write", b"p/a"), ("write", b"p/b")],
        [
            do(("write", b"p/a"), ("write", b"p/b"), ("write", b"p/f")),
            READ,
            BEGIN,
            do(("write", b"p/c")),
            ("run_to_end",),
            do(("remove", b"p/c")),
        ],
        FEW_MARKS,
    ),
    "something moves over a new file, and on (A6)": (
        [("write", b"x")],
        [do(("write", b"c"), ("rename", b"x", b"c"), ("rename", b"c", b"y"))],
        {},
    ),
    "something is moved in over a file, and goes (A6)": (
        [("write", b"x"), ("move_out", b"x", b"x"), ("write", b"a")],
        [do(("move_in", b"x", b"a"), ("remove", b"a"))],
        {},
    ),
    "a new file is exchanged with an excluded one (A6)": (
        [("write", b"b")],
        [do(("write", b"a"), ("exchange", b"b", b"a"))],
        {"rules": ("- b",)},
    ),
    "a new file stands where another one has moved away (A6)": (
        [("write", b"a")],
        [do(("rename", b"a", b"b"), ("write", b"a")), READ, BEGIN, FAIL],
        {},
    ),
    "a new file goes after its batch has failed half-way (A6)": (
        [],
        [do(("write", b"c")), READ, BEGIN, ("run", Fault(Trouble.DEAD, 2)), do(("remove", b"c"))],
        {},
    ),
    "a new name changes the time of its directory although it is gone (A6)": (
        [("mkdir", b"d")],
        [do(("write", b"d/c"), ("remove", b"d/c"))],
        {},
    ),
    "a directory moves into a new one (A7)": (
        TWO,
        [do(("mkdir", b"n"), ("rename", b"a", b"n/a"), ("rename", b"n", b"m"), ("write", b"b/b/f"))],
        {},
    ),
    "there are more moves than a batch may carry (A9)": (
        [("write", b"a"), ("write", b"b"), ("deep", b"d")],
        [
            do(("write", b"d/f"), ("rename", b"d", b"e"), ("rename", b"a", b"x")),
            do(("rename", b"b", b"a"), ("rename", b"x", b"b")),
        ],
        {"limits": Limits(0, 1000, 8, max_moves=2)},
    ),
    "a level is deleted ahead of a move (B1)": (
        [("deep", b"a"), ("write", b"a/b"), ("write", b"a/d"), ("deep", b"c"), ("write", b"c/a")],
        [do(("remove", b"a/b")), READ, BEGIN, do(("exchange", b"a/d", b"c/a")), RUN, READ],
        {},
    ),
    "another directory stands in the path while a file is sent (B2)": (
        [("deep", b"p")],
        [
            do(("write", b"p/g")),
            READ,
            BEGIN,
            do(("rename", b"p", b"q"), ("mkdir", b"p"), ("write", b"p/g")),
            RUN,
        ],
        {},
    ),
    "a name leaves a subtree that is being sent, and is taken again (B2)": (
        [("deep", b"p"), ("move_out", b"p", b"x"), ("deep", b"p")],
        [
            do(("remove", b"p"), ("move_in", b"x", b"p")),
            READ,
            BEGIN,
            do(("rename", b"p/f", b"z"), ("write", b"p/f")),
            RUN,
        ],
        {},
    ),
    "a second batch is begun before all is read that the first one knew (B4)": (
        [("deep", b"p"), ("write", b"x")],
        [
            do(("write", b"p/g")),
            READ,
            BEGIN,
            do(("chmod", b"x", 0o700), ("rename", b"p", b"q"), ("mkdir", b"p"), ("write", b"p/g")),
            RUN,
            READ_ONE,
            BEGIN,
        ],
        {},
    ),
    "a file stands in the path while a directory's mode is sent (B3)": (
        [("deep", b"a/b"), ("mkdir", b"c"), ("write", b"c/b")],
        [do(("chmod", b"a/b", 0o700)), READ, BEGIN, do(("rename", b"a", b"x"), ("rename", b"c", b"a")), RUN],
        {},
    ),
    "two files change names (B6)": (
        [("write", b"a"), ("write", b"b")],
        [do(("rename", b"a", b"x"), ("rename", b"b", b"a"), ("rename", b"x", b"b")), SEND],
        {},
    ),
    "on the target a symlink still stands above the new name (C1)": (
        [("symlink", b"L", b"d"), ("mkdir", b"d"), ("write", b"x")],
        [do(("remove", b"L"), ("mkdir", b"L"), ("rename", b"x", b"L/y"))],
        {},
    ),
    "on the target a directory is still in the way (C2)": (
        TWO,
        [do(("remove", b"b"), ("rename", b"a", b"b"))],
        {},
    ),
    "on the target something else stands at the old name (C2)": (
        [("deep", b"b")],
        [do(("swap", b"b", "f"), ("rename", b"b", b"a"), ("remove", b"a"))],
        {"rules": ("- a/",)},
    ),
    "a move fails while its new name moves on (C3)": (
        [("write", b"c"), ("deep", b"p"), ("write", b"p/c")],
        [do(("rename", b"c", b"p/c")), READ, BEGIN, do(("rename", b"p/c", b"z")), READ, FAIL],
        {},
    ),
    "a move is made, and its answer is lost (C3)": (
        [("write", b"c"), ("deep", b"p")],
        [
            do(("rename", b"c", b"p/c")),
            READ,
            BEGIN,
            do(("rename", b"p", b"q")),
            READ,
            ("run", Fault(Trouble.UNNAMED, 0)),
        ],
        {},
    ),
    "the first of three moves fails (C4)": (
        [("write", b"x"), ("write", b"y")],
        [do(("rename", b"x", b"t"), ("rename", b"y", b"x"), ("rename", b"t", b"y")), READ, BEGIN, FAIL],
        {},
    ),
    "a move fails in the batch that sends what had moved along (C5)": (
        TWO,
        [do(("write", b"a/b/f"), ("rename", b"a", b"c")), READ, BEGIN, DIE, do(("rename", b"c", b"a"))],
        {},
    ),
    "a batch fails as a whole (C6)": (TWO, [do(("write", b"a/b/f")), READ, BEGIN, DIE], {}),
    "a failed batch meets moves of what it held (C6)": (
        TWO,
        [
            do(("write", b"a/b/f"), ("rename", b"a/b/f", b"a/g")),
            READ,
            BEGIN,
            RUN,
            do(("rename", b"a", b"b/a"), ("rename", b"b", b"c")),
            READ,
            DIE,
        ],
        {},
    ),
    "a move goes with what is tried again (C6)": (
        [("write", b"a")],
        [
            do(("write", b"a")),
            READ,
            BEGIN,
            FAIL,
            *[READ] * 4,
            do(("rename", b"a", b"b")),
            READ,
            BEGIN,
            ("run_to_end",),
        ],
        {},
    ),
    "changes are lost after a move (D9)": (
        TWO,
        [do(("rename", b"a", b"c")), READ, do(("write", b"c/b/f")), ("overflow",)],
        {},
    ),
    "a large file changes while it is sent": (
        [("write", b"b")],
        [do(("touch", b"b", 1)), READ, BEGIN, RUN, do(("write", b"b")), ("dispatch_large",), READ, BEGIN],
        {"lane": True},
    ),
    "a large file is sent, and its directory with another one": (
        [("mkdir", b"d"), ("write", b"d/b"), ("move_out", b"d", b"x"), ("mkdir", b"d"), ("write", b"d/b")],
        [
            do(("touch", b"d/b", 1)),
            READ,
            BEGIN,
            RUN,
            ("dispatch_large",),
            do(("remove", b"d"), ("move_in", b"x", b"d")),
            READ,
            BEGIN,
            RUN,
            ("run_large", Fault(stale=True)),
        ],
        {"lane": True},
    ),
    "a large file has moved, but not yet on the target": (
        [("mkdir", b"q"), ("deep", b"p"), ("write", b"p/b")],
        [
            do(("write", b"p/b")),
            READ,
            BEGIN,
            RUN,
            do(("rename", b"p/b", b"q/b")),
            READ,
            ("dispatch_large",),
            ("run_large", Fault()),
        ],
        {"lane": True},
    ),
    "a large file becomes a directory while it is sent": (
        [("mkdir", b"a")],
        [do(("write", b"b")), READ, BEGIN, ("dispatch_large",), do(("swap", b"b", "d"), ("write", b"b/f"))],
        {"lane": True},
    ),
    "a large file moves while it is sent, and fails": (
        [("deep", b"p"), ("write", b"p/b")],
        [
            do(("write", b"p/b")),
            READ,
            BEGIN,
            ("dispatch_large",),
            do(("rename", b"p", b"q")),
            READ,
            ("run_large", Fault(Trouble.UNREADABLE, 0)),
        ],
        {"lane": True},
    ),
    "a log stays open while it is renamed": (
        [("write", b"log")],
        [do(("append", b"log")), READ, do(("rename", b"log", b"log.1"), ("append", b"log.1")), SEND],
        {},
    ),
    "what stays open gets another mode": (
        [("write", b"a")],
        [do(("append", b"a")), READ, do(("chmod", b"a", 0o700)), SEND],
        {},
    ),
    "a file is written to in a directory of which only attributes are to be sent": (
        [("deep", b"p"), ("write", b"p/a"), ("write", b"p/b")],
        [
            do(("chmod", b"p/a", 0o600), ("chmod", b"p/b", 0o600), ("chmod", b"p/f", 0o600)),
            READ,
            do(("write", b"p/a"), ("deep", b"p/c")),
            SEND,
        ],
        FEW_MARKS,
    ),
    "there is too much to remember": (
        [("deep", b"a"), ("deep", b"b"), ("deep", b"c"), ("write", b"d")],
        [do(("write", b"a/f"), ("write", b"b/f"), ("write", b"c/f"), ("rename", b"d", b"e"))],
        FEW_MARKS,
    ),
}


@pytest.mark.parametrize("is_moving", [True, False], ids=["moves", "no moves"])
@pytest.mark.parametrize("story", STORIES)
def test_stories(story: str, is_moving: bool) -> None:
    before, steps, options = STORIES[story]
    limits = options.get("limits", Limits(0, 1000, 8, max_moves=1000))
    if not is_moving:
        limits = Limits(0, 1000, 8, max_moves=0, max_marks=limits.max_marks)
    check(before, steps, **(options | {"limits": limits}))
