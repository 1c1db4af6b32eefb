"""Service Bus: every fault alone, and ten thousand messages with faults all along; nothing is lost and nothing is acted on twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from responder.sources.service_bus import receiving
from tests.bus import FAULTS, LEAKS, World, bus_world, flood, put, quick, until

pytestmark = LEAKS


@pytest.fixture(autouse=True)
def hurry() -> Iterator[None]:
    with quick():
        yield


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with bus_world() as made:
        yield made


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_one_fault_amid_a_burst_loses_nothing_and_acts_on_nothing_twice(
    world: World, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message is completed, every one is stored once, and receiving goes on."""
    monkeypatch.setattr("responder.sources.service_bus.bus.ANSWER_SECONDS", 1.0)
    world.queue.lock_seconds = 5.0
    put(world, 60)

    async with world.running(in_flight=20):
        await until(lambda: world.queue.completed.total() >= 20)
        FAULTS[fault](world.broker)
        await until(lambda: world.queue.waiting == 0)
        put(world, 5, first=100)
        await until(lambda: world.queue.waiting == 0)

    assert len(await world.stored()) == 65
    assert len({one.body for one in await world.stored()}) == 65
    assert not world.broker.dead_letters("alerts")


async def test_a_broker_that_falls_silent_is_left_and_found_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait is bounded: silence ends in a new link, not in a hang; meanwhile nothing is taken for settled."""
    for name in ("OPEN_SECONDS", "ANSWER_SECONDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(f"responder.sources.service_bus.bus.{name}", 0.7)
    monkeypatch.setattr("responder.sources.service_bus.bus.DEAD_SECONDS", 3.0)
    monkeypatch.setattr(receiving, "QUIET_SECONDS", 0.7)
    world.queue.lock_seconds = 4.0
    put(world, 30)

    async with world.running(in_flight=10):
        await until(lambda: world.queue.completed.total() >= 10)
        world.broker.silent = True
        before = world.broker.connections
        await until(lambda: world.broker.connections > before)
        world.broker.silent = False
        await until(lambda: world.queue.waiting == 0)

    assert len({one.body for one in await world.stored()}) == len(await world.stored()) == 30


async def test_ten_thousand_messages_with_faults_all_along_are_each_acted_on_once(world: World) -> None:
    """Resets, detaches, closes, lost locks and slow settles, with a thousand duplicates, through two receivers."""
    await flood(world, 10_000, every=1.0, seed=2)
