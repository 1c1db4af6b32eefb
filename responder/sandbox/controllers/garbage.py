"""What goes away by itself: dependents of what is gone, pods whose node is gone, contents of namespaces, old Events.

Source: kubernetes.md A5; kubernetes ``pkg/controller/garbagecollector``, ``podgc``, ``namespace``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.sandbox.answers import Object
from responder.sandbox.controllers.nodes import OUT_OF_SERVICE, NodeTimes, ready_word
from responder.sandbox.deleting import FOREGROUND, ORPHAN, delete, disrupted
from responder.sandbox.kinds import EVENTS, KINDS, NAMESPACES, NODES, PODS
from responder.sandbox.objects import Storage, clone


class Garbage:
    """Collects what nobody owns any more, lets foreground and orphaning deletions end, forgets old Events."""

    def __init__(self, storage: Storage, times: NodeTimes) -> None:
        self._storage = storage
        self._events_for = timedelta(seconds=times.events_for)
        self._events_at: datetime | None = None

    def step(self) -> None:
        """Look once."""
        for uid in self._storage.orphaned():
            for kind, item in self._storage.dependents(uid):
                self._bereaved(kind, item)
        for kind in KINDS:
            if kind not in {PODS, EVENTS}:
                for item in self._storage.all(kind):
                    if item["metadata"].get("deletionTimestamp"):
                        self._finalize(kind, item)
        self._forget_events()

    def _bereaved(self, kind: str, item: Object) -> None:
        """Delete what has no owner left; of what has another one only the reference goes."""
        refs = item["metadata"].get("ownerReferences") or []
        alive = [one for one in refs if self._storage.by_uid(one.get("uid", "")) is not None]
        if not alive:
            if not item["metadata"].get("deletionTimestamp"):
                delete(self._storage, kind, item, propagation="Background")
            return
        if any(not _waits_for_children(self._storage, one) for one in alive):
            changed = clone(item)
            changed["metadata"]["ownerReferences"] = alive
            self._storage.update(kind, item, changed)

    def _finalize(self, kind: str, item: Object) -> None:
        finalizers = item["metadata"].get("finalizers") or []
        children = self._storage.dependents(item["metadata"]["uid"])
        if ORPHAN in finalizers:
            for of, child in children:
                changed = clone(child)
                kept = [one for one in child["metadata"]["ownerReferences"] if one.get("uid") != item["metadata"]["uid"]]
                changed["metadata"].pop("ownerReferences")
                if kept:
                    changed["metadata"]["ownerReferences"] = kept
                self._storage.update(of, child, changed)
            self._without(kind, item, ORPHAN)
        elif FOREGROUND in finalizers:
            for of, child in children:
                if not child["metadata"].get("deletionTimestamp"):
                    delete(self._storage, of, child, propagation="" if of == PODS else "Foreground")
            blocking = [
                child
                for _, child in self._storage.dependents(item["metadata"]["uid"])
                if any(
                    one.get("uid") == item["metadata"]["uid"] and one.get("blockOwnerDeletion")
                    for one in child["metadata"]["ownerReferences"]
                )
            ]
            if not blocking:
                self._without(kind, item, FOREGROUND)

    def _without(self, kind: str, item: Object, finalizer: str) -> None:
        changed = clone(item)
        changed["metadata"]["finalizers"] = [one for one in item["metadata"]["finalizers"] if one != finalizer]
        if not changed["metadata"]["finalizers"]:
            del changed["metadata"]["finalizers"]
        self._storage.update(kind, item, changed)

    def _forget_events(self) -> None:
        now = self._storage.now()
        if self._events_at is not None and now < self._events_at:
            return
        self._events_at = now + timedelta(minutes=1)
        for item in self._storage.all(EVENTS):
            at = item.get("lastTimestamp") or item["metadata"]["creationTimestamp"]
            if now - datetime.fromisoformat(at) > self._events_for:
                self._storage.remove(EVENTS, item)


def _waits_for_children(storage: Storage, ref: Object) -> bool:
    """Tell whether an owner is being deleted in the foreground."""
    known = storage.by_uid(ref.get("uid", ""))
    return known is not None and FOREGROUND in (known[1]["metadata"].get("finalizers") or ())


class PodGarbage:
    """Ends pods that no kubelet will ever end: their node is gone, or out of service and not ready, or they never had one."""

    def __init__(self, storage: Storage, times: NodeTimes) -> None:
        self._storage = storage
        self._every = timedelta(seconds=times.pod_gc_every)
        self._quarantine = timedelta(seconds=times.quarantine)
        self._next_at: datetime | None = None
        self._gone_since: dict[str, datetime] = {}

    def step(self) -> None:
        """Look, if it is time."""
        now = self._storage.now()
        if self._next_at is not None and now < self._next_at:
            return
        self._next_at = now + self._every
        nodes = {node["metadata"]["name"]: node for node in self._storage.all(NODES)}
        missing = set()
        for pod in self._storage.all(PODS):
            name = pod["spec"].get("nodeName")
            leaving = bool(pod["metadata"].get("deletionTimestamp"))
            if not name:
                if leaving:
                    self._end(pod, "")
                continue
            node = nodes.get(name)
            if node is None:
                missing.add(name)
                if now - self._gone_since.setdefault(name, now) >= self._quarantine:
                    self._end(pod, "PodGC: node no longer exists")
            elif leaving and ready_word(node) != "True" and _out_of_service(node):
                self._end(pod, "")
        for name in self._gone_since.keys() - missing:
            del self._gone_since[name]

    def _end(self, pod: Object, said: str) -> None:
        if said:
            pod = disrupted(self._storage, pod, "DeletionByPodGC", said)
        if pod["status"].get("phase") not in {"Succeeded", "Failed"}:
            pod = self._storage.set_status(PODS, pod, {**pod["status"], "phase": "Failed"})
        delete(self._storage, PODS, pod, grace=0)


def _out_of_service(node: Object) -> bool:
    return any(one["key"] == OUT_OF_SERVICE for one in node["spec"].get("taints") or ())


def namespaces(storage: Storage) -> None:
    """Empty each namespace that is going away; it goes when nothing is left in it."""
    for item in storage.all(NAMESPACES):
        if not item["metadata"].get("deletionTimestamp"):
            continue
        name, left = item["metadata"]["name"], 0
        for kind, of in KINDS.items():
            if not of.namespaced:
                continue
            for one in storage.all(kind, name):
                if not one["metadata"].get("deletionTimestamp"):
                    delete(storage, kind, one, propagation="Background")
            left += len(storage.all(kind, name))
        if not left:
            storage.remove(NAMESPACES, item)
