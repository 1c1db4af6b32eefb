"""What happens in each run: a trouble for every shipped rule that climbs its ladder, from the alert to the proof or to the last level of the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from responder.sandbox import Behaviour
from responder.sandbox.aks import Fault
from responder.sandbox.aks_entra import CLIENT
from responder.sandbox.aks_state import Aks, Machine
from responder.sandbox.behaviour import NodeBehaviour
from tests.crash.arm import Arm
from tests.crash.world import Outdoors, World, rule_file

CRASH = Behaviour(crash_after=3, log="FATAL: poisoned\n")
API = {"namespace": "shop", "deployment": "api"}


@dataclass(frozen=True, slots=True)
class Plot:
    """One story.

    Attributes:
        rule: Which is armed.
        begin: Brings the trouble about; its time counts from there.
        lasts: How long it is followed.
        own: A rule of the plot's own; {} for the shipped ones.
        acts: Something is written to the cluster or its cloud in it.
        azure: The cluster is a managed one: its nodes are machines of pools, and a person approves what is asked.
    """

    name: str
    rule: str
    begin: Callable[[Outdoors], Awaitable[None]]
    lasts: timedelta = timedelta(minutes=30)
    own: Any = None
    acts: bool = True
    azure: bool = False

    def world(self, folder: Path, *, crash_at: frozenset[int] = frozenset(), keeps_name: bool = True) -> World:
        """Return a world in which it can happen."""
        rules = rule_file(folder, self.own) if self.own else ""
        return World(act=(self.rule,), rules=rules, crash_at=crash_at, keeps_name=keeps_name, azure=self.azure)


async def _healthy(world: Outdoors, *, replicas: int = 2) -> None:
    world.cluster.deployment("shop", "api", image="shop/api:1", replicas=replicas)
    await world.passes(timedelta(seconds=30))
    assert world.cluster.available("shop", "api")
    await world.observe_twice()


async def poisoned(world: Outdoors) -> None:
    """Every pod crashes until it is replaced."""
    await _healthy(world)
    world.cluster.break_running("shop", "api", CRASH)
    await world.passes(timedelta(minutes=2))
    world.alert("KubePodCrashLooping", **API)


async def one_sick_pod(world: Outdoors) -> None:
    """One of three crashes until it is replaced."""
    await _healthy(world, replicas=3)
    world.cluster.break_running("shop", "api", CRASH)
    for pod in world.cluster.pods("shop", "api")[1:]:
        world.cluster._broken.pop(pod["metadata"]["uid"], None)
    await world.passes(timedelta(minutes=2))
    world.alert("KubePodCrashLooping", **API)


async def incurable(world: Outdoors) -> None:
    """Nothing cures it: two levels of people."""
    await _healthy(world)
    world.cluster.behave("shop/api:1", CRASH)
    await world.passes(timedelta(minutes=2))
    world.alert("KubePodCrashLooping", **API)


async def bad_release(world: Outdoors) -> None:
    """A new image crashes; the last one was healthy."""
    await _healthy(world)
    world.cluster.behave("shop/api:2", CRASH)
    world.cluster.set_image("shop", "api", "shop/api:2")
    await world.passes(timedelta(minutes=3))
    world.alert("KubePodCrashLooping", **API)


async def out_of_memory(world: Outdoors) -> None:
    """A leak, cured by a restart."""
    await _healthy(world)
    world.cluster.break_running("shop", "api", Behaviour(crash_after=5, oom=True, exit_code=137))
    await world.passes(timedelta(minutes=2))
    world.alert("KubeContainerOOMKilledCount", **API)


async def no_such_image(world: Outdoors) -> None:
    """A release whose image does not exist."""
    await _healthy(world)
    world.cluster.behave("shop/api:none", Behaviour(pull="missing"))
    world.cluster.set_image("shop", "api", "shop/api:none")
    await world.passes(timedelta(minutes=3))
    world.alert("KubeContainerWaiting", **API)


async def no_such_secret(world: Outdoors) -> None:
    """A release that needs a Secret nobody made."""
    await _healthy(world)
    world.cluster.behave("shop/api:2", Behaviour(needs=("secret/nobody",)))
    world.cluster.set_image("shop", "api", "shop/api:2")
    await world.passes(timedelta(minutes=3))
    world.alert("KubeContainerWaiting", **API)


async def no_endpoint(world: Outdoors) -> None:
    """The service has none left, its workload crashes."""
    await _healthy(world)
    world.cluster.break_running("shop", "api", CRASH)
    await world.passes(timedelta(minutes=2))
    world.alert("KubeServiceNoReadyEndpoints", namespace="shop", service="api")


async def unknown_alert(world: Outdoors) -> None:
    """No rule is for it: by its severity people are told."""
    world.alert("CertificateExpiring", severity="critical", namespace="shop")


async def more_replicas(world: Outdoors) -> None:
    """An autoscaler's floor is raised, and given back at the end."""
    await _healthy(world)
    hpa = {
        "metadata": {"namespace": "shop", "name": "api"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "api"}, "minReplicas": 2, "maxReplicas": 6},
    }
    world.cluster.storage.create("autoscaling/v2/horizontalpodautoscalers", hpa)
    world.cluster.behave("shop/api:1", CRASH)
    await world.passes(timedelta(minutes=2))
    world.alert("KubePodCrashLooping", **API)
    world.heals_at = world.clock.at + timedelta(minutes=4)


async def kept_floor(world: Outdoors) -> None:
    """A floor is raised, everything is switched off and the incident closed; switched on again, what is owed is given back by the auditor."""
    await more_replicas(world)
    world.heals_at = None
    at = world.clock.at
    world.deeds = [(at + timedelta(minutes=after), deed) for after, deed in ((3, "off"), (4, "close"), (6, "armed"))]


async def silent_at_first(world: Outdoors) -> None:
    """The API server does not answer when the alert comes: its incident is of what the labels say, until it moves to what that turns out to be."""
    await poisoned(world)
    again = world.clock.at + timedelta(seconds=50)

    def follows() -> None:
        world.cluster.faults.status = 503 if world.clock.at < again else 0

    world.follows = follows
    follows()


async def _spread(world: Outdoors, begins: str = "") -> str:
    """Two workloads that are well; return a node on which both have a pod, one whose name begins so."""
    for name in ("api", "web"):
        world.cluster.deployment("shop", name, image=f"shop/{name}:1", replicas=3)
    await world.passes(timedelta(seconds=30))
    assert all(world.cluster.available("shop", name) for name in ("api", "web"))
    await world.observe_twice()
    on = [{pod["spec"]["nodeName"] for pod in world.cluster.pods("shop", name)} for name in ("api", "web")]
    return str(min(one for one in on[0] & on[1] if one.startswith(begins)))


async def dead_node(world: Outdoors) -> None:
    """A node falls silent: it is cordoned, and its pods are evicted one by one and come up elsewhere."""
    node = await _spread(world)
    world.cluster.silence(node)
    await world.passes(timedelta(minutes=2))
    world.alert("KubeNodeNotReady", node=node)


async def full_node(world: Outdoors) -> None:
    """A node is short of memory: it is cordoned; for the drain people are asked, and told again."""
    node = await _spread(world)
    world.cluster.behave_node(node, NodeBehaviour(pressure=("MemoryPressure",)))
    await world.passes(timedelta(minutes=1))
    world.alert("KubeNodePressure", node=node)


async def no_room(world: Outdoors) -> None:
    """A workload that no node has room for; a person is told."""
    for number in range(3):
        world.cluster.behave_node(f"sandbox-node-{number}", NodeBehaviour(pressure=("DiskPressure",)))
    world.cluster.deployment("shop", "big", image="shop/big:1", replicas=2)
    await world.passes(timedelta(minutes=2))
    world.alert("KubePodNotReady", namespace="shop", deployment="big")


async def stuck_release(world: Outdoors) -> None:
    """A release that does not become ready is rolled back once its deadline is over."""
    await _healthy(world)
    world.cluster.behave("shop/api:2", Behaviour(pull="missing"))
    world.cluster.set_image("shop", "api", "shop/api:2")
    await world.passes(timedelta(minutes=12))
    world.alert("KubeDeploymentRolloutStuck", **API)


async def failed_roll(world: Outdoors) -> None:
    """AKS says that it could not roll a node pool: people are told."""
    at = world.clock.now().isoformat()
    pool = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/prod"
    one = {
        "id": "roll-1", "topic": pool, "subject": "blue", "eventType": "Microsoft.ContainerService.NodePoolRollingFailed",
        "eventTime": at, "data": {"nodePoolName": "blue"}, "dataVersion": "1",
    }  # fmt: skip
    world.events.append((world.clock.now(), msgspec.json.encode([one])))


def _arm(world: Outdoors) -> Arm:
    assert world.arm is not None
    return world.arm


def _aks(world: Outdoors) -> Aks:
    return _arm(world).aks


async def _managed(world: Outdoors, *, work: int = 3, **given: Any) -> Aks:
    """A managed cluster that is well: a pool for the system, one for work."""
    aks = _aks(world)
    await aks.pool("system", 2, mode="System", taints=["CriticalAddonsOnly=true:NoSchedule"])
    await aks.pool("work", work, **given)
    await world.passes(timedelta(seconds=30))
    return aks


def _silent_until(world: Outdoors, well: Callable[[Aks], bool]) -> None:
    """Let the API server be silent from now on until ARM says that all is well."""
    aks = _aks(world)

    def follows() -> None:
        world.cluster.faults.status = 0 if well(aks) else 503

    world.follows = follows
    follows()


async def _unreachable(world: Outdoors, well: Callable[[Aks], bool]) -> None:
    """The API server does not answer, and somebody outside sees it."""
    _silent_until(world, well)
    await world.passes(timedelta(seconds=30))
    world.alert("KubeAPIDown")


async def _nothing() -> None:
    return None


async def stopped_cluster(world: Outdoors) -> None:
    """Somebody stopped it; it is started once a person has said yes."""
    aks = await _managed(world)
    aks.power = "Stopped"
    await _unreachable(world, lambda aks: aks.power == "Running")


async def unanswered_start(world: Outdoors) -> None:
    """The request to start it takes effect, and its answer is lost on the way: nobody has a token."""
    await stopped_cluster(world)
    _arm(world).double.faults.append(Fault(path="/start$", after=True))


async def forgotten_operation(world: Outdoors) -> None:
    """A cluster that failed is reconciled, and ARM does not know the operation any more when it is asked."""
    await failed_cluster(world)
    _arm(world).double.faults.append(Fault(path="/operations/", status=404, code="NotFound", times=1000))


async def cluster_that_does_not_start(world: Outdoors) -> None:
    """It is stopped, and starting it fails: people have it."""
    aks = await _managed(world)
    aks.power = "Stopped"
    aks.fails["Microsoft.ContainerService/managedClusters/start/action"] = (
        "InternalOperationError",
        "the control plane did not start",
    )
    await _unreachable(world, lambda aks: aks.power == "Running")


async def stuck_operation(world: Outdoors) -> None:
    """An operation of our own identity is in progress for more than an hour; it is aborted, and the cluster answers again."""
    aks = await _managed(world)
    aks.seconds["Microsoft.ContainerService/managedClusters/write"] = None
    ours = CLIENT
    begun = aks.begin("Microsoft.ContainerService/managedClusters/write", state="Updating", finish=_nothing, by=ours)
    begun.began_at -= timedelta(minutes=70)
    aks.log[-1]["at"] = begun.began_at
    await _unreachable(world, lambda aks: aks.running is None)


async def failed_cluster(world: Outdoors) -> None:
    """ARM says that it failed; a reconcile brings it back."""
    aks = await _managed(world)
    aks.state = "Failed"
    await _unreachable(world, lambda aks: aks.state == "Succeeded")


async def cluster_that_stays_failed(world: Outdoors) -> None:
    """ARM says that it failed, and so does the reconcile: people have it."""
    aks = await _managed(world)
    aks.state = "Failed"
    aks.fails["Microsoft.ContainerService/managedClusters/write"] = ("InternalOperationError", "the goal state was not reached")
    await _unreachable(world, lambda aks: aks.state == "Succeeded")


async def dead_machine(world: Outdoors) -> None:
    """A machine dies: its pods are moved, and with an approval it is deleted, and its pool gets its count back."""
    await _managed(world)
    node = await _spread(world, "aks-work-")
    _machine(world, node).power = "deallocated"
    world.cluster.silence(node)
    await world.passes(timedelta(minutes=2))
    world.alert("KubeNodeNotReady", node=node)


async def sick_machine(world: Outdoors) -> None:
    """A kubelet reports that it is not ready, and goes on ending pods: its node is drained, and then its running machine deleted."""
    await _managed(world)
    node = await _spread(world, "aks-work-")
    world.cluster.behave_node(node, NodeBehaviour(ready=False))
    await world.passes(timedelta(minutes=2))
    world.alert("KubeNodeNotReady", node=node)


async def silent_machine(world: Outdoors) -> None:
    """A node falls silent while its machine runs: nobody confirms that its evicted pods ended; with an approval the machine's end is theirs."""
    await _managed(world)
    node = await _spread(world, "aks-work-")
    world.cluster.silence(node)
    await world.passes(timedelta(minutes=2))
    world.alert("KubeNodeNotReady", node=node)


def _machine(world: Outdoors, node: str) -> Machine:
    return _aks(world).pools["work"].machines[node]


async def full_pool(world: Outdoors) -> None:
    """Pods that no node has room for, and one pool that could have another node."""
    await _managed(world, work=2)
    await _too_many(world)


async def full_autoscaled_pool(world: Outdoors) -> None:
    """The same, and the autoscaler owns the count: its minimum is raised, and given back at the end."""
    await _managed(world, work=2, autoscaled=True, minimum=2, maximum=5)
    await _too_many(world)


async def full_quota(world: Outdoors) -> None:
    """The same, and Azure has no room: the operation fails, and people have it."""
    aks = await _managed(world, work=2)
    aks.quota = 4
    await _too_many(world)


async def _too_many(world: Outdoors) -> None:
    container = {"name": "big", "image": "shop/big:1", "resources": {"requests": {"cpu": "3"}}}
    template = {"metadata": {"labels": {"app": "big"}}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 2}}
    world.cluster.deployment("shop", "big", image="shop/big:1", replicas=3, template=template)
    await world.passes(timedelta(minutes=2))
    world.alert("KubePodNotReady", namespace="shop", deployment="big")


async def storm(world: Outdoors) -> None:
    """Six workloads crash at once: one incident for all of them calls people, and lets them go when the limits hold again; by then they are well."""
    names = [f"w{number}" for number in range(6)]
    for name in names:
        world.cluster.deployment("shop", name, image=f"shop/{name}:1", replicas=1, service=False)
    await world.passes(timedelta(seconds=30))
    await world.observe_twice()
    for name in names:
        world.cluster.behave(f"shop/{name}:1", CRASH)
    await world.passes(timedelta(minutes=2))
    for name in names:
        world.alert("KubePodCrashLooping", namespace="shop", deployment=name)
    world.heals_at = world.clock.at + timedelta(minutes=3)


SCALE = {
    "rule": "scale-up", "title": "More of it", "owner": "tests", "runbook": "https://runbooks.example/", "severity": "error", "priority": 9,
    "match": [{"alert": "KubePodCrashLooping"}], "target": "workload", "ladder": [{"do": {"workload.scale": {"by": 1}}, "within": "2m"}],
}  # fmt: skip

PLOTS: tuple[Plot, ...] = (
    Plot("a crash loop that a restart cures", "pod-crash-loop", poisoned, timedelta(minutes=8)),
    Plot("one sick pod of three", "pod-crash-loop", one_sick_pod, timedelta(minutes=8)),
    Plot("a crash loop that nothing cures", "pod-crash-loop", incurable, timedelta(minutes=24)),
    Plot("a release that crashes", "pod-crash-loop", bad_release, timedelta(minutes=8)),
    Plot("a leak", "oom-loop", out_of_memory, timedelta(minutes=18)),
    Plot("an image that does not exist", "image-pull", no_such_image, timedelta(minutes=8)),
    Plot("a Secret that nobody made", "config-error", no_such_secret, timedelta(minutes=8)),
    Plot("a service without endpoints", "service-endpoints", no_endpoint, timedelta(minutes=8)),
    Plot("an alert that no rule is for", "backstop", unknown_alert, timedelta(minutes=17), acts=False),
    Plot("a node that fell silent", "node-not-ready", dead_node, timedelta(minutes=20)),
    Plot("a node short of memory", "node-pressure", full_node, timedelta(minutes=18)),
    Plot("a workload that no node has room for", "pending-pods", no_room, timedelta(minutes=10), acts=False),
    Plot("a release past its deadline", "stuck-rollout", stuck_release, timedelta(minutes=8)),
    Plot("a node pool that AKS could not roll", "aks-operation-failed", failed_roll, timedelta(minutes=17), acts=False),
    Plot("a cluster that somebody stopped", "cluster-unreachable", stopped_cluster, timedelta(minutes=10), azure=True),
    Plot("a cluster that does not start", "cluster-unreachable", cluster_that_does_not_start, timedelta(minutes=17), azure=True),
    Plot("a cluster stuck in an operation", "cluster-unreachable", stuck_operation, timedelta(minutes=11), azure=True),
    Plot("a cluster that failed", "cluster-unreachable", failed_cluster, timedelta(minutes=10), azure=True),
    Plot("a cluster that stays failed", "cluster-unreachable", cluster_that_stays_failed, timedelta(minutes=17), azure=True),
    Plot("a start whose answer is lost", "cluster-unreachable", unanswered_start, timedelta(minutes=10), azure=True),
    Plot("an operation that ARM forgot", "cluster-unreachable", forgotten_operation, timedelta(minutes=10), azure=True),
    Plot("a machine that died", "node-not-ready", dead_machine, timedelta(minutes=19), azure=True),
    Plot("a sick machine, drained", "node-not-ready", sick_machine, timedelta(minutes=19), azure=True),
    Plot("a silent node on a running machine", "node-not-ready", silent_machine, timedelta(minutes=19), azure=True),
    Plot("a full pool", "pending-pods", full_pool, timedelta(minutes=12), azure=True),
    Plot("a full pool of the autoscaler's", "pending-pods", full_autoscaled_pool, timedelta(minutes=12), azure=True),
    Plot("a full pool and no quota", "pending-pods", full_quota, timedelta(minutes=12), azure=True),
    Plot("a raised floor, given back", "scale-up", more_replicas, timedelta(minutes=15), own=SCALE),
    Plot("a raised floor that the kill switch kept", "scale-up", kept_floor, timedelta(minutes=9), own=SCALE),
    Plot("a storm", "pod-crash-loop", storm, timedelta(minutes=14), acts=False),
    Plot("an alert while the API server is silent", "pod-crash-loop", silent_at_first, timedelta(minutes=9)),
)
