"""From the intake to the router of one process: what a delivery costs the store, and in which order deliveries are routed."""

from __future__ import annotations

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
