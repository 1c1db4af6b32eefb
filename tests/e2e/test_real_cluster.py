"""The adapter and the actions against a real API server and its controllers. Pods are played through the API."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from responder.actions.planning import PlanInput
from responder.clusters.kubernetes import READS, KubernetesAccess, KubernetesView, connect
from responder.clusters.kubernetes.client import KubernetesClient
from responder.model.action import End, Outcome, Permission, Plan, Refusal, Verb, Wait, Write
from responder.model.cluster import Snapshot
from responder.model.errors import ContestedError, GoneError
from responder.model.target import Lookup, Presence, Target
from responder.policy.facts import facts_of
from tests.builders import CATALOGUE
from tests.e2e.conftest import ControlPlane

NS = "shop"


def now() -> datetime:
    return datetime.now(tz=UTC)


class Kubelet:
    """Plays every pod: Running and Ready, or crashing when its image is in ``bad``; deleted pods go at once."""

    def __init__(self, client: KubernetesClient) -> None:
        self.client = client
        self.bad: set[str] = set()

    async def get(self, path: str) -> Any:
        return msgspec.json.decode(await self.client.send("GET", path))

    async def step(self) -> None:
        for pod in (await self.get(f"/api/v1/namespaces/{NS}/pods"))["items"]:
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{NS}/pods/{meta['name']}"
            with contextlib.suppress(GoneError, ContestedError):
                if meta.get("deletionTimestamp"):
                    await self.client.send("DELETE", path, body={"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})
                    continue
                image = pod["spec"]["containers"][0]["image"]
                status = self.status(pod, sick=image in self.bad)
                await self.client.send(
                    "PATCH", f"{path}/status", body={"status": status}, content_type="application/strategic-merge-patch+json"
                )

    def status(self, pod: Any, *, sick: bool) -> dict[str, Any]:
        at = (now() - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = pod["spec"]["containers"][0]["name"]
        state: dict[str, Any] = {"running": {"startedAt": at}}
        last: dict[str, Any] = {}
        if sick:
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
            last = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": at, "startedAt": at}}
        ready = "False" if sick else "True"
        container = {
            "name": name,
            "image": "x",
            "imageID": "",
            "ready": not sick,
            "restartCount": 4 if sick else 0,
            "state": state,
            "lastState": last,
        }
        conditions = [{"type": kind, "status": ready, "lastTransitionTime": at} for kind in ("Ready", "ContainersReady")]
        return {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}


@pytest.fixture
async def played(control_plane: ControlPlane) -> AsyncIterator[tuple[KubernetesView, Any, Kubelet]]:
    """Our adapter as the very service account that ``responder rbac`` makes; the world is played by an administrator."""
    admin, _ = await connect(KubernetesAccess(name="real", kubeconfig=str(control_plane.kubeconfig)), now=now)
    world = admin._client
    kubelet = Kubelet(world)
    await world.send("POST", "/api/v1/namespaces", body={"metadata": {"name": NS}})
    ours = control_plane.service_account("--rules", "rules", "--rules", "tests/e2e/rules", "--arm", f"all={NS}")
    view, hands = await connect(KubernetesAccess(name="real", kubeconfig=str(ours)), now=now)
    template = {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "api", "image": "shop/api:1"}]}}
    deployment = {
        "metadata": {"name": "api", "annotations": {"team": "blue"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "api"}}, "template": template},
    }
    await world.send("POST", f"/apis/apps/v1/namespaces/{NS}/deployments", body=deployment)
    service = {"metadata": {"name": "api"}, "spec": {"selector": {"app": "api"}, "ports": [{"port": 80}]}}
    await world.send("POST", f"/api/v1/namespaces/{NS}/services", body=service)
    yield view, hands, kubelet
    await view.close()
    await admin.close()


async def target(view: KubernetesView) -> Target:
    answer = await view.look_up(Lookup(kind="Deployment", cluster="real", namespace=NS, name="api"))
    assert answer.presence is Presence.FOUND
    return answer.targets[0]


async def settled(view: KubernetesView, kubelet: Kubelet, *, pods: int, ready: int) -> Snapshot:
    """Play until the Deployment has so many pods, so many of them ready, and nothing is rolling out."""
    async with asyncio.timeout(60):
        while True:
            await kubelet.step()
            snap = await view.snapshot(await target(view))
            workload = snap.workload
            assert workload is not None
            live = [pod for pod in workload.pods if pod.deleting_since is None]
            played = all(pod.ready is not None for pod in live)
            if played and len(live) == pods and workload.ready == ready and workload.observed_generation == workload.generation:
                return snap
            await asyncio.sleep(0.3)


async def carry_out(
    view: KubernetesView, hands: Any, kubelet: Kubelet, action: str, snap: Snapshot, **arguments: Any
) -> list[Write]:
    """Plan and carry an action out, looking before every step; return its writes."""
    facts, _ = facts_of(snap, now=now())
    made = CATALOGUE.actions[action].plan(
        PlanInput(target=snap.target, snapshot=snap, facts=facts, arguments=arguments, command="inc/1", now=now())
    )
    assert isinstance(made, Plan), made
    writes: list[Write] = []
    for _ in range(40):
        fresh = await view.snapshot(snap.target)
        found = CATALOGUE.actions[action].next_step(made, fresh, now=now())
        match found:
            case End():
                assert found.outcome is Outcome.DONE, found
                return writes
            case Wait():
                await kubelet.step()
                await asyncio.sleep(0.3)
            case Write():
                await hands.write(found, within=timedelta(seconds=5))
                writes.append(found)
    raise AssertionError("it never ended")


async def test_a_deployment_is_restarted_rolled_back_and_scaled_on_a_real_api_server(
    played: tuple[KubernetesView, Any, Kubelet],
) -> None:
    """Each action takes effect once, preconditions hold, annotations stay, and the rollback lands on the last healthy template."""
    view, hands, kubelet = played
    healthy = await settled(view, kubelet, pods=2, ready=2)
    assert healthy.gaps == {}
    assert healthy.workload is not None
    good = healthy.workload.template_digest
    known = {one.name for one in healthy.workload.revisions if one.was_healthy}

    kubelet.bad.add("shop/api:1")
    sick = await settled(view, kubelet, pods=2, ready=0)
    facts, _ = facts_of(sick, now=now())
    assert (facts["cause"], facts["failing"], facts["new_revision"]) == ("crash", 2, False)
    writes = await carry_out(view, hands, kubelet, "workload.restart", sick)
    assert [one.key for one in writes] == ["restart"]
    kubelet.bad.clear()
    restarted = await settled(view, kubelet, pods=2, ready=2)
    assert restarted.workload is not None
    assert restarted.workload.template_digest == good, "a restart is not another template"
    assert len(restarted.workload.revisions) == 2

    kubelet.bad.add("shop/api:2")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "api", "image": "shop/api:2"}]}}}}
    await view._client.send(
        "PATCH",
        f"/apis/apps/v1/namespaces/{NS}/deployments/api",
        body=patch,
        content_type="application/strategic-merge-patch+json",
    )
    broken = await settled(view, kubelet, pods=3, ready=2)
    assert broken.workload is not None
    remembered = tuple(replace(one, was_healthy=one.was_healthy or one.name in known) for one in broken.workload.revisions)
    broken = replace(broken, workload=replace(broken.workload, revisions=remembered))
    facts, _ = facts_of(broken, now=now())
    assert facts["new_revision"] is True
    await carry_out(view, hands, kubelet, "workload.rollback", broken)
    back = await settled(view, kubelet, pods=2, ready=2)
    assert back.workload is not None
    assert back.workload.template_digest == good
    assert back.workload.annotations["team"] == "blue"

    await carry_out(view, hands, kubelet, "workload.scale", back, by=1)
    assert (await settled(view, kubelet, pods=3, ready=3)).workload is not None


async def test_preconditions_and_a_missing_object_are_told_apart(played: tuple[KubernetesView, Any, Kubelet]) -> None:
    """A wrong UID on delete and a stale resourceVersion are contested, a 404 is gone (A16 cases 58 and 67)."""
    view, hands, kubelet = played
    snap = await settled(view, kubelet, pods=2, ready=2)
    assert snap.workload is not None
    pod = snap.workload.pods[0]
    wrong = Write(
        key="d",
        verb=Verb.DELETE,
        api="v1",
        plural="pods",
        namespace=NS,
        name=pod.name,
        uid="00000000-0000-0000-0000-000000000000",
        says="x",
    )
    with pytest.raises(ContestedError):
        await hands.write(wrong, within=timedelta(seconds=5))
    with pytest.raises(GoneError):
        await hands.write(replace(wrong, name="nobody", uid=""), within=timedelta(seconds=5))
    with pytest.raises(GoneError):
        await hands.write(replace(wrong, verb=Verb.EVICT), within=timedelta(seconds=5))
    stale = CATALOGUE.actions["workload.restart"].plan(
        PlanInput(target=snap.target, snapshot=snap, facts={"cause": "crash"}, arguments={}, command="c", now=now())
    )
    assert not isinstance(stale, Refusal)
    old = replace(snap, workload=replace(snap.workload, resource_version="1"))
    write = CATALOGUE.actions["workload.restart"].next_step(stale, old, now=now())
    assert isinstance(write, Write)
    with pytest.raises(ContestedError):
        await hands.write(write, within=timedelta(seconds=5))


async def test_targets_evidence_and_permissions_on_a_real_api_server(played: tuple[KubernetesView, Any, Kubelet]) -> None:
    """Owners are followed by UID, a vanished pod is found through its maker, evidence never fails, permissions are asked."""
    view, _, kubelet = played
    snap = await settled(view, kubelet, pods=2, ready=2)
    assert snap.workload is not None
    pod = snap.workload.pods[0]
    maker = pod.owner.name if pod.owner else ""

    for kind, name in (("Pod", pod.name), ("Pod", f"{maker}-zzzzz"), ("controller", maker)):
        answer = await view.look_up(Lookup(kind=kind, cluster="real", namespace=NS, name=name))
        found = {(one.owner_kind, one.name) for one in answer.targets if one.owner_kind}
        assert found == {("Deployment", "api")}, (kind, name, answer.detail)
    absent = await view.look_up(Lookup(kind="Deployment", cluster="real", namespace=NS, name="nobody"))
    items = {one.name: one for one in await view.evidence(snap)}
    patch = Permission(verb="patch", group="apps", resource="deployments")
    here = await view.permitted([patch], namespace=NS)
    everywhere = await view.permitted([patch, *READS, Permission(verb="get", group="", resource="secrets")])

    assert absent.presence is Presence.ABSENT
    assert "object/Deployment/api.yaml" in items
    assert b"managedFields" not in items["object/Deployment/api.yaml"].content
    assert all(one.content or one.problem or one.name.startswith("logs/") for one in items.values())
    assert list(here.values()) == [True]
    assert [one for one, allowed in everywhere.items() if not allowed] == [
        patch,
        Permission(verb="get", group="", resource="secrets"),
    ]
    assert json.dumps(list(items))
