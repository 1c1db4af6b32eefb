"""A managed cluster without sockets: the program's own ARM adapter and the unmodified SDK, their requests handed straight to the AKS double.

Every request is written down, with the life that sent it and what was so when it arrived: the judge looks for writes that were sent blindly, sent twice,
sent into an operation in progress, and for machines deleted under pods.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import ServiceResponseError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest._http_response_impl_async import AsyncHttpResponseImpl
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from responder.clusters.aks import AksCloud, AzureAccess, Identity
from responder.sandbox import SandboxCluster
from responder.sandbox.aks import SandboxAzure
from responder.sandbox.aks_entra import CLIENT
from responder.sandbox.aks_nodes import MachineNodes
from responder.sandbox.aks_state import Aks
from responder.sandbox.kinds import PODS

ADDRESS = "https://arm.sandbox"
Answer = tuple[int, dict[str, str], bytes]
Send = Callable[[str, str, dict[str, str], bytes], Awaitable[Answer]]
"""Method, URL, headers and body to an answer; status 0: the connection was cut before one came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that ARM received.

    Attributes:
        life: Number of the process that sent it, from 1.
        what: What it changes, such as ``agentPools/work count=4``; "" for one that changes nothing.
        lists: It looks at the cluster and its pools as a whole.
        status: Of the answer.
        busy: An operation was in progress when it arrived.
        wrong: What must not have been so when it arrived, such as pods on a machine that is to be deleted; "" for nothing.
    """

    at: datetime
    life: int
    what: str = ""
    lists: bool = False
    status: int = 0
    busy: bool = False
    wrong: str = ""


class Arm:
    """ARM for one managed cluster whose machines are nodes of a sandbox cluster.

    Attributes:
        aks: The managed cluster ``prod``; it has no pool yet.
        calls: All requests, in order.
        life: Who sends now.
        token: What the program's identity gives.
    """

    def __init__(self, cluster: SandboxCluster, *, now: Callable[[], datetime]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.double = SandboxAzure(Path(folder), now=now)
        self.double.url = ADDRESS
        self.aks: Aks = self.double.cluster("prod", nodes=MachineNodes(cluster), takes=60.0)
        self.calls: list[Call] = []
        self.life = 0
        self.token = self.double.entra.sign("https://management.azure.com", exp=int(time.time()) + 86400)
        self._cluster = cluster
        self._now = now
        self._app: web.Application | None = None

    async def answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer a request of the SDK's."""
        if self._app is None:
            self._app = self.double.application()
            self._app.freeze()
        where = URL(url, encoded=True)
        what = "" if method == "GET" else self._what(method, where.path, body)
        busy, wrong = self.aks.running is not None, self._wrong(where.path, body)
        try:
            response = await self._app._handle(_request(method, where, headers, body))
        except ConnectionAbortedError:
            status, told, found = 0, {}, b""
        else:
            assert isinstance(response, web.Response)
            status, told = response.status, dict(response.headers)
            found = response.body if isinstance(response.body, bytes) else b""
        lists = method == "GET" and where.path.endswith(("/agentPools", f"/managedClusters/{self.aks.name}"))
        call = Call(at=self._now(), life=self.life, what=what, lists=lists, status=status, busy=busy, wrong=wrong)
        self.calls.append(call)
        return status, told, found

    def _what(self, method: str, path: str, body: bytes) -> str:
        """Say what a request changes; requests that change the same say the same."""
        end = path.partition("/managedClusters/")[2].partition("/")[2]
        if end.startswith("listCluster") or end == "runCommand":
            return ""
        told = msgspec.json.decode(body) if body else {}
        if end.endswith("/deleteMachines"):
            return f"{end} {' '.join(told['machineNames'])}"
        if method == "PUT" and end:
            properties = told["properties"]
            return f"{end} count={properties.get('count')} minimum={properties.get('minCount')}"
        return end or "reconcile"

    def _wrong(self, path: str, body: bytes) -> str:
        """Say which pods a machine that is to be deleted still runs; one that is off runs none."""
        if not path.endswith("/deleteMachines"):
            return ""
        names = set(msgspec.json.decode(body)["machineNames"])
        off = {one.name for pool in self.aks.pools.values() for one in pool.machines.values() if one.power != "running"}
        left = [
            pod["metadata"]["name"]
            for pod in self._cluster.storage.all(PODS)
            if pod["spec"].get("nodeName") in names - off
            and not pod["metadata"].get("deletionTimestamp")
            and not any(one["kind"] == "DaemonSet" for one in pod["metadata"].get("ownerReferences", []))
        ]
        return f"machine {' '.join(sorted(names))} is deleted under {', '.join(left)}" if left else ""

    def took_effect(self) -> Counter[str]:
        """Count what ARM began for us, by what it changes."""
        return Counter(f"arm {one.what}" for one in self.calls if one.what and (200 <= one.status < 300 or one.status == 0))

    def minimums(self) -> list[Any]:
        """Return what the autoscaler must keep, pool by pool."""
        return [(one.name, one.minimum) for one in self.aks.pools.values() if one.autoscaled]


def _request(method: str, url: URL, headers: Mapping[str, str], body: bytes) -> web.Request:
    """Return a request as aiohttp's server makes it."""

    def cut() -> None:
        raise ConnectionAbortedError

    def nothing(**_asked: object) -> None:
        return None

    sent = CIMultiDictProxy(CIMultiDict(headers))
    raw = tuple((name.encode(), value.encode()) for name, value in sent.items())
    message = RawRequestMessage(
        method, url.raw_path_qs, HttpVersion11, sent, raw, should_close=False, compression=None, upgrade=False, chunked=False,
        url=url.relative(),
    )  # fmt: skip
    protocol: Any = SimpleNamespace(
        transport=SimpleNamespace(abort=cut), ssl_context=None, peername=None, sockname=None, _reading_paused=False,
        pause_reading=nothing, resume_reading=nothing,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    payload = StreamReader(protocol, limit=1 << 22, loop=loop)
    if body:
        payload.feed_data(body)
    payload.feed_eof()
    task: Any = asyncio.current_task()
    writer: Any = None
    return web.Request(message, payload, protocol, writer, task, loop, client_max_size=1 << 22)


class _Response(AsyncHttpResponseImpl):
    """An answer that is there as a whole."""

    def __init__(self, request: Any, answer: Answer) -> None:
        status, headers, body = answer

        class Whole:
            async def close(self) -> None:
                """Nothing is open."""

        super().__init__(
            request=request, internal_response=Whole(), status_code=status, reason="", headers=CIMultiDict(headers),
            content_type=CIMultiDict(headers).get("Content-Type", ""), stream_download_generator=None,
        )  # fmt: skip
        self._content = body


class DirectTransport(AsyncHttpTransport[Any, Any]):
    """Sends the SDK's requests by a function."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, request: Any, **_options: Any) -> Any:
        """See the SDK."""
        body = request.content or b""
        answer = await self._send(
            request.method, request.url, dict(request.headers), body.encode() if isinstance(body, str) else body
        )
        if answer[0] == 0:
            raise ServiceResponseError("the connection was cut")
        return _Response(request, answer)

    async def open(self) -> None:
        """Nothing is opened."""

    async def close(self) -> None:
        """Nothing is open."""

    async def __aexit__(self, *_asked: object) -> None:
        """Nothing is open."""


class DirectIdentity(Identity):
    """Has one token that the double knows."""

    def __init__(self, token: str) -> None:
        super().__init__(AzureAccess(client_id=CLIENT, endpoint=ADDRESS))
        self._token = token

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """See the SDK."""
        return AccessToken(self._token, int(time.time()) + 86400)

    async def get_token_info(self, *_scopes: str, options: Any = None) -> AccessTokenInfo:
        """See the SDK."""
        del options
        return AccessTokenInfo(self._token, int(time.time()) + 86400)

    async def close(self) -> None:
        """Nothing is open."""


def direct_cloud(kind: type[AksCloud], resource_id: str, token: str, send: Send, *, now: Callable[[], datetime]) -> AksCloud:
    """Return the adapter, or a kind of it, before the double; its answers wish to be left alone for 30 s, as ARM's do."""
    identity = DirectIdentity(token)
    return kind("sandbox", resource_id, identity, now=now, polling=timedelta(seconds=30), transport=DirectTransport(send))
