"""The checks: read-only questions with three answers, each with the numbers seen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from responder.actions.failing import ends_badly, fails, live, restarts
from responder.actions.planning import Check
from responder.model.cluster import Snapshot, WorkloadSnapshot
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
        return CheckReading(health=Health.UNHEALTHY, detail=f"{len(firing)} firing: {names}")
    return CheckReading(health=Health.HEALTHY, detail="no alert fires")


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
        spec=CheckSpec(name="alert.resolved", targets=EVERY_KIND, says="No alert of the incident fires."), judge=alert_resolved
    ),
)
