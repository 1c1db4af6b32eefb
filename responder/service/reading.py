"""Reads a target and derives what the core judges by.

Joins the port (raw snapshot), our memory of healthy revisions, and the pure functions of ``policy.facts`` and the checks. Never
here: judgement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from responder.actions.catalogue import ActionCatalogue
from responder.actions.failing import fails, live
from responder.model.cluster import Reading, Snapshot, WorkloadSnapshot
from responder.model.errors import RemoteError
from responder.model.health import CheckReading, Health
from responder.model.incident import Incident, Instance
from responder.model.rule import Call
from responder.model.target import Target, TargetKind
from responder.policy.facts import facts_of
from responder.policy.grouping import fires
from responder.ports import Clock, ClusterView, Store

SLOTS_PER_CLUSTER = 16
"""Targets of one cluster read at once; a dead cluster delays nobody else."""

READ_WITHIN = timedelta(seconds=12)

STEADY_FOR = timedelta(minutes=2)
"""Ready this long without a failing pod, a revision is remembered as healthy."""


class _NotWantedError(Exception):
    """When its turn came, it was not to be read any more."""


async def _always() -> bool:
    return True


class Reader:
    """Reads targets of all configured clusters."""

    def __init__(self, *, views: Mapping[str, ClusterView], store: Store, clock: Clock, catalogue: ActionCatalogue) -> None:
        self._views = views
        self._store = store
        self._clock = clock
        self._catalogue = catalogue
        self._slots = {name: asyncio.Semaphore(SLOTS_PER_CLUSTER) for name in views}

    def view(self, cluster: str) -> ClusterView | None:
        """Return the view of a configured cluster."""
        return self._views.get(cluster)

    async def snapshot(
        self, target: Target, *, displaced: Sequence[Target] = (), still: Callable[[], Awaitable[bool]] = _always
    ) -> Snapshot:
        """Read a target, with what we remember of its revisions; ``displaced``: see ``ports.ClusterView.snapshot``.

        Raises:
            RemoteError: When the target could not be read; also ``TransientError`` when it took too long.
        """
        view = self._views[target.cluster]
        async with self._slots[target.cluster]:
            if not await still():
                raise _NotWantedError
            async with asyncio.timeout(READ_WITHIN.total_seconds()):
                snapshot = await view.snapshot(target, displaced=displaced)
        return await self._remember(snapshot)

    async def read(
        self,
        incident: Incident,
        calls: Sequence[Call],
        instances: Sequence[Instance],
        *,
        still: Callable[[], Awaitable[bool]] = _always,
    ) -> tuple[Reading | None, str]:
        """Return what an incident is judged by, or None and why it could not be read.

        Args:
            incident: Whose target is read.
            calls: The checks that are asked.
            instances: Its alerts.
            still: Asked when its turn has come: whether it is still to be read.
        """
        snapshot: Snapshot | None = None
        problem = ""
        if incident.target.kind is not TargetKind.NONE and not incident.unresolved:
            if incident.target.cluster not in self._views:
                return None, f"cluster {incident.target.cluster or '(none)'} is not configured"
            try:
                snapshot = await self.snapshot(incident.target, displaced=incident.displaced, still=still)
            except _NotWantedError:
                return None, ""
            except TimeoutError:
                problem = f"reading {incident.target} took longer than {READ_WITHIN.total_seconds():.0f} s"
            except RemoteError as error:
                problem = str(error)
            if snapshot is None:
                return None, problem
        elif not await still():
            return None, ""
        return self.derive(snapshot, calls, instances, now=self._clock.now()), ""

    def derive(
        self, snapshot: Snapshot | None, calls: Sequence[Call], instances: Sequence[Instance], *, now: datetime
    ) -> Reading:
        """Derive facts and checks from a snapshot (None for incidents on an alert alone)."""
        facts, had_none = facts_of(snapshot, now=now) if snapshot is not None else ({}, frozenset())
        firing = tuple(one for one in instances if fires(one, now=now))
        checks: dict[str, CheckReading] = {}
        for call in calls:
            check = self._catalogue.checks.get(call.name)
            if check is None:
                checks[call.canonical] = CheckReading(health=Health.UNKNOWN, detail=f"no check is called {call.name}")
                continue
            checks[call.canonical] = check.judge(snapshot, call.arguments, instances=tuple(instances), firing=firing, now=now)
        read_at = snapshot.read_at if snapshot is not None else now
        return Reading(read_at=read_at, facts=facts, had_none=had_none, checks=checks, snapshot=snapshot)

    async def _remember(self, snapshot: Snapshot) -> Snapshot:
        workload = snapshot.workload
        if workload is None or not workload.revisions:
            return snapshot
        keys = {self._key(snapshot, workload, revision.name): revision for revision in workload.revisions}
        seen = set(await self._store.seen_healthy(list(keys)))
        revisions = tuple(replace(one, was_healthy=one.was_healthy or key in seen) for key, one in keys.items())
        fresh = [
            key
            for key, one in keys.items()
            if one.ready > 0 and key not in seen and _settled(workload, one.name, now=self._clock.now())
        ]
        if fresh:
            await self._store.remember_healthy(fresh)
        return replace(snapshot, workload=replace(workload, revisions=revisions))

    @staticmethod
    def _key(snapshot: Snapshot, workload: WorkloadSnapshot, revision: str) -> str:
        return f"{snapshot.target.cluster}/{workload.namespace}/{workload.kind}/{revision}"


def _settled(workload: WorkloadSnapshot, revision: str, *, now: datetime) -> bool:
    """Tell whether a revision may be remembered as healthy: all wanted replicas ready on it, and steadily so.

    A crash loop is ready for seconds in every round; one look at it must not make its revision the target of a later rollback.
    """
    current = next((one for one in workload.revisions if one.name == revision), None)
    if current is None or workload.desired <= 0 or current.ready < workload.desired:
        return False
    pods = [pod for pod in live(workload.pods) if pod.revision == current.revision]
    return bool(pods) and all(
        pod.ready and not fails(pod, now=now) and pod.ready_since is not None and now - pod.ready_since >= STEADY_FOR
        for pod in pods
    )
