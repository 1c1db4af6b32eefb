"""Watches one cluster: pods, nodes, Jobs and EndpointSlices, and whether its API server answers at all. Keeps symptoms, no objects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from responder.clusters.kubernetes import symptoms
from responder.clusters.kubernetes.client import KubernetesClient
from responder.clusters.kubernetes.informer import SILENT_FOR, HasMeta, Informer
from responder.clusters.kubernetes.structs import Slice
from responder.model.errors import RemoteError
from responder.model.symptom import Sighting, Symptom

PING_EVERY = timedelta(seconds=10)
"""Quiet watches prove nothing; ``/version`` is the cheapest question, and everybody may ask it."""

T = TypeVar("T", bound=HasMeta)


class SymptomKeeper(Generic[T]):
    """Keeps what each object shows, and nothing of those that show nothing."""

    def __init__(self, of: Callable[[T], tuple[Symptom, ...]]) -> None:
        self._of = of
        self.found: dict[str, tuple[Symptom, ...]] = {}

    def put(self, one: T) -> None:
        """See ``Keeper``."""
        shown = self._of(one)
        if shown:
            self.found[one.metadata.uid] = shown
        elif self.found:
            self.found.pop(one.metadata.uid, None)

    def drop(self, one: T) -> None:
        """See ``Keeper``."""
        self.found.pop(one.metadata.uid, None)

    def keep_only(self, uids: set[str]) -> None:
        """See ``Keeper``."""
        for uid in [uid for uid in self.found if uid not in uids]:
            del self.found[uid]

    def symptoms(self) -> list[Symptom]:
        """Return all."""
        return [one for shown in self.found.values() for one in shown]


class EndpointKeeper:
    """Counts endpoints per service over its slices.

    A service without any endpoint is only trouble when it had a ready one before: nobody misses what was never there.
    """

    def __init__(self) -> None:
        self._slices: dict[str, tuple[tuple[str, str], int, int]] = {}
        self._was_ready: set[tuple[str, str]] = set()

    def put(self, one: Slice) -> None:
        """See ``Keeper``."""
        counted = symptoms.endpoints(one)
        if counted is None:
            self._slices.pop(one.metadata.uid, None)
            return
        self._slices[one.metadata.uid] = counted
        if counted[1]:
            self._was_ready.add(counted[0])

    def drop(self, one: Slice) -> None:
        """See ``Keeper``."""
        self._forget({one.metadata.uid})

    def keep_only(self, uids: set[str]) -> None:
        """See ``Keeper``."""
        self._forget(self._slices.keys() - uids)

    def _forget(self, uids: set[str]) -> None:
        for uid in uids:
            self._slices.pop(uid, None)
        self._was_ready &= {service for service, _, _ in self._slices.values()}  # a deleted service is forgotten with its slices

    def symptoms(self) -> list[Symptom]:
        """Return services that have none ready."""
        counts: dict[tuple[str, str], tuple[int, int]] = {}
        for service, ready, total in self._slices.values():
            before = counts.get(service, (0, 0))
            counts[service] = (before[0] + ready, before[1] + total)
        return [
            symptoms.of_service(*service, total=total)
            for service, (ready, total) in counts.items()
            if not ready and (total or service in self._was_ready)
        ]


class KubernetesWatch:
    """Implements ``ports.ClusterWatch``."""

    def __init__(
        self,
        name: str,
        client: KubernetesClient,
        *,
        now: Callable[[], datetime],
        sleep: Callable[[timedelta], Awaitable[None]],
        silent_for: timedelta = SILENT_FOR,
    ) -> None:
        """Make one; nothing is asked yet.

        Args:
            name: Of the cluster.
            client: Of its own: watches hold connections for minutes.
            now: The clock.
            sleep: Waits on it.
            silent_for: See ``informer``.
        """
        self.name = name
        self._client = client
        self._now = now
        self._sleep = sleep
        self._contact_at: datetime | None = None
        self._pods: SymptomKeeper[symptoms.WatchedPod] = SymptomKeeper(symptoms.of_pod)
        self._nodes: SymptomKeeper[symptoms.WatchedNode] = SymptomKeeper(symptoms.of_node)
        self._jobs: SymptomKeeper[symptoms.WatchedJob] = SymptomKeeper(symptoms.of_job)
        self._endpoints = EndpointKeeper()

        def informer(path: str, kind: Any, keeper: Any) -> Informer[Any]:
            return Informer(client, path, kind, keeper, heard=self._heard, silent_for=silent_for)

        self._informers = (
            informer("/api/v1/pods", symptoms.WatchedPod, self._pods),
            informer("/api/v1/nodes", symptoms.WatchedNode, self._nodes),
            informer("/apis/batch/v1/jobs", symptoms.WatchedJob, self._jobs),
            informer("/apis/discovery.k8s.io/v1/endpointslices", Slice, self._endpoints),
        )

    def _heard(self) -> None:
        self._contact_at = self._now()

    async def run(self) -> None:
        """See ``ports.ClusterWatch``."""
        self._contact_at = self._now()  # an API server that never answers is missed from the start
        try:
            async with asyncio.TaskGroup() as group:
                for one in self._informers:
                    group.create_task(one.run())
                group.create_task(self._ping())
        finally:
            await self._client.close()

    async def _ping(self) -> None:
        while True:
            try:
                await self._client.send("GET", "/version")
            except RemoteError as error:
                if error.status is not None and error.status < 500:
                    self._heard()  # it refuses, so it is there
            else:
                self._heard()
            await self._sleep(PING_EVERY)

    def sighting(self) -> Sighting:
        """See ``ports.ClusterWatch``."""
        found = [*self._pods.symptoms(), *self._nodes.symptoms(), *self._jobs.symptoms(), *self._endpoints.symptoms()]
        return Sighting(symptoms=tuple(found), complete=all(one.fresh for one in self._informers), contact_at=self._contact_at)
