# SPDX-License-Identifier: GPL-2.0-or-later
"""What an rsync exit status means and what follows from it; and how long to wait before trying again.

The table is docs/rsync.md's. No outcome ends the daemon, and none but OK lets a change be forgotten.
"""

from __future__ import annotations

import enum
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lsyncd_sd.mirror.process import Result


class Outcome(enum.Enum):
    """How a run ended, as far as it matters for what to do next."""

    OK = "ok"
    VANISHED = "vanished"
    PARTIAL = "partial"
    TARGET_FULL = "target-full"
    TARGET_MISSING = "target-missing"
    BRAKE = "brake"
    CONNECTION = "connection"
    KILLED = "killed"
    CUT_SHORT = "cut-short"
    RESTRICTED = "restricted"
    FAIL = "fail"


# rsync(1), EXIT VALUES. 20 is also what rsync returns for SIGINT and SIGTERM, 19 for SIGUSR1.
_BY_EXIT_STATUS: Mapping[int, Outcome] = {
    0: Outcome.OK,
    5: Outcome.CONNECTION,  # error starting the client-server protocol
    10: Outcome.CONNECTION,  # error in socket I/O
    11: Outcome.FAIL,  # error in file I/O: full and missing targets are told apart by the message
    12: Outcome.CONNECTION,  # error in the protocol data stream
    19: Outcome.KILLED,
    20: Outcome.KILLED,
    23: Outcome.PARTIAL,  # some files or attributes were not transferred
    24: Outcome.VANISHED,  # source files vanished before they could be transferred
    25: Outcome.BRAKE,  # --max-delete stopped deletions
    30: Outcome.CONNECTION,  # time-out in sending or receiving
    35: Outcome.CONNECTION,  # time-out waiting for a daemon connection
    255: Outcome.CONNECTION,  # ssh's own failures
}

# strerror(3) of ENOSPC and EDQUOT in the C locale that rsync is run with. At the end of a line, where no
# file name can say it.
_FULL = re.compile(rb": (?:No space left on device|Disk quota exceeded) \(\d+\)\r?$", re.MULTILINE)

# `TARGET/.` cannot be made where TARGET is not: that mkdir is the only one that ends a run with 11. A dry
# run, or one with nothing to send, does not try to make it and gives 3, as does a file in its place. A
# daemon whose module's path is gone answers before the transfer begins.
_ROOT_MISSING = re.compile(
    rb'(?:mkdir|change_dir#3) ".*" (?:\(in [^)]*\) )?failed: No such file or directory'
    rb'|cannot stat destination ".*": Not a directory'
    rb"|@ERROR: chdir failed",
    re.DOTALL,
)

# Where something stood in the way that could not be deleted any more, the exit status is 23.
_BRAKE = re.compile(rb"^Deletions stopped due to --max-delete limit", re.MULTILINE)

# A daemon did not let it in, or did not answer.
_NOT_LET_IN = frozenset({5, 35})

# Seen of an rsync that got no answer at all, from ssh, from the rsync on the other side, or from a daemon.
_NO_ANSWER = re.compile(
    rb"connection unexpectedly closed \(0 bytes received so far\) \[sender\]"
    rb"|\[sender\] (?:failed to connect to |Failed to exec )"
)

# It refuses any other option for good: `rrsync -no-del`, --delete.
_REFUSED = re.compile(rb"rrsync error: option \S+ has been disabled")

# Debian's rrsync on the other side refuses -s and --modify-window=-1 in these words.
_RESTRICTED = re.compile(
    rb"rrsync error: (?:option -?-?s\S* has been disabled|invalid rsync-command syntax)"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome with the one line of rsync's own words that tells most about it."""

    outcome: Outcome
    message: str
    exit_status: int


def judge(result: Result, overrides: Mapping[int, str]) -> Verdict:
    """Return what `result` of an rsync run means; `overrides` maps exit statuses to outcome names."""
    outcome = _outcome(result, overrides)
    return Verdict(outcome, _telling_line(result.errors, result.code), result.code)


def _outcome(result: Result, overrides: Mapping[int, str]) -> Outcome:
    if result.was_cut_short:
        # Whatever it returns: we ended it, so it says nothing about the target.
        return Outcome.CUT_SHORT
    if result.code < 0:
        return Outcome.KILLED
    if result.code in overrides:
        return Outcome(overrides[result.code])
    if result.code in (11, 23) and _FULL.search(result.errors):
        return Outcome.TARGET_FULL
    if result.code == 23 and _BRAKE.search(result.errors):
        return Outcome.BRAKE
    if result.code in (3, 5, 11) and _ROOT_MISSING.search(result.errors):
        return Outcome.TARGET_MISSING
    if result.code in (1, 12) and _RESTRICTED.search(result.errors):
        return Outcome.RESTRICTED
    if result.code == 12 and _REFUSED.search(result.errors):
        return Outcome.FAIL
    return _BY_EXIT_STATUS.get(result.code, Outcome.FAIL)


def never_began(result: Result) -> bool:
    """Tell whether a run did not get as far as the target, so that it has left nothing there."""
    has_no_answer = result.code in _NOT_LET_IN or _NO_ANSWER.search(result.errors) is not None
    return has_no_answer and not result.was_cut_short


def _cut(line: str) -> str:
    """Return the line in at most 500 characters: behind a long path stands what is wrong with it."""
    return line if len(line) <= 500 else f"{line[:200]} [...] {line[-292:]}"


# What 3.5.0 says first, with an advice that is none here.
_UNTRUSTED_LINK = "refusing to follow a symlink owned by an untrusted user"


def _telling_line(errors: bytes, code: int) -> str:
    """Return the first line that says what happened; rsync's closing line only repeats the exit status."""
    lines = [line.strip() for line in errors.decode("utf-8", "backslashreplace").splitlines()]
    lines = [line for line in lines if line]
    telling = [line for line in lines if not line.startswith("rsync error:")] or lines
    if telling and telling[0].startswith(_UNTRUSTED_LINK):
        advice = "rsync follows no symbolic link of another user in a path it was given; write the real path"
        return _cut(f"{advice}: {' '.join(telling[1:2])}")
    if telling:
        return _cut(telling[0])
    return f"ended by signal {-code}" if code < 0 else f"exit status {code}" if code else ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait after a failure: `first` seconds, doubled with each one in a row, up to `limit`."""

    first: float
    limit: float

    def seconds(self, failures: int) -> float:
        """Return the wait when so many failures came before, without jitter."""
        # 2**20 exceeds every limit; beyond, the power itself would grow without end.
        return min(self.limit, self.first * 2.0 ** min(failures, 20))


# Guesses, all of them: a line that comes back is used within seconds, a full disk takes a person.
PATIENCE: Mapping[Outcome, Patience] = {
    Outcome.PARTIAL: Patience(5, 600),
    Outcome.VANISHED: Patience(1, 60),
    Outcome.TARGET_FULL: Patience(15, 600),
    Outcome.TARGET_MISSING: Patience(2, 20),
    Outcome.BRAKE: Patience(5, 600),
    Outcome.CONNECTION: Patience(2, 300),
    Outcome.KILLED: Patience(1, 60),
    Outcome.CUT_SHORT: Patience(1, 60),
    Outcome.RESTRICTED: Patience(1, 60),
    Outcome.FAIL: Patience(5, 600),
}


class BackOff:
    """Counts failures in a row and says how long to wait.

    The jitter keeps a hundred syncs to one host from all knocking at the same moment after an outage.
    """

    def __init__(self, random_source: random.Random) -> None:
        self._random = random_source
        self.failures = 0

    def next(self, patience: Patience) -> float:
        """Count one more failure and return the seconds to wait: 75 % to 125 % of the doubled time."""
        seconds = patience.seconds(self.failures)
        self.failures += 1
        return seconds * self._random.uniform(0.75, 1.25)

    def reset(self) -> None:
        """A success: the next failure is the first one again."""
        self.failures = 0
