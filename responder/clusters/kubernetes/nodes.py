"""Reads a node target: the node, its pods, their budgets and workloads, and the cluster round it.

The decision a reader would question: what concerns the whole cluster is kept for a few seconds (nodes and their Leases five, the sum of
all pods' requests thirty), since a drain looks every two seconds and a list of a thousand nodes is tens of megabytes. What an eviction
is judged by (the node, its pods, budgets, namespaces) is read anew every time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from responder.clusters.kubernetes import snapshots as make
from responder.clusters.kubernetes import structs as k
from responder.clusters.kubernetes.client import KubernetesClient
from responder.model.cluster import EventSnapshot, MovedSnapshot, NodeDetail, NodeSnapshot, PodSnapshot, Snapshot
from responder.model.errors import GoneError, RemoteError
from responder.model.target import Target

T = TypeVar("T")
NODES_KEPT = timedelta(seconds=5)
REQUESTS_KEPT = timedelta(seconds=30)
OWNERS_KEPT = timedelta(minutes=5)
MOST_OWNERS_KEPT = 5_000
MOST_EVENTS = 100
MOST_POOLS = 50
"""Agent pools whose machines are looked at. Source: AKS, 100 pools a cluster; more than half of them fit no one pod."""

NO_NODES: tuple[NodeSnapshot, ...] = ()
NO_EVENTS: tuple[EventSnapshot, ...] = ()
NO_MOVED: tuple[MovedSnapshot, ...] = ()
FINISHED = frozenset({"Succeeded", "Failed"})
COUNTED = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
"""Kinds with a wanted count of their own."""

MEDIK8S = "medik8s-leases"
"""Namespace of the Leases that medik8s' actors share, one a node, called ``node-<name>``. Source: medik8s common, lease manager."""

Top = Callable[[k.Anything], Awaitable[Sequence[Target]]]


class _Kept(Generic[T]):
    """A value that is read again when it is old, by the clock that judges it: a process that was held up must not believe in old Leases."""

    def __init__(self, lasts: timedelta, now: Callable[[], datetime]) -> None:
        self._lasts = lasts
        self._now = now
        self._at: datetime | None = None
        self._value: T | None = None

    async def get(self, read: Callable[[], Awaitable[T]]) -> T:
        asked_at = self._now()
        if self._value is None or self._at is None or not timedelta(0) <= asked_at - self._at < self._lasts:
            self._value = await read()
            self._at = asked_at
        return self._value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """What stands round the pods of a node. ``daemon_sets``: UIDs; None when they were not read."""

    tops: Mapping[str, Target]
    daemon_sets: frozenset[str] | None
    namespaces: Mapping[str, k.Anything]
    marks: Mapping[str, str]
    budgets: Sequence[k.Pdb]

    def pod(self, raw: k.Pod) -> PodSnapshot:
        """Translate a pod with its topmost workload, the marks of that and of its namespace, and its budgets."""
        pod = make.pod(raw)
        owner = pod.owner
        top = self.tops.get(owner.uid) if owner is not None else None
        space = self.namespaces.get(pod.namespace)
        mark = (space.metadata.annotations or {}).get(make.HANDS_OFF) if space is not None else None
        words = f"namespace {pod.namespace}: {mark or 'no reason given'}" if mark is not None else None
        if top is not None and top.identity in self.marks:
            words = f"{top.owner_kind} {top.name}: {self.marks[top.identity]}"
        missing = owner is not None and owner.kind == "DaemonSet" and self.daemon_sets is not None
        return replace(
            pod,
            top=top.identity if top is not None else "",
            hands_off=pod.hands_off if pod.hands_off is not None else words,
            owner_exists=not (missing and owner is not None and owner.uid not in (self.daemon_sets or frozenset())),
            namespace_ends=space is not None and space.metadata.deletion_timestamp is not None,
            budgets=tuple(name for _, name in self.budgets_of(raw)),
        )

    def budgets_of(self, raw: k.Pod) -> list[tuple[str, str]]:
        """Return namespace and name of the budgets that match a pod; an empty selector matches all of its namespace."""
        labels, namespace = raw.metadata.labels or {}, raw.metadata.namespace
        return [
            (namespace, one.metadata.name)
            for one in self.budgets
            if one.metadata.namespace == namespace
            and one.spec.selector is not None
            and (not any(one.spec.selector.values()) or make.matches(one.spec.selector, labels))
        ]

    def unprotected(self, pods: Sequence[k.Pod]) -> frozenset[str]:
        """Return the workloads, by identity, that have a pod here which no budget protects: how many of theirs are ready must be exact."""
        owners = ((make.owner_of(one.metadata), one) for one in pods)
        return frozenset(
            self.tops[owner.uid].identity
            for owner, one in owners
            if owner is not None and owner.uid in self.tops and not self.budgets_of(one)
        )


class NodeReader:
    """Reads node targets of one cluster."""

    def __init__(self, name: str, client: KubernetesClient, *, top: Top, now: Callable[[], datetime]) -> None:
        self.name = name
        self._client = client
        self._top = top
        self._now = now
        self._nodes: _Kept[tuple[NodeSnapshot, ...]] = _Kept(NODES_KEPT, now)
        self._leases: _Kept[dict[str, datetime]] = _Kept(NODES_KEPT, now)
        self._requested: _Kept[dict[str, dict[str, float]]] = _Kept(REQUESTS_KEPT, now)
        self._room: _Kept[dict[str, dict[str, float]]] = _Kept(REQUESTS_KEPT, now)
        self._owners: dict[str, tuple[float, Target]] = {}

    async def snapshot(self, target: Target, displaced: Sequence[Target], read_at: datetime) -> Snapshot:
        """See ``ports.ClusterView.snapshot``."""
        gaps: dict[str, str] = {}
        try:
            node = make.node(await self._client.read(f"/api/v1/nodes/{target.name}", k.Node))
        except GoneError:
            node = None
        if node is not None and target.uid and node.uid != target.uid:
            node = None  # another node of that name
        pods, nodes, leases, events, held_by = await asyncio.gather(
            self._side(gaps, "pods", lambda: self._pods_on(target.name), list[k.Pod]()),
            self._side(gaps, "nodes", lambda: self._nodes.get(self._all_nodes), NO_NODES),
            self._side(gaps, "leases", lambda: self._leases.get(self._all_leases), dict[str, datetime]()),
            self._side(gaps, "events", lambda: self._events(target.name), NO_EVENTS),
            self._side(gaps, "lease_holder", lambda: self._holder(target.name), ""),
        )
        empty: dict[str, Target] = {}
        tops, daemon_sets, namespaces, budgets, requested = await asyncio.gather(
            self._side(gaps, "workloads", lambda: self._tops(pods), empty),
            self._side(gaps, "workloads", self._daemon_sets, None),
            self._side(gaps, "namespace", self._namespaces, dict[str, k.Anything]()),
            self._side(gaps, "budgets", self._budgets, list[k.Pdb]()),
            self._side(gaps, "requests", lambda: self._requested.get(self._all_requested), dict[str, dict[str, float]]()),
        )
        around = _Around(tops=tops, daemon_sets=daemon_sets, namespaces=namespaces, marks={}, budgets=budgets)
        counted = around.unprotected(pods) if node is not None and node.ready != "Unknown" else frozenset[str]()
        moved = await self._side(gaps, "workloads", lambda: self._moved(tops, displaced, counted), NO_MOVED)
        around = replace(around, marks={one.target.identity: one.hands_off for one in moved if one.hands_off})
        detail: NodeDetail | None = None
        if node is not None:
            names = {(namespace, name) for pod in pods for namespace, name in around.budgets_of(pod)}
            detail = NodeDetail(
                node=node,
                pods=tuple(around.pod(one) for one in pods),
                budgets=tuple(make.budget(one) for one in budgets if (one.metadata.namespace, one.metadata.name) in names),
                lease_renewed_at=leases.get(node.name),
                leases=leases,
                held_by=held_by,
                requested=requested,
            )
            nodes = tuple(node if one.name == node.name else one for one in nodes)
        return Snapshot(
            target=replace(target, uid=node.uid) if node is not None else target,
            read_at=read_at,
            gone=node is None,
            node=detail,
            moved=tuple(moved),
            nodes=tuple(nodes),
            events=tuple(events),
            gaps=gaps,
        )

    async def _side(self, gaps: dict[str, str], name: str, read: Callable[[], Awaitable[T]], nothing: T) -> T:
        try:
            return await read()
        except RemoteError as error:
            gaps[name] = str(error)
            return nothing

    # --- the node and its pods

    async def _pods_on(self, node: str) -> list[k.Pod]:
        pages = await self._client.pages("/api/v1/pods", k.PodList, query={"fieldSelector": f"spec.nodeName={node}"})
        return [one for page in pages for one in page.items or [] if one.spec.node_name == node]

    async def _tops(self, pods: Sequence[k.Pod]) -> dict[str, Target]:
        """Return the topmost workload by the UID of a pod's controller; DaemonSets' pods go nowhere and are left out."""
        owners = {
            owner.uid: pod for pod in pods if (owner := make.owner_of(pod.metadata)) is not None and owner.kind != "DaemonSet"
        }
        found = await asyncio.gather(*(self._top_of(uid, pod) for uid, pod in owners.items()))
        return dict(zip(owners, found, strict=True))

    async def _top_of(self, uid: str, raw: k.Pod) -> Target:
        now = asyncio.get_running_loop().time()
        kept = self._owners.get(uid)
        if kept is not None and now - kept[0] < OWNERS_KEPT.total_seconds():
            return kept[1]
        top = next(iter(await self._top(k.Anything(metadata=raw.metadata))))
        if len(self._owners) >= MOST_OWNERS_KEPT:
            self._owners.clear()
        self._owners[uid] = (now, top)
        return top

    async def _daemon_sets(self) -> frozenset[str]:
        pages = await self._client.pages("/apis/apps/v1/daemonsets", k.AnyList)
        return frozenset(one.metadata.uid for page in pages for one in page.items or [])

    async def _namespaces(self) -> dict[str, k.Anything]:
        pages = await self._client.pages("/api/v1/namespaces", k.AnyList)
        return {one.metadata.name: one for page in pages for one in page.items or []}

    async def _budgets(self) -> list[k.Pdb]:
        pages = await self._client.pages("/apis/policy/v1/poddisruptionbudgets", k.PdbList)
        return [one for page in pages for one in page.items or []]

    async def _events(self, node: str) -> tuple[EventSnapshot, ...]:
        query = {"fieldSelector": f"involvedObject.kind=Node,involvedObject.name={node}"}
        pages = await self._client.pages("/api/v1/events", k.EventList, query=query)
        raw = [one for page in pages for one in page.items or []]
        mine = [make.event(one) for one in raw if (one.involved_object.kind, one.involved_object.name) == ("Node", node)]
        oldest = datetime.min.replace(tzinfo=UTC)
        return tuple(sorted(mine, key=lambda one: one.last_seen_at or oldest, reverse=True)[:MOST_EVENTS])

    async def _holder(self, node: str) -> str:
        """Return who holds the medik8s Lease of a node now; "" when nobody does, or medik8s is not there."""
        try:
            path = f"/apis/coordination.k8s.io/v1/namespaces/{MEDIK8S}/leases/node-{node}"
            spec = (await self._client.read(path, k.Lease)).spec
        except GoneError:
            return ""
        if not spec.holder_identity or spec.renew_time is None:
            return ""
        ends_at = spec.renew_time + timedelta(seconds=spec.lease_duration_seconds or 0)
        return spec.holder_identity if ends_at > self._now() else ""

    # --- the workloads

    async def _moved(
        self, tops: Mapping[str, Target], displaced: Sequence[Target], counted: frozenset[str]
    ) -> tuple[MovedSnapshot, ...]:
        here = {one.identity: (one, False) for one in tops.values()}
        wanted = here | {one.identity: (one, True) for one in displaced}
        return tuple(
            await asyncio.gather(*(self._one_moved(one, known, one.identity in counted) for one, known in wanted.values()))
        )

    async def _one_moved(self, top: Target, displaced: bool, exact: bool) -> MovedSnapshot:
        """Return a workload; ``exact``: its pods are counted by themselves, for its controller's count lags behind an eviction."""
        if top.owner_kind not in COUNTED:
            return MovedSnapshot(target=top, displaced=displaced)
        path = f"/apis/apps/v1/namespaces/{top.namespace}/{COUNTED[top.owner_kind]}/{top.name}"
        try:
            raw = await self._client.read(path, k.Workload)
        except GoneError:
            return MovedSnapshot(target=top, displaced=displaced, gone=True)
        desired = 1 if raw.spec.replicas is None else raw.spec.replicas
        ready = raw.status.ready_replicas
        waiting: tuple[PodSnapshot, ...] = ()
        absent = 0
        if ready < desired or (exact and desired > 1):
            query = {"labelSelector": make.selector_text(raw.spec.selector)}
            pages = await self._client.pages(f"/api/v1/namespaces/{top.namespace}/pods", k.PodList, query=query)
            pods = [make.pod(one) for page in pages for one in page.items or []]
            live = [one for one in pods if one.deleting_since is None and one.phase not in FINISHED]
            waiting = tuple(one for one in live if not one.ready)
            ready = len(live) - len(waiting)  # the pods' own word is newer than their controller's count
            absent = max(0, desired - len(live))
        return MovedSnapshot(
            target=replace(top, uid=raw.metadata.uid),
            displaced=displaced,
            desired=desired,
            ready=ready,
            waiting=waiting,
            absent=absent,
            hands_off=(raw.metadata.annotations or {}).get(make.HANDS_OFF),
        )

    # --- the cluster round it

    async def all_nodes(self) -> tuple[NodeSnapshot, ...]:
        """Return all nodes, as read within the last seconds."""
        return await self._nodes.get(self._all_nodes)

    async def machine_room(self) -> dict[str, dict[str, float]]:
        """Return what a machine of each agent pool has for pods, as its largest node shows: without what runs on every node; see ``Snapshot.machine_room``.

        Raises:
            RemoteError: It could not be read.
        """
        return await self._room.get(self._all_room)

    async def _all_room(self) -> dict[str, dict[str, float]]:
        largest: dict[str, NodeSnapshot] = {}
        for one in sorted(
            await self.all_nodes(), key=lambda one: (one.ready == "True", one.allocatable.get("memory", 0.0), one.name)
        ):
            if one.pool and one.allocatable:
                largest[one.pool] = one
        asked = sorted(largest.items())[:MOST_POOLS]
        pods = await asyncio.gather(*(self._pods_on(one.name) for _, one in asked))
        found: dict[str, dict[str, float]] = {}
        for (pool, one), here in zip(asked, pods, strict=True):
            room = dict(one.allocatable)
            for raw in here:
                pod = make.pod(raw)
                if pod.mirror or (pod.owner is not None and pod.owner.kind == "DaemonSet"):
                    for name, value in {**pod.requests, "pods": 1.0}.items():
                        room[name] = room.get(name, 0.0) - value
            found[pool] = room
        return found

    async def _all_nodes(self) -> tuple[NodeSnapshot, ...]:
        pages = await self._client.pages("/api/v1/nodes", k.NodeList)
        return tuple(make.node(one) for page in pages for one in page.items or [])

    async def _all_leases(self) -> dict[str, datetime]:
        pages = await self._client.pages("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", k.LeaseList)
        return {
            one.metadata.name: one.spec.renew_time
            for page in pages
            for one in page.items or []
            if one.spec.renew_time is not None
        }

    async def _all_requested(self) -> dict[str, dict[str, float]]:
        query = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
        found: dict[str, dict[str, float]] = {}
        for page in await self._client.pages("/api/v1/pods", k.PodList, query=query):
            for one in page.items or []:
                if one.spec.node_name and one.status.phase not in FINISHED:
                    sums = found.setdefault(one.spec.node_name, {})
                    for name, value in {**make.pod_requests(one), "pods": 1.0}.items():
                        sums[name] = sums.get(name, 0.0) + value
        return found
