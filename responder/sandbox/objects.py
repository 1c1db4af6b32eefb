"""Storage of objects with what the API server promises about them: UIDs, resource versions, generations, preconditions."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource: where it lives in the API."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def key(self) -> str:
        """Return ``apps/v1/deployments``."""
        return f"{self.group_version}/{self.plural}"


KINDS = {
    kind.key: kind
    for kind in (
        Kind("v1", "namespaces", "Namespace", namespaced=False),
        Kind("v1", "nodes", "Node", namespaced=False),
        Kind("v1", "pods", "Pod"),
        Kind("v1", "services", "Service"),
        Kind("v1", "events", "Event"),
        Kind("v1", "configmaps", "ConfigMap"),
        Kind("v1", "secrets", "Secret"),
        Kind("v1", "resourcequotas", "ResourceQuota"),
        Kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
        Kind("apps/v1", "deployments", "Deployment"),
        Kind("apps/v1", "replicasets", "ReplicaSet"),
        Kind("apps/v1", "statefulsets", "StatefulSet"),
        Kind("apps/v1", "daemonsets", "DaemonSet"),
        Kind("apps/v1", "controllerrevisions", "ControllerRevision"),
        Kind("batch/v1", "jobs", "Job"),
        Kind("batch/v1", "cronjobs", "CronJob"),
        Kind("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
        Kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        Kind("discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
        Kind("coordination.k8s.io/v1", "leases", "Lease"),
    )
}


class ApiFailure(Exception):  # noqa: N818 - an answer, not an error of ours
    """An answer of the API server other than success."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        causes: tuple[tuple[str, str], ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.causes, self.headers = code, reason, message, causes, dict(headers or {})

    def status(self) -> Object:
        """Return the Status object."""
        details: Object = (
            {"causes": [{"reason": reason, "message": message} for reason, message in self.causes]} if self.causes else {}
        )
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": details,
            "code": self.code,
        }


def stamp(at: datetime) -> str:
    """Return a time as the API writes it: whole seconds, UTC."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class Storage:
    """All objects of the cluster."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._version = 100
        self.now = now
        self.changes: list[tuple[int, str, str, Object]] = []
        self.on_change: Callable[[], None] = lambda: None

    @property
    def version(self) -> str:
        """Return the newest resource version."""
        return str(self._version)

    def _record(self, event: str, kind: str, item: Object) -> None:
        self.changes.append((self._version, event, kind, copy.deepcopy(item)))
        if len(self.changes) > 5000:
            del self.changes[:1000]
        self.on_change()

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return the stored object itself, or None."""
        return self._objects.get((kind, namespace, name))

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """Return the stored object itself.

        Raises:
            ApiFailure: 404.
        """
        found = self.find(kind, namespace, name)
        if found is None:
            plural = kind.rsplit("/", 1)[-1]
            raise ApiFailure(404, "NotFound", f'{plural} "{name}" not found')
        return found

    def all(self, kind: str, namespace: str = "") -> list[Object]:
        """Return the objects of a kind, in order of creation."""
        return [
            item for (of, where, _), item in list(self._objects.items()) if of == kind and (not namespace or where == namespace)
        ]

    def owned(self, kind: str, uid: str) -> Iterator[Object]:
        """Return the objects of a kind that an owner controls."""
        for item in self.all(kind):
            for owner in item["metadata"].get("ownerReferences") or []:
                if owner.get("uid") == uid and owner.get("controller"):
                    yield item

    def create(self, kind: str, item: Object) -> Object:
        """Store a new object.

        Raises:
            ApiFailure: 409 when the name is taken.
        """
        item = copy.deepcopy(item)
        meta = item.setdefault("metadata", {})
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
        namespace = meta.get("namespace", "") if KINDS[kind].namespaced else ""
        key = (kind, namespace, meta["name"])
        if key in self._objects:
            raise ApiFailure(409, "AlreadyExists", f'{KINDS[kind].plural} "{meta["name"]}" already exists')
        self._version += 1
        meta |= {
            "uid": str(uuid.uuid4()),
            "resourceVersion": self.version,
            "creationTimestamp": stamp(self.now()),
            "generation": 1,
        }
        item.setdefault("apiVersion", KINDS[kind].group_version)
        item.setdefault("kind", KINDS[kind].kind)
        item.setdefault("status", {})
        self._objects[key] = item
        self._record("ADDED", kind, item)
        return item

    def update(self, kind: str, old: Object, new: Object) -> Object:
        """Replace an object; the generation rises when the spec changed. Nothing happens when nothing changed."""
        kept = old["metadata"]
        meta = new["metadata"]
        for field in ("uid", "creationTimestamp", "name", "namespace"):
            if field in kept:
                meta[field] = kept[field]
        meta["generation"] = kept.get("generation", 1)
        meta["resourceVersion"] = kept["resourceVersion"]
        if new == old:
            return old
        if new.get("spec") != old.get("spec"):
            meta["generation"] += 1
        self._version += 1
        meta["resourceVersion"] = self.version
        self._objects[kind, meta.get("namespace", "") if KINDS[kind].namespaced else "", meta["name"]] = new
        self._record("MODIFIED", kind, new)
        return new

    def set_status(self, kind: str, item: Object, status: Object) -> None:
        """Replace the status of an object if it changed."""
        if item.get("status") != status:
            changed = copy.deepcopy(item)
            changed["status"] = status
            self.update(kind, item, changed)

    def remove(self, kind: str, item: Object) -> None:
        """Remove an object for good, and what it controls in the background."""
        meta = item["metadata"]
        self._objects.pop((kind, meta.get("namespace", "") if KINDS[kind].namespaced else "", meta["name"]), None)
        self._version += 1
        self._record("DELETED", kind, item)
        for child_kind in ("apps/v1/replicasets", "apps/v1/controllerrevisions"):
            for child in list(self.owned(child_kind, meta["uid"])):
                self.remove(child_kind, child)
        for pod in list(self.owned("v1/pods", meta["uid"])):
            self.terminate(pod)
        for piece in list(self.owned("discovery.k8s.io/v1/endpointslices", meta["uid"])):
            self.remove("discovery.k8s.io/v1/endpointslices", piece)

    def terminate(self, pod: Object) -> None:
        """Begin a graceful deletion of a pod; the kubelet ends it."""
        if pod["metadata"].get("deletionTimestamp"):
            return
        changed = copy.deepcopy(pod)
        changed["metadata"]["deletionTimestamp"] = stamp(self.now())
        changed["metadata"]["deletionGracePeriodSeconds"] = pod["spec"].get("terminationGracePeriodSeconds", 30)
        self.update("v1/pods", pod, changed)

    def event(self, about: Object, reason: str, message: str, *, kind: str = "Normal") -> None:
        """Record an Event; the same one again raises its count."""
        meta = about["metadata"]
        namespace = meta.get("namespace", "default")
        for item in self.all("v1/events", namespace):
            same = (item["involvedObject"]["uid"], item["reason"], item["message"]) == (meta["uid"], reason, message)
            if same:
                changed = copy.deepcopy(item)
                changed["count"] += 1
                changed["lastTimestamp"] = stamp(self.now())
                self.update("v1/events", item, changed)
                return
        self.create(
            "v1/events",
            {
                "metadata": {"namespace": namespace, "generateName": f"{meta['name']}."},
                "involvedObject": {"kind": about["kind"], "namespace": namespace, "name": meta["name"], "uid": meta["uid"]},
                "type": kind,
                "reason": reason,
                "message": message,
                "count": 1,
                "firstTimestamp": stamp(self.now()),
                "lastTimestamp": stamp(self.now()),
            },
        )
