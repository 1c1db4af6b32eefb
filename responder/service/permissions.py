"""Which permissions we lack, where, and which rungs cannot run without them: asked of the clusters themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from responder.actions.catalogue import ActionCatalogue
from responder.model.action import Permission
from responder.policy.rbac import needs
from responder.policy.roles import LOG_READ, MACHINE_READS, OPERATION_READ, cloud_needs
from responder.ports import Cloud, ClusterView
from responder.rules.arming import ActEntry
from responder.service.rulebook import Rulebook

ELSEWHERE = frozenset({*MACHINE_READS, OPERATION_READ, LOG_READ})
"""Permissions that do not lie on the cluster: tried, for ARM tells what is granted only to who may ask there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A permission that is missing; ``namespace`` "" means everywhere."""

    permission: Permission
    namespace: str
    rungs: tuple[str, ...]

    def said(self) -> dict[str, Any]:
        """Return it for a log line."""
        return {
            "verb": self.permission.verb,
            "resource": self.permission.resource,
            "namespace": self.namespace,
            "rungs": self.rungs,
        }

    def __str__(self) -> str:
        """For people: ``patch deployments in shop (pod-crash-loop/restart)``."""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.permission.verb} {self.permission.resource}{where} ({', '.join(self.rungs)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudLack:
    """An ARM permission that is missing. ``where``: the scope that it is missing on; "" for the cluster itself."""

    action: str
    rungs: tuple[str, ...]
    where: str = ""

    def __str__(self) -> str:
        """For people: ``Microsoft.ContainerService/managedClusters/start/action (cluster-unreachable/start)``."""
        return f"{self.action}{f' on {self.where}' if self.where else ''} ({', '.join(self.rungs)})"


class Permissions:
    """Asks for what is read and for what armed rules write, where they are armed."""

    def __init__(
        self,
        *,
        clouds: Mapping[str, Cloud] | None = None,
        views: Mapping[str, ClusterView],
        rulebook: Rulebook,
        act: Sequence[ActEntry],
        catalogue: ActionCatalogue,
        reads: Sequence[Permission],
    ) -> None:
        self.clouds = clouds or {}
        self.views = views
        self._rulebook = rulebook
        self._act = act
        self._catalogue = catalogue
        self._reads = reads

    async def missing_in_cloud(self, cluster: str) -> list[CloudLack]:
        """Return which ARM permissions are missing for a cluster, on it or round it, and the rungs that need each.

        Raises:
            RemoteError: ARM did not answer.
        """
        wanted = cloud_needs(self._rulebook.rules.values(), self._act, self._catalogue, cluster=cluster)
        cloud = self.clouds[cluster]
        here = [one for one in wanted if one not in ELSEWHERE]
        held = await cloud.permitted(here)
        lacks = [CloudLack(action=one, rungs=wanted[one]) for one, allowed in held.items() if not allowed]
        tried = await cloud.tried()
        return lacks + [
            CloudLack(action=one, rungs=wanted[one], where=where) for one, where in tried.items() if where and one in wanted
        ]

    async def missing(self, cluster: str) -> list[Lack]:
        """Return what is missing in a cluster.

        Raises:
            RemoteError: It did not answer.
        """
        wanted = needs(self._rulebook.rules.values(), self._act, self._catalogue, cluster=cluster)
        wide = {one.permission: one.rungs for one in wanted if one.namespaces is None}
        asked: dict[str, dict[Permission, tuple[str, ...]]] = {"": dict.fromkeys(self._reads, ("reading",)) | wide}
        for one in wanted:
            for namespace in sorted(one.namespaces or ()):
                asked.setdefault(namespace, {})[one.permission] = one.rungs
        found: list[Lack] = []
        for namespace, by in asked.items():
            held = await self.views[cluster].permitted(list(by), namespace=namespace)
            found += [Lack(permission=one, namespace=namespace, rungs=by[one]) for one, allowed in held.items() if not allowed]
        return found
