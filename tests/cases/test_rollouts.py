"""Restarts, rollbacks and scaling: A16 cases 28 to 40."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from responder.model.health import Health
from responder.model.reason import Reason
from tests.cases.stage import CLUSTER, Stage, rule
from tests.cases.standin import CRASHING, UNREADY

RULES = Path(__file__).parents[2] / "rules"
RESTART_THEN_UNDO = rule("workload.restart", "workload.rollback")


def image_of(item: Any) -> str:
    return str(item["spec"]["template"]["spec"]["containers"][0]["image"])


async def bad_rollout(stage: Stage) -> None:
    """A healthy workload that the service has seen, then an image that crashes."""
    await stage.workload()
    await stage.remember()
    stage.standin.images["shop/api:2"] = CRASHING
    await stage.image("shop/api:2")

    async def crashing() -> bool:
        return (await stage.facts()).get("cause") == "crash"

    await stage.until(crashing, what="the new image crashes")


async def test_28_after_a_restart_undo_still_lands_on_the_last_good_revision(stage: Stage) -> None:
    """The restart made a twin of the bad revision; the rollback passes over it."""
    await stage.serve(RESTART_THEN_UNDO)
    await bad_rollout(stage)
    await stage.patch("deployments", "api", {"spec": {"progressDeadlineSeconds": 1}})
    await stage.alert(deployment="api")

    done = await stage.work("recovered")

    assert [run.rung for run in done.runs] == ["workload.restart", "workload.rollback"]
    assert image_of(await stage.get("deployments", "api")) == "shop/api:1"


async def test_29_no_rung_runs_twice_in_one_incident(stage: Stage) -> None:
    """RULES.md holds: a second undo is no matter of a cool-down; no rung runs twice, so the ladder is exhausted and people have it."""
    await stage.serve(rule("workload.rollback"))
    await bad_rollout(stage)
    await stage.alert(deployment="api")
    await stage.work("acting", "verifying")
    stage.standin.images["shop/api:1"] = CRASHING

    done = await stage.work("exhausted")
    await stage.go_on(timedelta(minutes=3))

    assert [run.rung for run in done.runs] == ["workload.rollback"]
    assert len(stage.writes()) == 1


async def test_30_a_rollback_changes_the_template_and_no_annotation(stage: Stage) -> None:
    """Keys of GitOps and of people, set after the good revision, are still there."""
    await stage.serve(rule("workload.rollback"))
    await bad_rollout(stage)
    await stage.patch("deployments", "api", {"metadata": {"annotations": {"team": "blue", "tracking": "id-7"}}})
    await stage.alert(deployment="api")

    await stage.work("recovered")

    item = await stage.get("deployments", "api")
    assert image_of(item) == "shop/api:1"
    assert {name: item["metadata"]["annotations"][name] for name in ("team", "tracking")} == {"team": "blue", "tracking": "id-7"}


async def test_31_a_paused_deployment_is_left_alone(stage: Stage) -> None:
    """Neither restart nor undo is sent; the reason is said and nothing climbs."""
    await stage.serve(RESTART_THEN_UNDO)
    await bad_rollout(stage)
    await stage.patch("deployments", "api", {"spec": {"paused": True}})
    await stage.alert(deployment="api")

    waiting = await stage.work("workload_paused")

    assert "paused" in waiting.detail
    assert stage.writes() == []


async def test_32_two_restarts_in_one_second_are_two_rollouts(stage: Stage) -> None:
    """The stamp of a second restart in the same second is another one: nothing is rejected as empty, and none is carried out twice."""
    await stage.serve(rule("workload.restart"))
    await stage.workload()
    stage.standin.images["shop/api:1"] = CRASHING
    await stage.until(lambda: stage.count_pods(2, ready=0), what="both crash")
    await stage.alert(deployment="api")
    await stage.work("verifying")
    stamp = (await stage.get("deployments", "api"))["spec"]["template"]["metadata"]["annotations"]

    await stage.go_on(timedelta(minutes=2))

    assert [one.status for one in stage.writes()] == [200]
    assert stamp["responder/command"]
    assert (await stage.get("deployments", "api"))["spec"]["template"]["metadata"]["annotations"] == stamp


async def test_33_a_crash_loop_is_restarted_once_and_the_good_revision_survives(stage: Stage) -> None:
    """With a short history every restart could push the last good revision out: the restart is refused where it would."""
    await stage.serve(RESTART_THEN_UNDO)
    await stage.workload(revisionHistoryLimit=1)
    await stage.remember()
    stage.standin.images["shop/api:2"] = CRASHING
    await stage.image("shop/api:2")
    await stage.patch(
        "deployments", "api", {"spec": {"progressDeadlineSeconds": 1, "strategy": {"type": "Recreate", "rollingUpdate": None}}}
    )

    async def crashing() -> bool:
        return (await stage.facts()).get("failing") == 2

    await stage.until(crashing, what="the new image crashes")
    await stage.alert(deployment="api")

    waiting = await stage.work("history_too_short")

    assert "history" in waiting.detail
    assert stage.writes() == []


async def test_34_an_on_delete_statefulset_is_not_restarted(stage: Stage) -> None:
    """A new template would reach no pod: refused with the strategy's name, nothing is written."""
    await stage.serve(rule("workload.restart"))
    await stage.workload("statefulsets", "db", updateStrategy={"type": "OnDelete"})
    stage.standin.images["shop/api:1"] = CRASHING
    await stage.until(lambda: stage.count_pods(2, "db", ready=0), what="both crash")
    await stage.alert(statefulset="db")

    await stage.work("on_delete_strategy")

    assert stage.writes() == []


async def test_35_a_statefulset_stuck_on_a_broken_pod_is_freed(stage: Stage) -> None:
    """The rollback deletes exactly the pod of the bad revision, by UID, and the set is proven whole."""
    await stage.serve(rule("workload.rollback"))
    await stage.workload("statefulsets", "db")
    await stage.remember("StatefulSet", "db")
    stage.standin.images["shop/db:2"] = CRASHING
    await stage.image("shop/db:2", "db", "statefulsets")

    async def stuck() -> bool:
        return (await stage.facts("StatefulSet", "db")).get("cause") == "crash"

    await stage.until(stuck, what="db-1 is stuck")
    broken = next(pod for pod in await stage.pods("db") if pod["metadata"]["name"] == "db-1")
    await stage.alert(statefulset="db")

    await stage.work("recovered")

    deleted = [one for one in stage.writes() if one.method == "DELETE"]
    assert [(one.path.rsplit("/", 1)[1], one.body["preconditions"]["uid"]) for one in deleted] == [
        ("db-1", broken["metadata"]["uid"])
    ]
    assert {pod["spec"]["containers"][0]["image"] for pod in await stage.pods("db")} == {"shop/api:1"}


async def test_36_nothing_wanted_is_never_proven(stage: Stage) -> None:
    """Replicas 0, or a DaemonSet that fits no node, is "unknown" although kubectl calls its rollout a success."""
    await stage.serve(rule("workload.restart"))
    await stage.workload(replicas=0)
    await stage.workload("daemonsets", "agent", pod={"nodeSelector": {"no": "such"}}, ready=False)

    async def looked_at() -> bool:
        return bool((await stage.get("daemonsets", "agent"))["status"].get("observedGeneration") == 1)

    await stage.until(looked_at, what="the DaemonSet's controller has seen it")
    check = stage.parts.catalogue.checks["workload.available"]

    found = [
        check.judge(await stage.snapshot(kind, name), {}, instances=(), firing=(), now=stage.clock.now())
        for kind, name in (("Deployment", "api"), ("DaemonSet", "agent"))
    ]

    assert [one.health for one in found] == [Health.UNKNOWN, Health.UNKNOWN]


async def test_37_a_deadline_that_is_over_is_a_stuck_rollout_and_is_undone(stage: Stage) -> None:
    """ProgressDeadlineExceeded counts for the generation that the controller has seen."""
    await stage.serve(rule({"do": "workload.rollback", "when": 'facts.rollout == "stuck"'}))
    await stage.workload(progressDeadlineSeconds=1)
    await stage.remember()
    stage.standin.images["shop/api:2"] = UNREADY
    await stage.image("shop/api:2")

    async def stuck() -> bool:
        return (await stage.facts()).get("rollout") == "stuck"

    await stage.until(stuck, what="the rollout is stuck")
    await stage.alert(deployment="api")

    await stage.work("recovered")

    assert image_of(await stage.get("deployments", "api")) == "shop/api:1"


async def test_37_a_statefulset_that_hangs_on_its_new_pod_is_stuck_and_undone(stage: Stage) -> None:
    """It has no deadline and no condition: a new pod that has failed for ten minutes says it. The shipped rule, and the alert of the mixin."""
    await stage.serve(yaml.safe_load((RULES / "stuck-rollout.yaml").read_text(encoding="utf-8")))
    await stage.workload("statefulsets", "db")
    await stage.remember("StatefulSet", "db")
    stage.standin.images["shop/db:2"] = UNREADY
    await stage.image("shop/db:2", "db", "statefulsets")
    await stage.until(lambda: stage.count_pods(2, "db", ready=1), what="db-1 is made anew, and not ready")

    early = (await stage.facts("StatefulSet", "db"))["rollout"]
    stage.clock.forward(timedelta(minutes=10))
    await stage.alert("KubeStatefulSetUpdateNotRolledOut", statefulset="db")
    await stage.work("recovered")

    assert early == "progressing"
    assert {pod["spec"]["containers"][0]["image"] for pod in await stage.pods("db")} == {"shop/api:1"}


async def test_38_a_status_of_an_older_generation_proves_nothing(stage: Stage) -> None:
    """A read between the write and the controller's look is unhealthy ("not seen the newest spec"), not proven."""
    await stage.serve(rule("workload.restart"))
    await stage.workload()
    item = await stage.get("deployments", "api")
    item["status"]["observedGeneration"] = item["metadata"]["generation"] - 1
    path = stage.path("deployments", "api")
    stage.wire.fault = lambda method, asked: (200, {}, item) if (method, asked) == ("GET", path) else None
    check = stage.parts.catalogue.checks["workload.available"]

    early = await stage.snapshot()
    judged = check.judge(early, {}, instances=(), firing=(), now=stage.clock.now())

    assert early.workload is not None
    assert (early.workload.ready, early.workload.desired) == (2, 2)
    assert judged.health is Health.UNHEALTHY
    assert "newest spec" in judged.detail


async def test_39_a_pod_that_would_not_come_back_is_not_deleted(stage: Stage) -> None:
    """A quota lowered below what is used: refused before the delete, no replica is lost."""
    await stage.serve(rule("pod.delete"))
    await stage.workload()
    await stage.create("resourcequotas", {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "1"}}})
    sick = (await stage.pods())[0]
    stage.standin.pods[sick["metadata"]["uid"]] = CRASHING
    await _quota_is_counted(stage)
    await stage.until(lambda: stage.count_pods(2, ready=1), what="one crashes")
    await stage.alert(deployment="api")

    waiting = await stage.work("quota_exceeded")

    assert "small" in waiting.detail
    assert stage.writes() == []


async def test_39_a_restart_without_room_for_its_surge_is_not_begun(stage: Stage) -> None:
    """At a full quota the rollout could make no pod; it is refused instead of being left half-way."""
    await stage.serve(rule("workload.restart"))
    await stage.workload()
    await stage.create("resourcequotas", {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "2"}}})
    stage.standin.images["shop/api:1"] = CRASHING
    await _quota_is_counted(stage)
    await stage.until(lambda: stage.count_pods(2, ready=0), what="both crash")
    await stage.alert(deployment="api")

    waiting = await stage.work("quota_exceeded")

    assert "full" in waiting.detail
    assert stage.writes() == []


async def _quota_is_counted(stage: Stage) -> None:
    async def counted() -> bool:
        (quota,) = (await stage.get("resourcequotas", api="v1"))["items"]
        return (quota["status"].get("used") or {}).get("pods") == "2"

    await stage.until(counted, what="the quota is counted")


async def _scaled(stage: Stage) -> None:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}, "minReplicas": 2, "maxReplicas": 4,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
    }  # fmt: skip
    await stage.create("horizontalpodautoscalers", {"metadata": {"name": "api"}, "spec": spec}, "autoscaling/v2")


async def test_40_under_an_autoscaler_its_floor_is_moved_and_given_back(stage: Stage) -> None:
    """Replicas would be overwritten: the floor is patched within the maximum, and is 2 again after recovery."""
    await stage.serve(rule({"do": {"workload.scale": {"by": 9}}, "name": "more"}))
    await stage.workload()
    await _scaled(stage)
    stage.standin.images["shop/api:1"] = UNREADY
    await stage.until(lambda: stage.count_pods(2, ready=0), what="both are unready")
    stage.clock.forward(timedelta(minutes=5))
    await stage.alert(deployment="api")
    await stage.work("verifying")
    raised = (await stage.get("horizontalpodautoscalers", "api", "autoscaling/v2"))["spec"]["minReplicas"]
    stage.standin.images.clear()

    await stage.work("recovered")

    assert raised == 4
    assert (await stage.get("horizontalpodautoscalers", "api", "autoscaling/v2"))["spec"]["minReplicas"] == 2
    assert {one.path.split("/")[-2] for one in stage.writes()} == {"horizontalpodautoscalers"}


async def test_40_zero_would_switch_the_autoscaler_off_and_is_refused(stage: Stage) -> None:
    """Only ``freeze: true`` may say zero."""
    await stage.serve(rule({"do": {"workload.scale": {"to": 0}}, "name": "none"}))
    await stage.workload()
    await _scaled(stage)
    stage.standin.images["shop/api:1"] = CRASHING
    await stage.until(lambda: stage.count_pods(2, ready=0), what="both crash")
    await stage.alert(deployment="api")

    waiting = await stage.work(str(Reason.NEEDS_FREEZE))

    assert waiting.cluster == CLUSTER
    assert stage.writes() == []
