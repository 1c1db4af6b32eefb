"""Why things fail, and what follows from it: A16 cases 27, 41 to 48, 52 to 54."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest

from responder.model.target import Lookup
from responder.policy.facts import facts_of
from tests.cases.stage import CLUSTER, Stage, rule
from tests.cases.standin import CRASHING, FINE, UNREADY, Looks

MISSING = Looks(
    ready=False, waiting="ImagePullBackOff", message='Back-off pulling image "shop/api:1": ErrImagePull: shop/api:1: not found'
)
NO_CONFIG = Looks(ready=False, waiting="CreateContainerConfigError", message='configmap "settings" not found')
OOM = Looks(ready=False, waiting="CrashLoopBackOff", exit_code=137, exit_reason="OOMKilled", restarts=4)
KILLED = Looks(ready=False, waiting="CrashLoopBackOff", exit_code=137, restarts=4)
RESTART = rule("workload.restart")


async def test_27_the_ready_condition_counts_and_not_what_containers_say(stage: Stage) -> None:
    """On a dead node containers go on saying ready=true; the pods count as failing all the same."""
    await stage.serve(RESTART)
    await stage.workload()
    await stage.sick(Looks(ready=False, stale=True))
    stage.clock.forward(timedelta(minutes=5))

    facts = await stage.facts()

    assert facts["failing"] == 2
    assert facts["cause"] == "readiness"


async def test_41_an_image_that_does_not_exist_is_never_restarted(stage: Stage) -> None:
    """New pods would look for the same image."""
    await stage.serve(RESTART)
    await stage.workload()
    await stage.sick(MISSING)

    waiting = await stage.work("cause_not_curable")

    assert waiting.facts["cause"] == "image_missing"
    assert stage.writes() == []


async def test_42_a_missing_configmap_heals_when_it_appears(stage: Stage) -> None:
    """No restart; when the kubelet gets on, the incident recovers by itself."""
    await stage.serve(RESTART)
    await stage.workload()
    await stage.sick(NO_CONFIG)
    waiting = await stage.work("cause_not_curable")
    stage.standin.images.clear()

    await stage.work("recovered")

    assert waiting.facts["cause"] == "config"
    assert stage.writes() == []


async def test_43_out_of_memory_and_a_killed_container_are_told_apart(stage: Stage) -> None:
    """Both end with 137: the reason OOMKilled and the kubelet's event of a failed liveness probe make the difference."""
    await stage.serve(rule({"do": "workload.restart", "when": 'facts.cause == "killed"'}))
    await stage.workload()
    await stage.workload(name="web", image="shop/web:1")
    stage.standin.images["shop/web:1"] = KILLED
    for pod in await stage.pods("web"):
        await stage.event(pod, "Killing", "Container web failed liveness probe, will be restarted")
    await stage.until(lambda: stage.count_pods(2, "web", ready=0), what="web is killed")
    await stage.sick(OOM)

    exhausted = await stage.work("exhausted")

    assert exhausted.facts["cause"] == "oom"
    assert (await stage.facts(name="web"))["cause"] == "killed"
    assert stage.writes() == []


async def test_44_a_failing_init_container_is_the_one_whose_logs_are_kept(stage: Stage) -> None:
    """Current and previous logs of the init container, not of the one that never started."""
    await stage.serve(RESTART)
    await stage.workload(pod={"initContainers": [{"name": "migrate", "image": "shop/migrate:1"}]})
    await stage.sick(Looks(ready=False, waiting="CrashLoopBackOff", exit_code=3, restarts=2, init=True))
    stage.wire.fault = lambda _method, path: (200, {}, b"no such table\n") if "/log?" in path else None

    incident = await stage.work("acting", "verifying", "waiting")

    kept = {
        item.name.split("/", 2)[2]: item.content
        for item in await stage.parts.store.evidence(incident.id)
        if item.name.startswith("logs/")
    }
    assert incident.facts["container"] == "migrate"
    assert kept == {"migrate/current": b"no such table\n", "migrate/previous": b"no such table\n"}


async def test_45_a_crash_loop_on_one_node_only_is_not_the_workloads_fault(stage: Stage) -> None:
    """RULES.md holds: no rollout and no cordon from a workload's incident; people are paged with the evidence."""
    await stage.serve()
    await stage.workload(replicas=4)
    pods = await stage.pods()
    nodes = [pod["spec"]["nodeName"] for pod in pods]
    bad = max(set(nodes), key=nodes.count)
    for pod in pods:
        if pod["spec"]["nodeName"] == bad:
            stage.standin.pods[pod["metadata"]["uid"]] = CRASHING
    await stage.until(lambda: stage.count_pods(4, ready=4 - nodes.count(bad)), what="those on one node crash")
    await stage.alert("KubePodCrashLooping", deployment="api")

    exhausted = await stage.work("exhausted")

    assert nodes.count(bad) > 1
    assert exhausted.facts["one_node"] is True
    assert exhausted.escalation.paged_at is not None
    assert stage.writes() == []


async def test_46_thirty_workloads_at_once_are_one_incident_and_no_restart(stage: Stage) -> None:
    """A dependency failed: one parent is paged, and not one of its children climbs."""
    await stage.serve(RESTART)
    names = [f"w{number:02}" for number in range(30)]
    stage.standin.images["shop/api:1"] = CRASHING
    await asyncio.gather(*(stage.workload(name=name, replicas=1, ready=False) for name in names))
    await asyncio.gather(*(stage.until(lambda one=name: stage.count_pods(1, one, ready=0), what="it is bound") for name in names))  # type: ignore[misc]
    for name in names:
        await stage.alert(deployment=name)

    for _ in range(10):
        await stage.turn(timedelta(seconds=12))

    found = await stage.incidents()
    parents = [one for one in found if one.symptom.startswith("storm:")]
    assert len(found) == 31
    assert [one.escalation.paged_at is not None for one in parents] == [True]
    assert {str(one.reason) for one in found if one not in parents} == {"storm"}
    assert stage.writes() == []


async def test_47_an_alert_for_a_pod_that_is_gone_finds_its_owner_and_may_be_nothing(stage: Stage) -> None:
    """The owner is found through the ReplicaSet's name, and is healthy: nothing is done."""
    await stage.serve(rule("workload.restart"))
    await stage.workload()
    gone = (await stage.pods())[0]["metadata"]["name"]
    await stage.delete("pods", gone, "v1")
    await stage.until(lambda: stage.count_pods(2, ready=2), what="it was replaced")
    await stage.until(stage.ready, what="the status says so")
    await stage.alert(pod=gone)

    done = await stage.work("recovered")

    assert (done.target.owner_kind, done.target.name) == ("Deployment", "api")
    assert stage.writes() == []


async def test_48_resolved_is_a_question_and_a_sick_workload_is_still_cured(stage: Stage) -> None:
    """RULES.md holds: the alert resolves while the rung waits, the workload is unhealthy, so the ladder goes on."""
    await stage.serve(RESTART)
    await stage.workload()
    await stage.sick(CRASHING)
    await stage.work("group_wait")
    await stage.alert(status="resolved", deployment="api")

    await stage.work("verifying")

    assert len(stage.writes()) == 1


async def test_48_resolved_and_healthy_cancels_what_was_waiting(stage: Stage) -> None:
    """Health decides: nothing is done to a workload that is well again."""
    await stage.serve(RESTART)
    await stage.workload()
    await stage.sick(CRASHING)
    await stage.work("group_wait")
    stage.standin.images["shop/api:1"] = FINE
    await stage.until(lambda: stage.count_pods(2, ready=2), what="it is well again")
    await stage.until(stage.ready, what="the status says so")
    await stage.alert(status="resolved", deployment="api")

    await stage.work("recovered")

    assert stage.writes() == []


LONG = b"".join(b"%06d %s\n" % (number, b"x" * 990) for number in range(20_000)) + b"FATAL: disk on fire\n"


@pytest.mark.parametrize(
    "log",
    [b'{"n": 1.10, "ok": true}\n', b"\xff\xfe\x00 not text\n", b"line\n" * 700_000, LONG, b"x" * (3 << 20)],
    ids=["json", "binary", "many lines", "long lines", "one line"],
)
async def test_52_logs_are_kept_byte_for_byte_and_bounded(stage: Stage, log: bytes) -> None:
    """Whatever the bytes, and of a log beyond the bound its last words; one that is missing is an item that says why, and the ladder goes on."""
    await stage.serve(RESTART)
    await stage.workload()
    await stage.sick(CRASHING)

    def kubelet(_method: str, path: str) -> Any:
        if "/log?" not in path:
            return None
        if "previous=true" in path:
            return 400, {}, {"kind": "Status", "message": "previous terminated container not found", "code": 400}
        query = parse_qs(path.partition("?")[2])
        tail = b"".join(log.splitlines(keepends=True)[-int(query["tailLines"][0]) :])
        return 200, {"Content-Type": "text/plain"}, tail[: int(query["limitBytes"][0])]

    stage.wire.fault = kubelet

    incident = await stage.work("verifying")

    kept = [item for item in await stage.parts.store.evidence(incident.id) if item.name.startswith("logs/")]
    current = [item for item in kept if item.name.endswith("/current")]
    last = b"".join(log.splitlines(keepends=True)[-5_000:])
    for item in current:
        assert item.content
        assert len(item.content) <= 1 << 20
        assert (last if b"\n" in last else last[: 1 << 20]).endswith(item.content)
        assert item.truncated == (item.content != last)
    assert all("not found" in item.problem for item in kept if item.name.endswith("/previous"))
    assert len(stage.writes()) == 1


async def test_53_events_are_kept_although_the_cluster_forgets_them(stage: Stage) -> None:
    """They were captured when the alert came; an hour later only the evidence still has them."""
    await stage.serve(RESTART)
    await stage.workload()
    pod = (await stage.pods())[0]
    name = await stage.event(pod, "BackOff", "Back-off restarting failed container: disk on fire")
    await stage.sick(CRASHING)
    incident = await stage.work("verifying")
    await stage.delete("events", name, "v1")

    (summary,) = [item for item in await stage.parts.store.evidence(incident.id) if item.name == "summary"]

    assert b"disk on fire" in summary.content


async def test_54_five_causes_of_no_ready_endpoint_are_told_apart(stage: Stage) -> None:
    """Scaled to zero, a selector that matches nothing, pods not ready, a port name that no pod has, and pods that only terminate."""
    await stage.serve(RESTART)
    view = stage.parts.views[CLUSTER]

    async def service(name: str, app: str, port: Any = 8080) -> None:
        ports = [{"name": "http", "port": 80, "targetPort": port}]
        await stage.create("services", {"metadata": {"name": name}, "spec": {"selector": {"app": app}, "ports": ports}})

    await stage.workload(name="zero", replicas=0)
    await stage.workload(name="other")
    await stage.workload(name="sick", image="shop/sick:1")
    await stage.workload(name="port")
    await stage.workload(name="leaving")
    for name, app, port in (
        ("zero", "zero", 80),
        ("match", "nobody", 80),
        ("sick", "sick", 80),
        ("port", "port", "metrics"),
        ("leaving", "leaving", 80),
    ):
        await service(name, app, port)
    stage.standin.images["shop/sick:1"] = UNREADY
    stage.standin.held |= {pod["metadata"]["name"] for pod in await stage.pods("leaving")}
    await stage.patch("deployments", "leaving", {"spec": {"replicas": 0}})

    async def cause(name: str) -> Any:
        answer = await view.look_up(Lookup(kind="Service", cluster=CLUSTER, namespace=stage.namespace, name=name))
        return facts_of(await view.snapshot(answer.targets[0]), now=stage.clock.now())[0].get("service_cause")

    wanted = {"zero": "scaled_to_zero", "match": "no_match", "sick": "not_ready", "port": "port", "leaving": "terminating"}

    async def told() -> bool:
        return {name: await cause(name) for name in wanted} == wanted

    try:
        await stage.until(told, what="each has its own cause")
    except TimeoutError:
        assert {name: await cause(name) for name in wanted} == wanted
    stage.standin.held.clear()
