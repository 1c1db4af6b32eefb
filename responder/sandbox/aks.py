"""The AKS double: ARM's REST API for managed clusters over TLS on loopback, with Entra beside it. The unmodified Azure SDKs talk to it.

Source: azure.md 2.1 and 2.2; the paths of Microsoft.ContainerService 2026-08-01, Microsoft.Compute (instance view), Microsoft.ResourceHealth,
Microsoft.Insights (activity log) and Microsoft.Authorization (permissions).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from responder.http.server import stop_serving
from responder.sandbox.aks_entra import ARM_AUDIENCES, Entra
from responder.sandbox.aks_state import LOCATION, Aks, Operation, Pool, Refused
from responder.sandbox.tls import certificate

CLUSTER = "/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.ContainerService/managedClusters/{c}"
OPERATIONS = "/subscriptions/{s}/providers/Microsoft.ContainerService/locations/{l}"


@dataclass(slots=True)
class Fault:
    """What goes wrong with requests that fit, ``times`` times.

    Attributes:
        method: GET, PUT or POST; "" for any.
        path: A regular expression over the path.
        status: Answer so at once; 0 to handle the request all the same.
        after: The request is handled, and then the connection is cut: nobody hears of what took effect.
        delay: Seconds before the answer.
    """

    path: str
    method: str = ""
    status: int = 0
    code: str = "InternalServerError"
    says: str = "something is wrong with this request"
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    delay: float = 0.0
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that ARM received."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]


class SandboxAzure:
    """ARM and Entra on loopback. ``async with SandboxAzure(folder) as azure`` starts and stops them.

    Attributes:
        clusters: By name.
        entra: The tenant.
        faults: What goes wrong, in order.
        asked: Every request to ARM.
        denied: Permissions that the caller lacks, such as ``Microsoft.ContainerService/managedClusters/agentPools/write``.
        retry_after: What answers to long-running operations ask for.
    """

    def __init__(self, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(tz=UTC), every: float = 0.05) -> None:
        self._tls, self.ca_file = certificate(folder)
        self._now = now
        self._every = every
        self.clusters: dict[str, Aks] = {}
        self.entra = Entra()
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.denied: set[str] = set()
        self.retry_after = 0
        self.url = ""
        self.metadata_url = ""
        self._runners: list[web.AppRunner] = []
        self._task: asyncio.Task[None] | None = None

    def cluster(self, name: str = "prod", **given: Any) -> Aks:
        """Add a managed cluster."""
        made = self.clusters[name] = Aks(name, now=self._now, **given)
        return made

    def writes(self) -> list[Asked]:
        """Return the requests that change something."""
        return [one for one in self.asked if one.method != "GET" and not one.path.endswith(("UserCredential", "runCommand"))]

    def application(self) -> web.Application:
        """Return what is served: ARM's paths and Entra's."""
        app = web.Application(middlewares=[self._around], client_max_size=1 << 22)
        self.entra.routes(app)
        self._routes(app)
        return app

    async def __aenter__(self) -> Self:
        """Start listening."""
        port = await self._served(self.application(), tls=True)
        self.url = self.entra.url = f"https://127.0.0.1:{port}"
        self.metadata_url = f"http://127.0.0.1:{await self._served(self.entra.instance_metadata(), tls=False)}"
        self._task = asyncio.create_task(self._run(), name="sandbox azure")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for runner in self._runners:
            await stop_serving(runner)
        for one in self.clusters.values():
            close = getattr(one.nodes, "close", None)
            if close is not None:
                await close()

    async def _served(self, app: web.Application, *, tls: bool) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls if tls else None).start()
        return int(runner.addresses[0][1])

    async def _run(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(self._every)

    async def tick(self) -> None:
        """Let time pass in every cluster."""
        for one in self.clusters.values():
            await one.tick()

    def _routes(self, app: web.Application) -> None:
        add = app.router.add_route
        add("GET", CLUSTER, self._get_cluster)
        add("PUT", CLUSTER, self._put_cluster)
        for name, handler in (
            ("start", self._start), ("stop", self._stop), ("abort", self._abort), ("runCommand", self._run_command),
            ("listClusterUserCredential", self._credential),
        ):  # fmt: skip
            add("POST", f"{CLUSTER}/{name}", handler)
        add("GET", f"{CLUSTER}/maintenanceConfigurations", self._maintenance)
        add("GET", f"{CLUSTER}/agentPools", self._list_pools)
        add("GET", f"{CLUSTER}/agentPools/{{p}}", self._get_pool)
        add("PUT", f"{CLUSTER}/agentPools/{{p}}", self._put_pool)
        add("POST", f"{CLUSTER}/agentPools/{{p}}/deleteMachines", self._delete_machines)
        add("POST", f"{CLUSTER}/agentPools/{{p}}/abort", self._abort)
        add("GET", f"{CLUSTER}/agentPools/{{p}}/machines", self._machines)
        add("GET", f"{CLUSTER}/providers/Microsoft.ResourceHealth/availabilityStatuses/current", self._health)
        add("GET", f"{CLUSTER}/providers/Microsoft.Authorization/permissions", self._permissions)
        add("GET", f"{OPERATIONS}/operations/{{id}}", self._operation)
        add("GET", f"{OPERATIONS}/operationresults/{{id}}", self._result)
        add("GET", "/subscriptions/{s}/providers/Microsoft.Insights/eventtypes/management/values", self._activity)
        add(
            "GET",
            "/subscriptions/{s}/{rg:[rR]esource[gG]roups}/{g}/providers/{p:[mM]icrosoft.[cC]ompute}/{tail:.+}/instanceView",
            self._instance_view,
        )

    @web.middleware
    async def _around(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not request.path.startswith("/subscriptions"):
            return await handler(request)
        body = await request.json() if request.can_read_body else None
        self.asked.append(Asked(method=request.method, path=request.path, body=body, headers=dict(request.headers)))
        fault = next(
            (
                one
                for one in self.faults
                if one.times > 0 and one.method in {"", request.method} and re.search(one.path, request.path)
            ),
            None,
        )
        if fault is not None:
            fault.times -= 1
            if fault.delay:
                await asyncio.sleep(fault.delay)
        try:
            if fault is not None and fault.status:
                raise Refused(fault.status, fault.code, fault.says, **fault.headers)
            self._allow(request)
            answer = await handler(request)
        except Refused as refused:
            return web.json_response(
                {"error": {"code": refused.code, "message": refused.message}}, status=refused.status, headers=refused.headers
            )
        if fault is not None and fault.after:
            assert request.transport is not None
            request.transport.abort()
        return answer

    def _allow(self, request: web.Request) -> None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.entra.audience(token) not in ARM_AUDIENCES:
            raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid.")
        if "api-version" not in request.query:
            raise Refused(
                400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests."
            )
        needed = action_of(request.method, request.path)
        if needed.lower() in {one.lower() for one in self.denied}:
            raise Refused(
                403,
                "AuthorizationFailed",
                f"The client '{self.entra.client}' does not have authorization to perform action '{needed}'",
            )

    def _cluster(self, request: web.Request) -> Aks:
        found = self.clusters.get(request.match_info["c"])
        if found is None or request.match_info["s"] != found.subscription:
            raise Refused(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.ContainerService/managedClusters/{request.match_info['c']}' was not found.",
            )
        return found

    def _pool(self, request: web.Request) -> tuple[Aks, Pool]:
        cluster = self._cluster(request)
        pool = cluster.pools.get(request.match_info["p"])
        if pool is None:
            raise Refused(404, "NotFound", f"Agent pool {request.match_info['p']} does not exist.")
        return cluster, pool

    def _accepted(
        self, cluster: Aks, operation: Operation, document: dict[str, Any] | None, status: int, *, both: bool = True
    ) -> web.Response:
        base = f"{self.url}/subscriptions/{cluster.subscription}/providers/Microsoft.ContainerService/locations/{LOCATION}"
        headers = {
            "Location": f"{base}/operationresults/{operation.id}?api-version=2026-08-01",
            "Retry-After": str(self.retry_after),
        }
        if both:
            headers["Azure-AsyncOperation"] = f"{base}/operations/{operation.id}?api-version=2026-08-01"
        if status == 200:
            headers.pop("Location")
        return (
            web.json_response(document, status=status, headers=headers)
            if document is not None
            else web.Response(status=status, headers=headers)
        )

    # --- clusters

    async def _get_cluster(self, request: web.Request) -> web.Response:
        return web.json_response(self._cluster(request).document())

    async def _put_cluster(self, request: web.Request) -> web.Response:
        cluster = self._cluster(request)
        _matches(request, f'"{cluster.revision}"')

        async def done() -> None:
            return None

        operation = cluster.begin(
            "Microsoft.ContainerService/managedClusters/write", state="Updating", finish=done, by=self.entra.client
        )
        return self._accepted(cluster, operation, cluster.document(), 200)

    async def _start(self, request: web.Request) -> web.Response:
        cluster = self._cluster(request)

        async def done() -> None:
            cluster.power = "Running"

        operation = cluster.begin(
            "Microsoft.ContainerService/managedClusters/start/action", state="Starting", finish=done, by=self.entra.client
        )
        return self._accepted(cluster, operation, None, 202, both=False)

    async def _stop(self, request: web.Request) -> web.Response:
        cluster = self._cluster(request)

        async def done() -> None:
            cluster.power = "Stopped"

        operation = cluster.begin(
            "Microsoft.ContainerService/managedClusters/stop/action", state="Stopping", finish=done, by=self.entra.client
        )
        return self._accepted(cluster, operation, None, 202, both=False)

    async def _abort(self, request: web.Request) -> web.Response:
        cluster = self._cluster(request)
        return self._accepted(cluster, cluster.abort(by=self.entra.client), None, 202)

    async def _run_command(self, request: web.Request) -> web.Response:
        cluster = self._cluster(request)
        if cluster.power != "Running":
            raise Refused(409, "OperationNotAllowed", "Run command needs a running cluster")
        command = str((await request.json()).get("command", ""))
        cluster.ran.append(command)
        code, logs = cluster.output
        result = {"id": "c0ffee", "properties": {"provisioningState": "Succeeded", "exitCode": code, "logs": logs}}
        operation = Operation(
            id=f"run-{len(cluster.ran)}", kind="runCommand", on="", began_at=self._now(), ends_at=None, finish=_nothing, state="Succeeded",
            result=result,
        )  # fmt: skip
        cluster.operations[operation.id] = operation
        return self._accepted(cluster, operation, None, 202, both=False)

    async def _credential(self, request: web.Request) -> web.Response:
        return web.json_response({"kubeconfigs": [{"name": "clusterUser", "value": self._cluster(request).kubeconfig()}]})

    async def _maintenance(self, request: web.Request) -> web.Response:
        return web.json_response({"value": self._cluster(request).maintenance})

    async def _health(self, request: web.Request) -> web.Response:
        state, summary = self._cluster(request).health
        return web.json_response(
            {"name": "current", "properties": {"availabilityState": state, "summary": summary, "reasonType": ""}}
        )

    async def _permissions(self, request: web.Request) -> web.Response:
        self._cluster(request)
        return web.json_response(
            {"value": [{"actions": ["*"], "notActions": sorted(self.denied), "dataActions": [], "notDataActions": []}]}
        )

    async def _activity(self, request: web.Request) -> web.Response:
        since = re.search(r"eventTimestamp ge '([^']+)'", request.query.get("$filter", ""))
        if since is None:
            raise Refused(400, "BadRequest", "The query string parameter $filter must begin with eventTimestamp ge")
        rows = []
        for cluster in self.clusters.values():
            for one in reversed(cluster.log):
                rows.append(
                    {
                        "eventTimestamp": one["at"].isoformat(), "caller": one["caller"], "resourceId": one["resource"],
                        "operationName": {"value": one["operation"]}, "status": {"value": one["status"]}, "correlationId": one["id"],
                        "claims": {"appid": one["caller"]},
                    }
                )  # fmt: skip
        return web.json_response({"value": rows})

    # --- pools

    async def _list_pools(self, request: web.Request) -> web.Response:
        cluster = self._cluster(request)
        return web.json_response({"value": [cluster.pool_document(one) for one in cluster.pools.values()]})

    async def _get_pool(self, request: web.Request) -> web.Response:
        cluster, pool = self._pool(request)
        return web.json_response(cluster.pool_document(pool))

    async def _put_pool(self, request: web.Request) -> web.Response:
        cluster, pool = self._pool(request)
        _matches(request, pool.etag)
        wanted = (await request.json()).get("properties") or {}
        count = int(wanted.get("count", pool.count))
        minimum, maximum = wanted.get("minCount", pool.minimum), wanted.get("maxCount", pool.maximum)
        if pool.autoscaled:
            if count != pool.count:
                raise Refused(400, "InvalidParameter", "Manual scaling is disabled when you use the cluster autoscaler.")
            if int(minimum or 0) > int(maximum or 0):
                raise Refused(400, "InvalidParameter", "The minCount must not be larger than the maxCount.")
        if wanted.get("vmSize", pool.size) != pool.size:
            raise Refused(400, "PropertyChangeNotAllowed", "Changing property 'properties.vmSize' is not allowed.")
        if cluster.power != "Running":
            raise Refused(400, "OperationNotAllowed", "The cluster is stopped")
        if cluster.quota_early and cluster.quota is not None and count > pool.count:
            raise Refused(
                400, "ErrCode_InsufficientVCPUQuota", f"Insufficient regional vcpu quota left; limit {cluster.quota} machines"
            )

        async def done() -> None:
            pool.minimum, pool.maximum = minimum, maximum
            await cluster.scale(pool, max(count, minimum or 0) if pool.autoscaled else count)

        operation = cluster.begin(
            "Microsoft.ContainerService/managedClusters/agentPools/write",
            state="Scaling",
            on=pool.name,
            finish=done,
            by=self.entra.client,
        )
        return self._accepted(cluster, operation, cluster.pool_document(pool), 200)

    async def _delete_machines(self, request: web.Request) -> web.Response:
        cluster, pool = self._pool(request)
        names = list((await request.json()).get("machineNames") or [])
        unknown = [one for one in names if one not in pool.machines]
        if unknown or not names:
            raise Refused(400, "InvalidParameter", f"Machine {', '.join(unknown)} is not in agent pool {pool.name}.")

        async def done() -> None:
            await cluster.delete_machines(pool, names)

        operation = cluster.begin(
            "Microsoft.ContainerService/managedClusters/agentPools/deleteMachines/action", state="Deleting", on=pool.name, finish=done,
            by=self.entra.client,
        )  # fmt: skip
        return self._accepted(cluster, operation, None, 202)

    async def _machines(self, request: web.Request) -> web.Response:
        cluster, pool = self._pool(request)
        return web.json_response({"value": [cluster.machine_document(pool, one) for one in pool.machines.values()]})

    async def _instance_view(self, request: web.Request) -> web.Response:
        wanted = request.path.removesuffix("/instanceView")
        machine = next((found for one in self.clusters.values() if (found := one.find_machine(wanted)) is not None), None)
        if machine is None:
            raise Refused(404, "NotFound", "The entity was not found in this Azure location.")
        codes = ["ProvisioningState/succeeded", f"PowerState/{machine.power}"]
        return web.json_response({"statuses": [{"code": code, "level": "Info"} for code in codes]})

    # --- operations

    def _find(self, request: web.Request) -> tuple[Aks, Operation]:
        for cluster in self.clusters.values():
            if request.match_info["id"] in cluster.operations:
                return cluster, cluster.operations[request.match_info["id"]]
        raise Refused(404, "NotFound", "The operation was not found.")

    async def _operation(self, request: web.Request) -> web.Response:
        _, operation = self._find(request)
        body: dict[str, Any] = {"name": operation.id, "status": operation.state, "startTime": operation.began_at.isoformat()}
        if operation.error is not None:
            body["error"] = {"code": operation.error[0], "message": operation.error[1]}
        return web.json_response(body, headers={"Retry-After": str(self.retry_after)})

    async def _result(self, request: web.Request) -> web.Response:
        cluster, operation = self._find(request)
        if operation.state == "InProgress":
            return self._accepted(cluster, operation, None, 202, both=False)
        if operation.error is not None:
            raise Refused(400, operation.error[0], operation.error[1])
        return web.json_response(operation.result) if operation.result is not None else web.Response(status=204)


async def _nothing() -> None:
    return None


def _matches(request: web.Request, etag: str) -> None:
    wanted = request.headers.get("If-Match", "")
    if wanted and wanted.strip('"') != etag.strip('"'):
        raise Refused(412, "PreconditionFailed", f"The etag provided in If-Match header {wanted} does not match {etag}")


def action_of(method: str, path: str) -> str:
    """Return the permission that a request needs, such as ``Microsoft.ContainerService/managedClusters/agentPools/read``."""
    last = path.rfind("/providers/")
    provider, *parts = path[last + len("/providers/") :].split("/")
    if provider == "Microsoft.ContainerService" and parts[:1] == ["locations"]:
        return "Microsoft.ContainerService/locations/operations/read"
    kinds = "/".join(parts[0::2])
    ends = {"GET": "read", "POST": "action"}
    return f"{provider}/{kinds}/{ends.get(method, 'write')}"
