"""Alerts that a rule or a target tells apart are judged apart, also when thousands are judged together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from responder.model.alert import Alert, AlertStatus, Severity, SourceKind
from responder.model.rule import Rule
from responder.model.storing import RoutedAlert
from responder.model.target import Lookup, LookupAnswer, Presence, Target, TargetKind
from responder.policy.targets import ClusterIdentity, Exporters
from responder.ports import ClusterView, Store
from responder.rules.index import RuleIndex
from responder.service.router import Router
from responder.service.rulebook import Rulebook
from responder.service.targeting import Targeting
from responder.sources import read
from responder.telemetry import Metrics
from tests import builders as make
from tests.fakes.clock import FakeClock

METRICS = Metrics()
"""One for all: to make them takes longer than to judge."""


class Cluster:
    """Has every Deployment that is asked for, and counts the questions."""

    def __init__(self) -> None:
        self.asked: list[Lookup] = []

    async def look_up(self, lookup: Lookup) -> LookupAnswer:
        """Answer."""
        self.asked.append(lookup)
        if lookup.name == "gone":
            return LookupAnswer(presence=Presence.ABSENT)
        target = Target(
            kind=TargetKind.WORKLOAD, cluster="prod", namespace=lookup.namespace, name=lookup.name, owner_kind="Deployment"
        )
        return LookupAnswer(presence=Presence.FOUND, targets=(target,))


class Rules:
    """Rules in force."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.index = RuleIndex(rules)

    def armed(self, rule: str, target: Target) -> bool:
        """Half of them."""
        return len(rule) % 2 == 0 and target.name != "shadow"


def router(rules: Sequence[Rule], cluster: Cluster) -> Router:
    """Return a router of one cluster; what it does with the store is not asked for here."""
    targeting = Targeting(
        views={"prod": cast("ClusterView", cluster)},
        clusters=[ClusterIdentity(name="prod", labels=None, resource_id="")],
        exporters=Exporters(jobs=frozenset(), addresses=frozenset()),
    )
    return Router(
        store=cast("Store", None), clock=FakeClock(make.NOON + timedelta(minutes=2)), read=read, rulebook=cast("Rulebook", Rules(rules)), targeting=targeting, metrics=METRICS,
    )  # fmt: skip


RULES = [
    make.rule(),
    make.rule(rule="team", match=[{"alert": "KubePodCrashLooping", "labels": ['team="a"']}], priority=10),
    make.rule(rule="not-b", match=[{"alert": "KubePodCrashLooping", "labels": ['team!="b"', 'stage=~"p.*"']}], priority=20),
    make.rule(rule="unnamed", match=[{"labels": ['stage="test"']}]),
    make.rule(rule="late", match=[{"alert": "Late", "for": "1m"}]),
]


def said(one: RoutedAlert) -> Any:
    return (
        one.rules,
        one.why,
        one.wake_at,
        [(seed.key, seed.symptom, seed.severity, seed.candidates, seed.resolution) for seed in one.seeds],
        dict(one.pinned),
    )


alerts = st.builds(
    lambda name, severity, status, started, labels: make.alert(
        labels={"alertname": name, **labels}, severity=severity, status=status, started_at=make.NOON + timedelta(seconds=started)
    ),
    st.sampled_from(["KubePodCrashLooping", "Late", "Other"]),
    st.sampled_from([Severity.WARNING, Severity.CRITICAL]),
    st.sampled_from([AlertStatus.FIRING, AlertStatus.FIRING, AlertStatus.RESOLVED]),
    st.sampled_from([0, 100]),
    st.dictionaries(
        st.sampled_from(["team", "stage", "namespace", "deployment", "pod", "unread"]),
        st.sampled_from(["a", "b", "prod", "test", "gone", "shadow", ""]),
    ),
)


@settings(max_examples=100)
@given(st.lists(alerts, min_size=2, max_size=12))
def test_alerts_judged_together_are_judged_as_if_each_were_alone(given_alerts: list[Alert]) -> None:
    """Twice, so that the second time nearly all of them have a place already."""

    async def judged() -> None:
        together = router(RULES, Cluster())
        for _ in range(2):
            found = await together.judge(given_alerts)
            for alert, one in zip(given_alerts, found, strict=True):
                (alone,) = await router(RULES, Cluster()).judge([alert])
                assert said(one) == said(alone)
                assert one.alert == alert

    asyncio.run(judged())


async def test_a_storm_on_one_target_asks_once_and_shares_its_place() -> None:
    """What differs is what no rule reads."""
    cluster = Cluster()
    one = router(RULES, cluster)
    storm = [
        make.alert(labels={"alertname": "KubePodCrashLooping", "namespace": "shop", "deployment": "api", "n": str(n)})
        for n in range(50)
    ]

    found = await one.judge(storm)

    assert len(cluster.asked) == 1
    assert len({id(each.seeds) for each in found}) == 1


async def test_rules_that_were_loaded_anew_are_asked_anew() -> None:
    """No place of the old ones is given away."""
    one = router(RULES, Cluster())
    alert = make.alert()
    (before,) = await one.judge([alert])

    cast("Any", one)._rulebook = Rules([replace(RULES[0], name="renamed")])
    (after,) = await one.judge([structs.replace(alert, source=SourceKind.ALERTMANAGER)])

    assert (before.rules, after.rules) == (("crash",), ("renamed",))
