# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of every byte, as files and as directories: they arrive, they change, they go; errors name them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.comparing import age, differences, tree
from helpers.daemon import UNLIMITED, Daemon, text_of
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon, needs_root

pytestmark = pytest.mark.live

# Each byte that a name may hold: alone, at both ends, and in the middle.
BYTES = [bytes([number]) for number in range(1, 256) if number != ord("/")]
NAMES = [
    *(byte for byte in BYTES if byte != b"."),
    *(byte + b"na" + byte + b"me" + byte for byte in BYTES),
]

# What shells, rsync's lists, filters and messages could take for something else.
TRAPS = [
    b"...",
    b"-",
    b"--",
    b"-e",
    b"--delete",
    b"#x",
    b";x",
    b"# x",
    b"+ x",
    b"- x",
    b"!",
    b"P *",
    b". x",
    b": x",
    b"x ",
    b" x",
    b"  ",
    b"host:path",
    b"rsync:",
    b"\\#012",
    b"\\n",
    b"a\nb",
    b"\n\n",
    b"\r\n",
    b"x\n(code 23)",
    b"rsync error: x (code 11)",
    b'quote" failed: No space left on device (28)',
    b"$(touch x)",
    b"`touch x`",
    b"a'quote",
    b'a"quote',
    b"~",
    b"%s%n",
    b"\x1b[31mred",
    b".name.XXXXXX",
    b"***",
    b"[!a]",
    b"{a,b}",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x90\x84" * 63,
    b"\x80" * 255,
    b"#" * 255,
    b"." * 255,
    b" " * 255,
    b"\n" * 255,
]


class Bytes:
    """A directory whose names are bytes."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)

    def path(self, *parts: bytes) -> bytes:
        """Return an absolute path."""
        return os.path.join(self._root, *parts)

    def write(self, content: bytes, *parts: bytes) -> None:
        """Write a file, and make its directory."""
        os.makedirs(os.path.dirname(self.path(*parts)), exist_ok=True)
        with open(self.path(*parts), "wb") as file:
            file.write(content)


def test_every_byte_arrives_changes_and_goes(some_pair: Pair, daemon: StartDaemon) -> None:
    go_through(NAMES, some_pair, daemon)


def test_every_trap_arrives_changes_and_goes(pair: Pair, daemon: StartDaemon) -> None:
    go_through(TRAPS, pair, daemon)


def go_through(names: list[bytes], pair: Pair, daemon: StartDaemon) -> None:
    """Let files, directories and links of these names come, change and go."""
    source = Bytes(pair.source)
    for name in names:
        source.write(b"before " + name, b"known", name)
    # In the end everything goes.
    running = daemon(pair.settings(brake=UNLIMITED))
    running.wait_until_mirrored("home", pair.source, pair.target)

    for name in names:
        source.write(b"changed " + name, b"known", name)
        source.write(b"new " + name, b"new", name)
        source.write(b"below " + name, b"directories", name, name)
        os.makedirs(source.path(b"links"), exist_ok=True)
        os.symlink(name, source.path(b"links", name))
    running.wait_until_mirrored("home", pair.source, pair.target)

    for number, name in enumerate(names):
        os.unlink(source.path(b"known", name))
        os.chmod(source.path(b"new", name), 0o600)
        os.rename(source.path(b"new", name), source.path(b"known", name[:240] + b"%d" % number))
        shutil.rmtree(source.path(b"directories", name))
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert running.status("home")["failures"] == 0
    assert running.status("home")["restarts"] == 0


def test_messages_about_every_name_are_understood(local: Pair, daemons: Callable[..., Daemon]) -> None:
    """What cannot be read is told by rsync with its name, and must not hold up the others."""
    needs_root()
    without = "-dac_override,-dac_read_search"
    running = daemons(prefix=["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"])
    source = Bytes(local.source)
    names = [*NAMES[:: len(NAMES) // 100], *TRAPS]
    source.write(b"", b"marker")
    age(local.source)
    running.write("home", text_of(local.settings()))
    running.start("home")
    running.wait_until_mirrored("home", local.source, local.target)
    for name in names:
        source.write(b"secret", b"secrets", name)
        os.chmod(source.path(b"secrets", name), 0)
        source.write(b"open", b"open", name)

    def rest_is_there() -> bool:
        return tree(local.source / "open").keys() == tree(local.target / "open").keys()

    wait_until(rest_is_there, "what can be read is mirrored", describe=running.log)
    running.wait_for_state("home", "failing", "degraded")
    for name in names:
        os.chmod(source.path(b"secrets", name), 0o600)
    waited = running.command("sync", "home", "--wait")
    assert waited.returncode == 0, waited.stderr
    assert differences(local.source, local.target) == []
