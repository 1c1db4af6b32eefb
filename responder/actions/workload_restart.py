"""``workload.restart``: the pod-template annotation of ``kubectl rollout restart``.

Recognised after a crash by our command's key in the template's annotations. Source: kubernetes.md A6; refusals: RULES.md "Actions".
"""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.actions.failing import live
from responder.actions.history import erased_by_restart
from responder.actions.planning import Action, PlanInput, workload_target
from responder.model.action import COMMAND_ANNOTATION, End, Outcome, PatchKind, Permission, Plan, Refusal, Step, Verb, Wait, Write
from responder.model.cluster import QuotaSnapshot, Snapshot, WorkloadSnapshot
from responder.model.reason import Reason
from responder.model.target import TargetKind
from responder.rules.catalogue import ActionSpec

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
KINDS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
NOT_CURABLE = frozenset(
    {
        "image_missing",
        "image_denied",
        "image_busy",
        "config",
        "spec",
        "exit",
        "unschedulable",
        "gated",
        "quota",
        "volume",
        "create",
        "sandbox",
        "node",
        "job",
    }
)
"""Causes that new pods of the same template would have too. Source: kubernetes.md A8."""


def plan(given: PlanInput) -> Plan | Refusal:
    """Plan a restart, or refuse."""
    workload = given.workload()
    if isinstance(workload, Refusal):
        return workload
    refusal = refuses_rollout(workload, given) or _refuses_cause(workload, given) or _refuses_history(workload)
    if refusal is not None:
        return refusal
    assert given.snapshot is not None
    stamp = given.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Plan(
        action="workload.restart",
        command=given.command,
        target=workload_target(given.snapshot, workload),
        generation=workload.generation,
        values={"uid": workload.uid, "kind": workload.kind, "restarted_at": stamp, "template": workload.template_digest},
        diff=(f"{workload.kind} {workload.namespace}/{workload.name}: restart its pods, one rollout of the same template",),
    )


def refuses_rollout(workload: WorkloadSnapshot, given: PlanInput) -> Refusal | None:
    """Refuse what no rollout of this workload can do now; shared with rollback."""
    name = f"{workload.kind} {workload.namespace}/{workload.name}"
    if workload.kind not in KINDS:
        return Refusal(reason=Reason.KIND_NOT_SUPPORTED, detail=f"{name}: only Deployments, StatefulSets and DaemonSets roll out")
    if workload.paused:
        return Refusal(reason=Reason.WORKLOAD_PAUSED, detail=f"{name} is paused")
    if workload.strategy == "OnDelete":
        return Refusal(
            reason=Reason.ON_DELETE_STRATEGY, detail=f"{name} updates OnDelete: a new template reaches no pod by itself"
        )
    if given.snapshot is not None and "quotas" in given.snapshot.gaps:
        return Refusal(reason=Reason.UNKNOWN, detail=f"quotas were not read: {given.snapshot.gaps['quotas']}")
    for quota in workload.quotas:
        short = lacks(quota, workload)
        if short:
            return Refusal(reason=Reason.QUOTA_EXCEEDED, detail=f"quota {quota.name}: {short}")
    return None


def lacks(quota: QuotaSnapshot, workload: WorkloadSnapshot) -> str:
    """Say which resource has no room for the rollout's extra pods; "" when all have. A quota already over its limit always lacks."""
    for resource, per_pod in workload.pod_requests.items():
        if resource not in quota.hard:
            continue
        hard, used = quota.hard[resource], quota.used.get(resource, 0.0)
        needed = per_pod * workload.surge
        if used > hard or (needed > 0 and used + needed > hard):
            return f"{resource}: used {used:g} of {hard:g}, the rollout needs {needed:g} more"
    return ""


def _refuses_cause(workload: WorkloadSnapshot, given: PlanInput) -> Refusal | None:
    cause = given.facts.get("cause")
    if cause is None:
        return Refusal(reason=Reason.UNKNOWN, detail="the cause could not be read")
    if cause in NOT_CURABLE:
        return Refusal(reason=Reason.CAUSE_NOT_CURABLE, detail=f"cause {cause}: new pods of the same template fail the same way")
    unready = [pod.name for pod in live(workload.pods) if not pod.ready]
    if cause == "none" and (workload.available < workload.desired or unready):
        detail = (
            f"nothing in it fails, {workload.available} of {workload.desired} pods are available: new ones would only begin again"
        )
        return Refusal(reason=Reason.STARTING, detail=detail)
    return None


def _refuses_history(workload: WorkloadSnapshot) -> Refusal | None:
    """A restart makes a revision; with a short history that erases the only way back (kubernetes.md A16 case 33)."""
    good = erased_by_restart(workload)
    if good is None:
        return None
    detail = f"a restart would push {good.name}, the last healthy revision, out of the history (revisionHistoryLimit {workload.history_limit})"
    return Refusal(reason=Reason.HISTORY_TOO_SHORT, detail=detail)


def next_step(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Stamp the template unless our stamp is there; then wait until the controller has seen it."""
    del now
    workload = snapshot.workload
    if workload is None or workload.uid != plan.values["uid"]:
        return End(outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail="the workload is another object now")
    annotations = dict(workload.template.get("metadata", {}).get("annotations") or {})
    if annotations.get(COMMAND_ANNOTATION) == plan.command:
        if workload.observed_generation < workload.generation:
            return Wait(again_in=timedelta(seconds=1), detail="the controller has not seen the new template yet")
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=f"restarted at {plan.values['restarted_at']}")
    changed = changed_meanwhile(workload, planned=plan.values.get("template"))
    if changed is not None:
        return changed
    stamp = {RESTARTED_AT: plan.values["restarted_at"], COMMAND_ANNOTATION: plan.command}
    return Write(
        key="restart",
        verb=Verb.PATCH,
        api="apps/v1",
        plural=KINDS[workload.kind],
        namespace=workload.namespace,
        name=workload.name,
        uid=workload.uid,
        body={
            "metadata": {"uid": workload.uid, "resourceVersion": workload.resource_version},
            "spec": {"template": {"metadata": {"annotations": stamp}}},
        },
        patch=PatchKind.STRATEGIC,
        says=f"restart {workload.kind} {workload.namespace}/{workload.name}",
    )


def changed_meanwhile(workload: WorkloadSnapshot, *, planned: str | None) -> End | None:
    """Refuse a write for a workload that somebody paused, or gave another template, since it was planned; shared with rollback.

    Args:
        workload: As read now.
        planned: The digest of the template that the plan was made for; None in a plan of an earlier release, which did not keep it.

    Source: kubernetes.md A15 rule 6: what is acted on must still be what was judged.
    """
    name = f"{workload.kind} {workload.namespace}/{workload.name}"
    if workload.paused:
        return End(outcome=Outcome.REFUSED, reason=Reason.WORKLOAD_PAUSED, detail=f"{name} was paused meanwhile")
    if planned is not None and workload.template_digest != planned:
        return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail="somebody else changed the template meanwhile")
    return None


ACTION = Action(
    spec=ActionSpec(
        name="workload.restart",
        grade=2,
        targets=frozenset({TargetKind.WORKLOAD, TargetKind.POD, TargetKind.SERVICE}),
        says="Restart all pods of the workload by a rollout, as kubectl rollout restart does.",
    ),
    plan=plan,
    next_step=next_step,
    permissions=tuple(Permission(verb="patch", group="apps", resource=plural) for plural in KINDS.values()),
)
