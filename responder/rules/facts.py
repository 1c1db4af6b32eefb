"""The names that rules may use, with their types: FACTS.md as data.

Never here: how a fact is found out (``policy.causes`` and the cluster readers).

The decision a reader would question: each name carries a specimen and, where there is one, its closed list of words. Every expression
is checked and evaluated against them when rules are loaded, so a misspelt cause is an error of ``responder check`` and not a rule that
silently never leads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from responder.model.alert import Severity, SourceKind
from responder.model.target import TargetKind


class ValueType(StrEnum):
    """What a name's value is; the word is shown to people."""

    STRING = "string"
    INT = "int"
    DOUBLE = "double"
    BOOL = "bool"
    DURATION = "duration"
    TIMESTAMP = "timestamp"
    STRINGS = "list of strings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """One name below a root such as ``facts`` or ``alert``.

    Attributes:
        optional: Its source may be read and have none: then ``has()`` is false.
        targets: Kinds of target that have it; empty means every kind.
        specimen: A value of its type, ordinary for a target in trouble.
        words: The closed list of its values; empty when it is open.
        says: For the manual.
    """

    name: str
    type: ValueType
    specimen: Any
    optional: bool = False
    targets: frozenset[TargetKind] = frozenset()
    words: tuple[str, ...] = ()
    says: str = ""

    def belongs_to(self, kind: TargetKind) -> bool:
        """Tell whether a target of this kind has it."""
        return not self.targets or kind in self.targets

    def holds(self, value: Any) -> bool:
        """Tell whether a value is of the declared type; True is no int here, and an int is a double."""
        if self.type is ValueType.BOOL:
            return isinstance(value, bool)
        if self.type is ValueType.DOUBLE:
            return isinstance(value, int | float) and not isinstance(value, bool)
        if self.type is ValueType.INT:
            return isinstance(value, int) and not isinstance(value, bool)
        if self.type is ValueType.STRINGS:
            return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        return isinstance(value, _CLASSES[self.type])


_CLASSES: Mapping[ValueType, type] = {
    ValueType.STRING: str,
    ValueType.DURATION: timedelta,
    ValueType.TIMESTAMP: datetime,
}

_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_WORKLOAD = frozenset({TargetKind.POD, TargetKind.WORKLOAD, TargetKind.SERVICE})
_SERVICE = frozenset({TargetKind.SERVICE})
_NODE = frozenset({TargetKind.NODE})
_POOL = frozenset({TargetKind.NODE, TargetKind.NODE_POOL})
_NODES = frozenset({TargetKind.NODE, TargetKind.NODE_POOL, TargetKind.CLUSTER})
_CLUSTER = frozenset({TargetKind.CLUSTER})
_REGION = frozenset({TargetKind.REGION})
_S, _I, _B, _D = ValueType.STRING, ValueType.INT, ValueType.BOOL, ValueType.DURATION

CAUSES = (
    "none",
    "crash",
    "exit",
    "killed",
    "oom",
    "spec",
    "image_missing",
    "image_denied",
    "image_busy",
    "config",
    "create",
    "volume",
    "sandbox",
    "unschedulable",
    "gated",
    "quota",
    "readiness",
    "evicted",
    "node",
    "job",
    "mixed",
)
"""Why pods fail; the cause of most failing pods. Source: kubernetes.md A8."""

SERVICE_CAUSES = ("none", "scaled_to_zero", "no_match", "not_ready", "port", "terminating", "external")
"""Why a service has no endpoints. Source: kubernetes.md A9."""


def _workload() -> tuple[Name, ...]:
    on = _WORKLOAD
    return (
        Name(
            name="cause",
            type=_S,
            specimen="crash",
            targets=on,
            words=CAUSES,
            says="why most failing pods fail; mixed if none has half",
        ),
        Name(name="container", type=_S, specimen="app", optional=True, targets=on, says="the failing container"),
        Name(name="message", type=_S, specimen="back-off restarting", optional=True, targets=on, says="the kubelet's sentence"),
        Name(name="exit_code", type=_I, specimen=1, optional=True, targets=on, says="of the last exit"),
        Name(name="desired", type=_I, specimen=3, targets=on, says="replicas wanted"),
        Name(name="ready", type=_I, specimen=2, targets=on, says="pods ready"),
        Name(name="failing", type=_I, specimen=1, targets=on, says="pods that fail"),
        Name(name="restarts_10m", type=_I, specimen=4, targets=on, says="container restarts in ten minutes, over all pods"),
        Name(
            name="one_node",
            type=_B,
            specimen=False,
            targets=on,
            says="all failing pods are on one node that also runs healthy others",
        ),
        Name(
            name="rollout",
            type=_S,
            specimen="idle",
            targets=on,
            words=("idle", "progressing", "stuck", "paused"),
            says="of the workload",
        ),
        Name(
            name="rollout_age",
            type=_D,
            specimen=timedelta(hours=1),
            targets=on,
            says="since the newest template change (restarts ignored)",
        ),
        Name(
            name="new_revision",
            type=_B,
            specimen=True,
            targets=on,
            says="every failing pod has the newest template, and another template was healthy",
        ),
        Name(name="hpa", type=_B, specimen=False, targets=on, says="a HorizontalPodAutoscaler owns the replica count"),
        Name(name="at_max", type=_B, specimen=False, targets=on, says="it is at its maximum"),
        Name(name="stateful", type=_B, specimen=False, targets=on, says="a StatefulSet"),
        Name(name="has_volumes", type=_B, specimen=False, targets=on, says="pods mount persistent volumes"),
        Name(
            name="gitops",
            type=_S,
            specimen="",
            targets=on,
            words=("", "argocd", "flux", "helm"),
            says="who would revert a change",
        ),
        Name(
            name="fits_pool",
            type=_S,
            specimen="pool",
            optional=True,
            targets=on,
            says="the one pool of which one more machine takes a pending pod: by labels, taints and size; unknown where only an empty pool may",
        ),
    )


def _service() -> tuple[Name, ...]:
    return (
        Name(name="endpoints", type=_I, specimen=1, targets=_SERVICE, says="ready endpoints"),
        Name(name="service_cause", type=_S, specimen="not_ready", targets=_SERVICE, words=SERVICE_CAUSES, says="why it has none"),
    )


def _node() -> tuple[Name, ...]:
    return (
        Name(
            name="node_ready",
            type=_S,
            specimen="False",
            targets=_NODE,
            words=("True", "False", "Unknown"),
            says="the Ready condition",
        ),
        Name(
            name="not_ready_for", type=_D, specimen=timedelta(minutes=4), optional=True, targets=_NODE, says="since it was Ready"
        ),
        Name(
            name="lease_age",
            type=_D,
            specimen=timedelta(minutes=4),
            optional=True,
            targets=_NODE,
            says="since its Lease was renewed",
        ),
        Name(
            name="pressure",
            type=ValueType.STRINGS,
            specimen=["MemoryPressure"],
            targets=_NODE,
            says="MemoryPressure, DiskPressure, PIDPressure and the node problem detector's conditions that hold",
        ),
        Name(
            name="machine",
            type=_S,
            specimen="running",
            targets=_NODE,
            words=("running", "stopped", "deleted", "unknown"),
            says="ARM's word, the only proof of death",
        ),
        Name(
            name="repair",
            type=_S,
            specimen="none",
            targets=_NODE,
            words=("none", "running", "ended", "failed"),
            says="AKS auto-repair, last hour",
        ),
        Name(name="cordoned_by", type=_S, specimen="", targets=_NODE, words=("", "us", "other"), says="who cordoned it"),
        Name(name="pool", type=_S, specimen="pool", targets=_POOL, says="its agent pool"),
        Name(name="pool_autoscaled", type=_B, specimen=False, targets=_POOL, says="the cluster autoscaler owns the pool's count"),
        Name(name="pool_count", type=_I, specimen=3, targets=_POOL, says="nodes in the pool"),
        Name(name="blockers", type=_I, specimen=1, targets=_NODE, says="pods that refuse a drain"),
        Name(name="spare", type=_B, specimen=True, targets=_NODE, says="the other nodes have room for its pods' requests"),
        Name(name="nodes", type=_I, specimen=5, targets=_NODES, says="nodes of the cluster"),
        Name(name="nodes_unhealthy", type=_I, specimen=1, targets=_NODES, says="of them not Ready"),
    )


def _cluster() -> tuple[Name, ...]:
    on = _CLUSTER
    return (
        Name(name="api", type=_B, specimen=False, targets=on, says="the API answers; missing while our own network is in doubt"),
        Name(name="provisioning_state", type=_S, specimen="Succeeded", targets=on, says="ARM"),
        Name(name="power_state", type=_S, specimen="Running", targets=on, says="ARM"),
        Name(name="operation", type=_S, specimen="Upgrading", targets=on, says='ARM operation in progress; "" for none'),
        Name(name="operation_age", type=_D, specimen=timedelta(hours=2), optional=True, targets=on, says="since it began"),
        Name(name="health", type=_S, specimen="Available", targets=on, says="Azure Resource Health"),
        Name(name="hosts_responder", type=_B, specimen=False, targets=on, says="this program runs in it"),
        Name(
            name="backup_age",
            type=_D,
            specimen=timedelta(hours=6),
            optional=True,
            targets=_CLUSTER | _REGION,
            says="of the newest completed backup (region: in the geo-redundant location)",
        ),
        Name(name="clusters", type=_I, specimen=1, targets=_REGION, says="configured clusters in the region"),
        Name(name="clusters_down", type=_I, specimen=1, targets=_REGION, says="of them unreachable"),
        Name(name="service_health", type=_B, specimen=True, targets=_REGION, says="an active Service Health event"),
    )


FACTS: Mapping[str, Name] = {
    fact.name: fact
    for fact in (
        *_workload(),
        *_service(),
        *_node(),
        *_cluster(),
        Name(
            name="since",
            type=ValueType.TIMESTAMP,
            specimen=_NOON,
            optional=True,
            targets=frozenset(TargetKind) - {TargetKind.NONE},
            says="the first bad condition",
        ),
    )
}
"""Every fact by its name without ``facts.``. Source: FACTS.md."""

ALERT: Mapping[str, Name] = {
    name.name: name
    for name in (
        Name(name="name", type=_S, specimen="KubePodCrashLooping", says="labels.alertname, else the sender's rule name"),
        Name(name="source", type=_S, specimen="alertmanager", words=tuple(SourceKind), says="the format it arrived in"),
        Name(name="severity", type=_S, specimen="error", words=tuple(Severity), says="normalised"),
        Name(name="value", type=ValueType.DOUBLE, specimen=1.0, optional=True, says="measured; never known for Alertmanager"),
        Name(name="started_at", type=ValueType.TIMESTAMP, specimen=_NOON, optional=True, says="when the condition began"),
    )
}
TARGET: Mapping[str, Name] = {
    name.name: name
    for name in (
        Name(name="kind", type=_S, specimen="workload", words=tuple(TargetKind), says="what it is"),
        Name(name="cluster", type=_S, specimen="prod", says="the configured name of its cluster"),
        Name(name="namespace", type=_S, specimen="shop", says='"" for things without one'),
        Name(name="name", type=_S, specimen="api", says="of the object"),
        Name(
            name="owner_kind",
            type=_S,
            specimen="Deployment",
            words=("", "Deployment", "StatefulSet", "DaemonSet", "Job", "Rollout", "ReplicaSet", "other", "bare"),
            says="of a workload",
        ),
        Name(name="region", type=_S, specimen="westeurope", says='"" when not known'),
    )
}
INCIDENT: Mapping[str, Name] = {
    name.name: name
    for name in (
        Name(name="age", type=_D, specimen=timedelta(minutes=2), says="since it opened"),
        Name(name="budget_left", type=_D, specimen=timedelta(minutes=10), optional=True, says="of the component's RTO"),
        Name(name="done", type=ValueType.STRINGS, specimen=["restart"], says="names of rungs carried out"),
        Name(name="drill", type=_B, specimen=False, says="a rehearsal on an allow-listed target"),
        Name(name="reopened", type=_B, specimen=False, says="it had recovered before"),
    )
}
