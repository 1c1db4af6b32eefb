"""Promises of the store that only show between two steps: what comes during work, what is due, what is forgotten, what breaks."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import Connection, select, text, update

from responder.model.alert import AlertStatus
from responder.model.errors import InvariantError, SettingsError, StoreUnavailableError
from responder.model.evidence import EvidenceItem
from responder.model.incident import Candidate, Command, Phase, Signal, SignalKind, Tell
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.storing import Claimed, DeliveryState, NewDelivery, Retention, RoutedAlert, RoutedResult, Scopes, Transition
from responder.stores import SqlStore, open_sqlite
from responder.stores.sql import tables
from responder.stores.sql.dialect import insert_rows
from responder.stores.sql.engine import PAGE_BYTES
from responder.stores.sql.keeping import INCIDENT_BYTES, ITEM_BYTES
from responder.stores.sql.runners.sqlite import CHECKPOINT_BYTES
from tests import builders as make
from tests.fakes.clock import FakeClock

LEASE = timedelta(seconds=15)
LATER = make.NOON + timedelta(minutes=5)


def delivery(key: str = "k") -> NewDelivery:
    return NewDelivery(source="alertmanager", source_name="test", retry_key=key, body=b"{}", received_at=make.NOON)


def seeded(number: int = 1) -> RoutedAlert:
    """Return a firing alert of one target with the incident it would open."""
    rule = make.rule()
    seed = make.incident(id=f"inc-{number}", key=f"armed:{number}", candidates=(Candidate(rule="crash", digest=rule.digest),))
    labels = {"alertname": "KubePodCrashLooping", "namespace": "shop", "deployment": f"api-{number}"}
    return RoutedAlert(alert=make.alert(labels=labels), rules=("crash",), seeds=(seed,), pinned={rule.digest: rule.document})


async def route(store: SqlStore, one: RoutedAlert) -> RoutedResult:
    (result,) = await store.route([one], delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    return result


async def claim(store: SqlStore) -> list[Claimed]:
    return list(await store.claim_incidents(owner="me", limit=10, lease=LEASE, own=()))


async def in_hand(store: SqlStore, number: int = 1) -> Claimed:
    await route(store, seeded(number))
    (one,) = await claim(store)
    return one


def step(of: Claimed, **changes: object) -> Transition:
    values: dict[str, object] = {"incident": of.incident, "fence": of.fence, "wake": of.wake, "wake_at": LATER}
    return Transition(**{**values, **changes})  # type: ignore[arg-type] # a builder of a test


def closing(of: Claimed, reason: Reason = Reason.QUIET) -> Transition:
    return step(of, incident=replace(of.incident, phase=Phase.CLOSED, reason=reason), wake_at=None)


# --- what comes during the work


async def test_a_signal_during_work_of_several_steps_is_not_slept_over(store: SqlStore) -> None:
    """The first step sees that the counter moved; the last one must still see it, since nobody took the signal in."""
    held = await in_hand(store)
    await store.signal(Signal(incident="inc-1", kind=SignalKind.PAUSED, at=make.NOON, by="ana"))
    first = await store.commit(step(held, keep=True))
    await store.commit(step(held, wake=first.wake))

    (again,) = await claim(store)
    assert [one.kind for one in again.signals] == [SignalKind.PAUSED]


async def test_an_alert_that_joins_while_its_incident_closes_is_routed_again(store: SqlStore) -> None:
    """Nobody judged it, and its sender may not repeat it for hours."""
    held = await in_hand(store)
    late = make.alert(labels={"alertname": "KubePodNotReady", "deployment": "api-1"})
    await route(store, structs.replace(seeded(), alert=late))
    await store.commit(closing(held))

    assert [one.instance for one in await store.due_instances(limit=9)] == [late.instance]


async def test_what_a_person_said_as_the_incident_closed_stays_on_the_timeline(store: SqlStore) -> None:
    """The caller was told that it was taken; the audit trail has it."""
    held = await in_hand(store)
    assert await store.signal(Signal(incident="inc-1", kind=SignalKind.NOTED, at=make.NOON, by="ana", body={"text": "disk 3"}))
    await store.commit(closing(held))

    assert any("disk 3" in one.text for one in await store.timeline("inc-1"))


async def test_an_alert_that_fires_again_after_its_resolve_is_told(store: SqlStore) -> None:
    """A recovered incident sleeps until its time to reopen is over and must hear of it at once."""
    one = seeded()
    await route(store, one)
    await route(store, structs.replace(one, alert=structs.replace(one.alert, status=AlertStatus.RESOLVED), seeds=()))
    (held,) = await claim(store)
    await store.commit(step(held, consumed=tuple(signal.id for signal in held.signals)))
    await route(store, one)

    (again,) = await claim(store)
    assert [signal.kind for signal in again.signals] == [SignalKind.FIRED]


async def test_a_firing_judged_again_never_overrules_a_resolve_that_came_meanwhile(store: SqlStore) -> None:
    """It would fire for a day: the sender never repeats a Resolved."""
    one = seeded()
    waiting = structs.replace(one, seeds=(), why=Reason.GROUP_WAIT, wake_at=make.NOON)
    await route(store, waiting)
    assert len(await store.due_instances(limit=9)) == 1
    await route(
        store, structs.replace(waiting, alert=structs.replace(one.alert, status=AlertStatus.RESOLVED), why=None, wake_at=None)
    )

    assert (await route(store, structs.replace(one, again=True))).opened == ()
    known = await store.known([one.alert.instance])
    assert known[one.alert.instance].status is AlertStatus.RESOLVED


async def test_judging_again_is_not_receiving(store: SqlStore, clock: FakeClock) -> None:
    """How often and when a sender spoke is what it said, not what we did."""
    one = seeded()
    await route(store, structs.replace(one, seeds=(), why=Reason.GROUP_WAIT, wake_at=make.NOON))
    clock.forward(minutes=1)

    assert (await route(store, structs.replace(one, again=True))).opened == ("inc-1",)
    known = (await store.known([one.alert.instance]))[one.alert.instance]
    assert (known.count, known.seen_at) == (1, make.NOON)


# --- granted or not


async def test_a_denied_intention_frees_nothing_of_its_own(store: SqlStore) -> None:
    """Refused as a whole: also the release that came with it."""
    first, second = await in_hand(store, 1), await in_hand(store, 2)

    def scopes(target: str) -> Scopes:
        return Scopes(
            cluster="prod", target=(target,), scope="s", in_flight=None, rule="crash", max_actions=None, window=timedelta(hours=1)
        )

    def command(key: str) -> Command:
        return Command(key=key, rule="crash", rung="restart", index=0, grade=2, plans=(), begun_at=make.NOON)

    await store.commit(step(first, intend=command("a"), scopes=scopes("one"), keep=True))
    await store.commit(step(second, intend=command("b"), scopes=scopes("two"), keep=True))

    result = await store.commit(step(second, intend=command("c"), scopes=scopes("one"), release=True))

    assert (result.denied, "inc-1" in result.detail) == (Reason.ANOTHER_HAND, True)
    counts = await store.counts(first.incident, scopes("two"), symptom_window=timedelta(minutes=5))
    assert counts.claimed_by == "inc-2"


# --- what is due


async def test_a_claimed_delivery_hides_no_free_one_from_next_due(store: SqlStore, clock: FakeClock) -> None:
    """What is in hand comes back at the end of its lease; what is free is due now."""
    await store.accept([delivery("a")])
    await store.claim_deliveries(limit=9, lease=LEASE)
    assert await store.next_due() == make.NOON + LEASE
    clock.forward(seconds=1)
    await store.accept([delivery("b")])

    assert await store.next_due() == make.NOON + timedelta(seconds=1)


async def test_a_message_behind_another_one_of_its_lane_is_not_due(store: SqlStore) -> None:
    """A channel that is down makes nobody spin."""
    held = await in_hand(store)
    page = Tell(kind=NoticeKind.PAGE, level=1, channels=("pager",), reason=Reason.EXHAUSTED, due_at=make.NOON)
    await store.commit(step(held, tells=(page, replace(page, kind=NoticeKind.RESOLVE)), wake_at=make.NOON + timedelta(hours=1)))
    (row,) = await store.claim_outbox(limit=9, lease=LEASE)
    await store.outbox_failed(row, answer="503", again_at=LATER, fallback="")

    assert await store.next_due() == LATER


async def test_a_delivery_that_another_router_has_routed_stays_routed(store: SqlStore) -> None:
    """A failure that comes too late does not bring it back."""
    await store.accept([delivery()])
    (one,) = await store.claim_deliveries(limit=1, lease=LEASE)
    await store.route([], delivery=one, state=DeliveryState.ROUTED, note="", shape="")
    await store.delivery_failed(one, note="late", again_in=timedelta(0))

    assert await store.backlog() == 0


async def test_an_incident_that_cannot_be_read_stops_no_other(store: SqlStore) -> None:
    """It is set aside with a line on its timeline."""
    await route(store, seeded(1))
    await route(store, seeded(2))
    await store.runner.run(
        lambda db: db.execute(update(tables.incidents).where(tables.incidents.c.id == "inc-1").values(state=b"{}"))
    )

    assert [one.incident.id for one in await claim(store)] == ["inc-2"]
    assert any("nobody works on it" in one.text for one in await store.timeline("inc-1"))


# --- bounds and forgetting


async def test_evidence_of_an_earlier_opening_gives_way_to_a_newer_one(store: SqlStore) -> None:
    """People need what was seen before the newest rung; what went says so."""
    await route(store, seeded())
    many = [
        EvidenceItem(name=f"logs/{number}", content=bytes([number]) * ITEM_BYTES, taken_at=make.NOON)
        for number in range(INCIDENT_BYTES // ITEM_BYTES)
    ]
    await store.keep_evidence("inc-1", opening=1, items=many)
    await store.keep_evidence("inc-1", opening=2, items=[EvidenceItem(name="logs/new", content=b"new", taken_at=make.NOON)])

    found = {one.name: one for one in await store.evidence("inc-1")}
    assert found["logs/new"].content == b"new"
    assert (found["logs/0"].content, found["logs/0"].truncated) == (b"", True)
    assert "make room" in found["logs/0"].problem
    assert len(found["logs/1"].content) == ITEM_BYTES


async def test_evidence_taken_again_after_a_crash_counts_once(store: SqlStore) -> None:
    """The same capture twice fills nothing twice."""
    await route(store, seeded())
    items = [EvidenceItem(name=f"logs/{number}", content=b"x" * ITEM_BYTES, taken_at=make.NOON) for number in range(12)]
    await store.keep_evidence("inc-1", opening=1, items=items)
    await store.keep_evidence("inc-1", opening=1, items=items)

    assert [len(one.content) for one in await store.evidence("inc-1")] == [ITEM_BYTES] * 12


async def test_what_is_old_is_forgotten_and_what_is_open_is_kept(store: SqlStore, clock: FakeClock) -> None:
    """Deliveries, alerts and evidence after 30 days, incidents after 400; nothing of an unclosed incident."""
    await store.accept([delivery("routed"), delivery("waiting")])
    (one, _) = await store.claim_deliveries(limit=2, lease=LEASE)
    await store.route([], delivery=one, state=DeliveryState.ROUTED, note="", shape="")
    ended = await in_hand(store, 1)
    await store.keep_evidence("inc-1", opening=1, items=[EvidenceItem(name="a", content=b"a", taken_at=make.NOON)])
    await store.commit(closing(ended))
    await in_hand(store, 2)
    await store.keep_evidence("inc-2", opening=1, items=[EvidenceItem(name="b", content=b"b", taken_at=make.NOON)])
    clock.forward(days=31)
    while await store.prune(Retention()):
        pass

    assert [row.state for row in await store.deliveries(state=None, limit=9)] == [DeliveryState.NEW]
    assert (await store.held("inc-1"), len(await store.held("inc-2"))) == ([], 1)
    assert (await store.evidence("inc-1"), len(await store.evidence("inc-2"))) == ([], 1)
    assert await store.incident("inc-1") is not None
    clock.forward(days=400)
    while await store.prune(Retention()):
        pass
    assert [found.id for found in await store.incidents(unclosed=False, limit=9)] == ["inc-2"]
    assert await store.timeline("inc-1") == []


# --- what breaks


async def test_a_full_disk_is_said_and_the_store_goes_on_afterwards(tmp_path: Path) -> None:
    """Senders are told to come back; nothing is half stored; room made is room used."""
    store = open_sqlite(tmp_path / "s.sqlite", FakeClock())
    await store.runner.run(lambda db: db.execute(text("pragma max_page_count = 1")).all())  # never below what is used
    many = [replace(delivery(str(number)), body=bytes(range(256)) * 4) for number in range(2000)]

    with pytest.raises(StoreUnavailableError, match=r"accept.*full"):
        await store.accept(many)

    assert await store.backlog() == 0
    await store.runner.run(lambda db: db.execute(text("pragma max_page_count = 1000000")).all())
    assert all(await store.accept(many))
    await store.close()


async def test_rows_of_which_one_is_refused_are_not_half_stored(store: SqlStore) -> None:
    """SQLite keeps what stood before the refused row in its transaction; the transaction is ended, so nobody sees it."""
    columns = ("incident", "command", "cluster", "at", "body")
    good = ("inc-1", "c", "prod", 1, b"{}")
    refused = (None, *good[1:])

    with pytest.raises(InvariantError, match="nothing was stored"):
        await store.runner.run(lambda db: insert_rows(db, tables.changes, columns, [good, good, refused]))

    assert await store.runner.read(lambda db: db.execute(select(tables.changes.c.id)).all()) == []


@pytest.mark.parametrize(("before", "pages"), [(0, PAGE_BYTES), (4096, 4096)])
async def test_a_database_keeps_its_pages_and_its_log_is_bounded_in_bytes(tmp_path: Path, before: int, pages: int) -> None:
    """A new one gets large pages; one that an older release made has small ones, and its log is as long as before."""
    path = tmp_path / "s.sqlite"
    if before:
        with contextlib.closing(sqlite3.connect(path)) as old:
            old.execute(f"pragma page_size = {before}")
            old.execute("create table older (id integer)")
    store = open_sqlite(path, FakeClock())

    def asked(db: Connection) -> tuple[int, int]:
        size, log = (db.execute(text(f"pragma {name}")).scalar_one() for name in ("page_size", "wal_autocheckpoint"))
        return size, log * size

    assert await store.runner.run(asked) == (pages, CHECKPOINT_BYTES)
    assert await store.accept([delivery()]) == [True]
    await store.close()


async def test_a_nul_in_what_a_sender_says_stops_nobody(store: SqlStore) -> None:
    """JSON may hold one, PostgreSQL's text may not: it is stored as a replacement character, and found again."""
    one = seeded()
    odd = structs.replace(one, alert=structs.replace(one.alert, name="a\x00b"))

    assert (await route(store, odd)).opened == ("inc-1",)
    assert (await route(store, odd)).told == ("inc-1",)


async def test_what_the_schema_refuses_is_a_bug_and_not_an_outage(store: SqlStore) -> None:
    """An outage is tried again for ever; a bug must not be."""
    await route(store, seeded())
    other = seeded(2)

    with pytest.raises(InvariantError, match="route"):
        await route(store, structs.replace(other, seeds=(replace(other.seeds[0], id="inc-1"),)))


async def test_a_database_of_a_newer_release_is_refused_and_not_locked(tmp_path: Path) -> None:
    """It took something away that this one needs; the message says what to do, and the right release can open it."""
    store = open_sqlite(tmp_path / "s.sqlite", FakeClock())
    await store.runner.run(lambda db: db.execute(text("update alembic_version set version_num = '9999'")))
    await store.runner.run(lambda db: db.execute(text("update compatibility set least_revision = '9998'")))
    await store.close()

    for _ in range(2):
        with pytest.raises(SettingsError, match="newer release"):
            open_sqlite(tmp_path / "s.sqlite", FakeClock())


async def test_a_database_that_a_newer_release_has_only_added_to_is_used(tmp_path: Path) -> None:
    """Rolled back, or started again in the middle of an upgrade: this release finds all that it knows, and migrates nothing."""
    path = tmp_path / "s.sqlite"
    store = open_sqlite(path, FakeClock())
    await store.accept([delivery()])
    await store.runner.run(lambda db: db.execute(text("alter table deliveries add column of_the_next_release text")))
    await store.runner.run(lambda db: db.execute(text("update alembic_version set version_num = '9999'")))
    await store.close()

    again = open_sqlite(path, FakeClock())

    assert await again.backlog() == 1
    assert await again.accept([delivery("other")]) == [True]
    await again.close()
