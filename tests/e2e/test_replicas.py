"""Replicas as real processes on a real PostgreSQL: killed, stopped, restarted, beside a newer release, and with the database's clock stepped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from responder.sandbox import PagerDutyReceiver, SandboxCluster, Timings
from tests import postgres
from tests.releases import next_release
from tests.replicas import LEVEL_2, Fleet, Replica, alert

STOPPED_FOR = float(os.environ.get("RESPONDER_TEST_STOPPED_FOR", "40"))
"""Seconds of a SIGSTOP: longer than the lease of 15 s. Five minutes were run by hand; the promise depends on the lease only."""

SPACES = ("s0", "s1", "s2", "s3", "s4", "s5")
SHADOW = (
    "create schema shadow",
    "create table shadow.step (by interval)",
    "insert into shadow.step values ('0')",
    """create function shadow.clock_timestamp() returns timestamptz language sql volatile as
    'select pg_catalog.clock_timestamp() + by from shadow.step'""",
)


@contextlib.asynccontextmanager
async def a_fleet(url: str, folder: Path) -> AsyncIterator[Fleet]:
    async with (
        SandboxCluster(timings=Timings(every=0.1, starts_in=0.2)) as cluster,
        PagerDutyReceiver() as pagerduty,
        aiohttp.ClientSession() as session,
    ):
        db = await asyncpg.connect(url)
        fleet = Fleet(cluster=cluster, pagerduty=pagerduty, url=url, folder=folder, session=session, db=db)
        try:
            yield fleet
        finally:
            await fleet.aclose()
            await db.close()


@pytest.fixture
async def fleet(postgres_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with a_fleet(postgres_url, tmp_path) as made:
        yield made


@pytest.fixture
def stepping_url(postgres_url: str, postgres_server: postgres.PostgresServer) -> str:
    """A database whose clock can be stepped: its own ``clock_timestamp`` is found before PostgreSQL's."""

    async def prepare() -> None:
        connection = await asyncpg.connect(postgres_url)
        for one in SHADOW:
            await connection.execute(one)
        await connection.close()
        name = postgres_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
        await postgres_server.execute(f'alter database "{name}" set search_path = shadow, public, pg_catalog')

    postgres.now(prepare())
    return postgres_url


@pytest.fixture
async def stepping(stepping_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with a_fleet(stepping_url, tmp_path) as made:
        yield made


async def test_the_same_delivery_to_all_at_once_is_one_incident_and_one_action(fleet: Fleet) -> None:
    """Three replicas, one body: one incident, one restart, proven; another name for the same trouble joins it."""
    for name in ("a", "b", "c"):
        fleet.add(name)
    await fleet.start("a", "b", "c")
    await fleet.break_workloads("shop")

    codes = await asyncio.gather(*(fleet.post(name, alert("shop")) for name in ("a", "b", "c", "a", "b", "c")))
    await fleet.post("b", alert("shop", alertname="KubePodNotReady"))
    await fleet.until(lambda found: [one["phase"] for one in found] == ["recovered"], within=60, what="one incident, recovered")

    assert set(codes) == {202}
    assert fleet.writes() == {"shop": 1}
    assert len((await fleet.get("c", "/readyz"))["replicas"]) == 3


async def acting(fleet: Fleet) -> str:
    """Break six workloads, tell both replicas, and return the one that holds most of the rungs, in the middle of them.

    The cluster answers slowly, so that each rung has some way from its intention to its write.
    """
    await fleet.break_workloads(*SPACES)
    fleet.cluster.faults.slow = 0.4
    for number, space in enumerate(SPACES):
        await fleet.post("ab"[number % 2], alert(space))
    await fleet.until(
        lambda found: len([one for one in found if one["phase"] == "acting"]) >= 3, within=60, what="three rungs", every=0.01
    )
    holders = [fleet.holder(one) for one in await fleet.incidents() if one["phase"] == "acting" and one["owner"]]
    return max(set(holders), key=holders.count)


def survivor_of(fleet: Fleet, gone: str) -> Replica:
    (other,) = [one for name, one in fleet.replicas.items() if name != gone]
    return other


async def test_kill_9_in_the_middle_of_rungs_goes_on_elsewhere(fleet: Fleet) -> None:
    """Within 30 s, nothing repeated that took effect, every workload restarted once; escalation at its original time."""
    fleet.add("a")
    fleet.add("b")
    await fleet.start("a", "b")
    fleet.cluster.namespace("quiet", **{"responder/hands-off": "migration until noon"})
    await fleet.break_workloads("quiet")
    await fleet.post("a", alert("quiet"))
    await fleet.pagerduty.wait_for(lambda: len(fleet.pagerduty.received) == 1, within=30)

    victim = await acting(fleet)
    held = {
        one["id"]
        for one in await fleet.incidents()
        if one["owner"].count(f"/{fleet.replicas[victim].pid}/") and one["lease_until"]
    }
    fleet.replicas[victim].send(signal.SIGKILL)
    killed_at = time.monotonic()
    fleet.cluster.faults.slow = 0.0
    survivor = survivor_of(fleet, victim)
    await fleet.until(
        lambda found: all(f"/{survivor.pid}/" in one["owner"] for one in found if one["id"] in held), within=60, what="take-over"
    )
    taken_over_in = time.monotonic() - killed_at
    await fleet.until(
        lambda found: all(one["phase"] == "recovered" for one in found if "/quiet/" not in one["target"]),
        within=120,
        what="everything recovered",
    )
    await fleet.pagerduty.wait_for(lambda: len(fleet.pagerduty.incidents) >= 2, within=90)

    assert held
    assert taken_over_in < 30
    assert fleet.writes() == dict.fromkeys(SPACES, 1)
    pages = await fleet.db.fetch("select level, due_at, state from outbox where kind = 'page' order by level")
    assert [(one["level"], one["state"]) for one in pages] == [(1, "sent"), (2, "sent")]
    assert pages[1]["due_at"] - pages[0]["due_at"] == LEVEL_2 * 1000


async def test_a_replica_stopped_in_the_middle_of_rungs_that_wakes_up_writes_nothing(fleet: Fleet) -> None:
    """SIGSTOP for longer than the lease, as a suspended machine or a frozen container is; then SIGCONT."""
    fleet.add("a")
    fleet.add("b")
    await fleet.start("a", "b")

    victim = await acting(fleet)
    zombie = fleet.replicas[victim]
    zombie.send(signal.SIGSTOP)
    await asyncio.sleep(1)  # what it had sent arrives
    before, written = fleet.writes(), len(zombie.events("write_carried_out"))
    fleet.cluster.faults.slow = 0.0
    await fleet.until(
        lambda found: [one["phase"] in {"verifying", "recovered"} for one in found] == [True] * len(SPACES),
        within=90,
        what="the others go on",
    )
    await asyncio.sleep(max(0.0, STOPPED_FOR - 30))
    others = fleet.writes()
    zombie.send(signal.SIGCONT)
    await fleet.until(lambda found: all(one["phase"] == "recovered" for one in found), within=120, what="everything recovered")
    await asyncio.sleep(5)

    assert len(before) < len(SPACES), "stopped too late: every write was made already"
    assert others == dict.fromkeys(SPACES, 1)
    assert fleet.writes() == others
    after = zombie.events("write_carried_out")[written:]
    assert len(after) <= len(before), "it may log a write that it had made before it was stopped, and none besides"
    assert not [one for one in zombie.events("write_failed") if one["result"] != "unknown"]


@pytest.mark.parametrize("by", ["10 minutes", "-10 minutes"])
async def test_a_step_of_the_databases_clock_in_the_middle_of_rungs_doubles_no_action(stepping: Fleet, by: str) -> None:
    """Forward frees every lease while its holder still believes in it; backward would hold a dead one's for ten minutes more."""
    fleet = stepping
    fleet.add("a")
    fleet.add("b")
    await fleet.start("a", "b")

    victim = await acting(fleet)
    await fleet.db.execute("update shadow.step set by = $1::text::interval", by)
    await asyncio.sleep(20)
    fleet.cluster.faults.slow = 0.0
    await asyncio.sleep(20)
    fleet.replicas[victim].send(signal.SIGKILL)
    survivor = survivor_of(fleet, victim)
    late = "select count(*) from incidents where phase <> 'closed' and lease_until > (extract(epoch from clock_timestamp()) * 1000) and owner not like $1"
    async with asyncio.timeout(35):
        while await fleet.db.fetchval(late, f"%/{survivor.pid}/%"):
            await asyncio.sleep(0.2)
    await asyncio.sleep(10)

    assert set(fleet.writes().values()) <= {1}
    assert survivor.events("clock_unsteady")[1:]


async def test_a_rolling_restart_of_three_under_load_loses_nothing(fleet: Fleet) -> None:
    """600 alerts while each of three is stopped as a rollout does and started anew: all stored, all routed, each workload restarted once."""
    for name in ("a", "b", "c"):
        fleet.add(name)
    await fleet.start("a", "b", "c")
    await fleet.break_workloads(*SPACES)
    sent = 0
    done = asyncio.Event()

    async def load() -> None:
        nonlocal sent
        while not done.is_set():
            number = sent
            extra = [alert(SPACES[number // 40 % len(SPACES)])] if number % 40 == 0 else []
            await fleet.delivered({**alert("load", name=f"n{number}", alertname=f"Noted{number}")}, *extra, first=number)
            sent += 1
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        group.create_task(load())
        for name in ("a", "b", "c"):
            await asyncio.sleep(4)
            fleet.replicas[name].send(signal.SIGTERM)
            assert await fleet.replicas[name].ended() == 0
            await fleet.start(name, steady=False)
        await asyncio.sleep(4)
        while sent < 600:
            await asyncio.sleep(0.2)
        done.set()
    async with asyncio.timeout(60):
        while await fleet.db.fetchval("select count(*) from deliveries where state = 'new'"):
            await asyncio.sleep(0.2)
    crashed = [one for one in await fleet.incidents() if "/api" in one["target"]]
    await fleet.until(
        lambda found: all(one["phase"] == "recovered" for one in found if one["id"] in {other["id"] for other in crashed}),
        within=180,
        what="every workload recovered",
    )

    assert len(crashed) == len(SPACES)
    assert fleet.writes() == dict.fromkeys(SPACES, 1)
    assert await fleet.db.fetchval("select count(*) from deliveries where state <> 'routed'") == 0
    known = {row["name"] for row in await fleet.db.fetch("select name from alerts")}
    assert {f"Noted{number}" for number in range(sent)} <= known


async def test_a_database_that_is_gone_for_twenty_seconds_costs_no_alert_and_doubles_no_action(
    fleet: Fleet, postgres_server: postgres.PostgresServer
) -> None:
    """Every connection ends and none is let in: senders are told to come back, health stays green, and everything goes on by itself."""
    fleet.add("a")
    fleet.add("b")
    await fleet.start("a", "b")
    name = fleet.url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    await acting(fleet)
    fleet.cluster.faults.slow = 0.0
    end = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and application_name = 'responder'"
    await postgres_server.execute(f'alter database "{name}" allow_connections false', end)

    refused = [await fleet.post(one, alert("late")) for one in ("a", "b", "a", "b")]
    health = [(await fleet.session.get(f"http://127.0.0.1:{one.port}/healthz")).status for one in fleet.replicas.values()]
    ready = await fleet.get("a", "/readyz")
    await asyncio.sleep(20)
    await postgres_server.execute(f'alter database "{name}" allow_connections true')
    await fleet.delivered(alert("late"))
    await fleet.until(
        lambda found: (
            all(one["phase"] == "recovered" for one in found if "/late/" not in one["key"] and "/api" in one["key"])
            and any("late" in one["key"] for one in found)
        ),
        within=120,
        what="everything recovered",
    )

    assert refused == [503] * 4
    assert health == [200, 200]
    assert (ready["ready"], ready["store"].startswith("down")) == (True, True)
    assert fleet.writes() == dict.fromkeys(SPACES, 1)
    assert all(one.process is not None and one.process.poll() is None for one in fleet.replicas.values())


async def test_two_releases_work_on_one_store_and_the_newer_one_is_gone_back_from(fleet: Fleet, tmp_path: Path) -> None:
    """N runs, N+1 joins and migrates, both work; N restarts on the newer schema; N+1 goes; N goes on with what N+1 began.

    Real time and real processes: 24 incidents. An hour of them on virtual time: ``tests/scenario/test_two_releases.py``.
    """
    source = next_release(tmp_path / "next")
    fleet.add("old")
    fleet.add("new", source=source)
    await fleet.start("old", steady=False)
    await fleet.start("new")
    versions = {one["version"] for one in (await fleet.get("old", "/readyz"))["replicas"]}
    rounds = [[f"r{number}-{one}" for one in range(6)] for number in range(4)]

    async def told(spaces: list[str]) -> None:
        await fleet.break_workloads(*spaces)
        for number, space in enumerate(spaces):
            await fleet.delivered(alert(space), first=number)

    await told(rounds[0])
    await asyncio.sleep(10)
    fleet.replicas["old"].send(signal.SIGTERM)  # restarted in the middle of the upgrade: on the newer schema
    assert await fleet.replicas["old"].ended() == 0
    await told(rounds[1])
    await fleet.start("old")
    await told(rounds[2])
    fleet.cluster.faults.slow = 0.2
    await told(rounds[3])
    fleet.replicas["new"].send(signal.SIGKILL)  # gone back from, in the middle of its work
    fleet.cluster.faults.slow = 0.0
    await fleet.until(
        lambda found: len(found) == 24 and all(one["phase"] == "recovered" for one in found), within=240, what="all recovered"
    )

    assert versions == {"0.1.0", "0.2.0"}
    assert fleet.writes() == {space: 1 for spaces in rounds for space in spaces}
    assert fleet.replicas["old"].events("schema_ahead")
    for replica in fleet.replicas.values():
        assert replica.events("write_carried_out"), f"{replica.name} did no work"
        assert not replica.events("incident_failed")
        assert not replica.events("delivery_failed")
    assert set(await fleet.db.fetch("select distinct state_v from incidents")) == {(1,)}
