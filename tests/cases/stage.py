"""The stage of a case: the service's own parts, driven by hand on a clock that jumps, against one namespace of one cluster.

Never here: anything of a case. Everything that decides and acts is the program's: router, worker, ``decide``, hands and the Kubernetes
adapter, put together by ``app.assembled``; only time, the kubelets and the people are played.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import yaml

from responder.app import App, assembled
from responder.clusters.kubernetes import KubernetesAccess, connect
from responder.clusters.kubernetes.client import KubernetesClient
from responder.model.cluster import Snapshot
from responder.model.errors import RemoteError
from responder.model.incident import Incident
from responder.model.target import Lookup
from responder.policy.facts import facts_of
from responder.service.intake import Intake
from responder.service.worker import Worker
from responder.settings import load_settings
from responder.stores.sql.store import open_memory
from tests.cases.standin import STRATEGIC, Looks, StandIn
from tests.cases.wire import Sent, Wire

CLUSTER = "stage"
WITHIN = 60.0
"""Real seconds that anything may take."""


class StageClock:
    """Real time and a jump: a wait costs a blink, and the rest of it is jumped over."""

    speed = 1.0

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self.slept: Callable[[], Awaitable[None]] | None = None

    def now(self) -> datetime:
        return datetime.now(tz=UTC) + self._ahead

    def boottime(self) -> float:
        return self.now().timestamp()

    def forward(self, by: timedelta) -> None:
        self._ahead += by

    async def sleep(self, duration: timedelta) -> None:
        blink = min(0.1, duration.total_seconds())
        await asyncio.sleep(blink)
        self.forward(duration - timedelta(seconds=blink))
        if self.slept is not None:
            await self.slept()


@dataclass(slots=True)
class Stage:
    """One namespace of one cluster, and the service in front of it."""

    back_end: str
    api: KubernetesClient
    wire: Wire
    clock: StageClock
    folder: Path
    namespace: str
    standin: StandIn
    app: App | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    azure: dict[str, Any] | None = None
    resource_id: str = ""
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _workers: list[Worker] = field(default_factory=list)

    # --- the cluster

    async def get(self, plural: str, name: str = "", api: str = "apps/v1") -> Any:
        return msgspec.json.decode(await self.api.send("GET", self.path(plural, name, api)))

    def path(self, plural: str, name: str = "", api: str = "apps/v1") -> str:
        group = f"/api/{api}" if "/" not in api else f"/apis/{api}"
        return f"{group}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    async def create(self, plural: str, body: Mapping[str, Any], api: str = "v1") -> Any:
        return msgspec.json.decode(await self.api.send("POST", self.path(plural, "", api), body=body))

    async def patch(self, plural: str, name: str, body: Mapping[str, Any], api: str = "apps/v1", sub: str = "") -> None:
        await self.api.send("PATCH", self.path(plural, name, api) + sub, body=body, content_type=STRATEGIC)

    async def delete(self, plural: str, name: str, api: str = "apps/v1") -> None:
        await self.api.send("DELETE", self.path(plural, name, api))

    async def workload(
        self, plural: str = "deployments", name: str = "api", *, image: str = "shop/api:1", replicas: int = 2,
        meta: Mapping[str, Any] | None = None, pod: Mapping[str, Any] | None = None, ready: bool = True, **spec: Any,
    ) -> None:  # fmt: skip
        """Create a workload and wait until it is wholly ready."""
        labels = {"app": name}
        containers = [{"name": name, "image": image}]
        body = {
            "metadata": {"name": name, "labels": labels, **(meta or {})},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers, **(pod or {})}},
                **({} if plural == "daemonsets" else {"replicas": replicas}),
                **({"serviceName": name} if plural == "statefulsets" else {}),
                **spec,
            },
        }
        await self.create(plural, body, "apps/v1")
        if ready:
            await self.until(lambda: self.ready(name, plural, replicas), what=f"{name} is ready")

    async def image(self, image: str, name: str = "api", plural: str = "deployments") -> None:
        """Roll another image out."""
        container = {"name": name, "image": image}
        await self.patch(plural, name, {"spec": {"template": {"spec": {"containers": [container]}}}})

    async def ready(self, name: str = "api", plural: str = "deployments", replicas: int = 2) -> bool:
        """Tell whether exactly so many are ready and the rollout is over."""
        item = await self.get(plural, name)
        status = item["status"]
        seen = status.get("observedGeneration") == item["metadata"]["generation"]
        wanted = status.get("desiredNumberScheduled", replicas)
        ready = status.get("readyReplicas", status.get("numberReady", 0))
        updated = status.get("updatedReplicas", status.get("updatedNumberScheduled", 0))
        whole = status.get("replicas", wanted) == wanted
        return bool(seen and ready == wanted and updated == wanted and whole)

    async def sick(self, looks: Looks, name: str = "api", **alert: str) -> None:
        """Let all pods of a workload be so, and alert."""
        count = len(await self.pods(name))
        self.standin.images["shop/api:1"] = looks
        await self.until(lambda: self.count_pods(count, name, ready=0), what=f"all pods of {name} are sick")
        await self.alert(**(alert or {"deployment": name}))

    async def event(self, pod: Any, reason: str, message: str) -> str:
        """Record an Event about a pod, and return its name."""
        meta = pod["metadata"]
        name = f"{meta['name']}.{secrets.token_hex(4)}"
        at = stamp_of(self.clock.now())
        about = {"kind": "Pod", "namespace": self.namespace, "name": meta["name"], "uid": meta["uid"]}
        body = {
            "metadata": {"name": name}, "involvedObject": about, "reason": reason, "message": message, "type": "Warning",
            "count": 1, "firstTimestamp": at, "lastTimestamp": at,
        }  # fmt: skip
        await self.create("events", body)
        return name

    async def budget(self, name: str, app: str = "api", **spec: Any) -> None:
        """Create or change a disruption budget, and wait until it is counted."""
        body = {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": app}}, **spec}}
        try:
            await self.create("poddisruptionbudgets", body, "policy/v1")
        except RemoteError:
            await self.api.send(
                "PATCH", self.path("poddisruptionbudgets", name, "policy/v1"), body={"spec": spec},
                content_type="application/merge-patch+json",
            )  # fmt: skip

        async def counted() -> bool:
            status = (await self.get("poddisruptionbudgets", name, "policy/v1"))["status"]
            return "minAvailable" not in spec or status.get("desiredHealthy") == spec["minAvailable"]

        await self.until(counted, what=f"budget {name} is counted")

    async def pods(self, name: str = "api") -> list[Any]:
        """Return the live pods of a workload."""
        found = (await self.get("pods", api="v1"))["items"]
        return [
            one
            for one in found
            if not one["metadata"].get("deletionTimestamp") and (one["metadata"].get("labels") or {}).get("app") == name
        ]

    async def count_pods(self, wanted: int, name: str = "api", *, ready: int | None = None) -> bool:
        pods = await self.pods(name)
        good = sum(
            1
            for pod in pods
            for one in pod["status"].get("conditions") or []
            if (one["type"], one["status"]) == ("Ready", "True")
        )
        return len(pods) == wanted and (ready is None or good == ready)

    async def until(self, holds: Callable[[], Awaitable[bool]], *, what: str) -> None:
        """Wait in real seconds, while the stand-in plays.

        Raises:
            TimeoutError: It never held.
        """
        try:
            async with asyncio.timeout(WITHIN):
                while not await holds():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(f"within {WITHIN:g} s it never was so that {what}") from None

    # --- nodes

    async def nodes(self, count: int = 3, **labels: str) -> list[str]:
        """Make nodes of this stage's own, which its pods run on from now on; the three that are always there run nothing of it."""
        names = [f"{self.namespace}-n{number}" for number in range(count)]
        for name in names:
            await self.standin.node(name, **{"agentpool": "user", **labels})
        self.standin.names = names
        return names

    async def node(self, name: str) -> Any:
        return msgspec.json.decode(await self.api.send("GET", f"/api/v1/nodes/{name}"))

    async def change_node(self, name: str, body: Mapping[str, Any]) -> None:
        await self.api.send("PATCH", f"/api/v1/nodes/{name}", body=body, content_type="application/merge-patch+json")

    async def on(self, node: str, **more: Any) -> None:
        """Run a workload whose pods all land on one node; later ones go where there is room."""
        self.standin.pinned = node
        await self.workload(**more)
        self.standin.pinned = ""

    async def pods_on(self, node: str) -> list[str]:
        """Name the pods on a node, terminating ones included."""
        found = (await self.get("pods", api="v1"))["items"]
        return sorted(one["metadata"]["name"] for one in found if one["spec"].get("nodeName") == node)

    async def repair(self, node: str, reason: str) -> None:
        """Record an Event of AKS auto-repair about a node."""
        at = stamp_of(self.clock.now())
        body = {
            "metadata": {"name": f"{node}.{secrets.token_hex(4)}", "namespace": "default"}, "reason": reason, "message": reason,
            "involvedObject": {"kind": "Node", "name": node, "uid": node}, "source": {"component": "aks-auto-repair"},
            "type": "Normal", "count": 1, "firstTimestamp": at, "lastTimestamp": at,
        }  # fmt: skip
        await self.api.send("POST", "/api/v1/namespaces/default/events", body=body)

    def machines(self, word: str) -> None:
        """Let the cloud say this of every machine, as ARM would."""
        reader = self.parts.views[CLUSTER]._node_reader  # type: ignore[attr-defined]
        read = reader.snapshot

        async def told(*args: Any, **more: Any) -> Snapshot:
            found: Snapshot = await read(*args, **more)
            return found if found.node is None else replace(found, node=replace(found.node, machine=word))

        reader.snapshot = told

    # --- the service

    async def serve(self, *rules: Mapping[str, Any]) -> App:
        """Put the service together with these rules (the shipped ones when none), all armed; nothing runs by itself."""
        where = self.folder / "rules"
        where.mkdir(exist_ok=True)
        for one in rules:
            (where / f"{one['rule']}.yaml").write_text(yaml.safe_dump(dict(one)))
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(self.wire.url)))
        shipped = ["pod-crash-loop", "image-pull", "config-error", "oom-loop", "service-endpoints"]
        key = self.folder / "key"
        key.write_text("k" * 32)
        path = self.folder / "responder.yaml"
        config = {
            "act": [one["rule"] for one in rules] or shipped,
            "shipped_rules": not rules,
            "rule_paths": [str(where)] if rules else [],
            "store": {"path": str(self.folder / "unused.sqlite")},
            "http": {"listen": "127.0.0.1:0", "authentication": False},
            "clusters": {CLUSTER: {"kubeconfig": str(kubeconfig), "resource_id": self.resource_id}},
            "azure": self.azure,
            "limits": self.limits,
            "channels": {"pager": {"kind": "pagerduty", "routing_key": {"file": str(key)}}},
            "policies": {"people": {"levels": [{"after": "0s", "channels": ["pager"]}]}},
            "routes": {"default": "people"},
        }
        path.write_text(yaml.safe_dump(config))
        self.app = await self._stack.enter_async_context(
            assembled(load_settings(path), store=open_memory(self.clock), clock=self.clock)
        )
        self._workers = [self.app.supervisor._worker]

        async def beat() -> None:
            for one in self._workers:
                await one.heartbeat()

        self.clock.slept = beat
        return self.app

    @property
    def parts(self) -> App:
        assert self.app is not None
        return self.app

    def second_replica(self) -> None:
        """Let another worker take part, on the same store."""
        self._workers.append(Worker(self._workers[0]._parts, owner="the other replica"))

    async def alert(self, name: str = "Case", *, status: str = "firing", **labels: str) -> None:
        """Deliver an Alertmanager body and route it."""
        one = {
            "status": status,
            "labels": {"alertname": name, "namespace": self.namespace, **labels},
            "annotations": {},
            "startsAt": "2026-01-05T12:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else stamp_of(self.clock.now()),
        }
        body = json.dumps({"version": "4", "status": status, "receiver": "r", "alerts": [one]}).encode()
        await Intake(store=self.parts.store, clock=self.clock).accept(source="alertmanager", source_name="test", body=body)
        await self.parts.supervisor._router.route_due()

    async def incidents(self) -> list[Incident]:
        return list(await self.parts.store.incidents(unclosed=False, limit=500))

    async def incident(self) -> Incident:
        (one,) = await self.incidents()
        return one

    async def work(self, *until: str, most: timedelta = timedelta(hours=1)) -> Incident:
        """Let the service work, jumping over its waits, until its one incident is so: a phase, or a reason that it waits for."""
        ends_at = self.clock.now() + most
        while True:
            await self.turn()
            found = await self.incidents()
            if len(found) == 1 and (str(found[0].phase) in until or str(found[0].reason) in until):
                return found[0]
            if self.clock.now() >= ends_at:
                said = [(str(one.phase), str(one.reason), one.detail) for one in found]
                raise AssertionError(f"never {' or '.join(until)} within {most}: {said}")

    async def turn(self, by: timedelta = timedelta(seconds=5)) -> None:
        """Let everything that is due be worked on, and jump forward."""
        async with asyncio.timeout(WITHIN):
            await self.parts.supervisor._router.route_due()
            async with asyncio.TaskGroup() as group:
                for one in self._workers:
                    await one.work_due(group)
        await asyncio.sleep(0.05)
        self.clock.forward(by)

    async def go_on(self, duration: timedelta) -> None:
        """Let the service work for so long."""
        ends_at = self.clock.now() + duration
        while self.clock.now() < ends_at:
            await self.turn()

    def writes(self) -> list[Sent]:
        """Return what the service wrote."""
        return self.wire.writes()

    async def snapshot(self, kind: str = "Deployment", name: str = "api") -> Snapshot:
        """Read a workload as the service does, memory included."""
        view = self.parts.views[CLUSTER]
        answer = await view.look_up(Lookup(kind=kind, cluster=CLUSTER, namespace=self.namespace, name=name))
        assert answer.targets, answer.detail
        return await self._workers[0]._parts.reader.snapshot(answer.targets[0])

    async def facts(self, kind: str = "Deployment", name: str = "api") -> dict[str, Any]:
        """Return a workload's facts."""
        return facts_of(await self.snapshot(kind, name), now=self.clock.now())[0]

    async def remember(self, kind: str = "Deployment", name: str = "api") -> None:
        """Let the service see the workload healthy, as its observer does every few minutes."""

        async def seen() -> bool:
            await self.parts.supervisor._observer.observe()
            found = (await self.snapshot(kind, name)).workload
            return found is not None and any(one.was_healthy and one.current for one in found.revisions)

        await self.until(seen, what=f"{name} was seen healthy")

    async def close(self) -> None:
        await self._stack.aclose()


def stamp_of(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def rule(*ladder: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a rule for the alert Case whose rungs are these."""
    rungs = [{"do": one, "within": "2m"} if isinstance(one, str) else {"within": "2m", **one} for one in ladder]
    return {
        "rule": "case", "title": "A case", "owner": "tests", "runbook": "https://example.org/", "severity": "error",
        "match": [{"alert": ["Case"]}], "target": "workload", "hold": "30s", "ladder": rungs, **more,
    }  # fmt: skip


def _kubeconfig(url: str, token: str = "none") -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip


@contextlib.asynccontextmanager
async def staged(back_end: str, url: str, folder: Path, *, world: str = "none", ours: str = "none") -> Any:
    """Make a namespace on a cluster and a stage in it; remove both.

    ``world`` is the token of who plays kubelets and people, ``ours`` that of the service.
    """
    clock = StageClock()
    straight = folder / "upstream"
    straight.write_text(json.dumps(_kubeconfig(url, world)))
    view, _ = await connect(KubernetesAccess(name="world", kubeconfig=str(straight)), now=clock.now)
    api = view._client
    wire = Wire(upstream=url, headers={"Authorization": f"Bearer {ours}"}, now=clock.now)
    await wire.start()
    namespace = f"case-{secrets.token_hex(4)}"
    await api.send("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
    standin = StandIn(api=api, namespace=namespace, now=clock.now)
    await standin.nodes()
    playing = asyncio.create_task(standin.run(), name="stand-in")
    stage = Stage(back_end=back_end, api=api, wire=wire, clock=clock, folder=folder, namespace=namespace, standin=standin)
    try:
        yield stage
    finally:
        await stage.close()
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        for name in standin.made:
            with contextlib.suppress(RemoteError):
                await api.send("DELETE", f"/api/v1/nodes/{name}")
        with contextlib.suppress(RemoteError):
            await api.send("DELETE", f"/api/v1/namespaces/{namespace}")
        await view.close()
        await wire.stop()
