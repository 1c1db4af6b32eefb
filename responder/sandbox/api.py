"""The Kubernetes REST API: what is asked goes to who answers it, past faults, tokens and rights; over HTTP or straight."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from responder.sandbox import subresources
from responder.sandbox.access import Access
from responder.sandbox.answers import ApiFailure, Resource, terminating
from responder.sandbox.discovery import discovered
from responder.sandbox.eviction import evict
from responder.sandbox.kinds import NAMESPACES, PODS
from responder.sandbox.kubelet import Kubelet
from responder.sandbox.objects import Storage
from responder.sandbox.reading import TRUE, Reading
from responder.sandbox.requests import NOT_FOUND_PAGE, Answer, Asked, Stream, Where, failed, known_version, said, where
from responder.sandbox.writing import Writing, no_resource, not_allowed, read_body

REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
LOOKS_AFTER_ITS_CLIENT_EVERY = 1.0


@dataclass(slots=True)
class Faults:
    """What is wrong with the API server.

    Attributes:
        hang: Never answer.
        status: Answer everything with this status; 0 for none. ``retry_after``: its header.
        garbage: Answer with something that is no JSON.
        slow: Seconds before each answer.
        forbidden: Verbs on resources that are refused, such as ``patch deployments``.
    """

    hang: bool = False
    status: int = 0
    retry_after: int = 0
    garbage: bool = False
    slow: float = 0.0
    forbidden: set[str] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class Written:
    """One write that the API server received; ``status``: what it answered."""

    verb: str
    resource: str
    namespace: str
    name: str
    body: Any
    agent: str
    status: int = 0


class Api:
    """Serves the storage. ``broken``: what is wrong with the sandbox itself, so that every request says it; "" for nothing."""

    def __init__(self, storage: Storage, kubelet: Kubelet, *, token: str = "") -> None:
        self.storage = storage
        self.kubelet = kubelet
        self.faults = Faults()
        self.access = Access()
        self.writes: list[Written] = []
        self.reads = 0
        self.broken = ""
        self.released = asyncio.Event()
        self._token = token
        self._reading = Reading(storage)
        self._writing = Writing(storage)

    # --- over HTTP

    def application(self) -> web.Application:
        """Return the HTTP application."""
        app = web.Application(client_max_size=4 << 20)
        app.router.add_route("*", "/{path:.*}", self._http)
        return app

    async def _http(self, request: web.Request) -> web.StreamResponse:
        try:
            faulty = await self._faulty()
            if faulty is not None:
                return _response(faulty)
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if self._token and token != self._token and token not in self.access.users:
                raise ApiFailure(401, "Unauthorized", "Unauthorized")
            asked = Asked(
                method=request.method,
                path=request.path,
                query=dict(request.query),
                headers={name.lower(): value for name, value in request.headers.items()},
                body=await request.read(),
            )
            answer = self.answer(asked)
        except ApiFailure as failure:
            return _response(failed(failure))
        if isinstance(answer, Answer):
            return _response(answer)
        return await _streamed(request, answer)

    async def _faulty(self) -> Answer | None:
        if self.broken:
            raise ApiFailure(500, "InternalError", self.broken)
        faults = self.faults
        if faults.hang:
            await self.released.wait()
        if faults.slow:
            await asyncio.sleep(faults.slow)
        if faults.garbage:
            return Answer(body=b"<html>upstream said something", content_type="text/plain")
        if faults.status:
            reason = "TooManyRequests" if faults.status == 429 else "InternalError"
            raise ApiFailure(faults.status, reason, "the server is in trouble", retry_after=faults.retry_after)
        return None

    # --- straight

    def answer(self, asked: Asked) -> Answer | Stream:
        """Answer a request that arrived and whose token is good.

        Raises:
            ApiFailure: Any answer that is not a success.
        """
        before = len(self.writes)
        try:
            answer = self._answer(asked)
        except ApiFailure as failure:
            self._noted(before, failure.code)
            raise
        if isinstance(answer, Answer):
            self._noted(before, answer.status)
        return answer

    def _noted(self, before: int, status: int) -> None:
        for one in self.writes[before:]:
            one.status = status

    def _answer(self, asked: Asked) -> Answer | Stream:
        self.access.forbidden = self.faults.forbidden
        user = self.access.who(asked.headers.get("authorization", "").removeprefix("Bearer "))
        if asked.path == REVIEW and asked.method == "POST":
            return said(self.access.review(user, asked.json()), 201)
        about = discovered(asked)
        if about is not None:
            return about
        named = where(asked.path)
        if named is None:
            if known_version(asked.path):
                raise no_resource()
            return Answer(status=404, body=NOT_FOUND_PAGE.encode(), content_type="text/plain")
        if named.sub:
            return self._sub(asked, named, user)
        return self._object(asked, named, user) if named.name else self._collection(asked, named, user)

    def _collection(self, asked: Asked, named: Where, user: str) -> Answer | Stream:
        watching = asked.method == "GET" and asked.query.get("watch") in TRUE
        verb = {"GET": "watch" if watching else "list", "POST": "create", "DELETE": "deletecollection"}.get(asked.method, "")
        if not verb:
            raise not_allowed()
        self.access.check(user, verb, named.kind.resource, self._scope(named))
        if watching:
            return self._reading.watch(asked, named)
        if verb == "list":
            self.reads += 1
            return self._reading.page(asked, named)
        body = read_body(asked)
        if verb == "create":
            name = (body.get("metadata") or {}).get("name", "") if isinstance(body, dict) else ""
            self._record(verb, named, asked, body, name)
            return self._writing.create(asked, named, body)
        self._record(verb, named, asked, body)
        return self._writing.delete_many(asked, named, body or {})

    def _object(self, asked: Asked, named: Where, user: str) -> Answer:
        verb = VERBS.get(asked.method, "")
        if verb in {"", "create"}:
            raise not_allowed()
        self.access.check(user, verb, named.kind.resource, self._scope(named), named.name)
        if verb == "get":
            self.reads += 1
            return self._reading.get(asked, named)
        body = read_body(asked)
        self._there(named, verb, asked)
        self._record(verb, named, asked, body)
        match verb:
            case "update":
                return self._writing.update(asked, named, body)
            case "patch":
                return self._writing.patch(asked, named, body)
            case _:
                return self._writing.delete(asked, named, body or {})

    def _there(self, named: Where, verb: str, asked: Asked) -> None:
        """Refuse a write to what is not there before it counts as one; an apply makes it.

        Raises:
            ApiFailure: 404.
        """
        if not (verb == "patch" and asked.content_type == "application/apply-patch+yaml"):
            self.storage.get(named.kind.key, named.namespace, named.name)

    def _sub(self, asked: Asked, named: Where, user: str) -> Answer | Stream:
        verb = VERBS.get(asked.method, "")
        if not verb:
            raise not_allowed()
        self.access.check(user, verb, named.kind.resource, self._scope(named), named.name, named.sub)
        match named.kind.key, named.sub, verb:
            case (_, "status", "get"):
                return self._reading.get(asked, named)
            case (_, "status", "update" | "patch"):
                return self._writing.status(asked, named, read_body(asked))
            case (_, "scale", "get" | "update" | "patch") if named.kind.scale:
                body = read_body(asked) if verb != "get" else None
                if body is not None:
                    self._record("scale", named, asked, body)
                return subresources.scale(self.storage, self._writing, asked, named, body)
            case ("v1/pods", "log", "get"):
                return subresources.log(self.kubelet, self.storage, asked, named)
            case ("v1/pods", "binding", "create"):
                return subresources.bind(self.storage, named, read_body(asked))
            case ("v1/pods", "eviction", "create"):
                return self._evict(asked, named)
            case _:
                raise no_resource()

    def _evict(self, asked: Asked, named: Where) -> Answer:
        body = read_body(asked)
        space = self.storage.find(NAMESPACES, "", named.namespace)
        pod = self.storage.get(PODS, named.namespace, named.name)
        self._record("evict", named, asked, body)
        if space is not None and space["metadata"].get("deletionTimestamp"):
            raise terminating(Resource(plural="pods"), named.namespace, named.name)
        return said(evict(self.storage, pod, body, dry=asked.dry), 201)

    @staticmethod
    def _scope(named: Where) -> str:
        return named.namespace if named.kind.namespaced else ""

    def _record(self, verb: str, named: Where, asked: Asked, body: Any, name: str = "") -> None:
        self.writes.append(
            Written(
                verb=verb,
                resource=named.kind.plural,
                namespace=named.namespace,
                name=name or named.name,
                body=body,
                agent=asked.agent,
            )
        )


def _response(answer: Answer) -> web.Response:
    kind, _, parameters = answer.content_type.partition(";")
    headers = {**answer.headers, "Content-Type": f"{kind};{parameters}" if parameters else kind}
    return web.Response(body=answer.body, status=answer.status, headers=headers)


async def _streamed(request: web.Request, stream: Stream) -> web.StreamResponse:
    """Send chunks as they come, until there are no more or nobody listens any more."""
    response = web.StreamResponse(headers={"Content-Type": stream.content_type})
    await response.prepare(request)
    chunks: AsyncIterator[bytes] = stream.chunks
    coming = asyncio.ensure_future(anext(chunks, None))
    try:
        while True:
            done, _ = await asyncio.wait([coming], timeout=LOOKS_AFTER_ITS_CLIENT_EVERY)
            if request.transport is None or request.transport.is_closing():
                break
            if not done:
                continue
            chunk = coming.result()
            if chunk is None:
                break
            await response.write(chunk)
            coming = asyncio.ensure_future(anext(chunks, None))
    except ConnectionError:
        pass
    finally:
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await coming
        await chunks.aclose()  # type: ignore[attr-defined] # it is a generator
    return response
