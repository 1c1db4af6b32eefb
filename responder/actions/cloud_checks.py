"""The checks on pools and clusters: ``node_pool.at_count``, ``cluster.reachable``, ``components.green``. Three answers, each with what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from responder.actions.planning import Check
from responder.model.cluster import Snapshot
from responder.model.health import CheckReading, Health
from responder.model.incident import Instance
from responder.model.target import TargetKind
from responder.rules.catalogue import ArgumentSpec, ArgumentType, CheckSpec


def _unknown(detail: str) -> CheckReading:
    return CheckReading(health=Health.UNKNOWN, detail=detail)


def at_count(
    snapshot: Snapshot | None,
    arguments: Mapping[str, Any],
    *,
    instances: tuple[Instance, ...],
    firing: tuple[Instance, ...],
    now: datetime,
) -> CheckReading:
    """``node_pool.at_count``: the pool has as many Ready nodes as ARM wants it to have, and nothing is at work on it.

    A node of a cluster without ARM belongs to no pool: nothing is to be proven, and this check is healthy there. What ARM or the cluster
    does not say is unknown.
    """
    del arguments, instances, firing, now
    if snapshot is None:
        return _unknown("nothing was read")
    if snapshot.cloud is None:
        if "cloud" in snapshot.gaps:
            return _unknown(f"ARM was not read: {snapshot.gaps['cloud']}")
        return CheckReading(health=Health.HEALTHY, detail="the cluster has no resource_id: no pool is known, none is judged")
    name = _pool(snapshot)
    if not name:
        if snapshot.gone:
            return _unknown(f"{snapshot.target} is gone, and of which pool it was is not known")
        return CheckReading(health=Health.HEALTHY, detail=f"{snapshot.target} is of no agent pool")
    pool = snapshot.cloud.pool(name)
    if pool is None:
        return _unknown(f"ARM lists no pool {name}")
    if "nodes" in snapshot.gaps:
        return _unknown(f"nodes were not read: {snapshot.gaps['nodes']}")
    ready = sum(1 for one in snapshot.nodes if one.pool == name and one.ready == "True")
    said = f"pool {name}: {ready} of {pool.count} nodes Ready, {pool.provisioning_state}"
    healthy = ready >= pool.count and pool.provisioning_state == "Succeeded"
    return CheckReading(health=Health.HEALTHY if healthy else Health.UNHEALTHY, detail=said)


def _pool(snapshot: Snapshot) -> str:
    if snapshot.target.kind is TargetKind.NODE_POOL:
        return snapshot.target.name
    if snapshot.cloud is not None and snapshot.cloud.machine is not None and snapshot.cloud.machine.pool:
        return snapshot.cloud.machine.pool
    return snapshot.node.node.pool if snapshot.node is not None else snapshot.pool


def reachable(
    snapshot: Snapshot | None,
    arguments: Mapping[str, Any],
    *,
    instances: tuple[Instance, ...],
    firing: tuple[Instance, ...],
    now: datetime,
) -> CheckReading:
    """``cluster.reachable``: its API server answers us; unknown in any doubt about our own network."""
    del instances, firing, now
    reach = _elsewhere(snapshot, arguments)
    if isinstance(reach, CheckReading):
        return reach
    answers = reach.reach.answers if reach.reach is not None else None
    said = reach.reach.said if reach.reach is not None else "it was not asked"
    if answers is None:
        return _unknown(said)
    return CheckReading(health=Health.HEALTHY if answers else Health.UNHEALTHY, detail=said)


def green(
    snapshot: Snapshot | None,
    arguments: Mapping[str, Any],
    *,
    instances: tuple[Instance, ...],
    firing: tuple[Instance, ...],
    now: datetime,
) -> CheckReading:
    """``components.green``: the check of every component that ``components:`` places in the cluster.

    Where none is placed, nothing is left to prove: ``cluster.reachable`` beside it is the proof.
    """
    del instances, firing, now
    found = _elsewhere(snapshot, arguments)
    if isinstance(found, CheckReading):
        return found
    components = found.reach.components if found.reach is not None else None
    if components is None:
        return _unknown("components were not asked: the cluster does not answer")
    if not components:
        return CheckReading(health=Health.HEALTHY, detail="no component is configured for this cluster")
    for health in (Health.UNHEALTHY, Health.UNKNOWN):
        bad = [f"{one.name}: {one.detail or one.health}" for one in components if one.health == str(health)]
        if bad:
            return CheckReading(health=health, detail="; ".join(bad[:5]) + (f"; and {len(bad) - 5} more" if bad[5:] else ""))
    return CheckReading(health=Health.HEALTHY, detail=f"{len(components)} components are green")


def _elsewhere(snapshot: Snapshot | None, arguments: Mapping[str, Any]) -> Snapshot | CheckReading:
    """Return the snapshot of the cluster that is meant: the target's, or the one that the argument names."""
    if snapshot is None:
        return _unknown("nothing was read")
    named = str(arguments.get("cluster", "") or "")
    if not named or named == snapshot.target.cluster:
        return snapshot
    return _unknown(f"cluster {named} is not read from an incident of cluster {snapshot.target.cluster}")


_CLUSTER = (ArgumentSpec(name="cluster", type=ArgumentType.STRING, says="Another cluster than the target's."),)

CLOUD_CHECKS = (
    Check(
        spec=CheckSpec(
            name="node_pool.at_count",
            targets=frozenset({TargetKind.NODE, TargetKind.NODE_POOL}),
            says="The AKS pool has as many Ready nodes as it is meant to have.",
        ),
        judge=at_count,
    ),
    Check(
        spec=CheckSpec(
            name="cluster.reachable",
            targets=frozenset({TargetKind.CLUSTER, TargetKind.REGION}),
            arguments=_CLUSTER,
            says="The API server answers.",
        ),
        judge=reachable,
    ),
    Check(
        spec=CheckSpec(
            name="components.green",
            targets=frozenset({TargetKind.CLUSTER, TargetKind.REGION}),
            arguments=_CLUSTER,
            says="The checks of all components in the cluster are healthy.",
        ),
        judge=green,
    ),
)
