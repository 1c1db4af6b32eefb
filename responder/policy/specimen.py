"""A workload made from facts, so that a rule test plans with the very code that production plans with.

Anything a test does not say is healthy: 3 of 3 ready, last rollout 30 days ago. Source: EXAMPLES.md "Three rule tests".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from responder.model.cluster import (
    AutoscalerSnapshot,
    ContainerSnapshot,
    OwnerRef,
    PodSnapshot,
    RevisionSnapshot,
    ServiceSnapshot,
    Snapshot,
    WorkloadSnapshot,
)
from responder.model.target import Target, TargetKind

HEALTHY_FACTS: Mapping[str, Any] = {
    "cause": "none",
    "desired": 3,
    "ready": 3,
    "failing": 0,
    "restarts_10m": 0,
    "one_node": False,
    "rollout": "idle",
    "rollout_age": timedelta(days=30),
    "new_revision": False,
    "hpa": False,
    "at_max": False,
    "stateful": False,
    "has_volumes": False,
    "gitops": "",
    "endpoints": 3,
    "service_cause": "none",
}


def snapshot_of(target: Target, facts: Mapping[str, Any], *, now: datetime) -> Snapshot:
    """Return what a cluster with these facts would look like, as far as plans and guards look."""
    workload = _workload(target, facts, now=now)
    service = None
    if target.kind is TargetKind.SERVICE:
        service = ServiceSnapshot(
            namespace=target.namespace,
            name=target.name,
            uid=f"uid-{target.name}",
            selector={"app": target.name},
            endpoints=int(facts.get("endpoints", 0)),
        )
    pod = workload.pods[0] if target.kind is TargetKind.POD else None
    gaps = {} if "cause" in facts else {"pods": "the test says that they cannot be read"}
    return Snapshot(target=target, read_at=now, workload=workload, service=service, pod=pod, gaps=gaps)


def _workload(target: Target, facts: Mapping[str, Any], *, now: datetime) -> WorkloadSnapshot:
    kind = "StatefulSet" if facts.get("stateful") else "Deployment"
    desired, failing = int(facts.get("desired", 3)), int(facts.get("failing", 0))
    current = RevisionSnapshot(
        name=f"{target.name}-2",
        number=2,
        revision="2",
        template_digest="new",
        current=True,
        was_healthy=not facts.get("new_revision"),
        template={"spec": {}},
    )
    good = RevisionSnapshot(
        name=f"{target.name}-1", number=1, revision="1", template_digest="old", was_healthy=True, template={"spec": {}}
    )
    pods = tuple(_pod(target, kind, number, sick=number < failing, now=now) for number in range(desired))
    scaler = (
        AutoscalerSnapshot(name=target.name, uid="hpa", resource_version="1", minimum=desired, maximum=desired * 2)
        if facts.get("hpa")
        else None
    )
    return WorkloadSnapshot(
        kind=kind,
        namespace=target.namespace,
        name=target.name,
        uid=f"uid-{target.name}",
        resource_version="1",
        generation=2,
        observed_generation=2,
        desired=desired,
        replicas=desired,
        ready=desired - failing,
        updated=desired,
        available=desired - failing,
        paused=facts.get("rollout") == "paused",
        surge=1,
        template={"metadata": {}, "spec": {}},
        template_digest="new",
        current_revision="2",
        revisions=(good, current) if facts.get("new_revision") else (current,),
        pods=pods,
        autoscaler=scaler,
        gitops=str(facts.get("gitops", "")),
    )


def _pod(target: Target, kind: str, number: int, *, sick: bool, now: datetime) -> PodSnapshot:
    container = ContainerSnapshot(name="main", ready=not sick, running_since=now - timedelta(days=1))
    if sick:
        container = ContainerSnapshot(
            name="main", restarts=5, waiting_reason="CrashLoopBackOff", exit_code=1, finished_at=now - timedelta(minutes=1)
        )
    return PodSnapshot(
        namespace=target.namespace,
        name=f"{target.name}-{number}",
        uid=f"uid-{target.name}-{number}",
        node=f"node-{number}",
        ready=not sick,
        created_at=now - timedelta(days=1),
        revision="2",
        owner=OwnerRef(kind="StatefulSet" if kind == "StatefulSet" else "ReplicaSet", name=target.name, uid=f"uid-{target.name}"),
        containers=(container,),
    )
