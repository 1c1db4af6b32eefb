"""``workload.rollback``: to the last revision that was *healthy*, template only, annotations kept.

For a StatefulSet it then also removes the stuck pods of the bad revision, one at a time (kubernetes.md A16 case 35). Recognised after a
crash by the template's digest. Never "previous": after a restart that is the same bad image (case 28).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from responder.actions.failing import fails
from responder.actions.history import last_healthy
from responder.actions.planning import Action, PlanInput, workload_target
from responder.actions.workload_restart import KINDS, changed_meanwhile, refuses_rollout
from responder.model.action import COMMAND_ANNOTATION, End, Outcome, PatchKind, Permission, Plan, Refusal, Step, Verb, Wait, Write
from responder.model.cluster import Snapshot, WorkloadSnapshot
from responder.model.reason import Reason
from responder.model.target import TargetKind
from responder.rules.catalogue import ActionSpec


def plan(given: PlanInput) -> Plan | Refusal:
    """Choose the revision and plan to write its template, or refuse."""
    workload = given.workload()
    if isinstance(workload, Refusal):
        return workload
    refusal = refuses_rollout(workload, given)
    if refusal is not None:
        return refusal
    name = f"{workload.kind} {workload.namespace}/{workload.name}"
    if workload.gitops in given.settings.gitops:
        return Refusal(
            reason=Reason.GITOPS_OWNER, detail=f"{name} belongs to {workload.gitops}, which would write the bad template back"
        )
    if given.snapshot is not None and "revisions" in given.snapshot.gaps:
        return Refusal(reason=Reason.UNKNOWN, detail=f"revisions were not read: {given.snapshot.gaps['revisions']}")
    age = given.facts.get("rollout_age")
    if age is not None and age > given.settings.freshness:
        return Refusal(
            reason=Reason.IMAGE_TOO_OLD, detail=f"{name} has run its template for {age}; limit {given.settings.freshness}"
        )
    good = last_healthy(workload)
    if good is None or good.template is None:
        return Refusal(
            reason=Reason.NO_HEALTHY_REVISION, detail=f"{name}: no revision with another template is known to have been healthy"
        )
    assert given.snapshot is not None
    images = ", ".join(good.images)
    return Plan(
        action="workload.rollback",
        command=given.command,
        target=workload_target(given.snapshot, workload),
        generation=workload.generation,
        values={
            "uid": workload.uid,
            "kind": workload.kind,
            "revision": good.name,
            "digest": good.template_digest,
            "bad_digest": workload.template_digest,
            "bad_revision": workload.current_revision,
            "template": clean(dict(good.template)),
        },
        diff=(
            f"{name}: template of revision {workload.current_revision or '?'} → {good.name} (number {good.number}, images {images})",
        ),
        writes_at_most=1 + (len(workload.pods) if workload.kind == "StatefulSet" else 0),
    )


def clean(template: dict[str, Any]) -> dict[str, Any]:
    """Return a pod template without what belongs to its own revision."""
    metadata = dict(template.get("metadata") or {})
    labels = dict(metadata.get("labels") or {})
    labels.pop("pod-template-hash", None)
    annotations = {key: value for key, value in dict(metadata.get("annotations") or {}).items() if key != COMMAND_ANNOTATION}
    metadata.pop("creationTimestamp", None)
    metadata = {**metadata, "labels": labels}
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    return {**template, "metadata": metadata}


def next_step(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Write the template unless it is there; then, for a StatefulSet, remove the stuck pods of the bad revision."""
    workload = snapshot.workload
    if workload is None or workload.uid != plan.values["uid"]:
        return End(outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail="the workload is another object now")
    if workload.template_digest == plan.values["digest"]:
        if workload.observed_generation < workload.generation:
            return Wait(again_in=timedelta(seconds=1), detail="the controller has not seen the template yet")
        return _remove_stuck(plan, workload, now=now)
    changed = changed_meanwhile(workload, planned=plan.values["bad_digest"])
    if changed is not None:
        return changed
    return Write(
        key="rollback",
        verb=Verb.PATCH,
        api="apps/v1",
        plural=KINDS[workload.kind],
        namespace=workload.namespace,
        name=workload.name,
        uid=workload.uid,
        body=[
            {"op": "test", "path": "/metadata/uid", "value": workload.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": workload.resource_version},
            {"op": "replace", "path": "/spec/template", "value": plan.values["template"]},
        ],
        patch=PatchKind.JSON,
        says=f"roll back {workload.kind} {workload.namespace}/{workload.name} to the template of {plan.values['revision']}",
    )


def _remove_stuck(plan: Plan, workload: WorkloadSnapshot, *, now: datetime) -> Step:
    detail = f"rolled back to the template of {plan.values['revision']}"
    if workload.kind != "StatefulSet" or not plan.values["bad_revision"]:
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=detail)
    bad = [pod for pod in workload.pods if pod.revision == plan.values["bad_revision"]]
    if any(pod.deleting_since is not None for pod in bad):
        return Wait(again_in=timedelta(seconds=2), detail="a pod of the bad revision is terminating")
    stuck = sorted((pod for pod in bad if fails(pod, now=now)), key=lambda pod: pod.name, reverse=True)
    if not stuck:
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=detail)
    pod = stuck[0]
    return Write(
        key=f"remove {pod.name} {pod.uid}",
        verb=Verb.DELETE,
        api="v1",
        plural="pods",
        namespace=pod.namespace,
        name=pod.name,
        uid=pod.uid,
        says=f"delete pod {pod.namespace}/{pod.name}, stuck on the bad revision {pod.revision}",
    )


ACTION = Action(
    spec=ActionSpec(
        name="workload.rollback",
        grade=2,
        targets=frozenset({TargetKind.WORKLOAD, TargetKind.POD, TargetKind.SERVICE}),
        says="Roll the workload back to its last healthy revision: the template only.",
    ),
    plan=plan,
    next_step=next_step,
    permissions=(
        *(Permission(verb="patch", group="apps", resource=plural) for plural in KINDS.values()),
        Permission(verb="delete", group="", resource="pods"),
    ),
)
