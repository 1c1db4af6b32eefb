"""An alert finds its rules: all of them, in order, at a cost that does not grow with the number of rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model.alert import SourceKind
from responder.model.rule import Rule
from responder.rules.compile import compile_rule
from responder.rules.index import RuleIndex, holds, why, why_not
from tests.unit.rules.small import CATALOGUE, alert, written


def rule(name: str, *match: dict[str, object], priority: int = 0, target: str = "workload") -> Rule:
    """Return a rule with these alternatives."""
    return compile_rule(written(rule=name, match=list(match), priority=priority, target=target), catalogue=CATALOGUE)


alternatives = st.fixed_dictionaries(
    {},
    optional={
        "alert": st.lists(st.sampled_from("XYZ"), min_size=1, max_size=2, unique=True),
        "source": st.sampled_from(["alertmanager", "azure-monitor"]),
        "labels": st.lists(st.sampled_from(['metric="m"', 'metric=""', 'zone=~"1|2"', 'zone!="1"']), min_size=1, max_size=2),
    },
)


@given(
    matches=st.lists(st.lists(alternatives, min_size=1, max_size=3), max_size=8),
    name=st.sampled_from("XYZ"),
    source=st.sampled_from([SourceKind.ALERTMANAGER, SourceKind.AZURE_MONITOR]),
    labels=st.dictionaries(st.sampled_from(["metric", "zone"]), st.sampled_from(["m", "1", "2", ""])),
)
def test_the_index_finds_what_asking_every_rule_finds(
    matches: list[list[dict[str, object]]], name: str, source: SourceKind, labels: dict[str, str]
) -> None:
    """The same rules, in the same order, each with the first alternative that holds."""
    rules = [rule(f"r{number}", *match, priority=number % 3) for number, match in enumerate(matches)]
    firing = alert(name, source, **labels)

    found = RuleIndex(rules).candidates(firing)

    expected = []
    for one in sorted(rules, key=lambda rule: (-rule.priority, rule.name)):
        first = next((match for match in one.match if holds(match, firing)), None)
        if first is not None:
            expected.append((one, first))
    assert list(found) == expected


@given(labels=st.dictionaries(st.sampled_from(["metric", "zone"]), st.sampled_from(["m", "1", "2", ""])))
def test_why_not_is_silent_exactly_when_a_rule_fits(labels: dict[str, str]) -> None:
    """``explain`` never contradicts the index."""
    one = rule("a", {"alert": "Y"}, {"labels": ['metric="m"', 'zone=~"1|2"']})
    firing = alert("X", SourceKind.ALERTMANAGER, **labels)

    assert (why_not(one, firing) == ()) is bool(RuleIndex([one]).candidates(firing))


def test_priority_comes_before_the_name() -> None:
    """Highest first; then the name in ascending order."""
    rules = [rule("b", {"alert": "X"}), rule("a", {"alert": "X"}), rule("z", {"alert": "X"}, priority=5)]

    assert [found.name for found, _ in RuleIndex(rules).candidates(alert("X"))] == ["z", "a", "b"]


def test_the_first_alternative_that_holds_wins() -> None:
    """So that a line with ``for`` stands before the one without."""
    one = rule("a", {"alert": "X", "source": "kubernetes", "for": "3m"}, {"alert": "X"})

    ((_, own),) = RuleIndex([one]).candidates(alert("X", SourceKind.KUBERNETES))
    ((_, other),) = RuleIndex([one]).candidates(alert("X"))

    assert (own.for_.total_seconds(), other.for_.total_seconds()) == (180, 0)


def test_why_not_names_source_name_and_label() -> None:
    """What a person at night asks."""
    one = rule("a", {"alert": ["Y", "Z"]}, {"source": "azure-monitor", "labels": ['metric="m"', 'zone=~"1"']})

    assert why_not(one, alert("X", zone="2")) == (
        "match.0: the name X is none of Y, Z",
        (
            """match.1: source is alertmanager, not azure-monitor; metric="m" does not hold (there is no label metric); """
            """zone=~"1" does not hold (zone is '2')"""
        ),
    )


def test_why_says_what_held() -> None:
    """The other half of ``explain``."""
    one = rule("a", {"alert": "X", "source": "alertmanager", "labels": ['zone="1"'], "for": "3m"}, {})
    firing = alert("X", zone="1")

    assert why(one.match[0], firing) == 'source is alertmanager; the name is X; zone="1"; once it has fired for 3m'
    assert why(one.match[1], firing) == "it matches every alert"


@dataclass
class CountedMatchers:
    """Matchers that count how often they are asked."""

    asked: list[str] = field(default_factory=list)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Count, and hold."""
        self.asked.append("matches")
        return True

    def failing(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Nothing fails."""
        return ()


@pytest.mark.parametrize("shape", ["name", "label"])
def test_ten_thousand_rules_for_other_alerts_are_not_asked(shape: str) -> None:
    """Rules with a name or with one equality matcher are found by it; only those are looked at."""
    match: dict[str, object] = {"alert": "Other"} if shape == "name" else {"labels": ['metric="other"', 'zone=~".+"']}
    other = rule("other", match)
    mine = rule("mine", {"alert": "X"})
    index = RuleIndex([*[other] * 10_000, mine])

    places = index._places(alert("X", metric="m", zone="1"))

    assert len(places) == 1
    assert [found.name for found, _ in index.candidates(alert("X", metric="m", zone="1"))] == ["mine"]
