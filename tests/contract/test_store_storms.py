"""Storms in the store, over its three runners: one parent whoever asks, no action of a child, children let go at the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from responder.model.incident import Candidate, Command, Incident, Mode, Phase, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.storing import Claimed, DeliveryState, RoutedAlert, Scopes, Transition
from responder.policy import storms
from responder.stores import SqlStore
from tests import builders as make

LEASE = timedelta(seconds=15)
LATER = make.NOON + timedelta(minutes=5)
WINDOW = timedelta(minutes=5)
KEY = storms.parent_key("prod", Mode.ARMED)


async def opened(store: SqlStore, count: int, *, mode: Mode = Mode.ARMED, cluster: str = "prod") -> list[Claimed]:
    """Open incidents of one symptom and claim them."""
    digest = make.rule().digest
    for number in range(count):
        target = replace(make.TARGET, name=f"w{number}", cluster=cluster)
        seed = make.incident(
            id=f"inc-{mode}-{number}", key=f"{mode}:{target.identity}", target=target, mode=mode, cluster=cluster,
            opened_at=make.NOON, candidates=(Candidate(rule="crash", digest=digest),),
        )  # fmt: skip
        alert = make.alert(labels={"alertname": "A", "n": str(number), "mode": str(mode)}, instance=f"{mode}/{number}")
        one = RoutedAlert(alert=alert, rules=("crash",), seeds=(seed,), pinned={digest: make.rule().document})
        await store.route([one], delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    claimed = await store.claim_incidents(owner="me", limit=50, lease=LEASE, own=())
    return [one for one in claimed if one.incident.id.startswith(f"inc-{mode}-")]


def child(of: Claimed, parent: str = "parent-1", *, cause: str = "", **changes: object) -> Transition:
    """Return the step by which an incident asks for a storm's parent."""
    waits = replace(of.incident, phase=Phase.WAITING, reason=Reason.STORM)
    seed = storms.parent_of(waits, cause or storms.of_symptom("crash"), detail="many", identity=parent, now=make.NOON)
    values: dict[str, object] = {"incident": waits, "fence": of.fence, "wake": of.wake, "wake_at": LATER, "storm": seed}
    return Transition(**{**values, **changes})  # type: ignore[arg-type]


async def parent(store: SqlStore) -> Incident:
    return (await store.unclosed([KEY]))[KEY]


async def claim_parent(store: SqlStore) -> Claimed:
    return next(
        one
        for one in await store.claim_incidents(owner="me", limit=50, lease=LEASE, own=())
        if one.incident.id.startswith("parent")
    )


async def ended(store: SqlStore, phase: Phase) -> None:
    """End the parent."""
    held = await claim_parent(store)
    over = replace(held.incident, phase=phase, closed_at=make.NOON if phase is Phase.CLOSED else None)
    at = None if phase is Phase.CLOSED else LATER
    await store.commit(Transition(incident=over, fence=held.fence, wake=held.wake, wake_at=at))


async def test_whoever_asks_first_opens_the_parent_and_the_others_become_its_children(store: SqlStore) -> None:
    """All at once and each with a parent of its own in mind: there is one, and it has them all."""
    held = await opened(store, 8)

    results = await asyncio.gather(*(store.commit(child(one, f"parent-{number}")) for number, one in enumerate(held)))

    found = await parent(store)
    assert {result.parent for result in results} == {found.id}
    assert {one.parent for one in await store.incidents(unclosed=True, limit=50) if one.id != found.id} == {found.id}
    assert (await store.storm(found, symptom_window=WINDOW)).waiting == {"crash": 8}
    assert [entry.reason for entry in await store.timeline(found.id)] == [Reason.OPENED]


async def test_a_second_cause_is_told_to_the_parent_once(store: SqlStore) -> None:
    """Three children find it, one signal says it; a cause that the parent has is not told at all."""
    first, *others = await opened(store, 4)
    await store.commit(child(first))

    for one in others:
        await store.commit(child(one, cause=storms.UNHEALTHY_NODES))

    signals, _ = await store.peek((await parent(store)).id)
    assert [(one.kind, one.body["cause"]) for one in signals] == [(SignalKind.FIRED, storms.UNHEALTHY_NODES)]


@pytest.mark.parametrize("phase", [Phase.RECOVERED, Phase.CLOSED])
async def test_children_are_let_go_when_their_parent_is_over(store: SqlStore, phase: Phase) -> None:
    """Each has a signal and is due at once."""
    held = await opened(store, 3)
    for one in held:
        await store.commit(child(one))

    await ended(store, phase)

    again = await store.claim_incidents(owner="me", limit=50, lease=LEASE, own=())
    children = [one for one in again if not storms.is_parent(one.incident)]
    assert len(children) == 3
    assert {signal.kind for one in children for signal in one.signals} == {SignalKind.RELEASED}


async def test_an_intention_of_a_child_is_not_granted(store: SqlStore) -> None:
    """Whatever its worker believed: the transaction that would store it looks for the parent."""
    first, second = await opened(store, 2)
    await store.commit(child(first))
    command = Command(key="k", rule="crash", rung="restart", index=0, grade=2, plans=(), begun_at=make.NOON)
    scopes = Scopes(
        cluster="prod", target=("x",), scope="s", in_flight=1, rule="crash", max_actions=3, window=WINDOW, symptom="crash", parents=(KEY,)
    )  # fmt: skip
    begun = Transition(
        incident=second.incident, fence=second.fence, wake=second.wake, wake_at=LATER, intend=command, scopes=scopes
    )

    denied = await store.commit(begun)
    other = await store.commit(replace(begun, scopes=replace(scopes, symptom="another")))

    assert (denied.stored, denied.denied) == (False, Reason.STORM)
    assert other.stored


async def test_after_a_storm_its_incidents_count_no_more(store: SqlStore) -> None:
    """A person who closed it is not told of the same ones again; what opens after it counts anew."""
    held = await opened(store, 3)
    before = await store.counts(held[2].incident, _scopes(), symptom_window=WINDOW)
    await store.commit(child(held[0]))
    await ended(store, Phase.CLOSED)

    after = await store.counts(held[2].incident, _scopes(), symptom_window=WINDOW)

    assert before.same_symptom == 3
    assert after.same_symptom == 0


async def test_each_mode_and_cluster_has_a_storm_of_its_own(store: SqlStore) -> None:
    """Shadow's parent is not armed's."""
    (armed,) = await opened(store, 1)
    await store.commit(child(armed, "parent-1"))
    (shadow,) = [one for one in await opened(store, 1, mode=Mode.SHADOW) if one.incident.mode is Mode.SHADOW]

    result = await store.commit(child(shadow, "parent-2"))

    assert result.parent == "parent-2"
    assert (await store.storm(await parent(store), symptom_window=WINDOW)).opened == {"crash": 1}


def _scopes() -> Scopes:
    return Scopes(cluster="prod", target=(), scope="s", in_flight=None, rule="crash", max_actions=None, window=WINDOW)


async def woken(store: SqlStore, *kinds: SignalKind) -> float:
    """Say something to an incident in hand, and return after how many seconds it is due once its step is stored."""
    (one,) = await opened(store, 1)
    for kind in kinds:
        await store.signal(Signal(incident=one.incident.id, kind=kind, at=make.NOON, by="ana"))
    await store.commit(Transition(incident=one.incident, fence=one.fence, wake=one.wake, wake_at=LATER))
    due = await store.next_due()
    assert due is not None
    return (due - make.NOON).total_seconds()


async def test_alerts_that_only_fire_are_gathered_for_a_second(store: SqlStore) -> None:
    """Five of them that come while an incident is in hand wake it once more, and not five times."""
    assert await woken(store, SignalKind.FIRED, SignalKind.FIRED) == 1.0


@pytest.mark.parametrize(
    "kind", [SignalKind.RESOLVED, SignalKind.PAUSED, SignalKind.CLOSED, SignalKind.APPROVED, SignalKind.RELEASED]
)
async def test_what_people_say_and_a_resolved_wait_for_nothing(store: SqlStore, kind: SignalKind) -> None:
    """Also when an alert fired beside it."""
    assert await woken(store, SignalKind.FIRED, kind) == 0.0
