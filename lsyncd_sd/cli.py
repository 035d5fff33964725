# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: parses, calls one function per verb, prints.

Each verb imports what it needs: `status` is called by monitors, and must not load what only the daemon uses.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsyncd_sd import __version__
from lsyncd_sd.classicline import FAILURE, is_classic, parse
from lsyncd_sd.errors import ExitStatus, LsyncdError
from lsyncd_sd.service import environment

if TYPE_CHECKING:
    from lsyncd_sd.service.status import SyncStatus

# A reload reads files and answers; a parent that needs longer is frozen, and its watchdog's matter.
CALL_SECONDS = 30.0

# A week: the timeouts of sockets end at three of them.
LONGEST_PATIENCE = 7 * 24 * 3600

# What a shell says of a program that SIGINT has ended.
INTERRUPTED = 130

_VERSION = f"lsyncd-sd {__version__}"

Verb = Callable[[argparse.Namespace], ExitStatus]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `lsyncd-sd` and return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if is_classic(words):
        return _run_classic(words)
    parsed = _parser().parse_args(words)
    verb: Verb = parsed.verb
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a letter should show the rest.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = verb(parsed)
        sys.stdout.flush()
        return status
    except LsyncdError as error:
        _complain(error)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if verb is _run:
            raise
        # Of what the other verbs do only writing can fail so. Nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Whoever closed the pipe has seen enough.
        if not isinstance(error, BrokenPipeError):
            print(f"lsyncd-sd: cannot write: {error.strerror}", file=sys.stderr)
        return ExitStatus.NOT_GOOD


def _run_classic(words: Sequence[str]) -> int:
    """Do what Lsyncd would with these words, and return the exit status that it would have."""
    try:
        line = parse(words)
        if line.has("help"):
            _parser().print_help()
        elif line.has("version"):
            print(_VERSION)
        else:
            from lsyncd_sd.service.foreground import run_line

            return run_line(line)
        return ExitStatus.OK
    except LsyncdError as error:
        _complain(error)
        return FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED


def _complain(error: LsyncdError) -> None:
    print(f"lsyncd-sd: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"    {error.hint}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lsyncd-sd",
        description="Mirror directory trees as they change: inotify, collated changes, rsync.",
        epilog="Exit status: 0 good, 1 not in sync or failing, 2 wrong use or configuration, 3 not running. "
        "See lsyncd-sd(8) and lsyncd-sd.yaml(5). Command lines of Lsyncd's work, too: "
        "lsyncd-sd -rsync SOURCE TARGET.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_VERSION)
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, verb: Verb, text: str) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:], allow_abbrev=False)
        one.set_defaults(verb=verb)
        return one

    files = "a name (home is /etc/lsyncd.d/home.yaml) or a file; without one, all of /etc/lsyncd.d/*.yaml"
    one = add("run", _run, "mirror in the foreground until stopped; this is what the units start")
    one.add_argument("files", nargs="*", metavar="NAME|FILE", help=files)
    one = add("check", _check, "say what is wrong with configuration files, or what becomes of a path")
    one.add_argument("files", nargs="*", metavar="NAME|FILE", help=files)
    one.add_argument("--path", help="say of this path whether it is mirrored, and which filter rule decides")
    one = add("show-config", _show_config, "print a configuration with all defaults filled in")
    one.add_argument("files", nargs="*", metavar="NAME|FILE", help=files)
    one.add_argument("--schema", action="store_true", help="print the JSON Schema for editors instead")
    one.add_argument("--sample", action="store_true", help="print a commented sample file instead")
    one = add("status", _status, "show what the running syncs do")
    one.add_argument("name", nargs="?", metavar="NAME", help="only this sync")
    one.add_argument("--json", action="store_true", help="as a JSON document, for programs")
    add("reload", _reload, "read the configuration again; only the syncs that changed are restarted")
    one = add("restart", _restart, "start the process of one sync anew, also if it was given up")
    one.add_argument("name", metavar="NAME")
    one = add("sync", _sync, "mirror what is pending now, without waiting for the delay or the next try")
    one.add_argument("name", metavar="NAME")
    one.add_argument("--full", action="store_true", help="compare the whole tree with the target first")
    one.add_argument("--wait", action="store_true", help="until everything changed so far is on the target")
    one.add_argument(
        "--timeout", type=_patience, metavar="SECONDS", help="with --wait: after so long it is a failure"
    )
    one = add("accept", _accept, "let a held sync go on with what it was held for")
    one.add_argument("name", metavar="NAME")
    one.add_argument("target", nargs="?", metavar="TARGET", help="the one that is meant if several are held")
    return parser


def _run(parsed: argparse.Namespace) -> ExitStatus:
    from lsyncd_sd.config.load import load
    from lsyncd_sd.service.supervisor import Supervisor

    names: list[str] = parsed.files
    # Asked again at every reload: files may have come and gone.
    paths = _all_files if not names else lambda: [environment.configuration_file(name) for name in names]
    paths()
    instance = Path(environment.configuration_file(names[0])).stem if names else ""
    supervisor = Supervisor(
        lambda: load(paths()),
        owner=f"lsyncd-sd run {' '.join(names)}".strip() + f" (pid {os.getpid()})",
        runtime=environment.runtime_directory(instance),
        state=environment.state_directory(),
        serves_partly=not names,
    )
    return supervisor.run()


def _all_files() -> list[str]:
    paths = environment.configuration_files()
    if not paths:
        directory = environment.configuration_directory()
        raise LsyncdError(
            f"there is no configuration: {directory} holds no *.yaml",
            "write one with two lines, `source: /PATH` and `target: HOST:/PATH`; see lsyncd-sd.yaml(5)",
            ExitStatus.USAGE,
        )
    return paths


def _chosen_files(parsed: argparse.Namespace) -> list[str]:
    names: list[str] = parsed.files
    return [environment.configuration_file(name) for name in names] if names else _all_files()


def _check(parsed: argparse.Namespace) -> ExitStatus:
    from lsyncd_sd.config.pathcheck import check_path
    from lsyncd_sd.config.verbs import check

    if parsed.path is not None:
        return check_path(_chosen_files(parsed), parsed.path, sys.stdout.write)
    return check(_chosen_files(parsed), sys.stdout.write)


def _show_config(parsed: argparse.Namespace) -> ExitStatus:
    from lsyncd_sd.config import verbs

    if parsed.schema:
        return verbs.show_schema(sys.stdout.write)
    if parsed.sample:
        return verbs.show_sample(sys.stdout.write)
    return verbs.show_config(_chosen_files(parsed), sys.stdout.write)


def _status(parsed: argparse.Namespace) -> ExitStatus:
    from lsyncd_sd.service.status import document, exit_status
    from lsyncd_sd.service.statustext import table

    statuses = [status for _socket, syncs in _instances() for status in syncs]
    if parsed.name is not None:
        statuses = [status for status in statuses if status.name == parsed.name]
        if not statuses:
            raise _no_such_sync(parsed.name)
    if parsed.json:
        print(json.dumps(document(statuses), indent=2))
    else:
        print(table(statuses, time.time()))
    return exit_status(statuses)


def _reload(_parsed: argparse.Namespace) -> ExitStatus:
    worst = ExitStatus.OK
    for socket, _syncs in _instances():
        try:
            changed = _call(socket, "Reload", {})["changed"]
        except LsyncdError as error:
            # The others are to read their files all the same.
            _complain(error)
            worst = ExitStatus(max(worst, error.exit_status))
        else:
            print(f"configuration read again; changed: {', '.join(changed) or 'nothing'}")
    return worst


def _restart(parsed: argparse.Namespace) -> ExitStatus:
    _call(_socket_of(parsed.name), "Restart", {"name": parsed.name})
    print(f"{parsed.name} is restarted")
    return ExitStatus.OK


def _patience(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    # Written so that NaN is refused too.
    if not 0 < seconds <= LONGEST_PATIENCE:
        raise argparse.ArgumentTypeError(f"not a number of seconds above 0, up to {LONGEST_PATIENCE}")
    return seconds


def _sync(parsed: argparse.Namespace) -> ExitStatus:
    if parsed.wait:
        return _wait(parsed)
    if parsed.timeout is not None:
        raise LsyncdError("--timeout says how long to --wait", exit_status=ExitStatus.USAGE)
    _call(_socket_of(parsed.name), "Sync", {"name": parsed.name, "full": parsed.full})
    print(f"{parsed.name} is told to mirror {'everything' if parsed.full else 'what is pending'} now")
    return ExitStatus.OK


def _wait(parsed: argparse.Namespace) -> ExitStatus:
    """Wait until a sync has done it, and tell on stderr what keeps it."""
    from lsyncd_sd.service.control_client import follow
    from lsyncd_sd.service.status import SyncStatus

    parameters = {"name": parsed.name, "full": parsed.full, "wait": True}
    patience = float("inf") if parsed.timeout is None else parsed.timeout
    socket = _socket_of(parsed.name)
    told = ""
    try:
        for reply in follow(socket, "Sync", parameters, CALL_SECONDS, patience):
            status = SyncStatus.from_json(reply.get("sync"))
            line = status.reason_line()
            if line != told and (told or not status.state.is_good):
                told = line
                print(f"{parsed.name}: {line}", file=sys.stderr, flush=True)
    except TimeoutError:
        raise LsyncdError(
            f"not everything is on the target of {parsed.name} after {parsed.timeout:g} s",
            f"`lsyncd-sd status {parsed.name}` may say why",
        ) from None
    except ValueError as error:
        raise _not_understood(socket, error) from None
    print(f"{parsed.name}: everything that was changed before is on the target")
    return ExitStatus.OK


def _accept(parsed: argparse.Namespace) -> ExitStatus:
    from lsyncd_sd.service.status import one_line

    socket, status = _found(parsed.name)
    held = [target for target in status.each_target() if target.hold_id]
    parameters = {"name": parsed.name}
    if parsed.target is not None:
        parameters["target"] = parsed.target
        held = [target for target in held if target.target == parsed.target]
    if len(held) > 1:
        raise _several_held(parsed.name, [target.target for target in held])
    # What this status shows is accepted, and nothing that comes up in between.
    _call(socket, "Accept", {**parameters, "hold_id": held[0].hold_id if held else ""})
    who = one_line(held[0].target) if status.targets else "it"
    print("\n".join([f"{parsed.name} goes on with what {who} was held for", *held[0].reason_lines()]))
    return ExitStatus.OK


def _several_held(name: str, targets: Sequence[str]) -> LsyncdError:
    from lsyncd_sd.service.control_interface import ControlError

    return ControlError("SeveralHeld", {"name": name, "targets": list(targets)})


def _instances() -> list[tuple[str, list[SyncStatus]]]:
    """Return the control socket and the syncs of every parent that runs.

    Raises LsyncdError if none does.
    """
    found = []
    trouble: LsyncdError | None = None
    for socket in environment.control_sockets():
        try:
            found.append((socket, _syncs_of(socket)))
        except LsyncdError as error:
            trouble = error
    if found:
        return found
    raise trouble or LsyncdError(
        "lsyncd-sd is not running",
        "start it with `systemctl start lsyncd@NAME` or `systemctl start lsyncd-sd`"
        + ("" if os.geteuid() == 0 else "; what root runs, only root can ask"),
        ExitStatus.NOT_RUNNING,
    )


def _syncs_of(socket: str) -> list[SyncStatus]:
    from lsyncd_sd.service.status import from_document

    answer = _call(socket, "Status", {})
    try:
        return from_document(answer)
    except ValueError as error:
        raise _not_understood(socket, error) from None


def _not_understood(socket: str, error: ValueError) -> LsyncdError:
    return LsyncdError(
        f"this command does not understand what listens on {socket}: {error}",
        "it is of another version: restart the service",
    )


def _socket_of(name: str) -> str:
    return _found(name)[0]


def _found(name: str) -> tuple[str, SyncStatus]:
    """Return the control socket and the status of a sync."""
    for socket, syncs in _instances():
        for sync in syncs:
            if sync.name == name:
                return socket, sync
    raise _no_such_sync(name)


def _no_such_sync(name: str) -> LsyncdError:
    return LsyncdError(
        f"there is no sync {name!r}", "`lsyncd-sd status` shows all that run", ExitStatus.USAGE
    )


def _call(socket: str, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    from lsyncd_sd.service.control_client import call

    return call(socket, method, parameters, CALL_SECONDS)
