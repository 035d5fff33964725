# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of packaging/lsyncd-sd.catalog: one helpful entry for each event of service/journal.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lsyncd_sd.service.journal import Event

CATALOG = Path(__file__).parents[2] / "packaging" / "lsyncd-sd.catalog"

# The start of every line that a text may tell the admin to type.
COMMANDS = re.compile(
    r"lsyncd-sd (status|check FILE|(restart|accept) @LSYNCD_SYNC@)$"
    r"|systemctl reload lsyncd@NAME$"
    r"|journalctl -u lsyncd@NAME\b"
    r"|journalctl -k$"
    r"|sysctl fs\.inotify\.\w+=\w+$"
)


def entries() -> dict[str, tuple[dict[str, str], str]]:
    """Return headers and text of each entry by its message id; every id must be there once."""
    found: dict[str, tuple[dict[str, str], str]] = {}
    for block in re.split(r"^-- ", CATALOG.read_text(), flags=re.MULTILINE)[1:]:
        head, text = block.split("\n\n", 1)
        message_id, *header_lines = head.splitlines()
        assert message_id not in found
        found[message_id] = (dict(line.split(": ", 1) for line in header_lines), text)
    return found


def test_every_event_has_an_entry_and_every_entry_an_event() -> None:
    assert set(entries()) == {event.value for event in Event}


def test_message_ids_are_ids() -> None:
    # An Enum makes aliases of equal values, so a doubled id would go unnoticed otherwise.
    assert len(Event.__members__) == len(list(Event))
    assert all(re.fullmatch("[0-9a-f]{32}", event.value) for event in Event)


@pytest.mark.parametrize("event", list(Event), ids=lambda event: event.name)
def test_entry_has_headers_and_says_something(event: Event) -> None:
    headers, text = entries()[event.value]
    assert headers["Subject"]
    assert headers["Defined-By"] == "lsyncd-sd"
    assert headers["Documentation"].startswith("man:lsyncd-sd")
    assert len(text.split()) >= 20
    for command in re.findall(r"^  (.*)", text, flags=re.MULTILINE):
        assert COMMANDS.match(command), command


def test_entries_substitute_only_fields_that_exist() -> None:
    used = set(re.findall(r"@(\w+)@", CATALOG.read_text()))
    assert used <= {"LSYNCD_SYNC", "LSYNCD_TARGET", "LSYNCD_STATE"}


def test_no_line_is_longer_than_76_columns() -> None:
    assert [line for line in CATALOG.read_text().splitlines() if len(line) > 76] == []


def test_journalctl_compiles_the_catalog(tmp_path: Path) -> None:
    if shutil.which("journalctl") is None:
        pytest.skip("journalctl is not installed")
    for folder in ("usr/lib/systemd/catalog", "var/lib/systemd/catalog"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(CATALOG, tmp_path / "usr/lib/systemd/catalog")
    root = f"--root={tmp_path}"
    update = subprocess.run(["journalctl", root, "--update-catalog"], capture_output=True, check=True)
    assert update.stderr == b""
    listing = subprocess.run(
        ["journalctl", root, "--list-catalog"], capture_output=True, check=True, text=True
    )
    assert {line.split()[0] for line in listing.stdout.splitlines()} == {event.value for event in Event}
