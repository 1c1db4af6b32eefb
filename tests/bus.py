"""A Service Bus source with a broker and a store round it, and the ways to hurt them; for tests of both lengths."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from responder.clock import SystemClock
from responder.model.errors import StoreUnavailableError
from responder.model.storing import Delivery
from responder.sandbox.service_bus import Broker, Entity
from responder.service.intake import Intake
from responder.sources.service_bus import receiving
from responder.sources.service_bus.bus import Access, Bus
from responder.sources.service_bus.receiving import ServiceBusSource
from responder.stores import SqlStore, open_memory
from responder.telemetry import Metrics

LEAKS = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""The SDK forgets to close a socket whose handshake was cut; ``quick`` collects it while this counts."""


def alert(number: int) -> bytes:
    labels = {"alertname": "KubePodCrashLooping", "pod": f"p-{number}"}
    return json.dumps(
        {"version": "4", "alerts": [{"status": "firing", "labels": labels, "startsAt": "2026-11-24T10:00:00Z"}]}
    ).encode()


class Gate:
    """The intake, with a store that can be taken away and a message that breaks it."""

    def __init__(self, intake: Intake) -> None:
        self.intake, self.down, self.broken, self.slow, self.asked = intake, False, False, 0.0, 0

    async def accept(self, **given: Any) -> bool:
        self.asked += 1
        await asyncio.sleep(self.slow)
        if self.down:
            raise StoreUnavailableError("the disk is full")
        if self.broken:
            raise ZeroDivisionError("a bug of ours")
        return await self.intake.accept(**given)


@dataclass
class World:
    broker: Broker
    queue: Entity
    store: SqlStore
    gate: Gate
    metrics: Metrics
    access: Access

    def source(self, **given: Any) -> ServiceBusSource:
        bus = Bus(given.pop("access", self.access), credential=given.pop("credential", None))
        given = {"drain": timedelta(seconds=2), **given}
        return ServiceBusSource(name="bus", bus=bus, intake=self.gate, clock=SystemClock(), metrics=self.metrics, **given)

    @contextlib.asynccontextmanager
    async def running(self, **given: Any) -> AsyncIterator[ServiceBusSource]:
        source = self.source(**given)
        task = asyncio.create_task(source.run())
        try:
            yield source
        finally:
            source.stop()
            async with asyncio.timeout(90):
                await task

    async def stored(self) -> list[Delivery]:
        return list(await self.store.deliveries(state=None, limit=100_000))

    def counted(self, event: str) -> int:
        return int(self.metrics.bus_messages.labels("bus", event)._value.get())


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Shorten pauses; collect what the SDK left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiving, "FIRST_PAUSE", 0.1)
        patch.setattr(receiving, "LONGEST_PAUSE", 0.5)
        patch.setattr(receiving, "STORE_PAUSE", timedelta(milliseconds=50))
        yield
    gc.collect()


@contextlib.asynccontextmanager
async def bus_world() -> AsyncIterator[World]:
    async with Broker() as broker:
        queue = broker.queue("alerts")
        clock = SystemClock()
        store = open_memory(clock)
        access = Access(queue="alerts", connection_string=broker.connection_string)
        yield World(broker, queue, store, Gate(Intake(store=store, clock=clock, most_waiting=10_000)), Metrics(), access)
        await store.close()


async def until(holds: Callable[[], Any], *, within: float = 90.0) -> None:
    async with asyncio.timeout(within):
        while True:
            found = holds()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)


def put(world: World, count: int, *, first: int = 0) -> None:
    for number in range(first, first + count):
        world.broker.put("alerts", alert(number), message_id=f"m-{number}")


Fault = Callable[[Broker], None]
FAULTS: dict[str, Fault] = {
    "reset": lambda broker: broker.reset(),
    "detached": lambda broker: broker.detach(),
    "detached, unauthorized": lambda broker: broker.detach("amqp:unauthorized-access"),
    "detached, server busy": lambda broker: broker.detach("com.microsoft:server-busy"),
    "closed": lambda broker: broker.close_frames(),
    "locks lost": lambda broker: broker.entities["alerts"].expire(everything=True),
    "settle never answered": lambda broker: setattr(broker, "drop_settles", 1),
    "management never answered": lambda broker: setattr(broker, "drop_management", 1),
}


class Identity:
    """A token credential."""

    def __init__(self) -> None:
        self.scopes: list[str] = []

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.scopes += scopes
        return AccessToken("entra-token", int(time.time()) + 3600)

    async def close(self) -> None:
        self.scopes.append("closed")


async def flood(world: World, count: int, *, every: float, seed: int) -> None:
    chosen = random.Random(seed)
    world.queue.lock_seconds = 5.0
    world.queue.most_deliveries = 50
    put(world, count)
    for number in range(0, count, 10):
        world.broker.put("alerts", alert(number), message_id=f"m-{number}")

    async def trouble() -> None:
        names = ["reset", "detached", "closed", "locks lost", "settle never answered", "detached, unauthorized", "slow"]
        while True:
            await asyncio.sleep(every)
            fault = chosen.choice(names)
            if fault == "slow":
                world.broker.settle_delay = chosen.choice([0.0, 0.02])
            else:
                FAULTS[fault](world.broker)

    async with world.running(receivers=2, poison_after=40):
        troubling = asyncio.create_task(trouble())
        await until(lambda: world.queue.waiting < count / 10, within=900)
        troubling.cancel()
        await asyncio.gather(troubling, return_exceptions=True)
        world.broker.settle_delay = 0.0
        await until(lambda: world.queue.waiting == 0, within=60)

    bodies = [one.body for one in await world.stored()]
    assert len(bodies) == count
    assert set(bodies) == {alert(number) for number in range(count)}
    assert not world.broker.dead_letters("alerts")
    assert world.queue.completed.total() == count + len(range(0, count, 10))
