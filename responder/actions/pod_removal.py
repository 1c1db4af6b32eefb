"""``pod.delete`` and ``pod.evict``: remove exactly one failing pod, by UID; its controller makes another.

Recognised after a crash by that UID being gone. Never a bare pod, a Job's pod, a static pod, nor one that is ready and does not fail: it is not the
sick one of its workload, or is well again by now (kubernetes.md A15 rule 6).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.actions.failing import failing_pods, fails
from responder.actions.planning import Action, NextStep, PlanInput
from responder.model.action import End, Outcome, Permission, Plan, Refusal, Step, Verb, Wait, Write
from responder.model.cluster import BudgetSnapshot, PodSnapshot, Snapshot
from responder.model.reason import Reason
from responder.model.target import TargetKind
from responder.rules.catalogue import ActionSpec

TARGETS = frozenset({TargetKind.POD, TargetKind.WORKLOAD})
GRACE_MARGIN = timedelta(seconds=30)
RECREATING = frozenset({"ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"})


def _chosen(given: PlanInput) -> PodSnapshot | Refusal:
    snapshot = given.snapshot
    if snapshot is None:
        return Refusal(reason=Reason.UNKNOWN, detail="the cluster was not read")
    if given.target.kind is TargetKind.POD and snapshot.pod is not None:
        return snapshot.pod
    pods = snapshot.workload.pods if snapshot.workload else ()
    failing = failing_pods(pods, now=given.now)
    return failing[0] if failing else Refusal(reason=Reason.NO_FAILING_POD, detail=f"none of {len(pods)} pods fails")


def _plan(given: PlanInput, action: str) -> Plan | Refusal:
    pod = _chosen(given)
    if isinstance(pod, Refusal):
        return pod
    name = f"pod {pod.namespace}/{pod.name}"
    if pod.mirror:
        return Refusal(reason=Reason.KIND_NOT_SUPPORTED, detail=f"{name} is static: only its node can remove it")
    if pod.owner is None:
        return Refusal(reason=Reason.BARE_POD, detail=f"{name} has no controller")
    if pod.owner.kind == "Job":
        return Refusal(reason=Reason.JOB_POD, detail=f"{name} belongs to Job {pod.owner.name}")
    if pod.owner.kind not in RECREATING:
        return Refusal(
            reason=Reason.KIND_NOT_SUPPORTED, detail=f"{name} belongs to a {pod.owner.kind}, whose operator would fight"
        )
    assert given.snapshot is not None
    workload = given.snapshot.workload
    if pod.ready and not fails(pod, now=given.now):
        return Refusal(reason=Reason.NO_FAILING_POD, detail=f"{name} is ready: whatever is wrong, it is another pod")
    if workload is not None:
        for quota in workload.quotas:
            over = [name for name, hard in quota.hard.items() if quota.used.get(name, 0.0) > hard]
            if over:
                return Refusal(
                    reason=Reason.QUOTA_EXCEEDED,
                    detail=f"quota {quota.name} is over its limit on {', '.join(over)}: the pod would not come back",
                )
        if action == "pod.evict":
            detail = _blocked(workload.budgets, pod)
            if detail:
                return Refusal(reason=Reason.BUDGET_BLOCKS, detail=detail)
    return Plan(
        action=action,
        command=given.command,
        target=given.target,
        generation=0,
        values={"namespace": pod.namespace, "pod": pod.name, "uid": pod.uid, "grace_seconds": pod.grace_seconds},
        diff=(f"{'evict' if action == 'pod.evict' else 'delete'} {name} (uid {pod.uid})",),
    )


def _blocked(budgets: tuple[BudgetSnapshot, ...], pod: PodSnapshot) -> str:
    """Say why the eviction API would refuse now, as it reckons itself (kubernetes.md A2); "" when it would not."""
    if len(budgets) > 1:
        names = ", ".join(sorted(one.name for one in budgets))
        return f"{len(budgets)} budgets match the pod ({names}): the eviction API refuses that for good"
    for one in budgets:
        broken_may_go = not pod.ready and (
            one.unhealthy_policy == "AlwaysAllow" or one.current_healthy >= one.desired_healthy > 0
        )
        if one.allowed <= 0 and not broken_may_go:
            return f"budget {one.name} needs {one.desired_healthy} healthy pods and has {one.current_healthy}"
    return ""


def plan_delete(given: PlanInput) -> Plan | Refusal:
    """Plan the deletion of one failing pod, or refuse."""
    return _plan(given, "pod.delete")


def plan_evict(given: PlanInput) -> Plan | Refusal:
    """Plan the eviction of one failing pod through its disruption budgets, or refuse."""
    return _plan(given, "pod.evict")


def _next(verb: Verb) -> NextStep:
    def next_step(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
        """Remove the pod unless its UID is gone; wait for its end within its own grace period."""
        pods = snapshot.workload.pods if snapshot.workload else ((snapshot.pod,) if snapshot.pod else ())
        pod = next((one for one in pods if one.uid == plan.values["uid"]), None)
        if pod is None and "pods" in snapshot.gaps:
            return Wait(again_in=timedelta(seconds=2), detail=f"pods were not read: {snapshot.gaps['pods']}")
        name = f"{plan.values['namespace']}/{plan.values['pod']}"
        if pod is None:
            return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=f"pod {name} is gone")
        if pod.deleting_since is not None:
            if now - pod.deleting_since > GRACE_MARGIN:
                held = (
                    f"finalizer {', '.join(pod.finalizers)}"
                    if pod.finalizers
                    else f"node {pod.node or '(none)'}, which does not confirm,"
                )
                detail = f"pod {name} is terminating since {pod.deleting_since:%H:%M:%S}: {held} holds it"
                return End(outcome=Outcome.FAILED, reason=Reason.FAILED, detail=detail)
            return Wait(again_in=timedelta(seconds=2), detail=f"pod {name} is terminating")
        word = "evict" if verb is Verb.EVICT else "delete"
        if pod.ready and not fails(pod, now=now):
            return End(outcome=Outcome.REFUSED, reason=Reason.NO_FAILING_POD, detail=f"pod {name} is ready again: it stays")
        return Write(
            key=f"{word} {pod.uid}",
            verb=verb,
            api="v1",
            plural="pods",
            namespace=pod.namespace,
            name=pod.name,
            uid=pod.uid,
            says=f"{word} pod {name}",
        )

    return next_step


DELETE = Action(
    spec=ActionSpec(name="pod.delete", grade=1, targets=TARGETS, says="Delete the one worst failing pod, by UID."),
    plan=plan_delete,
    next_step=_next(Verb.DELETE),
    permissions=(Permission(verb="delete", group="", resource="pods"),),
)
EVICT = Action(
    spec=ActionSpec(
        name="pod.evict", grade=1, targets=TARGETS, says="Evict the one worst failing pod; disruption budgets are honoured."
    ),
    plan=plan_evict,
    next_step=_next(Verb.EVICT),
    permissions=(Permission(verb="create", group="", resource="pods/eviction"),),
)
