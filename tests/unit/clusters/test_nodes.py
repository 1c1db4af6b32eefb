"""A node target is read with what stands round it: what is kept, for how long, and what a side read that fails leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from responder.clusters.kubernetes import snapshots as make
from responder.clusters.kubernetes import structs as k
from responder.clusters.kubernetes.nodes import NodeReader
from responder.model.cluster import Snapshot
from responder.model.errors import GoneError, TransientError
from responder.model.target import Target, TargetKind

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
NODE = Target(kind=TargetKind.NODE, cluster="prod", name="n1")
API = Target(kind=TargetKind.WORKLOAD, cluster="prod", namespace="shop", name="api", owner_kind="Deployment")


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items)}


def pod(name: str, owner: str, kind: str = "ReplicaSet", **more: Any) -> dict[str, Any]:
    meta = {
        "name": name,
        "namespace": "shop",
        "uid": name,
        "labels": {"app": "api"},
        "ownerReferences": [{"kind": kind, "name": owner, "uid": owner, "apiVersion": "apps/v1", "controller": True}],
    }
    return {"metadata": meta, "spec": {"nodeName": "n1", "containers": [{"name": "c"}], **more}, "status": {"phase": "Running"}}


@dataclass(slots=True)
class Api:
    """Answers paths; remembers what was asked; can fail."""

    answers: dict[str, Any]
    failing: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def _find(self, path: str) -> Any:
        self.asked.append(path)
        if path in self.failing:
            raise TransientError("no answer", system="kubernetes", operation="GET", target=path)
        if path not in self.answers:
            raise GoneError("not found", system="kubernetes", operation="GET", target=path, status=404)
        return self.answers[path]

    async def read(self, path: str, kind: Any, **_: Any) -> Any:
        return msgspec.convert(self._find(path), kind)

    async def pages(self, path: str, kind: Any, **_: Any) -> Any:
        return [msgspec.convert(self._find(path), kind)]


@dataclass(slots=True)
class World:
    api: Api
    now: datetime = NOON
    reader: Any = None

    async def read(self, *displaced: Target) -> Snapshot:
        return await self.reader.snapshot(NODE, displaced, self.now)  # type: ignore[no-any-return]


def world() -> World:
    node = {
        "metadata": {"name": "n1", "uid": "u1", "labels": {"agentpool": "user"}},
        "spec": {"providerID": "azure:///vm/1", "taints": [{"key": "gpu", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}], "allocatable": {"cpu": "2", "pods": "30"}},
    }
    lease = {"metadata": {"name": "n1"}, "spec": {"renewTime": "2026-01-05T11:56:00.000000Z"}}
    budget = {"metadata": {"name": "api", "namespace": "shop", "uid": "b"}, "spec": {"selector": {"matchLabels": {"app": "api"}}}}
    elsewhere = {
        "metadata": {"name": "api", "namespace": "other", "uid": "c"},
        "spec": {"selector": {"matchLabels": {"app": "api"}}},
    }
    deployment = {
        "metadata": {"name": "api", "namespace": "shop", "uid": "d"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "api"}}},
        "status": {"readyReplicas": 3},
    }
    answers = {
        "/api/v1/nodes/n1": node,
        "/api/v1/nodes": listed(node),
        "/api/v1/pods": listed(pod("api-1", "rs"), pod("agent-1", "gone", "DaemonSet"), pod("log-1", "ds", "DaemonSet")),
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases": listed(lease),
        "/api/v1/events": listed(),
        "/apis/apps/v1/daemonsets": listed({"metadata": {"name": "log", "uid": "ds"}}),
        "/api/v1/namespaces": listed({"metadata": {"name": "shop", "annotations": {"responder/hands-off": "migration"}}}),
        "/apis/policy/v1/poddisruptionbudgets": listed(budget, elsewhere),
        "/apis/apps/v1/namespaces/shop/deployments/api": deployment,
    }
    made = World(Api(answers))

    async def top(_pod: k.Anything) -> list[Target]:
        return [API]

    made.reader = NodeReader("prod", made.api, top=top, now=lambda: made.now)  # type: ignore[arg-type]
    return made


async def test_a_node_comes_with_its_pods_their_budgets_workloads_and_marks() -> None:
    """Budgets of the pod's own namespace alone; a mark on the namespace is the pod's; a DaemonSet that is gone is known by UID."""
    snap = await world().read()

    assert snap.gaps == {}
    assert snap.node is not None
    pods = {one.name: one for one in snap.node.pods}
    assert (snap.node.node.ready, snap.node.node.pool, snap.node.node.provider_id) == ("Unknown", "user", "azure:///vm/1")
    assert snap.node.lease_renewed_at == NOON - timedelta(minutes=4)
    assert pods["api-1"].budgets == ("api",)
    assert pods["api-1"].top == API.identity
    assert pods["api-1"].hands_off == "namespace shop: migration"
    assert [one.namespace for one in snap.node.budgets] == ["shop"]
    assert [(one.target.name, one.desired, one.ready) for one in snap.moved] == [("api", 3, 3)]
    assert (pods["agent-1"].owner_exists, pods["log-1"].owner_exists) == (False, True)
    assert snap.node.requested == {"n1": {"pods": 3.0}}


async def test_what_concerns_the_whole_cluster_is_kept_for_seconds_of_the_judging_clock() -> None:
    """Nodes and Leases five, requests thirty; the node, its pods and budgets are read every time. A process that was held up reads anew."""
    made = world()

    async def asked(path: str, after: timedelta) -> bool:
        made.api.asked.clear()
        made.now += after
        await made.read()
        return path in made.api.asked

    await made.read()

    assert not await asked("/api/v1/nodes", timedelta(seconds=4))
    assert await asked("/api/v1/nodes", timedelta(seconds=2))
    assert await asked("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", timedelta(minutes=5))
    assert await asked("/api/v1/nodes/n1", timedelta(0))
    assert await asked("/apis/policy/v1/poddisruptionbudgets", timedelta(0))


async def test_a_side_read_that_fails_is_a_gap_with_its_reason() -> None:
    """Budgets that cannot be read are not no budgets."""
    made = world()
    made.api.failing |= {"/apis/policy/v1/poddisruptionbudgets", "/api/v1/events", "/apis/apps/v1/daemonsets"}

    snap = await made.read()

    assert set(snap.gaps) == {"budgets", "events", "workloads"}
    assert "no answer" in snap.gaps["budgets"]


async def test_a_node_that_is_gone_is_read_with_the_workloads_that_had_to_leave_it() -> None:
    """Also when another node has its name by now: the UID says that it is another one."""
    made = world()
    del made.api.answers["/api/v1/nodes/n1"]

    snap = await made.read(API)

    assert snap.gone
    assert snap.node is None
    assert [(one.target.name, one.displaced) for one in snap.moved] == [("api", True)]


async def test_a_lease_of_another_actor_counts_until_it_runs_out() -> None:
    """As medik8s' actors share them: ``node-<name>`` in ``medik8s-leases``."""
    made = world()
    path = "/apis/coordination.k8s.io/v1/namespaces/medik8s-leases/leases/node-n1"
    spec = {"holderIdentity": "healer", "leaseDurationSeconds": 60, "renewTime": "2026-01-05T11:59:30.000000Z"}
    made.api.answers[path] = {"metadata": {"name": "node-n1"}, "spec": spec}

    held = await made.read()
    made.now += timedelta(seconds=31)
    over = await made.read()

    assert held.node is not None
    assert over.node is not None
    assert (held.node.held_by, over.node.held_by) == ("healer", "")


def test_a_pod_wants_what_runs_together_or_its_largest_init_container() -> None:
    """Sidecars run beside the containers, init containers before them and alone; the runtime's overhead comes on top."""
    raw = msgspec.convert(
        {
            "spec": {
                "containers": [
                    {"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}},
                    {"resources": {"requests": {"cpu": "250m"}}},
                ],
                "initContainers": [
                    {"resources": {"requests": {"cpu": "2"}}},
                    {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                    {"resources": {"requests": {"memory": "2Gi", "example.com/key": "1"}}},
                ],
                "overhead": {"cpu": "50m"},
            }
        },
        k.Pod,
    )

    assert make.pod_requests(raw) == {"cpu": 2.05, "memory": 2.0 * 2**30, "example.com/key": 1.0}


async def test_a_pools_machine_has_room_beside_what_runs_on_every_node() -> None:
    """As its largest Ready node shows; a pool without a node shows nothing, and a node of no pool is of none."""
    made = world()
    node = {"metadata": {"name": "n2", "uid": "u2", "labels": {"agentpool": "user"}}, "spec": {}, "status": {}}
    large = {**node, "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "4", "pods": "30"}}}
    bare = {"metadata": {"name": "n3", "uid": "u3"}, "spec": {}, "status": large["status"]}
    made.api.answers["/api/v1/nodes"] = listed(large, bare)
    requests: dict[str, Any] = {"containers": [{"name": "c", "resources": {"requests": {"cpu": "300m"}}}], "nodeName": "n2"}
    made.api.answers["/api/v1/pods"] = listed(
        pod("agent", "agents", "DaemonSet", **requests), pod("api", "rs", **requests), pod("gone", "rs", nodeName="n9")
    )

    assert await made.reader.machine_room() == {"user": {"cpu": 3.7, "pods": 29.0}}
