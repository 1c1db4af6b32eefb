"""The checks: read-only questions with three answers, each with the numbers seen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from responder.actions import nodes
from responder.actions.failing import STARTS_WITHIN, ends_badly, fails, live, restarts
from responder.actions.planning import Check
from responder.model.cluster import MovedSnapshot, NodeDetail, NodeSnapshot, Snapshot, WorkloadSnapshot
from responder.model.health import CheckReading, Health
from responder.model.incident import Instance
from responder.model.target import TargetKind
from responder.rules.catalogue import EVERY_KIND, ArgumentSpec, ArgumentType, CheckSpec

_UNREAD = CheckReading(health=Health.UNKNOWN, detail="the cluster was not read")


def pod_ready(
    snapshot: Snapshot | None,
    arguments: Mapping[str, Any],
    *,
    instances: tuple[Instance, ...],
    firing: tuple[Instance, ...],
    now: datetime,
) -> CheckReading:
    """``pod.ready``: the pod's Ready condition, and no container in trouble."""
    del arguments, instances, firing
    if snapshot is None or snapshot.pod is None:
        return _UNREAD
    pod = snapshot.pod
    counted = {pod.uid: restarts(pod)}
    bad = [one.name for one in pod.containers if ends_badly(one, now=now)]
    if pod.ready and not bad and pod.deleting_since is None:
        return CheckReading(health=Health.HEALTHY, detail=f"pod {pod.name} is ready", restarts=counted)
    said = f"pod {pod.name} is {'not ready' if not pod.ready else 'ready'}" + (f"; in trouble: {', '.join(bad)}" if bad else "")
    return CheckReading(health=Health.UNHEALTHY, detail=said, restarts=counted)


def workload_available(
    snapshot: Snapshot | None,
    arguments: Mapping[str, Any],
    *,
    instances: tuple[Instance, ...],
    firing: tuple[Instance, ...],
    now: datetime,
) -> CheckReading:
    """``workload.available``: rollout complete, all wanted pods ready, none in trouble, endpoints of its services at their baseline.

    The baseline of a service is as many ready endpoints as the workload wants pods. Nothing wanted (replicas 0) is unknown,
    never proven (kubernetes.md A16 case 36).
    """
    del arguments, instances, firing
    if snapshot is None or snapshot.workload is None:
        return _UNREAD
    workload = snapshot.workload
    for gap in ("pods", "services"):
        if gap in snapshot.gaps:
            return CheckReading(health=Health.UNKNOWN, detail=f"{gap} were not read: {snapshot.gaps[gap]}")
    counted = {pod.uid: restarts(pod) for pod in workload.pods if pod.deleting_since is None}
    if workload.kind in {"Job", "CronJob", "bare", "other", "Rollout"}:
        return CheckReading(health=Health.UNKNOWN, detail=f"a {workload.kind} has no availability of its own", restarts=counted)
    if workload.desired == 0:
        return CheckReading(health=Health.UNKNOWN, detail="scaled to zero: nothing to prove", restarts=counted)
    numbers = f"{workload.ready} of {workload.desired} ready"
    problems = _problems(workload, now=now)
    if problems:
        return CheckReading(health=Health.UNHEALTHY, detail=f"{numbers}; {'; '.join(problems)}", restarts=counted)
    return CheckReading(health=Health.HEALTHY, detail=f"{numbers}, rollout complete", restarts=counted)


def _problems(workload: WorkloadSnapshot, *, now: datetime) -> list[str]:
    found: list[str] = []
    if workload.observed_generation < workload.generation:
        found.append("its controller has not seen the newest spec")
    if workload.ready < workload.desired or workload.available < workload.desired:
        found.append(f"{workload.available} available")
    wanted = workload.desired - (workload.partition if workload.kind == "StatefulSet" else 0)
    if workload.strategy != "OnDelete" and workload.updated < wanted:
        found.append(f"rollout: {workload.updated} of {wanted} updated")
    if workload.kind == "Deployment" and workload.replicas > workload.desired and not workload.paused:
        found.append(f"rollout: {workload.replicas - workload.desired} old pods left")
    failing = [pod.name for pod in workload.pods if fails(pod, now=now)]
    if failing:
        found.append(f"failing: {', '.join(failing[:3])}" + (f" and {len(failing) - 3} more" if len(failing) > 3 else ""))
    ready_pods = [pod for pod in live(workload.pods) if pod.ready]
    if len(ready_pods) < workload.desired and not failing:
        found.append(f"{len(ready_pods)} pods have the Ready condition")
    found += [
        f"service {service.name}: {service.endpoints} of {workload.desired} endpoints"
        for service in workload.services
        if not service.external and service.selector and service.endpoints < workload.desired
    ]
    return found


def service_endpoints(
    snapshot: Snapshot | None,
    arguments: Mapping[str, Any],
    *,
    instances: tuple[Instance, ...],
    firing: tuple[Instance, ...],
    now: datetime,
) -> CheckReading:
    """``service.endpoints {min: 1}``: ready endpoints over all slices; terminating ones that still serve are not yet an outage."""
    del instances, firing, now
    if snapshot is None or snapshot.service is None:
        return _UNREAD
    if "endpoints" in snapshot.gaps:
        return CheckReading(health=Health.UNKNOWN, detail=f"endpoints were not read: {snapshot.gaps['endpoints']}")
    service = snapshot.service
    least = int(arguments.get("min", 1))
    if service.external or not service.selector:
        return CheckReading(
            health=Health.UNKNOWN, detail=f"service {service.name} has no selector: its endpoints are not ours to judge"
        )
    counted = {pod.uid: restarts(pod) for pod in service.pods if pod.deleting_since is None}
    detail = f"{service.endpoints} ready endpoints, at least {least} wanted"
    if service.serving_terminating:
        detail += f", {service.serving_terminating} terminating still serve"
    healthy = service.endpoints >= least
    return CheckReading(health=Health.HEALTHY if healthy else Health.UNHEALTHY, detail=detail, restarts=counted)


def alert_resolved(
    snapshot: Snapshot | None,
    arguments: Mapping[str, Any],
    *,
    instances: tuple[Instance, ...],
    firing: tuple[Instance, ...],
    now: datetime,
) -> CheckReading:
    """``alert.resolved``: no instance that joined fires. A sender that never resolves proves nothing while it is the only word."""
    del arguments, now, snapshot
    if not instances:
        return CheckReading(health=Health.UNKNOWN, detail="no alert is held")
    if firing:
        names = ", ".join(sorted({one.name for one in firing}))
        return CheckReading(health=Health.UNHEALTHY, detail=f"firing: {names}")
    return CheckReading(health=Health.HEALTHY, detail="no alert fires")


def node_ready(
    snapshot: Snapshot | None,
    arguments: Mapping[str, Any],
    *,
    instances: tuple[Instance, ...],
    firing: tuple[Instance, ...],
    now: datetime,
) -> CheckReading:
    """``node.ready``: Ready, and no condition says that something is short or broken."""
    del arguments, instances, now
    if snapshot is not None and snapshot.gone:
        said = "the node does not exist any more"
        if firing:
            return CheckReading(health=Health.UNKNOWN, detail=f"{said}, yet an alert fires")
        return CheckReading(health=Health.HEALTHY, detail=f"{said} and no alert fires")
    if snapshot is None or snapshot.node is None:
        return _UNREAD
    node = snapshot.node.node
    wrong = nodes.pressures(node)
    said = f"node {node.name} is {'Ready' if node.ready == 'True' else f'not Ready ({node.ready})'}"
    if wrong:
        said += f", with {', '.join(wrong)}"
    return CheckReading(health=Health.HEALTHY if node.ready == "True" and not wrong else Health.UNHEALTHY, detail=said)


def pods_rescheduled(
    snapshot: Snapshot | None,
    arguments: Mapping[str, Any],
    *,
    instances: tuple[Instance, ...],
    firing: tuple[Instance, ...],
    now: datetime,
) -> CheckReading:
    """``pods.rescheduled``: every workload that had pods on the node has all its replicas ready, wherever they run now.

    Counted are workloads whose pods had to move, and, while the node is not Ready, those that still have pods on it. A pod that failed
    before and elsewhere is its workload's own trouble. Pods that are only just starting, or not made yet, keep a node that is not Ready unhealthy; on one
    that is Ready again they are unknown: nothing more is done, and nothing is proven yet. Pods that terminate on a dead node prove nothing.
    """
    del arguments, firing
    if snapshot is None or (snapshot.node is None and not snapshot.gone):
        return _UNREAD
    for gap in ("pods", "workloads"):
        if gap in snapshot.gaps:
            return CheckReading(health=Health.UNKNOWN, detail=f"{gap} were not read: {snapshot.gaps[gap]}")
    began = min((one.started_at or one.first_seen_at for one in instances), default=snapshot.read_at)
    began = began.replace(microsecond=began.microsecond // 1_000 * 1_000)  # as the store tells which alert is the oldest
    node = snapshot.node.node if snapshot.node is not None else None
    down = node is None or node.ready != "True"
    missing: list[str] = []
    starting: list[str] = []
    unread: list[str] = []
    counted = [one for one in snapshot.moved if (one.displaced or down) and not one.gone]
    for one in counted:
        if one.target.owner_kind in {"Job", "CronJob"}:
            continue
        if one.target.owner_kind == "bare" or one.desired is None:
            (missing if one.target.owner_kind == "bare" else unread).append(_unmovable(one))
            continue
        short, young = _short(one, node, began=began, now=now)
        if short > 0:
            (starting if not down and short <= young else missing).append(_numbers(one, snapshot.node))
    if snapshot.node is not None and down:
        missing += [
            f"pod {pod.namespace}/{pod.name} has no controller: nothing makes it elsewhere"
            for pod in snapshot.node.pods
            if pod.owner is None and not pod.mirror and pod.phase not in nodes.FINISHED
        ]
    if missing:
        return CheckReading(
            health=Health.UNHEALTHY,
            detail="; ".join(missing[:5]) + (f"; and {len(missing) - 5} more" if len(missing) > 5 else ""),
        )
    if starting or unread:
        return CheckReading(health=Health.UNKNOWN, detail="; ".join([f"starting: {one}" for one in starting[:5]] + unread[:5]))
    where = f"node {node.name}" if node is not None else f"node {snapshot.target.name}, which is gone"
    if not counted:
        return CheckReading(health=Health.HEALTHY, detail=f"no workload had to leave {where}")
    return CheckReading(health=Health.HEALTHY, detail=f"all {len(counted)} workloads that had pods on {where} are available")


def _short(one: MovedSnapshot, node: NodeSnapshot | None, *, began: datetime, now: datetime) -> tuple[int, int]:
    """Return how many replicas a workload lacks because of the node, and how many of its pods are only just starting elsewhere."""
    name = node.name if node is not None else ""
    back = node is not None and node.ready == "True" and (node.ready_since is None or now - node.ready_since >= STARTS_WITHIN)
    own = 0
    young = one.absent if node is not None and node.ready == "True" else 0  # their controller's business, not this node's
    for pod in one.waiting:
        here = pod.node == name and bool(name)
        if here and node is not None and node.ready == "True":
            own, young = (own + 1, young) if back else (own, young + 1)
        elif not here and fails(pod, now=now) and pod.created_at is not None and pod.created_at < began:
            own += 1
        elif not here and pod.node and not fails(pod, now=now):
            young += 1
    return (one.desired or 0) - one.ready - own, young


def _numbers(one: MovedSnapshot, detail: NodeDetail | None) -> str:
    said = f"{one.target.owner_kind} {one.target.namespace}/{one.target.name}: {one.ready} of {one.desired} ready"
    unplaced = [pod for pod in one.waiting if pod.scheduled is False]
    if unplaced:
        said += f", {len(unplaced)} without a node ({unplaced[0].scheduling_message or unplaced[0].scheduling_reason})"
    stuck = [
        pod.name
        for pod in (detail.pods if detail is not None else ())
        if pod.top == one.target.identity and pod.deleting_since is not None
    ]
    if stuck and detail is not None:
        said += f", {', '.join(stuck[:3])} still terminates on node {detail.node.name}"
    return said


def _unmovable(one: MovedSnapshot) -> str:
    kind, name = one.target.owner_kind or "object", f"{one.target.namespace}/{one.target.name}"
    if kind == "bare":
        return f"pod {name} has no controller: nothing makes it elsewhere"
    return f"{kind} {name} has no replica count that can be read"


_PODS = frozenset({TargetKind.POD, TargetKind.WORKLOAD, TargetKind.SERVICE})

CHECKS = (
    Check(spec=CheckSpec(name="pod.ready", targets=frozenset({TargetKind.POD}), says="The pod is ready."), judge=pod_ready),
    Check(
        spec=CheckSpec(name="workload.available", targets=_PODS, says="Rollout complete, pods ready, endpoints there."),
        judge=workload_available,
    ),
    Check(
        spec=CheckSpec(
            name="service.endpoints",
            targets=frozenset({TargetKind.SERVICE}),
            arguments=(ArgumentSpec(name="min", type=ArgumentType.INT, at_least=1, says="So many ready endpoints at least."),),
            says="The service has ready endpoints.",
        ),
        judge=service_endpoints,
    ),
    Check(
        spec=CheckSpec(name="node.ready", targets=frozenset({TargetKind.NODE}), says="The node is Ready, without pressure."),
        judge=node_ready,
    ),
    Check(
        spec=CheckSpec(
            name="pods.rescheduled",
            targets=frozenset({TargetKind.NODE}),
            says="Workloads that had pods on the node are wholly available, wherever they run now.",
        ),
        judge=pods_rescheduled,
    ),
    Check(
        spec=CheckSpec(name="alert.resolved", targets=EVERY_KIND, says="No alert of the incident fires."), judge=alert_resolved
    ),
)
