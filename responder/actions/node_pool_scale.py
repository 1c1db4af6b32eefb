"""``node_pool.scale {by, to, pool, remove}``: a pool's count as an absolute value; of an autoscaled pool its minimum, given back later.

Recognised after a crash by the count and the pool's provisioning state. The whole pool is written back with one value changed, under its
ETag (kubernetes.md A13); two values are never changed in one call. ``to: previous`` gives back what an earlier step of the same rung took; where the
rung is stopped between the two (a pause, the kill switch), the count is a change that is owed: else a pool that lost a machine would look whole.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from responder.actions.cloud import API, LOOK_AGAIN, absolute, cloud_now, cloud_of, failure, idle, pool_of, runs
from responder.actions.planning import Action, PlanInput
from responder.model.action import Change, End, Outcome, Plan, Refusal, Step, Verb, Wait, Write
from responder.model.cloud import CloudSnapshot, PoolSnapshot
from responder.model.cluster import Snapshot
from responder.model.reason import Reason
from responder.model.target import TargetKind
from responder.rules.catalogue import ActionSpec, ArgumentSpec, ArgumentType

MOST = 1000
"""Nodes in a pool. Source: AKS, AgentPool.count."""


def plan(given: PlanInput) -> Plan | Refusal:
    """Fix the wanted count, or refuse."""
    cloud = cloud_of(given)
    if isinstance(cloud, Refusal):
        return cloud
    refusal = idle(cloud)
    if refusal is not None:
        return refusal
    pool = pool_of(given, cloud)
    if isinstance(pool, Refusal):
        return pool
    previous = given.arguments.get("to") == "previous"
    made = Plan(
        action="node_pool.scale",
        command=given.command,
        target=replace(given.target, kind=TargetKind.NODE_POOL, namespace="", name=pool.name, owner_kind="", uid=""),
        arguments=dict(given.arguments),
    )
    if previous:
        values: dict[str, Any] = {
            "pool": pool.name,
            "field": "count",
            "from": pool.count - 1,
            "to": pool.count,
            "gives_back": True,
        }
        return replace(
            made,
            values={**values, "autoscaled": pool.autoscaled},
            diff=(f"node pool {pool.name}: count back to {pool.count}",),
            changes=() if pool.autoscaled else (_owed(pool),),
        )
    if pool.autoscaled:
        return _floor_plan(given, pool, made)
    wanted = pool.count + int(given.arguments["by"]) if "by" in given.arguments else int(given.arguments["to"])
    if wanted > MOST:
        return Refusal(reason=Reason.POOL_AT_MAXIMUM, detail=f"pool {pool.name}: {wanted} nodes, at most {MOST}")
    if wanted < pool.count and not given.arguments.get("remove"):
        return Refusal(
            reason=Reason.ARGUMENT_MISSING, detail=f"pool {pool.name} has {pool.count} nodes; fewer needs remove: true"
        )
    if wanted < pool.count and pool.mode == "System" and wanted < _least(cloud, pool):
        return Refusal(reason=Reason.LAST_SYSTEM_NODES, detail=f"pool {pool.name}: {wanted} would be left")
    return replace(
        made,
        values={"pool": pool.name, "field": "count", "from": pool.count, "to": wanted},
        diff=(f"node pool {pool.name}: count {pool.count} → {wanted}",),
    )


def _owed(pool: PoolSnapshot) -> Change:
    """Return the node that an earlier step takes from the pool, as a debt."""
    undo = _write(pool.name, "count", pool.count - 1, pool.count, key="give back the count", etag="")
    return Change(
        target=f"node pool {pool.name}", field="count", before=pool.count, after=pool.count - 1, undo=undo, until="step"
    )


def _least(cloud: CloudSnapshot, pool: PoolSnapshot) -> int:
    """Return how many nodes a System pool must keep: two when no other one has any."""
    others = sum(one.count for one in cloud.pools if one.mode == "System" and one.name != pool.name)
    return 0 if others else 2


def _floor_plan(given: PlanInput, pool: PoolSnapshot, made: Plan) -> Plan | Refusal:
    """Plan to move an autoscaled pool's minimum: setting its count is refused by AKS."""
    if "by" not in given.arguments:
        return Refusal(
            reason=Reason.AUTOSCALED, detail=f"the autoscaler owns the count of pool {pool.name}; by: N moves its minimum"
        )
    wanted = max(pool.count, pool.minimum) + int(given.arguments["by"])
    if wanted > pool.maximum:
        return Refusal(
            reason=Reason.POOL_AT_MAXIMUM, detail=f"pool {pool.name}: {wanted} nodes wanted, its maximum is {pool.maximum}"
        )
    undo = _write(pool.name, "min_count", wanted, pool.minimum, key="give back the minimum", etag="")
    return replace(
        made,
        values={"pool": pool.name, "field": "min_count", "from": pool.minimum, "to": wanted},
        diff=(f"node pool {pool.name} (autoscaled, {pool.count} nodes): minimum {pool.minimum} → {wanted} of at most {pool.maximum}",),
        changes=(
            Change(
                target=f"node pool {pool.name}", field="minCount", before=pool.minimum, after=wanted, undo=undo, until="rung"
            ),
        ),
    )  # fmt: skip


def _write(pool: str, field: str, before: int, after: int, *, key: str, etag: str) -> Write:
    words = {"count": "count", "min_count": "minimum"}
    return Write(
        key=key,
        verb=Verb.POOL,
        api=API,
        plural="agentPools",
        namespace="",
        name=pool,
        resource_version=etag,
        body=absolute({field: after}, expect={field: before}),
        says=f"node pool {pool}: {words[field]} {before} → {after}",
    )


def next_step(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Write the count unless it is there; wait while the pool is at work."""
    del now
    cloud = cloud_now(snapshot)
    if isinstance(cloud, Wait):
        return cloud
    name, field = str(plan.values["pool"]), str(plan.values["field"])
    before, after = int(plan.values["from"]), int(plan.values["to"])
    pool = cloud.pool(name)
    if pool is None:
        return End(outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail=f"pool {name} does not exist any more")
    key = f"scale {name}"
    failed = failure(plan, cloud, key)
    if failed is not None:
        return failed
    if plan.values.get("autoscaled") and plan.values.get("gives_back"):
        return End(outcome=Outcome.ALREADY_SO, reason=Reason.ALREADY_SO, detail=f"the autoscaler owns the count of pool {name}")
    current = pool.minimum if field == "min_count" else pool.count
    if not pool.settled or runs(cloud, key):
        return Wait(again_in=LOOK_AGAIN, detail=f"pool {name} is {pool.provisioning_state}, {current} of {after}")
    if current == after:
        if pool.provisioning_state != "Succeeded":
            return End(
                outcome=Outcome.FAILED, reason=Reason.FAILED, detail=f"pool {name} is {pool.provisioning_state} at {current}"
            )
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=plan.diff[0])
    if current != before:
        said = f"pool {name} has {current}, planned from {before} to {after}"
        return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail=said)
    # Planned while it was Succeeded: a change has failed since, ours if a crash lost its token.
    if pool.provisioning_state != "Succeeded":
        said = f"pool {name} is {pool.provisioning_state} at {current}, planned to {after}"
        return End(outcome=Outcome.FAILED, reason=Reason.FAILED, detail=said)
    if cloud.operation is not None:
        return Wait(again_in=LOOK_AGAIN, detail=f"the cluster is {cloud.operation.name}")
    write = _write(name, field, before, after, key=key, etag=pool.etag)
    return replace(write, takes_back=bool(plan.values.get("gives_back")))


ACTION = Action(
    spec=ActionSpec(
        name="node_pool.scale",
        grade=3,
        raises={"remove": 4},
        targets=frozenset({TargetKind.NODE_POOL, TargetKind.NODE, TargetKind.POD, TargetKind.WORKLOAD, TargetKind.SERVICE}),
        arguments=(
            ArgumentSpec(name="by", type=ArgumentType.INT, at_least=1, says="So many more nodes than now."),
            ArgumentSpec(
                name="to",
                type=ArgumentType.INT,
                words=("previous",),
                at_least=0,
                says="This many; previous gives back what an earlier step of the rung took.",
            ),
            ArgumentSpec(name="pool", type=ArgumentType.STRING, says="The pool; default the target's own."),
            ArgumentSpec(name="remove", type=ArgumentType.BOOL, says="Allows fewer nodes than now."),
        ),
        exactly_one_of=(("by", "to"),),
        says="Scale an AKS node pool; of an autoscaled one move its minimum, and give it back. Removing nodes is grade 4.",
    ),
    plan=plan,
    next_step=next_step,
    cloud=True,
    cloud_permissions=(f"{API}/managedClusters/agentPools/write",),
)
