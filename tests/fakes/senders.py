"""Doubles on loopback of what senders answer when they are asked: Alertmanager's API v2, and ARM's list of alerts with its pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiohttp import web

from responder.http.server import stop_serving
from tests.builders import NOON


class _Server:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.answer: Any = None
        self.url = ""
        self._runner: web.AppRunner | None = None

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await stop_serving(self._runner)


class AlertmanagerDouble(_Server):
    """Answers as Alertmanager 0.25 does: times to the millisecond, resolved alerts left out.

    Attributes:
        alerts: By name.
        started_at: Since when it runs.
        receivers: Its receivers' names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alerts: dict[str, dict[str, Any]] = {}
        self.started_at: datetime | None = NOON - timedelta(days=1)
        self.receivers = ["responder", "null"]
        self.filters: list[str] = []
        self.tokens: list[str] = []

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v2/status", self._status),
            web.get("/api/v2/receivers", self._receivers),
            web.get("/api/v2/alerts", self._alerts),
        ]

    def fire(
        self,
        name: str,
        *,
        starts_at: str = "2026-01-05T11:58:00.123456789Z",
        state: str = "active",
        receiver: str = "responder",
        **labels: str,
    ) -> dict[str, Any]:
        """Let an alert fire; return it as the webhook would say it."""
        said = {"alertname": name, "namespace": "shop", **labels}
        at = starts_at[:23] + "Z" if "." in starts_at else starts_at
        self.alerts[name] = {
            "labels": said, "annotations": {"summary": name}, "startsAt": at, "endsAt": "2026-01-05T12:10:00.000Z", "updatedAt": at,
            "fingerprint": "0123456789abcdef", "receivers": [{"name": receiver}], "generatorURL": "http://prometheus/x",
            "status": {"state": state, "silencedBy": [], "inhibitedBy": []},
        }  # fmt: skip
        return {
            "status": "firing", "labels": said, "annotations": {"summary": name}, "startsAt": starts_at, "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus/x",
        }  # fmt: skip

    async def _said(self, request: web.Request, body: Any) -> web.Response:
        self.asked.append(request.path)
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.status != 200:
            return web.Response(status=self.status, text="broken")
        return web.json_response(body if self.answer is None else self.answer)

    async def _status(self, request: web.Request) -> web.Response:
        up = self.started_at.isoformat().replace("+00:00", "Z") if self.started_at else ""
        return await self._said(request, {"uptime": up, "cluster": {"status": "ready", "peers": []}})

    async def _receivers(self, request: web.Request) -> web.Response:
        return await self._said(request, [{"name": one} for one in self.receivers])

    async def _alerts(self, request: web.Request) -> web.Response:
        self.filters = request.query.getall("filter", [])
        return await self._said(request, list(self.alerts.values()))


SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
ALERTS = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.AlertsManagement/alerts"


def azure_alert(number: int, **essentials: Any) -> dict[str, Any]:
    """Return an alert of ARM's list; keyword arguments are essentials, ``context`` its context."""
    context = essentials.pop(
        "context",
        {
            "condition": {
                "allOf": [
                    {
                        "metricName": "kube_pod_status_phase",
                        "metricValue": 3,
                        "dimensions": [{"name": "namespace", "value": "shop"}],
                    }
                ]
            }
        },
    )
    said = {
        "severity": "Sev1", "signalType": "Metric", "alertState": "New", "monitorCondition": "Fired", "monitorService": "Platform",
        "targetResource": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/prod/providers/Microsoft.ContainerService/managedClusters/aks-prod",
        "alertRule": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/prod/providers/microsoft.insights/metricAlerts/pods%20failing",
        "startDateTime": "2026-01-05T11:30:00.1234567Z", "lastModifiedDateTime": "2026-01-05T11:31:00Z",
        "actionStatus": {"isSuppressed": False}, "description": "pods fail",
    }  # fmt: skip
    return {
        "id": f"{ALERTS}/{number:08d}-0000-0000-0000-000000000000",
        "name": "pods failing",
        "type": "Microsoft.AlertsManagement/alerts",
        "properties": {"essentials": {**said, **essentials}, "context": context},
    }


class AzureAlertsDouble(_Server):
    """ARM's list of alerts, ``page`` alerts a page, and each by its id.

    Attributes:
        alerts: All of them, fired and resolved.
        broken_page: The page (from 0) that answers 500; None for none.
        next_link: What to answer instead of the next page's address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alerts: list[dict[str, Any]] = []
        self.page = 2
        self.broken_page: int | None = None
        self.next_link = ""
        self.by_id_status = 200
        self.queries: list[Mapping[str, str]] = []

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/subscriptions/{subscription}/providers/Microsoft.AlertsManagement/alerts", self._list),
            web.get("/subscriptions/{subscription}/providers/microsoft.alertsmanagement/alerts/{id}", self._one),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        if request.headers.get("Authorization") != "Bearer arm-token":
            return web.json_response({"error": {"code": "InvalidAuthenticationToken"}}, status=401)
        if self.status != 200:
            return web.json_response({"error": {"code": "AuthorizationFailed"}}, status=self.status)
        place = int(request.query.get("skip", "0"))
        if not place:
            self.queries.append(dict(request.query))
        if self.broken_page is not None and place // self.page == self.broken_page:
            return web.Response(status=500)
        fired = [one for one in self.alerts if one["properties"]["essentials"]["monitorCondition"] == "Fired"]
        answer: dict[str, Any] = {"value": fired[place : place + self.page]}
        if place + self.page < len(fired):
            answer["nextLink"] = self.next_link or f"{self.url}{request.path}?skip={place + self.page}"
        return web.json_response(answer if self.answer is None else self.answer)

    async def _one(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.by_id_status != 200:
            return web.Response(status=self.by_id_status)
        for one in self.alerts:
            if one["id"].lower() == request.path:
                return web.json_response(one)
        return web.json_response({"error": {"code": "NotFound"}}, status=404)


class Tokens:
    """An identity that gives one token, or none."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.scopes: list[str] = []

    async def token(self, scope: str) -> str:
        self.scopes.append(scope)
        if self.error is not None:
            raise self.error
        return "arm-token"


def now() -> datetime:
    return datetime.now(tz=UTC)
