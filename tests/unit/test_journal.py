# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/journal.py: fields, levels, repeats, and that a broken log never breaks the caller."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.service import journal as journal_module
from lsyncd_sd.service.journal import (
    REPEAT_INTERVAL,
    Entry,
    Event,
    FileSink,
    Journal,
    NativeSink,
    Priority,
    RateLimit,
    ReadableSink,
)


class Memory:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)

    def messages(self) -> list[str]:
        return [entry.message for entry in self.entries]


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(memory: Memory, clock: Clock) -> Journal:
    return Journal(memory, Priority.INFO, clock)


def test_fields_get_their_journal_names_and_paths_stay_bytes(journal: Journal, memory: Memory) -> None:
    bound = journal.bind(sync="home", targets=["backup:/srv"])
    bound.error(
        "rsync failed",
        Event.TRANSFER_FAILED,
        state="failing",
        batch=7,
        files=3,
        bytes=12345,
        exit_status=23,
        duration_usec=1500000,
        path=b"a\nb\xff=c",
        errno=errno.ENOSPC,
    )
    assert memory.entries[0].journal_fields() == [
        b"MESSAGE=rsync failed",
        b"PRIORITY=3",
        b"SYSLOG_IDENTIFIER=lsyncd-sd",
        b"MESSAGE_ID=" + Event.TRANSFER_FAILED.value.encode(),
        b"LSYNCD_SYNC=home",
        b"LSYNCD_TARGET=backup:/srv",
        b"LSYNCD_STATE=failing",
        b"LSYNCD_BATCH=7",
        b"LSYNCD_FILES=3",
        b"LSYNCD_BYTES=12345",
        b"LSYNCD_EXIT_STATUS=23",
        b"LSYNCD_DURATION_USEC=1500000",
        b"LSYNCD_PATH=a\nb\xff=c",
        b"ERRNO=28",
    ]


def test_several_paths_are_several_values_of_one_field(journal: Journal, memory: Memory) -> None:
    journal.info("batch 1", paths=[b"a\nb", b"", b"\xff"])
    assert [item for item in memory.entries[0].journal_fields() if item.startswith(b"LSYNCD_PATH")] == [
        b"LSYNCD_PATH=a\nb",
        b"LSYNCD_PATH=.",
        b"LSYNCD_PATH=\xff",
    ]


def test_several_targets_are_several_values_of_one_field(journal: Journal, memory: Memory) -> None:
    journal.bind(targets=["/a", "b:/b"]).info("mirroring")
    assert [item for item in memory.entries[0].journal_fields() if item.startswith(b"LSYNCD_TARGET")] == [
        b"LSYNCD_TARGET=/a",
        b"LSYNCD_TARGET=b:/b",
    ]


def test_a_message_begins_with_what_it_is_about(journal: Journal, memory: Memory) -> None:
    journal.about("b:/b\n").info("in-sync", targets=["b:/b"])
    assert memory.entries[0].message == "b:/b\\x0a: in-sync"


def test_what_is_about_different_things_is_no_repeat(journal: Journal, memory: Memory) -> None:
    for subject in ("/a", "/b", "/a"):
        journal.about(subject).error("cannot write", repeats_as="write")
    assert [entry.message for entry in memory.entries] == ["/a: cannot write", "/b: cannot write"]


def test_bound_fields_can_be_overridden_and_stay_apart(journal: Journal, memory: Memory) -> None:
    bound = journal.bind(sync="home").bind(targets=["t"])
    bound.info("one", sync="other")
    journal.info("two")
    assert memory.entries[0].fields == {"sync": "other", "targets": ["t"]}
    assert memory.entries[1].fields == {}


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("error", ["error"]),
        ("warning", ["error", "warning"]),
        ("notice", ["error", "warning", "notice"]),
        ("info", ["error", "warning", "notice", "info"]),
        ("DEBUG", ["error", "warning", "notice", "info", "debug"]),
    ],
)
def test_level_hides_what_is_less_urgent(memory: Memory, clock: Clock, level: str, shown: list[str]) -> None:
    journal = Journal(memory, Priority.from_word(level), clock)
    for method in (journal.error, journal.warning, journal.notice, journal.info, journal.debug):
        method(method.__name__)
    assert memory.messages() == shown


def test_messages_never_carry_control_characters(journal: Journal, memory: Memory) -> None:
    journal.info("name \x1b[31m \udcff \u202e\nsecond line")
    assert memory.messages() == ["name \\x1b[31m \\xff \\xe2\\x80\\xae\nsecond line"]


@given(st.text(st.characters()), st.text(st.characters()), st.binary())
def test_every_text_can_be_logged_in_both_forms(message: str, sync: str, path: bytes) -> None:
    memory = Memory()
    Journal(memory, Priority.INFO).error(message, sync=sync, path=path)
    (entry,) = memory.entries
    assert entry.journal_fields()[-1] == b"LSYNCD_PATH=" + path
    assert all(line.isprintable() for line in entry.readable(0.0).decode()[:-1].split("\n"))


# repeats


def test_repeated_errors_are_shown_once_and_then_counted(
    journal: Journal, memory: Memory, clock: Clock
) -> None:
    for _ in range(13):
        journal.error("no space", Event.TARGET_FULL, sync="home")
    assert memory.messages() == ["no space"]
    clock.time += REPEAT_INTERVAL
    journal.error("no space", Event.TARGET_FULL, sync="home")
    assert memory.messages() == ["no space", "no space (repeated 12 times)", "no space"]
    assert memory.entries[1].event is Event.TARGET_FULL
    assert memory.entries[1].fields == {"sync": "home"}


def test_any_later_entry_brings_out_the_count(journal: Journal, memory: Memory, clock: Clock) -> None:
    journal.warning("slow")
    journal.warning("slow")
    clock.time += REPEAT_INTERVAL
    journal.info("something else")
    assert memory.messages() == ["slow", "slow (repeated once more)", "something else"]


def test_different_syncs_events_and_messages_are_not_repeats(journal: Journal, memory: Memory) -> None:
    journal.error("m", sync="a")
    journal.bind(sync="b").error("m")
    journal.error("m", Event.HELD, sync="a")
    journal.error("other", sync="a")
    assert len(memory.entries) == 4


def test_messages_with_changing_numbers_repeat_by_their_key(journal: Journal, memory: Memory) -> None:
    journal.warning("again in 1 s", repeats_as="again")
    journal.warning("again in 2 s", repeats_as="again")
    assert memory.messages() == ["again in 1 s"]


def test_normal_entries_are_never_suppressed(journal: Journal, memory: Memory) -> None:
    journal.info("batch")
    journal.info("batch")
    journal.notice("state", Event.STATE_CHANGED)
    journal.notice("state", Event.STATE_CHANGED)
    assert len(memory.entries) == 4


def test_bound_journals_share_their_repeats_and_report_all_at_the_end(
    journal: Journal, memory: Memory
) -> None:
    journal.bind(sync="home").error("m")
    journal.bind(sync="home").error("m")
    journal.report_repeats()
    assert memory.messages() == ["m"]
    journal.report_repeats(everything=True)
    assert memory.messages() == ["m", "m (repeated once more)"]
    journal.report_repeats(everything=True)
    assert len(memory.entries) == 2


def test_rate_limit_ends_the_oldest_when_there_are_too_many_keys() -> None:
    limit: RateLimit[str] = RateLimit(interval=10, most_keys=2)
    assert limit.admit(1, "one", now=0)
    assert not limit.admit(1, "one again", now=1)
    assert limit.admit(2, "two", now=1)
    assert list(limit.ended(now=1)) == []
    assert limit.admit(3, "three", now=2)
    assert list(limit.ended(now=2)) == [("one", 1)]
    assert not limit.admit(2, "two", now=2)
    assert list(limit.ended(now=11)) == [("two", 1)]
    assert list(limit.everything()) == []


# sinks


def test_readable_lines_name_time_level_and_sync(capfd: pytest.CaptureFixture[str]) -> None:
    sink = ReadableSink(clock=lambda: 0.0)
    sink.write(Entry(Priority.WARNING, "first\nsecond", None, {"sync": "ho\x1bme"}))
    sink.write(Entry(Priority.INFO, "plain", None, {}))
    first, second, third = capfd.readouterr().err.splitlines()
    assert first[10:11] == " " and first[19:] == " warning ho\\x1bme: first"
    assert second == "    second"
    assert third[19:] == " info    plain"


def test_readable_sink_survives_a_reader_that_went_away() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    ReadableSink(write_end).write(Entry(Priority.ERROR, "x", None, {}))
    os.close(write_end)
    ReadableSink(write_end).write(Entry(Priority.ERROR, "x", None, {}))


def test_a_file_gets_every_entry_and_may_be_rotated(tmp_path: Path, memory: Memory) -> None:
    path = tmp_path / "log"
    log = Journal(FileSink(str(path), None, memory, lambda: 0.0), Priority.INFO)
    log.info("one", sync="home")
    path.rename(tmp_path / "log.1")
    log.error("two\nlines")
    assert (tmp_path / "log.1").read_text().endswith(" info    home: one\n")
    assert path.read_text().endswith(" error   two\n    lines\n")
    assert path.stat().st_mode & 0o037 == 0, "it has the names of files"
    assert memory.messages() == []


def test_what_goes_to_a_file_may_be_shown_too(tmp_path: Path, memory: Memory) -> None:
    shown = Memory()
    Journal(FileSink(str(tmp_path / "log"), shown, memory), Priority.INFO).info("one")
    assert shown.messages() == ["one"]
    assert memory.messages() == []
    assert "one" in (tmp_path / "log").read_text()


def test_what_cannot_be_written_to_a_file_is_not_lost(tmp_path: Path, memory: Memory) -> None:
    for name in ("missing/log", "."):
        Journal(FileSink(str(tmp_path / name), None, memory), Priority.INFO).info(name)
    # A pipe that nobody reads would keep whoever opens it.
    os.mkfifo(tmp_path / "pipe")
    Journal(FileSink(str(tmp_path / "pipe"), None, memory), Priority.INFO).info("pipe")
    assert memory.messages() == ["missing/log", ".", "pipe"]


def test_native_sink_uses_the_fallback_without_journald(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(journal_module.systemd_journal, "sendv", lambda *items: sent.extend(items))
    NativeSink(memory, str(tmp_path / "socket")).write(Entry(Priority.ERROR, "no socket", None, {}))
    assert memory.messages() == ["no socket"]
    assert sent == []


def test_native_sink_uses_the_fallback_when_journald_refuses(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_items: bytes) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(journal_module.systemd_journal, "sendv", refuse)
    socket_path = tmp_path / "socket"
    socket_path.touch()
    NativeSink(memory, str(socket_path)).write(Entry(Priority.ERROR, "refused", None, {}))
    assert memory.messages() == ["refused"]


@pytest.mark.parametrize("stream", [None, "", "nonsense", "1:2", "1:2:3", "same"])
def test_journal_is_native_only_if_stderr_is_the_named_stream(
    stream: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = os.fstat(2)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if stream is not None:
        named = f"{stderr.st_dev}:{stderr.st_ino}" if stream == "same" else stream
        monkeypatch.setenv("JOURNAL_STREAM", named)
    sink = Journal.for_this_process("info").sink
    assert isinstance(sink, NativeSink if stream == "same" else ReadableSink)


NATIVE_SCRIPT = """
import os, socket
from lsyncd_sd.service.journal import Event, Journal
stderr = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{stderr.st_dev}:{stderr.st_ino}"
os.makedirs("/run/systemd/journal")
journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal = Journal.for_this_process("info").bind(sync="home")
journal.error("not there")
journald.bind("/run/systemd/journal/socket")
journal.error("h\\u00e9ld", Event.HELD, path=b"a\\nb\\xff")
print(journald.recv(65536).hex())
journald.close()
journal.error("dead")
"""


def test_entries_arrive_at_the_socket_of_journald_byte_for_byte() -> None:
    """In a mount namespace with an empty /run, so that libsystemd itself sends to a socket of ours."""
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*in_namespace, "true"], check=False).returncode:
        pytest.skip("namespaces may not be made here")
    with_empty_run = ["sh", "-c", 'mount -t tmpfs none /run && exec "$0" -c "$1"']
    result = subprocess.run(
        [*in_namespace, *with_empty_run, sys.executable, NATIVE_SCRIPT],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    fields = bytes.fromhex(result.stdout.decode())
    assert "MESSAGE=héld\n".encode() in fields
    assert b"MESSAGE_ID=" + Event.HELD.value.encode() + b"\n" in fields
    assert b"LSYNCD_SYNC=home\n" in fields
    # A value with a newline goes with its length: that of "a", newline, "b", 0xff.
    assert b"LSYNCD_PATH\n" + (4).to_bytes(8, "little") + b"a\nb\xff\n" in fields
    assert fields.count(b"SYSLOG_IDENTIFIER=") == 1
    fallback = result.stderr.decode().splitlines()
    assert [line.split(": ")[1] for line in fallback] == ["not there", "dead"]
