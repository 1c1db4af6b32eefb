"""``node_pool.delete_machine``: the machine under a node, deleted by AKS; at most once.

AKS deletes it without cordon or drain (kubernetes.md A13), so the node must be drained, or its machine proven dead by its own instance view.
Deleting the Node object instead would leave the machine running (A16 case 26). The machine is found by the resource id that the Node's
providerID names, never by guessing from the name.

The decision a reader would question: on a node whose kubelet is silent, pods that terminate do not keep the machine. They were evicted, their budgets were
asked, and nobody is there to confirm it: only the end of the machine does, also of one that is merely cut off (A5, rule 3). While the kubelet talks they
are waited for.

Recognised after a crash by the pool's list; a request that may have been sent and left no
trace is not sent again: a person decides.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from responder.actions import nodes
from responder.actions.cloud import API, LOOK_AGAIN, cloud_now, cloud_of, failure, idle, runs
from responder.actions.planning import Action, PlanInput
from responder.model.action import End, Outcome, Plan, Refusal, Step, Verb, Wait, Write
from responder.model.cloud import CloudSnapshot, Life, MachineSnapshot, PoolSnapshot
from responder.model.cluster import Snapshot
from responder.model.reason import Reason
from responder.model.target import TargetKind
from responder.rules.catalogue import ActionSpec

LEAST_SYSTEM = 2
"""Nodes that the last System pool keeps. Source: kubernetes.md A13."""


def plan(given: PlanInput) -> Plan | Refusal:
    """Fix which machine it is, or refuse."""
    cloud = cloud_of(given)
    if isinstance(cloud, Refusal):
        return cloud
    refusal = idle(cloud)
    if refusal is not None:
        return refusal
    machine = cloud.machine
    if machine is None:
        why = cloud.gaps.get("machine", f"node {given.target.name} names no machine (spec.providerID)")
        return Refusal(reason=Reason.UNKNOWN, detail=why)
    if not machine.name:
        why = next((text for name, text in cloud.gaps.items() if name.startswith("machines/")), "")
        return Refusal(reason=Reason.UNKNOWN, detail=why or f"no agent pool lists the machine {machine.resource_id}")
    pool = cloud.pool(machine.pool)
    if pool is None:
        return Refusal(reason=Reason.TARGET_GONE, detail=f"the cluster has no pool {machine.pool}")
    last = _last_system(cloud, pool)
    if last:
        return Refusal(reason=Reason.LAST_SYSTEM_NODES, detail=last)
    return Plan(
        action="node_pool.delete_machine",
        command=given.command,
        target=replace(given.target, kind=TargetKind.NODE_POOL, name=pool.name, uid=""),
        arguments=dict(given.arguments),
        values={"pool": pool.name, "machine": machine.name, "machine_id": machine.resource_id, "node": given.target.name},
        diff=(
            f"node pool {pool.name}: delete machine {machine.name} (node {given.target.name}, {machine.said or machine.life})",
        ),
    )


def _last_system(cloud: CloudSnapshot, pool: PoolSnapshot) -> str:
    """Say why a machine of this pool must stay; "" when it may go."""
    if pool.mode != "System":
        return ""
    others = sum(one.count for one in cloud.pools if one.mode == "System" and one.name != pool.name)
    if others or pool.count - 1 >= LEAST_SYSTEM:
        return ""
    return f"pool {pool.name} is the last System pool and has {pool.count} nodes; {LEAST_SYSTEM} must stay"


def next_step(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Delete it unless it is gone; at its turn the node must be drained or its machine proven dead."""
    del now
    cloud = cloud_now(snapshot)
    if isinstance(cloud, Wait):
        return cloud
    name, wanted = str(plan.values["pool"]), str(plan.values["machine_id"])
    key = f"delete {plan.values['machine']}"
    failed = failure(plan, cloud, key)
    if failed is not None:
        return failed
    listed = cloud.machines.get(name)
    if listed is None:
        return Wait(
            again_in=LOOK_AGAIN, detail=f"machines of pool {name} were not read: {cloud.gaps.get(f'machines/{name}', '')}"
        )
    machine = next((one for one in listed if one.resource_id == wanted), None)
    pool = cloud.pool(name)
    at_work = pool is not None and not pool.settled
    if at_work or runs(cloud, key):
        return Wait(again_in=LOOK_AGAIN, detail=f"pool {name} is {pool.provisioning_state if pool else 'at work'}")
    if machine is None:
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=f"machine {plan.values['machine']} is gone")
    if pool is None:
        return End(outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail=f"pool {name} does not exist any more")
    last = _last_system(cloud, pool)
    if last:
        return End(outcome=Outcome.REFUSED, reason=Reason.LAST_SYSTEM_NODES, detail=last)
    if cloud.operation is not None:
        return Wait(again_in=LOOK_AGAIN, detail=f"the cluster is {cloud.operation.name}")
    left = _left(snapshot, cloud.machine)
    if left:
        return End(outcome=Outcome.REFUSED, reason=Reason.NOT_DRAINED, detail=left)
    return Write(
        key=key,
        verb=Verb.DELETE_MACHINE,
        api=API,
        plural="agentPools",
        namespace="",
        name=name,
        body={"machine": machine.name},
        at_most_once=True,
        says=f"delete machine {machine.name} of node pool {name}",
    )


def _left(snapshot: Snapshot, machine: MachineSnapshot | None) -> str:
    """Say what still runs on the node; "" when it is drained, its machine is proven dead, or the node is gone."""
    if machine is not None and machine.life in {Life.STOPPED, Life.DELETED}:
        return ""
    if snapshot.gone:
        return ""
    detail = snapshot.node
    if detail is None or "pods" in snapshot.gaps:
        return f"the node's pods were not read: {snapshot.gaps.get('pods', 'no answer')}"
    if detail.node.ready == "True" and not detail.node.unschedulable:
        return "the node is Ready and takes new pods: cordon and drain it first"
    gone = {nodes.Fate.STAYS, nodes.Fate.LEAVES} if detail.node.ready == "Unknown" else {nodes.Fate.STAYS}
    staying = [one for one in nodes.verdicts(detail) if one.fate not in gone]
    return (
        f"not drained, and the machine is not proven dead ({machine.said if machine else 'not read'}): {nodes.named(staying)}"
        if staying
        else ""
    )


ACTION = Action(
    spec=ActionSpec(
        name="node_pool.delete_machine",
        grade=4,
        targets=frozenset({TargetKind.NODE}),
        says="Delete the machine under a drained or dead node of an AKS pool; at most once.",
    ),
    plan=plan,
    next_step=next_step,
    cloud=True,
    cloud_permissions=(f"{API}/managedClusters/agentPools/deleteMachines/action",),
)
