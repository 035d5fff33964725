# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests which options of rsync are taken in `rsync: extra`."""

import re
import subprocess

import pytest

from lsyncd_sd.config.report import Refused
from lsyncd_sd.config.rsyncextra import _LETTERS, _REFUSED_NAMES, parse_extra
from lsyncd_sd.config.setting import Scope
from lsyncd_sd.config.settings import settings_of


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
        ("--delete-excluded", "'delete_excluded'"), ("--max-delete=3", "'delete'"), ("--force", "'delete'"),
        ("--delete-missing-args", "'delete'"), ("--ignore-errors", "must not delete"),
        ("--filter=- x", "'filter'"), ("-f- x", "'filter'"), ("-F", "'filter'"), ("-zF", "'filter'"),
        ("--exclude=x", "'exclude'"), ("--exclude-from=x", "'exclude_from'"), ("--include=x", "'filter'"),
        ("-C", "'exclude'"), ("--cvs-exclude", "'exclude'"), ("-m", "'exclude'"), ("--prune-empty-dirs", ""),
        ("--max-size=1M", "gone"), ("--min-size=1", "gone"),
        ("-n", "'dry_run'"), ("--dry-run", ""), ("-i", "log_level"), ("-v", "log_level"), ("-q", ""),
        ("--info=all", ""), ("--out-format=%n", ""), ("--stats", ""), ("--progress", ""), ("-P", ""),
        ("-e", "'ssh'"), ("-essh -p 2", "'ssh'"), ("--rsh=ssh", "'ssh'"),
        ("--remove-source-files", "source"), ("-T/x", "'temp_dir'"), ("-b", "'backup'"),
        ("-s", "'protect_args'"), ("--no-s", "'protect_args'"), ("--secluded-args", "'protect_args'"),
        ("--no-protect-args", "'protect_args'"), ("--old-args", "shell"), ("--mkpath", "vanished"),
        ("-L", "'copy_links'"), ("-k", "'copy_dirlinks'"), ("-K", "'keep_dirlinks'"), ("-H", "'hard_links'"),
        ("-I", "'ignore_times'"), ("-u", "'update'"), ("-x", "'one_file_system'"), ("--no-x", ""),
        ("--partial", "'partial_dir'"), ("--delay-updates", "'partial_dir'"), ("--no-i-d", "listed"),
        ("--ignore-non-existing", "'existing'"), ("--password-file=/x", "'password_file'"),
        ("--ignore-existing", "stay as it was"), ("--size-only", "stay as it was"),
        ("--link-dest=/x", "whole"), ("--copy-dest=/x", "keeps to"), ("--compare-dest=/x", "whole"),
        ("--write-devices", "device"),
        ("--copy-devices", "device"), ("--stop-after=5", "halfway"), ("--stop-at=23:59", "halfway"),
        ("--confine-root=/x", "where it can"), ("--insecure-links", "outside"),
        ("--timeout=3", "'timeout'"), ("--list-only", ""), ("--daemon", ""),
        ("-M-r", "listed"), ("-M--delete", "'delete'"), ("--remote-option=-n", "'dry_run'"),
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


# What may be given: it changes how files are compared, sent or written, and nothing that we rely on.
HARMLESS = frozenset(
    (
        "acls", "address", "atimes", "block-size", "blocking-io", "bwlimit", "checksum", "checksum-choice",
        "checksum-seed", "chmod", "chown", "compress", "compress-choice", "compress-level",
        "compress-threads", "contimeout", "copy-as", "crtimes", "devices", "drop-D",
        "early-input", "executability", "fake-super", "fsync", "fuzzy", "group", "groupmap", "iconv",
        "inc-recursive", "inplace", "ipv4", "ipv6", "links", "log-file", "log-file-format", "max-alloc",
        "modify-window", "motd", "munge-links", "numeric-ids", "omit-dir-times", "omit-link-times",
        "open-noatime", "outbuf", "owner", "perms", "port", "preallocate", "protocol", "remote-option",
        "rsync-path", "safe-links", "skip-compress", "sockopts", "sparse", "specials", "super", "times",
        "trust-sender", "usermap", "whole-file", "xattrs",
    )
)  # fmt: skip


def options_of_rsync() -> set[str]:
    """Return the long names of every option that the rsync of this machine tells of."""
    told = subprocess.run(["rsync", "--help"], capture_output=True, text=True, check=True).stdout
    lines = told.partition("\nOptions\n")[2].splitlines()
    heads = [re.split(r"  | \(", line)[0] for line in lines]
    names = {name for head in heads for name in re.findall(r"(?<![\w-])--([\w-]+)", head)}
    return {name.removeprefix("no-") for name in names} - {"OPTION", "W", "i-r"}


def is_refused(item: str) -> bool:
    try:
        parse_extra(item)
    except Refused:
        return True
    return False


def test_every_option_was_judged() -> None:
    options = options_of_rsync()
    # 3.2.7 has 150, 3.5.0 some more
    assert len(options) > 140
    refused = {name for name in options if is_refused(f"--{name}")}
    assert {name for name in options - refused if name not in HARMLESS} == set()
    assert refused & HARMLESS == set()


def test_every_letter_is_judged_as_its_option() -> None:
    told = subprocess.run(["rsync", "--help"], capture_output=True, text=True, check=True).stdout
    pairs = re.findall(r"^--([a-zA-Z0-9-]+)(?:=\w+)?, -(\w)", told, re.MULTILINE)
    assert len(pairs) > 40
    for name, letter in pairs:
        # -M hands on what follows it
        if letter not in "Mh":
            assert is_refused(f"-{letter}") is is_refused(f"--{name}"), name


def test_what_has_a_key_that_must_be_known_is_refused_with_its_name() -> None:
    settings = settings_of(Scope.RSYNC).values()
    long = [one for one in settings if re.fullmatch("--[a-z-]+", one.option)]
    for setting in long:
        if setting.option.removeprefix("--") not in HARMLESS:
            with pytest.raises(Refused) as caught:
                parse_extra(f"{setting.option}=x")
            assert f"'{setting.name}'" in caught.value.hint
