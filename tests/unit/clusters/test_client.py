"""The client finds its way anew: a CA that was rotated, an address that was moved. Over real TLS on loopback. And whose 429 silences whom."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from responder.clusters.kubernetes.client import Access, KubernetesClient
from responder.clusters.kubernetes.kubeconfig import ConfigException, Configuration
from responder.http.server import stop_serving
from responder.model.errors import BlockedError, TransientError
from responder.sandbox.tls import certificate

SOON = timedelta(seconds=3)


@contextlib.asynccontextmanager
async def served(tls: ssl.SSLContext, *, port: int = 0) -> AsyncIterator[int]:
    """Answer every path over TLS; give the port."""
    app = web.Application()
    app.router.add_get("/{path:.*}", _ok)
    app.router.add_post("/{path:.*}", _uncounted)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls, reuse_address=True)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await stop_serving(runner)


async def _ok(_request: web.Request) -> web.Response:
    return web.json_response({})


async def _uncounted(_request: web.Request) -> web.Response:
    """Answer as an eviction whose budget has not been looked at yet. Source: kubernetes.md A2; eviction.go, createTooManyRequestsError."""
    cause = {"reason": "DisruptionBudget", "message": "The disruption budget api is still being processed by the server."}
    details = {"causes": [cause], "retryAfterSeconds": 10}
    body = {"kind": "Status", "code": 429, "reason": "TooManyRequests", "message": "Cannot evict pod", "details": details}
    return web.json_response(body, status=429, headers={"Retry-After": "10"})


class Way:
    """How to reach the cluster, as it stands now; counts how often it is asked."""

    def __init__(self) -> None:
        self.host, self.authority, self.asked = "", Path(), 0

    async def load(self) -> Configuration:
        self.asked += 1
        made = Configuration()
        made.host, made.ssl_ca_cert = self.host, str(self.authority)
        return made

    def client(self) -> KubernetesClient:
        return KubernetesClient("prod", Access(configuration=None, reload=self.load))


def made(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    (folder / name).mkdir()
    return certificate(folder / name)


async def test_a_rotated_ca_and_a_moved_address_are_found_without_a_restart(tmp_path: Path) -> None:
    """The first request that cannot connect looks for the way anew, and goes it."""
    (first, trusts_first), (second, trusts_second) = made(tmp_path, "first"), made(tmp_path, "second")
    way = Way()
    client = way.client()
    async with served(first) as port:
        way.host, way.authority = f"https://127.0.0.1:{port}", trusts_first
        before = await client.send("GET", "/version", within=SOON)
    async with served(second, port=port):
        way.host, way.authority = f"https://127.0.0.1:{port}", trusts_second
        after = await client.send("GET", "/version", within=SOON)
    await client.close()

    assert (before, after, way.asked) == (b"{}", b"{}", 2)


async def test_a_way_that_is_the_same_is_not_asked_for_at_every_failure(tmp_path: Path) -> None:
    """A cluster that is down is not looked for at each of a hundred requests; what is said is what went wrong."""
    tls, authority = made(tmp_path, "only")
    way = Way()
    client = way.client()
    async with served(tls) as port:
        way.host, way.authority = f"https://127.0.0.1:{port}", authority
        await client.send("GET", "/version", within=SOON)
    for _ in range(5):
        with pytest.raises(TransientError, match="no answer within"):
            await client.send("GET", "/version", within=SOON)
    await client.close()

    assert way.asked == 2


async def test_a_budgets_429_waits_for_its_pod_and_silences_nobody_else(tmp_path: Path) -> None:
    """Ten seconds are asked for while a budget is new: that is between us and one pod; every other incident of the cluster is read and acted for."""
    tls, authority = made(tmp_path, "only")
    way = Way()
    client = way.client()
    async with served(tls) as port:
        way.host, way.authority = f"https://127.0.0.1:{port}", authority
        with pytest.raises(BlockedError) as caught:
            await client.send("POST", "/api/v1/namespaces/shop/pods/api-1/eviction", body={}, within=SOON)
        other = await client.send("GET", "/version", within=SOON)
    await client.close()

    assert caught.value.retry_after == timedelta(seconds=10)
    assert other == b"{}"


async def test_a_token_file_that_is_empty_for_a_moment_is_no_surprise(tmp_path: Path) -> None:
    """While the kubelet changes it the last token is sent; it is read again with the next request."""
    tls, authority = made(tmp_path, "only")
    way = Way()

    async def load() -> Configuration:
        found = await way.load()
        found.api_key = {"BearerToken": "the last one"}
        found.refresh_api_key_hook = _empty
        return found

    client = KubernetesClient("prod", Access(configuration=None, reload=load))
    async with served(tls) as port:
        way.host, way.authority = f"https://127.0.0.1:{port}", authority
        answer = await client.send("GET", "/version", within=SOON)
    await client.close()

    assert answer == b"{}"


def _empty(_configuration: Configuration) -> None:
    raise ConfigException("Token file exists but empty.")
