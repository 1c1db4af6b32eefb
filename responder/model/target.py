"""Targets: the pod, workload, service, node, pool, cluster or region that an incident is about.

Never here: how a target is found (``policy.targets``) or read (``clusters``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TargetKind(StrEnum):
    """What may be acted on. Source: RULES.md, key ``target``."""

    POD = "pod"
    WORKLOAD = "workload"
    SERVICE = "service"
    NODE = "node"
    NODE_POOL = "node_pool"
    CLUSTER = "cluster"
    REGION = "region"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing that an incident is about.

    Attributes:
        kind: What it is; ``NONE`` for incidents on an alert alone.
        cluster: The configured name of its cluster; "" for none and region.
        namespace: "" for things without one.
        name: The object's name; for ``NONE`` the group's name (the alert's).
        owner_kind: For workloads: Deployment, StatefulSet, DaemonSet, Job, Rollout, ReplicaSet, bare or other; "" unresolved.
        uid: The object's UID when it is known, else "". Not part of the identity: a re-created workload is the same target.
        region: The cloud region, "" when not known.
    """

    kind: TargetKind
    cluster: str = ""
    namespace: str = ""
    name: str = ""
    owner_kind: str = ""
    uid: str = ""
    region: str = ""

    @property
    def identity(self) -> str:
        """The target without its UID: what makes two alerts the same trouble, such as ``prod/workload/shop/Deployment/api``."""
        parts = (self.cluster, self.kind, self.namespace, self.owner_kind, self.name)
        return "/".join(part for part in parts if part)

    def __str__(self) -> str:
        """For people: ``workload/shop/api``, ``node/n3``."""
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A question to a cluster while a target is resolved.

    Attributes:
        kind: A Kubernetes kind (Pod, Deployment, Service, Node, HorizontalPodAutoscaler, PersistentVolumeClaim, …), or ``controller``:
            a name among ReplicaSets, StatefulSets, DaemonSets and Jobs, or ``node_address``: a Node by its internal IP.
        namespace: "" for cluster-wide kinds.
        name: Of the object.
    """

    kind: str
    cluster: str
    namespace: str
    name: str


class Presence(StrEnum):
    """What a look-up found."""

    FOUND = "found"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupAnswer:
    """What a cluster answered.

    Attributes:
        presence: Unknown when the cluster did not answer or forbids the question.
        targets: When found: the thing itself for Pod, Service and Node, and for everything that belongs to a workload the topmost owner
            with each parent checked by UID (a PersistentVolumeClaim may have several). A pod that no longer exists is found through
            the existing ReplicaSet, StatefulSet or DaemonSet whose name its name was generated from.
        detail: How it was found, or why not, for ``responder explain``.
    """

    presence: Presence
    targets: tuple[Target, ...] = ()
    detail: str = ""
