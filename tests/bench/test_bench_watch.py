"""The watch source against the floor: a bare msgspec decode of the same bytes. Figures are printed, never asserted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import msgspec

from responder.clusters.kubernetes.client import KubernetesClient, load_access
from responder.clusters.kubernetes.informer import Informer
from responder.clusters.kubernetes.symptoms import WatchedPod, of_pod
from responder.clusters.kubernetes.watch import SymptomKeeper

ROUNDS = 5


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[KubernetesClient, str]]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("pods_server.py")), str(port)])
    url = f"http://127.0.0.1:{port}"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {"token": "t"}}],
    }  # fmt: skip
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    client = KubernetesClient("c", await load_access("c", in_cluster=False, kubeconfig=str(path), context=""))
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.1)
        yield client, url
    finally:
        await client.close()
        process.kill()
        process.wait()


async def measured(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return CPU seconds of this process and the event loop's longest stall, in seconds of its thread.

    What the loop was held for, that is; on a busy machine a stop-watch would count what other processes were given meanwhile.
    """
    longest = 0.0
    done = False

    async def tick() -> None:
        nonlocal longest
        last = time.thread_time()
        while not done:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest = max(longest, now - last)
            last = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    longest, began = 0.0, time.process_time()
    await work()
    used = time.process_time() - began
    done = True
    await ticking
    return used, longest


class Page(msgspec.Struct):
    items: list[WatchedPod]


async def test_a_list_of_five_thousand_pods_and_a_stream_of_events(tmp_path: Path) -> None:
    """CPU against a bare typed decode of the same bytes; stall against the unpaged list; events a second on one core."""
    ratios, with_transport, stalls, rates = [], [], [], []
    keeper: SymptomKeeper[WatchedPod] = SymptomKeeper(of_pod)
    async with served(tmp_path) as (client, url), aiohttp.ClientSession() as session:

        async def fetched() -> list[bytes]:
            bodies = []
            token = ""
            while True:
                query = {"limit": "500", **({"continue": token} if token else {})}
                async with session.get(f"{url}/api/v1/pods", params=query) as answer:
                    bodies.append(await answer.read())
                start = len(bodies) * 500
                if start >= 5_000:
                    return bodies
                token = str(start)

        async def whole() -> None:
            body = await client.send("GET", "/api/v1/pods", within=timedelta(seconds=60))
            msgspec.json.decode(body, type=Page)

        for _ in range(ROUNDS):
            informer = Informer(client, "/api/v1/pods", WatchedPod, keeper)
            began = time.process_time()
            await informer.list_all()
            ours = time.process_time() - began
            began = time.process_time()
            bodies = await fetched()
            transport = time.process_time() - began
            began = time.process_time()
            for body in bodies:
                msgspec.json.decode(body, type=Page)
            bare = time.process_time() - began
            ratios.append((ours - transport) / bare)
            with_transport.append(ours / (bare + transport))
            _, stall = await measured(informer.list_all)
            _, unpaged = await measured(whole)
            stalls.append(stall / unpaged)
            began = time.process_time()
            await informer._watch()
            rates.append(20_000 / (time.process_time() - began))
    print(  # noqa: T201
        f"\nwatch: listing 5,000 pods costs {statistics.median(ratios):.2f} times the CPU of a bare msgspec decode of the same bytes, what it takes to fetch "
        f"them taken off both ({statistics.median(with_transport):.2f} with it on both); longest stall of the loop {statistics.median(stalls):.2f} "
        f"times that of the unpaged list; {statistics.median(rates):,.0f} watch events a second of CPU (median of {ROUNDS} rounds)"
    )
    assert keeper.found == {}
