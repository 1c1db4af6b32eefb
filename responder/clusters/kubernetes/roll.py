"""Gives objects by name while a storm resolves its targets: many questions about one kind are one list.

Never here: judging by what a list says to be absent. A name that is not in the list is asked for by itself: it may be new.

The decision a reader would question: lists for a storm only. One alert costs one small GET; a thousand alerts would cost a thousand, which the
API server feels just when something is wrong with it, and which takes us longer than reading the thousand alerts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from responder.clusters.kubernetes import structs as k
from responder.clusters.kubernetes.client import KubernetesClient
from responder.model.errors import GoneError, RemoteError

LISTED = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Service", "Node"})
"""Pods are not: a cluster has too many, and too big ones, for a list to be cheaper."""

MANY = 24
"""Questions about one kind within ``WINDOW`` from which on it is listed."""

WINDOW = 1.0
LASTS = 5.0
"""Seconds that a list answers for. What is done to a target reads it anew (``snapshot``)."""


class _Found(msgspec.Struct):
    items: list[k.Anything] | None = None


class Roll:
    """Gets objects by name, for target resolution."""

    def __init__(self, client: KubernetesClient, path_of: Callable[..., str]) -> None:
        self._client = client
        self._path_of = path_of
        self._asked: dict[str, tuple[float, int]] = {}
        self._lists: dict[str, tuple[float, asyncio.Future[dict[tuple[str, str], k.Anything]]]] = {}

    async def get(self, kind: str, namespace: str, name: str) -> k.Anything | None:
        """Return an object, or None when there is none.

        Raises:
            RemoteError: It could not be read.
        """
        if kind in LISTED and self._many(kind):
            found = (await self._listed(kind)).get((namespace, name))
            if found is not None:
                return found
        try:
            return await self._client.read(self._path_of(kind, namespace, name), k.Anything)
        except GoneError:
            return None

    def _many(self, kind: str) -> bool:
        """Count a question; tell whether there are so many that a list is cheaper."""
        now = asyncio.get_running_loop().time()
        since, count = self._asked.get(kind, (now, 0))
        if now - since >= WINDOW:
            since, count = now, 0
        self._asked[kind] = (since, count + 1)
        held = self._lists.get(kind)
        return count >= MANY or (held is not None and now < held[0])

    async def _listed(self, kind: str) -> dict[tuple[str, str], k.Anything]:
        """Return the whole of a kind, asked for once for all; empty when it cannot be listed."""
        loop = asyncio.get_running_loop()
        held = self._lists.get(kind)
        if held is None or loop.time() >= held[0]:
            held = self._lists[kind] = (loop.time() + LASTS, asyncio.ensure_future(self._read(kind)))
            loop.call_later(LASTS, self._forget, kind, held)
        return await asyncio.shield(held[1])

    def _forget(self, kind: str, held: object) -> None:
        if self._lists.get(kind) is held:
            del self._lists[kind]

    async def _read(self, kind: str) -> dict[tuple[str, str], k.Anything]:
        try:
            pages = await self._client.pages(self._path_of(kind, ""), _Found)
        except (RemoteError, TimeoutError):  # forbidden across namespaces, or too slow: each is asked for by itself
            return {}
        return {(one.metadata.namespace, one.metadata.name): one for page in pages for one in page.items or []}
