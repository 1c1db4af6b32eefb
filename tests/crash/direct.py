"""A sandbox cluster without sockets: the adapter's own client, its requests handed straight to the sandbox's API handlers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aiohttp import web
from kubernetes_asyncio.client import Configuration

from responder.clusters.kubernetes.client import Access, KubernetesClient
from responder.sandbox import SandboxCluster
from responder.sandbox.objects import ApiFailure


@dataclass(slots=True)
class Asked:
    """What the sandbox's handlers read of a request."""

    method: str
    path: str
    query: Mapping[str, str]
    match_info: Mapping[str, str]
    content_type: str
    data: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"User-Agent": "responder/test"})
    said: dict[Any, Any] = field(default_factory=dict)

    def __setitem__(self, name: Any, value: Any) -> None:
        self.said[name] = value

    def __getitem__(self, name: Any) -> Any:
        return self.said[name]

    async def read(self) -> bytes:
        return self.data

    async def json(self) -> Any:
        return json.loads(self.data)


def matched(path: str) -> dict[str, str]:
    """Return what the sandbox's router would have matched."""
    parts = path.strip("/").split("/")
    found = {"version": parts[1]} if parts[0] == "api" else {"group": parts[1], "version": parts[2]}
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if rest[0] == "namespaces" and len(rest) > 2:
        found["namespace"], rest = rest[1], rest[2:]
    return {**found, **dict(zip(("plural", "name", "sub"), rest, strict=False))}


class DirectClient(KubernetesClient):
    """Talks to a sandbox in this process."""

    def __init__(self, name: str, cluster: SandboxCluster) -> None:
        async def again() -> Configuration:
            return Configuration()

        super().__init__(name, Access(configuration=Configuration(), reload=again))
        self._cluster = cluster

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
        within: timedelta,
        most: int | None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        api, faults = self._cluster.api, self._cluster.faults
        if faults.hang:
            await asyncio.sleep(within.total_seconds())
            raise TimeoutError
        if faults.garbage:
            return 200, b"<html>upstream said something", {}
        if faults.status:
            headers = {"Retry-After": str(faults.retry_after)} if faults.retry_after else {}
            return faults.status, b'{"kind": "Status", "message": "the server is in trouble"}', headers
        where = matched(path)
        asked: Any = Asked(method, path, dict(query or {}), where, content_type, data or b"")
        handler = api._sub if "sub" in where else api._item if "name" in where else api._collection
        if where["plural"] == "selfsubjectaccessreviews":
            handler = api._review
        try:
            answer = await handler(asked)
        except ApiFailure as failure:
            return failure.code, json.dumps(failure.status()).encode(), failure.headers or {}
        assert isinstance(answer, web.Response)
        body = bytes(answer.body or b"")  # type: ignore[arg-type] # the sandbox answers with bytes and text only
        return answer.status, body[:most] if most is not None else body, {}

    async def close(self) -> None:
        """Nothing is open."""
