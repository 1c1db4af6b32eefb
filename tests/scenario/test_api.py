"""What senders and people meet at the door."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from yarl import URL

from responder.model.errors import StoreUnavailableError
from responder.web.openapi import OPENAPI
from tests.scenario.conftest import World

PATH = "/v1/alerts/alertmanager/prometheus"
GOOD = {"version": "4", "alerts": []}


@pytest.mark.parametrize(
    ("method", "path", "token", "raw", "status"),
    [
        ("POST", PATH, "all", b"{not json", 400),
        ("POST", PATH, "all", b"", 400),
        ("POST", PATH, "all", b"\xff\xfe", 400),
        ("POST", PATH, "", b"{}", 401),
        ("POST", PATH, "wrong", b"{}", 401),
        ("POST", PATH, "viewer", b"{}", 403),
        ("POST", "/v1/alerts/alertmanager/other", "sender", b"{}", 403),
        ("GET", PATH, "all", None, 405),
        ("PUT", PATH, "all", b"{}", 405),
        ("POST", PATH, "all", b'"' + b"x" * (1 << 20) + b'"', 413),
        ("POST", "/v1/alerts/nagios/x", "all", b"{}", 404),
        ("GET", "/v1/incidents", "sender", None, 403),
        ("GET", "/v1/incidents/inc-nobody", "all", None, 404),
        ("GET", "/v1/nothing", "all", None, 404),
        ("POST", "/v1/incidents/inc-nobody/acknowledge", "viewer", b"{}", 403),
    ],
    ids=[
        "not JSON", "empty", "not text", "no token", "wrong token", "no role", "another source", "GET", "PUT", "too large", "unknown format",
        "a sender may not look", "no such incident", "no such path", "a viewer may not acknowledge",
    ],
)  # fmt: skip
async def test_a_refusal_says_what_was_wrong(
    world: World, method: str, path: str, token: str, raw: bytes | None, status: int
) -> None:
    """Every refusal is JSON with what and what to do, and nothing is stored."""
    await world.start()

    code, body, headers = await world.call(method, path, token=token, raw=raw)

    assert code == status
    assert body["error"]["what"]
    if status == 405:
        assert "POST" in headers["Allow"] or path != PATH
    assert await world.parts.store.backlog() == 0


async def test_what_is_not_understood_is_kept_listed_and_answered_202(world: World) -> None:
    """Valid JSON of any shape: stored, flagged."""
    await world.start()
    for body in ([1, 2], {"who": "knows"}, "text", None, 7):
        code, _, _ = await world.call("POST", PATH, raw=__import__("json").dumps(body).encode())
        assert code == 202

    async def listed() -> bool:
        _, found, _ = await world.call("GET", "/v1/deliveries?state=not_understood")
        return len(found["deliveries"]) == 5

    await world.until(listed)
    _, found, _ = await world.call("GET", "/v1/deliveries?state=not_understood")
    assert all(one["note"] for one in found["deliveries"])


async def test_a_store_that_is_down_is_503_with_retry_after(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders repeat 503; readiness stays green, and it works again afterwards."""
    await world.start()
    runner = world.parts.store.runner
    real = runner.run

    async def down(*_arguments: object) -> object:
        raise StoreUnavailableError("disk full")

    monkeypatch.setattr(runner, "run", down)
    code, body, headers = await world.call("POST", PATH, GOOD)
    ready, _, _ = await world.call("GET", "/readyz")
    monkeypatch.setattr(runner, "run", real)

    assert (code, headers["Retry-After"], ready) == (503, "5", 200)
    assert "nothing was stored" in body["error"]["do"]
    assert (await world.call("POST", PATH, GOOD))[0] == 202


async def test_the_secret_of_a_plain_webhook_may_stand_in_the_query(world: World) -> None:
    """An action group without Entra can send nothing else; nowhere but here."""
    await world.start()

    assert (await world.call("POST", f"{PATH}?token=sender", GOOD, token=""))[0] == 202
    assert (await world.call("GET", "/v1/incidents?token=all", token=""))[0] == 401


@pytest.mark.parametrize("path", [PATH, "/v1/alerts/alertmanager/prom%65theus", "/v1/alerts/%61lertmanager/prometheus"])
async def test_a_door_is_the_same_however_its_path_is_written(world: World, path: str) -> None:
    """A plain path is known at sight, any other is routed; who calls, what is refused and what is stored is the same."""
    await world.start()

    async def post(token: str, raw: bytes) -> int:
        url, headers = URL(f"{world.parts.url}{path}", encoded=True), {"Authorization": f"Bearer {token}"}
        async with world.session.post(url, data=raw, headers=headers) as response:
            return response.status

    answers = [await post(*one) for one in (("wrong", b"{}"), ("viewer", b"{}"), ("all", b"{"), ("all", b"{}"), ("all", b"{}"))]

    assert answers == [401, 403, 400, 202, 202]
    (stored,) = await world.parts.store.deliveries(state=None, limit=10)
    assert (stored.source, stored.source_name) == ("alertmanager", "prometheus")
    _, metrics, _ = await world.call("GET", "/metrics", token="")
    assert 'responder_deliveries_total{source="alertmanager",state="accepted"} 1.0' in metrics
    assert 'responder_deliveries_total{source="alertmanager",state="repeated"} 1.0' in metrics
    assert 'responder_deliveries_refused_total{status="401"} 1.0' in metrics


async def test_an_action_groups_test_is_recorded_and_never_acted_on(world: World) -> None:
    """It is listed as a test alert and opens nothing."""
    await world.start()
    alert_id = "/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.AlertsManagement/alerts/12345678-1234-1234-1234-1234567890ab"
    essentials = {
        "alertId": alert_id,
        "alertRule": "test-metricAlertRule",
        "monitoringService": "Platform",
        "monitorCondition": "Fired",
        "severity": "Sev0",
    }
    body = {"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": essentials, "alertContext": {}}}
    assert (await world.call("POST", "/v1/alerts/azure-monitor/ag", body))[0] == 202

    async def listed() -> bool:
        _, found, _ = await world.call("GET", "/v1/alerts?why=test_alert")
        return len(found["alerts"]) == 1

    await world.until(listed)
    assert await world.incidents() == []


async def test_explain_says_for_each_rule_why_it_matched_or_not(world: World) -> None:
    """With the target, how it was found, and what would follow."""
    await world.start()
    world.cluster.deployment("shop", "api", image="x")
    one = {
        "status": "firing",
        "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop", "deployment": "api"},
        "startsAt": "2026-11-24T10:00:00Z",
    }

    code, found, _ = await world.call("POST", "/v1/explain", {"version": "4", "alerts": [one]})

    rules = {row["rule"]: row for row in found["alerts"][0]["rules"]}
    assert code == 200
    assert (rules["pod-crash-loop"]["matched"], rules["pod-crash-loop"]["mode"]) == (True, "armed")
    assert rules["pod-crash-loop"]["target"] == "workload/shop/api"
    assert not rules["service-endpoints"]["matched"]
    assert "TargetDown" in str(rules["service-endpoints"]["why"])
    assert await world.incidents() == []


async def test_explain_foretells_what_the_router_then_does(world: World) -> None:
    """A rule with a target that does not exist is no case for the backstop: people are paged; a Resolved opens nothing; a ``for`` is waited for."""
    await world.start()
    firing = {
        "status": "firing",
        "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop", "deployment": "gone"},
        "startsAt": "2026-11-24T10:00:00Z",
    }
    ended = {**firing, "status": "resolved", "endsAt": "2026-11-24T10:05:00Z"}

    _, found, _ = await world.call("POST", "/v1/explain", {"version": "4", "alerts": [firing, ended]})
    told, over = (one["outcome"] for one in found["alerts"])
    await world.call("POST", "/v1/alerts/alertmanager/prometheus", {"version": "4", "alerts": [firing]})
    incident = await world.reaches("waiting")

    assert incident.unresolved
    assert f"joins or opens {incident.key}, asked first: pod-crash-loop" in told
    assert "no target resolves: evidence and a page target_unresolved, nothing is done" in told
    assert "backstop" not in told
    assert over.startswith("a Resolved opens nothing")


async def test_the_acknowledge_page_changes_nothing_by_being_opened(world: World) -> None:
    """Chat programs open links; the button is a POST from our own page."""
    await world.start()
    await world.alert("KubePodCrashLooping", namespace="shop")
    incident = await world.reaches("waiting")
    path = f"/incidents/{incident.id}/acknowledge"
    code, page, _ = await world.call("GET", path)
    before = (await world.only()).escalation.acknowledged_by
    async with world.session.post(
        f"{world.parts.url}{path}", headers={"Authorization": "Bearer all", "Origin": "https://evil.example"}
    ) as response:
        foreign = response.status
    pressed, after_page, _ = await world.call("POST", path)

    async def acknowledged() -> bool:
        return (await world.only()).escalation.acknowledged_by == "ana"

    await world.until(acknowledged)
    assert (code, before, foreign, pressed) == (200, "", 403, 200)
    assert '<form method="post">' in page
    assert "ana has it" in after_page


async def test_pages_show_the_incident(world: World) -> None:
    """The list, the report, and the Markdown report."""
    await world.start()
    await world.alert("KubePodCrashLooping", namespace="shop")
    incident = await world.reaches("waiting")

    for path in ("/", f"/incidents/{incident.id}", f"/v1/incidents/{incident.id}/report"):
        code, text, headers = await world.call("GET", path)
        assert code == 200
        assert incident.id in text
        assert headers["Content-Type"].startswith(("text/html", "text/markdown"))
    assert (await world.call("GET", "/", token=""))[0] == 401


async def test_metrics_and_health_need_no_token(world: World) -> None:
    """Probes and Prometheus."""
    await world.start()

    code, text, _ = await world.call("GET", "/metrics", token="")

    assert code == 200
    assert 'responder_rungs_total{outcome="done"} 0.0' in text
    assert (await world.call("GET", "/healthz", token=""))[0] == 200


async def test_the_openapi_document_names_every_route(world: World) -> None:
    """By hand, and compared."""
    await world.start()
    served = {
        resource.canonical
        for resource in world.parts.server._runner.app.router.resources()
        if resource.canonical.startswith(("/v1", "/openapi", "/healthz", "/readyz", "/metrics"))
    }

    assert {path.replace("{what:acknowledge|approve|reject|pause|resume|close|note}", "{what}") for path in served} == set(
        OPENAPI["paths"]
    )


async def test_secrets_are_nowhere_in_the_store(world: World) -> None:
    """Neither tokens nor channel URLs."""
    await world.start()
    await world.alert("KubePodCrashLooping", namespace="shop")
    await world.until(lambda: len(world.pagerduty.received) == 1)
    await asyncio.sleep(0.2)
    await world.stop()
    kept = b"".join(path.read_bytes() for path in Path(world.folder).glob("responder.sqlite*"))

    assert b"k" * 32 not in kept
    assert b"powerautomate" not in kept


async def test_the_kill_switch_of_a_cluster_that_does_not_exist_is_refused(world: World) -> None:
    """Whoever mistypes the cluster at night must not read that it is off: nothing was switched, and the names are said."""
    await world.start()

    code, body, _ = await world.call("PUT", "/v1/mode", body={"mode": "off", "cluster": "aks-pord"})

    assert code == 404
    assert "nothing was switched" in body["error"]["what"]
    assert ", ".join(sorted(world.parts.settings.clusters)) in body["error"]["do"]
    assert await world.parts.store.modes() == []


@pytest.mark.parametrize("path", ["/v1/incidents/inc-nobody", "/v1/incidents/inc-nobody/report", "/incidents/inc-nobody"])
async def test_an_incident_that_is_not_there_is_said_to_be_none(world: World, path: str) -> None:
    """Not a path that is not served: an id that was mistyped, or one long forgotten."""
    await world.start()

    code, body, _ = await world.call("GET", path)

    assert code == 404
    assert body["error"]["what"] == "there is no incident inc-nobody"


async def test_the_dashboard_says_that_the_kill_switch_is_off(world: World) -> None:
    """Who looks at night why nothing is done must see who switched it off, and why."""
    await world.start()

    assert "switched to" not in (await world.call("GET", "/"))[1]
    await world.call("PUT", "/v1/mode", body={"mode": "off", "why": "a <b>drill</b>"})
    page = (await world.call("GET", "/"))[1]

    assert "global is switched to <b>off</b> by" in page
    assert "a &lt;b&gt;drill&lt;/b&gt;" in page
    await world.call("PUT", "/v1/mode", body={"mode": "armed"})
    assert "switched to" not in (await world.call("GET", "/"))[1]
