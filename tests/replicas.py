"""Several real processes of the service on one PostgreSQL, with a sandbox cluster and a PagerDuty on loopback, in real time.

What is scaled: two seconds of ``group_wait`` instead of 30, 15 s of ``hold`` instead of two minutes. The lease is the real one, 15 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import yaml

from responder.sandbox import Behaviour, PagerDutyReceiver, SandboxCluster

ROOT = Path(__file__).resolve().parents[1]
CRASH = Behaviour(crash_after=0.5)
HEADERS = {"Authorization": "Bearer t"}
LEVEL_2 = 40
"""Seconds from the first page to the second level."""


@dataclass(slots=True)
class Replica:
    """One process."""

    name: str
    port: int
    config: Path
    log: Path
    source: Path = ROOT
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, url: str) -> None:
        """Start it from its source tree."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "responder", "serve", "--config", str(self.config)],
                stderr=log,
                cwd=self.source,
                env={**os.environ, "PYTHONPATH": str(self.source), "TOKEN": "t", "KEY": "k" * 32, "DATABASE": url},
            )

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self, *, within: float = 60) -> int:
        """Wait for its end."""
        assert self.process is not None
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), within)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what it logged under this name."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]


@dataclass(slots=True)
class Fleet:
    """Replicas and what is round them."""

    cluster: SandboxCluster
    pagerduty: PagerDutyReceiver
    url: str
    folder: Path
    session: aiohttp.ClientSession
    db: asyncpg.Connection
    armed: str = "pod-crash-loop"
    more: dict[str, Any] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    paged_at: dict[int, float] = field(default_factory=dict)

    def add(self, name: str, *, source: Path = ROOT) -> Replica:
        """Configure a replica; its port is its own for good, as a pod's address behind a service."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        rules = self.folder / "rules"
        if not rules.exists():
            rules.mkdir()
            for rule in (self.armed, "backstop"):
                text = (ROOT / "rules" / f"{rule}.yaml").read_text()
                if rule == self.armed:
                    text = re.sub(r"^hold: .*\n", "", text, flags=re.MULTILINE).replace("ladder:\n", "hold: 15s\nladder:\n", 1)
                (rules / f"{rule}.yaml").write_text(text)
            self.cluster.write_kubeconfig(self.folder / "kubeconfig")
        config = {
            "act": [self.armed],
            "shipped_rules": False,
            "rule_paths": [str(rules)],
            "store": {"url": {"env": "DATABASE"}, "pool": 4},
            "http": {
                "listen": f"127.0.0.1:{port}",
                "tokens": [{"name": "ana", "roles": ["send", "view", "operate", "approve"], "secret": {"env": "TOKEN"}}],
            },
            "clusters": {"sandbox": {"kubeconfig": str(self.folder / "kubeconfig")}},
            "channels": {"pager": {"kind": "pagerduty", "routing_key": {"env": "KEY"}, "endpoint": self.pagerduty.url}},
            "policies": {"p": {"levels": [{"channels": ["pager"]}, {"after": f"{LEVEL_2}s", "channels": ["pager"]}]}},
            "routes": {"default": "p"},
            "limits": {"group_wait": "2s", "same_symptom": "100/5m", "max_actions": "50/1h"},
            **self.more,
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        replica = Replica(name=name, port=port, config=path, log=self.folder / f"{name}.jsonl", source=source)
        self.replicas[name] = replica
        return replica

    async def start(self, *names: str, steady: bool = True) -> None:
        """Start replicas and wait until they are ready and, if asked, may write (a lease after their start)."""
        for name in names:
            self.replicas[name].start(self.url)
        for name in names:
            await self.ready(name)
        if steady:
            await asyncio.sleep(16)

    async def ready(self, name: str) -> None:
        async with asyncio.timeout(40):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    if (await self.get(name, "/readyz"))["ready"]:
                        return
                process = self.replicas[name].process
                assert process is not None
                assert process.poll() is None, self.replicas[name].log.read_text()[-3000:]
                await asyncio.sleep(0.1)

    async def get(self, name: str, path: str) -> Any:
        async with self.session.get(f"http://127.0.0.1:{self.replicas[name].port}{path}", headers=HEADERS) as response:
            return await response.json()

    async def post(self, name: str, *alerts: dict[str, Any]) -> int:
        """Post to one replica, once."""
        url = f"http://127.0.0.1:{self.replicas[name].port}/v1/alerts/alertmanager/p"
        body = {"version": "4", "status": "firing", "receiver": "r", "alerts": list(alerts)}
        async with self.session.post(url, json=body, headers=HEADERS) as response:
            return response.status

    async def delivered(self, *alerts: dict[str, Any], first: int = 0) -> None:
        """Post as a sender behind a service does: again, at the next replica, until one has taken it."""
        names = list(self.replicas)
        async with asyncio.timeout(60):
            for number in range(first, first + 10_000):
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with asyncio.timeout(5):
                        if await self.post(names[number % len(names)], *alerts) == 202:
                            return
                await asyncio.sleep(0.05)

    async def break_workloads(self, *namespaces: str, name: str = "api") -> None:
        """Create a Deployment in each namespace, let it become healthy, and break the pods it has: a restart cures it."""
        for namespace in namespaces:
            self.cluster.deployment(namespace, name, image=f"{namespace}/{name}:1", replicas=2)
        await self.cluster.wait_for(lambda: all(self.cluster.available(one, name) for one in namespaces), within=60)
        for namespace in namespaces:
            self.cluster.break_running(namespace, name, CRASH)

        def crashed() -> bool:
            return all(
                pod["status"]["containerStatuses"][0]["restartCount"]
                for namespace in namespaces
                for pod in self.cluster.pods(namespace, name)
            )

        await self.cluster.wait_for(crashed, within=60)

    def writes(self) -> dict[str, int]:
        """Return how many writes each namespace's workload has seen."""
        found: dict[str, int] = {}
        for one in self.cluster.writes:
            found[one.namespace] = found.get(one.namespace, 0) + 1
        return found

    async def incidents(self) -> list[asyncpg.Record]:
        return list(
            await self.db.fetch("select id, key, target, phase, owner, lease_until, mode from incidents order by opened_at, id")
        )

    async def until(
        self, holds: Callable[[Sequence[asyncpg.Record]], Any], *, within: float, what: str, every: float = 0.1
    ) -> None:
        """Wait until something holds of the incidents.

        Raises:
            TimeoutError: It did not; says what the incidents were.
        """
        ends_at = time.monotonic() + within
        while True:
            found = await self.incidents()
            if holds(found):
                return
            if time.monotonic() > ends_at:
                raise TimeoutError(f"{what} did not hold within {within:g} s: {[dict(one) for one in found]}")
            await asyncio.sleep(every)

    def holder(self, incident: asyncpg.Record) -> str:
        """Return the name of the replica that holds an incident."""
        return next(name for name, one in self.replicas.items() if one.process and f"/{one.pid}/" in incident["owner"])

    async def aclose(self) -> None:
        """End every process, the stopped ones too."""
        for one in self.replicas.values():
            if one.process is not None and one.process.poll() is None:
                one.send(signal.SIGCONT)
                one.send(signal.SIGTERM)
        for one in self.replicas.values():
            if one.process is not None:
                try:
                    await one.ended(within=45)
                except TimeoutError:
                    one.send(signal.SIGKILL)
                    await one.ended()
        await asyncio.sleep(0.25)  # what the ended processes left half open is closed by the loop before it ends itself


def alert(
    namespace: str, *, name: str = "api", alertname: str = "KubePodCrashLooping", at: str = "2026-11-24T10:00:00Z"
) -> dict[str, Any]:
    """Return an alert about a Deployment."""
    labels = {"alertname": alertname, "namespace": namespace, "deployment": name}
    return {"status": "firing", "labels": labels, "annotations": {}, "startsAt": at, "endsAt": "0001-01-01T00:00:00Z"}
