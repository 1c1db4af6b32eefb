"""The Kubernetes REST API over HTTP: get, list, watch, create, update, patch, delete, log, eviction, scale, access reviews."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from responder.sandbox import patching
from responder.sandbox.answers import ApiFailure, Cause, Object, Resource, conflict, invalid, modified
from responder.sandbox.deleting import delete
from responder.sandbox.eviction import check, evict
from responder.sandbox.kinds import KINDS, Kind
from responder.sandbox.kubelet import Kubelet
from responder.sandbox.objects import Storage, clone
from responder.sandbox.selectors import Selection

WATCH_EVERY = 0.05


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
    """One write that the API server received; ``status``: what it answered, 0 while it has not."""

    verb: str
    resource: str
    namespace: str
    name: str
    body: Any
    agent: str
    status: int = 0


WRITTEN = "written"


class Api:
    """Serves the storage. ``broken``: what is wrong with the sandbox itself, so that every request says it; "" for nothing."""

    def __init__(self, storage: Storage, kubelet: Kubelet, *, token: str = "") -> None:
        self.storage = storage
        self.kubelet = kubelet
        self.faults = Faults()
        self.writes: list[Written] = []
        self.reads = 0
        self.broken = ""
        self.released = asyncio.Event()
        self._token = token

    def application(self) -> web.Application:
        """Return the HTTP application."""
        app = web.Application(middlewares=[self._around], client_max_size=4 << 20)
        app.router.add_get("/version", self._version)
        for path in ("/healthz", "/livez", "/readyz"):
            app.router.add_get(path, self._fine)
        app.router.add_get("/api", self._core)
        app.router.add_get("/apis", self._groups)
        app.router.add_get("/api/v1", self._resources)
        app.router.add_get("/apis/{group}/{version}", self._resources)
        app.router.add_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", self._review)
        for prefix in ("/api/{version}", "/apis/{group}/{version}"):
            for namespace in ("/namespaces/{namespace}", ""):
                app.router.add_route("*", f"{prefix}{namespace}/{{plural}}", self._collection)
                app.router.add_route("*", f"{prefix}{namespace}/{{plural}}/{{name}}", self._item)
                app.router.add_route("*", f"{prefix}{namespace}/{{plural}}/{{name}}/{{sub}}", self._sub)
        return app

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            if self.broken:
                raise ApiFailure(500, "InternalError", self.broken)
            faults = self.faults
            if faults.hang:
                await self.released.wait()
            if faults.slow:
                await asyncio.sleep(faults.slow)
            if faults.garbage:
                return web.Response(text="<html>upstream said something", status=200)
            if faults.status:
                headers = {"Retry-After": str(faults.retry_after)} if faults.retry_after else {}
                raise ApiFailure(
                    faults.status,
                    "TooManyRequests" if faults.status == 429 else "InternalError",
                    "the server is in trouble",
                    headers=headers,
                )
            if self._token and request.headers.get("Authorization") != f"Bearer {self._token}":
                raise ApiFailure(401, "Unauthorized", "Unauthorized")
            response: web.StreamResponse = await handler(request)
        except ApiFailure as failure:
            response = web.json_response(failure.status(), status=failure.code, headers=failure.headers)
        if (written := request.get(WRITTEN)) is not None:
            written.status = response.status
        return response

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.3-sandbox", "platform": "linux/amd64"})

    async def _fine(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _core(self, _request: web.Request) -> web.Response:
        return web.json_response({"kind": "APIVersions", "versions": ["v1"]})

    async def _groups(self, _request: web.Request) -> web.Response:
        names = sorted({kind.group_version for kind in KINDS.values() if "/" in kind.group_version} | {"authorization.k8s.io/v1"})
        groups = [
            {
                "name": one.split("/")[0],
                "versions": [{"groupVersion": one, "version": one.split("/")[1]}],
                "preferredVersion": {"groupVersion": one, "version": one.split("/")[1]},
            }
            for one in names
        ]
        return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})

    async def _resources(self, request: web.Request) -> web.Response:
        version = _group_version(request)
        verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
        rows = [
            {
                "name": kind.plural,
                "singularName": kind.kind.lower(),
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": verbs,
            }
            for kind in KINDS.values()
            if kind.group_version == version
        ]
        if version == "v1":
            rows.append({"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]})
            rows.append(
                {"name": "pods/eviction", "singularName": "", "namespaced": True, "kind": "Eviction", "verbs": ["create"]}
            )
        return web.json_response({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": rows})

    async def _review(self, request: web.Request) -> web.Response:
        body = await request.json()
        wanted = (body.get("spec") or {}).get("resourceAttributes") or {}
        allowed = f"{wanted.get('verb')} {wanted.get('resource')}" not in self.faults.forbidden
        return web.json_response({**body, "kind": "SelfSubjectAccessReview", "status": {"allowed": allowed}}, status=201)

    def _kind(self, request: web.Request, verb: str) -> Kind:
        key = f"{_group_version(request)}/{request.match_info['plural']}"
        if key not in KINDS:
            raise ApiFailure(404, "NotFound", "the server could not find the requested resource")
        kind = KINDS[key]
        if f"{verb} {kind.plural}" in self.faults.forbidden:
            raise ApiFailure(
                403, "Forbidden", f'{kind.plural} is forbidden: User "responder" cannot {verb} resource "{kind.plural}"'
            )
        return kind

    def _record(self, verb: str, kind: Kind, request: web.Request, body: Any, name: str = "") -> None:
        request[WRITTEN] = Written(
            verb=verb,
            resource=kind.plural,
            namespace=request.match_info.get("namespace", ""),
            name=name or request.match_info.get("name", ""),
            body=body,
            agent=request.headers.get("User-Agent", ""),
        )
        self.writes.append(request[WRITTEN])

    async def _collection(self, request: web.Request) -> web.StreamResponse:
        namespace = request.match_info.get("namespace", "")
        if request.method == "POST":
            kind = self._kind(request, "create")
            body = await request.json()
            body.setdefault("metadata", {})
            if namespace and kind.namespaced:
                body["metadata"]["namespace"] = namespace
            self._record("create", kind, request, body, body["metadata"].get("name", ""))
            return web.json_response(self.storage.create(kind.key, self.storage.admit(kind.key, body)), status=201)
        if request.method != "GET":
            raise ApiFailure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        watching = request.query.get("watch") in {"true", "1"}
        kind = self._kind(request, "watch" if watching else "list")
        if watching:
            return await self._watch(request, kind, namespace)
        self.reads += 1
        selection = _selection(kind, request)
        found = [item for item in self.storage.all(kind.key, namespace) if selection.takes(item)]
        limit = int(request.query.get("limit", "0") or 0)
        start = 0
        if "continue" in request.query:
            start = int(base64.urlsafe_b64decode(request.query["continue"]).decode())
        page = found[start : start + limit] if limit else found[start:]
        meta: Object = {"resourceVersion": self.storage.version}
        if limit and start + limit < len(found):
            meta["continue"] = base64.urlsafe_b64encode(str(start + limit).encode()).decode()
            meta["remainingItemCount"] = len(found) - start - limit
        return web.json_response({"kind": f"{kind.kind}List", "apiVersion": kind.group_version, "metadata": meta, "items": page})

    async def _watch(self, request: web.Request, kind: Kind, namespace: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        given = request.query.get("resourceVersion", "")
        selection = _selection(kind, request)
        seen = int(given) if given.isdigit() else 0
        if not seen:
            for item in self.storage.all(kind.key, namespace):
                if selection.takes(item):
                    await _line(response, "ADDED", item)
            seen = int(self.storage.version)
        ends_at = asyncio.get_running_loop().time() + float(request.query.get("timeoutSeconds", "300"))
        while asyncio.get_running_loop().time() < ends_at and not (request.transport is None or request.transport.is_closing()):
            changes = self.storage.since(kind.key, seen)
            if changes is None:
                gone = ApiFailure(410, "Expired", f"too old resource version: {seen} ({self.storage.version})").status()
                await _line(response, "ERROR", gone)
                return response
            for change in changes:
                seen = change.version
                where = change.item["metadata"].get("namespace", "")
                if (not namespace or where == namespace) and selection.takes(change.item):
                    await _line(response, change.event, change.item)
            await asyncio.sleep(WATCH_EVERY)
        return response

    async def _item(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info.get("namespace", ""), request.match_info["name"]
        verb = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(request.method, "")
        kind = self._kind(request, verb)
        if not kind.namespaced:
            namespace = ""
        found = self.storage.get(kind.key, namespace, name)
        if verb == "get":
            self.reads += 1
            return web.json_response(found)
        if verb == "delete":
            return await self._delete(request, kind, found)
        body = await request.json()
        self._record(verb, kind, request, body)
        changed = body if verb == "update" else self._patched(request.content_type, found, body)
        _preconditions(kind, found, body if isinstance(body, dict) else {})
        changed.setdefault("metadata", {})
        if kind.status:
            changed["status"] = found["status"]
        if request.query.get("dryRun") == "All":
            return web.json_response(changed)
        return web.json_response(self.storage.update(kind.key, found, changed))

    def _patched(self, content_type: str, found: Object, body: Any) -> Object:
        plain = clone(found)
        if content_type == "application/json-patch+json":
            return dict(patching.json_patch(plain, body))
        if content_type == "application/merge-patch+json":
            return dict(patching.merge(plain, body))
        if content_type in {"application/strategic-merge-patch+json", "application/apply-patch+yaml"}:
            return dict(patching.strategic(plain, body))
        raise ApiFailure(415, "UnsupportedMediaType", f"the body of the request was in an unknown format - {content_type}")

    async def _delete(self, request: web.Request, kind: Kind, found: Object) -> web.Response:
        raw = await request.read()
        options = json.loads(raw) if raw else {}
        self._record("delete", kind, request, options)
        check(found, options.get("preconditions") or {})
        if request.query.get("dryRun") != "All":
            propagation = options.get("propagationPolicy") or request.query.get("propagationPolicy") or "Background"
            found = delete(self.storage, kind.key, found, grace=options.get("gracePeriodSeconds"), propagation=propagation)
        return web.json_response(found)

    async def _sub(self, request: web.Request) -> web.Response:
        namespace, name, sub = request.match_info.get("namespace", ""), request.match_info["name"], request.match_info["sub"]
        kind = self._kind(request, "get" if request.method == "GET" else "update")
        found = self.storage.get(kind.key, namespace if kind.namespaced else "", name)
        if (kind.plural, sub, request.method) == ("pods", "log", "GET"):
            return self._log(request, found)
        if (kind.plural, sub, request.method) == ("pods", "eviction", "POST"):
            return await self._evict(request, kind, found)
        if (kind.plural, sub, request.method) == ("pods", "binding", "POST"):
            return await self._bind(request, found)
        if sub == "scale":
            if request.method in {"PUT", "PATCH"}:
                body = await request.json()
                self._record("scale", kind, request, body)
                changed = clone(found)
                changed["spec"]["replicas"] = body["spec"]["replicas"]
                found = self.storage.update(kind.key, found, changed)
            scale = {
                "kind": "Scale",
                "apiVersion": "autoscaling/v1",
                "metadata": found["metadata"],
                "spec": {"replicas": found["spec"]["replicas"]},
            }
            return web.json_response(scale)
        if sub == "status" and request.method in {"PUT", "PATCH"}:
            body = await request.json()
            _preconditions(kind, found, body)
            changed = clone(body) if request.method == "PUT" else self._patched(request.content_type, found, body)
            return web.json_response(self.storage.set_status(kind.key, found, changed.get("status") or {}))
        raise ApiFailure(404, "NotFound", "the server could not find the requested resource")

    async def _bind(self, request: web.Request, pod: Object) -> web.Response:
        """Bind a pod to a node, once, as a scheduler asks for it."""
        wanted = ((await request.json()).get("target") or {}).get("name", "")
        if pod["spec"].get("nodeName"):
            name = pod["metadata"]["name"]
            why = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
            raise conflict(Resource(plural="pods/binding"), name, why)
        changed = clone(pod)
        changed["spec"]["nodeName"] = wanted
        self.storage.update("v1/pods", pod, changed)
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}, status=201)

    def _log(self, request: web.Request, pod: Object) -> web.Response:
        containers = [one["name"] for one in pod["spec"]["containers"]]
        container = request.query.get("container") or (containers[0] if len(containers) == 1 else "")
        if container not in containers:
            listed = " ".join(containers)
            raise ApiFailure(
                400,
                "BadRequest",
                f"a container name must be specified for pod {pod['metadata']['name']}, choose one of: [{listed}]",
            )
        previous = request.query.get("previous") == "true"
        content = self.kubelet.log(pod, container, previous=previous)
        if content is None:
            message = f'previous terminated container "{container}" in pod "{pod["metadata"]["name"]}" not found'
            raise ApiFailure(400, "BadRequest", message)
        limit = request.query.get("limitBytes")
        return web.Response(body=content[: int(limit)] if limit else content, content_type="text/plain")

    async def _evict(self, request: web.Request, kind: Kind, pod: Object) -> web.Response:
        """Evict as the real subresource does. Source: kubernetes.md A2."""
        body = await request.json()
        self._record("evict", kind, request, body)
        answer = evict(self.storage, pod, body, dry=request.query.get("dryRun") == "All")
        return web.json_response(answer, status=201)


def _group_version(request: web.Request) -> str:
    group = request.match_info.get("group", "")
    version = request.match_info.get("version", "v1")
    return f"{group}/{version}" if group else version


def _preconditions(kind: Kind, found: Object, body: Object) -> None:
    """Refuse a changed resourceVersion or UID in the body: optimistic concurrency."""
    asked = body.get("metadata") or {}
    name = found["metadata"]["name"]
    version, uid = asked.get("resourceVersion"), asked.get("uid")
    if version and version != found["metadata"]["resourceVersion"]:
        raise modified(kind.resource, name)
    if uid and uid != found["metadata"]["uid"]:
        raise invalid(
            kind.resource, name, Cause("FieldValueInvalid", f'Invalid value: "{uid}": field is immutable', "metadata.uid")
        )


def _selection(kind: Kind, request: web.Request) -> Selection:
    return Selection(kind.key, request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))


async def _line(response: web.StreamResponse, event: str, item: Object) -> None:
    await response.write(json.dumps({"type": event, "object": item}).encode() + b"\n")
