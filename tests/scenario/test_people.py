"""What people decide: approvals bound to their plan, disarming, giving back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from responder.model.incident import Phase
from responder.model.reason import Reason
from tests.scenario.conftest import CRASH, World

RULE = """\
rule: {name}
title: Crashing, asked first
owner: team
runbook: https://runbooks.example/x
severity: error
priority: 50
match:
  - alert: KubePodCrashLooping
target: workload
when: 'facts.cause == "crash"'
ladder:
{ladder}
"""
API = {"namespace": "shop", "deployment": "api"}


def with_rule(world: World, name: str, ladder: str) -> None:
    """Configure one own rule, armed, and nothing else."""
    folder = world.folder / "own"
    folder.mkdir()
    (folder / f"{name}.yaml").write_text(RULE.format(name=name, ladder=ladder))
    world.config |= {"act": [name], "shipped_rules": False, "rule_paths": [str(folder)]}


async def _reason(world: World, reason: Reason) -> bool:
    found = await world.incidents()
    return len(found) == 1 and found[0].reason is reason


async def test_nothing_is_written_until_a_person_approved_this_very_plan(world: World) -> None:
    """Paged with the plan; a vote for another plan is refused; the right one lets it act."""
    with_rule(world, "asked-first", "  - {do: workload.restart, approve: 1, within: 6m}")
    await world.start()
    await world.crashing()
    await world.alert("KubePodCrashLooping", **API)
    await world.until(lambda: _reason(world, Reason.APPROVAL))
    incident = await world.only()
    await world.until(lambda: len(world.pagerduty.received) == 1)
    assert incident.approval is not None
    plan = incident.approval.digest[:12]

    viewer, _, _ = await world.call("POST", f"/v1/incidents/{incident.id}/approve", {"plan": plan}, token="viewer")
    wrong, body, _ = await world.call("POST", f"/v1/incidents/{incident.id}/approve", {"plan": "another"})
    before = list(world.cluster.writes)
    right, _, _ = await world.call("POST", f"/v1/incidents/{incident.id}/approve", {"plan": plan})
    recovered = await world.reaches("recovered")

    assert (viewer, wrong, right) == (403, 409, 202)
    assert plan in body["error"]["what"]
    assert plan in str(world.pagerduty.received[0])
    assert before == []
    assert len(world.cluster.writes) == 1
    assert any("ana approved" in entry.text for entry in await world.parts.store.timeline(recovered.id))


async def test_disarming_stops_an_action_before_its_write(world: World) -> None:
    """Mode shadow while the group is waited for."""
    await world.start()
    await world.crashing()
    await world.alert("KubePodCrashLooping", **API)
    await world.reaches("waiting")

    code, _, _ = await world.call("PUT", "/v1/mode", {"mode": "shadow", "cluster": "sandbox"})
    await asyncio.sleep(2)

    assert code == 200
    assert (await world.only()).reason is Reason.DISARMED
    assert world.cluster.tried == []


def _floor(world: World) -> int:
    found: dict[str, Any] = world.cluster.storage.get("autoscaling/v2/horizontalpodautoscalers", "shop", "api")
    return int(found["spec"]["minReplicas"])


async def _scaled(world: World) -> None:
    """Let a rule raise the autoscaler's floor of a workload that then goes on crashing."""
    with_rule(world, "more", "  - {do: {workload.scale: {by: 1}}, within: 1m}")
    await world.start()
    await world.crashing(cured_by_restart=False)
    hpa = {
        "metadata": {"namespace": "shop", "name": "api"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "api"}, "minReplicas": 2, "maxReplicas": 6},
    }
    world.cluster.storage.create("autoscaling/v2/horizontalpodautoscalers", hpa)
    await world.alert("KubePodCrashLooping", **API)
    await world.until(lambda: _floor(world) == 3)
    await world.reaches("exhausted", "verifying")


@pytest.mark.slow
async def test_a_raised_floor_is_given_back_at_recovery(world: World) -> None:
    """Newest first, only while it is still ours, before the end is reported."""
    await _scaled(world)
    await world.reaches("exhausted")

    world.cluster.behave("shop/api:1", type(CRASH)())
    await world.reaches("recovered", within=90)

    async def given_back() -> bool:
        return _floor(world) == 2 and await world.parts.store.owed() == []

    await world.until(given_back)


async def test_undo_gives_back_by_hand_and_leaves_what_is_no_longer_ours(world: World) -> None:
    """The kill switch holds for undo too; a floor that somebody else moved stays."""
    await _scaled(world)
    incident = await world.reaches("exhausted")
    await world.call("PUT", "/v1/mode", {"mode": "off"})
    _, stopped, _ = await world.call("POST", f"/v1/incidents/{incident.id}/undo")
    await world.call("PUT", "/v1/mode", {"mode": "armed"})
    _, given, _ = await world.call("POST", f"/v1/incidents/{incident.id}/undo")
    _, again, _ = await world.call("POST", f"/v1/incidents/{incident.id}/undo")

    assert "kill switch" in stopped["undone"][0]
    assert given["undone"][0].startswith("given back")
    assert again["undone"] == ["nothing is owed"]
    assert _floor(world) == 2
    assert (await world.only()).phase is Phase.EXHAUSTED
