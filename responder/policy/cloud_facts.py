"""Facts from the cloud and from our own probe: machine, pool, the cluster's states. Source of names and types: FACTS.md.

The decision a reader would question: what ARM says never fills in for what the cluster says, nor the other way round. ``facts.api`` is
our own probe alone, ``facts.power_state`` and ``facts.provisioning_state`` are ARM's alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from responder.model.cloud import CloudSnapshot, PoolSnapshot
from responder.model.cluster import Snapshot, WorkloadSnapshot
from responder.model.target import TargetKind


def add_cloud_facts(snapshot: Snapshot, facts: dict[str, Any], none: set[str], *, now: datetime) -> None:
    """Add what the cloud and our probe say to the facts of a target; what was not read stays out."""
    kind = snapshot.target.kind
    if snapshot.reach is not None:
        _reach(snapshot, facts, none)
    cloud = snapshot.cloud
    if cloud is None:
        if (
            snapshot.workload is not None and "cause" in facts and "cloud" not in snapshot.gaps
        ):  # it has none: no pool is there to fit
            none.add("fits_pool")
        return
    if kind is TargetKind.CLUSTER:
        _cluster(cloud, facts, none, now=now)
    if kind in {TargetKind.NODE, TargetKind.NODE_POOL}:
        named = cloud.machine.pool if cloud.machine is not None and cloud.machine.pool else ""
        name = snapshot.target.name if kind is TargetKind.NODE_POOL else named or str(facts.get("pool", ""))
        pool = cloud.pool(name)
        if pool is not None:
            facts |= {"pool": pool.name, "pool_autoscaled": pool.autoscaled, "pool_count": pool.count}
    if snapshot.workload is not None and facts.get("cause") == "unschedulable":
        fitting = fitting_pools(snapshot.workload, cloud.pools, snapshot.machine_room)
        if len(fitting.pools) + len(fitting.unknown) != 1:
            none.add("fits_pool")
        elif fitting.pools:
            facts["fits_pool"] = fitting.pools[0]
    elif snapshot.workload is not None and "cause" in facts:
        none.add("fits_pool")


def _reach(snapshot: Snapshot, facts: dict[str, Any], none: set[str]) -> None:
    reach = snapshot.reach
    if reach is None:
        return
    if reach.answers is not None:
        facts["api"] = reach.answers
    if reach.hosts_responder is not None:
        facts["hosts_responder"] = reach.hosts_responder
    if reach.since is not None:
        facts["since"] = reach.since
    elif reach.answers:
        none.add("since")
    if snapshot.nodes and "nodes" not in snapshot.gaps:
        facts["nodes"] = len(snapshot.nodes)
        facts["nodes_unhealthy"] = sum(1 for one in snapshot.nodes if one.ready != "True")


def _cluster(cloud: CloudSnapshot, facts: dict[str, Any], none: set[str], *, now: datetime) -> None:
    facts["provisioning_state"] = cloud.provisioning_state
    facts["power_state"] = cloud.power_state
    busy = cloud.operation
    facts["operation"] = busy.name if busy is not None else ""
    if busy is not None and busy.began_at is not None:
        facts["operation_age"] = now - busy.began_at
    elif busy is None:
        none.add("operation_age")
    if "health" not in cloud.gaps and cloud.health:
        facts["health"] = cloud.health


# --- which pool takes pending pods


@dataclass(frozen=True, slots=True)
class Fitting:
    """Pools that would take pending pods. ``unknown``: their labels and taints do, and nothing shows how large their machines are."""

    pools: tuple[str, ...]
    unknown: tuple[str, ...] = ()


def fitting_pools(
    workload: WorkloadSnapshot, pools: tuple[PoolSnapshot, ...], room: Mapping[str, Mapping[str, float]]
) -> Fitting:
    """Return the pools of which one more machine would take one of a workload's pending pods.

    Judged by node selector, required node affinity and tolerations of the pod template, and by what the pods request. A term that this does not understand
    fits no pool: an unneeded node helps nobody. System pools are for AKS' own pods, and count only when no User pool fits or may fit.

    Args:
        workload: With its pods.
        pools: Of the cluster.
        room: See ``Snapshot.machine_room``. A pool that is not in it is empty: its machine's size has a name and no numbers, so it is unknown.
    """
    spec = workload.template.get("spec") or {}
    wanted = [{**one.requests, "pods": 1.0} for one in workload.pods if one.scheduled is False] or [{"pods": 1.0}]
    for mode in ("User", "System"):
        good = [one.name for one in pools if one.mode == mode and _may_grow(one) and _takes(spec, one)]
        large = tuple(name for name in good if name in room and any(_has_room(room[name], one) for one in wanted))
        unknown = tuple(name for name in good if name not in room)
        if large or unknown:
            return Fitting(large, unknown)
    return Fitting(())


def unsized_pools(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the pools that ``facts.fits_pool`` is not known for."""
    if snapshot.workload is None or snapshot.cloud is None or not any(one.scheduled is False for one in snapshot.workload.pods):
        return ()
    return fitting_pools(snapshot.workload, snapshot.cloud.pools, snapshot.machine_room).unknown


def _has_room(room: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return all(room.get(name, 0.0) >= value for name, value in wanted.items() if value > 0)


def _may_grow(pool: PoolSnapshot) -> bool:
    settled = pool.provisioning_state == "Succeeded" and pool.power_state == "Running" and pool.mode in {"User", "System"}
    return settled and (not pool.autoscaled or pool.count < pool.maximum)


def _takes(spec: Mapping[str, Any], pool: PoolSnapshot) -> bool:
    labels = labels_of(pool)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    terms = affinity.get("nodeSelectorTerms") or []
    if terms and not any(_term(one, labels) for one in terms):
        return False
    tolerations = spec.get("tolerations") or []
    return all(_tolerated(taint, tolerations) for taint in pool.taints)


def labels_of(pool: PoolSnapshot) -> dict[str, str]:
    """Return the labels that its nodes will have, as far as they are known beforehand. Source: AKS, reserved system labels."""
    return {
        **pool.labels,
        "agentpool": pool.name,
        "kubernetes.azure.com/agentpool": pool.name,
        "kubernetes.azure.com/mode": pool.mode.lower(),
        "kubernetes.io/os": pool.os.lower(),
        "node.kubernetes.io/instance-type": pool.size,
    }


def _term(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if term.get("matchFields"):
        return False
    return all(_requirement(one, labels) for one in term.get("matchExpressions") or [])


def _requirement(one: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = str(one.get("key", "")), [str(value) for value in one.get("values") or []]
    match one.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False


_TAINT = re.compile(r"(?P<key>[^=:]+)(=(?P<value>[^:]*))?:(?P<effect>\w+)")


def _tolerated(taint: str, tolerations: list[Mapping[str, Any]]) -> bool:
    found = _TAINT.fullmatch(taint)
    if found is None:
        return False
    if found["effect"] == "PreferNoSchedule":
        return True
    return any(_tolerates(one, found["key"], found["value"] or "", found["effect"]) for one in tolerations)


def _tolerates(one: Mapping[str, Any], key: str, value: str, effect: str) -> bool:
    """Tell whether a toleration fits. Source: Kubernetes core/v1 Toleration."""
    if one.get("effect") not in {None, "", effect}:
        return False
    if one.get("operator") == "Exists":
        return one.get("key") in {None, "", key}
    return one.get("key") == key and str(one.get("value", "")) == value
