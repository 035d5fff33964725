# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes moves on a target with a shell there, over the connection that rsync goes over, too."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

from lsyncd_sd.config.model import Target
from lsyncd_sd.loop import Loop, Timer
from lsyncd_sd.mirror.feed import Feed
from lsyncd_sd.mirror.moveprogram import Answers, Shell, beginning, ending
from lsyncd_sd.mirror.moving import Moved
from lsyncd_sd.mirror.outcome import Outcome, Verdict
from lsyncd_sd.mirror.process import OnExit, Process, Result, start_command
from lsyncd_sd.mirror.sshmaster import SshMaster
from lsyncd_sd.mirror.steps import Steps
from lsyncd_sd.plan.change import Move

# ssh returns this for its own failures; so do some programs that stand for a shell, and say who they are.
_FAILED = 255
_RESTRICTED = re.compile(rb"rrsync|SSH_ORIGINAL_COMMAND")


class SshMover:
    """Moves things on one target; `words` is an ssh that goes over the connection of `master`.

    `timeout`: after so many seconds without an answer the target cannot be reached; 0 is for ever.
    """

    def __init__(
        self, loop: Loop, master: SshMaster, words: list[str], target: Target, timeout: float
    ) -> None:
        self._loop = loop
        self._master = master
        self.words = words
        self._target = target
        self._timeout = timeout
        # One whose answers ended somewhere: what was still on its way to it may reach it any time.
        self._doubtful: Shell | None = None

    @property
    def last_words(self) -> str:
        """Why the connection has ended; empty while there is one."""
        return self._master.last_words

    def ready(self) -> Steps[Verdict]:
        """Have a connection, and nothing at work on the target that was asked for before."""
        verdict = yield from self._master.open()
        if verdict.outcome is Outcome.OK and self._doubtful is not None:
            talk = self._talk(b"exit 0\n")
            result = yield talk.start
            if not talk.answers.number and not talk.answers.refusal:
                return self._verdict(talk, result)
            self._doubtful = None
        return verdict

    def make(self, moves: Sequence[Move], may_replace: int | None) -> Steps[Moved]:
        """Make moves in their order, up to the first that cannot be made (see moving.Mover)."""
        talk = self._talk(ending(moves, may_replace))
        result = yield talk.start
        answers = talk.answers
        left = tuple(moves[answers.made :])
        if not left:
            return Moved(replaced=answers.replaced)
        if answers.number and answers.refusal:
            return Moved(left, answers.replaced, refusal=_refusal(answers, result))
        if answers.number:
            self._doubtful = Shell(talk.token, answers.number)
        return Moved(left, answers.replaced, self._verdict(talk, result))

    def close(self) -> None:
        """Need the connection no more."""
        self._master.close()

    def _talk(self, more: bytes) -> _Talk:
        words = [*self.words, "--", self._target.host]
        return _Talk(self._loop, words, beginning(self._target.path, self._doubtful), more, self._timeout)

    def _verdict(self, talk: _Talk, result: Result) -> Verdict:
        """Return why a talk did not come to its end."""
        outcome, message = self._outcome(talk, result)
        return Verdict(outcome, message or self.last_words or _last_line(result.errors), result.code)

    def _outcome(self, talk: _Talk, result: Result) -> tuple[Outcome, str]:
        if talk.is_silent:
            return Outcome.CONNECTION, f"no answer within {self._timeout:.0f} s"
        if result.was_cut_short:
            return Outcome.CUT_SHORT, ""
        if talk.answers.is_root_missing:
            return Outcome.TARGET_MISSING, f"{self._target.text} is not there"
        if talk.answers.is_root_closed:
            return Outcome.FAIL, f"{self._target.text} cannot be entered"
        if self.last_words:
            return Outcome.CONNECTION, ""
        if talk.answers.number or result.code < 0:
            return Outcome.KILLED, "what makes the moves was ended"
        if result.code == _FAILED and not _RESTRICTED.search(result.errors):
            return Outcome.CONNECTION, ""
        return Outcome.RESTRICTED, ""


class _Talk:
    """A talk with a new shell on the target: `more` is said when it has answered `begin`.

    `is_silent`: it did not answer any more, and was given up.
    """

    def __init__(self, loop: Loop, words: list[str], begin: bytes, more: bytes, timeout: float) -> None:
        self._loop = loop
        self._words = words
        self._begin, self._more = begin, more
        self._timeout = timeout
        self._feed = Feed(loop)
        self._silence: Timer | None = None
        self.token = secrets.token_hex(8)
        self.answers = Answers(self.token)
        self.is_silent = False

    def start(self, on_exit: OnExit) -> Process:
        """Begin; raises OSError if ssh cannot be started."""

        def ended(result: Result) -> None:
            self._feed.close()
            self._wait(None)
            on_exit(result)

        command = [*self._words, f"exec sh -s {self.token}"]
        try:
            self._process = start_command(self._loop, command, ended, stdin=self._feed.descriptor)
        except OSError:
            self._feed.close()
            raise
        finally:
            self._feed.close_reader()
        self._process.show_output(self._take)
        self._feed.write(self._begin)
        self._wait(self._timeout)
        return self._process

    def _take(self, output: bytes) -> None:
        was_ready = self.answers.number
        self.answers.take(output)
        if self.answers.number and not was_ready:
            self._feed.write(self._more)
        self._wait(self._timeout)

    def _wait(self, seconds: float | None) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if seconds:
            self._silence = self._loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self.is_silent = True
        self._process.cut_short()


def _refusal(answers: Answers, result: Result) -> str:
    own_words = _last_line(result.errors)
    return f"{answers.refusal_words} ({own_words})" if own_words else answers.refusal_words


def _last_line(errors: bytes) -> str:
    return errors.strip().rpartition(b"\n")[2].decode("utf-8", "backslashreplace").strip()
