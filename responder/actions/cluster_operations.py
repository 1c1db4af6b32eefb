"""``cluster.start``, ``cluster.abort_operation`` and ``cluster.reconcile``: what ARM can do for a whole cluster.

Each is recognised after a crash by the cluster's power and provisioning states, and by our operation's own end where its token was stored.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from responder.actions.cloud import API, LOOK_AGAIN, cloud_now, cloud_of, failure, runs, succeeded
from responder.actions.planning import Action, PlanInput
from responder.model.action import End, Outcome, Plan, Refusal, Step, Verb, Wait, Write
from responder.model.cloud import SETTLED, CloudSnapshot, OperationSnapshot
from responder.model.cluster import Snapshot
from responder.model.reason import Reason
from responder.model.target import TargetKind
from responder.rules.catalogue import ActionSpec, ArgumentSpec, ArgumentType
from responder.rules.durations import parse_duration

OLD_ENOUGH = timedelta(hours=1)
"""An operation of somebody else that is younger is left alone. Source: RULES.md "Actions"."""

CLUSTER = frozenset({TargetKind.CLUSTER})


def _write(verb: Verb, key: str, says: str, *, pool: str = "", etag: str = "") -> Write:
    plural = "agentPools" if pool else "managedClusters"
    return Write(key=key, verb=verb, api=API, plural=plural, namespace="", name=pool, resource_version=etag, body={}, says=says)


def _plan(given: PlanInput, action: str, diff: str, **values: Any) -> Plan:
    return Plan(
        action=action, command=given.command, target=given.target, arguments=dict(given.arguments), values=values, diff=(diff,)
    )


def _at_work(cloud: CloudSnapshot) -> bool:
    return cloud.provisioning_state not in SETTLED


# --- start


def plan_start(given: PlanInput) -> Plan | Refusal:
    """Plan to start a cluster that is stopped."""
    cloud = cloud_of(given)
    if isinstance(cloud, Refusal):
        return cloud
    if cloud.power_state != "Stopped":
        return Refusal(
            reason=Reason.CLOUD_STATE, detail=f"the cluster's power state is {cloud.power_state or 'not known'}, not Stopped"
        )
    if _at_work(cloud):
        return Refusal(reason=Reason.FOREIGN_ACTIVITY, detail=f"the cluster is {cloud.provisioning_state}")
    says = f"cluster {given.target.name}: power Stopped → Running"
    return _plan(given, "cluster.start", says, state=cloud.provisioning_state)


def next_start(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Start it unless it runs."""
    del now
    cloud = cloud_now(snapshot)
    if isinstance(cloud, Wait):
        return cloud
    failed = failure(plan, cloud, "start")
    if failed is not None:
        return failed
    if _at_work(cloud) or runs(cloud, "start"):
        return Wait(again_in=LOOK_AGAIN, detail=f"the cluster is {cloud.provisioning_state}")
    if cloud.power_state == "Running":
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=plan.diff[0])
    before = plan.values.get("state", cloud.provisioning_state)
    if cloud.provisioning_state not in {"Succeeded", before}:  # one failed or was aborted since: ours, if a crash lost its token
        said = f"the cluster is {cloud.provisioning_state} and {cloud.power_state}; it was {before} when this was planned"
        return End(outcome=Outcome.FAILED, reason=Reason.FAILED, detail=said)
    return _write(Verb.CLUSTER_START, "start", f"start cluster {plan.target.name}")


# --- abort


def plan_abort(given: PlanInput) -> Plan | Refusal:
    """Plan to abort the operation in progress: only our own, or one that is old enough."""
    cloud = cloud_of(given)
    if isinstance(cloud, Refusal):
        return cloud
    busy = cloud.operation
    if busy is None:
        return Refusal(reason=Reason.CLOUD_STATE, detail="no operation is in progress")
    if busy.name.startswith("Cancel"):
        return Refusal(reason=Reason.FOREIGN_ACTIVITY, detail="it is being canceled already")
    age = given.now - busy.began_at if busy.began_at is not None else timedelta(0)
    least = max(OLD_ENOUGH, parse_duration(str(given.arguments.get("older_than", "1h"))))
    if not busy.ours and age < least:
        said = f"{_named(busy)} is {_minutes(age)} old and not ours; {_minutes(least)} wanted"
        return Refusal(reason=Reason.OPERATION_TOO_YOUNG, detail=said)
    announced = given.snapshot.maintenance if given.snapshot is not None else ()
    known = f"; {'; '.join(announced)}" if announced else ""
    return _plan(
        given,
        "cluster.abort_operation",
        f"cluster {given.target.name}: abort {_named(busy)}, begun {_began(busy)} by {busy.by or 'somebody unknown'}{known}",
        name=busy.name,
        on=busy.on,
        id=busy.id,
    )


def next_abort(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Abort the operation that was planned for, and no other."""
    del now
    cloud = cloud_now(snapshot)
    if isinstance(cloud, Wait):
        return cloud
    failed = failure(plan, cloud, "abort")
    if failed is not None:
        return failed
    busy = cloud.operation
    if succeeded(cloud, "abort") and busy is None:
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=plan.diff[0])
    if busy is None:
        return End(outcome=Outcome.ALREADY_SO, reason=Reason.ALREADY_SO, detail="the operation is over")
    if busy.name.startswith("Cancel") or runs(cloud, "abort"):
        return Wait(again_in=LOOK_AGAIN, detail=f"{_named(busy)} is being aborted")
    if not _same(plan, busy):
        said = f"{_named(busy)} is in progress now, which is another operation than the one that was to be aborted"
        return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail=said)
    if "operation" in cloud.gaps and plan.values["id"]:
        return Wait(again_in=LOOK_AGAIN, detail=f"whose operation it is was not read: {cloud.gaps['operation']}")
    return _write(Verb.CLUSTER_ABORT, "abort", f"abort {_named(busy)} on cluster {plan.target.name}", pool=busy.on)


def _same(plan: Plan, busy: OperationSnapshot) -> bool:
    """Tell whether it is the operation that was planned for: by its id where both are known, else by what and where it is."""
    if plan.values["id"] and busy.id:
        return bool(plan.values["id"] == busy.id)
    return (plan.values["name"], plan.values["on"]) == (busy.name, busy.on)


def _named(busy: OperationSnapshot) -> str:
    return f"{busy.name} of pool {busy.on}" if busy.on else busy.name


def _began(busy: OperationSnapshot) -> str:
    """Say when it began and not how long ago: an approval is bound to these words."""
    if busy.began_at is None:
        return "at an unknown time"
    return f"{'' if busy.exact else 'before '}{busy.began_at:%Y-%m-%d %H:%M} UTC"


def _minutes(age: timedelta) -> str:
    return f"{age.total_seconds() / 60:.0f} min"


# --- reconcile


def plan_reconcile(given: PlanInput) -> Plan | Refusal:
    """Plan to let ARM bring a failed cluster to its goal state again: a PUT that changes nothing."""
    cloud = cloud_of(given)
    if isinstance(cloud, Refusal):
        return cloud
    if cloud.provisioning_state != "Failed":
        reason = Reason.FOREIGN_ACTIVITY if _at_work(cloud) else Reason.CLOUD_STATE
        return Refusal(
            reason=reason, detail=f"the cluster's provisioning state is {cloud.provisioning_state or 'not known'}, not Failed"
        )
    if cloud.operation is not None:
        return Refusal(reason=Reason.FOREIGN_ACTIVITY, detail=f"{_named(cloud.operation)} is in progress")
    if cloud.power_state != "Running":
        return Refusal(reason=Reason.CLOUD_STATE, detail=f"the cluster's power state is {cloud.power_state}")
    says = f"cluster {given.target.name}: provisioning state Failed, reconciled without a change"
    return _plan(given, "cluster.reconcile", says, etag=cloud.etag)


def next_reconcile(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Put the cluster as it is unless it has succeeded."""
    del now
    cloud = cloud_now(snapshot)
    if isinstance(cloud, Wait):
        return cloud
    failed = failure(plan, cloud, "reconcile")
    if failed is not None:
        return failed
    if _at_work(cloud) or cloud.operation is not None or runs(cloud, "reconcile"):
        return Wait(again_in=LOOK_AGAIN, detail=f"the cluster is {cloud.provisioning_state}")
    if cloud.provisioning_state == "Succeeded":
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=plan.diff[0])
    if succeeded(cloud, "reconcile"):
        said = f"the cluster is still {cloud.provisioning_state} after it was reconciled"
        return End(outcome=Outcome.FAILED, reason=Reason.FAILED, detail=said)
    before = plan.values.get("etag", cloud.etag)
    if cloud.etag != before:  # ours, if a crash lost its token: it is not sent a second time
        said = (
            f"the cluster was written since this was planned (ETag {before}, now {cloud.etag}) and is {cloud.provisioning_state}"
        )
        return End(outcome=Outcome.FAILED, reason=Reason.FAILED, detail=said)
    return _write(Verb.CLUSTER_RECONCILE, "reconcile", f"reconcile cluster {plan.target.name}", etag=cloud.etag)


START = Action(
    spec=ActionSpec(name="cluster.start", grade=4, targets=CLUSTER, says="Start an AKS cluster that is stopped."),
    plan=plan_start,
    next_step=next_start,
    cloud=True,
    cloud_permissions=(f"{API}/managedClusters/start/action",),
)
ABORT = Action(
    spec=ActionSpec(
        name="cluster.abort_operation",
        grade=4,
        targets=CLUSTER,
        arguments=(
            ArgumentSpec(
                name="older_than",
                type=ArgumentType.DURATION,
                says="Age of somebody else's operation from which it may be aborted; 1h at least.",
            ),
        ),
        says="Abort the AKS operation in progress: our own, or an old one.",
    ),
    plan=plan_abort,
    next_step=next_abort,
    cloud=True,
    cloud_permissions=(f"{API}/managedClusters/abort/action", f"{API}/managedClusters/agentPools/abort/action"),
)
RECONCILE = Action(
    spec=ActionSpec(
        name="cluster.reconcile", grade=4, targets=CLUSTER, says="Let ARM bring a failed AKS cluster to its goal state again."
    ),
    plan=plan_reconcile,
    next_step=next_reconcile,
    cloud=True,
    cloud_permissions=(f"{API}/managedClusters/write",),
)
