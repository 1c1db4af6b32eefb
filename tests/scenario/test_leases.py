"""What a worker does that could not renew its lease in the middle of a rung."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from tests.scenario.conftest import World


async def test_a_rung_whose_lease_ran_out_after_its_write_is_looked_at_again_and_not_begun_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else took it over, so the commit would go through: it must not say that the rung did not run."""
    await world.start()
    await world.crashing()
    world.cluster.faults.slow = 0.05

    async def fence() -> int:
        return int(await world.parts.store.runner.read(lambda db: db.execute(text("select fence from incidents")).scalar()) or 0)

    async def nothing() -> None:
        """Renew nothing: the store, or the machine, is too slow."""

    await world.alert("KubePodCrashLooping", namespace="shop", deployment="api")
    await world.reaches("acting")
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "step", lambda: None)  # no controller sees the new template: the rung goes on waiting
        patch.setattr(world.parts.supervisor._worker, "heartbeat", nothing)
        before = await fence()
        await world.until(lambda: bool(world.cluster.writes))

        async def claimed_again() -> bool:
            return await fence() > before

        await world.until(claimed_again)
        await asyncio.sleep(0.1)

    incident = await world.reaches("recovered", within=60)

    assert [one.name for one in world.cluster.writes] == ["api"]
    assert [str(run.outcome) for run in incident.runs if not run.skipped] == ["done"]
