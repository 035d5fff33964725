# SPDX-License-Identifier: GPL-2.0-or-later
"""The keys of `rsync:`, each with a mirror that uses it: a full sync, batches, and it converges."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers.comparing import age, assert_mirrored
from helpers.daemon import UNLIMITED, Daemon, settings, text_of
from helpers.servers import ADDRESS, RsyncDaemon, Sshd
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon, needs_root

from lsyncd_sd.config.reader import read_text
from lsyncd_sd.config.settings import Scope, settings_of

pytestmark = pytest.mark.live


@dataclass(frozen=True)
class Case:
    """One section `rsync:`, other settings beside it, and how the sync is to end up.

    `is_gentle`: no directory goes or becomes a file. `ignored`: what comparing must do without.
    """

    rsync: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)
    is_gentle: bool = False
    ignored: tuple[str, ...] = ()


CASES: dict[str, Case] = {
    "archive": Case({"archive": False}),
    "links": Case({"links": False}),
    "perms": Case({"perms": False}),
    "times": Case({"times": False}, ignored=("times are not copied",)),
    "group": Case({"group": False}),
    "owner": Case({"owner": False}),
    "devices": Case({"devices": False}),
    "specials": Case({"specials": False}),
    "acls": Case({"acls": True}),
    "xattrs": Case({"xattrs": True}),
    "hard_links": Case({"hard_links": True}),
    "checksum": Case({"checksum": True}),
    "ignore_times": Case({"ignore_times": True}, ignored=("-I",)),
    "update": Case({"update": True}),
    "existing": Case({"existing": True}),
    "compress": Case({"compress": True}),
    "executability": Case({"perms": False, "executability": True}),
    "ipv4": Case({"ipv4": True}),
    "ipv6": Case({"ipv6": True}),
    "one_file_system": Case({"one_file_system": True}),
    "omit_dir_times": Case({"omit_dir_times": True}),
    "omit_link_times": Case({"omit_link_times": True}),
    "sparse": Case({"sparse": True}),
    "whole_file": Case({"whole_file": False}),
    "inplace": Case({"inplace": True}),
    "append": Case({"append": True}),
    "append_verify": Case({"append_verify": True}),
    "numeric_ids": Case({"numeric_ids": True}),
    "copy_links": Case({"copy_links": True}),
    "copy_unsafe_links": Case({"copy_unsafe_links": True}),
    "copy_dirlinks": Case({"copy_dirlinks": True}),
    "keep_dirlinks": Case({"keep_dirlinks": True}),
    "backup": Case({"backup": True}, is_gentle=True),
    "backup_dir": Case({"backup_dir": ".old"}),
    "suffix": Case({"backup": True, "suffix": ".bak"}, is_gentle=True),
    "temp_dir": Case({"temp_dir": ".incoming"}),
    "partial_dir": Case({"partial_dir": ".part"}),
    "delete_excluded": Case({"delete_excluded": True}, {"exclude": ["*.o", "cache/"]}),
    "bwlimit": Case({"bwlimit": "50M"}),
    "chmod": Case({"chmod": "D755,F640"}),
    "chown": Case({"chown": "65534:65534"}),
    "usermap": Case({"usermap": "0:65534"}),
    "groupmap": Case({"groupmap": "0:65534"}),
    "protect_args": Case({"protect_args": False}),
    "rsync_path": Case({"rsync_path": "rsync"}),
    "quiet": Case({"quiet": True}),
    "verbose": Case({"verbose": True}),
}

# keys that need a test, or a target, of their own
ELSEWHERE = {"binary", "dry_run", "extra", "password_file", "rsh"}

# what the other side has a part in
REMOTE = (
    "archive", "hard_links", "backup_dir", "temp_dir", "partial_dir", "delete_excluded", "protect_args",
    "rsync_path",
)  # fmt: skip


def test_every_key_has_its_case() -> None:
    assert set(CASES) | ELSEWHERE == set(settings_of(Scope.RSYNC))


class Mirror:
    """One case with its trees."""

    def __init__(self, name: str, folder: Path, target: Path, address: str, **more: Any) -> None:
        case = CASES[name]
        self.name, self.is_gentle, self.ignored = name, case.is_gentle, case.ignored
        self.folder, self.source, self.target = folder, folder / "source", target
        self.settings = settings(
            self.source, address, name=name, rsync={"binary": "rsync"} | case.rsync, **{**more, **case.more}
        )
        (self.sync,) = read_text(text_of(self.settings), "x.yaml")[0].syncs
        self.source.mkdir(parents=True)

    def begin(self) -> None:
        """Make the trees as they are when the daemon starts."""
        self._write(self.folder / "outside/deep/file", "outside")
        for name in ("same", "grows", "gone", "f2d", "tree/a/file", "tree/b", "d2f/file", "kept/x.o"):
            self._write(self.source / name, "first")
        (self.source / "link").symlink_to("same")
        (self.source / "link out").symlink_to("../outside")
        os.mkfifo(self.source / "fifo")
        os.link(self.source / "same", self.source / "tree/linked")
        age(self.source)
        if self.name == "existing":
            # it would have nothing to send
            subprocess.run(["rsync", "-r", f"{self.source}/", f"{self.target}/"], check=True)
        if self.name == "temp_dir":
            (self.target / ".incoming").mkdir(parents=True)

    def change(self) -> None:
        """Do what makes runs of every shape."""
        for name in ("grows", "new", "dir/new", "dir/deep/new", "cache/x"):
            self._write(self.source / name, "second and longer")
        (self.source / "same").write_text("secnd")
        (self.source / "gone").unlink()
        (self.source / "kept").chmod(0o700)
        (self.source / "kept/x.o").rename(self.source / "kept/y")
        (self.source / "new link").symlink_to("../outside")
        (self.source / "link").unlink()
        if not self.is_gentle:
            (self.source / "f2d").unlink()
            self._write(self.source / "f2d/file", "second")
            for name in ("tree", "d2f"):
                shutil.rmtree(self.source / name)
            self._write(self.source / "d2f", "second")

    def _write(self, path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def differences(self) -> list[str]:
        """Return what rsync, with the sync's own options and filters, would still do: promise 1."""
        if not self.target.exists():
            return ["there is no target"]
        flags = [flag for flag in self.sync.rsync.flags if flag not in self.ignored]
        shape = ("-r", "-n", "-i", "--checksum", "--delete")
        arguments = ["rsync", *flags, *self.sync.make_filter().rsync_arguments(), *shape]
        arguments += ["--", f"{self.source}/", f"{self.target}/"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if not _says_nothing(line)]
        if "times are not copied" in self.ignored:
            lines = [line for line in lines if line[2:11] not in ("..T......", ".........")]
        return lines

    def wait(self, daemon: Daemon) -> None:
        """Wait until nothing is pending and nothing differs."""

        def is_done() -> bool:
            status = daemon.status(self.name)
            return status.get("state") == "in-sync" and not status["pending"] and not self.differences()

        wait_until(
            is_done,
            f"{self.name} is mirrored",
            describe=lambda: f"{self.differences()}\n{daemon.status(self.name)}\n{daemon.log()}",
        )


def _says_nothing(line: str) -> bool:
    return not line or line.startswith(("skipping non-regular file", "copying unsafe symlink"))


def check(mirrors: list[Mirror], daemons: Any) -> None:
    """Start a daemon for all of them, change all, wait until each has converged, and compare all again."""
    for mirror in mirrors:
        mirror.begin()
    daemon = daemons()
    daemon.write("home", text_of(*(mirror.settings for mirror in mirrors)))
    daemon.start("home")
    for mirror in mirrors:
        mirror.wait(daemon)
    for mirror in mirrors:
        mirror.change()
    for mirror in mirrors:
        mirror.wait(daemon)
    check_what_rsync_keeps(mirrors)
    for mirror in mirrors:
        daemon.call("Sync", name=mirror.name, full=True)
    for mirror in mirrors:
        daemon.call("Sync", name=mirror.name, wait=True)
        assert mirror.differences() == [], mirror.name
    check_what_rsync_keeps(mirrors)


def check_what_rsync_keeps(mirrors: list[Mirror]) -> None:
    """See that folders of rsync's own were used, and are there still."""
    by_name = {mirror.name: mirror.target for mirror in mirrors}
    backups = {"backup": "{}~", "suffix": "{}.bak", "backup_dir": ".old/{}"}
    for name, pattern in backups.items():
        if name in by_name:
            assert (by_name[name] / pattern.format("gone")).read_text() == "first"
            assert (by_name[name] / pattern.format("same")).read_text() == "first"
    if "backup_dir" in by_name:
        assert (by_name["backup_dir"] / ".old/tree/a/file").read_text() == "first"
    if "temp_dir" in by_name:
        assert os.listdir(by_name["temp_dir"] / ".incoming") == []


def test_local_targets(folder: Path, daemons: Any) -> None:
    needs_root()
    check(
        [
            Mirror(name, folder / name, folder / name / "target", f"{folder / name / 'target'}")
            for name in CASES
        ],
        daemons,
    )


def test_targets_over_ssh(folder: Path, daemons: Any, running_sshd: Sshd) -> None:
    mirrors = [
        Mirror(
            name,
            folder / name,
            folder / name / "target",
            f"{ADDRESS}:{folder / name / 'target'}",
            ssh=running_sshd.section(),
        )
        for name in REMOTE
    ]
    check(mirrors, daemons)


def test_targets_in_a_module(folder: Path, daemons: Any, rsyncd: RsyncDaemon) -> None:
    kinds = ("archive", "backup_dir", "temp_dir", "partial_dir", "delete_excluded")
    mirrors = [
        Mirror(name, folder / name, rsyncd.module / name, f"rsync://{ADDRESS}:{rsyncd.port}/mirror/{name}")
        for name in kinds
    ]
    check(mirrors, daemons)


# ---- keys with a test of their own


def test_another_command_in_place_of_ssh(
    daemon: StartDaemon, local: Pair, running_sshd: Sshd, folder: Path
) -> None:
    section = running_sshd.section()
    words = [f"-o{name}={value}" for name, value in section["options"].items()]
    command = f"ssh -p {section['port']} -i {section['identity_file']} {' '.join(words)}"
    (local.source / "file").write_text("first")
    started = daemon(
        settings(local.source, f"{ADDRESS}:{local.target}", name="home", rsync={"rsh": command})
    )
    started.wait_until_mirrored("home", local.source, local.target)
    (local.source / "file").write_text("second")
    started.wait_until_mirrored("home", local.source, local.target)


def test_a_dry_run_changes_nothing_and_says_so(daemon: StartDaemon, local: Pair) -> None:
    local.target.mkdir()
    (local.target / "kept").write_text("kept")
    (local.source / "file").write_text("first")
    started = daemon(local.settings(rsync={"dry_run": True}))
    status = started.wait_for_state("home", "degraded")
    assert "nothing is changed on the target" in status["reason"]
    (local.source / "new").write_text("second")
    wait_until(lambda: "dry run of batch 2" in started.log(), "the batch was played", describe=started.log)
    assert "dry run of batch 1 (full sync): 1 files sent (5 bytes), 1 deleted" in started.log()
    assert os.listdir(local.target) == ["kept"]
    assert started.status("home")["state"] == "degraded"
    # in earnest it begins anew
    started.write("home", text_of(local.settings(brake=UNLIMITED)))
    assert started.command("reload").returncode == 0
    started.wait_until_mirrored("home", local.source, local.target)


def test_a_module_with_a_password(daemon: StartDaemon, local: Pair, rsyncd: RsyncDaemon) -> None:
    (local.source / "file").write_text("first")
    address = f"rsync://mirror@{ADDRESS}:{rsyncd.port}/locked/tree"
    rsync = {"password_file": str(rsyncd.secret)}
    started = daemon(settings(local.source, address, name="home", rsync=rsync))
    started.wait_until_mirrored("home", local.source, rsyncd.module / "tree")
    (local.source / "file").write_text("second")
    started.wait_until_mirrored("home", local.source, rsyncd.module / "tree")
    # read anew for each run: it may be changed, and be in order again
    rsyncd.secret.chmod(0o644)
    (local.source / "file").write_text("third")
    status = started.wait_for_state("home", "failing")
    assert "others than its owner" in status["reason"]
    rsyncd.secret.chmod(0o600)
    assert_mirrored(local.source, rsyncd.module / "tree", describe=started.log)


def test_what_is_mounted_below_the_source_is_left_out(daemon: StartDaemon, local: Pair) -> None:
    needs_root()
    mount = local.source / "directory" / "mount"
    mount.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "lsyncd-sd-test", mount], check=True)
    try:
        # the only file, and so what would show whether the target keeps nanoseconds
        _fill(mount / "sub" / "file")
        started = daemon(local.settings(rsync={"one_file_system": True}))
        started.wait_for_state("home", "in-sync")
        assert names(local.target) == {"directory", "directory/mount"}
        _fill(mount / "sub" / "later")
        _fill(local.source / "directory" / "later")
        started.call("Sync", name="home", wait=True)
        started.call("Sync", name="home", full=True, wait=True)
        assert names(local.target) == {"directory", "directory/mount", "directory/later"}
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


# ---- what is deleted, and when

MODES: dict[str, bool | str] = {"always": True, "never": False, "startup": "startup", "running": "running"}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_when_what_is_gone_is_deleted(pair: Pair, folder: Path, daemons: Any) -> None:
    """Each mode: in the first full sync, while running, in the full sync after a restart."""
    daemon: Daemon = daemons()
    sources = {mode: folder / f"source {mode}" for mode in MODES}
    targets = {mode: pair.target.with_name(f"{pair.target.name}-{mode}") for mode in MODES}
    syncs = []
    for mode, delete in MODES.items():
        for name in ("kept/a", "gone", "tree/b", "stopped"):
            _fill(sources[mode] / name)
        _fill(targets[mode] / "kept/foreign")
        address = pair.address.replace(pair.target.name, targets[mode].name)
        more = {**pair.more, "name": mode, "delete": delete, "brake": UNLIMITED}
        syncs.append(settings(sources[mode], address, **more))
    daemon.write("home", text_of(*syncs))

    def expect(here: set[str], **more: set[str]) -> None:
        for mode in MODES:
            daemon.wait_for(
                mode,
                lambda status: status.get("state") == "in-sync" and status["pending"] == 0,
                f"{mode} is in sync",
            )
            expected = here | more.get(mode, set())
            assert names(targets[mode]) == expected, mode

    daemon.start("home")
    all_there = {"kept", "kept/a", "gone", "tree", "tree/b", "stopped"}
    foreign = {"kept/foreign"}
    expect(all_there, never=foreign, running=foreign)

    for source in sources.values():
        (source / "gone").unlink()
        shutil.rmtree(source / "tree")
        _fill(source / "new")
    gone = {"gone", "tree", "tree/b"}
    wait_until(lambda: all((target / "new").exists() for target in targets.values()), "what is new arrives")
    left = {"kept", "kept/a", "stopped", "new"}
    expect(left, never=foreign | gone, running=foreign, startup=gone)

    # whatever the service does at a start: all is compared
    assert daemon.stop() == 0
    for source in sources.values():
        (source / "stopped").unlink()
        _fill(source / "newer")
    daemon.start("home")
    for mode in MODES:
        daemon.call("Sync", name=mode, full=True, wait=True)
    left = {"kept", "kept/a", "new", "newer"}
    expect(left, never=foreign | gone | {"stopped"}, running=foreign | {"stopped"})


def _fill(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("content")
    os.utime(path, ns=(1, 10**18 + 5))


# ---- a peer that says nothing


def test_a_peer_that_says_nothing_is_given_up_and_tried_again(
    daemon: StartDaemon, local: Pair, running_sshd: Sshd, folder: Path
) -> None:
    section = running_sshd.section()
    words = [f"-o{name}={value}" for name, value in section["options"].items()]
    ssh = folder / "ssh"
    ssh.write_text(
        f"#!/bin/sh\n[ -e {folder}/hang ] && exec sleep 1000\n"
        f'exec ssh -p {section["port"]} -i {section["identity_file"]} {" ".join(words)} "$@"\n'
    )
    ssh.chmod(0o755)
    (folder / "hang").touch()
    (local.source / "file").write_text("first")
    started = daemon(
        settings(local.source, f"{ADDRESS}:{local.target}", name="home", rsync={"rsh": str(ssh)}, timeout=5)
    )
    status = started.wait_for_state("home", "unreachable")
    assert "timeout" in status["reason"]
    (folder / "hang").unlink()
    started.wait_until_mirrored("home", local.source, local.target)


def test_a_daemon_that_says_nothing_is_given_up(daemon: StartDaemon, local: Pair) -> None:
    (local.source / "file").write_text("first")
    with socket.create_server((ADDRESS, 0)) as listener:
        address = f"rsync://{ADDRESS}:{listener.getsockname()[1]}/module/tree"
        started = daemon(settings(local.source, address, name="home", timeout=1))
        status = started.wait_for_state("home", "unreachable")
        assert "timeout" in status["reason"]
