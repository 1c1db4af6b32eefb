"""Facts, checks and guards from the cloud and from our own probe: two opinions that never fill in for each other."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from responder.model.cloud import CloudSnapshot, Life, MachineSnapshot, MaintenanceSnapshot, OperationSnapshot, PoolSnapshot
from responder.model.cluster import ComponentSnapshot, NodeDetail, NodeSnapshot, ReachSnapshot, Snapshot
from responder.model.health import Health, Ruling
from responder.model.reason import Reason
from responder.model.target import Target, TargetKind
from responder.policy import guards
from responder.policy.cloud_facts import Fitting, fitting_pools, unsized_pools
from responder.policy.facts import facts_of
from tests import builders as make

NODE = Target(kind=TargetKind.NODE, cluster="prod", name="n3")
CLUSTER = Target(kind=TargetKind.CLUSTER, cluster="prod", name="prod")
WORK = PoolSnapshot(name="work", count=2, size="Standard_D4s_v5")
GPU = PoolSnapshot(name="gpu", count=1, taints=("sku=gpu:NoSchedule",), labels={"accelerator": "nvidia"})
SYSTEM = PoolSnapshot(name="system", mode="System", count=3, taints=("CriticalAddonsOnly=true:NoSchedule",))
ROOM = {name: {"cpu": 3.5, "memory": 8.0, "pods": 100.0} for name in ("work", "gpu", "system")}
READY = NodeSnapshot(name="n1", ready="True", pool="work")
DOWN = NodeSnapshot(name="n3", ready="Unknown", pool="work")


def cloud(**changes: Any) -> CloudSnapshot:
    values: dict[str, Any] = {
        "read_at": make.NOON,
        "provisioning_state": "Succeeded",
        "power_state": "Running",
        "pools": (SYSTEM, WORK, GPU),
    }
    return CloudSnapshot(**{**values, **changes})


def node(**changes: Any) -> Snapshot:
    values: dict[str, Any] = {
        "target": NODE,
        "read_at": make.NOON,
        "node": NodeDetail(node=DOWN),
        "nodes": (READY, DOWN),
        "cloud": cloud(),
        "pool": "work",
    }
    return Snapshot(**{**values, **changes})


def cluster(answers: bool | None, **changes: Any) -> Snapshot:
    components = changes.pop("components", ())
    reach = ReachSnapshot(answers=answers, said="as it is", hosts_responder=changes.pop("hosts", False), components=components)
    return Snapshot(**{"target": CLUSTER, "read_at": make.NOON, "reach": reach, "cloud": cloud(), **changes})


def judged(name: str, snapshot: Snapshot | None, **arguments: Any) -> Health:
    check = make.CATALOGUE.checks[name]
    return check.judge(snapshot, arguments, instances=(), firing=(), now=make.NOON).health


# --- facts


def test_a_silent_api_is_one_fact_and_a_stopped_cluster_another() -> None:
    """Either may be so without the other."""
    silent, _ = facts_of(cluster(answers=False), now=make.NOON)
    stopped, _ = facts_of(cluster(answers=True, cloud=cloud(power_state="Stopped")), now=make.NOON)

    assert (silent["api"], silent["power_state"]) == (False, "Running")
    assert (stopped["api"], stopped["power_state"]) == (True, "Stopped")


def test_in_doubt_the_api_is_no_fact() -> None:
    """Missing is unknown, and unknown is no permission."""
    facts, none = facts_of(cluster(answers=None), now=make.NOON)

    assert "api" not in facts
    assert "api" not in none


def test_an_arm_that_was_not_read_gives_no_facts_and_no_none() -> None:
    """``has()`` is false only where the source was read."""
    facts, none = facts_of(cluster(answers=False, cloud=None, gaps={"cloud": "no answer"}), now=make.NOON)

    assert not {"power_state", "provisioning_state", "operation", "health"} & set(facts)
    assert "operation_age" not in none


def test_an_operation_in_progress_has_a_name_and_an_age() -> None:
    """None in progress is "", and its age is none."""
    busy = OperationSnapshot(name="Upgrading", began_at=make.NOON - timedelta(hours=2))

    facts, _ = facts_of(cluster(answers=False, cloud=cloud(operation=busy)), now=make.NOON)
    calm, none = facts_of(cluster(answers=False), now=make.NOON)

    assert (facts["operation"], facts["operation_age"]) == ("Upgrading", timedelta(hours=2))
    assert calm["operation"] == ""
    assert "operation_age" in none


def test_a_nodes_pool_comes_from_its_machine() -> None:
    """ARM's list by resource id, not the name of the node."""
    machine = MachineSnapshot(resource_id="/vm/3", name="m3", pool="gpu", life=Life.RUNNING)

    facts, _ = facts_of(node(cloud=cloud(machine=machine)), now=make.NOON)

    assert (facts["pool"], facts["pool_count"], facts["pool_autoscaled"]) == ("gpu", 1, False)


def with_spec(**spec: Any) -> Any:
    return replace(make.snapshot().workload, template={"spec": spec})  # type: ignore[type-var]


AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "accelerator", "operator": "Exists"}]}]
        }
    }
}
TOLERATES = [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({}, ["work"]),
        ({"tolerations": TOLERATES}, ["work", "gpu"]),
        ({"tolerations": TOLERATES, "affinity": AFFINITY}, ["gpu"]),
        ({"nodeSelector": {"agentpool": "gpu"}}, []),
        ({"nodeSelector": {"kubernetes.azure.com/mode": "system"}, "tolerations": [{"operator": "Exists"}]}, ["system"]),
        ({"nodeSelector": {"team": "nobody"}}, []),
    ],
)
def test_a_pool_fits_by_labels_and_taints(spec: dict[str, Any], fits: list[str]) -> None:
    """System pools only where no User pool does."""
    assert list(fitting_pools(with_spec(**spec), (SYSTEM, WORK, GPU), ROOM).pools) == fits


@pytest.mark.parametrize(
    "changes",
    [{"provisioning_state": "Upgrading"}, {"power_state": "Stopped"}, {"autoscaled": True, "maximum": 2}],
)
def test_a_pool_that_cannot_grow_fits_nothing(changes: dict[str, Any]) -> None:
    """At work, stopped, or at its maximum."""
    assert fitting_pools(with_spec(), (replace(WORK, **changes),), ROOM) == Fitting(())


def homeless(*requests: dict[str, float], room: dict[str, dict[str, float]], **spec: Any) -> Snapshot:
    pods = tuple(
        make.pod(f"p{number}", phase="Pending", scheduled=False, scheduling_reason="Unschedulable", ready=False, requests=one)
        for number, one in enumerate(requests)
    )
    return replace(make.snapshot(), workload=replace(with_spec(**spec), pods=pods), machine_room=room, cloud=cloud())


@pytest.mark.parametrize(
    ("requests", "fits"),
    [
        ({"cpu": 3.0, "memory": 8.0}, "work"),
        ({"cpu": 3.6}, None),
        ({"nvidia.com/gpu": 1.0}, None),
    ],
)
def test_a_pool_whose_machines_are_too_small_is_not_scaled(requests: dict[str, float], fits: str | None) -> None:
    """What runs on every machine is not room; a resource that no machine of the pool has is none."""
    facts, none = facts_of(homeless(requests, room=ROOM), now=make.NOON)

    assert (facts.get("fits_pool"), "fits_pool" in none) == (fits, fits is None)


def test_one_pending_pod_that_fits_is_worth_a_machine() -> None:
    """A larger one beside it is not helped, and not harmed."""
    assert fitting_pools(homeless({"cpu": 9.0}, {"cpu": 1.0}, room=ROOM).workload, (WORK,), ROOM) == Fitting(("work",))  # type: ignore[arg-type]


def test_an_empty_pool_is_neither_a_fit_nor_none() -> None:
    """No node shows how large its machines are: unknown, so the rung waits and a person is told which pool it is about."""
    alone = homeless({"cpu": 1.0}, room={"system": {"cpu": 9.0, "pods": 9.0}})
    beside = homeless({"cpu": 1.0}, room=ROOM, tolerations=TOLERATES)
    beside = replace(beside, machine_room={"work": ROOM["work"]})

    facts, none = facts_of(alone, now=make.NOON)
    assert ("fits_pool" in facts, "fits_pool" in none) == (False, False)
    assert unsized_pools(alone) == ("work",)
    assert "fits_pool" in facts_of(beside, now=make.NOON)[1], "two that may: none is chosen"


# --- checks


@pytest.mark.parametrize(
    ("snapshot", "health"),
    [
        (node(nodes=(READY, replace(READY, name="n2"))), Health.HEALTHY),
        (node(), Health.UNHEALTHY),
        (node(cloud=cloud(pools=(replace(WORK, provisioning_state="Scaling", count=1),))), Health.UNHEALTHY),
        (node(gone=True, node=None, nodes=(READY, replace(READY, name="n4"))), Health.HEALTHY),
        (node(gone=True, node=None, pool=""), Health.UNKNOWN),
        (node(cloud=None, gaps={"cloud": "no answer"}), Health.UNKNOWN),
        (node(cloud=None), Health.HEALTHY),
        (node(gaps={"nodes": "403"}), Health.UNKNOWN),
        (None, Health.UNKNOWN),
    ],
)
def test_a_pool_is_at_its_count_when_so_many_nodes_are_ready(snapshot: Snapshot | None, health: Health) -> None:
    """What ARM or the cluster does not say is unknown; a cluster without ARM has no pool to judge."""
    assert judged("node_pool.at_count", snapshot) is health


@pytest.mark.parametrize(("answers", "health"), [(True, Health.HEALTHY), (False, Health.UNHEALTHY), (None, Health.UNKNOWN)])
def test_a_cluster_is_reachable_when_it_answers_us(answers: bool | None, health: Health) -> None:
    """In doubt it is unknown; another cluster is not read from here."""
    assert judged("cluster.reachable", cluster(answers)) is health
    assert judged("cluster.reachable", cluster(answers), cluster="standby") is Health.UNKNOWN


@pytest.mark.parametrize(
    ("components", "health"),
    [
        ((), Health.HEALTHY),
        (None, Health.UNKNOWN),
        ((ComponentSnapshot(name="a", health="healthy"),), Health.HEALTHY),
        ((ComponentSnapshot(name="a", health="healthy"), ComponentSnapshot(name="b", health="unknown")), Health.UNKNOWN),
        ((ComponentSnapshot(name="a", health="unknown"), ComponentSnapshot(name="b", health="unhealthy")), Health.UNHEALTHY),
    ],
)
def test_components_are_green_when_every_check_is(components: tuple[ComponentSnapshot, ...] | None, health: Health) -> None:
    """One unhealthy is unhealthy, else one unknown is unknown."""
    assert judged("components.green", cluster(answers=True, components=components)) is health


# --- guards


def test_the_cluster_that_hosts_us_is_never_acted_on_as_a_cluster() -> None:
    """By configuration or by what was seen; its nodes and workloads may be."""
    by_name = guards.own_cluster(CLUSTER, home="prod", snapshot=None, actions=("cluster.start",))
    by_sight = guards.own_cluster(CLUSTER, home="", snapshot=cluster(answers=False, hosts=True), actions=("cluster.reconcile",))
    elsewhere = guards.own_cluster(CLUSTER, home="other", snapshot=cluster(answers=False), actions=("cluster.start",))
    unseen = guards.own_cluster(CLUSTER, home="", snapshot=cluster(answers=False, hosts=None), actions=("cluster.start",))
    node_there = guards.own_cluster(NODE, home="prod", snapshot=None, actions=("node.drain",))

    assert {one.reason for one in (by_name, by_sight, unseen)} == {Reason.OWN_CLUSTER}
    assert "home.cluster" in unseen.detail, "not known is no permission"
    assert (elsewhere.ruling, node_there.ruling) == (Ruling.ALLOW, Ruling.ALLOW)


@pytest.mark.parametrize(
    ("snapshot", "ruling"),
    [
        (node(), Ruling.ALLOW),
        (node(cloud=cloud(operation=OperationSnapshot(name="Upgrading"))), Ruling.REFUSE),
        (node(cloud=cloud(operation=OperationSnapshot(name="Upgrading", on="work"))), Ruling.REFUSE),
        (node(cloud=cloud(operation=OperationSnapshot(name="Scaling", on="gpu"))), Ruling.ALLOW),
        (
            node(cloud=cloud(provisioning_state="Upgrading", operation=OperationSnapshot(name="Upgrading", on="gpu"))),
            Ruling.REFUSE,
        ),
        (
            node(
                cloud=cloud(
                    pools=(replace(GPU, provisioning_state="Upgrading"), replace(WORK, provisioning_state="Upgrading")),
                    operation=OperationSnapshot(name="Upgrading", on="gpu"),
                )
            ),
            Ruling.REFUSE,
        ),
        (node(cloud=None, gaps={"cloud": "no answer"}), Ruling.UNKNOWN),
        (node(cloud=None), Ruling.ALLOW),
    ],
)
def test_a_node_is_left_alone_while_aks_is_at_work_on_it(snapshot: Snapshot, ruling: Ruling) -> None:
    """An upgrade of the cluster or of its own pool, also while another pool is at work first; where ARM is silent nobody knows."""
    assert guards.cloud_activity(snapshot, actions=("node.drain",)).ruling is ruling
    assert guards.cloud_activity(snapshot, actions=("pod.delete",)).ruling is Ruling.ALLOW


OPEN = MaintenanceSnapshot(
    name="aksManagedAutoUpgradeSchedule",
    says="nightly",
    windows=((make.NOON - timedelta(hours=1), make.NOON + timedelta(hours=3)),),
)
UNREAD = {"maintenance": "does not have authorization"}


@pytest.mark.parametrize(
    ("changes", "actions", "grade", "ruling"),
    [
        ({"maintenance": (OPEN,)}, ("cluster.abort_operation",), 4, Ruling.REFUSE),
        ({"maintenance": (OPEN,)}, ("cluster.reconcile",), 4, Ruling.REFUSE),
        ({"maintenance": (OPEN,)}, ("node_pool.delete_machine", "node_pool.scale"), 4, Ruling.REFUSE),
        ({"maintenance": (OPEN,)}, ("node_pool.scale",), 3, Ruling.ALLOW),
        ({"maintenance": (OPEN,)}, ("node.drain",), 3, Ruling.ALLOW),
        ({"maintenance": (OPEN,), "power_state": "Stopped"}, ("cluster.start",), 4, Ruling.ALLOW),
        (
            {"maintenance": (OPEN,), "operation": OperationSnapshot(name="Upgrading", ours=True)},
            ("cluster.abort_operation",), 4, Ruling.ALLOW,
        ),
        ({"maintenance": (OPEN,), "operation": OperationSnapshot(name="Upgrading")}, ("cluster.abort_operation",), 4, Ruling.REFUSE),
        ({"maintenance": (replace(OPEN, windows=()),)}, ("cluster.reconcile",), 4, Ruling.ALLOW),
        ({"maintenance": (replace(OPEN, windows=None),)}, ("cluster.reconcile",), 4, Ruling.UNKNOWN),
        ({"gaps": UNREAD}, ("cluster.reconcile",), 4, Ruling.UNKNOWN),
        ({"gaps": UNREAD}, ("node_pool.scale",), 3, Ruling.ALLOW),
        ({}, ("cluster.reconcile",), 4, Ruling.ALLOW),
    ],
)  # fmt: skip
def test_what_cannot_be_undone_waits_for_the_end_of_a_maintenance_window(
    changes: dict[str, Any], actions: tuple[str, ...], grade: int, ruling: Ruling
) -> None:
    """Grades 4 and 5 of ARM alone; not read and not understood are unknown, never permission."""
    snapshot = cluster(answers=False, cloud=cloud(**changes))

    found = guards.maintenance_window(guards.Limits(), snapshot, grade=grade, actions=actions, now=make.NOON)
    off = guards.maintenance_window(
        guards.Limits(maintenance_windows=False), snapshot, grade=grade, actions=actions, now=make.NOON
    )

    assert found.ruling is ruling
    assert off.ruling is Ruling.ALLOW
    if ruling is Ruling.REFUSE:
        assert found.reason is Reason.FOREIGN_ACTIVITY
        assert f"aksManagedAutoUpgradeSchedule is open until {make.NOON + timedelta(hours=3):%Y-%m-%d %H:%M} UTC" in found.detail
