"""The sandbox cluster in a process of its own, so that its CPU is not counted: ``cluster.py KUBECONFIG TARGETS TIMES``; prints ``ready``.

What reads of each Deployment came first and second, by CLOCK_MONOTONIC, is written to the file TIMES at SIGUSR1: the first is the router's look-up, the
second the worker's reading.
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

DEPLOYMENT = re.compile(r"/deployments/(app-\d+)$")


async def main() -> None:
    """Serve until killed."""
    seen: dict[str, list[float]] = {}
    answered = Api._http

    async def noted(self: Api, request: web.Request) -> web.StreamResponse:
        found = DEPLOYMENT.search(request.path)
        if found is not None and request.method == "GET":
            seen.setdefault(found[1], []).append(time.monotonic())
        return await answered(self, request)

    Api._http = noted  # type: ignore[method-assign]
    async with SandboxCluster(timings=Timings(every=30.0)) as cluster:
        for number in range(int(sys.argv[2])):
            cluster.deployment(f"ns-{number % 50}", f"app-{number}", image=f"shop/app-{number}:1", replicas=1, service=False)
        cluster.write_kubeconfig(Path(sys.argv[1]))
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: Path(sys.argv[3]).write_text(json.dumps(seen)))
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
