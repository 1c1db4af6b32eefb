"""What the cloud's actions share: a pool's room, whose operation is in progress, what a finished operation of ours says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from responder.actions.planning import PlanInput
from responder.model.action import End, Outcome, Plan, Refusal, Wait
from responder.model.cloud import CloudSnapshot, OperationState, PoolSnapshot
from responder.model.cluster import Snapshot
from responder.model.reason import Reason
from responder.model.target import TargetKind

API = "Microsoft.ContainerService"
LOOK_AGAIN = timedelta(seconds=15)
"""Between two looks at an operation; the adapter asks ARM less often by itself."""

OUT_OF_ROOM = (
    "quota",
    "allocationfailed",
    "overconstrainedallocationrequest",
    "skunotavailable",
    "zonalallocationfailed",
    "insufficientsubnetsize",
    "subnetisfull",
)
"""Parts of the codes by which Azure says that it has no room; waiting and repeating do not help. Source: kubernetes.md A13."""


def cloud_of(given: PlanInput) -> CloudSnapshot | Refusal:
    """Return what the cloud says of the target's cluster, or why it is not known."""
    if given.snapshot is None:
        return Refusal(reason=Reason.UNKNOWN, detail="nothing was read")
    if given.snapshot.cloud is None:
        why = given.snapshot.gaps.get("cloud", "the cluster has no resource_id, so ARM cannot be asked")
        return Refusal(reason=Reason.UNKNOWN, detail=why)
    return given.snapshot.cloud


def idle(cloud: CloudSnapshot) -> Refusal | None:
    """Refuse while an operation is in progress or the cluster is stopped."""
    busy = cloud.operation
    if busy is not None:
        since = f" since {busy.began_at:%H:%M:%S}" if busy.began_at is not None else ""
        whose = f" by {busy.by}" if busy.by else ""
        what = f"pool {busy.on}" if busy.on else "the cluster"
        return Refusal(reason=Reason.FOREIGN_ACTIVITY, detail=f"{what} is {busy.name}{since}{whose}")
    if cloud.power_state != "Running":
        return Refusal(reason=Reason.CLOUD_STATE, detail=f"the cluster's power state is {cloud.power_state or 'not known'}")
    return None


def pool_name(given: PlanInput) -> str:
    """Return the pool that is meant: the argument, the target itself, or the target's own; "" when none is known."""
    named = str(given.arguments.get("pool", "") or "")
    if named:
        return named
    if given.target.kind is TargetKind.NODE_POOL:
        return given.target.name
    return str(given.facts.get("pool", "") or "")


def pool_of(given: PlanInput, cloud: CloudSnapshot) -> PoolSnapshot | Refusal:
    """Return the pool that is meant, settled, or why not."""
    name = pool_name(given)
    if not name:
        return Refusal(reason=Reason.ARGUMENT_MISSING, detail="no pool is named, and the target's is not known")
    pool = cloud.pool(name)
    if pool is None:
        return Refusal(reason=Reason.TARGET_GONE, detail=f"the cluster has no pool {name}")
    if pool.provisioning_state != "Succeeded":
        return Refusal(reason=Reason.CLOUD_STATE, detail=f"pool {name} is {pool.provisioning_state or 'in no known state'}")
    if pool.power_state != "Running":
        return Refusal(reason=Reason.CLOUD_STATE, detail=f"pool {name} is {pool.power_state}")
    return pool


def cloud_now(snapshot: Snapshot) -> CloudSnapshot | Wait:
    """Return what the cloud says now, or a wait while it does not answer."""
    if snapshot.cloud is None:
        return Wait(again_in=LOOK_AGAIN, detail=f"ARM does not answer: {snapshot.gaps.get('cloud', 'not asked')}")
    return snapshot.cloud


def failure(plan: Plan, cloud: CloudSnapshot, key: str) -> End | None:
    """Return how our operation failed; None while it runs, succeeded, or is not known."""
    result = cloud.operations.get(key)
    if result is None or result.state is not OperationState.FAILED:
        return None
    said = f"{plan.action}: {result.code}: {result.message}".rstrip(": ")
    if any(part in result.code.lower() for part in OUT_OF_ROOM):
        return End(outcome=Outcome.FAILED, reason=Reason.CLOUD_QUOTA, detail=said)
    return End(outcome=Outcome.FAILED, reason=Reason.FAILED, detail=said)


def runs(cloud: CloudSnapshot, key: str) -> bool:
    """Tell whether our operation is known to be under way."""
    result = cloud.operations.get(key)
    return result is not None and result.state is OperationState.RUNNING


def succeeded(cloud: CloudSnapshot, key: str) -> bool:
    """Tell whether our operation is known to have ended well."""
    result = cloud.operations.get(key)
    return result is not None and result.state is OperationState.SUCCEEDED


def absolute(values: Mapping[str, Any], *, expect: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a pool's write: what is set, and what must be so before."""
    return {"set": dict(values), "expect": dict(expect)}
