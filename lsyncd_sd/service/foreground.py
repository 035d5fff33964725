# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs what a command line of Lsyncd's asks for, in the foreground, and ends with the status of Lsyncd."""

from __future__ import annotations

import contextlib
import os
import sys

from lsyncd_sd.classicline import FAILURE, MANUAL, Line
from lsyncd_sd.config.classic import Here, load_line
from lsyncd_sd.errors import ConfigurationError, ExitStatus, LsyncdError
from lsyncd_sd.printable import visible
from lsyncd_sd.service.ending import Ending
from lsyncd_sd.service.environment import line_runtime_directory, line_state_directory
from lsyncd_sd.service.journal import Journal, OpenJournal, open_log
from lsyncd_sd.service.pidfile import pid_file
from lsyncd_sd.service.supervisor import Supervisor

# Lsyncd tells of a signal that it was told to end by as a shell would: so much, and its number.
BY_SIGNAL = 128

_NOTICE = f"""\
lsyncd-sd: mirrors in the foreground, as with -nodaemon, until Ctrl-C or SIGTERM
    as a service: put it into /etc/lsyncd.d/NAME.yaml and say `systemctl enable --now lsyncd@NAME`;
    see {MANUAL}"""


def run_line(line: Line) -> int:
    """Mirror until told to stop, or until that was what was asked for. Return the exit status.

    Raises LsyncdError if it cannot start at all.
    """
    here = _here()
    loaded = load_line(line, here)
    if loaded.failures:
        raise ConfigurationError(loaded.problems)
    supervisor = Supervisor(
        lambda: load_line(line, here),
        owner=f"{_as_typed(line)} (pid {os.getpid()})",
        runtime=line_runtime_directory(loaded.configurations[0].syncs[0].name),
        state=line_state_directory(),
        open_journal=_journal(line, here),
        ending=Ending(is_onepass=line.has("onepass"), insists=line.has("insist")),
    )
    with contextlib.ExitStack() as stack:
        if call := line.last("pidfile"):
            stack.enter_context(pid_file(here.absolute(call.words[0])))
        if not line.has("nodaemon") and not line.has("onepass"):
            print(_NOTICE, file=sys.stderr, flush=True)
        status = supervisor.run()
    if supervisor.stopped_by is not None:
        return BY_SIGNAL + supervisor.stopped_by
    return 0 if status is ExitStatus.OK else FAILURE


def _here() -> Here:
    try:
        return Here(os.getcwd(), os.path.expanduser("~"))
    except OSError as error:
        raise LsyncdError(f"the current directory cannot be used: {error.strerror}") from None


def _as_typed(line: Line) -> str:
    return " ".join(["lsyncd-sd", *(call.text for call in line.syncs)])


def _journal(line: Line, here: Here) -> OpenJournal:
    """Return what opens the journal of a process. Raises LsyncdError if there can be no log file."""
    call = line.last("logfile")
    if call is None:
        return Journal.for_this_process
    path = here.absolute(call.words[0])
    try:
        os.close(open_log(path))
    except OSError as error:
        raise LsyncdError(
            f"cannot write the log file {visible(path)}: {error.strerror}", "name another one with -logfile"
        ) from None
    is_shown = line.has("nodaemon")
    return lambda level: Journal.in_file(path, level, is_shown=is_shown)
