# SPDX-License-Identifier: GPL-2.0-or-later
"""lsyncd@NAME under a real systemd: from two lines of YAML to a true mirror, here and on other hosts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from system.machine import Machine
from system.mirror import Mirrors, Sync, entries_of
from system.user import User

BATCH_DONE = "938b3ee768844f6792c090e09b5ada5e"
FULL_SYNC_DONE = "b1223167f41940bea23ee0f0aa73d400"

# What shells, rsync's filters and lists, logs and terminals have misread.
ODD_NAMES = (
    b"with space",
    b"with\nnewline",
    b"invalid \xff\xfe UTF-8",
    b"-leading-dash",
    b"#hash",
    b";semicolon",
    b"]bracket",
    b"[a-z]*?",
    b"back\\slash",
    b"$(touch run)`touch run`",
    b"'single' and \"double\"",
    b"\x1b[31mred\x07",
    b" both ends ",
    b"n\xc3\xa4me",
    b"- rule",
    b"...",
)


def test_two_lines_of_yaml_make_a_running_mirror(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("home")
    (sync.source / "old").write_text("there before the start")
    unit = mirrors.configure("home", f"source: {sync.source_inside}\ntarget: {sync.target_inside}\n")

    machine.run("systemctl", "enable", "--now", unit)

    assert "Active: active (running)" in machine.run("systemctl", "status", unit).stdout
    sync.wait_until_equal()
    (sync.source / "new").write_text("made while it runs")
    sync.wait_until_equal()
    sync.wait_for_state("in-sync")
    machine.wait_until(
        lambda: machine.unit_property(unit, "StatusText").startswith("in-sync"),
        "systemctl status says in-sync",
        describe=lambda: machine.unit_property(unit, "StatusText"),
    )
    assert machine.run("lsyncd-sd", "status", "home").stdout.count("home")


def test_odd_names_arrive(mirrors: Mirrors) -> None:
    sync = mirrors.sync("odd")
    source = os.fsencode(sync.source)
    mirrors.start("odd", sync.settings())
    sync.wait_for_state("in-sync")

    for name in ODD_NAMES:
        Path(os.fsdecode(source + b"/" + name)).write_bytes(b"first")
        directory = source + b"/directory " + name
        os.mkdir(directory)
        Path(os.fsdecode(directory + b"/" + name)).write_bytes(b"inside")
    sync.wait_until_equal()
    assert len(os.listdir(sync.target)) == 2 * len(ODD_NAMES)

    for number, name in enumerate(ODD_NAMES):
        path = source + b"/" + name
        match number % 4:
            case 0:
                Path(os.fsdecode(path)).write_bytes(b"second, longer")
            case 1:
                os.chmod(path, 0o4711)  # noqa: S103
            case 2:
                os.rename(path, path + b" renamed")
            case _:
                os.unlink(path)
        os.rename(source + b"/directory " + name, source + b"/moved " + name)
    sync.wait_until_equal()

    for name in os.listdir(source):
        path = Path(os.fsdecode(source + b"/" + name))
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    (sync.source / "last").write_text("not empty")
    sync.wait_until_equal()


def test_directories_moved_in_and_out_arrive(mirrors: Mirrors) -> None:
    sync = mirrors.sync("moves")
    mirrors.start("moves", sync.settings())
    sync.wait_for_state("in-sync")
    outside = sync.source.parent / "outside"
    (outside / "deep" / "er").mkdir(parents=True)
    (outside / "deep" / "er" / "file").write_text("was never written below the source")

    os.rename(outside, sync.source / "in")
    sync.wait_until_equal()
    (sync.source / "in" / "deep" / "er" / "later").write_text("watched by now")
    sync.wait_until_equal()
    os.rename(sync.source / "in", outside)
    sync.wait_until_equal()
    (outside / "deep" / "er" / "afterwards").write_text("nobody's business")
    (sync.source / "marker").write_text("arrives after whatever came before")
    sync.wait_until_equal()


def test_sandbox_lets_every_kind_of_file_through(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("kinds")
    rsync = {"acls": True, "xattrs": True, "hard_links": True}
    mirrors.start("kinds", sync.settings(rsync=rsync))
    sync.wait_for_state("in-sync")

    machine.run("sh", "-euc", MAKE_EVERY_KIND, "make", sync.source_inside)

    sync.wait_until_equal("--acls", "--xattrs", "--hard-links")
    assert (sync.target / "setuid").stat().st_mode & 0o7777 == 0o6755
    assert (sync.target / "block").is_block_device()
    assert (sync.target / "owned").stat().st_uid == 1234


MAKE_EVERY_KIND = """
cd "$1"
echo 1 > setuid; chmod 6755 setuid
echo 2 > owned; chown 1234:5678 owned
echo 3 > secret; chown 1234:5678 secret; chmod 000 secret
echo 4 > capable; setcap cap_net_raw+ep capable
echo 5 > listed; setfacl -m u:1234:rw listed
echo 6 > attributed; setfattr -n user.colour -v green attributed
mkdir sticky; chmod 1777 sticky; setfacl -d -m g:5678:rx sticky
mknod block b 7 200
mknod character c 1 3
mkfifo fifo
ln setuid linked
ln -s /nowhere dangling
"""


@pytest.fixture
def login(machine: Machine) -> None:
    """Lets root log in to this very machine over ssh without a password."""
    machine.run("systemctl", "start", "ssh.service")
    machine.run("sh", "-euc", MAKE_LOGIN)


MAKE_LOGIN = """
mkdir -p -m 700 /root/.ssh
[ -e /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
ssh-keyscan -t ed25519 localhost > /root/.ssh/known_hosts 2> /dev/null
ssh -o BatchMode=yes localhost true
"""


RSYNCD_CONF = """
use chroot = no
uid = 0
gid = 0
[all]
path = /srv
read only = no
"""


@pytest.fixture
def module(machine: Machine, request: pytest.FixtureRequest) -> str:
    """Runs an rsync daemon whose module `all` is /srv; returns its URL."""
    machine.write("/etc/rsyncd.conf", RSYNCD_CONF)
    machine.run("systemctl", "restart", "rsync.service")
    request.addfinalizer(lambda: machine.run("systemctl", "stop", "rsync.service"))
    return "rsync://localhost/all"


def change_and_compare(sync: Sync) -> None:
    """Make one change of each kind, and wait for them."""
    (sync.source / "file").write_text("first")
    (sync.source / "directory").mkdir()
    (sync.source / "directory" / "a\nb").write_text("first")
    sync.wait_until_equal()
    (sync.source / "file").write_text("second")
    os.rename(sync.source / "directory", sync.source / "renamed")
    sync.wait_until_equal()
    shutil.rmtree(sync.source / "renamed")
    sync.wait_until_equal()


def test_other_host_over_ssh(login: None, mirrors: Mirrors) -> None:
    sync = mirrors.sync("ssh")
    mirrors.start("ssh", sync.settings(target=f"localhost:{sync.target_inside}"))
    change_and_compare(sync)
    sync.wait_for_state("in-sync")


def test_rsync_daemon(module: str, mirrors: Mirrors) -> None:
    sync = mirrors.sync("daemon")
    mirrors.start("daemon", sync.settings(target=f"{module}{sync.target_inside.removeprefix('/srv')}"))
    change_and_compare(sync)
    sync.wait_for_state("in-sync")


def test_journal_has_the_fields(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("fields")
    unit = mirrors.start("fields", sync.settings())
    sync.wait_for_state("in-sync")
    (sync.source / "file").write_text("0123456789")

    def sent() -> list[dict[str, Any]]:
        # One before it may have looked at the whole tree once more, to the nanosecond, and sent nothing.
        batches = entries_of(machine, sync, f"MESSAGE_ID={BATCH_DONE}")
        return [entry for entry in batches if entry["LSYNCD_FILES"] != "0"]

    entry = machine.wait_until(sent, "the batch is in the journal")[0]

    assert entry["LSYNCD_TARGET"] == sync.target_inside
    assert entry["SYSLOG_IDENTIFIER"] == "lsyncd-sd"
    assert entry["_SYSTEMD_UNIT"] == unit
    assert entry["LSYNCD_EXIT_STATUS"] == "0"
    assert int(entry["LSYNCD_FILES"]) >= 1
    assert int(entry["LSYNCD_BYTES"]) >= 10
    assert int(entry["LSYNCD_DURATION_USEC"]) > 0
    assert int(entry["LSYNCD_BATCH"]) >= 1
    assert any(entry.get("LSYNCD_STATE") == "in-sync" for entry in entries_of(machine, sync))
    # One line for a batch, however many files: not one for each.
    assert len(sent()) == 1


def test_journalctl_explains_entries_with_the_catalog(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("explained")
    unit = mirrors.start("explained", sync.settings())
    sync.wait_for_state("in-sync")

    shown = machine.run("journalctl", "-x", "--no-pager", "-u", unit, f"MESSAGE_ID={FULL_SYNC_DONE}").stdout

    assert "Defined-By: lsyncd-sd" in shown
    assert "Documentation: man:lsyncd-sd" in shown


def test_stop_is_clean_and_leaves_nothing(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("stopped")
    unit = mirrors.start("stopped", sync.settings())
    sync.wait_for_state("in-sync")

    machine.run("systemctl", "stop", unit)

    assert machine.unit_property(unit, "ActiveState") == "inactive"
    assert machine.unit_property(unit, "Result") == "success"
    assert machine.unit_property(unit, "ExecMainStatus") == "0"
    assert machine.run("pgrep", "--full", "lsyncd-sd run", check=False).stdout == ""
    assert machine.run("lsyncd-sd", "status", check=False).returncode == 3
    machine.run("test", "!", "-e", "/run/lsyncd-sd/i/stopped")


def test_changes_while_stopped_arrive_after_the_start(machine: Machine, mirrors: Mirrors) -> None:
    sync = mirrors.sync("resumed")
    unit = mirrors.start("resumed", sync.settings())
    (sync.source / "kept").write_text("kept")
    (sync.source / "gone").write_text("gone")
    sync.wait_until_equal()
    machine.run("systemctl", "stop", unit)
    (sync.source / "gone").unlink()
    (sync.source / "made").write_text("while nobody watched")

    machine.run("systemctl", "start", unit)

    sync.wait_until_equal()


def test_users_own_instance(machine: Machine, mirrors: Mirrors, user: User) -> None:
    sync = mirrors.sync("users")
    user.start(sync)

    user.run("sh", "-c", f"echo mine > {sync.source_inside}/file")

    sync.wait_until_equal()
    assert sync.source_inside not in machine.run("lsyncd-sd", "status", check=False).stdout
    assert sync.target_inside in user.run("lsyncd-sd", "status", "users").stdout
    user.run("systemctl", "--user", "reload", "lsyncd@users")
