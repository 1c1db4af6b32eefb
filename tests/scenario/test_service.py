"""The main job, end to end: a real payload over HTTP, a cluster that changes, a page that is received."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from responder.model.incident import EntryKind, Mode, Phase
from responder.model.reason import Reason
from responder.service import targeting
from tests.scenario.conftest import World

API = {"namespace": "shop", "deployment": "api"}


def restarts(world: World, name: str = "api") -> list[Any]:
    """Return the writes that the cluster saw on a Deployment."""
    return [one for one in world.cluster.writes if one.name == name]


async def test_a_crash_loop_is_restarted_proven_and_reported(world: World) -> None:
    """Evidence first, one restart, health held, Teams told; nobody was called."""
    await world.start()
    await world.crashing()
    await world.alert("KubePodCrashLooping", **API)

    incident = await world.reaches("recovered")
    await world.until(lambda: len(world.teams.cards) == 1)

    kinds = [entry.kind for entry in await world.parts.store.timeline(incident.id)]
    assert kinds.index(EntryKind.EVIDENCE) < kinds.index(EntryKind.WRITE)
    assert len(restarts(world)) == 1
    assert world.cluster.available("shop", "api")
    assert world.pagerduty.received == []
    logs = {one.name: one.content for one in await world.parts.store.evidence(incident.id) if "/previous" in one.name}
    assert logs
    assert all(b"FATAL: poisoned" in content for content in logs.values())
    assert restarts(world)[0].agent.startswith("responder/")


async def test_a_crash_that_nothing_cures_is_paged_level_by_level_until_somebody_has_it(world: World) -> None:
    """Exhausted: level 1 with what was tried; level 2 after its time; acknowledged, nobody else; then it is resolved."""
    await world.start()
    await world.crashing(cured_by_restart=False)
    await world.alert("KubePodCrashLooping", **API)

    incident = await world.reaches("exhausted", within=90)
    await world.until(lambda: len(world.pagerduty.incidents) == 2, within=90)
    code, _, _ = await world.call("POST", f"/v1/incidents/{incident.id}/acknowledge", {})
    details = world.pagerduty.received[0]["payload"]["custom_details"]

    assert code == 202
    assert "workload.restart" in details["tried"]
    assert "skipped" in details["tried"]
    assert "crash" in details["seen"]
    assert {one["text"] for one in world.pagerduty.received[0]["links"]} >= {"Acknowledge", "Report", "Runbook"}
    assert len(restarts(world)) == 1
    world.cluster.behave("shop/api:1", type(world.cluster._behaviours["shop/api:1"])())
    await world.reaches("recovered", within=60)
    await world.until(lambda: not any(one.open for one in world.pagerduty.incidents))
    assert (await world.only()).escalation.acknowledged_by == "ana"


async def test_two_senders_and_repeats_are_one_incident_and_one_restart(world: World) -> None:
    """The same trouble by another name, and the same body twice at once."""
    await world.start()
    await world.crashing()
    at = world.clock.now().isoformat()
    codes = await asyncio.gather(
        world.alert("KubePodCrashLooping", starts_at=at, **API),
        world.alert("KubePodCrashLooping", starts_at=at, **API),
        world.alert("KubePodNotReady", source="other", starts_at=at, **API),
    )

    await world.reaches("recovered")

    assert set(codes) == {202}
    assert len(restarts(world)) == 1


async def test_a_rule_in_shadow_writes_nothing_and_says_what_it_would_have_done(world: World) -> None:
    """Shadow is where a rule starts."""
    world.config["act"] = []
    world.config["routes"] = {}
    await world.start()
    await world.crashing()
    await world.alert("KubePodCrashLooping", **API)

    await world.until(lambda: len(world.teams.cards) >= 1)

    assert "would have" in str(world.teams.cards[0])
    assert world.cluster.tried == []
    assert await world.incidents() == []
    assert [one.mode for one in await world.incidents(mode=Mode.SHADOW)] == [Mode.SHADOW]


async def test_a_hanging_cluster_delays_no_sender_and_three_workloads_become_three_incidents(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intake asks no cluster: 40 alerts for 3 workloads, posted twice at once, are answered while all look-ups still wait for their end."""
    monkeypatch.setattr(targeting, "RESOLVE_WITHIN", timedelta(seconds=9))
    await world.start()
    for name in ("a", "b", "c"):
        world.cluster.deployment("shop", name, image=f"shop/{name}:1")
    await world.cluster.wait_for(lambda: all(world.cluster.available("shop", name) for name in "abc"), within=120)
    world.cluster.faults.hang = True
    at = world.clock.now().isoformat()
    posts = [
        ("KubePodNotReady", {"namespace": "shop", "deployment": "abc"[n % 3], "n": str(n), "cluster": "sandbox"})
        for n in range(40)
    ]

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(world.alert(name, starts_at=at, **labels) for name, labels in posts * 2))
    await world.until(lambda: _routed(world, 40), within=90)
    world.cluster.release()

    async def settled() -> bool:
        found = [one for one in await world.incidents() if one.phase is not Phase.CLOSED]
        return sorted(one.target.name for one in found) == ["a", "b", "c"]

    await world.until(settled, within=90)
    held = [len(await world.parts.store.held(one.id)) for one in await world.incidents() if one.phase is not Phase.CLOSED]
    assert sum(held) == 40
    assert set(answers) == {202}
    assert world.cluster.tried == []


async def _routed(world: World, count: int) -> bool:
    return len(await world.parts.store.instances(why=None, firing=True, limit=200)) == count


@pytest.mark.parametrize("stop", ["kill switch", "pause", "close"])
async def test_a_person_stops_an_action_before_its_next_write(world: World, stop: str) -> None:
    """While the group is waited for; nothing is ever written."""
    await world.start()
    await world.crashing()
    await world.alert("KubePodCrashLooping", **API)
    incident = await world.reaches("waiting")

    if stop == "kill switch":
        code, _, _ = await world.call("PUT", "/v1/mode", {"mode": "off", "why": "test"})
    else:
        code, _, _ = await world.call("POST", f"/v1/incidents/{incident.id}/{stop}", {"text": "mine"})
    await asyncio.sleep(40 / 20)  # the group wait is over by now, twenty times faster

    after = await world.only()
    expected = {"kill switch": Reason.KILL_SWITCH, "pause": Reason.PAUSED, "close": Reason.CLOSED_BY_PERSON}[stop]
    assert code in {200, 202}
    assert after.reason is expected
    assert world.cluster.tried == []


async def test_an_armed_mode_lets_a_stopped_incident_go_on(world: World) -> None:
    """Re-armed: the ladder takes up where it was."""
    await world.start()
    await world.crashing()
    await world.call("PUT", "/v1/mode", {"mode": "off"})
    await world.alert("KubePodCrashLooping", **API)
    await world.until(lambda: _reason(world, Reason.KILL_SWITCH))

    await world.call("PUT", "/v1/mode", {"mode": "armed"})

    await world.reaches("recovered")
    assert len(restarts(world)) == 1


async def _reason(world: World, reason: Reason) -> bool:
    found = await world.incidents()
    return len(found) == 1 and found[0].reason is reason


async def test_a_service_that_stops_and_starts_goes_on_without_repeating(world: World) -> None:
    """Stopped right after the restart: the next life proves it and writes nothing more."""
    await world.start()
    await world.crashing()
    await world.alert("KubePodCrashLooping", **API)
    await world.until(lambda: len(restarts(world)) == 1)
    await world.stop()
    await world.start()

    await world.reaches("recovered")
    assert len(restarts(world)) == 1


async def test_a_page_survives_pagerduty_being_down(world: World) -> None:
    """5xx: tried again until it is taken."""
    await world.start()
    world.pagerduty.trouble.status = 503
    await world.alert("KubePodCrashLooping", namespace="shop")  # names no workload: target_unresolved
    await world.until(lambda: world.pagerduty.attempts >= 2)
    assert world.pagerduty.received == []

    world.pagerduty.trouble.status = 0

    await world.until(lambda: len(world.pagerduty.received) == 1)
    assert (
        "target" in world.pagerduty.received[0]["payload"]["summary"]
        or "name one thing" in world.pagerduty.received[0]["payload"]["summary"]
    )


async def test_a_refused_page_takes_the_fallback(world: World) -> None:
    """400 is permanent: the fallback channel is told at once."""
    await world.start()
    world.pagerduty.trouble.status = 400
    await world.alert("KubePodCrashLooping", namespace="shop")

    await world.until(lambda: len(world.teams.cards) == 1)
    incident = await world.only()
    assert any("failed, given up" in entry.text for entry in await world.parts.store.timeline(incident.id))


async def test_hands_off_is_honoured_and_a_person_is_told(world: World) -> None:
    """The annotation on the namespace, with its reason in the page."""
    await world.start()
    world.cluster.namespace("shop", **{"responder/hands-off": "migration until noon"})
    await world.crashing()
    await world.alert("KubePodCrashLooping", **API)

    await world.until(lambda: _reason(world, Reason.HANDS_OFF))
    await world.until(lambda: len(world.pagerduty.received) == 1)
    assert "migration until noon" in json.dumps(world.pagerduty.received[0])
    assert world.cluster.tried == []


async def test_many_targets_with_one_symptom_are_one_page_and_no_restart(world: World) -> None:
    """A common cause: one parent incident, the children wait."""
    await world.start()
    names = [f"w{number}" for number in range(7)]
    for name in names:
        world.cluster.deployment("shop", name, image=f"shop/{name}:1", replicas=1)
    await world.cluster.wait_for(lambda: all(world.cluster.available("shop", name) for name in names), within=120)
    for name in names:
        world.cluster.behave(f"shop/{name}:1", world_crash())
    await world.cluster.wait_for(lambda: all(_restarted(world, name) for name in names), within=120)
    for name in names:
        await world.alert("KubePodCrashLooping", namespace="shop", deployment=name)

    await world.until(lambda: _storm(world), within=90)
    await world.until(lambda: len(world.pagerduty.received) >= 1)
    assert world.cluster.tried == []
    assert {one["payload"]["class"] for one in world.pagerduty.received if one["event_action"] == "trigger"} == {"responder"}


def world_crash() -> Any:
    from tests.scenario.conftest import CRASH  # noqa: PLC0415

    return CRASH


def _restarted(world: World, name: str) -> bool:
    return any(
        one["restartCount"] for pod in world.cluster.pods("shop", name) for one in pod["status"].get("containerStatuses", [])
    )


async def _storm(world: World) -> bool:
    found = await world.incidents()
    children = [one for one in found if one.reason is Reason.STORM and one.phase is Phase.WAITING]
    return len(children) == 7 and any(one.symptom.startswith("storm:") for one in found)
