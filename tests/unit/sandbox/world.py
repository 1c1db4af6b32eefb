"""A sandbox cluster whose time is turned by hand, without any socket."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from responder.sandbox import SandboxCluster, Timings

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


class World:
    """The cluster, and its time."""

    def __init__(self, *, nodes: int = 3, timings: Timings | None = None, kubelets: bool = True) -> None:
        self.at = NOON
        self.cluster = SandboxCluster(now=lambda: self.at, nodes=nodes, timings=timings or Timings(), kubelets=kubelets)

    def go(self, seconds: float, *, step: float = 1.0) -> None:
        """Let time pass; controllers and kubelets look once a step."""
        ends_at = self.at + timedelta(seconds=seconds)
        while self.at < ends_at:
            self.at = min(ends_at, self.at + timedelta(seconds=step))
            self.cluster.step()

    def until(self, holds: Callable[[], bool], *, most: float = 600) -> float:
        """Let time pass until something holds, and return after how many seconds it did."""
        began = self.at
        while not holds():
            assert (self.at - began).total_seconds() < most, f"it did not hold within {most:g} s"
            self.go(1)
        return (self.at - began).total_seconds()

    def node(self, number: int) -> Any:
        return self.cluster.storage.get("v1/nodes", "", f"sandbox-node-{number}")

    def ready(self, number: int) -> str:
        return str(next(one["status"] for one in self.node(number)["status"]["conditions"] if one["type"] == "Ready"))

    def taints(self, number: int) -> set[str]:
        return {
            f"{one['key'].removeprefix('node.kubernetes.io/')}:{one['effect']}"
            for one in self.node(number)["spec"].get("taints", ())
        }

    def pods(self, app: str = "", node: int | None = None) -> list[Any]:
        return [
            pod
            for pod in self.cluster.storage.all("v1/pods")
            if (not app or pod["metadata"]["labels"].get("app") == app)
            and (node is None or pod["spec"].get("nodeName") == f"sandbox-node-{node}")
        ]

    def create(self, kind: str, name: str, spec: Any, **more: Any) -> Any:
        """Store an object in the namespace ``shop``."""
        if self.cluster.storage.find("v1/namespaces", "", "shop") is None:
            self.cluster.namespace("shop")
        meta = {"namespace": "shop", "name": name, **more}
        return self.cluster.storage.create(kind, {"metadata": meta, "spec": spec})


def is_ready(pod: Any) -> bool:
    return any((one["type"], one["status"]) == ("Ready", "True") for one in pod["status"].get("conditions", ()))


def leaving(pod: Any) -> bool:
    return "deletionTimestamp" in pod["metadata"]
