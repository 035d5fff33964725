# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests what every exit status means, with the messages of real rsyncs, and how long is waited then."""

from __future__ import annotations

import random
import signal
import subprocess
from pathlib import Path

import pytest

from lsyncd_sd.mirror.outcome import PATIENCE, BackOff, Outcome, Patience, judge, never_began
from lsyncd_sd.mirror.process import Result, environment


def result(code: int, errors: bytes = b"", *, cut_short: bool = False) -> Result:
    return Result(code, b"", errors, False, cut_short, 0.0)


def outcome(code: int, errors: bytes = b"", overrides: dict[int, str] | None = None) -> Outcome:
    return judge(result(code, errors), overrides or {}).outcome


def closing(code: int) -> bytes:
    return b"rsync error: whatever the reason (code %d) at main.c(1394) [sender=3.5.0]\n" % code


TABLE = {
    0: Outcome.OK,
    1: Outcome.FAIL,
    2: Outcome.FAIL,
    3: Outcome.FAIL,
    4: Outcome.FAIL,
    5: Outcome.CONNECTION,
    6: Outcome.FAIL,
    10: Outcome.CONNECTION,
    11: Outcome.FAIL,
    12: Outcome.CONNECTION,
    13: Outcome.FAIL,
    19: Outcome.KILLED,
    20: Outcome.KILLED,
    23: Outcome.PARTIAL,
    24: Outcome.VANISHED,
    25: Outcome.BRAKE,
    30: Outcome.CONNECTION,
    35: Outcome.CONNECTION,
    126: Outcome.FAIL,
    127: Outcome.FAIL,
    255: Outcome.CONNECTION,
}


STOPPED = b"""\
could not make way for new regular file: was_dir
Deletions stopped due to --max-delete limit (3 skipped)
rsync error: some files/attrs were not transferred (see previous errors) (code 23)
"""


def test_deletions_that_were_stopped_are_the_brake_whatever_else_failed() -> None:
    assert outcome(23, STOPPED) is Outcome.BRAKE
    assert outcome(25, b"Deletions stopped due to --max-delete limit (3 skipped)\n") is Outcome.BRAKE
    named = b'rsync: "/d/Deletions stopped due to --max-delete limit": Permission denied (13)\n'
    assert outcome(23, named) is Outcome.PARTIAL


@pytest.mark.parametrize("code", range(256))
def test_every_exit_status_means_something(code: int) -> None:
    verdict = judge(result(code, closing(code)), {})
    assert verdict.outcome is TABLE.get(code, Outcome.FAIL)
    assert verdict.exit_status == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP])
def test_a_signal_is_no_success(number: signal.Signals) -> None:
    verdict = judge(result(-number), {})
    assert verdict.outcome is Outcome.KILLED
    assert verdict.message == f"ended by signal {int(number)}"
    # not even if somebody says that 9 is
    assert outcome(-number, overrides={int(number): "ok", -int(number): "ok"}) is Outcome.KILLED


@pytest.mark.parametrize("code", [0, 1, 11, 12, 20, 23, 24, 25, 255, -15, -9])
def test_a_run_that_we_ended_is_cut_short_whatever_it_returns(code: int) -> None:
    for errors in (b"", FULL[11][0]):
        assert judge(result(code, errors, cut_short=True), {code: "ok"}).outcome is Outcome.CUT_SHORT


def test_only_ok_is_ok() -> None:
    assert [code for code in range(-64, 256) if outcome(code) is Outcome.OK] == [0]


# ---- overrides


def test_overrides_come_before_the_table_and_the_messages() -> None:
    assert outcome(24, overrides={24: "ok"}) is Outcome.OK
    assert outcome(23, overrides={24: "ok"}) is Outcome.PARTIAL
    assert outcome(0, overrides={0: "fail"}) is Outcome.FAIL
    assert outcome(77, overrides={77: "connection"}) is Outcome.CONNECTION
    assert outcome(11, FULL[11][0], {11: "partial"}) is Outcome.PARTIAL


# ---- messages

FULL: dict[int, list[bytes]] = {
    11: [
        b'rsync: [receiver] write failed on "/target/big": No space left on device (28)\n' + closing(11),
        b'rsync: [receiver] write failed on "/target/big": Disk quota exceeded (122)\n' + closing(11),
        b'rsync: [receiver] write failed on "/big" (in module): No space left on device (28)\n'
        + closing(11),
        b'rsync: [receiver] close failed on "/target/.big.Vx5Vn0": No space left on device (28)\r\n',
    ],
    23: [
        b'rsync: [generator] recv_generator: mkdir "/target/d" failed: No space left on device (28)\n'
        b"*** Skipping any contents from this failed directory ***\n" + closing(23),
        b'rsync: [receiver] mkstemp "/target/.a.0Zo8zg" failed: Disk quota exceeded (122)\n' + closing(23),
        b'rsync: [sender] send_files failed to open "/source/a": Permission denied (13)\n'
        b'rsync: [receiver] mkstemp "/target/.a.0Zo8zg" failed: No space left on device (28)\n'
        + closing(23),
    ],
}


@pytest.mark.parametrize(("code", "errors"), [(code, line) for code in FULL for line in FULL[code]])
def test_a_full_target(code: int, errors: bytes) -> None:
    assert outcome(code, errors) is Outcome.TARGET_FULL


@pytest.mark.parametrize("code", [0, 1, 12, 24, 30, 255])
def test_other_statuses_do_not_mean_a_full_target(code: int) -> None:
    assert outcome(code, FULL[11][0]) is TABLE[code]


@pytest.mark.parametrize(
    "line",
    [
        b'rsync: [sender] send_files failed to open "/source/No space left on device": Denied (13)',
        b'rsync: [sender] send_files failed to open "/source/x: No space left on device (28)": Denied (13)',
        b'file has vanished: "/source/x: Disk quota exceeded (122)"',
        rb'rsync: [sender] opendir "/source/: No space left on device (28)\#012x" failed: Denied (13)',
        b"rsync: [generator] delete_file: unlink(No space left on device (28)) failed: Denied (13)",
    ],
)
def test_a_name_does_not_make_a_target_full(line: bytes) -> None:
    assert outcome(23, line + b"\n" + closing(23)) is Outcome.PARTIAL


MISSING = {
    "local": (
        11,
        b'rsync: [Receiver] mkdir "/target/." failed: No such file or directory (2)\n' + closing(11),
    ),
    "local with an odd name": (
        11,
        rb'rsync: [Receiver] mkdir "/mis"s\#012ing/." failed: No such file or directory (2)'
        + b"\n"
        + closing(11),
    ),
    "first full sync": (
        11,
        b'rsync: [Receiver] mkdir "/missing/target" failed: No such file or directory (2)\n' + closing(11),
    ),
    "rrsync": (
        11,
        b'rsync: [Receiver] mkdir "/proc/self/fd/4/target/." failed: No such file or directory (2)\n'
        + closing(11),
    ),
    "a daemon's module": (5, b"@ERROR: chdir failed\n" + closing(5)),
    "in a daemon's module": (
        11,
        b'rsync: [Receiver] mkdir "target" (in module) failed: No such file or directory (2)\n'
        + closing(11),
    ),
    "a dry run": (
        3,
        b'rsync: [Receiver] change_dir#3 "/target" failed: No such file or directory (2)\n' + closing(3),
    ),
    "a dry run in a daemon's module": (
        3,
        b'rsync: [Receiver] change_dir#3 "target" (in module) failed: No such file or directory (2)\n'
        + closing(3),
    ),
    "a file": (
        3,
        b'rsync: [Receiver] ERROR: cannot stat destination "/target/.": Not a directory (20)\n' + closing(3),
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_target(name: str) -> None:
    assert outcome(*MISSING[name]) is Outcome.TARGET_MISSING


@pytest.mark.parametrize(
    ("code", "errors", "expected"),
    [
        (23, MISSING["local"][1], Outcome.PARTIAL),
        (12, MISSING["local"][1], Outcome.CONNECTION),
        (5, b"@ERROR: Unknown module 'module'\n" + closing(5), Outcome.CONNECTION),
        (
            11,
            b'rsync: [Receiver] mkdir "/target/." failed: Permission denied (13)\n' + closing(11),
            Outcome.FAIL,
        ),
        (1, b"ERROR: module is read only\n" + closing(1), Outcome.FAIL),
        (10, b"rsync: [sender] failed to connect to h: Connection refused (111)\n", Outcome.CONNECTION),
    ],
)
def test_what_is_no_missing_target(code: int, errors: bytes, expected: Outcome) -> None:
    assert outcome(code, errors) is expected


RESTRICTED = [
    b"/usr/bin/rrsync error: option -s has been disabled on this server.\n",
    b"/usr/bin/rrsync error: option --secluded-args has been disabled on this server.\n",
    b"/usr/bin/rrsync error: invalid rsync-command syntax or options\n",
]


@pytest.mark.parametrize("line", RESTRICTED)
def test_a_restricted_target(line: bytes) -> None:
    closed = b"rsync: connection unexpectedly closed (0 bytes received so far) [sender]\n" + closing(12)
    assert outcome(12, line + closed) is Outcome.RESTRICTED
    assert outcome(1, line) is Outcome.RESTRICTED
    assert outcome(23, line) is Outcome.PARTIAL


def test_other_refusals_of_rrsync_are_for_good() -> None:
    line = b"/usr/bin/rrsync error: option --delete has been disabled on this server.\n"
    assert outcome(12, line + closing(12)) is Outcome.FAIL


# ---- real ones


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("missing/.", Outcome.TARGET_MISSING),
        ("missing/sub/", Outcome.TARGET_MISSING),
        ('mis"s\ning/.', Outcome.TARGET_MISSING),
        ("file/.", Outcome.TARGET_MISSING),
        ("host:/missing/.", Outcome.TARGET_MISSING),
        ("there/.", Outcome.OK),
    ],
)
def test_a_real_rsync_at_its_target(tmp_path: Path, target: str, expected: Outcome) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").touch()
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    shell = tmp_path / "shell"
    # what ssh does, without leaving this machine
    shell.write_text('#!/bin/sh\nwhile [ "$1" != host ]; do shift; done\nshift\nexec sh -c "$*"\n')
    shell.chmod(0o755)
    target = target.replace("host:", f"host:{tmp_path}") if ":" in target else f"{tmp_path}/{target}"
    completed = subprocess.run(
        ["rsync", "-s", "-e", str(shell), "-r", "--", "./", target],
        cwd=tmp_path / "source",
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert outcome(completed.returncode, completed.stderr) is expected


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("host:/target", ["-e", "sh -c 'head -c 1 > /dev/null; exit 255'"]),
        ("host:/target", ["-e", "/nowhere/ssh"]),
        ("rsync://127.0.0.1:1/module", []),
    ],
)
def test_a_real_rsync_that_gets_no_answer(tmp_path: Path, target: str, options: list[str]) -> None:
    completed = subprocess.run(
        ["rsync", *options, "-r", "--", "./", target],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert never_began(result(completed.returncode, completed.stderr)), completed.stderr


def test_whom_a_daemon_does_not_let_in_has_done_nothing() -> None:
    assert never_began(result(5, b"@ERROR: max connections (1) reached -- try again later\n"))
    assert never_began(result(35))


@pytest.mark.parametrize(
    "errors",
    [
        b"",
        b"rsync: connection unexpectedly closed (66 bytes received so far) [generator]\n",
        b"rsync: connection unexpectedly closed (70 bytes received so far) [sender]\n",
        b"rsync: [sender] write error: Broken pipe (32)\n",
    ],
)
def test_a_run_that_got_an_answer_may_have_done_something(errors: bytes) -> None:
    assert not never_began(result(12, errors + closing(12)))


def test_what_we_ended_ourselves_may_have_done_something() -> None:
    errors = b"rsync: connection unexpectedly closed (0 bytes received so far) [sender]\n"
    assert never_began(result(20, errors))
    assert not never_began(result(20, errors, cut_short=True))


# ---- messages for people


@pytest.mark.parametrize(
    ("code", "errors", "message"),
    [
        (0, b"", ""),
        (12, b"", "exit status 12"),
        (-9, b"", "ended by signal 9"),
        (255, b"ssh: no route\n" + closing(255), "ssh: no route"),
        (23, b"\n  \n first\nsecond\n", "first"),
        (10, closing(10) + b"said later\n", "said later"),
        (10, closing(10), closing(10).decode().strip()),
        (23, b'vanished: "\xff"', 'vanished: "\\xff"'),
        (23, b"x" * 500, "x" * 500),
        (23, b"a" * 500 + b"b" * 500, "a" * 200 + " [...] " + "b" * 292),
        (
            3,
            b"refusing to follow a symlink owned by an untrusted user; use --insecure-links locally or ...\n"
            b'rsync: [Receiver] change_dir#1 "/link/t/." failed: Too many levels of symbolic links (40)\n',
            "rsync follows no symbolic link of another user in a path it was given; write the real path: "
            'rsync: [Receiver] change_dir#1 "/link/t/." failed: Too many levels of symbolic links (40)',
        ),
    ],
)
def test_the_message_is_the_line_that_tells_most(code: int, errors: bytes, message: str) -> None:
    assert judge(result(code, errors), {}).message == message


# ---- how long to wait


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - nobody has to be kept from guessing it


def test_every_outcome_but_ok_has_its_patience() -> None:
    assert set(PATIENCE) == set(Outcome) - {Outcome.OK}
    for patience in PATIENCE.values():
        assert 0 < patience.first <= patience.limit <= 600


@pytest.mark.parametrize("seed", range(20))
def test_waits_double_up_to_a_limit_and_vary_by_a_quarter(seed: int) -> None:
    back_off = BackOff(seeded(seed))
    waits = [back_off.next(Patience(2, 300)) for _ in range(100)]
    nominal = [min(300, 2 * 2.0**number) for number in range(100)]
    for wait, middle in zip(waits, nominal, strict=True):
        assert 0.75 * middle <= wait <= 1.25 * middle
    assert len({round(wait, 6) for wait in waits}) == len(waits)
    assert back_off.failures == 100


def test_waits_use_the_whole_quarter() -> None:
    random_source = seeded(0)
    waits = [BackOff(random_source).next(Patience(100, 100)) for _ in range(1000)]
    assert min(waits) < 76
    assert max(waits) > 124


def test_a_success_begins_anew() -> None:
    back_off = BackOff(seeded(0))
    for _ in range(5):
        back_off.next(Patience(2, 300))
    back_off.reset()
    assert back_off.failures == 0
    assert back_off.next(Patience(2, 300)) <= 2.5


def test_the_same_seed_gives_the_same_waits() -> None:
    one, other = (BackOff(seeded(7)) for _ in range(2))
    assert [one.next(Patience(1, 60)) for _ in range(9)] == [other.next(Patience(1, 60)) for _ in range(9)]


def test_counting_failures_for_ever_ends_in_no_overflow() -> None:
    back_off = BackOff(seeded(0))
    back_off.failures = 10**6
    assert back_off.next(Patience(1, 60)) <= 75


@pytest.mark.parametrize("options", [[], ["-n"]])
def test_a_real_rsync_with_nothing_to_send_to_a_missing_target(tmp_path: Path, options: list[str]) -> None:
    completed = subprocess.run(
        ["rsync", *options, "-r", "--delete", "--", "./", f"{tmp_path}/missing/."],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert outcome(completed.returncode, completed.stderr) is Outcome.TARGET_MISSING
