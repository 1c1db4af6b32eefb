"""The chart installed, upgraded, tested and uninstalled on a real API server, its pod run for real as the chart describes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from responder.clusters.kubernetes import KubernetesAccess, connect
from responder.clusters.kubernetes.client import KubernetesClient
from responder.http.server import stop_serving
from tests.e2e.conftest import ROOT, ControlPlane, free_port, require, until
from tests.e2e.image import Image
from tests.e2e.node import Node, stamp

ADDRESS = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}.7"
"""Pods listen on 8080 as the chart says; an address of this run's own keeps them apart from whatever else does."""

URL = f"http://{ADDRESS}:8080"
PEOPLE = free_port()
"""Where people are told."""

SECRETS = {
    "alertmanager-token": "sender-secret",
    "operator-token": "operator-secret",
    "people-url": f"http://127.0.0.1:{PEOPLE}/",
}
OPERATOR = {"Authorization": "Bearer operator-secret"}
LISTEN = ("--set", f"config.http.listen={ADDRESS}:8080", "--set", "image.tag=e2e")
ARMED = (
    "--set-json", 'config.act=[{"rule":"pod-crash-loop","where":["namespace=\\"shop\\""]}]',
    "--set-json", 'rbac.write.namespaces=["shop"]',
    "--set-json", 'config.channels={"people":{"kind":"webhook","url":{"file":"/etc/responder/secrets/people-url"}}}',
    "--set-json", 'config.policies={"people":{"levels":[{"after":"0m","channels":["people"]}]}}',
    "--set-json", 'config.routes={"default":"people"}',
)  # fmt: skip


def played(pod: Mapping[str, Any]) -> dict[str, Any]:
    """A container that crashes until its workload is restarted."""
    at = (datetime.now(tz=UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cured = "kubectl.kubernetes.io/restartedAt" in pod["metadata"].get("annotations", {})
    state: dict[str, Any] = {"running": {"startedAt": at}}
    last: dict[str, Any] = {}
    if not cured:
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
        last = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": at, "finishedAt": stamp()}}
    container = {
        "name": "api",
        "image": "x",
        "imageID": "",
        "ready": cured,
        "restartCount": 0 if cured else 5,
        "state": state,
        "lastState": last,
    }
    conditions = [{"type": kind, "status": str(cured), "lastTransitionTime": at} for kind in ("Ready", "ContainersReady")]
    return {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}


@dataclass(slots=True)
class Installation:
    """A control plane with one node that runs pods, and helm."""

    plane: ControlPlane
    node: Node
    client: KubernetesClient

    async def helm(self, *arguments: str) -> str:
        """Run helm without stopping the node's loop."""
        done = await asyncio.create_subprocess_exec(
            require("helm", within_assets="helm"), *arguments, "--namespace", "responder", "--kubeconfig", str(self.plane.kubeconfig),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(120):
            said, _ = await done.communicate()
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {said.decode()}\n{self.said()}"
        return said.decode()

    def said(self) -> str:
        """Return the ends of all pods' logs."""
        return "\n".join(f"--- {name}\n{log.read_text()[-3000:]}" for name, log in self.node.logs.items())

    async def get(self, path: str) -> Any:
        return json.loads(await self.client.send("GET", path))


@contextlib.asynccontextmanager
async def people() -> AsyncIterator[None]:
    """Take every message."""

    async def told(_request: web.Request) -> web.Response:
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/", told)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PEOPLE).start()
    yield
    await stop_serving(runner)


@pytest.fixture
async def installation(control_plane: ControlPlane, image: Image, tmp_path: Path) -> AsyncIterator[Installation]:
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("running a pod's process as another user in its own root needs root, unshare and setpriv")
    for folder in (image.home, tmp_path):
        for above in folder.parents:
            if above != Path("/") and above.stat().st_uid == os.geteuid():
                above.chmod(above.stat().st_mode | 0o055)
    view, _ = await connect(
        KubernetesAccess(name="admin", kubeconfig=str(control_plane.kubeconfig)), now=lambda: datetime.now(tz=UTC)
    )
    client = view._client
    port = int(json.loads(control_plane.kubeconfig.read_text())["clusters"][0]["cluster"]["server"].rpartition(":")[2])
    disk = {
        "metadata": {"name": "disk"},
        "spec": {"capacity": {"storage": "8Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(tmp_path / "disk")}},
    }
    await client.send("POST", "/api/v1/persistentvolumes", body=disk)
    for name in ("responder", "shop"):
        await client.send("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    secret = {"metadata": {"name": "responder"}, "stringData": SECRETS}
    await client.send("POST", "/api/v1/namespaces/responder/secrets", body=secret)
    node = Node(
        client=client, api=("kubernetes.default.svc", port), image=image, folder=tmp_path / "pods", address=ADDRESS, plays=played
    )
    async with node.on(), people():
        yield Installation(plane=control_plane, node=node, client=client)
    await view.close()


async def test_installed_upgraded_tested_and_uninstalled(installation: Installation) -> None:
    """In shadow it looks and watches with its own service account; armed by an upgrade it restarts what crashes; nothing of it is left at the end."""
    here = installation
    chart = str(ROOT / "helm")
    template = {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "api", "image": "shop/api:1"}]}}
    deployment = {
        "metadata": {"name": "api"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "api"}}, "template": template},
    }
    await here.client.send("POST", "/apis/apps/v1/namespaces/shop/deployments", body=deployment)

    await here.helm("install", "night", chart, *LISTEN, "--wait", "--timeout", "90s")
    (shadow,) = await incidents_after_an_alert(here, "first", mode="shadow")
    async with asyncio.timeout(20):
        while ("kubernetes", "KubePodCrashLooping") not in await firing():
            await asyncio.sleep(0.3)
    untouched = await here.get("/apis/apps/v1/namespaces/shop/deployments/api")
    first_logs = set(here.node.logs)
    await here.helm("upgrade", "night", chart, *LISTEN, *ARMED, "--wait", "--timeout", "90s")
    kept = await call("GET", f"/v1/incidents/{shadow['id']}")
    await incidents_after_an_alert(here, "second", mode="armed")
    restarted = await until_restarted(here)

    assert "restartedAt" not in json.dumps(untouched["spec"]["template"]), "in shadow nothing is written"
    assert kept["incident"]["id"] == shadow["id"], "the disk outlives the pod"
    assert restarted["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"]
    assert {one["manager"] for one in restarted["metadata"]["managedFields"]} >= {"responder"}
    logs = {name: log.read_text() for name, log in here.node.logs.items()}
    assert not [line for text in logs.values() for line in text.splitlines() if "permission_missing" in line], here.said()
    assert "service_stopped" in "".join(logs[name] for name in first_logs), "the first pod ended in good order"

    tested = await here.helm("test", "night", "--timeout", "60s")
    await here.helm("uninstall", "night", "--wait", "--timeout", "90s")
    await until(lambda: not here.node.running, within=70, what="the end of the last pod")
    left = here.plane.ctl(
        "get", "all,configmaps,serviceaccounts,roles,rolebindings,pdb,networkpolicies,ingresses", "-A",
        "-l", "app.kubernetes.io/instance=night", "-o", "name",
    )  # fmt: skip
    wide = here.plane.ctl("get", "clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/instance=night", "-o", "name")
    disks = here.plane.ctl("-n", "responder", "get", "pvc", "-o", "name").split()

    assert "Phase:          Succeeded" in tested, tested + here.said()
    assert (left, wide) == ("", "")
    assert disks == ["persistentvolumeclaim/night"], "kept on purpose, and only that: incidents outlive an uninstall"


async def call(method: str, path: str, body: Any = None) -> Any:
    async with aiohttp.ClientSession(headers=OPERATOR) as session, session.request(method, f"{URL}{path}", json=body) as answer:
        assert answer.status < 300, (path, answer.status, await answer.text())
        return await answer.json()


async def firing() -> set[tuple[str, str]]:
    return {(one["source"], one["name"]) for one in (await call("GET", "/v1/alerts?firing=true"))["alerts"]}


async def incidents_after_an_alert(here: Installation, instance: str, *, mode: str) -> list[Any]:
    """Post a crash loop's alert and wait until its incident of this mode was decided."""
    labels = {
        "alertname": "KubePodCrashLooping",
        "namespace": "shop",
        "pod": "gone",
        "deployment": "api",
        "container": "api",
        "run": instance,
    }
    one = {"status": "firing", "labels": labels, "annotations": {}, "startsAt": stamp(), "endsAt": "0001-01-01T00:00:00Z"}
    body = {"version": "4", "status": "firing", "receiver": "r", "alerts": [one]}
    sender = {"Authorization": "Bearer sender-secret"}
    url = f"{URL}/v1/alerts/alertmanager/prometheus"
    async with aiohttp.ClientSession(headers=sender) as session, session.post(url, json=body) as answer:
        assert answer.status == 202, await answer.text()
    try:
        async with asyncio.timeout(30):
            while True:
                found = [one for one in (await call("GET", f"/v1/incidents?mode={mode}"))["incidents"] if one["phase"] != "open"]
                if found:
                    return found
                await asyncio.sleep(0.3)
    except TimeoutError:
        raise AssertionError(f"no {mode} incident was decided\n{here.said()}") from None


async def until_restarted(here: Installation) -> Any:
    try:
        async with asyncio.timeout(
            120
        ):  # its node's heart beats late on a busy machine, and a node that is not Ready holds the rung back
            while True:
                found = await here.get("/apis/apps/v1/namespaces/shop/deployments/api")
                if "restartedAt" in json.dumps(found["spec"]["template"]):
                    return found
                await asyncio.sleep(0.3)
    except TimeoutError:
        raise AssertionError(f"it was never restarted\n{here.said()}") from None
