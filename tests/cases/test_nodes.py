"""Nodes that are dead, cut off, flapping, replaced, or somebody else's: A16 cases 19 to 25, 59 and 60."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from responder.model.errors import RemoteError
from responder.model.reason import Reason
from responder.model.target import Target, TargetKind
from responder.policy.guards import control_plane_doubt
from tests.cases.stage import CLUSTER, Stage
from tests.cases.standin import NODES
from tests.cases.test_drains import DRAIN, die, down, free, node_rule, pressure
from tests.cases.test_evictions import evictions
from tests.cases.wire import Sent

OUT = {"do": "node.out_of_service", "within": "5m"}
OTHERS = [
    {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
    {"key": "example.org/quiet", "effect": "PreferNoSchedule"},
]


async def taints(stage: Stage, node: str) -> list[str]:
    found = (await stage.node(node)).get("spec", {}).get("taints") or []
    return [one["key"] for one in found]


async def test_19_a_partitioned_node_is_not_a_dead_one(stage: Stage) -> None:
    """Its kubelet is silent, its machine runs: the StatefulSet's pod may live, so nothing is forced and a person is paged."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule(OUT))
    stage.machines("running")
    await stage.on(node, plural="statefulsets", name="db", replicas=1)
    await down(stage, node)

    refused = await stage.work("machine_not_off")

    assert "its machine is running: no proof that it is off" in refused.detail
    assert stage.writes() == []


async def test_20_out_of_service_on_a_ready_node_is_refused(stage: Stage) -> None:
    """Whatever the cloud says of the machine: the kubelet talks."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule(OUT, healthy=["alert.resolved"]))
    stage.machines("stopped")
    await stage.on(node)
    await stage.alert(node=node)

    refused = await stage.work("machine_not_off")

    assert "Ready is True: its kubelet still talks" in refused.detail
    assert stage.writes() == []


async def let_go(stage: Stage, node: str) -> None:
    """Do what Kubernetes does with the pods of a node that is out of service: end them (PodGC)."""
    for pod in (await stage.get("pods", api="v1"))["items"]:
        if pod["spec"].get("nodeName") == node:
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
            await stage.api.send("DELETE", stage.path("pods", pod["metadata"]["name"], "v1"), body=body)


@pytest.mark.parametrize("dies", [False, True], ids=["alive", "killed after the taint"])
async def test_21_the_taint_is_removed_also_after_a_crash(stage: Stage, dies: bool) -> None:
    """With proof that the machine is off: added, the StatefulSet's pod made anew elsewhere, removed; by a successor if need be."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule(OUT))
    stage.machines("stopped")
    await stage.on(node, plural="statefulsets", name="db", replicas=1)

    async def after(sent: Sent) -> None:
        if isinstance(sent.body, dict) and "taints" in sent.body.get("spec", {}):
            stage.wire.after = None
            await let_go(stage, node)
            if dies:
                await die(stage)

    stage.wire.after = after
    await down(stage, node)

    await stage.work("recovered")

    assert "node.kubernetes.io/out-of-service" not in await taints(stage, node)
    assert await free(stage, node)
    assert len(stage.writes()) == 2
    assert (await stage.pods("db"))[0]["spec"]["nodeName"] != node


async def test_21_a_taint_that_is_left_over_is_given_back_when_the_rung_ends_otherwise(stage: Stage) -> None:
    """Nothing lets go of the pods, so the rung's time is over: refused, and the taint does not stay."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule({**OUT, "within": "1m"}))
    stage.machines("stopped")
    await stage.on(node, plural="statefulsets", name="db", replicas=1)
    await down(stage, node)
    stage.standin.held.add("db-0")
    await stage.patch("pods", "db-0", {"metadata": {"finalizers": ["example.org/hold"]}}, "v1")

    await stage.work("drain_blocked")

    assert "node.kubernetes.io/out-of-service" not in await taints(stage, node)
    assert await free(stage, node)
    await stage.api.send(
        "PATCH",
        stage.path("pods", "db-0", "v1"),
        body={"metadata": {"finalizers": None}},
        content_type="application/merge-patch+json",
    )


async def test_59_taints_of_others_are_kept(stage: Stage) -> None:
    """A strategic merge of ``spec.taints`` would wipe them: a guarded list is written, and exactly ours is removed."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule(OUT))
    stage.machines("deleted")
    await stage.on(node)
    await stage.change_node(node, {"spec": {"taints": OTHERS}})

    async def after(sent: Sent) -> None:
        if isinstance(sent.body, dict) and "taints" in sent.body.get("spec", {}):
            stage.wire.after = None
            await let_go(stage, node)

    stage.wire.after = after
    await down(stage, node)

    await stage.work("recovered")

    kept = (await stage.node(node))["spec"]["taints"]
    assert all(one in [{name: taint[name] for name in one} for taint in kept if taint["key"] == one["key"]] for one in OTHERS)
    assert "node.kubernetes.io/out-of-service" not in await taints(stage, node)
    assert stage.writes()[0].body["metadata"]["resourceVersion"]


async def all_down(stage: Stage, nodes: Sequence[str]) -> None:
    for name in nodes:
        await stage.standin.node(name, "Unknown")


async def test_22_when_all_nodes_look_dead_it_is_not_the_machines(stage: Stage) -> None:
    """Frozen: no write and no recovery, also when the taints vanish as they do in that mode; one parent has it, and a person is paged."""
    mine = await stage.nodes(2)
    await stage.serve(node_rule())
    await stage.workload()
    await all_down(stage, [*NODES, *mine])
    await stage.alert(node=mine[0])
    for _ in range(8):
        await stage.turn(timedelta(seconds=15))

    await stage.change_node(mine[0], {"spec": {"taints": None}})
    for _ in range(40):
        await stage.turn(timedelta(seconds=15))

    found = await stage.incidents()
    snap = await stage.parts.views[CLUSTER].snapshot(Target(kind=TargetKind.NODE, cluster=CLUSTER, name=mine[0]))
    assert stage.writes() == []
    assert {str(one.reason) for one in found} <= {"storm", "control_plane_doubt", "unhealthy_nodes"}
    assert not {str(one.phase) for one in found} & {"recovered", "closed", "verifying", "acting"}
    assert [one.escalation.paged_at is not None for one in found].count(True) == 1
    assert control_plane_doubt(snap).reason is Reason.CONTROL_PLANE_DOUBT


async def test_23_three_of_five_nodes_are_a_storm(stage: Stage) -> None:
    """Above the floor nothing is done to any of them."""
    mine = await stage.nodes(2)
    await stage.serve(node_rule())
    await stage.workload()
    await all_down(stage, [*mine, NODES[0]])
    await stage.alert(node=mine[0])

    for _ in range(40):
        await stage.turn()

    found = await stage.incidents()
    reasons = {str(one.reason) for one in found}
    assert reasons & {"unhealthy_nodes", "control_plane_doubt", "storm"}
    assert stage.writes() == []


async def test_24_a_node_that_flaps_is_remedied_once(stage: Stage) -> None:
    """Silent and back every minute: its pods are moved once; then people are told, and nothing is done again."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule(hold="3m"))
    await stage.on(node)
    await down(stage, node)

    for turn in range(12):
        for _ in range(4):
            await stage.turn(timedelta(seconds=15))
        await stage.standin.node(node, "True" if turn % 2 == 0 else "Unknown")

    cordons = [one for one in stage.writes() if isinstance(one.body, dict) and one.body.get("spec", {}).get("unschedulable")]
    incident = await stage.incident()
    assert len(cordons) == 1
    assert len(evictions(stage)) == 2
    assert len([run for run in incident.runs if run.counted and not run.skipped]) == 1


async def test_25_a_node_that_is_replaced_under_another_name_closes_its_incident(stage: Stage) -> None:
    """Its machine is gone and another one came: proven by the workloads it carried, and no ladder is left over."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule({**DRAIN, "when": 'facts.node_ready == "False"'}, reopen_within="1m"))
    await stage.on(node)
    await down(stage, node)
    await stage.turn()
    await stage.api.send("DELETE", f"/api/v1/nodes/{node}")
    await let_go(stage, node)
    new = f"{stage.namespace}-n9"
    await stage.standin.node(new)
    stage.standin.names = [*stage.standin.names, new]

    over = await stage.work("recovered")

    assert f"node {node}, which is gone" in over.health_detail
    assert stage.writes() == []
    await stage.alert(node=node, status="resolved")
    closed = await stage.work("closed", most=timedelta(minutes=10))
    assert closed.reason is Reason.QUIET


WORKERS = ["auto-repair", "quarantined", "autoscaler", "lease"]


@pytest.mark.parametrize("who", WORKERS)
async def test_60_a_node_that_somebody_else_repairs_is_left_to_them(stage: Stage, who: str) -> None:
    """AKS auto-repair, an upgrade that quarantined it, the cluster autoscaler, a holder of its Lease: waited for, nothing written."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule())
    await stage.on(node)
    undo: Any = None
    if who == "auto-repair":
        await stage.repair(node, "NodeRebootStart")
    elif who == "quarantined":
        await stage.change_node(node, {"metadata": {"labels": {"kubernetes.azure.com/upgrade-status": "Quarantined"}}})
    elif who == "autoscaler":
        await stage.change_node(node, {"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}})
    else:
        undo = await hold_lease(stage, node)
    await down(stage, node)

    waiting = await stage.work("foreign_activity")
    await stage.go_on(timedelta(minutes=1))

    words = {"auto-repair": "auto-repair", "quarantined": "Quarantined", "autoscaler": "autoscaler", "lease": "holds its Lease"}
    assert words[who] in waiting.detail
    assert stage.writes() == []
    if who == "auto-repair":
        stage.clock.forward(timedelta(seconds=5))
        await stage.repair(node, "NodeRebootEnd")
        await stage.work("recovered")
        assert len(evictions(stage)) == 2
    if undo:
        await stage.api.send("DELETE", undo)


async def hold_lease(stage: Stage, node: str) -> str:
    """Let another actor hold the medik8s Lease of a node; return its path."""
    path = "/apis/coordination.k8s.io/v1/namespaces/medik8s-leases/leases"
    with contextlib.suppress(RemoteError):  # it is there already
        await stage.api.send("POST", "/api/v1/namespaces", body={"metadata": {"name": "medik8s-leases"}})
    at = stage.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    spec = {"holderIdentity": "self-node-remediation", "leaseDurationSeconds": 3600, "renewTime": at, "acquireTime": at}
    await stage.api.send("POST", path, body={"metadata": {"name": f"node-{node}", "namespace": "medik8s-leases"}, "spec": spec})
    return f"{path}/node-{node}"


async def test_a_node_under_pressure_is_cordoned_and_given_back_at_recovery(stage: Stage) -> None:
    """As the shipped rule's first rung: no new pods while memory is short; when the kubelet says that it is over, the cordon is lifted."""
    (node, *_) = await stage.nodes()
    await stage.serve(node_rule("node.cordon", healthy=["node.ready"], when="size(facts.pressure) > 0"))
    await stage.on(node)
    await pressure(stage, node, "True")
    await stage.alert(node=node)

    await stage.work("verifying")
    cordoned = not await free(stage, node)
    await pressure(stage, node, "False")
    await stage.work("recovered")

    assert cordoned
    assert await free(stage, node)
