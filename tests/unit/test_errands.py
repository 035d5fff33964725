# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/errands.py: guards before anything is sent, and what is remembered.

Source, locks and state are real; the mirror says what the test wants.
"""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.syncs import PLAIN_RSYNC, local_target, make_sync

from lsyncd_sd.config.model import Delete, MaxDeletes, Target, TargetKind
from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror.command import Commands, Statistics
from lsyncd_sd.mirror.moving import Moved
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.report import Report
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.batch import Mark, Marks, Sample
from lsyncd_sd.plan.change import Depth, Move
from lsyncd_sd.plan.collator import Collator, Limits, Load
from lsyncd_sd.plan.deletions import Deletions
from lsyncd_sd.plan.filters import Filter
from lsyncd_sd.plan.guard import Hold, Identity, Memory, MountPoint
from lsyncd_sd.service import guards
from lsyncd_sd.service.checkpoint import Checkpoints
from lsyncd_sd.service.errands import Errands
from lsyncd_sd.service.interruptions import (
    HeldError,
    HostBusyError,
    SourceLostError,
    TroubleError,
    UnsettledError,
)
from lsyncd_sd.service.journal import Entry, Journal, Priority
from lsyncd_sd.service.ledger import Ledger, Look
from lsyncd_sd.service.links import LinkedNames
from lsyncd_sd.service.locks import FULL_SYNCS_PER_HOST, Locks
from lsyncd_sd.service.sourceside import SourceGate
from lsyncd_sd.service.state import Record, Store
from lsyncd_sd.watch.source import Source, identity_of

TARGET = Identity(7, 7)
OK = Verdict(Outcome.OK, "", 0)
REMOTE = Target("backup:/srv", TargetKind.SSH, "backup", "/srv")
MARKS: Marks = {b"a": Mark(Depth.ENTRY, exact=True)}


@dataclass
class FakeLeftovers:
    """Notes where temporary files are expected on the target, and whether there may be any."""

    there: bool = False
    expected: list[Marks] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.there

    def expect(self, marks: Marks) -> None:
        self.expected.append(marks)

    def forget(self) -> None:
        self.there = False
        self.expected.clear()


@dataclass
class FakeMirror:
    """A mirror that notes what it is asked for; its steps need no process."""

    commands: Commands
    answers: list[Identity | Verdict | None] = field(default_factory=lambda: [TARGET])
    would_be_deleted: int = 0
    needs_count: bool = False
    traits: Report = field(default_factory=lambda: Report(OK))
    result: Report = field(default_factory=lambda: Report(OK))
    asked: list[Any] = field(default_factory=list)
    allowances: list[int | None] = field(default_factory=list)
    used: list[Identity | None] = field(default_factory=list)
    leftovers: FakeLeftovers = field(default_factory=FakeLeftovers)

    on_run: Any = None
    reached: Verdict = field(default_factory=lambda: OK)

    def reach(self) -> Steps[Verdict]:
        self.asked.append("reach")
        return self.reached
        yield

    def close(self) -> None:
        self.asked.append("close")

    def moved(self, moves: Sequence[Move], unconfirmed: Sequence[Move]) -> None:
        self.asked.append(("moved", len(moves), len(unconfirmed)))

    def use_target(self, identity: Identity | None) -> None:
        self.used.append(identity)

    def target_identity(self) -> Steps[Identity | Verdict | None]:
        self.asked.append("target")
        # The last answer stays.
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        yield

    def count_full_sync(self) -> Steps[Deletions]:
        self.asked.append("count")
        return self._deletions()
        yield

    def needs_counting(self, _marks: Marks, _limit: int) -> bool:
        return self.needs_count

    def count_batch(self, marks: Marks) -> Steps[Deletions]:
        self.asked.append(("count", marks))
        return self._deletions()
        yield

    def _deletions(self) -> Deletions:
        deletions = Deletions()
        for number in range(self.would_be_deleted):
            deletions.deleted(b"%d" % number, is_directory=False)
        return deletions

    def find_traits(self, sample: Sample | None) -> Steps[Report]:
        self.asked.append(("traits", sample.path if sample else None))
        return self.traits
        yield

    def full_sync(self, *, may_create: bool, sample: Sample | None) -> Steps[Report]:
        self.asked.append(("full sync", may_create))
        self.allowances.append(self.commands.allowance)
        return self.result
        yield

    def batch(self, marks: Marks) -> Steps[Report]:
        self.asked.append(("batch", marks))
        self.allowances.append(self.commands.allowance)
        return self.result
        yield

    def large(self, marks: Marks) -> Steps[Report]:
        self.asked.append(("large", marks))
        return self.result
        yield


@dataclass
class FakeMover:
    """A mover that notes what it is asked for; `answer` is told once, then all is made."""

    answer: Moved | None = None
    asked: list[tuple[Sequence[Move], int | None]] = field(default_factory=list)

    def make(self, moves: Sequence[Move], may_replace: int | None) -> Steps[Moved]:
        self.asked.append((moves, may_replace))
        answer, self.answer = self.answer, None
        return Moved() if answer is None else answer
        yield


@dataclass
class AnswersWith:
    """Says that these file systems are mounted."""

    mounts: frozenset[MountPoint]

    def look(self) -> frozenset[MountPoint]:
        return self.mounts


class Case:
    """One sync with a source that holds one file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "file").write_text("content")
        os.utime(self.source / "file", ns=(10**18 + 5, 10**18 + 5))
        self.loop = Loop()
        self.locks = Locks(folder / "locks")
        self.entries: list[Entry] = []
        self.sync = make_sync(source=str(self.source), target=local_target(str(folder / "target")))
        self.looked = self.begun = 0
        self.load = Load((), MARKS)
        self.mover = FakeMover()
        self.restart()

    def restart(self, accepted: str = "", **changes: Any) -> None:
        """Be a new process, with some settings changed; what is `accepted` was before the first look."""
        self.sync = replace(self.sync, **changes)
        filters = Filter.from_excludes(self.sync.exclude)
        self.gate = SourceGate(self.sync.source)
        if self.source.is_dir():
            self.watch()
        self.store = Store(self.folder / "state", self.sync)
        self.mirror = FakeMirror(Commands(self.sync, filters))
        journal = Journal(self, Priority.DEBUG)
        mirror: Any = self.mirror
        links = LinkedNames(self.loop, self.gate.open, filters)
        checkpoints = Checkpoints(self.folder / "state", self.sync)
        look = Look(lambda: True, lambda: (), lambda: False)
        collator = Collator(Limits(self.sync.delay, self.sync.max_changes))
        ledger = Ledger(self.loop, self.sync.source, checkpoints, journal, collator, look)
        self.errands = Errands(
            self.sync, filters, self.gate, mirror, self.mover, links, ledger, self.store, self.locks, journal
        )
        self.errands.accept(accepted)

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)

    def watch(self) -> None:
        """Be watching what stands at the source's path now."""
        self.gate.identity = identity_of(os.fsencode(self.source))

    def empty(self) -> None:
        (self.source / "file").unlink()

    def replace_source(self) -> None:
        # The old one stays, so that the new one cannot get its inode.
        self.source.rename(self.folder / "old")
        shutil.copytree(self.folder / "old", self.source)

    def full_sync(self) -> Report:
        return finish(self.full_sync_steps())

    def full_sync_steps(self) -> Steps[Report]:
        return self.errands.full_sync(self._look, self._begin)

    def _look(self) -> None:
        self.looked += 1

    def _begin(self) -> None:
        self.begun += 1

    def batch(self) -> Report:
        return finish(self.batch_steps())

    def batch_steps(self) -> Steps[Report]:
        return self.errands.batch(lambda: self.load, self._begin)

    def sent(self) -> bool:
        """Whether anything was sent to the target."""
        return any(asked[0] in ("full sync", "batch", "traits") for asked in self.mirror.asked)

    def remembered(self) -> Record:
        return self.store.load()


def finish(steps: Steps[Report]) -> Report:
    """Run steps that need no process, and return what they return."""
    with pytest.raises(StopIteration) as caught:
        next(steps)
    report: Report = caught.value.value
    return report


def refused(case: Case) -> str:
    """Check that a full sync is held before it begins; return its token."""
    with pytest.raises(HeldError) as caught:
        next(case.full_sync_steps())
    assert case.begun == 0
    assert not case.sent()
    return caught.value.hold.token


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    case = Case(tmp_path)
    yield case
    case.loop.close()


@pytest.fixture
def known(case: Case) -> Case:
    """A sync that was mirrored once, in a new process."""
    case.full_sync()
    case.restart()
    case.begun = 0
    return case


# the first full sync


def test_the_first_full_sync_may_create_the_target(case: Case) -> None:
    case.mirror.answers = [None, TARGET]
    assert case.full_sync().verdict is OK
    assert case.mirror.asked == ["target", ("traits", b"file"), ("full sync", True), "target"]
    assert case.begun == 1
    source = identity_of(os.fsencode(case.source))
    assert case.remembered() == Record(
        Memory(source, True, frozenset(), TARGET), is_ours=True, was_mirrored=True, is_unclean=True
    )


def test_nothing_is_remembered_of_a_dry_run(case: Case) -> None:
    case.restart(rsync=replace(PLAIN_RSYNC, keys=(("dry_run", True),)))
    case.full_sync()
    case.full_sync()
    assert case.remembered() == Record()
    assert [asked for asked in case.mirror.asked if asked[0] == "full sync"] == [("full sync", True)] * 2


def test_a_sample_that_is_excluded_is_none(case: Case) -> None:
    case.restart(exclude=("file",))
    case.full_sync()
    assert ("traits", None) in case.mirror.asked


@pytest.mark.parametrize("delete", Delete)
def test_an_empty_source_deletes_nothing_by_surprise(case: Case, delete: Delete) -> None:
    case.empty()
    case.restart(delete=delete)
    case.mirror.would_be_deleted = 3
    if delete in (Delete.ALWAYS, Delete.STARTUP):
        refused(case)
        assert case.mirror.asked == ["target", "count"]
    else:
        case.full_sync()
        assert "count" not in case.mirror.asked


def test_an_empty_source_and_an_empty_target_are_fine(case: Case) -> None:
    case.empty()
    case.full_sync()
    assert case.begun == 1
    assert not case.remembered().memory.source_had_entries


def test_what_was_accepted_goes_on(case: Case) -> None:
    case.empty()
    case.mirror.would_be_deleted = 3
    token = refused(case)
    case.restart(accepted=token)
    case.mirror.would_be_deleted = 4
    assert refused(case) != token, "that is more than was shown"
    case.restart(accepted=token)
    case.mirror.would_be_deleted = 3
    case.full_sync()
    assert case.begun == 1


# later ones


def test_a_later_full_sync_must_not_create_the_target(known: Case) -> None:
    known.full_sync()
    assert ("full sync", False) in known.mirror.asked


def test_an_emptied_source_is_held_until_accepted(known: Case) -> None:
    known.empty()
    token = refused(known)
    known.restart(accepted="something else")
    assert refused(known) == token
    known.restart(accepted=token)
    known.full_sync()
    assert known.begun == 1


def test_what_is_accepted_counts_once(known: Case) -> None:
    known.empty()
    known.restart(accepted=refused(known))
    known.full_sync()
    (known.source / "file").touch()
    known.full_sync()
    known.empty()
    known.begun, known.mirror.asked = 0, []
    refused(known)


def test_a_replaced_source_is_held(known: Case) -> None:
    known.replace_source()
    known.watch()
    token = refused(known)
    known.restart(accepted=token)
    known.full_sync()
    assert known.remembered().memory.source == identity_of(os.fsencode(known.source))


def test_a_replaced_target_is_held(known: Case) -> None:
    known.mirror.answers = [Identity(7, 8)]
    token = refused(known)
    assert known.mirror.used == []
    known.restart(accepted=token)
    known.mirror.answers = [Identity(7, 8)]
    known.full_sync()
    assert known.remembered().memory.target == Identity(7, 8)
    # from now on that one, and no other
    known.batch()
    assert known.mirror.used == [Identity(7, 8)] * 2


def test_a_missing_target_is_not_made_again(known: Case) -> None:
    known.mirror.answers = [None]
    for steps in (known.full_sync_steps(), known.batch_steps()):
        with pytest.raises(TroubleError) as caught:
            next(steps)
        assert caught.value.verdict.outcome is Outcome.TARGET_MISSING
        assert known.sync.target.text in caught.value.verdict.message
    assert not known.sent()


def test_a_target_that_does_not_answer_is_trouble(case: Case) -> None:
    verdict = Verdict(Outcome.CONNECTION, "no answer", -9)
    case.mirror.answers = [verdict]
    with pytest.raises(TroubleError) as caught:
        next(case.full_sync_steps())
    assert caught.value.verdict is verdict
    assert not case.sent()


def test_another_target_under_the_same_name_is_a_first_one(known: Case) -> None:
    known.restart(target=local_target("/somewhere/else"))
    known.mirror.answers = [None, TARGET]
    known.full_sync()
    assert ("full sync", True) in known.mirror.asked


# the source


@pytest.mark.parametrize("what", ["missing", "replaced", "unwatched", "file"])
def test_only_the_directory_that_is_watched_is_opened(case: Case, what: str) -> None:
    if what == "missing":
        case.source.rename(case.folder / "old")
    elif what == "replaced":
        case.replace_source()
    elif what == "unwatched":
        case.gate.identity = None
    else:
        case.source.rename(case.folder / "old")
        case.source.touch()
    # loops of other tests may still hold theirs
    gc.collect()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SourceLostError):
        next(case.full_sync_steps())
    assert os.listdir("/proc/self/fd") == before
    assert case.mirror.asked == []


def test_nothing_stays_open_in_the_source(case: Case) -> None:
    before = os.listdir("/proc/self/fd")
    case.full_sync()
    case.errands.note_emptiness()
    assert os.listdir("/proc/self/fd") == before


# how it ended


def test_a_probe_that_fails_ends_it(case: Case) -> None:
    case.mirror.traits = Report(Verdict(Outcome.CONNECTION, "gone", 255), is_whole=True)
    assert case.full_sync() is case.mirror.traits
    assert ("full sync", True) not in case.mirror.asked
    assert case.remembered() == Record(is_ours=True, is_unclean=True)


def test_a_full_sync_that_fails_as_a_whole_is_not_remembered(case: Case) -> None:
    case.mirror.result = Report(Verdict(Outcome.FAIL, "no", 1), is_whole=True)
    assert case.full_sync() is case.mirror.result
    assert case.remembered() == Record(is_ours=True, is_unclean=True)


def test_a_full_sync_that_fails_in_part_has_mirrored(case: Case) -> None:
    case.mirror.result = Report(Verdict(Outcome.PARTIAL, "one", 23), failed=MARKS)
    case.full_sync()
    assert case.remembered().was_mirrored


def test_what_the_probe_sent_is_counted(case: Case) -> None:
    case.mirror.traits = Report(OK, done=Statistics(files=1, bytes=7))
    case.mirror.result = Report(OK, done=Statistics(files=2, bytes=20))
    done = case.full_sync().done
    assert (done.files, done.bytes) == (3, 27)


def test_traits_are_remembered(case: Case) -> None:
    traits = case.mirror.commands.traits
    case.mirror.commands.traits = replace(traits, nanoseconds=True, secluded=False)
    case.full_sync()
    assert (case.remembered().nanoseconds, case.remembered().secluded) == (True, False)
    case.restart()
    traits = case.mirror.commands.traits
    assert (traits.nanoseconds, traits.secluded) == (True, False)


# a batch


def test_a_batch_takes_its_marks_when_the_guards_are_passed(known: Case) -> None:
    assert known.batch() is known.mirror.result
    assert known.mirror.asked == ["target", ("batch", MARKS)]


def test_what_a_batch_may_change_is_on_disk_before_it_begins(
    known: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    intended: list[Marks] = []

    def intend(_self: Checkpoints, marks: Marks) -> None:
        assert ("batch", MARKS) not in known.mirror.asked
        intended.append(marks)

    monkeypatch.setattr(Checkpoints, "intend", intend)
    known.batch()
    assert ("batch", MARKS) in known.mirror.asked
    assert intended == [MARKS]


MOVES = (Move(b"x", b"y", False), Move(b"d", b"e", True))


def test_the_moves_of_a_batch_go_before_its_marks_are_counted(known: Case) -> None:
    known.load = Load(MOVES, MARKS)
    known.mirror.needs_count = True
    report = known.batch()
    assert known.mirror.asked == ["target", ("moved", 2, 0), ("count", MARKS), ("batch", MARKS)]
    assert [moves for moves, _may_replace in known.mover.asked] == [list(MOVES)]
    assert (report.moved, report.not_moved, known.errands.unconfirmed) == (2, 0, ())


def test_no_mover_is_asked_without_moves(known: Case) -> None:
    known.batch()
    assert known.mover.asked == []


def test_both_ends_of_moves_are_on_disk_before_they_are_made(
    known: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    intended: dict[bytes, Mark] = {}

    def intend(_self: Checkpoints, marks: Marks) -> None:
        assert known.mover.asked == []
        intended.update(marks)

    monkeypatch.setattr(Checkpoints, "intend", intend)
    known.load = Load(MOVES, MARKS)
    known.batch()
    assert intended.keys() == {b"a", b"x", b"y", b"d", b"e"}


def test_what_is_refused_is_told_and_the_marks_go_all_the_same(known: Case) -> None:
    known.load = Load(MOVES, MARKS)
    known.mover.answer = Moved(MOVES, refusal="it is not there")
    report = known.batch()
    assert ("batch", MARKS) in known.mirror.asked
    assert known.errands.unconfirmed == MOVES[:1], "the other one is tried again, and made"
    assert (report.moved, report.not_moved, report.refusal) == (1, 1, "it is not there")


def test_without_a_connection_nothing_of_a_batch_counts(known: Case) -> None:
    gone = Verdict(Outcome.CONNECTION, "gone", 255)
    known.load = Load(MOVES, MARKS)
    known.mover.answer = Moved(MOVES[1:], verdict=gone)
    report = known.batch()
    assert (report.verdict, report.is_whole, report.failed) == (gone, True, dict(MARKS))
    assert known.errands.unconfirmed == MOVES[1:]
    assert not known.sent()
    assert known.begun == 0


def test_moves_that_were_made_count_though_the_marks_are_held(known: Case) -> None:
    grown(known, 1000)
    known.load = Load(MOVES, MARKS)
    known.mirror.needs_count, known.mirror.would_be_deleted = True, 600
    known.mover.answer = Moved(MOVES[:1], refusal="no")
    with pytest.raises(HeldError):
        known.batch()
    assert known.errands.unconfirmed == MOVES[:1]


def test_what_was_taken_before_counts_no_more(known: Case) -> None:
    known.load = Load(MOVES, MARKS)
    known.mover.answer = Moved(MOVES, verdict=Verdict(Outcome.CONNECTION, "gone", 255))
    known.batch()
    known.mirror.answers = [Identity(8, 7)]
    with pytest.raises(HeldError):
        known.batch()
    assert known.errands.unconfirmed == ()


@pytest.mark.parametrize(
    ("keys", "is_stopped", "may_replace"),
    [
        ((), False, 500),
        ((), True, 0),
        ((("backup", True),), False, 0),
        ((("backup_dir", "old"),), False, 0),
        ((("update", True),), False, 0),
        ((("update", False),), False, 500),
    ],
)
def test_how_much_moves_may_replace(
    known: Case, keys: tuple[tuple[str, bool | str], ...], is_stopped: bool, may_replace: int
) -> None:
    known.restart(rsync=replace(PLAIN_RSYNC, keys=keys))
    grown(known, 1000)
    known.errands._record = replace(known.errands._record, is_stopped=is_stopped)
    known.load = Load(MOVES, MARKS)
    known.batch()
    assert [left for _moves, left in known.mover.asked] == [may_replace]


def test_what_moves_replace_is_gone_from_the_target(known: Case) -> None:
    grown(known, 1000)
    known.load = Load(MOVES, MARKS)
    known.mover.answer = Moved(replaced=2)
    known.batch()
    assert known.errands._guards.size.entries == 998


def test_a_target_without_a_shell_is_asked_for_no_more_moves(known: Case) -> None:
    assert known.errands.can_move
    known.load = Load(MOVES, MARKS)
    known.mover.answer = Moved(MOVES, verdict=Verdict(Outcome.RESTRICTED, "rrsync says no", 1))
    assert not known.batch().is_whole
    assert ("batch", MARKS) in known.mirror.asked
    assert known.errands.unconfirmed == MOVES
    assert not known.errands.can_move
    assert [entry.message for entry in known.entries if "rrsync says no" in entry.message] != []


def test_what_the_lane_sends_is_not_moved(known: Case) -> None:
    known.mirror.commands.in_lane = frozenset({b"d/big"})
    known.load = Load(MOVES, MARKS)
    known.batch()
    assert [moves for moves, _left in known.mover.asked] == [[MOVES[0]]]
    assert known.errands.unconfirmed == MOVES[1:]


@pytest.mark.parametrize("errand", ["full_sync", "batch"])
def test_a_remote_target_that_cannot_be_reached_is_trouble(case: Case, errand: str) -> None:
    case.restart(target=REMOTE)
    case.mirror.reached = Verdict(Outcome.CONNECTION, "refused", 255)
    with pytest.raises(TroubleError, match="refused"):
        getattr(case, errand)()
    assert not case.sent()
    assert case.errands.unconfirmed == ()


def test_a_batch_is_held_where_the_target_was_replaced(known: Case) -> None:
    known.mirror.answers = [Identity(8, 7)]
    taken: list[Marks] = []

    def take() -> Load:
        taken.append(MARKS)
        return known.load

    with pytest.raises(HeldError):
        next(known.errands.batch(take, known._begin))
    assert taken == [], "nothing is in flight"
    assert not known.sent()
    assert known.mirror.used == []


def test_a_source_emptied_by_its_user_is_no_surprise_later(known: Case) -> None:
    known.batch()
    known.empty()
    known.batch()
    known.errands.note_emptiness()
    known.restart()
    known.full_sync()
    assert known.begun == 3


def test_a_source_that_came_back_is_looked_at_before_a_batch(known: Case) -> None:
    known.empty()
    hold = held(known)
    assert "is empty" in hold.reason
    known.restart(accepted=hold.token)
    known.batch()
    known.errands.source_came()
    known.restart()
    assert "is empty" in held(known).reason
    known.restart(delete=Delete.STARTUP)
    known.batch()


def test_a_source_that_was_replaced_is_looked_at_before_a_batch(known: Case) -> None:
    known.replace_source()
    known.watch()
    assert "another directory" in held(known).reason


@pytest.mark.parametrize("delete", Delete)
def test_what_is_mounted_is_remembered_and_missed(known: Case, delete: Delete) -> None:
    known.restart(delete=delete)
    mount = MountPoint(b"below", b"/", "ext4", 7)
    known.errands._mounted = AnswersWith(frozenset({mount}))  # type: ignore[assignment]
    if delete is Delete.NEVER:
        # what deletes nothing can do no harm
        known.full_sync()
    else:
        hold = held(known)
        assert "a file system was mounted: below" in hold.reason and hold.doubt
        known.restart(accepted=refused(known))
        known.errands._mounted = AnswersWith(frozenset({mount}))  # type: ignore[assignment]
        known.full_sync()
    assert known.remembered().memory.mounts == {mount}
    known.batch()
    known.restart()
    if delete is not Delete.NEVER:
        assert "not mounted any more: below" in held(known).reason


def test_a_lost_source_says_nothing_about_emptiness(known: Case) -> None:
    before = known.remembered()
    known.replace_source()
    known.empty()
    known.errands.note_emptiness()
    assert known.remembered() == before


def test_what_is_known_already_is_not_written_again(known: Case) -> None:
    written = known.store.path.stat().st_ino
    known.full_sync()
    known.errands.note_emptiness()
    assert known.store.path.stat().st_ino == written


def test_a_state_that_cannot_be_written_stops_nobody(case: Case) -> None:
    (case.folder / "state").touch()
    case.full_sync()
    (entry,) = case.entries
    assert (entry.priority, "cannot write" in entry.message) == (Priority.ERROR, True)
    (case.folder / "state").unlink()
    (case.source / "file").unlink()
    case.errands.note_emptiness()
    assert case.remembered().was_mirrored, "the next change is written as a whole"


# the brake


def grown(case: Case, entries: int) -> None:
    """Let the target hold so many entries, after a full sync that says so."""
    case.mirror.result = Report(OK, done=Statistics(listed=entries + 1))
    case.full_sync()
    assert case.remembered().entries == entries
    case.mirror.result = Report(OK)
    case.begun, case.mirror.asked, case.mirror.allowances = 0, [], []


def held(case: Case) -> Hold:
    """Check that a batch is held before it begins."""
    case.begun = 0
    with pytest.raises(HeldError) as caught:
        next(case.batch_steps())
    assert case.begun == 0
    assert not case.sent()
    return caught.value.hold


def test_whatever_a_first_run_would_delete_is_held(case: Case) -> None:
    case.mirror.would_be_deleted = 1
    token = refused(case)
    case.restart(accepted=token)
    case.mirror.would_be_deleted = 1
    case.full_sync()
    assert case.mirror.allowances == [2], "what was accepted, and the sample that was sent just before"


def test_a_first_run_may_be_braked_as_any_other(case: Case) -> None:
    case.restart(hold_first=False)
    case.mirror.would_be_deleted = 101
    refused(case)
    case.mirror.would_be_deleted = 100
    case.full_sync()
    assert case.mirror.allowances == [101], "what was counted, and the sample"


def test_what_an_empty_source_would_delete_is_held_all_the_same(case: Case) -> None:
    case.restart(hold_first=False)
    (case.source / "file").unlink()
    case.mirror.would_be_deleted = 1
    refused(case)


def test_a_first_run_that_would_delete_nothing_may_delete_nothing(case: Case) -> None:
    case.full_sync()
    assert case.mirror.allowances == [1], "nothing but the sample"


def test_what_a_first_run_left_behind_when_it_broke_off_is_ours(case: Case) -> None:
    case.mirror.result = Report(Verdict(Outcome.KILLED, "killed", -9), is_whole=True)
    case.full_sync()
    case.restart()
    # such as a temporary file
    case.mirror.would_be_deleted = 1
    case.full_sync()
    assert case.remembered().was_mirrored


def test_a_target_that_is_not_there_need_not_be_counted(case: Case) -> None:
    case.mirror.answers = [None, TARGET]
    case.full_sync()
    assert "count" not in case.mirror.asked


def test_who_wants_no_brake_gets_no_count(case: Case) -> None:
    case.restart(max_deletes=MaxDeletes())
    case.mirror.would_be_deleted, case.mirror.needs_count = 1000, True
    case.full_sync()
    case.full_sync()
    case.batch()
    assert "count" not in case.mirror.asked and ("count", MARKS) not in case.mirror.asked
    assert case.mirror.allowances == [None, None, None]


def test_a_full_sync_is_counted_and_held_above_the_limit(known: Case) -> None:
    grown(known, 1000)
    known.mirror.would_be_deleted = 500
    known.full_sync()
    assert known.mirror.asked[:2] == ["target", "count"]
    assert known.mirror.allowances == [500]
    known.begun, known.mirror.asked = 0, []
    known.mirror.would_be_deleted = 501
    token = refused(known)
    known.restart(accepted=token)
    known.mirror.would_be_deleted = 501
    known.full_sync()
    assert known.mirror.allowances == [501]


def test_a_full_sync_that_passed_but_had_to_wait_is_not_counted_again(
    known: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown(known, 1000)
    known.mirror.result = Report(OK, done=Statistics(listed=1001))
    known.mirror.would_be_deleted = 10

    def cannot_begin() -> None:
        raise UnsettledError

    for _time in range(3):
        with pytest.raises(UnsettledError):
            next(known.errands.full_sync(known._look, cannot_begin))
    known.full_sync()
    assert known.mirror.asked.count("count") == 1
    assert known.mirror.allowances == [500]
    known.full_sync()
    assert known.mirror.asked.count("count") == 2
    with pytest.raises(UnsettledError):
        next(known.errands.full_sync(known._look, cannot_begin))
    # too long ago
    monkeypatch.setattr(guards, "PASSED_SECONDS", 0.0)
    known.full_sync()
    assert known.mirror.asked.count("count") == 4


def test_a_full_sync_that_deletes_nothing_is_not_counted(case: Case) -> None:
    case.restart(delete=Delete.RUNNING)
    case.full_sync()
    case.full_sync()
    assert "count" not in case.mirror.asked


def test_the_limit_is_that_of_what_was_mirrored(known: Case) -> None:
    """A tree that was nearly emptied while nobody looked is small now, and was large."""
    grown(known, 1000)
    known.restart()
    known.mirror.would_be_deleted = 990
    refused(known)


def test_a_batch_is_counted_if_it_may_delete_much(known: Case) -> None:
    grown(known, 1000)
    known.mirror.would_be_deleted = 501
    known.batch()
    assert known.mirror.asked == ["target", ("batch", MARKS)]
    assert known.mirror.allowances == [500], "whatever happens"
    known.mirror.needs_count, known.mirror.asked = True, []
    hold = held(known)
    assert known.mirror.asked == ["target", ("count", MARKS)]
    assert not hold.doubt and "delete 501 entries" in hold.reason and "500 (50 % of 1000)" in hold.reason
    assert held(known).token == hold.token
    known.mirror.would_be_deleted = 500
    known.batch()
    assert known.begun == 1


def test_a_number_is_a_limit_for_any_tree(known: Case) -> None:
    known.restart(max_deletes=MaxDeletes(number=3))
    known.mirror.needs_count = True
    known.mirror.would_be_deleted = 3
    known.batch()
    assert known.mirror.allowances == [3]
    known.mirror.asked, known.mirror.would_be_deleted = [], 4
    held(known)


def test_a_batch_that_was_stopped_is_counted_next_time(known: Case) -> None:
    grown(known, 1000)
    known.mirror.result = Report(Verdict(Outcome.BRAKE, "stopped", 25), is_whole=True)
    known.batch()
    known.mirror.result = Report(OK)
    known.mirror.would_be_deleted, known.mirror.asked = 1, []
    token = held(known).token
    # a restart is not a decision
    known.restart()
    known.mirror.would_be_deleted = 1
    assert refused(known) == token
    known.mirror.would_be_deleted = 0
    known.batch()
    known.mirror.asked = []
    known.batch()
    assert ("count", MARKS) not in known.mirror.asked


def test_a_tree_that_is_removed_in_parts(known: Case) -> None:
    grown(known, 1000)
    known.mirror.result = Report(OK, done=Statistics(deleted=300))
    known.mirror.needs_count = True
    known.mirror.would_be_deleted = 300
    known.batch()
    known.mirror.asked = []
    hold = held(known)
    assert "after 300 that went lately" in hold.reason
    known.restart()
    known.mirror.would_be_deleted = 300
    assert refused(known) == hold.token
    known.restart(accepted=hold.token)
    known.mirror.would_be_deleted = 300
    known.mirror.result = Report(OK, done=Statistics(listed=401))
    known.full_sync()
    assert (known.remembered().entries, known.remembered().peak) == (400, 400)


def test_what_is_held_is_not_released_by_time(known: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    known.restart()
    grown(known, 1000)
    known.mirror.result = Report(OK, done=Statistics(deleted=300))
    known.batch()
    known.mirror.needs_count, known.mirror.would_be_deleted, known.mirror.asked = True, 300, []
    for _recheck in range(8):
        now[0] += 3000.0
        held(known)
        # a full sync that was asked for, say, finds as much as before
        known.errands._note_size(700)


def test_entries_are_counted_as_they_come_and_go(known: Case) -> None:
    grown(known, 1000)
    known.mirror.result = Report(OK, done=Statistics(made=60, deleted=10))
    known.batch()
    assert known.remembered().entries == 1000, "not worth a write"
    known.batch()
    known.batch()
    assert known.remembered().entries == 1150


def test_a_doubt_is_counted_for_once(known: Case) -> None:
    known.mirror.answers = [Identity(8, 7)]
    known.mirror.would_be_deleted = 3
    hold = held(known)
    assert hold.doubt and hold.reason.endswith("would delete 3 entries on the target: 0, 1, 2")
    assert hold.paths == (b"0", b"1", b"2")
    known.mirror.would_be_deleted = 4
    assert held(known).token == hold.token == refused(known)
    assert known.mirror.asked.count("count") == 1
    # what was agreed to is what was shown
    known.restart(accepted=hold.token)
    known.mirror.answers = [Identity(8, 7)]
    known.mirror.would_be_deleted = 4
    assert refused(known) != hold.token


def test_a_count_that_failed_is_trouble(known: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict(Outcome.CONNECTION, "no answer", 12)

    def no_count() -> Steps[Verdict]:
        return verdict
        yield

    monkeypatch.setattr(known.mirror, "count_full_sync", no_count)
    for prepare in (lambda: None, known.empty):
        prepare()
        with pytest.raises(TroubleError) as caught:
            next(known.full_sync_steps())
        assert caught.value.verdict is verdict
    assert not known.sent()


# other hosts


def test_a_remote_target_is_not_looked_at(case: Case) -> None:
    case.restart(target=REMOTE)
    case.full_sync()
    case.batch()
    assert "target" not in case.mirror.asked
    assert case.remembered().memory.target is None


def test_so_many_full_syncs_to_a_host_at_once(case: Case) -> None:
    case.restart(target=REMOTE)
    slots = [case.locks.take_host_slot("backup") for _ in range(FULL_SYNCS_PER_HOST)]
    with pytest.raises(HostBusyError):
        next(case.full_sync_steps())
    assert case.mirror.asked == []
    case.batch()
    assert slots[0] is not None
    os.close(slots[0])
    case.full_sync()
    last = case.locks.take_host_slot("backup")
    assert last is not None, "a full sync gives its slot back"
    for descriptor in [*filter(None, slots[1:]), last]:
        os.close(descriptor)


def test_a_slot_is_given_back_also_when_it_is_held(case: Case) -> None:
    case.restart(target=REMOTE)
    case.empty()
    case.mirror.would_be_deleted = 1
    before = os.listdir("/proc/self/fd")
    refused(case)
    assert os.listdir("/proc/self/fd") == before


# what a killed process has left


EVERYWHERE = {b"": Mark(Depth.SUBTREE, exact=False)}


def test_a_first_full_sync_expects_nothing_on_a_target_that_is_not_ours(case: Case) -> None:
    case.full_sync()
    assert case.mirror.leftovers.expected == []


def test_after_a_kill_a_full_sync_expects_it_everywhere(case: Case) -> None:
    case.mirror.result = Report(Verdict(Outcome.KILLED, "", -9), is_whole=True)
    case.full_sync()
    case.restart()
    case.full_sync()
    assert case.mirror.leftovers.expected == [EVERYWHERE]
    case.full_sync()
    assert case.mirror.leftovers.expected == [EVERYWHERE], "from now on it is known where"


def test_after_a_kill_before_anything_was_sent_nothing_is_expected(case: Case) -> None:
    case.empty()
    case.mirror.would_be_deleted = 1
    refused(case)
    case.restart()
    (case.source / "file").touch()
    case.mirror.would_be_deleted = 0
    case.full_sync()
    assert case.mirror.leftovers.expected == []


def test_after_a_kill_a_rescan_says_where_it_was(known: Case) -> None:
    assert known.remembered().is_unclean
    known.errands.expect_leftovers(MARKS)
    assert known.mirror.leftovers.expected == [MARKS]
    # After an overflow nobody was killed.
    known.errands.expect_leftovers(MARKS)
    known.full_sync()
    assert known.mirror.leftovers.expected == [MARKS]


@pytest.mark.parametrize("run", ["full_sync", "batch", "large"])
def test_from_the_first_run_on_until_an_end_in_order_it_is_unclean(known: Case, run: str) -> None:
    known.errands.expect_leftovers({})
    known.errands.close()
    assert not known.remembered().is_unclean
    known.restart()
    match run:
        case "full_sync":
            known.full_sync()
        case "batch":
            known.batch()
        case "large":
            finish(known.errands.large(MARKS))
    assert known.remembered().is_unclean
    known.restart()
    known.errands.expect_leftovers(MARKS)
    assert known.mirror.leftovers.expected == [MARKS]


def test_what_could_not_be_removed_is_looked_for_by_the_next_process(known: Case) -> None:
    known.errands.expect_leftovers({})
    known.mirror.leftovers.there = True
    known.errands.close()
    assert known.remembered().is_unclean


def test_a_process_that_came_to_nothing_leaves_it_to_the_next(known: Case) -> None:
    known.errands.close()
    known.restart()
    known.errands.expect_leftovers(MARKS)
    assert known.mirror.leftovers.expected == [MARKS]


def test_nothing_is_expected_on_a_target_that_took_the_place_of_ours(known: Case) -> None:
    known.mirror.answers = [Identity(8, 7)]
    known.mirror.leftovers.there = True
    token = refused(known)
    assert known.mirror.leftovers
    known.errands.accept(token)
    known.full_sync()
    assert not known.mirror.leftovers and known.mirror.leftovers.expected == []


def test_the_gate_lets_nobody_in_before_somebody_watches(tmp_path: Path) -> None:
    gate = SourceGate(str(tmp_path))
    with pytest.raises(SourceLostError):
        gate.open()
    gate.identity = identity_of(os.fsencode(tmp_path))
    with gate.open() as source:
        assert isinstance(source, Source)
