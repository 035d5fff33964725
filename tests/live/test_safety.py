# SPDX-License-Identifier: GPL-2.0-or-later
"""Accidents that look like mass deletions, paths that lead outside: nothing is deleted, nothing gets in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.comparing import age, tree
from helpers.daemon import Daemon, text_of
from helpers.servers import ADDRESS, RsyncDaemon
from helpers.waiting import wait_until
from live.conftest import Pair, StartDaemon

pytestmark = pytest.mark.live


def fill(directory: Path) -> None:
    """Make a tree of some files."""
    (directory / "below" / "deep").mkdir(parents=True)
    for place in (directory, directory / "below", directory / "below" / "deep"):
        for number in range(3):
            (place / f"file{number}").write_text(f"{place.name} {number}")


def mirrored(pair: Pair, daemon: StartDaemon) -> Daemon:
    """Start a daemon on a source with files, and wait for the first full sync."""
    fill(pair.source)
    running = daemon(pair.settings())
    running.wait_until_mirrored("home", pair.source, pair.target)
    return running


def empty(directory: Path) -> None:
    """Remove everything in a directory."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def wait_until_held(running: Daemon) -> None:
    """Wait for the state, and for the whole of its reason: it says what to type."""
    status = running.wait_for_state("home", "held")
    assert status["reason"].endswith("lsyncd-sd accept home")
    assert running.command("status").returncode == 1


def test_emptied_source_is_held_until_accepted(pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(pair, daemon)
    before = tree(pair.target)
    running.stop()
    empty(pair.source)

    running.start("home")
    wait_until_held(running)
    (pair.source / "while held").write_text("not sent before somebody has looked")
    (pair.source / "while held").unlink()
    # a restart is not a decision
    assert running.command("restart", "home").returncode == 0
    wait_until_held(running)
    assert tree(pair.target) == before

    accepted = running.command("accept", "home")
    assert (accepted.returncode, accepted.stderr) == (0, "")
    running.wait_until_mirrored("home", pair.source, pair.target)
    assert list(pair.target.iterdir()) == []
    again = running.command("accept", "home")
    assert again.returncode == 1
    assert "not held" in again.stderr


def test_held_source_that_is_filled_again_needs_no_decision(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon)
    running.stop()
    local.source.rename(local.source.parent / "kept")
    local.source.mkdir()
    running.start("home")
    wait_until_held(running)
    local.source.rmdir()
    (local.source.parent / "kept").rename(local.source)
    running.wait_until_mirrored("home", local.source, local.target)


def test_replaced_source_is_held_until_accepted(some_pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(some_pair, daemon)
    before = tree(some_pair.target)
    running.stop()
    some_pair.source.rename(some_pair.source.parent / "kept")
    some_pair.source.mkdir()
    (some_pair.source / "other").write_text("another tree")

    running.start("home")
    wait_until_held(running)
    assert tree(some_pair.target) == before
    assert running.command("accept", "home").returncode == 0
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_source_replaced_while_running_is_held(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon)
    before = tree(local.target)
    local.source.rename(local.source.parent / "kept")
    local.source.mkdir()
    (local.source / "other").write_text("another tree")
    wait_until_held(running)
    assert tree(local.target) == before


def test_first_run_with_an_empty_source_is_held(some_pair: Pair, daemon: StartDaemon) -> None:
    fill(some_pair.target)
    before = tree(some_pair.target)
    running = daemon(some_pair.settings())
    wait_until_held(running)
    assert tree(some_pair.target) == before
    assert running.command("accept", "home").returncode == 0
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert list(some_pair.target.iterdir()) == []


def test_first_run_without_deletions_is_not_held(local: Pair, daemon: StartDaemon) -> None:
    fill(local.target)
    before = tree(local.target)
    running = daemon(local.settings(delete=False))
    running.wait_for_state("home", "in-sync")
    assert tree(local.target).keys() == before.keys()


def test_emptying_a_watched_source_is_an_order_like_any_other(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon)
    empty(local.source)
    running.wait_until_mirrored("home", local.source, local.target)
    running.stop()
    running.start("home")
    running.wait_until_mirrored("home", local.source, local.target)


def test_missing_source_is_waited_for(some_pair: Pair, daemon: StartDaemon) -> None:
    some_pair.source.rmdir()
    running = daemon(some_pair.settings())
    running.wait_for_state("home", "source-missing")
    assert running.command("status").returncode == 1
    assert not some_pair.target.exists()
    fill(some_pair.source.parent / "aside")
    (some_pair.source.parent / "aside").rename(some_pair.source)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_source_that_is_removed_while_running_deletes_nothing(some_pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(some_pair, daemon)
    before = tree(some_pair.target)
    some_pair.source.rename(some_pair.source.parent / "kept")
    running.wait_for_state("home", "source-missing")
    assert tree(some_pair.target) == before
    (some_pair.source.parent / "kept" / "file0").unlink()
    (some_pair.source.parent / "kept").rename(some_pair.source)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_source_that_is_deleted_while_running_is_never_followed_to_nothing(
    local: Pair, daemon: StartDaemon
) -> None:
    running = mirrored(local, daemon)
    shutil.rmtree(local.source)
    running.wait_for_state("home", "source-missing")
    local.source.mkdir()
    status = running.wait_for_state("home", "held", "in-sync")
    # the files may have been deleted one by one while the source was watched; the rest is held for
    assert status["state"] == "held"
    assert local.target.is_dir()


def test_directory_swapped_for_a_symlink_to_outside(pair: Pair, daemon: StartDaemon) -> None:
    outside = pair.source.parent / "outside"
    fill(outside)
    (outside / "below" / "secret").write_text("never sent")
    fill(pair.source / "directory")
    running = mirrored(pair, daemon)

    for content in ("first", "second", "third"):
        # in one batch with changes below the directory: before the swap, and through the symlink
        (pair.source / "directory" / "below" / "file0").write_text(content)
        (pair.source / "directory" / "below" / "new").write_text(content)
        (pair.source / "directory").rename(pair.source.parent / "aside")
        (pair.source / "directory").symlink_to(outside)
        (pair.source / "directory" / "below" / "file1").write_text(content)
        running.wait_until_mirrored("home", pair.source, pair.target)
        assert (pair.target / "directory").is_symlink()
        (pair.source / "directory" / "below" / "file2").write_text(content)
        (pair.source / "marker").write_text(content)
        running.wait_until_mirrored("home", pair.source, pair.target)

        (pair.source / "directory").unlink()
        (pair.source.parent / "aside").rename(pair.source / "directory")
        running.wait_until_mirrored("home", pair.source, pair.target)
        assert (pair.target / "directory" / "below" / "new").read_text() == content
        assert not (pair.target / "directory" / "below" / "secret").exists()


SWAPPING_RSYNC = """\
#!/bin/sh
# what is listed was looked at just now; before rsync looks, the directory is replaced
case " $* " in
    *" -n "*) ;;
    *" --files-from=- "*)
        if [ -e {folder}/armed ]; then
            rm {folder}/armed
            mv {source}/directory {folder}/aside
            ln -s {folder}/outside {source}/directory
        fi ;;
esac
exec rsync "$@"
"""


@pytest.mark.parametrize("change", ["file", "removal", "new directory", "attributes"])
def test_directory_swapped_for_a_symlink_between_look_and_run(
    local: Pair, daemon: StartDaemon, change: str
) -> None:
    folder = local.source.parent
    fill(local.source / "directory")
    # the same names, so that whatever is followed leaves a trace
    fill(folder / "outside")
    for path in (folder / "outside").rglob("file*"):
        path.write_text("secret")
    before = tree(folder / "outside")
    program = folder / "rsync"
    program.write_text(SWAPPING_RSYNC.format(folder=folder, source=local.source))
    program.chmod(0o755)
    fill(local.source)
    running = daemon(local.settings(rsync={"binary": str(program)}))
    running.wait_until_mirrored("home", local.source, local.target)

    (folder / "armed").touch()
    directory = local.source / "directory" / "below"
    match change:
        case "file":
            (directory / "file0").write_text("changed")
        case "removal":
            (directory / "file0").unlink()
        case "new directory":
            fill(directory / "deep" / "new")
        case "attributes":
            directory.chmod(0o700)
    running.wait_until_mirrored("home", local.source, local.target)
    assert not (folder / "armed").exists()
    assert (local.target / "directory").is_symlink()
    assert tree(folder / "outside") == before
    (local.source / "directory").unlink()
    (folder / "aside").rename(local.source / "directory")
    running.wait_until_mirrored("home", local.source, local.target)


def test_directory_swapped_for_a_symlink_while_the_daemon_is_down(local: Pair, daemon: StartDaemon) -> None:
    outside = local.source.parent / "outside"
    fill(outside)
    fill(local.source / "directory")
    running = mirrored(local, daemon)
    running.stop()
    shutil.rmtree(local.source / "directory")
    (local.source / "directory").symlink_to(outside)
    running.start("home")
    running.wait_until_mirrored("home", local.source, local.target)
    assert len(tree(outside)) == 12


def test_symlink_on_the_target_is_replaced_and_not_followed(some_pair: Pair, daemon: StartDaemon) -> None:
    outside = some_pair.source.parent / "outside"
    fill(outside)
    before = tree(outside)
    fill(some_pair.source / "directory")
    running = mirrored(some_pair, daemon)
    shutil.rmtree(some_pair.target / "directory")
    (some_pair.target / "directory").symlink_to(outside)
    (some_pair.source / "directory" / "file0").unlink()
    (some_pair.source / "directory" / "below" / "file1").write_text("changed")
    (some_pair.source / "directory" / "below" / "file2").unlink()
    running.command("restart", "home")
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    assert tree(outside) == before


def test_target_renamed_away_is_not_made_again(pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(pair, daemon)
    away = pair.target.parent / "away"
    pair.target.rename(away)
    before = tree(away)
    (pair.source / "new").write_text("new")
    (pair.source / "file0").unlink()
    running.wait_for_state("home", "target-missing")
    (pair.source / "below" / "file0").write_text("changed")
    assert not pair.target.exists()
    assert tree(away) == before
    away.rename(pair.target)
    running.wait_until_mirrored("home", pair.source, pair.target)


def test_daemon_without_chroot_does_not_make_it_again(
    rsyncd: RsyncDaemon, local: Pair, daemon: StartDaemon
) -> None:
    address = f"rsync://{ADDRESS}:{rsyncd.port}/unjailed/tree"
    pair = Pair(local.source, rsyncd.module / "tree", address)
    running = mirrored(pair, daemon)
    away = rsyncd.module / "away"
    pair.target.rename(away)
    (pair.source / "new directory").mkdir()
    (pair.source / "new directory" / "file").write_text("new")
    running.wait_for_state("home", "target-missing")
    running.stop()
    running.start("home")
    running.wait_for_state("home", "target-missing")
    assert not pair.target.exists()
    away.rename(pair.target)
    wait_until((pair.target / "new directory" / "file").exists, "it goes on", describe=running.log)


def test_missing_target_is_not_made_again_after_a_restart(some_pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(some_pair, daemon)
    running.stop()
    away = some_pair.target.parent / "away"
    some_pair.target.rename(away)
    running.start("home")
    running.wait_for_state("home", "target-missing")
    assert not some_pair.target.exists()
    away.rename(some_pair.target)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_missing_target_of_an_empty_source(some_pair: Pair, daemon: StartDaemon) -> None:
    running = mirrored(some_pair, daemon)
    empty(some_pair.source)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)
    running.stop()
    away = some_pair.target.parent / "away"
    some_pair.target.rename(away)
    running.start("home")
    running.wait_for_state("home", "target-missing")
    assert not some_pair.target.exists()
    away.rename(some_pair.target)
    running.wait_until_mirrored("home", some_pair.source, some_pair.target)


def test_target_replaced_by_another_directory_is_held(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon)
    local.target.rename(local.target.parent / "away")
    fill(local.target)
    (local.target / "precious").write_text("somebody else's")
    before = tree(local.target)
    (local.source / "new").write_text("new")
    wait_until_held(running)
    assert tree(local.target) == before
    assert running.command("accept", "home").returncode == 0
    running.wait_until_mirrored("home", local.source, local.target)


def test_target_that_comes_back_releases_the_hold(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon)
    local.target.rename(local.target.parent / "away")
    local.target.mkdir()
    (local.source / "new").write_text("new")
    wait_until_held(running)
    local.target.rmdir()
    (local.target.parent / "away").rename(local.target)
    running.wait_until_mirrored("home", local.source, local.target)


def test_other_source_under_the_same_name_is_a_new_beginning(local: Pair, daemon: StartDaemon) -> None:
    running = mirrored(local, daemon)
    other = Pair(local.source.parent / "other", local.target.parent / "other target", "")
    fill(other.source)
    (other.source / "more").write_text("more")
    age(other.source)
    running.write(
        "home", text_of({"name": "home", "source": str(other.source), "target": str(other.target)})
    )
    assert running.command("reload").returncode == 0
    wait_until(other.target.exists, "the other target is made", describe=running.log)
    running.wait_until_mirrored("home", other.source, other.target)
