"""The AKS double's state: a managed cluster, its pools, machines and the one operation in progress. No HTTP here.

Source: azure.md 2.2, kubernetes.md A13, Microsoft.ContainerService 2026-08-01. One operation at a time; the provisioning states follow it.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

SUBSCRIPTION = "0f9b7a52-7a0c-4c1e-9a6e-0c3a51d2b7aa"
GROUP = "shop-rg"
LOCATION = "westeurope"
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Nodes(Protocol):
    """The cluster's nodes, driven by machines."""

    async def add(self, name: str, *, provider_id: str, labels: dict[str, str], taints: list[dict[str, str]]) -> None:
        """Let a node join."""

    async def remove(self, name: str) -> None:
        """Let a node go."""


@dataclass(slots=True)
class Machine:
    """A virtual machine of a pool; ``power``: running, stopped or deallocated."""

    number: int
    name: str
    resource_id: str
    power: str = "running"


@dataclass(slots=True)
class Pool:
    """An agent pool. ``revision`` makes its ETag."""

    name: str
    count: int = 3
    mode: str = "User"
    autoscaled: bool = False
    minimum: int | None = None
    maximum: int | None = None
    state: str = "Succeeded"
    power: str = "Running"
    size: str = "Standard_D4s_v5"
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[str] = field(default_factory=list)
    revision: int = 1
    machines: dict[str, Machine] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """Return it."""
        return f'"{self.name}-{self.revision}"'


@dataclass(slots=True)
class Operation:
    """A long-running operation. ``seconds`` None: it never ends by itself."""

    id: str
    kind: str
    on: str
    began_at: datetime
    ends_at: datetime | None
    finish: Callable[[], Awaitable[None]]
    fails: tuple[str, str] | None = None
    state: str = "InProgress"
    error: tuple[str, str] | None = None
    settled: str = ""
    by: str = ""
    result: dict[str, Any] | None = None


class Refused(Exception):  # noqa: N818 - an answer
    """An answer other than success."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


class Aks:
    """One managed cluster.

    Attributes:
        seconds: How long operations take, by kind; else ``takes``.
        quota: Most machines in all; None for no bound. ``quota_early``: refused at once instead of by the operation.
        fails: The next operation of this kind ends Failed with that code and message.
        health: Resource Health's word.
        ran: Commands that were run in the cluster; ``output``: what they print.
        log: What ARM's activity log has.
    """

    def __init__(
        self,
        name: str = "prod",
        *,
        now: Callable[[], datetime],
        nodes: Nodes | None = None,
        server: str = "https://127.0.0.1:1",
        server_ca: bytes = b"",
        takes: float = 30.0,
        subscription: str = SUBSCRIPTION,
        group: str = GROUP,
    ) -> None:
        self.name, self.subscription, self.group = name, subscription, group
        self._now = now
        self.nodes = nodes
        self.server, self.server_ca = server, server_ca
        self.takes = takes
        self.seconds: dict[str, float | None] = {}
        self.state, self.power, self.revision = "Succeeded", "Running", 1
        self.health = ("Available", "There aren't any known Azure platform problems affecting this cluster.")
        self.pools: dict[str, Pool] = {}
        self.operations: dict[str, Operation] = {}
        self.quota: int | None = None
        self.quota_early = False
        self.fails: dict[str, tuple[str, str]] = {}
        self.maintenance: list[dict[str, Any]] = []
        self.output = (0, "")
        self.ran: list[str] = []
        self.log: list[dict[str, Any]] = []
        self.tags: dict[str, str] = {"team": "platform"}
        self._next = 0

    @property
    def resource_id(self) -> str:
        """Return the ARM id."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.ContainerService/managedClusters/{self.name}"
        )

    @property
    def running(self) -> Operation | None:
        """Return the operation in progress."""
        return next((one for one in self.operations.values() if one.state == "InProgress"), None)

    # --- machines

    async def pool(self, name: str, count: int = 3, **given: Any) -> Pool:
        """Make a pool with its machines, at once."""
        pool = self.pools[name] = Pool(name=name, count=count, **given)
        await self._fill(pool)
        return pool

    async def _fill(self, pool: Pool) -> None:
        while len(pool.machines) < pool.count:
            machine = self._machine(pool)
            pool.machines[machine.name] = machine
            await self._join(pool, machine)
        while len(pool.machines) > pool.count:  # the newest goes first, without a drain
            await self._leave(pool, next(reversed(pool.machines)))

    def _machine(self, pool: Pool) -> Machine:
        number, self._next = self._next, self._next + 1
        tail = f"{DIGITS[number // 36 % 36]}{DIGITS[number % 36]}"
        scale_set = f"aks-{pool.name}-12345678-vmss"
        vm = (
            f"/subscriptions/{self.subscription}/resourceGroups/MC_{self.group}_{self.name}_{LOCATION}"
            f"/providers/Microsoft.Compute/virtualMachineScaleSets/{scale_set}/virtualMachines/{number}"
        )
        return Machine(number=number, name=f"{scale_set}0000{tail}", resource_id=vm)

    async def _join(self, pool: Pool, machine: Machine) -> None:
        if self.nodes is None:
            return
        labels = {
            "agentpool": pool.name,
            "kubernetes.azure.com/agentpool": pool.name,
            "kubernetes.azure.com/mode": pool.mode.lower(),
            **pool.labels,
        }
        taints = []
        for one in pool.taints:
            pair, effect = one.rsplit(":", 1)
            key, _, value = pair.partition("=")
            taints.append({"key": key, "value": value, "effect": effect})
        await self.nodes.add(machine.name, provider_id=f"azure://{machine.resource_id}", labels=labels, taints=taints)

    async def _leave(self, pool: Pool, name: str) -> None:
        if pool.machines.pop(name, None) is not None and self.nodes is not None:
            await self.nodes.remove(name)

    def find_machine(self, resource_id: str) -> Machine | None:
        """Return the machine with that id, whatever its case."""
        every = (one for pool in self.pools.values() for one in pool.machines.values())
        return next((one for one in every if one.resource_id.lower() == resource_id.lower()), None)

    # --- operations

    def begin(
        self,
        kind: str,
        *,
        state: str,
        on: str = "",
        finish: Callable[[], Awaitable[None]],
        settled: str = "Succeeded",
        by: str = "",
    ) -> Operation:
        """Begin an operation; ``state`` is shown meanwhile, ``settled`` afterwards.

        Raises:
            Refused: 409, another is in progress.
        """
        busy = self.running
        if busy is not None:
            raise Refused(
                409,
                "OperationNotAllowed",
                f"Operation is not allowed: Another operation ({busy.kind} - {busy.id}) is in progress, please wait for it to finish",
            )
        now = self._now()
        takes = self.seconds.get(kind, self.takes)
        operation = Operation(
            id=str(uuid.uuid4()), kind=kind, on=on, began_at=now, ends_at=None if takes is None else now + timedelta(seconds=takes),
            finish=finish, fails=self.fails.pop(kind, None), settled=settled, by=by,
        )  # fmt: skip
        self.operations[operation.id] = operation
        self.state = state
        if on:
            self.pools[on].state = state
        where = f"{self.resource_id}/agentPools/{on}" if on else self.resource_id
        self.log.append({"at": now, "operation": kind, "resource": where, "status": "Started", "caller": by, "id": operation.id})
        return operation

    async def tick(self) -> None:
        """End what is over, and let the autoscaler look at its pools."""
        operation = self.running
        if operation is not None and operation.ends_at is not None and self._now() >= operation.ends_at:
            await self._end(operation)
        if self.running is None:
            for pool in self.pools.values():
                if pool.autoscaled and pool.minimum is not None and pool.count < pool.minimum:
                    pool.count = pool.minimum
                    await self._fill(pool)

    async def _end(self, operation: Operation) -> None:
        word = "Succeeded"
        if operation.fails is not None:
            operation.error, word = operation.fails, "Failed"
        else:
            try:
                await operation.finish()
            except Refused as refused:
                operation.error, word = (refused.code, refused.message), "Failed"
        operation.state = word
        self._settle(operation, operation.settled if word == "Succeeded" else "Failed")

    def _settle(self, operation: Operation, word: str) -> None:
        self.state = word if not operation.on else "Succeeded"
        self.revision += 1
        if operation.on in self.pools:
            pool = self.pools[operation.on]
            pool.state, pool.revision = word, pool.revision + 1
        self.log.append(
            {
                "at": self._now(),
                "operation": operation.kind,
                "resource": self.resource_id,
                "status": operation.state,
                "caller": operation.by,
                "id": operation.id,
            }
        )

    def abort(self, *, by: str = "") -> Operation:
        """Cancel what is in progress.

        Raises:
            Refused: 409, it finished first.
        """
        busy = self.running
        if busy is None:
            raise Refused(409, "OperationNotAllowed", "There is no operation in progress to abort: it has finished already")
        busy.state, busy.error = "Canceled", ("Canceled", "Operation was canceled by user")
        self._settle(busy, "Canceled")

        async def nothing() -> None:
            return None

        return self.begin("AbortLatestOperation", state="Canceling", on=busy.on, finish=nothing, settled="Canceled", by=by)

    async def scale(self, pool: Pool, wanted: int) -> None:
        """Grow or shrink a pool to a count; what the quota does not give fails the operation.

        Raises:
            Refused: The quota is used up.
        """
        total = sum(len(one.machines) for one in self.pools.values()) - len(pool.machines) + wanted
        if self.quota is not None and total > self.quota:
            raise Refused(
                400,
                "QuotaExceeded",
                f"Operation could not be completed as it results in exceeding approved Total Regional Cores quota. Machines: {total}, limit: {self.quota}",
            )
        pool.count = wanted
        await self._fill(pool)

    async def delete_machines(self, pool: Pool, names: list[str]) -> None:
        """Delete these machines, without cordon or drain; the pool's count falls."""
        for name in names:
            await self._leave(pool, name)
        pool.count = len(pool.machines)

    # --- documents

    def document(self) -> dict[str, Any]:
        """Return the managed cluster as ARM shows it."""
        return {
            "id": self.resource_id, "name": self.name, "type": "Microsoft.ContainerService/ManagedClusters", "location": LOCATION,
            "eTag": f'"{self.revision}"', "tags": self.tags, "sku": {"name": "Base", "tier": "Standard"}, "identity": {"type": "SystemAssigned"},
            "properties": {
                "provisioningState": self.state, "powerState": {"code": self.power}, "kubernetesVersion": "1.36", "dnsPrefix": self.name,
                "fqdn": f"{self.name}.hcp.{LOCATION}.azmk8s.io", "nodeResourceGroup": f"MC_{self.group}_{self.name}_{LOCATION}", "enableRBAC": True,
                "agentPoolProfiles": [{"name": one.name, **self._pool_properties(one)} for one in self.pools.values()],
            },
        }  # fmt: skip

    def pool_document(self, pool: Pool) -> dict[str, Any]:
        """Return a pool as ARM shows it."""
        return {
            "id": f"{self.resource_id}/agentPools/{pool.name}", "name": pool.name,
            "type": "Microsoft.ContainerService/managedClusters/agentPools", "properties": self._pool_properties(pool),
        }  # fmt: skip

    def _pool_properties(self, pool: Pool) -> dict[str, Any]:
        found: dict[str, Any] = {
            "eTag": pool.etag, "count": pool.count, "vmSize": pool.size, "osType": "Linux", "osSKU": "Ubuntu", "mode": pool.mode,
            "type": "VirtualMachineScaleSets", "enableAutoScaling": pool.autoscaled, "provisioningState": pool.state,
            "powerState": {"code": pool.power}, "maxPods": 110, "orchestratorVersion": "1.36", "nodeLabels": pool.labels or None,
            "nodeTaints": pool.taints or None, "nodeImageVersion": "AKSUbuntu-2404gen2containerd-202611.10.0", "upgradeSettings": {"maxSurge": "10%"},
        }  # fmt: skip
        if pool.autoscaled:
            found |= {"minCount": pool.minimum, "maxCount": pool.maximum}
        return found

    def machine_document(self, pool: Pool, machine: Machine) -> dict[str, Any]:
        """Return a machine as ARM shows it."""
        return {
            "id": f"{self.resource_id}/agentPools/{pool.name}/machines/{machine.name}", "name": machine.name, "zones": [str(machine.number % 3 + 1)],
            "type": "Microsoft.ContainerService/managedClusters/agentPools/machines",
            "properties": {
                "network": {"ipAddresses": [{"family": "IPv4", "ip": f"10.224.0.{machine.number + 4}"}]}, "resourceId": machine.resource_id,
            },
        }  # fmt: skip

    def kubeconfig(self) -> str:
        """Return what listClusterUserCredential gives: a kubeconfig whose user is an exec plugin, base64."""
        cluster: dict[str, Any] = {"server": self.server}
        if self.server_ca:
            cluster["certificate-authority-data"] = base64.b64encode(self.server_ca).decode()
        plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "kubelogin", "args": ["get-token"]}
        text = json.dumps(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": self.name,
                "clusters": [{"name": self.name, "cluster": cluster}],
                "users": [{"name": f"clusterUser_{self.group}_{self.name}", "user": {"exec": plugin}}],
                "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": f"clusterUser_{self.group}_{self.name}"}}],
            }
        )  # fmt: skip
        return base64.b64encode(text.encode()).decode()
