"""What a lone delivery will be judged by is read while it is being stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from responder.model.alert import Alert, AlertStatus, Normalised, SourceKind
from responder.model.cluster import Snapshot
from responder.model.errors import TransientError
from responder.model.incident import Incident, Run
from responder.model.rule import Rule
from responder.model.storing import NewDelivery
from responder.model.target import Target
from responder.rules.index import RuleIndex
from responder.service.foresight import MOST_ALERTS, Foresight
from responder.service.reading import FORESEEN_FOR, Reader
from responder.service.rulebook import Rulebook
from responder.service.targeting import Found, Targeting
from responder.stores import open_memory
from tests import builders as make
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.looptime


@dataclass(slots=True)
class Cluster:
    """A cluster that counts how often a target is read."""

    clock: FakeClock
    name: str = "prod"
    reads: int = 0
    silent: bool = False
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def snapshot(self, target: Target, *, displaced: Sequence[Target] = (), shared: bool = False) -> Snapshot:
        self.reads += 1
        await self.go.wait()
        if self.silent:
            raise TransientError("no answer", system="kubernetes", operation="GET", target=str(target))
        return make.snapshot(read_at=self.clock.now())


@dataclass(slots=True)
class Place:
    clock: FakeClock
    cluster: Cluster
    reader: Reader
    foresight: Foresight
    alerts: list[Alert]

    async def comes(self, *alerts: Alert) -> None:
        """Let a delivery come, and wait until what it begins waits for the cluster."""
        self.alerts[:] = alerts
        self.clock.forward(seconds=0.1)
        given = NewDelivery(
            source="alertmanager",
            source_name="am",
            retry_key="k",
            body=b"{}",
            received_at=self.clock.now(),
            sender="",
            unique=False,
        )
        self.foresight.look(given)
        await asyncio.sleep(0.1)

    async def read(self, **changes: Any) -> Any:
        incident: Incident = make.incident(target=make.TARGET, **changes)
        return (await self.reader.read(incident, (), ()))[0]


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    clock = FakeClock()
    store = open_memory(clock)
    cluster = Cluster(clock)
    reader = Reader(views={"prod": cluster}, store=store, clock=clock, catalogue=make.CATALOGUE)  # type: ignore[dict-item] # reads only
    alerts: list[Alert] = []

    def source(kind: SourceKind, body: bytes, *, source_name: str, received_at: datetime) -> Normalised:
        del kind, body, source_name, received_at
        if not alerts:
            raise ValueError("not understood")
        return Normalised(alerts=tuple(alerts), understood=True)

    class Finds:
        async def find(self, _rule: Rule, _alert: Alert) -> Found:
            return Found(target=make.TARGET, resolved=True, literal=False, how="", looked_up={})

    foresight = Foresight(
        clock=clock,
        read=source,
        rulebook=cast("Rulebook", SimpleNamespace(index=RuleIndex([make.rule()]))),
        targeting=cast("Targeting", Finds()),
        reader=reader,
    )
    running = asyncio.create_task(foresight.run())
    yield Place(clock, cluster, reader, foresight, alerts)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def test_the_first_judgement_uses_what_was_read_ahead(place: Place) -> None:
    """One read, begun before the delivery was stored, and not two."""
    await place.comes(make.alert())
    place.cluster.go.set()

    reading = await place.read()

    assert reading.snapshot is not None
    assert place.cluster.reads == 1


async def test_the_second_judgement_reads_anew(place: Place) -> None:
    """What was read ahead is for once."""
    place.cluster.go.set()
    await place.comes(make.alert())

    await place.read()
    await place.read()

    assert place.cluster.reads == 2


@pytest.mark.parametrize(
    "changes",
    [{"runs": (Run(rule="crash", rung="restart", index=0, started_at=make.NOON),)}, {"displaced": (make.TARGET,)}],
    ids=["acted on", "displaced"],
)
async def test_an_incident_that_was_acted_for_is_read_anew(place: Place, changes: dict[str, Any]) -> None:
    """What was read before our own rung proves nothing after it."""
    place.cluster.go.set()
    await place.comes(make.alert())

    await place.read(**changes)

    assert place.cluster.reads == 2


async def test_what_was_read_ahead_is_old_after_seconds(place: Place) -> None:
    """An incident that has to wait is judged by what is then, and nothing is kept for ever."""
    place.cluster.go.set()
    await place.comes(make.alert())
    place.clock.forward(seconds=FORESEEN_FOR.total_seconds())

    await place.read()
    await asyncio.sleep(FORESEEN_FOR.total_seconds())

    assert place.cluster.reads == 2
    assert place.reader._foreseen == {}


async def test_a_cluster_that_does_not_answer_ahead_is_asked_again(place: Place) -> None:
    """Why it fails is told by who needs it."""
    place.cluster.go.set()
    place.cluster.silent = True
    await place.comes(make.alert())
    place.cluster.silent = False

    assert await place.read() is not None
    assert place.cluster.reads == 2


@pytest.mark.parametrize(
    "alerts",
    [
        [make.alert(status=AlertStatus.RESOLVED)],
        [make.alert(test=True)],
        [make.alert(name="SomethingElse")],
        [make.alert(instance=f"i-{number}") for number in range(MOST_ALERTS + 1)],
    ],
    ids=["resolved", "test", "unmatched", "many"],
)
async def test_what_opens_no_incident_or_many_is_not_read_ahead(place: Place, alerts: list[Alert]) -> None:
    """A storm is read when its turn comes."""
    await place.comes(*alerts)

    assert place.cluster.reads == 0


async def test_a_repeat_is_not_read_ahead(place: Place) -> None:
    """It opens and wakes nothing, and comes every few minutes for days."""
    place.cluster.go.set()
    await place.comes(make.alert())
    place.clock.forward(seconds=300)
    await asyncio.sleep(300)
    await place.comes(make.alert())

    assert place.cluster.reads == 1


async def test_what_cannot_be_understood_is_left_to_the_router(place: Place) -> None:
    """And the next delivery is looked at."""
    await place.comes()
    await place.comes(make.alert(instance="another"))

    assert place.cluster.reads == 1
