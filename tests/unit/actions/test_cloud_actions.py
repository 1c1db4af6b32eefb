"""The cloud's actions as step machines: absolute plans, refusals, and every look at the world after a crash."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from responder.actions.giving_back import of_pool, undo_pool_now
from responder.actions.planning import PlanInput
from responder.model.action import End, Outcome, Plan, Refusal, Verb, Wait, Write
from responder.model.cloud import (
    CloudSnapshot,
    Life,
    MachineSnapshot,
    OperationResult,
    OperationSnapshot,
    OperationState,
    PoolSnapshot,
)
from responder.model.cluster import NodeDetail, NodeSnapshot, OwnerRef, PodSnapshot, Snapshot
from responder.model.reason import Reason
from responder.model.target import Target, TargetKind
from tests import builders as make

NODE = Target(kind=TargetKind.NODE, cluster="prod", name="n3", uid="uid-n3")
CLUSTER = Target(kind=TargetKind.CLUSTER, cluster="prod", name="prod")
VM = "/subscriptions/s/resourcegroups/mc/providers/microsoft.compute/virtualmachinescalesets/v/virtualmachines/3"
MACHINE = MachineSnapshot(resource_id=VM, name="aks-work-vmss000003", pool="work", life=Life.RUNNING, said="PowerState/running")
WORK = PoolSnapshot(name="work", etag='"1"', count=3)
SYSTEM = PoolSnapshot(name="system", etag='"1"', mode="System", count=2)
OWNER = OwnerRef(kind="ReplicaSet", name="api-rs", uid="uid-rs")


def cloud(**changes: Any) -> CloudSnapshot:
    values: dict[str, Any] = {
        "read_at": make.NOON, "provisioning_state": "Succeeded", "power_state": "Running", "etag": '"9"', "pools": (SYSTEM, WORK),
        "machine": MACHINE, "machines": {"work": (MACHINE,)},
    }  # fmt: skip
    return CloudSnapshot(**{**values, **changes})


def snap(
    target: Target = NODE, *, pods: tuple[PodSnapshot, ...] = (), ready: str = "Unknown", cordoned: bool = True, **changes: Any
) -> Snapshot:
    said = cloud(**changes)
    node = NodeSnapshot(name="n3", ready=ready, unschedulable=cordoned, pool="work", provider_id=f"azure://{VM}")
    detail = NodeDetail(node=node, pods=pods) if target.kind is TargetKind.NODE else None
    return Snapshot(target=target, read_at=make.NOON, cloud=said, node=detail)


def plan(action: str, snapshot: Snapshot, **arguments: Any) -> Plan | Refusal:
    given = PlanInput(
        target=snapshot.target,
        snapshot=snapshot,
        facts={"pool": "work"},
        arguments=arguments,
        command="inc-1/1/r/x/1",
        now=make.NOON,
    )
    return make.CATALOGUE.actions[action].plan(given)


def planned(action: str, snapshot: Snapshot, **arguments: Any) -> Plan:
    found = plan(action, snapshot, **arguments)
    assert isinstance(found, Plan), found
    return found


def step(made: Plan, snapshot: Snapshot) -> Write | Wait | End:
    return make.CATALOGUE.actions[made.action].next_step(made, snapshot, now=make.NOON)


def written(made: Plan, snapshot: Snapshot) -> Write:
    found = step(made, snapshot)
    assert isinstance(found, Write), found
    return found


def ended(made: Plan, snapshot: Snapshot) -> End:
    found = step(made, snapshot)
    assert isinstance(found, End), found
    return found


def result(state: OperationState, code: str = "", message: str = "") -> OperationResult:
    return OperationResult(state=state, code=code, message=message)


BUSY = OperationSnapshot(name="Upgrading", began_at=make.NOON - timedelta(minutes=20), by="somebody", exact=True, id="op-1")
AUTOSCALED = replace(WORK, autoscaled=True, minimum=2, maximum=5)

REFUSALS = [
    ("node_pool.scale", snap(operation=BUSY), {"by": 1}, Reason.FOREIGN_ACTIVITY, "an upgrade is running"),
    ("node_pool.scale", snap(power_state="Stopped"), {"by": 1}, Reason.CLOUD_STATE, "the cluster is stopped"),
    (
        "node_pool.scale",
        snap(pools=(replace(WORK, provisioning_state="Failed"),)),
        {"by": 1},
        Reason.CLOUD_STATE,
        "the pool is Failed",
    ),
    ("node_pool.scale", snap(), {"by": 1, "pool": "none"}, Reason.TARGET_GONE, "no such pool"),
    ("node_pool.scale", snap(), {"to": 2}, Reason.ARGUMENT_MISSING, "fewer nodes without remove"),
    ("node_pool.scale", snap(pools=(AUTOSCALED,)), {"to": 4}, Reason.AUTOSCALED, "the autoscaler owns the count"),
    ("node_pool.scale", snap(pools=(replace(AUTOSCALED, count=5),)), {"by": 1}, Reason.POOL_AT_MAXIMUM, "at its maximum"),
    ("node_pool.scale", snap(), {"to": 1, "pool": "system", "remove": True}, Reason.LAST_SYSTEM_NODES, "one system node left"),
    ("node_pool.delete_machine", snap(operation=BUSY), {}, Reason.FOREIGN_ACTIVITY, "an upgrade is running"),
    ("node_pool.delete_machine", snap(machine=None), {}, Reason.UNKNOWN, "no machine is known"),
    ("node_pool.delete_machine", snap(machine=replace(MACHINE, name="", pool="")), {}, Reason.UNKNOWN, "in no pool's list"),
    (
        "node_pool.delete_machine",
        snap(machine=replace(MACHINE, pool="system")),
        {},
        Reason.LAST_SYSTEM_NODES,
        "63 the last system pool has two nodes",
    ),
    ("cluster.start", snap(CLUSTER), {}, Reason.CLOUD_STATE, "it runs"),
    (
        "cluster.start",
        snap(CLUSTER, power_state="Stopped", provisioning_state="Stopping"),
        {},
        Reason.FOREIGN_ACTIVITY,
        "somebody stops it",
    ),
    ("cluster.abort_operation", snap(CLUSTER), {}, Reason.CLOUD_STATE, "nothing is in progress"),
    ("cluster.abort_operation", snap(CLUSTER, operation=BUSY), {}, Reason.OPERATION_TOO_YOUNG, "20 minutes old and not ours"),
    (
        "cluster.abort_operation",
        snap(CLUSTER, operation=replace(BUSY, began_at=make.NOON - timedelta(minutes=90))),
        {"older_than": "2h"},
        Reason.OPERATION_TOO_YOUNG,
        "younger than the rule's age",
    ),
    ("cluster.reconcile", snap(CLUSTER), {}, Reason.CLOUD_STATE, "nothing has failed"),
    ("cluster.reconcile", snap(CLUSTER, provisioning_state="Updating"), {}, Reason.FOREIGN_ACTIVITY, "somebody updates it"),
]


@pytest.mark.parametrize(
    ("action", "seen", "arguments", "reason"), [one[:4] for one in REFUSALS], ids=[f"{one[0]}: {one[4]}" for one in REFUSALS]
)
def test_a_plan_is_refused_with_its_reason(action: str, seen: Snapshot, arguments: dict[str, Any], reason: Reason) -> None:
    """What cannot be undone is not begun in a doubtful state."""
    found = plan(action, seen, **arguments)

    assert isinstance(found, Refusal), found
    assert found.reason is reason


@pytest.mark.parametrize(
    "action", ["node_pool.scale", "node_pool.delete_machine", "cluster.start", "cluster.abort_operation", "cluster.reconcile"]
)
def test_an_arm_that_does_not_answer_is_never_permission(action: str) -> None:
    """Without the second opinion nothing is done to a pool or a cluster."""
    unread = replace(snap(), cloud=None, gaps={"cloud": "no answer within 8 s"})

    found = plan(action, unread, by=1)

    assert isinstance(found, Refusal)
    assert (found.reason, found.detail) == (Reason.UNKNOWN, "no answer within 8 s")


# --- scale


def test_a_scale_is_an_absolute_count_under_the_pools_etag() -> None:
    """The plan says "3 → 4", never "one more": repeated after a crash it asks for four all the same."""
    made = planned("node_pool.scale", snap(), by=1)

    found = written(made, snap())

    assert made.diff == ("node pool work: count 3 → 4",)
    assert made.target.identity == "prod/node_pool/work"
    assert (found.verb, found.name, found.resource_version) == (Verb.POOL, "work", '"1"')
    assert found.body == {"set": {"count": 4}, "expect": {"count": 3}}


def test_a_scale_that_is_under_way_is_waited_for_whoever_asks() -> None:
    """The restarted process sees the pool at work and sends nothing."""
    made = planned("node_pool.scale", snap(), by=1)

    for pool in (replace(WORK, provisioning_state="Scaling"), replace(WORK, provisioning_state="Scaling", count=4)):
        assert isinstance(step(made, snap(pools=(pool,))), Wait)
    assert isinstance(step(made, snap(operations={"scale work": result(OperationState.RUNNING)})), Wait)


def test_a_scale_is_done_when_the_pool_has_settled_at_the_count() -> None:
    """Also when another life began it."""
    made = planned("node_pool.scale", snap(), by=1)

    assert ended(made, snap(pools=(replace(WORK, count=4),))).outcome is Outcome.DONE
    assert ended(made, snap(pools=(replace(WORK, count=4, provisioning_state="Failed"),))).outcome is Outcome.FAILED


def test_a_scale_that_somebody_else_made_another_is_refused() -> None:
    """Seven nodes now: whoever made them so knows more than the plan."""
    made = planned("node_pool.scale", snap(), by=1)

    found = ended(made, snap(pools=(replace(WORK, count=7),)))

    assert (found.outcome, found.reason) == (Outcome.REFUSED, Reason.FOREIGN_ACTIVITY)


@pytest.mark.parametrize(
    "code", ["QuotaExceeded", "ErrCode_InsufficientVCPUQuota", "AllocationFailed", "SKUNotAvailable", "InsufficientSubnetSize"]
)
def test_a_scale_for_which_the_cloud_has_no_room_fails_with_that_reason(code: str) -> None:
    """Repeating does not help; people read the cloud's own words."""
    made = planned("node_pool.scale", snap(), by=1)
    over = result(OperationState.FAILED, code, "approved quota is 10")

    found = ended(made, snap(operations={"scale work": over}))

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.CLOUD_QUOTA)
    assert "approved quota is 10" in found.detail


def test_an_autoscaled_pool_gets_a_higher_minimum_and_gets_it_back() -> None:
    """AKS refuses a count there; the minimum is ours only for the incident."""
    made = planned("node_pool.scale", snap(pools=(AUTOSCALED,)), by=1)

    found = written(made, snap(pools=(AUTOSCALED,)))

    assert found.body == {"set": {"min_count": 4}, "expect": {"min_count": 2}}
    (change,) = made.changes
    assert (change.before, change.after, change.undo.body) == (2, 4, {"set": {"min_count": 2}, "expect": {"min_count": 4}})
    assert ended(made, snap(pools=(replace(AUTOSCALED, minimum=4),))).outcome is Outcome.DONE


def test_a_scale_that_failed_unseen_is_not_sent_again() -> None:
    """A crash lost the operation's token; the pool was Succeeded when this was planned and is Failed now: a change to it failed since."""
    made = planned("node_pool.scale", snap(), by=1)

    found = ended(made, snap(pools=(replace(WORK, provisioning_state="Failed"),)))

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.FAILED)
    assert "work is Failed at 3, planned to 4" in found.detail


@pytest.mark.parametrize(
    ("pool", "operation", "outcome", "why"),
    [
        (replace(AUTOSCALED, minimum=4, provisioning_state="Updating"), None, Outcome.REFUSED, "it is on its way back already"),
        (replace(AUTOSCALED, minimum=4), BUSY, Outcome.REFUSED, "somebody is at work"),
        (AUTOSCALED, None, Outcome.ALREADY_SO, "a life that died has given it back"),
        (replace(AUTOSCALED, minimum=3), None, Outcome.GONE, "somebody else set another minimum"),
        (replace(AUTOSCALED, name="other"), None, Outcome.GONE, "the pool is deleted"),
    ],
    ids=["at work", "cluster at work", "given back", "another's", "no pool"],
)
def test_a_minimum_is_given_back_only_after_a_look(
    pool: PoolSnapshot, operation: OperationSnapshot | None, outcome: Outcome, why: str
) -> None:
    """The last life may have sent it and died before it could say so."""
    (change,) = planned("node_pool.scale", snap(pools=(AUTOSCALED,)), by=1).changes

    found = undo_pool_now(change, cloud(pools=(pool,), operation=operation))

    assert isinstance(found, End)
    assert found.outcome is outcome, why


def test_a_minimum_that_is_still_ours_is_given_back() -> None:
    """As it was written down with the intention."""
    (change,) = planned("node_pool.scale", snap(pools=(AUTOSCALED,)), by=1).changes

    found = undo_pool_now(change, cloud(pools=(replace(AUTOSCALED, minimum=4, count=4),)))

    assert of_pool(change)
    assert found == change.undo


def test_what_a_step_took_the_next_gives_back() -> None:
    """``to: previous`` is planned before the machine is deleted, so it knows the count from before."""
    made = planned("node_pool.scale", snap(), to="previous")

    assert ended(made, snap()).outcome is Outcome.DONE
    assert written(made, snap(pools=(replace(WORK, count=2),))).body == {"set": {"count": 3}, "expect": {"count": 2}}
    assert made.values["gives_back"]


def test_what_a_step_took_is_owed_until_the_next_gives_it_back() -> None:
    """Stopped between the two, a pool of two machines that wants two would look whole."""
    (change,) = planned("node_pool.scale", snap(), to="previous").changes

    untouched = undo_pool_now(change, cloud())
    at_work = undo_pool_now(change, cloud(pools=(replace(WORK, count=2, provisioning_state="Deleting"),)))
    taken = undo_pool_now(change, cloud(pools=(replace(WORK, count=2),)))

    assert (change.before, change.after, change.until) == (3, 2, "step")
    assert isinstance(untouched, End)
    assert untouched.outcome is Outcome.ALREADY_SO
    assert isinstance(at_work, End)
    assert at_work.outcome is Outcome.REFUSED
    assert isinstance(taken, Write)
    assert taken.body == {"set": {"count": 3}, "expect": {"count": 2}}
    assert planned("node_pool.scale", snap(pools=(AUTOSCALED,)), to="previous").changes == ()


# --- delete


def test_a_drained_machine_is_deleted_by_its_name_in_the_pool_at_most_once() -> None:
    """The name comes from the pool's list by resource id, not from the node's name."""
    made = planned("node_pool.delete_machine", snap())

    found = written(made, snap())

    assert (found.verb, found.name, found.body) == (Verb.DELETE_MACHINE, "work", {"machine": "aks-work-vmss000003"})
    assert found.at_most_once


POD = PodSnapshot(namespace="shop", name="api-1", uid="u", node="n3", owner=OWNER)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pods": (POD,)}, "a pod is left and the machine runs"),
        (
            {"pods": (replace(POD, deleting_since=make.NOON),), "ready": "False"},
            "a pod terminates, and the kubelet will say when it has",
        ),
        ({"ready": "True", "cordoned": False}, "the node takes new pods"),
    ],
)
def test_a_machine_that_is_neither_drained_nor_dead_stays(changes: dict[str, Any], why: str) -> None:
    """AKS deletes without cordon or drain, so it is asked here."""
    made = planned("node_pool.delete_machine", snap())

    found = ended(made, snap(**changes))

    assert (found.outcome, found.reason) == (Outcome.REFUSED, Reason.NOT_DRAINED), why


def test_pods_that_terminate_on_a_silent_node_end_with_its_machine() -> None:
    """They were evicted and nobody confirms it: the rung after a drain of a dead node would never run if they kept the machine."""
    made = planned("node_pool.delete_machine", snap())
    leaving = replace(POD, deleting_since=make.NOON)

    assert written(made, snap(pods=(leaving,), ready="Unknown")).verb is Verb.DELETE_MACHINE
    refused = ended(made, snap(pods=(leaving, replace(POD, name="api-2", uid="v")), ready="Unknown"))
    assert (refused.reason, "api-2" in refused.detail, "api-1" in refused.detail) == (Reason.NOT_DRAINED, True, False)


@pytest.mark.parametrize("life", [Life.STOPPED, Life.DELETED])
def test_a_machine_that_is_proven_dead_needs_no_drain(life: Life) -> None:
    """Nothing runs on it, whatever the API still says of its pods."""
    made = planned("node_pool.delete_machine", snap())

    assert isinstance(step(made, snap(pods=(POD,), machine=replace(MACHINE, life=life))), Write)


def test_a_machine_that_is_gone_from_the_pool_is_deleted_whoever_looks() -> None:
    """Also when its Node is gone too."""
    made = planned("node_pool.delete_machine", snap())

    assert ended(made, replace(snap(machines={"work": ()}), gone=True, node=None)).outcome is Outcome.DONE
    deleting = replace(WORK, provisioning_state="Deleting", count=2)
    assert isinstance(step(made, snap(machines={"work": (MACHINE,)}, pools=(SYSTEM, deleting))), Wait)
    assert isinstance(step(made, snap(machines={})), Wait)


def test_the_last_system_nodes_are_looked_at_again_before_the_write() -> None:
    """Somebody may have taken one meanwhile."""
    three = replace(SYSTEM, count=3)
    mine = replace(MACHINE, pool="system")
    made = planned("node_pool.delete_machine", snap(pools=(three, WORK), machine=mine, machines={"system": (mine,)}))

    found = ended(made, snap(pools=(SYSTEM, WORK), machine=mine, machines={"system": (mine,)}))

    assert (found.outcome, found.reason) == (Outcome.REFUSED, Reason.LAST_SYSTEM_NODES)


# --- cluster


@pytest.mark.parametrize("state", ["Failed", "Canceled"])
def test_a_start_that_failed_or_was_aborted_unseen_is_not_sent_again(state: str) -> None:
    """A crash lost the operation's token; the cluster was Succeeded when this was planned, so what failed came after."""
    made = planned("cluster.start", snap(CLUSTER, power_state="Stopped"))

    found = ended(made, snap(CLUSTER, power_state="Stopped", provisioning_state=state))

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.FAILED)
    assert f"{state} and Stopped; it was Succeeded" in found.detail


def test_a_cluster_that_had_failed_before_is_started() -> None:
    """What it failed at was somebody's affair before ours; also a plan of a release that did not note it."""
    stopped = snap(CLUSTER, power_state="Stopped", provisioning_state="Failed")
    made = planned("cluster.start", stopped)

    assert written(made, stopped).verb is Verb.CLUSTER_START
    assert written(replace(made, values={}), stopped).verb is Verb.CLUSTER_START


def test_a_stopped_cluster_is_started_and_waited_for() -> None:
    """Stopped → Starting → Running."""
    stopped = snap(CLUSTER, power_state="Stopped")
    made = planned("cluster.start", stopped)

    assert written(made, stopped).verb is Verb.CLUSTER_START
    assert isinstance(step(made, snap(CLUSTER, power_state="Stopped", provisioning_state="Starting")), Wait)
    assert ended(made, snap(CLUSTER)).outcome is Outcome.DONE
    failed = result(OperationState.FAILED, "InternalOperationError", "boom")
    assert ended(made, snap(CLUSTER, power_state="Stopped", operations={"start": failed})).outcome is Outcome.FAILED


def test_an_old_operation_is_aborted_and_no_other() -> None:
    """The plan names the operation; another one in its place is left alone."""
    old = replace(BUSY, began_at=make.NOON - timedelta(hours=3))
    made = planned("cluster.abort_operation", snap(CLUSTER, operation=old))

    assert written(made, snap(CLUSTER, operation=old)).verb is Verb.CLUSTER_ABORT
    assert "begun 2026-01-05 09:00 UTC by somebody" in made.diff[0]
    another = ended(made, snap(CLUSTER, operation=replace(old, id="op-2")))
    assert (another.outcome, another.reason) == (Outcome.REFUSED, Reason.FOREIGN_ACTIVITY)
    assert isinstance(step(made, snap(CLUSTER, operation=replace(old, name="Canceling"))), Wait)
    assert ended(made, snap(CLUSTER, operations={"abort": result(OperationState.SUCCEEDED)})).outcome is Outcome.DONE
    assert ended(made, snap(CLUSTER)).outcome is Outcome.ALREADY_SO


def test_our_own_operation_may_be_aborted_at_once() -> None:
    """The activity log says that our identity began it."""
    assert isinstance(plan("cluster.abort_operation", snap(CLUSTER, operation=replace(BUSY, ours=True))), Plan)


def test_an_operation_of_a_pool_is_aborted_at_its_pool() -> None:
    """The cluster's own abort would not reach it."""
    old = replace(BUSY, on="work", ours=True)
    made = planned("cluster.abort_operation", snap(CLUSTER, operation=old))

    assert written(made, snap(CLUSTER, operation=old)).name == "work"


def test_a_failed_cluster_is_reconciled_once() -> None:
    """Still Failed after the reconcile ended well is a failure, not a reason to do it again."""
    bad = snap(CLUSTER, provisioning_state="Failed")
    made = planned("cluster.reconcile", bad)

    found = written(made, bad)

    assert (found.verb, found.resource_version, found.body) == (Verb.CLUSTER_RECONCILE, '"9"', {})
    assert isinstance(step(made, snap(CLUSTER, provisioning_state="Updating")), Wait)
    assert ended(made, snap(CLUSTER)).outcome is Outcome.DONE
    still = snap(CLUSTER, provisioning_state="Failed", operations={"reconcile": result(OperationState.SUCCEEDED)})
    assert ended(made, still).outcome is Outcome.FAILED


def test_a_reconcile_whose_token_was_lost_and_that_failed_is_not_sent_again() -> None:
    """The cluster is Failed as before; that somebody wrote it shows in its ETag alone."""
    made = planned("cluster.reconcile", snap(CLUSTER, provisioning_state="Failed"))

    found = ended(made, snap(CLUSTER, provisioning_state="Failed", etag='"11"'))

    assert found.outcome is Outcome.FAILED
    assert '"11"' in found.detail
