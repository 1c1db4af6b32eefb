"""Whether a cluster answers: two failures ten seconds apart while the rest of the world answers, and nothing less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from responder.model.cluster import NodeSnapshot, Snapshot
from responder.model.errors import TransientError
from responder.model.rule import Call
from responder.model.target import Lookup, LookupAnswer, Presence, Target, TargetKind
from responder.service.reaching import Component, Nobody, Reach
from tests import builders as make
from tests.fakes.clock import FakeClock

PROD = Target(kind=TargetKind.CLUSTER, cluster="prod", name="prod")


@dataclass(slots=True)
class View:
    up: bool = True
    presence: Presence = Presence.FOUND
    snapshot_of: Any = None

    async def answers(self) -> None:
        if not self.up:
            raise TransientError("no answer within 5 s", system="kubernetes", operation="GET", target="/version")

    async def nodes(self) -> Sequence[NodeSnapshot]:
        return (NodeSnapshot(name="n1", ready="True"),)

    async def look_up(self, lookup: Lookup) -> LookupAnswer:
        found = self.presence is Presence.FOUND
        return LookupAnswer(presence=self.presence, targets=(make.TARGET,) if found else (), detail="no answer within 2 s")

    async def snapshot(self, target: Target) -> Any:
        if isinstance(self.snapshot_of, Exception):
            raise self.snapshot_of
        return self.snapshot_of


@dataclass(slots=True)
class Out:
    there: bool = True
    asked: int = 0

    async def answers(self) -> bool:
        self.asked += 1
        return self.there


@dataclass(slots=True)
class Place:
    clock: FakeClock
    view: View
    world: Out
    reach: Reach

    async def answers(self) -> bool | None:
        found = (await self.reach.snapshot(PROD)).reach
        assert found is not None
        return found.answers


@pytest.fixture
def place() -> Place:
    clock, view, world = FakeClock(), View(), Out()
    component = Component(name="api", cluster="prod", namespace="shop", target="api", check=Call(name="workload.available"))
    reach = Reach(
        views={"prod": view},  # type: ignore[dict-item] # reads only
        clock=clock,
        catalogue=make.CATALOGUE,
        world=world,
        hosts={"prod": False},
        components=[component],
    )
    return Place(clock=clock, view=view, world=world, reach=reach)


async def test_one_failure_says_nothing(place: Place) -> None:
    """And nobody else is asked about it."""
    place.view.up = False

    assert await place.answers() is None
    assert place.world.asked == 0


async def test_two_failures_ten_seconds_apart_say_that_it_does_not_answer(place: Place) -> None:
    """While the rest of the world does."""
    place.view.up = False
    await place.answers()
    place.clock.forward(seconds=9)
    early = await place.answers()
    place.clock.forward(seconds=1)

    assert early is None
    assert await place.answers() is False


async def test_while_nobody_answers_us_the_fault_may_be_ours(place: Place) -> None:
    """Our own network: doubt, for as long as it lasts."""
    place.view.up, place.world.there = False, False
    await place.answers()
    place.clock.forward(seconds=30)
    doubted = await place.reach.snapshot(PROD)
    place.world.there = True
    place.clock.forward(seconds=15)

    assert doubted.reach is not None
    assert doubted.reach.answers is None
    assert "our own network" in doubted.reach.said
    assert await place.answers() is False


async def test_an_answer_ends_the_row(place: Place) -> None:
    """The next failure is a first one again."""
    place.view.up = False
    await place.answers()
    place.view.up = True
    place.clock.forward(seconds=15)
    answered = await place.answers()
    place.view.up = False
    place.clock.forward(seconds=15)

    assert answered is True
    assert await place.answers() is None


async def test_a_failure_of_long_ago_begins_no_row(place: Place) -> None:
    """Nobody looked in between."""
    place.view.up = False
    await place.answers()
    place.clock.forward(seconds=timedelta(hours=1).total_seconds())

    assert await place.answers() is None


async def test_without_a_witness_the_doubt_stays() -> None:
    """A world that is not configured proves nothing."""
    assert await Nobody().answers() is False


async def test_a_cluster_that_answers_is_read_with_its_nodes_and_components(place: Place) -> None:
    """Each component by its own check."""
    place.view.snapshot_of = make.snapshot(pods=(make.crashing("api-1"), make.crashing("api-2")))

    found = await place.reach.snapshot(PROD)

    assert [one.name for one in found.nodes] == ["n1"]
    assert found.reach is not None
    assert found.reach.components is not None
    assert [(one.name, one.health) for one in found.reach.components] == [("api", "unhealthy")]


@pytest.mark.parametrize(("presence", "health"), [(Presence.ABSENT, "unhealthy"), (Presence.UNKNOWN, "unknown")])
async def test_a_component_that_is_not_there_is_unhealthy_and_one_not_known_unknown(
    place: Place, presence: Presence, health: str
) -> None:
    """A look-up that failed is no proof of absence."""
    place.view.presence = presence

    found = (await place.reach.snapshot(PROD)).reach

    assert found is not None
    assert found.components is not None
    assert [one.health for one in found.components] == [health]


async def test_our_own_pod_tells_which_cluster_hosts_us() -> None:
    """By its UID, not by its name; a cluster that does not answer stays unknown, until it is found elsewhere."""
    ours, other, silent = View(), View(), View()
    target = Target(kind=TargetKind.POD, cluster="a", namespace="responder", name="responder-0")
    ours.snapshot_of = Snapshot(target=target, read_at=make.NOON, pod=make.pod("responder-0", uid="me"))
    other.snapshot_of = Snapshot(target=target, read_at=make.NOON, pod=make.pod("responder-0", uid="a namesake"))
    silent.snapshot_of = TransientError("no answer", system="kubernetes", operation="GET", target="/")
    views: dict[str, Any] = {"silent": silent, "test": other}
    reach = Reach(
        views=views, clock=FakeClock(), catalogue=make.CATALOGUE, world=Nobody(), hosts=dict.fromkeys(("silent", "test", "home"))
    )

    async def hosts() -> dict[str, bool | None]:
        found = {name: (await reach.snapshot(Target(kind=TargetKind.CLUSTER, cluster=name, name=name))).reach for name in views}
        return {name: one.hosts_responder for name, one in found.items() if one is not None}

    reach._views["home"] = ours  # type: ignore[index]
    reach._hosts = {"silent": None, "test": None}
    assert await reach.find_ourselves(namespace="responder", name="responder-0", uid="me") == ""
    assert await hosts() == {"silent": None, "test": False, "home": None}
    reach._hosts["home"] = None
    assert await reach.find_ourselves(namespace="responder", name="responder-0", uid="me") == "home"
    assert await hosts() == {"silent": False, "test": False, "home": True}
