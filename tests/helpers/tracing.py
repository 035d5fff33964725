# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills a program just before its n-th system call that changes files of one folder.

python tracing.py PID FOLDER NUMBER parent|child
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
from pathlib import Path
from typing import NamedTuple

# ptrace(2)
PTRACE_SYSCALL = 24
PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_LISTEN = 0x4208
PTRACE_GET_SYSCALL_INFO = 0x420E
OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10  # TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC
EVENT_EXEC = 4
EVENT_STOP = 128
SYSCALL_STOP = signal.SIGTRAP | 0x80
SYSCALL_ENTRY = 1
WALL = 0x40000000  # __WALL of waitpid(2)

# struct ptrace_syscall_info: operation, architecture, instruction and stack pointer, number, arguments
INFO = struct.Struct("B3xIQQQ6Q")

AT_FDCWD = 2**32 - 100
LONGEST_PATH = 4096

# What is printed besides the changes.
ATTACHED = "attached"
STRUCK = "struck"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Call(NamedTuple):
    """A system call that changes a file: which arguments are a descriptor, a directory's, and a path."""

    name: str
    descriptor: int | None = None
    directory: int | None = None
    path: int | None = None


OPEN = Call("open", directory=0, path=1)

# Their numbers; others write nothing here.
CALLS: dict[str, dict[int, Call]] = {
    "x86_64": {
        1: Call("write", descriptor=0),
        18: Call("pwrite", descriptor=0),
        20: Call("writev", descriptor=0),
        74: Call("fsync", descriptor=0),
        75: Call("fdatasync", descriptor=0),
        77: Call("truncate", descriptor=0),
        82: Call("rename", path=1),
        83: Call("mkdir", path=0),
        84: Call("rmdir", path=0),
        87: Call("unlink", path=0),
        257: OPEN,
        258: Call("mkdir", directory=0, path=1),
        263: Call("unlink", directory=0, path=1),
        264: Call("rename", directory=2, path=3),
        316: Call("rename", directory=2, path=3),
    },
    "aarch64": {
        34: Call("mkdir", directory=0, path=1),
        35: Call("unlink", directory=0, path=1),
        38: Call("rename", directory=2, path=3),
        46: Call("truncate", descriptor=0),
        56: OPEN,
        64: Call("write", descriptor=0),
        66: Call("writev", descriptor=0),
        68: Call("pwrite", descriptor=0),
        82: Call("fsync", descriptor=0),
        83: Call("fdatasync", descriptor=0),
        276: Call("rename", directory=2, path=3),
    },
}


def can_trace() -> bool:
    """Tell whether this machine's system calls are known here."""
    return platform.machine() in CALLS


def ptrace(request: int, pid: int, address: int = 0, data: int | ctypes.Array[ctypes.c_char] = 0) -> int:
    """ptrace(2). Raises OSError."""
    result: int = _libc.ptrace(request, pid, address, data)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Tracer:
    """Follows `pid` and what it forks, but not what that executes; prints each change that is about to come.

    Just before the `number`-th change of a file below `folder` it kills the process that would make it, or
    with `kills_first` the one that was traced first.
    """

    def __init__(self, pid: int, folder: Path, number: int, *, kills_first: bool) -> None:
        self._first = pid
        self._folder = os.fsencode(folder)
        self._left = number
        self._kills_first = kills_first
        self._calls = CALLS[platform.machine()]

    def run(self) -> None:
        """Serve the stops of all traced processes until none is left."""
        ptrace(PTRACE_SEIZE, self._first, 0, OPTIONS)
        ptrace(PTRACE_INTERRUPT, self._first)
        print(ATTACHED, flush=True)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, WALL)
                if os.WIFSTOPPED(status):
                    # killed in the meantime, perhaps
                    with contextlib.suppress(ProcessLookupError):
                        self._serve(pid, status)

    def _serve(self, pid: int, status: int) -> None:
        number, event = os.WSTOPSIG(status), status >> 16
        if event == EVENT_EXEC and pid != self._first:
            ptrace(PTRACE_DETACH, pid)
        elif number == SYSCALL_STOP:
            self._look(pid)
            ptrace(PTRACE_SYSCALL, pid)
        elif event == EVENT_STOP and number != signal.SIGTRAP:
            ptrace(PTRACE_LISTEN, pid)
        else:
            ptrace(PTRACE_SYSCALL, pid, 0, 0 if event else number)

    def _look(self, pid: int) -> None:
        buffer = ctypes.create_string_buffer(INFO.size)
        ptrace(PTRACE_GET_SYSCALL_INFO, pid, INFO.size, buffer)
        operation, _architecture, _pointer, _stack, number, *arguments = INFO.unpack(buffer.raw)
        call = self._calls.get(number)
        if operation != SYSCALL_ENTRY or call is None:
            return
        path = self._path(pid, call, arguments)
        # Not the folder itself, which the parent sees to before it has any child.
        if path is None or not path.rstrip(b"/").startswith(self._folder + b"/"):
            return
        if call is OPEN and not arguments[2] & (os.O_CREAT | os.O_TRUNC):
            return
        print(call.name, os.fsdecode(path[len(self._folder) :]), flush=True)
        self._left -= 1
        if self._left == 0:
            os.kill(self._first if self._kills_first else pid, signal.SIGKILL)
            print(STRUCK, flush=True)

    def _path(self, pid: int, call: Call, arguments: list[int]) -> bytes | None:
        try:
            if call.descriptor is not None:
                return os.readlink(b"/proc/%d/fd/%d" % (pid, arguments[call.descriptor]))
            assert call.path is not None
            path = _text(pid, arguments[call.path])
            where = b"cwd"
            if call.directory is not None and arguments[call.directory] & 0xFFFFFFFF != AT_FDCWD:
                where = b"fd/%d" % arguments[call.directory]
            return os.path.join(os.readlink(b"/proc/%d/%s" % (pid, where)), path)
        except OSError:
            return None


def _text(pid: int, address: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        # a page at a time: the next one may not be there
        found = b""
        while b"\0" not in found and len(found) < LONGEST_PATH:
            found += memory.read(4096 - (address + len(found)) % 4096)
    return found.partition(b"\0")[0]


if __name__ == "__main__":
    first, folder, number, victim = sys.argv[1:]
    Tracer(int(first), Path(folder), int(number), kills_first=victim == "parent").run()
