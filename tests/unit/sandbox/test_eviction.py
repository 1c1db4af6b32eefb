"""Evictions that a real cluster answers so rarely that they are not probed there. Source: kubernetes.md A2, ``eviction.go``."""

from __future__ import annotations

from typing import Any

import pytest

from responder.sandbox.answers import ApiFailure
from responder.sandbox.eviction import evict
from tests.unit.sandbox.world import World


def with_budget(**status: Any) -> tuple[World, Any]:
    """Return a world with one pod under a budget whose status is so."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=1)
    world.go(10)
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "api"}}}
    budget = world.create("policy/v1/poddisruptionbudgets", "b", spec)
    said = {
        "observedGeneration": 1,
        "currentHealthy": 1,
        "desiredHealthy": 1,
        "expectedPods": 1,
        "disruptionsAllowed": 0,
        **status,
    }
    world.cluster.storage.set_status("policy/v1/poddisruptionbudgets", budget, said)
    return world, world.pods("api")[0]


def refusal(world: World, pod: Any, **options: Any) -> ApiFailure:
    with pytest.raises(ApiFailure) as caught:
        evict(world.cluster.storage, pod, {"deleteOptions": options}, dry=False)
    return caught.value


def test_a_budget_that_is_not_counted_yet_says_when_to_come_again() -> None:
    """429 with ten seconds, in the details and as a header; a spent one says no time at all."""
    new = refusal(*with_budget(observedGeneration=0))
    spent = refusal(*with_budget())

    assert (new.code, new.headers["Retry-After"], new.status()["details"]["retryAfterSeconds"]) == (429, "10", 10)
    assert new.causes[0].message == "The disruption budget b is still being processed by the server."
    assert (spent.code, spent.headers) == (429, {})
    assert spent.causes[0].reason == "DisruptionBudget"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"disruptionsAllowed": -1}, "pdb disruptions allowed is negative"),
        ({"disruptedPods": {f"p{n}": "2026-01-05T12:00:00Z" for n in range(2001)}}, "DisruptedPods map too big"),
    ],
)
def test_a_broken_budget_is_forbidden(status: dict[str, Any], says: str) -> None:
    """403, for good."""
    failure = refusal(*with_budget(**{"disruptionsAllowed": 1, **status}))

    assert failure.code == 403
    assert says in failure.message


def test_an_eviction_that_is_allowed_and_never_happens_is_forgotten_after_two_minutes() -> None:
    """A wrong UID spends the budget; until then the pod counts as disrupted, and the next eviction is refused."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=2)
    world.create("policy/v1/poddisruptionbudgets", "b", {"minAvailable": 1, "selector": {"matchLabels": {"app": "api"}}})
    world.go(10)

    def allowed() -> int:
        return int(world.cluster.storage.get("policy/v1/poddisruptionbudgets", "shop", "b")["status"]["disruptionsAllowed"])

    assert allowed() == 1
    assert refusal(world, world.pods("api")[0], preconditions={"uid": "another"}).code == 409
    world.go(60)
    assert allowed() == 0
    assert refusal(world, world.pods("api")[1]).code == 429
    took = world.until(lambda: allowed() == 1)

    assert 58 <= took <= 62
