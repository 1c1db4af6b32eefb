"""Which pods and containers fail: the one definition that causes, checks and actions share.

Uses the pod's Ready *condition*, never a container's ``ready`` (stale on a dead node, kubernetes.md A16 case 27).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.model.cluster import ContainerSnapshot, PodSnapshot

STARTS_WITHIN = timedelta(minutes=2)
"""A pod younger than this, or whose containers run for less, that waits for nothing bad is starting, not failing: a ConfigMap that appears
lets pods of any age begin."""

RESTARTED_LATELY = timedelta(minutes=10)
"""A container that ended this lately and was restarted still counts as crashing between two crashes: while it is not ready, and ready
or not until it has run for ``STARTS_WITHIN`` (many crash loops are ready for seconds in every round)."""

GOOD_WAITS = frozenset({"", "ContainerCreating", "PodInitializing"})


def ends_badly(container: ContainerSnapshot, *, now: datetime) -> bool:
    """Tell whether a container is in trouble now: a bad wait, ended, or restarted lately after a bad end."""
    if container.role == "ephemeral":
        return False
    if container.waiting_reason not in GOOD_WAITS:
        return True
    if container.terminated:
        return not (container.role == "init" and container.exit_code == 0)
    if container.restarts == 0 or container.role == "init" or container.finished_at is None:
        return False
    if now - container.finished_at >= RESTARTED_LATELY:
        return False
    shaky = container.running_since is None or now - container.running_since < STARTS_WITHIN
    return shaky or not container.ready


def fails(pod: PodSnapshot, *, now: datetime) -> bool:
    """Tell whether a pod fails. Terminating and finished pods do not; their controller has replaced them already."""
    if pod.deleting_since is not None or pod.phase == "Succeeded":
        return False
    if pod.phase in {"Failed", "Unknown"}:
        return pod.phase == "Unknown"
    if any(ends_badly(container, now=now) for container in pod.containers):
        return True
    if pod.ready:
        return False
    born = pod.created_at or now
    if pod.scheduled is False:
        return now - born >= timedelta(seconds=10)
    began = [one.running_since for one in pod.containers if one.role == "main" and one.running_since is not None]
    return now - max([born, *began]) >= STARTS_WITHIN


def failing_pods(pods: tuple[PodSnapshot, ...], *, now: datetime) -> tuple[PodSnapshot, ...]:
    """Return the pods that fail, worst first: most restarts, then the oldest."""
    found = [pod for pod in pods if fails(pod, now=now)]
    return tuple(sorted(found, key=lambda pod: (-restarts(pod), pod.created_at or now, pod.name)))


def restarts(pod: PodSnapshot) -> int:
    """Sum the restarts of a pod's containers."""
    return sum(container.restarts for container in pod.containers if container.role != "ephemeral")


def live(pods: tuple[PodSnapshot, ...]) -> tuple[PodSnapshot, ...]:
    """Return pods that are neither terminating nor finished."""
    return tuple(pod for pod in pods if pod.deleting_since is None and pod.phase not in {"Succeeded", "Failed"})
