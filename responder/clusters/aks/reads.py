"""ARM's documents in our words. Pure: models of the SDK or parsed JSON in, snapshots out."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from responder.clusters.aks import windows
from responder.model.cloud import (
    SETTLED,
    CloudSnapshot,
    Life,
    MachineSnapshot,
    MaintenanceSnapshot,
    OperationSnapshot,
    PoolSnapshot,
)
from responder.policy.roles import MACHINE_READS

_ID = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)/providers/microsoft\.containerservice/managedclusters/(?P<name>[^/]+)/?",
    re.IGNORECASE,
)
POWER = {
    "running": Life.RUNNING,
    "starting": Life.UNKNOWN,
    "stopping": Life.UNKNOWN,
    "stopped": Life.STOPPED,
    "deallocated": Life.STOPPED,
}
NO_WORK = ("listcluster", "listcredential", "runcommand", "commandresults")
"""Parts of the names of actions on a cluster that change no state of it. Source: Microsoft.ContainerService, resource provider operations."""

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def parts(resource_id: str) -> tuple[str, str, str]:
    """Return subscription, resource group and name of a managed cluster's ARM id.

    Raises:
        ValueError: It is not one.
    """
    found = _ID.fullmatch(resource_id)
    if found is None:
        raise ValueError(
            f"{resource_id!r} is not the id of an AKS cluster; expected "
            "/subscriptions/…/resourceGroups/…/providers/Microsoft.ContainerService/managedClusters/…"
        )
    return found["subscription"], found["group"], found["name"]


def machine_read(resource_id: str) -> str:
    """Return the permission that a virtual machine's instance view takes: of a scale set, or of its own."""
    return MACHINE_READS[0] if "/virtualmachinescalesets/" in resource_id.lower() else MACHINE_READS[1]


def group_of(resource_id: str) -> str:
    """Return the resource group that a resource is in: ``/subscriptions/…/resourceGroups/…``."""
    return "/".join(resource_id.split("/")[:5])


def cluster(raw: Any, resource_id: str) -> CloudSnapshot:
    """Translate a managed cluster; its pools are read on their own, with their ETags."""
    properties = raw.properties
    return CloudSnapshot(
        read_at=_EARLIEST,
        resource_id=resource_id,
        location=str(raw.location or ""),
        provisioning_state=str(properties.provisioning_state or ""),
        power_state=_power(properties),
        etag=str(raw.e_tag or ""),
    )


def pool(raw: Any) -> PoolSnapshot:
    """Translate an agent pool."""
    properties = raw.properties
    return PoolSnapshot(
        name=str(raw.name),
        etag=str(properties.e_tag or ""),
        mode=_word_of(properties.mode) or "User",
        count=int(properties.count or 0),
        autoscaled=bool(properties.enable_auto_scaling),
        minimum=int(properties.min_count or 0),
        maximum=int(properties.max_count or 0),
        provisioning_state=str(properties.provisioning_state or ""),
        power_state=_power(properties),
        labels=dict(properties.node_labels or {}),
        taints=tuple(str(one) for one in properties.node_taints or ()),
        size=str(properties.vm_size or ""),
        os=_word_of(properties.os_type) or "Linux",
    )


def _power(properties: Any) -> str:
    return _word_of(properties.power_state.code) if properties.power_state is not None else ""


def _word_of(value: Any) -> str:
    """Return an enumeration's word; the SDK's members print as ``Code.RUNNING``, and words it does not know stay strings."""
    return str(getattr(value, "value", value) or "")


def machine(raw: Any, pool_name: str) -> MachineSnapshot:
    """Translate a machine of a pool's list; whether it runs is asked of the virtual machine."""
    resource_id = str(raw.properties.resource_id or "") if raw.properties is not None else ""
    return MachineSnapshot(resource_id=resource_id.lower(), name=str(raw.name), pool=pool_name)


def instance(resource_id: str, view: Any) -> MachineSnapshot:
    """Translate a virtual machine's instance view; None: it does not exist."""
    identity = resource_id.lower()
    if view is None:
        return MachineSnapshot(resource_id=identity, life=Life.DELETED, said="no such virtual machine")
    codes = [str(one.get("code", "")) for one in view.get("statuses") or []]
    power = next((one for one in codes if one.lower().startswith("powerstate/")), "")
    life = POWER.get(power.partition("/")[2].lower(), Life.UNKNOWN)
    return MachineSnapshot(resource_id=identity, life=life, said=power or "no power state")


def joined(machine: MachineSnapshot, listed: MachineSnapshot | None, *, complete: bool) -> MachineSnapshot:
    """Join a virtual machine's own word with its pool's list: it counts as deleted only where neither knows it.

    A 404 alone is no proof of death: it is also what a wrong address or a hidden resource group answers.

    Args:
        machine: As its instance view says.
        listed: The same machine in the list of its pool; None when it is in none of those read.
        complete: The lists that it could be in were all read.
    """
    named = replace(machine, name=listed.name, pool=listed.pool) if listed is not None else machine
    if machine.life is not Life.DELETED or (listed is None and complete):
        return named
    return replace(
        named,
        life=Life.UNKNOWN,
        said="no instance view, yet its pool lists it" if listed is not None else "its pool was not read",
    )


def health(told: Any) -> tuple[str, str]:
    """Translate Resource Health: its word and its sentence."""
    properties = told.get("properties") or {}
    return str(properties.get("availabilityState", "")), str(properties.get("summary", ""))


def maintenance(raw: Any, *, now: datetime) -> MaintenanceSnapshot:
    """Say a maintenance configuration in words, and when its windows are open round now."""
    properties = raw.properties
    window = getattr(properties, "maintenance_window", None)
    said = ""
    if window is not None:
        said = f"from {window.start_time} for {window.duration_hours} h (UTC{window.utc_offset or '+00:00'})"
    weekly = [f"{_word_of(one.day)}: {list(one.hour_slots or [])}" for one in getattr(properties, "time_in_week", None) or []]
    says = said or "; ".join(weekly) or "configured"
    return MaintenanceSnapshot(name=str(raw.name), says=says, windows=windows.spans(properties, around=now))


def at_work(snapshot: CloudSnapshot) -> OperationSnapshot | None:
    """Return the operation that the provisioning states show: the pool's where a pool has one, else the cluster's; None when all is settled."""
    for one in snapshot.pools:
        if one.provisioning_state and not one.settled:
            return OperationSnapshot(name=one.provisioning_state, on=one.name)
    if snapshot.provisioning_state and snapshot.provisioning_state not in SETTLED:
        return OperationSnapshot(name=snapshot.provisioning_state)
    return None


def began(busy: OperationSnapshot, told: Any, resource_id: str, *, ours: str) -> OperationSnapshot | None:
    """Find in the activity log when the operation in progress began and who began it; None when the log does not say.

    Args:
        busy: What is in progress.
        told: The log's answer: events, newest first or not.
        resource_id: Of the cluster; its pools' events count too.
        ours: Our client id.
    """
    mine = resource_id.lower()
    events = [one for one in told.get("value") or [] if _works_on(one, mine, busy.on.lower())]
    events.sort(key=lambda one: str(one.get("eventTimestamp", "")))
    ended = {one.get("correlationId") for one in events if _word(one, "status") in {"Succeeded", "Failed", "Canceled"}}
    open_ones = [
        one for one in events if _word(one, "status") in {"Started", "Accepted"} and one.get("correlationId") not in ended
    ]
    if not open_ones:
        return None
    last = open_ones[-1]
    first = next(one for one in open_ones if one.get("correlationId") == last.get("correlationId"))
    try:
        at = datetime.fromisoformat(str(first["eventTimestamp"]))
    except (KeyError, ValueError):
        return None
    application = str((first.get("claims") or {}).get("appid", ""))
    return replace(
        busy,
        began_at=at,
        exact=True,
        id=str(first.get("correlationId", "")),
        by=str(first.get("caller", "")),
        ours=bool(ours) and application == ours,
    )


def _works_on(event: Mapping[str, Any], cluster_id: str, pool_name: str) -> bool:
    """Tell whether an event can be of an operation at work: on the cluster, or on the pool that is meant (any, when none is).

    Our own asking for credentials and running a command are POSTs, and so in the log under our own name, open for a while: neither is at work on anything,
    and taking one for the operation would make somebody's upgrade ours. What hangs on a cluster (diagnostic settings, locks) is none of it.
    """
    where, _, pool = str(event.get("resourceId", "")).lower().rstrip("/").partition("/agentpools/")
    if where != cluster_id or (pool and pool_name and pool != pool_name):
        return False
    return not any(one in _word(event, "operationName").lower() for one in NO_WORK)


def _word(event: Mapping[str, Any], field: str) -> str:
    return str((event.get(field) or {}).get("value", ""))


def permitted(told: Any, actions: Sequence[str]) -> dict[str, bool]:
    """Tell for each ARM action whether one of our roles grants it. Source: Azure RBAC: actions minus notActions, per role, wildcards."""
    roles = told.get("value") or []
    return {
        one: any(_fits(one, role.get("actions")) and not _fits(one, role.get("notActions")) for role in roles) for one in actions
    }


def _fits(action: str, patterns: Any) -> bool:
    return any(fnmatch.fnmatchcase(action.lower(), str(one).lower()) for one in patterns or [])
