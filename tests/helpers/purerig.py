# SPDX-License-Identifier: GPL-2.0-or-later
"""Joins a source in memory, the real collator and mirror, and a target in memory, one small step at a time.

After each step the oracle is asked whether anything is wrong on the target without the collator knowing it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from helpers.carrier import LIMITS, Carrier, Operation, filter_of
from helpers.modelrsync import Fault, visible
from helpers.modeltree import ModelTree
from helpers.oracle import held_although_new, unknown

from lsyncd_sd.config.model import Delete
from lsyncd_sd.plan.batch import Mark, Marks
from lsyncd_sd.plan.change import Change, Depth
from lsyncd_sd.plan.collator import Limits
from lsyncd_sd.plan.marktree import left_undone

# More rounds than any list of operations of these tests needs to come to rest.
ROUNDS_TO_SETTLE = 60

EVERYTHING = 1 << 30
"""More changes than any queue of these tests holds."""

_ENTRY = Mark(Depth.ENTRY, exact=True)
_LISTED = Mark(Depth.ENTRY | Depth.LEVEL, exact=False)


class PureRig(Carrier):
    """A sync whose source began with the given operations, and whose target began as its copy."""

    source: ModelTree

    def __init__(
        self,
        before: Iterable[Operation],
        rules: Sequence[str] = (),
        *,
        delete: Delete = Delete.ALWAYS,
        limits: Limits = LIMITS,
        lane: bool = False,
    ) -> None:
        tree = ModelTree(filter_of(rules))
        super().__init__(tree, rules, delete=delete, limits=limits, lane=lane)
        self.do(before)
        self.source.lose()
        assert self.model is not None
        self.model.entries = visible(self.source.entries(), self.filters)
        # What runs may have written, and up to which change one must have read to know it (B2, B4).
        self._reach: list[Marks] = []
        self._run_ended_at = 0
        self.on_begin = self._note_begin
        self.on_list = lambda paths: self._reach.append(dict.fromkeys(paths, _LISTED))
        self.on_end = self._note_end

    def _note_begin(self, marks: Marks) -> None:
        assert self.model is not None
        self._reach.append(dict(marks))
        if self.delete is Delete.ALWAYS:
            held = held_although_new(self.model, marks)
            assert not held, f"not new at all: {sorted(held)}"

    def _note_end(self) -> None:
        self._run_ended_at = self.source.told

    # ------------------------------------------------------------------ steps

    def step(self, name: str, arguments: Iterable[Any]) -> None:
        """Carry out the step of this name, and see that all is known afterwards."""
        super().step(name, arguments)
        self.check_known()

    def do(self, operations: Iterable[Operation]) -> None:
        """Change the source."""
        for operation in operations:
            self.source.do(operation)

    def read(self, changes: int, torn: int = 0, unseen: bool = False) -> None:
        """Read so many changes; see ModelTree.read."""
        self.now += 1
        if self.collator.needs_rescan:
            self._rescan()
        self.take_in(self.source.read(changes, torn, unseen))
        if self.source.read_up_to >= self._run_ended_at:
            self.collator.caught_up()
            if self.is_idle:
                self._reach.clear()

    def overflow(self) -> None:
        """Lose what is queued."""
        self.source.lose()
        self._rescan()

    def _rescan(self) -> None:
        self.collator.rescan_begins()
        self.collator.add([Change(b"", Depth.SUBTREE, True)], self.now)
        self.collator.rescan_ends()

    def cycle(self, faults: Iterable[Fault], finish: bool) -> None:
        """Read all there is, begin what is due, and let its first runs, or all, do their work."""
        self.read(EVERYTHING)
        self.dispatch()
        for fault in faults:
            self.run(fault)
        if finish:
            self.run_to_end()

    # ------------------------------------------------------------------ what is known

    def check_known(self) -> None:
        """Check that the collator knows everything that is wrong on the target."""
        collator = self.collator
        wanted = self.source.states.get(self.source.read_up_to)
        if wanted is None or collator.needs_rescan:
            # Half of an operation was read: no source was ever like that.
            return
        assert self.model is not None
        left = left_undone([*self.batch.made, *collator.moves], set(self.batch.unconfirmed))
        troubled = collator.troubled or {}
        moves = [*self.batch.moves, *collator.moves]
        wrong = unknown(
            self.model,
            moves,
            visible(wanted, self.filters),
            [
                collator.in_flight,
                collator.large_in_flight,
                collator.pending,
                troubled,
                collator.large,
                dict.fromkeys(collator.open, _ENTRY),
                left,
            ],
            self._reach,
            extra=self.delete is not Delete.ALWAYS,
        )
        assert not wrong, f"nobody knows that they are wrong: {sorted(wrong)}"

    # ------------------------------------------------------------------ the end

    def settle(self) -> None:
        """Let everything run its course, without any trouble."""
        for _round in range(ROUNDS_TO_SETTLE):
            self.read(EVERYTHING)
            self.dispatch()
            self.dispatch_large()
            self.run_to_end()
            if self.is_idle and not len(self.collator) and not self.collator.needs_rescan:
                return
        raise AssertionError(f"not at rest after {ROUNDS_TO_SETTLE} rounds: {dict(self.collator.pending)}")


def check(before: list[Operation], steps: list[tuple[Any, ...]], **options: Any) -> None:
    """Carry out the steps, let everything come to rest, and compare the target with the source."""
    leftovers = options.pop("leftovers", True)
    with PureRig(before, **options) as rig:
        for name, *arguments in steps:
            rig.step(name, arguments)
        rig.settle()
        rig.check_target(leftovers=leftovers)
