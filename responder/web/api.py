"""The JSON API. Source of paths: ARCHITECTURE.md "The outside"."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from responder import __version__
from responder.http.auth import Authentication, Caller, Role
from responder.http.errors import NoIncidentError, error_middleware, refusal
from responder.model.alert import SourceKind
from responder.model.errors import RemoteError, StoreUnavailableError
from responder.model.incident import Incident, Mode, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.storing import DeliveryState, ModeRow, Replica
from responder.ports import Clock, Store
from responder.service.doctor import Doctor
from responder.service.explain import Explainer
from responder.service.intake import Intake
from responder.service.report import Reporter
from responder.service.rulebook import Rulebook
from responder.service.switches import GLOBAL, cluster_scope
from responder.telemetry import Metrics, logger
from responder.web import pages, webhooks
from responder.web.openapi import OPENAPI

READY_STORE_WITHIN = timedelta(seconds=2)

_SIGNALS = {
    "acknowledge": (SignalKind.ACKNOWLEDGED, Role.OPERATE),
    "approve": (SignalKind.APPROVED, Role.APPROVE),
    "reject": (SignalKind.REJECTED, Role.APPROVE),
    "pause": (SignalKind.PAUSED, Role.OPERATE),
    "resume": (SignalKind.RESUMED, Role.OPERATE),
    "close": (SignalKind.CLOSED, Role.OPERATE),
    "note": (SignalKind.NOTED, Role.OPERATE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """What the API works with. ``doors``: what is expected of senders that call us, by source name. ``clusters``: names of those configured."""

    store: Store
    clock: Clock
    intake: Intake
    rulebook: Rulebook
    explainer: Explainer
    reporter: Reporter
    authentication: Authentication
    metrics: Metrics
    poke: Callable[[], None]
    delivered: Callable[[], None]
    undo: Callable[[str], Awaitable[Sequence[str]]]
    doctor: Doctor
    replicas: Callable[[], Sequence[Replica]] = tuple
    doors: Mapping[str, webhooks.Door] = field(default_factory=dict)
    clusters: Collection[str] = ()
    sped_up: float = 1.0


class Api:
    """Serves the API. ``application()`` returns what the server runs."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._webhooks = webhooks.Webhooks(
            webhooks.WebhookParts(
                intake=parts.intake,
                authentication=parts.authentication,
                metrics=parts.metrics,
                delivered=parts.delivered,
                doors=parts.doors,
            )
        )

    def first(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse] | None:
        """Return the answer to what is known at sight; see ``http.server``."""
        return self._webhooks.first(request)

    def application(self) -> web.Application:
        """Return the application with every route."""
        app = web.Application(middlewares=[error_middleware(self._parts.metrics)], client_max_size=self._parts.intake.largest + 1)
        app.add_routes(
            [
                *self._webhooks.routes(),
                web.get("/v1/alerts", self.alerts),
                web.get("/v1/deliveries", self.deliveries),
                web.get("/v1/sources", self.sources),
                web.get("/v1/incidents", self.incidents),
                web.get("/v1/incidents/{id}", self.incident),
                web.get("/v1/incidents/{id}/timeline", self.timeline),
                web.get("/v1/incidents/{id}/evidence", self.evidence),
                web.get("/v1/incidents/{id}/report", self.report),
                web.post("/v1/incidents/{id}/undo", self.undo),
                web.post("/v1/incidents/{id}/{what:acknowledge|approve|reject|pause|resume|close|note}", self.signal),
                web.post("/v1/explain", self.explain),
                web.get("/v1/rules", self.rules),
                web.get("/v1/mode", self.mode),
                web.put("/v1/mode", self.set_mode),
                web.get("/v1/changes", self.changes),
                web.get("/v1/doctor", self.doctor),
                web.post("/v1/doctor/page", self.test_page),
                web.get("/openapi.json", self.openapi),
                web.get("/healthz", self.healthz),
                web.get("/readyz", self.readyz),
                web.get("/metrics", self.metrics),
                *pages.routes(
                    pages.PageParts(
                        store=self._store,
                        reporter=self._parts.reporter,
                        caller=self._caller,
                        signal=self._signal,
                        problems=lambda: self._parts.rulebook.problems,
                    )
                ),
            ]
        )
        return app

    # --- reading

    async def alerts(self, request: web.Request) -> web.Response:
        """GET /v1/alerts?why=unmatched&firing=true."""
        self._caller(request, Role.VIEW)
        why = request.query.get("why")
        if why is not None and why not in set(Reason):
            return refusal(400, f"why={why} is no reason", "use unmatched or test_alert")
        listed = await self._store.instances(
            why=Reason(why) if why else None, firing=request.query.get("firing") == "true", limit=_limit(request)
        )
        return _json({"alerts": listed})

    async def deliveries(self, request: web.Request) -> web.Response:
        """GET /v1/deliveries?state=not_understood."""
        self._caller(request, Role.VIEW)
        state = request.query.get("state")
        if state is not None and state not in set(DeliveryState):
            return refusal(400, f"state={state} is not known", f"use one of {', '.join(DeliveryState)}")
        listed = await self._store.deliveries(state=DeliveryState(state) if state else None, limit=_limit(request))
        rows = [
            {
                "id": one.id,
                "source": one.source,
                "name": one.source_name,
                "received_at": one.received_at,
                "state": one.state,
                "shape": one.shape,
                "note": one.note,
                "tries": one.tries,
                "body": one.body.decode("utf-8", "replace"),
            }
            for one in listed
        ]
        return _json({"deliveries": rows})

    async def sources(self, request: web.Request) -> web.Response:
        """GET /v1/sources: configured senders that call us, the formats that each is served in, and whether only signed tokens are taken."""
        self._caller(request, Role.VIEW)
        plain = [one for one in webhooks.FORMATS if one is not SourceKind.EVENT_GRID]
        rows = [
            {"name": name, "formats": [door.format] if door.format is not None else plain, "signed": door.entra is not None}
            for name, door in self._parts.doors.items()
        ]
        return _json({"sources": rows})

    async def incidents(self, request: web.Request) -> web.Response:
        """GET /v1/incidents?all=true&mode=armed."""
        self._caller(request, Role.VIEW)
        mode = request.query.get("mode")
        if mode is not None and mode not in {Mode.ARMED, Mode.SHADOW}:
            return refusal(400, f"mode={mode} is not known", "use armed or shadow")
        listed = await self._store.incidents(
            unclosed=request.query.get("all") != "true", limit=_limit(request), mode=Mode(mode) if mode else None
        )
        return _json({"incidents": [self._parts.reporter.summary(one) for one in listed]})

    async def incident(self, request: web.Request) -> web.Response:
        """GET /v1/incidents/{id}."""
        self._caller(request, Role.VIEW)
        found = await self._found(request)
        return _json(
            {"incident": found, "summary": self._parts.reporter.summary(found), "alerts": await self._store.held(found.id)}
        )

    async def timeline(self, request: web.Request) -> web.Response:
        """GET /v1/incidents/{id}/timeline."""
        self._caller(request, Role.VIEW)
        found = await self._found(request)
        return _json({"timeline": await self._store.timeline(found.id)})

    async def evidence(self, request: web.Request) -> web.Response:
        """GET /v1/incidents/{id}/evidence[?item=NAME]: the list, or one item's bytes; takes the role operate."""
        self._caller(request, Role.OPERATE)
        found = await self._found(request)
        items = await self._store.evidence(found.id)
        wanted = request.query.get("item")
        if wanted is None:
            rows = [
                {
                    "name": one.name,
                    "size_bytes": len(one.content),
                    "truncated": one.truncated,
                    "problem": one.problem,
                    "taken_at": one.taken_at,
                }
                for one in items
            ]
            return _json({"evidence": rows})
        for one in items:
            if one.name == wanted:
                return web.Response(body=one.content, content_type=one.media_type)
        return refusal(404, f"{found.id} has no evidence called {wanted}", "list it without ?item=")

    async def report(self, request: web.Request) -> web.Response:
        """GET /v1/incidents/{id}/report: Markdown."""
        self._caller(request, Role.VIEW)
        found = await self._found(request)
        return web.Response(text=await self._parts.reporter.markdown(found), content_type="text/markdown", charset="utf-8")

    async def rules(self, request: web.Request) -> web.Response:
        """GET /v1/rules: those in force, and why the last load failed if it did."""
        self._caller(request, Role.VIEW)
        book = self._parts.rulebook
        rows = [
            {
                "rule": rule.name,
                "title": rule.title,
                "owner": rule.owner,
                "priority": rule.priority,
                "file": rule.file,
                "digest": rule.digest,
            }
            for rule in book.rules.values()
        ]
        return _json({"rules": rows, "loaded_at": book.loaded_at, "problems": book.problems})

    async def changes(self, request: web.Request) -> web.Response:
        """GET /v1/changes: what is not given back."""
        self._caller(request, Role.VIEW)
        return _json({"changes": await self._store.owed()})

    async def explain(self, request: web.Request) -> web.Response:
        """POST /v1/explain?source=alertmanager with a payload: what would happen, and why."""
        self._caller(request, Role.VIEW)
        body = await request.read()
        try:
            payload = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            return refusal(400, f"the body is not JSON: {error}", "post a payload as its sender sends it")
        source = request.query.get("source", "")
        if source and source not in webhooks.FORMATS:
            return refusal(400, f"source={source} is not known", f"use {', '.join(webhooks.FORMATS)}, or leave it out")
        return _json(await self._parts.explainer.explain(payload, source=SourceKind(source) if source else None))

    # --- people

    async def signal(self, request: web.Request) -> web.Response:
        """POST /v1/incidents/{id}/{acknowledge|approve|reject|pause|resume|close|note}."""
        what = request.match_info["what"]
        caller = self._caller(request, _SIGNALS[what][1])
        body = await _body(request)
        problem = await self._signal(request.match_info["id"], what, caller.name, body)
        if problem:
            return refusal(409, problem, "read the incident again")
        return web.json_response({"said": what, "incident": request.match_info["id"], "by": caller.name}, status=202)

    async def _signal(self, incident: str, what: str, by: str, body: dict[str, Any]) -> str:
        """Tell an incident something; return why it could not be told, or ""."""
        kind, _ = _SIGNALS[what]
        found = await self._store.incident(incident)
        if found is None:
            raise NoIncidentError(incident)
        if what in {"approve", "reject"}:
            if found.approval is None:
                return f"{incident} asks nothing now"
            plan = str(body.get("plan", ""))
            if plan not in {found.approval.digest, found.approval.digest[:12]}:
                return f"{incident} asks about plan {found.approval.digest[:12]} now; name it as 'plan' so that nobody approves another one unseen"
            body = {**body, "digest": plan}
        told = await self._store.signal(Signal(incident=incident, kind=kind, at=self._parts.clock.now(), by=by, body=body))
        self._parts.poke()
        return "" if told else f"{incident} is closed"

    async def undo(self, request: web.Request) -> web.Response:
        """POST /v1/incidents/{id}/undo: give back now what the incident still holds."""
        caller = self._caller(request, Role.OPERATE)
        found = await self._found(request)
        done = await self._parts.undo(found.id)
        return web.json_response({"undone": list(done), "by": caller.name})

    async def mode(self, request: web.Request) -> web.Response:
        """GET /v1/mode."""
        self._caller(request, Role.VIEW)
        return _json({"modes": await self._store.modes(), "sped_up": self._parts.sped_up})

    async def set_mode(self, request: web.Request) -> web.Response:
        """PUT /v1/mode {"mode": "off"|"shadow"|"armed", "cluster": NAME?, "why": TEXT?}: the kill switch."""
        caller = self._caller(request, Role.OPERATE)
        body = await _body(request)
        if body.get("mode") not in set(Mode):
            return refusal(400, f"mode {body.get('mode')!r} is not known", "use off, shadow or armed")
        cluster = str(body.get("cluster", ""))
        if cluster and cluster not in self._parts.clusters:
            known = ", ".join(sorted(self._parts.clusters)) or "none"
            return refusal(
                404, f"there is no cluster {cluster!r}: nothing was switched", f"clusters: in responder.yaml has {known}"
            )
        row = ModeRow(
            scope=cluster_scope(cluster) if cluster else GLOBAL,
            mode=Mode(body["mode"]),
            by=caller.name,
            at=self._parts.clock.now(),
            why=str(body.get("why", "")),
        )
        await self._store.set_mode(row)
        self._parts.poke()
        logger().warning("mode_changed", scope=row.scope, mode=row.mode, by=caller.name, why=row.why)
        return _json({"mode": row})

    async def doctor(self, request: web.Request) -> web.Response:
        """GET /v1/doctor: what was looked at and how it is; asks clusters and connects to channels, tells nobody anything."""
        self._caller(request, Role.OPERATE)
        found = await self._parts.doctor.examine()
        return _json({"well": all(one.well for one in found), "findings": found})

    async def test_page(self, request: web.Request) -> web.Response:
        """POST /v1/doctor/page {"channel": NAME}: a page that says it is a test, ended at once."""
        caller = self._caller(request, Role.OPERATE)
        channel = str((await _body(request)).get("channel", ""))
        try:
            receipt = await self._parts.doctor.page(channel, by=caller.name)
        except KeyError:
            return refusal(404, f"there is no channel {channel!r}", "name one of channels: in responder.yaml")
        except RemoteError as error:
            return refusal(
                502, f"{channel} did not take the test page: {error}", "correct its settings, or look after the network"
            )
        return _json({"channel": channel, "receipt": receipt})

    # --- the service itself

    async def openapi(self, _request: web.Request) -> web.Response:
        """GET /openapi.json."""
        return web.json_response(OPENAPI)

    async def healthz(self, _request: web.Request) -> web.Response:
        """GET /healthz: the process lives."""
        return web.json_response({"alive": True, "version": __version__})

    async def readyz(self, _request: web.Request) -> web.Response:
        """GET /readyz: rules are loaded; stays green when only the store is down (senders are told 503 themselves)."""
        store = "ok"
        try:
            async with asyncio.timeout(READY_STORE_WITHIN.total_seconds()):
                await self._store.backlog()
        except (StoreUnavailableError, TimeoutError) as error:
            store = f"down: {error}"
        ready = self._parts.rulebook.loaded_at is not None
        body = {
            "ready": ready,
            "store": store,
            "replicas": [
                {"replica": one.id, "version": one.version, "seen_at": str(one.seen_at)} for one in self._parts.replicas()
            ],
            "rules": len(self._parts.rulebook.rules),
            "rule_problems": self._parts.rulebook.problems,
        }
        return web.json_response(body, status=200 if ready else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        """GET /metrics in the exposition format."""
        return web.Response(body=generate_latest(self._parts.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _caller(self, request: web.Request, role: Role) -> Caller:
        caller = self._parts.authentication.caller(request)
        if role not in caller.roles:
            raise web.HTTPForbidden(text=f"{caller.name} lacks the role {role}")
        return caller

    async def _found(self, request: web.Request) -> Incident:
        found = await self._store.incident(request.match_info["id"])
        if found is None:
            raise NoIncidentError(request.match_info["id"])
        return found


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    if not raw:
        return {}
    try:
        body = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the body is not a JSON object")
    return body


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise web.HTTPBadRequest(text=f"limit={text}: give 1 to 1000")
    return int(text)


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _json(body: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(body, enc_hook=_plain), content_type="application/json")
