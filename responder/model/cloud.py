"""The cloud's own view of a cluster: what ARM says of it, its pools, their machines and the operation in progress.

Adapters (``clusters.aks``) make these; facts, checks and plans are derived from them and from nothing else. Never here: judgement.

The decision a reader would question: what the cloud says is kept apart from what the cluster says (``Snapshot.cloud`` beside
``Snapshot.node``). "We cannot reach it" and "ARM says it is down" are two facts, and only a person or a rule may join them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

SETTLED = frozenset({"Succeeded", "Failed", "Canceled"})
"""Provisioning states in which nothing is at work. Source: Azure Resource Manager, asynchronous operations."""


class Life(StrEnum):
    """Whether a machine runs: the only proof of death. Source: FACTS.md, ``facts.machine``."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """One agent pool. Source: Microsoft.ContainerService, AgentPool.

    Attributes:
        etag: Changes with every write to the pool.
        mode: System, User or Gateway.
        count: Nodes wanted.
        autoscaled: The cluster autoscaler owns the count, between ``minimum`` and ``maximum``.
        provisioning_state: Succeeded, Failed, Canceled, or what is at work (Scaling, Upgrading, …).
        power_state: Running or Stopped.
        labels, taints: As given to its nodes; taints as ``key=value:Effect``.
        size: The machines' size, such as Standard_D4s_v5.
    """

    name: str
    etag: str = ""
    mode: str = "User"
    count: int = 0
    autoscaled: bool = False
    minimum: int = 0
    maximum: int = 0
    provisioning_state: str = "Succeeded"
    power_state: str = "Running"
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    size: str = ""
    os: str = "Linux"

    @property
    def settled(self) -> bool:
        """Nothing is at work on it."""
        return self.provisioning_state in SETTLED


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSnapshot:
    """One machine of a pool.

    Attributes:
        name: In the pool's list; "" when it is in no pool's list any more.
        resource_id: Of the virtual machine, lower-cased: what a Node's providerID names.
        pool: Its pool.
        life: As the virtual machine's own instance view says.
        said: What was seen, such as ``PowerState/deallocated``.
    """

    resource_id: str
    name: str = ""
    pool: str = ""
    life: Life = Life.UNKNOWN
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSnapshot:
    """The operation in progress on the cluster or a pool.

    Attributes:
        name: The provisioning state that says so, such as ``Upgrading``.
        on: "" for the cluster itself, else the pool's name.
        began_at: When it began; ``exact`` is False when that is only since when we have seen it, so that it may be older.
        by: Who began it, as the activity log says; "" when not known.
        id: The activity log's correlation id; "" when not known.
        ours: It was begun with our own identity.
    """

    name: str
    on: str = ""
    began_at: datetime | None = None
    exact: bool = False
    by: str = ""
    id: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceSnapshot:
    """A planned maintenance configuration: when AKS may begin to upgrade a cluster or its nodes by itself.

    Attributes:
        says: Its schedule in words.
        windows: From when to when it is open, UTC, as far as that is within a day of the reading; None when its schedule was not understood.
    """

    name: str
    says: str
    windows: tuple[tuple[datetime, datetime], ...] | None = ()

    def open_until(self, now: datetime) -> datetime | None:
        """Return when the window that is open now ends; None when none is."""
        return next((ends for begins, ends in self.windows or () if begins <= now < ends), None)


class OperationState(StrEnum):
    """What became of a long-running operation of ours."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """Where a long-running operation that we began stands.

    Attributes:
        code, message: Of its failure, such as ``QuotaExceeded``; "" otherwise. A failed operation answers with HTTP 200: only the code says so.
    """

    state: OperationState
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSnapshot:
    """What the cloud says of a cluster.

    Attributes:
        resource_id: The ARM id as configured.
        provisioning_state: Succeeded, Failed, Canceled, or what is at work.
        power_state: Running or Stopped.
        etag: Of the managed cluster.
        health: Azure Resource Health's word (Available, Degraded, Unavailable, Unknown); "" when it was not read.
        machines: Of the pools that were asked for.
        machine: Of a node target: the virtual machine that its providerID names.
        operations: Our own operations by the key of the write that began them, while a command is carried out.
        gaps: Sources that could not be read, each with the reason: ``health``, ``machine``, ``machines/<pool>``, ``operation``, ``maintenance``.
    """

    read_at: datetime
    resource_id: str = ""
    location: str = ""
    provisioning_state: str = ""
    power_state: str = ""
    etag: str = ""
    pools: tuple[PoolSnapshot, ...] = ()
    operation: OperationSnapshot | None = None
    health: str = ""
    health_detail: str = ""
    maintenance: tuple[MaintenanceSnapshot, ...] = ()
    machines: Mapping[str, tuple[MachineSnapshot, ...]] = field(default_factory=dict)
    machine: MachineSnapshot | None = None
    operations: Mapping[str, OperationResult] = field(default_factory=dict)
    gaps: Mapping[str, str] = field(default_factory=dict)

    def pool(self, name: str) -> PoolSnapshot | None:
        """Return the pool of that name."""
        return next((one for one in self.pools if one.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudAsk:
    """What to read beside the cluster and its pools.

    Attributes:
        machine: Resource id of a virtual machine, as a Node's providerID names it; "" for none.
        machines: Pools whose machines are listed; ``machine``'s own is added.
        health: Ask Azure Resource Health, the activity log (who began what is in progress) and the maintenance windows too.
        windows: Ask for the maintenance windows.
        fresh: Take nothing that was read before.
    """

    machine: str = ""
    machines: tuple[str, ...] = ()
    health: bool = False
    windows: bool = False
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A write that the cloud took.

    Attributes:
        status: Of its first answer.
        token: How to ask for its end, also after a restart; "" when it is over already.
        ask_again_in: The cloud's own wish.
    """

    status: int = 202
    token: str = ""
    ask_again_in: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOutput:
    """What a command that ran inside the cluster printed."""

    exit_code: int
    logs: str
