"""The facts that rules ask about, derived from a snapshot. Source of names and types: FACTS.md.

A fact whose source could not be read is left out (missing is unknown). An optional fact whose source was read and had none is
named in ``had_none``, the only case in which ``has()`` is false.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from responder.actions import nodes
from responder.actions.failing import RESTARTED_LATELY, failing_pods, fails, live
from responder.model.cluster import NodeDetail, PodSnapshot, Snapshot, WorkloadSnapshot
from responder.policy import causes
from responder.policy.cloud_facts import add_cloud_facts

ROLLS_WITHIN = timedelta(minutes=10)
"""How long a pod of a StatefulSet's or DaemonSet's rollout may fail: they have no deadline. Source: a Deployment's default progressDeadlineSeconds."""


def facts_of(snapshot: Snapshot, *, now: datetime) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the facts of a target, and the optional ones that were read and had none."""
    facts: dict[str, Any] = {}
    none: set[str] = set()
    if snapshot.gone:
        return facts, frozenset()
    if snapshot.workload is not None:
        _workload(snapshot, snapshot.workload, facts, none, now=now)
    elif snapshot.pod is not None:
        _cause(snapshot, facts, none, now=now)
    if snapshot.node is not None:
        _node(snapshot, snapshot.node, facts, none, now=now)
    if snapshot.service is not None and "endpoints" not in snapshot.gaps:
        facts["endpoints"] = snapshot.service.endpoints
        if "pods" not in snapshot.gaps:
            facts["service_cause"] = causes.service_cause(snapshot.service, snapshot.workload)
    add_cloud_facts(snapshot, facts, none, now=now)
    return facts, frozenset(none)


def _cause(snapshot: Snapshot, facts: dict[str, Any], none: set[str], *, now: datetime) -> None:
    cause = causes.of_snapshot(snapshot, now=now)
    if cause is None:
        return
    facts["cause"] = cause.cause
    for name, value in (("container", cause.container), ("message", cause.message), ("exit_code", cause.exit_code)):
        if value in {None, ""}:
            none.add(name)
        else:
            facts[name] = value


def _workload(snapshot: Snapshot, workload: WorkloadSnapshot, facts: dict[str, Any], none: set[str], *, now: datetime) -> None:
    gaps = snapshot.gaps
    facts["desired"] = workload.desired
    facts["ready"] = workload.ready
    facts["stateful"] = workload.kind == "StatefulSet"
    facts["has_volumes"] = workload.has_volumes
    facts["gitops"] = workload.gitops
    facts["rollout"] = rollout(workload, now=now)
    if "pods" not in gaps:
        _cause(snapshot, facts, none, now=now)
        failing = failing_pods(workload.pods, now=now)
        facts["failing"] = len(failing)
        facts["restarts_10m"] = sum(_late_restarts(pod, now=now) for pod in workload.pods)
        since = _since(failing)
        if since is None:
            none.add("since")
        else:
            facts["since"] = since
        if "nodes" not in gaps:
            facts["one_node"] = one_node(workload, now=now)
    if "autoscalers" not in gaps:
        scaler = workload.autoscaler
        facts["hpa"] = scaler is not None
        facts["at_max"] = scaler is not None and max(scaler.current, scaler.desired) >= scaler.maximum
    if "revisions" not in gaps:
        age = rollout_age(workload, now=now)
        if age is not None:
            facts["rollout_age"] = age
        if "pods" not in gaps:
            facts["new_revision"] = new_revision(workload, now=now)


def _node(snapshot: Snapshot, detail: NodeDetail, facts: dict[str, Any], none: set[str], *, now: datetime) -> None:
    gaps, node = snapshot.gaps, detail.node
    facts["node_ready"] = node.ready
    facts["pressure"] = nodes.pressures(node)
    facts["cordoned_by"] = nodes.cordoned_by(node)
    facts["pool"] = node.pool
    if detail.machine:
        facts["machine"] = detail.machine
    if node.ready == "True":
        none |= {"not_ready_for", "since"}
    elif node.ready_since is not None:
        facts["not_ready_for"] = now - node.ready_since
        facts["since"] = node.ready_since
    if "leases" not in gaps:
        if detail.lease_renewed_at is None:
            none.add("lease_age")
        else:
            facts["lease_age"] = max(timedelta(0), now - detail.lease_renewed_at)
    if "events" not in gaps:
        facts["repair"] = nodes.repair(snapshot.events, now=now)
    if not {"pods", "workloads", "namespace", "budgets"} & set(gaps):
        facts["blockers"] = sum(1 for one in nodes.verdicts(detail) if one.fate is nodes.Fate.REFUSES) + len(
            nodes.hopeless(detail)
        )
    if "nodes" not in gaps:
        facts["nodes"] = len(snapshot.nodes)
        facts["nodes_unhealthy"] = sum(1 for one in snapshot.nodes if one.ready != "True")
        spare = nodes.room(snapshot)
        if spare is not None:
            facts["spare"] = spare


def rollout(workload: WorkloadSnapshot, *, now: datetime) -> str:
    """Return idle, progressing, stuck or paused; conditions count only for the generation that the controller has seen."""
    if workload.paused:
        return "paused"
    if workload.observed_generation < workload.generation:
        return "progressing"
    for condition in workload.conditions:
        if condition.type == "Progressing" and condition.status == "False" and condition.reason == "ProgressDeadlineExceeded":
            return "stuck"
    if workload.kind in {"StatefulSet", "DaemonSet"} and _hangs(workload, now=now):
        return "stuck"
    wanted = workload.desired - (workload.partition if workload.kind == "StatefulSet" else 0)
    unfinished = workload.strategy != "OnDelete" and workload.desired > 0 and workload.updated < wanted
    old_left = workload.kind == "Deployment" and workload.replicas > workload.updated
    return "progressing" if unfinished or old_left else "idle"


def _hangs(workload: WorkloadSnapshot, *, now: datetime) -> bool:
    """Tell whether a rollout without a deadline of its own waits for a pod of the newest template that has been failing since it was made.

    However long the rest of it takes, a pod that fails for as long as a Deployment's rollout may stand still ends it: a StatefulSet goes no further.
    Over a template that was healthy before, whose pods are all made, there is no rollout any more.
    """
    newest = [one for one in workload.revisions if one.template_digest == workload.template_digest]
    if workload.updated >= workload.desired and any(one.was_healthy for one in newest):
        return False
    names = {one.revision for one in newest}
    old = [pod for pod in workload.pods if pod.created_at is not None and now - pod.created_at >= ROLLS_WITHIN]
    return any(pod.revision in names and fails(pod, now=now) for pod in old)


def rollout_age(workload: WorkloadSnapshot, *, now: datetime) -> timedelta | None:
    """Return how long the current template (restart stamps ignored) has been the workload's; None when unknown.

    The oldest revision of an unbroken run of the same digest began it: a restart makes a new revision, not a new template.
    """
    ordered = sorted(workload.revisions, key=lambda one: one.number, reverse=True)
    began: datetime | None = None
    for revision in ordered:
        if revision.template_digest != workload.template_digest:
            break
        began = revision.created_at or began
    return now - began if began is not None else None


def new_revision(workload: WorkloadSnapshot, *, now: datetime) -> bool:
    """Tell whether every failing pod has the newest template, and another template was healthy."""
    other = any(one.was_healthy and one.template_digest != workload.template_digest for one in workload.revisions)
    newest = {one.revision for one in workload.revisions if one.template_digest == workload.template_digest}
    failing = failing_pods(workload.pods, now=now)
    return other and bool(failing) and all(pod.revision in newest for pod in failing)


def one_node(workload: WorkloadSnapshot, *, now: datetime) -> bool:
    """Tell whether all failing pods are on one node while healthy ones run on others.

    One failing pod is no pattern: it takes at least two, or a healthy pod on another node beside a failing one of several.
    """
    failing = failing_pods(workload.pods, now=now)
    nodes = {pod.node for pod in failing if pod.node}
    healthy_elsewhere = any(pod.ready and not fails(pod, now=now) and pod.node not in nodes for pod in live(workload.pods))
    return len(failing) > 1 and len(nodes) == 1 and healthy_elsewhere


def _late_restarts(pod: PodSnapshot, *, now: datetime) -> int:
    """Return restarts of containers that ended within ten minutes (the kubelet keeps only the last end)."""
    return sum(one.restarts for one in pod.containers if one.finished_at is not None and now - one.finished_at < RESTARTED_LATELY)


def _since(failing: tuple[PodSnapshot, ...]) -> datetime | None:
    times = [pod.ready_since for pod in failing if pod.ready is False and pod.ready_since is not None]
    return min(times) if times else None
