"""A loopback proxy between the service and an API server: it records what is sent, and can go wrong as networks and API servers do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
from aiohttp import web

from responder.http.server import stop_serving

Answer = tuple[int, dict[str, str], Any]
READ_ONLY = ("selfsubjectaccessreviews",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request of the service. ``at``: on the service's clock."""

    method: str
    path: str
    body: Any
    kind: str
    status: int
    at: datetime


@dataclass(slots=True)
class Wire:
    """Forwards to ``upstream``.

    Attributes:
        fault: Given method and path: what to answer instead, ``hang`` for never, or None to forward.
        token: What the service has to show; "" for anything.
        before: Awaited before a write is forwarded, once: lets the world change between a plan and its write.
        after: Awaited after every write that was answered, before its sender hears of it: lets the world change, or the sender die.
        sent: Everything that went through.
        ends: How the next watches end, one each: lines to send instead of the upstream's before the stream is closed, ``silence``
            for a connection that stays and says nothing, or an answer instead of a stream; the one that is open now is closed.
    """

    upstream: str
    headers: dict[str, str]
    now: Callable[[], datetime]
    fault: Callable[[str, str], Answer | str | None] = lambda _method, _path: None
    before: Callable[[], Awaitable[None]] | None = None
    after: Callable[[Sent], Awaitable[None]] | None = None
    token: str = ""
    sent: list[Sent] = field(default_factory=list)
    ends: list[list[bytes] | Answer | str] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None
    _session: aiohttp.ClientSession | None = None
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def writes(self) -> list[Sent]:
        """Return the requests that would change something."""
        return [one for one in self.sent if one.method != "GET" and not one.path.endswith(READ_ONLY)]

    def accepted(self) -> list[Sent]:
        """Return the writes that were carried out."""
        return [one for one in self.writes() if 200 <= one.status < 300]

    async def start(self) -> None:
        """Listen on loopback."""
        self._session = aiohttp.ClientSession(trust_env=False, connector=aiohttp.TCPConnector(ssl=False, limit=64))
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening; what hangs is let go."""
        self._released.set()
        if self._runner is not None:
            await stop_serving(self._runner)
        if self._session is not None:
            await self._session.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        raw = await request.read()
        body = json.loads(raw) if raw else None
        if request.method != "GET" and self.before is not None and not request.path.endswith(READ_ONLY):
            hook, self.before = self.before, None
            await hook()
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            self._note(request, body, 401)
            return web.json_response(
                {"kind": "Status", "reason": "Unauthorized", "message": "Unauthorized", "code": 401}, status=401
            )
        wrong = self.fault(request.method, request.path_qs)
        if isinstance(wrong, str):
            self._note(request, body, 0)
            await self._released.wait()
            raise ConnectionResetError
        if wrong is not None:
            status, headers, said = wrong
            self._note(request, body, status)
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            return web.Response(status=status, headers=headers, body=content)
        if "watch" in request.query:
            return await self._watch(request)
        headers = {name: value for name, value in request.headers.items() if name in {"Content-Type", "Accept", "User-Agent"}}
        url = self.upstream + request.path_qs
        async with self._session.request(request.method, url, data=raw or None, headers={**headers, **self.headers}) as answer:
            content = await answer.read()
            self._note(request, body, answer.status)
            if self.after is not None and self.sent[-1] in self.writes()[-1:]:
                await self.after(self.sent[-1])
            passed = {name: value for name, value in answer.headers.items() if name in {"Content-Type", "Retry-After"}}
            return web.Response(status=answer.status, headers=passed, body=content)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """Pass a watch on piece by piece, or end it as it is to end."""
        assert self._session is not None
        end = self.ends.pop(0) if self.ends else None
        self._note(request, dict(request.query), end[0] if isinstance(end, tuple) else 200)
        if isinstance(end, tuple):
            status, headers, said = end
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            return web.Response(status=status, headers=headers, body=content)
        response = web.StreamResponse()
        await response.prepare(request)
        if isinstance(end, str):
            await self._released.wait()
            return response
        if isinstance(end, list):
            for line in end:
                await response.write(line)
            return response
        async with self._session.get(self.upstream + request.path_qs, headers=self.headers) as answer:
            while not self.ends:
                try:
                    async with asyncio.timeout(0.05):
                        piece = await answer.content.readany()
                except TimeoutError:
                    continue
                if not piece:
                    break
                await response.write(piece)
        return response

    def _note(self, request: web.Request, body: Any, status: int) -> None:
        sent = Sent(method=request.method, path=request.path, body=body, kind=request.content_type, status=status, at=self.now())
        self.sent.append(sent)
