"""Which rules an alert fits, found without asking every rule.

Never here: targets, ``when``, or which of the fitting rules leads (``policy``).

The decision a reader would question: alternatives without an alert name are indexed by one of their equality matchers
(``metric="kube_pod_status_phase"``) instead of being asked for every alert. Azure's rules have free names, so nearly all of theirs
would be unindexed; ten thousand rules must cost about as much as ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from responder.model.alert import Alert, SourceKind
from responder.model.rule import Match, Rule
from responder.rules.durations import format_duration
from responder.rules.matchers import LabelMatchers, Operator

_Place = tuple[int, int]
"""Place of a rule in the order of asking, place of the alternative in its ``match``."""


class RuleIndex:
    """Rules in the order in which they are asked: priority, highest first, then name. Immutable.

    Attributes:
        rules: In that order.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules: tuple[Rule, ...] = tuple(sorted(rules, key=lambda rule: (-rule.priority, rule.name)))
        self._by_name: dict[str, list[_Place]] = {}
        self._by_label: dict[tuple[str, str], list[_Place]] = {}
        self._by_source: dict[SourceKind | None, list[_Place]] = {}
        for order, rule in enumerate(self.rules):
            for place, match in enumerate(rule.match):
                self._enter(match, (order, place))

    def candidates(self, alert: Alert) -> tuple[tuple[Rule, Match], ...]:
        """Return every rule that the alert fits, with the first of its alternatives that holds, in the order of asking.

        ``Match.for_`` is the caller's to wait for; it is not judged here. ``target: none`` rules are among the answers.
        """
        found: list[tuple[Rule, Match]] = []
        decided = -1
        for order, place in sorted(self._places(alert)):
            if order == decided:
                continue
            rule = self.rules[order]
            match = rule.match[place]
            if holds(match, alert):
                decided = order
                found.append((rule, match))
        return tuple(found)

    def named(self, name: str) -> tuple[tuple[Rule, Match], ...]:
        """Return the alternatives that ask for this alert name."""
        return self._at(self._by_name.get(name, ()))

    def unnamed(self) -> tuple[tuple[Rule, Match], ...]:
        """Return the alternatives that ask for no alert name."""
        return self._at([place for held in (self._by_label, self._by_source) for places in held.values() for place in places])

    def _at(self, places: Iterable[_Place]) -> tuple[tuple[Rule, Match], ...]:
        return tuple((self.rules[order], self.rules[order].match[place]) for order, place in places)

    def _enter(self, match: Match, place: _Place) -> None:
        if match.names:
            for name in match.names:
                self._by_name.setdefault(name, []).append(place)
        elif (required := _required(match)) is not None:
            self._by_label.setdefault(required, []).append(place)
        else:
            self._by_source.setdefault(match.source, []).append(place)

    def _places(self, alert: Alert) -> Sequence[_Place]:
        places = [*self._by_name.get(alert.name, ()), *self._by_source.get(None, ()), *self._by_source.get(alert.source, ())]
        for label in alert.labels.items():
            places += self._by_label.get(label, ())
        return places


def holds(match: Match, alert: Alert) -> bool:
    """Tell whether all lines of one alternative hold for an alert, but for its ``for``."""
    return (
        (match.source is None or match.source is alert.source)
        and (not match.names or alert.name in match.names)
        and (match.labels is None or match.labels.matches(alert.labels))
    )


def labels_read(match: Match) -> frozenset[str] | None:
    """Return the labels that decide whether an alternative holds; None when that cannot be told."""
    if match.labels is None:
        return frozenset()
    return frozenset(one.name for one in match.labels.matchers) if isinstance(match.labels, LabelMatchers) else None


def why_not(rule: Rule, alert: Alert) -> tuple[str, ...]:
    """Return for each alternative what does not hold, such as ``match.1: source is alertmanager, not azure-monitor``; () when one holds.

    For ``responder explain``.
    """
    if any(holds(match, alert) for match in rule.match):
        return ()
    return tuple(f"match.{place}: {'; '.join(_failing(match, alert))}" for place, match in enumerate(rule.match))


def why(match: Match, alert: Alert) -> str:
    """Return in words what holds of an alternative, for ``responder explain``."""
    said: list[str] = []
    if match.source is not None:
        said.append(f"source is {match.source}")
    if match.names:
        said.append(f"the name is {alert.name}")
    if isinstance(match.labels, LabelMatchers):
        said += [matcher.text for matcher in match.labels.matchers]
    if match.for_:
        said.append(f"once it has fired for {format_duration(match.for_)}")
    return "; ".join(said) or "it matches every alert"


def _failing(match: Match, alert: Alert) -> list[str]:
    said: list[str] = []
    if match.source is not None and match.source is not alert.source:
        said.append(f"source is {alert.source}, not {match.source}")
    if match.names and alert.name not in match.names:
        said.append(f"the name {alert.name or repr('')} is none of {', '.join(sorted(match.names))}")
    if match.labels is not None:
        said += [f"{text} does not hold{_seen(match, text, alert)}" for text in match.labels.failing(alert.labels)]
    return said


def _seen(match: Match, text: str, alert: Alert) -> str:
    if not isinstance(match.labels, LabelMatchers):
        return ""
    name = next((matcher.name for matcher in match.labels.matchers if matcher.text == text), None)
    if name is None:
        return ""
    return f" ({name} is {alert.labels[name]!r})" if name in alert.labels else f" (there is no label {name})"


def _required(match: Match) -> tuple[str, str] | None:
    """Return a label and the one value that it must have for the alternative to hold, or None."""
    if not isinstance(match.labels, LabelMatchers):
        return None
    for matcher in match.labels.matchers:
        if matcher.operator is Operator.EQUAL and matcher.value:
            return matcher.name, matcher.value
    return None
