"""Writes to one cluster: exactly one request a write, never repeated by itself, preconditions in the request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from responder.clusters.kubernetes import structs as k
from responder.clusters.kubernetes.client import FIELD_MANAGER, KubernetesClient
from responder.model.action import Verb, Write
from responder.model.errors import GoneError, RejectedError


class KubernetesHands:
    """Implements ``ports.ClusterHands`` over the REST API."""

    def __init__(self, name: str, client: KubernetesClient) -> None:
        self.name = name
        self._client = client

    async def write(self, write: Write, *, within: timedelta) -> int:
        """See ``ports.ClusterHands``."""
        path = _path(write)
        match write.verb:
            case Verb.PATCH:
                query = {"fieldManager": FIELD_MANAGER}
                await self._client.send("PATCH", path, query=query, body=write.body, content_type=str(write.patch), within=within)
                return 200
            case Verb.DELETE:
                await self._client.send("DELETE", path, body=_delete_options(write), within=within)
                return 200
            case Verb.EVICT:
                await self._same_uid(write, path, within=within)
                body = {
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": {"name": write.name, "namespace": write.namespace},
                    "deleteOptions": {"preconditions": {"uid": write.uid}} if write.uid else {},
                }
                await self._client.send("POST", f"{path}/eviction", body=body, within=within)
                return 201
            case Verb.CREATE:
                await self._client.send(
                    "POST", path.rsplit("/", 1)[0], query={"fieldManager": FIELD_MANAGER}, body=write.body, within=within
                )
                return 201
            case Verb.POOL | Verb.DELETE_MACHINE | Verb.CLUSTER_START | Verb.CLUSTER_ABORT | Verb.CLUSTER_RECONCILE:
                raise RejectedError(
                    "a write of the cloud, not of the cluster", system="kubernetes", operation=str(write.verb), target=write.name
                )

    async def _same_uid(self, write: Write, path: str, *, within: timedelta) -> None:
        """Look before evicting: a mismatching UID precondition answers 409 *after* it has spent the budget (kubernetes.md finding 2)."""
        found = await self._client.read(path, k.Anything, within=within)
        if write.uid and found.metadata.uid != write.uid:
            raise GoneError(
                "another object has that name now", system="kubernetes", operation="evict", target=write.name, status=404
            )


def _path(write: Write) -> str:
    group = f"/api/{write.api}" if "/" not in write.api else f"/apis/{write.api}"
    namespace = f"/namespaces/{write.namespace}" if write.namespace else ""
    return f"{group}{namespace}/{write.plural}/{write.name}"


def _delete_options(write: Write) -> dict[str, Any]:
    preconditions = {name: value for name, value in (("uid", write.uid), ("resourceVersion", write.resource_version)) if value}
    return {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions, "propagationPolicy": "Background"}
