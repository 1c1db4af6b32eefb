"""Which permissions we lack, where, and which rungs cannot run without them: asked of the clusters themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from responder.actions.catalogue import ActionCatalogue
from responder.model.action import Permission
from responder.policy.rbac import needs
from responder.ports import ClusterView
from responder.rules.arming import ActEntry
from responder.service.rulebook import Rulebook


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


class Permissions:
    """Asks for what is read and for what armed rules write, where they are armed."""

    def __init__(
        self,
        *,
        views: Mapping[str, ClusterView],
        rulebook: Rulebook,
        act: Sequence[ActEntry],
        catalogue: ActionCatalogue,
        reads: Sequence[Permission],
    ) -> None:
        self.views = views
        self._rulebook = rulebook
        self._act = act
        self._catalogue = catalogue
        self._reads = reads

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
