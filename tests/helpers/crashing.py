# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends a process, or the power, before each of the system calls that write files, one after another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

STEPS = ("mkdir", "open", "write", "fsync", "fdatasync", "replace", "unlink", "close")
"""The functions of `os` through which everything is written that has to outlive a crash."""

CRASHED = 86
"""Exit status of a process that was ended on purpose."""


def crashes(action: Callable[[], object]) -> Iterator[int]:
    """Let a process of its own end before the first step of `action`, another before its second, and so on.

    Yields how many steps each one did; the last one did all of them, and came to its end.
    """
    done = 0
    while True:
        pid = os.fork()
        if pid == 0:
            try:
                _die_after(done, action)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, CRASHED)
        yield done
        if status == 0:
            return
        done += 1


def _die_after(steps: int, action: Callable[[], object]) -> None:
    left = [steps]

    def count(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if not left[0]:
                os._exit(CRASHED)
            left[0] -= 1
            if function is write and left[0] == 0:
                # killed in the middle of it
                arguments = arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2]
            return function(*arguments, **options)

        return counted

    write = os.write
    for name in STEPS:
        setattr(os, name, count(getattr(os, name)))
    action()
    os._exit(0)


@dataclass(eq=False)
class _File:
    """A file of the disk: what was written, and how much of it a power cut leaves for certain."""

    written: bytes = b""
    safe: bytes = b""


@dataclass
class Disk:
    """One folder as the disk has it: what was not synced may be there or not when the power fails.

    `safe` are the names that are there for certain, `changes` the names after each step since.
    """

    folder: Path
    safe: dict[str, _File] = field(default_factory=dict)
    names: dict[str, _File] = field(default_factory=dict)
    changes: list[dict[str, _File]] = field(default_factory=list)
    descriptors: dict[int, _File | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.folder.iterdir() if self.folder.exists() else ():
            content = path.read_bytes()
            self.names[path.name] = _File(content, content)
        self.safe = dict(self.names)

    @contextmanager
    def watched(self, on_step: Callable[[], None]) -> Iterator[None]:
        """Follow what is written to the folder; `on_step` is called after every step."""
        with ExitStack() as patches:
            for name in STEPS:
                patches.enter_context(mock.patch.object(os, name, self._followed(name, on_step)))
            yield

    def _followed(self, name: str, on_step: Callable[[], None]) -> Callable[..., Any]:
        function = getattr(os, name)

        def followed(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            getattr(self, f"_{name}")(result, *arguments)
            with mock.patch.multiple(os, **{step: self._real[step] for step in STEPS}):
                on_step()
            return result

        self._real[name] = function
        return followed

    _real: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def _mine(self, path: Any) -> str | None:
        path = Path(os.fsdecode(path))
        return path.name if path.parent == self.folder else None

    def _mkdir(self, _result: None, *_arguments: Any) -> None:
        pass

    def _open(self, descriptor: int, path: Any, flags: int, *_mode: Any) -> None:
        name = self._mine(path)
        if Path(os.fsdecode(path)) == self.folder:
            self.descriptors[descriptor] = None
        elif name is not None:
            if flags & os.O_CREAT and name not in self.names:
                self._change({**self.names, name: _File()})
            self.descriptors[descriptor] = self.names[name]

    def _write(self, size: int, descriptor: int, data: bytes) -> None:
        file = self.descriptors.get(descriptor)
        if file is not None:
            file.written += bytes(data)[:size]

    def _fsync(self, _result: None, descriptor: int) -> None:
        if descriptor in self.descriptors:
            file = self.descriptors[descriptor]
            if file is None:
                self.safe, self.changes = dict(self.names), []
            else:
                file.safe = file.written

    _fdatasync = _fsync

    def _close(self, _result: None, descriptor: int) -> None:
        self.descriptors.pop(descriptor, None)

    def _replace(self, _result: None, old: Any, new: Any) -> None:
        names = dict(self.names)
        names[str(self._mine(new))] = names.pop(str(self._mine(old)))
        self._change(names)

    def _unlink(self, _result: None, path: Any) -> None:
        self._change({name: file for name, file in self.names.items() if name != self._mine(path)})

    def _change(self, names: dict[str, _File]) -> None:
        self.names = names
        self.changes.append(names)

    def after_power_cut(self) -> Iterator[dict[str, bytes]]:
        """Yield what the folder may hold when it is back: name and content."""
        for names in (self.safe, *self.changes):
            for share in (0.0, 0.5, 1.0):
                yield {
                    name: file.safe + file.written[len(file.safe) :][: _part(file, share)]
                    for name, file in names.items()
                }


def _part(file: _File, share: float) -> int:
    return int((len(file.written) - len(file.safe)) * share)
