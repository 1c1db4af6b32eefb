"""Deliveries that are stored and routed together: as if each came by itself, at the cost of one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from msgspec import structs

from responder.model.alert import AlertStatus, folded
from responder.model.incident import Candidate, Incident, Phase, SignalKind
from responder.model.reason import Reason
from responder.model.storing import Claimed, Delivery, DeliveryState, NewDelivery, RoutedAlert, RoutedDelivery, Transition
from responder.policy.signals import take_in
from responder.service.names import incident_id
from responder.stores import SqlStore
from tests import builders as make
from tests.fakes.clock import FakeClock

LEASE = timedelta(seconds=15)
AT_ONCE = timedelta(0)


def delivery(key: str, source_name: str = "test") -> NewDelivery:
    return NewDelivery(source="alertmanager", source_name=source_name, retry_key=key, body=b"{}", received_at=make.NOON)


def pattern() -> Incident:
    """Return a seed without an id."""
    return make.incident(id="", candidates=(Candidate(rule="crash", digest=make.rule().digest),), evidence_at=None)


def firing(number: int, seed: Incident | None = None) -> RoutedAlert:
    rule = make.rule()
    one = make.alert(labels={"alertname": "KubePodCrashLooping", "deployment": "api", "pod": f"api-{number}"})
    return RoutedAlert(alert=one, rules=("crash",), seeds=(seed or pattern(),), pinned={rule.digest: rule.document})


def step(of: Claimed, after: Incident) -> Transition:
    return Transition(incident=after, fence=of.fence, wake=of.wake, wake_at=None)


async def taken(store: SqlStore, *keys: str) -> list[Delivery]:
    await store.accept([delivery(key) for key in keys])
    return list(await store.claim_deliveries(limit=10, lease=LEASE))


async def route(store: SqlStore, *alerts: list[RoutedAlert], settle: timedelta = AT_ONCE) -> list[Delivery]:
    """Route these alerts, each list as one delivery's, in one transaction."""
    held = await taken(store, *(f"{alerts[0][0].alert.instance}-{number}" for number in range(len(alerts))))
    routed = [
        RoutedDelivery(delivery=one, state=DeliveryState.ROUTED, alerts=mine) for one, mine in zip(held, alerts, strict=True)
    ]
    await store.route_all(routed, settle=settle, name=incident_id)
    return held


async def test_alerts_of_several_deliveries_open_one_incident_under_one_name(store: SqlStore) -> None:
    """They share a seed without an id: the first that needs it gets one, the others join."""
    seed = pattern()

    await route(store, [firing(1, seed), firing(2, seed)], [firing(3, seed)])

    (one,) = await store.incidents(unclosed=True, limit=9)
    assert one.id.startswith("inc-")
    assert {held.labels["pod"] for held in await store.held(one.id)} == {"api-1", "api-2", "api-3"}
    assert await store.deliveries(state=DeliveryState.NEW, limit=9) == []


async def test_a_pattern_opens_another_incident_when_its_first_is_closed(store: SqlStore, clock: FakeClock) -> None:
    """Its id is never used twice, and its time is that of the opening."""
    seed = pattern()
    await route(store, [firing(1, seed)])
    (held,) = await store.claim_incidents(owner="me", limit=9, lease=LEASE, own=())
    closed = replace(held.incident, phase=Phase.CLOSED, reason=Reason.QUIET)
    await store.commit(step(held, closed))
    clock.forward(minutes=1)

    held_again = await taken(store, "again")
    routed = [RoutedDelivery(delivery=held_again[0], state=DeliveryState.ROUTED, alerts=[firing(2, seed)])]
    await store.route_all(routed, settle=AT_ONCE, name=incident_id)

    (new,) = await store.incidents(unclosed=True, limit=9)
    assert new.id != held.incident.id
    assert new.opened_at == make.NOON + timedelta(minutes=1)


async def test_the_order_of_deliveries_counts_within_one_transaction(store: SqlStore) -> None:
    """Firing, then resolved, as they came: the last word stands."""
    one = firing(1)
    gone = RoutedAlert(alert=structs.replace(one.alert, status=AlertStatus.RESOLVED), rules=("crash",))

    await route(store, [one], [gone])

    assert [held.status for held in await store.instances(why=None, firing=False, limit=9)] == [AlertStatus.RESOLVED]


async def test_what_many_alerts_say_to_one_incident_is_one_signal_that_names_all(store: SqlStore) -> None:
    """A storm would fill the timeline with what the list of alerts says better; none of them is lost when the incident closes meanwhile."""
    await route(store, [firing(0)])
    (held,) = await store.claim_incidents(owner="me", limit=9, lease=LEASE, own=())

    await route(store, [firing(1), firing(2)], [firing(3)])
    signals, _ = await store.peek(held.incident.id)

    assert [one.kind for one in signals] == [SignalKind.FIRED]
    assert {signals[0].body["instance"], *signals[0].body["others"]} == {firing(number).alert.instance for number in (1, 2, 3)}
    _, (line,) = take_in(held.incident, signals)
    assert line.text == "alert KubePodCrashLooping and 2 more joined"

    closed = replace(held.incident, phase=Phase.CLOSED, reason=Reason.QUIET)
    await store.commit(step(held, closed))
    due = await store.due_instances(limit=9)
    assert {one.instance for one in due} == {firing(number).alert.instance for number in (1, 2, 3)}


async def test_a_storms_incidents_wait_until_they_are_woken_but_not_for_ever(store: SqlStore, clock: FakeClock) -> None:
    """Bounded by what is stored: also when the process that would wake them dies."""
    await route(store, [firing(1)], settle=timedelta(seconds=15))

    assert await store.claim_incidents(owner="me", limit=9, lease=LEASE, own=()) == []
    clock.forward(seconds=15)
    assert len(await store.claim_incidents(owner="me", limit=9, lease=LEASE, own=())) == 1


async def test_a_storms_incidents_are_woken_together(store: SqlStore) -> None:
    """Once its alerts are in."""
    await route(store, [firing(1)], settle=timedelta(seconds=15))
    (one,) = await store.incidents(unclosed=True, limit=9)

    await store.wake([one.id, "inc-nobody"])

    assert len(await store.claim_incidents(owner="me", limit=9, lease=LEASE, own=())) == 1


async def test_a_storm_delays_nobody_who_is_due(store: SqlStore) -> None:
    """An incident that is due, and one in hand, hear of the storm's alerts as soon as they would without it."""
    await route(store, [firing(1)])
    await route(store, [firing(2)], settle=timedelta(seconds=15))

    (held,) = await store.claim_incidents(owner="me", limit=9, lease=LEASE, own=())

    assert [one.kind for one in held.signals] == [SignalKind.FIRED]
    await route(store, [firing(3)], settle=timedelta(seconds=15))
    _, wake = await store.peek(held.incident.id)
    assert wake > held.wake


async def test_repeats_among_deliveries_that_are_stored_together_are_absorbed(store: SqlStore) -> None:
    """As if they came one by one: only the newest of a sender absorbs."""
    assert await store.accept([delivery("a"), delivery("a"), delivery("b"), delivery("a")]) == [True, False, True, True]
    assert await store.accept([delivery("c"), delivery("a"), delivery("d", "other")]) == [True, True, True]


async def test_labels_with_a_null_are_stored_on_every_database(store: SqlStore) -> None:
    """PostgreSQL's text has none; what SQLite's driver is given by itself is told the same way."""
    strange = make.alert(labels={"alertname": "Nu\x00ll"})
    held = await taken(store, "k")
    routed = RoutedDelivery(
        delivery=held[0], state=DeliveryState.ROUTED, alerts=[RoutedAlert(alert=strange, why=Reason.UNMATCHED)]
    )

    await store.route_all([routed], settle=AT_ONCE, name=incident_id)
    known = await store.known([strange.instance])

    assert [one.labels["alertname"] for one in known.values()] == ["Nu\x00ll"]


async def test_alerts_that_come_folded_are_stored_as_those_that_do_not(store: SqlStore) -> None:
    """The first of an instance, its repeat in the same transaction and its repeat in a later one: labels and annotations are those of the newest."""
    texts = {"summary": 'it "crashes"', "description": "ä"}
    plain = [
        structs.replace(firing(number), alert=structs.replace(firing(number).alert, annotations=texts)) for number in range(3)
    ]
    one, two, three = (structs.replace(given, alert=folded(given.alert)) for given in plain)
    said = folded(structs.replace(two.alert, annotations={"summary": "still"}))
    ended = folded(structs.replace(three.alert, status=AlertStatus.RESOLVED))

    await route(store, [one, two, three, structs.replace(two, alert=said)])
    again = structs.replace(one, alert=folded(structs.replace(plain[0].alert, annotations={"summary": "again"})))
    await store.route([again, RoutedAlert(alert=ended)], delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    found = await store.known([given.alert.instance for given in plain])
    assert [dict(found[given.alert.instance].labels) for given in plain] == [dict(given.alert.labels) for given in plain]
    assert [dict(found[given.alert.instance].annotations) for given in plain] == [
        {"summary": "again"},
        {"summary": "still"},
        texts,
    ]
    assert [found[given.alert.instance].count for given in plain] == [2, 2, 2]
    assert [found[given.alert.instance].status for given in plain] == [
        AlertStatus.FIRING,
        AlertStatus.FIRING,
        AlertStatus.RESOLVED,
    ]


async def test_the_timeline_names_the_labels_of_the_alert_that_opened_also_when_it_came_folded(store: SqlStore) -> None:
    """They are written as they came."""
    given = firing(0)

    await route(store, [structs.replace(given, alert=folded(given.alert))])

    (incident,) = await store.incidents(unclosed=True, limit=10)
    (line,) = await store.timeline(incident.id)
    assert line.data["labels"] == dict(given.alert.labels)
