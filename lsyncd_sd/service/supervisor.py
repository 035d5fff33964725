# SPDX-License-Identifier: GPL-2.0-or-later
"""The parent: forks one child per sync, and then only waits, for their words, their ends, signals, clients.

It never blocks and never touches a watched tree or a target. It holds each sync's inotify queue, so that the
queue goes on collecting while a crashed child is replaced.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from lsyncd_sd.config.load import Loaded
from lsyncd_sd.errors import ConfigurationError, ExitStatus, LsyncdError, Problem
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.service.answers import methods
from lsyncd_sd.service.child import (
    Child,
    Phase,
    new_child,
)
from lsyncd_sd.service.control import ControlServer
from lsyncd_sd.service.control_interface import ControlError, Deferred
from lsyncd_sd.service.ending import Ending
from lsyncd_sd.service.environment import CONTROL_SOCKET, locks_directory, make_directory
from lsyncd_sd.service.journal import Event, Journal, OpenJournal
from lsyncd_sd.service.lifecycle import Circumstances, Lifecycle
from lsyncd_sd.service.locks import Locks
from lsyncd_sd.service.notify import ChildSocket, Manager, Message, child_watchdog_seconds
from lsyncd_sd.service.processes import become_subreaper
from lsyncd_sd.service.requests import Requests
from lsyncd_sd.service.status import State, SyncStatus
from lsyncd_sd.service.statustext import summary
from lsyncd_sd.service.turns import Turns

# READY=1 goes up after so many seconds at the latest: what still walks then shows in STATUS=.
READY_SECONDS = 30.0

# STATUS= follows the children at most so often.
STATUS_INTERVAL_SECONDS = 1.0


class Supervisor:
    """The parent process of one instance."""

    def __init__(
        self,
        load: Callable[[], Loaded],
        owner: str,
        runtime: Path,
        state: Path,
        *,
        serves_partly: bool = False,
        open_journal: OpenJournal = Journal.for_this_process,
        ending: Ending | None = None,
    ) -> None:
        """Prepare to run what `load` returns, each time it is asked.

        `owner` is who takes the locks, for others to read. `serves_partly`: invalid files are shown as
        failed syncs, instead of refusing to start. `ending`: when to end without being told to.
        """
        self._load = load
        self._owner = owner
        self._runtime = runtime
        self._state_directory = state
        self._serves_partly = serves_partly
        self._open_journal = open_journal
        self._ending = ending or Ending()
        self._children: dict[str, Child] = {}
        self._rejected: list[SyncStatus] = []
        self._limit = child_watchdog_seconds()
        self._timer: Timer | None = None
        self._status_timer: Timer | None = None
        self._is_ready = False
        self._is_stopping = False
        self._exit_status = ExitStatus.OK
        self._manager = Manager()
        # What has told it to stop, if anything has.
        self.stopped_by: signal.Signals | None = None

    # ------------------------------------------------------------------ life

    def run(self) -> ExitStatus:
        """Run until told to stop. Raises LsyncdError if it cannot start at all."""
        loaded = self._load()
        if loaded.failures and not self._serves_partly:
            raise ConfigurationError(loaded.problems)
        make_directory(self._runtime, 0o755)
        make_directory(self._state_directory, 0o700)
        self._loop = Loop()
        self._journal = self._open_journal(_level(loaded))
        try:
            self._locks = Locks(locks_directory(self._runtime))
        except OSError as error:
            raise LsyncdError(f"cannot use the folder of the locks: {error}") from None
        self._control = ControlServer(self._loop, str(self._runtime / CONTROL_SOCKET), methods(self))
        try:
            self._child_socket = ChildSocket(self._runtime)
            self._requests = Requests(self._loop)
            self._turns = Turns(self._loop)
            self._lifecycle = Lifecycle(self._circumstances())
            return self._serve(loaded)
        finally:
            self._control.close()

    def _serve(self, loaded: Loaded) -> ExitStatus:
        become_subreaper()
        self._loop.on_signals(
            {
                signal.SIGTERM: partial(self._stop_by, signal.SIGTERM),
                signal.SIGINT: partial(self._stop_by, signal.SIGINT),
                signal.SIGHUP: self._reload_by_signal,
                signal.SIGCHLD: self._reap,
            }
        )
        self._loop.watch_reads(self._child_socket.fileno(), self._hear)
        for problem in loaded.warnings:
            self._journal.warning("\n".join(problem.lines()))
        self._adopt(loaded)
        self._ending.begin(
            list(self._children),
            lambda name, reply: self._requests.sync(name, full=False, reply=reply),
            self._check_end_soon,
        )
        self._journal.notice(f"started with {len(self._children)} syncs", Event.STARTED)
        # All modules are loaded: from here on a garbage collection in a child must not touch, and so copy,
        # the pages it shares with the others.
        gc.collect()
        gc.freeze()
        self._loop.call_later(READY_SECONDS, self._become_ready)
        if self._manager.ping_interval is not None:
            self._keep_awake()
        self._act()
        self._loop.run(after_pass=lambda: self._manager.ping(self._loop.now()))
        self._child_socket.close()
        self._journal.report_repeats(everything=True)
        return self._exit_status

    def _circumstances(self) -> Circumstances:
        return Circumstances(
            journal=self._journal,
            locks=self._locks,
            turns=self._turns,
            owner=self._owner,
            limit=self._limit,
            runtime=self._runtime,
            state_directory=self._state_directory,
            give_back=self._give_back,
            started=self._requests.started,
            open_journal=self._open_journal,
            compares_first=self._ending.is_onepass,
        )

    def _keep_awake(self) -> None:
        """Make sure that a pass of the loop ends often enough for the manager's watchdog."""
        assert self._manager.ping_interval is not None
        self._loop.call_later(self._manager.ping_interval, self._keep_awake)

    def _become_ready(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            self._manager.ready()
            self._show_status()

    def _stop_by(self, number: signal.Signals) -> None:
        if not self._is_stopping:
            self.stopped_by = number
        self._stop()

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = self._lifecycle.is_stopping = True
        self._manager.stopping()
        self._journal.notice("stopping", Event.STOPPING)
        for child in self._children.values():
            self._lifecycle.stop(child, None, self._loop.now())
        self._act()

    # ------------------------------------------------------------------ configuration

    def _adopt(self, loaded: Loaded) -> list[str]:
        """Make the children those of `loaded`; return the names of the syncs that changed."""
        self._rejected = [_rejected(path, problems) for path, problems in loaded.failures]
        for path, problems in loaded.failures:
            self._log_problems(path, problems)
        wanted = {sync.name: sync for configuration in loaded.configurations for sync in configuration.syncs}
        changed = []
        for name, child in list(self._children.items()):
            if child.is_unwanted or wanted.get(name) != child.sync:
                changed.append(name)
                self._lifecycle.stop(child, wanted.get(name), self._loop.now())
        for name, sync in wanted.items():
            if name not in self._children:
                changed.append(name)
                self._children[name] = new_child(sync, time.time())
        return sorted(changed)

    def reload(self) -> list[str]:
        """Read the files again. Raises ControlError, and changes nothing, if one cannot be used."""
        try:
            loaded = self._load()
        except LsyncdError as error:
            problem = Problem("configuration", error.message, error.hint)
            self._log_problems("the configuration", [problem])
            raise ControlError.configuration_invalid([problem]) from None
        if loaded.failures:
            for path, problems in loaded.failures:
                self._log_problems(path, problems)
            raise ControlError.configuration_invalid(loaded.problems)
        self._manager.reloading()
        try:
            changed = self._adopt(loaded)
            self._journal.notice(
                f"configuration read again; changed: {', '.join(changed) or 'nothing'}",
                Event.CONFIG_RELOADED,
            )
        finally:
            self._manager.ready()
        self._act()
        return changed

    def _reload_by_signal(self) -> None:
        # The journal has said what is wrong; there is nobody else to tell.
        with contextlib.suppress(ControlError):
            self.reload()

    def _log_problems(self, path: str, problems: Iterable[Problem]) -> None:
        lines = [line for problem in problems for line in problem.lines()]
        self._journal.error("\n".join([f"{path} cannot be used", *lines]), Event.CONFIG_REJECTED)

    # ------------------------------------------------------------------ children: time

    def _act(self) -> None:
        """Do what is due for every child, and arm the timer for what is due next."""
        now = self._loop.now()
        for child in list(self._children.values()):
            if child.phase not in (Phase.FAILED, Phase.STOPPED) and child.deadline <= now:
                self._lifecycle.deadline_reached(child, now)
        for name in [name for name, child in self._children.items() if child.phase is Phase.STOPPED]:
            self._forget_or_succeed(name)
        for child in self._children.values():
            self._requests.look_at(child)
        self._check_end()
        self._arm()
        self._show_status_soon()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadlines = [
            child.deadline
            for child in self._children.values()
            if child.phase not in (Phase.FAILED, Phase.STOPPED, Phase.STUCK)
        ]
        if deadlines:
            self._timer = self._loop.call_at(min(deadlines), self._act)

    def _forget_or_succeed(self, name: str) -> None:
        old = self._children.pop(name)
        is_same = old.successor == old.sync
        if old.queue >= 0 and not is_same:
            os.close(old.queue)
        old.claims.release()
        if self._is_stopping:
            return
        if old.successor is None:
            self._requests.forget(name)
            return
        child = self._children[name] = new_child(old.successor, time.time())
        child.full_sync_reason = "the sync was restarted" if is_same else "the configuration has changed"
        child.queue = old.queue if is_same else -1
        child.deadline = self._loop.now()

    def _check_end_soon(self) -> None:
        # Whoever calls it may be in the middle of going through the children.
        self._loop.call_later(0, self._check_end)

    def _check_end(self) -> None:
        if self._is_stopping:
            if not self._children:
                self._loop.stop()
            return
        statuses = self.statuses()
        if all(status.has_failed for status in statuses):
            # Nothing is left to be done here: end, so that the service manager shows it.
            failures = {child.failure for child in self._children.values()}
            is_for_a_person = failures <= {ExitStatus.USAGE}
            self._exit_status = ExitStatus.USAGE if is_for_a_person else ExitStatus.NOT_GOOD
            reasons = "; ".join(status.reason for status in statuses)
            self._journal.error(f"every sync has failed, ending: {reasons}", Event.CHILD_FAILED)
            self._stop()
        elif (end := self._ending.verdict(statuses)) is not None:
            self._exit_status = end
            if end is not ExitStatus.OK:
                self._journal.error(self._ending.why(statuses))
            self._stop()

    # ------------------------------------------------------------------ children: ends

    def _give_back(self, child: Child) -> None:
        """In the new child: close what is the parent's or a sibling's."""
        self._loop.close()
        self._control.close_in_child()
        self._turns.close_in_child()
        for other in self._children.values():
            if other is not child:
                for descriptor in other.claims.descriptors:
                    os.close(descriptor)
                if other.queue >= 0:
                    os.close(other.queue)
                if other.channel is not None:
                    other.channel.close()
        os.environ["NOTIFY_SOCKET"] = self._child_socket.address

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            child = self._by_pid(pid)
            if child is not None:
                self._requests.ended(child)
                self._lifecycle.ended(child, os.waitstatus_to_exitcode(status), self._loop.now())
        self._act()

    def _by_pid(self, pid: int) -> Child | None:
        return next((child for child in self._children.values() if child.pid == pid), None)

    # ------------------------------------------------------------------ what children say

    def _hear(self) -> None:
        for message in self._child_socket.messages():
            child = self._by_pid(message.pid)
            # Whoever else writes to the socket, a helper of a child for one, is not heard.
            if child is not None:
                self._heard(child, message)
        self._check_end()

    def _heard(self, child: Child, message: Message) -> None:
        if "WATCHDOG" in message.values:
            child.heard(self._loop.now(), self._limit)
            self._arm()
        if "X_LSYNCD_STATUS" in message.values:
            with contextlib.suppress(ValueError):
                child.take_status(SyncStatus.from_json(json.loads(message.values["X_LSYNCD_STATUS"])))
        if "READY" in message.values:
            child.is_ready = True
        self._requests.look_at(child)
        if "EXTEND_TIMEOUT_USEC" in message.values and not self._is_ready:
            with contextlib.suppress(ValueError):
                self._manager.extend_start(int(message.values["EXTEND_TIMEOUT_USEC"]))
        self._show_status_soon()

    # ------------------------------------------------------------------ what others see

    def statuses(self) -> list[SyncStatus]:
        """Return the status of every sync, by what was heard last."""
        return [child.status for child in self._children.values()] + self._rejected

    def _show_status_soon(self) -> None:
        if not self._is_ready and all(child.is_ready for child in self._children.values()):
            self._become_ready()
        if self._status_timer is None:
            self._status_timer = self._loop.call_later(STATUS_INTERVAL_SECONDS, self._show_status)

    def _show_status(self) -> None:
        if self._status_timer is not None:
            self._status_timer.cancel()
            self._status_timer = None
        self._manager.status(summary(self.statuses()))

    def restart(self, name: str) -> None:
        """Start the process of a sync anew. Raises ControlError.

        A file that could not be used has no process: only a reload can help it.
        """
        child = self._living(name)
        # While it stops for a reload, what follows stays what the reload wants.
        successor = child.successor if child.is_unwanted else child.sync
        self._lifecycle.stop(child, successor, self._loop.now())
        self._act()

    def sync(self, name: str, *, full: bool, reply: Deferred | None) -> None:
        """Ask a sync to make what is pending due at once, or for a full sync. Raises ControlError.

        `reply` gets the answer when everything that was changed before is on the target.
        """
        child = self._living(name)
        if child.phase is Phase.FAILED:
            raise ControlError("Unavailable", {"name": name, "reason": child.status.reason})
        if reply is not None and child.claims.refused:
            reasons = [f"{target.text}: {reason}" for target, reason in child.claims.refused.items()]
            raise ControlError("Unavailable", {"name": name, "reason": "; ".join(reasons)})
        self._requests.sync(name, full=full, reply=reply)
        self._requests.look_at(child)

    def accept(self, name: str, target: str, hold_id: str, reply: Deferred) -> None:
        """Have a held target get what this hold names; `reply` says if it does. Raises ControlError."""
        self._requests.accept(self._living(name), target, hold_id, reply)

    def _living(self, name: str) -> Child:
        """Return the child of this name. Raises ControlError if there is none, or about to be none."""
        if self._is_stopping:
            raise ControlError("Unavailable", {"name": name, "reason": "the service is being stopped"})
        child = self._children.get(name)
        if child is None or (child.is_unwanted and child.successor is None):
            raise ControlError("NoSuchSync", {"name": name})
        return child


def _level(loaded: Loaded) -> str:
    """Return the most talkative level that any sync asks for: the parent speaks for all of them."""
    levels = [sync.log_level for configuration in loaded.configurations for sync in configuration.syncs]
    order = ["error", "warning", "notice", "info", "debug"]
    return max(levels, key=order.index, default="info")


def _rejected(path: str, problems: tuple[Problem, ...]) -> SyncStatus:
    """Return how a file that cannot be used is shown among the syncs."""
    reason = "\n".join(line for problem in problems if not problem.is_warning for line in problem.lines())
    return SyncStatus(
        name=Path(path).stem, source="-", target="-", state=State.FAILED, since=time.time(), reason=reason
    )
