"""The sandbox cluster in a process of its own, so that its CPU is not counted: ``cluster.py KUBECONFIG TARGETS``; prints ``ready``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from responder.sandbox import SandboxCluster, Timings


async def main() -> None:
    """Serve until killed."""
    async with SandboxCluster(timings=Timings(every=30.0)) as cluster:
        for number in range(int(sys.argv[2])):
            cluster.deployment(f"ns-{number % 50}", f"app-{number}", image=f"shop/app-{number}:1", replicas=1, service=False)
        cluster.write_kubeconfig(Path(sys.argv[1]))
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
