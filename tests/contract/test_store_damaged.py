"""Rows whose bytes are none of ours: each costs its own work and nobody else's, is listed, and is well again when its sender repeats it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs
from sqlalchemy import select, text, update

from responder.model.alert import AlertStatus, Severity
from responder.model.evidence import EvidenceItem
from responder.model.incident import STATE_VERSION, Candidate, Command, EntryKind, Mode, Phase, Signal, SignalKind, Tell
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.storing import DeliveryState, ModeRow, RoutedAlert, Scopes
from responder.policy.decide import decide
from responder.policy.storms import parent_key
from responder.stores import SqlStore
from responder.stores.sql import tables
from responder.stores.sql.inspecting import exported, inspected
from tests import builders as make
from tests.contract.test_store_audited import change
from tests.contract.test_store_promises import LATER, claim, delivery, in_hand, route, seeded, step
from tests.fakes.clock import FakeClock

LEASE = timedelta(seconds=15)
NO_JSON = b"\x00\xff damaged \xfe"
NO_TEXT = b'["\xff\xfe"]'
"""JSON as far as it goes, but no text: decoders say so with another exception."""

COMMAND = Command(key="k", rule="crash", rung="restart", index=0, grade=2, plans=(), begun_at=make.NOON)
SCOPES = Scopes(
    cluster="prod", target=("t",), scope="s", in_flight=None, rule="crash", max_actions=None, window=timedelta(hours=1)
)
STORM = parent_key("prod", Mode.ARMED)
DAMAGES = pytest.mark.parametrize("bytes_", [NO_JSON, NO_TEXT, b"", b"{}", b"[]"])


async def damage(store: SqlStore, table: str, bytes_: bytes = NO_JSON, *, column: str = "body", where: str = "1 = 1") -> None:
    """Overwrite a column of stored rows."""
    one = tables.METADATA.tables[table]
    await store.runner.run(lambda db: db.execute(update(one).where(text(where)).values({column: bytes_})))


async def listed(store: SqlStore) -> list[tuple[str, str, str]]:
    return [(one.table, one.key, one.incident) for one in await store.damaged()]


async def found_by_check(store: SqlStore, clock: FakeClock) -> list[str]:
    """Return what ``responder db check`` finds unreadable."""
    now = int(clock.now().timestamp() * 1000)
    return [one.detail for one in (await store.runner.run(lambda db: inspected(db, now))).findings if one.what == "unreadable"]


def of_first(*names: str) -> list[RoutedAlert]:
    """Return alerts of one kind that incident 1 holds, the first of them the oldest."""
    first = seeded()
    return [
        structs.replace(first, alert=structs.replace(first.alert, instance=name, started_at=make.NOON + timedelta(seconds=place)))
        for place, name in enumerate(names)
    ]


async def routed(store: SqlStore, *alerts: RoutedAlert) -> None:
    await store.route(alerts, delivery=None, state=DeliveryState.ROUTED, note="", shape="")


# --- alerts


@DAMAGES
async def test_an_alert_that_cannot_be_read_stops_no_incident_that_is_claimed_with_its_own(
    store: SqlStore, clock: FakeClock, bytes_: bytes
) -> None:
    """Its own goes on too: by name, status and times, which are columns. A line says so once, and ``db check`` finds it."""
    await routed(store, *of_first("bad"), seeded(2))
    await damage(store, "alerts", bytes_, where="instance = 'bad'")

    claimed = {one.incident.id: one for one in await claim(store)}
    clock.forward(seconds=20)
    again = {one.incident.id: one for one in await claim(store)}
    clock.forward(minutes=2)
    await claim(store)

    assert set(claimed) == set(again) == {"inc-1", "inc-2"}
    (one,) = claimed["inc-1"].instances
    assert (one.name, one.status, one.incident, one.labels) == ("KubePodCrashLooping", AlertStatus.FIRING, "inc-1", {})
    assert "cannot be read" in one.problem
    assert [held.problem for held in claimed["inc-2"].instances] == [""]
    assert [entry.reason for entry in await store.timeline("inc-1")].count(Reason.UNREADABLE) == 1
    assert await listed(store) == [("alerts", "bad", "inc-1")]
    assert await found_by_check(store, clock) == ["alerts: bad"]


async def test_the_next_oldest_alert_stands_for_a_kind_whose_oldest_cannot_be_read(store: SqlStore) -> None:
    """Their labels are not lost with its."""
    await routed(store, *of_first("a", "b", "c"))
    await damage(store, "alerts", where="instance in ('a', 'b')")

    (held,) = await claim(store)

    assert [(one.instance, bool(one.problem)) for one in held.instances] == [("a", True), ("b", True), ("c", False)]
    assert held.instances[2].labels["deployment"] == "api-1"


async def test_an_alert_that_cannot_be_read_is_whole_again_when_its_sender_repeats_it(store: SqlStore, clock: FakeClock) -> None:
    """And what is well is listed no longer; its incident has what the repeat says."""
    bad, beside = *of_first("bad"), seeded(2)
    await routed(store, bad, beside)
    await damage(store, "alerts", where="instance = 'bad'")
    await claim(store)
    await store.audit()
    before = await listed(store)

    clock.forward(seconds=30)
    await routed(store, bad, beside)
    await store.audit()

    (one,) = await store.held("inc-1")
    assert (one.problem, one.labels, one.source, one.incident) == ("", bad.alert.labels, "alertmanager", "inc-1")
    assert before == [("alerts", "bad", "inc-1")]
    assert await listed(store) == []
    assert await found_by_check(store, clock) == []
    (held,) = [one for one in await claim(store) if one.incident.id == "inc-1"]
    assert [one.problem for one in held.instances] == [""]


async def test_an_alert_that_cannot_be_read_resolves_when_its_sender_says_so(store: SqlStore) -> None:
    """Its incident is told, as of any other."""
    (bad,) = of_first("bad")
    await routed(store, bad)
    await damage(store, "alerts")
    await claim(store)

    over = structs.replace(bad, alert=structs.replace(bad.alert, status=AlertStatus.RESOLVED), seeds=())
    (result,) = await store.route([over], delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    assert result.told == ("inc-1",)
    assert [one.status for one in await store.held("inc-1")] == [AlertStatus.RESOLVED]


async def test_a_due_alert_that_cannot_be_read_is_listed_and_the_others_are_judged(store: SqlStore, clock: FakeClock) -> None:
    """Nobody knows any more what rules are for it, so a person is told; it is asked for no more than once."""
    waiting = [structs.replace(one, seeds=(), why=Reason.GROUP_WAIT, wake_at=LATER) for one in of_first("bad", "good")]
    await routed(store, *waiting)
    await damage(store, "alerts", where="instance = 'bad'")
    clock.forward(minutes=10)

    due = await store.due_instances(limit=9)
    clock.forward(minutes=2)
    again = await store.due_instances(limit=9)

    assert [one.instance for one in due] == [one.instance for one in again] == ["good"]
    assert await listed(store) == [("alerts", "bad", "")]
    assert [one.instance for one in await store.instances(why=Reason.UNREADABLE, firing=True, limit=9)] == ["bad"]


async def test_an_alert_that_is_damaged_while_it_is_judged_again_is_not_made_to_look_whole(store: SqlStore) -> None:
    """What was lost is not filled with nothing."""
    (bad,) = of_first("bad")
    await routed(store, bad)
    await damage(store, "alerts")
    await routed(store, structs.replace(bad, again=True, alert=structs.replace(bad.alert, labels={})))

    assert [bool(one.problem) for one in await store.held("inc-1")] == [True]


async def test_lists_show_alerts_that_cannot_be_read_among_the_others(store: SqlStore) -> None:
    """All that fire, all that a page lists, and all that a sender is asked about."""
    await routed(store, *of_first("bad", "good"))
    await damage(store, "alerts", where="instance = 'bad'")

    names = {"bad", "good"}
    assert {one.instance for one in await store.instances(why=None, firing=True, limit=9)} == names
    assert {one.instance for one in await store.held("inc-1")} == names
    assert set(await store.known(["bad", "good"])) == names
    assert [one.instance for one in await store.firing(source="alertmanager", source_name="test", limit=9)] == ["good"]
    assert await store.events(within=timedelta(hours=1), limit=9) == []


async def test_an_alert_of_which_only_the_columns_are_left_is_judged_as_firing_and_permits_nothing_by_its_labels(
    store: SqlStore,
) -> None:
    """A rule that asks for a label is unknown and waits for people; severity stays what it was."""
    rule = make.rule(severity=None, when='labels.deployment == "api-1"')
    one = seeded()
    seed = replace(one.seeds[0], severity=Severity.WARNING, candidates=(Candidate(rule="crash", digest=rule.digest),))
    await routed(store, structs.replace(one, seeds=(seed,), pinned={rule.digest: rule.document}))
    (whole,) = await claim(store)
    await store.commit(step(whole, wake_at=make.NOON))
    await damage(store, "alerts")
    (held,) = await claim(store)
    later = make.NOON + timedelta(minutes=1)

    before, after = (
        decide(make.case(of.incident, rules={"crash": rule}, instances=of.instances, now=later, reading=make.reading(at=later)))
        for of in (whole, held)
    )

    assert before.incident.reason is not Reason.WHEN_UNKNOWN
    assert after.incident.reason is Reason.WHEN_UNKNOWN
    assert after.intend is None
    assert after.incident.severity is Severity.WARNING


# --- incidents, and what is claimed with them


@DAMAGES
async def test_an_incident_that_cannot_be_read_is_shown_and_listed_and_stops_nothing(
    store: SqlStore, clock: FakeClock, bytes_: bytes
) -> None:
    """As far as its columns say; who reads the list at night sees it, and every other."""
    await route(store, seeded(1))
    await route(store, seeded(2))
    await damage(store, "incidents", bytes_, column="state", where="id = 'inc-1'")

    assert [one.incident.id for one in await claim(store)] == ["inc-2"]
    shown = {one.id: one for one in await store.incidents(unclosed=True, limit=9)}
    assert set(shown) == {"inc-1", "inc-2"}
    assert (shown["inc-1"].reason, shown["inc-1"].phase, shown["inc-1"].severity) == (
        Reason.UNREADABLE,
        Phase.OPEN,
        shown["inc-2"].severity,
    )
    assert str(shown["inc-1"].target) == str(shown["inc-2"].target)
    assert await store.incident("inc-1") == shown["inc-1"]
    assert set(await store.unclosed(["armed:1", "armed:2"])) == {"armed:2"}
    assert await listed(store) == [("incidents", "inc-1", "inc-1")]
    assert await found_by_check(store, clock) == ["inc-1"]


async def test_an_alert_of_an_incident_that_cannot_be_read_is_routed_like_any_other(store: SqlStore) -> None:
    """A repeat with a new rule, which asks what rules the incident knows, fails no delivery."""
    bad, good = seeded(1), seeded(2)
    await routed(store, bad, good)
    await damage(store, "incidents", column="state", where="id = 'inc-1'")

    results = await store.route(
        [structs.replace(bad, rules=("crash", "other")), good], delivery=None, state=DeliveryState.ROUTED, note="", shape=""
    )

    assert [one.told for one in results] == [("inc-1",), ("inc-2",)]


async def test_a_storms_parent_that_cannot_be_read_takes_nobody_in_silence(store: SqlStore) -> None:
    """The child's step is stored; it asks again later, and the parent is listed for people."""
    parent = make.incident(id="inc-p", key="armed:storm/prod", causes=("symptom/crash",))
    await route(store, structs.replace(seeded(9), seeds=(replace(parent, candidates=()),)))
    await damage(store, "incidents", column="state", where="id = 'inc-p'")
    held = await in_hand(store, 1)

    done = await store.commit(step(held, storm=parent))

    assert (done.stored, done.parent) == (True, "")
    assert ("incidents", "inc-p", "inc-p") in await listed(store)


@pytest.mark.parametrize("unreadable", [{"state": NO_JSON}, {"state_v": STATE_VERSION + 1}], ids=["damaged", "newer"])
async def test_a_container_that_cannot_be_read_keeps_what_it_contains_from_being_written_to(
    store: SqlStore, unreadable: dict[str, object]
) -> None:
    """Somebody may be at work on the node. The child waits as contained without a parent, which calls people; a storm's parent has nobody."""
    await route(store, seeded(9))
    await route(store, structs.replace(seeded(8), seeds=(replace(make.incident(id="inc-p", key=STORM), candidates=()),)))
    others = tables.incidents.c.id.in_(["inc-9", "inc-p"])
    await store.runner.run(lambda db: db.execute(update(tables.incidents).where(others).values(unreadable)))
    held = await in_hand(store, 1)

    inside = await store.commit(step(held, intend=COMMAND, scopes=replace(SCOPES, parents=(STORM, "armed:9"), symptom="crash")))
    beside = await store.commit(step(held, intend=COMMAND, scopes=replace(SCOPES, parents=(STORM,), symptom="crash")))

    assert (inside.stored, inside.denied) == (False, Reason.CONTAINED)
    assert inside.detail.startswith("inc-9 is for ")
    assert (beside.stored, beside.denied) == (True, None)


@DAMAGES
async def test_a_signal_that_cannot_be_read_keeps_its_kind_and_stops_no_other(store: SqlStore, bytes_: bytes) -> None:
    """Who paused an incident meant it, whatever was said with it."""
    held, _ = await in_hand(store, 1), await in_hand(store, 2)
    await store.commit(step(held))
    for incident, kind in (("inc-1", SignalKind.PAUSED), ("inc-1", SignalKind.APPROVED), ("inc-2", SignalKind.NOTED)):
        await store.signal(Signal(incident=incident, kind=kind, at=make.NOON, by="ana", body={"text": "why", "digest": "d"}))
    await damage(store, "signals", bytes_, where="incident = 'inc-1'")

    (again,) = await claim(store)

    assert [(one.kind, one.by, one.body.get("digest")) for one in again.signals] == [
        (SignalKind.PAUSED, "ana", None),
        (SignalKind.APPROVED, "ana", None),
    ]
    assert [one.body["text"] for one in (await store.peek("inc-2"))[0]] == ["why"]


async def test_words_of_a_newer_release_stop_nobody(store: SqlStore) -> None:
    """Both run on one store for a while; a signal becomes a note, a message a page, a reason ``unreadable``, and a mode off."""
    held = await in_hand(store, 1)
    page = Tell(kind=NoticeKind.PAGE, level=1, channels=("pager",), reason=Reason.EXHAUSTED, due_at=make.NOON)
    await store.commit(step(held, tells=(page,)))
    await store.signal(Signal(incident="inc-1", kind=SignalKind.PAUSED, at=make.NOON, by="ana", body={"text": "why"}))
    await store.set_mode(ModeRow(scope="cluster/a", mode=Mode.ARMED))
    await store.set_mode(ModeRow(scope="cluster/b", mode=Mode.ARMED))
    await store.accept([delivery()])
    for statement in (
        "update signals set kind = 'praised'",
        "update outbox set kind = 'song', reason = 'joy'",
        "update timeline set kind = 'verse', reason = 'joy'",
        "update alerts set why = 'joy'",
        "update modes set mode = 'half' where scope = 'cluster/a'",
        "update deliveries set state = 'sung'",
    ):
        await store.runner.run(lambda db, said=statement: db.execute(text(said)))

    (again,) = await claim(store)
    (row,) = await store.claim_outbox(limit=9, lease=LEASE)

    assert [(one.kind, one.body["text"]) for one in again.signals] == [
        (SignalKind.NOTED, "said praised, which this release does not know; why")
    ]
    assert [one.why for one in again.instances] == [Reason.UNREADABLE]
    assert (row.tell.kind, row.tell.reason) == (NoticeKind.PAGE, Reason.UNREADABLE)
    assert {(one.kind, one.reason) for one in await store.timeline("inc-1")} == {(EntryKind.DECISION, Reason.UNREADABLE)}
    assert {one.scope: one.mode for one in await store.modes()} == {"cluster/a": Mode.OFF, "cluster/b": Mode.ARMED}
    assert [one.state for one in await store.deliveries(state=None, limit=9)] == [DeliveryState.FAILED]
    assert await store.damaged() == []


async def test_a_pinned_rule_that_cannot_be_read_is_missing_for_its_own_incidents_only(store: SqlStore, clock: FakeClock) -> None:
    """Both are claimed; who has none of its rules is set aside by the worker."""
    other = make.rule(rule="other")
    two = seeded(2)
    seed = replace(two.seeds[0], candidates=(Candidate(rule="other", digest=other.digest),))
    await routed(store, seeded(1), structs.replace(two, seeds=(seed,), pinned={other.digest: other.document}))
    await damage(store, "pinned_rules", column="document", where=f"digest = '{other.digest}'")

    rules = {one.incident.id: set(one.rules) for one in await claim(store)}

    assert rules == {"inc-1": {"crash"}, "inc-2": set()}
    assert await listed(store) == [("pinned_rules", other.digest, "")]
    assert await store.pinned([other.digest]) == {}
    assert await found_by_check(store, clock) == [f"pinned_rules: {other.digest}"]


# --- deliveries, messages, history, debts


async def test_a_delivery_that_cannot_be_read_fails_and_the_others_are_routed(store: SqlStore, clock: FakeClock) -> None:
    """It is kept as failed, of which people are told, and never claimed again."""
    await store.accept([delivery("bad"), delivery("good")])
    await damage(store, "deliveries", where="retry_key = 'bad'")

    claimed = await store.claim_deliveries(limit=9, lease=LEASE)
    clock.forward(minutes=5)
    again = await store.claim_deliveries(limit=9, lease=LEASE)

    assert [one.body for one in claimed] == [one.body for one in again] == [b"{}"]
    (bad,) = await store.deliveries(state=DeliveryState.FAILED, limit=9)
    assert (bad.body, "damaged in the store" in bad.note) == (b"", True)
    assert [(one.name, one.failed) for one in await store.heard([])] == [("test", 1)]
    assert await listed(store) == [("deliveries", str(bad.id), "")]
    assert len(await found_by_check(store, clock)) == 1


async def test_a_line_or_an_item_that_cannot_be_read_hides_no_other(store: SqlStore, clock: FakeClock) -> None:
    """Timeline and evidence say where something is missing."""
    held = await in_hand(store, 1)
    items = [EvidenceItem(name=name, content=name.encode() * 9, taken_at=make.NOON) for name in ("bad", "good")]
    await store.keep_evidence("inc-1", opening=1, items=items)
    await store.commit(step(held))
    first = await store.runner.run(lambda db: db.execute(select(tables.timeline.c.id)).scalars().first())
    digest = await store.runner.run(
        lambda db: db.execute(select(tables.evidence.c.digest).where(tables.evidence.c.name == "bad")).scalar()
    )
    before = len(await store.timeline("inc-1"))
    await damage(store, "timeline", where=f"id = {first}")
    await damage(store, "blobs", where=f"digest = '{digest}'")

    lines = await store.timeline("inc-1")
    evidence = {one.name: one for one in await store.evidence("inc-1")}

    assert len(lines) == before
    assert "cannot be read" in lines[0].text
    assert (evidence["bad"].content, "damaged in the store" in evidence["bad"].problem) == (b"", True)
    assert (evidence["good"].content, evidence["good"].problem) == (b"good" * 9, "")
    assert await found_by_check(store, clock) == [f"timeline: {first}", f"blobs: {digest}"]


async def test_a_debt_that_cannot_be_read_is_listed_and_the_others_are_paid(store: SqlStore, clock: FakeClock) -> None:
    """Of its incident and of all."""
    held = await in_hand(store, 1)
    changes = tuple(replace(change(), field=field) for field in ("bad", "good"))
    await store.commit(step(held, intend=COMMAND, scopes=SCOPES, changes=changes))
    await damage(store, "changes", where="id = (select min(id) from changes)")

    assert [one.change.field for one in await store.owed()] == ["good"]
    assert [one.change.field for one in await store.owed(incident="inc-1")] == ["good"]
    ((table, _, incident),) = await listed(store)
    assert (table, incident) == ("changes", "inc-1")
    assert len(await found_by_check(store, clock)) == 1


async def test_what_cannot_be_read_is_exported_byte_for_byte(store: SqlStore) -> None:
    """Who repairs a store by hand needs what is there."""
    await routed(store, *of_first("bad"))
    await damage(store, "alerts")
    await damage(store, "incidents", NO_TEXT, column="state")
    lines: list[bytes] = []

    await store.runner.run(lambda db: exported(db, 0, lines.append))

    rows = [json.loads(line) for line in lines][1:]
    bodies = {one["table"]: one["row"].get("body") or one["row"].get("state") for one in rows}
    assert bodies["alerts"] == {"base64": "AP8gZGFtYWdlZCD+"}
    assert bodies["incidents"] == {"base64": "WyL//iJd"}


async def test_a_row_that_is_gone_is_listed_no_longer(store: SqlStore) -> None:
    """By forgetting, or by hand."""
    await routed(store, *of_first("bad"))
    await damage(store, "alerts")
    await claim(store)
    before = await listed(store)
    await store.runner.run(lambda db: db.execute(text("delete from alerts")))
    await store.audit()

    assert (len(before), await listed(store)) == (1, [])
