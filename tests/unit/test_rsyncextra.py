# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests which options of rsync are taken in `rsync: extra`."""

import pytest

from lsyncd_sd.config.report import Refused
from lsyncd_sd.config.rsyncextra import _LETTERS, _REFUSED_NAMES, parse_extra


@pytest.mark.parametrize(
    "item",
    [
        "--skip-compress=gz/zip", "-y", "-zy", "--no-whole-file", "--modify-window=1", "-@1", "-B1024",
        "-Brdn", "--iconv=utf8", "-M--fake-super", "--remote-option=--fake-super", "--no-inc-recursive",
        "-U", "--fsync",
        "--log-file=/var/log/x", "--compress-choice=zstd", "--no-motd",
    ],
)  # fmt: skip
def test_harmless_options_are_taken_as_they_are(item: str) -> None:
    assert parse_extra(item) == item


@pytest.mark.parametrize(
    ("item", "hint"),
    [
        ("-r", "listed"), ("--recursive", "listed"), ("--no-recursive", "listed"), ("--no-r", "listed"),
        ("-zr", "listed"), ("-d", "listed"), ("--dirs", "listed"), ("-a", "archive: true"),
        ("--files-from=x", "listed"), ("--from0", "listed"), ("-0", "listed"), ("-R", "listed"),
        ("--no-relative", "listed"), ("--no-implied-dirs", "listed"),
        ("--delete", "'delete'"), ("--del", "'delete'"), ("--delete-after", "'delete'"),
        ("--delete-excluded", "'delete'"), ("--max-delete=3", "'delete'"), ("--force", "'delete'"),
        ("--delete-missing-args", "'delete'"), ("--ignore-errors", "must not delete"),
        ("--filter=- x", "'filter'"), ("-f- x", "'filter'"), ("-F", "'filter'"), ("-zF", "'filter'"),
        ("--exclude=x", "'exclude'"), ("--exclude-from=x", "'exclude_from'"), ("--include=x", "'filter'"),
        ("-C", "'exclude'"), ("--cvs-exclude", "'exclude'"), ("-m", "'exclude'"), ("--prune-empty-dirs", ""),
        ("--max-size=1M", "gone"), ("--min-size=1", "gone"),
        ("-n", "transfer nothing"), ("--dry-run", ""), ("-i", "log_level"), ("-v", "log_level"), ("-q", ""),
        ("--info=all", ""), ("--out-format=%n", ""), ("--stats", ""), ("--progress", ""), ("-P", ""),
        ("-e", "'ssh'"), ("-essh -p 2", "'ssh'"), ("--rsh=ssh", "'ssh'"),
        ("--remove-source-files", "source"), ("--partial-dir=x", ""), ("--temp-dir=/x", ""), ("-T/x", ""),
        ("--backup", "this version"), ("-b", "this version"), ("--backup-dir=x", ""), ("--suffix=x", ""),
        ("-s", "always on"), ("--protect-args", "always on"), ("--secluded-args", ""), ("--old-args", ""),
        ("-L", "outside"), ("--copy-unsafe-links", "outside"), ("-K", "outside"), ("--mkpath", "vanished"),
        ("--timeout=3", "'timeout'"), ("--list-only", ""), ("--daemon", ""), ("-x", ""),
        ("-M-r", "listed"), ("-M--delete", "'delete'"), ("--remote-option=-n", "transfer nothing"),
        ("-M-M--x", "each"), ("-M" * 10_000, "each"),
        ("rsync", "--option=value"), ("", ""), ("-", ""), ("--", ""), ("-z\0", ""),
    ],
)  # fmt: skip
def test_what_would_undo_the_calls_is_refused(item: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_extra(item)
    assert hint in caught.value.hint


def test_the_message_names_the_letter_in_a_bundle() -> None:
    with pytest.raises(Refused) as caught:
        parse_extra("-zr")
    assert caught.value.message == "'-r' in '-zr' cannot be given to rsync here"


def test_every_refused_letter_has_a_refused_name() -> None:
    assert set(_LETTERS.values()) <= set(_REFUSED_NAMES)
