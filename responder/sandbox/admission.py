"""What the API server makes of an object before it stores it: defaults, quotas, namespaces that are not there or going away."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping

from responder.sandbox import kinds as k
from responder.sandbox.answers import Object, Resource, forbidden, not_found, terminating
from responder.sandbox.controllers.budgets import exceeded
from responder.sandbox.controllers.nodes import NOT_READY, UNREACHABLE
from responder.sandbox.kinds import KINDS
from responder.sandbox.objects import Storage, clone
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
            space = self._storage.find(k.NAMESPACES, "", meta.get("namespace", ""))
            if space is None:
                raise not_found(Resource(plural="namespaces"), meta.get("namespace", ""))
            if space["metadata"].get("deletionTimestamp"):
                raise terminating(of.resource, meta["namespace"], meta.get("name", ""))
        defaulted(kind, item)
        if of.status and kind != k.NODES:
            item["status"] = FIRST_STATUS[kind](item) if kind in FIRST_STATUS else {}
        if kind == k.PODS:
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


def defaulted(kind: str, item: Object) -> None:
    """Put the defaults of a kind into an object, in place; what is there stays."""
    default = DEFAULTS.get(kind)
    if default is not None:
        default(item)


def _whole(seconds: float) -> int | float:
    return int(seconds) if float(seconds).is_integer() else seconds


def _pod(item: Object) -> None:
    pod_spec(item["spec"])


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


def _defaulted(spec: Object, values: Object) -> None:
    for name, value in values.items():
        spec.setdefault(name, clone(value))


def _template(item: Object) -> None:
    item["spec"].setdefault("template", {}).setdefault("metadata", {})
    pod_spec(item["spec"]["template"].setdefault("spec", {}))


def _deployment(item: Object) -> None:
    _template(item)
    spec = item["spec"]
    _defaulted(spec, {"replicas": 1, "strategy": {}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    strategy = spec["strategy"]
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        _defaulted(strategy.setdefault("rollingUpdate", {}), {"maxUnavailable": "25%", "maxSurge": "25%"})


def _replica_set(item: Object) -> None:
    _template(item)
    _defaulted(item["spec"], {"replicas": 1})


def _stateful_set(item: Object) -> None:
    _template(item)
    spec = item["spec"]
    keeps = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    _defaulted(
        spec,
        {
            "replicas": 1, "podManagementPolicy": "OrderedReady", "updateStrategy": {}, "revisionHistoryLimit": 10,
            "persistentVolumeClaimRetentionPolicy": keeps,
        },
    )  # fmt: skip
    if spec["updateStrategy"].setdefault("type", "RollingUpdate") == "RollingUpdate":
        _defaulted(spec["updateStrategy"].setdefault("rollingUpdate", {}), {"partition": 0})


def _daemon_set(item: Object) -> None:
    _template(item)
    spec = item["spec"]
    spec.pop("replicas", None)
    _defaulted(spec, {"updateStrategy": {}, "revisionHistoryLimit": 10})
    if spec["updateStrategy"].setdefault("type", "RollingUpdate") == "RollingUpdate":
        _defaulted(spec["updateStrategy"].setdefault("rollingUpdate", {}), {"maxUnavailable": 1, "maxSurge": 0})


def _job(item: Object) -> None:
    _template(item)
    spec = item["spec"]
    _defaulted(
        spec,
        {
            "backoffLimit": 6, "completions": 1, "parallelism": 1, "completionMode": "NonIndexed", "suspend": False,
            "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": False,
        },
    )  # fmt: skip
    meta = item["metadata"]
    if "selector" not in spec and "uid" in meta:
        labels = {
            "batch.kubernetes.io/controller-uid": meta["uid"], "batch.kubernetes.io/job-name": meta["name"],
            "controller-uid": meta["uid"], "job-name": meta["name"],
        }  # fmt: skip
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": meta["uid"]}}
        template = spec["template"]["metadata"]
        template["labels"] = {**(template.get("labels") or {}), **labels}


def _service(item: Object) -> None:
    spec = item.setdefault("spec", {})
    _defaulted(spec, {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"})
    if spec["type"] != "ExternalName":
        digest = hashlib.sha256(f"{item['metadata'].get('namespace')}/{item['metadata'].get('name')}".encode()).digest()
        address = f"10.96.{digest[0]}.{digest[1]}"
        spec.setdefault("clusterIP", address)
        _defaulted(spec, {"clusterIPs": [spec["clusterIP"]], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"})
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))


def _namespace(item: Object) -> None:
    item["metadata"].setdefault("labels", {}).setdefault("kubernetes.io/metadata.name", item["metadata"].get("name"))
    item.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])


def _node(item: Object) -> None:
    spec = item.setdefault("spec", {})
    if spec.get("unschedulable") is False:
        del spec["unschedulable"]


def _autoscaler(item: Object) -> None:
    _defaulted(item["spec"], {"minReplicas": 1})
    if not item["spec"].get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        item["spec"]["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def _event(item: Object) -> None:
    _defaulted(item, {"source": {}, "reportingComponent": "", "reportingInstance": "", "eventTime": None})


def _secret(item: Object) -> None:
    _defaulted(item, {"type": "Opaque"})
    for name, value in (item.pop("stringData", None) or {}).items():
        item.setdefault("data", {})[name] = base64.b64encode(str(value).encode()).decode()


def _claim(item: Object) -> None:
    _defaulted(item.setdefault("spec", {}), {"volumeMode": "Filesystem"})


def _quota(item: Object) -> None:
    item.setdefault("spec", {})


DEFAULTS: Mapping[str, Callable[[Object], None]] = {
    k.PODS: _pod, k.NODES: _node, k.NAMESPACES: _namespace, k.DEPLOYMENTS: _deployment, k.REPLICA_SETS: _replica_set,
    k.STATEFUL_SETS: _stateful_set, k.DAEMON_SETS: _daemon_set, k.JOBS: _job, k.SERVICES: _service, k.AUTOSCALERS: _autoscaler,
    k.EVENTS: _event, "v1/secrets": _secret, "v1/persistentvolumeclaims": _claim, k.QUOTAS: _quota,
}  # fmt: skip
FIRST_STATUS: Mapping[str, Callable[[Object], Object]] = {
    k.PODS: lambda item: {"phase": "Pending", "qosClass": _quality(item["spec"])},
    k.NAMESPACES: lambda _item: {"phase": "Active"},
    k.SERVICES: lambda _item: {"loadBalancer": {}},
    k.BUDGETS: lambda _item: {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
    k.DEPLOYMENTS: lambda _item: {},
    k.REPLICA_SETS: lambda _item: {"replicas": 0},
    k.STATEFUL_SETS: lambda _item: {"replicas": 0, "availableReplicas": 0},
    k.DAEMON_SETS: lambda _item: {
        "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0,
    },
    k.AUTOSCALERS: lambda _item: {"desiredReplicas": 0, "currentMetrics": None},
    "v1/persistentvolumeclaims": lambda _item: {"phase": "Pending"},
}  # fmt: skip
"""The status of a new object; a Node's is what its kubelet says from the start."""
