# SPDX-License-Identifier: GPL-2.0-or-later
"""Child and parent are killed at every step that they take: nothing is lost, nothing is ever half-written.

A reader reads the target all the time.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import reader, tracing
from helpers.ambush import HELD_BACK, Ambush
from helpers.comparing import ARCHIVE, age
from helpers.daemon import Daemon, Settings, settings, text_of
from helpers.fakersync import FakeRsync
from helpers.reader import whole
from helpers.waiting import wait_until
from live.conftest import Pair

pytestmark = pytest.mark.live

VICTIMS = ("child", "parent")

# Steps at which the quick profile kills, of those that there are.
QUICK_STEPS = 2

# For when it is a full sync that finds what has changed.
CHECKSUM = {"checksum": True}

TIME_LIMIT = 900

MakeDaemon = Callable[..., Daemon]


class Source:
    """A source whose files tell by themselves whether they are whole; none is ever half-written in it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside = root.parent / "aside"
        self._round = 0
        self._changes = 0
        (root / "steady").mkdir()
        self.change()
        age(root)

    def write(self, name: str, size: int) -> None:
        """Let a file of some size, with new content, appear at once."""
        self._round += 1
        self._aside.write_bytes(whole(f"{name} {self._round} ".encode() * (size // 8)))
        (self._root / name).parent.mkdir(parents=True, exist_ok=True)
        self._aside.rename(self._root / name)

    def change(self) -> None:
        """Change something of each kind, always something else."""
        self._changes += 1
        number = self._changes
        for name in ("steady/small", "steady/other", "always different"):
            self.write(name, 100)
        self.write("steady/large", 200_000)
        self.write(f"new{number}/below/file", 3_000)
        before = self._root / f"new{number - 1}"
        if before.exists():
            (before / "below").rename(self._root / f"moved{number}")
            (self._root / f"moved{number}" / "file").chmod(0o600)
        gone = self._root / f"moved{number - 1}"
        if gone.exists():
            shutil.rmtree(gone)
        os.utime(self._root / "steady", ns=(0, 10**18 + number))


@pytest.fixture
def source(local: Pair) -> Source:
    """The source of `local`, with something in it."""
    return Source(local.source)


@pytest.fixture
def reading(local: Pair) -> Iterator[None]:
    """Read the target from now on until the test is over; all that was read must have been whole."""
    local.target.mkdir()
    process = subprocess.Popen(
        [sys.executable, reader.__file__, str(local.target)], stdout=subprocess.PIPE, text=True
    )
    yield
    process.terminate()
    output, _errors = process.communicate()
    assert output.strip().isdigit(), output
    assert int(output) > 0


@pytest.fixture
def chosen() -> random.Random:
    """What the quick profile tries; LSYNCD_SD_SEED repeats it."""
    seed = os.environ.get("LSYNCD_SD_SEED") or str(random.SystemRandom().randrange(2**32))
    print(f"LSYNCD_SD_SEED={seed}")
    return random.Random(seed)  # noqa: S311  (to be replayed)


def temporary_files(target: Path) -> list[Path]:
    """Return the files that an rsync under way, or one that was killed, has on the target."""
    return [path for path in target.rglob(".*") if re.fullmatch(r"\..+\.[A-Za-z0-9]{6}", path.name)]


def strike(running: Daemon, victim: str) -> None:
    """Kill the child or the parent, and see that whatever they started is gone too."""
    # The rsyncs at the same time, as systemd and the parent do: they must not tidy up.
    os.kill(running.child("home"), signal.SIGSTOP)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        running.signal_named("rsync", number)
    if victim == "parent":
        running.kill()
        wait_until(lambda: not running.processes(), "all its processes are gone", describe=running.log)
    else:
        child = running.child("home")
        os.kill(child, signal.SIGKILL)
        running.wait_for("home", lambda status: status.get("pid") not in (None, child), "it is replaced")


def is_quiet(running: Daemon, name: str = "home") -> bool:
    """Tell whether all that it knows of is mirrored."""
    status = running.status(name)
    return status.get("state") == "in-sync" and status["pending"] == 0


# ---------------------------------------------------------------------- what is kept on disk


class Kept:
    """A daemon that is killed while it changes the files of its state; each time it begins from nothing."""

    def __init__(self, daemons: MakeDaemon, pair: Pair, source: Source, log: Path) -> None:
        self._pair = pair
        self._source = source
        self._log = log
        self._running = daemons(prefix=HELD_BACK)
        self._name = ""

    def steps(self) -> list[str]:
        """Return what it changes when nobody disturbs it."""
        self._begin("undisturbed")
        with self._ambush(0, "child") as ambush:
            self._live()
            assert self._running.stop() == 0
            return ambush.steps

    def kill_at(self, number: int, victim: str) -> None:
        """Kill one before its `number`-th change, in two lives: all is mirrored in the third."""
        self._begin(f"killed{number}")
        for _life in range(2):
            with self._ambush(number, victim) as ambush:
                self._live(until=ambush.has_struck)
            # It may have struck only just now.
            if wait_until(self._fate, "it answers, or is dead") == "dead":
                assert victim == "parent"
                wait_until(lambda: not self._running.processes(), "all its processes are gone")
            else:
                self._is_mirrored()
                assert self._running.stop() == 0
            self._source.change()
        with self._ambush(0, "child"):
            self._is_mirrored()
            assert self._running.stop() == 0

    def _fate(self) -> str:
        if self._running.process.poll() is not None:
            return "dead"
        return "alive" if self._running.syncs() is not None else ""

    def _begin(self, name: str) -> None:
        self._name = name
        target = self._pair.target / name
        self._running.write("home", text_of(settings(self._pair.source, target, name=name, rsync=CHECKSUM)))

    def _ambush(self, number: int, victim: str) -> Ambush:
        self._running.start("home", wait=False)
        return Ambush(self._running.process.pid, self._running.state, number, victim, self._log)

    def _live(self, until: Callable[[], bool] = lambda: False) -> None:
        """Start up, and send two batches."""
        for _number in range(3):
            wait_until(
                lambda: until() or is_quiet(self._running, self._name),
                "it gets quiet",
                describe=self._running.log,
            )
            self._source.change()

    def _is_mirrored(self) -> None:
        target = self._pair.target / self._name
        self._running.wait_until_mirrored(self._name, self._pair.source, target)


@pytest.mark.timeout(TIME_LIMIT)
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_while_the_state_is_written(
    reading: None,
    local: Pair,
    source: Source,
    daemons: MakeDaemon,
    tmp_path: Path,
    chosen: random.Random,
    full: bool,
    victim: str,
) -> None:
    if not tracing.can_trace():
        pytest.skip("the system calls of this machine are not known")
    kept = Kept(daemons, local, source, tmp_path / "steps")
    steps = kept.steps()
    print("\n".join(steps))
    numbers = list(range(1, len(steps) + 1))
    for number in numbers if full else sorted(chosen.sample(numbers, QUICK_STEPS)):
        kept.kill_at(number, victim)
    assert temporary_files(local.target) == []


# ---------------------------------------------------------------------- the runs of a batch


@pytest.mark.timeout(TIME_LIMIT)
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_before_and_after_each_run(
    reading: None,
    local: Pair,
    source: Source,
    daemons: MakeDaemon,
    folder: Path,
    chosen: random.Random,
    full: bool,
    victim: str,
) -> None:
    fake = FakeRsync(folder / "fake")
    running = daemons()
    running.write("home", text_of(local.settings(rsync={**CHECKSUM, "binary": str(fake.path)})))
    running.start("home")

    def kill_at(stops: int) -> bool:
        """Kill after so many stops, two for each run; False if the batch has ended before."""
        running.wait_until_mirrored("home", local.source, local.target)
        fake.become("gate")
        source.change()
        for number in range(stops):
            wait_until(lambda: fake.is_gated() or is_quiet(running), "a run waits, or none is needed")
            if not fake.is_gated():
                fake.become("pass")
                return False
            if number < stops - 1:
                fake.let_go("linger" if number % 2 == 0 else "pass")
        fake.become("pass")
        strike(running, victim)
        source.change()
        if victim == "parent":
            running.start("home")
        return True

    stops = 1 if full else chosen.randrange(1, 4)
    while kill_at(stops):
        stops += 1 if full else 3
    running.wait_until_mirrored("home", local.source, local.target)
    assert temporary_files(local.target) == []


# ---------------------------------------------------------------------- a file on its way


@pytest.mark.parametrize(
    "more", [{}, {"delete": False}, {"filter": ["P .*"]}], ids=["all", "kept", "protected"]
)
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_in_the_middle_of_a_file(
    reading: None, local: Pair, source: Source, daemons: MakeDaemon, victim: str, more: Settings
) -> None:
    # What somebody else keeps there: of no file of the source, and where none was ever sent.
    foreign = ["steady/.foo.abcdef", "elsewhere/.large.abcdef"] if "delete" in more else []
    theirs = {local.target / name for name in foreign}
    for path in theirs:
        path.parent.mkdir()
        path.write_bytes(whole(b"somebody else's"))
    running = daemons()
    options = {**CHECKSUM, "bwlimit": 2000, "whole_file": True}
    running.write("home", text_of(local.settings(rsync=options, **more)))
    source.write("steady/large", 2_000_000)
    running.start("home")
    # in the full sync, then in a batch, then when its directory is a new one
    for name in ("steady/large", "another/large", ""):
        wait_until(lambda: set(temporary_files(local.target)) - theirs, "rsync writes", describe=running.log)
        strike(running, victim)
        if victim == "parent":
            running.start("home")
        running.wait_until_mirrored(
            "home",
            local.source,
            local.target,
            (*ARCHIVE, *(f"--filter=P /{path}" for path in foreign), "--filter=P /elsewhere"),
            is_ignored=lambda path: path.decode() in [*foreign, "elsewhere"],
        )
        assert set(temporary_files(local.target)) == theirs
        if name:
            source.write(name, 2_000_000)
