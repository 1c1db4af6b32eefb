"""From the intake to the router of one process: what a delivery costs the store, and in which order deliveries are routed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from responder.model.alert import AlertStatus
from responder.model.errors import StoreUnavailableError
from responder.model.storing import DeliveryState
from responder.policy.targets import Exporters
from responder.rules.index import RuleIndex
from responder.service import handing, router
from responder.service.contacts import Contacts
from responder.service.handing import Handing
from responder.service.intake import Intake
from responder.service.router import Router
from responder.service.rulebook import Rulebook
from responder.service.targeting import Targeting
from responder.sources import read
from responder.stores import SqlStore
from responder.stores.sql import deliveries, routing
from responder.stores.sql.runners.inline import InlineRunner
from responder.telemetry import Metrics
from tests import builders as make
from tests.fakes.clock import FakeClock

R = TypeVar("R")


class CountingRunner(InlineRunner):
    """Counts what is run, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()

    async def run(self, operation: Callable[..., R], *arguments: Any) -> R:
        self.ran[operation.__name__] += 1
        return await super().run(operation, *arguments)


@dataclass
class Place:
    """An intake and a router over one store."""

    clock: FakeClock = field(default_factory=FakeClock)
    runner: CountingRunner = field(default_factory=CountingRunner)
    most: int = 60

    def __post_init__(self) -> None:
        self.store = SqlStore(self.runner, self.clock)
        self.begin()

    def begin(self) -> None:
        """Begin a life of the process."""
        way = Handing(most=self.most)
        rulebook = SimpleNamespace(index=RuleIndex([]))
        contacts = Contacts(clock=self.clock)
        self.intake = Intake(store=self.store, clock=self.clock, handing=way)
        self.router = Router(
            store=self.store,
            clock=self.clock,
            read=read,
            rulebook=cast("Rulebook", rulebook),
            targeting=Targeting(views={}, clusters=[], exporters=Exporters(), contacts=contacts),
            metrics=Metrics(),
            handing=way,
        )

    async def post(self, number: int, status: str = "firing") -> None:
        """Take in one alert."""
        one = {"status": status, "labels": {"alertname": "A", "n": str(number)}, "startsAt": "2026-01-05T12:00:00Z"}
        await self.intake.accept(
            source="alertmanager", source_name="am", body=json.dumps({"alerts": [one], "n": number}).encode()
        )

    async def waiting(self) -> int:
        """Count deliveries that are not routed."""
        return len(await self.store.deliveries(state=DeliveryState.NEW, limit=2000))


class SlowRunner(CountingRunner):
    """Takes its time to store what is routed, and says when.

    Attributes:
        said: ``stores`` and ``stored``; the router's reading may be noted between.
        fails: So many times the store is gone in the middle.
    """

    def __init__(self, fails: int = 0) -> None:
        super().__init__()
        self.said: list[str] = []
        self.fails = fails

    async def run(self, operation: Callable[..., R], *arguments: Any) -> R:
        if operation.__name__ != routing.route_all.__name__:
            return await super().run(operation, *arguments)
        self.said.append("stores")
        for _ in range(500):
            await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise StoreUnavailableError("gone")
        result = await super().run(operation, *arguments)
        self.said.append("stored")
        return result


@pytest.fixture
def place() -> Place:
    return Place()


async def test_a_delivery_is_routed_without_being_claimed_once_the_store_was_found_empty(place: Place) -> None:
    """It costs one transaction to take it in and one to route it."""
    await place.router.route_due()
    place.runner.ran.clear()

    await place.post(1)
    place.clock.forward(seconds=0.5)
    assert await place.router.route_due() == 1

    assert place.runner.ran == {deliveries.accept.__name__: 1, routing.route_all.__name__: 1}
    assert await place.waiting() == 0


async def test_what_a_process_took_in_and_did_not_route_is_routed_by_its_next_life(place: Place) -> None:
    """What was handed over died with it; the store has it."""
    await place.router.route_due()
    await place.post(1)

    place.begin()
    await place.store.free_owner("embedded")

    assert await place.router.route_due() == 1
    assert await place.waiting() == 0


async def test_a_delivery_that_could_not_be_stored_as_routed_is_routed_when_its_hold_is_over(place: Place) -> None:
    """The store failed in the middle; nothing of it is left in memory."""
    await place.router.route_due()
    await place.post(1)
    place.runner.unavailable = "gone"
    with pytest.raises(StoreUnavailableError):
        await place.router.route_due()
    place.runner.unavailable = ""

    assert await place.router.route_due() == 0
    place.clock.at += handing.HELD

    assert await place.router.route_due() == 1


async def test_what_waited_longer_than_its_hold_is_routed_once_and_before_what_came_later(place: Place) -> None:
    """The router stood still for a minute: the store gives it what it has in hand, and it takes each once, firing before resolved."""
    await place.router.route_due()
    await place.post(1)
    place.clock.at += 2 * handing.HELD
    await place.post(1, "resolved")

    assert await place.router.route_due() == 2

    (one,) = await place.store.instances(why=None, firing=False, limit=10)
    assert (one.status, one.count) == (AlertStatus.RESOLVED, 2)
    assert await place.waiting() == 0


async def test_what_comes_after_a_full_way_does_not_overtake_what_went_by_the_store(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Firing by the store, resolved after it: the alert is over in the end."""
    monkeypatch.setattr(router, "BATCH", 1)
    monkeypatch.setattr(router, "MOST_CLAIMED", 1)
    await place.router.route_due()
    for number in range(place.most):
        await place.post(number)
    await place.post(-1)
    await place.post(-2)
    await place.post(-1, "resolved")

    while await place.router.route_due():
        pass

    (last,) = [one for one in await place.store.instances(why=None, firing=False, limit=2000) if one.labels["n"] == "-1"]
    assert last.status is AlertStatus.RESOLVED
    assert await place.waiting() == 0


async def test_a_lone_alert_is_routed_at_once_and_a_storms_gather_first(place: Place) -> None:
    """Who is alone waits for nothing; of a storm's alerts, none is worth a turn of its own."""
    await place.router.route_due()
    await place.post(1)
    await place.router.route_due()
    assert place.clock.at == make.NOON

    for number in range(router.MANY):
        await place.post(10 + number)
    await place.router.route_due()
    assert place.clock.at == make.NOON
    await place.post(2)
    await place.router.route_due()
    assert place.clock.at == make.NOON + router.GATHER

    place.clock.at += timedelta(seconds=5)
    calm = place.clock.at
    await place.post(3)
    await place.router.route_due()
    assert place.clock.at == calm


async def outcome(place: Place) -> tuple[AlertStatus, int]:
    """Return how the one alert of these tests stands, and how often it was received."""
    (one,) = await place.store.instances(why=None, firing=False, limit=10)
    assert await place.waiting() == 0
    return one.status, one.count


async def backlog(place: Place, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one alert fire and resolve by turns, in deliveries that wait in the store, and be claimed ten at a time."""
    monkeypatch.setattr(router, "BATCH", 10)
    monkeypatch.setattr(router, "MOST_CLAIMED", 10)
    for number in range(count):
        await place.post(1, "resolved" if number % 2 else "firing")


async def test_what_is_claimed_next_is_read_while_what_came_before_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's thread and the router's need not wait for each other; and all is stored in the order in which it came."""
    runner = SlowRunner()
    place = Place(runner=runner, most=0)
    await backlog(place, 34, monkeypatch)

    def noted(*arguments: Any, **named: Any) -> Any:
        runner.said.append("reads")
        return read(*arguments, **named)

    place.router._read = noted
    assert await place.router.route_due() == 34

    assert runner.said.index("reads", runner.said.index("stores")) < runner.said.index("stored")
    assert [one for one in runner.said if one != "reads"] == ["stores", "stored"] * 4
    assert await outcome(place) == (AlertStatus.RESOLVED, 34)


async def test_what_was_claimed_ahead_of_a_store_that_failed_is_routed_afterwards_in_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither is stored while the store is gone; when their claims are over both come again, the older first."""
    place = Place(runner=SlowRunner(fails=1), most=0)
    await backlog(place, 25, monkeypatch)
    with pytest.raises(StoreUnavailableError):
        await place.router.route_due()
    place.clock.at += router.LEASE

    while await place.router.route_due():
        pass

    assert await outcome(place) == (AlertStatus.FIRING, 25)


async def test_what_is_in_hand_is_not_claimed_ahead_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The router stood still: what was handed to it may be claimed too, and is more than one claim takes. Each counts once."""
    place = Place()
    await place.router.route_due()
    await backlog(place, 24, monkeypatch)
    place.clock.at += 2 * handing.HELD

    while await place.router.route_due():
        pass

    assert await outcome(place) == (AlertStatus.RESOLVED, 24)


async def test_a_turn_takes_nothing_more_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for its end does not wait for the end of a storm."""
    monkeypatch.setattr(router, "TURN", 0.0)
    place = Place(most=0)
    await backlog(place, 25, monkeypatch)

    assert await place.router.route_due() == 10
    assert await place.router.route_due() == 10
    assert await place.router.route_due() == 5
    assert await outcome(place) == (AlertStatus.FIRING, 25)
