"""What the auditor finds and repairs, and what is forgotten when there is too much: on each of the three runners."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from responder.model.action import Change, Verb, Write
from responder.model.evidence import EvidenceItem
from responder.model.incident import Entry, EntryKind, Phase
from responder.model.reason import Reason
from responder.model.storing import Audit, DeliveryState, NewDelivery, Retention
from responder.stores import SqlStore
from responder.stores.sql import tables
from responder.stores.sql.codec import millis, pack
from tests import builders as make
from tests.contract.test_store_promises import claim, closing, in_hand, route, seeded, step
from tests.fakes.clock import FakeClock

MINUTES = timedelta(minutes=1)


async def lines(store: SqlStore, incident: str) -> list[str]:
    return [one.text for one in await store.timeline(incident) if one.reason is Reason.REPAIRED]


async def test_a_sound_store_is_left_alone(store: SqlStore, clock: FakeClock) -> None:
    """An incident that waits, one in hand, one that is closed: nothing is found, nothing changes."""
    waiting = await in_hand(store, 1)
    await store.commit(step(waiting, wake_at=make.NOON + 60 * MINUTES))
    await store.commit(closing(await in_hand(store, 2)))
    await in_hand(store, 3)
    clock.forward(seconds=10)

    assert await store.audit() == Audit()


async def test_an_incident_that_nothing_would_wake_is_woken_and_says_so(store: SqlStore) -> None:
    """Once; the second look finds nothing."""
    held = await in_hand(store)
    await store.commit(step(held))
    await store.runner.run(lambda db: db.execute(update(tables.incidents).values(wake_at=None)) and None)

    first, second = await store.audit(), await store.audit()

    assert (first.no_wake_up, second.no_wake_up) == (1, 0)
    assert len(await claim(store)) == 1
    assert await lines(store, "inc-1") == ["found by the auditor: nobody would have looked at it again; woken"]


async def test_a_lease_that_is_longer_than_any_is_freed(store: SqlStore, clock: FakeClock) -> None:
    """A clock that was ahead left it; its holder cannot live."""
    await in_hand(store)
    far = millis(clock.now() + 600 * MINUTES)
    await store.runner.run(lambda db: db.execute(update(tables.incidents).values(lease_until=far)) and None)

    assert (await store.audit()).leased_too_long == 1
    assert len(await claim(store)) == 1


@pytest.mark.parametrize(("phase", "freed"), [(Phase.CLOSED, 1), (Phase.RECOVERED, 1), (Phase.ACTING, 0), (Phase.VERIFYING, 0)])
async def test_a_claim_that_no_acting_incident_holds_is_freed(
    store: SqlStore, clock: FakeClock, phase: Phase, freed: int
) -> None:
    """It would keep everybody else from the target for ever. A fresh one may be in the middle of its commit."""
    held = await in_hand(store)
    await store.commit(closing(held) if phase is Phase.CLOSED else step(held, incident=replace(held.incident, phase=phase)))
    claimed = {"identity": "x", "incident": "inc-1", "cluster": "prod", "scope": "s", "fence": 1, "at": millis(clock.now())}
    await store.runner.run(lambda db: db.execute(insert(tables.claims).values(**claimed)) and None)
    fresh = (await store.audit()).orphaned_claim
    clock.forward(minutes=3)

    assert (fresh, (await store.audit()).orphaned_claim) == (0, freed)


async def test_a_firing_alert_that_nobody_holds_is_judged_again(store: SqlStore, clock: FakeClock) -> None:
    """Its incident is closed, its sender may never repeat it."""
    await store.commit(closing(await in_hand(store)))
    clock.forward(minutes=3)

    assert (await store.audit()).unheld_alert == 1
    assert [one.instance for one in await store.due_instances(limit=9)] == [seeded().alert.instance]
    assert (await store.audit()).unheld_alert == 0


async def test_a_persons_closing_stands(store: SqlStore, clock: FakeClock) -> None:
    """They know that it fires."""
    held = await in_hand(store)
    closed = closing(held, Reason.CLOSED_BY_PERSON)
    await store.commit(replace(closed, incident=replace(closed.incident, person_closed=True)))
    clock.forward(minutes=3)

    assert (await store.audit()).unheld_alert == 0


async def test_what_is_late_is_counted(store: SqlStore, clock: FakeClock) -> None:
    """An incident and a delivery that nobody takes."""
    await route(store, seeded())
    await store.accept([NewDelivery(source="alertmanager", source_name="x", retry_key="k", body=b"{}", received_at=make.NOON)])
    clock.forward(minutes=3)

    assert (await store.audit()).overdue == 2


def change() -> Change:
    write = Write(key="undo", verb=Verb.PATCH, api="v1", plural="pods", namespace="shop", name="api", body={}, says="give back")
    return Change(target="hpa/shop/api", field="spec.minReplicas", before=1, after=3, undo=write)


@pytest.mark.parametrize(
    ("phase", "found"), [(Phase.CLOSED, True), (Phase.RECOVERED, True), (Phase.WAITING, False), (Phase.VERIFYING, False)]
)
async def test_debts_of_incidents_that_are_over_are_found(store: SqlStore, clock: FakeClock, phase: Phase, found: bool) -> None:
    """A crash between the end and the giving back left them; while the incident lives they are its own."""
    held = await in_hand(store)
    owed = {"incident": "inc-1", "command": "c", "cluster": "prod", "at": millis(clock.now()), "body": pack(change())}
    await store.runner.run(lambda db: db.execute(insert(tables.changes).values(**owed)) and None)
    await store.commit(closing(held) if phase is Phase.CLOSED else step(held, incident=replace(held.incident, phase=phase)))
    fresh = await store.unsettled()
    clock.forward(minutes=3)

    assert list(fresh) == []
    assert bool(await store.unsettled()) is found


async def test_senders_are_remembered_by_their_last_delivery(store: SqlStore, clock: FakeClock) -> None:
    """Also across a restart; what failed for good is counted for a day."""
    await store.accept([NewDelivery(source="alertmanager", source_name="prom", retry_key="k", body=b"{}", received_at=make.NOON)])
    (one,) = await store.claim_deliveries(limit=1, lease=MINUTES)
    for _ in range(3):
        await store.delivery_failed(one, note="bug", again_in=MINUTES)
    said = {(row.name, row.at, row.failed) for row in await store.heard(["prom", "azure"])}
    clock.forward(hours=25)

    assert said == {("prom", make.NOON, 0), ("azure", None, 0), ("prom", make.NOON, 1)}
    assert [row.failed for row in await store.heard([])] == []
    assert [row.state for row in await store.deliveries(state=DeliveryState.FAILED, limit=9)] == [DeliveryState.FAILED]


async def test_too_much_evidence_goes_oldest_closed_first_and_never_an_open_incidents(store: SqlStore, clock: FakeClock) -> None:
    """The bound is filled: names stay listed and say what happened, equal content that others still need stays."""
    keep = Retention(evidence_bytes=2_500)
    for number in (1, 2, 3):
        held = await in_hand(store, number)
        own = EvidenceItem(name="own", content=bytes([number]) * 900, taken_at=make.NOON)
        shared = EvidenceItem(name="shared", content=b"s" * 100, taken_at=make.NOON)
        await store.keep_evidence(f"inc-{number}", opening=1, items=[own, shared])
        if number < 3:
            await store.commit(closing(held))
        clock.forward(minutes=1)
    while await store.prune(keep):
        pass

    sizes = {n: [len(one.content) for one in await store.evidence(f"inc-{n}")] for n in (1, 2, 3)}
    assert sizes == {1: [0, 100], 2: [900, 100], 3: [900, 100]}
    assert "closed longest" in (await store.evidence("inc-1"))[0].problem
    while await store.prune(Retention(evidence_bytes=1)):
        pass
    assert [len(one.content) for one in await store.evidence("inc-3")] == [900, 100], "an open incident's evidence stays"


async def test_a_line_can_be_said_to_an_incident_in_any_phase(store: SqlStore) -> None:
    """Also to a closed one: what is given back later belongs on its timeline."""
    await store.commit(closing(await in_hand(store)))
    await store.note("inc-1", Entry(kind=EntryKind.WRITE, at=make.NOON, reason=Reason.REPAIRED, text="given back"))

    assert await lines(store, "inc-1") == ["given back"]
    assert await store.count_unclosed() == 0
    await store.writable()
