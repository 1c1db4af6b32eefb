"""Evictions and deletions of one pod: A16 cases 1 to 7, 50, 51 and 67."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from responder.model.action import Verb, Write
from responder.model.errors import ContestedError, GoneError, RejectedError
from tests.cases.stage import CLUSTER, Stage, rule
from tests.cases.standin import CRASHING, Looks
from tests.cases.wire import Sent

SOON = timedelta(seconds=5)


async def one_sick(stage: Stage, name: str = "api") -> Any:
    """Let the last pod of a workload crash, and return it."""
    pods = sorted(await stage.pods(name), key=lambda pod: str(pod["metadata"]["name"]))
    stage.standin.pods[pods[-1]["metadata"]["uid"]] = CRASHING
    await stage.until(lambda: stage.count_pods(len(pods), name, ready=len(pods) - 1), what="one crashes")
    return pods[-1]


def evictions(stage: Stage) -> list[Sent]:
    return [one for one in stage.writes() if one.path.endswith("/eviction")]


def removal(stage: Stage, verb: Verb, pod: Any, uid: str) -> Write:
    name = pod["metadata"]["name"]
    return Write(key="k", verb=verb, api="v1", plural="pods", namespace=stage.namespace, name=name, uid=uid, says="x")


def hands(stage: Stage) -> Any:
    return stage._workers[0]._parts.hands._hands[CLUSTER]


async def test_01_a_budgets_429_is_waited_for_and_tried_again(stage: Stage) -> None:
    """It carries no Retry-After: the next try is at least five seconds later, and succeeds once the budget allows it."""
    await stage.serve(rule("pod.evict"))
    await stage.workload(replicas=3)
    await stage.budget("api", minAvailable=1)
    sick = await one_sick(stage)

    async def relax() -> None:
        await stage.budget("api", minAvailable=1)

    async def tighten() -> None:
        await stage.budget("api", minAvailable=3)
        stage.wire.before = relax

    stage.wire.before = tighten
    await stage.alert(deployment="api")

    await stage.work("recovered")

    tried = evictions(stage)
    assert [one.status for one in tried] == [429, 201]
    assert tried[1].at - tried[0].at >= timedelta(seconds=5)
    assert {one.path.split("/")[-2] for one in tried} == {sick["metadata"]["name"]}


async def test_02_an_overloaded_api_server_is_left_alone_by_the_whole_client(stage: Stage) -> None:
    """A 429 with Retry-After is no budget's: for that long not even a read is sent, then the rung goes on."""
    await stage.serve(rule("pod.evict"))
    await stage.workload(replicas=3)
    await one_sick(stage)
    told: list[int] = []

    def overloaded(method: str, path: str) -> Any:
        if told or not path.endswith("/eviction"):
            return None
        told.append(len(stage.wire.sent))
        said = {"kind": "Status", "reason": "TooManyRequests", "message": "too many requests", "code": 429}
        return 429, {"Retry-After": "1"}, said

    stage.wire.fault = overloaded
    await stage.alert(deployment="api")

    await stage.work("recovered")

    after = stage.wire.sent[told[0] + 1]
    assert [one.status for one in evictions(stage)] == [429, 201]
    assert after.at - stage.wire.sent[told[0]].at >= timedelta(seconds=1)


async def test_03_two_budgets_are_named_and_nothing_is_tried(stage: Stage) -> None:
    """The API would answer 500 for ever: refused before the first write; sent all the same, it is rejected for good and not repeated."""
    await stage.serve(rule("pod.evict"))
    await stage.workload(replicas=3)
    await stage.budget("first", minAvailable=1)
    await stage.budget("second", minAvailable=1)
    sick = await one_sick(stage)
    await stage.alert(deployment="api")

    waiting = await stage.work("budget_blocks")

    assert "first, second" in waiting.detail
    assert stage.writes() == []
    with pytest.raises(RejectedError):
        await hands(stage).write(removal(stage, Verb.EVICT, (await stage.pods())[0], ""), within=SOON)
    assert sick["metadata"]["name"] in {pod["metadata"]["name"] for pod in await stage.pods()}


async def test_04_a_broken_pod_behind_a_budget_at_its_floor_is_reported(stage: Stage) -> None:
    """RULES.md holds: there is no bypass. The page has the budget's numbers, and nothing is evicted or deleted."""
    await stage.serve(rule("pod.evict", "pod.delete"))
    await stage.workload(replicas=3)
    await stage.budget("api", minAvailable=3)
    await one_sick(stage)
    await stage.alert(deployment="api")

    waiting = await stage.work("budget_blocks")
    await stage.go_on(timedelta(minutes=2))

    assert "needs 3 healthy pods and has 2" in waiting.detail
    assert stage.writes() == []


async def test_05_an_eviction_for_another_uid_spends_no_budget(stage: Stage) -> None:
    """The UID is read before: nothing is sent, and the budget allows as much as it did."""
    await stage.serve(rule("pod.evict"))
    await stage.workload(replicas=3)
    await stage.budget("api", minAvailable=1)
    pod = (await stage.pods())[0]

    async def allowed() -> int:
        return int((await stage.get("poddisruptionbudgets", "api", "policy/v1"))["status"]["disruptionsAllowed"])

    before = await allowed()

    with pytest.raises(GoneError):
        await hands(stage).write(removal(stage, Verb.EVICT, pod, "00000000-0000-0000-0000-000000000000"), within=SOON)

    assert await allowed() == before == 2
    assert evictions(stage) == []


async def test_06_a_statefulset_pod_made_anew_during_the_wait_is_not_evicted(stage: Stage) -> None:
    """While the budget blocks, the sick pod is replaced by one of the same name: the new one is left alone."""
    await stage.serve(rule("pod.evict"))
    await stage.workload("statefulsets", "db")
    await stage.budget("db", "db", minAvailable=1)
    sick = await one_sick(stage, "db")
    beat = stage.clock.slept

    async def tighten() -> None:
        await stage.budget("db", "db", minAvailable=2)

    async def replaced_meanwhile() -> None:
        assert beat is not None
        await beat()
        if evictions(stage) and stage.clock.slept is replaced_meanwhile:
            stage.clock.slept = beat
            await stage.delete("pods", "db-1", "v1")
            await stage.until(lambda: stage.count_pods(2, "db", ready=2), what="db-1 is another pod")
            await stage.budget("db", "db", minAvailable=1)

    stage.wire.before, stage.clock.slept = tighten, replaced_meanwhile
    await stage.alert(statefulset="db")

    await stage.work("recovered")

    now = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await stage.pods("db")}
    assert [one.status for one in evictions(stage)] == [429]
    assert now["db-1"] != sick["metadata"]["uid"]


async def test_07_a_pod_that_only_terminates_is_no_progress(stage: Stage) -> None:
    """Evicting it again would answer 201 for ever: one eviction, then a bounded wait that ends by naming the finalizer."""
    await stage.serve(rule({"do": "pod.evict", "within": "3m"}))
    await stage.workload(replicas=3)
    sick = await one_sick(stage)
    name = sick["metadata"]["name"]
    await stage.patch("pods", name, {"metadata": {"finalizers": ["example.org/hold"]}}, "v1")
    await stage.alert(deployment="api")

    done = await stage.work("verifying", "exhausted", "recovered")

    assert len(evictions(stage)) == 1
    assert done.runs[-1].outcome == "failed"
    assert "finalizer example.org/hold" in done.runs[-1].detail
    await stage.api.send(
        "PATCH",
        stage.path("pods", name, "v1"),
        body={"metadata": {"finalizers": None}},
        content_type="application/merge-patch+json",
    )


async def test_50_a_jobs_pod_is_not_deleted(stage: Stage) -> None:
    """Deleting it may repeat work that was done: evidence and a page."""
    await stage.serve(rule("pod.delete", target="pod", healthy=["pod.ready"]))
    container = {"name": "load", "image": "shop/api:1"}
    template = {"metadata": {"labels": {"app": "load"}}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    stage.standin.images["shop/api:1"] = CRASHING
    await stage.create("jobs", {"metadata": {"name": "load"}, "spec": {"backoffLimit": 3, "template": template}}, "batch/v1")
    await stage.until(lambda: stage.count_pods(1, "load", ready=0), what="the Job has a pod")
    (pod,) = await stage.pods("load")
    await stage.alert(pod=pod["metadata"]["name"])

    waiting = await stage.work("job_pod")

    assert "Job load" in waiting.detail
    assert stage.writes() == []


async def test_50_a_cronjobs_failed_job_leaves_the_evidence_of_its_newest_run(stage: Stage) -> None:
    """A7: a failed Job is evidence only. The target is the CronJob, one incident for all its runs; the logs and the object are the last run's."""
    await stage.serve(rule("workload.restart"))
    container = {"name": "nightly", "image": "shop/api:1"}
    template = {"metadata": {"labels": {"app": "nightly"}}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"backoffLimit": 0, "template": template}
    cron = {"schedule": "0 3 * * *", "suspend": True, "jobTemplate": {"spec": spec}}
    made = await stage.create("cronjobs", {"metadata": {"name": "nightly"}, "spec": cron}, "batch/v1")
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": made["metadata"]["uid"], "controller": True}
    stage.standin.images["shop/api:1"] = Looks(ready=False, phase="Failed", exit_code=3)
    for number, name in enumerate(("nightly-1", "nightly-2"), 1):
        meta = {"name": name, "ownerReferences": [owner]}
        await stage.create("jobs", {"metadata": meta, "spec": spec}, "batch/v1")
        await stage.until(partial(stage.count_pods, number, "nightly", ready=0), what=f"{name} has a pod")
        await asyncio.sleep(1.1)  # their age, in whole seconds, is what tells them apart
    stage.wire.fault = lambda _method, path: (200, {}, b"no such table\n") if "/log?" in path else None
    await stage.alert("Case", job_name="nightly-2")

    waiting = await stage.work("unknown", "kind_not_supported")

    kept = {item.name: item.content for item in await stage.parts.store.evidence(waiting.id)}
    logs = [name for name in kept if name.startswith("logs/")]
    assert (waiting.target.owner_kind, waiting.target.name) == ("CronJob", "nightly")
    assert [name.split("/")[1].rsplit("-", 1)[0] for name in logs if name.endswith("/current")] == ["nightly-2"]
    assert kept[next(name for name in logs if name.endswith("/current"))] == b"no such table\n"
    assert "object/Job/nightly-2.yaml" in kept
    assert stage.writes() == []


async def test_51_a_bare_pod_is_never_deleted(stage: Stage) -> None:
    """Nothing would make it again."""
    await stage.serve(rule("pod.delete", target="pod", healthy=["pod.ready"]))
    container = {"name": "alone", "image": "shop/api:1"}
    stage.standin.images["shop/api:1"] = CRASHING
    await stage.create("pods", {"metadata": {"name": "alone", "labels": {"app": "alone"}}, "spec": {"containers": [container]}})
    await stage.until(lambda: stage.count_pods(1, "alone", ready=0), what="it is bound")
    await stage.alert(pod="alone")

    await stage.work("bare_pod")

    assert stage.writes() == []


async def test_67_every_delete_names_its_uid_and_a_name_used_again_is_safe(stage: Stage) -> None:
    """The delete of a rung carries ``preconditions.uid``; with the UID of an earlier pod of the same name nothing is deleted."""
    await stage.serve(rule("pod.delete"))
    await stage.workload("statefulsets", "db")
    sick = await one_sick(stage, "db")
    await stage.alert(statefulset="db")
    await stage.work("recovered")
    sent = [one for one in stage.writes() if one.method == "DELETE"]
    again = next(pod for pod in await stage.pods("db") if pod["metadata"]["name"] == sick["metadata"]["name"])

    with pytest.raises(ContestedError):
        await hands(stage).write(removal(stage, Verb.DELETE, again, sick["metadata"]["uid"]), within=SOON)

    assert [one.body["preconditions"]["uid"] for one in sent] == [sick["metadata"]["uid"]]
    assert again["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in await stage.pods("db")}
