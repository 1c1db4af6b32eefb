"""The sandbox cluster in a process of its own, so that its CPU is not counted: ``cluster.py KUBECONFIG TARGETS NAMESPACES TIMES``; prints ``ready``.

When the Deployments of each namespace were read, one of them or all in a list, is written to the file TIMES at SIGUSR1, by CLOCK_MONOTONIC: of an alert that
comes alone the first is the router's look-up, the second the worker's reading.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from pathlib import Path

from aiohttp import web

from responder.sandbox import SandboxCluster, Timings
from responder.sandbox.api import Api

DEPLOYMENTS = re.compile(r"/namespaces/(ns-\d+)/deployments(?:/app-\d+)?$")


async def main() -> None:
    """Serve until killed."""
    seen: dict[str, list[float]] = {}
    answered = Api._http

    async def noted(self: Api, request: web.Request) -> web.StreamResponse:
        found = DEPLOYMENTS.search(request.path)
        if found is not None and request.method == "GET":
            seen.setdefault(found[1], []).append(time.monotonic())
        return await answered(self, request)

    Api._http = noted  # type: ignore[method-assign]
    async with SandboxCluster(timings=Timings(every=30.0)) as cluster:
        for number in range(int(sys.argv[2])):
            cluster.deployment(
                f"ns-{number % int(sys.argv[3])}", f"app-{number}", image=f"shop/app-{number}:1", replicas=1, service=False
            )
        cluster.write_kubeconfig(Path(sys.argv[1]))
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: Path(sys.argv[4]).write_text(json.dumps(seen)))
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
