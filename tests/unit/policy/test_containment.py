"""What an incident is inside of, and what it does meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from responder.model.cluster import NodeSnapshot, Snapshot
from responder.model.health import Health, Ruling, Verdict
from responder.model.incident import Incident, Phase
from responder.model.reason import Reason
from responder.model.target import Target, TargetKind
from responder.policy import storms
from responder.policy.containment import containers, lost_node
from responder.policy.decide import decide
from tests import builders as make

M = timedelta(minutes=1)


def seen(*nodes: NodeSnapshot, on: tuple[str, str] = ("n1", "n1")) -> Snapshot:
    """Return a workload whose two pods fail, on these nodes."""
    pods = tuple(make.crashing(f"api-{number}", node=node) for number, node in enumerate(on))
    return make.snapshot(pods=pods, nodes=nodes)


def names(snapshot: Snapshot | None, incident: Incident | None = None) -> list[str]:
    return [str(one) for one in containers(incident or make.incident(), snapshot, now=make.NOON)]


def test_pods_on_one_node_are_in_it_in_its_pool_and_in_the_cluster() -> None:
    """Narrowest first."""
    one = NodeSnapshot(name="n1", ready="True", pool="blue")

    assert names(seen(one)) == ["node/n1", "node_pool/blue", "cluster/prod"]


def test_pods_on_two_nodes_are_in_what_both_are_in() -> None:
    """The pool when it is one, else only the cluster."""
    blue = NodeSnapshot(name="n1", ready="True", pool="blue")

    assert names(seen(blue, replace(blue, name="n2"), on=("n1", "n2"))) == ["node_pool/blue", "cluster/prod"]
    assert names(seen(blue, replace(blue, name="n2", pool="red"), on=("n1", "n2"))) == ["cluster/prod"]
    assert names(seen(blue, on=("n1", ""))) == ["cluster/prod"]


def test_what_was_not_read_is_in_its_cluster_and_a_cluster_is_in_no_cluster() -> None:
    """An order, so never a circle; an incident on an alert alone is in nothing."""
    cluster = Target(kind=TargetKind.CLUSTER, cluster="prod", name="prod", region="westeurope")

    assert names(None) == ["cluster/prod"]
    assert names(None, make.incident(target=cluster)) == ["region/westeurope"]
    assert names(None, make.incident(target=Target(kind=TargetKind.NONE, cluster="prod", name="x"))) == []


def test_a_node_that_is_not_ready_counts_before_its_alert() -> None:
    """Only if all failing pods are on it."""
    lost = NodeSnapshot(name="n1", ready="Unknown")

    assert lost_node(seen(lost), now=make.NOON) == "n1"
    assert lost_node(seen(lost, NodeSnapshot(name="n2", ready="True"), on=("n1", "n2")), now=make.NOON) == ""
    assert lost_node(seen(replace(lost, ready="True")), now=make.NOON) == ""


def test_a_contained_incident_waits_without_a_rung_and_without_a_page() -> None:
    """However long; and it is its container's child, so that it is woken when that one is over."""
    inside = ("inc-7", "inc-7 is for node/n1")
    first = decide(make.case(container=inside))
    late = make.NOON + 30 * M
    later = decide(make.case(first.incident, container=inside, now=late, reading=make.reading(at=late)))

    assert (first.incident.phase, first.incident.reason, first.incident.parent) == (Phase.WAITING, Reason.CONTAINED, "inc-7")
    assert (later.incident.reason, later.tells, later.intend) == (Reason.CONTAINED, (), None)


@pytest.mark.parametrize(
    "nobodys",
    [
        {"container": ("", "node n1, which all its failing pods are on, is not Ready")},
        {"denied": Reason.CONTAINED, "denied_detail": "inc-7 is for node/n1, and cannot be read"},
    ],
    ids=["no incident", "one that cannot be read"],
)
def test_a_lost_node_that_nobody_has_is_told_after_ten_minutes(nobodys: dict[str, Any]) -> None:
    """Waiting for an incident that never comes, or that nobody works on, must not be silence."""
    first = decide(make.case(**nobodys))
    late = make.NOON + 11 * M
    later = decide(make.case(first.incident, now=late, reading=make.reading(at=late), **nobodys))

    assert (first.incident.reason, first.tells, first.intend) == (Reason.CONTAINED, (), None)
    assert [tell.reason for tell in later.tells] == [Reason.STUCK]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"nodes": Verdict(Ruling.REFUSE, Reason.UNHEALTHY_NODES, "31 of 100")}, storms.UNHEALTHY_NODES),
        ({"reading": None, "reading_problem": "no answer", "silent": "no answer since noon"}, storms.UNREACHABLE),
    ],
    ids=["nodes", "silent"],
)
def test_a_cluster_in_trouble_is_a_storm_unless_an_armed_incident_is_for_it(changes: dict[str, Any], cause: str) -> None:
    """The one page is then that incident's."""
    storm = decide(make.case(**changes))
    inside = decide(make.case(container=("inc-7", "inc-7 is for cluster/prod"), **changes))

    assert (storm.incident.reason, storm.storm, storm.tells) == (Reason.STORM, cause, ())
    assert (inside.incident.reason, inside.storm) == (Reason.CONTAINED, "")


def test_a_healthy_target_is_contained_in_nothing() -> None:
    """It recovers whatever goes on round it."""
    nodes = Verdict(Ruling.REFUSE, Reason.UNHEALTHY_NODES, "31 of 100")

    decision = decide(make.case(reading=make.reading(Health.HEALTHY), container=("inc-7", "x"), nodes=nodes))

    assert decision.incident.phase is Phase.VERIFYING
