"""Without Prometheus: the service watches the cluster itself."""

from __future__ import annotations

import pytest

from responder.model.alert import AlertStatus
from responder.sandbox.behaviour import HEALTHY
from tests.scenario.conftest import World


def watched(world: World) -> None:
    world.config["clusters"]["sandbox"]["watch"] = True


async def firing(world: World) -> set[tuple[str, str]]:
    found = await world.parts.store.instances(why=None, firing=False, limit=100)
    return {(one.name, one.source) for one in found if one.status is AlertStatus.FIRING}


async def test_a_crash_loop_is_found_restarted_and_proven_without_anybodys_alert(world: World) -> None:
    """From the watch to the proof; the alert is over when the loop has been gone for five minutes."""
    watched(world)
    await world.start()

    await world.crashing(cured_by_restart=True)
    incident = await world.reaches("recovered", within=90)

    assert [(run.rung, str(run.outcome)) for run in incident.runs if not run.skipped] == [("workload.restart", "done")]
    held = await world.parts.store.held(incident.id)
    assert {(one.source, one.source_name) for one in held} == {("kubernetes", "sandbox")}
    assert {one.name for one in held} <= {"KubePodCrashLooping", "KubeServiceNoReadyEndpoints"}

    async def over() -> bool:
        return not await firing(world)

    await world.until(over, within=90)


@pytest.mark.slow
async def test_what_ended_while_nobody_watched_is_over_after_the_start(world: World) -> None:
    """The store remembers what fires; a first complete look says what does not any more."""
    watched(world)
    await world.start()
    await world.crashing(cured_by_restart=False)

    async def found() -> bool:
        return ("KubePodCrashLooping", "kubernetes") in await firing(world)

    await world.until(found, within=90)
    await world.stop()
    world.cluster.behave("shop/api:1", HEALTHY)
    await world.start()

    async def over() -> bool:
        return not await found()

    await world.until(over, within=90)


async def test_an_api_server_that_hangs_is_an_alert_and_ends_nothing(world: World) -> None:
    """A minute without a word; when it is back, that alert is over."""
    watched(world)
    await world.start()
    await world.crashing(cured_by_restart=False)

    async def looping() -> bool:
        return ("KubePodCrashLooping", "kubernetes") in await firing(world)

    async def down() -> bool:
        return ("KubeAPIDown", "kubernetes") in await firing(world)

    await world.until(looping, within=90)
    world.cluster.faults.hang = True
    await world.until(down, within=90)
    assert await looping(), "what cannot be seen is not over"
    world.cluster.faults.hang = False

    async def up() -> bool:
        return not await down()

    await world.until(up, within=90)
