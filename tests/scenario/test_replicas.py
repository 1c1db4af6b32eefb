"""Two replicas on one PostgreSQL, in this process, on the clock that runs many times faster. Real processes: ``tests/e2e/test_replicas.py``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from responder.app import App, assembled, serve
from responder.sandbox import Behaviour
from responder.settings import load_settings
from responder.stores import open_postgres
from tests.scenario.conftest import World

RULES = Path(__file__).resolve().parents[2] / "rules"
SLOWER = pytest.mark.parametrize("world", [6.0], indirect=True, ids=["6 times"])
"""At twenty times real time a busy machine loses leases: nothing is doubled then, but little gets done."""


@contextlib.asynccontextmanager
async def running(world: World, url: str) -> AsyncIterator[App]:
    """Run one more replica."""
    path = world.folder / "replica.yaml"
    store = await open_postgres(url, world.clock, pool=4, database_time=False)  # the fast clock is everybody's here
    rules = world.folder / "rules"
    rules.mkdir(exist_ok=True)
    ladder = (RULES / "pod-crash-loop.yaml").read_text().replace("ladder:\n", "hold: 30s\nladder:\n", 1)
    (rules / "pod-crash-loop.yaml").write_text(ladder)
    shared = {**world.config, "store": {"url": {"env": "DATABASE"}}, "clock": 1.0, "limits": {"group_wait": "5s"}}
    shared |= {"shipped_rules": False, "rule_paths": [str(rules)]}
    path.write_text(yaml.safe_dump(shared))
    async with assembled(load_settings(path), store=store, clock=world.clock) as app:
        started = asyncio.Event()
        task = asyncio.create_task(serve(app, started=started.set))
        async with asyncio.timeout(10):
            await started.wait()
        try:
            yield app
        finally:
            app.supervisor.stop()
            await task


@pytest.fixture
async def pair(world: World, postgres_url: str) -> AsyncIterator[tuple[World, World]]:
    """Two replicas; each is a world of its own round the same cluster."""
    async with running(world, postgres_url) as first, running(world, postgres_url) as second:
        worlds = []
        for app in (first, second):
            one = World(
                cluster=world.cluster, pagerduty=world.pagerduty, teams=world.teams, session=world.session, clock=world.clock,
                folder=world.folder, config=world.config, app=app,
            )  # fmt: skip
            worlds.append(one)
        yield worlds[0], worlds[1]


async def broken(world: World, *names: str) -> None:
    """Create Deployments and break the pods they have: none is ever ready, so the first rung that fits is the restart."""
    for name in names:
        world.cluster.deployment("shop", name, image=f"shop/{name}:1", replicas=2)
    await world.cluster.wait_for(lambda: all(world.cluster.available("shop", name) for name in names), within=120)
    for name in names:
        world.cluster.break_running("shop", name, Behaviour(crash_after=0.5))

    def crashed() -> bool:
        pods = [pod for name in names for pod in world.cluster.pods("shop", name)]
        return all(pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods)

    await world.cluster.wait_for(crashed, within=120)


async def happened(world: World) -> str:
    """Return every write and timeline, for whoever reads a failure."""
    lines = [f"{one.verb} {one.resource} {one.namespace}/{one.name}: {one.body}" for one in world.cluster.writes]
    for one in await world.incidents():
        told = await world.parts.store.timeline(one.id)
        lines += [str(one.target), *(f"  {entry.at:%H:%M:%S.%f} {entry.reason} {entry.text}" for entry in told)]
    return "\n".join(lines)


@SLOWER
async def test_one_delivery_at_two_replicas_at_once_is_one_incident_and_one_action(pair: tuple[World, World]) -> None:
    """Whoever is first; the other one's sender is answered just the same."""
    await broken(pair[0], "api")
    at = pair[0].clock.now().isoformat()

    codes = await asyncio.gather(
        *(one.alert("KubePodCrashLooping", starts_at=at, namespace="shop", deployment="api") for one in (*pair, *pair))
    )
    await pair[0].reaches("recovered", within=60)

    assert set(codes) == {202}
    assert [one.name for one in pair[0].cluster.writes] == ["api"], await happened(pair[0])
    assert len(await pair[1].parts.store.deliveries(state=None, limit=9)) == 1


@SLOWER
@pytest.mark.slow
async def test_one_action_at_a_time_in_a_namespace_holds_across_replicas(pair: tuple[World, World]) -> None:
    """Three workloads, told to two replicas: never two claims in the namespace, each restarted once."""
    names = ["w0", "w1", "w2"]
    world = pair[0]
    await broken(world, *names)
    counts = []

    async def all_recovered() -> bool:
        claims = "select count(distinct incident) from claims"
        counts.append(await world.parts.store.runner.read(lambda db: db.execute(text(claims)).scalar()))
        found = await world.incidents()
        return len(found) == 3 and all(str(one.phase) == "recovered" for one in found)

    await asyncio.gather(
        *(pair[number % 2].alert("KubePodCrashLooping", namespace="shop", deployment=name) for number, name in enumerate(names))
    )
    await world.until(all_recovered, within=120)

    assert max(counts) == 1
    assert sorted(one.name for one in world.cluster.writes) == names, await happened(world)
