"""What is seen on a node: who else is at work there, what each of its pods says to a drain, and whether the others have room.

Shared by facts, checks, guards and the node actions. Source: kubernetes.md A1 (filters), A4 (marks of others), A10, A12 (AKS' actors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from responder.model.cluster import EventSnapshot, NodeDetail, NodeSnapshot, PodSnapshot, Snapshot

FINISHED = frozenset({"Succeeded", "Failed"})

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
"""The taint that Kubernetes gives a node that is cordoned, by whomever."""

CORDONED_WITHIN = timedelta(hours=1)
"""A cordon of ours follows its mark, which is made when it is planned, at once or within its rung; more than the clocks of two machines may differ."""

MARKS_OF_OTHERS: Mapping[str, str] = {
    "ToBeDeletedByClusterAutoscaler": "the cluster autoscaler deletes it",
    "DeletionCandidateOfClusterAutoscaler": "the cluster autoscaler may delete it",
    "remediator.kubernetes.azure.com/unschedulable": "AKS drains or repairs it",
    "karpenter.sh/disrupted": "Karpenter replaces it",
    "karpenter.sh/disruption": "Karpenter replaces it",
    "node.cloudprovider.kubernetes.io/shutdown": "the cloud says that its machine is shut down",
}
"""Taints by which others say that they are at work. The last is no hand at work but a word about the machine: see ``at_work``."""

QUARANTINE_LABEL = "kubernetes.azure.com/upgrade-status"
REPAIRER = "aks-auto-repair"
REPAIR_LASTS = timedelta(hours=1)
"""Three rounds of auto-repair take up to an hour. Source: kubernetes.md A12."""

PRESSURES = frozenset({"MemoryPressure", "DiskPressure", "PIDPressure"})
USUAL = PRESSURES | {"Ready", "NetworkUnavailable"}


class Fate(StrEnum):
    """What a drain does with a pod."""

    STAYS = "stays"
    GOES = "goes"
    LEAVES = "leaves"
    REFUSES = "refuses"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodVerdict:
    """What a drain does with one pod, and why."""

    pod: PodSnapshot
    fate: Fate
    why: str = ""

    def __str__(self) -> str:
        """For people: ``pod shop/alone: nothing would make it again``."""
        return f"pod {self.pod.namespace}/{self.pod.name}: {self.why}"


def verdict(pod: PodSnapshot, node: NodeSnapshot) -> PodVerdict:
    """Say what a drain does with a pod, in the order of kubectl's filters, with ours after them.

    DaemonSet pods, static pods and finished pods stay. A bare pod refuses, since nothing would make it again; so do a DaemonSet's pod whose
    DaemonSet is gone, a pod with two budgets (the API answers 500 for ever), and what somebody marked. An emptyDir is lost and said in the plan.
    What asks not to be disrupted refuses while the kubelet talks; on a node whose kubelet is silent nothing is left to protect there.
    """

    def so(fate: Fate, why: str = "") -> PodVerdict:
        return PodVerdict(pod=pod, fate=fate, why=why)

    if pod.mirror:
        return so(Fate.STAYS, "static")
    if pod.phase in FINISHED:
        return so(Fate.STAYS, "finished")
    if pod.owner is not None and pod.owner.kind == "DaemonSet":
        if pod.owner_exists:
            return so(Fate.STAYS, "of a DaemonSet")
        return so(Fate.REFUSES, f"its DaemonSet {pod.owner.name} is gone: nothing would make it again")
    if pod.deleting_since is not None:
        return so(Fate.LEAVES, "terminating")
    if pod.namespace_ends:
        return so(Fate.LEAVES, "its namespace is being deleted")
    if pod.owner is None:
        return so(Fate.REFUSES, "nothing would make it again")
    if pod.hands_off is not None:
        return so(Fate.REFUSES, f"marked hands-off: {pod.hands_off or 'no reason given'}")
    if pod.keeps and node.ready != "Unknown":
        return so(Fate.REFUSES, f"annotated {pod.keeps}")
    if len(pod.budgets) > 1:
        return so(
            Fate.REFUSES, f"{len(pod.budgets)} budgets match it ({', '.join(sorted(pod.budgets))}): no eviction is ever allowed"
        )
    return so(Fate.GOES, "its emptyDir is lost" if pod.empty_dir else "")


def verdicts(detail: NodeDetail) -> tuple[PodVerdict, ...]:
    """Return the verdict on every pod of a node, by namespace and name."""
    pods = sorted(detail.pods, key=lambda pod: (pod.namespace, pod.name))
    return tuple(verdict(pod, detail.node) for pod in pods)


def hopeless(detail: NodeDetail) -> tuple[PodVerdict, ...]:
    """Return the pods that would go if a budget did not want every one of its pods healthy: it never allows an eviction, so nothing is to be waited for.

    Asked before a drain begins, not while it runs: a budget may be changed meanwhile, and is waited for then. Source: kubernetes.md A10.
    """
    found: list[PodVerdict] = []
    for one in verdicts(detail):
        pod = one.pod
        if one.fate is not Fate.GOES or pod.phase == "Pending":
            continue
        for budget in detail.budgets:
            mine = (budget.namespace, budget.name) == (pod.namespace, next(iter(pod.budgets), ""))
            may = not pod.ready and budget.unhealthy_policy == "AlwaysAllow"
            if mine and not may and budget.observed and budget.desired_healthy >= budget.expected > 0:
                why = f"budget {budget.name} wants {budget.desired_healthy} of {budget.expected} pods healthy: no eviction is ever allowed"
                found.append(PodVerdict(pod=pod, fate=Fate.REFUSES, why=why))
    return tuple(found)


def named(found: Iterable[PodVerdict], *, most: int = 5) -> str:
    """Name verdicts for people, the first ones in words."""
    said = [str(one) for one in found]
    return "; ".join(said[:most]) + (f"; and {len(said) - most} more" if len(said) > most else "")


def cordoned_by(node: NodeSnapshot) -> str:
    """Return "" when it is not cordoned, us when it carries our mark, else other.

    ``kubectl uncordon`` leaves our mark where it is: a cordon that is much younger than the mark is not the one that was marked, and somebody else's.
    """
    if not node.unschedulable:
        return ""
    return "us" if node.cordoned_for and not _cordoned_anew(node) else "other"


def marked_at(mark: str) -> datetime | None:
    """Return when a mark of ours was planned; None when it does not say."""
    try:
        return datetime.fromisoformat(mark.partition(" ")[2])
    except ValueError:
        return None


def _cordoned_anew(node: NodeSnapshot) -> bool:
    """Tell whether the taint that follows a cordon came long after our mark. Source: the node lifecycle controller's ``timeAdded``, its clock."""
    marked = marked_at(node.cordoned_for)
    added = next((str(one.raw.get("timeAdded") or "") for one in node.taints if one.key == UNSCHEDULABLE), "")
    try:
        return marked is not None and datetime.fromisoformat(added) - marked > CORDONED_WITHIN
    except (ValueError, TypeError):
        return False


def repair(events: Iterable[EventSnapshot], *, now: datetime) -> str:
    """Return what AKS auto-repair did in the last hour: none, running, ended or failed.

    Its events are NodeRebootStart, -End, -Error and the same for Reimage and Redeploy; an End says nothing about health.
    """
    found = [
        one
        for one in events
        if one.source == REPAIRER and one.last_seen_at is not None and now - one.last_seen_at <= REPAIR_LASTS
    ]
    newest = max(found, key=lambda one: (one.last_seen_at or now, not one.reason.endswith("Start")), default=None)
    if newest is None:
        return "none"
    if newest.reason.endswith("Start"):
        return "running"
    return "failed" if newest.reason.endswith("Error") else "ended"


def at_work(snapshot: Snapshot, *, now: datetime) -> str:
    """Say who else is at work on the node; "" when nobody is seen."""
    detail = snapshot.node
    if detail is None:
        return ""
    node = detail.node
    for taint in node.taints:
        if taint.key in MARKS_OF_OTHERS and not taint.key.endswith("/shutdown"):
            return f"{MARKS_OF_OTHERS[taint.key]} (taint {taint.key})"
    if node.labels.get(QUARANTINE_LABEL) == "Quarantined":
        return f"an AKS upgrade could not drain it (label {QUARANTINE_LABEL}=Quarantined)"
    if cordoned_by(node) == "other":
        return "somebody else cordoned it"
    if repair(snapshot.events, now=now) == "running":
        return "AKS auto-repair is at work on it"
    if detail.held_by:
        return f"{detail.held_by} holds its Lease"
    return ""


def pressures(node: NodeSnapshot) -> list[str]:
    """Return the conditions that say something is wrong: the kubelet's pressures, and whatever the node problem detector adds."""
    return sorted(one.type for one in node.conditions if one.status == "True" and one.type != "Ready")


def room(snapshot: Snapshot) -> bool | None:
    """Tell whether the other nodes have room for what the pods of this one request; None when it was not read.

    Largest first, each into the node with most room left: a pod is not split. Only nodes that are Ready and take new pods count. Affinity is not
    looked at: the scheduler has the last word, and ``pods.rescheduled`` proves it.
    """
    detail = snapshot.node
    if detail is None or any(name in snapshot.gaps for name in ("pods", "nodes", "requests")):
        return None
    free = {
        one.name: {name: value - detail.requested.get(one.name, {}).get(name, 0.0) for name, value in one.allocatable.items()}
        for one in snapshot.nodes
        if one.name != detail.node.name
        and one.ready == "True"
        and not one.unschedulable
        and not any(taint.effect in {"NoSchedule", "NoExecute"} for taint in one.taints)
    }
    moving = [one.pod for one in verdicts(detail) if one.fate is Fate.GOES]
    for pod in sorted(moving, key=lambda pod: (-pod.requests.get("memory", 0.0), -pod.requests.get("cpu", 0.0), pod.name)):
        wanted = {**pod.requests, "pods": 1.0}
        fitting = [left for left in free.values() if all(left.get(name, 0.0) >= value for name, value in wanted.items())]
        if not fitting:
            return False
        chosen = max(fitting, key=lambda left: (left.get("memory", 0.0), left.get("cpu", 0.0), left.get("pods", 0.0)))
        for name, value in wanted.items():
            chosen[name] -= value
    return True
