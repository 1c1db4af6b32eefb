"""Why containers, pods and services fail: the closed lists ``facts.cause`` and ``facts.service_cause``, computed once, here.

Source: kubernetes.md A8 (containers) and A9 (endpoints). Never here: what to do about a cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from responder.actions.failing import GOOD_WAITS, ends_badly, failing_pods, live
from responder.model.cluster import ContainerSnapshot, EventSnapshot, PodSnapshot, ServiceSnapshot, Snapshot, WorkloadSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A cause with the container and sentence that show it."""

    cause: str
    container: str = ""
    message: str = ""
    exit_code: int | None = None


NO_CAUSE = Cause(cause="none")

_DENIED = (
    "unauthorized",
    "denied",
    "forbidden",
    "pull secret",
    "no basic auth",
    "authentication required",
    "authorization failed",
)
_MISSING = ("not found", "manifest unknown", "does not exist", "no such", "invalid reference", "couldn't parse image")
_WAITS = {
    "CreateContainerConfigError": "config",
    "CreateContainerError": "create",
    "RunContainerError": "spec",
    "StartError": "spec",
    "InvalidImageName": "image_missing",
    "ErrImageNeverPull": "image_missing",
    "ImageInspectError": "node",
    "PostStartHookError": "spec",
    "PreStartHookError": "spec",
    "PreCreateHookError": "spec",
    "ContainerCannotRun": "spec",
}
_NODE_REASONS = frozenset(
    {"NodeShutdown", "Terminated", "NodeAffinity", "UnexpectedAdmissionError", "NodeLost", "OutOfcpu", "OutOfmemory", "OutOfpods"}
)
_VOLUME_EVENTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_KILL_WORDS = ("liveness probe", "startup probe", "failed liveness", "will be restarted")


def image_cause(message: str) -> str:
    """Tell a missing image from a denied and a busy registry, by the kubelet's sentence.

    An unknown sentence counts as busy: the kubelet retries that by itself, and nothing is done to it.
    """
    said = message.lower()
    if any(word in said for word in _DENIED) and "manifest unknown" not in said:
        return "image_denied"
    if any(word in said for word in _MISSING):
        return "image_missing"
    return "image_busy"


def container_cause(container: ContainerSnapshot, *, pod: PodSnapshot, events: Sequence[EventSnapshot]) -> Cause | None:
    """Return why a container is in trouble, or None when nothing says why."""
    waiting, message = container.waiting_reason, container.waiting_message
    if waiting in {"ImagePullBackOff", "ErrImagePull", "RegistryUnavailable"}:
        told = _image_events(message, container, pod, events)
        return Cause(cause=image_cause(told), container=container.name, message=told)
    if waiting in _WAITS:
        return Cause(cause=_WAITS[waiting], container=container.name, message=message or waiting)
    if container.exit_code is None:
        return Cause(cause="crash", container=container.name, message=message) if waiting == "CrashLoopBackOff" else None
    code, reason = container.exit_code, container.exit_reason
    said = container.exit_message or message or reason
    if reason == "OOMKilled":
        return Cause(cause="oom", container=container.name, message=said, exit_code=code)
    if reason == "ContainerStatusUnknown":
        return Cause(cause="node", container=container.name, message=said, exit_code=code)
    if reason in {"StartError", "ContainerCannotRun"} or code in {126, 127, 128}:
        return Cause(cause="spec", container=container.name, message=said, exit_code=code)
    if code == 0:
        return Cause(cause="exit", container=container.name, message=said or "Completed", exit_code=code)
    if code in {137, 143} and _was_killed(container, pod, events):
        return Cause(cause="killed", container=container.name, message=said, exit_code=code)
    return Cause(cause="crash", container=container.name, message=said, exit_code=code)


def pod_cause(pod: PodSnapshot, *, events: Sequence[EventSnapshot], now: datetime) -> Cause:
    """Return why one failing pod fails."""
    if pod.owner is not None and pod.owner.kind == "Job":
        return Cause(cause="job", message=pod.message or pod.reason)
    if pod.reason == "Evicted" or pod.disruption == "TerminationByKubelet":
        return Cause(cause="evicted", message=pod.message)
    if pod.reason in _NODE_REASONS or pod.phase == "Unknown":
        return Cause(cause="node", message=pod.message or pod.reason)
    if pod.scheduled is False:
        cause = "gated" if pod.scheduling_reason == "SchedulingGated" else "unschedulable"
        return Cause(cause=cause, message=pod.scheduling_message)
    order = {"init": 0, "sidecar": 1, "main": 2, "ephemeral": 3}
    for container in sorted(pod.containers, key=lambda one: order.get(one.role, 2)):
        if ends_badly(container, now=now):
            found = container_cause(container, pod=pod, events=events)
            if found is not None:
                return found
    mine = [event for event in events if event.about.endswith(f"/{pod.name}")]
    for event in mine:
        if event.reason in _VOLUME_EVENTS:
            return Cause(cause="volume", message=event.message)
        if event.reason == "FailedCreatePodSandBox":
            return Cause(cause="sandbox", message=event.message)
    if any(one.waiting_reason in GOOD_WAITS and one.waiting_reason for one in pod.containers):
        return Cause(cause="create", message="containers have been starting for minutes")
    said = next((event.message for event in mine if event.reason == "Unhealthy"), "running, but not ready")
    first = next((one.name for one in pod.containers if one.role == "main" and not one.ready), "")
    return Cause(cause="readiness", container=first, message=said)


def workload_cause(workload: WorkloadSnapshot, *, events: Sequence[EventSnapshot], now: datetime) -> Cause:
    """Return the cause of most failing pods; ``mixed`` when none has half of them; ``quota`` when pods cannot even be made."""
    for condition in workload.conditions:
        if condition.type == "ReplicaFailure" and condition.status == "True" and "quota" in condition.message.lower():
            return Cause(cause="quota", message=condition.message)
    failing = failing_pods(workload.pods, now=now)
    if not failing:
        if len(live(workload.pods)) < workload.desired:
            for event in events:
                if event.reason == "FailedCreate" and "quota" in event.message.lower():
                    return Cause(cause="quota", message=event.message)
        return NO_CAUSE
    causes = [pod_cause(pod, events=events, now=now) for pod in failing]
    name, count = Counter(one.cause for one in causes).most_common(1)[0]
    first = next(one for one in causes if one.cause == name)
    if count * 2 < len(causes):
        said = ", ".join(sorted({one.cause for one in causes}))
        return Cause(cause="mixed", message=f"several causes: {said}")
    return first


def service_cause(service: ServiceSnapshot, workload: WorkloadSnapshot | None) -> str:
    """Return why a service has no ready endpoint; ``none`` when it has one."""
    if service.external or not service.selector:
        return "external"
    if service.endpoints > 0:
        return "none"
    pods = live(service.pods)
    if not pods:
        if service.serving_terminating:
            return "terminating"
        return "scaled_to_zero" if workload is not None and workload.desired == 0 else "no_match"
    if not any(pod.ready for pod in pods):
        return "not_ready"
    return "port"


def _image_events(message: str, container: ContainerSnapshot, pod: PodSnapshot, events: Sequence[EventSnapshot]) -> str:
    """Return the sentence that says most: "Back-off pulling image" alone says nothing, the event before it does."""
    if image_cause(message) != "image_busy":
        return message
    for event in events:
        if (
            event.about.endswith(f"/{pod.name}")
            and event.reason == "Failed"
            and (not container.image or container.image in event.message)
        ):
            return event.message
    return message


def _was_killed(container: ContainerSnapshot, pod: PodSnapshot, events: Sequence[EventSnapshot]) -> bool:
    """Tell a kill by the kubelet (a liveness probe) from a crash, by its events (kubernetes.md A16 case 43)."""
    return any(
        event.about.endswith(f"/{pod.name}")
        and event.reason in {"Killing", "Unhealthy"}
        and (container.name in event.message or event.reason == "Unhealthy")
        and any(word in event.message.lower() for word in _KILL_WORDS)
        for event in events
    )


def of_snapshot(snapshot: Snapshot, *, now: datetime) -> Cause | None:
    """Return the cause for a pod or workload target; None when what it needs was not read."""
    if "pods" in snapshot.gaps:
        return None
    if snapshot.workload is not None:
        return workload_cause(snapshot.workload, events=snapshot.events, now=now)
    if snapshot.pod is not None:
        failing = failing_pods((snapshot.pod,), now=now)
        return pod_cause(failing[0], events=snapshot.events, now=now) if failing else NO_CAUSE
    return None
