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
        owner_kind: For workloads: Deployment, StatefulSet, DaemonSet, Job, Rollout, ReplicaSet, bare or other; "" when not resolved.
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
