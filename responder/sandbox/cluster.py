"""The sandbox cluster: storage, controllers and kubelets on one loop, an API server on loopback, and a way to build things in it."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from responder.sandbox.api import Api, Faults, Written
from responder.sandbox.behaviour import HEALTHY, Behaviour
from responder.sandbox.controllers import CONTROLLERS, is_live
from responder.sandbox.kubelet import Kubelet
from responder.sandbox.metrics import exposition
from responder.sandbox.objects import Object, Storage, stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How the cluster's time runs.

    Attributes:
        speed: Its seconds in one real second.
        every: Its seconds between two looks of the controllers.
        starts_in: Its seconds that a container takes to start.
    """

    speed: float = 1.0
    every: float = 0.2
    starts_in: float = 1.0


class SandboxCluster:
    """A cluster on loopback. ``async with SandboxCluster() as cluster`` starts and stops it.

    Attributes:
        faults: What is wrong with its API server; switch at any time.
        writes: Every write that it received from outside.
    """

    def __init__(
        self,
        *,
        timings: Timings | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
        token: str = "",
        nodes: int = 3,
        kubelets: bool = True,
    ) -> None:
        """Make a cluster; nothing runs yet. Without ``kubelets`` pods are bound, run and ended by whoever plays them through the API."""
        self._kubelets = kubelets
        self.timings = timings or Timings()
        self._now = now
        self.storage = Storage(now)
        self._behaviours: dict[str, Behaviour] = {}
        self._broken: dict[str, Behaviour] = {}
        starts_in = timedelta(seconds=self.timings.starts_in)
        self.kubelet = Kubelet(self.storage, self._behaviour_of, starts_in)
        self.api = Api(self.storage, self.kubelet, token=token)
        self._token = token
        self._runner: web.AppRunner | None = None
        self._metrics_runner: web.AppRunner | None = None
        self._loop: asyncio.Task[None] | None = None
        self.url = ""
        self.metrics_url = ""
        for number in range(nodes):
            self._node(f"sandbox-node-{number}")
        for name in ("default", "kube-system"):
            self.namespace(name)

    @property
    def faults(self) -> Faults:
        """Return the switches for what is wrong with the API server."""
        return self.api.faults

    @property
    def writes(self) -> list[Written]:
        """Return every write that the API server received."""
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
            await asyncio.gather(self._loop, return_exceptions=True)
        for runner in (self._runner, self._metrics_runner):
            if runner is not None:
                await runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=exposition(self.storage), content_type="text/plain")

    async def _run(self) -> None:
        while True:
            self.step()
            await asyncio.sleep(self.timings.every / self.timings.speed)

    def step(self) -> None:
        """Let every controller and kubelet look once."""
        for controller in CONTROLLERS:
            controller(self.storage)
        if self._kubelets:
            self.kubelet.step()

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
        found = self.storage.all("v1/pods", namespace)
        return [pod for pod in found if is_live(pod) and (pod["metadata"].get("labels") or {}).get("app") == workload]

    def namespace(self, name: str, **annotations: str) -> Object:
        """Create a namespace."""
        return self.storage.create(
            "v1/namespaces", {"metadata": {"name": name, "annotations": annotations}, "status": {"phase": "Active"}}
        )

    def _node(self, name: str) -> Object:
        node = self.storage.create(
            "v1/nodes", {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {}}
        )
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": stamp(self._now())}
        number = len(self.storage.all("v1/nodes"))
        self.storage.set_status(
            "v1/nodes", node, {"conditions": [ready], "addresses": [{"type": "InternalIP", "address": f"10.0.0.{number}"}]}
        )
        return self.storage.get("v1/nodes", "", name)

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
        made = self.storage.create(
            plural,
            {
                "metadata": {"namespace": namespace, "name": name, "labels": labels, "annotations": {}},
                "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec},
            },
        )
        if service:
            meta = {"namespace": namespace, "name": name}
            ports = [{"name": "http", "port": 80, "targetPort": 8080}]
            self.storage.create(
                "v1/services", {"metadata": meta, "spec": {"selector": labels, "ports": ports, "type": "ClusterIP"}}
            )
        return made

    def deployment(self, namespace: str, name: str, *, image: str, replicas: int = 2, **spec: Any) -> Object:
        """Create a Deployment with a Service in front."""
        return self.workload("Deployment", namespace, name, image=image, replicas=replicas, **spec)

    def set_image(self, namespace: str, name: str, image: str, *, plural: str = "apps/v1/deployments") -> None:
        """Roll a workload out with another image."""
        item = self.storage.get(plural, namespace, name)
        changed = copy.deepcopy(item)
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = image
        self.storage.update(plural, item, changed)

    def age(self, namespace: str, name: str, by: timedelta) -> None:
        """Make the revisions of a Deployment older than they are, as if it had been running for long."""
        item = self.storage.get("apps/v1/deployments", namespace, name)
        for one in list(self.storage.owned("apps/v1/replicasets", item["metadata"]["uid"])):
            one["metadata"]["creationTimestamp"] = stamp(datetime.fromisoformat(one["metadata"]["creationTimestamp"]) - by)

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
        item = self.storage.get("apps/v1/deployments", namespace, name)
        status, wanted = item["status"], item["spec"].get("replicas", 1)
        seen = status.get("observedGeneration") == item["metadata"]["generation"]
        return bool(seen and status.get("updatedReplicas") == status.get("replicas") == status.get("availableReplicas") == wanted)

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
