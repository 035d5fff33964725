# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares helpers/modelrsync.py, which the model tests trust, with rsync itself, for every shape of a run.

Wherever the two differ rsync must have done more of what it should: made a path equal to the source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from helpers.modelrsync import Command, Fault, ModelTarget, visible
from helpers.syncs import local_target, make_sync
from helpers.trees import Entry, Playground, Snapshot, Spot, snapshot
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from lsyncd_sd.config.model import Delete
from lsyncd_sd.mirror.command import Commands, Run, Shape
from lsyncd_sd.mirror.options import Traits
from lsyncd_sd.mirror.process import environment
from lsyncd_sd.plan.batch import Batch
from lsyncd_sd.plan.filters import Filter

pytestmark = pytest.mark.live

SPOTS = st.builds(Spot, st.integers(0, 7), st.integers(0, 3), st.booleans())
OPERATIONS = st.one_of(
    st.tuples(st.just("deep"), SPOTS),
    st.tuples(st.just("write"), SPOTS),
    st.tuples(st.just("mkdir"), SPOTS),
    st.tuples(st.just("remove"), SPOTS),
    st.tuples(st.just("rename"), SPOTS, SPOTS),
    st.tuples(st.just("swap"), SPOTS, st.sampled_from("fdl")),
    st.tuples(st.just("touch"), SPOTS, st.sampled_from([1, 2])),
    st.tuples(st.just("chmod"), SPOTS, st.sampled_from([0o700, 0o711])),
)
SHAPES = {
    Shape.EXACT_ENTRIES: "exact_entries",
    Shape.ENTRIES: "entries",
    Shape.EXACT_SUBTREES: "exact_subtrees",
    Shape.SUBTREES: "subtrees",
    Shape.EXACT_CONTENTS: "exact_contents",
    Shape.CONTENTS: "contents",
    Shape.LEVELS: "levels",
}


class Pair:
    """A source, and a target that was its copy until both were changed."""

    def __init__(self, folder: Path, both: list[Any], one: list[Any], other: list[Any]) -> None:
        contents = count()
        (folder / "one").mkdir()
        (folder / "other").mkdir()
        self.source = Playground(os.fsencode(folder / "one"), contents)
        self.target = Playground(os.fsencode(folder / "other"), contents)
        for operation in both:
            self.source.do(operation)
        os.rmdir(self.target.source)
        shutil.copytree(self.source.source, self.target.source, symlinks=True)
        for operation in one:
            self.source.do(operation)
        for operation in other:
            self.target.do(operation)

    def run(self, run: Run) -> int:
        """Run rsync and return its exit status."""
        done = subprocess.run(
            run.arguments,
            input=run.stdin,
            cwd=self.source.source,
            env=environment(),
            capture_output=True,
            check=False,
        )
        stays = (b"could not make way", b"cannot delete non-empty directory")
        if any(message in done.stdout + done.stderr for message in stays):
            # A directory that holds something excluded stays, rightly: what follows is not for the model.
            reject()
        return done.returncode


def is_same(held: Entry | None, expected: Entry | None) -> bool:
    if held is None or expected is None:
        return held is expected
    if expected.mtime < 1_000_000:
        # the model's word for "when rsync changed it"
        expected = expected._replace(mtime=held.mtime)
    return held == expected


def listed(pair: Pair, spots: list[Spot], shape: Shape) -> set[bytes]:
    """Return paths as the plan would list them: levels are directories, nothing is below a non-directory."""
    held = snapshot(pair.source.source)
    paths = {path for path in map(pair.source.spot, spots) if path in held}
    are_directories = shape in (Shape.EXACT_CONTENTS, Shape.CONTENTS, Shape.LEVELS)
    return {path for path in paths if not are_directories or held[path].kind == "d"}


def compare(pair: Pair, run: Run, filters: Filter) -> None:
    model = ModelTarget()
    model.entries = snapshot(pair.target.source)
    wanted = visible(snapshot(pair.source.source), filters)
    command = Command.parse(run.arguments, run.stdin)
    source = pair.source.source
    answer = model.run(command, source, lambda: snapshot(source), Fault(), lambda _path: None)
    assert pair.run(run) == answer.code
    if answer.code:
        # It will be tried again: what matters then is that it is known, not what it looks like.
        return
    differing = explain(snapshot(pair.target.source), model.entries, wanted)
    assert not differing, f"{run.shape} of {sorted(run.paths)} {differing}"


def explain(held: Snapshot, expected: Snapshot, wanted: Snapshot) -> dict[bytes, Any]:
    """Return what is neither as the model says nor as the source has it.

    Something that stands where the source has a directory may get the directory's time.
    """
    return {
        path: (held.get(path), expected.get(path), wanted.get(path))
        for path in held.keys() | expected.keys()
        if not is_same(held.get(path), expected.get(path))
        and held.get(path) != wanted.get(path)
        and not is_only_touched(held.get(path), expected.get(path), wanted.get(path))
    }


def is_only_touched(held: Entry | None, expected: Entry | None, wanted: Entry | None) -> bool:
    return (
        held is not None
        and expected is not None
        and wanted is not None
        and wanted.kind == "d" != held.kind
        and held == expected._replace(mtime=wanted.mtime)
    )


def test_the_model_does_what_rsync_does(tmp_path: Path, full: bool) -> None:
    @settings(max_examples=2000 if full else 100)
    @given(
        st.lists(OPERATIONS, max_size=10),
        st.lists(OPERATIONS, max_size=6),
        st.lists(OPERATIONS, max_size=6),
        st.lists(SPOTS, min_size=1, max_size=4),
        st.sampled_from(list(SHAPES)),
        st.sampled_from([(), ("b",), ("a/",)]),
        st.sampled_from([Delete.ALWAYS, Delete.NEVER]),
    )
    def agrees(
        both: list[Any],
        one: list[Any],
        other: list[Any],
        spots: list[Spot],
        shape: Shape,
        excludes: tuple[str, ...],
        delete: Delete,
    ) -> None:
        with TemporaryDirectory(dir=tmp_path) as folder:
            pair = Pair(Path(folder), both, one, other)
            filters = Filter.from_excludes(excludes)
            sync = make_sync(
                target=local_target(os.fsdecode(pair.target.source)), exclude=excludes, delete=delete
            )
            commands = Commands(sync, filters)
            commands.traits = Traits(nanoseconds=True)
            paths = {
                path
                for path in listed(pair, spots, shape)
                if not filters.hides(path, os.path.isdir(pair.source.source + b"/" + path))
            }
            run = commands.batch_run(Batch(**{SHAPES[shape]: paths}), shape)
            if run is not None:
                compare(pair, run, filters)

    agrees()


def test_the_model_does_a_full_sync_as_rsync_does(tmp_path: Path, full: bool) -> None:
    @settings(max_examples=500 if full else 25)
    @given(
        st.lists(OPERATIONS, max_size=10),
        st.lists(OPERATIONS, max_size=6),
        st.lists(OPERATIONS, max_size=6),
    )
    def agrees(both: list[Any], one: list[Any], other: list[Any]) -> None:
        with TemporaryDirectory(dir=tmp_path) as folder:
            pair = Pair(Path(folder), both, one, other)
            filters = Filter.from_excludes(())
            commands = Commands(make_sync(target=local_target(os.fsdecode(pair.target.source))), filters)
            commands.traits = Traits(nanoseconds=True)
            compare(pair, commands.full_run(may_create=False), filters)

    agrees()
