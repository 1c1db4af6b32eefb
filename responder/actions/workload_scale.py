"""``workload.scale {by, to, replicas, freeze}``: replicas as an absolute count; under an HPA its floor, given back later.

Recognised after a crash by the count. Zero needs ``freeze: true``: it disables an HPA and stops the service (kubernetes.md A16 case 40). An HPA that is
disabled so does not look at its floor either: what gives a freeze back writes the count itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from responder.actions.planning import Action, PlanInput, workload_target
from responder.actions.workload_restart import KINDS, lacks
from responder.model.action import Change, End, Outcome, PatchKind, Permission, Plan, Refusal, Step, Verb, Wait, Write
from responder.model.cluster import Snapshot, WorkloadSnapshot
from responder.model.reason import Reason
from responder.model.target import TargetKind
from responder.rules.catalogue import ActionSpec, ArgumentSpec, ArgumentType

SCALABLE = ("Deployment", "StatefulSet")


def plan(given: PlanInput) -> Plan | Refusal:
    """Fix the wanted count, or refuse."""
    workload = given.workload()
    if isinstance(workload, Refusal):
        return workload
    name = f"{workload.kind} {workload.namespace}/{workload.name}"
    if workload.kind not in SCALABLE:
        return Refusal(reason=Reason.KIND_NOT_SUPPORTED, detail=f"{name} has no replica count")
    if workload.gitops in given.settings.gitops:
        return Refusal(reason=Reason.GITOPS_OWNER, detail=f"{name} belongs to {workload.gitops}")
    if given.snapshot is not None and "autoscalers" in given.snapshot.gaps:
        return Refusal(reason=Reason.UNKNOWN, detail=f"autoscalers were not read: {given.snapshot.gaps['autoscalers']}")
    wanted = _wanted(given, workload)
    if isinstance(wanted, Refusal):
        return wanted
    assert given.snapshot is not None
    target = workload_target(given.snapshot, workload)
    scaler = workload.autoscaler
    if scaler is not None and scaler.by_keda:  # it raises what stands at zero, too
        return Refusal(reason=Reason.AUTOSCALED, detail=f"{name}: KEDA owns its autoscaler {scaler.name} and would write it back")
    if scaler is not None and wanted > 0 and workload.desired == 0:
        if not _gives_back(given.arguments):
            said = f"{name}: autoscaler {scaler.name} is off while nothing is wanted; replicas: previous gives a freeze back"
            return Refusal(reason=Reason.AUTOSCALED, detail=said)
        wanted = max(scaler.minimum, min(wanted, scaler.maximum))  # a floor would start nothing
    elif scaler is not None and wanted > 0:
        floor = min(wanted, scaler.maximum)
        if floor <= scaler.minimum:
            return Refusal(
                reason=Reason.AUTOSCALED,
                detail=f"{name}: autoscaler {scaler.name} already keeps {scaler.minimum} of at most {scaler.maximum}",
            )
        undo = _floor(workload, scaler.name, scaler.uid, floor, scaler.minimum, key="give back the floor")
        return Plan(
            action="workload.scale",
            command=given.command,
            target=target,
            generation=workload.generation,
            arguments=dict(given.arguments),
            values={
                "uid": workload.uid,
                "autoscaler": scaler.name,
                "autoscaler_uid": scaler.uid,
                "from": scaler.minimum,
                "to": floor,
            },
            diff=(f"autoscaler {scaler.name} of {name}: minReplicas {scaler.minimum} → {floor}",),
            changes=(
                Change(
                    target=f"HorizontalPodAutoscaler {workload.namespace}/{scaler.name}",
                    field="spec.minReplicas",
                    before=scaler.minimum,
                    after=floor,
                    undo=undo,
                    until="rung",
                ),
            ),
        )
    if scaler is not None and wanted == 0 and not given.arguments.get("freeze"):
        return Refusal(reason=Reason.AUTOSCALED, detail=f"{name}: zero would switch autoscaler {scaler.name} off")
    return Plan(
        action="workload.scale",
        command=given.command,
        target=target,
        generation=workload.generation,
        arguments=dict(given.arguments),
        values={"uid": workload.uid, "from": workload.desired, "to": wanted},
        diff=(f"{name}: spec.replicas {workload.desired} → {wanted}",),
    )


def _gives_back(arguments: Mapping[str, Any]) -> bool:
    return "previous" in {arguments.get("replicas"), arguments.get("to")}


def _wanted(given: PlanInput, workload: WorkloadSnapshot) -> int | Refusal:
    arguments = given.arguments
    floor = workload.autoscaler.minimum if workload.autoscaler else workload.desired
    if "by" in arguments:
        wanted = max(floor, workload.desired) + int(arguments["by"])
    elif _gives_back(arguments):
        previous = workload.annotations.get("responder/replicas-before", "")
        if not previous.isdigit():
            return Refusal(reason=Reason.ARGUMENT_MISSING, detail="no earlier replica count of ours is known")
        wanted = int(previous)
    else:
        given_count = arguments.get("replicas", arguments.get("to"))
        if given_count is None:
            return Refusal(reason=Reason.ARGUMENT_MISSING, detail="workload.scale needs by, to or replicas")
        wanted = int(given_count)
    if wanted < 0:
        return Refusal(reason=Reason.ARGUMENT_MISSING, detail=f"{wanted} replicas cannot be wanted")
    if wanted == 0 and not arguments.get("freeze"):
        return Refusal(reason=Reason.NEEDS_FREEZE, detail="zero replicas stop the service")
    more = wanted - workload.desired
    for quota in workload.quotas if more > 0 else ():
        short = lacks(quota, replace(workload, surge=more))
        if short:
            return Refusal(reason=Reason.QUOTA_EXCEEDED, detail=f"quota {quota.name}: {short}")
    return wanted


def _floor(workload: WorkloadSnapshot, name: str, uid: str, before: int, after: int, *, key: str) -> Write:
    body: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/spec/minReplicas", "value": before},
        {"op": "replace", "path": "/spec/minReplicas", "value": after},
    ]
    return Write(
        key=key,
        verb=Verb.PATCH,
        api="autoscaling/v2",
        plural="horizontalpodautoscalers",
        namespace=workload.namespace,
        name=name,
        uid=uid,
        body=body,
        patch=PatchKind.JSON,
        says=f"autoscaler {workload.namespace}/{name}: minReplicas {before} → {after}",
    )


def next_step(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Write the count unless it is there."""
    del now
    workload = snapshot.workload
    if workload is None or workload.uid != plan.values["uid"]:
        return End(outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail="the workload is another object now")
    before, after = int(plan.values["from"]), int(plan.values["to"])
    if "autoscaler" in plan.values:
        scaler = workload.autoscaler
        if scaler is None or scaler.uid != plan.values["autoscaler_uid"]:
            return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail="the autoscaler is another object now")
        if scaler.minimum == after:
            return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=plan.diff[0])
        if scaler.minimum != before:
            return End(
                outcome=Outcome.REFUSED,
                reason=Reason.FOREIGN_ACTIVITY,
                detail=f"its floor is {scaler.minimum}, planned from {before}",
            )
        return _floor(workload, scaler.name, scaler.uid, before, after, key="scale")
    if workload.desired == after:
        if workload.observed_generation < workload.generation:
            return Wait(again_in=timedelta(seconds=1), detail="the controller has not seen the count yet")
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=plan.diff[0])
    if workload.desired != before:
        return End(
            outcome=Outcome.REFUSED,
            reason=Reason.FOREIGN_ACTIVITY,
            detail=f"it has {workload.desired} replicas, planned from {before}",
        )
    return Write(
        key="scale",
        verb=Verb.PATCH,
        api="apps/v1",
        plural=KINDS[workload.kind],
        namespace=workload.namespace,
        name=workload.name,
        uid=workload.uid,
        body={
            "metadata": {
                "uid": workload.uid,
                "resourceVersion": workload.resource_version,
                "annotations": {"responder/replicas-before": str(before)},
            },
            "spec": {"replicas": after},
        },
        patch=PatchKind.MERGE,
        says=f"scale {workload.kind} {workload.namespace}/{workload.name} from {before} to {after}",
    )


ACTION = Action(
    spec=ActionSpec(
        name="workload.scale",
        grade=2,
        targets=frozenset({TargetKind.WORKLOAD, TargetKind.POD, TargetKind.SERVICE}),
        arguments=(
            ArgumentSpec(name="by", type=ArgumentType.INT, at_least=1, says="So many more than now."),
            ArgumentSpec(name="to", type=ArgumentType.INT, words=("previous",), at_least=0, says="This many."),
            ArgumentSpec(
                name="replicas",
                type=ArgumentType.INT,
                words=("previous",),
                at_least=0,
                says="This many; previous gives a freeze back.",
            ),
            ArgumentSpec(name="freeze", type=ArgumentType.BOOL, says="Allows zero."),
        ),
        exactly_one_of=(("by", "to", "replicas"),),
        says="Scale the workload; under an autoscaler move its floor, and give it back.",
    ),
    plan=plan,
    next_step=next_step,
    permissions=(
        Permission(verb="patch", group="apps", resource="deployments"),
        Permission(verb="patch", group="apps", resource="statefulsets"),
        Permission(verb="patch", group="autoscaling", resource="horizontalpodautoscalers"),
    ),
)
