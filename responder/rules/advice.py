"""Warnings: rules that are allowed and probably not what their author meant. ``responder check`` prints them.

Never here: anything that makes a rule unusable (``compile``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from responder.model.alert import SourceKind
from responder.model.rule import Match, Rule
from responder.model.target import TargetKind
from responder.rules.matchers import LabelMatchers, Operator

_NEVER_RESOLVE = frozenset({SourceKind.EVENT_GRID, SourceKind.SERVICE_BUS, SourceKind.MANUAL})
"""Formats without a Resolved. Source: protocols.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWarning:
    """One warning; ``path`` is the part of the rule that it is about."""

    rule: str
    file: str
    path: str
    text: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        """As ``file:line:column: path: text``, like an error."""
        return f"{self.file}:{self.line}:{self.column}: {self.path}: warning: {self.text}"


def warnings_of(rules: Sequence[Rule]) -> tuple[RuleWarning, ...]:
    """Return every warning about a set of rules, in the order of the rules' names."""
    ordered = sorted(rules, key=lambda rule: rule.name)
    found = [
        warning
        for rule in ordered
        for warning in (*_not_served(rule), *_never_resolves(rule), *_steps_down(rule), *_opens_never(rule))
    ]
    return (*found, *_undecided(ordered))


def _warn(rule: Rule, path: str, text: str) -> RuleWarning:
    return RuleWarning(rule=rule.name, file=rule.file, path=path, text=text)


def _not_served(rule: Rule) -> Iterator[RuleWarning]:
    for place, match in enumerate(rule.match):
        if match.source is SourceKind.GRAFANA:
            yield _warn(
                rule, f"match.{place}", "Grafana's own webhook is not taken yet, so this never matches; let its Alertmanager send"
            )


def _never_resolves(rule: Rule) -> Iterator[RuleWarning]:
    if rule.target.kind is TargetKind.NONE or all(call.name != "alert.resolved" for call in rule.healthy):
        return
    for place, match in enumerate(rule.match):
        if match.source in _NEVER_RESOLVE:
            yield _warn(
                rule,
                f"match.{place}",
                f"{match.source} never sends a Resolved, so alert.resolved stays unknown; name a check of the target",
            )


def _steps_down(rule: Rule) -> Iterator[RuleWarning]:
    for before, after in pairwise(rule.ladder):
        if after.grade < before.grade:
            text = f"{after.name} (grade {after.grade}) is milder than {before.name} (grade {before.grade}) before it; the mildest comes first"
            yield _warn(rule, f"ladder.{after.index}", text)


def _opens_never(rule: Rule) -> Iterator[RuleWarning]:
    for place, match in enumerate(rule.match):
        if place and any(_covers(earlier, match) for earlier in rule.match[:place]):
            yield _warn(
                rule, f"match.{place}", "an earlier alternative already holds whenever this one does; its for: never counts"
            )


def _covers(earlier: Match, later: Match) -> bool:
    return (
        earlier.source in (None, later.source)
        and (not earlier.names or bool(later.names and later.names <= earlier.names))
        and earlier.labels is None
    )


def _undecided(rules: Sequence[Rule]) -> Iterator[RuleWarning]:
    """Warn of two rules that fit one alert with neither a ``when`` nor different priorities: the name decides between them.

    Rules are compared within one alert name and priority, neighbours only, so that a thousand alike warn a thousand times at most.
    """
    groups: dict[tuple[str, int], list[tuple[Rule, Match]]] = {}
    for rule in rules:
        if rule.when is not None or rule.target.kind is TargetKind.NONE:
            continue
        for match in rule.match:
            for name in match.names or ("",):
                groups.setdefault((name, rule.priority), []).append((rule, match))
    told: set[tuple[str, str]] = set()
    for (name, _), entries in groups.items():
        for (first, first_match), (second, second_match) in pairwise(entries):
            pair = (first.name, second.name)
            if first is second or pair in told or _apart(first_match, second_match):
                continue
            told.add(pair)
            about = f"the alert {name}" if name else "the same alerts"
            yield _warn(
                second,
                "priority",
                f"fits {about} as {first.name} does, with neither a when nor another priority; the name decides",
            )


def _apart(first: Match, second: Match) -> bool:
    """Tell whether two alternatives can never hold for one alert, as far as sources and equality matchers tell."""
    if first.source is not None and second.source is not None and first.source is not second.source:
        return True
    mine, theirs = _equalities(first), _equalities(second)
    return any(name in theirs and theirs[name] != value for name, value in mine.items())


def _equalities(match: Match) -> dict[str, str]:
    if not isinstance(match.labels, LabelMatchers):
        return {}
    return {matcher.name: matcher.value for matcher in match.labels.matchers if matcher.operator is Operator.EQUAL}
