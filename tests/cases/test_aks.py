"""Cases 26 and 61-63: node pools and machines of an AKS double, driven by the program's own parts with the unmodified SDKs over TLS.

The nodes are real objects of whichever cluster the cases run on: the double makes and removes them through its API.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from responder.model.incident import Incident, Mode, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.storing import ModeRow, StoredChange
from responder.policy.roles import OPERATION_READ
from responder.sandbox.aks import Asked, Fault, SandboxAzure
from responder.sandbox.aks_nodes import ApiNodes
from responder.sandbox.aks_state import Aks
from responder.service.worker import Worker
from tests.azure import ASSERTION, access
from tests.cases.stage import CLUSTER, Stage, rule

PUT = "agentPools/work"
DELETE = "/deleteMachines"


@dataclass(slots=True)
class OnAks:
    """The stage with a managed cluster behind it: pools ``system`` (3) and ``work`` (3)."""

    stage: Stage
    double: SandboxAzure
    aks: Aks
    nodes: ApiNodes

    def asked(self, end: str) -> list[Asked]:
        return [one for one in self.double.asked if one.path.endswith(end) and one.method in {"PUT", "POST"}]

    async def sick(self, pool: str = "work") -> str:
        """Let the pool's first node fall silent, and say so."""
        name = next(iter(self.aks.pools[pool].machines))
        await self.nodes.ready(name, "Unknown", "NodeStatusUnknown")
        await self.stage.alert(node=name)
        return name

    async def approve(self, incident: Incident) -> None:
        assert incident.approval is not None
        body = {"digest": incident.approval.digest}
        vote = Signal(incident=incident.id, kind=SignalKind.APPROVED, at=self.stage.clock.now(), by="ana", body=body)
        await self.stage.parts.store.signal(vote)

    async def approved(self) -> Incident:
        incident = await self.stage.work("approval")
        await self.approve(incident)
        return incident

    def next_life(self) -> None:
        """Let the process die and another one take its incidents over: nothing is left of the first but the store."""
        parts = self.stage._workers[0]._parts
        reader, hands = parts.reader, parts.hands
        cloud = reader._clouds[CLUSTER]
        again = type(cloud)(cloud.name, cloud.resource_id, cloud._identity, now=self.stage.clock.now)  # type: ignore[call-arg, attr-defined]
        reader._clouds = hands._clouds = {CLUSTER: again}
        self.stage._stack.push_async_callback(again.close)
        self.stage._workers = [Worker(parts, owner="the next life")]

    async def machines(self) -> list[str]:
        return list(self.aks.pools["work"].machines)


@pytest.fixture
async def on_aks(stage: Stage, tmp_path: Path) -> AsyncIterator[OnAks]:
    """An AKS cluster whose nodes are the stage's."""
    configuration = stage.api._access.configuration  # the world's own identity; the service's may not make nodes
    assert configuration is not None
    token = str(configuration.api_key.get("BearerToken", "none")).removeprefix("Bearer ")
    nodes = ApiNodes(stage.wire.upstream, token=token, now=stage.clock.now)
    async with SandboxAzure(tmp_path, now=stage.clock.now) as double:
        aks = double.cluster("prod", nodes=nodes, takes=60.0)
        await aks.pool("system", 3, mode="System")
        await aks.pool("work", 3)
        how = access(double, tmp_path)
        stage.azure = {
            "client_id": how.client_id, "tenant_id": how.tenant_id, "token_file": how.token_file, "authority": how.authority,
            "endpoint": how.endpoint, "ca_file": how.ca_file,
        }  # fmt: skip
        stage.resource_id = aks.resource_id
        assert double.entra.assertion == ASSERTION
        try:
            yield OnAks(stage=stage, double=double, aks=aks, nodes=nodes)
        finally:
            for name in [one for pool in aks.pools.values() for one in pool.machines]:
                await nodes.remove(name)


def of_node(*ladder: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a rule for nodes, proven by their pool."""
    return rule(*ladder, target="node", healthy=["node_pool.at_count"], guards={}, **more)


REPLACE = {"name": "replace", "do": ["node_pool.delete_machine", {"node_pool.scale": {"to": "previous"}}], "within": "20m"}
CORDONED = {
    "name": "replace",
    "do": ["node.cordon", "node_pool.delete_machine", {"node_pool.scale": {"to": "previous"}}],
    "within": "20m",
}
GROW = {"name": "grow", "do": {"node_pool.scale": {"by": 1}}, "within": "20m"}


async def test_26_the_machine_is_deleted_and_the_node_left_to_the_cloud(on_aks: OnAks) -> None:
    """Deleting the Node object would leave the machine running: ARM is asked for the machine by its name in the pool.

    The pool gets its count back. The Node goes when its machine is gone.
    """
    await on_aks.stage.serve(of_node(REPLACE))
    sick = await on_aks.sick()

    await on_aks.approved()
    await on_aks.stage.work("verifying")
    await on_aks.stage.alert(status="resolved", node=sick)
    incident = await on_aks.stage.work("recovered")

    assert sick not in await on_aks.machines()
    assert len(await on_aks.machines()) == 3
    assert [one.body for one in on_aks.asked(DELETE)] == [{"machineNames": [sick]}]
    assert [one.body["properties"]["count"] for one in on_aks.asked(PUT)] == [3]
    assert not [one for one in on_aks.stage.writes() if one.method == "DELETE"]
    assert "delete machine" in " ".join(entry.text for entry in await on_aks.stage.parts.store.timeline(incident.id))


async def test_61_a_stale_etag_is_read_again_and_only_one_operation_is_begun(on_aks: OnAks) -> None:
    """Somebody changes the pool's labels between our look and our PUT: 412, looked again, one change."""
    await on_aks.stage.serve(of_node(GROW))
    on_aks.double.faults.append(Fault(path=f"{PUT}$", method="PUT", status=412, code="PreconditionFailed"))
    await on_aks.sick()

    await on_aks.stage.work("verifying")

    puts = on_aks.asked(PUT)
    assert [one.body["properties"]["count"] for one in puts] == [4, 4]
    assert all(one.headers["If-Match"] for one in puts)
    assert len(await on_aks.machines()) == 4


async def test_61_an_operation_in_progress_is_waited_for_and_none_is_begun_beside_it(on_aks: OnAks) -> None:
    """An upgrade begins between our look and our PUT: 409. It is not ours, so it is neither aborted nor raced."""
    await on_aks.stage.serve(of_node(GROW))
    said = "Operation is not allowed: Another operation (Upgrading) is in progress"
    on_aks.double.faults.append(Fault(path=f"{PUT}$", method="PUT", status=409, code="OperationNotAllowed", says=said))
    await on_aks.sick()

    await on_aks.stage.work("verifying")

    assert len(on_aks.asked(PUT)) == 2
    assert not on_aks.asked("/abort")
    assert len(await on_aks.machines()) == 4


async def test_61_an_upgrade_that_runs_already_refuses_before_anything_is_sent(on_aks: OnAks) -> None:
    """The pool says Upgrading: foreign activity, waited for; when it is over the rung runs."""
    await on_aks.stage.serve(of_node(GROW))

    async def over() -> None:
        return None

    on_aks.aks.seconds["upgrade"] = 300
    on_aks.aks.begin("upgrade", state="Upgrading", on="work", finish=over, by="somebody")
    await on_aks.sick()

    held = await on_aks.stage.work("foreign_activity")
    sent = len(on_aks.asked(PUT))
    await on_aks.stage.work("verifying", most=timedelta(minutes=30))

    assert "Upgrading" in held.detail
    assert sent == 0
    assert len(on_aks.asked(PUT)) == 1


async def test_62_another_life_takes_the_operation_up_by_its_token(on_aks: OnAks) -> None:
    """The process dies while the pool scales; the next one asks for the operation's end and sends nothing again."""
    await on_aks.stage.serve(of_node(GROW))
    on_aks.aks.takes = 240.0
    await on_aks.sick()
    await _dies_after_its_write(on_aks)

    stored = await on_aks.stage.incident()
    on_aks.next_life()
    on_aks.double.asked.clear()
    await on_aks.stage.work("verifying")

    assert stored.command is not None
    assert [bool(one.token) for one in stored.command.attempts] == [True]
    assert not on_aks.asked(PUT)
    assert [one for one in on_aks.double.asked if "/operations/" in one.path]
    assert len(await on_aks.machines()) == 4


async def test_62_a_deletion_whose_answer_is_lost_is_never_sent_again(on_aks: OnAks) -> None:
    """The connection breaks after ARM took it: the world shows that it was begun, and that is enough."""
    await on_aks.stage.serve(of_node(REPLACE))
    on_aks.double.faults.append(Fault(path=DELETE, after=True))
    sick = await on_aks.sick()

    await on_aks.approved()
    await on_aks.stage.work("verifying")

    assert len(on_aks.asked(DELETE)) == 1
    assert sick not in await on_aks.machines()


async def test_62_a_deletion_of_which_nothing_shows_goes_to_a_person(on_aks: OnAks) -> None:
    """No answer came and no trace is seen: it may still be on its way, so it is not sent again."""
    await on_aks.stage.serve(of_node(REPLACE))
    on_aks.double.faults.append(Fault(path=DELETE, status=500, times=9))
    await on_aks.sick()

    await on_aks.approved()
    incident = await on_aks.stage.work("cannot_be_known")

    assert len(on_aks.asked(DELETE)) == 1
    assert "nothing shows what came of it" in incident.detail


async def test_62_a_deletion_of_unknown_fate_is_not_called_failed_when_its_time_is_over(on_aks: OnAks) -> None:
    """A rung that failed leads to the next one; what cannot be known leads to a person, also before the look at it is over."""
    await on_aks.stage.serve(of_node({**REPLACE, "within": "1m"}, {**GROW, "within": "5m"}))
    on_aks.double.faults.append(Fault(path=DELETE, status=500, times=9))
    await on_aks.sick()

    await on_aks.approved()
    await on_aks.stage.work("cannot_be_known")

    assert len(on_aks.asked(DELETE)) == 1
    assert not on_aks.asked(PUT)


async def at_the_deletion(on_aks: OnAks, then: Callable[[], Awaitable[None]]) -> None:
    """Do something once while the machine is being deleted, before the rung's second step."""
    clock = on_aks.stage.clock
    beat = clock.slept

    async def slept() -> None:
        if beat is not None:
            await beat()
        if on_aks.asked(DELETE) and clock.slept is slept:
            clock.slept = beat
            await then()

    clock.slept = slept


async def test_a_rung_that_is_paused_between_its_two_steps_gives_the_pool_its_count_back(on_aks: OnAks) -> None:
    """Two of two Ready is healthy, and one machine too few: the count is owed from the intention on."""
    await on_aks.stage.serve(of_node(REPLACE))
    await on_aks.sick()
    incident = await on_aks.approved()
    store = on_aks.stage.parts.store
    owed: list[StoredChange] = []

    async def pause() -> None:
        await store.signal(Signal(incident=incident.id, kind=SignalKind.PAUSED, at=on_aks.stage.clock.now(), by="ana"))
        owed.extend(await store.owed())

    await at_the_deletion(on_aks, pause)
    stopped = await on_aks.stage.work("paused")
    await on_aks.stage.work("recovered")
    await on_aks.stage.turn()
    sent = [one.body["properties"]["count"] for one in on_aks.asked(PUT)]
    await audits(on_aks, times=3)

    assert str(stopped.runs[-1].outcome) == "stopped"
    assert [one.change.field for one in owed] == ["count"]
    assert len(on_aks.asked(DELETE)) == 1
    assert sent == [one.body["properties"]["count"] for one in on_aks.asked(PUT)] == [3]
    assert await store.owed() == []


async def test_the_kill_switch_between_the_two_steps_sends_nothing_and_lists_the_count(on_aks: OnAks) -> None:
    """The operation in progress ends by itself; the pool stays one short until it is armed again, and the auditor finds what is owed."""
    await on_aks.stage.serve(of_node(REPLACE))
    await on_aks.sick()
    await on_aks.approved()
    store = on_aks.stage.parts.store

    async def switch(mode: Mode) -> None:
        await store.set_mode(ModeRow(scope="global", mode=mode, by="ana", at=on_aks.stage.clock.now()))

    await at_the_deletion(on_aks, lambda: switch(Mode.OFF))
    await on_aks.stage.work("kill_switch")
    await on_aks.stage.go_on(timedelta(minutes=5))
    sent, machines, owed = len(on_aks.asked(PUT)), len(await on_aks.machines()), await store.owed()
    await switch(Mode.ARMED)
    await audits(on_aks, times=3)

    assert (sent, machines) == (0, 2)
    assert [(one.change.field, one.change.before, one.change.after) for one in owed] == [("count", 3, 2)]
    assert [one.body["properties"]["count"] for one in on_aks.asked(PUT)] == [3]
    assert len(on_aks.asked(DELETE)) == 1
    assert await store.owed() == []


async def test_a_replaced_machine_leaves_nothing_owed(on_aks: OnAks) -> None:
    """The rung's own second step gave the count back; what was noted for the case that it is not reached is settled with the rung."""
    await on_aks.stage.serve(of_node(REPLACE))
    await on_aks.sick()

    await on_aks.approved()
    await on_aks.stage.work("verifying")
    await on_aks.stage.turn()

    assert await on_aks.stage.parts.store.owed() == []
    assert [one.body["properties"]["count"] for one in on_aks.asked(PUT)] == [3]


async def test_62_a_deletion_that_was_refused_may_be_sent_again(on_aks: OnAks) -> None:
    """409 and 429 say that nothing was begun."""
    await on_aks.stage.serve(of_node(REPLACE))
    on_aks.double.faults += [Fault(path=DELETE, status=429, headers={"Retry-After": "20"})]
    await on_aks.sick()

    await on_aks.approved()
    await on_aks.stage.work("verifying")

    assert len(on_aks.asked(DELETE)) == 2


async def test_63_a_machine_of_the_last_system_pool_with_two_nodes_stays(on_aks: OnAks) -> None:
    """Refused when it is planned: nobody is even asked."""
    await on_aks.stage.serve(of_node(REPLACE))
    await on_aks.aks.scale(on_aks.aks.pools["system"], 2)
    await on_aks.sick("system")

    incident = await on_aks.stage.work("last_system_nodes")

    assert "last System pool" in incident.detail
    assert not on_aks.asked(DELETE)


async def test_a_machine_that_is_not_proven_dead_and_carries_pods_is_not_deleted(on_aks: OnAks) -> None:
    """A silent kubelet is not a dead machine; what runs there would be cut off without a drain."""
    await on_aks.stage.serve(of_node(CORDONED))
    name = next(iter(on_aks.aks.pools["work"].machines))
    await on_aks.stage.on(name, replicas=1)
    await on_aks.nodes.ready(name, "Unknown", "NodeStatusUnknown")
    await on_aks.stage.alert(node=name)

    await on_aks.approved()
    incident = await on_aks.stage.work("not_drained")

    assert "not drained" in incident.detail
    assert not on_aks.asked(DELETE)


async def test_a_silent_nodes_machine_goes_when_what_was_on_it_is_evicted(on_aks: OnAks) -> None:
    """Nobody confirms that its pods have ended, so they terminate for ever: the machine's end is theirs, with a person's approval."""
    move = {"name": "move pods", "do": ["node.cordon", "node.drain"], "within": "1m"}
    await on_aks.stage.serve(of_node(move, REPLACE))
    name = next(iter(on_aks.aks.pools["work"].machines))
    await on_aks.stage.on(name, replicas=1)
    await on_aks.nodes.ready(name, "Unknown", "NodeStatusUnknown")
    await on_aks.stage.alert(node=name)

    waiting = await on_aks.approved()
    await on_aks.stage.work("verifying")

    assert [(run.rung, str(run.outcome)) for run in waiting.runs] == [("move pods", "done")]
    assert len(on_aks.asked(DELETE)) == 1
    assert name not in await on_aks.machines()


async def test_a_machine_that_is_deallocated_needs_no_drain(on_aks: OnAks) -> None:
    """Its own instance view is the proof."""
    await on_aks.stage.serve(of_node(CORDONED))
    name = next(iter(on_aks.aks.pools["work"].machines))
    await _pod_on(on_aks.stage, name)
    on_aks.aks.pools["work"].machines[name].power = "deallocated"
    await on_aks.nodes.ready(name, "Unknown", "NodeStatusUnknown")
    await on_aks.stage.alert(node=name)

    await on_aks.approved()
    await on_aks.stage.work("verifying")

    assert len(on_aks.asked(DELETE)) == 1


async def test_a_quota_that_is_used_up_fails_with_the_clouds_own_words(on_aks: OnAks) -> None:
    """The operation answers 200 and Failed; people read why."""
    await on_aks.stage.serve(of_node(GROW))
    on_aks.aks.quota = 6
    await on_aks.sick()

    incident = await on_aks.stage.work("exhausted")

    assert incident.runs[-1].reason is Reason.CLOUD_QUOTA
    assert "Cores quota" in incident.runs[-1].detail
    assert len(on_aks.asked(PUT)) == 1


async def test_a_failure_that_may_not_be_asked_for_is_not_begun_again(on_aks: OnAks) -> None:
    """Operations lie on the subscription: without a role there, only the pool says that it came to nothing, and one request is enough."""
    await on_aks.stage.serve(of_node(GROW))
    on_aks.aks.quota = 6
    on_aks.double.denied = {OPERATION_READ}
    await on_aks.sick()

    incident = await on_aks.stage.work("exhausted")

    assert "pool work is Failed at 3, planned to 4" in incident.runs[-1].detail
    assert len(on_aks.asked(PUT)) == 1


async def test_an_autoscaled_pools_minimum_is_given_back_at_recovery(on_aks: OnAks) -> None:
    """Raised for the incident, and only while it is still ours."""
    work = on_aks.aks.pools["work"]
    work.autoscaled, work.minimum, work.maximum = True, 2, 6
    await on_aks.stage.serve(of_node(GROW))
    name = await on_aks.sick()

    await on_aks.stage.work("verifying")
    raised = work.minimum
    await on_aks.nodes.ready(name, "True")
    await on_aks.stage.work("recovered")
    on_aks.stage.clock.forward(timedelta(minutes=2))
    await on_aks.double.tick()

    assert raised == 4
    assert work.minimum == 2
    await audits(on_aks, times=2)
    assert await on_aks.stage.parts.store.owed() == []


async def _raised(on_aks: OnAks) -> str:
    """Let an autoscaled pool's minimum be raised for an incident; return the node that is sick."""
    work = on_aks.aks.pools["work"]
    work.autoscaled, work.minimum, work.maximum = True, 2, 6
    await on_aks.stage.serve(of_node(GROW))
    name = await on_aks.sick()
    await on_aks.stage.work("verifying")
    assert work.minimum == 4
    await on_aks.nodes.ready(name, "True")
    return name


async def test_a_minimum_is_owed_until_the_pool_shows_it(on_aks: OnAks) -> None:
    """ARM takes the request, and the operation fails minutes later: taken is not done. It is sent again, and settled by what the pool says."""
    await _raised(on_aks)
    on_aks.aks.fails["Microsoft.ContainerService/managedClusters/agentPools/write"] = (
        "InternalOperationError",
        "something is wrong",
    )

    incident = await on_aks.stage.work("recovered")
    taken = await on_aks.stage.parts.store.owed()
    await audits(on_aks, times=4)

    assert [one.change.field for one in taken] == ["minCount"]
    assert [one.body["properties"]["minCount"] for one in on_aks.asked(PUT)] == [4, 2, 2]
    assert on_aks.aks.pools["work"].minimum == 2
    assert await on_aks.stage.parts.store.owed() == []
    told = [one.text for one in await on_aks.stage.parts.store.timeline(incident.id)]
    assert any("given back: node pool work minCount is 2" in one for one in told)


async def test_a_pool_that_changed_between_the_look_and_the_write_is_looked_at_again(on_aks: OnAks) -> None:
    """412 says that the pool is another one now, as after a step of the autoscaler; the minimum is ours all the same, and owed."""
    await _raised(on_aks)
    on_aks.double.faults.append(Fault(path=PUT + "$", method="PUT", status=412, code="PreconditionFailed"))

    await on_aks.stage.work("recovered")
    refused = await on_aks.stage.parts.store.owed()
    await audits(on_aks, times=5)

    assert [one.change.field for one in refused] == ["minCount"]
    assert on_aks.aks.pools["work"].minimum == 2
    assert await on_aks.stage.parts.store.owed() == []


async def audits(on_aks: OnAks, *, times: int) -> None:
    """Let the auditor look so often, two minutes apart."""
    auditor: Any = on_aks.stage.parts.supervisor.beside["auditor"]
    for _ in range(times):
        on_aks.stage.clock.forward(timedelta(minutes=2, seconds=5))
        await on_aks.double.tick()
        await auditor.__self__._pay()


async def _dies_after_its_write(on_aks: OnAks) -> None:
    """Let the worker die right after ARM took its write and the token was stored."""
    hands = on_aks.stage._workers[0]._parts.hands
    store = hands.store_progress

    class DeadError(BaseException):
        pass

    async def stored(*given: Any, **more: Any) -> None:
        await store(*given, **more)
        if on_aks.asked(PUT):
            hands.store_progress = store  # type: ignore[method-assign]
            raise DeadError

    hands.store_progress = stored  # type: ignore[method-assign]
    with contextlib.suppress(DeadError, BaseExceptionGroup):
        await on_aks.stage.work("verifying")


async def _pod_on(stage: Stage, node: str) -> None:
    """Bind a pod of a workload to a node by hand."""
    await stage.workload(replicas=1, ready=False)
    await stage.until(lambda: stage.count_pods(1), what="the pod is there")
    (pod,) = await stage.pods()
    if pod["spec"].get("nodeName") != node:
        owner = pod["metadata"]["ownerReferences"]
        body = {
            "metadata": {"name": "held", "labels": {"app": "held"}, "ownerReferences": owner},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        }
        stage.standin.held.add("held")
        await stage.create("pods", body)
