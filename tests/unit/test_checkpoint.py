# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/checkpoint.py: after a crash anywhere, what was known before or what is known since."""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.crashing import Disk, crashes
from helpers.syncs import local_target, make_sync

from lsyncd_sd.config.model import RsyncOptions, Target, TargetKind
from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Depth, Move
from lsyncd_sd.plan.filters import WrittenRule
from lsyncd_sd.plan.guard import Identity
from lsyncd_sd.service import checkpoint, intents, moments
from lsyncd_sd.service.checkpoint import COST_LIMIT, INTERVAL_NS, SLACK_NS, Checkpoints, Distrust, with_ends
from lsyncd_sd.service.moments import SETBACK_NS, Moment
from lsyncd_sd.watch.ground import Ground, Mount
from lsyncd_sd.watch.rescan import Intent, Known, fingerprint

ENTRY, LEVEL, SUBTREE = Depth.ENTRY, Depth.LEVEL, Depth.SUBTREE
FILE = Mark(ENTRY, exact=True)

SECOND = 1_000_000_000
HOUR = 3600 * SECOND

GROUND = Ground(
    Identity(2**64 - 1, 2), (Mount(b"", b"/", "ext4", 2**64 - 1), Mount(b"\xff", b"/", "xfs", 7))
)
TABLE = [(2**64 - 1, 0, b""), (12, 2**64 - 1, b"a"), (13, 12, b"\xff")]
OTHER_TABLE = [*TABLE, (14, 12, b"new")]


def is_due(one: Checkpoints) -> bool:
    return one.due_in() == 0


class Clock:
    """A clock that goes on by a second whenever somebody looks."""

    def __init__(self) -> None:
        self.moment = Moment(1_000_000 * SECOND, 900_000 * SECOND, "one boot")

    def __call__(self) -> Moment:
        self.pass_by(SECOND)
        return self.moment

    def pass_by(self, time: int) -> None:
        self.moment = self.moment._replace(realtime=self.moment.realtime + time)

    def set_by(self, time: int) -> None:
        """Somebody sets it."""
        self.pass_by(time)
        self.moment = self.moment._replace(offset=self.moment.offset + time)

    def boot(self) -> None:
        self.pass_by(HOUR)
        self.moment = self.moment._replace(boot="another boot", offset=self.moment.realtime - SECOND)


@pytest.fixture(autouse=True)
def places_to_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The source and target are in nobody's reach here; what is flushed is only noted."""
    places: list[bytes] = []
    monkeypatch.setattr("lsyncd_sd.service.snapshot.sync_file_system", places.append)
    return places


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new(tmp_path: Path, clock: Clock) -> Callable[..., Checkpoints]:
    """Return what makes the checkpoints of a process that has just started."""

    def make(**changes: Any) -> Checkpoints:
        return Checkpoints(tmp_path / "state", make_sync(**changes), clock)

    return make


def take(
    one: Checkpoints,
    clock: Clock,
    table: list[tuple[int, int, bytes]] = TABLE,
    dirty: Marks | None = None,
    in_flight: Marks | None = None,
) -> Moment:
    """Make a checkpoint from begin to end; return its time."""
    moment = clock()
    one.begin(moment, GROUND, table, dirty or {}, in_flight)()
    one.commit()
    return moment


def loaded(one: Checkpoints) -> Known:
    known = one.load(GROUND)
    assert isinstance(known, Known), known
    return known


def reason(one: Checkpoints, ground: Ground = GROUND) -> str:
    """Return why nothing is known; it must stay so."""
    distrust = one.load(ground)
    assert isinstance(distrust, Distrust)
    assert not one.folder.exists() or os.listdir(one.folder) == []
    return distrust.reason


def fingerprints(table: list[tuple[int, int, bytes]]) -> array[int]:
    return array("Q", sorted(fingerprint(*row) for row in table))


# ---- what is remembered


def test_nothing_is_known_of_a_new_sync(new: Callable[..., Checkpoints]) -> None:
    assert reason(new()) == "nothing is known from before"


def test_what_was_committed_is_loaded(new: Callable[..., Checkpoints], clock: Clock) -> None:
    moment = take(new(), clock)
    known = loaded(new())
    assert known.since == moment.realtime - SLACK_NS
    assert known.directories == fingerprints(TABLE)
    assert all(known.holds(fingerprint(*row)) for row in TABLE)
    assert not known.holds(fingerprint(12, 12, b"a"))
    assert known.intents == {}
    assert known.swaps_unseen


def test_what_was_not_committed_is_not(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    one.begin(clock(), GROUND, TABLE, {})()
    assert reason(new()) == "nothing is known from before"


def test_intents_and_what_was_dirty_are_loaded_with_it(
    new: Callable[..., Checkpoints], clock: Clock
) -> None:
    one = new()
    moment = take(one, clock, dirty={b"d/\xff\n": Mark(LEVEL, exact=False)}, in_flight={b"large": FILE})
    one.intend({b"f": FILE, b"": Mark(LEVEL | ENTRY, exact=False)}, [Move(b"a", b"b", True)])
    during = clock.moment.realtime
    assert loaded(new()).intents == {
        b"d/\xff\n": Intent(LEVEL, False, None),
        b"large": Intent(ENTRY, True, moment.realtime),
        b"f": Intent(ENTRY, True, during),
        b"": Intent(LEVEL | ENTRY, False, during),
        b"a": Intent(SUBTREE, True, during),
        b"b": Intent(SUBTREE, True, during),
    }


def test_both_ends_of_a_move_are_what_they_are_besides() -> None:
    marks = with_ends({b"a": Mark(ENTRY, exact=False)}, [Move(b"a", b"b", False)])
    assert marks == {b"a": Mark(ENTRY | SUBTREE, exact=True), b"b": Mark(SUBTREE, exact=True)}


def test_intents_go_to_both_until_the_next_one_counts(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    take(one, clock)
    one.intend({b"before": FILE})
    write = one.begin(clock(), GROUND, OTHER_TABLE, {b"dirty": FILE})
    one.intend({b"during": FILE})
    assert loaded(new()).directories == fingerprints(TABLE)
    assert loaded(new()).intents.keys() == {b"before", b"dirty", b"during"}
    write()
    one.commit()
    assert loaded(new()).directories == fingerprints(OTHER_TABLE)
    assert loaded(new()).intents.keys() == {b"dirty", b"during"}
    assert len(os.listdir(one.folder)) == 2


def test_what_could_not_be_written_changes_nothing(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    take(one, clock)
    one.intend({b"before": FILE})
    one.begin(clock(), GROUND, OTHER_TABLE, {b"dirty": FILE})()
    one.intend({b"during": FILE})
    one.abandon()
    one.intend({b"after": FILE})
    known = loaded(new())
    assert known.directories == fingerprints(TABLE)
    assert known.intents.keys() == {b"before", b"dirty", b"during", b"after"}
    take(one, clock, OTHER_TABLE)
    assert loaded(new()).intents == {}
    assert len(os.listdir(one.folder)) == 2


def test_a_second_crash_finds_what_the_first_did(new: Callable[..., Checkpoints], clock: Clock) -> None:
    take(new(), clock)
    for number in range(3):
        one = new()
        loaded(one)
        one.intend({b"%d" % number: FILE})
    assert loaded(new()).intents.keys() == {b"0", b"1", b"2"}


def test_each_time_a_path_was_touched_counts_from_the_first(
    new: Callable[..., Checkpoints], clock: Clock
) -> None:
    one = new()
    take(one, clock)
    one.intend({b"f": FILE})
    first = clock.moment.realtime
    one.intend({b"f": Mark(LEVEL, exact=False)})
    assert loaded(new()).intents == {b"f": Intent(ENTRY | LEVEL, True, first)}


def test_what_was_said_is_not_said_again(new: Callable[..., Checkpoints], clock: Clock) -> None:
    """A target that cannot be reached is tried again and again."""
    one = new()
    take(one, clock)
    one.intend({b"f": FILE})
    sizes = sum(path.stat().st_size for path in one.folder.iterdir())
    one.intend({b"f": FILE})
    assert sum(path.stat().st_size for path in one.folder.iterdir()) == sizes
    # but after the next one counts, it is
    take(one, clock)
    one.intend({b"f": FILE})
    assert loaded(new()).intents.keys() == {b"f"}


def test_a_run_after_a_load_that_found_nothing_says_nothing(new: Callable[..., Checkpoints]) -> None:
    one = new()
    reason(one)
    one.intend({b"f": FILE})
    assert not one.folder.exists()


def test_a_run_before_any_load_is_not_forgotten(new: Callable[..., Checkpoints], clock: Clock) -> None:
    take(new(), clock)
    new().intend({b"f": FILE})
    assert loaded(new()).intents.keys() == {b"f"}


# ---- what makes it useless


def test_a_full_sync_that_did_not_come_to_its_end(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    take(one, clock)
    one.intend({b"": Mark(SUBTREE, exact=False), b"f": FILE})
    assert "all of the source" in reason(new())


@pytest.mark.parametrize("in_one", [True, False])
def test_more_than_can_be_remembered_is_everything(
    new: Callable[..., Checkpoints], clock: Clock, monkeypatch: pytest.MonkeyPatch, in_one: bool
) -> None:
    monkeypatch.setattr(intents, "PATHS_PER_FILE", 10)
    monkeypatch.setattr(intents, "PATHS_PER_RECORD", 3)
    one = new()
    take(one, clock)
    marks = {b"%d" % number: FILE for number in range(11)}
    for part in [marks] if in_one else [{path: mark} for path, mark in marks.items()]:
        one.intend(part)
    size = sum(path.stat().st_size for path in one.folder.iterdir())
    one.intend({b"more": FILE})
    assert sum(path.stat().st_size for path in one.folder.iterdir()) == size
    assert "all of the source" in reason(new())


def test_several_records_at_once(
    new: Callable[..., Checkpoints], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intents, "PATHS_PER_RECORD", 3)
    one = new()
    take(one, clock)
    marks = {b"%d" % number: FILE for number in range(10)}
    one.intend(marks)
    assert loaded(new()).intents.keys() == marks.keys()


def test_too_many_files_of_intents(
    new: Callable[..., Checkpoints], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PATHS_PER_FILE", 10)
    one = new()
    take(one, clock)
    one.intend({b"%d" % number: FILE for number in range(6)})
    one = new()
    loaded(one)
    one.intend({b"%d" % number: FILE for number in range(6, 12)})
    assert reason(new()) == "too much was under way"


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "/other"},
        {"source": "/\udcff"},
        {"target": local_target("/other")},
        {"target": Target("h:/target", TargetKind.SSH, "h", "/target")},
        {"rules": (WrittenRule("*.tmp", is_pattern=True),)},
        {"rsync": RsyncOptions("rsync", ("-l",), ())},
    ],
)
def test_other_settings(new: Callable[..., Checkpoints], clock: Clock, changes: dict[str, Any]) -> None:
    take(new(), clock)
    assert reason(new(**changes)) == "the settings have changed"
    # and back again: what was known then is not true any more
    assert reason(new()) == "nothing is known from before"


def test_settings_that_make_no_difference(new: Callable[..., Checkpoints], clock: Clock) -> None:
    take(new(), clock)
    loaded(new(delay=1.0, timeout=5, log_level="debug"))


def test_a_rule_that_stands_somewhere_else_in_the_file(
    new: Callable[..., Checkpoints], clock: Clock
) -> None:
    take(new(rules=(WrittenRule("*.tmp", True, "home.yaml:7:3"),)), clock)
    loaded(new(rules=(WrittenRule("*.tmp", True, "home.yaml:9:3"),)))


def test_other_file_systems(new: Callable[..., Checkpoints], clock: Clock) -> None:
    take(new(), clock)
    assert r"at the source: \xff" in reason(new(), replace(GROUND, mounts=GROUND.mounts[:1]))
    take(new(), clock)
    assert "another directory" in reason(new(), replace(GROUND, root=Identity(2**64 - 1, 3)))


def test_other_file_systems_where_they_are_left_out(new: Callable[..., Checkpoints], clock: Clock) -> None:
    options = RsyncOptions("rsync", (), (), (("one_file_system", True),))
    take(new(rsync=options), clock)
    usb = Mount(b"usb", b"/", "vfat", 5)
    assert isinstance(new(rsync=options).load(replace(GROUND, mounts=(*GROUND.mounts[:1], usb))), Known)
    # but a file may be bound to the place of another
    bound = GROUND.mounts[0]._replace(path=b"f", top=b"/elsewhere")
    assert "at the source: f" in reason(new(rsync=options), replace(GROUND, mounts=(*GROUND.mounts, bound)))


def test_a_file_system_whose_times_tell_nothing(new: Callable[..., Checkpoints], clock: Clock) -> None:
    fuse = Mount(b"x", b"/", "fuse", 0)
    one = new()
    take(one, clock)
    assert "file system fuse at x" in reason(one, replace(GROUND, mounts=(*GROUND.mounts, fuse)))
    assert not is_due(one)


def test_the_future(new: Callable[..., Checkpoints], clock: Clock) -> None:
    take(new(), clock)
    clock.set_by(-HOUR)
    assert "from the future" in reason(new())


def test_a_clock_that_was_set_back_less_far_than_time_went_on(
    new: Callable[..., Checkpoints], clock: Clock
) -> None:
    take(new(), clock)
    clock.pass_by(2 * HOUR)
    clock.set_by(-HOUR)
    assert "set back by 3600.0 s" in reason(new())


def test_a_clock_that_was_set_back_and_forth(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    take(one, clock)
    clock.pass_by(2 * HOUR)
    clock.set_by(-HOUR)
    one.intend({b"f": FILE})
    clock.set_by(HOUR)
    assert "set back by 3600.0 s" in reason(new())


def test_a_clock_that_was_set_back_in_another_boot(new: Callable[..., Checkpoints], clock: Clock) -> None:
    take(new(), clock)
    clock.boot()
    one = new()
    loaded(one)
    clock.set_by(-3 * HOUR)
    one.intend({b"f": FILE})
    clock.set_by(3 * HOUR)
    assert "set back" in reason(new())


def test_a_leap_second_is_forgiven(new: Callable[..., Checkpoints], clock: Clock) -> None:
    take(new(), clock)
    clock.set_by(-SECOND)
    clock.pass_by(SECOND)
    loaded(new())
    assert SLACK_NS > 2 * SETBACK_NS


def test_a_clock_that_was_set_forward(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    take(one, clock)
    clock.set_by(HOUR)
    one.intend({b"f": FILE})
    touched = clock.moment.realtime
    assert loaded(new()).intents[b"f"].touched_at == touched - HOUR or touched
    clock.set_by(-HOUR)
    # as the clock is now, it was an hour earlier
    assert loaded(new()).intents[b"f"].touched_at == touched - HOUR


def test_after_another_boot_what_was_touched_may_be_anything(
    new: Callable[..., Checkpoints], clock: Clock
) -> None:
    one = new()
    take(one, clock, dirty={b"d": FILE, b"": Mark(LEVEL, exact=False)})
    one.intend({b"f": Mark(LEVEL, exact=False)})
    clock.boot()
    assert loaded(new()).intents == {
        b"d": Intent(ENTRY, True, None),
        b"": Intent(LEVEL, False, None),
        b"f": Intent(LEVEL, False, 0),
    }


def test_after_another_boot_the_top_was_touched(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    take(one, clock)
    one.intend({b"": Mark(LEVEL, exact=False)})
    clock.boot()
    assert "the machine went down" in reason(new())


def test_a_clock_that_was_behind_at_the_start(
    new: Callable[..., Checkpoints], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = take(new(), clock)
    clock.boot()
    monkeypatch.setattr(moments, "_first_time_of_this_boot", lambda: moment.realtime - HOUR)
    assert "when it was started" in reason(new())


def test_what_was_forgotten_is_not_known(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    take(one, clock)
    one.intend({b"f": FILE})
    write = one.begin(clock(), GROUND, TABLE, {})
    write()
    one.forget()
    assert os.listdir(one.folder) == []
    assert reason(new()) == "nothing is known from before"
    one.intend({b"f": FILE})
    assert os.listdir(one.folder) == []


# ---- torn, damaged, foreign


def prepared(new: Callable[..., Checkpoints], clock: Clock) -> Checkpoints:
    one = new()
    take(one, clock, dirty={b"dirty": FILE})
    one.intend({b"a": FILE})
    one.intend({b"b": FILE, b"c/d": Mark(SUBTREE, exact=False)})
    return one


def restored(folder: Path) -> Callable[[], None]:
    """Return what puts a folder back to what it holds now."""
    contents = {path: path.read_bytes() for path in folder.iterdir()}

    def restore() -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        for path, content in contents.items():
            path.write_bytes(content)

    return restore


def test_a_snapshot_torn_at_any_length(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = prepared(new, clock)
    snapshot = one.folder / "snapshot"
    whole, restore = snapshot.read_bytes(), restored(one.folder)
    for length in range(len(whole)):
        restore()
        snapshot.write_bytes(whole[:length])
        assert reason(new()) == "the state is torn or damaged"


def test_intents_torn_at_any_length_are_those_before(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = prepared(new, clock)
    path = one.folder / "intents-1"
    whole, restore = path.read_bytes(), restored(one.folder)
    seen = []
    for length in range(len(whole) + 1):
        restore()
        path.write_bytes(whole[:length])
        found = set(loaded(new()).intents)
        if found not in seen:
            seen.append(found)
    assert seen == [set(), {b"dirty"}, {b"dirty", b"a"}, {b"dirty", b"a", b"b", b"c/d"}]


@pytest.mark.parametrize("name", ["snapshot", "intents-1"])
def test_every_flipped_bit_is_noticed(
    new: Callable[..., Checkpoints], clock: Clock, name: str, full: bool
) -> None:
    one = prepared(new, clock)
    path = one.folder / name
    whole, restore = path.read_bytes(), restored(one.folder)
    for bit in range(0, len(whole) * 8, 1 if full else 9):
        restore()
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        reason(new())


@pytest.mark.parametrize("name", ["snapshot", "intents-1"])
@pytest.mark.parametrize(
    "content", [b"\0" * 4096, b"\xff\xfe", b"null", b"[]", b"{}\n", b"[" * 100_000, b"17\n" + b"\0" * 40]
)
def test_a_foreign_file(new: Callable[..., Checkpoints], clock: Clock, name: str, content: bytes) -> None:
    one = prepared(new, clock)
    (one.folder / name).write_bytes(content)
    reason(new())


def test_something_after_the_last_record(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = prepared(new, clock)
    with open(one.folder / "intents-1", "ab") as file:
        file.write(b"\0" * 100)
    assert "record is damaged" in reason(new())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": 2}, "another version"),
        ({"format": "1"}, "another version"),
        ({"byte_order": "middle"}, "another version"),
        ({"taken_at": [1]}, "makes no sense"),
        ({"root": 5}, "makes no sense"),
        ({"mounts": [["", ""]]}, "makes no sense"),
        ({"mounts": [["\u1234", "/", "ext4", 1]]}, "makes no sense"),
        ({"generation": 7}, "part of the state is missing"),
        ({"generation": "x"}, "makes no sense"),
    ],
)
def test_a_whole_file_that_says_something_else(
    new: Callable[..., Checkpoints], clock: Clock, changes: dict[str, Any], expected: str
) -> None:
    one = prepared(new, clock)
    snapshot = one.folder / "snapshot"
    line, _newline, rest = snapshot.read_bytes().partition(b"\n")
    content = json.dumps(json.loads(line) | changes).encode() + b"\n" + rest[:-32]
    snapshot.write_bytes(content + checkpoint.hashlib.blake2b(content, digest_size=32).digest())
    assert expected in reason(new())


def test_a_missing_file_of_intents(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = prepared(new, clock)
    (one.folder / "intents-1").unlink()
    assert "part of the state is missing" in reason(new())


def test_a_missing_file_of_intents_in_between(new: Callable[..., Checkpoints], clock: Clock) -> None:
    prepared(new, clock)
    for number in range(2):
        one = new()
        loaded(one)
        one.intend({b"%d" % number: FILE})
    (one.folder / "intents-2").unlink()
    assert "part of the state is missing" in reason(new())


def test_a_state_that_can_be_neither_read_nor_removed(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    (one.folder / "snapshot").mkdir(parents=True)
    distrust = one.load(GROUND)
    assert isinstance(distrust, Distrust)
    assert "Is a directory" in distrust.reason
    assert "nor removed" in distrust.reason


# ---- crashes


def outcome(one: Checkpoints) -> tuple[tuple[int, ...], frozenset[bytes]]:
    known = loaded(one)
    return tuple(known.directories), frozenset(known.intents)


def checkpoint_again(one: Checkpoints, clock: Clock) -> None:
    """What a process does from one checkpoint to the next."""
    write = one.begin(clock(), GROUND, OTHER_TABLE, {b"dirty": FILE})
    one.intend({b"during": FILE})
    write()
    one.commit()


BEFORE = tuple(fingerprints(TABLE)), frozenset([b"earlier"])
AFTER = tuple(fingerprints(OTHER_TABLE)), frozenset([b"dirty", b"during"])


def is_sound(found: tuple[tuple[int, ...], frozenset[bytes]]) -> bool:
    """The old state with everything intended so far, or the new one; never a mixture."""
    directories, paths = found
    if directories == BEFORE[0]:
        return BEFORE[1] <= paths <= BEFORE[1] | AFTER[1]
    return found == AFTER


def test_a_process_that_is_killed_anywhere(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    take(one, clock)
    one.intend({b"earlier": FILE})
    restore = restored(one.folder)
    seen = []

    def act() -> None:
        killed = new()
        loaded(killed)
        checkpoint_again(killed, clock)

    for _steps in crashes(act):
        # that process had a clock of its own
        clock.pass_by(HOUR)
        found = outcome(new())
        assert is_sound(found), found
        seen.append(found)
        # what the crash left is in nobody's way
        checkpoint_again(new(), clock)
        assert outcome(new()) == AFTER
        restore()
    assert seen[0] == BEFORE
    assert seen[-1] == AFTER
    assert len(seen) > 20


def test_a_process_that_is_killed_while_it_intends(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    take(one, clock)
    restore = restored(one.folder)
    seen = []
    for _steps in crashes(lambda: new().intend({b"f": FILE})):
        clock.pass_by(HOUR)
        seen.append(set(loaded(new()).intents))
        restore()
    assert seen[0] == set()
    assert seen[-1] == {b"f"}
    assert all(paths in (set(), {b"f"}) for paths in seen)


def test_a_process_that_is_killed_while_it_forgets(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = prepared(new, clock)
    restore = restored(one.folder)
    known = 0
    for _steps in crashes(lambda: new().forget()):
        found = new().load(GROUND)
        if isinstance(found, Known):
            assert found.intents.keys() == {b"dirty", b"a", b"b", b"c/d"}
            known += 1
        restore()
    assert known > 0


@pytest.mark.parametrize("starts_empty", [True, False])
def test_a_power_cut_anywhere(
    new: Callable[..., Checkpoints], clock: Clock, tmp_path: Path, starts_empty: bool
) -> None:
    one = new()
    one.folder.mkdir(parents=True)
    if not starts_empty:
        take(one, clock)
        one.intend({b"earlier": FILE})
    disk = Disk(one.folder)
    cuts = 0
    intended: set[bytes] = set()
    is_committed = False

    def cut_power() -> None:
        nonlocal cuts
        for content in disk.after_power_cut():
            cuts += 1
            copy = Checkpoints(tmp_path / "copy", make_sync(), clock)
            shutil.rmtree(copy.folder, ignore_errors=True)
            copy.folder.mkdir(parents=True)
            for name, data in content.items():
                (copy.folder / name).write_bytes(data)
            known = copy.load(GROUND)
            if starts_empty and not is_committed and isinstance(known, Distrust):
                assert known.reason == "nothing is known from before"
                continue
            assert isinstance(known, Known), known
            found = tuple(known.directories), frozenset(known.intents)
            assert intended <= found[1]
            assert found == AFTER if is_committed else is_sound(found), found

    one = new()
    with disk.watched(cut_power):
        write = one.begin(clock(), GROUND, OTHER_TABLE, {b"dirty": FILE})
        one.intend({b"during": FILE})
    if not starts_empty:
        intended.add(b"during")
    cut_power()
    with disk.watched(cut_power):
        write()
        one.commit()
    is_committed = True
    cut_power()
    assert cuts > 100


# ---- errors


@pytest.mark.parametrize("step", ["open", "write", "fdatasync", "fsync"])
def test_a_disk_that_is_full_while_something_begins(
    new: Callable[..., Checkpoints], clock: Clock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    one = new()
    take(one, clock)
    one.intend({b"f": FILE})

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space"):
            one.begin(clock(), GROUND, TABLE, {b"dirty": FILE})
    assert not is_due(one)
    one.intend({b"g": FILE})
    assert loaded(new()).intents.keys() == {b"f", b"g"}


@pytest.mark.parametrize("step", ["open", "write", "fdatasync"])
def test_an_intent_that_cannot_be_written(
    new: Callable[..., Checkpoints], clock: Clock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The run may go on: nothing will be taken for known after it."""
    one = new()
    take(one, clock)
    one.intend({b"f": FILE})
    one = new() if step == "open" else one
    real = getattr(os, step)

    def fail(*arguments: Any, **options: Any) -> Any:
        if step == "open" and not arguments[1] & os.O_CREAT:
            return real(*arguments, **options)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space"):
            one.intend({b"g": FILE})
    assert reason(new()) == "nothing is known from before"


def test_a_snapshot_that_cannot_be_renamed(
    new: Callable[..., Checkpoints], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = new()
    take(one, clock)
    one.begin(clock(), GROUND, OTHER_TABLE, {b"dirty": FILE})
    with pytest.raises(FileNotFoundError):
        one.commit()
    one.intend({b"f": FILE})
    known = loaded(new())
    assert known.directories == fingerprints(TABLE)
    assert known.intents.keys() == {b"dirty", b"f"}


# ---- when


def test_when_it_is_due(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    reason(one)
    assert is_due(one)
    one.begin(clock(), GROUND, TABLE, {})()
    assert not is_due(one)
    one.commit()
    clock.pass_by(HOUR)
    assert not is_due(one), "no run since"
    one.intend({b"f": FILE})
    assert is_due(one)
    take(one, clock)
    one.intend({b"f": FILE})
    assert not is_due(one)
    clock.pass_by(INTERVAL_NS)
    assert is_due(one)


def test_what_takes_long_is_seldom_due(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    write = one.begin(clock(), GROUND, TABLE, {})
    clock.pass_by(100 * SECOND)
    write()
    one.commit()
    one.intend({b"f": FILE})
    clock.pass_by((COST_LIMIT - 1) * 100 * SECOND)
    assert not is_due(one)
    clock.pass_by(200 * SECOND)
    assert is_due(one)


def test_many_intents_make_it_due(
    new: Callable[..., Checkpoints], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PATHS_PER_FILE", 10)
    one = new()
    take(one, clock)
    one.intend({b"%d" % number: FILE for number in range(6)})
    assert is_due(one)


def test_what_was_abandoned_is_not_tried_at_once(new: Callable[..., Checkpoints], clock: Clock) -> None:
    one = new()
    reason(one)
    one.begin(clock(), GROUND, TABLE, {})
    one.abandon()
    assert not is_due(one)
    clock.pass_by(INTERVAL_NS)
    assert is_due(one)


# ---- what is flushed


def test_source_and_local_target_are_on_disk_before_the_snapshot(
    new: Callable[..., Checkpoints], clock: Clock, places_to_flush: list[bytes]
) -> None:
    new(source="/s", target=local_target("/t")).begin(clock(), GROUND, TABLE, {})()
    assert places_to_flush == [b"/s/", b"/s/\xff", b"/t"]


def test_a_remote_target_and_other_file_systems_are_not_flushed(
    new: Callable[..., Checkpoints], clock: Clock, places_to_flush: list[bytes]
) -> None:
    options = RsyncOptions("rsync", (), (), (("one_file_system", True),))
    target = Target("h:/t", TargetKind.SSH, "h", "/t")
    new(source="/s", target=target, rsync=options).begin(clock(), GROUND, TABLE, {})()
    assert places_to_flush == [b"/s/"]


def test_each_file_system_is_flushed_once_and_a_hidden_one_not_at_all(
    new: Callable[..., Checkpoints], clock: Clock, places_to_flush: list[bytes]
) -> None:
    here = GROUND.mounts[0]
    mounts = (here, here._replace(path=b"bound"), Mount(b"x", b"/", "xfs", 7), Mount(b"y", b"/", "xfs", 0))
    new(source="/s").begin(clock(), replace(GROUND, mounts=mounts), TABLE, {})()
    assert places_to_flush == [b"/s/", b"/s/x", b"/target"]


def test_a_table_is_read_where_it_is_written(new: Callable[..., Checkpoints], clock: Clock) -> None:
    """It may be long: whoever begins must not wait for it."""
    rows = iter(TABLE)
    write = new().begin(clock(), GROUND, rows, {})
    assert next(rows) == TABLE[0]
    write()
