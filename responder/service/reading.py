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
from responder.model.cloud import CloudAsk
from responder.model.cluster import NodeSnapshot, Reading, Snapshot, WorkloadSnapshot
from responder.model.errors import RemoteError
from responder.model.evidence import EvidenceItem
from responder.model.health import CheckReading, Health, Ruling, Verdict
from responder.model.incident import Incident, Instance
from responder.model.reason import Reason
from responder.model.rule import Call
from responder.model.target import Target, TargetKind
from responder.policy import cloud_facts, maintenance
from responder.policy.facts import facts_of
from responder.policy.grouping import fires
from responder.ports import Clock, Cloud, ClusterView, Store
from responder.service.contacts import Contacts
from responder.service.reaching import Reach

SLOTS_PER_CLUSTER = 16
"""Targets of one cluster that are read, or whose evidence is taken, at once; a dead cluster delays nobody else."""

EVIDENCE_SLOTS = 4
"""Of those, for evidence. Source: RULES.md, action (evidence)."""

READ_WITHIN = timedelta(seconds=12)
CLOUD_WITHIN = timedelta(seconds=10)
AZURE = "azure://"
"""Before the machine's resource id in a Node's providerID. Source: cloud-provider-azure."""

MOST_EVENTS = 1000
"""Of Azure's events, the newest."""

FORESEEN_FOR = timedelta(seconds=5)
MOST_FORESEEN = 8

STEADY_FOR = timedelta(minutes=2)
"""Ready this long without a failing pod, a revision is remembered as healthy."""


class _NotWantedError(Exception):
    """When its turn came, it was not to be read any more."""


async def _always() -> bool:
    return True


class Reader:
    """Reads targets of all configured clusters."""

    def __init__(
        self,
        *,
        views: Mapping[str, ClusterView],
        store: Store,
        clock: Clock,
        catalogue: ActionCatalogue,
        clouds: Mapping[str, Cloud] | None = None,
        reach: Reach | None = None,
        contacts: Contacts | None = None,
        cluster_ids: Mapping[str, str] | None = None,
    ) -> None:
        """Take where everything is read from.

        Args:
            views: Of all configured clusters.
            store: Ours.
            clock: Ours.
            catalogue: Of checks.
            clouds: Of clusters that have one.
            reach: Reads cluster targets.
            contacts: Which clusters answer.
            cluster_ids: ARM ids of clusters, "" for one without: what Azure's events say is read for nodes. None where no source brings events.
        """
        self._cluster_ids = cluster_ids
        self._contacts = contacts or Contacts(clock=clock)
        self._views = views
        self._clouds = clouds or {}
        self._reach = reach
        self._store = store
        self._clock = clock
        self._catalogue = catalogue
        self._foreseen: dict[str, asyncio.Future[Snapshot | None]] = {}
        self._slots = {name: asyncio.Semaphore(SLOTS_PER_CLUSTER) for name in views}
        self._evidence_slots = {name: asyncio.Semaphore(EVIDENCE_SLOTS) for name in views}

    def view(self, cluster: str) -> ClusterView | None:
        """Return the view of a configured cluster."""
        return self._views.get(cluster)

    def cloud(self, cluster: str) -> Cloud | None:
        """Return the cloud of a configured cluster; None where it has none."""
        return self._clouds.get(cluster)

    async def snapshot(
        self,
        target: Target,
        *,
        displaced: Sequence[Target] = (),
        still: Callable[[], Awaitable[bool]] = _always,
        ask: CloudAsk | None = None,
        pool: str = "",
        shared: bool = False,
    ) -> Snapshot:
        """Read a target, with what we remember of its revisions and what the cloud says.

        Args:
            target: Of a configured cluster.
            displaced: See ``ports.ClusterView.snapshot``.
            still: Asked when its turn has come: whether it is still to be read.
            ask: What to ask the cloud beside what the target needs by itself.
            pool: Of a node: its agent pool as last read, for when it is gone.
            shared: See ``ports.ClusterView.snapshot``.

        Raises:
            RemoteError: When the target could not be read; also ``TransientError`` when it took too long.
        """
        if target.kind is TargetKind.CLUSTER and self._reach is not None:
            return await self._with_cloud(await self._with_events(await self._reach.snapshot(target)), ask)
        view = self._views[target.cluster]
        async with self._slots[target.cluster]:
            if not await still():
                raise _NotWantedError
            self._contacts.admit(target.cluster)
            try:
                async with asyncio.timeout(READ_WITHIN.total_seconds()):
                    snapshot = await view.snapshot(target, displaced=displaced, shared=shared)
            except (RemoteError, TimeoutError) as error:
                self._contacts.failed(target.cluster, error)
                raise
            self._contacts.answered(target.cluster)
        if target.kind is TargetKind.NODE:
            snapshot = replace(snapshot, pool=snapshot.node.node.pool if snapshot.node is not None else pool)
        return await self._with_cloud(await self._with_events(await self._remember(snapshot)), ask)

    async def _with_events(self, snapshot: Snapshot) -> Snapshot:
        """Add to a node what Azure says that it is doing to it, its pool or its cluster itself; to a cluster what it does anywhere in it."""
        whole = snapshot.target.kind is TargetKind.CLUSTER
        if self._cluster_ids is None or (snapshot.node is None and not whole):
            return snapshot
        node = snapshot.node.node if snapshot.node is not None else None
        events = await self._store.events(within=maintenance.SEEN_WITHIN, limit=MOST_EVENTS)
        found = maintenance.touching(
            maintenance.under_way(events, now=self._clock.now()),
            cluster_id=self._cluster_ids.get(snapshot.target.cluster, ""),
            pool=node.pool if node is not None else "",
            provider_id=node.provider_id if node is not None else "",
            other_pools=whole,
        )
        return replace(snapshot, maintenance=tuple(one.what for one in found))

    async def _with_cloud(self, snapshot: Snapshot, ask: CloudAsk | None) -> Snapshot:
        """Add what the cloud says where the target needs it; a cloud that does not answer is a gap."""
        cloud = self._clouds.get(snapshot.target.cluster)
        asked = _ask(snapshot, ask)
        if cloud is None or asked is None:
            return snapshot
        try:
            async with asyncio.timeout(CLOUD_WITHIN.total_seconds()):
                told = await cloud.read(asked)
        except (RemoteError, TimeoutError) as error:
            said = str(error) or f"no answer within {CLOUD_WITHIN.total_seconds():.0f} s"
            return replace(snapshot, gaps={**snapshot.gaps, "cloud": said})
        node = snapshot.node
        if node is not None and told.machine is not None:
            node = replace(node, machine=str(told.machine.life))
        read = replace(snapshot, cloud=told, node=node)
        empty = {f"machine size of pool {one}": "no node of it shows it" for one in cloud_facts.unsized_pools(read)}
        return replace(read, gaps={**read.gaps, **empty}) if empty else read

    async def foresee(self, target: Target) -> None:
        """Read a target of which an incident is about to open; what is read is kept for ``FORESEEN_FOR``, for one who asks."""
        name = target.identity
        if name in self._foreseen or len(self._foreseen) >= MOST_FORESEEN or target.cluster not in self._views:
            return
        loop = asyncio.get_running_loop()
        held: asyncio.Future[Snapshot | None] = loop.create_future()
        self._foreseen[name] = held
        try:
            held.set_result(await self.snapshot(target, shared=True))
        except (RemoteError, TimeoutError):
            held.set_result(None)  # who asks reads by himself, and is told why it fails
        finally:
            if not held.done():
                held.cancel()
            loop.call_later(FORESEEN_FOR.total_seconds(), self._forget, name, held)

    def _forget(self, name: str, held: asyncio.Future[Snapshot | None]) -> None:
        if self._foreseen.get(name) is held:
            del self._foreseen[name]

    async def _was_foreseen(self, incident: Incident, still: Callable[[], Awaitable[bool]]) -> Snapshot | None:
        """Return what was read ahead for an incident for which nothing was done yet; None where nothing is, or it is too old."""
        held = None if incident.runs or incident.displaced else self._foreseen.pop(incident.target.identity, None)
        if held is None:
            return None
        if not await still():
            raise _NotWantedError
        await asyncio.wait({held})
        snapshot = None if held.cancelled() else held.result()
        return snapshot if snapshot is not None and self._clock.now() - snapshot.read_at < FORESEEN_FOR else None

    async def evidence(self, snapshot: Snapshot) -> Sequence[EvidenceItem]:
        """Capture the evidence of a target as it was just read, within the cluster's slots."""
        cluster = snapshot.target.cluster
        async with self._evidence_slots[cluster], self._slots[cluster]:
            return await self._views[cluster].evidence(snapshot)

    async def nodes(self, cluster: str) -> Sequence[NodeSnapshot] | None:
        """Return a cluster's nodes as read within the last seconds; None when they could not be read."""
        view = self._views.get(cluster)
        if view is None:
            return None
        try:
            async with self._slots[cluster]:
                self._contacts.admit(cluster)
                found = await view.nodes()
        except (RemoteError, TimeoutError) as error:
            self._contacts.failed(cluster, error)
            return None
        self._contacts.answered(cluster)
        return found

    async def answers(self, cluster: str) -> Verdict:
        """Ask a cluster whether it answers."""
        view = self._views.get(cluster)
        if view is None:
            return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, f"cluster {cluster} is not configured")
        try:
            await view.answers()
        except (RemoteError, TimeoutError) as error:
            self._contacts.failed(cluster, error)
            said = self._contacts.silent(cluster) or str(error) or "no answer in time"
            return Verdict(Ruling.REFUSE, Reason.UNKNOWN, said)
        self._contacts.answered(cluster)
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, "it answers again")

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
                snapshot = await self._was_foreseen(incident, still) or await self.snapshot(
                    incident.target, displaced=incident.displaced, still=still, pool=incident.pool, shared=not incident.runs
                )
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


def _ask(snapshot: Snapshot, more: CloudAsk | None) -> CloudAsk | None:
    """Return what to ask the cloud about a target; None for nothing: ARM's limits are shared by a whole subscription.

    A workload needs its pools only when a pod fits nowhere.
    """
    more_pools = more.machines if more is not None else ()
    fresh = more is not None and more.fresh
    target = snapshot.target
    match target.kind:
        case TargetKind.NODE:
            node = snapshot.node.node if snapshot.node is not None else None
            machine = node.provider_id.removeprefix(AZURE) if node is not None and node.provider_id.startswith(AZURE) else ""
            pools = dict.fromkeys([*([snapshot.pool] if snapshot.pool else []), *more_pools])
            machine = (more.machine if more is not None else "") or machine
            return CloudAsk(machine=machine, machines=tuple(pools), windows=True, fresh=fresh)
        case TargetKind.NODE_POOL:
            return CloudAsk(machines=more_pools, windows=True, fresh=fresh)
        case TargetKind.CLUSTER:
            return CloudAsk(health=True, fresh=fresh)
        case TargetKind.WORKLOAD | TargetKind.POD | TargetKind.SERVICE:
            pods = snapshot.workload.pods if snapshot.workload is not None else ()
            homeless = any(one.scheduled is False and one.scheduling_reason == "Unschedulable" for one in pods)
            return CloudAsk(fresh=fresh) if homeless or more is not None else None
        case _:
            return None
