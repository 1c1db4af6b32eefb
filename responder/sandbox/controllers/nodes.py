"""The life of nodes: silence becomes Unknown and taints, taints evict after tolerations, zones and master disruption hold back.

Source: kubernetes.md A5; kubernetes ``pkg/controller/nodelifecycle`` and ``pkg/controller/tainteviction``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from responder.sandbox.answers import Object
from responder.sandbox.deleting import delete, disrupted
from responder.sandbox.kinds import LEASES, NODES, PODS
from responder.sandbox.objects import Storage, clone, stamp
from responder.sandbox.pods import tolerates

PREFIX = "node.kubernetes.io/"
NOT_READY, UNREACHABLE = f"{PREFIX}not-ready", f"{PREFIX}unreachable"
OUT_OF_SERVICE, UNSCHEDULABLE = f"{PREFIX}out-of-service", f"{PREFIX}unschedulable"
LEASE_SPACE = "kube-node-lease"
CONDITIONS = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
BY_CONDITION = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): f"{PREFIX}memory-pressure",
    ("DiskPressure", "True"): f"{PREFIX}disk-pressure",
    ("PIDPressure", "True"): f"{PREFIX}pid-pressure",
    ("NetworkUnavailable", "True"): f"{PREFIX}network-unavailable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTimes:
    """The times of a node's life, in the cluster's seconds; the defaults are Kubernetes' own.

    Attributes:
        grace: Silence after which a node is Unknown.
        startup_grace: The same, of a node that never reported.
        tolerates_for: How long pods tolerate not-ready and unreachable, if they do not say.
        evicts_every: Between two nodes of a zone that begin to evict.
        lease_every: Between two renewals of a node's Lease.
        pod_gc_every, quarantine: Of the collector of pods whose node is gone.
        events_for: How long Events are kept.
    """

    grace: float = 50.0
    startup_grace: float = 60.0
    tolerates_for: float = 300.0
    evicts_every: float = 10.0
    lease_every: float = 10.0
    pod_gc_every: float = 20.0
    quarantine: float = 40.0
    events_for: float = 3600.0


class Zone(Enum):
    """How much of a zone is down. Source: ``ComputeZoneState``."""

    NORMAL = "normal"
    PARTIAL = "partial"
    FULL = "full"


@dataclass(slots=True)
class _Seen:
    """What the controller saw of one node: not the node's own clock, ours."""

    uid: str
    heartbeat: str = ""
    renewed: str = ""
    probe_at: datetime | None = None


@dataclass(slots=True)
class _Limiter:
    """Lets one node of a zone through, and the next one later. ``state``: the zone's."""

    state: Zone = Zone.NORMAL
    next_at: datetime | None = None
    every: float | None = None
    queue: dict[str, None] = field(default_factory=dict)


def condition(node: Object, kind: str) -> Object | None:
    """Return a node's condition, or None."""
    return next((one for one in node["status"].get("conditions") or () if one["type"] == kind), None)


def ready_word(node: Object) -> str:
    """Return True, False or Unknown; a node without the condition is Unknown."""
    found = condition(node, "Ready")
    return str(found["status"]) if found is not None else "Unknown"


class NodeLifecycle:
    """Watches over nodes: conditions, the pods' readiness, taints."""

    def __init__(self, storage: Storage, times: NodeTimes) -> None:
        self._storage = storage
        self._times = times
        self._seen: dict[str, _Seen] = {}
        self._zones: dict[str, _Limiter] = {}
        self._master_disruption = False

    def step(self) -> None:
        """Look once at every node."""
        now = self._storage.now()
        names = {node["metadata"]["name"] for node in self._storage.all(NODES)}
        for gone in self._seen.keys() - names:
            del self._seen[gone]
        for node in self._storage.all(NODES):
            self._monitor(node, now)
        self._zone_states(now)
        for node in self._storage.all(NODES):
            self._taints(node, now)
        self._evictions(now)

    def _monitor(self, node: Object, now: datetime) -> None:
        name, uid = node["metadata"]["name"], node["metadata"]["uid"]
        ready = condition(node, "Ready")
        lease = self._storage.find(LEASES, LEASE_SPACE, name)
        heartbeat = str((ready or {}).get("lastHeartbeatTime") or "")
        renewed = str(((lease or {}).get("spec") or {}).get("renewTime") or "")
        seen = self._seen.get(name)
        if seen is None or seen.uid != uid:
            seen = self._seen[name] = _Seen(uid=uid)
        if seen.probe_at is None:
            seen.probe_at = now if ready is not None or renewed else datetime.fromisoformat(node["metadata"]["creationTimestamp"])
        if heartbeat != seen.heartbeat or renewed > seen.renewed:
            seen.probe_at = now
        seen.heartbeat, seen.renewed = heartbeat, max(renewed, seen.renewed)
        grace = self._times.grace if ready is not None else self._times.startup_grace
        if now - seen.probe_at <= timedelta(seconds=grace):
            return
        conditions = [dict(one) for one in node["status"].get("conditions") or ()]
        for kind in CONDITIONS:
            _unknown(conditions, kind, node, now)
        was = ready["status"] if ready is not None else ""
        self._storage.set_status(NODES, node, {**node["status"], "conditions": conditions})
        if was == "True":
            self._storage.event(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady", by="node-controller")
            self._pods_not_ready(name, now)

    def _pods_not_ready(self, name: str, now: datetime) -> None:
        """Say that pods of a silent node are not ready; what their containers said stays."""
        for pod in self._storage.on_node(name):
            ready = next((one for one in pod["status"].get("conditions") or () if one["type"] == "Ready"), None)
            if ready is None or ready["status"] == "False":
                continue
            changed = clone(pod)
            for one in changed["status"]["conditions"]:
                if one["type"] == "Ready":
                    one |= {"status": "False", "lastTransitionTime": stamp(now)}
            self._storage.update(PODS, pod, changed)
            self._storage.event(pod, "NodeNotReady", "Node is not ready", kind="Warning", by="node-controller")

    def _zone_states(self, now: datetime) -> None:
        zones: dict[str, list[str]] = {}
        for node in self._storage.all(NODES):
            zones.setdefault(zone_of(node), []).append(ready_word(node))
        for gone in self._zones.keys() - zones.keys():
            del self._zones[gone]
        for name, words in zones.items():
            zone = self._zones.setdefault(name, _Limiter())
            zone.state = zone_state(words)
        full = bool(zones) and all(zone.state is Zone.FULL for zone in self._zones.values())
        if full and not self._master_disruption:
            for node in self._storage.all(NODES):
                self._retaint(node, {NOT_READY, UNREACHABLE}, None, "NoExecute", now)
        if self._master_disruption and not full:
            for seen in self._seen.values():
                seen.probe_at = now
        self._master_disruption = full
        for name, words in zones.items():
            zone = self._zones[name]
            zone.every = self._times.evicts_every
            if full:
                zone.every = None
                zone.queue.clear()
            elif zone.state is Zone.PARTIAL:
                zone.every = self._times.evicts_every * 10 if len(words) > 50 else None

    def _taints(self, node: Object, now: datetime) -> None:
        wanted = {
            BY_CONDITION[one["type"], one["status"]]
            for one in node["status"].get("conditions") or ()
            if (one["type"], one["status"]) in BY_CONDITION
        }
        if node["spec"].get("unschedulable"):
            wanted.add(UNSCHEDULABLE)
        managed = {*BY_CONDITION.values(), UNSCHEDULABLE}
        taints = list(node["spec"].get("taints") or ())
        made = [one for one in taints if not (one["effect"] == "NoSchedule" and one["key"] in managed - wanted)]
        has = {one["key"] for one in made if one["effect"] == "NoSchedule"}
        made += [{"key": key, "effect": "NoSchedule", "timeAdded": stamp(now)} for key in sorted(wanted - has)]
        if made != taints:
            node = self._with_taints(node, made)
        self._no_execute(node, now)

    def _no_execute(self, node: Object, now: datetime) -> None:
        name, zone = node["metadata"]["name"], self._zones[zone_of(node)]
        word = ready_word(node)
        has = {one["key"] for one in node["spec"].get("taints") or () if one["effect"] == "NoExecute"}
        if word == "True":
            zone.queue.pop(name, None)
            if has & {NOT_READY, UNREACHABLE}:
                self._retaint(node, {NOT_READY, UNREACHABLE}, None, "NoExecute", now)
            return
        if condition(node, "Ready") is None:
            return
        wanted = NOT_READY if word == "False" else UNREACHABLE
        other = UNREACHABLE if word == "False" else NOT_READY
        if other in has:
            self._retaint(node, {other}, wanted, "NoExecute", now)
        elif wanted not in has and not self._master_disruption:
            zone.queue[name] = None

    def _evictions(self, now: datetime) -> None:
        """Let nodes that wait begin to evict, as slowly as their zone wants."""
        for zone in self._zones.values():
            while zone.queue and zone.every is not None and (zone.next_at is None or now >= zone.next_at):
                name = next(iter(zone.queue))
                del zone.queue[name]
                node = self._storage.find(NODES, "", name)
                if node is None or ready_word(node) == "True":
                    continue
                key = NOT_READY if ready_word(node) == "False" else UNREACHABLE
                self._retaint(node, {NOT_READY, UNREACHABLE}, key, "NoExecute", now)
                zone.next_at = now + timedelta(seconds=zone.every)

    def _retaint(self, node: Object, away: set[str], added: str | None, effect: str, now: datetime) -> None:
        taints = list(node["spec"].get("taints") or ())
        made = [one for one in taints if not (one["effect"] == effect and one["key"] in away)]
        if added is not None:
            made.append({"key": added, "effect": effect, "timeAdded": stamp(now)})
        if made != taints:
            self._with_taints(node, made)

    def _with_taints(self, node: Object, taints: list[Object]) -> Object:
        changed = clone(node)
        changed["spec"].pop("taints", None)
        if taints:
            changed["spec"]["taints"] = taints
        return self._storage.update(NODES, node, changed)


def zone_of(node: Object) -> str:
    """Return a node's region and zone."""
    labels = node["metadata"].get("labels") or {}
    return f"{labels.get('topology.kubernetes.io/region', '')}/{labels.get('topology.kubernetes.io/zone', '')}"


def zone_state(words: list[str]) -> Zone:
    """Return the state of a zone whose nodes' Ready conditions are so."""
    good = sum(1 for word in words if word == "True")
    bad = len(words) - good
    if good == 0 and bad > 0:
        return Zone.FULL
    if bad > 2 and bad / len(words) >= 0.55:
        return Zone.PARTIAL
    return Zone.NORMAL


def _unknown(conditions: list[dict[str, Any]], kind: str, node: Object, now: datetime) -> None:
    found = next((one for one in conditions if one["type"] == kind), None)
    if found is None:
        conditions.append(
            {
                "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated", "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": node["metadata"]["creationTimestamp"], "lastTransitionTime": stamp(now),
            }
        )  # fmt: skip
    elif found["status"] != "Unknown":
        found |= {
            "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.",
            "lastTransitionTime": stamp(now),
        }  # fmt: skip


@dataclass(slots=True)
class _Waiting:
    since: datetime
    until: datetime


class TaintEvictions:
    """Deletes pods that do not tolerate a NoExecute taint of their node, or no longer. No budget is asked."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._waiting: dict[str, _Waiting] = {}

    def step(self) -> None:
        """Look once at every tainted node."""
        now = self._storage.now()
        concerned = set()
        for node in self._storage.all(NODES):
            taints = [one for one in node["spec"].get("taints") or () if one["effect"] == "NoExecute"]
            if not taints:
                continue
            for pod in self._storage.on_node(node["metadata"]["name"]):
                if not pod["metadata"].get("deletionTimestamp"):
                    concerned.add(pod["metadata"]["uid"])
                    self._look(pod, taints, now)
        for uid in self._waiting.keys() - concerned:
            del self._waiting[uid]

    def _look(self, pod: Object, taints: list[Object], now: datetime) -> None:
        uid = pod["metadata"]["uid"]
        used = [[one for one in pod["spec"].get("tolerations") or () if tolerates(one, taint)] for taint in taints]
        if not all(used):
            self._evict(pod)
            return
        seconds = [one["tolerationSeconds"] for some in used for one in some if one.get("tolerationSeconds") is not None]
        if not seconds:
            self._waiting.pop(uid, None)
            return
        since = self._waiting[uid].since if uid in self._waiting else now
        until = since + timedelta(seconds=max(0, min(seconds)))
        self._waiting[uid] = _Waiting(since=since, until=until)
        if now >= until:
            self._evict(pod)

    def _evict(self, pod: Object) -> None:
        meta = pod["metadata"]
        self._waiting.pop(meta["uid"], None)
        said = f"Marking for deletion Pod {meta['namespace']}/{meta['name']}"
        self._storage.event(pod, "TaintManagerEviction", said, by="taint-eviction-controller")
        pod = disrupted(self._storage, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
        delete(self._storage, PODS, pod)
