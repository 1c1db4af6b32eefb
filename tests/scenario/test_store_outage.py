"""The store is gone for ten minutes with incidents open: a real file, a real server, the whole service over HTTP, on a clock that runs ten times faster."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from responder.stores.sql.runners.sqlite import SqliteRunner
from tests.postgres import PostgresServer
from tests.scenario.conftest import World
from tests.scenario.test_replicas import running

SPEED = 10.0
TEN_MINUTES = 600 / SPEED
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("world", [SPEED], indirect=True, ids=["ten times"])]


@dataclass(slots=True)
class Breakable:
    """A running service whose store can be taken away."""

    world: World
    go: Callable[[], Awaitable[None]]
    come_back: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def on_sqlite(world: World) -> AsyncIterator[Breakable]:
    """The file system becomes read-only: SQLite itself refuses."""
    await world.start()
    runner = world.parts.store.runner
    assert isinstance(runner, SqliteRunner)

    async def said(word: str) -> None:
        await asyncio.to_thread(runner._engine.raw_connection().execute, f"pragma query_only = {word}")

    yield Breakable(world, lambda: said("on"), lambda: said("off"))


@contextlib.asynccontextmanager
async def on_postgres(world: World, url: str, server: PostgresServer) -> AsyncIterator[Breakable]:
    """Every connection ends and none is let in."""
    name = url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    end = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid()"

    async def go() -> None:
        await server.execute(f'alter database "{name}" allow_connections false', end)

    async def come_back() -> None:
        await server.execute(f'alter database "{name}" allow_connections true')

    async with running(world, url) as app:
        world.app = app
        yield Breakable(world, go, come_back)
        world.app = None


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_ten_minutes_without_the_store_are_paged_without_it_and_nothing_else_is_lost(
    world: World, kind: str, request: pytest.FixtureRequest
) -> None:
    """One direct page after a minute and its end; the level that fell due is sent when the store is back and says it is late; what was posted meanwhile is taken then."""
    place = (
        on_sqlite(world)
        if kind == "sqlite"
        else on_postgres(world, request.getfixturevalue("postgres_url"), request.getfixturevalue("postgres_server"))
    )
    async with place as breakable:
        await world.crashing("web", cured_by_restart=False)
        await world.crashing("api")
        await world.alert("KubePodCrashLooping", namespace="shop", deployment="web")
        await world.until(lambda: len(world.pagerduty.received) == 1, within=120)
        await breakable.go()
        gone_at = world.clock.now()

        refused = await world.alert("KubePodCrashLooping", namespace="shop", deployment="api")
        await world.until(lambda: len(world.pagerduty.received) >= 2, within=90)
        paged_after = (world.clock.now() - gone_at).total_seconds()
        health = (await world.call("GET", "/healthz"))[0], (await world.call("GET", "/readyz"))[0]
        await asyncio.sleep(max(0.0, TEN_MINUTES - (world.clock.now() - gone_at).total_seconds() / SPEED))
        meanwhile = [(one["event_action"], one["dedup_key"]) for one in world.pagerduty.received[1:]]
        written = len(world.cluster.writes)
        await breakable.come_back()
        taken = 0
        async with asyncio.timeout(30):
            while (taken := await world.alert("KubePodCrashLooping", namespace="shop", deployment="api")) != 202:
                await asyncio.sleep(0.5)
        await world.until(lambda: _levels(world) == [1, 2], within=90)

        async def recovered() -> bool:
            return {one.target.name: str(one.phase) for one in await world.incidents()} == {
                "web": "exhausted",
                "api": "recovered",
            }

        await world.until(recovered, within=120)

        assert (refused, health, taken) == (503, (200, 200), 202)
        assert meanwhile == [("trigger", "responder/store")]
        assert 60 <= paged_after <= 120
        assert [one["event_action"] for one in world.pagerduty.received if one["dedup_key"] == "responder/store"] == [
            "trigger",
            "resolve",
        ]
        (second,) = [one for one in world.pagerduty.received if one["dedup_key"].endswith("/2")]
        assert "Sent late" in json.dumps(second)
        assert [one.name for one in world.cluster.writes] == ["web", "api"]
        assert written == 1


def _levels(world: World) -> list[int]:
    found = {
        int(one["dedup_key"].rsplit("/", 1)[1])
        for one in world.pagerduty.received
        if one["event_action"] == "trigger" and one["dedup_key"].startswith("inc-")
    }
    return sorted(found)
