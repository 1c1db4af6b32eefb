"""The alerts that stand for all that an incident holds: whatever is judged by them is judged as if all were there."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Connection, select, text, update

from responder.actions.checks import CHECKS
from responder.model.alert import Alert, AlertStatus, Severity
from responder.model.health import Health
from responder.model.incident import Candidate, Incident, Instance, Mode, Phase
from responder.model.storing import DeliveryState, RoutedAlert, Transition
from responder.policy import leading
from responder.policy.decide import decide
from responder.policy.grouping import FORGET, FORGET_STATELESS, fires, key_of
from responder.stores import SqlStore
from responder.stores.sql import tables
from responder.stores.sql.migrate import migrate
from tests import builders as make
from tests.fakes.clock import FakeClock

LEASE = timedelta(seconds=15)
RULES = {
    name: make.rule(rule=name, severity=None, when=f'labels.pod != "{pod}" && alert.severity != "{severity}"')
    for name, pod, severity in (("crash", "p1", "info"), ("flap", "p2", "critical"), ("slow", "p0", "warning"))
}
DOCUMENTS = {rule.digest: rule.document for rule in RULES.values()}
ELSEWHERE = tuple(make.crashing(f"api-{at}", node="n2", created_at=make.NOON + timedelta(seconds=at)) for at in (-61, -1, 0, 1))
SNAPSHOTS = (
    None,
    make.snapshot(),
    make.snapshot(gone=True),
    make.on_node(),
    make.on_node(this=make.dead(), moved=(make.moved(desired=6, ready=1, displaced=True, waiting=ELSEWHERE),)),
)
WAYS = (
    (Phase.OPEN, Health.UNHEALTHY, False),
    (Phase.WAITING, Health.UNHEALTHY, True),
    (Phase.RECOVERED, Health.HEALTHY, False),
    (Phase.RECOVERED, Health.UNHEALTHY, False),
)
LATER = (timedelta(0), timedelta(minutes=1), FORGET_STATELESS, FORGET_STATELESS + timedelta(minutes=5), FORGET, 2 * FORGET)


def seeds(rules: tuple[str, ...], number: int, mode: Mode) -> tuple[Incident, ...]:
    """Return the incident that holds alerts of these rules, in this mode; its id is used when it is the first."""
    candidates = tuple(Candidate(rule=rule, digest=RULES[rule].digest) for rule in rules)
    return (make.incident(id=f"inc-{mode}-{number}", mode=mode, key=key_of(mode, make.TARGET), candidates=candidates),)


def kinds_of_sender(chance: Random) -> list[dict[str, Any]]:
    """Return six kinds of alerts, which differ in one thing or another."""
    first: dict[str, Any] = {"name": "Slow", "severity": Severity.WARNING, "resolves": True, "rules": ("crash", "flap")}
    changes: list[dict[str, Any]] = [
        {"name": "KubePodNotReady"},
        {"severity": Severity.CRITICAL},
        {"resolves": False},
        {"rules": tuple(chance.sample(sorted(RULES), chance.randint(1, 3)))},
        {"name": "Stateless", "resolves": False, "rules": ("slow",)},
    ]
    return [first, *({**first, **one} for one in changes)]


def said(chance: Random, kinds: list[dict[str, Any]], number: int, now: datetime) -> RoutedAlert:
    """Return what a sender says: one of thirty alerts, fired or resolved, mostly of the kind it had before."""
    which = chance.randrange(30)
    kind = kinds[which % 6 if chance.random() < 0.9 else chance.randrange(6)]
    alert: Alert = make.alert(
        labels={"alertname": kind["name"], "pod": f"p{which % 7}"},
        instance=f"i{which}",
        name=kind["name"],
        status=AlertStatus.FIRING if chance.random() < 0.7 else AlertStatus.RESOLVED,
        severity=kind["severity"],
        started_at=chance.choice((None, make.NOON, make.NOON - timedelta(microseconds=1), now - timedelta(minutes=which))),
        resolves=kind["resolves"],
        value=chance.choice((None, 1.5)),
    )
    mode = Mode.SHADOW if which % 5 == 0 else Mode.ARMED
    return RoutedAlert(alert=alert, rules=kind["rules"], seeds=seeds(kind["rules"], number, mode), pinned=DOCUMENTS)


def seen(incident: Incident, instances: tuple[Instance, ...], now: datetime) -> dict[str, Any]:
    """Return everything that is judged by the alerts of an incident."""
    firing = tuple(one for one in instances if fires(one, now=now))
    reading = make.reading()
    found: dict[str, Any] = {
        "variables": {name: leading.variables(incident, rule, instances, reading, now=now) for name, rule in RULES.items()},
        "checks": {
            (check.spec.name, number): check.judge(snapshot, {}, instances=instances, firing=firing, now=now)
            for check in CHECKS
            for number, snapshot in enumerate(SNAPSHOTS)
        },
        "first firing": next((one.instance for one in instances if one.status is AlertStatus.FIRING), None),
    }
    for phase, health, gone in WAYS:
        old = replace(incident, phase=phase, recovered_at=make.NOON if phase is Phase.RECOVERED else None)
        snapshot = make.snapshot(gone=True) if gone else None
        case = make.case(old, rules=RULES, instances=instances, reading=make.reading(health, snap=snapshot, at=now), now=now)
        found[f"{phase} {health} {gone}"] = decide(case)
    return found


def forget_kinds(db: Connection, names: list[str]) -> None:
    """Leave rows as a release stores them that knows of no kinds."""
    db.execute(update(tables.alerts).where(tables.alerts.c.instance.in_(names)).values(kind=None, place=None))


@pytest.mark.parametrize("seed", range(2))
async def test_what_is_judged_by_a_few_alerts_is_judged_as_by_all(store: SqlStore, clock: FakeClock, seed: int) -> None:
    """Fired, repeated with other rules and severities, resolved, forgotten, stored by an older release: now and whenever it is judged later."""
    chance = Random(seed)
    kinds = kinds_of_sender(chance)
    compared = 0
    for number in range(12):
        batch = [said(chance, kinds, number, clock.now()) for _ in range(chance.randint(1, 10))]
        await store.route(batch, delivery=None, state=DeliveryState.ROUTED, note="", shape="")
        if chance.random() < 0.3:
            await store.runner.run(forget_kinds, [f"i{chance.randrange(30)}" for _ in range(3)])
        for one in await store.claim_incidents(owner="me", limit=10, lease=LEASE, own=()):
            every = tuple(await store.held(one.incident.id))
            assert len(one.instances) <= len(every)
            for later in LATER:
                now = clock.now() + later
                assert seen(one.incident, one.instances, now) == seen(one.incident, every, now)
            compared += 1
            await store.commit(
                Transition(
                    incident=one.incident,
                    fence=one.fence,
                    wake=one.wake,
                    wake_at=clock.now() + timedelta(seconds=1),
                    consumed=tuple(signal.id for signal in one.signals),
                )
            )
        clock.forward(seconds=chance.choice((0, 1, 1, 61, 600, 60_000)) + 1)
    assert compared > 10


async def test_an_incident_reads_as_many_alerts_of_one_kind_when_it_holds_a_thousand_as_when_it_holds_two(
    store: SqlStore,
) -> None:
    """The oldest that fires and the oldest that does not, whatever else a sender says of it; a list of all has a bound too."""
    rules = ("crash",)
    many = [
        RoutedAlert(
            alert=make.alert(instance=f"i{number}", started_at=make.NOON + timedelta(seconds=-number)),
            rules=rules,
            seeds=seeds(rules, 1, Mode.ARMED),
            pinned=DOCUMENTS,
        )
        for number in range(1_000)
    ]
    over = [structs.replace(one, alert=structs.replace(one.alert, status=AlertStatus.RESOLVED)) for one in many[-3:]]
    for batch in (many, over):
        await store.route(batch, delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    (one,) = await store.claim_incidents(owner="me", limit=10, lease=LEASE, own=())

    assert [(found.instance, found.status) for found in one.instances] == [
        ("i999", AlertStatus.RESOLVED),
        ("i996", AlertStatus.FIRING),
    ]
    everything = [found.instance for found in await store.held(one.incident.id)]
    assert everything == [f"i{number}" for number in range(999, -1, -1)]
    firing = [found.instance for found in await store.held(one.incident.id, limit=3)]
    assert firing == ["i996", "i995", "i994"], "three are over: who is shown a part of the list is shown what fires"


def as_before_kinds(db: Connection) -> None:
    """Take the schema back to the release before."""
    for name, column in (("alerts_held", "incident"), ("alerts_held_in_shadow", "shadow_incident")):
        db.execute(text(f"drop index {name}_by"))
        db.execute(text(f"create index {name} on alerts ({column}) where {column} != ''"))
    db.execute(text("drop table damaged"))
    for column in ("kind", "place"):
        db.execute(text(f"alter table alerts drop column {column}"))
    db.execute(text("update alembic_version set version_num = '0005'"))


def stored_kinds(db: Connection) -> dict[str, tuple[int | None, int | None]]:
    """Return kind and place of every alert."""
    T = tables.alerts.c  # noqa: N806 - a table reads as a name of its own
    return {row.instance: (row.kind, row.place) for row in db.execute(select(T.instance, T.kind, T.place))}


async def test_alerts_of_a_store_that_knew_of_no_kinds_get_theirs_when_it_is_migrated(store: SqlStore) -> None:
    """The very ones that this release would have stored; what no incident holds stays without."""
    batch = [
        RoutedAlert(
            alert=make.alert(
                instance=f"i{number}", started_at=None if number % 2 else make.NOON, severity=tuple(Severity)[number % 4]
            ),
            rules=("crash",),
            seeds=seeds(("crash",), 1, Mode.SHADOW if number % 3 else Mode.ARMED) if number else (),
            pinned=DOCUMENTS,
        )
        for number in range(7)
    ]
    await store.route(batch, delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    before = await store.runner.run(stored_kinds)

    await store.runner.run(as_before_kinds)
    await store.runner.run(migrate)

    assert await store.runner.run(stored_kinds) == {**before, "i0": (None, None)}


async def test_an_alert_whose_bytes_are_damaged_keeps_no_store_from_being_migrated(store: SqlStore) -> None:
    """It stays without a kind; the others get theirs, and the service starts."""
    batch = [
        RoutedAlert(alert=make.alert(instance=name), rules=("crash",), seeds=seeds(("crash",), 1, Mode.ARMED), pinned=DOCUMENTS)
        for name in ("i0", "i1")
    ]
    await store.route(batch, delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    before = await store.runner.run(stored_kinds)

    def damaged(db: Connection) -> None:
        as_before_kinds(db)
        db.execute(update(tables.alerts).where(tables.alerts.c.instance == "i0").values(body=b"\x00"))

    await store.runner.run(damaged)
    await store.runner.run(migrate)

    assert await store.runner.run(stored_kinds) == {**before, "i0": (None, None)}
