"""The whole service on virtual time: its own loops, a store in memory, a sandbox cluster without sockets, channels that can be in any trouble.

An hour costs seconds. Tests are marked ``looptime``. What is changed of the service: a loop that has nothing due looks again after 30 s and not after
one; whatever becomes due, and whatever is told to it, still wakes it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from responder import __version__
from responder import app as composition
from responder.actions.catalogue import catalogue
from responder.clock import SystemClock
from responder.clusters.kubernetes import KubernetesHands, KubernetesView
from responder.model.errors import StoreUnavailableError
from responder.model.incident import Incident
from responder.model.notice import Notice, NoticeKind, Receipt
from responder.model.storing import Replica
from responder.sandbox import Behaviour, SandboxCluster, Timings
from responder.service import supervisor
from responder.service.rulebook import Rulebook
from responder.settings import Settings
from responder.stores.sql.engine import sqlite_engine
from responder.stores.sql.migrate import migrate
from responder.stores.sql.runners.inline import InlineRunner
from responder.stores.sql.store import SqlStore
from responder.telemetry import Metrics
from tests.builders import NOON
from tests.crash.direct import DirectClient

RULES = Path(__file__).resolve().parents[2] / "rules"
CRASH = Behaviour(crash_after=3, log="FATAL: poisoned\n")
CONFIG: dict[str, Any] = {
    "act": ["pod-crash-loop", "backstop"],
    "shipped_rules": False,
    "rule_paths": [str(RULES / "pod-crash-loop.yaml"), str(RULES / "backstop.yaml")],
    "http": {"authentication": False},
    "store": {"path": "unused"},
    "clusters": {"sandbox": {"kubeconfig": "unused"}},
    "channels": {
        "pager": {"kind": "webhook", "url": {"env": "HOME"}, "fallback": "chat"},
        "boss": {"kind": "webhook", "url": {"env": "HOME"}},
        "chat": {"kind": "webhook", "url": {"env": "HOME"}},
        "team": {"kind": "webhook", "url": {"env": "HOME"}},
    },
    "policies": {
        "people": {
            "levels": [{"after": "0s", "channels": ["pager"]}, {"after": "15m", "channels": ["boss"]}],
            "report": ["team"],
        }
    },
    "routes": {"default": "people"},
}


class LoopClock:
    """The event loop's time, from noon."""

    speed = 1.0

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = 0.0  # where looptime begins

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self._loop.time() - self._began)

    def boottime(self) -> float:
        return self._loop.time()

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(max(0.0, duration.total_seconds()))


@dataclass(frozen=True, slots=True)
class Told:
    """A message that a channel took."""

    at: datetime
    channel: str
    notice: Notice


class Line:
    """A channel.

    Attributes:
        trouble: Does what a channel in trouble does; None when it is well.
        tried_at: Every try.
    """

    def __init__(self, name: str, stage: Stage) -> None:
        self.name = name
        self.trouble: Callable[[], Awaitable[object]] | None = None
        self.tried_at: list[datetime] = []
        self._stage = stage

    async def send(self, notice: Notice) -> Receipt:
        self.tried_at.append(self._stage.clock.now())
        if self.trouble is not None:
            await self.trouble()
        self._stage.told.append(Told(self._stage.clock.now(), self.name, notice))
        return Receipt(reached=self.name in {"pager", "boss"}, answer="202")

    async def reach(self) -> None:
        """It is always there."""

    async def close(self) -> None:
        """Nothing is open."""


class CountingClient(DirectClient):
    """Counts what it asks.

    Attributes:
        network: Raised by the network; None when it is well.
        asks: Who answers; None for the cluster itself.
    """

    asked = 0
    network: Exception | None = None
    asks: Callable[..., Awaitable[tuple[int, bytes, Mapping[str, str]]]] | None = None

    async def _once(self, *asked: Any) -> tuple[int, bytes, Mapping[str, str]]:
        self.asked += 1
        if self.network is not None:
            raise self.network
        return await (self.asks or self.ask)(*asked)

    async def ask(self, *asked: Any) -> tuple[int, bytes, Mapping[str, str]]:
        """Ask the cluster."""
        return await super()._once(*asked)


def _rulebook(settings: Settings) -> Rulebook:
    book = Rulebook(
        paths=settings.paths(), catalogue=catalogue().names, act=settings.act_entries(), overrides=settings.rules,
        clock=SystemClock(), metrics=Metrics(),
    )  # fmt: skip
    assert book.load(), book.problems
    return book


class Stage:
    """A running service with everything round it.

    Attributes:
        told: Messages that channels took, in order.
        untaken: Alerts that the service has not taken yet; their sender repeats them.
    """

    def __init__(
        self, *, name: str = "embedded", path: Path | None = None, beside: Any = None, more: Mapping[str, Any] | None = None
    ) -> None:
        """Put a service together.

        Args:
            name: Its own, in leases.
            path: Of a database that several share; None for one of its own, in memory.
            beside: Another stage, of this or another release, whose cluster and channels it shares.
            more: Settings.
        """
        self.name = name
        self.clock = LoopClock()
        self.cluster: SandboxCluster = beside.cluster if beside else SandboxCluster(timings=Timings(), now=self.clock.now)
        self.runner = InlineRunner()
        if path is not None:
            self.runner._engine = sqlite_engine(str(path))
            with self.runner._engine.begin() as connection:
                self.runner.schema_ahead = migrate(connection)
        self.store = SqlStore(self.runner, self.clock)
        self.told: list[Told] = beside.told if beside else []
        self.untaken: list[bytes] = []
        self.client = CountingClient("sandbox", self.cluster)
        if beside:
            self.client.asks = beside.client.ask  # the cluster's errors are of the release that the cluster is of
        settings = Settings.model_validate({**CONFIG, **(more or {})})
        self.lines = {channel: Line(channel, self) for channel in settings.channels}
        channels: Any = self.lines
        view = KubernetesView("sandbox", self.client, now=self.clock.now)
        self.app = composition._assemble(
            settings, self.clock, Metrics(), catalogue(), _rulebook(settings), self.store, channels,
            {"sandbox": view}, {"sandbox": KubernetesHands("sandbox", self.client)}, {}, None,
        )  # fmt: skip
        self.app.supervisor._worker.owner = name
        self.app.supervisor._replica = Replica(id=name, incarnation=name, version=__version__)

    def dies(self) -> None:
        """Cut it off from everything for good, as a killed process is: what it holds stays as it is."""
        self.runner.unavailable = "it is dead"
        self.client.network = OSError("it is dead")
        for line in self.lines.values():
            line.trouble = asyncio.Event().wait

    # --- what is done to it

    async def crashing(self, name: str = "api", *, cured_by_restart: bool = True) -> None:
        """Create a Deployment, let it become healthy, then let it crash."""
        self.cluster.deployment("shop", name, image=f"shop/{name}:1", replicas=2)
        await asyncio.sleep(30)
        assert self.cluster.available("shop", name)
        if cured_by_restart:
            self.cluster.break_running("shop", name, CRASH)
        else:
            self.cluster.behave(f"shop/{name}:1", CRASH)
        await asyncio.sleep(120)

    async def alert(self, name: str, **labels: str) -> bool:
        """Let a sender post an alert, and again every 15 s until it is taken; return whether it was at once."""
        one = {
            "status": "firing", "labels": {"alertname": name, **labels}, "annotations": {},
            "startsAt": self.clock.now().isoformat(), "endsAt": "0001-01-01T00:00:00Z",
        }  # fmt: skip
        body = msgspec.json.encode({"version": "4", "status": "firing", "receiver": "r", "alerts": [one]})
        self.untaken.append(body)
        return await self._post(body)

    async def crash_loop(self, name: str = "api") -> bool:
        return await self.alert("KubePodCrashLooping", namespace="shop", deployment=name)

    async def _post(self, body: bytes) -> bool:
        try:
            await self.app.intake.accept(source="alertmanager", source_name="prom", body=body)
        except StoreUnavailableError:
            return False
        if body in self.untaken:  # a slow store: the sender repeated it before it was answered
            self.untaken.remove(body)
        self.app.supervisor.poke()
        return True

    async def _controllers(self) -> None:
        while True:
            self.cluster.step()
            await asyncio.sleep(2)

    async def _senders(self) -> None:
        while True:
            await asyncio.sleep(15)
            for body in list(self.untaken):
                await self._post(body)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the service."""
        beside = [self._senders()] if self.client.asks else [self._controllers(), self._senders()]
        tasks = [asyncio.create_task(one) for one in (self.app.supervisor.run(), *beside)]
        try:
            yield
            assert not any(one.done() for one in tasks), "a loop of the service or of the cluster has died"
        finally:
            self.app.supervisor.stop()
            await tasks[0]
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks[1:], return_exceptions=True)

    # --- what is seen of it

    async def incidents(self) -> dict[str, Incident]:
        """Return the armed incidents by their target's name, by their title where they have none; those that moved to another target are left out."""
        found = await self.store.incidents(unclosed=False, limit=50)
        return {one.target.name or one.title: one for one in found if one.mode == "armed" and one.reason != "moved"}

    async def phase(self, name: str = "api") -> str:
        found = await self.incidents()
        return str(found[name].phase) if name in found else ""

    async def until(self, name: str, *phases: str, within: timedelta = timedelta(minutes=30)) -> Incident:
        """Wait until an incident is in one of these phases."""
        ends_at = self.clock.now() + within
        while await self.phase(name) not in phases:
            assert self.clock.now() < ends_at, (await self.incidents()).get(name)
            await asyncio.sleep(1)
        return (await self.incidents())[name]

    def heard(self, *kinds: NoticeKind, channel: str = "", key: str = "") -> list[Told]:
        """Return messages of these kinds."""
        return [
            one
            for one in self.told
            if one.notice.kind in kinds and channel in {"", one.channel} and one.notice.dedup_key.startswith(key)
        ]

    def writes(self) -> list[str]:
        return [one.name for one in self.cluster.writes]


@contextlib.asynccontextmanager
async def a_stage(patch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """Give a running service."""
    patch.setattr(supervisor, "POLL", timedelta(seconds=30))
    stage = Stage()
    async with stage.running():
        yield stage
