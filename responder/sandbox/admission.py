"""What the API server makes of an object before it stores it: defaults, quotas, namespaces that are not there or going away."""

from __future__ import annotations

from collections.abc import Callable

from responder.sandbox.answers import Cause, Object, Resource, forbidden, not_found
from responder.sandbox.controllers.budgets import exceeded
from responder.sandbox.controllers.nodes import NOT_READY, UNREACHABLE
from responder.sandbox.kinds import KINDS, NAMESPACES, NODES, PODS
from responder.sandbox.objects import Storage
from responder.sandbox.pods import tolerates


class Admission:
    """Admits new objects.

    Attributes:
        tolerates_for: Seconds that pods tolerate a node that is not ready or unreachable, if they do not say.
    """

    def __init__(self, storage: Storage, *, tolerates_for: float) -> None:
        self._storage = storage
        self._tolerates_for = tolerates_for

    def admit(self, kind: str, item: Object) -> Object:
        """Return the object with its defaults; it is changed in place.

        Raises:
            ApiFailure: 404 without its namespace, 403 for one that is going away and for a quota that is full.
        """
        of = KINDS[kind]
        meta = item["metadata"]
        if of.namespaced:
            space = self._storage.find(NAMESPACES, "", meta.get("namespace", ""))
            if space is None:
                raise not_found(Resource(plural="namespaces"), meta.get("namespace", ""))
            if space["metadata"].get("deletionTimestamp"):
                name = meta["namespace"]
                cause = Cause("NamespaceTerminating", f"namespace {name} is being terminated", "metadata.namespace")
                why = f"unable to create new content in namespace {name} because it is being terminated"
                raise forbidden(of.resource, meta.get("name", ""), why, cause)
        default = DEFAULTS.get(kind)
        if default is not None:
            default(item)
        if kind == PODS:
            self._tolerations(item["spec"])
        if of.namespaced:
            why = exceeded(self._storage, kind, item)
            if why:
                raise forbidden(of.resource, meta.get("name", ""), why)
        return item

    def _tolerations(self, spec: Object) -> None:
        tolerations = list(spec.get("tolerations") or ())
        for key in (NOT_READY, UNREACHABLE):
            taint = {"key": key, "effect": "NoExecute"}
            if not any(tolerates(one, taint) for one in tolerations):
                tolerations.append(
                    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _whole(self._tolerates_for)}
                )
        spec["tolerations"] = tolerations


def _whole(seconds: float) -> int | float:
    return int(seconds) if float(seconds).is_integer() else seconds


def _pod(item: Object) -> None:
    pod_spec(item["spec"])
    item["status"] = {"phase": "Pending", "qosClass": _quality(item["spec"])}


def pod_spec(spec: Object) -> None:
    """Put a pod spec's defaults in."""
    for name, value in (
        ("restartPolicy", "Always"), ("dnsPolicy", "ClusterFirst"), ("schedulerName", "default-scheduler"), ("securityContext", {}),
        ("terminationGracePeriodSeconds", 30),
    ):  # fmt: skip
        spec.setdefault(name, value)
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        tag = str(container.get("image", "")).rpartition("/")[2].partition(":")[2]
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("imagePullPolicy", "Always" if tag in {"", "latest"} else "IfNotPresent")
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")


def _quality(spec: Object) -> str:
    wants = [one.get("resources") or {} for one in spec.get("containers") or ()]
    if not any(one.get("requests") or one.get("limits") for one in wants):
        return "BestEffort"
    whole = all(
        {"cpu", "memory"} <= set(one.get("limits") or ()) and (one.get("requests") or one["limits"]) == one["limits"]
        for one in wants
    )
    return "Guaranteed" if whole else "Burstable"


def _node(item: Object) -> None:
    item.setdefault("spec", {})


DEFAULTS: dict[str, Callable[[Object], None]] = {PODS: _pod, NODES: _node}
