"""An informer goes on whatever the API server does. The server is a script: one step for each request it gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from responder.clusters.kubernetes.client import KubernetesClient, load_access
from responder.clusters.kubernetes.informer import Informer
from responder.clusters.kubernetes.symptoms import WatchedPod
from responder.http.server import stop_serving


def pod(uid: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": uid, "namespace": "shop", "uid": uid, "resourceVersion": str(version)}}


@dataclass(slots=True)
class Script:
    """Answers lists from ``pages`` and watches from ``watches``, in order; the last watch hangs."""

    pages: list[Any] = field(default_factory=list)
    watches: list[Any] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.asked.append(query)
        if "watch" not in query:
            answer = self.pages.pop(0)
            return answer if isinstance(answer, web.Response) else web.json_response(answer)
        if not self.watches:
            await asyncio.sleep(60)
        step = self.watches.pop(0)
        if isinstance(step, web.Response):
            return step
        response = web.StreamResponse()
        await response.prepare(request)
        for line in step:
            if line == "silence":
                await asyncio.sleep(60)
            await response.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
        return response

    def watched_from(self) -> list[str]:
        return [one["resourceVersion"] for one in self.asked if "watch" in one]


class Seen:
    """Keeps UIDs."""

    def __init__(self) -> None:
        self.uids: dict[str, str] = {}

    def put(self, one: WatchedPod) -> None:
        self.uids[one.metadata.uid] = one.metadata.resource_version

    def drop(self, one: WatchedPod) -> None:
        self.uids.pop(one.metadata.uid, None)

    def keep_only(self, uids: set[str]) -> None:
        self.uids = {uid: version for uid, version in self.uids.items() if uid in uids}


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    one = Script()
    app = web.Application()
    app.router.add_get("/api/v1/pods", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await stop_serving(runner)


@contextlib.asynccontextmanager
async def following(script: Script, folder: Path, *, silent_for: float = 30) -> AsyncIterator[tuple[Seen, Informer[WatchedPod]]]:
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": script.url}}], "users": [{"name": "u", "user": {"token": "t"}}],
    }  # fmt: skip
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    client = KubernetesClient("c", await load_access("c", in_cluster=False, kubeconfig=str(path), context=""))
    seen = Seen()
    informer = Informer(client, "/api/v1/pods", WatchedPod, seen, silent_for=timedelta(seconds=silent_for))
    task = asyncio.create_task(informer.run())
    try:
        yield seen, informer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


def page(*pods: dict[str, Any], version: str, token: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version, **({"continue": token} if token else {})}, "items": list(pods)}


async def test_it_lists_in_pages_and_watches_from_there(script: Script, tmp_path: Path) -> None:
    """The version of the first page counts; a bookmark moves it on, and so does every event."""
    script.pages = [page(pod("a", 3), version="10", token="more"), page(pod("b", 4), version="10")]
    script.watches = [
        [
            {"type": "ADDED", "object": pod("c", 11)}, {"type": "MODIFIED", "object": pod("a", 12)}, {"type": "DELETED", "object": pod("b", 13)},
            {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "20"}}},
        ],
    ]  # fmt: skip

    async with following(script, tmp_path) as (seen, informer):
        await until(lambda: script.watched_from() == ["10", "20"])

        assert seen.uids == {"a": "12", "c": "11"}
        assert informer.fresh
        assert script.asked[1]["continue"] == "more"
        assert script.asked[2]["allowWatchBookmarks"] == "true"


@pytest.mark.parametrize("shape", ["event", "status"])
async def test_after_410_it_lists_anew_and_forgets_what_is_gone(shape: str, script: Script, tmp_path: Path) -> None:
    """Never again from the same stale version."""
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    script.pages = [page(pod("a", 3), pod("b", 4), version="10"), page(pod("b", 4), pod("c", 30), version="30")]
    script.watches = [[{"type": "ERROR", "object": gone}] if shape == "event" else web.json_response(gone, status=410)]

    async with following(script, tmp_path) as (seen, _):
        await until(lambda: script.watched_from() == ["10", "30"])

        assert set(seen.uids) == {"b", "c"}


async def test_a_connection_that_says_nothing_is_given_up_and_resumed(script: Script, tmp_path: Path) -> None:
    """From the last version, so nothing is missed."""
    script.pages = [page(version="10")]
    script.watches = [
        [{"type": "ADDED", "object": pod("a", 11)}, "silence"],
        [{"type": "ADDED", "object": pod("b", 12)}, "silence"],
    ]

    async with following(script, tmp_path, silent_for=0.2) as (seen, _):
        await until(lambda: set(seen.uids) == {"a", "b"})

        assert script.watched_from()[:2] == ["10", "11"]


async def test_garbage_and_refusals_are_survived(script: Script, tmp_path: Path) -> None:
    """A proxy's page in the stream, a 503, a half line: back off, resume from the last version."""
    script.pages = [
        web.Response(status=503, text="<html>"),
        web.Response(status=503),
        web.Response(status=503),
        page(version="10"),
    ]
    script.watches = [
        [{"type": "ADDED", "object": pod("a", 11)}, b"<html>502 Bad Gateway</html>"],
        web.Response(status=503, text="<html>"),
        [{"type": "ADDED", "object": pod("b", 12)}, "silence"],
    ]

    async with following(script, tmp_path) as (seen, _):
        await until(lambda: set(seen.uids) == {"a", "b"})

        assert script.watched_from() == ["10", "11", "11"]


@pytest.mark.parametrize("trouble", [{"code": None, "message": None}, [], "gone"])
async def test_an_error_in_a_shape_of_its_own_is_survived(trouble: Any, script: Script, tmp_path: Path) -> None:
    """What a proxy or an aggregated API calls an error ends one watch and no more: the version stands, and it is resumed."""
    script.pages = [page(version="10")]
    script.watches = [
        [{"type": "ADDED", "object": pod("a", 11)}, {"type": "ERROR", "object": trouble}],
        [{"type": "ADDED", "object": pod("b", 12)}, "silence"],
    ]

    async with following(script, tmp_path) as (seen, _):
        await until(lambda: set(seen.uids) == {"a", "b"})

        assert script.watched_from() == ["10", "11"]


async def test_an_expired_page_begins_once_anew(script: Script, tmp_path: Path) -> None:
    """A long list may outlive its continue token."""
    expired = web.json_response(
        {"code": 410, "reason": "Expired", "message": "the provided continue parameter is too old"}, status=410
    )
    script.pages = [page(pod("old", 1), version="5", token="more"), expired, page(pod("a", 3), version="10")]

    async with following(script, tmp_path) as (seen, _):
        await until(lambda: script.watched_from() == ["10"])

        assert set(seen.uids) == {"a"}


async def test_a_server_that_closes_at_once_is_not_hammered(script: Script, tmp_path: Path) -> None:
    """The client library reconnected 640 times a second (kubernetes.md B3)."""
    script.pages = [page(version="10")]
    script.watches = [[] for _ in range(200)]

    async with following(script, tmp_path):
        await asyncio.sleep(1.0)

        assert 1 <= len(script.watched_from()) <= 6
