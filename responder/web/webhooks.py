"""The doors that senders knock at: ``POST /v1/alerts/{format}/{name}``, and Event Grid's two handshakes.

Here: who may post what where, and what a handshake is answered. Never here: understanding alerts (the router does that later, from the store).

A handshake is answered only for a configured name, a configured topic and a known origin (protocols.md 3.5), and nothing is ever fetched for it: the
``validationUrl`` and ``WebHook-Request-Callback`` that a request names are addresses that a stranger chose.

The decision a reader would question: a validation request is stored like a delivery before it is answered 200. Its alert is marked as a test and stops at
the router; so a person who sets up a subscription sees that it came, and an installation that cannot store does not promise to take events.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Protocol

import msgspec
from aiohttp import web

from responder.http.auth import Authentication, Caller, Role
from responder.http.errors import error_middleware, refusal
from responder.model.alert import SourceKind
from responder.model.errors import MalformedError, NotPermittedError, OversizeError, UnauthenticatedError
from responder.policy.entitlement import below
from responder.service.intake import Intake
from responder.sources import event_grid
from responder.sources.service_bus.message import Message
from responder.telemetry import Metrics, logger

FORMATS = (SourceKind.ALERTMANAGER, SourceKind.AZURE_MONITOR, SourceKind.EVENT_GRID)
"""Formats that are posted."""

ORIGIN = "WebHook-Request-Origin"
ALLOWED_RATE = "*"
"""No rate is asked to be kept: what cannot be taken is told 503. Source: CloudEvents' HTTP webhook 4.2."""


class RecognisesCallers(Protocol):
    """Tells who calls a source: ``http.entra``."""

    async def caller(self, request: web.Request) -> Caller:
        """Return who calls.

        Raises:
            UnauthenticatedError, NotPermittedError: Nobody who may.
            KeysUnavailableError: It cannot be told now.
        """


_DOOR = re.compile(r"/v1/alerts/([a-z_-]+)/([A-Za-z0-9._~-]+)").fullmatch
"""A door's path without anything that must be decoded."""

_STORED, _REPEATED = b'{"accepted": true, "repeat": false}', b'{"accepted": true, "repeat": true}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A configured sender that calls us.

    Attributes:
        format: The only format it is served in; None for any.
        topics: For Event Grid: lower-cased ARM ids that handshakes are answered for.
        origins: Who is allowed to send CloudEvents.
        entra: Recognises callers by tokens that Entra ID signed; no other token is taken then. None where plain ones are.
    """

    format: SourceKind | None = None
    topics: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    entra: RecognisesCallers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookParts:
    """What the doors work with. ``doors``: by source name; one that is not there is taken as it comes, but for Event Grid's."""

    intake: Intake
    authentication: Authentication
    metrics: Metrics
    delivered: Callable[[], None]
    doors: Mapping[str, Door] = field(default_factory=dict)


class Webhooks:
    """Serves the doors."""

    def __init__(self, parts: WebhookParts) -> None:
        self._parts = parts
        self._translate = error_middleware(parts.metrics)
        self._count = cache(parts.metrics.deliveries.labels)  # of a closed set: only formats that are served are counted

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/v1/alerts/{source}/{name}", self.accept),
            web.options("/v1/alerts/{source}/{name}", self.permit),
        ]

    async def accept(self, request: web.Request) -> web.Response:
        """POST /v1/alerts/{source}/{name}: 202 once it is durable; 200 with the code for Event Grid's validation."""
        return await self._accept(request, request.match_info["source"], request.match_info["name"])

    def first(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse] | None:
        """Return the answer to a plain POST at a door, for ``http.server``: what senders send most of all is not looked for among forty routes."""
        if request.method != "POST" or not isinstance(request, web.Request) or "Expect" in request.headers:
            return None
        found = _DOOR(request.rel_url.raw_path)
        if found is None:
            return None
        return self._translate(request, partial(self._accept, source=found[1], name=found[2]))

    async def _accept(self, request: web.Request, source: str, name: str) -> web.Response:
        began = asyncio.get_running_loop().time()
        caller = await self._sender(request, name)
        if caller is None:
            return _may_not_send(name)
        missing = self._missing(source, name)
        if missing is not None:
            return missing
        if request.content_length is not None and request.content_length > self._parts.intake.largest:
            raise OversizeError(f"the body has {request.content_length} bytes; at most {self._parts.intake.largest} are taken")
        body = await request.read()
        code = ""
        if source == SourceKind.EVENT_GRID:
            body = _structured(request, body)
            asked = _validation(body)
            if asked is not None:
                topic, code = asked
                if not below(topic, self._parts.doors[name].topics):
                    logger().warning("subscription_refused", source=name, topic=topic, why="not one of its topics")
                    return refusal(
                        403,
                        f"no subscription of topic {topic or '(none)'} is wanted by {name}",
                        f"name it in sources.{name}.topics",
                    )
        stored = await self._parts.intake.accept(
            source=source,
            source_name=name,
            body=body,
            sender=caller.name,
            headers=request.headers,
        )
        self._count(source, "accepted" if stored else "repeated").inc()
        self._parts.metrics.accept_seconds.observe(asyncio.get_running_loop().time() - began)
        self._parts.delivered()
        if code:
            logger().info("subscription_validated", source=name, by=caller.name)
            return web.json_response({"validationResponse": code})
        return web.Response(body=_STORED if stored else _REPEATED, status=202, content_type="application/json")

    async def permit(self, request: web.Request) -> web.Response:
        """OPTIONS /v1/alerts/event-grid/{name}: CloudEvents' abuse protection; the answer is the permission, no callback is called."""
        source, name = request.match_info["source"], request.match_info["name"]
        if source != SourceKind.EVENT_GRID:
            raise web.HTTPMethodNotAllowed("OPTIONS", ["POST"])
        door = self._parts.doors.get(name)
        signed = door is not None and door.entra is not None
        # The specification leaves it open whether this request bears a token. The permission lets nobody send: each event's own token is checked.
        unproven = signed and "Authorization" not in request.headers
        if not unproven and await self._sender(request, name) is None:
            return _may_not_send(name)
        missing = self._missing(source, name)
        if missing is not None:
            return missing
        origin = request.headers.get(ORIGIN, "").strip().lower()
        if origin not in self._parts.doors[name].origins:
            logger().warning("subscription_refused", source=name, origin=origin[:200], why="not one of its origins")
            return refusal(
                403,
                f"{origin[:200] or 'nobody'} may not send CloudEvents to {name}",
                f"name the origin in sources.{name}.origins",
            )
        logger().info("subscription_validated", source=name, by=origin)
        return web.Response(
            status=200,
            headers={"Allow": "POST, OPTIONS", "WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": ALLOWED_RATE},
        )

    async def _sender(self, request: web.Request, name: str) -> Caller | None:
        """Return who calls, or None when they may not send as this source.

        Raises:
            UnauthenticatedError: Nobody we know.
            NotPermittedError: Known to Entra ID, and not among those who may send here.
            KeysUnavailableError: It cannot be told now.
        """
        door = self._parts.doors.get(name)
        if door is not None and door.entra is not None:
            try:
                return await door.entra.caller(request)
            except (UnauthenticatedError, NotPermittedError) as error:
                logger().warning("token_refused", source=name, why=str(error))
                raise
        caller = self._parts.authentication.caller(request, query=True)
        allowed = Role.SEND in caller.roles and (not caller.sources or name in caller.sources)
        return caller if allowed else None

    def _missing(self, source: str, name: str) -> web.Response | None:
        """Return why there is no such door; None when there is."""
        if source not in FORMATS:
            return refusal(404, f"there is no source {source}", f"use {', '.join(FORMATS)}")
        door = self._parts.doors.get(name)
        if door is None:
            if source == SourceKind.EVENT_GRID:
                return refusal(
                    404, f"no Event Grid source {name} is configured", f"add sources.{name}: {{kind: event_grid, topics: […]}}"
                )
            return None
        if source == SourceKind.EVENT_GRID and not door.topics:
            return refusal(404, f"source {name} is not Event Grid's", f"give sources.{name} kind: event_grid and its topics")
        if door.format is not None and door.format != source:
            return refusal(404, f"source {name} sends {door.format}", f"post to /v1/alerts/{door.format}/{name}")
        return None


def _may_not_send(name: str) -> web.Response:
    return refusal(403, f"this token may not send as {name}", "give the token the role send for this source")


def _structured(request: web.Request, body: bytes) -> bytes:
    """Return a binary CloudEvent (attributes in ``ce-*`` headers) in its structured form; any other body as it is.

    Raises:
        MalformedError: It has no form in JSON.
    """
    if "ce-type" not in request.headers:
        return body
    headers = {key.lower(): value for key, value in request.headers.items()}
    return Message(entity="", body=body, sequence=0, content_type=headers.get("content-type", ""), properties=headers).json()


def _validation(body: bytes) -> tuple[str, str] | None:
    """Return topic and code of a validation request; told by its body, as the header ``aeg-event-type`` can be lost in a proxy."""
    try:
        return event_grid.validation(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise MalformedError(f"the body is not JSON: {problem}") from problem
