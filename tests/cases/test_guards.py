"""Guards of A15 that are asked again right before a write, on a cluster that changes meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.cases.stage import Stage, rule
from tests.cases.standin import CRASHING
from tests.cases.test_evictions import evictions, one_sick

MARK = {"metadata": {"annotations": {"responder/hands-off": "migration until noon"}}}


@pytest.mark.parametrize("where", ["workload", "namespace"])
async def test_a_hands_off_mark_is_obeyed_with_its_reason(stage: Stage, where: str) -> None:
    """On the workload or its namespace: nothing is written, and the page has the words of whoever set it."""
    await stage.serve(rule("workload.restart"))
    await stage.workload()
    if where == "workload":
        await stage.patch("deployments", "api", MARK)
    else:
        await stage.api.send(
            "PATCH", f"/api/v1/namespaces/{stage.namespace}", body=MARK, content_type="application/merge-patch+json"
        )
    await stage.sick(CRASHING)

    waiting = await stage.work("hands_off")

    assert "migration until noon" in waiting.detail
    assert stage.writes() == []


async def test_a_mark_that_is_set_while_a_rung_waits_stops_its_next_write(stage: Stage) -> None:
    """The eviction was planned and tried once; then somebody marked the workload: it is not tried again."""
    await stage.serve(rule("pod.evict"))
    await stage.workload(replicas=3)
    await stage.budget("api", minAvailable=1)
    await one_sick(stage)
    beat = stage.clock.slept

    async def tighten() -> None:
        await stage.budget("api", minAvailable=3)

    async def marked_meanwhile() -> None:
        assert beat is not None
        await beat()
        if evictions(stage) and stage.clock.slept is marked_meanwhile:
            stage.clock.slept = beat
            await stage.patch("deployments", "api", MARK)
            await stage.budget("api", minAvailable=1)

    stage.wire.before, stage.clock.slept = tighten, marked_meanwhile
    await stage.alert(deployment="api")

    await stage.work("hands_off")

    assert [one.status for one in evictions(stage)] == [429]


async def test_a_target_outside_the_scope_is_not_touched(stage: Stage) -> None:
    """``limits.scope`` names the namespaces that may be acted on at all."""
    stage.limits["scope"] = [['namespace="elsewhere"']]
    await stage.serve(rule("workload.restart"))
    await stage.workload()
    await stage.sick(CRASHING)

    await stage.work("out_of_scope")

    assert stage.writes() == []


async def test_a_rollout_of_somebody_else_is_waited_for(stage: Stage) -> None:
    """A restart on top of it would fight: foreign activity until it is over, then the workload is asked again."""
    await stage.serve(rule("workload.restart"))
    await stage.workload(replicas=3)
    stage.standin.images["shop/api:2"] = CRASHING
    await stage.image("shop/api:2")
    await stage.until(lambda: stage.count_pods(4, ready=3), what="the rollout does not get on")
    await stage.alert(deployment="api")
    await stage.work("foreign_activity")
    stage.standin.images.clear()

    await stage.work("recovered", most=timedelta(minutes=20))

    assert stage.writes() == []
