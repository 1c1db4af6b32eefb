"""Reads one cluster: look-ups for target resolution, snapshots for judgement, evidence for people. Changes nothing, ever."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from responder.clusters.kubernetes import snapshots as make
from responder.clusters.kubernetes import structs as k
from responder.clusters.kubernetes.client import KubernetesClient
from responder.clusters.kubernetes.crowd import Crowd, Crowds
from responder.clusters.kubernetes.evidence import capture
from responder.clusters.kubernetes.nodes import NO_EVENTS, NO_NODES, NodeReader
from responder.clusters.kubernetes.roll import Roll
from responder.clusters.kubernetes.sharing import Shared
from responder.model.action import Permission
from responder.model.cluster import (
    EventSnapshot,
    NodeSnapshot,
    OwnerRef,
    PodSnapshot,
    RevisionSnapshot,
    ServiceSnapshot,
    Snapshot,
    WorkloadSnapshot,
)
from responder.model.errors import GoneError, RejectedError, RemoteError, ThrottledError
from responder.model.evidence import EvidenceItem
from responder.model.target import Lookup, LookupAnswer, Presence, Target, TargetKind

T = TypeVar("T")
PLURALS: Mapping[str, str] = {
    "Deployment": "apis/apps/v1/{ns}deployments",
    "StatefulSet": "apis/apps/v1/{ns}statefulsets",
    "DaemonSet": "apis/apps/v1/{ns}daemonsets",
    "ReplicaSet": "apis/apps/v1/{ns}replicasets",
    "Job": "apis/batch/v1/{ns}jobs",
    "CronJob": "apis/batch/v1/{ns}cronjobs",
    "Pod": "api/v1/{ns}pods",
    "Service": "api/v1/{ns}services",
    "Node": "api/v1/nodes",
    "HorizontalPodAutoscaler": "apis/autoscaling/v2/{ns}horizontalpodautoscalers",
    "PersistentVolumeClaim": "api/v1/{ns}persistentvolumeclaims",
}
TOP_KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicaSet")
CONTROLLER_KINDS = ("ReplicaSet", "StatefulSet", "DaemonSet", "Job")
MOST_OWNERS = 5
KEPT_FOR = timedelta(seconds=30)
MOST_KEPT = 5_000
CAPTURES_AT_ONCE = 4
MOST_EVENTS = 100
_POD_SUFFIX = re.compile(r"(.+)-[a-z0-9]{5}")
_ORDINAL = re.compile(r"(.+)-\d+")


def path_of(kind: str, namespace: str, name: str = "") -> str:
    """Return the path of an object or list."""
    where = PLURALS[kind].format(ns=f"namespaces/{namespace}/" if namespace else "")
    return f"/{where}/{name}" if name else f"/{where}"


class KubernetesView:
    """Implements ``ports.ClusterView`` over the REST API."""

    def __init__(self, name: str, client: KubernetesClient, *, now: Callable[[], datetime]) -> None:
        self.name = name
        self._client = client
        self._now = now
        self._kept: dict[Lookup, tuple[float, LookupAnswer]] = {}
        self._roll = Roll(client, path_of)
        self._captures = asyncio.Semaphore(CAPTURES_AT_ONCE)
        self._shared = Shared(now=now)
        self._crowds = Crowds(client, path_of, self._shared, now=now)
        self._node_reader = NodeReader(name, client, top=self._tops_of_pod, now=now)

    # --- target resolution

    async def look_up(self, lookup: Lookup) -> LookupAnswer:
        """See ``ports.ClusterView``; answers are kept for 30 s, unknown ones are not."""
        loop = asyncio.get_running_loop()
        kept = self._kept.get(lookup)
        if kept is not None and loop.time() - kept[0] < KEPT_FOR.total_seconds():
            return kept[1]
        try:
            async with asyncio.timeout(2):
                answer = await self._look_up(lookup)
        except (RemoteError, TimeoutError) as error:
            return LookupAnswer(presence=Presence.UNKNOWN, detail=str(error) or "no answer within 2 s")
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[lookup] = (loop.time(), answer)
        return answer

    async def _look_up(self, lookup: Lookup) -> LookupAnswer:
        match lookup.kind:
            case "controller":
                return await self._controller(lookup)
            case "node_address":
                return await self._node_by_address(lookup)
            case "HorizontalPodAutoscaler":
                return await self._scaled_by(lookup)
            case "PersistentVolumeClaim":
                return await self._mounted_by(lookup)
            case "Pod":
                return await self._pod(lookup)
            case "Service" | "Node":
                found = await self._get(lookup.kind, lookup.namespace, lookup.name)
                if found is None:
                    return _absent(lookup)
                kind = TargetKind.SERVICE if lookup.kind == "Service" else TargetKind.NODE
                target = Target(
                    kind=kind, cluster=self.name, namespace=lookup.namespace, name=lookup.name, uid=found.metadata.uid
                )
                return LookupAnswer(presence=Presence.FOUND, targets=(target,), detail=f"{lookup.kind} {lookup.name} exists")
            case _:
                found = await self._get(lookup.kind, lookup.namespace, lookup.name)
                return _absent(lookup) if found is None else await self._top(lookup.kind, found)

    async def _get(self, kind: str, namespace: str, name: str) -> k.Anything | None:
        if kind not in PLURALS:
            return None
        return await self._roll.get(kind, namespace, name)

    async def _top(self, kind: str, found: k.Anything, *, chain: str = "") -> LookupAnswer:
        """Follow controlling owners, each checked by UID, to the topmost workload."""
        said = chain or f"{kind} {found.metadata.name}"
        for _ in range(MOST_OWNERS):
            owner = make.owner_of(found.metadata)
            if owner is None:
                break
            if owner.kind not in TOP_KINDS:
                target = self._workload(
                    owner.kind if owner.kind == "Rollout" else "other", found.metadata.namespace, owner.name, owner.uid
                )
                return LookupAnswer(presence=Presence.FOUND, targets=(target,), detail=f"{said} → {owner.kind} {owner.name}")
            parent = await self._get(owner.kind, found.metadata.namespace, owner.name)
            if parent is None or parent.metadata.uid != owner.uid:
                said += f" → {owner.kind} {owner.name} (gone: an orphan)"
                break
            kind, found = owner.kind, parent
            said += f" → {kind} {found.metadata.name}"
        owner_kind = "bare" if kind == "Pod" else kind
        target = self._workload(owner_kind, found.metadata.namespace, found.metadata.name, found.metadata.uid)
        return LookupAnswer(presence=Presence.FOUND, targets=(target,), detail=said)

    def _workload(self, kind: str, namespace: str, name: str, uid: str) -> Target:
        return Target(kind=TargetKind.WORKLOAD, cluster=self.name, namespace=namespace, name=name, owner_kind=kind, uid=uid)

    async def _pod(self, lookup: Lookup) -> LookupAnswer:
        found = await self._get("Pod", lookup.namespace, lookup.name)
        if found is not None:
            pod = Target(
                kind=TargetKind.POD, cluster=self.name, namespace=lookup.namespace, name=lookup.name, uid=found.metadata.uid
            )
            top = await self._top("Pod", found)
            return replace(top, targets=(*top.targets, pod))
        generated = _POD_SUFFIX.fullmatch(lookup.name)
        ordinal = _ORDINAL.fullmatch(lookup.name)
        for kind, matched in (("ReplicaSet", generated), ("DaemonSet", generated), ("StatefulSet", ordinal)):
            if matched is None:
                continue
            maker = await self._get(kind, lookup.namespace, matched[1])
            if maker is not None:
                return await self._top(kind, maker, chain=f"Pod {lookup.name} is gone; made by {kind} {matched[1]}")
        return _absent(lookup)

    async def _controller(self, lookup: Lookup) -> LookupAnswer:
        answers = [(kind, await self._get(kind, lookup.namespace, lookup.name)) for kind in CONTROLLER_KINDS]
        tops = [await self._top(kind, one) for kind, one in answers if one is not None]
        if not tops:
            return _absent(lookup)
        targets = {target.identity: target for top in tops for target in top.targets}
        return LookupAnswer(
            presence=Presence.FOUND, targets=tuple(targets.values()), detail="; ".join(top.detail for top in tops)
        )

    async def _scaled_by(self, lookup: Lookup) -> LookupAnswer:
        try:
            hpa = await self._client.read(path_of("HorizontalPodAutoscaler", lookup.namespace, lookup.name), k.Hpa)
        except GoneError:
            return _absent(lookup)
        scaled = hpa.spec.scale_target_ref
        found = await self._get(scaled.kind, lookup.namespace, scaled.name)
        if found is None:
            return LookupAnswer(
                presence=Presence.ABSENT,
                detail=f"autoscaler {lookup.name} scales {scaled.kind} {scaled.name}, which does not exist",
            )
        return await self._top(scaled.kind, found, chain=f"autoscaler {lookup.name} scales {scaled.kind} {scaled.name}")

    async def _mounted_by(self, lookup: Lookup) -> LookupAnswer:
        pods = [one for page in await self._client.pages(path_of("Pod", lookup.namespace), k.PodList) for one in page.items or []]
        targets: dict[str, Target] = {}
        for one in pods:
            claims = [(volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in one.spec.volumes or []]
            if lookup.name in claims:
                top = await self._top("Pod", k.Anything(metadata=one.metadata))
                targets |= {target.identity: target for target in top.targets}
        if not targets:
            return LookupAnswer(presence=Presence.ABSENT, detail=f"no pod mounts claim {lookup.name}")
        return LookupAnswer(presence=Presence.FOUND, targets=tuple(targets.values()), detail=f"claim {lookup.name} is mounted")

    async def _node_by_address(self, lookup: Lookup) -> LookupAnswer:
        nodes = [one for page in await self._client.pages(path_of("Node", ""), k.NodeList) for one in page.items or []]
        for one in nodes:
            if any(address.type == "InternalIP" and address.address == lookup.name for address in one.status.addresses or []):
                target = Target(kind=TargetKind.NODE, cluster=self.name, name=one.metadata.name, uid=one.metadata.uid)
                return LookupAnswer(
                    presence=Presence.FOUND, targets=(target,), detail=f"{lookup.name} is node {one.metadata.name}"
                )
        return _absent(lookup)

    # --- snapshots

    async def snapshot(self, target: Target, *, displaced: Sequence[Target] = (), shared: bool = False) -> Snapshot:
        """See ``ports.ClusterView``."""
        read_at = self._now()
        async with asyncio.timeout(10):
            match target.kind:
                case TargetKind.POD:
                    return await self._pod_snapshot(target, read_at, shared)
                case TargetKind.WORKLOAD:
                    return await self._workload_snapshot(target, read_at, shared)
                case TargetKind.SERVICE:
                    return await self._service_snapshot(target, read_at, shared)
                case TargetKind.NODE:
                    return await self._node_reader.snapshot(target, displaced, read_at)
                case TargetKind.NODE_POOL:
                    return Snapshot(target=target, read_at=read_at, nodes=await self._node_reader.all_nodes())
                case _:
                    gap = f"a {target.kind} is not read by this release"
                    return Snapshot(target=target, read_at=read_at, gaps={"target": gap})

    async def answers(self) -> None:
        """See ``ports.ClusterView``."""
        try:
            await self._client.send("GET", "/version")
        except (RejectedError, GoneError, ThrottledError):
            return

    async def nodes(self) -> Sequence[NodeSnapshot]:
        """See ``ports.ClusterView``."""
        async with asyncio.timeout(10):
            return await self._node_reader.all_nodes()

    async def _tops_of_pod(self, pod: k.Anything) -> Sequence[Target]:
        return (await self._top("Pod", pod)).targets

    async def _pod_snapshot(self, target: Target, read_at: datetime, shared: bool) -> Snapshot:
        try:
            raw = await self._client.read(path_of("Pod", target.namespace, target.name), k.Pod)
        except GoneError:
            return Snapshot(target=target, read_at=read_at, gone=True)
        pod = make.pod(raw)
        gaps: dict[str, str] = {}
        workload: WorkloadSnapshot | None = None
        nodes: tuple[NodeSnapshot, ...] = ()
        room: Mapping[str, Mapping[str, float]] = {}
        events: tuple[EventSnapshot, ...] = ()
        top = await self._top("Pod", k.Anything(metadata=raw.metadata))
        owner = next(
            (one for one in top.targets if one.owner_kind in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}), None
        )
        if owner is not None:
            around = await self._workload_snapshot(owner, read_at, shared)
            workload, nodes, events, gaps = around.workload, around.nodes, around.events, dict(around.gaps)
            room = around.machine_room
        else:
            events = await self._side(gaps, "events", lambda: self._events(target.namespace, {pod.name}), NO_EVENTS)
        return Snapshot(
            target=replace(target, uid=pod.uid),
            read_at=read_at,
            pod=pod,
            workload=workload,
            nodes=nodes,
            machine_room=room,
            events=events,
            gaps=gaps,
        )

    async def _workload_snapshot(self, target: Target, read_at: datetime, shared: bool) -> Snapshot:
        kind = target.owner_kind
        if kind == "bare":
            return await self._bare_snapshot(target, read_at)
        if kind == "CronJob":
            return await self._cron_snapshot(target, read_at, shared)
        if kind not in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}:
            return await self._other_snapshot(target, read_at)
        crowd = await self._crowds.of(kind, target.namespace) if shared else None
        raw = crowd.workload(target.name) if crowd is not None else None
        if raw is None or crowd is None:  # not in the list: it is new, or it is gone, which only its own answer says
            crowd = None
            try:
                raw = await self._client.read(path_of(kind, target.namespace, target.name), k.Workload)
            except GoneError:
                return Snapshot(target=target, read_at=read_at, gone=True)
        else:
            read_at = min(read_at, crowd.read_at)
        gaps: dict[str, str] = {}
        ns, selector = target.namespace, make.selector_text(raw.spec.selector)
        labels = {
            str(name): str(value) for name, value in ((raw.spec.template.get("metadata") or {}).get("labels") or {}).items()
        }
        (owned_sets, own_pods), services = await asyncio.gather(
            self._belonging(kind, raw, selector, gaps, crowd),
            self._side(gaps, "services", lambda: self._services(ns, labels, shared), list[ServiceSnapshot]()),
        )
        hpas, pdbs, quotas, mark = await asyncio.gather(
            self._side(
                gaps, "autoscalers", lambda: self._near(shared, f"autoscalers/{ns}", lambda: self._autoscalers(ns)), list[k.Hpa]()
            ),
            self._side(gaps, "budgets", lambda: self._near(shared, f"budgets/{ns}", lambda: self._budgets(ns)), list[k.Pdb]()),
            self._side(gaps, "quotas", lambda: self._near(shared, f"quotas/{ns}", lambda: self._quotas(ns)), list[k.Quota]()),
            self._side(gaps, "namespace", lambda: self._near(shared, f"namespace/{ns}", lambda: self._namespace_mark(ns)), None),
        )
        mine = [make.pod(one) for one in own_pods]
        digest = make.template_digest(raw.spec.template)
        revisions: list[RevisionSnapshot] = [make.replica_set_revision(one, current=digest) for one in owned_sets]
        if kind in {"StatefulSet", "DaemonSet"}:
            revisions = await self._side(
                gaps, "revisions", lambda: self._controller_revisions(ns, selector, raw.metadata.uid, digest, mine), []
            )
        names = {target.name, *(one.metadata.name for one in owned_sets), *(one.name for one in mine)}
        events, nodes = await asyncio.gather(
            self._side(gaps, "events", lambda: self._events(ns, names, shared=shared), NO_EVENTS),
            self._side(gaps, "nodes", lambda: self._nodes({one.node for one in mine if one.node}, shared=shared), NO_NODES),
        )
        room: Mapping[str, Mapping[str, float]] = {}
        if any(one.scheduled is False for one in mine):
            room = await self._side(gaps, "machines", self._node_reader.machine_room, {})
        made = make.workload(kind, raw, pods=mine, revisions=revisions)
        scaler = next(
            (one for one in hpas if (one.spec.scale_target_ref.kind, one.spec.scale_target_ref.name) == (kind, target.name)), None
        )
        made = replace(
            made,
            autoscaler=make.autoscaler(scaler) if scaler is not None else None,
            budgets=tuple(make.budget(one) for one in pdbs if make.matches(one.spec.selector, labels)),
            quotas=tuple(make.quota(one) for one in quotas),
            services=tuple(services),
            hands_off=made.hands_off if made.hands_off is not None else mark,
        )
        return Snapshot(
            target=replace(target, uid=made.uid),
            read_at=read_at,
            workload=made,
            nodes=tuple(nodes),
            machine_room=room,
            events=tuple(events),
            gaps=gaps,
        )

    async def _belonging(
        self, kind: str, raw: k.Workload, selector: str, gaps: dict[str, str], crowd: Crowd | None
    ) -> tuple[list[k.Workload], list[k.Pod]]:
        """Return a workload's own ReplicaSets and pods."""
        ns, uid = raw.metadata.namespace, raw.metadata.uid
        if crowd is not None:
            sets = crowd.sets(raw) if kind == "Deployment" else []
            return sets, crowd.pods(raw, [one.metadata.uid for one in sets] if kind == "Deployment" else [uid])
        empty: list[k.Workload] = []
        listed, pods = await asyncio.gather(
            self._side(
                gaps, "revisions", lambda: self._replica_sets(ns, selector) if kind == "Deployment" else _nothing(empty), empty
            ),
            self._side(gaps, "pods", lambda: self._pods(ns, selector), list[k.Pod]()),
        )
        sets = [one for one in listed if _owned(one.metadata, uid)]
        owners = {uid} if kind != "Deployment" else {one.metadata.uid for one in sets}
        return sets, [one for one in pods if _owned_by_any(one.metadata, owners)]

    async def _bare_snapshot(self, target: Target, read_at: datetime) -> Snapshot:
        try:
            raw = await self._client.read(path_of("Pod", target.namespace, target.name), k.Pod)
        except GoneError:
            return Snapshot(target=target, read_at=read_at, gone=True)
        gaps: dict[str, str] = {}
        pod = make.pod(raw)
        events = await self._side(gaps, "events", lambda: self._events(target.namespace, {pod.name}), NO_EVENTS)
        return Snapshot(target=replace(target, uid=pod.uid), read_at=read_at, pod=pod, events=tuple(events), gaps=gaps)

    async def _cron_snapshot(self, target: Target, read_at: datetime, shared: bool) -> Snapshot:
        """Return a CronJob with the Job of it that was made last as its workload: what people read of one that failed is that Job's."""
        try:
            raw = await self._client.read(path_of("CronJob", target.namespace, target.name), k.Anything)
        except GoneError:
            return Snapshot(target=target, read_at=read_at, gone=True)
        target = replace(target, uid=raw.metadata.uid)
        gaps: dict[str, str] = {}
        jobs = await self._side(gaps, "workload", lambda: self._jobs_of(target), list[k.Anything]())
        if not jobs:
            gaps.setdefault("workload", f"CronJob {target.name} has no Job")
            events = await self._side(gaps, "events", lambda: self._events(target.namespace, {target.name}), NO_EVENTS)
            return Snapshot(target=target, read_at=read_at, events=tuple(events), gaps=gaps)
        newest = max(
            jobs, key=lambda one: (one.metadata.creation_timestamp or datetime.min.replace(tzinfo=UTC), one.metadata.name)
        )
        job = self._workload("Job", target.namespace, newest.metadata.name, newest.metadata.uid)
        around = await self._workload_snapshot(job, read_at, shared)
        if around.gone:
            return Snapshot(target=target, read_at=read_at, gaps={"workload": f"Job {newest.metadata.name} is gone"})
        return replace(around, target=target)

    async def _jobs_of(self, target: Target) -> list[k.Anything]:
        pages = await self._client.pages(path_of("Job", target.namespace), k.AnyList)
        return [one for page in pages for one in page.items or [] if _owned(one.metadata, target.uid)]

    async def _other_snapshot(self, target: Target, read_at: datetime) -> Snapshot:
        gaps = {"workload": f"a {target.owner_kind or 'workload of unknown kind'} is not one that this release acts on"}
        events = await self._side(gaps, "events", lambda: self._events(target.namespace, {target.name}), NO_EVENTS)
        return Snapshot(target=target, read_at=read_at, events=tuple(events), gaps=gaps)

    async def _service_snapshot(self, target: Target, read_at: datetime, shared: bool) -> Snapshot:
        ns = target.namespace
        try:
            raw = await self._client.read(path_of("Service", ns, target.name), k.Service)
        except GoneError:
            return Snapshot(target=target, read_at=read_at, gone=True)
        gaps: dict[str, str] = {}
        selector = ",".join(f"{name}={value}" for name, value in (raw.spec.selector or {}).items())
        slices, pods, mark = await asyncio.gather(
            self._side(gaps, "endpoints", lambda: self._slices(ns, target.name), list[k.Slice]()),
            self._side(gaps, "pods", lambda: self._pods(ns, selector) if selector else _nothing(list[k.Pod]()), list[k.Pod]()),
            self._side(gaps, "namespace", lambda: self._near(shared, f"namespace/{ns}", lambda: self._namespace_mark(ns)), None),
        )
        made = [make.pod(one) for one in pods]
        service = make.service(raw, slices, made)
        tops = await self._side(gaps, "owners", lambda: self._owners(ns, raw.spec.selector or {}, pods), list[Target]())
        service = replace(
            service,
            workloads=tuple(tops),
            hands_off=service.hands_off if service.hands_off is not None else mark,
        )
        workload: WorkloadSnapshot | None = None
        nodes: tuple[NodeSnapshot, ...] = ()
        room: Mapping[str, Mapping[str, float]] = {}
        events: tuple[EventSnapshot, ...] = ()
        if len(tops) == 1:
            around = await self._workload_snapshot(tops[0], read_at, shared)
            workload, nodes, events, room = around.workload, around.nodes, around.events, around.machine_room
            gaps |= dict(around.gaps)
        elif tops:
            gaps["workload"] = f"the service has {len(tops)} workloads: {', '.join(str(one) for one in tops)}"
        return Snapshot(
            target=replace(target, uid=service.uid),
            read_at=read_at,
            service=service,
            workload=workload,
            nodes=nodes,
            machine_room=room,
            events=events,
            gaps=gaps,
        )

    async def _owners(self, namespace: str, selector: Mapping[str, str], pods: Sequence[k.Pod]) -> list[Target]:
        """Return the distinct workloads behind a service: of its pods, or, without pods, whose template the selector matches."""
        found: dict[str, Target] = {}
        seen: set[str] = set()
        for one in pods:
            owner = make.owner_of(one.metadata)
            if owner is None or owner.uid in seen:
                continue
            seen.add(owner.uid)
            top = await self._top("Pod", k.Anything(metadata=one.metadata))
            found |= {target.identity: target for target in top.targets}
        if not found and selector:
            for kind in ("Deployment", "StatefulSet", "DaemonSet"):
                for page in await self._client.pages(path_of(kind, namespace), k.WorkloadList):
                    for workload in page.items or []:
                        labels = (workload.spec.template.get("metadata") or {}).get("labels") or {}
                        if all(labels.get(name) == value for name, value in selector.items()):
                            target = self._workload(kind, namespace, workload.metadata.name, workload.metadata.uid)
                            found[target.identity] = target
        return list(found.values())

    async def _near(self, shared: bool, name: str, read: Callable[[], Awaitable[T]]) -> T:
        """Read what concerns a whole namespace or node, or share what was read for another target a moment ago."""
        return await (self._shared.get(name, read) if shared else read())

    async def _side(self, gaps: dict[str, str], name: str, read: Callable[[], Awaitable[T]], nothing: T) -> T:
        """Make a side read, begun here and not before: what is cancelled first leaves nothing behind. When it fails it is a gap, not an error."""
        try:
            return await read()
        except RemoteError as error:
            gaps[name] = str(error)
            return nothing

    async def _namespace_mark(self, namespace: str) -> str | None:
        found = await self._client.read(f"/api/v1/namespaces/{namespace}", k.Anything)
        return (found.metadata.annotations or {}).get(make.HANDS_OFF)

    async def _replica_sets(self, namespace: str, selector: str) -> list[k.Workload]:
        pages = await self._client.pages(path_of("ReplicaSet", namespace), k.WorkloadList, query={"labelSelector": selector})
        return [one for page in pages for one in page.items or []]

    async def _pods(self, namespace: str, selector: str) -> list[k.Pod]:
        pages = await self._client.pages(path_of("Pod", namespace), k.PodList, query={"labelSelector": selector})
        return [one for page in pages for one in page.items or []]

    async def _autoscalers(self, namespace: str) -> list[k.Hpa]:
        return (await self._client.read(path_of("HorizontalPodAutoscaler", namespace), k.HpaList)).items or []

    async def _budgets(self, namespace: str) -> list[k.Pdb]:
        return (await self._client.read(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", k.PdbList)).items or []

    async def _quotas(self, namespace: str) -> list[k.Quota]:
        return (await self._client.read(f"/api/v1/namespaces/{namespace}/resourcequotas", k.QuotaList)).items or []

    async def _slices(self, namespace: str, service: str) -> list[k.Slice]:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        pages = await self._client.pages(path, k.SliceList, query={"labelSelector": f"kubernetes.io/service-name={service}"})
        return [one for page in pages for one in page.items or []]

    async def _services(self, namespace: str, labels: Mapping[str, str], shared: bool) -> list[ServiceSnapshot]:
        async def read() -> list[k.Service]:
            return (await self._client.read(path_of("Service", namespace), k.ServiceList)).items or []

        raw = await self._near(shared, f"services/{namespace}", read)
        mine = [
            one
            for one in raw
            if one.spec.selector and all(labels.get(name) == value for name, value in one.spec.selector.items())
        ]
        return [make.service(one, await self._slices(namespace, one.metadata.name), ()) for one in mine]

    async def _controller_revisions(
        self, namespace: str, selector: str, uid: str, digest: str, pods: Sequence[PodSnapshot]
    ) -> list[RevisionSnapshot]:
        path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
        raw = (await self._client.read(path, k.RevisionList, query={"labelSelector": selector})).items or []
        return [make.controller_revision(one, current=digest, pods=pods) for one in raw if _owned(one.metadata, uid)]

    async def _events(self, namespace: str, names: set[str], *, shared: bool = False) -> tuple[EventSnapshot, ...]:
        async def read() -> dict[str, list[k.KubeEvent]]:
            by_name: dict[str, list[k.KubeEvent]] = {}
            for page in await self._client.pages(f"/api/v1/namespaces/{namespace}/events", k.EventList):
                for one in page.items or []:
                    by_name.setdefault(one.involved_object.name, []).append(one)
            return by_name

        events = await self._near(shared, f"events/{namespace}", read)
        found = [make.event(one) for name in names for one in events.get(name, ())]
        oldest = datetime.min.replace(tzinfo=UTC)
        return tuple(sorted(found, key=lambda one: one.last_seen_at or oldest, reverse=True)[:MOST_EVENTS])

    async def _nodes(self, names: set[str], *, shared: bool = False) -> tuple[NodeSnapshot, ...]:
        async def one(name: str) -> NodeSnapshot | None:
            try:
                return make.node(await self._client.read(path_of("Node", "", name), k.Node))
            except GoneError:
                return NodeSnapshot(name=name, ready="Unknown")

        found = await asyncio.gather(
            *(self._near(shared, f"node/{name}", lambda name=name: one(name)) for name in sorted(names)[:20])  # type: ignore[misc]
        )
        return tuple(node for node in found if node is not None)

    # --- the rest of the port

    async def evidence(self, snapshot: Snapshot) -> Sequence[EvidenceItem]:
        """See ``ports.ClusterView``; at most four captures at a time."""
        async with self._captures:
            return await capture(self._client, snapshot, now=self._now())

    async def healthy_revisions(self) -> Sequence[str]:
        """See ``ports.ClusterView``."""
        found: list[str] = []
        async with asyncio.timeout(30):
            for page in await self._client.pages(path_of("ReplicaSet", ""), k.WorkloadList, within=timedelta(seconds=10)):
                for one in page.items or []:
                    owner = make.owner_of(one.metadata)
                    wanted = 1 if one.spec.replicas is None else one.spec.replicas
                    if (
                        owner is not None
                        and owner.kind == "Deployment"
                        and wanted > 0
                        and one.status.available_replicas >= wanted
                    ):
                        found.append(f"{one.metadata.namespace}/Deployment/{one.metadata.name}")
            for page in await self._client.pages(path_of("StatefulSet", ""), k.WorkloadList, within=timedelta(seconds=10)):
                for one in page.items or []:
                    wanted = 1 if one.spec.replicas is None else one.spec.replicas
                    settled = one.status.current_revision == one.status.update_revision
                    if settled and wanted > 0 and one.status.ready_replicas >= wanted:
                        found.append(f"{one.metadata.namespace}/StatefulSet/{one.status.update_revision}")
        return found

    async def permitted(self, needed: Sequence[Permission], *, namespace: str = "") -> Mapping[Permission, bool]:
        """See ``ports.ClusterView``."""

        async def one(permission: Permission) -> bool:
            resource, _, subresource = permission.resource.partition("/")
            attributes: dict[str, Any] = {"verb": permission.verb, "group": permission.group, "resource": resource}
            if subresource:
                attributes["subresource"] = subresource
            if namespace:
                attributes["namespace"] = namespace
            body = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }
            answer = await self._client.send("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
            return _allowed(answer)

        answers = await asyncio.gather(*(one(permission) for permission in needed))
        return dict(zip(needed, answers, strict=True))

    async def close(self) -> None:
        """See ``ports.ClusterView``."""
        await self._client.close()


def _allowed(answer: bytes) -> bool:
    return msgspec.json.decode(answer, type=k.Review).status.allowed


def _absent(lookup: Lookup) -> LookupAnswer:
    where = f" in {lookup.namespace}" if lookup.namespace else ""
    return LookupAnswer(presence=Presence.ABSENT, detail=f"there is no {lookup.kind} {lookup.name}{where}")


def _owned(meta: k.Meta, uid: str) -> bool:
    owner: OwnerRef | None = make.owner_of(meta)
    return owner is not None and owner.uid == uid


def _owned_by_any(meta: k.Meta, uids: set[str]) -> bool:
    owner = make.owner_of(meta)
    return owner is not None and owner.uid in uids


async def _nothing(value: T) -> T:
    return value
