# SPDX-License-Identifier: GPL-2.0-or-later
"""Command lines of Lsyncd's: they mirror, in the foreground, and end with the statuses that Lsyncd has."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.commandline import CommandLine
from helpers.comparing import age
from helpers.daemon import DELAY, Daemon
from helpers.servers import ADDRESS, RsyncDaemon, Sshd, free_port
from helpers.waiting import wait_until
from live.conftest import needs_root

pytestmark = pytest.mark.live

QUICK = ("-delay", str(DELAY), "-nodaemon")
NOBODY = f"rsync://{ADDRESS}:{{}}/nothing/there"

Lines = Callable[..., CommandLine]


@pytest.fixture
def lines(daemons: Callable[..., Daemon]) -> Lines:
    """Make command lines without starting them; all have the same folders."""

    def make(**options: object) -> CommandLine:
        made = daemons(cls=CommandLine, **options)
        assert isinstance(made, CommandLine)
        return made

    return make


@pytest.fixture
def line(lines: Lines) -> CommandLine:
    """A command line, not started."""
    return lines()


@pytest.fixture
def trees(folder: Path) -> Path:
    """A folder with some sources of one file each."""
    for name in ("one", "two"):
        tree(folder / name)
    return folder


def tree(root: Path) -> Path:
    """Make a source with a file in it."""
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_text("content")
    age(root)
    return root


def is_mirrored(running: CommandLine, source: Path, target: Path, name: str = "") -> None:
    """Wait until a sync, the only one if nothing is said, has mirrored all."""
    running.wait_until_mirrored(name or running.names()[0], source, target)


# ---- mirroring


@pytest.mark.parametrize("option", ["-rsync", "--rsync"])
def test_it_mirrors_from_relative_paths_and_follows_changes(
    line: CommandLine, trees: Path, option: str
) -> None:
    line.start_line(trees, *QUICK, option, "one", "./target/")
    is_mirrored(line, trees / "one", trees / "target")
    (trees / "one/new").write_text("new")
    (trees / "one/sub/file").rename(trees / "one/moved")
    (trees / "one/sub").rmdir()
    is_mirrored(line, trees / "one", trees / "target")
    assert line.stop() == 143


def test_it_deletes_as_lsyncd_does(line: CommandLine, trees: Path) -> None:
    (trees / "target").mkdir()
    (trees / "target/stale").write_text("from before")
    line.start_line(trees, *QUICK, "-rsync", "one", "target")
    is_mirrored(line, trees / "one", trees / "target")
    assert not (trees / "target/stale").exists()


def test_it_wipes_nothing_by_surprise(line: CommandLine, trees: Path) -> None:
    """`lsyncd -rsync SOURCE .` in a home has cost some people that."""
    (trees / "home").mkdir()
    (trees / "home/letters").write_text("mine")
    line.start_line(trees / "home", *QUICK, "-rsync", "../one", ".")
    line.wait_for_state(line.names()[0], "held")
    assert [path.name for path in (trees / "home").iterdir()] == ["letters"]
    line.command("accept", line.names()[0])
    is_mirrored(line, trees / "one", trees / "home")


def test_more_than_the_brake_allows_is_held(line: CommandLine, trees: Path) -> None:
    (trees / "target").mkdir()
    for number in range(101):
        (trees / "target" / str(number)).touch()
    line.start_line(trees, *QUICK, "-rsync", "one", "target")
    line.wait_for_state(line.names()[0], "held")
    assert len(list((trees / "target").iterdir())) == 101


NAMES = [b"a b", b"it's", b'"', b"$HOME", b"a\\b", b"*", b"-rf", b"line\nbreak", b"\xff\xfe", b"#x", b"x:y"]


@pytest.mark.parametrize("name", NAMES)
def test_paths_of_any_bytes(line: CommandLine, folder: Path, name: bytes) -> None:
    source = tree(folder / os.fsdecode(name))
    line.start_line(folder, *QUICK, "-rsync", name, b"./to " + name)
    target = folder / os.fsdecode(b"to " + name)
    is_mirrored(line, source, target)
    (source / "new").write_text("new")
    is_mirrored(line, source, target)


def test_two_syncs_of_one_line(line: CommandLine, trees: Path) -> None:
    line.start_line(trees, *QUICK, "-rsync", "one", "to-one", "-rsync", "two", "to-two")
    first, second = line.names()
    is_mirrored(line, trees / "one", trees / "to-one", first)
    is_mirrored(line, trees / "two", trees / "to-two", second)
    (trees / "two/new").write_text("new")
    is_mirrored(line, trees / "two", trees / "to-two", second)


def test_several_lines_at_once_beside_a_service(
    lines: Lines, daemons: Callable[..., Daemon], trees: Path
) -> None:
    service = daemons()
    service.write("lines", f"source: {trees}/two\ntarget: {trees}/to-service\ndelay: 0.1\n")
    service.start("lines")
    first, second = lines(), lines()
    first.start_line(trees, *QUICK, "-rsync", "one", "to-one")
    is_mirrored(first, trees / "one", trees / "to-one")
    second.start_line(trees, *QUICK, "-rsync", "two", "to-two")
    is_mirrored(second, trees / "two", trees / "to-two")
    service.wait_until_mirrored("lines", trees / "two", trees / "to-service")
    # A command finds all of them.
    wait_until(
        lambda: first.command("status").stdout.count("in-sync") == 3,
        "all three are shown",
        describe=lambda: first.command("status").stdout,
    )
    assert (first.stop(), second.stop(), service.stop()) == (143, 143, 0)


def test_the_same_line_twice_is_refused(lines: Lines, trees: Path) -> None:
    first, second = lines(), lines()
    first.start_line(trees, *QUICK, "-rsync", "one", "target")
    assert second.run_line(trees, *QUICK, "-rsync", "one", "target") == 255
    assert "a service already running listens" in second.log()
    assert second.run_line(trees, *QUICK, "-rsync", "two", "target") == 255
    assert "is mirrored to already" in second.log()
    is_mirrored(first, trees / "one", trees / "target")


def test_a_restart_needs_no_full_sync(line: CommandLine, trees: Path) -> None:
    line.start_line(trees, *QUICK, "-rsync", "one", "target")
    is_mirrored(line, trees / "one", trees / "target")
    wait_until(
        lambda: list((line.state / "lines").rglob("snapshot*")), "a checkpoint is made", describe=line.log
    )
    line.stop()
    line.log_path.unlink()
    line.start_line(trees, *QUICK, "-rsync", "one", "target")
    is_mirrored(line, trees / "one", trees / "target")
    assert "full-sync" not in line.log()


# ---- ends


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_its_number(
    line: CommandLine, trees: Path, number: signal.Signals, status: int
) -> None:
    line.start_line(trees, *QUICK, "-rsync", "one", "target")
    is_mirrored(line, trees / "one", trees / "target")
    line.signal(number)
    assert line.wait_for_end() == status


def test_a_hangup_does_not_end_it(line: CommandLine, trees: Path) -> None:
    line.start_line(trees, *QUICK, "-rsync", "one", "target")
    line.signal(signal.SIGHUP)
    wait_until(lambda: "configuration read again; changed: nothing" in line.log(), "it is heard")
    is_mirrored(line, trees / "one", trees / "target")


def test_a_target_out_of_reach_ends_it(line: CommandLine, trees: Path) -> None:
    assert line.run_line(trees, *QUICK, "-rsync", "one", NOBODY.format(free_port())) == 255
    assert "ending, for nothing could be mirrored; -insist would go on trying" in line.log()
    assert "unreachable: " in line.log()


def test_a_target_that_refuses_ends_it(line: CommandLine, trees: Path) -> None:
    (trees / "file").touch()
    assert line.run_line(trees, *QUICK, "-rsync", "one", "file/target") == 255
    assert "ending, for nothing could be mirrored" in line.log()


def test_with_insist_it_waits_for_the_target(line: CommandLine, trees: Path, rsyncd: RsyncDaemon) -> None:
    rsyncd.stop()
    line.start_line(trees, *QUICK, "-insist", "-rsync", "one", f"rsync://{ADDRESS}:{rsyncd.port}/mirror/x")
    line.wait_for_state(line.names()[0], "unreachable")
    rsyncd.start()
    line.command("sync", line.names()[0])
    is_mirrored(line, trees / "one", rsyncd.module / "x")


def test_with_insist_it_waits_for_the_source(line: CommandLine, folder: Path) -> None:
    assert line.run_line(folder, *QUICK, "-rsync", "later", "target") == 255
    assert "source: " in line.log() and "is not there" in line.log()
    line.start_line(folder, *QUICK, "-insist", "-rsync", "later", "target")
    line.wait_for_state(line.names()[0], "source-missing")
    tree(folder / "later")
    is_mirrored(line, folder / "later", folder / "target")


def test_one_target_out_of_reach_does_not_end_the_others(line: CommandLine, trees: Path) -> None:
    line.start_line(trees, *QUICK, "-rsync", "one", NOBODY.format(free_port()), "-rsync", "two", "to-two")
    dead, alive = line.names()
    is_mirrored(line, trees / "two", trees / "to-two", alive)
    line.wait_for_state(dead, "unreachable")
    (trees / "two/new").write_text("new")
    is_mirrored(line, trees / "two", trees / "to-two", alive)


# ---- once


def test_one_pass_ends_when_all_is_mirrored(line: CommandLine, trees: Path) -> None:
    (trees / "to-one").mkdir()
    (trees / "to-one/stale").touch()
    words = ("-onepass", "-rsync", "one", "to-one", "-rsync", "two", "to-two")
    assert line.run_line(trees, *words) == 0
    assert (trees / "to-one/sub/file").exists() and (trees / "to-two/sub/file").exists()
    assert not (trees / "to-one/stale").exists()
    # What nobody could see from here: only a full sync finds it.
    (trees / "to-two/sub/file").unlink()
    assert line.run_line(trees, *words) == 0
    assert (trees / "to-two/sub/file").exists()
    assert line.log().count("(full sync)") == 4, "each time one for each of them"


def test_one_pass_that_fails_says_so(line: CommandLine, trees: Path) -> None:
    words = ("-onepass", "-rsync", "one", NOBODY.format(free_port()), "-rsync", "two", "to-two")
    assert line.run_line(trees, *words) == 255
    assert "ending, for not everything was mirrored; -insist would go on trying" in line.log()
    assert (trees / "to-two/sub/file").exists(), "the other one is done all the same"


def test_one_pass_waits_for_nobody_to_accept(line: CommandLine, trees: Path) -> None:
    words = ("-onepass", "-rsync", str(trees / "one"), ".")
    (trees / "home").mkdir()
    (trees / "home/letters").touch()
    assert line.run_line(trees / "home", *words) == 255
    assert "held: " in line.log()
    assert (trees / "home/letters").exists()


def test_one_pass_that_insists_waits(line: CommandLine, trees: Path, rsyncd: RsyncDaemon) -> None:
    rsyncd.stop()
    target = f"rsync://{ADDRESS}:{rsyncd.port}/mirror/x"
    line.start_line(trees, "-onepass", "-insist", "-rsync", "one", target)
    name = line.names()[0]
    line.wait_for_state(name, "unreachable")
    rsyncd.start()
    line.command("sync", name)
    assert line.wait_for_end() == 0
    assert (rsyncd.module / "x/sub/file").exists()


# ---- files


def test_the_pid_file_is_of_the_process_and_goes_with_it(line: CommandLine, trees: Path) -> None:
    line.start_line(trees, *QUICK, "-pidfile", "run.pid", "-rsync", "one", "target")
    assert (trees / "run.pid").read_text() == f"{line.process.pid}\n"
    is_mirrored(line, trees / "one", trees / "target")
    os.kill(int((trees / "run.pid").read_text()), signal.SIGTERM)
    assert line.wait_for_end() == 143
    assert not (trees / "run.pid").exists()


def test_a_pid_file_that_is_taken_is_left_alone(lines: Lines, trees: Path) -> None:
    first, second = lines(), lines()
    first.start_line(trees, *QUICK, "-pidfile", "pid", "-rsync", "one", "to-one")
    assert second.run_line(trees, *QUICK, "-pidfile", "pid", "-rsync", "two", "to-two") == 255
    assert "another process runs with it" in second.log()
    assert (trees / "pid").read_text() == f"{first.process.pid}\n"
    assert not (trees / "to-two").exists()


def test_after_a_crash_the_pid_file_is_taken_over(line: CommandLine, trees: Path) -> None:
    words = (*QUICK, "-pidfile", "pid", "-rsync", "one", "target")
    line.start_line(trees, *words)
    is_mirrored(line, trees / "one", trees / "target")
    line.kill()
    assert (trees / "pid").exists()
    line.start_line(trees, *words)
    assert (trees / "pid").read_text() == f"{line.process.pid}\n"


@pytest.mark.parametrize("is_shown", [True, False])
def test_the_log_file_has_what_all_processes_say(line: CommandLine, trees: Path, is_shown: bool) -> None:
    shown = ("-nodaemon",) if is_shown else ()
    line.start_line(trees, *shown, "-delay", "0.1", "-logfile", "log", "-rsync", "one", "target")
    is_mirrored(line, trees / "one", trees / "target")
    (trees / "log").rename(trees / "log.1")
    line.stop()
    before, after = (trees / "log.1").read_text(), (trees / "log").read_text()
    assert "started with 1 syncs" in before and "batch 1 (full sync): 1 files sent" in before
    assert "stopping" in after
    assert ("started with 1 syncs" in line.log()) is is_shown


# ---- in the foreground


def test_it_says_once_that_it_stays(line: CommandLine, trees: Path) -> None:
    line.start_line(trees, "-rsync", "one", "target")
    line.stop()
    assert line.log().count("in the foreground, as with -nodaemon") == 1
    assert "systemctl enable --now lsyncd@NAME" in line.log()


@pytest.mark.parametrize("word", ["-nodaemon", "--nodaemon", "-onepass"])
def test_it_says_nothing_to_who_knows(line: CommandLine, trees: Path, word: str) -> None:
    line.start_line(trees, word, "-rsync", "one", "target", wait=False)
    wait_until((trees / "target/sub/file").exists, "it mirrors", describe=line.log)
    if line.process.poll() is None:
        line.stop()
    assert "foreground" not in line.log()


@pytest.mark.parametrize("options", [("-log", "Exec"), ("-log", "all"), ("-log", "scarce")])
def test_categories_tell_more_or_less(line: CommandLine, trees: Path, options: tuple[str, ...]) -> None:
    line.start_line(trees, *QUICK, *options, "-rsync", "one", "target")
    is_mirrored(line, trees / "one", trees / "target")
    line.stop()
    assert (" debug " in line.log()) is (options[1] != "scarce")
    assert (" notice " in line.log()) is (options[1] != "scarce")


# ---- failing in part


@pytest.fixture
def unprivileged(lines: Lines) -> CommandLine:
    """A command line that file modes hold for, although it is root's; not started."""
    needs_root()
    without = "-dac_override,-dac_read_search"
    return lines(prefix=["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"])


@pytest.fixture
def secret(trees: Path) -> Path:
    """A file of the first source that cannot be read."""
    path = trees / "one/secret"
    path.write_text("secret")
    path.chmod(0)
    return path


def test_one_pass_that_fails_in_part_says_so(unprivileged: CommandLine, trees: Path, secret: Path) -> None:
    """Lsyncd takes it for a success."""
    assert unprivileged.run_line(trees, "-onepass", "-rsync", "one", "target") == 255
    assert "Permission denied" in unprivileged.log()
    assert (trees / "target/sub/file").exists()


def test_a_start_that_fails_in_part_is_no_end(unprivileged: CommandLine, trees: Path, secret: Path) -> None:
    unprivileged.start_line(trees, *QUICK, "-rsync", "one", "target")
    name = unprivileged.names()[0]
    unprivileged.wait_for_state(name, "failing", "degraded")
    secret.chmod(0o600)
    is_mirrored(unprivileged, trees / "one", trees / "target")


# ---- other targets


def test_direct_is_a_local_mirror(line: CommandLine, trees: Path) -> None:
    line.start_line(trees, *QUICK, "-direct", "one", "target:1")
    is_mirrored(line, trees / "one", trees / "target:1")


def test_rsyncssh_moves_on_the_target(line: CommandLine, trees: Path, running_sshd: Sshd) -> None:
    (trees / "my key").symlink_to(running_sshd.folder / "user_key")
    known = f"-o UserKnownHostsFile={running_sshd.folder}/known_hosts -o StrictHostKeyChecking=yes"
    options = f"-p {running_sshd.port} -i 'my key' {known}"
    line.start_line(trees, *QUICK, "-sshopts", options, "-rsyncssh", "one", ADDRESS, str(trees / "target"))
    is_mirrored(line, trees / "one", trees / "target")
    number = (trees / "target/sub").stat().st_ino
    (trees / "one/sub").rename(trees / "one/moved")
    is_mirrored(line, trees / "one", trees / "target")
    assert (trees / "target/moved").stat().st_ino == number, "it was not sent again"
    assert line.stop() == 143


def test_a_daemon_by_its_module(line: CommandLine, trees: Path, running_rsyncd: RsyncDaemon) -> None:
    target = f"rsync://{ADDRESS}:{running_rsyncd.port}/mirror/by-line"
    line.start_line(trees, *QUICK, "-rsync", "one", target)
    is_mirrored(line, trees / "one", running_rsyncd.module / "by-line")


# ---- mistakes


def test_mistakes_change_nothing(line: CommandLine, trees: Path) -> None:
    for words in (
        ("lsyncd.conf.lua",),
        ("-rsync", "one"),
        ("-rsync", "one", "one"),
        ("-dealy", "1", "-rsync", "one", "t"),
    ):
        line.log_path.write_text("")
        assert line.run_line(trees, *words) == 255
        assert line.log().startswith("lsyncd-sd: ")
    assert sorted(path.name for path in trees.iterdir()) == ["one", "two"]
