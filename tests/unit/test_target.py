# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that a target means to us what it means to rsync."""

import pytest

from lsyncd_sd.config.model import Target, TargetKind
from lsyncd_sd.config.report import Refused
from lsyncd_sd.config.target import local_path, parse_target

LOCAL, SSH, DAEMON = TargetKind.LOCAL, TargetKind.SSH, TargetKind.DAEMON


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("/srv/m", Target("/srv/m", LOCAL, "", "/srv/m")),
        ("/srv//m/./x///", Target("/srv/m/x", LOCAL, "", "/srv/m/x")),
        ("/a:b/c", Target("/a:b/c", LOCAL, "", "/a:b/c")),
        ("/a b\nc", Target("/a b\nc", LOCAL, "", "/a b\nc")),
        ("host:/srv/m", Target("host:/srv/m", SSH, "host", "/srv/m")),
        ("Host.Example:/srv/m//", Target("Host.Example:/srv/m", SSH, "host.example", "/srv/m")),
        ("user@host:path", Target("user@host:path", SSH, "host", "path", "user")),
        ("host:", Target("host:.", SSH, "host", "")),
        ("host:./a/", Target("host:a", SSH, "host", "a")),
        ("[::1]:/p", Target("[::1]:/p", SSH, "::1", "/p")),
        ("u@[FE80::1]:/p:q", Target("u@[FE80::1]:/p:q", SSH, "fe80::1", "/p:q", "u")),
        ("host:/a:b", Target("host:/a:b", SSH, "host", "/a:b")),
        ("host::mod", Target("host::mod", DAEMON, "host", "mod")),
        ("u@host::mod/p/", Target("u@host::mod/p", DAEMON, "host", "mod/p", "u")),
        ("[::1]::mod/p", Target("[::1]::mod/p", DAEMON, "::1", "mod/p")),
        ("rsync://H/mod", Target("rsync://H/mod", DAEMON, "h", "mod")),
        ("RSYNC://h/mod/x/", Target("rsync://h/mod/x", DAEMON, "h", "mod/x")),
        ("rsync://h:873/mod", Target("rsync://h:873/mod", DAEMON, "h", "mod")),
        ("rsync://h:8730/mod", Target("rsync://h:8730/mod", DAEMON, "h", "mod", "", 8730)),
        ("rsync://u@[::1]:99/mod/p", Target("rsync://u@[::1]:99/mod/p", DAEMON, "::1", "mod/p", "u", 99)),
        ("rsync://[::1]/mod", Target("rsync://[::1]/mod", DAEMON, "::1", "mod")),
    ],
)
def test_a_target_is_read_as_rsync_reads_it(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(target.text) == target


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "empty", ""),
        ("srv/m", "not an absolute path", "host:/path"),
        ("a/b:c", "not an absolute path", "host:/path"),
        ("~/m", "not an absolute path", "shell"),
        ("/", "dangerous", "directory below"),
        ("///", "dangerous", ""),
        ("/.", "dangerous", ""),
        ("/a/../b", "'..'", ""),
        ("/a\0b", "NUL", ""),
        ("host:/", "dangerous", ""),
        ("host:/.", "dangerous", ""),
        ("host:a/../b", "'..'", ""),
        ("host:~/m", "not expanded", "host:m"),
        ("host:~wayne", "not expanded", ""),
        (":/path", "no host", ""),
        ("u@:/path", "no host", ""),
        ("@host:/path", "not a host", ""),
        ("-oProxyCommand=x:/path", "option", ""),
        ("-x@host:/path", "option", ""),
        ("[-x]:/path", "option", ""),
        ("ho st:/path", "not a host", ""),
        ("ho\nst:/path", "not a host", ""),
        ("a@b@c d:/path", "not a host", ""),
        ("::1:/path", "no host", "IPv6"),
        ("fe80::1:/path", "not a module", "brackets"),
        ("host::", "no module", "host::module/path"),
        ("host::/path", "no module", ""),
        ("host::mod/../x", "'..'", ""),
        ("rsync://host", "no module", ""),
        ("rsync://host/", "no module", ""),
        ("rsync:///mod", "no host", ""),
        ("rsync://host:0/mod", "not a port", ""),
        ("rsync://host:70000/mod", "not a port", ""),
        ("rsync://host:/mod", "not a port", ""),
        ("rsync://u:secret@host/mod", "password", "password_file"),
        ("ssh://host/path", "no way", "host:/path"),
        ("s3://bucket/path", "no way", ""),
    ],
)
def test_a_bad_target_is_refused_with_a_reason(text: str, message: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_target(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_password_is_not_repeated_in_the_message() -> None:
    with pytest.raises(Refused) as caught:
        parse_target("rsync://u:secret@host/mod")
    assert "secret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(("text", "path"), [("/a", "/a"), ("//a///b/", "/a/b"), ("/a/./b", "/a/b")])
def test_a_local_path_loses_what_means_nothing(text: str, path: str) -> None:
    assert local_path(text) == path
