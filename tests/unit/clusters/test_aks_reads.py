"""ARM's documents in our words: whose the operation at work is, as the activity log tells it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from responder.clusters.aks import reads
from responder.model.cloud import OperationSnapshot

CLUSTER = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/prod"
OURS = "our-client-id"
UPGRADE = "Microsoft.ContainerService/managedClusters/write"
CREDENTIAL = "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action"
RUN = "Microsoft.ContainerService/managedClusters/runCommand/action"
POOL = "Microsoft.ContainerService/managedClusters/agentPools/write"


def event(minute: int, operation: str, *, by: str, number: str, status: str = "Started", on: str = "") -> dict[str, Any]:
    return {
        "eventTimestamp": f"2026-11-25T01:{minute:02}:00Z",
        "caller": by,
        "resourceId": CLUSTER.upper() + on,
        "operationName": {"value": operation},
        "status": {"value": status},
        "correlationId": number,
        "claims": {"appid": by},
    }


def began(*events: dict[str, Any], on: str = "") -> OperationSnapshot | None:
    busy = OperationSnapshot(name="Upgrading", on=on)
    return reads.began(busy, {"value": list(events)}, CLUSTER, ours=OURS)


@pytest.mark.parametrize("ours", [CREDENTIAL, RUN])
def test_what_we_asked_meanwhile_does_not_make_somebodys_upgrade_ours(ours: str) -> None:
    """Asking for credentials and running a command are in the log under our name, open for a while; aborting is free only for what we began."""
    found = began(event(1, UPGRADE, by="ana", number="1"), event(9, ours, by=OURS, number="2"))

    assert found is not None
    assert (found.by, found.ours, found.id) == ("ana", False, "1")
    assert found.began_at == datetime(2026, 11, 25, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("on", ["/providers/Microsoft.Insights/diagnosticSettings/logs", "2", "/agentPools/other"])
def test_work_on_another_resource_is_not_the_operation_that_is_meant(on: str) -> None:
    """What hangs on the cluster, another cluster whose name begins alike, and another pool."""
    found = began(
        event(1, POOL, by="ana", number="1", on="/agentPools/work"), event(9, POOL, by=OURS, number="2", on=on), on="work"
    )

    assert found is not None
    assert (found.by, found.ours) == ("ana", False)


def test_our_own_operation_on_the_pool_is_ours() -> None:
    """It began when it was first accepted; one that ended is none."""
    found = began(
        event(1, POOL, by="ana", number="1", on="/agentPools/work"),
        event(2, POOL, by="ana", number="1", on="/agentPools/work", status="Succeeded"),
        event(3, POOL, by=OURS, number="2", on="/agentPools/work"),
        event(4, POOL, by=OURS, number="2", on="/agentPools/work", status="Accepted"),
        on="work",
    )

    assert found is not None
    assert (found.ours, found.exact) == (True, True)
    assert found.began_at == datetime(2026, 11, 25, 1, 3, tzinfo=UTC)
