"""Which of the events received lately say that Azure is at work itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model.incident import Instance
from responder.policy import maintenance
from responder.policy.grouping import merge
from responder.policy.maintenance import LONGEST, Part, arm_id, pool_of, touching, under_way
from responder.sources import event_grid
from tests import builders as make

SUBSCRIPTION = "/subscriptions/11112222-0000-0000-0000-000000000000"
CLUSTER = f"{SUBSCRIPTION}/resourceGroups/Prod/providers/Microsoft.ContainerService/managedClusters/aks-prod"
MACHINE = f"{SUBSCRIPTION}/resourceGroups/mc_prod/providers/Microsoft.Compute/virtualMachineScaleSets/aks-user1-23456789-vmss/virtualMachines/3"


def received(event: dict[str, Any], *, at: datetime, now: datetime = make.NOON) -> Instance:
    """Take an event in as the service does."""
    body = {"id": f"{event['eventType']}/{at.isoformat()}", "eventTime": at.isoformat(), **event}
    (alert,) = event_grid.alerts_of(body, source_name="grid", received_at=now).alerts
    return merge(None, alert, now=now)


def rolling(how: str, *, minutes: float, pool: str = "user1") -> Instance:
    event = {
        "topic": CLUSTER,
        "subject": "aks-prod",
        "eventType": f"Microsoft.ContainerService.NodePoolRolling{how}",
        "data": {"nodePoolName": pool},
    }
    return received(event, at=make.NOON + timedelta(minutes=minutes))


def planned(status: str, *, minutes: float, scheduled: float = 0.0, event_id: str = "e1") -> Instance:
    properties = {
        "eventId": event_id, "eventSource": "AutoUpgrader", "eventStatus": status, "eventDetails": "upgrade of the node image",
        "scheduledTime": (make.NOON + timedelta(minutes=scheduled)).isoformat().replace("+00:00", ".1234567Z"),
        "startTime": "0001-01-01T00:00:00.0000000Z", "resources": [CLUSTER], "resourceType": "ManagedCluster",
    }  # fmt: skip
    event = {
        "topic": SUBSCRIPTION, "subject": f"{CLUSTER}/scheduledEvents/{event_id}", "data": {"resourceInfo": {"properties": properties}},
        "eventType": "microsoft.resourcenotifications.containerserviceeventresources.scheduledeventemitted",
    }  # fmt: skip
    return received(event, at=make.NOON + timedelta(minutes=minutes))


def machine(kind: str, *, minutes: float, **properties: str) -> Instance:
    event = {
        "topic": SUBSCRIPTION, "subject": MACHINE, "eventType": f"Microsoft.ResourceNotifications.HealthResources.{kind}",
        "data": {"resourceInfo": {"properties": {"targetResourceId": MACHINE, **properties}}},
    }  # fmt: skip
    return received(event, at=make.NOON + timedelta(minutes=minutes))


def at(minutes: float) -> datetime:
    return make.NOON + timedelta(minutes=minutes)


def test_a_pool_is_rolling_until_it_is_said_to_be_over() -> None:
    """Started counts until Succeeded or Failed, whichever arrived first."""
    started, over = rolling("Started", minutes=0), rolling("Succeeded", minutes=20)

    (one,) = under_way([started], now=at(10))
    assert (one.part, one.cluster_id, one.pool) == (Part.POOL, CLUSTER.lower(), "user1")
    assert under_way([over, started], now=at(21)) == []
    assert under_way([rolling("Failed", minutes=5), started], now=at(6)) == []
    assert under_way([started, over, rolling("Started", minutes=30)], now=at(31)) != []


def test_a_lost_end_is_not_waited_for_for_ever() -> None:
    """Started alone is believed for half a day."""
    started = rolling("Started", minutes=0)

    assert under_way([started], now=at(0) + LONGEST["rolling"] - timedelta(seconds=1))
    assert not under_way([started], now=at(0) + LONGEST["rolling"])


def test_planned_maintenance_counts_from_its_time_on_and_from_its_start() -> None:
    """Not while it is only announced; from its time for an hour even when its start is not heard of; from its start until it is over."""
    announced = planned("Scheduled", minutes=-60 * 24, scheduled=0)

    assert not under_way([announced], now=at(-5))
    assert under_way([announced], now=at(5))[0].part is Part.CLUSTER
    assert not under_way([announced], now=at(61))
    begun = planned("Started", minutes=2)
    assert under_way([announced, begun], now=at(120))
    assert "upgrade of the node image" in under_way([begun], now=at(3))[0].what
    for end in ("Completed", "Canceled", "Failed"):
        assert not under_way([announced, begun, planned(end, minutes=50)], now=at(51))


def test_one_window_that_ends_does_not_end_another() -> None:
    """They are told apart by their event id."""
    found = under_way(
        [planned("Started", minutes=0), planned("Started", minutes=1, event_id="e2"), planned("Completed", minutes=2)], now=at(3)
    )

    assert len(found) == 1


def test_a_machine_that_is_rebooted_is_told_by_its_node() -> None:
    """By ``spec.providerID``, in whatever case; until it is available again, at most half an hour."""
    rebooting = machine(
        "ResourceAnnotated", minutes=0, annotationName="VirtualMachineRebootInitiatedByControlPlane", reason="Rebooted by user"
    )
    found = under_way([rebooting], now=at(5))

    node = f"azure://{MACHINE}".replace("resourceGroups", "resourcegroups")
    assert touching(found, cluster_id=CLUSTER, pool="user1", provider_id=node)
    assert not touching(found, cluster_id=CLUSTER, pool="user1", provider_id=node.replace("/3", "/4"))
    assert not touching(found, cluster_id=CLUSTER, pool="user1")
    assert found[0].pool == "user1"
    assert not under_way([rebooting, machine("AvailabilityStatusChanged", minutes=8, availabilityState="Available")], now=at(9))
    assert not under_way([rebooting], now=at(31))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"cluster_id": CLUSTER, "pool": "user1"}, {"pool", "cluster"}),
        ({"cluster_id": CLUSTER.upper(), "pool": "User1"}, {"pool", "cluster"}),
        ({"cluster_id": CLUSTER, "pool": "user2"}, {"cluster"}),
        ({"cluster_id": CLUSTER}, {"cluster"}),
        ({"cluster_id": CLUSTER, "other_pools": True}, {"pool", "cluster"}),
        ({"cluster_id": f"{CLUSTER}-2", "pool": "user1"}, set()),
        ({"cluster_id": "", "pool": "user1"}, set()),
    ],
    ids=["its pool", "in another case", "another pool", "the cluster", "the cluster with its pools", "another cluster", "a cluster without an id"],
)  # fmt: skip
def test_what_concerns_a_node_is_what_its_pool_and_its_cluster_go_through(asked: dict[str, Any], told: set[str]) -> None:
    """Another pool's rolling and another cluster's maintenance are not ours."""
    found = under_way([rolling("Started", minutes=0), planned("Started", minutes=0)], now=at(1))

    assert {"pool" if one.pool else "cluster" for one in touching(found, **asked)} == told


def test_only_events_count() -> None:
    """An alert by the same name from another sender says nothing of the kind."""
    other = make.instance(name=maintenance.ROLLING_STARTED, labels={"nodepool": "user1"})

    assert under_way([other], now=make.NOON) == []


@given(
    st.permutations(
        [
            rolling("Started", minutes=0),
            rolling("Succeeded", minutes=9),
            rolling("Started", minutes=20, pool="user2"),
            planned("Scheduled", minutes=-99),
            planned("Started", minutes=1),
            planned("Completed", minutes=30),
        ]
    )
)
def test_the_order_of_arrival_never_matters(order: list[Instance]) -> None:
    """Event Grid promises none."""
    found = under_way(order, now=at(31))

    assert [(one.part, one.pool) for one in found] == [(Part.POOL, "user2")]


def test_ids_are_read_from_what_azure_writes() -> None:
    """A node's provider id, and the pool in a scale set's name; another provider's id names no machine."""
    assert arm_id(f"azure://{MACHINE}") == MACHINE.lower()
    assert arm_id("aws:///eu-west-1a/i-0123") == ""
    assert (pool_of(MACHINE), pool_of(CLUSTER)) == ("user1", "")
