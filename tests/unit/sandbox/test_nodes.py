"""Nodes of the sandbox live and die as kubernetes.md A5 says, on a clock turned by hand."""

from __future__ import annotations

import pytest

from responder.sandbox import NodeBehaviour, NodeTimes, Timings
from responder.sandbox.aks_nodes import MachineNodes
from tests.unit.sandbox.world import World, is_ready, leaving

UNREACHABLE = {"unreachable:NoSchedule", "unreachable:NoExecute"}


def test_a_silent_node_is_unknown_and_tainted_after_its_grace_and_its_pods_are_not_ready() -> None:
    """50 s after its last Lease: Unknown, both taints, pods Ready=False; what the containers said stays as it was."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=3)
    world.go(20)
    world.cluster.silence("sandbox-node-1")

    took = world.until(lambda: world.ready(1) == "Unknown")

    assert 40 <= took <= 61
    assert world.taints(1) == UNREACHABLE
    (pod,) = world.pods(node=1)
    assert not is_ready(pod)
    assert pod["status"]["containerStatuses"][0]["ready"] is True
    assert all(is_ready(one) for one in world.pods(node=0))


def test_pods_of_a_dead_node_are_deleted_after_their_toleration_and_stay_terminating() -> None:
    """300 s later they are terminating for good; the ReplicaSet replaces, the StatefulSet does not, the DaemonSet's pod stays."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=3)
    world.cluster.workload("StatefulSet", "shop", "db", image="d", replicas=3, service=False)
    world.cluster.workload("DaemonSet", "shop", "agent", image="g", service=False)
    world.go(30)
    (number,) = [n for n in range(3) if any(pod["metadata"]["name"] == "db-1" for pod in world.pods(node=n))]
    world.cluster.silence(f"sandbox-node-{number}")
    world.until(lambda: world.ready(number) == "Unknown")

    took = world.until(lambda: any(leaving(pod) for pod in world.pods(node=number)))
    world.go(120)

    assert 299 <= took <= 302
    there = {pod["metadata"]["labels"]["app"]: leaving(pod) for pod in world.pods(node=number)}
    assert there == {"api": True, "db": True, "agent": False}
    condition = next(one for one in world.pods("api", number)[0]["status"]["conditions"] if one["type"] == "DisruptionTarget")
    assert condition["reason"] == "DeletionByTaintManager"
    assert sum(1 for pod in world.pods("api") if is_ready(pod)) == 3
    assert sum(1 for pod in world.pods("db") if is_ready(pod)) == 2


def test_a_node_that_comes_back_ends_its_terminating_pods_and_loses_its_taints() -> None:
    """Its kubelet reports, ends what was to be ended, and says of the others that they are ready."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=3)
    world.cluster.workload("DaemonSet", "shop", "agent", image="g", service=False)
    world.go(20)
    world.cluster.silence("sandbox-node-1")
    world.go(400)
    world.cluster.wake("sandbox-node-1")
    world.go(5)

    assert world.ready(1) == "True"
    assert world.taints(1) == set()
    assert [(pod["metadata"]["labels"]["app"], is_ready(pod)) for pod in world.pods(node=1)] == [("agent", True)]


def test_the_times_of_a_nodes_life_can_be_seconds() -> None:
    """A demo sees the whole of it in half a minute."""
    times = NodeTimes(grace=4, tolerates_for=6, lease_every=1, evicts_every=1)
    world = World(timings=Timings(nodes=times))
    world.cluster.deployment("shop", "api", image="a", replicas=3)
    world.go(10)
    world.cluster.silence("sandbox-node-1")

    took = world.until(lambda: sum(1 for pod in world.pods("api") if is_ready(pod)) == 3 and len(world.pods("api")) == 4)

    assert took <= 20


def test_a_kubelet_that_says_it_is_not_ready_is_not_silent() -> None:
    """Ready=False: not-ready taints; its pods stay ready as long as their kubelet says so, and are evicted after the toleration."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=3)
    world.go(20)
    world.cluster.behave_node("sandbox-node-1", NodeBehaviour(ready=False))
    world.go(10)

    assert world.ready(1) == "False"
    assert world.taints(1) == {"not-ready:NoSchedule", "not-ready:NoExecute"}
    assert all(is_ready(pod) for pod in world.pods(node=1))
    world.go(310)
    assert world.pods("api", 1) == []
    assert len(world.pods("api")) == 3


def test_pressure_is_a_condition_and_a_taint() -> None:
    """MemoryPressure keeps new pods away and evicts nobody by taint."""
    world = World()
    world.cluster.behave_node("sandbox-node-0", NodeBehaviour(pressure=("MemoryPressure",)))
    world.go(5)
    world.cluster.deployment("shop", "api", image="a", replicas=4)
    world.go(20)

    assert world.taints(0) == {"memory-pressure:NoSchedule"}
    assert world.pods(node=0) == []
    assert sum(1 for pod in world.pods("api") if is_ready(pod)) == 4


@pytest.mark.parametrize(
    ("nodes", "silent", "evicts"),
    [
        pytest.param(5, 2, True, id="two of five"),
        pytest.param(5, 3, False, id="three of five: a partial disruption of a small zone evicts nobody"),
        pytest.param(3, 3, False, id="all: master disruption, the NoExecute taints go again"),
        pytest.param(1, 1, False, id="the only node"),
    ],
)
def test_zones_hold_evictions_back(nodes: int, silent: int, *, evicts: bool) -> None:
    """More than two and at least 55 per cent of a small zone, or everything: nobody is evicted however long it lasts."""
    world = World(nodes=nodes)
    world.cluster.deployment("shop", "api", image="a", replicas=nodes)
    world.go(20)
    world.cluster.silence(*(f"sandbox-node-{number}" for number in range(silent)))

    world.go(600)

    assert all(world.ready(number) == "Unknown" for number in range(silent))
    assert any(leaving(pod) for pod in world.pods("api")) is evicts
    if silent == nodes:
        assert all("unreachable:NoExecute" not in world.taints(number) for number in range(nodes))
        assert all("unreachable:NoSchedule" in world.taints(number) for number in range(nodes))


def test_a_cordoned_node_takes_no_new_pods_but_daemons() -> None:
    """Cordon is the field and the taint; a DaemonSet's pod ignores both; the old pods stay."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=3)
    world.go(20)
    node = world.node(1)
    world.cluster.storage.update(
        "v1/nodes", node, {**node, "metadata": dict(node["metadata"]), "spec": {**node["spec"], "unschedulable": True}}
    )
    world.cluster.workload("DaemonSet", "shop", "agent", image="g", service=False)
    world.cluster.deployment("shop", "web", image="w", replicas=4)
    world.go(20)

    assert world.taints(1) == {"unschedulable:NoSchedule"}
    assert sorted(pod["metadata"]["labels"]["app"] for pod in world.pods(node=1)) == ["agent", "api"]
    assert sum(1 for pod in world.pods("web") if is_ready(pod)) == 4


def test_a_pod_that_fits_nowhere_says_why_and_is_bound_when_there_is_room() -> None:
    """Requests, selectors and taints are filters; the words are the scheduler's; a new node takes the pod."""
    world = World(nodes=2)
    world.create(
        "apps/v1/deployments",
        "big",
        {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "big"}},
            "template": {
                "metadata": {"labels": {"app": "big"}},
                "spec": {"containers": [{"name": "big", "image": "b", "resources": {"requests": {"cpu": "6"}}}]},
            },
        },
    )
    world.go(5)
    (pod,) = world.pods("big")
    condition = next(one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled")

    assert (pod["status"]["phase"], condition["status"], condition["reason"]) == ("Pending", "False", "Unschedulable")
    assert condition["message"].startswith("0/2 nodes are available: 2 Insufficient cpu.")
    assert any(one["reason"] == "FailedScheduling" for one in world.cluster.storage.all("v1/events"))
    world.cluster.add_node("big-node", cpu="8")
    world.go(5)
    (pod,) = world.pods("big")
    assert pod["spec"]["nodeName"] == "big-node"
    assert is_ready(pod)


def test_deleting_a_node_object_leaves_its_machine_and_loses_its_pods_after_the_quarantine() -> None:
    """PodGC ends them between 40 and 61 s later, with their phase Failed; the machine does not register again."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=3)
    world.go(20)
    (pod,) = world.pods(node=1)
    world.cluster.storage.remove("v1/nodes", world.node(1))

    took = world.until(lambda: world.pods(node=1) == [])
    world.go(30)

    assert 38 <= took <= 62
    assert len(world.cluster.storage.all("v1/nodes")) == 2
    assert len([one for one in world.pods("api") if is_ready(one)]) == 3
    assert pod["metadata"]["uid"] not in {one["metadata"]["uid"] for one in world.pods("api")}


def test_out_of_service_ends_what_hangs_on_a_dead_node_and_spares_a_ready_one() -> None:
    """The StatefulSet's pod comes back elsewhere within a turn of PodGC."""
    world = World()
    world.cluster.workload("StatefulSet", "shop", "db", image="d", replicas=1, service=False)
    world.go(10)
    (pod,) = world.pods("db")
    name = pod["spec"]["nodeName"]
    world.cluster.silence(name)
    world.go(400)
    (pod,) = world.pods("db")
    assert leaving(pod)
    node = world.cluster.storage.get("v1/nodes", "", name)
    taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
    spec = {**node["spec"], "taints": [*node["spec"]["taints"], taint]}
    world.cluster.storage.update("v1/nodes", node, {**node, "metadata": dict(node["metadata"]), "spec": spec})

    took = world.until(lambda: any(is_ready(one) for one in world.pods("db")))

    assert took <= 30
    (pod,) = world.pods("db")
    assert pod["spec"]["nodeName"] != name


async def test_machines_of_a_pool_are_nodes_with_kubelets() -> None:
    """A machine that joins stays Ready and takes pods; one that is deleted is gone with its Node, and its pods come back elsewhere."""
    world = World(nodes=0)
    machines = MachineNodes(world.cluster)
    for number in range(2):
        await machines.add(
            f"sandbox-node-{number}", provider_id=f"azure:///{number}", labels={"kubernetes.azure.com/agentpool": "a"}, taints=[]
        )
    world.cluster.deployment("shop", "api", image="a", replicas=2)
    world.go(120)

    assert [world.ready(number) for number in range(2)] == ["True", "True"]
    assert world.node(0)["spec"]["providerID"] == "azure:///0"
    await machines.remove("sandbox-node-0")
    world.go(90)
    assert [one["metadata"]["name"] for one in world.cluster.storage.all("v1/nodes")] == ["sandbox-node-1"]
    assert [is_ready(pod) for pod in world.pods("api", 1)] == [True, True]
