# SPDX-License-Identifier: GPL-2.0-or-later
"""Random operations of several processes while things go wrong: in the end the target is the source.

Several syncs are churned side by side where nothing else would happen but waiting. LSYNCD_SD_SEED repeats
what each process tries.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from helpers import churn
from helpers.comparing import ARCHIVE, IsIgnored, age, differences, links, rsync_differences
from helpers.daemon import UNLIMITED, Daemon, text_of
from helpers.fakersync import FakeRsync
from helpers.waiting import DEADLINE, wait_until
from live.conftest import Pair, local_pair, needs_root

pytestmark = pytest.mark.live

PROCESSES = 3

# Operations of all processes together on one sync, and the seconds they are spread over.
QUICK = (2_000, 10.0)
FULL = (10_000, 60.0)

CHILD_KILL_SECONDS = 2.0

# Seconds after which the operations must be over, all of them must be mirrored, and the whole test.
CHURN_LIMIT = 240
SETTLE_LIMIT = 120
TIME_LIMIT = 600

MakeDaemon = Callable[..., Daemon]


class Churned:
    """One sync under churn; `has_links`: with hard links among what is done to it."""

    def __init__(self, pair: Pair, name: str = "home", *, has_links: bool = False, **more: object) -> None:
        self.pair = pair
        self.name = name
        self._has_links = has_links
        self._more = more
        self._processes: list[subprocess.Popen[bytes]] = []
        (pair.source / "a" / "b").mkdir(parents=True)
        (pair.source / "a" / "b" / "c").write_text("c")
        age(pair.source)

    def settings(self) -> dict[str, object]:
        """Return the mapping for a configuration file."""
        # What is done at random now and then deletes the greater part.
        return self.pair.settings(name=self.name, brake=UNLIMITED, **self._more)

    def begin(self, seed: str, full: bool) -> None:
        """Start to do random operations in the background."""
        operations, seconds = FULL if full else QUICK
        outside = self.pair.source.parent / "outside"
        outside.mkdir()
        for number in range(PROCESSES):
            arguments = [
                f"{seed}-{self.name}-{number}",
                str(operations // PROCESSES),
                str(seconds),
                str(self.pair.source),
                str(outside),
                *(["links"] if self._has_links else []),
            ]
            self._processes.append(subprocess.Popen([sys.executable, churn.__file__, *arguments]))

    def is_over(self) -> bool:
        """Tell whether all operations are done."""
        return all(process.poll() is not None for process in self._processes)

    def end(self) -> None:
        """Do no more."""
        for process in self._processes:
            process.kill()
            process.wait()

    def check(self, running: Daemon, options: Sequence[str] = ARCHIVE) -> None:
        """Wait for all that was done: then it must be there."""
        assert [process.returncode for process in self._processes] == [0] * PROCESSES
        limit = str(SETTLE_LIMIT)
        waited = running.command(
            "sync", self.name, "--wait", "--timeout", limit, deadline=SETTLE_LIMIT + DEADLINE
        )
        assert waited.returncode == 0, waited.stderr
        self.compare(options)

    def compare(self, options: Sequence[str] = ARCHIVE, is_ignored: IsIgnored | None = None) -> None:
        """Promise 1."""
        assert rsync_differences(self.pair.source, self.pair.target, options) == []
        assert differences(self.pair.source, self.pair.target, is_ignored) == []


@contextlib.contextmanager
def churning(seed: str, full: bool, *syncs: Churned) -> Iterator[Callable[[], bool]]:
    """Churn these syncs at the same time; yields a function that tells whether all are over."""
    try:
        for sync in syncs:
            sync.begin(seed, full)
        yield lambda: all(sync.is_over() for sync in syncs)
    finally:
        for sync in syncs:
            sync.end()


def churn_while(seed: str, full: bool, meddlers: Iterable[Callable[[], None]], *syncs: Churned) -> None:
    """Churn these syncs and call each of `meddlers` all the time."""
    with churning(seed, full, *syncs) as is_over:

        def meddled_enough() -> bool:
            if is_over():
                return True
            for meddle in meddlers:
                meddle()
            return False

        wait_until(meddled_enough, "the operations are over", CHURN_LIMIT)


def start(daemons: MakeDaemon, *syncs: Churned) -> Daemon:
    """Start a daemon for these syncs, and wait until what they begin with is mirrored."""
    running = daemons(instance=syncs[0].name)
    running.write(syncs[0].name, text_of(*(sync.settings() for sync in syncs)))
    running.start(syncs[0].name)
    for sync in syncs:
        running.wait_for_state(sync.name, "in-sync")
    return running


# ---------------------------------------------------------------------- nothing goes wrong

# Only directories named cache, what ends in .o, and a name that is excluded in one place only.
PATTERNS = ("cache/", "*.o", "/a/b")


class Filtered(Churned):
    """A sync with excludes, whose borders are crossed by moves."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair, "filtered", exclude=list(PATTERNS))
        pair.target.mkdir(parents=True)
        (pair.target / "theirs.o").write_text("theirs")

    def check(self, running: Daemon, options: Sequence[str] = ARCHIVE) -> None:
        """Nothing that is excluded is sent, nor touched."""
        super().check(running, (*options, *(f"--exclude={pattern}" for pattern in PATTERNS)))
        sent = [
            path
            for path in self.pair.target.rglob("*")
            if self._is_ignored(os.fsencode(path.relative_to(self.pair.target)))
        ]
        assert [path.name for path in sent] == ["theirs.o"]
        assert (self.pair.target / "theirs.o").read_text() == "theirs"

    def compare(self, options: Sequence[str] = ARCHIVE, is_ignored: IsIgnored | None = None) -> None:
        """Promise 1, of what is not excluded."""
        super().compare(options, self._is_ignored)

    def _is_ignored(self, path: bytes) -> bool:
        if path == b"a/b" or path.endswith(b".o"):
            return True
        if path.rpartition(b"/")[2] != b"cache":
            return False
        places = [
            Path(os.fsdecode(os.path.join(os.fsencode(root), path)))
            for root in (self.pair.source, self.pair.target)
        ]
        return any(place.is_dir() and not place.is_symlink() for place in places)


class Linked(Churned):
    """A sync that keeps hard links."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair, "linked", has_links=True, rsync={"hard_links": True})

    def check(self, running: Daemon, options: Sequence[str] = ARCHIVE) -> None:
        """What is linked is linked, what is not is not."""
        super().check(running, (*options, "-H"))
        assert links(self.pair.target) == links(self.pair.source)


@pytest.mark.timeout(TIME_LIMIT)
def test_churn(make_pair: Callable[[str], Pair], daemons: MakeDaemon, seed: str, full: bool) -> None:
    syncs = [Churned(make_pair("home")), Filtered(make_pair("filtered")), Linked(make_pair("linked"))]
    running = start(daemons, *syncs)
    churn_while(seed, full, (), *syncs)
    for sync in syncs:
        sync.check(running)
        assert running.status(sync.name)["restarts"] == 0


# ---------------------------------------------------------------------- processes die


class Every:
    """Calls a function not more often than every so many seconds."""

    def __init__(self, seconds: float, function: Callable[[], object]) -> None:
        self._seconds = seconds
        self._function = function
        self._last = time.monotonic()

    def __call__(self) -> None:
        """Call it, if it is time."""
        if time.monotonic() - self._last > self._seconds:
            self._function()
            self._last = time.monotonic()


def send(pid: int | None, number: signal.Signals) -> None:
    """Send a signal to a process, if it is still there."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.mark.timeout(TIME_LIMIT)
def test_churn_while_processes_are_killed(folder: Path, daemons: MakeDaemon, seed: str, full: bool) -> None:
    bereft = Churned(local_pair(folder / "bereft"), "bereft", has_links=True)
    renewed = Churned(local_pair(folder / "renewed"), "renewed")
    with_children_killed, itself_killed = start(daemons, bereft), start(daemons, renewed)
    chosen = random.Random(seed)  # noqa: S311  (to be replayed)

    def renew() -> None:
        if chosen.random() < 0.5:
            assert itself_killed.stop() == 0
        else:
            itself_killed.kill()
            wait_until(lambda: not itself_killed.processes(), "all its processes are gone")
        itself_killed.start("renewed")

    kill_child = Every(
        CHILD_KILL_SECONDS, lambda: send(with_children_killed.status("bereft").get("pid"), signal.SIGKILL)
    )
    renew_now_and_then = Every(CHILD_KILL_SECONDS, renew)
    churn_while(seed, full, (kill_child, renew_now_and_then), bereft, renewed)
    bereft.check(with_children_killed)
    renewed.check(itself_killed)
    assert with_children_killed.status("bereft")["restarts"] >= 3


# ---------------------------------------------------------------------- several targets


class Doubled(Churned):
    """A sync with a second target, which now and then stands still."""

    def __init__(self, pair: Pair, second: Pair) -> None:
        super().__init__(pair, "doubled", has_links=True)
        self.second = second

    def settings(self) -> dict[str, object]:
        """Return the mapping for a configuration file."""
        mapping = super().settings()
        targets = [mapping.pop("target"), self.second.address]
        return {**mapping, "targets": targets}

    def check(self, running: Daemon, options: Sequence[str] = ARCHIVE) -> None:
        """All of it is on both."""
        super().check(running, options)
        assert rsync_differences(self.pair.source, self.second.target, options) == []
        assert differences(self.pair.source, self.second.target) == []


@pytest.mark.timeout(TIME_LIMIT)
def test_churn_with_two_targets(
    make_pair: Callable[[str], Pair], daemons: MakeDaemon, seed: str, full: bool
) -> None:
    sync = Doubled(make_pair("doubled"), make_pair("second"))
    running = start(daemons, sync)
    chosen = random.Random(seed)  # noqa: S311  (to be replayed)
    stopped: set[int] = set()
    frozen: list[int] = []

    def freeze_or_thaw() -> None:
        while stopped:
            send(stopped.pop(), signal.SIGCONT)
        if chosen.random() < 0.7:
            stopped.update(
                pid for pid in running.processes_named("rsync") if goes_to(pid, sync.second.address)
            )
        for pid in stopped:
            send(pid, signal.SIGSTOP)
        frozen.extend(stopped)

    kill_child = Every(
        2 * CHILD_KILL_SECONDS, lambda: send(running.status("doubled").get("pid"), signal.SIGKILL)
    )
    churn_while(seed, full, (Every(0.3, freeze_or_thaw), kill_child), sync)
    while stopped:
        send(stopped.pop(), signal.SIGCONT)
    sync.check(running)
    assert frozen
    assert running.status("doubled")["restarts"] >= 1


def goes_to(pid: int, address: str) -> bool:
    """Tell whether this is an rsync of ours that mirrors to this target."""
    with contextlib.suppress(OSError):
        return os.fsencode(f"{address}/.") in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


# ---------------------------------------------------------------------- transfers fail


class Ballast:
    """A file system of a few mebibytes, and what fills it up."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "lsyncd-sd-test", str(place)], check=True)
        self._place = place

    def fill(self) -> None:
        """Leave no room."""
        with contextlib.suppress(OSError), open(self._place / "ballast", "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def drop(self) -> bool:
        """Make room again; return whether there was none."""
        ballast = self._place / "ballast"
        was_full = ballast.exists()
        ballast.unlink(missing_ok=True)
        return was_full

    def unmount(self) -> None:
        """Forget the file system."""
        subprocess.run(["umount", "--lazy", str(self._place)], check=True)


@pytest.fixture
def ballast(folder: Path) -> Iterator[Ballast]:
    """A small file system at small/."""
    needs_root()
    made = Ballast(folder / "small")
    yield made
    made.unmount()


@pytest.mark.timeout(TIME_LIMIT)
def test_churn_while_transfers_fail(
    folder: Path, daemons: MakeDaemon, ballast: Ballast, seed: str, full: bool
) -> None:
    fake = FakeRsync(folder / "fake")
    unlucky = Churned(local_pair(folder / "unlucky"), "unlucky", rsync={"binary": str(fake.path)})
    pair = local_pair(folder / "cramped")
    target = folder / "small" / "target"
    cramped = Churned(Pair(pair.source, target, str(target)), "cramped", has_links=True)
    running = start(daemons, unlucky, cramped)
    fake.become("moody")
    chosen = random.Random(seed)  # noqa: S311  (to be replayed)
    killed: list[int] = []

    def kill_one() -> None:
        pids = running.processes_named("rsync")
        if pids:
            killed.append(chosen.choice(pids))
            send(killed[-1], signal.SIGKILL)

    def change_room() -> None:
        if not ballast.drop():
            ballast.fill()
        running.command("sync", "cramped")

    meddlers = (
        Every(0.5, kill_one),
        Every(2.0, change_room),
        Every(5.0, lambda: running.command("sync", "unlucky")),
    )
    ballast.fill()
    churn_while(seed, full, meddlers, unlucky, cramped)
    fake.become("pass")
    ballast.drop()
    for sync in (unlucky, cramped):
        sync.check(running)
        assert running.status(sync.name)["restarts"] == 0
    assert killed
    assert "target-full" in running.log()


# ---------------------------------------------------------------------- events are lost


@pytest.fixture
def short_queues() -> Iterator[None]:
    """Give every new inotify queue room for 128 events only."""
    needs_root()
    setting = Path("/proc/sys/fs/inotify/max_queued_events")
    before = setting.read_text()
    setting.write_text("128")
    yield
    setting.write_text(before)


@pytest.mark.alone
@pytest.mark.timeout(TIME_LIMIT)
def test_churn_with_a_short_queue(
    short_queues: None, folder: Path, daemons: MakeDaemon, seed: str, full: bool
) -> None:
    sync = Churned(local_pair(folder / "hasty"), "hasty", has_links=True)
    running = start(daemons, sync)
    child = running.child("hasty")
    chosen = random.Random(seed)  # noqa: S311  (to be replayed)
    # stopped for some fifths of a second now and then, it cannot keep up
    numbers = (signal.SIGSTOP, signal.SIGCONT, signal.SIGCONT)
    churn_while(seed, full, [Every(0.2, lambda: send(child, chosen.choice(numbers)))], sync)
    send(child, signal.SIGCONT)
    sync.check(running)
    assert "overflowed" in running.log()
    assert running.child("hasty") == child
