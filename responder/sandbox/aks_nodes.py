"""The seam between the AKS double and a cluster: machines appear as nodes and vanish.

Through the Kubernetes API alone, so that it works on a real control plane too; or on a sandbox cluster with kubelets that go on living.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp

from responder.sandbox.cluster import SandboxCluster


class ApiNodes:
    """Nodes of a cluster by its API."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "none",
        now: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
        room: str = "4",
    ) -> None:
        """Take the API server's address; ``room``: allocatable CPUs of a node."""
        self._url = url
        self._token = token
        self._now = now
        self._room = room
        self._session: aiohttp.ClientSession | None = None

    async def _send(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> int:
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._token}"}
            self._session = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(ssl=False))
        async with self._session.request(method, self._url + path, json=body, headers={"Content-Type": kind}) as answer:
            await answer.read()
            return answer.status

    async def add(self, name: str, *, provider_id: str, labels: dict[str, str], taints: list[dict[str, str]]) -> None:
        """Let a machine join as a Ready node; one that is there already stays as it is."""
        spec: dict[str, Any] = {"providerID": provider_id, **({"taints": taints} if taints else {})}
        body = {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}, "spec": spec}
        if await self._send("POST", "/api/v1/nodes", body) == 201:
            await self.ready(name, "True")

    async def ready(self, name: str, status: str, reason: str = "KubeletReady") -> None:
        """Let a node say True, False or Unknown."""
        at = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "Ready", "status": status, "reason": reason, "lastHeartbeatTime": at, "lastTransitionTime": at}
        room = {"cpu": self._room, "memory": "16Gi", "pods": "110"}
        body = {"status": {"conditions": [condition], "allocatable": room, "capacity": room}}
        await self._send("PATCH", f"/api/v1/nodes/{name}/status", body, "application/strategic-merge-patch+json")

    async def remove(self, name: str) -> None:
        """Take a node away, as the cloud node controller does when its machine is gone."""
        await self._send("DELETE", f"/api/v1/nodes/{name}")

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()


class MachineNodes:
    """Machines of a sandbox cluster: each has a kubelet that registers it, renews its Lease and runs its pods.

    ``ApiNodes`` makes Nodes that nobody stands behind: on any cluster they are Unknown once their grace is over.
    """

    def __init__(self, cluster: SandboxCluster) -> None:
        self._cluster = cluster

    async def add(self, name: str, *, provider_id: str, labels: dict[str, str], taints: list[dict[str, str]]) -> None:
        """Let a machine join as a Ready node; one that is there already stays as it is."""
        if name not in self._cluster.kubelet.machines:
            self._cluster.add_node(name, labels=labels, taints=[dict(one) for one in taints], provider=provider_id)

    async def remove(self, name: str) -> None:
        """Take a machine away, and its Node as the cloud node controller does."""
        self._cluster.remove_machine(name)
