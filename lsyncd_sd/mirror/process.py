# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts a command or a function in a process of its own, streams what it says, and ends it in time.

Everything that may hang on a target runs through here: the loop that called never waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lsyncd_sd.loop import Loop, Timer

# Seconds between SIGTERM, which lets rsync remove its temporary file, and SIGKILL.
KILL_AFTER = 5.0

# Kept of what a process writes. rsync names every file it could not send: the lines are needed to know
# what to retry. Past this, nothing can be attributed and the whole batch is retried, which is right too.
# Of what it has done, it writes the figures last: of standard output, the end is kept.
OUTPUT_LIMIT = 1024 * 1024

PR_SET_PDEATHSIG = 1  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)

# What must not reach rsync, ssh or a helper: it would let them talk to the service manager in our name.
_PRIVATE_VARIABLES = frozenset(
    {
        "FDSTORE",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)


@dataclass(frozen=True, slots=True)
class Result:
    """How a process ended. `code` is its exit status, or minus the signal that ended it."""

    code: int
    output: bytes
    errors: bytes
    errors_cut: bool
    was_cut_short: bool
    seconds: float


OnExit = Callable[[Result], None]
OnOutput = Callable[[bytes], None]


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Ask the kernel to end this process when its parent dies (prctl(2), PR_SET_PDEATHSIG)."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)


def environment() -> dict[str, str]:
    """Return the environment for rsync and ssh: ours, with plain messages, without the manager's sockets."""
    kept = {name: value for name, value in os.environ.items() if name not in _PRIVATE_VARIABLES}
    # RSYNC_* variables would change options behind the configuration's back.
    kept = {name: value for name, value in kept.items() if name == "RSYNC_PASSWORD" or name[:6] != "RSYNC_"}
    return kept | {"LC_ALL": "C.UTF-8"}


@dataclass(slots=True)
class _Stream:
    """One output of the process: collected up to the limit, and shown to whoever wants to see it pass."""

    descriptor: int
    keeps_end: bool
    on_data: OnOutput | None = None
    data: bytearray = field(default_factory=bytearray)
    is_cut: bool = False
    is_open: bool = True

    def take(self, chunk: bytes) -> None:
        if self.keeps_end:
            self.data += chunk
            # Not with each piece: moving it all costs time.
            if len(self.data) > 2 * OUTPUT_LIMIT:
                del self.data[:-OUTPUT_LIMIT]
        else:
            room = OUTPUT_LIMIT - len(self.data)
            self.data += chunk[:room]
            self.is_cut = self.is_cut or len(chunk) > room
        if self.on_data is not None:
            self.on_data(chunk)


class Process:
    """One running process; `on_exit` is called once, from the loop, when it has ended and said all."""

    def __init__(self, loop: Loop, pid: int, output: int, errors: int, on_exit: OnExit) -> None:
        self.pid = pid
        self._loop = loop
        self._on_exit = on_exit
        self._started = loop.now()
        self._streams = [_Stream(output, keeps_end=True), _Stream(errors, keeps_end=False)]
        self._kill_timer: Timer | None = None
        self._limit_timer: Timer | None = None
        self._was_cut_short = False
        self._has_ended = False
        self._pidfd = os.pidfd_open(pid)
        for stream in self._streams:
            os.set_blocking(stream.descriptor, False)
            loop.watch_reads(stream.descriptor, lambda stream=stream: self._read(stream))  # type: ignore[misc]
        loop.watch_reads(self._pidfd, self._ended)

    def show_output(self, on_data: OnOutput) -> None:
        """Pass on every piece of standard output as it comes."""
        self._streams[0].on_data = on_data

    def limit(self, seconds: float) -> None:
        """Cut the process short if it still runs after so many seconds; the last limit given counts."""
        if self._limit_timer is not None:
            self._limit_timer.cancel()
        self._limit_timer = self._loop.call_later(seconds, self.cut_short)

    def cut_short(self) -> None:
        """End the process: SIGTERM to its group, SIGKILL a little later. `on_exit` is still called."""
        if self._was_cut_short:
            return
        self._was_cut_short = True
        self._signal(signal.SIGTERM)
        self._kill_timer = self._loop.call_later(KILL_AFTER, self._kill)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._has_ended:
            self._finish()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
            if number is signal.SIGTERM:
                # A stopped process sees it only when it goes on.
                os.killpg(self.pid, signal.SIGCONT)

    def _read(self, stream: _Stream) -> None:
        try:
            chunk = os.read(stream.descriptor, 65536)
        except BlockingIOError:
            return
        if chunk:
            stream.take(chunk)
            return
        self._loop.forget(stream.descriptor)
        stream.is_open = False
        if self._has_ended and not self._is_anybody_left():
            self._finish()

    def _is_anybody_left(self) -> bool:
        return any(stream.is_open for stream in self._streams)

    def _ended(self) -> None:
        if self._was_cut_short and self._is_anybody_left():
            # The other processes of rsync were told to end, too: they are about to remove their temporary
            # files. For no longer than KILL_AFTER: an ssh left over may hold the pipes open for ever.
            self._has_ended = True
            self._loop.forget(self._pidfd)
        else:
            self._finish()

    def _finish(self) -> None:
        # What the process started must not outlive it (rsync's ssh, a helper's children), nor go on writing
        # while the rest is read. Before it is reaped: until then nobody else can be given its number.
        self._signal(signal.SIGKILL)
        for stream in self._streams:
            self._read_rest(stream)
            self._loop.forget(stream.descriptor)
            os.close(stream.descriptor)
        self._loop.forget(self._pidfd)
        os.close(self._pidfd)
        for timer in (self._kill_timer, self._limit_timer):
            if timer is not None:
                timer.cancel()
        _pid, status = os.waitpid(self.pid, 0)
        output, errors = self._streams
        self._on_exit(
            Result(
                code=os.waitstatus_to_exitcode(status),
                output=bytes(output.data[-OUTPUT_LIMIT:]),
                errors=bytes(errors.data),
                errors_cut=errors.is_cut,
                was_cut_short=self._was_cut_short,
                seconds=self._loop.now() - self._started,
            )
        )

    def _read_rest(self, stream: _Stream) -> None:
        while True:
            try:
                chunk = os.read(stream.descriptor, 65536)
            except BlockingIOError:
                return
            if not chunk:
                return
            stream.take(chunk)


def start_command(
    loop: Loop,
    arguments: list[str],
    on_exit: OnExit,
    *,
    stdin: bytes | int,
    directory: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> Process:
    """Start `arguments` (never through a shell) with `stdin` as its whole standard input.

    It may also be an open descriptor; `directory` is one, too, to be its working directory. Both stay the
    caller's. `variables` are added to its environment. The process leads a process group of its own, has
    umask 022, and dies with us. Raises OSError if it cannot be started at all.
    """
    standard_input = os.dup(stdin) if isinstance(stdin, int) else _file_of(stdin)
    try:
        started = subprocess.Popen(
            arguments,
            stdin=standard_input,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Set before the descriptors are closed in the new process, so the descriptor is still there.
            cwd=None if directory is None else f"/proc/self/fd/{directory}",
            env={**environment(), **(variables or {})},
            umask=0o022,
            process_group=0,
            preexec_fn=die_with_parent,
        )
    finally:
        os.close(standard_input)
    assert started.stdout is not None and started.stderr is not None
    output, errors = os.dup(started.stdout.fileno()), os.dup(started.stderr.fileno())
    started.stdout.close()
    started.stderr.close()
    # From here on this object reaps the process: Popen must not try it too, nor warn that it did not.
    started.returncode = 0
    return Process(loop, started.pid, output, errors, on_exit)


def _file_of(content: bytes) -> int:
    """Return a descriptor at the beginning of an unnamed file."""
    # A memfd needs no space on any file system and, unlike a pipe, takes the whole list at once.
    descriptor = os.memfd_create("lsyncd-sd-list", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as writer:
        writer.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def start_function(loop: Loop, function: Callable[[], bytes], on_exit: OnExit) -> Process:
    """Run `function` in a forked process; what it returns is the result's output.

    For what may hang in the kernel (a dead network file system): only that process hangs then. An OSError
    that it raises becomes exit status 1 with the message as errors.
    """

    def tell() -> Iterator[bytes]:
        yield function()

    return start_telling(loop, tell, on_exit)


def start_telling(loop: Loop, function: Callable[[], Iterable[bytes]], on_exit: OnExit) -> Process:
    """As `start_function`, for one that has several things to say: each is written when it comes."""
    output_read, output_write = os.pipe2(os.O_CLOEXEC)
    errors_read, errors_write = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:
        for descriptor in (output_read, output_write, errors_read, errors_write):
            os.close(descriptor)
        raise
    if pid == 0:
        _run_function(function, output_write, errors_write)
    os.close(output_write)
    os.close(errors_write)
    # Both sides set it: whoever comes first, the group exists before anybody signals it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, 0)
    return Process(loop, pid, output_read, errors_read, on_exit)


def _run_function(function: Callable[[], Iterable[bytes]], output: int, errors: int) -> None:
    """The forked side: never returns, and never runs an exit handler or flushes a buffer of the parent."""
    status = 1
    try:
        os.setpgid(0, 0)
        die_with_parent()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for piece in function():
            os.write(output, piece)
        status = 0
    except OSError as error:
        os.write(errors, str(error).encode("utf-8", "surrogateescape"))
    except BaseException as error:
        os.write(errors, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
    finally:
        os._exit(status)
