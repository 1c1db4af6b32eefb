"""What is seen on a node: other hands, room elsewhere, pods that were moved; and the facts and checks made from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.actions import nodes
from responder.actions.planning import PlanInput
from responder.model.action import Refusal
from responder.model.cluster import BudgetSnapshot, Condition, EventSnapshot, NodeSnapshot, OwnerRef, Snapshot, Taint
from responder.model.health import CheckReading, Health, Ruling
from responder.model.reason import Reason
from responder.policy import guards
from responder.policy.facts import facts_of
from responder.policy.guards import Limits
from tests import builders as make

API = make.moved()


def check(name: str, snap: Snapshot, **changes: Any) -> CheckReading:
    """Answer a check at noon, four minutes after the first alert."""
    held = (make.instance(started_at=make.NOON - timedelta(minutes=4)),)
    return make.CATALOGUE.checks[name].judge(snap, {}, instances=held, firing=changes.get("firing", held), now=make.NOON)


def repairs(reason: str, ago: timedelta) -> EventSnapshot:
    return EventSnapshot(
        about="Node/n1", type="Normal", reason=reason, message="", last_seen_at=make.NOON - ago, source="aks-auto-repair"
    )


OTHERS = [
    ({"this": make.node(taints=(Taint(key="ToBeDeletedByClusterAutoscaler"),))}, "autoscaler"),
    ({"this": make.node(taints=(Taint(key="DeletionCandidateOfClusterAutoscaler"),))}, "autoscaler"),
    ({"this": make.node(taints=(Taint(key="remediator.kubernetes.azure.com/unschedulable"),))}, "AKS"),
    ({"this": make.node(taints=(Taint(key="karpenter.sh/disrupted"),))}, "Karpenter"),
    ({"this": make.node(labels={"kubernetes.azure.com/upgrade-status": "Quarantined"})}, "upgrade"),
    ({"this": make.node(unschedulable=True)}, "somebody else cordoned"),
    ({"events": (repairs("NodeRebootStart", timedelta(minutes=3)),)}, "auto-repair"),
    ({"held_by": "self-node-remediation"}, "holds its Lease"),
    ({"maintenance": ("AKS is rolling pool user1 since 2026-01-05 11:50 UTC",)}, "rolling pool user1"),
]


@pytest.mark.parametrize(("changes", "word"), OTHERS, ids=[f"{number} {row[1]}" for number, row in enumerate(OTHERS)])
def test_a_node_on_which_others_are_at_work_is_left_to_them(changes: dict[str, Any], word: str) -> None:
    """Case 60: auto-repair, autoscaler, Karpenter, an upgrade, a cordon that is not ours, the holder of its Lease: waited for, and said."""
    verdict = guards.foreign_activity(make.on_node(**changes), facts={}, actions=("node.drain",), ours=True)

    assert (verdict.ruling, verdict.reason) == (Ruling.REFUSE, Reason.FOREIGN_ACTIVITY)
    assert word in verdict.detail


def test_traces_of_others_that_cannot_be_read_are_unknown() -> None:
    """An upgrade check that fails must not let a drain through (medik8s' fails open)."""
    for gap in ("events", "lease_holder"):
        verdict = guards.foreign_activity(make.on_node(gaps={gap: "403"}), facts={}, actions=(), ours=False)
        assert verdict.ruling is Ruling.UNKNOWN


def test_our_own_cordon_is_nobody_elses_hand() -> None:
    """A cordon with our mark is ours; the fact says whose it is."""
    snap = make.on_node(this=make.node(unschedulable=True, cordoned_for="inc-1 2026-01-05T12:00:00Z"))

    assert guards.foreign_activity(snap, facts={}, actions=(), ours=False).ruling is Ruling.ALLOW
    assert facts_of(snap, now=make.NOON)[0]["cordoned_by"] == "us"


REPAIRS = [
    ((), "none"),
    ((repairs("NodeRebootStart", timedelta(minutes=70)),), "none"),
    ((repairs("NodeRebootStart", timedelta(minutes=3)),), "running"),
    ((repairs("NodeRebootStart", timedelta(minutes=5)), repairs("NodeRebootEnd", timedelta(minutes=2))), "ended"),
    ((repairs("NodeReimageStart", timedelta(minutes=5)), repairs("NodeReimageError", timedelta(minutes=2))), "failed"),
    ((repairs("NodeRebootEnd", timedelta(minutes=5)), repairs("NodeReimageStart", timedelta(minutes=2))), "running"),
]


@pytest.mark.parametrize(("events", "word"), REPAIRS, ids=[f"{len(events)} events: {word}" for events, word in REPAIRS])
def test_auto_repair_is_known_by_its_events(events: tuple[EventSnapshot, ...], word: str) -> None:
    """A Start without an End within the hour is running; an End says nothing about health, only that it ended."""
    assert facts_of(make.on_node(events=events), now=make.NOON)[0]["repair"] == word


def test_the_facts_of_a_node_are_what_the_page_needs() -> None:
    """Ready, since when, the Lease's age, pressure, pool, blockers, nodes, and room elsewhere."""
    pressure = Condition(type="MemoryPressure", status="True")
    gone = make.pod("alone", owner=None)
    snap = make.on_node(
        make.pod("a"), gone, this=make.dead(conditions=(pressure,)), lease_renewed_at=make.NOON - timedelta(minutes=5)
    )

    facts, _ = facts_of(snap, now=make.NOON)

    assert facts == {
        "node_ready": "Unknown",
        "not_ready_for": timedelta(minutes=4),
        "since": make.NOON - timedelta(minutes=4),
        "lease_age": timedelta(minutes=5),
        "pressure": ["MemoryPressure"],
        "repair": "none",
        "cordoned_by": "",
        "pool": "user",
        "blockers": 1,
        "spare": True,
        "nodes": 5,
        "nodes_unhealthy": 1,
    }


def test_what_was_not_read_of_a_node_is_missing_and_not_guessed() -> None:
    """No nodes: no count and no room. No budgets: no blockers. The machine and its pool are ARM's to say."""
    facts, none = facts_of(make.on_node(gaps={"nodes": "403", "budgets": "403", "leases": "503"}), now=make.NOON)

    assert not {"nodes", "nodes_unhealthy", "spare", "blockers", "lease_age", "machine", "pool_count"} & set(facts)
    assert "lease_age" not in none


def sized(name: str, cpu: float) -> Any:
    return make.pod(name, requests={"cpu": cpu})


def test_room_elsewhere_is_for_whole_pods() -> None:
    """Four free halves of a core are no room for a pod that wants one and a half."""
    full = {f"n{number}": {"cpu": 3.0} for number in range(2, 6)}

    assert nodes.room(make.on_node(sized("a", 1.0), sized("b", 1.0), requested=full)) is True
    assert nodes.room(make.on_node(sized("a", 1.5), requested=full)) is False
    assert nodes.room(make.on_node(sized("a", 1.0), gaps={"requests": "503"})) is None


@pytest.mark.parametrize(
    "other",
    [make.dead("n2"), make.node("n2", unschedulable=True), make.node("n2", taints=(Taint(key="gpu", effect="NoSchedule"),))],
)
def test_a_node_that_takes_no_pods_has_no_room(other: NodeSnapshot) -> None:
    """Not Ready, cordoned or tainted nodes do not count."""
    assert nodes.room(make.on_node(sized("a", 1.0), others=(other,))) is False


@given(st.lists(st.floats(0.1, 3.0), max_size=20))
def test_room_is_never_claimed_for_more_than_there_is(sizes: list[float]) -> None:
    """Whatever the pods, a yes means that their sum fits into what is free, and each of them into one node."""
    pods = [sized(f"p{number}", cpu) for number, cpu in enumerate(sizes)]
    busy = {"n2": {"cpu": 2.0}, "n3": {"cpu": 3.5}}

    if nodes.room(make.on_node(*pods, requested=busy)):
        assert sum(sizes) <= 16 - 5.5 + 1e-6


UNSCHEDULED = make.pod(
    "api-9", node="", ready=False, scheduled=False, scheduling_message="0/4 nodes are available", created_at=make.NOON
)
STARTING = make.pod("api-8", node="n2", ready=False, created_at=make.NOON - timedelta(seconds=20))
BROKEN_BEFORE = make.crashing("api-7", node="n3")
BROKEN_SINCE = make.crashing("api-6", node="n3", created_at=make.NOON - timedelta(minutes=3))
SHORT = replace(API, ready=2)

RESCHEDULED = [
    ("nothing had to leave a Ready node", make.on_node(moved=(replace(API, ready=0),)), Health.HEALTHY, "no workload"),
    ("all are available", make.on_node(this=make.dead(), moved=(API,)), Health.HEALTHY, "all 1 workloads"),
    ("a replica is missing", make.on_node(this=make.dead(), moved=(SHORT,)), Health.UNHEALTHY, "2 of 3 ready"),
    (
        "a pod finds no node",
        make.on_node(this=make.dead(), moved=(replace(SHORT, waiting=(UNSCHEDULED,)),)),
        Health.UNHEALTHY,
        "0/4 nodes are available",
    ),
    (
        "a pod starts elsewhere",
        make.on_node(this=make.dead(), moved=(replace(SHORT, waiting=(STARTING,)),)),
        Health.UNHEALTHY,
        "2 of 3",
    ),
    (
        "the node is back and a moved pod still starts",
        make.on_node(moved=(replace(SHORT, displaced=True, waiting=(STARTING,)),)),
        Health.UNKNOWN,
        "starting",
    ),
    (
        "the node is back and a replica has no pod yet",
        make.on_node(moved=(replace(SHORT, displaced=True, absent=1),)),
        Health.UNKNOWN,
        "starting",
    ),
    (
        "a replica has no pod and the node is lost",
        make.on_node(this=make.dead(), moved=(replace(SHORT, displaced=True, absent=1),)),
        Health.UNHEALTHY,
        "2 of 3",
    ),
    ("the node is back, a moved one is short", make.on_node(moved=(replace(SHORT, displaced=True),)), Health.UNHEALTHY, "2 of 3"),
    (
        "it failed before and elsewhere",
        make.on_node(this=make.dead(), moved=(replace(SHORT, waiting=(BROKEN_BEFORE,)),)),
        Health.HEALTHY,
        "",
    ),
    (
        "it fails where it was moved to",
        make.on_node(this=make.dead(), moved=(replace(SHORT, waiting=(BROKEN_SINCE,)),)),
        Health.UNHEALTHY,
        "",
    ),
    ("the workload was deleted", make.on_node(this=make.dead(), moved=(replace(SHORT, gone=True),)), Health.HEALTHY, ""),
    ("a bare pod", make.on_node(make.pod("alone", owner=None), this=make.dead()), Health.UNHEALTHY, "nothing makes it elsewhere"),
    (
        "another operator's",
        make.on_node(this=make.dead(), moved=(replace(API, desired=None),)),
        Health.UNKNOWN,
        "no replica count",
    ),
    ("pods were not read", make.on_node(this=make.dead(), gaps={"pods": "503"}), Health.UNKNOWN, "503"),
    ("workloads were not read", make.on_node(gaps={"workloads": "503"}), Health.UNKNOWN, "503"),
    (
        "the node is gone and a workload is short",
        Snapshot(target=make.NODE, read_at=make.NOON, gone=True, moved=(replace(SHORT, displaced=True),)),
        Health.UNHEALTHY,
        "2 of 3",
    ),
    (
        "the node is gone and all are elsewhere",
        Snapshot(target=make.NODE, read_at=make.NOON, gone=True, moved=(replace(API, displaced=True),)),
        Health.HEALTHY,
        "which is gone",
    ),
]


@pytest.mark.parametrize(("snap", "health", "said"), [row[1:] for row in RESCHEDULED], ids=[row[0] for row in RESCHEDULED])
def test_pods_are_rescheduled_when_every_displaced_workload_is_whole_again(snap: Snapshot, health: Health, said: str) -> None:
    """Proof is the workload's ready replicas wherever they run; terminating pods, starting pods and unread ones prove nothing."""
    reading = check("pods.rescheduled", snap)

    assert reading.health is health, reading.detail
    assert said in reading.detail


def test_a_node_under_pressure_is_not_ready_in_our_sense() -> None:
    """``node.ready`` wants Ready and no condition that says something is short; a node that is gone is healthy once nothing fires."""
    short = make.node(conditions=(Condition(type="DiskPressure", status="True"),))
    gone = Snapshot(target=make.NODE, read_at=make.NOON, gone=True)

    assert check("node.ready", make.on_node()).health is Health.HEALTHY
    assert check("node.ready", make.on_node(this=short)).health is Health.UNHEALTHY
    assert check("node.ready", make.on_node(this=make.dead())).health is Health.UNHEALTHY
    assert check("node.ready", gone).health is Health.UNKNOWN
    assert check("node.ready", gone, firing=()).health is Health.HEALTHY


def some(down: int, total: int, **changes: Any) -> tuple[NodeSnapshot, ...]:
    return tuple(make.dead(f"n{n}", **changes) if n < down else make.node(f"n{n}", **changes) for n in range(total))


FLOORS = [
    (1, 1, True),
    (1, 3, True),
    (2, 3, False),
    (2, 5, False),
    (3, 10, True),
    (4, 10, False),
    (30, 100, True),
    (31, 100, False),
]


@pytest.mark.parametrize(("down", "total", "allowed"), FLOORS)
def test_the_floor_of_unhealthy_nodes_is_rounded_so_that_safety_wins(down: int, total: int, allowed: bool) -> None:
    """30 % rounded down, but one node always: one of three is not a storm, two of three is."""
    verdict = guards.unhealthy_nodes(Limits(), some(down, total))

    assert verdict.ruling is (Ruling.ALLOW if allowed else Ruling.REFUSE)
    assert verdict.reason is (Reason.WITHIN_LIMITS if allowed else Reason.UNHEALTHY_NODES)


def test_the_floor_holds_in_every_zone() -> None:
    """Three of twelve are few, but all three in one zone of four are a zone that fails."""
    zones = (*some(3, 4, zone="1"), *some(0, 4, zone="2"), *some(0, 4, zone="3"))

    verdict = guards.unhealthy_nodes(Limits(), zones)

    assert verdict.reason is Reason.UNHEALTHY_NODES
    assert "3 of 4 nodes of zone 1" in verdict.detail
    assert guards.unhealthy_nodes(Limits(), None).ruling is Ruling.UNKNOWN


@given(st.integers(0, 30), st.integers(1, 30), st.floats(0, 1))
def test_one_more_unhealthy_node_never_turns_a_refusal_into_permission(down: int, total: int, share: float) -> None:
    """Whatever the share."""
    limits = Limits(unhealthy_nodes=share)

    if down < total and guards.unhealthy_nodes(limits, some(down, total)).ruling is not Ruling.ALLOW:
        assert guards.unhealthy_nodes(limits, some(down + 1, total)).ruling is not Ruling.ALLOW


STALE = {f"n{n}": make.NOON - timedelta(seconds=90) for n in range(1, 6)}
DOUBTS = [
    ("no node is Ready", {"this": make.dead(), "others": (make.dead("n2"), make.dead("n3"))}, Reason.CONTROL_PLANE_DOUBT),
    ("a zone is disrupted", {"this": make.dead(), "others": some(2, 4)}, Reason.CONTROL_PLANE_DOUBT),
    ("Leases go stale together", {"leases": STALE}, Reason.CONTROL_PLANE_DOUBT),
    ("one dead node", {"this": make.dead()}, Reason.WITHIN_LIMITS),
    ("nodes were not read", {"gaps": {"nodes": "503"}}, Reason.UNKNOWN),
    ("Leases were not read", {"gaps": {"leases": "503"}}, Reason.UNKNOWN),
]


@pytest.mark.parametrize(("changes", "reason"), [row[1:] for row in DOUBTS], ids=[row[0] for row in DOUBTS])
def test_the_control_plane_is_doubted_before_the_machines_are(changes: dict[str, Any], reason: Reason) -> None:
    """Case 22: when all nodes look dead it is not the machines; nothing is done to any of them."""
    assert guards.control_plane_doubt(make.on_node(**changes)).reason is reason


PODS = [
    ("a replica", make.pod(), nodes.Fate.GOES),
    ("9 a static pod", make.pod(mirror=True, owner=None), nodes.Fate.STAYS),
    ("a finished pod", make.pod(phase="Succeeded", owner=None), nodes.Fate.STAYS),
    ("of a DaemonSet", make.pod(owner=OwnerRef(kind="DaemonSet", name="d", uid="d")), nodes.Fate.STAYS),
    (
        "10 its DaemonSet is gone",
        make.pod(owner=OwnerRef(kind="DaemonSet", name="d", uid="d"), owner_exists=False),
        nodes.Fate.REFUSES,
    ),
    ("8 a bare pod", make.pod(owner=None), nodes.Fate.REFUSES),
    ("a bare pod that leaves", make.pod(owner=None, deleting_since=make.NOON), nodes.Fate.LEAVES),
    ("14 its namespace ends", make.pod(namespace_ends=True), nodes.Fate.LEAVES),
    ("marked hands-off", make.pod(hands_off="namespace shop: migration"), nodes.Fate.REFUSES),
    ("asks to be kept", make.pod(keeps="karpenter.sh/do-not-disrupt: true"), nodes.Fate.REFUSES),
    ("3 two budgets", make.pod(budgets=("a", "b")), nodes.Fate.REFUSES),
    ("an emptyDir", make.pod(empty_dir=True), nodes.Fate.GOES),
    ("a Job's", make.pod(owner=OwnerRef(kind="Job", name="j", uid="j")), nodes.Fate.GOES),
]


@pytest.mark.parametrize(("pod", "fate"), [row[1:] for row in PODS], ids=[row[0] for row in PODS])
def test_each_pod_says_what_a_drain_does_with_it(pod: Any, fate: nodes.Fate) -> None:
    """In the order of kubectl's filters, with ours after them."""
    assert nodes.verdict(pod, make.node()).fate is fate


def test_what_asks_to_be_kept_has_nothing_left_to_keep_on_a_silent_node() -> None:
    """A pod on a node whose kubelet says nothing serves nobody; the annotation protects running work."""
    kept = make.pod(keeps="cluster-autoscaler.kubernetes.io/safe-to-evict: false")

    assert nodes.verdict(kept, make.node(ready="False")).fate is nodes.Fate.REFUSES
    assert nodes.verdict(kept, make.dead()).fate is nodes.Fate.GOES


NEVER = BudgetSnapshot(name="b", namespace="shop", allowed=0, current_healthy=2, desired_healthy=2, expected=2)


@pytest.mark.parametrize(
    ("changes", "pod", "refuses"),
    [
        ({}, {}, True),
        ({"expected": 3}, {}, False),
        ({"expected": 0, "desired_healthy": 0}, {}, False),
        ({"observed": False}, {}, False),
        ({"unhealthy_policy": "AlwaysAllow"}, {}, True),
        ({"unhealthy_policy": "AlwaysAllow"}, {"ready": False}, False),
        ({"namespace": "other"}, {}, False),
        ({}, {"phase": "Pending"}, False),
        ({}, {"deleting_since": make.NOON}, False),
    ],
)
def test_a_budget_that_never_allows_it_refuses_before_anything_is_touched(changes: Any, pod: Any, refuses: bool) -> None:
    """MaxUnavailable 0, or one replica that must be available: other pods are not evicted only to wait for ever for this one."""
    snap = make.on_node(make.pod("a", budgets=("b",), **pod), make.pod("free"), budgets=(replace(NEVER, **changes),))
    assert snap.node is not None

    found = nodes.hopeless(snap.node)
    given = PlanInput(target=make.NODE, snapshot=snap, facts={}, arguments={}, command="inc-1/1/r/d/1", now=make.NOON)
    plan = make.CATALOGUE.actions["node.drain"].plan(given)

    assert [one.pod.name for one in found] == (["a"] if refuses else [])
    assert isinstance(plan, Refusal) is refuses, plan
    assert facts_of(snap, now=make.NOON)[0]["blockers"] == int(refuses)
    if isinstance(plan, Refusal):
        assert plan.reason is Reason.DRAIN_BLOCKED
        assert "budget b wants 2 of 2 pods healthy" in plan.detail
