# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of a program for a POSIX shell that makes moves and answers for each; and what its answers say.

Pure. The text goes to the standard input of `sh -s TOKEN`, in two parts: the second one when the first was
answered, so that a shell that may still be at work is always known by its number. Names are single-quoted
words in the text, and never on a command line. A text that ends anywhere in the middle makes no other move.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lsyncd_sd.plan.change import Move

# `m KIND OLD NEW .` makes one move. What POSIX leaves open or mv does besides is seen to here:
#   above   every directory above a name must be a real one: mv would follow a link out of the target
#   -T      what stands at the new name may be a link to a directory, or become one just now: mv would move
#           into it. Without the option, links to directories are refused
#   rmdir   rename(2) replaces an empty directory, mv without -T does not
#   alike   mv copies from one file system to another, and what copies can be seen half-written. With
#           --no-copy (coreutils 9.5) it refuses; without, df tells
#   there   of two names of one file rename(2) keeps both, and says nothing
_PROGRAM = rb"""
LC_ALL=C
export LC_ALL
unset CDPATH
token=$1
say() { printf '%s %s\n' "$token" "$1" || exit 1; }
no() { say "no $1"; exit 0; }
there() { [ -e "./$1" ] || [ -L "./$1" ]; }
real() { [ -d "./$1" ] && [ ! -L "./$1" ]; }
above() {
    way= rest=$1
    while :; do
        case $rest in
        */*) ;;
        *) return 0 ;;
        esac
        way=$way${rest%%/*}
        rest=${rest#*/}
        real "$way" || no above
        way=$way/
    done
}
alike() {
    case $1 in */*) old=./${1%/*} ;; *) old=. ;; esac
    case $2 in */*) new=./${2%/*} ;; *) new=. ;; esac
    [ "$old" != "$new" ] || return 0
    [ "$old//$new" != "$asked" ] || return 0
    df -P "$old" "$new" 2>/dev/null | {
        read -r x
        read -r one x x x x mounted
        read -r other x x x x elsewhere
        [ "$one $mounted" = "$other $elsewhere" ]
    } || no elsewhere
    asked=$old//$new
}
m() {
    [ "$#" = 4 ] && [ "$4" = . ] || exit 1
    above "$2"
    above "$3"
    there "$2" || no gone
    if real "$2"; then kind=d; else kind=f; fi
    [ "$1" = "$kind" ] || no kind
    answer=ok
    if there "$3"; then
        [ "$left" -gt 0 ] || no many
        left=$((left - 1))
        answer=over
        if real "$3"; then kind=d; else kind=f; fi
        [ "$1" = "$kind" ] || no kind
        if [ "$options" = -f ] && [ -d "./$3" ]; then
            [ "$kind" = d ] && rmdir "./$3" 2>/dev/null || no full
        fi
    fi
    case $options in
    *--no-copy*) ;;
    *) alike "$2" "$3" ;;
    esac
    mv $options -- "./$2" "./$3" </dev/null || no mv
    ! there "$2" || no mv
    say "$answer"
}
earlier() {
    [ "$#" = 3 ] && [ "$3" = . ] || exit 1
    line=
    if [ -d "/proc/$$" ]; then
        read -r line <"/proc/$1/cmdline"
    else
        line=$(ps -o args= -p "$1")
    fi 2>/dev/null
    case $line in
    *"$2"*) kill -9 "$1" ;;
    esac
}
root() {
    cd "$1" 2>/dev/null && return
    [ -d "$1" ] || no missing
    no closed
}
asked=
options=-f
if mv -T --help >/dev/null 2>&1; then options='-f -T'; fi
if mv -T --no-copy --help >/dev/null 2>&1; then options='-f -T --no-copy'; fi
"""

_REFUSALS = {
    b"above": "a directory above it is none there",
    b"gone": "it is not there",
    b"kind": "something of another kind is there",
    b"many": "it would replace more than may be replaced",
    b"full": "a directory that is not empty is in its place there, or a link to one",
    b"elsewhere": "it would be copied to another file system there",
    b"mv": "mv refuses",
}

# Where any number may be replaced: larger than any list, and small enough for every shell.
_ANY_NUMBER = 999_999_999


class Shell(NamedTuple):
    """A shell that was given this program: its token, and its process number on the target."""

    token: str
    number: int


def beginning(root: str, earlier: Shell | None = None) -> bytes:
    """Return the first part, for a target at `root`; a relative path is below the login directory.

    `earlier` is ended before anything else is done, if it is still at work.
    """
    path = root if root.startswith("/") else f"./{root}"
    end = b"" if earlier is None else b"earlier %d %s .\n" % (earlier.number, earlier.token.encode())
    hello = b'printf \'\\n%s %s\\n\' "$token" "hello $$" || exit 1\n'
    return _PROGRAM + end + b"root " + _quoted(path.encode("utf-8", "surrogateescape")) + b"\n" + hello


def ending(moves: Iterable[Move], may_replace: int | None) -> bytes:
    """Return the second part: these moves, which may replace so many entries (None: any number)."""
    left = _ANY_NUMBER if may_replace is None else may_replace
    calls = [
        b"m %s %s %s .\n" % (b"d" if move.is_directory else b"f", _quoted(move.old), _quoted(move.new))
        for move in moves
    ]
    return b"".join([b"left=%d\n" % left, *calls, b"exit 0\n"])


def _quoted(text: bytes) -> bytes:
    """Return a word that any POSIX shell takes for exactly this text."""
    return b"'" + text.replace(b"'", b"'\\''") + b"'"


class Answers:
    """What a shell has answered so far.

    `number` is its process number once it is ready for moves, else 0. `made`: that many moves were made, in
    their order. `replaced`: over so many of them something stood. `refusal`: why it stopped, a word.
    """

    def __init__(self, token: str) -> None:
        self._mark = token.encode() + b" "
        self._rest = b""
        self.number = 0
        self.made = 0
        self.replaced = 0
        self.refusal = b""

    def take(self, output: bytes) -> None:
        """Take in the next piece of output; what the login itself prints is left aside."""
        *lines, self._rest = (self._rest + output).split(b"\n")
        for line in lines:
            if line.startswith(self._mark):
                self._take_line(line.removeprefix(self._mark))

    def _take_line(self, line: bytes) -> None:
        word, _space, more = line.partition(b" ")
        match word:
            case b"hello":
                self.number = int(more)
            case b"ok" | b"over":
                self.made += 1
                self.replaced += word == b"over"
            case b"no":
                self.refusal = more

    @property
    def is_root_missing(self) -> bool:
        """Whether there is no directory at the target's path."""
        return self.refusal == b"missing"

    @property
    def is_root_closed(self) -> bool:
        """Whether the target's directory cannot be entered."""
        return self.refusal == b"closed"

    @property
    def refusal_words(self) -> str:
        """Why a move was not made."""
        return _REFUSALS.get(self.refusal, "")
