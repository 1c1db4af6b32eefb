"""Receivers of pages on loopback: PagerDuty Events v2, a Teams Workflows webhook, any webhook. Source: protocols.md 4.1 and 5."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from responder.http.server import stop_serving


@dataclass(slots=True)
class Trouble:
    """What is wrong with a receiver. ``status``: answer everything with it; 0 for none."""

    status: int = 0
    retry_after: int = 0
    hang: bool = False


class _Receiver:
    """A receiver on loopback; keeps everything it accepted."""

    path = "/"

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.attempts = 0
        self.trouble = Trouble()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Start to listen."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post(self.path, self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}{self.path}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop."""
        self.trouble.hang = False
        if self._runner is not None:
            await stop_serving(self._runner)

    async def _handle(self, request: web.Request) -> web.Response:
        self.attempts += 1
        while self.trouble.hang:
            await asyncio.sleep(0.05)
        if self.trouble.status:
            headers = {"Retry-After": str(self.trouble.retry_after)} if self.trouble.retry_after else {}
            return web.json_response({"status": "in trouble"}, status=self.trouble.status, headers=headers)
        raw = await request.read()
        try:
            body = json.loads(raw)
        except ValueError:
            return web.json_response({"status": "invalid event", "errors": ["not JSON"]}, status=400)
        return self.accept(body, len(raw))

    def accept(self, body: dict[str, Any], size: int) -> web.Response:
        """Take one body."""
        del size
        self.received.append(body)
        return web.json_response({"ok": True})

    async def wait_for(self, holds: Callable[[], bool], *, within: float = 10.0) -> None:
        """Wait until something holds, in real seconds.

        Raises:
            TimeoutError: It did not.
        """
        async with asyncio.timeout(within):
            while not holds():
                await asyncio.sleep(0.02)


@dataclass(slots=True)
class PagerDutyIncident:
    """An incident as PagerDuty would keep it."""

    dedup_key: str
    events: list[dict[str, Any]] = field(default_factory=list)
    open: bool = True
    acknowledged: bool = False


class PagerDutyReceiver(_Receiver):
    """PagerDuty Events v2: validates, deduplicates, and knows which incidents are open."""

    path = "/v2/enqueue"

    def __init__(self) -> None:
        super().__init__()
        self.incidents: list[PagerDutyIncident] = []

    def accept(self, body: dict[str, Any], size: int) -> web.Response:
        """Take one event as PagerDuty does."""
        problems = _event_problems(body, size)
        if problems:
            return web.json_response(
                {"status": "invalid event", "message": "Event object is invalid", "errors": problems}, status=400
            )
        self.received.append(body)
        key = body.get("dedup_key") or f"generated-{len(self.received)}"
        found = next((one for one in self.incidents if one.open and one.dedup_key == key), None)
        action = body["event_action"]
        if action == "trigger" and found is None:
            found = PagerDutyIncident(dedup_key=key)
            self.incidents.append(found)
        if found is not None:
            found.events.append(body)
            found.open = action != "resolve"
            found.acknowledged = found.acknowledged or action == "acknowledge"
        return web.json_response({"status": "success", "message": "Event processed", "dedup_key": key}, status=202)


def _event_problems(body: dict[str, Any], size: int) -> list[str]:
    problems = []
    if len(str(body.get("routing_key", ""))) != 32:
        problems.append("'routing_key' is missing or has an invalid length")
    if body.get("event_action") not in {"trigger", "acknowledge", "resolve"}:
        problems.append("'event_action' is invalid")
    if len(str(body.get("dedup_key", ""))) > 255:
        problems.append("'dedup_key' is too long")
    if size > 512_000:
        problems.append("event is too large")
    if body.get("event_action") == "trigger":
        payload = body.get("payload") or {}
        problems += [
            f"'payload.{name}' is missing or blank" for name in ("summary", "source", "severity") if not payload.get(name)
        ]
        if payload.get("severity") not in {"critical", "error", "warning", "info"}:
            problems.append("'payload.severity' is invalid")
        if len(str(payload.get("summary", ""))) > 1024:
            problems.append("'payload.summary' is too long")
    elif not body.get("dedup_key"):
        problems.append("'dedup_key' is missing")
    return problems


class TeamsReceiver(_Receiver):
    """A Workflows webhook: 202 for what a flow can post, 413 beyond 28 KB; a wrong body is accepted and lost, as the real one does."""

    path = "/powerautomate/automations/direct/workflows/sandbox/triggers/manual/paths/invoke"

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[dict[str, Any]] = []

    @property
    def cards(self) -> list[dict[str, Any]]:
        """Return the cards that were posted."""
        return [one["attachments"][0]["content"] for one in self.received]

    def accept(self, body: dict[str, Any], size: int) -> web.Response:
        """Take one message."""
        if size > 28 * 1024:
            return web.json_response({"error": "Request Entity too large"}, status=413)
        attachments = body.get("attachments") or []
        good = (
            body.get("type") == "message"
            and attachments
            and attachments[0].get("contentType") == "application/vnd.microsoft.card.adaptive"
        )
        (self.received if good else self.lost).append(body)
        return web.Response(status=202)


class WebhookReceiver(_Receiver):
    """Takes anything."""

    path = "/hook"
