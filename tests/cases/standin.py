"""A small stand-in for kubelets and the scheduler, through the API alone: it binds pods, writes their status and ends deleted ones."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from responder.clusters.kubernetes.client import KubernetesClient
from responder.model.errors import RemoteError

STRATEGIC = "application/strategic-merge-patch+json"
NODES = ("case-node-0", "case-node-1", "case-node-2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How a pod looks from outside.

    Attributes:
        waiting, message: Why its container waits; "" for running.
        exit_code, exit_reason: Of the container's last end; None for none.
        restarts: Of the container.
        init: The failing container is the first init container.
        phase, reason: Of the pod.
        stale: Its containers still say that they are ready, as on a dead node.
    """

    ready: bool = True
    waiting: str = ""
    message: str = ""
    exit_code: int | None = None
    exit_reason: str = "Error"
    restarts: int = 0
    init: bool = False
    phase: str = "Running"
    reason: str = ""
    stale: bool = False


FINE = Looks()
CRASHING = Looks(
    ready=False, waiting="CrashLoopBackOff", message="back-off 40s restarting failed container", exit_code=1, restarts=4
)
UNREADY = Looks(ready=False)


def stamp(at: datetime) -> str:
    """Return a time as the API writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class StandIn:
    """Plays the pods of one namespace.

    Attributes:
        images: Image to how its pods look; FINE when not named.
        pods: UID to how that pod looks, before its image.
        held: Pod names whose end is not confirmed (a dead node, a finalizer).
        names: Nodes that pods are bound to.
        pinned: Bind every pod to this node, cordoned or not; "" for by turns.
        made: Nodes of this stage alone, to be removed with it.
        silent: Nodes whose kubelet says nothing: their pods are neither played nor ended.
    """

    api: KubernetesClient
    namespace: str
    now: Callable[[], datetime]
    images: dict[str, Looks] = field(default_factory=dict)
    pods: dict[str, Looks] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    names: list[str] = field(default_factory=lambda: list(NODES))
    pinned: str = ""
    made: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    _bound: int = 0
    _shown: dict[str, Looks] = field(default_factory=dict)

    async def run(self) -> None:
        """Play until cancelled; a node that says nothing for 50 s would count as dead."""
        for turn in itertools.count():
            with contextlib.suppress(RemoteError):
                if turn % 200 == 199:
                    await self.nodes()
                await self.step()
            await asyncio.sleep(0.05)

    async def get(self, path: str) -> Any:
        """Read a path."""
        return msgspec.json.decode(await self.api.send("GET", path))

    async def nodes(self) -> None:
        """Make the nodes, or say again that they are ready."""
        for name in {*NODES, *self.names} - self.silent:
            await self.node(name)

    async def node(self, name: str, ready: str = "True", **labels: str) -> None:
        """Make a node, or say how it is; a silent one's pods lose their Ready condition, as the node lifecycle controller sees to."""
        with contextlib.suppress(RemoteError):
            await self.api.send("POST", "/api/v1/nodes", body={"metadata": {"name": name, "labels": labels}})
        self.made |= {name} - set(NODES)
        at = stamp(self.now())
        condition = {
            "type": "Ready",
            "status": ready,
            "reason": "KubeletReady" if ready == "True" else "NodeStatusUnknown",
            "lastHeartbeatTime": at,
            "lastTransitionTime": at,
        }
        room = {"cpu": "16", "memory": "64Gi", "pods": "110"}
        body = {"status": {"conditions": [condition], "allocatable": room, "capacity": room}}
        await self.api.send("PATCH", f"/api/v1/nodes/{name}/status", body=body, content_type=STRATEGIC)
        if ready == "True":
            self.silent.discard(name)
            self._shown.clear()
            return
        self.silent.add(name)
        for pod in (await self.get(f"/api/v1/namespaces/{self.namespace}/pods"))["items"]:
            if pod["spec"].get("nodeName") == name:
                lost = {"type": "Ready", "status": "False", "lastTransitionTime": at}
                path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
                await self.api.send("PATCH", path, body={"status": {"conditions": [lost]}}, content_type=STRATEGIC)

    async def _free(self) -> str:
        """Return a node for the next pod: by turns, of those that are neither silent nor cordoned; "" when there is none."""
        if self.pinned:
            return self.pinned
        found = {one["metadata"]["name"]: one for one in (await self.get("/api/v1/nodes"))["items"]}
        able = [
            name
            for name in self.names
            if name in found and name not in self.silent and not found[name]["spec"].get("unschedulable")
        ]
        self._bound += 1
        return able[self._bound % len(able)] if able else ""

    async def step(self) -> None:
        """Move every pod one step."""
        for pod in (await self.get(f"/api/v1/namespaces/{self.namespace}/pods"))["items"]:
            with contextlib.suppress(RemoteError):
                await self._play(pod)

    async def _play(self, pod: Any) -> None:
        meta = pod["metadata"]
        if pod["spec"].get("nodeName") in self.silent:
            return
        path = f"/api/v1/namespaces/{self.namespace}/pods/{meta['name']}"
        if meta.get("deletionTimestamp"):
            if meta["name"] not in self.held and not meta.get("finalizers"):
                await self.api.send("DELETE", path, body={"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})
            return
        if not pod["spec"].get("nodeName"):
            node = await self._free()
            if not node:
                return
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": meta["name"]},
                "target": {"kind": "Node", "name": node},
            }
            await self.api.send("POST", f"{path}/binding", body=binding)
        looks = self.pods.get(meta["uid"]) or self.images.get(pod["spec"]["containers"][0]["image"], FINE)
        if self._shown.get(meta["uid"]) == looks:
            return
        await self.api.send("PATCH", f"{path}/status", body={"status": self._status(pod, looks)}, content_type=STRATEGIC)
        self._shown[meta["uid"]] = looks

    def _status(self, pod: Any, looks: Looks) -> dict[str, Any]:
        since, ended = stamp(self.now() - timedelta(minutes=5)), stamp(self.now() - timedelta(seconds=20))
        ready = "True" if looks.ready else "False"
        conditions = [
            {"type": kind, "status": value, "lastTransitionTime": since}
            for kind, value in (("PodScheduled", "True"), ("Ready", ready), ("ContainersReady", ready))
        ]
        inits = pod["spec"].get("initContainers") or []
        broken = (inits if looks.init else pod["spec"]["containers"])[0]["name"]
        address = f"10.1.{int(pod['metadata']['uid'][:2], 16)}.{int(pod['metadata']['uid'][2:4], 16)}"
        status: dict[str, Any] = {
            "phase": looks.phase,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": conditions,
            "containerStatuses": [self._container(one, looks, broken, since, ended) for one in pod["spec"]["containers"]],
        }
        if looks.reason:
            status["reason"] = looks.reason
        if inits:
            status["initContainerStatuses"] = [self._container(one, looks, broken, since, ended) for one in inits]
        return status

    @staticmethod
    def _container(spec: Any, looks: Looks, broken: str, since: str, ended: str) -> dict[str, Any]:
        mine = spec["name"] == broken
        state: dict[str, Any] = {"running": {"startedAt": since}}
        if mine and looks.waiting:
            state = {"waiting": {"reason": looks.waiting, "message": looks.message}}
        last: dict[str, Any] = {}
        if mine and looks.exit_code is not None:
            last = {
                "terminated": {"exitCode": looks.exit_code, "reason": looks.exit_reason, "startedAt": since, "finishedAt": ended}
            }
        return {
            "name": spec["name"],
            "image": spec["image"],
            "imageID": "",
            "ready": looks.ready or looks.stale,
            "restartCount": looks.restarts if mine else 0,
            "state": state,
            "lastState": last,
        }
