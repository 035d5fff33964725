# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides which paths a sync leaves out and which the target keeps, with the meaning rsync gives to rules.

All rules of one side become the alternatives of one regular expression: the first alternative that fits is
the first rule that matches. rsync gets the same rules as arguments, in one form and with their sides
resolved, so that nothing it is told besides (a rule of our own, an option) can change what they mean.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from lsyncd_sd.plan.change import Move
from lsyncd_sd.plan.patterns import MAX_PATTERN_BYTES, Matcher

PARENT_CACHE_SIZE = 1024
"""Directories whose answer a filter remembers; some 200 KB when full, in every child."""

_WORDS = {
    "include": "+",
    "exclude": "-",
    "hide": "H",
    "show": "S",
    "protect": "P",
    "risk": "R",
    "clear": "!",
    "merge": ".",
    "dir-merge": ":",
}
_WILDCARD = re.compile(rb"[*?\[\\]")
_WORD = re.compile(f"({'|'.join(_WORDS)})(?=[ _,]|\\Z)")
# what follows the name of a rule: modifiers, one space or underscore, the pattern
_REST = re.compile(r"(?P<modifiers>[^ _]*)(?:[ _](?P<pattern>.*))?", re.DOTALL)

_REFUSED_NAMES = {
    ".": ("files cannot be merged here", "use 'filter_from' for a file with rules"),
    ":": (
        "rules in the directories themselves are not possible",
        "only rsync could follow them: what is not to be watched must be known before; write the rules here",
    ),
}
_REFUSED_MODIFIERS = {
    "/": "each end would compare it with a path of its own: write the pattern as seen from the source",
    "C": "write the patterns of CVS as rules of their own",
    "x": "rules for the names of extended attributes are not possible",
}


class BadRuleError(ValueError):
    """A rule that rsync would refuse or drop, or that cannot be decided outside of rsync.

    `message` says what is wrong with it, `hint` what to do instead.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Side(enum.Flag):
    """Whose list of names a rule is for: what the source shows, or what the target may lose."""

    SENDER = enum.auto()
    RECEIVER = enum.auto()


BOTH = Side.SENDER | Side.RECEIVER

# the sides that the name of a rule says, and whether it is an exception
_NAMES = {
    "-": (None, False),
    "+": (None, True),
    "H": (Side.SENDER, False),
    "S": (Side.SENDER, True),
    "P": (Side.RECEIVER, False),
    "R": (Side.RECEIVER, True),
}
_NAME_OF = {(sides or BOTH, is_include): name for name, (sides, is_include) in _NAMES.items()}


@dataclass(frozen=True, slots=True)
class WrittenRule:
    """A rule as somebody wrote it.

    `is_pattern`: in the form of --exclude, a pattern with or without `+ ` or `- `, and not that of --filter.
    `place` (a setting, or `file:line:column`) is for messages and makes no difference between two rules.
    """

    text: str
    is_pattern: bool = False
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule says. `sides` is None if it says nothing about them; see Filter.from_rules()."""

    written: WrittenRule
    pattern: bytes
    is_include: bool
    sides: Side | None = None
    is_negated: bool = False
    is_perishable: bool = False

    @classmethod
    def parse(cls, written: WrittenRule) -> Rule | None:
        """Return the rule, None for one that clears the list before it. Raises BadRuleError."""
        rule = _from_pattern(written) if written.is_pattern else _from_filter_rule(written)
        if rule is not None:
            _check_pattern(rule.pattern)
        return rule

    def matcher(self) -> Matcher:
        """Return what it matches."""
        matcher = Matcher.from_pattern(self.pattern)
        return matcher.negated() if self.is_negated else matcher

    def matches(self, path: bytes, is_directory: bool) -> bool:
        """Return whether it matches this path: for a question now and then, see _Rules for many."""
        matcher = self.matcher()
        expression = matcher.for_directories if is_directory else matcher.for_others
        return path != b"" and re.compile(expression, re.DOTALL).match(b"/" + path) is not None

    def picks_out(self, directory: bytes) -> bool:
        """Tell whether what it says about something below `directory` may be due to where that stands."""
        if not (b"/" in self.pattern.removesuffix(b"/") or b"**" in self.pattern):
            return False
        if not self.pattern.startswith(b"/"):
            return True
        names, place = self.pattern.strip(b"/").split(b"/"), directory.split(b"/")
        if len(names) <= len(place) and b"**" not in self.pattern:
            # It matches nothing that is so deep.
            return False
        for name, above in zip(names, place, strict=False):
            if _WILDCARD.search(name):
                return True
            if name != above:
                return False
        return True

    def argument(self) -> str:
        """Return the rule as an argument for rsync, with its sides in the name."""
        name = _NAME_OF[self.sides or BOTH, self.is_include]
        modifiers = "!" * self.is_negated + "p" * self.is_perishable
        return f"--filter={name}{modifiers} {self.pattern.decode('utf-8', 'surrogateescape')}"


@dataclass(frozen=True, slots=True)
class Reason:
    """The rule that decides about a path, and the path it matches: that one or a directory above."""

    rule: Rule
    path: bytes


class Filter:
    """An ordered list of rules; on each side the first one that matches a path decides.

    Paths are relative to the source, without a slash at either end. A symlink is not a directory, unless
    rsync is told to follow it. The source itself (the empty path) is never left out. Without a match a path
    is shown, and at risk of being deleted on the target when the source does not have it.

    `may_protect`: something on the target may be kept.
    """

    __slots__ = ("_hides_parent", "_receiver", "_rules", "_sender", "may_protect")

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Take the rules in their order; those without sides are for both."""
        self._rules = tuple(rules)
        self._sender = _Rules(self._of(Side.SENDER))
        # The target's side is asked seldom, and most filters are the same for both.
        self._receiver: _Rules | None = None
        # Changes come in bursts from few directories; the answer for a directory can never become stale.
        self._hides_parent = functools.lru_cache(PARENT_CACHE_SIZE)(self._any_excluded)
        self.may_protect = any(not rule.is_include for rule in self._of(Side.RECEIVER))

    @classmethod
    def from_rules(
        cls,
        rules: Iterable[WrittenRule],
        *,
        first: Iterable[WrittenRule] = (),
        delete_excluded: bool = False,
    ) -> Filter:
        """Return the filter of the rules, in order; a rule that clears the list takes those before it away.

        Those of `first` go before all others, and no rule takes them away. With `delete_excluded`, a rule
        without sides only hides or shows, and protects nothing: what rsync's option of that name does.
        Raises BadRuleError.
        """
        parsed: list[Rule] = []
        default = Side.SENDER if delete_excluded else BOTH
        for written in rules:
            rule = Rule.parse(written)
            if rule is None:
                parsed.clear()
            else:
                parsed.append(replace(rule, sides=rule.sides or default))
        return cls([*(rule for written in first if (rule := Rule.parse(written))), *parsed])

    @classmethod
    def from_excludes(cls, patterns: Iterable[str]) -> Filter:
        """Return the filter that rsync makes of `--exclude=PATTERN` for each of the patterns, in order.

        An empty one is ignored. Undecodable bytes in patterns are surrogate escapes. Raises BadRuleError.
        """
        return cls.from_rules(WrittenRule(text, is_pattern=True) for text in patterns if text)

    def excludes(self, path: bytes, is_directory: bool) -> bool:
        """Return whether the source's side leaves out this path itself; its parents are not looked at."""
        return self._sender.exclude(path, is_directory)

    def hides(self, path: bytes, is_directory: bool) -> bool:
        """Return whether rsync does not get to see this path: it or one of its parents is left out."""
        if self._sender.is_empty:
            return False
        parent = path.rpartition(b"/")[0]
        return self.excludes(path, is_directory) or (parent != b"" and self._hides_parent(parent))

    def hides_alike(self, old: bytes, new: bytes) -> bool:
        """Tell whether of a directory that is renamed the same is left out, as far as the rules show."""
        return not any(rule.picks_out(old) or rule.picks_out(new) for rule in self._of(Side.SENDER))

    def may_move(self, move: Move) -> bool:
        """Tell whether the target can make a move, and keeps all that it is to keep where it is to be kept.

        What is kept wherever it stands goes along with its directory.
        """
        if not self.may_protect:
            return True
        below = self._of(Side.RECEIVER) if move.is_directory else ()
        return not any(
            self.protects(path, move.is_directory) or any(rule.picks_out(path) for rule in below)
            for path in (move.old, move.new)
        )

    def protects(self, path: bytes, is_directory: bool) -> bool:
        """Return whether the target keeps this path itself, in a directory that the source has, too."""
        return self._of_receiver().exclude(path, is_directory)

    def _of_receiver(self) -> _Rules:
        if self._receiver is None:
            self._receiver = _Rules(self._of(Side.RECEIVER))
        return self._receiver

    def rsync_arguments(self) -> list[str]:
        """Return the arguments that make rsync decide the same."""
        return [rule.argument() for rule in self._rules]

    def explain(self, path: bytes, is_directory: bool) -> Reason | None:
        """Return why the source shows or hides a path, None if no rule says anything about it."""
        for above in _directories_above(path):
            reason = self._first(Side.SENDER, above, True)
            if reason is not None and not reason.rule.is_include:
                return reason
        return self._first(Side.SENDER, path, is_directory)

    def explain_protection(self, path: bytes, is_directory: bool) -> Reason | None:
        """Return why the target keeps a path, or gives it up, if the source does not have it or hides it.

        None if no rule says anything about it: then it is deleted, as far as the sync deletes.
        """
        hidden = self.explain(path, is_directory)
        # A directory that is hidden is what the target is to be rid of, with all below it.
        top = hidden.path if hidden is not None and not hidden.rule.is_include else path
        reason = None
        for step in (*_directories_above(path), path):
            if len(step) < len(top):
                continue
            reason = self._first(Side.RECEIVER, step, is_directory or step != path, in_deleted=step != top)
            if reason is not None and not reason.rule.is_include:
                break
        return reason

    def _first(
        self, side: Side, path: bytes, is_directory: bool, *, in_deleted: bool = False
    ) -> Reason | None:
        together = self._sender if side is Side.SENDER else self._of_receiver()
        if together.first_match(path, is_directory) is None:
            return None  # one by one, thousands of rules take seconds
        for rule in self._of(side):
            if not (in_deleted and rule.is_perishable) and rule.matches(path, is_directory):
                return Reason(rule, path)
        return None

    def _of(self, side: Side) -> list[Rule]:
        return [rule for rule in self._rules if side & (rule.sides or BOTH)]

    def _any_excluded(self, directory: bytes) -> bool:
        """Return whether this directory or one above it is left out."""
        return self.excludes(directory, True) or any(
            self.excludes(above, True) for above in _directories_above(directory)
        )


class _Rules:
    """The rules of one side as two expressions, by what kind of file a path is."""

    __slots__ = ("_directories", "_others")

    def __init__(self, rules: Sequence[Rule]) -> None:
        matchers = [(rule.is_include, rule.matcher()) for rule in rules]
        self._directories = _combine((include, matcher.for_directories) for include, matcher in matchers)
        self._others = _combine((include, matcher.for_others) for include, matcher in matchers)

    @property
    def is_empty(self) -> bool:
        """Whether there are no rules."""
        return self._directories is None

    def first_match(self, path: bytes, is_directory: bool) -> re.Match[bytes] | None:
        """Return the match of the first rule that matches this path itself."""
        expression = self._directories if is_directory else self._others
        return expression.match(b"/" + path) if expression is not None and path else None

    def exclude(self, path: bytes, is_directory: bool) -> bool:
        """Return whether the first rule that matches this path itself is no exception."""
        match = self.first_match(path, is_directory)
        # Only includes are groups, see _combine().
        return match is not None and match.lastindex is None


def _combine(rules: Iterable[tuple[bool, bytes]]) -> re.Pattern[bytes] | None:
    """Return one expression for all rules, in which only includes are groups; None without any rules."""
    alternatives = [b"(" + text + b")" if is_include else text for is_include, text in rules]
    return re.compile(b"|".join(alternatives), re.DOTALL) if alternatives else None


def _directories_above(path: bytes) -> Iterator[bytes]:
    """Yield the directories above a path, from the top, without the source itself."""
    end = path.find(b"/")
    while end != -1:
        yield path[:end]
        end = path.find(b"/", end + 1)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _from_pattern(written: WrittenRule) -> Rule | None:
    text = written.text
    if text == "!":
        return None
    pattern = text[2:] if text.startswith(("+ ", "- ")) else text
    return Rule(written, _bytes(pattern), is_include=text.startswith("+ "))


def _from_filter_rule(written: WrittenRule) -> Rule | None:
    name, rest = _split_name(written.text)
    if name in _REFUSED_NAMES:
        raise BadRuleError(*_REFUSED_NAMES[name])
    if name == "!":
        if rest:
            raise BadRuleError("nothing can follow the rule that clears the list")
        return None
    if name not in _NAMES:
        raise BadRuleError(
            "this is no filter rule",
            "it begins with one of + - H S P R and a space; to exclude: '- PATTERN'",
        )
    match = _REST.fullmatch(rest)
    assert match is not None, "it matches everything"
    sides, is_include = _NAMES[name]
    modifiers = match["modifiers"]
    _check_modifiers(modifiers, "!p" if sides else "!prs")
    if "s" in modifiers:
        sides = Side.SENDER
    if "r" in modifiers:
        sides = Side.RECEIVER | (sides or Side(0))
    return Rule(
        written, _bytes(match["pattern"] or ""), is_include, sides, "!" in modifiers, "p" in modifiers
    )


def _split_name(text: str) -> tuple[str, str]:
    """Return the one character that a rule's name stands for, and what follows it and an optional comma."""
    word = _WORD.match(text)
    name, rest = (_WORDS[word[0]], text[word.end() :]) if word else (text[:1], text[1:])
    return name, rest.removeprefix(",")


def _check_modifiers(modifiers: str, allowed: str) -> None:
    for modifier in modifiers:
        if modifier in _REFUSED_MODIFIERS:
            raise BadRuleError(f"the modifier {modifier} is not possible", _REFUSED_MODIFIERS[modifier])
        if modifier not in allowed:
            raise BadRuleError(
                f"{modifier!r} is no modifier of this rule",
                f"between the name of the rule and the space can stand: {' '.join(allowed)}",
            )


def _check_pattern(pattern: bytes) -> None:
    """Raise BadRuleError for a pattern that rsync refuses, drops or cannot be given."""
    if not pattern:
        raise BadRuleError("there is no pattern")
    if b"\0" in pattern:
        raise BadRuleError("a pattern cannot hold a NUL")
    if len(pattern) > MAX_PATTERN_BYTES:
        raise BadRuleError(
            f"the pattern has {len(pattern)} bytes, more than {MAX_PATTERN_BYTES}",
            "rsync would go on without it",
        )
