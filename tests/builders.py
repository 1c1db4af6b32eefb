"""Builders: whole values with sane defaults, so that a test says only what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from responder.actions.catalogue import ActionCatalogue, catalogue
from responder.model.alert import Alert, AlertStatus, Severity, SourceKind, fingerprint
from responder.model.cluster import (
    ContainerSnapshot,
    MovedSnapshot,
    NodeDetail,
    NodeSnapshot,
    OwnerRef,
    PodSnapshot,
    Reading,
    RevisionSnapshot,
    Snapshot,
    WorkloadSnapshot,
)
from responder.model.health import CheckReading, Health
from responder.model.incident import Candidate, Incident, Instance, Level, Mode, Policy
from responder.model.rule import Rule
from responder.model.storing import Counts
from responder.model.target import Target, TargetKind
from responder.policy.case import Case, House
from responder.rules.compile import compile_rule

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
CATALOGUE: ActionCatalogue = catalogue()
TARGET = Target(kind=TargetKind.WORKLOAD, cluster="prod", namespace="shop", name="api", owner_kind="Deployment", uid="uid-api")
PEOPLE = Policy(
    name="people",
    levels=(Level(after=timedelta(0), channels=("pager",)), Level(after=timedelta(minutes=15), channels=("lead",))),
    report=("teams",),
)


def rule(**changes: Any) -> Rule:
    """Return a rule: restart, then roll back, for a crash."""
    document: dict[str, Any] = {
        "rule": "crash",
        "title": "Crashing",
        "owner": "platform",
        "runbook": "https://runbooks.example/crash",
        "severity": "error",
        "match": [{"alert": ["KubePodCrashLooping"]}],
        "target": "workload",
        "when": 'facts.cause == "crash"',
        "ladder": [
            {"do": "workload.restart", "when": "!facts.new_revision", "within": "6m"},
            {"do": "workload.rollback", "when": "facts.new_revision", "within": "8m"},
        ],
    }
    document |= changes
    return compile_rule({name: value for name, value in document.items() if value is not None}, catalogue=CATALOGUE.names)


def alert(**changes: Any) -> Alert:
    """Return a firing Alertmanager alert about the Deployment api."""
    labels = changes.pop("labels", {"alertname": "KubePodCrashLooping", "namespace": "shop", "deployment": "api"})
    mark = fingerprint("alertmanager/test", labels)
    values: dict[str, Any] = {
        "source": SourceKind.ALERTMANAGER,
        "source_name": "test",
        "name": labels.get("alertname", ""),
        "status": AlertStatus.FIRING,
        "severity": Severity.WARNING,
        "labels": labels,
        "fingerprint": mark,
        "instance": f"{mark}/1",
        "started_at": NOON,
    }
    return Alert(**{**values, **changes})


def instance(**changes: Any) -> Instance:
    """Return a firing instance that the rule crash matched."""
    values: dict[str, Any] = {
        "instance": "i1",
        "fingerprint": "f1",
        "source": "alertmanager",
        "source_name": "test",
        "name": "KubePodCrashLooping",
        "status": AlertStatus.FIRING,
        "severity": Severity.WARNING,
        "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop"},
        "started_at": NOON,
        "first_seen_at": NOON,
        "seen_at": NOON,
        "rules": ("crash",),
    }
    return Instance(**{**values, **changes})


def incident(**changes: Any) -> Incident:
    """Return an open armed incident, evidence taken, a minute old."""
    values: dict[str, Any] = {
        "id": "inc-1",
        "key": f"armed:{TARGET.identity}",
        "mode": Mode.ARMED,
        "cluster": "prod",
        "target": TARGET,
        "symptom": "crash",
        "severity": Severity.ERROR,
        "opened_at": NOON - timedelta(minutes=1),
        "phase_since": NOON - timedelta(minutes=1),
        "candidates": (Candidate(rule="crash", digest="d"),),
        "evidence_at": NOON - timedelta(minutes=1),
    }
    return Incident(**{**values, **changes})


def pod(name: str = "api-1", **changes: Any) -> PodSnapshot:
    """Return a healthy pod of a ReplicaSet."""
    values: dict[str, Any] = {
        "namespace": "shop",
        "name": name,
        "uid": f"uid-{name}",
        "node": "n1",
        "ready": True,
        "scheduled": True,
        "created_at": NOON - timedelta(days=1),
        "revision": "new",
        "owner": OwnerRef(kind="ReplicaSet", name="api-rs", uid="uid-rs"),
        "containers": (ContainerSnapshot(name="api", ready=True, running_since=NOON - timedelta(days=1)),),
    }
    return PodSnapshot(**{**values, **changes})


def crashing(name: str = "api-1", **changes: Any) -> PodSnapshot:
    """Return a pod whose container crashes."""
    container = ContainerSnapshot(
        name="api",
        restarts=5,
        waiting_reason="CrashLoopBackOff",
        waiting_message="back-off 5m0s restarting failed container",
        exit_code=1,
        exit_reason="Error",
        finished_at=NOON - timedelta(seconds=30),
    )
    return pod(name, **{"ready": False, "ready_since": NOON - timedelta(minutes=5), "containers": (container,), **changes})


def revision(name: str, number: int, **changes: Any) -> RevisionSnapshot:
    """Return a revision whose template digest is its name."""
    values: dict[str, Any] = {
        "name": name,
        "number": number,
        "revision": name,
        "template_digest": name,
        "created_at": NOON - timedelta(days=30 - number),
        "template": {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "api", "image": f"api:{name}"}]}},
        "images": (f"api:{name}",),
    }
    return RevisionSnapshot(**{**values, **changes})


def workload(**changes: Any) -> WorkloadSnapshot:
    """Return a Deployment with two pods; all healthy."""
    pods = changes.pop("pods", (pod("api-1"), pod("api-2", node="n2")))
    ready = sum(1 for one in pods if one.ready)
    values: dict[str, Any] = {
        "kind": "Deployment",
        "namespace": "shop",
        "name": "api",
        "uid": "uid-api",
        "resource_version": "7",
        "generation": 2,
        "observed_generation": 2,
        "desired": 2,
        "replicas": 2,
        "ready": ready,
        "updated": 2,
        "available": ready,
        "surge": 1,
        "template": {"metadata": {"labels": {"app": "api"}}, "spec": {}},
        "template_digest": "new",
        "current_revision": "new",
        "revisions": (revision("old", 1), revision("new", 2, current=True, was_healthy=True)),
        "pods": pods,
        "pod_requests": {"pods": 1.0},
    }
    return WorkloadSnapshot(**{**values, **changes})


def snapshot(**changes: Any) -> Snapshot:
    """Return a snapshot of the Deployment api; keyword arguments are the workload's unless they are the snapshot's."""
    own = {
        name: changes.pop(name) for name in ("gaps", "events", "nodes", "gone", "read_at", "service", "pod") if name in changes
    }
    return Snapshot(target=TARGET, workload=None if own.get("gone") else workload(**changes), **{"read_at": NOON, **own})


def reading(
    health: Health = Health.UNHEALTHY, *, facts: dict[str, Any] | None = None, snap: Snapshot | None = None, at: datetime = NOON
) -> Reading:
    """Return a reading of a crashing workload whose check answers ``health``."""
    known = {
        "cause": "crash",
        "failing": 2,
        "desired": 2,
        "ready": 0,
        "new_revision": False,
        "one_node": False,
        "rollout": "idle",
        "rollout_age": timedelta(days=3),
    }
    taken = snap if snap is not None else snapshot(pods=(crashing("api-1"), crashing("api-2")))
    return Reading(
        read_at=at,
        facts={**known, **(facts or {})},
        checks={
            "workload.available": CheckReading(health=health, detail=str(health)),
            "alert.resolved": CheckReading(health=health),
        },
        snapshot=replace(taken, read_at=at),
    )


def case(of: Incident | None = None, **changes: Any) -> Case:
    """Return a case: one rule, one firing instance, unhealthy, armed, nothing else going on."""
    known = changes.pop("rules", {"crash": rule()})
    values: dict[str, Any] = {
        "incident": of if of is not None else incident(),
        "now": NOON,
        "house": House(catalogue=CATALOGUE, routes=dict.fromkeys(Severity, PEOPLE), shadow_channel="shadow"),
        "rules": known,
        "instances": (instance(),),
        "reading": reading(),
        "armed": frozenset(known),
        "counts": {name: Counts() for name in known},
    }
    return Case(**{**values, **changes})


NODE = Target(kind=TargetKind.NODE, cluster="prod", name="n1", uid="uid-n1")


def node(name: str = "n1", **changes: Any) -> NodeSnapshot:
    """Return a node that is Ready, with room for four pods of one core."""
    values: dict[str, Any] = {
        "name": name,
        "ready": "True",
        "ready_since": NOON - timedelta(days=1),
        "uid": f"uid-{name}",
        "resource_version": "7",
        "pool": "user",
        "zone": "",
        "allocatable": {"cpu": 4.0, "memory": 8e9, "pods": 30.0},
    }
    return NodeSnapshot(**{**values, **changes})


def dead(name: str = "n1", **changes: Any) -> NodeSnapshot:
    """Return a node whose kubelet has been silent for four minutes."""
    return node(name, **{"ready": "Unknown", "ready_since": NOON - timedelta(minutes=4), **changes})


def moved(name: str = "api", **changes: Any) -> MovedSnapshot:
    """Return a Deployment of three, all ready."""
    target = Target(
        kind=TargetKind.WORKLOAD, cluster="prod", namespace="shop", name=name, owner_kind="Deployment", uid=f"uid-{name}"
    )
    return MovedSnapshot(**{"target": target, "desired": 3, "ready": 3, **changes})


def on_node(
    *pods: PodSnapshot, this: NodeSnapshot | None = None, others: tuple[NodeSnapshot, ...] | None = None, **changes: Any
) -> Snapshot:
    """Return a snapshot of node n1 with these pods; four other nodes are Ready and empty."""
    mine = this if this is not None else node()
    rest = others if others is not None else tuple(node(f"n{number}") for number in range(2, 6))
    detail = {
        "node": mine,
        "pods": pods,
        "budgets": changes.pop("budgets", ()),
        "lease_renewed_at": changes.pop("lease_renewed_at", NOON),
        "leases": changes.pop("leases", {}),
        "held_by": changes.pop("held_by", ""),
        "requested": changes.pop("requested", {}),
    }
    values: dict[str, Any] = {"target": NODE, "read_at": NOON, "node": NodeDetail(**detail), "nodes": (mine, *rest)}
    return Snapshot(**{**values, **changes})
