# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control socket answers: each method of the interface, by way of what a parent can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lsyncd_sd.service.control_interface import ControlError, Deferred, Handler
from lsyncd_sd.service.status import State, SyncStatus, TargetStatus, document


class Steered(Protocol):
    """What a client may ask of the parent."""

    def statuses(self) -> list[SyncStatus]:
        """Return the status of every sync."""

    def reload(self) -> list[str]:
        """Read the configuration again. Raises ControlError if it cannot be used."""

    def restart(self, name: str) -> None:
        """Start the process of a sync anew. Raises ControlError."""

    def sync(self, name: str, *, full: bool, reply: Deferred | None) -> None:
        """Make what is pending due at once, or have a full sync. Raises ControlError.

        `reply` gets the answer when everything that was changed before is on the target.
        """

    def accept(self, name: str, target: str, hold_id: str, reply: Deferred) -> None:
        """Have a held target get what this hold names; `reply` says if it does. Raises ControlError."""


def methods(parent: Steered) -> Mapping[str, Handler]:
    """Return the handlers of the control interface."""
    answers = _Answers(parent)
    return {
        "Status": answers.status,
        "Reload": answers.reload,
        "Restart": answers.restart,
        "Sync": answers.sync,
        "Accept": answers.accept,
    }


class _Answers:
    def __init__(self, parent: Steered) -> None:
        self._parent = parent

    def status(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if "name" in parameters:
            return document([self._named(parameters["name"])])
        return document(self._parent.statuses())

    def reload(self, _parameters: dict[str, Any]) -> dict[str, Any]:
        return {"changed": self._parent.reload()}

    def restart(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self._parent.restart(self._named(parameters["name"]).name)
        return {}

    def sync(self, parameters: dict[str, Any]) -> dict[str, Any] | Deferred:
        status = self._named(parameters["name"])
        reply = Deferred() if parameters.get("wait", False) else None
        self._parent.sync(status.name, full=parameters.get("full", False), reply=reply)
        return {"sync": status.to_json()} if reply is None else reply

    def accept(self, parameters: dict[str, Any]) -> Deferred:
        status = self._named(parameters["name"])
        held = _held(status, parameters)
        reply = Deferred()
        self._parent.accept(status.name, held.target, parameters.get("hold_id", held.hold_id), reply)
        return reply

    def _named(self, name: str) -> SyncStatus:
        for status in self._parent.statuses():
            if status.name == name:
                return status
        raise ControlError("NoSuchSync", {"name": name})


def _held(status: SyncStatus, parameters: dict[str, Any]) -> SyncStatus | TargetStatus:
    """Return the target to release. Raises ControlError if none is held, or more than one may be meant."""
    among = status.each_target()
    if "target" in parameters:
        among = tuple(target for target in among if target.target == parameters["target"])
        if not among:
            raise ControlError("NoSuchTarget", {"name": status.name, "target": parameters["target"]})
    held = [target for target in among if target.state is State.HELD and target.hold_id]
    if not held:
        state = among[0].state if len(among) == 1 else status.state
        raise ControlError("NotHeld", {"name": status.name, "state": state.value})
    seen = [target for target in held if target.hold_id == parameters.get("hold_id")]
    if len(held) > 1 and len(seen) != 1:
        targets = [target.target for target in held]
        raise ControlError("SeveralHeld", {"name": status.name, "targets": targets})
    return seen[0] if seen else held[0]
