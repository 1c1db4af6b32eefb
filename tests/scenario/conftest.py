"""The whole service on a sandbox cluster, over real HTTP on loopback, with a clock that runs many times faster."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from responder.app import App, assembled, serve
from responder.clock import SpedUpClock
from responder.model.incident import Incident, Mode
from responder.sandbox import Behaviour, PagerDutyReceiver, SandboxCluster, TeamsReceiver, Timings
from responder.settings import load_settings

SPEED = 20.0
CRASH = Behaviour(crash_after=3, log="FATAL: poisoned\n")


@dataclass(slots=True)
class World:
    """A running service with everything round it."""

    cluster: SandboxCluster
    pagerduty: PagerDutyReceiver
    teams: TeamsReceiver
    session: aiohttp.ClientSession
    clock: SpedUpClock
    folder: Path
    config: dict[str, Any]
    app: App | None = None
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def parts(self) -> App:
        assert self.app is not None
        return self.app

    async def start(self) -> None:
        """Start the service."""
        path = self.folder / "responder.yaml"
        path.write_text(yaml.safe_dump(self.config))
        self.stack = contextlib.AsyncExitStack()
        self.app = await self.stack.enter_async_context(assembled(load_settings(path), clock=self.clock))
        started = asyncio.Event()
        task = asyncio.create_task(serve(self.app, started=started.set))
        self.stack.push_async_callback(self._stopped, task)
        async with asyncio.timeout(60):
            await started.wait()

    async def _stopped(self, task: asyncio.Task[None]) -> None:
        self.parts.supervisor.stop()
        await task

    async def stop(self) -> None:
        """Stop it as SIGTERM does."""
        await self.stack.aclose()
        self.app = None

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str = "all", raw: bytes | None = None
    ) -> tuple[int, Any, Any]:
        """Call the API; return status, JSON (or text) and headers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = {"data": io.BytesIO(raw)} if raw is not None else ({"json": body} if body is not None else {})
        async with self.session.request(method, f"{self.parts.url}{path}", headers=headers, **data) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return response.status, (await response.json() if is_json else text), response.headers

    async def alert(
        self, name: str, *, source: str = "prometheus", status: str = "firing", starts_at: str | None = None, **labels: str
    ) -> int:
        """Post an Alertmanager body."""
        at = starts_at or self.clock.now().isoformat()
        one = {
            "status": status,
            "labels": {"alertname": name, "cluster": "sandbox", **labels},
            "annotations": {},
            "startsAt": at,
            "endsAt": "0001-01-01T00:00:00Z",
        }
        code, _, _ = await self.call(
            "POST", f"/v1/alerts/alertmanager/{source}", {"version": "4", "status": status, "receiver": "r", "alerts": [one]}
        )
        return code

    async def incidents(self, *, mode: Mode = Mode.ARMED) -> list[Incident]:
        return list(await self.parts.store.incidents(unclosed=False, limit=200, mode=mode))

    async def only(self) -> Incident:
        (one,) = await self.incidents()
        return one

    async def until(self, holds: Callable[[], Any], *, within: float = 90.0) -> None:
        """Wait, in real seconds."""
        async with asyncio.timeout(within):
            while True:
                found = holds()
                if isinstance(found, Awaitable):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.03)

    async def reaches(self, *phases: str, within: float = 90.0) -> Incident:
        """Wait until the only incident is in one of these phases."""

        async def there() -> bool:
            found = await self.incidents()
            return len(found) == 1 and str(found[0].phase) in phases

        await self.until(there, within=within)
        return await self.only()

    async def crashing(self, name: str = "api", *, replicas: int = 2, cured_by_restart: bool = True) -> None:
        """Create a Deployment, let it become healthy, then let it crash."""
        image = f"shop/{name}:1"
        self.cluster.deployment("shop", name, image=image, replicas=replicas)
        await self.cluster.wait_for(lambda: self.cluster.available("shop", name), within=120)
        if cured_by_restart:
            self.cluster.break_running("shop", name, CRASH)
        else:
            self.cluster.behave(image, CRASH)

        def crashed() -> bool:
            counts = [
                one["restartCount"]
                for pod in self.cluster.pods("shop", name)
                for one in pod["status"].get("containerStatuses", [])
            ]
            return len(counts) == replicas and min(counts) >= 1

        await self.cluster.wait_for(crashed, within=120)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    speed: float = getattr(request, "param", SPEED)
    clock = SpedUpClock(speed)
    async with (
        SandboxCluster(timings=Timings(speed=speed, every=0.5), now=clock.now) as cluster,
        PagerDutyReceiver() as pagerduty,
        TeamsReceiver() as teams,
        aiohttp.ClientSession() as session,
    ):
        for name, value in {"ALL": "all", "SENDER": "sender", "VIEWER": "viewer", "KEY": "k" * 32, "TEAMS": teams.url}.items():
            monkeypatch.setenv(name, value)
        config = {
            "act": ["pod-crash-loop"],
            "store": {"path": str(tmp_path / "responder.sqlite")},
            "http": {
                "listen": "127.0.0.1:0",
                "public_url": "https://responder.example",
                "tokens": [
                    {"name": "ana", "roles": ["send", "view", "operate", "approve"], "secret": {"env": "ALL"}},
                    {"name": "alertmanager", "roles": ["send"], "secret": {"env": "SENDER"}, "sources": ["prometheus"]},
                    {"name": "viewer", "roles": ["view"], "secret": {"env": "VIEWER"}},
                ],
            },
            "clusters": {"sandbox": {"kubeconfig": str(cluster.write_kubeconfig(tmp_path / "kubeconfig"))}},
            "channels": {
                "pager": {"kind": "pagerduty", "routing_key": {"env": "KEY"}, "endpoint": pagerduty.url, "fallback": "teams"},
                "teams": {"kind": "teams", "url": {"env": "TEAMS"}},
                "shadow": {"kind": "teams", "url": {"env": "TEAMS"}},
            },
            "policies": {
                "people": {
                    "levels": [{"after": "0s", "channels": ["pager"]}, {"after": "3m", "channels": ["pager"]}],
                    "report": ["teams"],
                }
            },
            "routes": {"default": "people"},
            "clock": speed,
        }
        made = World(
            cluster=cluster, pagerduty=pagerduty, teams=teams, session=session, clock=clock, folder=tmp_path, config=config
        )
        yield made
        if made.app is not None:
            await made.stop()
