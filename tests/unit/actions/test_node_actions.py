"""Cordon, drain and out-of-service as step machines, on a node that answers: what is written, in which order, and when nothing is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.actions.giving_back import looks_first, undo_now
from responder.actions.planning import PlanInput, PlanSettings
from responder.model.action import (
    CORDON_ANNOTATION,
    OUT_OF_SERVICE_ANNOTATION,
    End,
    Outcome,
    PatchKind,
    Plan,
    Refusal,
    Verb,
    Wait,
    Write,
)
from responder.model.cluster import BudgetSnapshot, NodeSnapshot, OwnerRef, PodSnapshot, Snapshot, Taint
from responder.model.reason import Reason
from tests import builders as make

COMMAND = "inc-1/1/node/drain/1"
GRACE = timedelta(seconds=3)
DAEMON = make.pod("agent", owner=OwnerRef(kind="DaemonSet", name="agent", uid="d"))
KILLED = timedelta(minutes=8)


@dataclass(slots=True)
class World:
    """One node and its budgets, which take writes as an API server and a kubelet would."""

    node: NodeSnapshot
    pods: list[PodSnapshot]
    budgets: dict[str, int] = field(default_factory=dict)
    now: datetime = make.NOON
    machine: str = ""
    confirms: bool = True
    written: list[Write] = field(default_factory=list)
    before: Callable[[World], None] = lambda _world: None

    def look(self) -> Snapshot:
        self.pods = [pod for pod in self.pods if not self._ended(pod)]
        budgets = tuple(
            BudgetSnapshot(name=name, namespace="shop", allowed=allowed, current_healthy=2, desired_healthy=3)
            for name, allowed in self.budgets.items()
        )
        found = make.on_node(
            *self.pods, this=self.node, budgets=budgets, moved=(make.moved(),), lease_renewed_at=make.NOON - timedelta(minutes=4)
        )
        assert found.node is not None
        return replace(found, read_at=self.now, node=replace(found.node, machine=self.machine))

    def _ended(self, pod: PodSnapshot) -> bool:
        gone = any(taint.key.endswith("out-of-service") for taint in self.node.taints) and not pod.mirror
        ended = pod.deleting_since is not None and self.now >= pod.deleting_since and not pod.finalizers
        return gone or (ended and self.confirms and self.node.ready != "Unknown")

    def take(self, write: Write) -> None:
        self.before(self)
        self.written.append(write)
        if write.verb is Verb.EVICT:
            for place, pod in enumerate(self.pods):
                if pod.uid == write.uid:
                    for name in pod.budgets:
                        assert self.budgets[name] > 0, f"evicted {pod.name} against budget {name}"
                        self.budgets[name] -= 1
                    self.pods[place] = replace(pod, deleting_since=self.now + GRACE)
        elif write.patch is PatchKind.MERGE:
            assert write.body["metadata"]["resourceVersion"] == self.node.resource_version
            marks = write.body["metadata"].get("annotations", {})
            spec = write.body["spec"]
            taints = self.node.taints
            if "taints" in spec:
                taints = tuple(
                    Taint(key=one["key"], value=one.get("value", ""), effect=one["effect"], raw=one) for one in spec["taints"]
                )
            self.node = replace(
                self.node,
                unschedulable=spec.get("unschedulable", self.node.unschedulable),
                cordoned_for=marks.get(CORDON_ANNOTATION, self.node.cordoned_for),
                out_of_service_for=marks.get(OUT_OF_SERVICE_ANNOTATION, self.node.out_of_service_for),
                taints=taints,
            )
        else:
            self._json(write)

    def _json(self, write: Write) -> None:
        removed = [one["path"] for one in write.body if one["op"] == "remove"]
        for path in removed:
            if path.startswith("/spec/taints/"):
                place = int(path.rsplit("/", 1)[1])
                tested = next(one["value"] for one in write.body if one["path"] == f"{path}/key")
                assert self.node.taints[place].key == tested
                self.node = replace(self.node, taints=(*self.node.taints[:place], *self.node.taints[place + 1 :]))
            elif path == "/spec/unschedulable":
                self.node = replace(self.node, unschedulable=False)
            elif path.endswith(CORDON_ANNOTATION.replace("/", "~1")):
                self.node = replace(self.node, cordoned_for="")
            else:
                self.node = replace(self.node, out_of_service_for="")


def plan(action: str, world: World, *, own: str = "") -> Plan | Refusal:
    snap = world.look()
    facts = {"machine": world.machine} if world.machine else {}
    return make.CATALOGUE.actions[action].plan(
        PlanInput(
            target=make.NODE,
            snapshot=snap,
            facts=facts,
            arguments={},
            command=COMMAND,
            now=world.now,
            settings=PlanSettings(own_pod=own),
        )
    )


def planned(action: str, world: World, *, own: str = "") -> Plan:
    found = plan(action, world, own=own)
    assert isinstance(found, Plan), found
    return found


def run(made: Plan, world: World, *, most: timedelta = KILLED) -> End | Wait:
    """Drive a plan to its end, or to the wait it is in when its time is over."""
    ends_at = world.now + most
    last = Wait(again_in=timedelta(0))
    while world.now < ends_at:
        step = make.CATALOGUE.actions[made.action].next_step(made, world.look(), now=world.now)
        match step:
            case End():
                return step
            case Wait():
                last = step
                world.now += step.again_in
            case Write():
                world.take(step)
                world.now += timedelta(milliseconds=200)
    return last


def evicted(world: World) -> list[str]:
    return [write.name for write in world.written if write.verb is Verb.EVICT]


def nine() -> list[PodSnapshot]:
    return [make.pod(f"api-{number}") for number in range(9)]


def test_a_drain_cordons_first_and_ends_after_a_second_pass_that_finds_none() -> None:
    """The cordon carries our mark; nine pods go one after the other, each named with its place; DaemonSet, static and finished pods stay."""
    world = World(make.node(), [*nine(), DAEMON, make.pod("etcd", mirror=True, owner=None), make.pod("once", phase="Succeeded")])

    end = run(planned("node.drain", world), world)

    assert isinstance(end, End)
    assert end.outcome is Outcome.DONE
    assert world.written[0].key == "cordon"
    assert evicted(world) == [f"api-{number}" for number in range(9)]
    assert "(9 of 9)" in world.written[-1].says
    assert world.node.cordoned_for == "inc-1 2026-01-05T12:00:00Z"
    assert {pod.name for pod in world.look().node.pods} == {"agent", "etcd", "once"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        (make.pod("alone", owner=None), "nothing would make it again"),
        (make.pod("lost", owner=OwnerRef(kind="DaemonSet", name="d", uid="d"), owner_exists=False), "its DaemonSet d is gone"),
        (make.pod("held", hands_off="migration"), "migration"),
        (make.pod("kept", keeps="karpenter.sh/do-not-disrupt: true"), "karpenter.sh/do-not-disrupt"),
        (make.pod("twice", budgets=("a", "b")), "a, b"),
    ],
    ids=["8 bare", "10 orphan of a DaemonSet", "hands-off", "do not disrupt", "3 two budgets"],
)
def test_one_pod_that_refuses_and_nothing_is_touched(pod: PodSnapshot, word: str) -> None:
    """Cases 8 and 10: planned whole before the first write: not even cordoned, and the blocker is named."""
    world = World(make.node(), [*nine(), pod])

    refused = plan("node.drain", world)

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.DRAIN_BLOCKED
    assert pod.name in refused.detail
    assert word in refused.detail


def test_an_approval_outlives_pods_that_come_and_go() -> None:
    """On a node under pressure the kubelet evicts by the minute; a drain of the same workloads is the same plan, and of another one it is not."""
    before = planned("node.drain", World(make.node(), nine()))
    fewer = [replace(nine()[0], phase="Failed"), replace(nine()[1], deleting_since=make.NOON), *nine()[2:]]
    other = make.pod("web-1", owner=OwnerRef(kind="ReplicaSet", name="web-rs", uid="w"))

    assert planned("node.drain", World(make.node(), fewer)).digest("r") == before.digest("r")
    assert planned("node.drain", World(make.node(), [*nine(), other])).digest("r") != before.digest("r")


def test_a_pod_that_arrives_and_refuses_stops_the_drain() -> None:
    """The verdict is made again at every step: a bare pod that comes after the fifth eviction, and no sixth is sent."""
    world = World(make.node(), nine())
    made = planned("node.drain", world)

    def arrives(at: World) -> None:
        if len(evicted(at)) == 4:
            at.pods.append(make.pod("alone", owner=None))

    world.before = arrives

    end = run(made, world)

    assert isinstance(end, End)
    assert (end.outcome, end.reason) == (Outcome.REFUSED, Reason.DRAIN_BLOCKED)
    assert len(evicted(world)) == 5


@pytest.mark.parametrize("gap", ["pods", "workloads", "budgets", "namespace"])
def test_what_a_verdict_needs_and_was_not_read_evicts_nothing(gap: str) -> None:
    """Before the plan it is refused, in the middle it is waited for, and never failed: unknown is not permission."""
    world = World(make.node(), nine())
    made = planned("node.drain", world)
    blind = replace(world.look(), gaps={gap: "503"})

    step = make.CATALOGUE.actions["node.drain"].next_step(made, blind, now=make.NOON)
    refused = make.CATALOGUE.actions["node.drain"].plan(
        PlanInput(target=make.NODE, snapshot=blind, facts={}, arguments={}, command=COMMAND, now=make.NOON)
    )

    assert isinstance(step, Wait)
    assert step.refuses is Reason.UNKNOWN
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.UNKNOWN


def test_a_budget_is_waited_for_and_other_pods_go_meanwhile() -> None:
    """What a budget holds back does not hold up the rest; no eviction is ever sent that the budget would refuse."""
    pods = [*(make.pod(f"api-{number}", budgets=("api",)) for number in range(3)), make.pod("web-0")]
    world = World(make.node(), pods, budgets={"api": 1})
    made = planned("node.drain", world)

    wait = run(made, world, most=timedelta(minutes=1))
    world.budgets["api"] = 2
    end = run(made, world)

    assert isinstance(wait, Wait)
    assert wait.refuses is Reason.BUDGET_BLOCKS
    assert "budget api needs 3 healthy pods and has 2" in wait.detail
    assert evicted(world) == ["api-0", "web-0", "api-1", "api-2"]
    assert isinstance(end, End)
    assert end.outcome is Outcome.DONE


def test_a_broken_pod_is_evicted_where_its_budget_says_that_it_may() -> None:
    """AlwaysAllow spends no budget; IfHealthyBudget at its floor keeps even the broken one."""
    broken = make.pod("api-0", ready=False, budgets=("api",))
    world = World(make.dead(), [broken])
    made = planned("node.drain", world)

    def step(policy: str, healthy: int) -> Any:
        budget = BudgetSnapshot(
            name="api", namespace="shop", allowed=0, current_healthy=healthy, desired_healthy=3, unhealthy_policy=policy
        )
        world.node = replace(world.node, unschedulable=True, cordoned_for="inc-1 x")
        snap = world.look()
        assert snap.node is not None
        snap = replace(snap, node=replace(snap.node, budgets=(budget,)))
        return make.CATALOGUE.actions["node.drain"].next_step(made, snap, now=make.NOON)

    assert isinstance(step("IfHealthyBudget", 2), Wait)
    assert isinstance(step("IfHealthyBudget", 3), Write)
    assert isinstance(step("AlwaysAllow", 2), Write)


def test_a_dead_node_is_said_to_be_dead_and_not_drained() -> None:
    """Cases 11 and 12: its pods are evicted, so that others are made, and nobody waits for a kubelet that cannot confirm."""
    world = World(make.dead(), nine())
    began = world.now

    end = run(planned("node.drain", world), world)

    assert isinstance(end, End)
    assert len(evicted(world)) == 9
    assert world.now - began < timedelta(seconds=10)
    assert "is not drained: 9 pods still terminate on a dead node" in end.detail


def test_pods_that_never_end_on_a_live_node_are_waited_for_and_their_finalizer_named() -> None:
    """When the rung's time is over it is refused and not failed: a machine must not be deleted because a finalizer is stuck."""
    held = make.pod("api-0", finalizers=("example.org/hold",))
    world = World(make.node(), [held])

    wait = run(planned("node.drain", world), world)

    assert isinstance(wait, Wait)
    assert wait.refuses is Reason.DRAIN_BLOCKED
    assert "held by finalizer example.org/hold" in wait.detail
    assert len(evicted(world)) == 1


def test_the_time_of_a_drain_is_that_of_its_slowest_pod() -> None:
    """Case 17: ten minutes of grace and two for the rest, whatever the rung says; on a dead node nobody's grace is waited for."""
    slow = [make.pod("slow", grace_seconds=600), make.pod("quick")]

    assert planned("node.drain", World(make.node(), slow)).takes == timedelta(minutes=12)
    assert planned("node.drain", World(make.dead(), slow)).takes == timedelta(minutes=2)


def test_the_responders_own_pod_goes_last() -> None:
    """Case 18: after every other pod has left, so that the ladder can go on elsewhere from a node that is all but empty."""
    own = make.pod("a-responder-0", namespace="responder")
    world = World(make.node(), [own, *nine()])
    made = planned("node.drain", world, own="responder/a-responder-0")
    left: list[int] = []

    def before(at: World) -> None:
        left.append(len(at.pods))

    world.before = before

    run(made, world)

    assert evicted(world)[-1] == "a-responder-0"
    assert left[-1] == 1


def test_a_node_that_is_ready_again_keeps_what_is_left_on_it() -> None:
    """At the fifth eviction the kubelet is back: no sixth; what was evicted is elsewhere already."""
    world = World(make.dead(), nine())
    made = planned("node.drain", world)

    def back(at: World) -> None:
        if len(evicted(at)) == 4:
            at.node = replace(at.node, ready="True")

    world.before = back

    end = run(made, world)

    assert isinstance(end, End)
    assert (end.outcome, end.reason) == (Outcome.STOPPED, Reason.HEALTHY)
    assert len(evicted(world)) == 5


@pytest.mark.parametrize("action", ["node.cordon", "node.drain", "node.out_of_service"])
def test_a_cordon_of_somebody_else_is_theirs(action: str) -> None:
    """Case 16: neither taken over nor lifted; while the autoscaler is at work nothing is begun."""
    world = World(make.dead(unschedulable=True), nine(), machine="stopped")

    refused = plan(action, world)

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.FOREIGN_ACTIVITY


def test_a_mark_of_the_autoscaler_in_the_middle_ends_the_drain() -> None:
    """Foreign activity is looked for at every step."""
    world = World(make.node(), nine())
    made = planned("node.drain", world)

    def marked(at: World) -> None:
        if len(evicted(at)) == 2:
            at.node = replace(at.node, taints=(Taint(key="ToBeDeletedByClusterAutoscaler", effect="NoSchedule"),))

    world.before = marked

    end = run(made, world)

    assert isinstance(end, End)
    assert (end.outcome, end.reason) == (Outcome.REFUSED, Reason.FOREIGN_ACTIVITY)
    assert len(evicted(world)) == 3


def test_what_the_cluster_stands_on_is_evicted_after_the_others_and_our_own_pod_last() -> None:
    """Cluster DNS on the node answers while the others leave; its name would have let it go first."""
    names = ("api-1", "coredns-1", "responder-1", "zoo-1")
    pods = [make.pod(name, priority=2_000_000_000 if name == "coredns-1" else 0, namespace="shop") for name in names]
    world = World(make.node(), pods)

    run(planned("node.drain", world, own="shop/responder-1"), world)

    assert [one.name for one in world.written if one.verb is Verb.EVICT] == ["api-1", "zoo-1", "coredns-1", "responder-1"]


def test_the_last_ready_replica_waits_for_another_one_although_no_budget_says_so() -> None:
    """Both of two are here: the second goes when the first one's successor is ready; a workload of one has nobody to wait for (A15 rule 3)."""
    top = make.moved().target.identity
    first, second = (make.pod(name, top=top) for name in ("api-1", "api-2"))
    gone = replace(first, deleting_since=make.NOON + timedelta(seconds=30))

    def asked(*pods: PodSnapshot, ready: int, desired: int = 2, node: str = "True") -> Write | Wait | End:
        this = make.node(unschedulable=True, cordoned_for="inc-1 2026-01-05T12:00:00Z", ready=node)
        snap = make.on_node(*pods, this=this, moved=(make.moved(desired=desired, ready=ready),))
        return make.CATALOGUE.actions["node.drain"].next_step(made, snap, now=make.NOON)

    made = planned("node.drain", World(make.node(), [first, second]))
    begins = asked(first, second, ready=2)
    early = asked(gone, second, ready=1)
    later, only, dead = asked(second, ready=2), asked(second, ready=1, desired=1), asked(gone, second, ready=1, node="Unknown")

    assert isinstance(begins, Write)
    assert isinstance(early, Wait)
    assert early.refuses is Reason.LAST_READY_REPLICA
    assert all(isinstance(one, Write) and one.name == "api-2" for one in (later, only))
    assert isinstance(dead, Write)


def test_a_cordon_and_its_drain_owe_one_debt_between_them() -> None:
    """Both of one rung are planned on a node that is free; given back, the second finds nothing of ours any more."""
    world = World(make.node(), nine())
    both = [planned("node.cordon", world), planned("node.drain", world)]
    for made in both:
        assert isinstance(run(made, world), End)
    debts = [change for made in both for change in made.changes]

    first = undo_now(debts[1], world.look(), now=world.now)
    assert isinstance(first, Write)
    world.take(first)
    second = undo_now(debts[0], world.look(), now=world.now)

    assert all(looks_first(one) for one in debts)
    assert (world.node.unschedulable, world.node.cordoned_for) == (False, "")
    assert isinstance(second, End)
    assert second.outcome is Outcome.ALREADY_SO


GIVEN_BACK = [
    ("ours", {}, None),
    ("of another incident", {"cordoned_for": "inc-2 2026-01-05T12:00:00Z"}, Outcome.ALREADY_SO),
    ("the autoscaler deletes it", {"taints": (Taint(key="ToBeDeletedByClusterAutoscaler"),)}, Outcome.REFUSED),
    ("quarantined", {"labels": {"kubernetes.azure.com/upgrade-status": "Quarantined"}}, Outcome.REFUSED),
    ("another node of that name", {"uid": "uid-other"}, Outcome.GONE),
]


@pytest.mark.parametrize(("changes", "outcome"), [row[1:] for row in GIVEN_BACK], ids=[row[0] for row in GIVEN_BACK])
def test_a_cordon_is_given_back_only_while_it_is_ours_and_nobody_else_is_at_work(
    changes: dict[str, Any], outcome: Outcome | None
) -> None:
    """A4: never from under the autoscaler or an upgrade; later, when they are done, it is tried again."""
    world = World(make.node(), [])
    (debt,) = planned("node.cordon", world).changes
    run(planned("node.cordon", world), world)
    world.node = replace(world.node, **changes)

    found = undo_now(debt, world.look(), now=world.now)

    assert (found.outcome if isinstance(found, End) else None) is outcome


def anew(node: NodeSnapshot, *, after: timedelta) -> NodeSnapshot:
    """Let a person uncordon a node of ours and cordon it again so long after our mark: kubectl touches no annotation."""
    taint = {
        "key": "node.kubernetes.io/unschedulable",
        "effect": "NoSchedule",
        "timeAdded": f"{make.NOON + after:%Y-%m-%dT%H:%M:%SZ}",
    }
    return replace(node, unschedulable=True, taints=(Taint(key=taint["key"], effect=taint["effect"], raw=taint),))


def test_a_cordon_set_anew_by_an_administrator_is_theirs_although_our_mark_is_still_there() -> None:
    """A4: only our own change is reverted. Nothing is drained, planned or lifted there; what is left of us is taken away."""
    world = World(make.node(), nine())
    (debt,) = planned("node.cordon", world).changes
    drain = planned("node.drain", world)
    run(planned("node.cordon", world), world)
    world.node = anew(world.node, after=timedelta(hours=5))

    refused = [plan(action, world) for action in ("node.cordon", "node.drain", "node.uncordon")]
    end = make.CATALOGUE.actions["node.drain"].next_step(drain, world.look(), now=world.now)
    found = undo_now(debt, world.look(), now=world.now)
    assert isinstance(found, Write)
    world.take(found)

    assert [one.reason for one in refused if isinstance(one, Refusal)] == [Reason.FOREIGN_ACTIVITY] * 3
    assert isinstance(end, End)
    assert (end.outcome, end.reason) == (Outcome.REFUSED, Reason.FOREIGN_ACTIVITY)
    assert (world.node.unschedulable, world.node.cordoned_for) == (True, "")


def test_a_cordon_of_ours_stays_ours_whatever_two_clocks_say() -> None:
    """The taint's time is another machine's; a few minutes are no other cordon (A16 case 65)."""
    world = World(make.node(), [])
    run(planned("node.cordon", world), world)

    for minutes in (-30, 0, 30):
        world.node = anew(world.node, after=timedelta(minutes=minutes))
        assert isinstance(plan("node.uncordon", world), Plan)


def test_a_mark_on_a_node_that_a_person_uncordoned_is_taken_away() -> None:
    """Left there, an administrator's next cordon would pass for ours. Nothing but the mark is written."""
    world = World(make.node(), [])
    (debt,) = planned("node.cordon", world).changes
    run(planned("node.cordon", world), world)
    world.node = replace(world.node, unschedulable=False)

    found = undo_now(debt, world.look(), now=world.now)

    assert isinstance(found, Write)
    assert [one["path"] for one in found.body if one["op"] != "test"] == ["/metadata/annotations/responder~1cordoned-for"]


def test_only_our_own_cordon_is_lifted_by_hand() -> None:
    """``node.uncordon`` of one of ours; somebody else's is foreign; none is already so."""
    world = World(make.node(), [])
    run(planned("node.cordon", world), world)

    done = run(planned("node.uncordon", world), world)
    already = run(planned("node.uncordon", world), world)
    theirs = plan("node.uncordon", World(make.node(unschedulable=True), []))

    assert isinstance(done, End)
    assert isinstance(already, End)
    assert (done.outcome, already.outcome) == (Outcome.DONE, Outcome.ALREADY_SO)
    assert isinstance(theirs, Refusal)
    assert not world.node.unschedulable


# --- out of service

OTHERS = (
    Taint(key="gpu", value="yes", effect="NoSchedule", raw={"key": "gpu", "value": "yes", "effect": "NoSchedule"}),
    Taint(
        key="node.kubernetes.io/unreachable",
        effect="NoExecute",
        raw={"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-05T11:56:00Z"},
    ),
)
PROOFS = [
    ("19 no word about the machine", make.dead(), ""),
    ("19 the machine runs", make.dead(), "running"),
    ("the cloud does not know", make.dead(), "unknown"),
    ("20 a Ready node", make.node(), "stopped"),
    ("its kubelet talks", make.dead(ready="False"), "stopped"),
]


@pytest.mark.parametrize(("node", "machine"), [row[1:] for row in PROOFS], ids=[row[0] for row in PROOFS])
def test_without_proof_that_the_machine_is_off_nothing_is_let_go(node: NodeSnapshot, machine: str) -> None:
    """A node that is only cut off still runs its StatefulSet's pod: two of it would be worse than none."""
    refused = plan("node.out_of_service", World(node, nine(), machine=machine))

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.MACHINE_NOT_OFF


def test_a_fresh_lease_is_no_dead_machine() -> None:
    """Ready may be Unknown for a moment longer than the kubelet was silent."""
    world = World(make.dead(), nine(), machine="stopped", now=make.NOON - timedelta(minutes=3, seconds=50))

    refused = plan("node.out_of_service", world)

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.MACHINE_NOT_OFF


def test_leases_that_were_not_read_are_no_stale_lease() -> None:
    """Unknown is not permission: refused when it is planned, and when the taint would be written."""
    world = World(make.dead(), nine(), machine="stopped")
    made = planned("node.out_of_service", world)
    unread = replace(world.look(), gaps={"leases": "403 forbidden"})
    unseen = replace(unread, node=replace(unread.node, lease_renewed_at=None)) if unread.node is not None else unread
    action = make.CATALOGUE.actions["node.out_of_service"]

    given = PlanInput(target=make.NODE, snapshot=unseen, facts={}, arguments={}, command="c", now=world.now)
    refused, end = action.plan(given), action.next_step(made, unseen, now=world.now)

    assert isinstance(refused, Refusal)
    assert isinstance(end, End)
    assert (refused.reason, end.reason) == (Reason.UNKNOWN, Reason.UNKNOWN)


@pytest.mark.parametrize("machine", ["stopped", "deleted"])
def test_the_taint_is_set_and_taken_away_and_those_of_others_are_kept(machine: str) -> None:
    """Case 59: a strategic merge of ``spec.taints`` would wipe the others."""
    world = World(make.dead(taints=OTHERS), nine(), machine=machine)

    end = run(planned("node.out_of_service", world), world)

    assert isinstance(end, End)
    assert end.outcome is Outcome.DONE
    assert [write.key for write in world.written] == ["taint", "remove the taint"]
    assert world.node.taints == OTHERS
    assert world.node.out_of_service_for == ""


def test_a_crash_between_the_taint_and_its_removal_is_repaired() -> None:
    """Case 21: the same plan, driven anew after the first write, removes it; so does giving back without any plan."""
    world = World(make.dead(), nine(), machine="stopped")
    made = planned("node.out_of_service", world)
    step = make.CATALOGUE.actions[made.action].next_step(made, world.look(), now=world.now)
    assert isinstance(step, Write)
    world.take(step)
    alone = replace(world.look())

    undo = undo_now(made.changes[0], alone, now=world.now)
    end = run(made, world)

    assert isinstance(undo, Write)
    assert undo.key == "remove the taint"
    assert isinstance(end, End)
    assert world.node.taints == ()


def test_the_taint_goes_at_once_when_the_node_is_back() -> None:
    """Left on a Ready node it would delete every pod there."""
    world = World(make.dead(), nine(), machine="stopped")
    made = planned("node.out_of_service", world)
    step = make.CATALOGUE.actions[made.action].next_step(made, world.look(), now=world.now)
    assert isinstance(step, Write)
    world.take(step)
    world.node = replace(world.node, ready="True")

    then = make.CATALOGUE.actions[made.action].next_step(made, world.look(), now=world.now)

    assert isinstance(then, Write)
    assert then.takes_back


@given(st.integers(0, 30), st.lists(st.integers(0, 3), max_size=6))
def test_a_crash_between_any_two_steps_evicts_no_pod_twice(stop: int, more: list[int]) -> None:
    """Whatever step it dies at, and however often: each pod is evicted once, and the end is the same."""
    world = World(make.node(), nine())
    made = planned("node.drain", world)
    for count in (stop, *more):
        for _ in range(count):
            step = make.CATALOGUE.actions[made.action].next_step(made, world.look(), now=world.now)
            if isinstance(step, Write):
                world.take(step)
            world.now += timedelta(seconds=1)

    end = run(made, world)

    assert isinstance(end, End)
    assert end.outcome is Outcome.DONE
    assert sorted(evicted(world)) == [f"api-{number}" for number in range(9)]
    assert sum(write.key == "cordon" for write in world.written) == 1
