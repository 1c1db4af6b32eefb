"""The whole service in one thread on simulated time, with a sandbox cluster, and a place to die at every point where a process can die.

Instead of dying the disk may refuse a commit, and whatever else is to be stored for some seconds; then the process lives on.

Points: every commit (before it, and after it before anybody knows), every call to a cluster, ARM or a channel (before it, and after it before its answer is
seen), every write to a cluster or ARM (before it, and after it took effect), every poll of an operation of ARM. Dying drops everything in memory: no task goes on, nothing is flushed, leases stay.

The decision a reader would question: the supervisor's loops are turned by hand here, because a process that polls every second of an hour takes seconds of
CPU. Router, worker, hands, outbox and store are the real ones, put together by ``responder.app``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
import yaml
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from responder import app as composition
from responder.actions.catalogue import catalogue
from responder.clock import SystemClock
from responder.clusters.aks import AksCloud
from responder.clusters.kubernetes import KubernetesHands, KubernetesView
from responder.clusters.kubernetes.client import KubernetesClient
from responder.model.action import Write
from responder.model.cloud import Begun, CloudAsk, CloudSnapshot, OperationResult
from responder.model.errors import StoreUnavailableError
from responder.model.incident import Incident, Mode, Phase, Signal, SignalKind
from responder.model.notice import Notice, NoticeKind, Receipt
from responder.model.reason import Reason
from responder.model.storing import DeliveryState, ModeRow
from responder.sandbox import SandboxCluster, Timings
from responder.sandbox.kinds import NODES
from responder.service.rulebook import Rulebook
from responder.settings import Settings
from responder.stores.sql import tables
from responder.stores.sql.runners.inline import InlineRunner
from responder.stores.sql.store import Runner, SqlStore
from responder.telemetry import Metrics
from tests.builders import NOON
from tests.crash.arm import Answer, Arm, direct_cloud
from tests.crash.direct import DirectClient

R = TypeVar("R")
ROOT = Path(__file__).resolve().parents[2]
DEAD_FOR = timedelta(seconds=3)
"""Until the next process runs."""

TICK = timedelta(seconds=2)
SENDER_AGAIN = timedelta(seconds=5)
THINKS_FOR = timedelta(seconds=40)
"""How long a person looks at a plan before approving it."""

FULL_FOR = timedelta(seconds=20)
"""How long a disk takes nothing: longer than a lease."""

STORE_AGAIN = timedelta(seconds=1)
AUDITS_EVERY = timedelta(minutes=1)

CONFIG: dict[str, Any] = {
    "http": {"authentication": False},
    "store": {"path": "unused"},
    "clusters": {"sandbox": {"kubeconfig": "unused"}},
    "channels": {
        "pager": {"kind": "webhook", "url": {"env": "HOME"}},
        "boss": {"kind": "webhook", "url": {"env": "HOME"}},
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


class DiedError(BaseException):
    """The process is gone."""


@dataclass(slots=True)
class Fate:
    """Counts the points of a life and ends it at the chosen ones.

    Attributes:
        at: Points to die at, counted from the beginning of the run, over all lives.
        refuses: It is the disk that fails there, at a commit, and not the process: it takes nothing for ``FULL_FOR``.
        passed: Kinds of all points in order.
        dead: Nothing may happen any more in this life.
        now: The simulated time.
    """

    at: frozenset[int] = frozenset()
    refuses: bool = False
    passed: list[str] = field(default_factory=list)
    dead: bool = False
    on: bool = False
    now: Callable[[], datetime] = lambda: NOON
    full_until: datetime = NOON

    def point(self, kind: str) -> None:
        """Pass a point, or die at it."""
        if self.dead:
            raise DiedError
        if not self.on:
            return
        self.passed.append(kind)
        self.reached(len(self.passed) - 1)

    def reached(self, number: int) -> None:
        """Do what is fated at a point: die, or nothing."""
        if number in self.at:
            self.end()

    def end(self) -> NoReturn:
        """Die; or let the disk be full."""
        if self.refuses:
            self.full_until = self.now() + FULL_FOR
            self.stores()
        self.dead = True
        raise DiedError

    def stores(self) -> None:
        """Refuse a commit while the disk is full.

        Raises:
            OperationalError: As SQLite's driver does.
        """
        if self.now() < self.full_until:
            raise OperationalError("COMMIT", None, sqlite3.OperationalError("database or disk is full"))


class MortalRunner(InlineRunner):
    """The in-memory runner, with a point before and after every commit that stores something."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self.fate = fate
        raw = self._engine.raw_connection()
        self._driver: Any = raw.driver_connection
        raw.close()

    async def run(self, operation: Callable[..., R], *arguments: Any) -> R:
        name = getattr(operation, "__name__", "operation")
        before, changed = self._driver.total_changes, False

        def committing() -> None:
            nonlocal changed
            changed = self._driver.total_changes != before
            if changed:
                self.fate.stores()
                self.fate.point(f"before commit of {name}")
            elif self.fate.dead:
                raise DiedError

        self.on_commit = committing
        result = await super().run(operation, *arguments)
        if changed:
            self.fate.point(f"after commit of {name}")
        return result

    async def read(self, operation: Callable[..., R], *arguments: Any) -> R:
        self._alive()
        return await super().read(operation, *arguments)

    def _alive(self) -> None:
        if self.fate.dead:
            raise DiedError


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that a channel took."""

    at: datetime
    channel: str
    kind: NoticeKind
    level: int
    key: str
    reason: str = ""


class Channel:
    """A channel that takes everything and remembers it, as PagerDuty does: also when its answer is never seen."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self._world = world

    async def send(self, notice: Notice) -> Receipt:
        fate, world = self._world.fate, self._world
        fate.point(f"before {notice.kind} to a channel")
        world.told(Sent(world.clock.now(), self.name, notice.kind, notice.level, notice.dedup_key, str(notice.reason)))
        fate.point(f"after {notice.kind} to a channel")
        return Receipt(reached=self.name != "team", answer="202")

    async def reach(self) -> None:
        """It is always there."""

    async def close(self) -> None:
        """Nothing is open."""


class MortalHands(KubernetesHands):
    """The real hands, with a point before and after every write."""

    def __init__(self, name: str, client: KubernetesClient, world: World) -> None:
        super().__init__(name, client)
        self._world = world

    async def write(self, write: Write, *, within: timedelta) -> int:
        fate = self._world.fate
        fate.point("before a write")
        status = await super().write(write, within=within)
        fate.point("after a write")
        return status


class MortalClient(DirectClient):
    """The way to the sandbox, with a point before and after every request."""

    fate: Fate

    async def _once(self, *asked: Any) -> tuple[int, bytes, Mapping[str, str]]:
        self.fate.point("before a request")
        found = await super()._once(*asked)
        self.fate.point("after a request")
        return found


class MortalView(KubernetesView):
    """The real view, with a point before and after every read that a decision rests on."""

    fate: Fate

    async def snapshot(self, target: Any, **more: Any) -> Any:
        self.fate.point("before a snapshot")
        found = await super().snapshot(target, **more)
        self.fate.point("after a snapshot")
        return found

    async def look_up(self, lookup: Any) -> Any:
        self.fate.point("before a look-up")
        found = await super().look_up(lookup)
        self.fate.point("after a look-up")
        return found

    async def evidence(self, snapshot: Any) -> Any:
        self.fate.point("before evidence")
        found = await super().evidence(snapshot)
        self.fate.point("after evidence")
        return found


class MortalCloud(AksCloud):
    """The real adapter of ARM, with a point before and after every read, write and poll; its transport has one round every request."""

    fate: Fate

    async def read(self, ask: CloudAsk) -> CloudSnapshot:
        self.fate.point("before a cloud read")
        found = await super().read(ask)
        self.fate.point("after a cloud read")
        return found

    async def write(self, write: Write, *, within: timedelta) -> Begun:
        self.fate.point("before a cloud write")
        begun = await super().write(write, within=within)
        self.fate.point("after a cloud write")
        return begun

    async def follow(self, token: str, *, within: timedelta) -> OperationResult:
        self.fate.point("before a poll")
        found = await super().follow(token, within=within)
        self.fate.point("after a poll")
        return found


class Everybody:
    """The rest of the world answers. Implements ``ports.World``."""

    async def answers(self) -> bool:
        return True


class SimulatedClock:
    """Stands still until somebody sleeps; then the world goes on that long."""

    speed = 1.0

    def __init__(self, world: Outdoors) -> None:
        self._world = world
        self.at = NOON

    def now(self) -> datetime:
        return self.at

    def boottime(self) -> float:
        return self.at.timestamp()

    async def sleep(self, duration: timedelta) -> None:
        await self._world.passes(duration)


@functools.cache
def _settings(folder: str, act: tuple[str, ...], resource_id: str) -> Settings:
    more: dict[str, Any] = {"rule_paths": [folder]} if folder else {}
    if resource_id:
        more["clusters"] = {"sandbox": {"kubeconfig": "unused", "resource_id": resource_id}}
    return Settings.model_validate({**CONFIG, **more, "act": list(act)})


@functools.cache
def _rulebook(settings_key: tuple[str, tuple[str, ...], str]) -> Rulebook:
    settings = _settings(*settings_key)
    known = catalogue()
    book = Rulebook(
        paths=settings.paths(), catalogue=known.names, act=settings.act_entries(), overrides=settings.rules,
        clock=SystemClock(), metrics=Metrics(),
    )  # fmt: skip
    assert book.load(), book.problems
    return book


class Outdoors:
    """What outlives a process: a cluster, channels, senders and the time.

    Attributes:
        sent: Messages that channels took, in order.
        events: Alerts that nobody has taken yet, and when their sender posts them.
        deeds: What a person does, and when: a mode of all clusters, or ``close`` every incident.
        lives: How many processes there were.
        heals_at: When every image behaves again; None for never.
        arm: The cloud that the cluster's nodes are machines of; None without one.
        follows: What follows by itself from what is done, such as an API server that answers again; asked at every turn.
        voted: Digests of plans that a person has approved, and been told that the vote counts.
    """

    def __init__(self, *, azure: bool = False) -> None:
        self.clock = SimulatedClock(self)
        self.cluster = SandboxCluster(timings=Timings(), now=self.clock.now, nodes=0 if azure else 3)
        self.arm = Arm(self.cluster, now=self.clock.now) if azure else None
        self.sent: list[Sent] = []
        self.events: list[tuple[datetime, bytes]] = []
        self.deeds: list[tuple[datetime, str]] = []
        self.heals_at: datetime | None = None
        self.follows: Callable[[], None] | None = None
        self.voted: set[str] = set()
        self.lives = 0

    def alert(self, name: str, **labels: str) -> None:
        """Let a sender post an alert; it repeats what was not acknowledged."""
        at = self.clock.now()
        one = {
            "status": "firing", "labels": {"alertname": name, **labels}, "annotations": {}, "startsAt": at.isoformat(), "endsAt": "0001-01-01T00:00:00Z",
        }  # fmt: skip
        body = msgspec.json.encode({"version": "4", "status": "firing", "receiver": "r", "alerts": [one]})
        self.events.append((at, body))

    async def passes(self, duration: timedelta) -> None:
        """Let time pass: the cluster's controllers look every two seconds."""
        until = self.clock.at + duration
        while self.clock.at < until:
            self.turn(until)
            await self.clouded()
            await self.meanwhile()

    async def clouded(self) -> None:
        """Let time pass in the cloud too, and what follows follow."""
        if self.arm is not None:
            await self.arm.double.tick()
        if self.follows is not None:
            self.follows()

    def turn(self, until: datetime) -> None:
        """Let two seconds pass, or less."""
        self.clock.at = min(until, self.clock.at + TICK)
        if self.heals_at is not None and self.clock.at >= self.heals_at:
            self.cluster._behaviours.clear()
        self.cluster.step()

    async def meanwhile(self) -> None:
        """Do what is done beside."""

    async def observe_twice(self) -> None:
        """Let what is healthy now be remembered, as the observer does while nothing is wrong."""

    def mourned(self) -> None:
        """A process died: who was not answered posts again once another one may be there."""
        again = self.clock.at + DEAD_FOR + SENDER_AGAIN
        self.events = [(max(at, again) if at <= self.clock.at else at, body) for at, body in self.events]

    def floor(self) -> list[Any]:
        """Return what is set for a time: every autoscaler's floor, every pool's minimum, every cordon."""
        return [
            *(one["spec"].get("minReplicas") for one in self.cluster.storage.all("autoscaling/v2/horizontalpodautoscalers")),
            *(self.arm.minimums() if self.arm is not None else ()),
            *(one["metadata"]["name"] for one in self.cluster.storage.all(NODES) if one["spec"].get("unschedulable")),
        ]

    def told(self, message: Sent) -> None:
        """Take a message that a channel took."""
        self.sent.append(message)

    def taken(self, event: tuple[datetime, bytes]) -> None:
        """Take note that a sender was told that its alert is stored."""
        self.events.remove(event)

    def did(self, deed: tuple[datetime, str]) -> None:
        """Take note that a person was told that it is done."""
        self.deeds.remove(deed)

    def voted_for(self, digest: str) -> None:
        """Take note that a person was told that the vote counts."""
        self.voted.add(digest)

    def seen(self) -> Counter[str]:
        """Return what took effect in the cluster and in its cloud, each object without what differs between runs: a pod's random end."""
        return Counter(
            f"{one.verb} {one.resource} {one.name.rsplit('-', 2)[0] if one.resource.startswith('pods') else one.name}"
            for one in self.cluster.writes
        ) + (self.arm.took_effect() if self.arm is not None else Counter())


async def left(runner: Runner, clock: SimulatedClock) -> tuple[list[Incident], dict[str, Any]]:
    """Return the incidents of a database, and the rows that the invariants are judged by."""
    store = SqlStore(runner, clock)

    def asleep(db: Any) -> list[str]:
        query = select(tables.incidents.c.id).where(tables.UNCLOSED, tables.incidents.c.wake_at.is_(None))
        return list(db.execute(query).scalars())

    return list(await store.incidents(unclosed=False, limit=50)), {
        "asleep": await runner.read(asleep),
        "not_routed": [one.id for one in await store.deliveries(state=None, limit=500) if one.state is not DeliveryState.ROUTED],
        "unheld": [
            one.instance
            for one in await store.instances(why=None, firing=True, limit=500)
            if not (one.incident or one.shadow_incident)
        ],
        "owed": len(await store.owed()),
    }


class World(Outdoors):
    """One run: what outlives a process, a database, and the lives of a service over it.

    Attributes:
        fate: When it dies.
        runner: The database's.
        adapter: Which adapter of ARM it has; the judge is tested with faulty ones.
    """

    adapter: type[MortalCloud] = MortalCloud

    def __init__(
        self,
        *,
        act: tuple[str, ...],
        rules: str = "",
        crash_at: frozenset[int] = frozenset(),
        keeps_name: bool = True,
        azure: bool = False,
    ) -> None:
        super().__init__(azure=azure)
        self.fate = Fate(at=crash_at, now=self.clock.now)
        self.runner: Runner = MortalRunner(self.fate)
        self._key = (rules, act, self.arm.aks.resource_id if self.arm is not None else "")
        self._keeps_name = keeps_name
        self._app: composition.App | None = None
        self._beat_at = self._again_at = NOON
        self._passing = False

    def entrust(self, fate: Fate) -> None:
        """Die where this fate wills."""
        assert isinstance(self.runner, MortalRunner)
        self.fate = self.runner.fate = fate
        fate.now = self.clock.now

    def renamed(self, keeps_name: bool) -> None:
        """Let the next lives keep this one's name, or not."""
        self._keeps_name = keeps_name

    @property
    def app(self) -> composition.App:
        assert self._app is not None
        return self._app

    async def meanwhile(self) -> None:
        """While a rung runs, leases are renewed, messages go out, alerts come in."""
        if self._app is None or not self.app.supervisor._worker.busy or self._passing or self.fate.dead:
            return
        self._passing = True
        try:
            if self.clock.at - self._beat_at >= timedelta(seconds=5):
                self._beat_at = self.clock.at
                await self._stored(self.app.supervisor._heartbeat)
            await self._stored(self._receive)
            await self._stored(self._speak)
            await self._stored(self.app.supervisor._router.route_due)
            await self._stored(self.app.supervisor._outbox.send_due)
        finally:
            self._passing = False

    async def _receive(self) -> None:
        for event in [one for one in self.events if one[0] <= self.clock.at]:
            source = "event-grid" if b'"eventType"' in event[1] else "alertmanager"
            await self.app.intake.accept(source=source, source_name="prom", body=event[1])
            self.taken(event)

    async def _stored(self, step: Callable[[], Awaitable[R]]) -> R | None:
        """Take a step as the supervisor's loops and the web do: what the store refuses is tried again in a second; None then."""
        try:
            return await step()
        except StoreUnavailableError:
            self._again_at = self.clock.at + STORE_AGAIN
            return None

    async def _speak(self) -> None:
        """Let people do what they do: switch, close, and approve what is asked after a moment's thought."""
        store, now = self.app.store, self.clock.now()
        for deed in [one for one in self.deeds if one[0] <= now]:
            if deed[1] == "close":
                for one in await store.incidents(unclosed=True, limit=5):
                    await store.signal(Signal(incident=one.id, kind=SignalKind.CLOSED, at=now, by="ana"))
            else:
                await store.set_mode(ModeRow(scope="global", mode=Mode(deed[1]), by="ana", at=now))
            self.did(deed)
        if self.arm is None:
            return
        for one in await store.incidents(unclosed=True, limit=5):
            asked = one.approval
            if asked is None or one.phase is not Phase.WAITING or one.reason is not Reason.APPROVAL or asked.digest in self.voted:
                continue
            if now - asked.asked_at >= THINKS_FOR:
                body = {"digest": asked.digest}
                await store.signal(Signal(incident=one.id, kind=SignalKind.APPROVED, at=now, by="ana", body=body))
                self.voted_for(asked.digest)

    async def send_to_arm(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send a request of the SDK's, with a point before and after it."""
        kind = "a request" if method == "GET" else "a request that changes the cloud"
        self.fate.point(f"before {kind}")
        found = await self.to_arm(method, url, headers, body)
        self.fate.point(f"after {kind}")
        return found

    async def to_arm(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """Bring a request to the double."""
        assert self.arm is not None
        self.arm.life = self.lives
        return await self.arm.answer(method, url, headers, body)

    def _cloud(self) -> AksCloud | None:
        if self.arm is None:
            return None
        cloud = direct_cloud(self.adapter, self.arm.aks.resource_id, self.arm.token, self.send_to_arm, now=self.clock.now)
        assert isinstance(cloud, MortalCloud)
        cloud.fate = self.fate
        return cloud

    async def rows(self) -> dict[str, Any]:
        """Return what the invariants are judged by."""
        return (await left(self.runner, self.clock))[1]

    def client(self) -> KubernetesClient:
        """Return the way to the cluster."""
        client = MortalClient("sandbox", self.cluster)
        client.fate = self.fate
        return client

    def _born(self) -> None:
        self.lives += 1
        self.fate.dead = False
        settings = _settings(*self._key)
        client = self.client()
        view = MortalView("sandbox", client, now=self.clock.now)
        view.fate = self.fate
        store = SqlStore(self.runner, self.clock)
        cloud = self._cloud()
        channels: Any = {name: Channel(name, self) for name in settings.channels}
        self._app = composition._assemble(
            settings, self.clock, Metrics(), catalogue(), _rulebook(self._key), store, channels,
            {"sandbox": view}, {"sandbox": MortalHands("sandbox", client, self)}, {}, None,
            clouds={"sandbox": cloud} if cloud is not None else {}, world=Everybody(),
        )  # fmt: skip
        if not self._keeps_name:
            self._app.supervisor._worker.owner = f"life-{self.lives}"

    async def observe_twice(self) -> None:
        """Let what is healthy now be remembered, as the observer does while nothing is wrong."""
        if self._app is None:
            self._born()
        for _ in range(2):
            await self.app.supervisor._observer.observe()

    async def live(self, until: timedelta) -> None:
        """Run from life to life until a time."""
        ends_at = self.clock.at + until
        self.fate.on = True
        while self.clock.at < ends_at:
            if self._app is None:
                self._born()
            try:
                if self._keeps_name:
                    await self._stored(functools.partial(self.app.store.free_owner, "embedded"))
                await self._life(ends_at)
            except (DiedError, BaseExceptionGroup) as death:
                if isinstance(death, BaseExceptionGroup) and death.split(DiedError)[1] is not None:
                    raise
                await _buried()
                self._app, self._passing = None, False
                self.mourned()
                await self.passes(DEAD_FOR)
        self.fate.on = False

    async def _life(self, ends_at: datetime) -> None:
        supervisor, auditor = self.app.supervisor, self.app.supervisor.beside["auditor"].__self__  # type: ignore[attr-defined]
        audits_at = self.clock.at
        while self.clock.at < ends_at:
            await self._stored(self._receive)
            await self._stored(self._speak)
            done = await self._stored(supervisor._router.route_due) or 0
            async with asyncio.TaskGroup() as group:
                done += await self._stored(functools.partial(supervisor._worker.work_due, group)) or 0
            done += await self._stored(supervisor._outbox.send_due) or 0
            if done:
                continue
            if self.clock.at >= audits_at:
                audits_at = self.clock.at + AUDITS_EVERY
                await self._stored(auditor.look)
            if self.clock.at < self._again_at:
                await self.passes(self._again_at - self.clock.at)
                continue
            due = await self.app.store.next_due()
            soonest = min([ends_at, *(at for at, _ in (*self.events, *self.deeds)), *([due] if due else [])])
            await self.passes(max(timedelta(milliseconds=50), min(soonest - self.clock.at, timedelta(seconds=60))))


async def _buried() -> None:
    """End every task of the life that is over."""
    mine = asyncio.current_task()
    left = [one for one in asyncio.all_tasks() if one is not mine]
    for one in left:
        one.cancel()
    with contextlib.suppress(DiedError):
        await asyncio.gather(*left, return_exceptions=True)


def rule_file(folder: Path, document: dict[str, Any]) -> str:
    """Write a rule of a plot's own; return its folder."""
    (folder / f"{document['rule']}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return str(folder)
