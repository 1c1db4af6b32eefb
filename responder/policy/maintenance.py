"""What Azure says it is doing to a cluster, a pool or a machine itself: planned maintenance, pool rolling, reboots; foreign activity for us. Pure.

Here: which of the events received lately mean that something is under way. Never here: what is done about it (the guards refuse, rules wait), or how
an event is spelt on the wire (``sources.event_grid``). Source: protocols.md 3.2; the labels and annotations read are those that source gives.

The decision a reader would question: an event that says *started* counts until one says that it is over, but never longer than ``LONGEST``. Event Grid
delivers at least once, in no order and sometimes not at all: a lost *Succeeded* must not stop remediation for ever, and a lost *Started* is noticed by
the other guards (cordons, operations in progress).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from responder.model.incident import Instance

ROLLING = "Microsoft.ContainerService.NodePoolRolling"
ROLLING_STARTED, ROLLING_SUCCEEDED, ROLLING_FAILED = (f"{ROLLING}{how}" for how in ("Started", "Succeeded", "Failed"))
SCHEDULED_EVENT = "Microsoft.ResourceNotifications.ContainerServiceEventResources.ScheduledEventEmitted"
AVAILABILITY = "Microsoft.ResourceNotifications.HealthResources.AvailabilityStatusChanged"
ANNOTATED = "Microsoft.ResourceNotifications.HealthResources.ResourceAnnotated"
EVENT_TYPES = (ROLLING_STARTED, ROLLING_SUCCEEDED, ROLLING_FAILED, SCHEDULED_EVENT, AVAILABILITY, ANNOTATED)

LONGEST: Mapping[str, timedelta] = {
    "rolling": timedelta(hours=12),
    "planned": timedelta(hours=8),
    "machine": timedelta(minutes=30),
}
"""How long each is believed without a word that it is over. A pool of 100 nodes rolls in hours; a maintenance window of AKS is 4 to 8 hours; a reboot
takes minutes. Source: ours, from AKS' documentation of planned maintenance windows."""

SEEN_WITHIN = max(LONGEST.values())
"""Instances older than this need not be read for it."""

LATE_START = timedelta(hours=1)
"""A maintenance whose time has come and of which nothing more is heard is taken to have begun, for this long."""

_POOL_OF = re.compile(r"/virtualmachinescalesets/aks-([a-z0-9]+)-\d+-vmss(?:/|$)", re.IGNORECASE)
_OVER = frozenset({"completed", "canceled", "cancelled", "failed"})


class Part(StrEnum):
    """What is being worked on."""

    CLUSTER = "cluster"
    POOL = "node_pool"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """One thing that Azure is doing.

    Attributes:
        part: What is worked on.
        cluster_id: Lower-cased ARM id of the cluster; "" for a machine whose cluster the event does not name.
        pool: Its name; "" for the whole cluster, and for a machine of no known pool.
        machine_id: Lower-cased ARM id of the machine; "" for a cluster or pool.
        since: When it began, UTC.
        until: When it is no longer believed, UTC.
        what: A sentence for people.
    """

    part: Part
    cluster_id: str = ""
    pool: str = ""
    machine_id: str = ""
    since: datetime
    until: datetime
    what: str


def under_way(instances: Iterable[Instance], *, now: datetime) -> Sequence[Maintenance]:
    """Return what Azure is doing now, oldest first.

    Args:
        instances: Whatever was received; only those of source ``event-grid`` and of the types above count, firing or not (an event never resolves).
            Those seen within ``SEEN_WITHIN`` suffice.
        now: UTC.
    """
    events = [one for one in instances if one.source == "event-grid" and one.name in EVENT_TYPES]
    events.sort(key=lambda one: (_at(one), one.name != ROLLING_STARTED, one.instance))
    found: dict[tuple[str, ...], Maintenance | None] = {}
    key: tuple[str, ...]
    for one in events:
        if one.name.startswith(ROLLING):
            key = ("rolling", _cluster(one), one.labels.get("nodepool", ""))
            found[key] = _rolling(one) if one.name == ROLLING_STARTED else None
        elif one.name == SCHEDULED_EVENT:
            key = ("planned", _cluster(one), one.annotations.get("eventId", "") or one.labels.get("subject", ""))
            found[key] = _planned(one)
        else:
            key = ("machine", _machine(one))
            found[key] = _annotated(one) if one.name == ANNOTATED else None
    going_on = [one for one in found.values() if one is not None and one.since <= now < one.until]
    return sorted(going_on, key=lambda one: (one.since, one.what))


def touching(
    found: Iterable[Maintenance], *, cluster_id: str, pool: str = "", provider_id: str = "", other_pools: bool = False
) -> Sequence[Maintenance]:
    """Return those that concern a cluster, one of its pools, or one of its nodes.

    Args:
        found: From ``under_way``.
        cluster_id: The cluster's ARM id, in any case; "" when the installation does not name it: then only machines are told.
        pool: The pool's name, or that of the node's pool; "" for the cluster itself.
        provider_id: The node's ``spec.providerID`` (``azure:///subscriptions/…``), in any case; "" when no node is meant.
        other_pools: True for a question about the whole cluster: any pool of it that rolls counts too.
    """
    cluster, machine = cluster_id.lower(), arm_id(provider_id)
    concerned = []
    for one in found:
        here = bool(cluster) and one.cluster_id == cluster
        if one.part is Part.MACHINE:
            if machine and one.machine_id == machine:
                concerned.append(one)
        elif here and (not one.pool or one.pool == pool.lower() or other_pools):
            concerned.append(one)
    return concerned


def arm_id(provider_id: str) -> str:
    """Return the lower-cased ARM id in a node's ``spec.providerID``; "" for another provider's."""
    _, _, path = provider_id.lower().partition("azure://")
    return path.rstrip("/")


def pool_of(machine_id: str) -> str:
    """Return the pool that a machine's ARM id names (AKS names scale sets ``aks-POOL-NUMBER-vmss``); "" when it names none."""
    found = _POOL_OF.search(machine_id)
    return found[1].lower() if found else ""


def _at(one: Instance) -> datetime:
    return one.started_at or one.first_seen_at


def _cluster(one: Instance) -> str:
    return one.annotations.get("cluster_id", "")


def _machine(one: Instance) -> str:
    return one.annotations.get("targetResourceId", "").lower().rstrip("/")


def _rolling(one: Instance) -> Maintenance:
    pool = one.labels.get("nodepool", "")
    since = _at(one)
    return Maintenance(
        part=Part.POOL,
        cluster_id=_cluster(one),
        pool=pool.lower(),
        since=since,
        until=since + LONGEST["rolling"],
        what=f"AKS is rolling pool {pool or '(unnamed)'} since {since:%Y-%m-%d %H:%M} UTC",
    )


def _planned(one: Instance) -> Maintenance | None:
    status = one.labels.get("event_status", "").lower()
    if status in _OVER:
        return None
    details = one.annotations.get("eventDetails", "") or "planned maintenance"
    planned_at = _instant(one.annotations.get("scheduledTime", ""))
    if status == "started":
        since = _at(one)
        until, how = since + LONGEST["planned"], f"has begun at {since:%Y-%m-%d %H:%M} UTC"
    elif planned_at is not None:
        since = planned_at
        until, how = since + LATE_START, f"was planned for {since:%Y-%m-%d %H:%M} UTC"
    else:
        return None
    return Maintenance(
        part=Part.CLUSTER, cluster_id=_cluster(one), since=since, until=until, what=f"AKS maintenance {how}: {details}"
    )


def _annotated(one: Instance) -> Maintenance | None:
    machine = _machine(one)
    if not machine:
        return None
    since = _at(one)
    said = one.annotations.get("reason", "") or one.labels.get("annotation", "") or "something is done to it"
    return Maintenance(
        part=Part.MACHINE,
        cluster_id=_cluster(one),
        pool=pool_of(machine),
        machine_id=machine,
        since=since,
        until=since + LONGEST["machine"],
        what=f"Azure says of machine {machine.rsplit('/', 1)[-1]} since {since:%Y-%m-%d %H:%M} UTC: {said}",
    )


def _instant(said: str) -> datetime | None:
    """Return RFC 3339 with any number of fractional digits as UTC; None for none and for year 1, which means "not set"."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?", said)
    if found is None or said.startswith("0001-"):
        return None
    at = datetime.fromisoformat(found[1] + (found[2] or "Z"))
    return at.astimezone(UTC)
