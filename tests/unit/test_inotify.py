# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests watch/inotify.py on real queues, and pins what it takes from inside of pyinotify."""

from __future__ import annotations

import errno
import fcntl
import os
import select
from collections.abc import Iterator

import pyinotify
import pytest

from lsyncd_sd.watch import inotify
from lsyncd_sd.watch.inotify import DIRECTORY_MASK, RawEvent, read_events, remove_watch


@pytest.fixture
def queue() -> Iterator[int]:
    queue = inotify.open_queue()
    yield queue
    os.close(queue)


@pytest.fixture
def folder(tmp_path: os.PathLike[str]) -> bytes:
    return os.fsencode(tmp_path)


def create(path: bytes) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def add_watch(queue: int, path: bytes, mask: int) -> int:
    directory = os.open(path, os.O_RDONLY)
    try:
        return inotify.add_watch(queue, directory, mask)
    finally:
        os.close(directory)


def ready(queue: int) -> bool:
    return bool(select.select([queue], [], [], 0)[0])


# ---- what we rely on


def test_the_binding_that_we_subclass_is_there() -> None:
    wrapper = pyinotify._CtypesLibcINotifyWrapper
    assert callable(wrapper.init)
    assert issubclass(inotify._Binding, wrapper)


@pytest.mark.parametrize("function", ["inotify_init", "inotify_add_watch", "inotify_rm_watch"])
def test_the_binding_has_the_three_calls(function: str) -> None:
    assert callable(getattr(inotify._binding._libc, function))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # <linux/inotify.h>: a package that changed one of them would watch something else in silence
        ("IN_MODIFY", 0x2),
        ("IN_ATTRIB", 0x4),
        ("IN_CLOSE_WRITE", 0x8),
        ("IN_MOVED_FROM", 0x40),
        ("IN_MOVED_TO", 0x80),
        ("IN_CREATE", 0x100),
        ("IN_DELETE", 0x200),
        ("IN_DELETE_SELF", 0x400),
        ("IN_MOVE_SELF", 0x800),
        ("IN_UNMOUNT", 0x2000),
        ("IN_Q_OVERFLOW", 0x4000),
        ("IN_IGNORED", 0x8000),
        ("IN_ISDIR", 0x40000000),
    ],
)
def test_constants(name: str, value: int) -> None:
    assert getattr(inotify, name) == value


def test_masks() -> None:
    only_dir, excl_unlink = 0x1000000, 0x4000000
    directory = 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | only_dir | excl_unlink
    assert directory == inotify.DIRECTORY_MASK
    assert directory | 0x400 | 0x800 == inotify.ROOT_MASK


# ---- the queue


def test_the_descriptor_neither_blocks_nor_is_inherited(queue: int) -> None:
    assert fcntl.fcntl(queue, fcntl.F_GETFL) & os.O_NONBLOCK
    assert fcntl.fcntl(queue, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_an_empty_queue_gives_nothing(queue: int) -> None:
    assert read_events(queue) == []


def test_no_more_queues_is_an_error_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def inotify_init(self) -> int:
            inotify.ctypes.set_errno(errno.EMFILE)
            return -1

    monkeypatch.setattr(inotify._binding, "_libc", Full())
    with pytest.raises(OSError) as raised:
        inotify.open_queue()
    assert raised.value.errno == errno.EMFILE


# ---- watches


def test_the_same_directory_has_one_number_under_every_name(queue: int, folder: bytes) -> None:
    os.mkdir(folder + b"/a")
    wd = add_watch(queue, folder + b"/a", DIRECTORY_MASK)
    os.rename(folder + b"/a", folder + b"/b")
    assert add_watch(queue, folder + b"/b", DIRECTORY_MASK) == wd
    os.mkdir(folder + b"/a")
    assert add_watch(queue, folder + b"/a", DIRECTORY_MASK) != wd


def test_the_watch_is_of_what_was_opened_and_not_of_a_name(queue: int, folder: bytes) -> None:
    os.mkdir(folder + b"/a")
    directory = os.open(folder + b"/a", os.O_RDONLY)
    os.rename(folder + b"/a", folder + b"/b")
    os.symlink(folder, folder + b"/a")
    wd = inotify.add_watch(queue, directory, DIRECTORY_MASK)
    os.close(directory)
    create(folder + b"/b/file")
    assert {event.wd for event in read_events(queue)} == {wd}


def test_a_directory_that_is_gone_can_still_be_watched(queue: int, folder: bytes) -> None:
    """It is not an error, and the kernel gives the watch back when the last one closes the directory."""
    os.mkdir(folder + b"/a")
    directory = os.open(folder + b"/a", os.O_RDONLY)
    os.rmdir(folder + b"/a")
    wd = inotify.add_watch(queue, directory, DIRECTORY_MASK)
    os.close(directory)
    assert read_events(queue)[-1] == RawEvent(wd, inotify.IN_IGNORED, 0, b"")


def test_what_is_no_directory_cannot_be_watched(queue: int, folder: bytes) -> None:
    create(folder + b"/file")
    with pytest.raises(OSError) as raised:
        add_watch(queue, folder + b"/file", DIRECTORY_MASK)
    assert raised.value.errno == errno.ENOTDIR


def test_a_removed_watch_is_silent(queue: int, folder: bytes) -> None:
    wd = add_watch(queue, folder, DIRECTORY_MASK)
    remove_watch(queue, wd)
    create(folder + b"/a")
    assert read_events(queue) == [RawEvent(wd, inotify.IN_IGNORED, 0, b"")]


def test_removing_what_the_kernel_removed_is_no_error(queue: int, folder: bytes) -> None:
    os.mkdir(folder + b"/a")
    wd = add_watch(queue, folder + b"/a", DIRECTORY_MASK)
    os.rmdir(folder + b"/a")
    remove_watch(queue, wd)
    remove_watch(queue, wd)


def test_removing_from_a_closed_queue_is_an_error() -> None:
    queue = inotify.open_queue()
    os.close(queue)
    with pytest.raises(OSError) as raised:
        remove_watch(queue, 1)
    assert raised.value.errno == errno.EBADF


# ---- events


def test_events_of_a_file(queue: int, folder: bytes) -> None:
    wd = add_watch(queue, folder, DIRECTORY_MASK)
    create(folder + b"/a")
    os.chmod(folder + b"/a", 0o644)
    os.rename(folder + b"/a", folder + b"/b")
    os.unlink(folder + b"/b")
    assert ready(queue)
    events = read_events(queue)
    cookie = events[3].cookie
    assert cookie != 0
    assert events == [
        (wd, inotify.IN_CREATE, 0, b"a"),
        (wd, inotify.IN_CLOSE_WRITE, 0, b"a"),
        (wd, inotify.IN_ATTRIB, 0, b"a"),
        (wd, inotify.IN_MOVED_FROM, cookie, b"a"),
        (wd, inotify.IN_MOVED_TO, cookie, b"b"),
        (wd, inotify.IN_DELETE, 0, b"b"),
    ]
    assert not ready(queue)


def test_directories_say_that_they_are_some(queue: int, folder: bytes) -> None:
    wd = add_watch(queue, folder, DIRECTORY_MASK)
    os.mkdir(folder + b"/a")
    os.chmod(folder, 0o700)
    assert read_events(queue) == [
        (wd, inotify.IN_CREATE | inotify.IN_ISDIR, 0, b"a"),
        (wd, inotify.IN_ATTRIB | inotify.IN_ISDIR, 0, b""),
    ]


def test_the_end_of_the_root_is_told(queue: int, folder: bytes) -> None:
    os.mkdir(folder + b"/root")
    wd = add_watch(queue, folder + b"/root", inotify.ROOT_MASK)
    os.rename(folder + b"/root", folder + b"/moved")
    os.rmdir(folder + b"/moved")
    assert [(event.wd, event.mask) for event in read_events(queue)] == [
        (wd, inotify.IN_MOVE_SELF),
        (wd, inotify.IN_DELETE_SELF),
        (wd, inotify.IN_IGNORED),
    ]


def test_a_deleted_file_that_is_still_written_is_silent(queue: int, folder: bytes) -> None:
    add_watch(queue, folder, DIRECTORY_MASK)
    writer = os.open(folder + b"/a", os.O_WRONLY | os.O_CREAT, 0o600)
    os.unlink(folder + b"/a")
    read_events(queue)
    os.write(writer, b"x")
    os.close(writer)
    assert read_events(queue) == []


@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe",
        "ä€😀".encode(),
        b"new\nline",
        b"-rf",
        b"#;]",
        b" ",
        b"\x01",
        b"a" * 255,
        b"1234567890123456",
        b"123456789012345",
    ],
)
def test_names_of_any_bytes_and_length(queue: int, folder: bytes, name: bytes) -> None:
    wd = add_watch(queue, folder, DIRECTORY_MASK)
    os.mkdir(folder + b"/" + name)
    sub = add_watch(queue, folder + b"/" + name, DIRECTORY_MASK)
    os.mkdir(folder + b"/" + name + b"/x")
    made = inotify.IN_CREATE | inotify.IN_ISDIR
    assert read_events(queue) == [(wd, made, 0, name), (sub, made, 0, b"x")]


def test_a_burst_is_read_in_pieces_and_whole(queue: int, folder: bytes) -> None:
    add_watch(queue, folder, DIRECTORY_MASK)
    names = [b"%0200d" % number for number in range(3000)]
    for name in names:
        os.mkdir(folder + b"/" + name)
    seen: list[bytes] = []
    reads = 0
    while events := read_events(queue):
        reads += 1
        seen += [event.name for event in events]
    assert seen == names
    assert reads > 1


def test_an_overflow_names_no_directory() -> None:
    """What read() gives when the kernel has dropped events; made by hand, for the limit is the system's."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    os.write(writing, inotify._HEADER.pack(-1, inotify.IN_Q_OVERFLOW, 0, 0))
    assert read_events(reading) == [RawEvent(-1, inotify.IN_Q_OVERFLOW, 0, b"")]
    os.close(reading)
    os.close(writing)
