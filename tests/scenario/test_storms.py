"""Storms on virtual time: many alerts for many targets, from the delivery to the decision on each target, over the service's own parts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from responder import app as composition
from responder.actions.catalogue import catalogue
from responder.model.cluster import Snapshot
from responder.model.errors import TransientError
from responder.model.evidence import EvidenceItem
from responder.model.incident import Incident, Mode, Phase, Signal, SignalKind
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.target import Lookup, LookupAnswer, Presence, Target, TargetKind
from responder.policy import storms
from responder.sandbox import Behaviour, NodeBehaviour
from responder.settings import Settings
from responder.stores import SqlStore
from responder.telemetry import Metrics
from tests import builders as make
from tests.crash.sweep import quiet
from tests.crash.world import CONFIG, Channel, World

CRASH = Behaviour(crash_after=3, log="FATAL: poisoned\n")
M, S = timedelta(minutes=1), timedelta(seconds=1)
TARGETS = 8
ALERTS = ("KubePodCrashLooping", "KubePodNotReady", "KubePodReadyStateLow")


class Stormy(World):
    """A world of many workloads that break at once."""

    def __init__(self, *, act: tuple[str, ...] = ("pod-crash-loop",)) -> None:
        super().__init__(act=act)
        self.names = [f"w{number:02}" for number in range(TARGETS)]

    async def broken(self) -> None:
        for name in self.names:
            self.cluster.deployment("shop", name, image=f"shop/{name}:1", replicas=1, service=False)
        await self.passes(20 * S)
        for name in self.names:
            self.cluster.behave(f"shop/{name}:1", CRASH)
        await self.passes(1 * M)

    def storm(self, *, per_post: int, shuffled: Callable[[list[Any]], None] = lambda _: None) -> int:
        """Let three alerts a target come within a minute; return how many."""
        at = self.clock.now()
        alerts = [
            {
                "status": "firing", "labels": {"alertname": alert, "namespace": "shop", "deployment": name}, "annotations": {},
                "startsAt": at.isoformat(), "endsAt": "0001-01-01T00:00:00Z",
            }
            for alert in ALERTS for name in self.names
        ]  # fmt: skip
        shuffled(alerts)
        posts = [alerts[first : first + per_post] for first in range(0, len(alerts), per_post)]
        for number, post in enumerate(posts):
            body = msgspec.json.encode({"version": "4", "status": "firing", "receiver": "r", "alerts": post})
            self.events.append((at + number * M / len(posts), body))
        return len(alerts)

    async def broken_again(self) -> None:
        """The same trouble, later; its alerts fire anew."""
        for name in self.names:
            self.cluster.behave(f"shop/{name}:1", CRASH)
            self.cluster.break_running("shop", name, CRASH)
        await self.passes(1 * M)
        self.storm(per_post=8)

    def heal(self) -> None:
        self.cluster._behaviours.clear()

    async def all(self, mode: Mode = Mode.ARMED) -> tuple[list[Incident], list[Incident]]:
        """Return parents, and the others."""
        found = await self.app.store.incidents(unclosed=False, limit=10_000, mode=mode)
        return [one for one in found if storms.is_parent(one)], [one for one in found if not storms.is_parent(one)]

    async def sampled(self, mode: Mode = Mode.ARMED) -> list[str]:
        """Return who has evidence."""
        return [one.id for one in (await self.all(mode))[1] if await self.evidence(one)]

    async def evidence(self, one: Incident) -> list[EvidenceItem]:
        return list(await self.app.store.evidence(one.id))

    @property
    def looks(self) -> int:
        """Return how often a target was read."""
        return self.fate.passed.count("before a snapshot")

    def pages(self) -> list[str]:
        return [one.key.partition("/")[0] for one in self.sent if one.kind is NoticeKind.PAGE and one.level == 1]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet()


@pytest.mark.parametrize("per_post", [1, 8], ids=["single", "8 a post"])
async def test_a_storm_is_one_parent_one_page_five_samples_and_every_target_says_why(per_post: int) -> None:
    """Nothing is lost, nothing is written, and the cluster is left alone while people have it."""
    world = Stormy()
    await world.broken()
    count = world.storm(per_post=per_post)
    await world.live(2 * M)
    before = world.looks
    await world.live(5 * M)

    (parent,), children = await world.all()
    said = {one.id: [entry.reason for entry in await world.app.store.timeline(one.id)] for one in children}
    held = [instance for one in children for instance in await world.app.store.held(one.id)]
    assert len(held) == count
    assert sorted(one.target.name for one in children) == world.names
    assert {(one.phase, one.reason) for one in children} == {(Phase.WAITING, Reason.STORM)}
    assert {one.parent for one in children} == {parent.id}
    assert all(reasons[0] is Reason.OPENED and Reason.STORM in reasons for reasons in said.values())
    assert world.pages() == [parent.id]
    assert parent.facts == {"children": TARGETS}
    assert len(await world.sampled()) == storms.SAMPLES
    assert world.seen() == {}
    assert world.looks - before <= 2 * TARGETS * 5  # once a minute at most, armed and in shadow
    assert (await world.rows())["not_routed"] == []


async def test_a_storm_in_shadow_is_one_parent_and_one_message_too() -> None:
    """What would have been done is one page and no restart: the scorecard must not show eight."""
    world = Stormy(act=())
    await world.broken()
    world.storm(per_post=8)
    await world.live(6 * M)

    (parent,), children = await world.all(Mode.SHADOW)

    assert {(one.phase, one.reason) for one in children} == {(Phase.WAITING, Reason.STORM)}
    assert (parent.phase, parent.mode) == (Phase.EXHAUSTED, Mode.SHADOW)
    assert len(await world.sampled(Mode.SHADOW)) == storms.SAMPLES
    assert (world.pages(), world.seen()) == ([], {})


async def test_when_the_cause_is_gone_the_parent_recovers_and_the_next_storm_is_another_incident() -> None:
    """Children are looked at a few at a time until no more than the limit are left; then the rest is let go, each healthy by itself."""
    world = Stormy()
    await world.broken()
    world.storm(per_post=8)
    await world.live(3 * M)
    world.heal()
    await world.live(12 * M)
    (first,), children = await world.all()
    assert first.phase is Phase.CLOSED
    assert {one.phase for one in children} == {Phase.RECOVERED}

    await world.broken_again()
    await world.live(3 * M)

    parents, _ = await world.all()
    assert len(parents) == 2
    assert len(set(world.pages())) == 2
    assert world.seen() == {}


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_symptoms_at_once_are_one_parent_and_one_page_whatever_the_order(seed: int) -> None:
    """Seven workloads and their seven services: the second cause widens the storm, and calls nobody a second time."""
    world = Stormy(act=("pod-crash-loop", "service-endpoints"))
    world.names = world.names[:7]
    await world.broken()
    for name in world.names:
        ports, selector = [{"name": "http", "port": 80}], {"app": name}
        meta = {"namespace": "shop", "name": name}
        world.cluster.storage.create(
            "v1/services", {"metadata": meta, "spec": {"selector": selector, "ports": ports, "type": "ClusterIP"}}
        )
    alerts = [("KubePodCrashLooping", {"deployment": name}) for name in world.names]
    alerts += [("KubeServiceNoReadyEndpoints", {"service": name}) for name in world.names]
    random.Random(seed).shuffle(alerts)
    for alert, labels in alerts:
        world.alert(alert, namespace="shop", **labels)

    await world.live(3 * M)

    (parent,), children = await world.all()
    assert sorted(parent.causes) == [storms.of_symptom("pod-crash-loop"), storms.of_symptom("service-endpoints")]
    assert {(one.phase, one.reason, one.parent) for one in children} == {(Phase.WAITING, Reason.STORM, parent.id)}
    assert len(children) == 14
    assert world.pages() == [parent.id]
    assert world.seen() == {}


async def test_a_person_who_closes_the_storm_lets_its_children_go_on_within_the_limits() -> None:
    """They are not a storm once more; each rung asks the limits as ever, so that one at a time is restarted, and they are that person's."""
    world = Stormy()
    world.names = world.names[:7]
    await world.broken()
    world.cluster._behaviours.clear()
    for name in world.names:
        world.cluster.break_running("shop", name, CRASH)
    await world.passes(1 * M)
    world.storm(per_post=100)
    await world.live(1 * M)
    (parent,), _ = await world.all()
    assert world.seen() == {}

    await world.app.store.signal(Signal(incident=parent.id, kind=SignalKind.CLOSED, at=world.clock.at, by="ana"))
    await world.live(3 * M)

    (closed,), children = await world.all()
    assert closed.phase is Phase.CLOSED
    assert {one.parent for one in children} == {""}
    assert 1 <= sum(world.seen().values()) <= 3
    assert max(world.seen().values()) == 1

    await world.live(30 * M)

    _, children = await world.all()
    assert [one for one in children if one.phase not in {Phase.RECOVERED, Phase.CLOSED}], "some are sick for good"
    assert {one.escalation.acknowledged_by for one in children} == {"ana"}
    assert world.pages() == [parent.id], "who closed the storm has its children; nobody is called once more for each"


async def test_too_many_unhealthy_nodes_hold_back_everything_in_the_cluster_until_they_are_back() -> None:
    """Two of three nodes: one page, no restart of what crashes on them; when the limit holds again the ladders go on."""
    world = Stormy()
    world.names = ["w00", "w01"]
    for name in world.names:
        world.cluster.deployment("shop", name, image=f"shop/{name}:1", replicas=3, service=False)
    await world.passes(30 * S)
    for name in world.names:
        world.cluster.break_running("shop", name, CRASH)
    for name in ("sandbox-node-0", "sandbox-node-1"):
        world.cluster.behave_node(name, NodeBehaviour(ready=False))
    await world.passes(1 * M)
    for name in world.names:
        world.alert("KubePodCrashLooping", namespace="shop", deployment=name)
    await world.live(3 * M)
    (parent,), children = await world.all()
    assert parent.causes == (storms.UNHEALTHY_NODES,)
    assert "2 of 3 nodes are not Ready" in parent.detail
    assert {(one.phase, one.reason) for one in children} == {(Phase.WAITING, Reason.STORM)}
    assert (world.pages(), world.seen()) == ([parent.id], {})

    world.cluster.wake("sandbox-node-0", "sandbox-node-1")
    await world.live(8 * M)

    (closed,), children = await world.all()
    assert closed.phase is Phase.CLOSED
    assert {one.reason for one in children} <= {
        Reason.RECOVERED,
        Reason.HEALTHY,
        Reason.DONE,
        Reason.IN_FLIGHT,
        Reason.FOREIGN_ACTIVITY,
    }
    assert len(world.pages()) == 1


class SilentView:
    """A cluster that does not answer until it is back; then every workload in it is healthy again and its alerts are wrong."""

    name = "dead"

    def __init__(self) -> None:
        self.back = False
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        if not self.back:
            raise TransientError("no answer within 5 s", system="kubernetes", operation="GET", target="/version")

    async def look_up(self, lookup: Lookup) -> LookupAnswer:
        try:
            self._ask()
        except TransientError as error:
            return LookupAnswer(presence=Presence.UNKNOWN, detail=str(error))
        target = Target(
            kind=TargetKind.WORKLOAD, cluster="dead", namespace=lookup.namespace, name=lookup.name, owner_kind="Deployment"
        )
        return LookupAnswer(presence=Presence.FOUND, targets=(target,))

    async def snapshot(self, target: Target, *, displaced: Any = (), shared: bool = False) -> Snapshot:
        del displaced, shared
        self._ask()
        made = make.snapshot()
        assert made.workload is not None
        return replace(made, target=target, read_at=self.world.clock.now())

    async def answers(self) -> None:
        self._ask()

    async def evidence(self, snapshot: Snapshot) -> list[EvidenceItem]:
        del snapshot
        return []

    world: Stormy


class TwoClusters(Stormy):
    """One answers, the other does not."""

    def __init__(self) -> None:
        super().__init__()
        self.dead = SilentView()
        self.dead.world = self

    def _born(self) -> None:
        super()._born()
        settings = Settings.model_validate(
            {**CONFIG, "clusters": {"sandbox": {"kubeconfig": "x"}, "dead": {"kubeconfig": "x"}}, "act": ["pod-crash-loop"]}
        )
        store = SqlStore(self.runner, self.clock)
        channels: Any = {name: Channel(name, self) for name in settings.channels}
        views: Any = {"sandbox": self.app.views["sandbox"], "dead": self.dead}
        hands: Any = {"sandbox": self.app.supervisor._worker._parts.hands._hands["sandbox"]}
        self._app = composition._assemble(
            settings, self.clock, Metrics(), catalogue(), self.app.rulebook, store, channels, views, hands, {}, None
        )


async def test_a_dead_cluster_is_one_parent_and_one_page_and_the_other_one_goes_on() -> None:
    """Its incidents are parked; it is hardly asked; the other's workload is restarted and proven as if nothing were; back, it needs nobody."""
    world = TwoClusters()
    world.names = ["w00"]
    await world.broken()
    world.cluster._behaviours.clear()
    world.cluster.break_running("shop", "w00", CRASH)
    await world.passes(1 * M)
    for number in range(5):
        world.alert("KubePodCrashLooping", namespace="shop", deployment=f"d{number:02}", cluster="dead")
    world.alert("KubePodCrashLooping", namespace="shop", deployment="w00", cluster="sandbox")
    await world.live(5 * M)
    parents, others = await world.all()
    asked = world.dead.asked
    children = [one for one in others if one.cluster == "dead"]
    (alive,) = [one for one in others if one.cluster == "sandbox"]

    assert [(one.cluster, one.causes) for one in parents] == [("dead", (storms.UNREACHABLE,))]
    assert {(one.phase, one.reason, one.parent) for one in children} == {(Phase.WAITING, Reason.STORM, parents[0].id)}
    assert alive.phase is Phase.RECOVERED
    assert world.pages() == [parents[0].id]
    assert asked < 150

    world.dead.back = True
    await world.live(5 * M)

    parents, others = await world.all()
    unclosed = [one for one in others if one.cluster == "dead" and one.phase is not Phase.CLOSED]
    assert [one.phase for one in parents] == [Phase.CLOSED]
    assert {one.phase for one in unclosed} == {Phase.RECOVERED}
    assert len(unclosed) == 5
    assert len(world.pages()) == 1
