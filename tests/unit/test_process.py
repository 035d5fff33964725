# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests real processes: what they get, what is heard of them, and that they end, with all they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.looping import run_until
from helpers.waiting import wait_until

from lsyncd_sd.loop import Loop
from lsyncd_sd.mirror import process
from lsyncd_sd.mirror.process import Process, Result, start_command, start_function, start_telling

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def loop() -> Iterator[Loop]:
    one = Loop()
    yield one
    one.close()


class Running:
    """A started process and what is heard of it."""

    def __init__(self, loop: Loop, start: Callable[[process.OnExit], Process]) -> None:
        self._loop = loop
        self.results: list[Result] = []
        self.seen = bytearray()
        self.process = start(self.results.append)
        self.process.show_output(self.seen.extend)

    def wait_for(self, output: bytes) -> None:
        run_until(self._loop, lambda: output in self.seen, f"it says {output!r}")

    def result(self) -> Result:
        run_until(self._loop, lambda: self.results, "it ends")
        # nothing that is still to come may call it again
        self._loop.run_once(0)
        (result,) = self.results
        return result


def command(loop: Loop, *arguments: str, stdin: bytes = b"", directory: int | None = None) -> Running:
    return Running(
        loop,
        lambda on_exit: start_command(loop, list(arguments), on_exit, stdin=stdin, directory=directory),
    )


def shell(loop: Loop, script: str) -> Running:
    return command(loop, "sh", "-c", script)


def python(loop: Loop, program: str) -> Running:
    return command(loop, sys.executable, "-c", program)


def function(loop: Loop, body: Callable[[], bytes]) -> Running:
    return Running(loop, lambda on_exit: start_function(loop, body, on_exit))


def state_of(pid: int) -> str:
    """Return the letter of proc(5), or nothing if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_gone(pid: int) -> bool:
    # Whoever takes orphans over may not reap them.
    return state_of(pid) in ("", "Z", "X")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- how it ended, and what it said


def test_exit_status_output_and_errors(loop: Loop) -> None:
    result = shell(loop, "echo out; echo err >&2; exit 7").result()
    assert (result.code, result.output, result.errors) == (7, b"out\n", b"err\n")
    assert not result.was_cut_short
    assert not result.errors_cut
    assert 0 <= result.seconds < process.KILL_AFTER * 100


def test_a_signal_is_a_negative_code(loop: Loop) -> None:
    result = shell(loop, "kill -SEGV $$").result()
    assert result.code == -signal.SIGSEGV
    assert not result.was_cut_short


def test_everything_is_heard_of_one_that_says_much_and_ends(loop: Loop) -> None:
    result = python(loop, "import os; [os.write(n, b'x' * 60000) for n in (1, 2)]").result()
    assert (len(result.output), len(result.errors)) == (60000, 60000)


def test_output_is_shown_as_it_comes(loop: Loop) -> None:
    running = shell(loop, "echo err >&2; echo one; read -r line; sleep 1000")
    running.wait_for(b"one\n")
    assert not running.results
    running.process.cut_short()
    assert running.result().output == b"one\n"
    assert running.seen == b"one\n"


def test_what_is_kept_is_limited_and_what_is_shown_is_not(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "OUTPUT_LIMIT", 1000)
    write = "import os; os.write(1, b'o' * 5000 + b'the end'); os.write(2, b'e' * {})"
    running = python(loop, write.format(1001))
    result = running.result()
    assert result.output == b"o" * 993 + b"the end"
    assert len(running.seen) == 5007
    assert result.errors == b"e" * 1000
    assert result.errors_cut
    assert not python(loop, write.format(1000)).result().errors_cut


def test_a_program_that_is_not_there(loop: Loop) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        command(loop, "/nowhere/rsync")
    assert descriptors() == before


# ---- what it gets


def test_words_come_as_they_are(loop: Loop) -> None:
    words = ["$(x)", "`x`", "two words", "*", "", "new\nline", "\udcff", "'"]
    result = command(loop, "printf", "%s\\0", *words).result()
    assert result.output.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


@pytest.mark.parametrize("list_", [b"", b"./a\0./b\nc\0", b"./" + b"x" * 200 + b"\0"])
def test_the_list_is_its_standard_input(loop: Loop, list_: bytes) -> None:
    assert command(loop, "cat", stdin=list_).result().output == list_


def test_a_list_larger_than_any_pipe(loop: Loop) -> None:
    assert command(loop, "wc", "-c", stdin=b"./some/path\0" * 500_000).result().output == b"6000000\n"


def test_its_environment(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    private = (
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
    )
    for name in (*private, "FDSTORE", "RSYNC_PARTIAL_DIR", "RSYNC_RSH", "RSYNC_PROTECT_ARGS"):
        monkeypatch.setenv(name, "1")
    kept = {
        "RSYNC_PASSWORD": "secret",
        "SSH_AUTH_SOCK": "/agent",
        "NOTIFY": "1",
        "RSYNCD": "1",
        "PATH": os.environ["PATH"],
    }
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    lines = command(loop, "env", "-0").result().output.decode().split("\0")[:-1]
    given = dict(line.split("=", 1) for line in lines)
    assert given.pop("LC_ALL") == "C.UTF-8"
    assert kept.items() <= given.items()
    assert not given.keys() & {*private, "FDSTORE", "RSYNC_PARTIAL_DIR", "RSYNC_RSH", "RSYNC_PROTECT_ARGS"}


def test_its_umask_is_not_ours(loop: Loop) -> None:
    before = os.umask(0o077)
    try:
        assert shell(loop, "umask").result().output == b"0022\n"
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_its_directory_is_the_open_one_wherever_that_is_now(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    descriptor = os.open(tmp_path / "source", os.O_RDONLY | os.O_DIRECTORY)
    (tmp_path / "source").rename(tmp_path / "moved")
    (tmp_path / "source").mkdir()
    try:
        result = command(loop, "pwd", "-P", directory=descriptor).result()
    finally:
        os.close(descriptor)
    assert result.output == os.fsencode(tmp_path / "moved") + b"\n"


def test_it_has_no_descriptor_but_the_first_three(loop: Loop, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        # the fourth is that of the listing itself
        listing = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"
        result = command(loop, sys.executable, "-c", listing, directory=descriptor).result()
    finally:
        os.close(descriptor)
    assert result.output == b"[0, 1, 2, 3]\n"


def test_it_leads_a_group_of_its_own(loop: Loop) -> None:
    result = python(loop, "import os; print(os.getpgid(0) == os.getpid())").result()
    assert result.output == b"True\n"
    assert function(loop, lambda: b"%d" % (os.getpgid(0) == os.getpid())).result().output == b"1"


def test_it_dies_with_us() -> None:
    program = (
        "import os, signal\n"
        "from lsyncd_sd.loop import Loop\n"
        "from lsyncd_sd.mirror.process import start_command, start_function\n"
        "loop = Loop()\n"
        "one = start_command(loop, ['sh', '-c', 'echo ready; exec sleep 1000'], print, stdin=b'')\n"
        "heard = []\n"
        "one.show_output(heard.append)\n"
        "while not heard:\n"
        "    loop.run_once()\n"
        "ready_read, ready_write = os.pipe()\n"
        "def hang():\n"
        "    os.write(ready_write, b'x')\n"
        "    signal.pause()\n"
        "other = start_function(loop, hang, print)\n"
        "os.read(ready_read, 1)\n"
        "print(one.pid, other.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert completed.returncode == -signal.SIGKILL, completed.stderr
    for pid in map(int, completed.stdout.split()):
        wait_until(lambda pid=pid: is_gone(pid), f"{pid} dies with its parent")  # type: ignore[misc]


# ---- functions that have several things to say


def test_each_thing_is_heard_when_it_is_said(loop: Loop) -> None:
    def say() -> Iterator[bytes]:
        yield b"one"
        signal.pause()
        yield b"two"

    running = Running(loop, lambda on_exit: start_telling(loop, say, on_exit))
    running.wait_for(b"one")
    running.process.cut_short()
    result = running.result()
    assert (result.output, result.code) == (b"one", -signal.SIGTERM)


def test_what_was_said_before_an_error_counts(loop: Loop) -> None:
    def say() -> Iterator[bytes]:
        yield b"one"
        raise OSError(5, "Input/output error")

    result = Running(loop, lambda on_exit: start_telling(loop, say, on_exit)).result()
    assert (result.code, result.output) == (1, b"one")
    assert b"Input/output error" in result.errors


# ---- cut short


def test_cut_short(loop: Loop) -> None:
    running = command(loop, "sleep", "1000")
    running.process.cut_short()
    running.process.cut_short()
    result = running.result()
    assert result.code == -signal.SIGTERM
    assert result.was_cut_short


def test_one_that_tidies_up_has_the_time_for_it(loop: Loop) -> None:
    running = shell(loop, "trap 'echo tidy; exit 20' TERM; echo ready; while :; do sleep 0.01; done")
    running.wait_for(b"ready")
    running.process.cut_short()
    result = running.result()
    assert result.output == b"ready\ntidy\n"
    assert (result.code, result.was_cut_short) == (20, True)


def test_one_that_ignores_it_is_killed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KILL_AFTER", 0.2)
    running = shell(loop, "trap '' TERM; echo ready; while :; do sleep 0.01; done")
    running.wait_for(b"ready")
    running.process.cut_short()
    result = running.result()
    assert result.code == -signal.SIGKILL
    assert result.was_cut_short


def test_a_stopped_one_is_ended_too(loop: Loop) -> None:
    running = command(loop, "sleep", "1000")
    os.kill(running.process.pid, signal.SIGSTOP)
    wait_until(lambda: state_of(running.process.pid) == "T", "it is stopped")
    running.process.cut_short()
    # not killed: it was let go on, to tidy up
    assert running.result().code == -signal.SIGTERM


def test_a_limit_cuts_short(loop: Loop) -> None:
    running = command(loop, "sleep", "1000")
    running.process.limit(0.05)
    result = running.result()
    assert result.was_cut_short
    assert result.code == -signal.SIGTERM


def test_the_last_limit_counts(loop: Loop) -> None:
    running = command(loop, "sleep", "1000")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "killpg", lambda *_arguments: pytest.fail("it was cut short"))
        running.process.limit(0.0)
        running.process.limit(1000)
        past: list[bool] = []
        loop.call_later(0.0, lambda: past.append(True))
        run_until(loop, lambda: past, "the first limit is past")
    running.process.limit(0.0)
    assert running.result().was_cut_short


def test_once_ended_it_is_left_alone(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KILL_AFTER", 0.2)
    limited, cut = shell(loop, "exit 3"), command(loop, "sleep", "1000")
    limited.process.limit(0.2)
    cut.process.cut_short()
    assert limited.result().code == 3
    assert cut.result().code == -signal.SIGTERM
    # their numbers may be somebody else's by now
    monkeypatch.setattr(os, "killpg", lambda *_arguments: pytest.fail("a signal after the end"))
    past: list[bool] = []
    loop.call_later(0.3, lambda: past.append(True))
    run_until(loop, lambda: past, "the limit is past")


# ---- what it started


def test_what_it_started_ends_with_it(loop: Loop) -> None:
    result = shell(loop, "sleep 1000 & echo $!; exit 4").result()
    assert result.code == 4
    wait_until(lambda: is_gone(int(result.output)), "the grandchild is gone")


def test_one_that_goes_on_writing_does_not_hold_us(loop: Loop) -> None:
    result = shell(loop, "yes & echo $! >&2; exit 4").result()
    assert result.code == 4
    wait_until(lambda: is_gone(int(result.errors)), "the grandchild is gone")


IN_ANOTHER_SESSION = (
    "import subprocess\n"
    "other = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    "print(other.pid, flush=True)\n"
)


def test_one_with_a_session_of_its_own_does_not_hold_us(loop: Loop) -> None:
    result = python(loop, IN_ANOTHER_SESSION + "raise SystemExit(4)").result()
    os.kill(int(result.output), signal.SIGKILL)
    assert result.code == 4


GRANDCHILD = "(trap '{on_term}' TERM; echo ready; while :; do sleep 0.01; done) & echo $!; wait"


def test_cut_short_what_it_started_has_the_time_to_tidy_up(loop: Loop) -> None:
    running = shell(loop, GRANDCHILD.format(on_term="sleep 0.2; echo tidy; exit"))
    run_until(loop, lambda: running.seen.count(b"\n") == 2, "both processes speak")
    running.process.cut_short()
    result = running.result()
    assert b"tidy\n" in result.output
    assert (result.code, result.was_cut_short) == (-signal.SIGTERM, True)


def test_cut_short_what_it_started_is_killed_if_it_does_not_end(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "KILL_AFTER", 0.2)
    running = shell(loop, GRANDCHILD.format(on_term=""))
    run_until(loop, lambda: running.seen.count(b"\n") == 2, "both processes speak")
    running.process.cut_short()
    result = running.result()
    assert (result.code, result.was_cut_short) == (-signal.SIGTERM, True)
    (grandchild,) = [int(word) for word in result.output.split() if word.isdigit()]
    wait_until(lambda: is_gone(grandchild), "the grandchild is gone")


def test_cut_short_one_with_a_session_of_its_own_does_not_hold_us_for_long(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "KILL_AFTER", 0.2)
    running = python(loop, IN_ANOTHER_SESSION + "other.wait()")
    running.wait_for(b"\n")
    running.process.cut_short()
    result = running.result()
    os.kill(int(result.output), signal.SIGKILL)
    assert (result.code, result.was_cut_short) == (-signal.SIGTERM, True)


# ---- functions


def test_a_functions_result_is_the_output(loop: Loop) -> None:
    result = function(loop, lambda: b"\0\xffbytes").result()
    assert (result.code, result.output, result.errors) == (0, b"\0\xffbytes", b"")


def test_a_long_result(loop: Loop) -> None:
    result = function(loop, lambda: b"x" * 500_000).result()
    assert (result.code, len(result.output)) == (0, 500_000)


def test_what_a_function_changes_stays_with_it(loop: Loop) -> None:
    seen: list[int] = []

    def change() -> bytes:
        seen.append(1)
        os.chdir("/")
        return b""

    before = os.getcwd()
    assert function(loop, change).result().code == 0
    assert seen == []
    assert os.getcwd() == before


def test_an_os_error_is_told(loop: Loop, tmp_path: Path) -> None:
    result = function(loop, lambda: os.fsencode(os.listdir(tmp_path / "missing")[0])).result()
    assert result.code == 1
    assert result.output == b""
    assert result.errors == f"[Errno 2] No such file or directory: '{tmp_path}/missing'".encode()


@pytest.mark.parametrize(
    "error", [ValueError("odd \udcff"), SystemExit(0), KeyboardInterrupt(), AssertionError()]
)
def test_any_other_exception_is_a_failure_too(loop: Loop, error: BaseException) -> None:
    def fail() -> bytes:
        raise error

    result = function(loop, fail).result()
    assert result.code == 1
    assert result.errors.startswith(type(error).__name__.encode() + b": ")


def hang() -> bytes:
    signal.pause()
    return b""


def test_a_function_that_hangs_is_cut_short(loop: Loop) -> None:
    # The parent only queues these signals; a child must not inherit that.
    loop.on_signals({signal.SIGTERM: lambda: pytest.fail("the signal was ours")})
    running = function(loop, hang)
    running.process.limit(0.05)
    result = running.result()
    assert result.was_cut_short
    assert result.code == -signal.SIGTERM


def test_a_function_never_writes_what_we_have_not_written_yet(loop: Loop, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        file.write("once")
        assert function(loop, lambda: b"").result().code == 0
        assert (tmp_path / "file").read_text() == ""
    assert (tmp_path / "file").read_text() == "once"


# ---- nothing is left


def test_no_descriptor_is_left_open(loop: Loop, tmp_path: Path) -> None:
    before = descriptors()
    for _ in range(3):
        shell(loop, "echo x; echo y >&2").result()
        cut = command(loop, "sleep", "1000")
        cut.process.cut_short()
        cut.result()
        function(loop, lambda: b"x").result()
        with pytest.raises(FileNotFoundError):
            command(loop, "/nowhere/rsync")
        with pytest.raises(FileNotFoundError):
            command(loop, str(tmp_path / "none"), stdin=b"x")
    assert descriptors() == before


def test_no_process_is_left_unreaped(loop: Loop) -> None:
    for running in (shell(loop, "exit 1"), function(loop, lambda: b"")):
        running.result()
        with pytest.raises(ChildProcessError):
            os.waitpid(running.process.pid, os.WNOHANG)
