"""What an object of a watch shows to be wrong: pure, from the few fields that are decoded, with kubernetes-mixin's names and labels.

Thresholds are ours where they differ from the mixin's, and shorter: its 15 minutes are longer than most recovery times allow, and what is acted on is
judged anew by reading the target. Never here: when a symptom becomes an alert (``policy.symptoms``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from responder.clusters.kubernetes.structs import ContainerStatus, Owner, PodStatus, Slice, StatusCondition
from responder.model.symptom import Symptom

LOOPS_AFTER_RESTARTS = 3
"""One crash is no loop: the kubelet has cured it. The third comes after a minute of its back-off."""

LOOP_KEEPS = timedelta(minutes=5)
"""Source: the mixin's ``max_over_time(…[5m])``: between two crashes a container runs, and may be ready."""

WAITS_AFTER = timedelta(minutes=2)
PENDING_AFTER = timedelta(minutes=5)
NODE_AFTER = timedelta(seconds=60)
SERVICE_AFTER = timedelta(seconds=60)
WAITING = {
    "ErrImagePull": "ImagePullBackOff",
    "ImagePullBackOff": "ImagePullBackOff",
    "InvalidImageName": "InvalidImageName",
    "ErrImageNeverPull": "ErrImageNeverPull",
    "CreateContainerConfigError": "CreateContainerConfigError",
    "CreateContainerError": "CreateContainerError",
    "RunContainerError": "RunContainerError",
}
"""Waiting reasons that are trouble, to the word under which they are told: a pull that fails alternates between two."""

PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
OURS_TO_JUDGE = "endpointslice-controller.k8s.io"
"""Slices of the controller belong to services with a selector; mirrored and custom ones are not ours (kubernetes.md A9)."""


class _Struct(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Camel case on the wire; unknown fields are passed over. What comes from JSON has no cycles, so the collector need not look at it."""


class WatchedMeta(_Struct):
    """The part of ``metadata`` that a watch needs."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: list[Owner] | None = None


class _PodSpec(_Struct):
    node_name: str = ""


class WatchedPod(_Struct):
    """A pod."""

    metadata: WatchedMeta = msgspec.field(default_factory=WatchedMeta)
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class _Conditions(_Struct):
    conditions: list[StatusCondition] | None = None


class WatchedNode(_Struct):
    """A node."""

    metadata: WatchedMeta = msgspec.field(default_factory=WatchedMeta)
    status: _Conditions = msgspec.field(default_factory=_Conditions)


class WatchedJob(_Struct):
    """A Job."""

    metadata: WatchedMeta = msgspec.field(default_factory=WatchedMeta)
    status: _Conditions = msgspec.field(default_factory=_Conditions)


def of_pod(pod: WatchedPod) -> tuple[Symptom, ...]:
    """Return restart loops, containers that cannot start, a pod that stays pending, an eviction. A pod that is being deleted shows none."""
    meta, status = pod.metadata, pod.status
    waiting = [one for one in status.container_statuses or () if one.state is not None and one.state.waiting is not None]
    if status.init_container_statuses:
        waiting += [one for one in status.init_container_statuses if one.state is not None and one.state.waiting is not None]
    if status.phase == "Running" and not waiting:
        return ()  # nearly every pod, nearly always: nothing more is looked at
    if meta.deletion_timestamp is not None or status.phase == "Succeeded":
        return ()
    where = {"namespace": meta.namespace, "pod": meta.name}
    if status.phase == "Failed":
        return _evicted(pod, where) if status.reason == "Evicted" else ()
    shown = (*(_of_container(one, where, meta.uid) for one in waiting), _pending(pod, where))
    return tuple(one for one in shown if one is not None)


def _of_container(container: ContainerStatus, where: dict[str, str], uid: str) -> Symptom | None:
    waiting = container.state.waiting if container.state is not None else None
    if waiting is None:
        return None
    labels = {**where, "container": container.name}
    if waiting.reason == "CrashLoopBackOff":
        if container.restart_count < LOOPS_AFTER_RESTARTS:
            return None
        says = f"container {container.name} has restarted {container.restart_count} times and is backing off"
        return Symptom(name="KubePodCrashLooping", labels=labels, subject=uid, says=says, keep=LOOP_KEEPS)
    if waiting.reason in WAITING:
        reason = WAITING[waiting.reason]
        says = f"container {container.name} waits: {waiting.reason} {waiting.message[:300]}".rstrip()
        return Symptom(
            name="KubeContainerWaiting", labels={**labels, "reason": reason}, subject=uid, says=says, after=WAITS_AFTER
        )
    return None


def _pending(pod: WatchedPod, where: dict[str, str]) -> Symptom | None:
    """Pods of Jobs are left out, as in the mixin: the Job tells."""
    meta = pod.metadata
    if pod.status.phase not in {"Pending", "Unknown"} or any(one.kind == "Job" for one in meta.owner_references or ()):
        return None
    scheduled = next((one for one in pod.status.conditions or () if one.type == "PodScheduled"), None)
    if scheduled is not None and scheduled.reason == "SchedulingGated":
        return None
    since = meta.creation_timestamp
    detail = ""
    if scheduled is not None and scheduled.status == "False":
        detail = f": {scheduled.message[:300]}"
    says = f"pod is {pod.status.phase}{detail}"
    return Symptom(name="KubePodNotReady", labels=where, subject=meta.uid, says=says, since=since, after=PENDING_AFTER)


def _evicted(pod: WatchedPod, where: dict[str, str]) -> tuple[Symptom, ...]:
    labels = {**where, "node": pod.spec.node_name} if pod.spec.node_name else where
    says = f"evicted by its node: {pod.status.message[:300]}"
    return (Symptom(name="KubePodEvicted", labels=labels, subject=pod.metadata.uid, severity="info", says=says),)


def of_node(node: WatchedNode) -> tuple[Symptom, ...]:
    """Return a node that is not ready, and its pressures."""
    meta = node.metadata
    conditions = {one.type: one for one in node.status.conditions or ()}
    found: list[Symptom] = []
    ready = conditions.get("Ready")
    if ready is not None and ready.status != "True":
        says = f"node is not ready ({ready.status}): {ready.reason} {ready.message[:300]}".rstrip()
        found.append(
            Symptom(
                name="KubeNodeNotReady", labels={"node": meta.name}, subject=meta.uid, says=says,
                since=ready.last_transition_time, after=NODE_AFTER, keep=NODE_AFTER,
            )
        )  # fmt: skip
    for kind in PRESSURES:
        one = conditions.get(kind)
        if one is not None and one.status == "True":
            found.append(
                Symptom(
                    name="KubeNodePressure", labels={"node": meta.name, "condition": kind}, subject=meta.uid, severity="info",
                    says=f"{kind}: {one.message[:300]}", since=one.last_transition_time, after=NODE_AFTER, keep=NODE_AFTER,
                )
            )  # fmt: skip
    return tuple(found)


def of_job(job: WatchedJob) -> tuple[Symptom, ...]:
    """Return a Job that has failed."""
    meta = job.metadata
    for one in job.status.conditions or ():
        if one.type == "Failed" and one.status == "True":
            labels = {"namespace": meta.namespace, "job_name": meta.name}
            says = f"job failed: {one.reason} {one.message[:300]}".rstrip()
            return (Symptom(name="KubeJobFailed", labels=labels, subject=meta.uid, says=says, since=one.last_transition_time),)
    return ()


def endpoints(one: Slice) -> tuple[tuple[str, str], int, int] | None:
    """Return the service of a slice with how many endpoints it has ready and in all; None for a slice that is not ours to judge.

    A missing ``ready`` means true. Serving while terminating still takes traffic, so it counts as ready (kubernetes.md A9).
    """
    labels = one.metadata.labels or {}
    if labels.get(MANAGED_BY) != OURS_TO_JUDGE or SERVICE_NAME not in labels:
        return None
    ready = 0
    for endpoint in one.endpoints or ():
        said = endpoint.conditions
        if said is None or said.ready is not False or (said.serving and said.terminating):
            ready += 1
    return (one.metadata.namespace, labels[SERVICE_NAME]), ready, len(one.endpoints or ())


def of_service(namespace: str, service: str, *, total: int) -> Symptom:
    """Return a service without a ready endpoint."""
    says = f"none of {total} endpoints of service {service} is ready" if total else f"service {service} has no endpoint left"
    return Symptom(
        name="KubeServiceNoReadyEndpoints",
        labels={"namespace": namespace, "service": service},
        subject=f"{namespace}/{service}",
        severity="critical",
        says=says,
        after=SERVICE_AFTER,
    )
