# SPDX-License-Identifier: GPL-2.0-or-later
"""What killed Lsyncd, or what it killed: one test for each report, named by its number at lsyncd/lsyncd."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.comparing import age
from helpers.daemon import Daemon, settings, text_of
from helpers.fakersync import FakeRsync
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live

# Enough for rsync to be at it when the test changes something.
BIG = os.urandom(2_000_000)
SLOW = {"bwlimit": 1500, "whole_file": True}


def fill(directory: Path, files: int = 3) -> None:
    """Make a directory with some files."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        (directory / f"file{number}").write_text(f"{directory.name} {number}")


def mirrored(pair: Pair, daemon: StartDaemon, **more: object) -> Daemon:
    """Start a daemon on what the source holds by now, and wait for the first full sync."""
    (pair.source / "sample").write_text("shows that the target keeps nanoseconds")
    running = daemon(pair.settings(**more))
    running.wait_until_mirrored("home", pair.source, pair.target)
    return running


def inodes(directory: Path) -> dict[str, int]:
    """Return the inode number of every file in a directory: another one means that it was sent again."""
    return {path.name: path.stat().st_ino for path in directory.iterdir()}


def test_290_directory_replaced_by_a_symlink(some_pair: Pair, daemon: StartDaemon) -> None:
    """`cp -r one two; rm -r two/one; ln -s ../one two/one`: Lsyncd deleted the files of `one` on the target.

    Its deletion list named two/one/file, which rsync reached through the new symlink.
    """
    fill(some_pair.source / "one")
    (some_pair.source / "two").mkdir()
    running = mirrored(some_pair, daemon)
    before = inodes(some_pair.target / "one")
    place = some_pair.source / "two" / "one"
    shutil.copytree(some_pair.source / "one", place)
    shutil.rmtree(place)
    place.symlink_to("../one")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)

    # and as a directory that the target has by then
    place.unlink()
    shutil.copytree(some_pair.source / "one", place)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    shutil.rmtree(place)
    place.symlink_to("../one")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert (some_pair.target / "two" / "one").is_symlink()
    assert inodes(some_pair.target / "one") == before


def test_131_renames_in_a_chain(local: Pair, daemon: StartDaemon) -> None:
    """`mv foo bar; mv bar baz` within one delay: Lsyncd deleted names that the target never had.

    It made three events of the two moves, and the order in which they ran decided about the result.
    """
    for name in ("foo", "first", "second", "third"):
        fill(local.source / name)
    running = mirrored(local, daemon)
    (local.source / "foo").rename(local.source / "bar")
    (local.source / "bar" / "file0").write_text("written between the moves")
    (local.source / "bar").rename(local.source / "baz")
    # in a circle, by way of a name that does not last
    (local.source / "first").rename(local.source / "aside")
    (local.source / "second").rename(local.source / "first")
    (local.source / "third").rename(local.source / "second")
    (local.source / "aside").rename(local.source / "third")
    # and back to the first name
    (local.source / "sample").rename(local.source / "other")
    (local.source / "other").rename(local.source / "sample")
    running.wait_until_mirrored("home", local.source, local.target)
    assert {path.name for path in local.target.iterdir()} == {"baz", "first", "second", "third", "sample"}
    assert running.status("home")["failures"] == 0


def test_422_deleted_directory_with_content(some_pair: Pair, daemon: StartDaemon) -> None:
    """`rm -r some/directory`: Lsyncd listed the directory and its files, rsync ended with 2, Lsyncd died."""
    fill(some_pair.source / "some" / "directory" / "inner")
    fill(some_pair.source / "some" / "directory")
    running = mirrored(some_pair, daemon)
    child = running.child("home")
    shutil.rmtree(some_pair.source / "some" / "directory")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert list((some_pair.target / "some").iterdir()) == []
    assert running.child("home") == child
    assert running.status("home")["failures"] == 0


def test_348_names_that_inject(pair: Pair, daemon: StartDaemon, tmp_path: Path) -> None:
    """`touch ' '; mv ' ' x` made Lsyncd run `rm -rf` on the whole target; `' -t tmp'` moved it to /tmp."""
    marker = tmp_path / "pwned"
    running = mirrored(pair, daemon)
    names = [
        (" ", "sthelse"),
        (" -t tmp", " sthelse"),
        ("--delete", "--rsync-path=touch pwned"),
        ("-e touch pwned", "*"),
        ("; rm -rf .", "|| rm -rf ."),
        ("'; rm -rf . '", '"; rm -rf . "'),
        ("\n", "\\"),
    ]
    for old, _new in names:
        (pair.source / old).write_text(old)
    running.wait_until_mirrored("home", pair.source, pair.target)
    for old, new in names:
        (pair.source / old).rename(pair.source / new)
    # As a path, this is a command for a shell that names a file outside.
    for text in (f"$(touch {marker})", f"`touch {marker}`", f";touch {marker};"):
        place = pair.source / text
        place.mkdir(parents=True)
        (place / "file").write_text(text)
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert (pair.target / "sample").exists()
    for text in ("$(touch ", "`touch ", ";touch "):
        shutil.rmtree(pair.source / text)
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert not marker.exists()


def test_386_closing_bracket_in_a_name(some_pair: Pair, daemon: StartDaemon) -> None:
    r"""`~~7F]x` was never sent: Lsyncd wrote `\]` into its list, which rsync took for another name."""
    names = ["~~7F]`B@M_EO73_@%KJA8VN.jpg", "a]b", "[a]b", "]", "a[b", "\\]"]
    running = mirrored(some_pair, daemon)
    for name in names:
        (some_pair.source / name).write_text("first")
        fill(some_pair.source / f"directory {name}")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    for name in names:
        (some_pair.source / name).write_text("second")
        (some_pair.source / f"directory {name}" / "file0").unlink()
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    for name in names:
        (some_pair.source / name).unlink()
        shutil.rmtree(some_pair.source / f"directory {name}")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert running.status("home")["failures"] == 0


def test_475_exit_status_23_is_not_forgotten(local: Pair, daemon: StartDaemon, folder: Path) -> None:
    """rsync ended with 23, a part was not sent: Lsyncd took that for done and never tried again."""
    fake = FakeRsync(folder / "fake")
    running = mirrored(local, daemon, rsync={"binary": str(fake.path)})
    fake.become(23, 'rsync: [generator] mkstemp "file" failed: Permission denied (13)')
    (local.source / "file").write_text("file")
    status = running.wait_for_state("home", "failing")
    assert status["pending"] > 0
    fake.become("pass")
    # nothing happens on the source any more
    running.wait_until_mirrored("home", local.source, local.target)


def test_695_delete_a_hundred_thousand_files(local: Pair, daemon: StartDaemon, full: bool) -> None:
    """Lsyncd compared each event with all that were queued; after 100,000 deletions it hung for hours."""
    directories, files = (100, 1000) if full else (10, 500)
    for number in range(directories):
        fill(local.source / f"directory{number}", files)
    running = mirrored(local, daemon, brake={"max_deletes": "100%"})
    for number in range(directories):
        for path in (local.source / f"directory{number}").iterdir():
            path.unlink()
    (local.source / "after").write_text("made when all were gone")
    running.wait_until_mirrored("home", local.source, local.target)
    assert list((local.target / "directory0").iterdir()) == []


def test_725_transfers_that_end_in_another_order(folder: Path, daemon: StartDaemon) -> None:
    """With several processes, one of which ended with 5: `Queue is broken, delay not at dpos`.

    A list that failed went back to its place in the queue, which meanwhile was another's.
    """
    fakes, pairs = [], []
    for number in range(4):
        place = folder / f"sync{number}"
        fill(place / "source")
        fakes.append(FakeRsync(place / "fake"))
        pairs.append(Pair(place / "source", place / "target", str(place / "target")))
    running = daemon(
        *(
            settings(pair.source, pair.target, name=f"sync{number}", rsync={"binary": str(fake.path)})
            for number, (pair, fake) in enumerate(zip(pairs, fakes, strict=True))
        )
    )
    for number, pair in enumerate(pairs):
        running.wait_until_mirrored(f"sync{number}", pair.source, pair.target)
    for fake, pair in zip(fakes, pairs, strict=True):
        fake.become("gate")
        (pair.source / "file0").write_text("in flight")
        (pair.source / "file1").rename(pair.source / "renamed")
    for fake in fakes:
        fake.wait_until_gated()
    for pair in pairs:
        (pair.source / "file0").write_text("written while the other is in flight")
        (pair.source / "renamed").rename(pair.source / "file1")
        (pair.source / "file2").unlink()
    for fake, verdict in zip(reversed(fakes), ("pass", 5, "pass", 5), strict=True):
        fake.let_go(verdict)
    for fake in fakes:
        fake.become("pass")
    for number, pair in enumerate(pairs):
        running.wait_until_mirrored(f"sync{number}", pair.source, pair.target)
        assert running.status(f"sync{number}")["restarts"] == 0


def test_161_made_while_the_first_sync_runs(local: Pair, daemon: StartDaemon) -> None:
    """The first rsync may run for hours: will Lsyncd see what is made meanwhile? It was not sure to."""
    fill(local.source / "directory")
    (local.source / "last").mkdir()
    (local.source / "last" / "big").write_bytes(BIG)
    running = daemon(local.settings(rsync=SLOW))
    wait_until((local.target / "directory" / "file2").exists, "it is at it", describe=running.log)
    fill(local.source / "new" / "below")
    (local.source / "directory" / "file0").write_text("changed")
    (local.source / "directory" / "file1").unlink()
    assert not (local.target / "last" / "big").exists()
    running.wait_until_mirrored("home", local.source, local.target)
    (local.source / "new" / "below" / "file0").write_text("its directory is watched")
    running.wait_until_mirrored("home", local.source, local.target)


def test_161_new_directories_that_are_filled_at_once(local: Pair, daemon: StartDaemon, full: bool) -> None:
    """`mkdir -p a/b/c; touch a/b/c/x`: what is made before the directory is watched, Lsyncd could miss."""
    running = mirrored(local, daemon)
    for number in range(2000 if full else 200):
        place = local.source / f"{number % 10}" / f"{number}" / "b" / "c" / "d"
        place.mkdir(parents=True)
        (place / "file").write_text(f"{number}")
        (place.parent / "file").write_text(f"{number}")
        if number % 3 == 0:
            place.parent.rename(place.parent.with_name("renamed"))
    running.wait_until_mirrored("home", local.source, local.target)
    for path in sorted(local.source.rglob("d")):
        (path / "late").write_text("every one is watched")
    running.wait_until_mirrored("home", local.source, local.target)


def test_327_changed_again_in_the_same_second(local: Pair, daemon: StartDaemon) -> None:
    """Written twice in a second, with the same size: the rsync of Lsyncd's second event saw no difference.

    First while the startup sync is at it, then while the daemon only watches.
    """
    second = 1_700_000_000_000_000_000

    def write(content: str, nanoseconds: int) -> None:
        (local.source / "file").write_text(content)
        os.utime(local.source / "file", ns=(0, second + nanoseconds))

    write("first.", 100)
    (local.source / "last").write_bytes(BIG)
    running = daemon(local.settings(rsync=SLOW))
    wait_until((local.target / "file").exists, "it is at it", describe=running.log)
    write("second", 200)
    assert not (local.target / "last").exists()
    running.wait_until_mirrored("home", local.source, local.target)
    for number in range(5):
        write(f"{number:06}", 300 + number)
        running.wait_until_mirrored("home", local.source, local.target)
        assert (local.target / "file").read_text() == f"{number:06}"


def test_406_excluded_directories_are_not_watched(local: Pair, daemon: StartDaemon) -> None:
    """Does Lsyncd watch what is excluded? Thousands of writes a second there should cost nothing."""
    fill(local.source / "mysql" / "data")
    fill(local.source / "wanted")
    running = daemon(local.settings(exclude=["/mysql/data", "*.tmp/"]))
    running.wait_for_state("home", "in-sync")
    # the root, mysql and wanted
    assert running.status("home")["directories"] == 3
    batches = running.status("home")["batches"]
    (local.source / "mysql" / "data" / "new").mkdir()
    for number in range(2000):
        (local.source / "mysql" / "data" / f"file{number % 7}").write_text(f"{number}")
    (local.source / "wanted" / "file0").write_text("changed")
    running.wait_for("home", lambda status: status["batches"] > batches, "the one change is sent")
    status = running.wait_for_state("home", "in-sync")
    assert status["batches"] == batches + 1
    (local.source / "a.tmp").mkdir()
    fill(local.source / "a.tmp" / "below")
    (local.source / "wanted" / "file1").write_text("changed")
    running.wait_for("home", lambda status: status["batches"] > batches + 1, "the next change is sent")
    assert running.wait_for_state("home", "in-sync")["directories"] == 3
    assert {path.name for path in local.target.iterdir()} == {"mysql", "wanted"}
    assert list((local.target / "mysql").iterdir()) == []


@pytest.mark.parametrize("target", [".", "some/where", "..", "/", "{source}", "{source}/in", "{source}/.."])
def test_668_dangerous_targets(
    local: Pair, daemons: Callable[..., Daemon], tmp_path: Path, target: str
) -> None:
    """`lsyncd -rsync SOURCE .` became a daemon, went to `/`, and deleted what the home directory held."""
    fill(local.source)
    fill(tmp_path / "home")
    refused = daemons()
    refused.write("home", text_of(settings(local.source, target.format(source=local.source))))
    checked = refused.command("check", "home")
    assert checked.returncode == 2
    assert "target" in checked.stderr + checked.stdout
    refused.start("home", wait=False)
    assert refused.wait_for_end() == 2
    assert {path.name for path in local.source.parent.iterdir()} == {"source"}
    assert len(list((tmp_path / "home").iterdir())) == 3


def test_668_the_home_directory_as_target(some_pair: Pair, daemon: StartDaemon) -> None:
    """Whatever way it is named: what the target held before is not deleted unasked."""
    fill(some_pair.source)
    fill(some_pair.target / "letters", 150)
    before = inodes(some_pair.target / "letters")
    running = daemon(some_pair.settings())
    assert "would delete 151 entries" in running.wait_for_state("home", "held")["reason"]
    assert inodes(some_pair.target / "letters") == before
    assert running.command("status").returncode == 1


def test_407_a_full_sync_does_not_remove_what_only_the_target_holds(
    some_pair: Pair, daemon: StartDaemon
) -> None:
    """Whatever was added to the target while both were down, Lsyncd removed when it was started."""
    fill(some_pair.source)
    running = mirrored(some_pair, daemon)
    running.stop()
    fill(some_pair.target / "theirs", 150)
    running.start("home")
    running.wait_for_state("home", "in-sync", "held")
    assert running.command("sync", "home", "--full").returncode == 0
    running.wait_for_state("home", "held")
    assert len(inodes(some_pair.target / "theirs")) == 150


def test_407_files_of_the_target_after_a_restart(some_pair: Pair, daemon: StartDaemon) -> None:
    """With `delete: running`, Lsyncd's startup sync removed all the same what only the target held."""
    fill(some_pair.source / "directory")
    running = daemon(some_pair.settings(delete="running"))
    running.wait_for_state("home", "in-sync")
    running.stop()
    (some_pair.target / "directory" / "theirs").write_text("the only copy")
    (some_pair.source / "directory" / "file0").unlink()
    (some_pair.source / "directory" / "new").write_text("new")
    running.start("home")
    running.wait_for_state("home", "in-sync")
    assert (some_pair.target / "directory" / "new").exists()
    (some_pair.source / "directory" / "file1").unlink()
    (some_pair.source / "directory" / "last").write_text("last")
    running.wait_for("home", lambda status: status["batches"] > 1, "the batch is sent")
    running.wait_for_state("home", "in-sync")
    names = {path.name for path in (some_pair.target / "directory").iterdir()}
    assert {"theirs", "new", "last", "file2"} <= names
    assert "file1" not in names


def test_531_one_missing_source(folder: Path, daemon: StartDaemon) -> None:
    """One disk was not plugged in: Lsyncd did not start, and mirrored none of the others either."""
    missing, present = (
        Pair(folder / name / "source", folder / name / "target", str(folder / name / "target"))
        for name in ("missing", "present")
    )
    fill(present.source)
    missing.source.parent.mkdir()
    running = daemon(
        settings(missing.source, missing.target, name="missing"),
        settings(present.source, present.target, name="present"),
    )
    running.wait_for_state("missing", "source-missing")
    running.wait_until_mirrored("present", present.source, present.target)
    fill(missing.source.parent / "aside")
    age(missing.source.parent / "aside")
    (missing.source.parent / "aside").rename(missing.source)
    running.wait_until_mirrored("missing", missing.source, missing.target)
    assert running.status("present")["restarts"] == 0
