"""One managed cluster by ARM: reads that are joined and kept for moments, writes sent exactly once, operations followed by their token.

Never here: judgement, or repeating a write. The SDK's own retries are off: a 409 with Retry-After would be sent again in silence, and a 5xx
repeats a POST (azure.md 2.2). What may be repeated is repeated by ``retrying``.

The decision a reader would question: a poller is never awaited to its end. Its continuation token is stored with the command, and each look
is one GET of a bounded time: an operation of an hour holds no task, and a process that dies loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

from responder.clusters.aks import reads as make
from responder.clusters.aks.errors import SYSTEM, said, translated
from responder.clusters.aks.identity import ARM_SCOPE, Identity
from responder.loading import loaded
from responder.model.action import Verb, Write
from responder.model.cloud import (
    Begun,
    CloudAsk,
    CloudSnapshot,
    CommandOutput,
    MachineSnapshot,
    MaintenanceSnapshot,
    OperationResult,
    OperationSnapshot,
    OperationState,
    PoolSnapshot,
)
from responder.model.errors import (
    ContestedError,
    ForbiddenError,
    GoneError,
    RejectedError,
    RemoteError,
    ThrottledError,
    TransientError,
)
from responder.policy.roles import LOG_READ, OPERATION_READ
from responder.retrying import repeated

T = TypeVar("T")
API_VERSION = "2026-08-01"
READ_WITHIN = timedelta(seconds=8)
KEPT_FOR = timedelta(seconds=15)
"""How long an answer is used again: many incidents of one cluster ask once, and ARM's limits are shared by the subscription."""

LONG_FOR = timedelta(seconds=60)
"""The same for what changes by the hour: maintenance windows, Resource Health, the activity log."""

NO_OPERATION = "00000000-0000-0000-0000-000000000000"
QUIET_AT_MOST = timedelta(minutes=10)
"""A longer Retry-After is not believed: ARM's buckets refill within minutes."""

NO_END = frozenset({401, 403, 404, 408, 429})
"""Client errors to a poll that are about asking, and say nothing of the operation."""

MOST_LOG_BYTES = 1 << 20


class AksCloud:
    """Implements ``ports.Cloud``."""

    def __init__(
        self,
        name: str,
        resource_id: str,
        identity: Identity,
        *,
        now: Callable[[], datetime],
        polling: timedelta = timedelta(seconds=30),
        transport: Any = None,
    ) -> None:
        """Take the cluster's configured name and ARM id; nothing is asked yet.

        Args:
            name: As configured.
            resource_id: Of the managed cluster.
            identity: Ours.
            now: The clock's.
            polling: Between two looks at an operation.
            transport: What sends the SDK's requests (``azure.core.pipeline.transport.AsyncHttpTransport``); None for its own.

        Raises:
            ValueError: It is not the id of a managed cluster.
        """
        self.name = name
        self.resource_id = resource_id
        self._subscription, self._group, self._cluster = make.parts(resource_id)
        self._identity = identity
        self._now = now
        self._polling = polling
        self._transport = transport
        self._client: Any = None
        self._core: Any = None
        self._kept: dict[str, tuple[datetime, Any]] = {}
        self._flights: dict[str, asyncio.Lock] = {}
        self._seen: tuple[str, datetime] | None = None

    # --- reads

    async def read(self, ask: CloudAsk) -> CloudSnapshot:
        """See ``ports.Cloud``."""
        if ask.fresh:
            self._forget()
        cluster, pools = await asyncio.gather(self._managed_cluster(), self._pools())
        gaps: dict[str, str] = {}
        found = replace(cluster, pools=pools)
        busy = make.at_work(found)
        self._watch(busy)
        if busy is not None:
            found = replace(found, operation=await self._side(gaps, "operation", self._operation(busy), self._only_seen(busy)))
        machine: MachineSnapshot | None = None
        wanted = list(ask.machines)
        if ask.machine:
            machine = await self._side(gaps, "machine", self._machine(ask.machine), None)
        listed: dict[str, tuple[MachineSnapshot, ...]] = {}
        for pool in dict.fromkeys(wanted):
            held = await self._side(gaps, f"machines/{pool}", self._machines(pool), None)
            if held is not None:
                listed[pool] = held
        if machine is not None:
            one = next((one for several in listed.values() for one in several if one.resource_id == machine.resource_id), None)
            machine = make.joined(machine, one, complete=bool(wanted) and all(pool in listed for pool in wanted))
        if ask.health:
            health = await self._side(gaps, "health", self._health(), ("", ""))
            found = replace(found, health=health[0], health_detail=health[1])
        if ask.health or ask.windows:
            found = replace(found, maintenance=await self._side(gaps, "maintenance", self._maintenance(), ()))
        return replace(found, machines=listed, machine=machine, gaps=gaps)

    async def _side(self, gaps: dict[str, str], name: str, asked: Awaitable[T], otherwise: T) -> T:
        try:
            return await asked
        except RemoteError as error:
            gaps[name] = str(error)
            return otherwise

    async def _managed_cluster(self) -> CloudSnapshot:
        async def ask(client: Any, options: Mapping[str, Any]) -> CloudSnapshot:
            began_at = self._now()
            raw = await client.managed_clusters.get(self._group, self._cluster, **options)
            return replace(make.cluster(raw, self.resource_id), read_at=began_at)

        return await self._asked("cluster", "read", ask)

    async def _pools(self) -> tuple[PoolSnapshot, ...]:
        async def ask(client: Any, options: Mapping[str, Any]) -> tuple[PoolSnapshot, ...]:
            return tuple([make.pool(one) async for one in client.agent_pools.list(self._group, self._cluster, **options)])

        return await self._asked("pools", "list agent pools of", ask)

    async def _machines(self, pool: str) -> tuple[MachineSnapshot, ...]:
        async def ask(client: Any, options: Mapping[str, Any]) -> tuple[MachineSnapshot, ...]:
            return tuple(
                [make.machine(one, pool) async for one in client.machines.list(self._group, self._cluster, pool, **options)]
            )

        return await self._asked(f"machines/{pool}", f"list machines of pool {pool} of", ask)

    async def _machine(self, resource_id: str) -> MachineSnapshot:
        """Ask the virtual machine itself whether it runs; one that is not there is deleted, and that is an answer."""
        try:
            view = await self._get(
                f"{resource_id}/instanceView?api-version=2024-07-01", f"machine {resource_id}", "read the instance view of"
            )
        except GoneError:
            return make.instance(resource_id, None)
        return make.instance(resource_id, view)

    async def _health(self) -> tuple[str, str]:
        where = (
            f"{self.resource_id}/providers/Microsoft.ResourceHealth/availabilityStatuses/current?api-version=2023-07-01-preview"
        )
        return make.health(await self._get(where, "health", "read Resource Health of", keep=LONG_FOR))

    async def _maintenance(self) -> tuple[MaintenanceSnapshot, ...]:
        async def ask(client: Any, options: Mapping[str, Any]) -> tuple[MaintenanceSnapshot, ...]:
            listed = client.maintenance_configurations.list_by_managed_cluster(self._group, self._cluster, **options)
            return tuple([make.maintenance(one, now=self._now()) async for one in listed])

        return await self._asked("maintenance", "list maintenance configurations of", ask, keep=LONG_FOR)

    async def _operation(self, busy: OperationSnapshot) -> OperationSnapshot:
        """Ask the activity log who began what is at work, and when; else it began when we first saw it, or before."""
        told = await self._get(self._log(), "activity", "read the activity log of", keep=LONG_FOR)
        return make.began(busy, told, self.resource_id, ours=self._identity.access.client_id) or self._only_seen(busy)

    def _log(self) -> str:
        since = (self._now() - timedelta(hours=24)).strftime("%Y-%m-%dT%H:%M:%SZ")
        chosen = quote(f"eventTimestamp ge '{since}' and resourceUri eq '{self.resource_id}'", safe="'")
        where = f"/subscriptions/{self._subscription}/providers/Microsoft.Insights/eventtypes/management/values"
        return f"{where}?api-version=2015-04-01&$filter={chosen}"

    def _watch(self, busy: OperationSnapshot | None) -> None:
        if busy is None:
            self._seen = None
        elif self._seen is None or self._seen[0] != busy.name + busy.on:
            self._seen = (busy.name + busy.on, self._now())

    def _only_seen(self, busy: OperationSnapshot) -> OperationSnapshot:
        return replace(busy, began_at=self._seen[1] if self._seen else self._now())

    async def permitted(self, actions: Sequence[str]) -> Mapping[str, bool]:
        """See ``ports.Cloud``."""
        where = f"{self.resource_id}/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
        return make.permitted(await self._get(where, "permissions", "list our permissions on"), actions)

    async def tried(self) -> Mapping[str, str]:
        """See ``ports.Cloud``; what does not exist answers 404 to who may read it, and 403 to who may not."""
        found: dict[str, str] = {}
        subscription = f"/subscriptions/{self._subscription}"
        location = (await self._managed_cluster()).location
        operation = f"{subscription}/providers/Microsoft.ContainerService/locations/{location}/operations/{NO_OPERATION}"
        operation += f"?api-version={API_VERSION}"
        found[OPERATION_READ] = "" if await self._may(operation, "operation 0", "read operations for") else subscription
        found[LOG_READ] = "" if await self._may(self._log(), "activity", "read the activity log of") else subscription
        for pool in await self._pools():
            machine = next((one for one in await self._machines(pool.name) if one.resource_id), None)
            if machine is not None:
                view = f"{machine.resource_id}/instanceView?api-version=2024-07-01"
                may = await self._may(view, f"machine {machine.resource_id}", "read the instance view of")
                found[make.machine_read(machine.resource_id)] = "" if may else make.group_of(machine.resource_id)
                break
        return found

    async def _may(self, path: str, key: str, operation: str) -> bool:
        try:
            await self._get(path, key, operation)
        except GoneError:
            return True
        except ForbiddenError:
            return False
        return True

    async def user_credential(self) -> bytes:
        """Return the cluster's user kubeconfig: its address and CA; who we are comes from Entra.

        Raises:
            RemoteError: See ``ports.Cloud``.
        """

        async def ask(client: Any, options: Mapping[str, Any]) -> bytes:
            found = await client.managed_clusters.list_cluster_user_credentials(self._group, self._cluster, **options)
            return bytes(found.kubeconfigs[0].value) if found.kubeconfigs else b""

        return await self._asked("credential", "listClusterUserCredential of", ask)

    async def run_command(self, command: str, *, within: timedelta) -> CommandOutput:
        """See ``ports.Cloud``."""
        client = await self._opened()
        async with self._translated("run a command in", within):
            poller = await client.managed_clusters.begin_run_command(
                self._group, self._cluster, {"command": command}, polling_interval=2
            )
            result = await poller.result()
        properties = result.properties
        logs = str(getattr(properties, "logs", "") or "")[:MOST_LOG_BYTES]
        return CommandOutput(exit_code=int(getattr(properties, "exit_code", 0) or 0), logs=logs)

    # --- writes

    async def write(self, write: Write, *, within: timedelta) -> Begun:
        """See ``ports.Cloud``."""
        client = await self._opened()
        self._forget()
        try:
            async with self._translated(str(write.verb), within):
                poller = await self._begin(client, write, None)
                method = poller.polling_method()
                token = "" if method.finished() and method.status().lower() == "succeeded" else poller.continuation_token()
        finally:
            self._forget()  # also what somebody read meanwhile: it may have taken effect without an answer
        return Begun(token=f"{write.verb}\n{write.name}\n{token}" if token else "", ask_again_in=self._polling)

    async def _begin(self, client: Any, write: Write, token: str | None) -> Any:
        """Begin the write, or take up the operation that a token names."""
        core = self._core
        options: dict[str, Any] = {"polling_interval": self._polling.total_seconds()}
        if token is not None:
            options["continuation_token"] = token
        elif write.resource_version:
            options |= {"etag": write.resource_version, "match_condition": core.MatchConditions.IfNotModified}
        match write.verb:
            case Verb.POOL:
                body: Any = {}
                if token is None:
                    body = await self._changed_pool(client, write)
                    options |= {
                        "etag": options.get("etag") or body.properties.e_tag,
                        "match_condition": core.MatchConditions.IfNotModified,
                    }
                return await client.agent_pools.begin_create_or_update(self._group, self._cluster, write.name, body, **options)
            case Verb.DELETE_MACHINE:
                options = {name: value for name, value in options.items() if name not in {"etag", "match_condition"}}
                machines = {"machineNames": [str(write.body["machine"])]} if token is None else {}
                return await client.agent_pools.begin_delete_machines(self._group, self._cluster, write.name, machines, **options)
            case Verb.CLUSTER_START:
                return await client.managed_clusters.begin_start(self._group, self._cluster, **options)
            case Verb.CLUSTER_ABORT:
                if write.name:
                    return await client.agent_pools.begin_abort_latest_operation(
                        self._group, self._cluster, write.name, **options
                    )
                return await client.managed_clusters.begin_abort_latest_operation(self._group, self._cluster, **options)
            case Verb.CLUSTER_RECONCILE:
                body = {}
                if token is None:
                    # Never without a precondition: a PUT of what was read would take back what somebody else changed meanwhile.
                    body = await client.managed_clusters.get(self._group, self._cluster)
                    options |= {"etag": options.get("etag") or body.e_tag, "match_condition": core.MatchConditions.IfNotModified}
                return await client.managed_clusters.begin_create_or_update(self._group, self._cluster, body, **options)
            case _:
                raise RejectedError("not a write of the cloud", system=SYSTEM, operation=str(write.verb), target=self.name)

    async def _changed_pool(self, client: Any, write: Write) -> Any:
        """Return the pool as it is, with nothing changed but what the write says: a PUT replaces the whole pool (kubernetes.md A13)."""
        pool = await client.agent_pools.get(self._group, self._cluster, write.name)
        for name, value in write.body["expect"].items():
            found = getattr(pool.properties, name)
            if found != value:
                said = f"{name} is {found}, expected {value}"
                raise ContestedError(said, system=SYSTEM, operation=write.says, target=self.name, status=412)
        for name, value in write.body["set"].items():
            setattr(pool.properties, name, int(value))
        return pool

    async def follow(self, token: str, *, within: timedelta) -> OperationResult:
        """See ``ports.Cloud``; an answer is used again for as long as ARM wants to be left alone."""
        verb, name, rest = token.split("\n", 2)

        async def look(client: Any, _options: Mapping[str, Any]) -> OperationResult:
            async with self._translated("follow an operation on", within):
                write = Write(key="", verb=Verb(verb), api="", plural="", namespace="", name=name, body={}, says="")
                poller = await self._begin(client, write, rest)
                method = poller.polling_method()
                try:
                    if not method.finished():
                        await self._updated(method)
                except self._core.HttpResponseError as error:
                    if not self._ends_so(method, error):
                        raise
                    code, message = said(error)
                    return OperationResult(state=OperationState.FAILED, code=code, message=message)
                if not method.finished():
                    return OperationResult(state=OperationState.RUNNING)
                if method.status().lower() == "succeeded":
                    return OperationResult(state=OperationState.SUCCEEDED)
                try:
                    await poller.result()  # asks nothing: it raises what the last answer said
                except self._core.HttpResponseError as error:
                    code, message = said(error)
                    return OperationResult(state=OperationState.FAILED, code=code or method.status(), message=message)
                return OperationResult(state=OperationState.SUCCEEDED)

        found = await self._asked(f"follow {hash(token)}", "follow an operation on", look, keep=self._polling)
        if found.state is not OperationState.RUNNING:
            self._forget()
        return found

    async def _updated(self, method: Any) -> None:
        """Look once at an operation. What its address answers beside 2xx the SDK raises as an error of no family, and without its answer."""
        try:
            await method.update_status()
        except self._core.BadStatus as error:
            answer = method._pipeline_response.http_response  # noqa: SLF001 - as the SDK's own loop does
            raise self._core.HttpResponseError(message=str(error), response=answer) from error
        except self._core.BadResponse as error:
            raise TransientError(str(error), system=SYSTEM, operation="follow an operation on", target=self.name) from error

    def _ends_so(self, method: Any, error: Any) -> bool:
        """Tell whether an answer to a poll is how the operation ended, and not trouble with asking.

        An operation that has only a Location (start, stop) says that it failed by the status of that address. Source: ARM's asynchronous operations.
        """
        by_location = isinstance(method._operation, self._core.LocationPolling)  # noqa: SLF001 - the SDK shows it nowhere else
        return by_location and 400 <= (error.status_code or 0) < 500 and error.status_code not in NO_END

    # --- the wire

    async def _opened(self) -> Any:
        if self._client is None:
            logging.getLogger("azure").setLevel(logging.WARNING)
            logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.ERROR)
            await loaded("azure.core.rest", "azure.core.polling.base_polling")
            module = await loaded("azure.mgmt.containerservice.aio")
            core = _Core()
            if self._client is None:
                access = self._identity.access
                self._core = core
                self._client = module.ContainerServiceClient(
                    self._identity,
                    self._subscription,
                    base_url=access.endpoint or None,
                    api_version=API_VERSION,
                    credential_scopes=[access.scope or ARM_SCOPE],
                    user_agent="responder",
                    retry_total=0,
                    connection_timeout=5,
                    read_timeout=READ_WITHIN.total_seconds() * 2,
                    polling_interval=self._polling.total_seconds(),
                    **({"connection_verify": access.ca_file} if access.ca_file else {}),
                    **({"transport": self._transport} if self._transport is not None else {}),
                )
        return self._client

    @contextlib.asynccontextmanager
    async def _translated(self, operation: str, within: timedelta) -> AsyncIterator[None]:
        """Bound a call and translate what it raises; a 429 keeps every client of the subscription quiet for as long as it says."""
        until = self._identity.quiet.get(self._subscription)
        if until is not None and self._now() < until:
            quiet = ThrottledError("ARM asked for quiet", system=SYSTEM, operation=operation, target=self.name, status=429)
            quiet.retry_after = until - self._now()
            raise quiet
        core = self._core
        try:
            async with asyncio.timeout(within.total_seconds()):
                yield
        except (core.AzureError, TimeoutError, OSError) as error:
            made = (
                translated(error, operation=operation, target=self.name)
                if not isinstance(error, TimeoutError)
                else TransientError(
                    f"no answer within {within.total_seconds():g} s", system=SYSTEM, operation=operation, target=self.name
                )
            )
            if made.status == 429 and isinstance(made, ThrottledError):
                wait = min(made.retry_after or timedelta(seconds=10), QUIET_AT_MOST)
                self._identity.quiet[self._subscription] = self._now() + wait
            raise made from error

    async def _asked(
        self, key: str, operation: str, ask: Callable[[Any, Mapping[str, Any]], Awaitable[T]], *, keep: timedelta = KEPT_FOR
    ) -> T:
        """Ask once for all who want the same at the same time or within the next moments; an idempotent read may be repeated."""
        async with self._flights.setdefault(key, asyncio.Lock()):
            kept = self._kept.get(key)
            if kept is not None and self._now() < kept[0]:
                return kept[1]  # type: ignore[no-any-return]
            client = await self._opened()

            async def once() -> T:
                async with self._translated(operation, READ_WITHIN):
                    return await ask(client, {})

            found = await repeated(once, within=READ_WITHIN)
            self._kept[key] = (self._now() + keep, found)
            return found

    async def _get(self, path: str, key: str, operation: str, *, keep: timedelta = KEPT_FOR) -> Any:
        """GET a path that the SDK has no method for, through its pipeline."""

        async def ask(client: Any, _options: Mapping[str, Any]) -> Any:
            base = (self._identity.access.endpoint or "https://management.azure.com").rstrip("/")
            response = await client.send_request(self._core.HttpRequest("GET", base + path))
            response.raise_for_status()
            return response.json()

        return await self._asked(key, operation, ask, keep=keep)

    def _forget(self) -> None:
        self._kept.clear()

    async def close(self) -> None:
        """See ``ports.Cloud``."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(TimeoutError, Exception):
                async with asyncio.timeout(3):
                    await client.close()


class _Core:
    """The names of azure-core that are used here; it was loaded before."""

    def __init__(self) -> None:
        exceptions = importlib.import_module("azure.core.exceptions")
        self.AzureError: type[Exception] = exceptions.AzureError
        self.HttpResponseError: type[Exception] = exceptions.HttpResponseError
        self.MatchConditions = importlib.import_module("azure.core").MatchConditions
        polling = importlib.import_module("azure.core.polling.base_polling")
        self.BadStatus: type[Exception] = polling.BadStatus
        self.BadResponse: type[Exception] = polling.BadResponse
        self.LocationPolling: type = polling.LocationPolling
        self.HttpRequest = importlib.import_module("azure.core.rest").HttpRequest
