"""What the store promises, over its three runners."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from responder.model.action import Change, Plan, Verb, Write
from responder.model.alert import AlertStatus, SourceKind
from responder.model.errors import SettingsError, StoreUnavailableError
from responder.model.evidence import EvidenceItem
from responder.model.incident import Candidate, Command, Entry, EntryKind, Incident, Mode, Phase, Signal, SignalKind, Tell
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.storing import Claimed, DeliveryState, ModeRow, NewDelivery, RoutedAlert, Scopes, Transition, Work
from responder.policy.grouping import key_of
from responder.stores import SqlStore, open_memory, open_sqlite
from responder.stores.sql import incidents
from responder.stores.sql.runners.inline import InlineRunner
from tests import builders as make
from tests.fakes.clock import FakeClock

LEASE = timedelta(seconds=15)


def delivery(key: str = "k", body: bytes = b"{}") -> NewDelivery:
    return NewDelivery(source="alertmanager", source_name="test", retry_key=key, body=body, received_at=make.NOON)


async def routed(store: SqlStore, **changes: object) -> tuple[Incident, RoutedAlert]:
    """Route one firing alert that opens an incident."""
    seed = make.incident(evidence_at=None, candidates=(Candidate(rule="crash", digest=make.rule().digest),), **changes)
    one = RoutedAlert(alert=make.alert(), rules=("crash",), seeds=(seed,), pinned={make.rule().digest: make.rule().document})
    await store.route([one], delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    return seed, one


async def claimed(store: SqlStore) -> Claimed:
    (one,) = await store.claim_incidents(owner="me", limit=10, lease=LEASE, own=())
    return one


def step(of: Claimed, **changes: object) -> Transition:
    values: dict[str, object] = {
        "incident": of.incident,
        "fence": of.fence,
        "wake": of.wake,
        "wake_at": make.NOON + timedelta(minutes=5),
    }
    return Transition(**{**values, **changes})  # type: ignore[arg-type]


def scopes(*targets: str, **changes: object) -> Scopes:
    values: dict[str, object] = {
        "cluster": "prod", "target": targets or (make.TARGET.identity,), "scope": "prod/namespace/shop", "in_flight": 1,
        "rule": "crash", "max_actions": 3, "window": timedelta(hours=1),
    }  # fmt: skip
    return Scopes(**{**values, **changes})  # type: ignore[arg-type]


def command(key: str = "inc-1/1/crash/restart/1") -> Command:
    plan = Plan(action="workload.restart", command=key, target=make.TARGET)
    return Command(key=key, rule="crash", rung="restart", index=0, grade=2, plans=(plan,), begun_at=make.NOON)


# --- deliveries


async def test_a_senders_retry_is_absorbed(store: SqlStore) -> None:
    """The same body again right away is a retry; it is a success for its sender and one delivery for us."""
    assert await store.accept([delivery()]) == [True]
    assert await store.accept([delivery()]) == [False]
    assert await store.backlog() == 1


async def test_a_unique_key_is_absorbed_whatever_came_between(store: SqlStore) -> None:
    """A broker's redelivery may come after others, and hours late."""
    message = replace(delivery("m-1"), unique=True)

    first = await store.accept([message])
    await store.accept([delivery("other")])
    again = await store.accept([message, message])

    assert (list(first), list(again)) == ([True], [False, False])


async def test_the_same_body_after_another_one_is_no_retry(store: SqlStore) -> None:
    """Firing, resolved, firing again with the very same body: the last firing is not lost."""
    await store.accept([delivery("firing")])
    await store.accept([delivery("resolved")])

    assert await store.accept([delivery("firing")]) == [True]
    assert await store.accept([delivery("firing")]) == [False]
    assert await store.backlog() == 3


async def test_a_held_delivery_comes_back_as_it_would_be_claimed_and_is_nobody_elses_until_it_is_not_routed_in_time(
    store: SqlStore, clock: FakeClock
) -> None:
    """Who stores it may route it without a claim; when nothing comes of that, it waits for whoever claims it."""
    await store.accept([delivery("before"), delivery("beside")])
    await store.claim_deliveries(limit=10, lease=timedelta(hours=1))

    held = await store.accept_held(replace(delivery(body=b'{"a": 1}'), held=LEASE))

    assert await store.accept_held(replace(delivery(body=b'{"a": 1}'), held=LEASE)) is None
    assert await store.claim_deliveries(limit=10, lease=LEASE) == []
    assert await store.next_due(Work.ROUTING) == make.NOON + LEASE
    clock.forward(seconds=16)
    assert await store.claim_deliveries(limit=10, lease=LEASE) == [held]


async def test_deliveries_that_are_held_together_each_get_their_own_number(store: SqlStore) -> None:
    """They share a transaction, and a repeat stands among them: what is routed must be what was stored."""
    sent = [replace(delivery(f"k{number % 12}", body=b"[%d]" % number), held=LEASE) for number in range(20)]

    held = [one for one in await asyncio.gather(*(store.accept_held(one) for one in sent)) if one is not None]

    stored = {one.id: one.body for one in await store.deliveries(state=None, limit=100)}
    assert {one.id: one.body for one in held} == stored
    assert len(stored) >= 12


async def test_a_claimed_delivery_is_free_again_when_its_lease_ends(store: SqlStore, clock: FakeClock) -> None:
    """A router that died keeps nothing."""
    await store.accept([delivery(body=b'{"a": 1}')])
    (first,) = await store.claim_deliveries(limit=10, lease=LEASE)

    assert first.body == b'{"a": 1}'
    assert await store.claim_deliveries(limit=10, lease=LEASE) == []
    clock.forward(seconds=16)
    assert [one.id for one in await store.claim_deliveries(limit=10, lease=LEASE)] == [first.id]


async def test_a_delivery_that_fails_three_times_is_kept_and_marked(store: SqlStore, clock: FakeClock) -> None:
    """It is listed as failed, with why, and not tried again."""
    await store.accept([delivery()])
    for number in (1, 2, 3):
        (one,) = await store.claim_deliveries(limit=1, lease=LEASE)
        assert await store.delivery_failed(one, note="odd", again_in=timedelta(seconds=5)) == number
        clock.forward(seconds=20)

    assert await store.claim_deliveries(limit=1, lease=LEASE) == []
    assert [one.note for one in await store.deliveries(state=DeliveryState.FAILED, limit=5)] == ["odd"]


# --- routing


async def test_two_alerts_of_one_target_become_one_incident(store: SqlStore) -> None:
    """The second one joins: its rules become candidates by a signal."""
    await routed(store)
    other = make.alert(labels={"alertname": "KubePodNotReady", "namespace": "shop", "deployment": "api"})
    seed = make.incident(id="inc-2", candidates=(Candidate(rule="other", digest="d2"),))

    (result,) = await store.route(
        [RoutedAlert(alert=other, rules=("other",), seeds=(seed,))], delivery=None, state=DeliveryState.ROUTED, note="", shape=""
    )

    assert (result.opened, result.joined) == ((), ("inc-1",))
    one = await claimed(store)
    assert [signal.kind for signal in one.signals] == [SignalKind.FIRED]
    assert one.signals[0].body["rules"]["other"]["digest"] == "d2"
    assert len(one.instances) == 2


async def test_the_same_alert_twice_changes_nothing_but_its_count(store: SqlStore) -> None:
    """A repeat of a held instance opens nothing and signals nothing."""
    _, one = await routed(store)
    await store.route([one], delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    found = await claimed(store)
    assert found.signals == ()
    assert found.instances[0].count == 2
    assert len(await store.incidents(unclosed=False, limit=9)) == 1


async def test_armed_and_shadow_incidents_stand_beside_each_other(store: SqlStore) -> None:
    """One alert may hold one of each."""
    armed, shadow = make.incident(), make.incident(id="inc-s", mode=Mode.SHADOW, key="shadow:x")

    (result,) = await store.route(
        [RoutedAlert(alert=make.alert(), seeds=(armed, shadow))], delivery=None, state=DeliveryState.ROUTED, note="", shape=""
    )

    assert result.opened == ("inc-1", "inc-s")
    assert [one.instance for one in await store.held("inc-s")] == [make.alert().instance]


async def test_a_resolved_alert_is_told_and_opens_nothing(store: SqlStore) -> None:
    """Resolved is a question: the incident hears it and reads health."""
    _, one = await routed(store)
    gone = structs.replace(one, alert=structs.replace(one.alert, status=AlertStatus.RESOLVED), seeds=())

    await store.route([gone], delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    assert [signal.kind for signal in (await claimed(store)).signals] == [SignalKind.RESOLVED]


async def test_a_final_resolved_that_overtakes_its_fired_wins(store: SqlStore) -> None:
    """Azure Monitor's order is not guaranteed: the late Fired opens nothing."""
    late = make.alert(resolved_is_final=True)
    early = structs.replace(late, status=AlertStatus.RESOLVED)
    await store.route([RoutedAlert(alert=early)], delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    (result,) = await store.route(
        [RoutedAlert(alert=late, seeds=(make.incident(),))], delivery=None, state=DeliveryState.ROUTED, note="", shape=""
    )

    assert result.opened == ()
    assert await store.incidents(unclosed=False, limit=9) == []


async def test_a_repeat_of_an_old_firing_after_closing_opens_again(store: SqlStore) -> None:
    """A firing instance that no unclosed incident holds is routed again, also when its delivery is a repeat."""
    _, one = await routed(store)
    held = await claimed(store)
    closed = replace(held.incident, phase=Phase.CLOSED, reason=Reason.QUIET)
    await store.commit(step(held, incident=closed, wake_at=None))

    (result,) = await store.route(
        [structs.replace(one, seeds=(make.incident(id="inc-2"),))], delivery=None, state=DeliveryState.ROUTED, note="", shape=""
    )

    assert result.opened == ("inc-2",)


async def test_a_firing_whose_incident_a_person_closed_opens_no_other(store: SqlStore) -> None:
    """Somebody decided; the sender's repeat is only counted."""
    _, one = await routed(store)
    held = await claimed(store)
    closed = replace(held.incident, phase=Phase.CLOSED, reason=Reason.CLOSED_BY_PERSON, person_closed=True)
    await store.commit(step(held, incident=closed, wake_at=None))

    (result,) = await store.route(
        [structs.replace(one, seeds=(make.incident(id="inc-2"),))], delivery=None, state=DeliveryState.ROUTED, note="", shape=""
    )

    assert result.opened == ()


async def test_a_moved_incident_gives_its_firing_alerts_back_to_the_router(store: SqlStore) -> None:
    """In the same transaction: a crash right after loses nothing."""
    await routed(store)
    held = await claimed(store)
    await store.commit(step(held, incident=replace(held.incident, phase=Phase.CLOSED, reason=Reason.MOVED), wake_at=None))

    assert [one.instance for one in await store.due_instances(limit=9)] == [make.alert().instance]


async def test_events_are_listed_whatever_became_of_them_for_as_long_as_they_are_asked_for(
    store: SqlStore, clock: FakeClock
) -> None:
    """Unmatched ones too, newest first; alerts of other senders are none."""
    for number in (1, 2):
        event = make.alert(instance=f"event/topic/type/{number}", source=SourceKind.EVENT_GRID, resolves=False)
        for one in (RoutedAlert(alert=event, why=Reason.UNMATCHED), RoutedAlert(alert=make.alert(instance=f"a/{number}"))):
            await store.route([one], delivery=None, state=DeliveryState.ROUTED, note="", shape="")
        clock.forward(seconds=60)

    assert [one.instance for one in await store.events(within=timedelta(hours=1), limit=9)] == [
        "event/topic/type/2",
        "event/topic/type/1",
    ]
    assert [one.instance for one in await store.events(within=timedelta(seconds=90), limit=9)] == ["event/topic/type/2"]
    assert len(await store.events(within=timedelta(hours=1), limit=1)) == 1


async def test_what_one_sender_has_firing_is_listed_while_it_counts(store: SqlStore, clock: FakeClock) -> None:
    """Not another sender's, not what is resolved, not what is forgotten."""
    mine = [make.alert(instance=f"a/{number}") for number in range(3)]
    over = structs.replace(mine[2], status=AlertStatus.RESOLVED)
    for one in (
        *mine,
        over,
        make.alert(instance="b", source_name="other"),
        make.alert(instance="c", source=SourceKind.AZURE_MONITOR),
    ):
        await store.route([RoutedAlert(alert=one)], delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    clock.forward(hours=12)
    await store.route([RoutedAlert(alert=mine[1])], delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    async def found(limit: int = 9) -> list[str]:
        return [one.instance for one in await store.firing(source="alertmanager", source_name="test", limit=limit)]

    assert await found() == ["a/1", "a/0"]
    assert await found(1) == ["a/1"]
    clock.forward(hours=12)
    assert await found() == ["a/1"]


# --- claims and commits


async def test_an_incident_is_claimed_once_and_again_after_its_lease(store: SqlStore, clock: FakeClock) -> None:
    """The lease is the recovery."""
    await routed(store)
    first = await claimed(store)

    assert await store.claim_incidents(owner="other", limit=9, lease=LEASE, own=()) == []
    clock.forward(seconds=16)
    (second,) = await store.claim_incidents(owner="other", limit=9, lease=LEASE, own=())
    assert second.fence == first.fence + 1


async def test_a_commit_behind_an_old_fence_stores_nothing(store: SqlStore, clock: FakeClock) -> None:
    """Who lost the lease drops the work."""
    await routed(store)
    first = await claimed(store)
    clock.forward(seconds=16)
    await store.claim_incidents(owner="other", limit=9, lease=LEASE, own=())
    entry = Entry(kind=EntryKind.DECISION, at=make.NOON, reason=Reason.DONE, text="never")

    assert not (await store.commit(step(first, entries=(entry,)))).stored
    assert all(one.text != "never" for one in await store.timeline("inc-1"))


async def test_a_signal_during_the_work_wakes_the_incident_at_once(store: SqlStore) -> None:
    """It is not lost between claim and commit."""
    await routed(store)
    held = await claimed(store)
    await store.signal(Signal(incident="inc-1", kind=SignalKind.PAUSED, at=make.NOON, by="ana"))
    await store.commit(step(held, consumed=()))

    (again,) = await store.claim_incidents(owner="me", limit=9, lease=LEASE, own=())
    assert [one.kind for one in again.signals] == [SignalKind.PAUSED]


async def test_consumed_signals_are_gone_and_later_ones_stay(store: SqlStore) -> None:
    """Each is taken in exactly once."""
    await routed(store)
    await store.signal(Signal(incident="inc-1", kind=SignalKind.NOTED, at=make.NOON, body={"text": "one"}))
    held = await claimed(store)
    await store.signal(Signal(incident="inc-1", kind=SignalKind.NOTED, at=make.NOON, body={"text": "two"}))
    await store.commit(step(held, consumed=tuple(one.id for one in held.signals)))

    signals, _ = await store.peek("inc-1")
    assert [one.body["text"] for one in signals] == ["two"]


async def test_a_closed_incident_takes_no_signal(store: SqlStore) -> None:
    """The caller hears it."""
    await routed(store)
    held = await claimed(store)
    await store.commit(step(held, incident=replace(held.incident, phase=Phase.CLOSED), wake_at=None))

    assert not await store.signal(Signal(incident="inc-1", kind=SignalKind.NOTED, at=make.NOON))
    assert not await store.signal(Signal(incident="inc-nobody", kind=SignalKind.NOTED, at=make.NOON))


async def second_incident(store: SqlStore) -> Claimed:
    """Route and claim another target's incident."""
    seed = make.incident(id="inc-2", key="armed:other")
    other = make.alert(labels={"alertname": "X", "namespace": "shop", "deployment": "web"})
    await store.route([RoutedAlert(alert=other, seeds=(seed,))], delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    return await claimed(store)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, Reason.ANOTHER_HAND),
        ({"target": ("prod/other",)}, Reason.IN_FLIGHT),
        ({"target": ("prod/other",), "scope": "elsewhere", "max_actions": 1}, Reason.MAX_ACTIONS),
    ],
    ids=["target held", "scope full", "rule too often"],
)
async def test_an_intention_that_is_not_granted_stores_nothing(
    store: SqlStore, changes: dict[str, object], reason: Reason
) -> None:
    """Claims and limits are judged in the very transaction that stores the intention."""
    await routed(store)
    first = await claimed(store)
    assert (await store.commit(step(first, intend=command(), scopes=scopes(), keep=True))).stored
    second = await second_incident(store)
    moved = replace(second.incident, phase=Phase.ACTING)

    result = await store.commit(step(second, incident=moved, intend=command("c2"), scopes=scopes(**changes)))

    assert (result.stored, result.denied) == (False, reason)
    after = await store.incident("inc-2")
    assert after is not None
    assert after.phase is Phase.OPEN


async def test_a_rung_that_did_not_run_uses_up_no_limit(store: SqlStore) -> None:
    """Stopped before its first write: the rule may act as often as before."""
    await routed(store)
    first = await claimed(store)
    await store.commit(step(first, intend=command(), scopes=scopes(), keep=True))
    await store.commit(step(first, finished=(command().key, "stopped"), release=True))

    counts = await store.counts(first.incident, scopes(), symptom_window=timedelta(minutes=5))

    assert counts.recent_actions == 0


async def test_released_claims_are_free(store: SqlStore) -> None:
    """Proven, or its time is over: the target is free for another hand."""
    await routed(store)
    first = await claimed(store)
    await store.commit(step(first, intend=command(), scopes=scopes(), keep=True))
    await store.commit(step(first, release=True))
    second = await second_incident(store)

    assert (await store.commit(step(second, intend=command("c2"), scopes=scopes()))).stored


async def test_changes_are_owed_until_given_back(store: SqlStore) -> None:
    """Stored with the intention; they outlive the incident."""
    await routed(store)
    first = await claimed(store)
    undo = Write(key="u", verb=Verb.PATCH, api="v1", plural="pods", namespace="n", name="x", says="give back")
    change = Change(target="HPA shop/api", field="spec.minReplicas", before=2, after=4, undo=undo)
    await store.commit(step(first, intend=command(), scopes=scopes(), changes=(change,)))

    (owed,) = await store.owed(incident="inc-1")
    assert owed.change == change
    await store.give_back([owed.id])
    assert await store.owed() == []


async def test_symptoms_are_counted_by_distinct_targets(store: SqlStore) -> None:
    """What a storm is judged by."""
    await routed(store)
    for number in range(3):
        target = replace(make.TARGET, name=f"w{number}")
        seed = make.incident(id=f"inc-w{number}", key=f"k{number}", target=target, opened_at=make.NOON)
        labelled = make.alert(labels={"alertname": "A", "n": str(number)})
        await store.route(
            [RoutedAlert(alert=labelled, seeds=(seed,))], delivery=None, state=DeliveryState.ROUTED, note="", shape=""
        )

    counts = await store.counts(make.incident(), scopes(), symptom_window=timedelta(minutes=5))

    assert counts.same_symptom == 4


# --- outbox, evidence, modes


def tell(kind: NoticeKind = NoticeKind.PAGE, level: int = 1) -> Tell:
    return Tell(kind=kind, level=level, channels=("pager",), reason=Reason.EXHAUSTED, due_at=make.NOON)


async def test_one_lane_is_sent_in_order(store: SqlStore) -> None:
    """The resolve never overtakes its page."""
    await routed(store)
    held = await claimed(store)
    await store.commit(step(held, tells=(tell(), tell(NoticeKind.RESOLVE)), keep=True))

    (first,) = await store.claim_outbox(limit=9, lease=LEASE)
    assert first.tell.kind is NoticeKind.PAGE
    await store.outbox_sent(first, answer="202", reached=True)
    (second,) = await store.claim_outbox(limit=9, lease=LEASE)
    assert second.tell.kind is NoticeKind.RESOLVE


async def test_a_newer_update_replaces_an_unsent_older_one(store: SqlStore) -> None:
    """People hear the newest state, once; a page is never replaced."""
    await routed(store)
    held = await claimed(store)
    await store.commit(step(held, tells=(tell(), tell(NoticeKind.UPDATE), tell(NoticeKind.UPDATE)), keep=True))
    kinds = []
    for _ in range(3):
        rows = await store.claim_outbox(limit=9, lease=LEASE)
        for row in rows:
            kinds.append(row.tell.kind)
            await store.outbox_sent(row, answer="202", reached=True)

    assert kinds == [NoticeKind.PAGE, NoticeKind.UPDATE]


async def test_a_refused_message_goes_to_the_fallback_once(store: SqlStore, clock: FakeClock) -> None:
    """The row ends; the fallback's own failure takes no further one."""
    await routed(store)
    held = await claimed(store)
    await store.commit(step(held, tells=(tell(),), keep=True))
    (row,) = await store.claim_outbox(limit=9, lease=LEASE)
    await store.outbox_failed(row, answer="400", again_at=None, fallback="teams")

    (other,) = await store.claim_outbox(limit=9, lease=LEASE)
    assert (other.channel, other.original_channel) == ("teams", "pager")
    await store.outbox_failed(other, answer="400", again_at=None, fallback="third")
    assert await store.claim_outbox(limit=9, lease=LEASE) == []
    del clock


async def test_a_failed_message_waits_and_is_tried_again(store: SqlStore, clock: FakeClock) -> None:
    """At least once, after its pause."""
    await routed(store)
    held = await claimed(store)
    await store.commit(step(held, tells=(tell(),), keep=True))
    (row,) = await store.claim_outbox(limit=9, lease=LEASE)
    await store.outbox_failed(row, answer="503", again_at=make.NOON + timedelta(seconds=5), fallback="")

    assert await store.claim_outbox(limit=9, lease=LEASE) == []
    clock.forward(seconds=6)
    (again,) = await store.claim_outbox(limit=9, lease=LEASE)
    assert again.tries == 1


async def test_evidence_is_kept_byte_for_byte_within_its_bounds(store: SqlStore) -> None:
    """Binary logs too; what is over a MiB is cut and says so."""
    await routed(store)
    raw = bytes(range(256))
    items = [
        EvidenceItem(name="logs/raw", content=raw, taken_at=make.NOON),
        EvidenceItem(name="logs/big", content=b"x" * (2 << 20), taken_at=make.NOON),
        EvidenceItem(name="logs/none", taken_at=make.NOON, problem="400: no previous container"),
    ]
    await store.keep_evidence("inc-1", opening=1, items=items)

    found = {one.name: one for one in await store.evidence("inc-1")}
    assert found["logs/raw"].content == raw
    assert (len(found["logs/big"].content), found["logs/big"].truncated) == (1 << 20, True)
    assert found["logs/none"].problem == "400: no previous container"


async def test_a_switched_mode_wakes_every_incident(store: SqlStore) -> None:
    """The kill switch is seen at once."""
    await routed(store)
    held = await claimed(store)
    await store.commit(step(held))
    await store.set_mode(ModeRow(scope="global", mode=Mode.OFF, by="ana"))

    assert [(row.scope, row.mode, row.by) for row in await store.modes()] == [("global", Mode.OFF, "ana")]
    assert [one.incident.id for one in await store.claim_incidents(owner="me", limit=9, lease=LEASE, own=())] == ["inc-1"]


async def test_a_switch_wakes_very_many_in_steps(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set before, and no step keeps the store from others for long; nobody is left out."""
    monkeypatch.setattr(incidents, "WOKEN_AT_ONCE", 3)
    names = [f"inc-{number}" for number in range(10)]
    for name in names:
        target = replace(make.TARGET, name=name)
        seed = make.incident(id=name, key=key_of(Mode.ARMED, target), target=target, candidates=())
        one = RoutedAlert(alert=make.alert(instance=name), rules=("crash",), seeds=(seed,))
        await store.route([one], delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    for held in await store.claim_incidents(owner="me", limit=10, lease=LEASE, own=()):
        await store.commit(step(held))

    await store.set_mode(ModeRow(scope="global", mode=Mode.OFF, by="ana"))

    woken = await store.claim_incidents(owner="me", limit=10, lease=LEASE, own=())
    assert sorted(one.incident.id for one in woken) == names


async def test_healthy_revisions_are_remembered(store: SqlStore) -> None:
    """A rollback needs to know what was healthy once."""
    await store.remember_healthy(["a", "b"])
    await store.remember_healthy(["b"])

    assert await store.seen_healthy(["b", "c"]) == ["b"]


async def test_next_due_is_the_earliest_of_everything(store: SqlStore) -> None:
    """Nothing waits: None; else the next moment."""
    assert await store.next_due() is None
    await routed(store)
    held = await claimed(store)
    await store.commit(step(held))
    assert await store.next_due() == make.NOON + timedelta(minutes=5)
    await store.accept([delivery()])
    assert await store.next_due() == make.NOON


async def test_next_due_of_one_kind_of_work_hears_of_no_other(store: SqlStore) -> None:
    """A loop that is told of another's work finds nothing, and asks again at once."""
    await routed(store)
    await store.commit(step(await claimed(store)))
    await store.accept([delivery()])

    assert await store.next_due(Work.ROUTING) == make.NOON
    assert await store.next_due(Work.INCIDENTS) == make.NOON + timedelta(minutes=5)
    assert await store.next_due(Work.MESSAGES) is None


# --- crashes


@pytest.mark.parametrize("at_commit", range(4))
async def test_a_crash_before_a_commit_leaves_the_old_state_whole(at_commit: int) -> None:
    """Old or new, never half: the k-th commit raises, and everything before it stands."""
    store = open_memory(FakeClock())
    runner = store.runner
    assert isinstance(runner, InlineRunner)
    done = 0

    def crash() -> None:
        nonlocal done
        if done == at_commit:
            raise RuntimeError("crash")
        done += 1

    runner.on_commit = crash

    async def work() -> None:
        await routed(store)
        held = await claimed(store)
        acting = replace(held.incident, phase=Phase.ACTING, command=command())
        await store.commit(step(held, incident=acting, intend=command(), scopes=scopes(), keep=True, tells=(tell(),)))
        await store.commit(step(held, incident=acting, finished=(command().key, "done"), keep=True))

    with pytest.raises(RuntimeError, match="crash"):
        await work()

    runner.on_commit = lambda: None
    found = await store.incident("inc-1")
    rows = await store.claim_outbox(limit=9, lease=LEASE)
    if at_commit == 0:
        assert found is None
    elif at_commit < 3:
        assert found is not None
        assert (found.phase, rows) == (Phase.OPEN, [])
    else:
        assert found is not None
        assert found.phase is Phase.ACTING
        assert len(rows) == 1
    await store.close()


async def test_a_broken_operation_fails_alone_in_its_batch(tmp_path: Path) -> None:
    """Group commit: the guilty one raises, the others are stored."""
    store = open_sqlite(tmp_path / "s.sqlite", FakeClock())

    def breaks(_connection: object) -> None:
        raise ValueError("guilty")

    results = await asyncio.gather(
        store.accept([delivery("a")]), store.runner.run(breaks), store.accept([delivery("b")]), return_exceptions=True
    )

    assert results[0] == [True]
    assert isinstance(results[1], ValueError)
    assert results[2] == [True]
    await store.close()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Nothing hangs on it."""
    store = open_sqlite(tmp_path / "s.sqlite", FakeClock())
    await store.close()

    with pytest.raises(StoreUnavailableError):
        await store.backlog()


async def test_two_responders_cannot_share_a_database(tmp_path: Path) -> None:
    """The lock file tells the second one what to do."""
    first = open_sqlite(tmp_path / "s.sqlite", FakeClock())

    with pytest.raises(SettingsError, match="in use by another responder"):
        open_sqlite(tmp_path / "s.sqlite", FakeClock())
    await first.close()


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """A process that accepts deliveries and reports each is killed; all reported ones are there afterwards."""
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from responder.clock import SystemClock
        from responder.model.storing import NewDelivery
        from responder.stores import open_sqlite

        async def main():
            clock = SystemClock()
            store = open_sqlite(Path(sys.argv[1]), clock)
            for number in range(100000):
                one = NewDelivery(source="s", source_name="n", retry_key=str(number), body=b"{}", received_at=clock.now())
                await store.accept([one])
                print(number, flush=True)

        asyncio.run(main())
        """
    )
    path = tmp_path / "killed.sqlite"
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = -1
    ends_at = time.monotonic() + 20
    while last < 60 and time.monotonic() < ends_at:
        last = int(process.stdout.readline())
    process.kill()
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    acknowledged = max([last, *(int(one) for one in rest if one.isdigit())])

    store = open_sqlite(path, FakeClock())
    stored = await store.backlog()
    await store.close()

    assert stored >= acknowledged + 1 > 60
