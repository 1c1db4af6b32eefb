"""The resources that the API serves: where each lives, its names, what it has of its own. Source: ``kubectl api-resources``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from responder.sandbox.answers import Resource


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource.

    Attributes:
        status: It has a subresource ``status``: writes to the object leave the status alone, and the other way round.
        scale: It has a subresource ``scale``.
        generation: Its generation rises with its spec.
        returns: A deletion answers with the object, and not with a Status.
        unconditional: A PUT without a resourceVersion is taken.
    """

    group_version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = False
    scale: bool = False
    generation: bool = False
    returns: bool = False
    unconditional: bool = True

    @property
    def key(self) -> str:
        """Return ``apps/v1/deployments``."""
        return f"{self.group_version}/{self.plural}"

    @property
    def group(self) -> str:
        """Return ``apps``; "" for the core group."""
        return self.group_version.rpartition("/")[0]

    @property
    def resource(self) -> Resource:
        """Return how answers name it."""
        return Resource(group=self.group, plural=self.plural, kind=self.kind)


ALL = ("all",)
NAMESPACES, NODES, PODS, SERVICES, EVENTS = "v1/namespaces", "v1/nodes", "v1/pods", "v1/services", "v1/events"
DEPLOYMENTS, REPLICA_SETS = "apps/v1/deployments", "apps/v1/replicasets"
STATEFUL_SETS, DAEMON_SETS, REVISIONS = "apps/v1/statefulsets", "apps/v1/daemonsets", "apps/v1/controllerrevisions"
JOBS, CRON_JOBS = "batch/v1/jobs", "batch/v1/cronjobs"
BUDGETS, QUOTAS, AUTOSCALERS = "policy/v1/poddisruptionbudgets", "v1/resourcequotas", "autoscaling/v2/horizontalpodautoscalers"
SLICES, LEASES = "discovery.k8s.io/v1/endpointslices", "coordination.k8s.io/v1/leases"

KINDS: Mapping[str, Kind] = {
    kind.key: kind
    for kind in (
        Kind("v1", "namespaces", "Namespace", namespaced=False, short=("ns",), status=True, returns=True),
        Kind("v1", "nodes", "Node", namespaced=False, short=("no",), status=True),
        Kind("v1", "pods", "Pod", short=("po",), categories=ALL, status=True, generation=True, returns=True),
        Kind("v1", "services", "Service", short=("svc",), categories=ALL, status=True, returns=True),
        Kind("v1", "serviceaccounts", "ServiceAccount", short=("sa",), returns=True),
        Kind("v1", "events", "Event", short=("ev",)),
        Kind("v1", "configmaps", "ConfigMap", short=("cm",)),
        Kind("v1", "secrets", "Secret"),
        Kind("v1", "resourcequotas", "ResourceQuota", short=("quota",), status=True, returns=True),
        Kind("v1", "limitranges", "LimitRange", short=("limits",)),
        Kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", short=("pvc",), status=True, returns=True),
        Kind("v1", "persistentvolumes", "PersistentVolume", namespaced=False, short=("pv",), status=True, returns=True),
        Kind("apps/v1", "deployments", "Deployment", short=("deploy",), categories=ALL, status=True, scale=True, generation=True),
        Kind("apps/v1", "replicasets", "ReplicaSet", short=("rs",), categories=ALL, status=True, scale=True, generation=True),
        Kind("apps/v1", "statefulsets", "StatefulSet", short=("sts",), categories=ALL, status=True, scale=True, generation=True),
        Kind("apps/v1", "daemonsets", "DaemonSet", short=("ds",), categories=ALL, status=True, generation=True),
        Kind("apps/v1", "controllerrevisions", "ControllerRevision"),
        Kind("batch/v1", "jobs", "Job", categories=ALL, status=True, generation=True),
        Kind("batch/v1", "cronjobs", "CronJob", short=("cj",), categories=ALL, status=True, generation=True),
        Kind(
            "autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", short=("hpa",), categories=ALL, status=True
        ),
        Kind(
            "policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", short=("pdb",), status=True, generation=True,
            unconditional=False,
        ),
        Kind("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", generation=True),
        Kind("coordination.k8s.io/v1", "leases", "Lease", unconditional=False),
        Kind("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", namespaced=False, short=("pc",), generation=True),
        Kind("storage.k8s.io/v1", "storageclasses", "StorageClass", namespaced=False, short=("sc",)),
        Kind("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", namespaced=False, status=True),
        Kind("storage.k8s.io/v1", "csinodes", "CSINode", namespaced=False),
    )
}  # fmt: skip

BY_NAME: Mapping[tuple[str, str], Kind] = {(kind.group_version, kind.kind): kind for kind in KINDS.values()}
"""A resource by apiVersion and kind, as owner references name it."""
