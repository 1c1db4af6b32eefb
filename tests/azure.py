"""The AKS double and our adapter in front of it, over TLS, with the unmodified SDKs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from responder.clusters.aks import AksCloud, AzureAccess, Identity
from responder.model.action import Verb, Write
from responder.sandbox.aks import SandboxAzure
from responder.sandbox.aks_entra import CLIENT, TENANT
from responder.sandbox.aks_state import Aks

ASSERTION = "the projected token of our service account"


class World:
    """Time that only moves when it is told to."""

    def __init__(self) -> None:
        self.at = datetime.now(tz=UTC)

    def now(self) -> datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass(slots=True)
class Azure:
    """A managed cluster ``prod`` with pools ``system`` (2, System) and ``work`` (3, User), and our adapter."""

    double: SandboxAzure
    aks: Aks
    cloud: AksCloud
    identity: Identity
    world: World

    async def pass_time(self, seconds: float = 31) -> None:
        self.world.forward(seconds)
        await self.double.tick()

    def again(self) -> AksCloud:
        """Return the adapter of the process' next life."""
        return AksCloud("prod", self.aks.resource_id, self.identity, now=self.world.now, polling=timedelta(0))


def access(double: SandboxAzure, folder: Path, **given: Any) -> AzureAccess:
    """Return how the double is reached: what the AKS webhook puts into a pod's environment."""
    token = folder / "azure-identity-token"
    token.write_text(ASSERTION)
    double.entra.assertion = ASSERTION
    values = {"client_id": CLIENT, "tenant_id": TENANT, "token_file": str(token)}
    return AzureAccess(authority=double.url, endpoint=double.url, ca_file=str(double.ca_file), **{**values, **given})


@contextlib.asynccontextmanager
async def azure(folder: Path, **given: Any) -> AsyncIterator[Azure]:
    """Start the double, and put the adapter before it."""
    world = World()
    async with SandboxAzure(folder, now=world.now) as double:
        aks = double.cluster("prod", **given)
        await aks.pool("system", 2, mode="System")
        await aks.pool("work", 3)
        identity = Identity(access(double, folder))
        cloud = AksCloud("prod", aks.resource_id, identity, now=world.now, polling=timedelta(0))
        try:
            yield Azure(double=double, aks=aks, cloud=cloud, identity=identity, world=world)
        finally:
            await cloud.close()
            await identity.close()


def scale(count: int, *, etag: str = "", pool: str = "work", field: str = "count") -> Write:
    """Return the write that gives a pool a count."""
    return Write(
        key="scale", verb=Verb.POOL, api="arm", plural="agentPools", namespace="", name=pool, resource_version=etag,
        body={"set": {field: count}, "expect": {}}, says=f"pool {pool} to {count}",
    )  # fmt: skip


def verb(one: Verb, *, pool: str = "", **body: Any) -> Write:
    """Return another write of the cloud."""
    return Write(
        key=str(one),
        verb=one,
        api="arm",
        plural="agentPools" if pool else "managedClusters",
        namespace="",
        name=pool,
        body=body,
        says=str(one),
    )
