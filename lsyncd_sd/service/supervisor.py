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
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lsyncd_sd.config.load import Loaded
from lsyncd_sd.config.model import Sync
from lsyncd_sd.errors import ConfigurationError, ExitStatus, LsyncdError, Problem
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.service import worker
from lsyncd_sd.service.child import (
    ABORT_SECONDS,
    CRASH_LIMIT,
    KILL_SECONDS,
    Child,
    Phase,
    new_child,
)
from lsyncd_sd.service.control import ControlError, ControlServer
from lsyncd_sd.service.environment import CONTROL_SOCKET, locks_directory, make_directory
from lsyncd_sd.service.journal import Event, Journal
from lsyncd_sd.service.locks import LockBusyError, Locks
from lsyncd_sd.service.notify import ChildSocket, Manager, Message, child_watchdog_seconds
from lsyncd_sd.service.processes import become_subreaper, end_session
from lsyncd_sd.service.status import State, SyncStatus, document, summary
from lsyncd_sd.watch import inotify

# READY=1 goes up after so many seconds at the latest: what still walks then shows in STATUS=.
READY_SECONDS = 30.0

# How long children may take to stop. They cut a running transfer short after worker.STOP_GRACE_SECONDS, and
# rsync gets process.KILL_AFTER more; systemd waits for TimeoutStopSec (90 s by default).
STOP_SECONDS = 30.0

# How soon to look again: for orphans that do not die, and for a lock that somebody takes right now.
LOOK_AGAIN_SECONDS = 0.5

# STATUS= follows the children at most so often.
STATUS_INTERVAL_SECONDS = 1.0


class Supervisor:
    """The parent process of one instance."""

    def __init__(
        self, load: Callable[[], Loaded], owner: str, runtime: Path, state: Path, *, serves_partly: bool
    ) -> None:
        """Prepare to run what `load` returns, each time it is asked.

        `owner` is who takes the locks, for others to read. `serves_partly`: invalid files are shown as
        failed syncs, instead of refusing to start.
        """
        self._load = load
        self._owner = owner
        self._runtime = runtime
        self._state_directory = state
        self._serves_partly = serves_partly
        self._children: dict[str, Child] = {}
        self._rejected: list[SyncStatus] = []
        self._random = random.Random()  # noqa: S311  (jitter, not a secret)
        self._limit = child_watchdog_seconds()
        self._timer: Timer | None = None
        self._status_timer: Timer | None = None
        self._is_ready = False
        self._is_stopping = False
        self._exit_status = ExitStatus.OK
        self._manager = Manager()

    # ------------------------------------------------------------------ life

    def run(self) -> ExitStatus:
        """Run until told to stop. Raises LsyncdError if it cannot start at all."""
        loaded = self._load()
        if loaded.failures and not self._serves_partly:
            raise ConfigurationError(loaded.problems)
        make_directory(self._runtime, 0o755)
        make_directory(self._state_directory, 0o700)
        self._loop = Loop()
        self._journal = Journal.for_this_process(_level(loaded))
        try:
            self._locks = Locks(locks_directory(self._runtime))
        except OSError as error:
            raise LsyncdError(f"cannot use the folder of the locks: {error}") from None
        self._control = ControlServer(
            self._loop, str(self._runtime / CONTROL_SOCKET), self._control_methods()
        )
        try:
            self._child_socket = ChildSocket(self._runtime)
            return self._serve(loaded)
        finally:
            self._control.close()

    def _serve(self, loaded: Loaded) -> ExitStatus:
        become_subreaper()
        self._loop.on_signals(
            {
                signal.SIGTERM: self._stop,
                signal.SIGINT: self._stop,
                signal.SIGHUP: self._reload_by_signal,
                signal.SIGCHLD: self._reap,
            }
        )
        self._loop.watch_reads(self._child_socket.fileno(), self._hear)
        for problem in loaded.warnings:
            self._journal.warning("\n".join(problem.lines()))
        self._adopt(loaded)
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

    def _keep_awake(self) -> None:
        """Make sure that a pass of the loop ends often enough for the manager's watchdog."""
        assert self._manager.ping_interval is not None
        self._loop.call_later(self._manager.ping_interval, self._keep_awake)

    def _become_ready(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            self._manager.ready()
            self._show_status()

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        self._manager.stopping()
        self._journal.notice("stopping", Event.STOPPING)
        for child in self._children.values():
            self._stop_child(child, successor=None)
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
            if wanted.get(name) != child.sync or child.phase in (Phase.STOPPING, Phase.STOPPED):
                changed.append(name)
                self._stop_child(child, successor=wanted.get(name))
        for name, sync in wanted.items():
            if name not in self._children:
                changed.append(name)
                self._children[name] = new_child(sync, time.time())
        return sorted(changed)

    def _reload(self) -> list[str]:
        """Read the files again. Raises ControlError, and changes nothing, if one cannot be used."""
        loaded = self._load()
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
            self._reload()

    def _log_problems(self, path: str, problems: Iterable[Problem]) -> None:
        lines = [line for problem in problems for line in problem.lines()]
        self._journal.error("\n".join([f"{path} cannot be used", *lines]), Event.CONFIG_REJECTED)

    # ------------------------------------------------------------------ children: time

    def _act(self) -> None:
        """Do what is due for every child, and arm the timer for what is due next."""
        now = self._loop.now()
        for child in list(self._children.values()):
            if child.phase not in (Phase.FAILED, Phase.STOPPED) and child.deadline <= now:
                self._deadline_reached(child, now)
        for name in [name for name, child in self._children.items() if child.phase is Phase.STOPPED]:
            self._forget_or_succeed(name)
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

    def _deadline_reached(self, child: Child, now: float) -> None:
        match child.phase:
            case Phase.WAITING:
                self._start_child(child)
            case Phase.RUNNING:
                self._journal.error(
                    f"the process of this sync (pid {child.pid}) has not answered for {self._limit:.0f} s: "
                    "it is replaced",
                    Event.CHILD_HUNG,
                    sync=child.sync.name,
                )
                self._signal(child, signal.SIGABRT, Phase.ABORTING, now + ABORT_SECONDS)
            case Phase.ABORTING | Phase.STOPPING:
                self._signal(child, signal.SIGKILL, Phase.KILLING, now + KILL_SECONDS)
            case Phase.KILLING:
                self._stuck(child)
            case Phase.SWEEPING:
                self._sweep(child, now)
            case _:
                # Nothing can be done for it until it dies.
                child.deadline = float("inf")

    def _signal(self, child: Child, number: signal.Signals, phase: Phase, deadline: float) -> None:
        child.phase, child.deadline = phase, deadline
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)

    def _stuck(self, child: Child) -> None:
        # While stopping, waiting for it would only make the service manager wait, too.
        child.phase = Phase.STOPPED if self._is_stopping else Phase.STUCK
        child.deadline = float("inf")
        reason = f"process {child.pid} hangs in the kernel and cannot be ended"
        child.show(State.STUCK, time.time(), reason)
        self._journal.error(reason, Event.CHILD_STUCK, sync=child.sync.name, state=State.STUCK.value)

    def _stop_child(self, child: Child, successor: Sync | None) -> None:
        """Stop a child; `successor` is what then runs under its name, None for nothing."""
        child.is_unwanted, child.successor = True, successor
        now = self._loop.now()
        if child.phase is Phase.RUNNING:
            self._signal(child, signal.SIGTERM, Phase.STOPPING, now + STOP_SECONDS)
        elif child.phase in (Phase.WAITING, Phase.FAILED):
            child.phase = Phase.STOPPED

    def _forget_or_succeed(self, name: str) -> None:
        old = self._children.pop(name)
        is_same = old.successor == old.sync
        if old.queue >= 0 and not is_same:
            os.close(old.queue)
        if old.lock >= 0:
            os.close(old.lock)
        if old.successor is None or self._is_stopping:
            return
        child = self._children[name] = new_child(old.successor, time.time())
        child.accepted = old.accepted
        child.full_sync_reason = "the sync was restarted" if is_same else "the configuration has changed"
        child.queue = old.queue if is_same else -1
        child.deadline = self._loop.now()

    def _check_end(self) -> None:
        if not self._children and self._is_stopping:
            self._loop.stop()
        elif self._children and not self._rejected and not self._is_stopping:
            self._end_if_all_failed()
        elif not self._children and self._rejected:
            self._give_up([status.reason for status in self._rejected])

    def _end_if_all_failed(self) -> None:
        if all(child.phase is Phase.FAILED for child in self._children.values()):
            self._give_up([child.status.reason for child in self._children.values()])

    def _give_up(self, reasons: list[str]) -> None:
        """Every sync is failed: end, so that the service manager shows it."""
        if self._exit_status is ExitStatus.OK:
            self._exit_status = ExitStatus.NOT_GOOD
            self._journal.error(f"every sync has failed, ending: {'; '.join(reasons)}", Event.CHILD_FAILED)
            self._stop()

    # ------------------------------------------------------------------ children: start and end

    def _start_child(self, child: Child) -> None:
        try:
            if child.lock < 0:
                child.lock = self._locks.take_target(child.sync.target, self._owner)
            if child.queue < 0:
                child.queue = inotify.open_queue()
        except LockBusyError:
            child.deadline = self._loop.now() + LOOK_AGAIN_SECONDS
            return
        except LsyncdError as error:
            if any(other.is_unwanted for other in self._children.values()):
                # It may be one of our own that holds the lock until it has stopped.
                child.deadline = self._loop.now() + LOOK_AGAIN_SECONDS
            else:
                self._fail(child, f"{error.message}; {error.hint}")
            return
        except OSError as error:
            hint = "sysctl fs.inotify.max_user_instances may be too small for so many syncs"
            self._fail(child, f"cannot open an inotify queue: {error.strerror}; {hint}")
            return
        self._fork(child)

    def _fork(self, child: Child) -> None:
        assignment = worker.Assignment(
            sync=child.sync,
            queue=child.queue,
            ping_interval=self._limit / 3,
            state_directory=self._state_directory,
            locks=self._locks,
            parent=os.getpid(),
            full_sync_reason=child.full_sync_reason,
            accepted=child.accepted,
        )
        sys.stderr.flush()
        # A signal between the fork and the child's own handlers would be queued for a loop that never
        # runs: the child is born with them blocked, and lets them in when it is ready.
        blocked = signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
        )
        child.pid = os.fork()
        if child.pid == 0:
            self._be_child(child, assignment, blocked)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        child.phase = Phase.RUNNING
        child.deadline = self._loop.now() + self._limit
        child.accepted = ""
        child.show(State.STARTING, time.time())

    def _be_child(
        self, child: Child, assignment: worker.Assignment, unblocked: Iterable[int | signal.Signals]
    ) -> None:
        """The forked side: give back what is the parent's, and become the worker. Never returns."""
        status = 1
        try:
            # A session of its own: whatever it starts can be found by it, and Ctrl-C is the parent's.
            os.setsid()
            self._loop.close()
            self._control.close_in_child()
            for other in self._children.values():
                if other is not child:
                    for descriptor in (other.queue, other.lock):
                        if descriptor >= 0:
                            os.close(descriptor)
            os.environ["NOTIFY_SOCKET"] = self._child_socket.address
            worker.run(assignment, unblocked)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(status)

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
                self._ended(child, os.waitstatus_to_exitcode(status))
        self._act()

    def _ended(self, child: Child, code: int) -> None:
        was = child.phase
        pid, child.pid = child.pid, 0
        child.is_ready = True
        now = self._loop.now()
        child.phase, child.deadline = Phase.SWEEPING, now
        child.session = pid
        if child.is_unwanted:
            return
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code}"
        if code == -signal.SIGKILL and was is Phase.RUNNING:
            how += " (if nobody did it: was the machine out of memory?)"
        self._journal.error(
            f"the process of this sync (pid {pid}) {how}", Event.CHILD_CRASHED, sync=child.sync.name
        )
        child.restarts += 1
        child.full_sync_reason = "its process was replaced"
        child.give_up_reason = ""
        if not child.crashed(now, self._random):
            child.give_up_reason = f"its process crashed {CRASH_LIMIT} times; the last one {how}"
        child.show(State.STARTING, time.time(), f"its process {how}")

    def _sweep(self, child: Child, now: float) -> None:
        """End what a dead child left behind; only then may another one be started."""
        if not end_session(child.session):
            child.deadline = now + LOOK_AGAIN_SECONDS
            return
        if child.is_unwanted:
            child.phase = Phase.STOPPED
        elif child.give_up_reason:
            self._fail(child, child.give_up_reason)
        else:
            child.phase, child.deadline = Phase.WAITING, max(child.respawn_at, now)

    def _fail(self, child: Child, reason: str) -> None:
        child.phase = Phase.FAILED
        child.show(State.FAILED, time.time(), reason)
        child.is_ready = True
        self._journal.error(
            f"failed: {reason}; `lsyncd-sd restart {child.sync.name}` tries again",
            Event.CHILD_FAILED,
            sync=child.sync.name,
            state=State.FAILED.value,
        )

    def _by_pid(self, pid: int) -> Child | None:
        return next((child for child in self._children.values() if child.pid == pid), None)

    # ------------------------------------------------------------------ what children say

    def _hear(self) -> None:
        for message in self._child_socket.messages():
            child = self._by_pid(message.pid)
            # Whoever else writes to the socket, a helper of a child for one, is not heard.
            if child is not None:
                self._heard(child, message)

    def _heard(self, child: Child, message: Message) -> None:
        if "WATCHDOG" in message.values:
            child.heard(self._loop.now(), self._limit)
            self._arm()
        if "X_LSYNCD_STATUS" in message.values:
            with contextlib.suppress(ValueError):
                child.take_status(SyncStatus.from_json(json.loads(message.values["X_LSYNCD_STATUS"])))
        if "READY" in message.values:
            child.is_ready = True
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

    def _control_methods(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        return {
            "Status": self._answer_status,
            "Reload": lambda _parameters: {"changed": self._reload()},
            "Restart": self._answer_restart,
            "Accept": self._answer_accept,
        }

    def _answer_status(self, parameters: dict[str, Any]) -> dict[str, Any]:
        statuses = self.statuses()
        if "name" in parameters:
            statuses = [status for status in statuses if status.name == parameters["name"]]
            if not statuses:
                raise ControlError("NoSuchSync", {"name": parameters["name"]})
        return document(statuses)

    def _answer_restart(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self._restart(self._named(parameters["name"]), accepted="")
        return {}

    def _answer_accept(self, parameters: dict[str, Any]) -> dict[str, Any]:
        child = self._named(parameters["name"])
        if child.status.state is not State.HELD or not child.status.hold_id:
            raise ControlError("NotHeld", {"name": child.sync.name, "state": child.status.state.value})
        self._restart(child, accepted=child.status.hold_id)
        return {}

    def _restart(self, child: Child, accepted: str) -> None:
        child.accepted = accepted
        self._stop_child(child, successor=child.sync)
        self._act()

    def _named(self, name: str) -> Child:
        if name not in self._children:
            raise ControlError("NoSuchSync", {"name": name})
        return self._children[name]


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
