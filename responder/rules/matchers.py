"""Matchers: Alertmanager's label conditions ``name="v"``, ``!=``, ``=~``, ``!~``.

Never here: which labels an alert has.

The decision a reader would question: RE2 instead of Python's ``re``. A rule file is reviewed, but a pattern that backtracks for
minutes on a hostile label would stop every incident; RE2 is linear in the label's length. Look-around and back-references do not exist.

Source: Alertmanager's documentation, "Matcher"; UTF-8 label names stand in quotes: ``"Failed Location"="x"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import re2

LONGEST = 1000


class Operator(StrEnum):
    """How a label is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    MATCHES = "=~"
    NOT_MATCHES = "!~"


_MATCHER = re.compile(
    r"""\s*(?: "(?P<quoted>(?:[^"\\]|\\.)+)" | (?P<bare>[^{}!=~,\\"'`\s]+) )
        \s*(?P<operator>=~|!~|!=|=)
        \s*"(?P<value>(?:[^"\\]|\\.)*)"\s*""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r'\\([\\"n])')
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label condition.

    Attributes:
        text: As written in the rule.
        name: The label; one that an alert does not have counts as "".
        value: Text or pattern, quotes and escapes removed.
    """

    text: str
    name: str
    operator: Operator
    value: str
    pattern: Any = field(default=None, compare=False, repr=False)

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Tell whether it holds; patterns must fit the whole value."""
        seen = labels.get(self.name, "")
        match self.operator:
            case Operator.EQUAL:
                return seen == self.value
            case Operator.NOT_EQUAL:
                return seen != self.value
            case Operator.MATCHES:
                return self._fits(seen)
            case Operator.NOT_MATCHES:
                return not self._fits(seen)

    def _fits(self, seen: str) -> bool:
        try:
            return self.pattern.fullmatch(seen) is not None
        except UnicodeEncodeError:  # JSON can carry a lone surrogate; RE2 reads UTF-8
            return self.pattern.fullmatch(seen.encode("utf-8", "replace").decode()) is not None


@dataclass(frozen=True, slots=True)
class LabelMatchers:
    """All label conditions of one ``match`` alternative. Implements ``model.rule.Matchers``."""

    matchers: tuple[Matcher, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether every condition holds; none at all always holds."""
        return all(matcher.holds(labels) for matcher in self.matchers)

    def failing(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the conditions that do not hold, as written."""
        return tuple(matcher.text for matcher in self.matchers if not matcher.holds(labels))


def parse_matcher(text: str) -> Matcher:
    r"""Read one matcher.

    Args:
        text: Such as ``namespace=~"shop-.+"``. Inside the quotes ``\"``, ``\\`` and ``\n`` are escapes, any other backslash stands for itself.

    Raises:
        ValueError: Not a matcher, or a pattern that RE2 does not accept; the message says what was expected.
    """
    if len(text) > LONGEST:
        raise ValueError(f"the matcher has {len(text)} characters; expected at most {LONGEST}")
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a matcher; {_hint(text)}")
    name = found["bare"] if found["quoted"] is None else _unescaped(found["quoted"])
    operator, value = Operator(found["operator"]), _unescaped(found["value"])
    if operator in (Operator.EQUAL, Operator.NOT_EQUAL):
        return Matcher(text, name, operator, value)
    try:
        pattern = re2.compile(value, options=_OPTIONS)
    except re2.error as error:
        said = error.args[0] if error.args else error
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        raise ValueError(f"{text!r} holds a pattern that RE2 does not accept: {said}") from error
    return Matcher(text, name, operator, value, pattern)


def parse_matchers(texts: Iterable[str]) -> LabelMatchers:
    """Read several matchers, all of which must hold.

    Raises:
        ValueError: For the first that cannot be read.
    """
    return LabelMatchers(tuple(parse_matcher(text) for text in texts))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _hint(text: str) -> str:
    if text.strip().startswith("{"):
        return 'write one matcher per list item, without braces: name="value"'
    if re.search(r"\"\s*,\s*\S", text):
        return "write one matcher per list item, not several with commas"
    if "==" in text:
        return 'equality is one sign: name="value"'
    if "'" in text or not text.rstrip().endswith('"'):
        return 'the value stands in double quotes: name="value"'
    return 'expected name="value" with one of = != =~ !~; a name with spaces stands in quotes'
