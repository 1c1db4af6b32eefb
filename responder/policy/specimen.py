"""A workload or node made from facts, so that a rule test plans with the very code that production plans with.

Anything a test does not say is healthy: 3 of 3 ready, last rollout 30 days ago. Source: EXAMPLES.md "Three rule tests".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from responder.actions.nodes import REPAIRER
from responder.model.cloud import CloudSnapshot, Life, MachineSnapshot, OperationSnapshot, PoolSnapshot
from responder.model.cluster import (
    AutoscalerSnapshot,
    Condition,
    ContainerSnapshot,
    EventSnapshot,
    MovedSnapshot,
    NodeDetail,
    NodeSnapshot,
    OwnerRef,
    PodSnapshot,
    ReachSnapshot,
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
    "node_ready": "True",
    "pressure": [],
    "repair": "none",
    "cordoned_by": "",
    "pool": "pool",
    "blockers": 0,
    "spare": True,
    "nodes": 5,
    "nodes_unhealthy": 0,
    "machine": "running",
    "pool_autoscaled": False,
    "pool_count": 3,
    "api": True,
    "provisioning_state": "Succeeded",
    "power_state": "Running",
    "operation": "",
    "health": "Available",
    "hosts_responder": False,
}


def snapshot_of(target: Target, facts: Mapping[str, Any], *, now: datetime, said_at: datetime) -> Snapshot:
    """Return what a cluster with these facts would look like, as far as plans and guards look.

    Args:
        target: What is read.
        facts: As the test says.
        now: The instant.
        said_at: When the test said what operation there is: its age was so much then.
    """
    found = _snapshot(target, facts, now=now)
    cloud = _cloud(target, facts, now=now, said_at=said_at)
    if cloud is None:
        return replace(found, gaps={**found.gaps, "cloud": "the test says that it cannot be read"})
    return replace(found, cloud=cloud)


def _snapshot(target: Target, facts: Mapping[str, Any], *, now: datetime) -> Snapshot:
    if target.kind is TargetKind.NODE:
        return _node_snapshot(target, facts, now=now)
    if target.kind is TargetKind.CLUSTER:
        reach = ReachSnapshot(answers=facts.get("api"), hosts_responder=facts.get("hosts_responder"), components=())
        return Snapshot(target=target, read_at=now, reach=reach)
    if target.kind is TargetKind.NODE_POOL:
        return Snapshot(target=target, read_at=now)
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


def _cloud(target: Target, facts: Mapping[str, Any], *, now: datetime, said_at: datetime) -> CloudSnapshot | None:
    """Return what ARM would say: the pool with the facts' count, the one that fits beside it, and a System pool; None when it was not read."""
    if "provisioning_state" not in facts or "power_state" not in facts:
        return None
    name = target.name if target.kind is TargetKind.NODE_POOL else str(facts.get("pool", ""))
    count, scaled = int(facts.get("pool_count", 3)), bool(facts.get("pool_autoscaled"))
    names = [one for one in dict.fromkeys((name, str(facts.get("fits_pool", "")))) if one]
    pools = [
        PoolSnapshot(
            name=one, etag='"1"', count=count, autoscaled=scaled, minimum=1 if scaled else 0, maximum=count + 3 if scaled else 0
        )
        for one in names
    ]
    busy = None
    if facts.get("operation"):
        busy = OperationSnapshot(
            name=str(facts["operation"]), began_at=said_at - facts.get("operation_age", timedelta(0)), id="operation", exact=True
        )
    machine = None
    if target.kind is TargetKind.NODE and name:
        life = Life(str(facts.get("machine", "unknown")))
        machine = MachineSnapshot(resource_id=f"/machines/{target.name}", name=target.name, pool=name, life=life)
    return CloudSnapshot(
        read_at=now,
        provisioning_state=str(facts["provisioning_state"]),
        power_state=str(facts["power_state"]),
        etag='"1"',
        pools=(*pools, PoolSnapshot(name="system", mode="System", count=3)),
        operation=busy,
        health=str(facts.get("health", "")),
        machine=machine,
        machines={name: (machine,)} if machine is not None else {},
    )


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


def _node_snapshot(target: Target, facts: Mapping[str, Any], *, now: datetime) -> Snapshot:
    """Return a node with three pods of one workload and as many bare ones as block a drain, among the other nodes."""
    ready = str(facts.get("node_ready", "Unknown"))
    cordoned = facts.get("cordoned_by", "")
    workload = replace(target, kind=TargetKind.WORKLOAD, namespace="test", name="moved", owner_kind="Deployment")
    owner = OwnerRef(kind="ReplicaSet", name="moved-1", uid="uid-moved-1")
    pods = [_on_node(target, f"moved-1-{number}", owner, now=now) for number in range(3)]
    pods += [_on_node(target, f"alone-{number}", None, now=now) for number in range(int(facts.get("blockers", 0)))]
    pods = [replace(pod, top=workload.identity if pod.owner is not None else "") for pod in pods]
    node = NodeSnapshot(
        name=target.name,
        ready=ready,
        ready_since=now - timedelta(minutes=4),
        uid=f"uid-{target.name}",
        resource_version="1",
        unschedulable=cordoned != "",
        cordoned_for="inc-1 earlier" if cordoned == "us" else "",
        pool=str(facts.get("pool", "")),
        conditions=tuple(Condition(type=str(one), status="True") for one in facts.get("pressure", [])),
    )
    total, down = int(facts.get("nodes", 0)), max(int(facts.get("nodes_unhealthy", 0)), int(ready != "True"))
    others = tuple(
        NodeSnapshot(name=f"other-{number}", ready="True" if number >= down - int(ready != "True") else "Unknown")
        for number in range(total - 1)
    )
    events: tuple[EventSnapshot, ...] = ()
    if facts.get("repair") == "running":
        about = f"Node/{target.name}"
        events = (
            EventSnapshot(about=about, type="Normal", reason="NodeRebootStart", message="", last_seen_at=now, source=REPAIRER),
        )
    gaps = {"nodes": "the test says that it cannot be read"} if "nodes" not in facts or "node_ready" not in facts else {}
    machine = str(facts.get("machine", ""))
    return Snapshot(
        target=target,
        read_at=now,
        node=NodeDetail(node=node, pods=tuple(pods), lease_renewed_at=now - timedelta(minutes=4), machine=machine),
        moved=(MovedSnapshot(target=workload, desired=3, ready=3),),
        nodes=(node, *others),
        events=events,
        gaps=gaps,
    )


def _on_node(target: Target, name: str, owner: OwnerRef | None, *, now: datetime) -> PodSnapshot:
    made = now - timedelta(days=1)
    return PodSnapshot(namespace="test", name=name, uid=f"uid-{name}", node=target.name, ready=True, created_at=made, owner=owner)
