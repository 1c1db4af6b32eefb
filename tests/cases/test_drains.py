"""Drains of nodes: A16 cases 8 to 18, and a drain that dies, is switched off, or is no longer needed at any of nine evictions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from responder.model.errors import RemoteError
from responder.model.incident import Incident, Mode
from responder.model.reason import Reason
from responder.model.storing import ModeRow
from responder.service.worker import Worker
from tests.cases.stage import Stage, rule
from tests.cases.test_evictions import evictions
from tests.cases.wire import Sent

NODE = {"target": "node"}
DRAIN = {"name": "move pods", "do": ["node.cordon", "node.drain"], "within": "10m"}


def node_rule(*ladder: Any, **more: Any) -> dict[str, Any]:
    return rule(*(ladder or (DRAIN,)), **NODE, **more)


async def down(stage: Stage, node: str) -> None:
    """Let a node's kubelet fall silent, and alert."""
    await stage.standin.node(node, "Unknown")
    await stage.alert(node=node)


def names(sent: list[Sent]) -> list[str]:
    return [one.path.split("/")[-2] for one in sent]


async def free(stage: Stage, node: str) -> bool:
    """Tell whether a node is as it was: no cordon and no mark of ours."""
    found = await stage.node(node)
    marks = found["metadata"].get("annotations") or {}
    return not found.get("spec", {}).get("unschedulable") and not any(name.startswith("responder/") for name in marks)


def said(incident: Incident) -> str:
    """Return what came of the rung that was begun last."""
    return next(run.detail for run in reversed(incident.runs) if not run.skipped)


async def lone_pod(stage: Stage, node: str, name: str = "alone", **meta: Any) -> None:
    spec = {"nodeName": node, "containers": [{"name": name, "image": "shop/api:1"}]}
    await stage.create("pods", {"metadata": {"name": name, "labels": {"app": name}, **meta}, "spec": spec})


async def test_08_a_bare_pod_blocks_and_nothing_is_evicted(stage: Stage) -> None:
    """RULES.md: DaemonSet pods stay and an emptyDir is lost, so only the bare pod blocks: named, not even cordoned; without it all goes."""
    (node, *_) = await stage.nodes()
    volume = {"volumes": [{"name": "scratch", "emptyDir": {}}]}
    await stage.serve(node_rule())
    await stage.on(node, pod=volume)
    await lone_pod(stage, node)
    await stage.until(lambda: stage.count_pods(1, "alone", ready=1), what="the bare pod runs")
    await down(stage, node)

    blocked = await stage.work("drain_blocked")

    assert f"pod {stage.namespace}/alone: nothing would make it again" in blocked.detail
    assert stage.writes() == []
    assert await free(stage, node)
    await stage.api.send("DELETE", stage.path("pods", "alone", "v1"), body={"gracePeriodSeconds": 0})
    await stage.work("recovered")
    assert len(evictions(stage)) == 2


async def test_09_a_mirror_pod_does_not_block(stage: Stage) -> None:
    """It is its node's own: it stays, and the others go."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule())
    await stage.on(node)
    await lone_pod(stage, node, "static", annotations={"kubernetes.io/config.mirror": "x"})
    await down(stage, node)

    await stage.work("recovered")

    assert len(evictions(stage)) == 2
    assert "static" in await stage.pods_on(node)


async def test_10_a_daemonsets_pod_without_its_daemonset_blocks(stage: Stage) -> None:
    """With its DaemonSet it stays; without, nothing would make it again, so it is asked about and never forced."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule())
    await stage.on(node)
    stage.standin.pinned = node
    await stage.workload("daemonsets", "agent", ready=False)
    await stage.until(lambda: _some(stage, "agent"), what="the DaemonSet has a pod")
    gone = {"kind": "DaemonSetList", "apiVersion": "apps/v1", "metadata": {}, "items": []}
    stage.wire.fault = lambda _method, path: (200, {}, gone) if path.startswith("/apis/apps/v1/daemonsets") else None
    await down(stage, node)

    blocked = await stage.work("drain_blocked")

    assert "its DaemonSet agent is gone" in blocked.detail
    assert stage.writes() == []
    stage.wire.fault = lambda _method, _path: None
    stage.standin.pinned = ""
    await stage.work("recovered")
    assert not any(name.startswith("agent") for name in names(evictions(stage)))


async def _some(stage: Stage, name: str) -> bool:
    return bool(await stage.pods(name))


async def test_11_a_dead_node_is_not_waited_for(stage: Stage) -> None:
    """Its pods are evicted at once so that others are made; no grace period of a silent kubelet is waited for."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule())
    await stage.on(node, replicas=4, pod={"terminationGracePeriodSeconds": 300})
    await down(stage, node)

    done = await stage.work("recovered")

    run = done.runs[-1]
    assert len(evictions(stage)) == 4
    assert run.ended_at is not None
    assert run.ended_at - run.started_at < timedelta(minutes=1)
    assert "is not drained: 4 pods still terminate on a dead node" in said(done)


async def test_12_terminating_pods_are_not_drained_pods(stage: Stage) -> None:
    """A StatefulSet makes no second db-0 while the first may live: nothing is proven, and people are told what still terminates."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule({**DRAIN, "within": "1m"}))
    await stage.on(node, plural="statefulsets", name="db", replicas=1)
    await down(stage, node)

    stuck = await stage.work("exhausted")

    told = " ".join(entry.text for entry in await stage.parts.store.timeline(stuck.id))
    assert f"0 of 1 ready, db-0 still terminates on node {node}" in stuck.health_detail
    assert "is not drained: 1 pods still terminate on a dead node" in told
    assert "is drained" not in told
    assert names(evictions(stage)) == ["db-0"]
    assert not await free(stage, node)


async def test_13_a_pod_bound_after_the_list_is_found_by_the_second_pass(stage: Stage) -> None:
    """It came between the plan and the cordon: planned two, evicted three."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule())
    await stage.on(node)

    async def arrives() -> None:
        stage.standin.pinned = node
        stage.standin.silent.discard(node)
        await stage.patch("deployments", "api", {"spec": {"replicas": 3}})
        await stage.until(lambda: stage.count_pods(3), what="a third pod")
        await stage.until(lambda: _on(stage, node, 3), what="it is on the node")
        stage.standin.pinned = ""
        await stage.standin.node(node, "Unknown")  # also of the new one nobody may believe that it is ready

    stage.wire.before = arrives
    await down(stage, node)

    done = await stage.work("recovered")

    assert "evict the pods of " in next(run.detail for run in (await started(stage)))
    assert len(evictions(stage)) == 3
    assert len(set(names(evictions(stage)))) == 3
    del done


async def _on(stage: Stage, node: str, count: int) -> bool:
    return len(await stage.pods_on(node)) == count


async def started(stage: Stage) -> list[Any]:
    """Return the timeline's decisions that began a rung, as something with a ``detail``."""

    class Line:
        def __init__(self, text: str) -> None:
            self.detail = text

    entries = await stage.parts.store.timeline((await stage.incident()).id)
    return [Line(one.text) for one in entries if one.reason is Reason.ALLOWED]


async def test_14_a_namespace_that_is_terminating_is_waited_for(stage: Stage) -> None:
    """The API answers 403 NamespaceTerminating: no missing permission; it is asked again until the pod is terminating or gone."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule())
    await stage.on(node)
    told: list[str] = []

    def terminating(method: str, path: str) -> Any:
        if method != "POST" or not path.endswith("/eviction") or len(told) >= 2:
            return None
        told.append(path)
        cause = {"reason": "NamespaceTerminating", "message": "namespace is being terminated"}
        body = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "forbidden", "details": {"causes": [cause]}}
        return 403, {}, body

    stage.wire.fault = terminating
    await down(stage, node)

    done = await stage.work("recovered")

    assert [one.status for one in evictions(stage)] == [403, 403, 201, 201]
    assert done.runs[-1].outcome == "done"


async def test_15_two_drains_under_one_budget_break_it_never(stage: Stage) -> None:
    """Six replicas on two nodes of two pools, one may be missing: no deadlock, and never fewer than five ready."""
    first, second, *_ = await stage.nodes(4)
    await stage.change_node(first, {"metadata": {"labels": {"agentpool": "one"}}})
    await stage.change_node(second, {"metadata": {"labels": {"agentpool": "two"}}})
    await stage.serve(node_rule(healthy=["node.ready"], hold="30s"))
    stage.limits.clear()
    stage.standin.names = [first, second]
    await stage.workload(replicas=6)
    stage.standin.names = [name for name in (await names_of(stage)) if name not in {first, second}]
    await stage.budget("api", maxUnavailable=1)
    lowest = [6]
    for name in (first, second):
        await pressure(stage, name, "True")
        await stage.alert(node=name, severity="warning")

    async def count() -> None:
        while True:
            pods = await stage.pods()
            ready = [
                one
                for pod in pods
                for one in pod["status"].get("conditions") or []
                if one["type"] == "Ready" and one["status"] == "True"
            ]
            lowest.append(len(ready))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(count())
    short = [first, second]
    for _ in range(100):
        await stage.turn()
        for name in list(short):
            if not await stage.pods_on(name):
                await pressure(stage, name, "False")
                short.remove(name)
        if not short:
            break
    watching.cancel()

    assert not await stage.pods_on(first)
    assert not await stage.pods_on(second)
    assert min(lowest) >= 5
    assert {one.status for one in evictions(stage)} == {201}


async def test_15_without_a_budget_the_last_ready_replica_is_waited_for(stage: Stage) -> None:
    """Both replicas are on the drained node and nothing protects them: the API would take both at once; one is always ready, wherever it runs."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule(healthy=["node.ready"], hold="30s"))
    await stage.on(node)
    lowest = [2]

    async def count() -> None:
        while True:
            ready = [
                pod
                for pod in await stage.pods()
                if "deletionTimestamp" not in pod["metadata"]
                and {"type": "Ready", "status": "True"}.items()
                <= next((one for one in pod["status"].get("conditions") or [] if one["type"] == "Ready"), {}).items()
            ]
            lowest.append(len(ready))
            await asyncio.sleep(0.02)

    await pressure(stage, node, "True")
    await stage.alert(node=node, severity="warning")
    watching = asyncio.create_task(count())
    await stage.work("verifying")
    watching.cancel()

    assert await stage.pods_on(node) == []
    assert len(evictions(stage)) == 2
    assert min(lowest) == 1


async def names_of(stage: Stage) -> list[str]:
    return [f"{stage.namespace}-n{number}" for number in range(4)]


async def pressure(stage: Stage, node: str, status: str) -> None:
    """Let the kubelet say that memory is short, or no longer."""
    at = stage.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "MemoryPressure", "status": status, "lastHeartbeatTime": at, "lastTransitionTime": at}
    await stage.api.send(
        "PATCH",
        f"/api/v1/nodes/{node}/status",
        body={"status": {"conditions": [condition]}},
        content_type="application/strategic-merge-patch+json",
    )


async def test_16_a_drain_that_fails_half_way_leaves_the_node_as_found(stage: Stage) -> None:
    """A budget that somebody tightens meanwhile holds the last pods: refused when the time is over, the cordon given back, the numbers on the timeline."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule({**DRAIN, "within": "1m"}, healthy=["alert.resolved"]))
    await stage.on(node, replicas=2)
    await stage.on(node, name="web", replicas=2)
    await stage.budget("web", "web", minAvailable=1)

    async def tighten() -> None:
        await stage.budget("web", "web", minAvailable=2)

    stage.wire.before = tighten
    await stage.alert(node=node)

    refused = await stage.work("budget_blocks")

    entries = await stage.parts.store.timeline(refused.id)
    assert len(evictions(stage)) == 2
    assert all(name.startswith("api") for name in names(evictions(stage)))
    assert "needs 2 healthy pods and has 2" in said(refused)
    assert any(one.reason is Reason.BUDGET_BLOCKS and "waits:" in one.text for one in entries)
    assert await free(stage, node)


async def test_08_a_budget_that_never_allows_it_evicts_nothing(stage: Stage) -> None:
    """It wants every one of its pods: nobody else's pods are moved only to wait for ever for those, and people are told at once."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule(healthy=["alert.resolved"]))
    await stage.on(node, replicas=2)
    await stage.on(node, name="web", replicas=2)
    await stage.budget("web", "web", maxUnavailable=0)
    await stage.until(lambda: _counted(stage, "web", 2), what="the budget is counted")
    await stage.alert(node=node)

    waiting = await stage.work("drain_blocked", most=timedelta(minutes=2))

    assert "budget web wants 2 of 2 pods healthy: no eviction is ever allowed" in waiting.detail
    assert stage.writes() == []
    assert await free(stage, node)


async def _counted(stage: Stage, name: str, desired: int) -> bool:
    return int((await stage.get("poddisruptionbudgets", name, "policy/v1"))["status"].get("desiredHealthy", 0)) == desired


async def test_16_a_cordon_of_an_administrator_stays(stage: Stage) -> None:
    """RULES.md: a cordon by others is foreign activity: nothing is begun, and nothing of theirs is lifted."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule())
    await stage.on(node)
    await stage.change_node(node, {"spec": {"unschedulable": True}})
    await down(stage, node)

    waiting = await stage.work("foreign_activity")
    await stage.go_on(timedelta(minutes=2))

    assert "somebody else cordoned it" in waiting.detail
    assert stage.writes() == []
    assert (await stage.node(node))["spec"]["unschedulable"] is True


async def test_17_a_long_grace_period_is_given_its_time(stage: Stage) -> None:
    """Three minutes of grace in a rung of one: the rung gets five, and the pod ends by itself after two."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule({**DRAIN, "within": "1m"}, healthy=["alert.resolved"]))
    await stage.on(node, pod={"terminationGracePeriodSeconds": 180})
    slow = (await stage.pods())[0]["metadata"]["name"]
    stage.standin.held.add(slow)
    beat, began = stage.clock.slept, stage.clock.now()

    async def ends_after_two_minutes() -> None:
        assert beat is not None
        await beat()
        if stage.clock.now() - began > timedelta(minutes=2, seconds=30):
            stage.standin.held.clear()

    stage.clock.slept = ends_after_two_minutes
    await stage.alert(node=node)

    done = await stage.work("verifying", "exhausted")

    run = done.runs[-1]
    assert run.outcome == "done"
    assert "is drained" in said(done)
    assert run.ended_at is not None
    assert timedelta(minutes=1, seconds=30) < run.ended_at - run.started_at < timedelta(minutes=5)


async def test_18_the_responders_own_pod_goes_last_and_the_ladder_goes_on_elsewhere(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is evicted when nothing else is left there; the replica that takes over finds the rest by looking, and evicts nothing again."""
    (node, *_) = await stage.nodes()
    await stage.on(node, replicas=4)
    own = min(pod["metadata"]["name"] for pod in await stage.pods())
    monkeypatch.setenv("RESPONDER_POD", f"{stage.namespace}/{own}")
    await stage.serve(node_rule())
    await down(stage, node)

    async def after(sent: Sent) -> None:
        if own in sent.path:
            await die(stage)

    stage.wire.after = after

    done = await stage.work("recovered")

    assert names(evictions(stage))[-1] == own
    assert len(evictions(stage)) == 4
    assert done.runs[-1].outcome == "done"


async def die(stage: Stage) -> None:
    """Let the process that is at work die on the spot, as by kill -9, and another take over when its lease is over."""
    for task in asyncio.all_tasks():
        if task.get_name().startswith("incident "):
            task.cancel()
    parts = stage._workers[0]._parts
    stage._workers[:] = [Worker(parts, owner=f"replica {len(stage.writes())}")]


@pytest.fixture
async def nine(stage: Stage) -> str:
    """Nine pods on a node whose kubelet has fallen silent."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule())
    await stage.on(node, replicas=9)
    return node


async def test_a_drain_that_is_killed_after_each_of_nine_evictions_evicts_nine_pods(stage: Stage, nine: str) -> None:
    """Nine deaths in one drain: each successor finds what was done by looking; no pod is evicted twice, and the cordon is set once."""
    died: list[str] = []

    async def after(sent: Sent) -> None:
        if sent.path.endswith("/eviction") and sent.status == 201:
            died.append(sent.path)
            await die(stage)

    stage.wire.after = after
    await down(stage, nine)

    done = await stage.work("recovered")

    assert len(died) == 9
    assert [one.status for one in evictions(stage)] == [201] * 9
    assert len(set(names(evictions(stage)))) == 9
    assert (
        sum(
            one.body["spec"].get("unschedulable") is True
            for one in stage.writes()
            if isinstance(one.body, dict) and "spec" in one.body
        )
        == 1
    )
    assert done.runs[-1].outcome == "done"


async def at_the_fifth(stage: Stage, then: Callable[[], Awaitable[None]]) -> None:
    """Do something when the fifth eviction was accepted."""

    async def after(_sent: Sent) -> None:
        if len(evictions(stage)) == 5 and stage.wire.after is after:
            stage.wire.after = None
            await then()

    stage.wire.after = after


async def test_the_kill_switch_at_the_fifth_eviction_leaves_no_tenth_write(stage: Stage, nine: str) -> None:
    """Nothing more is written, giving back included; the debt is listed. Armed again, the drain goes on with the other four."""
    store = stage.parts.store

    async def switch(mode: Mode) -> None:
        await store.set_mode(ModeRow(scope="global", mode=mode, by="person-1", at=stage.clock.now()))

    async def off() -> None:
        await switch(Mode.OFF)

    await at_the_fifth(stage, off)
    await down(stage, nine)

    stopped = await stage.work("kill_switch")
    await stage.go_on(timedelta(minutes=1))

    assert len(stage.writes()) == 6
    assert not await free(stage, nine)
    assert [one.change.field for one in await store.owed(incident=stopped.id)] == ["spec.unschedulable"] * 2
    await switch(Mode.ARMED)
    await stage.work("recovered")
    assert len(set(names(evictions(stage)))) == len(evictions(stage)) == 9
    assert await free(stage, nine)


async def test_a_node_that_is_ready_again_at_the_fifth_eviction_keeps_the_other_four(stage: Stage, nine: str) -> None:
    """Stop, healthy again: no sixth eviction; the cordon is given back, and recovery is proven before it is said."""

    async def back() -> None:
        await stage.standin.node(nine)

    before = set(await stage.pods_on(nine))
    await at_the_fifth(stage, back)
    await down(stage, nine)

    done = await stage.work("recovered")

    assert len(evictions(stage)) == 5
    assert len(before & set(await stage.pods_on(nine))) == 4  # once it is uncordoned, a new one may land there too
    assert done.runs[-1].outcome == "stopped"
    assert await free(stage, nine)


async def test_a_hands_off_mark_on_the_node_is_obeyed_with_its_reason(stage: Stage) -> None:
    """On the node itself, before and in the middle of a drain."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule())
    await stage.on(node, replicas=3)

    async def marked(_sent: Sent) -> None:
        if len(evictions(stage)) == 1:
            stage.wire.after = None
            await stage.change_node(node, {"metadata": {"annotations": {"responder/hands-off": "disk forensics"}}})

    stage.wire.after = marked
    await down(stage, node)

    waiting = await stage.work("hands_off")

    assert "disk forensics" in waiting.detail
    assert len(evictions(stage)) == 1
    await stage.change_node(node, {"metadata": {"annotations": {"responder/hands-off": None}}})
    with contextlib.suppress(RemoteError):
        await stage.work("recovered")
