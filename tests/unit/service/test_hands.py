"""The permit before a write: a process can be stopped at any line, and must not believe in a lease that is long over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from responder.actions.planning import PlanInput
from responder.model.action import Outcome, Plan, Write
from responder.model.cluster import Snapshot
from responder.model.errors import ThrottledError
from responder.model.incident import Candidate, Command, Phase, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.storing import DeliveryState, RoutedAlert
from responder.model.target import Target
from responder.policy import guards
from responder.service.hands import Hands, Held
from responder.service.reading import Reader
from responder.service.switches import Switches
from responder.stores import SqlStore, open_memory
from responder.telemetry import Metrics
from tests import builders as make
from tests.fakes.clock import FakeClock

SICK = (make.crashing("api-1"), make.crashing("api-2"))
LEASE = timedelta(seconds=15)
STOPPED_FOR = timedelta(minutes=5)


@dataclass(slots=True)
class Cluster:
    """A cluster whose workload crashes whatever is done; keeps what was written."""

    clock: FakeClock
    name: str = "prod"
    written: list[Write] = field(default_factory=list)
    then: Callable[[], None] = lambda: None

    async def snapshot(self, target: Target, *, displaced: Sequence[Target] = (), shared: bool = False) -> Snapshot:
        assert not shared, "a permit shares nothing"
        del target
        return make.snapshot(pods=SICK, read_at=self.clock.now())

    async def write(self, write: Write, *, within: timedelta) -> int:
        del within
        self.written.append(write)
        self.then()
        return 200


@dataclass(slots=True)
class Place:
    store: SqlStore
    clock: FakeClock
    cluster: Cluster
    hands: Hands
    held: Held


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    clock = FakeClock()
    store = open_memory(clock)
    rule = make.rule()
    seed = make.incident(candidates=(Candidate(rule="crash", digest=rule.digest),), opened_at=clock.now())
    one = RoutedAlert(alert=make.alert(), rules=("crash",), seeds=(seed,), pinned={rule.digest: rule.document})
    await store.route([one], delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    (claimed,) = await store.claim_incidents(owner="me", limit=1, lease=LEASE, own=())
    given = PlanInput(
        target=make.TARGET, snapshot=make.snapshot(pods=SICK), facts={"cause": "crash", "failing": 2}, arguments={},
        command="inc-1/1/crash/r/1", now=clock.now(),
    )  # fmt: skip
    plan = make.CATALOGUE.actions["workload.restart"].plan(given)
    assert isinstance(plan, Plan)
    command = Command(key=plan.command, rule="crash", rung="restart", index=0, grade=2, plans=(plan,), begun_at=clock.now())
    held = Held(
        incident=replace(claimed.incident, phase=Phase.ACTING, leader="crash", command=command),
        claimed=claimed,
        rules={"crash": rule},
        instances=claimed.instances,
        wake=claimed.wake,
        lease_until=clock.boottime() + LEASE.total_seconds(),
    )
    cluster = Cluster(clock)
    hands = Hands(
        store=store,
        clock=clock,
        reader=Reader(views={"prod": cluster}, store=store, clock=clock, catalogue=make.CATALOGUE),  # type: ignore[dict-item] # reads only
        hands={"prod": cluster},
        catalogue=make.CATALOGUE,
        switches=Switches(store=store, armed=lambda _rule, _target: True),
        metrics=Metrics(),
    )
    yield Place(store=store, clock=clock, cluster=cluster, hands=hands, held=held)
    await store.close()


def stopped_in(place: Place, owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be stopped while it waits for this call, once."""
    call: Callable[..., Awaitable[Any]] = getattr(owner, name)
    stopped = False

    async def slow(*arguments: Any, **named: Any) -> Any:
        nonlocal stopped
        answer = await call(*arguments, **named)
        if not stopped:
            stopped = True
            place.clock.forward(seconds=STOPPED_FOR.total_seconds())
        return answer

    monkeypatch.setattr(owner, name, slow)


async def test_a_write_is_made_while_the_lease_lasts(place: Place) -> None:
    """What the other tests are measured by."""

    def lost() -> None:
        place.held.lost = True

    place.cluster.then = lost
    ended = await place.hands.carry_out_rung(place.held)

    assert len(place.cluster.written) == 1
    assert (ended.outcome, ended.reason) == (Outcome.STOPPED, Reason.LEASE_LOST)


@pytest.mark.parametrize("where", ["modes", "peek", "seen_healthy"])
async def test_a_process_stopped_while_it_asks_for_its_permit_writes_nothing(
    place: Place, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five minutes pass between two lines: the lease was good when it was looked at, and is looked at again right before the write."""
    stopped_in(place, place.store, where, monkeypatch)

    ended = await place.hands.carry_out_rung(place.held)

    assert place.cluster.written == []
    assert (ended.outcome, ended.reason) == (Outcome.STOPPED, Reason.LEASE_LOST)


async def test_a_process_stopped_after_its_permit_was_given_writes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the last line before the write: only looking at the lease once more sees it."""
    floor = guards.floor_before_write
    stopped = False

    def slow(*arguments: Any, **named: Any) -> Any:
        nonlocal stopped
        if not stopped:
            stopped = True
            place.clock.forward(seconds=STOPPED_FOR.total_seconds())
        return floor(*arguments, **named)

    monkeypatch.setattr(guards, "floor_before_write", slow)

    ended = await place.hands.carry_out_rung(place.held)

    assert stopped
    assert place.cluster.written == []
    assert (ended.outcome, ended.reason) == (Outcome.STOPPED, Reason.LEASE_LOST)


@pytest.mark.parametrize(("seconds", "writes"), [(6, 1), (7, 0)], ids=["time for one write", "a write could outlast it"])
async def test_no_write_begins_that_could_outlast_the_lease(place: Place, seconds: int, writes: int) -> None:
    """Its time-out is 8 s: who takes over at the lease's end finds it made or not made, never under way."""

    def lost() -> None:
        place.held.lost = True

    place.cluster.then = lost
    place.clock.forward(seconds=seconds)

    await place.hands.carry_out_rung(place.held)

    assert len(place.cluster.written) == writes


async def test_nothing_is_written_while_the_stores_clock_is_not_steady(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits, and the write is made when a lease has passed."""
    steady_from = place.clock.boottime() + 15
    monkeypatch.setattr(place.store, "steady", lambda: place.clock.boottime() >= steady_from)
    written_at: list[float] = []

    def noted() -> None:
        written_at.append(place.clock.boottime())
        place.held.lost = True

    place.cluster.then = noted
    place.held.lease_until += 60  # the heartbeat goes on

    await place.hands.carry_out_rung(place.held)

    assert len(written_at) == 1
    assert written_at[0] >= steady_from


async def test_whoever_asks_for_a_day_of_quiet_does_not_get_it(place: Place) -> None:
    """A 429 with a Retry-After of a day, as a proxy's default page has it: a person's word is heard within seconds, and the rung ends."""
    began = place.clock.now()

    def throttled() -> None:
        error = ThrottledError("too many requests", system="kubernetes", status=429)
        error.retry_after = timedelta(days=1)
        raise error

    place.cluster.then = throttled
    place.held.lease_until += timedelta(days=2).total_seconds()
    sleep, said = place.clock.sleep, False

    async def slept(duration: timedelta) -> None:
        nonlocal said
        await sleep(duration)
        if not said and place.clock.now() - began >= timedelta(minutes=1):
            said = True
            incident = place.held.incident.id
            await place.store.signal(Signal(incident=incident, kind=SignalKind.PAUSED, at=place.clock.now(), by="ana"))

    place.clock.sleep = slept  # type: ignore[method-assign]

    ended = await place.hands.carry_out_rung(place.held)

    assert (ended.outcome, ended.reason) == (Outcome.STOPPED, Reason.PAUSED)
    assert place.clock.now() - began < timedelta(minutes=2)
    assert len(place.cluster.written) == 1
