"""What keeps an installation in order: debts paid after all, silent senders missed, the dead man's switch, the store's outage, the doctor."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from responder.model.alert import AlertStatus
from responder.model.errors import StoreUnavailableError
from responder.model.incident import Phase
from responder.stores.sql.runners.sqlite import SqliteRunner
from tests.scenario.conftest import World
from tests.scenario.test_people import _floor, _scaled


@pytest.mark.slow
async def test_what_could_not_be_given_back_at_the_end_is_given_back_when_it_may(world: World) -> None:
    """Closed while the kill switch was off: the debt stays listed, nothing is written; armed again, the auditor pays it and says so."""
    await _scaled(world)
    incident = await world.reaches("exhausted")
    await world.call("PUT", "/v1/mode", {"mode": "off"})
    await world.call("POST", f"/v1/incidents/{incident.id}/close", {"text": "mine"})
    await world.reaches("closed")
    await asyncio.sleep(8)  # more than two of the auditor's minutes, and the two that it waits

    assert _floor(world) == 3, "off is off, for giving back too"
    assert len(await world.parts.store.owed()) == 1
    await world.call("PUT", "/v1/mode", {"mode": "armed"})
    await world.until(lambda: _floor(world) == 2, within=90)

    async def said() -> bool:
        return any("left over: given back" in one.text for one in await world.parts.store.timeline(incident.id))

    await world.until(said)
    assert await world.parts.store.owed() == []


async def _own_alerts(world: World) -> dict[str, AlertStatus]:
    found = await world.parts.store.instances(why=None, firing=False, limit=50)
    return {one.name: one.status for one in found if one.source == "responder"}


async def test_a_sender_that_falls_silent_is_an_alert_until_it_speaks(world: World) -> None:
    """From our start it has its whole time; the alert is matched by rules like any other."""
    world.config["sources"] = {"prometheus": {"silent_after": "2m"}}
    await world.start()

    async def silent() -> bool:
        return (await _own_alerts(world)).get("SourceSilent") is AlertStatus.FIRING

    async def heard() -> bool:
        return (await _own_alerts(world)).get("SourceSilent") is AlertStatus.RESOLVED

    await world.until(silent, within=90)
    (one,) = [one for one in await world.parts.store.instances(why=None, firing=True, limit=9) if one.source == "responder"]
    await world.alert("Watchdog", severity="info")
    await world.until(heard, within=90)

    assert one.labels["source_name"] == "prometheus"
    assert "backstop" in one.rules


async def test_the_dead_mans_switch_is_told_only_while_we_are_well(world: World, monkeypatch: Any) -> None:
    """A store that is gone for 45 seconds stops the beats; back again, they go on."""
    monkeypatch.setenv("BEAT", world.teams.url)
    world.config["heartbeat"] = {"url": {"env": "BEAT"}, "every": "10s"}
    await world.start()
    beats = world.parts.metrics.beats

    def count(result: str) -> float:
        return float(beats.labels(result)._value.get())

    await world.until(lambda: count("sent") >= 2)
    _break(world)
    await world.until(lambda: count("withheld") >= 1, within=90)
    sent = count("sent")
    _mend(world)

    await world.until(lambda: count("sent") > sent, within=90)


def _break(world: World) -> None:
    def refuse() -> None:
        raise StoreUnavailableError("the disk is gone")

    runner = world.parts.store.runner
    assert isinstance(runner, SqliteRunner)
    runner.on_commit = refuse


def _mend(world: World) -> None:
    runner = world.parts.store.runner
    assert isinstance(runner, SqliteRunner)
    runner.on_commit = lambda: None


async def test_a_store_that_is_gone_for_a_minute_is_paged_without_it_and_ended_when_it_is_back(world: World) -> None:
    """Senders are told to come back, one page says that nobody looks; afterwards everything goes on where it was."""
    await world.start()
    await world.crashing(cured_by_restart=True)
    _break(world)

    status = await world.alert("KubePodCrashLooping", namespace="shop", deployment="api")
    await world.until(lambda: len(world.pagerduty.received) >= 1, within=90)
    await asyncio.sleep(3)  # another minute of outage
    pages = [dict(one) for one in world.pagerduty.received]
    _mend(world)
    await world.until(lambda: world.pagerduty.received[-1]["event_action"] == "resolve", within=90)
    again = await world.alert("KubePodCrashLooping", namespace="shop", deployment="api")
    incident = await world.reaches("recovered", within=90)

    assert status == 503
    assert [(one["event_action"], one["dedup_key"]) for one in pages] == [("trigger", "responder/store")]
    assert "cannot use its store" in pages[0]["payload"]["summary"]
    assert world.pagerduty.received[-1]["dedup_key"] == "responder/store"
    assert again == 202
    assert incident.phase is Phase.RECOVERED


async def _doctor(world: World, *arguments: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "responder", "doctor", "--url", world.parts.url, "--json", *arguments]
    environment = {**os.environ, "RESPONDER_TOKEN": "all"}
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


async def test_the_doctor_finds_an_installation_well_and_says_what_is_not(world: World, monkeypatch: Any) -> None:
    """Store, rules, loops, senders, cluster with its permissions, channels; exit codes 0 and 1; a test page that ends by itself."""
    monkeypatch.setenv("BEAT", world.teams.url)
    world.config["heartbeat"] = {"url": {"env": "BEAT"}}
    world.config["sources"] = {"prometheus": {"silent_after": "1h"}}
    await world.start()
    await world.alert("Watchdog")

    code, found = await _doctor(world, "--page", "pager")
    world.cluster.faults.forbidden = {"patch deployments"}
    _break(world)
    sick, complaints = await _doctor(world)
    _mend(world)

    assert (code, found["well"]) == (0, True), found
    assert {one["what"] for one in found["findings"]} == {
        "store", "rules", "loops", "outside watch", "sender prometheus", "cluster sandbox", "channel pager", "channel teams", "channel shadow",
    }  # fmt: skip
    assert found["page"]["receipt"]["reached"] is True
    test_pages = [one["event_action"] for one in world.pagerduty.received if one["dedup_key"].startswith("responder/test/")]
    assert test_pages == ["trigger", "resolve"]
    assert sick == 1
    problems = {one["what"]: one for one in complaints["findings"] if not one["well"]}
    assert set(problems) >= {"store", "cluster sandbox"}
    assert (
        "patch deployments (pod-crash-loop/workload.restart, pod-crash-loop/workload.rollback)"
        in problems["cluster sandbox"]["said"]
    )
    assert all(one["advice"] for one in problems.values())
