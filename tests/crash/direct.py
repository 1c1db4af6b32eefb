"""A sandbox cluster without sockets: the adapter's own client, its requests handed straight to the sandbox's API handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from kubernetes_asyncio.client import Configuration

from responder.clusters.kubernetes.client import Access, KubernetesClient
from responder.sandbox import SandboxCluster
from responder.sandbox.answers import ApiFailure
from responder.sandbox.requests import Answer, Asked, failed


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
            again = {"Retry-After": str(faults.retry_after)} if faults.retry_after else {}
            return faults.status, b'{"kind": "Status", "message": "the server is in trouble"}', again
        headers = {"content-type": content_type, "user-agent": "responder/test"}
        asked = Asked(method=method, path=path, query=dict(query or {}), headers=headers, body=data or b"")
        try:
            answer = api.answer(asked)
        except ApiFailure as failure:
            answer = failed(failure)
        assert isinstance(answer, Answer)
        return answer.status, answer.body[:most] if most is not None else answer.body, answer.headers

    async def close(self) -> None:
        """Nothing is open."""
