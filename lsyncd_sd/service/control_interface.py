# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control socket says, without the socket: the Varlink interface, requests and their replies."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from lsyncd_sd import __version__
from lsyncd_sd.errors import ExitStatus, LsyncdError, Problem
from lsyncd_sd.printable import visible

INTERFACE = "org.lsyncd-sd.Control"
VARLINK_INTERFACE = "org.varlink.service"

DESCRIPTION = """\
# Ask and steer a running lsyncd-sd.
interface org.lsyncd-sd.Control

# One sync at one moment. Times are Unix seconds. The target follows its
# source in the states in-sync, pending and syncing; the others are starting,
# watching, rescanning, full-sync, degraded, unreachable, target-full,
# target-missing, source-missing, failing, held, stuck, failed and stopping.
type SyncStatus (
  name: string,
  source: string,
  target: string,
  state: string,
  since: float,
  reason: string,
  pending: int,
  batches: int,
  failures: int,
  files: int,
  bytes: int,
  last_batch: ?float,
  full_sync_percent: ?int,
  directories: int,
  pid: ?int,
  restarts: int,
  hold_id: string,
  targets: ?[]TargetStatus
)

# One target of a sync with several; a sync with a single one has no such
# list. The sync itself shows the worst of their states, and their sums.
type TargetStatus (
  target: string,
  state: string,
  since: float,
  reason: string,
  pending: int,
  batches: int,
  failures: int,
  files: int,
  bytes: int,
  last_batch: ?float,
  full_sync_percent: ?int,
  hold_id: string
)

# One fault in a configuration file; the place is file:line:column.
type Problem (
  place: string,
  message: string,
  hint: string,
  is_warning: bool
)

# Return one sync, or all of them if no name is given.
method Status(name: ?string) -> (version: int, syncs: []SyncStatus)

# Read the configuration again; return the names of the syncs that changed.
method Reload() -> (changed: []string)

# Start the process of one sync anew, also if it was given up.
method Restart(name: string) -> ()

# Make what is pending due at once; with full, compare the whole tree first.
# With wait the reply comes when everything that was changed before the call
# is on the target, however long that takes; with more there is a reply for
# each state and reason on the way.
method Sync(name: string, full: ?bool, wait: ?bool) -> (sync: SyncStatus)

# Agree to what a held sync is about to do: to what this hold_id of its status
# stands for and nothing else; without one, to what it is held for now. The
# target need not be named if only one is held, or held for that.
method Accept(name: string, hold_id: ?string, target: ?string) -> ()

error NoSuchSync (name: string)
error ConfigurationInvalid (problems: []Problem)
error NotHeld (name: string, state: string)
error NoSuchTarget (name: string, target: string)

# More than one target is held: it has to be said which one is meant.
error SeveralHeld (name: string, targets: []string)

# It is held for something else than what was agreed to.
error HoldChanged (name: string, reason: string, hold_id: string)

# The sync cannot do it in its present state.
error Unavailable (name: string, reason: string)

# The method ran into a fault of lsyncd-sd itself; its journal says more.
error InternalError ()
"""

VARLINK_DESCRIPTION = """\
# What every Varlink service offers.
interface org.varlink.service

method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
"""

DESCRIPTIONS = {INTERFACE: DESCRIPTION, VARLINK_INTERFACE: VARLINK_DESCRIPTION}


class Parameter(NamedTuple):
    """What a method takes under one name."""

    type: type
    is_required: bool


_NAME = Parameter(str, is_required=True)
_FLAG = Parameter(bool, is_required=False)
_TEXT = Parameter(str, is_required=False)

PARAMETERS: dict[str, dict[str, Parameter]] = {
    f"{INTERFACE}.Status": {"name": _TEXT},
    f"{INTERFACE}.Reload": {},
    f"{INTERFACE}.Restart": {"name": _NAME},
    f"{INTERFACE}.Sync": {"name": _NAME, "full": _FLAG, "wait": _FLAG},
    f"{INTERFACE}.Accept": {"name": _NAME, "hold_id": _TEXT, "target": _TEXT},
    f"{VARLINK_INTERFACE}.GetInfo": {},
    f"{VARLINK_INTERFACE}.GetInterfaceDescription": {"interface": Parameter(str, is_required=True)},
}


class ProtocolError(Exception):
    """What the other side sent is not Varlink; the connection is of no use any more."""


class ControlError(LsyncdError):
    """An error reply: raised by a handler to send one, and by `control.call` that received one.

    `name` is fully qualified; a bare one, like "NoSuchSync", is of lsyncd-sd's own interface.
    """

    def __init__(self, name: str, parameters: Mapping[str, Any]) -> None:
        self.name = name if "." in name else f"{INTERFACE}.{name}"
        self.parameters = dict(parameters)
        message, hint, exit_status = self._explanation()
        super().__init__(message, hint, exit_status)

    @classmethod
    def configuration_invalid(cls, problems: Iterable[Problem]) -> ControlError:
        """Return the error that refuses a reload, with every problem."""
        return cls("ConfigurationInvalid", {"problems": [asdict(problem) for problem in problems]})

    def _explanation(self) -> tuple[str, str, ExitStatus]:
        sync = self._shown("name")
        match self.name:
            case "org.lsyncd-sd.Control.NoSuchSync":
                return f"there is no sync {sync!r}", "lsyncd-sd status shows all of them", ExitStatus.USAGE
            case "org.lsyncd-sd.Control.NotHeld":
                state = self._shown("state")
                return f"sync {sync!r} is not held: its state is {state}", "", ExitStatus.NOT_GOOD
            case "org.lsyncd-sd.Control.NoSuchTarget":
                message = f"sync {sync!r} has no target {self._shown('target')!r}"
                return message, f"lsyncd-sd status {sync} shows them", ExitStatus.USAGE
            case "org.lsyncd-sd.Control.SeveralHeld":
                hint = f"say which one: {', '.join(self._commands())}"
                return f"more than one target of sync {sync!r} is held", hint, ExitStatus.USAGE
            case "org.lsyncd-sd.Control.HoldChanged":
                message = f"sync {sync!r} is held for something else now: {self._shown('reason')}"
                return message, "to agree to that, accept it once more", ExitStatus.NOT_GOOD
            case "org.lsyncd-sd.Control.Unavailable":
                return f"sync {sync!r} cannot do it: {self._shown('reason')}", "", ExitStatus.NOT_GOOD
            case "org.lsyncd-sd.Control.ConfigurationInvalid":
                hint = "the configuration that was in force stays in force"
                return "\n".join(self._problem_lines()), hint, ExitStatus.USAGE
            case "org.lsyncd-sd.Control.InternalError":
                return "lsyncd-sd itself made an error", "its journal says more", ExitStatus.NOT_GOOD
            case "org.varlink.service.MethodNotFound" | "org.varlink.service.MethodNotImplemented":
                hint = "the running service is of another version than this command: restart it"
                return f"the service does not know {self._shown('method')}", hint, ExitStatus.NOT_GOOD
        return f"the service answered {visible(self.name)}", "", ExitStatus.NOT_GOOD

    def _shown(self, key: str) -> str:
        return visible(str(self.parameters.get(key, "")))

    def _commands(self) -> list[str]:
        """Return what to type for each target."""
        targets = self.parameters.get("targets")
        shown = [visible(str(target)) for target in targets] if isinstance(targets, list) else []
        return [f"lsyncd-sd accept {self._shown('name')} {shlex.quote(target)}" for target in shown]

    def _problem_lines(self) -> list[str]:
        problems = self.parameters.get("problems")
        lines: list[str] = []
        for problem in problems if isinstance(problems, list) else []:
            known = problem if isinstance(problem, dict) else {}
            shown = {key: visible(str(known.get(key, ""))) for key in ("place", "message", "hint")}
            lines += Problem(**shown, is_warning=known.get("is_warning") is True).lines()
        return lines or ["the configuration is invalid"]


def encode(message: Mapping[str, Any]) -> bytes:
    """Return `message` as it goes over the wire.

    Raises ValueError or TypeError if JSON has no form for it.
    """
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\0"


def decode(raw: bytes) -> dict[str, Any]:
    """Return the message in `raw`, given without its NUL.

    Raises ProtocolError if it is not a JSON object.
    """
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("not a JSON object")
    return message


class Deferred:
    """The reply to one request that a handler cannot give yet; the handler returns it, and fills it later.

    Nothing piles up for a client that does not read: of what was told only the last is kept.
    """

    def __init__(self) -> None:
        self._told = b""
        self._reply = b""
        self.is_over = False
        self.wants_more = False
        self.on_abandoned: Callable[[], None] = _nothing
        self._on_news: Callable[[], None] = _nothing

    def tell(self, parameters: Mapping[str, Any]) -> None:
        """Say how things stand, to a client that wants to know (`more`)."""
        if not self.is_over:
            self._told = encode({"parameters": parameters, "continues": True})
            self._on_news()

    def finish(self, parameters: Mapping[str, Any]) -> None:
        """Reply, once; what was told and not sent is left out."""
        self._end({"parameters": parameters})

    def fail(self, error: ControlError) -> None:
        """Reply with an error, once."""
        self._end({"error": error.name, "parameters": error.parameters})

    def _end(self, reply: Mapping[str, Any]) -> None:
        if not self.is_over:
            self.is_over = True
            self._told, self._reply = b"", encode(reply)
            self._on_news()

    def take(self) -> bytes:
        """Return what is to be sent next, encoded; empty if there is nothing now."""
        taken = (self._told if self.wants_more else b"") or self._reply
        self._told = self._reply = b""
        return taken

    def listen(self, on_news: Callable[[], None]) -> None:
        """Have `on_news` called when there is something to `take`."""
        self._on_news = on_news

    def abandon(self) -> None:
        """Nobody waits for the reply any more."""
        self._on_news = _nothing
        if not self.is_over:
            self.is_over = True
            self.on_abandoned()


def _nothing() -> None:
    pass


# Gets the checked parameters (every one that was given and is not null), returns those of the reply, or the
# promise of a reply.
Handler = Callable[[dict[str, Any]], "dict[str, Any] | Deferred"]


class Dispatcher:
    """Answers requests: checks each, calls the handler of its method, encodes what comes back."""

    def __init__(self, methods: Mapping[str, Handler]) -> None:
        """Take the handlers of lsyncd-sd's own interface by their bare names, like "Status".

        Raises ValueError for a method that the interface description does not have.
        """
        self._handlers: dict[str, Handler] = {
            f"{VARLINK_INTERFACE}.GetInfo": _get_info,
            f"{VARLINK_INTERFACE}.GetInterfaceDescription": _get_interface_description,
        }
        for name, handler in methods.items():
            if f"{INTERFACE}.{name}" not in PARAMETERS:
                raise ValueError(f"{name} is not a method of {INTERFACE}")
            self._handlers[f"{INTERFACE}.{name}"] = handler

    def answer(self, raw: bytes) -> bytes | Deferred:
        """Return the encoded reply to the request in `raw`, or nothing if it asked for none (`oneway`).

        A request for several replies (`more`) gets them from a `Deferred` only; elsewhere its one reply says
        that it is the last. Raises ProtocolError if `raw` is not a request.
        """
        request = decode(raw)
        method = request.get("method")
        parameters = request.get("parameters")
        if not isinstance(method, str) or not isinstance(parameters, dict | None):
            raise ProtocolError("not a request")
        try:
            reply = self._reply(method, parameters or {})
        except Exception:
            # Whatever is wrong in one answer, mirroring goes on.
            sys.excepthook(*sys.exc_info())
            reply = encode({"error": f"{INTERFACE}.InternalError", "parameters": {}})
        is_oneway = request.get("oneway") is True
        if isinstance(reply, Deferred):
            reply.wants_more = request.get("more") is True
            if not is_oneway:
                return reply
            reply.abandon()
        return b"" if is_oneway else reply

    def _reply(self, method: str, parameters: dict[str, Any]) -> bytes | Deferred:
        try:
            result = self._call(method, parameters)
        except ControlError as error:
            return encode({"error": error.name, "parameters": error.parameters})
        return result if isinstance(result, Deferred) else encode({"parameters": result})

    def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any] | Deferred:
        interface, _, _ = method.rpartition(".")
        if interface not in DESCRIPTIONS:
            raise ControlError(f"{VARLINK_INTERFACE}.InterfaceNotFound", {"interface": interface})
        if method not in self._handlers:
            raise ControlError(f"{VARLINK_INTERFACE}.MethodNotFound", {"method": method})
        return self._handlers[method](_checked(parameters, PARAMETERS[method]))


def _checked(parameters: dict[str, Any], expected: dict[str, Parameter]) -> dict[str, Any]:
    given = {name: value for name, value in parameters.items() if value is not None}
    wrong = [
        name
        for name, value in given.items()
        if name not in expected or not isinstance(value, expected[name].type)
    ]
    wrong += [name for name, parameter in expected.items() if parameter.is_required and name not in given]
    if wrong:
        raise ControlError(f"{VARLINK_INTERFACE}.InvalidParameter", {"parameter": wrong[0]})
    return given


def _get_info(_parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "vendor": "lsyncd-sd",
        "product": "lsyncd-sd",
        "version": __version__,
        "url": "man:lsyncd-sd(8)",
        "interfaces": list(DESCRIPTIONS),
    }


def _get_interface_description(parameters: dict[str, Any]) -> dict[str, Any]:
    interface = parameters["interface"]
    if interface not in DESCRIPTIONS:
        raise ControlError(f"{VARLINK_INTERFACE}.InterfaceNotFound", {"interface": interface})
    return {"description": DESCRIPTIONS[interface]}
