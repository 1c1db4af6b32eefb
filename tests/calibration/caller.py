"""Sends requests to an API server, sandbox or real, and writes down what came back in lines that can be compared.

A line is the status, then of a refusal its reason, message, causes and the headers and numbers that matter, of an object its kind and the
fields that the probe asked to see. What differs by nature is replaced: UIDs, versions, times, the namespace, random suffixes.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from responder.sandbox.access import Rule

JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
WITHIN = 40.0
UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def at(item: Any, path: str) -> Any:
    """Return what an object has at ``spec.containers.0.image``; ``-`` for nothing."""
    found = item
    for part in re.split(r"(?<!\\)\.", path):
        name = part.replace("\\.", ".")
        if isinstance(found, dict):
            found = found.get(name, "-")
        elif isinstance(found, list) and int(name) < len(found):
            found = found[int(name)]
        else:
            return "-"
    return found


def _order(cause: Any) -> str:
    """Return a key: conflicts come in any order, the rest as it is said."""
    return str(cause.get("field", "")) if cause.get("reason") == "FieldManagerConflict" else ""


@dataclass(slots=True)
class Seen:
    """One answer. ``body``: parsed, or text."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(slots=True)
class Caller:
    """One probe's way to an API server.

    Attributes:
        lines: What it saw.
        sandbox: The sandbox itself, when it is that; for what has no API, such as the rights of a user.
    """

    url: str
    token: str
    namespace: str
    session: aiohttp.ClientSession
    sandbox: Any = None
    lines: list[str] = field(default_factory=list)
    _made: list[str] = field(default_factory=list)

    async def send(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", accept: str = "application/json",
        token: str = "", raw: bytes | None = None,
    ) -> Seen:  # fmt: skip
        """Send a request; ``{ns}`` in the path is the namespace."""
        headers = {
            "Authorization": f"Bearer {token or self.token}", "Content-Type": kind, "Accept": accept, "User-Agent": "probe/1",
        }  # fmt: skip
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        async with self.session.request(
            method, self.url + path.replace("{ns}", self.namespace), data=data, headers=headers
        ) as answer:
            text = await answer.text()
            try:
                parsed: Any = json.loads(text)
            except ValueError:
                parsed = text
            return Seen(answer.status, parsed, dict(answer.headers))

    async def see(self, method: str, path: str, body: Any = None, *show: str, **more: Any) -> Any:
        """Send, write the answer down with the fields to show, and return its body."""
        seen = await self.send(method, path, body, **more)
        self.lines.append(self.line(seen, show))
        return seen.body

    def line(self, seen: Seen, show: Sequence[str]) -> str:
        """Return an answer as one line."""
        body = seen.body
        if isinstance(body, str):
            return self.same(f"{seen.status} text: {body.strip()[:80]}")
        if body.get("kind") == "Status" and seen.status >= 400:
            details = body.get("details") or {}
            causes = "".join(
                f" [{one.get('reason', '')}{' ' + one['field'] if one.get('field') else ''}: {one.get('message', '')}]"
                for one in sorted(details.get("causes") or (), key=_order)
            )
            about = " ".join(str(details[name]) for name in ("name", "group", "kind") if details.get(name))
            after = f" retryAfterSeconds={details['retryAfterSeconds']}" if details.get("retryAfterSeconds") else ""
            after += f" Retry-After={seen.headers['Retry-After']}" if "Retry-After" in seen.headers else ""
            return self.same(f"{seen.status} {body.get('reason', '-')} ({about}): {body.get('message')}{causes}{after}")
        shown = "".join(f" {path}={json.dumps(at(body, path), sort_keys=True)}" for path in show)
        return self.same(f"{seen.status} {body.get('kind')}{shown}")

    def say(self, text: str) -> None:
        """Write something else down."""
        self.lines.append(self.same(text))

    def same(self, text: str) -> str:
        """Replace what differs by nature."""
        text = UID.sub("UID", text.replace(self.namespace, "NS"))
        text = TIME.sub("TIME", text)
        text = re.sub(r"(resource version: |current: |record |precondition |\(|resourceVersion\": \")(\d{2,})\b", r"\1N", text)
        return re.sub(
            r"\bnode-[0-9a-f]{8}\b|\b([a-z]+-[0-9a-z]{5,10})-[0-9a-z]{5}\b|\b(web|api)-([0-9a-z]{8,10}|[0-9a-z]{5})\b",
            "NAME",
            text,
        )

    # --- conveniences

    def core(self, plural: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{{ns}}/{plural}" + (f"/{name}" if name else "")

    def group(self, version: str, plural: str, name: str = "") -> str:
        return f"/apis/{version}/namespaces/{{ns}}/{plural}" + (f"/{name}" if name else "")

    async def get(self, path: str) -> Any:
        return (await self.send("GET", path)).body

    async def make(self, path: str, body: Any) -> Any:
        """Create something that has to work."""
        seen = await self.send("POST", path, body)
        assert seen.status == 201, (path, seen.body)
        return seen.body

    async def status(self, path: str, status: Any) -> Any:
        """Write a status as a kubelet does."""
        seen = await self.send("PATCH", f"{path}/status", {"status": status}, kind=STRATEGIC)
        assert seen.status == 200, (path, seen.body)
        return seen.body

    async def until(self, holds: Callable[[], Awaitable[bool]], *, within: float = WITHIN, what: str = "it") -> None:
        """Wait for a controller.

        Raises:
            TimeoutError: It never held.
        """
        try:
            async with asyncio.timeout(within):
                while not await holds():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(f"{what} did not hold within {within:g} s") from None

    async def gone(self, path: str) -> None:
        """Wait until something is not there any more."""

        async def holds() -> bool:
            return (await self.send("GET", path)).status == 404

        await self.until(holds, what=f"{path} is gone")

    async def node(self, name: str = "", **spec: Any) -> str:
        """Make a Node that is Ready and has room; it goes with the probe."""
        made = name or f"node-{secrets.token_hex(4)}"
        body = {"metadata": {"name": made, "labels": {"kubernetes.io/hostname": made, "probe": self.namespace}}, "spec": spec}
        await self.make("/api/v1/nodes", body)
        self._made.append(f"/api/v1/nodes/{made}")
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-05T12:00:00Z"}
        room = {"cpu": "4", "memory": "8Gi", "pods": "110"}
        await self.status(f"/api/v1/nodes/{made}", {"conditions": [ready], "allocatable": room, "capacity": room})

        async def settled() -> bool:
            taints = (await self.get(f"/api/v1/nodes/{made}"))["spec"].get("taints") or []
            return not any(one["key"] == "node.kubernetes.io/not-ready" for one in taints)

        await self.until(settled, what="the new node is not tainted")
        return made

    async def bind(self, pod: str, node: str) -> None:
        """Bind a pod."""
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"kind": "Node", "name": node}}
        seen = await self.send("POST", f"{self.core('pods', pod)}/binding", body)
        assert seen.status == 201, seen.body

    async def runs(self, pod: str, *, ready: bool = True, phase: str = "Running") -> None:
        """Let a pod run."""
        word = "True" if ready else "False"
        status = {
            "phase": phase, "podIP": "10.1.0.9", "podIPs": [{"ip": "10.1.0.9"}],
            "conditions": [{"type": kind, "status": word} for kind in ("Ready", "ContainersReady")],
        }  # fmt: skip
        await self.status(self.core("pods", pod), status)

    async def pods(self, app: str = "web") -> list[Any]:
        found = (await self.get(f"{self.core('pods')}?labelSelector=app={app}"))["items"]
        return [one for one in found if not one["metadata"].get("deletionTimestamp")]

    async def play(self, app: str, count: int, node: str, *, ready: bool = True) -> list[Any]:
        """Wait until a controller has made so many pods, bind them and let them run."""

        async def there() -> bool:
            return len(await self.pods(app)) == count

        await self.until(there, what=f"{count} pods of {app} are there")
        for pod in await self.pods(app):
            if not pod["spec"].get("nodeName"):
                await self.bind(pod["metadata"]["name"], node)
            await self.runs(pod["metadata"]["name"], ready=ready)
        return await self.pods(app)

    async def end(self, pod: str) -> None:
        """Confirm a pod's end as a kubelet does."""
        await self.send("DELETE", self.core("pods", pod), {"gracePeriodSeconds": 0})

    async def watch(self, path: str, *, until: Callable[[list[Any]], bool], within: float = 10.0) -> list[Any]:
        """Watch until so much was seen, or the stream ends; return the events."""
        events: list[Any] = []
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        url = self.url + path.replace("{ns}", self.namespace)
        try:
            async with asyncio.timeout(within), self.session.get(url, headers=headers) as answer:
                if answer.status != 200:
                    body = await answer.json()
                    return [{"type": "HTTP", "object": body}]
                async for line in lines(answer):
                    event = json.loads(line)
                    if event["object"].get("metadata", {}).get("name") == "kube-root-ca.crt":
                        continue
                    events.append(event)
                    if until(events):
                        return events
        except TimeoutError:
            pass
        return events

    def event(self, event: Any) -> str:
        """Return an event as a line."""
        item = event["object"]
        if item.get("kind") == "Status":
            return self.same(f"{event['type']} {item.get('code')} {item.get('reason')}: {item.get('message')}")
        meta = item["metadata"]
        notes = f" {json.dumps(meta['annotations'])}" if event["type"] == "BOOKMARK" and meta.get("annotations") else ""
        return self.same(f"{event['type']} {item.get('kind')} {meta.get('name', '-')}{notes}")

    async def restricted(self) -> str:
        """Return the token of a service account that may list pods here, and nothing else."""
        user = f"system:serviceaccount:{self.namespace}:small"
        if self.sandbox is not None:
            access = self.sandbox.api.access
            access.users["small"] = user
            access.rules[user] = [Rule(verbs=("list",), resources=("pods",), groups=("",), namespace=self.namespace)]
            return "small"
        await self.make(self.core("serviceaccounts"), {"metadata": {"name": "small"}})
        role = {"metadata": {"name": "small"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]}
        await self.make(self.group("rbac.authorization.k8s.io/v1", "roles"), role)
        binding = {
            "metadata": {"name": "small"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "small"},
            "subjects": [{"kind": "ServiceAccount", "name": "small", "namespace": self.namespace}],
        }
        await self.make(self.group("rbac.authorization.k8s.io/v1", "rolebindings"), binding)
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        made = await self.make(f"{self.core('serviceaccounts', 'small')}/token", request)
        return str(made["status"]["token"])

    async def clean(self) -> None:
        """Remove what is outside the namespace, and the namespace."""
        for path in self._made:
            await self.send("DELETE", path)
        await self.send("DELETE", f"/api/v1/namespaces/{self.namespace}")


async def lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Return a stream's lines."""
    rest = b""
    async for chunk in answer.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for one in whole:
            yield one


def pod_spec(name: str = "web", image: str = "web:1", **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": name, "image": image}], **more}


def pod(name: str, app: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"app": app}}, "spec": pod_spec(**spec)}


def workload(name: str = "web", *, image: str = "web:1", pod: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(name, image, **(pod or {}))}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def config(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


Probe = Callable[[Caller], Awaitable[None]]
