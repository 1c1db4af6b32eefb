"""The scheduler in miniature: it filters nodes as the real one does, says why none fits, and spreads.

Source: kubernetes.md A8; kubernetes ``pkg/scheduler/framework/plugins``. Left out: volumes, host ports, preemption, soft preferences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from responder.sandbox.answers import Object
from responder.sandbox.kinds import NODES, PODS
from responder.sandbox.objects import Storage, clone, stamp
from responder.sandbox.pods import controller_of, is_finished, tolerates, untolerated
from responder.sandbox.quantities import asked, number
from responder.sandbox.selectors import node_selects, selects

CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@dataclass(slots=True)
class _Room:
    """A node and what is left of it."""

    node: Object
    left: dict[str, Decimal]
    pods: list[Object]
    owners: Counter[str]


class Scheduler:
    """Binds pods to nodes."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._seen = -1

    def step(self) -> None:
        """Try every pod that has no node; nothing is tried again while pods and nodes are as they were."""
        newest = self._storage.last_change((PODS, NODES))
        if newest == self._seen:
            return
        waiting = [pod for pod in self._storage.all(PODS) if self._waits(pod)]
        if waiting:
            rooms = [self._room(node) for node in self._storage.all(NODES)]
            for pod in sorted(waiting, key=lambda one: -int(one["spec"].get("priority") or 0)):
                self._place(pod, rooms)
        self._seen = self._storage.last_change((PODS, NODES))

    def _waits(self, pod: Object) -> bool:
        if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp") or is_finished(pod):
            return False
        if pod["spec"].get("schedulerName", "default-scheduler") != "default-scheduler":
            return False
        if pod["spec"].get("schedulingGates"):
            self._say(pod, "False", "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
            return False
        return True

    def _room(self, node: Object) -> _Room:
        left = {name: number(value) for name, value in (node["status"].get("allocatable") or {}).items()}
        pods = [pod for pod in self._storage.on_node(node["metadata"]["name"]) if not is_finished(pod)]
        room = _Room(node=node, left=left, pods=[], owners=Counter())
        for pod in pods:
            _take(room, pod)
        return room

    def _place(self, pod: Object, rooms: list[_Room]) -> None:
        wants = asked(pod["spec"])
        reasons: Counter[str] = Counter()
        fitting, helpless = [], 0
        for room in rooms:
            against = why_not(pod, wants, room, rooms)
            reasons.update(against.reasons)
            helpless += against.helpless
            if not against.reasons:
                fitting.append(room)
        if not fitting:
            self._refuse(pod, len(rooms), reasons, helpless)
            return
        chosen = min(fitting, key=lambda room: _score(pod, room))
        name = chosen.node["metadata"]["name"]
        changed = clone(pod)
        changed["spec"]["nodeName"] = name
        put_condition(changed, "PodScheduled", "True", "", "", stamp(self._storage.now()))
        bound = self._storage.update(PODS, pod, changed)
        _take(chosen, bound)
        said = f"Successfully assigned {pod['metadata']['namespace']}/{pod['metadata']['name']} to {name}"
        self._storage.event(bound, "Scheduled", said, by="default-scheduler")

    def _refuse(self, pod: Object, nodes: int, reasons: Mapping[str, int], helpless: int) -> None:
        if not nodes:
            message = "no nodes available to schedule pods"
        else:
            listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
            tight = nodes - helpless
            said = [f"{tight} No preemption victims found for incoming pod"] if tight else []
            said += [f"{helpless} Preemption is not helpful for scheduling"] if helpless else []
            message = (
                f"0/{nodes} nodes are available: {listed}. no new claims to deallocate, "
                f"preemption: 0/{nodes} nodes are available: {', '.join(said)}."
            )
        if self._say(pod, "False", "Unschedulable", message):
            self._storage.event(pod, "FailedScheduling", message, kind="Warning", by="default-scheduler")

    def _say(self, pod: Object, status: str, reason: str, message: str) -> bool:
        """Write the condition PodScheduled; tell whether it is new."""
        known = next((one for one in pod["status"].get("conditions") or () if one["type"] == "PodScheduled"), None)
        if known is not None and (known["status"], known.get("reason"), known.get("message")) == (status, reason, message):
            return False
        changed = clone(pod)
        put_condition(changed, "PodScheduled", status, reason, message, stamp(self._storage.now()))
        self._storage.update(PODS, pod, changed)
        return True


@dataclass(frozen=True, slots=True)
class _Against:
    """Why a pod does not fit on a node; no reasons when it does. ``helpless``: it would not either if other pods went."""

    reasons: tuple[str, ...] = ()
    helpless: bool = False


def why_not(pod: Object, wants: Mapping[str, Decimal], room: _Room, rooms: list[_Room]) -> _Against:
    """Return why a pod does not fit on a node, in the scheduler's words; the first kind of reason ends the list."""
    spec, node = pod["spec"], room.node
    labels = node["metadata"].get("labels") or {}
    tolerations = spec.get("tolerations") or []
    if node["spec"].get("unschedulable") and not any(tolerates(one, CORDONED) for one in tolerations):
        return _Against(("node(s) were unschedulable",), helpless=True)
    if untolerated(tolerations, node["spec"].get("taints") or [], {"NoSchedule", "NoExecute"}) is not None:
        return _Against(("node(s) had untolerated taint(s)",), helpless=True)
    affinity = spec.get("affinity") or {}
    required = (affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    wrong = any(labels.get(name) != value for name, value in (spec.get("nodeSelector") or {}).items())
    if wrong or (required is not None and not node_selects(required.get("nodeSelectorTerms") or [], node)):
        return _Against(("node(s) didn't match Pod's node affinity/selector",), helpless=True)
    short = ["Too many pods"] if room.left.get("pods", Decimal(1)) < 1 else []
    lacking = [name for name, value in sorted(wants.items()) if value and value > room.left.get(name, Decimal(0))]
    if short or lacking:
        whole = node["status"].get("allocatable") or {}
        never = any(wants[name] > number(whole.get(name, "0")) for name in lacking)
        return _Against((*short, *(f"Insufficient {name}" for name in lacking)), helpless=never)
    for one in spec.get("topologySpreadConstraints") or ():
        if one.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule" and _skewed(pod, one, node, rooms):
            return _Against(("node(s) didn't match pod topology spread constraints",))
    for term in (affinity.get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ():
        if _crowded(pod, term, node, rooms):
            return _Against(("node(s) didn't match pod anti-affinity rules",))
    return _Against()


def _domain(node: Object, key: str) -> str | None:
    value = (node["metadata"].get("labels") or {}).get(key)
    return None if value is None else str(value)


def _matching(pod: Object, selector: Object | None, others: list[Object]) -> int:
    return sum(
        1
        for other in others
        if other["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and not other["metadata"].get("deletionTimestamp")
        and selects(selector, other["metadata"].get("labels"))
    )


def _crowded(pod: Object, term: Object, node: Object, rooms: list[_Room]) -> bool:
    mine = _domain(node, term["topologyKey"])
    return mine is not None and any(
        _matching(pod, term.get("labelSelector"), room.pods) for room in rooms if _domain(room.node, term["topologyKey"]) == mine
    )


def _skewed(pod: Object, one: Object, node: Object, rooms: list[_Room]) -> bool:
    key = one["topologyKey"]
    mine = _domain(node, key)
    if mine is None:
        return True
    counts: Counter[str] = Counter()
    for room in rooms:
        where = _domain(room.node, key)
        if where is not None:
            counts[where] += _matching(pod, one.get("labelSelector"), room.pods)
    return counts[mine] + 1 - min(counts.values()) > int(one.get("maxSkew", 1))


def _score(pod: Object, room: _Room) -> tuple[int, int, str]:
    """Return a key: fewest pods of the same controller first, then fewest pods."""
    parent = controller_of(pod)
    same = room.owners[parent["uid"]] if parent is not None else 0
    return same, len(room.pods), room.node["metadata"]["name"]


def _take(room: _Room, pod: Object) -> None:
    room.pods.append(pod)
    parent = controller_of(pod)
    if parent is not None:
        room.owners[parent["uid"]] += 1
    if "pods" in room.left:
        room.left["pods"] -= 1
    for name, value in asked(pod["spec"]).items():
        room.left[name] = room.left.get(name, Decimal(0)) - value


def put_condition(pod: Object, kind: str, status: str, reason: str, message: str, at: str) -> None:
    """Put a condition into a pod that is being changed; its time moves only when its status does."""
    conditions = pod["status"].setdefault("conditions", [])
    before = next((one for one in conditions if one["type"] == kind), None)
    since = before["lastTransitionTime"] if before is not None and before["status"] == status else at
    fresh = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": since}
    fresh |= {name: value for name, value in (("reason", reason), ("message", message)) if value}
    if before is None:
        conditions.append(fresh)
    else:
        before.clear()
        before.update(fresh)
