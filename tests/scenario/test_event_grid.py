"""Event Grid's webhook: both handshakes, events, and what is refused, over real HTTP."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from responder.http.server import stop_serving
from responder.model.incident import Mode
from responder.model.reason import Reason
from tests.scenario.conftest import World

OURS = "/subscriptions/00000000-0000-0000-0000-00000000000a"
THEIRS = "/subscriptions/00000000-0000-0000-0000-00000000000b"
CLUSTER = f"{OURS}/resourceGroups/prod/providers/Microsoft.ContainerService/managedClusters/aks-prod"
PATH = "/v1/alerts/event-grid/aks"


@pytest.fixture
def grid(world: World) -> World:
    world.config["sources"] = {
        "aks": {"kind": "event_grid", "topics": [OURS]},
        "group": {"kind": "azure_monitor", "subscriptions": [OURS.rsplit("/", 1)[1]]},
    }
    return world


def validation(topic: str = OURS) -> list[dict[str, Any]]:
    return [
        {
            "id": "2d1781af", "topic": topic, "subject": "", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": "2026-11-25T10:00:00.1981776Z", "metadataVersion": "1", "dataVersion": "1",
            "data": {"validationCode": "512d38b6", "validationUrl": "https://rp-eastus2.eventgrid.azure.net:553/validate?token=x"},
        }
    ]  # fmt: skip


def rolled(how: str, number: int = 1, *, topic: str = CLUSTER) -> dict[str, Any]:
    return {
        "id": f"roll-{number}", "topic": topic, "subject": "aks-prod", "eventType": f"Microsoft.ContainerService.NodePoolRolling{how}",
        "eventTime": "2026-11-25T10:00:00Z", "data": {"nodePoolName": "user1"}, "dataVersion": "1", "metadataVersion": "1",
    }  # fmt: skip


async def options(world: World, path: str = PATH, *, token: str = "all", **headers: str) -> tuple[int, Any]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        given["Authorization"] = f"Bearer {token}"
    async with world.session.options(f"{world.parts.url}{path}", headers=given) as response:
        return response.status, response.headers


async def test_a_validation_request_is_echoed_for_a_configured_topic(grid: World) -> None:
    """200 and the code; 202 would not be taken. It is listed as a test and opens nothing."""
    world = grid
    await world.start()

    code, body, _ = await world.call("POST", f"{PATH}?token=all", validation(), token="")
    single, again, _ = await world.call("POST", PATH, validation(CLUSTER.upper())[0])

    assert (code, body) == (200, {"validationResponse": "512d38b6"})
    assert (single, again) == (200, {"validationResponse": "512d38b6"})

    async def listed() -> bool:
        _, found, _ = await world.call("GET", "/v1/alerts?why=test_alert")
        return len(found["alerts"]) == 2

    await world.until(listed)
    assert await world.incidents(mode=Mode.SHADOW) == []


@pytest.mark.parametrize(
    ("path", "token", "topic", "status"),
    [
        (PATH, "all", THEIRS, 403),
        (PATH, "all", f"{OURS}0", 403),
        (PATH, "all", "", 403),
        ("/v1/alerts/event-grid/other", "all", OURS, 404),
        ("/v1/alerts/event-grid/group", "all", OURS, 404),
        (PATH, "", OURS, 401),
        (PATH, "sender", OURS, 403),
    ],
    ids=["another's topic", "a longer id", "no topic", "a name that is not configured", "a source of another kind", "no token", "a token of another source"],
)  # fmt: skip
async def test_nobody_else_attaches_a_subscription(grid: World, path: str, token: str, topic: str, status: int) -> None:
    """Neither for another topic nor at another path; and the code is not in the answer."""
    world = grid
    await world.start()

    code, body, _ = await world.call("POST", path, validation(topic), token=token)

    assert code == status
    assert "512d38b6" not in json.dumps(body)
    assert await world.parts.store.deliveries(state=None, limit=9) == []


async def test_permission_to_send_cloud_events_is_given_to_event_grid_alone(grid: World) -> None:
    """The answer is the permission: its origin and any rate; no callback is called."""
    world = grid
    await world.start()
    called: list[str] = []

    async def stranger(request: aiohttp.web.Request) -> aiohttp.web.Response:
        called.append(request.path)
        return aiohttp.web.Response()

    app = aiohttp.web.Application()
    app.router.add_route("*", "/{tail:.*}", stranger)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    callback = f"http://127.0.0.1:{runner.addresses[0][1]}/permit?id=1"

    given, headers = await options(
        world, WebHook_Request_Origin="EventGrid.azure.net", WebHook_Request_Rate="120", WebHook_Request_Callback=callback
    )
    await stop_serving(runner)

    assert (given, headers["WebHook-Allowed-Origin"], headers["WebHook-Allowed-Rate"]) == (200, "eventgrid.azure.net", "*")
    assert called == []
    assert (await options(world, WebHook_Request_Origin="evil.example"))[0] == 403
    assert (await options(world))[0] == 403
    assert (await options(world, token="", WebHook_Request_Origin="eventgrid.azure.net"))[0] == 401
    assert (await options(world, f"{PATH}?token=all", token="", WebHook_Request_Origin="eventgrid.azure.net"))[0] == 200
    assert (await options(world, "/v1/alerts/event-grid/other", WebHook_Request_Origin="eventgrid.azure.net"))[0] == 404
    refused, other = await options(world, "/v1/alerts/azure-monitor/group", WebHook_Request_Origin="eventgrid.azure.net")
    assert (refused, "WebHook-Allowed-Origin" in other) == (405, False)


async def test_a_failed_roll_opens_an_incident_and_one_that_starts_does_not(grid: World) -> None:
    """Both are kept; what starts is what the guards read as somebody else at work."""
    world = grid
    await world.start()

    assert (await world.call("POST", PATH, [rolled("Started")]))[0] == 202
    assert (await world.call("POST", PATH, [rolled("Failed", 2)]))[0] == 202

    async def opened() -> bool:
        return len(await world.incidents(mode=Mode.SHADOW)) == 1

    await world.until(opened)
    (incident,) = await world.incidents(mode=Mode.SHADOW)
    assert incident.symptom == "aks-operation-failed"
    await world.until(lambda: _count(world, 2))
    kept = await world.parts.store.events(within=world.clock.now() - world.clock.now().replace(year=2000), limit=9)
    assert {one.name.rsplit(".", 1)[1] for one in kept} == {"NodePoolRollingStarted", "NodePoolRollingFailed"}
    _, unmatched, _ = await world.call("GET", "/v1/alerts?why=unmatched")
    assert [one["labels"]["nodepool"] for one in unmatched["alerts"]] == ["user1"]


async def _count(world: World, wanted: int) -> bool:
    found = await world.parts.store.instances(why=None, firing=False, limit=99)
    return len(found) == wanted


async def test_a_cloud_event_comes_structured_or_binary(grid: World) -> None:
    """The same event is one instance by either way."""
    world = grid
    await world.start()
    event = {
        "specversion": "1.0",
        "id": "e1",
        "type": "Contoso.Broken",
        "source": CLUSTER,
        "time": "2026-11-25T10:00:00Z",
        "data": {"state": "x"},
    }
    headers = {"Authorization": "Bearer all", "Content-Type": "application/json"}
    attributes = {f"ce-{name}": str(value) for name, value in event.items() if name != "data"}

    async with world.session.post(
        f"{world.parts.url}{PATH}", data=json.dumps(event), headers={**headers, "Content-Type": "application/cloudevents+json"}
    ) as one:
        structured = one.status
    async with world.session.post(
        f"{world.parts.url}{PATH}", data=json.dumps(event["data"]), headers={**headers, **attributes}
    ) as one:
        binary = one.status
    await world.until(lambda: _counted(world, 2))

    assert (structured, binary) == (202, 202)
    (kept,) = await world.parts.store.instances(why=None, firing=False, limit=9)
    assert (kept.name, kept.labels["state"], kept.source) == ("Contoso.Broken", "x", "event-grid")


async def _counted(world: World, wanted: int) -> bool:
    return sum(one.count for one in await world.parts.store.instances(why=None, firing=False, limit=99)) == wanted


async def test_what_a_source_may_not_speak_for_is_kept_listed_and_never_acted_on(grid: World) -> None:
    """An event of another topic, and an action group's alert of another subscription: 202, because a 403 is never repeated; the delivery says why."""
    world = grid
    await world.start()
    sub = THEIRS.rsplit("/", 1)[1]
    essentials = {
        "alertId": f"/subscriptions/{sub}/providers/Microsoft.AlertsManagement/alerts/1", "alertRule": "KubePodCrashLooping", "severity": "Sev0",
        "monitorCondition": "Fired", "monitoringService": "Platform", "firedDateTime": "2026-11-25T10:00:00Z", "alertTargetIDs": [CLUSTER],
    }  # fmt: skip
    foreign = {"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": essentials, "alertContext": {}}}

    assert (await world.call("POST", PATH, [rolled("Failed", topic=THEIRS)]))[0] == 202
    assert (await world.call("POST", "/v1/alerts/azure-monitor/group", foreign))[0] == 202
    assert (await world.call("POST", "/v1/alerts/alertmanager/group", foreign))[0] == 404

    async def listed() -> bool:
        _, found, _ = await world.call("GET", "/v1/alerts?why=not_entitled")
        return len(found["alerts"]) == 2

    await world.until(listed)
    _, deliveries, _ = await world.call("GET", "/v1/deliveries")
    assert all("sources." in one["note"] for one in deliveries["deliveries"])
    assert await world.incidents() == await world.incidents(mode=Mode.SHADOW) == []


def planned(status: str, *, at: str) -> dict[str, Any]:
    properties = {
        "eventId": "e1",
        "eventStatus": status,
        "eventDetails": "node image upgrade",
        "resources": [CLUSTER],
        "resourceType": "ManagedCluster",
    }
    return {
        "specversion": "1.0", "id": f"e1-{status}", "source": OURS, "subject": f"{CLUSTER}/scheduledEvents/e1", "time": at,
        "type": "Microsoft.ResourceNotifications.ContainerServiceEventResources.ScheduledEventEmitted", "data": {"resourceInfo": {"properties": properties}},
    }  # fmt: skip


async def test_a_node_is_left_to_azure_while_it_maintains_the_cluster(grid: World) -> None:
    """Foreign activity: waited for, with Azure's words; when it is over the ladder goes on."""
    world = grid
    world.config["act"] = ["node-not-ready"]
    world.config["clusters"]["sandbox"]["resource_id"] = CLUSTER
    world.cluster.deployment("shop", "api", image="shop/api:1", replicas=3)
    await world.cluster.wait_for(lambda: world.cluster.available("shop", "api"), within=120)
    node = world.cluster.pods("shop", "api")[0]["spec"]["nodeName"]
    await world.start()
    assert (await world.call("POST", PATH, planned("Started", at=world.clock.now().isoformat())))[0] == 202
    world.cluster.silence(node)
    await world.alert("KubeNodeNotReady", node=node)

    async def waits() -> bool:
        found = await world.incidents()
        return len(found) == 1 and found[0].reason is Reason.FOREIGN_ACTIVITY

    await world.until(waits, within=90)
    waiting = await world.only()
    before = [one for one in world.cluster.writes if one.name == node]
    await world.call("POST", PATH, planned("Completed", at=world.clock.now().isoformat()))
    await world.until(lambda: [one for one in world.cluster.writes if one.name == node], within=90)

    assert str(waiting.target) == f"node/{node}"
    assert "AKS maintenance has begun" in waiting.detail
    assert "node image upgrade" in waiting.detail
    assert before == []
