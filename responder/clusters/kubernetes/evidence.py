"""Captures evidence: what a person would have typed at 3 a.m., byte for byte and bounded, before anything is done.

Logs (current and previous) of failing containers, the objects without secrets, conditions, events, owner, nodes, rollouts. It never fails the
ladder: what cannot be read is an item that says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from responder.actions.failing import ends_badly, failing_pods
from responder.actions.nodes import verdicts
from responder.clusters.kubernetes import redact, yaml_text
from responder.clusters.kubernetes.client import KubernetesClient
from responder.model.cluster import NodeDetail, PodSnapshot, Snapshot
from responder.model.errors import RemoteError
from responder.model.evidence import EvidenceItem

MOST_PODS = 3
MOST_BYTES = 1 << 20
TAIL_LINES = 5_000
MOST_TAILS = 6
"""Requests for the end of one log: the kubelet counts ``limitBytes`` from where ``tailLines`` begin, so that long lines would leave out the last words."""

LOG_WITHIN = timedelta(seconds=15)


async def capture(client: KubernetesClient, snapshot: Snapshot, *, now: datetime) -> Sequence[EvidenceItem]:
    """Return everything that could be captured about a snapshot's target."""
    pods = snapshot.workload.pods if snapshot.workload else ((snapshot.pod,) if snapshot.pod else ())
    if snapshot.service is not None and not pods:
        pods = snapshot.service.pods
    sick = failing_pods(pods, now=now)[:MOST_PODS] or _failed(pods)[:MOST_PODS] or pods[:1]
    if snapshot.node is not None:  # a dead kubelet answers no log, and a node's pods are listed in the summary
        sick = ()
    jobs = [
        _log(client, pod, name, previous=previous, now=now)
        for pod in sick
        for name in _containers(pod, now=now)
        for previous in ((False, True) if _ran_before(pod, name) else (False,))
    ]
    jobs += [
        _object(client, f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}", f"object/Pod/{pod.name}", now=now) for pod in sick
    ]
    jobs += [_object(client, path, name, now=now) for path, name in _paths(snapshot)]
    items = list(await asyncio.gather(*jobs))
    items.append(_summary(snapshot, now=now))
    return items


def _failed(pods: Sequence[PodSnapshot]) -> tuple[PodSnapshot, ...]:
    """Return the pods that have failed for good, as those of a Job, newest first."""
    found = [pod for pod in pods if pod.phase == "Failed"]
    return tuple(
        sorted(found, key=lambda pod: (pod.created_at is not None and pod.created_at.timestamp(), pod.name), reverse=True)
    )


def _containers(pod: PodSnapshot, *, now: datetime) -> list[str]:
    """Return the failing containers, init and ephemeral ones included; else the first main one."""
    bad = [one.name for one in pod.containers if ends_badly(one, now=now)]
    ephemeral = [one.name for one in pod.containers if one.role == "ephemeral"]
    main = [one.name for one in pod.containers if one.role == "main"]
    return [*(bad or main[:1]), *ephemeral]


def _ran_before(pod: PodSnapshot, container: str) -> bool:
    """Tell whether there may be a log of an earlier life: not when it is known never to have ended."""
    one = next((one for one in pod.containers if one.name == container), None)
    return one is None or one.restarts > 0 or one.finished_at is not None or one.terminated


def _paths(snapshot: Snapshot) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    workload = snapshot.workload
    if workload is not None and workload.kind in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}:
        plural = f"{workload.kind.lower()}s"
        found.append(
            (f"/apis/apps/v1/namespaces/{workload.namespace}/{plural}/{workload.name}", f"object/{workload.kind}/{workload.name}")
        )
    if workload is not None and workload.kind == "Job":
        found.append((f"/apis/batch/v1/namespaces/{workload.namespace}/jobs/{workload.name}", f"object/Job/{workload.name}"))
    if snapshot.node is not None:
        name = snapshot.node.node.name
        found.append((f"/api/v1/nodes/{name}", f"object/Node/{name}"))
        found.append((f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}", f"object/Lease/{name}"))
    if snapshot.service is not None:
        service = snapshot.service
        found.append((f"/api/v1/namespaces/{service.namespace}/services/{service.name}", f"object/Service/{service.name}"))
    return found


async def _log(client: KubernetesClient, pod: PodSnapshot, container: str, *, previous: bool, now: datetime) -> EvidenceItem:
    name = f"logs/{pod.name}/{container}/{'previous' if previous else 'current'}"
    query = {"container": container, "limitBytes": str(MOST_BYTES), "timestamps": "true"}
    if previous:
        query["previous"] = "true"
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/log"
    try:
        content, truncated = await _end_of(client, path, query)
    except RemoteError as error:
        return EvidenceItem(name=name, taken_at=now, problem=str(error))
    return EvidenceItem(name=name, content=redact.text(content), truncated=truncated, taken_at=now)


async def _end_of(client: KubernetesClient, path: str, query: Mapping[str, str]) -> tuple[bytes, bool]:
    """Return the end of a log within the bound, and whether lines of the last 5,000 are missing; of one line beyond it only its beginning.

    Why a container ended stands in its last lines. While they do not fit, fewer are asked for: half of those that filled the bound.
    """
    lines, content = TAIL_LINES, b""
    for _ in range(MOST_TAILS):
        asked = {**query, "tailLines": str(lines)}
        content, more = await client.raw(path, query=asked, within=LOG_WITHIN, most=MOST_BYTES)
        if not more and len(content) < MOST_BYTES:
            return content, lines < TAIL_LINES
        if lines == 1:
            break
        lines = max(1, min(lines, content.count(b"\n")) // 2)
    return content, True


async def _object(client: KubernetesClient, path: str, name: str, *, now: datetime) -> EvidenceItem:
    try:
        content, more = await client.raw(path, most=MOST_BYTES)
        body = yaml_text.dump(redact.value(msgspec.json.decode(content)))
    except RemoteError as error:
        return EvidenceItem(name=name, taken_at=now, problem=str(error))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return EvidenceItem(name=name, taken_at=now, problem=f"not understood: {error}")
    return EvidenceItem(
        name=f"{name}.yaml", media_type="application/yaml", content=body[:MOST_BYTES], truncated=more, taken_at=now
    )


def _summary(snapshot: Snapshot, *, now: datetime) -> EvidenceItem:
    """Conditions, events, nodes, rollouts and autoscaling in one page, as ``kubectl describe`` would show them."""
    lines = [
        f"Target: {snapshot.target} (uid {snapshot.target.uid or 'unknown'}), read at {snapshot.read_at:%Y-%m-%d %H:%M:%S} UTC"
    ]
    workload = snapshot.workload
    if workload is not None:
        lines.append(
            f"{workload.kind}: {workload.ready}/{workload.desired} ready, {workload.updated} updated, {workload.available} available"
        )
        lines += [f"Condition {one.type}={one.status} {one.reason}: {one.message}" for one in workload.conditions]
        lines += [
            f"Revision {one.number} {one.name}: {one.ready} ready{' (current)' if one.current else ''}, images {', '.join(one.images)}"
            for one in sorted(workload.revisions, key=lambda one: one.number)
        ]
        lines += [f"Budget {one.name}: {one.allowed} disruptions allowed" for one in workload.budgets]
        if workload.autoscaler is not None:
            lines.append(f"Autoscaler {workload.autoscaler.name}: {workload.autoscaler.minimum} to {workload.autoscaler.maximum}")
    if snapshot.service is not None:
        lines.append(f"Service: {snapshot.service.endpoints} ready endpoints")
    if snapshot.node is not None:
        lines += _of_node(snapshot.node, snapshot, now=now)
    lines += [f"Node {one.name}: Ready={one.ready}{', cordoned' if one.unschedulable else ''}" for one in snapshot.nodes]
    for event in snapshot.events:
        seen = f"{event.last_seen_at:%H:%M:%S}" if event.last_seen_at else "?"
        lines.append(f"Event {seen} {event.about} {event.type} {event.reason} x{event.count}: {event.message}")
    lines += [f"Not read: {name}: {why}" for name, why in sorted(snapshot.gaps.items())]
    return EvidenceItem(name="summary", content=redact.text("\n".join(lines).encode()), taken_at=now)


def _of_node(detail: NodeDetail, snapshot: Snapshot, *, now: datetime) -> list[str]:
    """Say how a node stands, what each of its pods says to a drain, and which workloads were there."""
    node = detail.node
    lease = f"{(now - detail.lease_renewed_at).total_seconds():.0f} s ago" if detail.lease_renewed_at else "never"
    lines = [
        f"Pool {node.pool or '(none)'}, zone {node.zone or '(none)'}, machine {node.provider_id or '(unknown)'}, Lease renewed {lease}"
    ]
    lines += [f"Condition {one.type}={one.status} {one.reason}: {one.message}" for one in node.conditions]
    lines += [f"Taint {one.key}={one.value}:{one.effect}" for one in node.taints]
    lines += [
        f"Pod {one.pod.namespace}/{one.pod.name}: {one.fate}{f', {one.why}' if one.why else ''}" for one in verdicts(detail)
    ]
    lines += [f"Budget {one.namespace}/{one.name}: {one.allowed} disruptions allowed" for one in detail.budgets]
    lines += [f"Workload {one.target}: {one.ready} of {one.desired} ready" for one in snapshot.moved]
    return lines
