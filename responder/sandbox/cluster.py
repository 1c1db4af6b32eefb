"""The sandbox cluster: storage, controllers and kubelets on one loop, an API server on loopback, and a way to build things in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from responder.http.server import stop_serving
from responder.sandbox.admission import Admission
from responder.sandbox.api import Api, Faults, Written
from responder.sandbox.behaviour import HEALTHY, WELL, Behaviour, NodeBehaviour
from responder.sandbox.controllers import Controllers
from responder.sandbox.controllers.nodes import LEASE_SPACE, NodeTimes
from responder.sandbox.deleting import delete
from responder.sandbox.kinds import DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICA_SETS
from responder.sandbox.kubelet import Kubelet, Machine, node_body
from responder.sandbox.metrics import exposition
from responder.sandbox.objects import Object, Storage, clone
from responder.sandbox.pods import is_live
from responder.sandbox.scheduler import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How the cluster's time runs.

    Attributes:
        speed: Its seconds in one real second.
        every: Its seconds between two looks of the controllers.
        starts_in: Its seconds that a container takes to start.
        nodes: How long nodes may be silent, pods tolerate it, and so on.
    """

    speed: float = 1.0
    every: float = 0.2
    starts_in: float = 1.0
    nodes: NodeTimes = field(default_factory=NodeTimes)


class SandboxCluster:
    """A cluster on loopback. ``async with SandboxCluster() as cluster`` starts and stops it.

    Attributes:
        faults: What is wrong with its API server; switch at any time.
        writes: Every write from outside that it carried out.
    """

    def __init__(
        self,
        *,
        timings: Timings | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
        token: str = "",
        nodes: int = 3,
        kubelets: bool = True,
        scheduler: bool | None = None,
    ) -> None:
        """Make a cluster; nothing runs yet.

        Without ``kubelets`` pods are run and ended, and without a ``scheduler`` bound, by whoever plays them through the API. There is
        a scheduler where there are kubelets, unless said otherwise.
        """
        self._kubelets = kubelets
        self._schedules = kubelets if scheduler is None else scheduler
        self.timings = timings or Timings()
        self._now = now
        self.storage = Storage(now)
        self._behaviours: dict[str, Behaviour] = {}
        self._broken: dict[str, Behaviour] = {}
        starts_in = timedelta(seconds=self.timings.starts_in)
        times = self.timings.nodes
        self.storage.admit = Admission(self.storage, tolerates_for=times.tolerates_for).admit
        self._controllers = Controllers(self.storage, times)
        self._scheduler = Scheduler(self.storage)
        self.kubelet = Kubelet(self.storage, self._behaviour_of, starts_in, timedelta(seconds=times.lease_every))
        self.api = Api(self.storage, self.kubelet, token=token)
        self._token = token
        self._runner: web.AppRunner | None = None
        self._metrics_runner: web.AppRunner | None = None
        self._loop: asyncio.Task[None] | None = None
        self.url = ""
        self.metrics_url = ""
        for name in ("default", "kube-system", "kube-public", LEASE_SPACE):
            self.namespace(name)
        for number in range(nodes):
            self.add_node(f"sandbox-node-{number}", pods="1000")

    @property
    def faults(self) -> Faults:
        """Return the switches for what is wrong with the API server."""
        return self.api.faults

    @property
    def writes(self) -> list[Written]:
        """Return every write that was carried out; one that lost a race (409) changed nothing and is not among them."""
        return [one for one in self.api.writes if 200 <= one.status < 300]

    @property
    def tried(self) -> list[Written]:
        """Return every write that the API server received, also those that it refused."""
        return self.api.writes

    def release(self) -> None:
        """End a hang: requests that hang are answered now."""
        self.faults.hang = False
        self.api.released.set()
        self.api.released = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Start the API server and the controllers."""
        self._runner, port = await _served(self.api.application())
        self.url = f"http://127.0.0.1:{port}"
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        self._metrics_runner, port = await _served(app)
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"
        self._loop = asyncio.create_task(self._run(), name="sandbox")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop everything."""
        self.release()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
            if not self._loop.cancelled() and (stopped := self._loop.exception()) is not None:
                raise stopped
        for runner in (self._runner, self._metrics_runner):
            if runner is not None:
                await stop_serving(runner)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=exposition(self.storage), content_type="text/plain")

    async def _run(self) -> None:
        while True:
            try:
                self.step()
            except Exception as error:
                self.api.broken = f"a controller of the sandbox stopped: {error!r}"
                raise
            await asyncio.sleep(self.timings.every / self.timings.speed)

    def step(self) -> None:
        """Let every kubelet, every controller and the scheduler look once.

        Kubelets first: if this process was held up for long, they were too, and no node was silent.
        """
        if self._kubelets:
            self.kubelet.step()
        self._controllers.step()
        if self._schedules:
            self._scheduler.step()

    def _behaviour_of(self, pod: Object, _container: str) -> Behaviour:
        broken = self._broken.get(pod["metadata"]["uid"])
        if broken is not None:
            return broken
        return self._behaviours.get(pod["spec"]["containers"][0]["image"], HEALTHY)

    # --- building

    def behave(self, image: str, behaviour: Behaviour) -> None:
        """Say how containers of an image behave, from now on."""
        self._behaviours[image] = behaviour

    def break_running(self, namespace: str, workload: str, behaviour: Behaviour) -> None:
        """Break the pods of a workload that exist now (a poisoned local state); pods made later are fine."""
        for pod in self.pods(namespace, workload):
            self._broken[pod["metadata"]["uid"]] = behaviour

    def heal_running(self, namespace: str, workload: str) -> None:
        """Take the break away again."""
        for pod in self.pods(namespace, workload):
            self._broken.pop(pod["metadata"]["uid"], None)

    def pods(self, namespace: str, workload: str) -> list[Object]:
        """Return the live pods whose label ``app`` is the workload's name."""
        found = self.storage.all(PODS, namespace)
        return [pod for pod in found if is_live(pod) and (pod["metadata"].get("labels") or {}).get("app") == workload]

    def namespace(self, name: str, **annotations: str) -> Object:
        """Create a namespace."""
        meta = {"name": name, "labels": {"kubernetes.io/metadata.name": name}, "annotations": annotations}
        return self.storage.create(
            NAMESPACES, {"metadata": meta, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        )

    # --- nodes

    def add_node(
        self,
        name: str,
        *,
        labels: dict[str, str] | None = None,
        taints: list[Object] | None = None,
        provider: str = "",
        **capacity: str,
    ) -> Object:
        """Let a machine join: its kubelet registers a Node, reports and renews a Lease.

        ``taints`` are there from the start, each with ``key``, ``effect`` and perhaps ``value``; ``provider`` is its ``providerID``;
        ``capacity`` is ``cpu="2"``, ``memory="4Gi"``, ``pods="30"`` and so on, without it 4 cores, 16Gi and 110 pods.
        """
        number = len(self.kubelet.machines) + 1
        self.storage.create(NODES, node_body(name, number, labels=labels, taints=taints, provider=provider, **capacity))
        self.kubelet.machines[name] = Machine(name)
        if self._kubelets:
            self.kubelet.report(name)
        return self.storage.get(NODES, "", name)

    def behave_node(self, name: str, behaviour: NodeBehaviour) -> None:
        """Say what a node's kubelet does, from now on."""
        self.kubelet.machines[name].behaviour = behaviour

    def silence(self, *names: str) -> None:
        """Let nodes go silent: dead, or cut off; from the API nobody can tell."""
        for name in names:
            self.behave_node(name, NodeBehaviour(silent=True))

    def wake(self, *names: str) -> None:
        """Let nodes come back and be well."""
        for name in names:
            self.behave_node(name, WELL)

    def remove_machine(self, name: str, *, node: bool = True) -> None:
        """Delete a machine, and its Node as the cloud's node controller would."""
        self.kubelet.machines.pop(name, None)
        found = self.storage.find(NODES, "", name)
        if node and found is not None:
            delete(self.storage, NODES, found)

    # --- workloads

    def create(self, kind: str, item: Object) -> Object:
        """Create an object of a kind such as ``apps/v1/deployments``, with the defaults that the API server gives it."""
        return self.storage.create(kind, self.storage.admit(kind, clone(item)))

    def workload(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        image: str,
        replicas: int = 2,
        service: bool = True,
        **spec: Any,
    ) -> Object:
        """Create a Deployment or StatefulSet (``kind``) with a Service in front."""
        if self.storage.find("v1/namespaces", "", namespace) is None:
            self.namespace(namespace)
        labels = {"app": name}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": name, "image": image}], "terminationGracePeriodSeconds": 2},
        }
        plural = {"Deployment": "apps/v1/deployments", "StatefulSet": "apps/v1/statefulsets", "DaemonSet": "apps/v1/daemonsets"}[
            kind
        ]
        made = self.create(
            plural,
            {
                "metadata": {"namespace": namespace, "name": name, "labels": labels, "annotations": {}},
                "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec},
            },
        )
        if service:
            meta = {"namespace": namespace, "name": name}
            ports = [{"name": "http", "port": 80, "targetPort": 8080}]
            self.create("v1/services", {"metadata": meta, "spec": {"selector": labels, "ports": ports, "type": "ClusterIP"}})
        return made

    def deployment(self, namespace: str, name: str, *, image: str, replicas: int = 2, **spec: Any) -> Object:
        """Create a Deployment with a Service in front."""
        return self.workload("Deployment", namespace, name, image=image, replicas=replicas, **spec)

    def set_image(self, namespace: str, name: str, image: str, *, plural: str = "apps/v1/deployments") -> None:
        """Roll a workload out with another image."""
        item = self.storage.get(plural, namespace, name)
        changed = clone(item)
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = image
        self.storage.update(plural, item, changed)

    def age(self, namespace: str, name: str, by: timedelta) -> None:
        """Make the revisions of a Deployment older than they are, as if it had been running for long."""
        item = self.storage.get(DEPLOYMENTS, namespace, name)
        for one in self.storage.owned(REPLICA_SETS, item["metadata"]["uid"]):
            self.storage.backdate(REPLICA_SETS, one, by)

    async def wait_for(self, holds: Callable[[], bool], *, within: float = 30.0, what: str = "the condition") -> None:
        """Wait until something holds, at most ``within`` of the cluster's seconds.

        Raises:
            TimeoutError: It did not.
        """
        ends_at = self._now() + timedelta(seconds=within)
        while not holds():
            if self._now() >= ends_at:
                raise TimeoutError(f"{what} did not hold within {within:g} s of the sandbox cluster's time")
            await asyncio.sleep(self.timings.every / self.timings.speed)

    def available(self, namespace: str, name: str) -> bool:
        """Tell whether a Deployment is wholly rolled out and ready."""
        item = self.storage.get(DEPLOYMENTS, namespace, name)
        status, wanted = item["status"], item["spec"].get("replicas", 1)
        seen = status.get("observedGeneration") == item["metadata"]["generation"]
        counts = [status.get(one, 0) for one in ("updatedReplicas", "replicas", "availableReplicas")]
        return bool(seen and counts == [wanted] * 3)

    def kubeconfig(self) -> dict[str, Any]:
        """Return a kubeconfig that points here."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {"server": self.url}}],
            "users": [{"name": "responder", "user": {"token": self._token or "none"}}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "responder"}}],
        }

    def write_kubeconfig(self, path: Path) -> Path:
        """Write the kubeconfig to a file and return its path."""
        path.write_text(json.dumps(self.kubeconfig()))
        return path


async def _served(app: web.Application) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, int(runner.addresses[0][1])
