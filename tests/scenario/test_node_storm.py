"""A third of the nodes is lost with all that is on them, on virtual time: pod alerts and node alerts in any order, node alerts last of all.

Source: kubernetes.md A15, A16 case 23; issue "31 of 100 nodes and 2,000 pod alerts within a minute".
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from responder.model.incident import Incident, Mode, Phase
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.policy import storms
from responder.sandbox import SandboxCluster, Timings
from tests.crash.sweep import quiet
from tests.crash.world import MortalView, World

M, S = timedelta(minutes=1), timedelta(seconds=1)
NODES, LOST = 100, 31
RULES = ("node-not-ready", "pod-crash-loop", "pending-pods", "image-pull", "config-error", "oom-loop", "stuck-rollout")
SEEDS = (0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2)))
OF_A_POD = ("KubePodNotReady", "KubePodCrashLooping", "KubePodContainerRestart", "KubePodReadyStateLow")


class CapturesAtOnce:
    """Counts evidence captures that are under way, by taking a while over each."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0


class NodeStorm(World):
    """A cluster of a hundred nodes, with workloads spread over all of them.

    Attributes:
        captures: How many were under way at once.
    """

    def __init__(self, *, workloads: int, replicas: int) -> None:
        super().__init__(act=RULES)
        self.cluster = SandboxCluster(timings=Timings(), now=self.clock.now, nodes=NODES)
        self.names = [f"w{number:03}" for number in range(workloads)]
        self.replicas = replicas
        self.captures = CapturesAtOnce()
        self.nodes = [f"sandbox-node-{number}" for number in range(NODES)]

    def _born(self) -> None:
        super()._born()
        view = self.app.views["sandbox"]
        assert isinstance(view, MortalView)
        inner, counted = view.evidence, self.captures

        async def evidence(snapshot: Any) -> Any:
            counted.running += 1
            counted.most = max(counted.most, counted.running)
            try:
                return await inner(snapshot)
            finally:
                counted.running -= 1

        view.evidence = evidence  # type: ignore[method-assign]

    async def settled(self) -> None:
        """Let everything run and be healthy."""
        for name in self.names:
            self.cluster.deployment("shop", name, image=f"shop/{name}:1", replicas=self.replicas, service=False)
        await self.passes(30 * S)
        assert all(self.cluster.available("shop", name) for name in self.names)
        for name in self.names:
            self.cluster.age("shop", name, timedelta(days=30))

    def lost_pods(self, lost: Sequence[str]) -> list[str]:
        """Return the pods on these nodes."""
        pods = (pod for name in self.names for pod in self.cluster.pods("shop", name))
        return [str(pod["metadata"]["name"]) for pod in pods if pod["spec"].get("nodeName") in set(lost)]

    def says(self, labels: dict[str, str], *, at: timedelta) -> None:
        """Let a sender post one alert."""
        when = self.clock.now() + at
        one = {
            "status": "firing", "labels": labels, "annotations": {}, "startsAt": when.isoformat(), "endsAt": "0001-01-01T00:00:00Z",
        }  # fmt: skip
        body = msgspec.json.encode({"version": "4", "status": "firing", "receiver": "r", "alerts": [one]})
        self.events.append((when, body))

    def alerts(self, lost: Sequence[str], *, order: random.Random, count: int) -> int:
        """Let so many pod alerts come within a minute, in any order, and the node alerts after them; return how many in all."""
        pods = self.lost_pods(lost)
        told = [
            {
                "alertname": OF_A_POD[number % len(OF_A_POD)],
                "namespace": "shop",
                "pod": pods[number % len(pods)],
                "n": str(number),
            }
            for number in range(count)
        ]
        order.shuffle(told)
        nodes = [{"alertname": "KubeNodeNotReady", "node": name} for name in lost]
        order.shuffle(nodes)
        every = [*told, *nodes]
        for number, labels in enumerate(every):
            self.says(labels, at=number * M / len(every))
        return len(every)

    async def armed(self) -> tuple[list[Incident], list[Incident]]:
        """Return parents, and the others."""
        found = await self.app.store.incidents(unclosed=False, limit=10_000, mode=Mode.ARMED)
        return [one for one in found if storms.is_parent(one)], [one for one in found if not storms.is_parent(one)]

    def cordoned(self) -> list[str]:
        """Return the nodes that are cordoned now."""
        return [str(one["metadata"]["name"]) for one in self.cluster.storage.all("v1/nodes") if one["spec"].get("unschedulable")]

    def drained(self) -> set[str]:
        """Return the nodes that we ever set a hand on."""
        return {one.name for one in self.cluster.tried if one.resource == "nodes"}

    def pages(self) -> list[str]:
        """Return the incidents that people were called for."""
        return [one.key.partition("/")[0] for one in self.sent if one.kind is NoticeKind.PAGE and one.level == 1]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet()


async def lost_at_once(*, seed: int, alerts: int, workloads: int, replicas: int) -> NodeStorm:
    """Lose a third of the nodes, let everybody say so, and look on for ten minutes."""
    order = random.Random(seed)
    world = NodeStorm(workloads=workloads, replicas=replicas)
    await world.settled()
    lost = order.sample(world.nodes, LOST)
    world.cluster.silence(*lost)
    await world.passes(60 * S)
    count = world.alerts(lost, order=order, count=alerts)
    await world.live(10 * M)
    held = Counter(one.name for one in await world.app.store.instances(why=None, firing=True, limit=100_000))
    assert sum(held.values()) == count
    return world


async def judged(world: NodeStorm) -> None:
    """Nobody's hand touches anything, one page, few captures, and everything says why."""
    (parent,), children = await world.armed()
    assert storms.UNHEALTHY_NODES in parent.causes
    assert world.drained() == set()
    assert world.cluster.tried == []
    assert world.pages() == [parent.id]
    assert world.captures.most <= 4
    assert {one.phase for one in children} <= {Phase.WAITING, Phase.VERIFYING, Phase.RECOVERED}
    assert {one.reason for one in children if one.phase is Phase.WAITING} <= {Reason.STORM, Reason.CONTAINED}
    assert (await world.rows())["not_routed"] == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_third_of_the_nodes_lost_at_once_is_one_page_and_no_drain_in_any_order(seed: int) -> None:
    """Over ``unhealthy_nodes`` no node action cures anything: people are called once, and what went elsewhere by itself is left alone."""
    await judged(await lost_at_once(seed=seed, alerts=150, workloads=50, replicas=2))


@pytest.mark.slow
async def test_two_thousand_pod_alerts_and_thirty_one_nodes_within_a_minute_are_one_page_and_no_drain() -> None:
    """The same at full size."""
    await judged(await lost_at_once(seed=7, alerts=2000, workloads=200, replicas=3))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_drain_that_was_begun_before_the_floor_was_reached_stops_and_leaves_its_node_as_found(seed: int) -> None:
    """The first node is drained against a budget; while it waits, thirty more are lost: no further eviction, the cordon is taken back, no second drain."""
    order = random.Random(seed)
    world = NodeStorm(workloads=50, replicas=2)
    await world.settled()
    first, *others = order.sample(world.nodes, LOST)
    held_back = {name for name in world.names for pod in world.cluster.pods("shop", name) if pod["spec"].get("nodeName") == first}
    assert held_back, "the first node carries a pod"
    for name in held_back:
        world.cluster.storage.create(  # it would make an eviction possible, if any node took it: a budget without hope is not waited for
            "v1/pods",
            {
                "metadata": {"name": f"{name}-spare", "namespace": "shop", "labels": {"app": f"{name}-spare"}},
                "spec": {"nodeSelector": {"no": "such"}, "containers": [{"name": "app", "image": f"shop/{name}:1"}]},
            },
        )
        world.cluster.storage.create(
            "policy/v1/poddisruptionbudgets",
            {
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {
                    "minAvailable": 2,
                    "selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": [name, f"{name}-spare"]}]},
                },
            },
        )
    world.cluster.silence(first)
    await world.passes(60 * S)
    world.says({"alertname": "KubeNodeNotReady", "node": first}, at=0 * S)
    await world.live(50 * S)
    begun = world.drained()
    world.cluster.silence(*others)
    await world.live(60 * S)
    before = len(world.cluster.tried)
    world.alerts(others, order=order, count=100)
    await world.live(10 * M)

    (parent,), _ = await world.armed()
    assert begun == {first}
    assert world.drained() == {first}
    assert world.cordoned() == []
    assert [one for one in world.cluster.tried[before:] if one.resource != "nodes"] == []
    assert [one for one in world.pages() if one == parent.id] == [parent.id]
    assert len(world.pages()) <= 2  # the first node's own page, from the minute when it was the only one
    assert await world.app.store.owed() == []
