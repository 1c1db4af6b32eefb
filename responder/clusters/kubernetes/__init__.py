"""Kubernetes by its REST API: raw reads into msgspec Structs, one thin client. Source: kubernetes.md Part B.

kubernetes_asyncio is used for what it does well (kubeconfig, exec plugins, in-cluster identity, TLS settings); its models are not: they cost
sixty times as much CPU and corrupt logs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from responder.clusters.kubernetes.client import Access, KubernetesClient, found_access, load_access
from responder.clusters.kubernetes.hands import KubernetesHands
from responder.clusters.kubernetes.permissions import READS
from responder.clusters.kubernetes.view import KubernetesView
from responder.clusters.kubernetes.watch import KubernetesWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesAccess:
    """How to reach one cluster: in-cluster, a kubeconfig with an optional context, or ``found``: how to find its address and get tokens for it."""

    name: str
    in_cluster: bool = False
    kubeconfig: str = ""
    context: str = ""
    found: tuple[Callable[[], Awaitable[tuple[str, str]]], Callable[[], Awaitable[str]]] | None = None

    async def loaded(self) -> Access:
        """Return the identity, loaded where it can be.

        Raises:
            SettingsError: Its kubeconfig or in-cluster identity cannot be used.
        """
        if self.found is not None:
            return found_access(*self.found)
        return await load_access(self.name, self.in_cluster, self.kubeconfig, self.context)


async def connect(access: KubernetesAccess, *, now: Callable[[], datetime]) -> tuple[KubernetesView, KubernetesHands]:
    """Return the view and the hands of a cluster; nothing is asked of it yet.

    Raises:
        SettingsError: Its kubeconfig or in-cluster identity cannot be used.
    """
    client = KubernetesClient(access.name, await access.loaded())
    return KubernetesView(access.name, client, now=now), KubernetesHands(access.name, client)


async def watching(
    access: KubernetesAccess, *, now: Callable[[], datetime], sleep: Callable[[timedelta], Awaitable[None]]
) -> KubernetesWatch:
    """Return a watch of a cluster, with connections of its own; nothing is asked yet.

    Raises:
        SettingsError: Its kubeconfig or in-cluster identity cannot be used.
    """
    client = KubernetesClient(access.name, await access.loaded())
    return KubernetesWatch(access.name, client, now=now, sleep=sleep)


__all__ = ["READS", "KubernetesAccess", "KubernetesHands", "KubernetesView", "KubernetesWatch", "connect", "watching"]
