"""Service Bus, through the unmodified SDK, against a broker on loopback. The faults one by one, and many of them: ``tests/e2e``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from responder.app import bus_of
from responder.clock import SystemClock
from responder.clusters.aks import Identity as AzureIdentity
from responder.model.alert import SourceKind
from responder.model.errors import ForbiddenError, RejectedError, RemoteError
from responder.model.storing import DeliveryState
from responder.sandbox.aks import SandboxAzure
from responder.sandbox.amqp import Described
from responder.sandbox.service_bus import Broker, websockets
from responder.sandbox.tls import certificate
from responder.settings import ServiceBusSettings
from responder.sources import SOURCES
from responder.sources.service_bus.bus import Access, Bus
from responder.sources.service_bus.deadletters import DeadLetter, listed, resubmitted
from tests.azure import access as azure_access
from tests.bus import LEAKS, Identity, World, alert, bus_world, flood, put, quick, until

pytestmark = LEAKS


@pytest.fixture(autouse=True)
def hurry() -> Iterator[None]:
    with quick():
        yield


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with bus_world() as made:
        yield made


async def test_a_message_is_stored_and_then_completed(world: World) -> None:
    """What the router finds is what was sent, and the queue is empty."""
    put(world, 3)

    async with world.running():
        await until(lambda: world.queue.completed.total() == 3)

    stored = await world.stored()
    assert sorted(one.body for one in stored) == [alert(number) for number in range(3)]
    assert {(one.source, one.source_name, one.state) for one in stored} == {("service-bus", "bus", DeliveryState.NEW)}
    assert world.queue.waiting == 0
    assert (world.counted("received"), world.counted("completed")) == (3, 3)
    assert world.metrics.bus_connected.labels("bus")._value.get() == 0


async def test_every_body_that_comes_by_the_bus_is_understood(world: World) -> None:
    """Common schema, Alertmanager, Event Grid, CloudEvents structured, batch and binary, AMQP values; one or an array."""
    common = {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {"essentials": {"alertId": "/subscriptions/s/x/1", "alertRule": "r", "monitoringService": "Platform"}},
    }
    grid = {
        "id": "1",
        "topic": "/subscriptions/s",
        "subject": "aks",
        "eventType": "Microsoft.ContainerService.NodePoolRollingFailed",
        "data": {"nodePoolName": "np1"},
        "eventTime": "2026-11-24T10:00:00Z",
    }
    cloud = {"specversion": "1.0", "id": "2", "type": "t", "source": "/s", "data": {"a": 1}}
    binary = {"cloudEvents:specversion": "1.0", "cloudEvents:id": "3", "cloudEvents:type": "bin", "cloudEvents:source": "/s"}
    put(world, 1)
    world.broker.put("alerts", json.dumps(common).encode(), message_id="a")
    world.broker.put("alerts", json.dumps([grid]).encode(), message_id="b")
    world.broker.put("alerts", json.dumps([grid, cloud, common]).encode(), message_id="c")
    world.broker.put("alerts", json.dumps(cloud).encode(), message_id="d", content_type="application/cloudevents+json")
    world.broker.put("alerts", b'{"x": 1}', message_id="e", content_type="application/json", app=binary)
    world.broker.put("alerts", Described(0x77, json.dumps(cloud | {"id": "4"})), message_id="f")
    world.broker.put("alerts", b'\xef\xbb\xbf{"neither": "this nor that"}', message_id="g")

    async with world.running():
        await until(lambda: world.queue.completed.total() == 8)

    read = {
        one.body: SOURCES[SourceKind(one.source)](json.loads(one.body), source_name="bus", received_at=one.received_at)
        for one in await world.stored()
    }
    shapes = sorted((one.shape, len(one.alerts)) for one in read.values())
    assert shapes == [
        ("alertmanager-v4", 1),
        ("azure-common", 1),
        ("cloud-event", 1),
        ("cloud-event", 1),
        ("cloud-event", 1),
        ("event-grid", 1),
        ("event-grid+cloud-event+azure-common", 3),
        ("unknown", 0),
    ]
    assert not next(one for one in read.values() if one.shape == "unknown").understood
    assert not world.broker.dead_letters("alerts")


async def test_a_topics_subscription_is_received_from(world: World) -> None:
    """Each subscription has its own copy."""
    ours, theirs = world.broker.subscription("events", "responder"), world.broker.subscription("events", "other")
    world.broker.put("events", alert(1), message_id="m")

    access = Access(topic="events", subscription="responder", connection_string=world.broker.connection_string)
    async with world.running(access=access):
        await until(lambda: ours.completed.total() == 1)

    assert theirs.waiting == 1


async def test_what_is_no_json_goes_to_the_dead_letters_with_a_reason_for_people(world: World) -> None:
    """It says what is wrong and how the body begins; a large one says which setting."""
    world.gate.intake.largest = 5000
    world.broker.put("alerts", b"<xml>no</xml>", message_id="xml")
    world.broker.put("alerts", b"", message_id="empty")
    world.broker.put("alerts", json.dumps("x" * 100_000).encode(), message_id="large")

    async with world.running():
        await until(lambda: len(world.broker.dead_letters("alerts")) == 3)

    found = {one["id"]: one for one in world.broker.dead_letters("alerts")}
    assert {name: one["DeadLetterReason"] for name, one in found.items()} == {
        "xml": "Malformed",
        "empty": "Malformed",
        "large": "TooLarge",
    }
    assert "begins b'<xml>" in found["xml"]["DeadLetterErrorDescription"]
    assert "http.largest_body" in found["large"]["DeadLetterErrorDescription"]
    assert not await world.stored()


async def test_duplicates_and_redeliveries_change_nothing(world: World) -> None:
    """The same message id and body is one delivery, whatever came between; the same id with another body is another."""
    for body, name in [(1, "a"), (2, "b"), (1, "a"), (1, "c"), (3, "a"), (2, "b")]:
        world.broker.put("alerts", alert(body), message_id=name)

    async with world.running():
        await until(lambda: world.queue.completed.total() == 6)

    assert sorted(one.body for one in await world.stored()) == sorted(alert(number) for number in (1, 2, 1, 3))
    assert world.counted("known") == 2


async def test_a_lock_lost_before_the_settle_changes_nothing(world: World) -> None:
    """The broker delivers again, the store knows it, and then it is completed: once each."""
    world.gate.slow = 0.4
    put(world, 5)

    async with world.running():
        await until(lambda: world.gate.asked == 5)
        world.queue.expire(everything=True)
        await until(lambda: world.queue.completed.total() == 5)

    assert len(await world.stored()) == 5
    assert set(world.queue.completed.values()) == {1}
    assert world.counted("lock_lost") == 5


@pytest.mark.slow
async def test_locks_are_renewed_while_the_store_is_down_and_nothing_is_completed(world: World) -> None:
    """Longer than a lock lasts: no delivery is counted, nothing is received beyond what is in hand, and then all is taken in."""
    world.queue.lock_seconds = 3.0
    world.gate.down = True
    put(world, 8)

    async with world.running(in_flight=4):
        await until(lambda: world.queue.renewed >= 12)
        assert (world.queue.completed.total(), world.queue.expired, world.queue.abandoned) == (0, 0, 0)
        assert len(world.queue.ready) == 4
        world.gate.down = False
        await until(lambda: world.queue.completed.total() == 8)

    assert len(await world.stored()) == 8


async def test_what_breaks_us_is_dead_lettered_before_the_broker_counts_it_out(world: World) -> None:
    """With our reason and the error's words; the broker's own limit of ten is not reached."""
    world.gate.broken = True
    put(world, 1)

    async with world.running(poison_after=2):
        await until(lambda: world.broker.dead_letters("alerts"))

    (found,) = world.broker.dead_letters("alerts")
    assert found["DeadLetterReason"] == "HandlingFailed"
    assert "ZeroDivisionError('a bug of ours')" in found["DeadLetterErrorDescription"]
    assert (world.gate.asked, world.counted("abandoned"), world.counted("dead_lettered")) == (2, 1, 1)


async def test_a_message_that_kept_killing_us_is_not_tried_again(world: World) -> None:
    """Its delivery count alone says so, after restarts too."""
    put(world, 1)
    world.queue.ready[0].deliveries = 8

    async with world.running():
        await until(lambda: world.broker.dead_letters("alerts"))

    assert world.broker.dead_letters("alerts")[0]["DeadLetterReason"] == "PoisonMessage"
    assert world.gate.asked == 0


@pytest.mark.slow
async def test_a_resubmitted_dead_letter_is_handled(world: World) -> None:
    """Ours under a new id, though its like is stored already; a person's tool under the old id too; each only once."""
    put(world, 1)
    async with world.running():
        await until(lambda: world.queue.completed.total() == 1)
    put(world, 1)
    world.queue.bury(world.queue.ready.popleft(), "TTLExpiredException", "too old")
    bus = Bus(world.access)

    (letter, *_) = await listed(bus)
    done = await resubmitted(bus, [letter.sequence])
    world.broker.put("alerts", alert(0), message_id="m-0", app={"DeadLetterReason": "TTLExpiredException"})
    async with world.running():
        await until(lambda: world.queue.waiting == 0)

    assert (letter.reason, letter.description, letter.body) == ("TTLExpiredException", "too old", alert(0).decode())
    assert [one.sequence for one in done] == [letter.sequence]
    assert not world.broker.dead_letters("alerts")
    assert len(await world.stored()) == 3


async def test_dead_letters_that_were_not_asked_for_stay(world: World) -> None:
    """Listed in order, page by page; passing one leaves it there."""
    for number in range(130):
        world.broker.put("alerts", alert(number), message_id=f"m-{number}")
        world.queue.bury(world.queue.ready.popleft(), "r", "d")
    bus = Bus(world.access)

    found = await listed(bus, limit=120)
    done = await resubmitted(bus, [found[3].sequence, 99999])

    assert [one.message_id for one in found] == [f"m-{number}" for number in range(120)]
    assert [one.message_id for one in done] == ["m-3"]
    assert len(world.broker.dead_letters("alerts")) == 129
    assert [one.message_id for one in world.queue.ready] == [f"m-3~{found[3].sequence}"]


@pytest.mark.slow
async def test_a_night_of_dead_letters_is_sent_again_in_one_go(world: World) -> None:
    """More than a lock lasts for if each had a connection of its own; a lock lost in the middle is taken up again, and nothing is sent under two ids."""
    world.queue.dead.lock_seconds = 5  # type: ignore[union-attr]
    for number in range(60):
        world.broker.put("alerts", alert(number), message_id=f"m-{number}")
        world.queue.bury(world.queue.ready.popleft(), "r", "d")
    told: list[int] = []

    def lost(letter: DeadLetter) -> None:
        told.append(letter.sequence)
        if len(told) == 15:
            world.queue.dead.expire(everything=True)  # type: ignore[union-attr]

    done = await resubmitted(Bus(world.access), None, told=lost)

    assert len(done) == len(told) == 60
    assert not world.broker.dead_letters("alerts")
    assert {one.message_id.split("~")[0] for one in world.queue.ready} == {f"m-{number}" for number in range(60)}
    assert len({one.message_id for one in world.queue.ready}) == 60
    assert world.broker.connections <= 4


async def test_stopping_settles_what_is_in_hand_and_gives_back_the_rest(world: World) -> None:
    """Within the drain: what is stored is completed, what could not be stored is abandoned, and nothing stays locked."""
    world.gate.down = True
    put(world, 4)
    source = world.source()
    task = asyncio.create_task(source.run())
    await until(lambda: world.gate.asked >= 4)

    source.stop()
    async with asyncio.timeout(30):
        await task

    assert (len(world.queue.ready), len(world.queue.locked), world.queue.completed.total()) == (4, 0, 0)


@pytest.mark.slow
async def test_a_broker_that_is_not_there_is_asked_again_with_longer_pauses_and_stopping_does_not_wait_for_it(
    world: World,
) -> None:
    """No exception reaches anybody; the gauge says that it is not connected; and it recovers by itself."""
    world.broker.refuse_connections = True
    put(world, 1)

    async with world.running():
        await until(lambda: world.broker.connections >= 6)
        assert world.metrics.bus_connected.labels("bus")._value.get() == 0
        world.broker.refuse_connections = False
        await until(lambda: world.queue.completed.total() == 1)
        assert world.metrics.bus_connected.labels("bus")._value.get() == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sessions", "refused"])
async def test_a_link_that_is_granted_and_then_refused_is_not_called_connected(world: World, how: str) -> None:
    """An entity with sessions, or a quota: the broker attaches first and detaches with its reason. Nothing comes, and nobody may think that all is well."""
    world.queue.sessions = how == "sessions"
    world.broker.refuse = "" if how == "sessions" else "com.microsoft:resource-limit-exceeded"
    put(world, 1)

    async with world.running() as source:
        await until(lambda: world.broker.connections >= 3)
        problem, connected = source.problem, world.metrics.bus_connected.labels("bus")._value.get()
        world.queue.sessions, world.broker.refuse = False, ""
        await until(lambda: world.queue.completed.total() == 1)

    assert connected == 0
    assert ("requires sessions" in problem and "make a new one" in problem) if how == "sessions" else problem
    assert source.problem == ""


@pytest.mark.slow
async def test_errors_say_what_to_do(world: World) -> None:
    """A wrong key, an entity that is not there, a connection string that is none."""

    async def failing(access: Access) -> RemoteError:
        with pytest.raises(RemoteError) as caught:
            await listed(Bus(access))
        return caught.value

    world.broker.token_status = 401
    refused = await failing(world.access)
    world.broker.token_status = 202
    absent = await failing(Access(queue="other", connection_string=world.broker.connection_string))
    odd = await failing(Access(queue="alerts", connection_string="nonsense"))

    assert isinstance(refused, ForbiddenError)
    assert "Azure Service Bus Data Receiver" in str(refused)
    assert "other" in str(absent)
    assert isinstance(odd, RejectedError)
    assert "connection string" in str(odd)


@pytest.mark.slow
async def test_an_identity_is_used_over_websockets_and_tls_as_in_production(world: World, tmp_path: Path) -> None:
    """A namespace by its name, an Entra token, TLS with our own CA."""
    await by_identity(world, tmp_path, "websockets")


async def by_identity(world: World, tmp_path: Path, transport: str) -> None:
    context, ca = certificate(tmp_path)
    identity = Identity()
    async with Broker(tls=context) as broker, websockets(broker, context) as port:
        queue = broker.queue("alerts")
        broker.put("alerts", alert(1), message_id="m")
        endpoint = f"sb://127.0.0.1:{broker.port if transport == 'amqp' else port}"
        access = Access(
            queue="alerts", namespace="ns.servicebus.windows.net", transport=transport, endpoint=endpoint, ca_file=str(ca)
        )

        async with world.running(access=access, credential=identity):
            await until(lambda: queue.completed.total() == 1)

    assert broker.tokens == ["entra-token"]
    assert identity.scopes[0] == "https://servicebus.azure.net//.default"
    assert identity.scopes[-1] == "closed"


async def test_the_one_identity_of_azure_is_taken_and_outlives_the_source(tmp_path: Path) -> None:
    """The unmodified azure-identity and azure-servicebus over TLS: the projected token is exchanged at Entra's double; a source with an identity of its own keeps it."""
    context, ca = certificate(tmp_path)
    folder = tmp_path / "azure"
    folder.mkdir()
    async with SandboxAzure(folder, now=SystemClock().now) as double, Broker(tls=context) as broker:
        broker.queue("alerts")
        broker.put("alerts", alert(1), message_id="m")
        identity = AzureIdentity(azure_access(double, folder))
        given: dict[str, Any] = {
            "queue": "alerts",
            "namespace": "ns.servicebus.windows.net",
            "endpoint": f"sb://127.0.0.1:{broker.port}",
            "ca_file": str(ca),
        }
        bus = bus_of(ServiceBusSettings(kind="service_bus", **given), identity, shared=True)
        own = bus_of(ServiceBusSettings(kind="service_bus", credential="workload_identity", **given), identity, shared=True)

        async with bus.link() as link:
            received = await link.receive(1, wait=5)
            await link.complete(received[0])
        await bus.close()
        again = await identity.token("https://servicebus.azure.net//.default")
        await identity.close()

    assert [one.message.body for one in received] == [alert(1)]
    assert broker.tokens == [again]
    assert own._credential is None


async def test_hundreds_of_messages_with_faults_all_along_are_each_acted_on_once(world: World) -> None:
    """Resets, detaches, closes and lost locks every half second; duplicates among them; two receivers."""
    await flood(world, 300, every=0.5, seed=1)
