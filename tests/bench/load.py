"""Posts alerts as a sender does, from a process of its own: ``load.py URL ALERTS PER_POST CONNECTIONS TARGETS RULES FIRST PER_SECOND`` (0: as fast as it goes).

What is not answered with 202 is posted again, also when the service is killed meanwhile. Prints what came back as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

import aiohttp
import uvloop

NAMESPACES = 50


def body(first: int, count: int, targets: int, rules: int, namespaces: int = NAMESPACES) -> bytes:
    """Return a webhook body in Alertmanager's exact shape; every alert is an instance of its own."""
    alerts = [
        {
            "status": "firing",
            "labels": {
                "alertname": f"Alert{number % rules}", "namespace": f"ns-{number % targets % namespaces}", "deployment": f"app-{number % targets}",
                "severity": "warning", "number": str(number), "prometheus": "monitoring/k8s", "container": "app",
            },
            "annotations": {"summary": "A container keeps crashing", "runbook_url": "https://runbooks.example/x", "description": "d" * 120},
            "startsAt": "2026-01-05T12:00:00.000Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus/graph?g0.expr=up", "fingerprint": f"{number:016x}",
        }
        for number in range(first, first + count)
    ]  # fmt: skip
    return json.dumps(
        {
            "receiver": "responder", "status": "firing", "alerts": alerts, "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
            "externalURL": "http://alertmanager", "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0,
        }
    ).encode()  # fmt: skip


async def main() -> None:
    """Post everything until it is taken, and print counts and seconds."""
    url, alerts, per_post, connections, targets, rules = sys.argv[1], *map(int, sys.argv[2:7])
    first, per_second = map(int, sys.argv[7:9])
    starts = list(range(first, first + alerts, per_post))
    bodies = {} if per_second else {start: body(start, per_post, targets, rules) for start in starts}
    statuses: Counter[str] = Counter()
    began = time.perf_counter()

    async def post(session: aiohttp.ClientSession, one: bytes) -> None:
        while True:
            try:
                async with session.post(
                    f"{url}/v1/alerts/alertmanager/bench", data=one, headers={"Content-Type": "application/json"}
                ) as answer:
                    await answer.read()
                statuses[str(answer.status)] += 1
                if answer.status == 202:
                    return
            except aiohttp.ClientError:
                statuses["broken"] += 1
            await asyncio.sleep(0.2)

    async def sender(session: aiohttp.ClientSession) -> None:
        while starts:
            start = starts.pop()
            if per_second:
                await asyncio.sleep(max(0.0, began + (start - first) / per_second - time.perf_counter()))
            await post(session, bodies.pop(start, b"") or body(start, per_post, targets, rules))

    if per_second:
        starts.reverse()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        await asyncio.gather(*(sender(session) for _ in range(connections)))
    print(json.dumps({"seconds": time.perf_counter() - began, "statuses": dict(statuses)}))  # noqa: T201


if __name__ == "__main__":
    uvloop.run(main())
