"""The things that an incident is inside of, narrowest first: node ⊃ pods, pool ⊃ nodes, cluster ⊃ all, region ⊃ clusters.

An incident waits while an armed one is open for the thing that all its failing parts are in, whichever alert came first. It is an order, so never a
circle. Source: ARCHITECTURE.md "Many at once". Never here: whether such an incident is open.
"""

from __future__ import annotations

from datetime import datetime

from responder.actions.failing import failing_pods
from responder.model.cluster import PodSnapshot, Snapshot
from responder.model.incident import Incident
from responder.model.target import Target, TargetKind

_WITH_PODS = frozenset({TargetKind.POD, TargetKind.WORKLOAD, TargetKind.SERVICE})


def containers(incident: Incident, snapshot: Snapshot | None, *, now: datetime) -> tuple[Target, ...]:
    """Return what all failing parts of an incident's target are in; empty for an incident on an alert alone.

    Args:
        incident: Whose target it is.
        snapshot: As read; None when nothing could be read: then only the cluster is certain.
        now: The instant.
    """
    target = incident.target
    if target.kind is TargetKind.NONE or not target.cluster:
        return ()
    found: list[Target] = []
    pool = ""
    if target.kind in _WITH_PODS and snapshot is not None:
        node = failing_node(snapshot, now=now)
        if node:
            found.append(Target(kind=TargetKind.NODE, cluster=target.cluster, name=node))
        pool = _pool(snapshot, _nodes(snapshot, now=now))
    elif target.kind is TargetKind.NODE and snapshot is not None and snapshot.node is not None:
        pool = snapshot.node.node.pool
    if pool:
        found.append(Target(kind=TargetKind.NODE_POOL, cluster=target.cluster, name=pool))
    if target.kind is not TargetKind.CLUSTER:
        found.append(Target(kind=TargetKind.CLUSTER, cluster=target.cluster, name=target.cluster))
    if target.region:
        found.append(Target(kind=TargetKind.REGION, name=target.region, region=target.region))
    return tuple(found)


def failing_node(snapshot: Snapshot, *, now: datetime) -> str:
    """Return the one node that all failing pods are on; "" when there is none, or when a failing pod is on none."""
    nodes = _nodes(snapshot, now=now)
    return next(iter(nodes)) if len(nodes) == 1 and "" not in nodes else ""


def lost_node(snapshot: Snapshot | None, *, now: datetime) -> str:
    """Return the node that all failing pods are on, if it is read as not Ready; "" otherwise. It counts even before its alert."""
    node = failing_node(snapshot, now=now) if snapshot is not None and snapshot.node is None else ""
    read = next((one for one in snapshot.nodes if one.name == node), None) if snapshot is not None and node else None
    return node if read is not None and read.ready != "True" else ""


def _nodes(snapshot: Snapshot, *, now: datetime) -> set[str]:
    return {pod.node for pod in failing_pods(_pods(snapshot), now=now)}


def _pods(snapshot: Snapshot) -> tuple[PodSnapshot, ...]:
    if snapshot.workload is not None:
        return snapshot.workload.pods
    if snapshot.pod is not None:
        return (snapshot.pod,)
    return snapshot.service.pods if snapshot.service is not None else ()


def _pool(snapshot: Snapshot, names: set[str]) -> str:
    known = {one.name: one.pool for one in snapshot.nodes}
    pools = {known.get(name, "") for name in names}
    return next(iter(pools)) if len(pools) == 1 else ""
