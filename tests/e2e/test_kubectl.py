"""The real kubectl works against the sandbox cluster, and cannot tell it from another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from responder.sandbox import NodeTimes, SandboxCluster, Timings
from tests.e2e.conftest import require

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "web:1", ports: [{containerPort: 80}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: shop}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
"""
TIMES = NodeTimes(grace=4, tolerates_for=5, lease_every=1, evicts_every=1)


@dataclass(slots=True)
class Shell:
    """kubectl, pointed at the sandbox."""

    kubectl: str
    kubeconfig: Path
    cluster: SandboxCluster

    async def run(self, *arguments: str, stdin: str = "", fails: bool = False) -> str:
        """Run kubectl and return what it prints; what it says on its second stream too."""
        process = await asyncio.create_subprocess_exec(
            self.kubectl, "--kubeconfig", str(self.kubeconfig), *arguments, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(60):
            out, _ = await process.communicate(stdin.encode())
        assert (process.returncode != 0) is fails, f"kubectl {' '.join(arguments)}: {out.decode()}"
        return out.decode()

    async def rolled(self, what: str) -> str:
        return await self.run("-n", "shop", "rollout", "status", what, "--timeout=40s")


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    """A sandbox with a workload of each kind."""
    kubectl = require("kubectl", within_assets="kubectl")
    async with SandboxCluster(timings=Timings(every=0.05, starts_in=0.2, nodes=TIMES)) as cluster:
        cluster.deployment("shop", "api", image="shop/api:1", replicas=3)
        cluster.workload("StatefulSet", "shop", "db", image="db:1", replicas=2)
        cluster.workload("DaemonSet", "shop", "agent", image="agent:1", service=False)
        await cluster.wait_for(lambda: cluster.available("shop", "api"), within=60)
        yield Shell(kubectl, cluster.write_kubeconfig(tmp_path / "kubeconfig"), cluster)


async def test_kubectl_reads_the_sandbox(shell: Shell) -> None:
    """Tables, descriptions, events, logs, discovery and versions are what people are used to."""
    version = await shell.run("version")
    resources = await shell.run("api-resources")
    nodes = await shell.run("get", "nodes", "-o", "wide")
    everything = await shell.run("-n", "shop", "get", "all")
    described = await shell.run("describe", "node", "sandbox-node-0")
    deployment = await shell.run("-n", "shop", "describe", "deployment", "api")
    events = await shell.run("-n", "shop", "get", "events")
    logs = await shell.run("-n", "shop", "logs", "deploy/api", "--tail=1")
    missing = await shell.run("-n", "shop", "logs", "nobody", fails=True)

    assert "Server Version: v1.36" in version
    assert "deployments" in resources
    assert "poddisruptionbudgets" in resources
    assert nodes.splitlines()[0].split() == [
        "NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME",
    ]  # fmt: skip
    assert "deployment.apps/api" in everything
    assert "3/3" in everything
    assert "HolderIdentity:  sandbox-node-0" in described
    assert "kubelet is posting ready status" in described
    assert "3 desired | 3 updated | 3 total | 3 available | 0 unavailable" in deployment
    assert "ScalingReplicaSet" in events
    assert logs.strip().endswith("ready")
    assert "NotFound" in missing


async def test_kubectl_rolls_out_and_back(shell: Shell) -> None:
    """Restart, another image, undo, scale, wait, on every kind that rolls out."""
    await shell.run("-n", "shop", "rollout", "restart", "deployment/api")
    await shell.rolled("deployment/api")
    await shell.run("-n", "shop", "set", "image", "deployment/api", "api=shop/api:2")
    await shell.rolled("deployment/api")
    history = await shell.run("-n", "shop", "rollout", "history", "deployment/api")
    await shell.run("-n", "shop", "rollout", "undo", "deployment/api")
    await shell.rolled("deployment/api")
    image = await shell.run("-n", "shop", "get", "deploy", "api", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    for what in ("statefulset/db", "daemonset/agent"):
        await shell.run("-n", "shop", "rollout", "restart", what)
        await shell.rolled(what)
    await shell.run("-n", "shop", "rollout", "undo", "statefulset/db")
    await shell.rolled("statefulset/db")
    await shell.run("-n", "shop", "scale", "deployment/api", "--replicas=1")
    await shell.run("-n", "shop", "wait", "--for=jsonpath={.status.replicas}=1", "deployment/api", "--timeout=30s")
    await shell.run("-n", "shop", "delete", "pod", "db-0")
    await shell.run("-n", "shop", "wait", "--for=condition=Ready", "pod/db-0", "--timeout=30s")

    assert [line.split()[0] for line in history.splitlines()[2:] if line.strip()] == ["1", "2", "3"]
    assert image == "shop/api:1"


async def test_kubectl_applies_as_clients_and_servers_do(shell: Shell) -> None:
    """Client-side and server-side; unchanged is unchanged; a conflict is named; labels, patches, deletion."""
    first = await shell.run("apply", "-f", "-", stdin=MANIFEST)
    again = await shell.run("apply", "-f", "-", stdin=MANIFEST)
    await shell.rolled("deployment/web")
    changed = await shell.run("apply", "-f", "-", stdin=MANIFEST.replace("web:1", "web:2"))
    await shell.run("-n", "shop", "patch", "deployment", "web", "--field-manager=hand", "-p", '{"spec":{"replicas":3}}')
    conflict = await shell.run("apply", "--server-side", "-f", "-", stdin=MANIFEST, fails=True)
    forced = await shell.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=MANIFEST)
    await shell.run("-n", "shop", "label", "deployment", "web", "tier=front")
    listed = await shell.run("-n", "shop", "get", "deployments", "-l", "tier=front", "-o", "name")
    await shell.run("delete", "-f", "-", stdin=MANIFEST)
    everything = shell.cluster.storage.all
    await shell.cluster.wait_for(
        lambda: not any(one["metadata"]["labels"].get("app") == "web" for one in everything("v1/pods", "shop")), within=90
    )
    left = await shell.run("-n", "shop", "get", "all", "-l", "app=web", "-o", "name")

    assert "deployment.apps/web created" in first
    assert "deployment.apps/web unchanged" in again
    assert "deployment.apps/web configured" in changed
    assert 'conflict with "hand" using apps/v1' in conflict or 'conflicts with "hand" using apps/v1' in conflict
    assert "serverside-applied" in forced
    assert listed.strip() == "deployment.apps/web"
    assert left.strip() == ""


async def test_kubectl_drains_past_a_budget_and_sees_a_node_die(shell: Shell) -> None:
    """Cordon, a drain that a budget holds up until its time is over, a drain that ends, a node that goes silent and comes back."""
    budget = MANIFEST.split("---")[1].replace("minAvailable: 1", "minAvailable: 3").replace("web", "api")
    await shell.run("apply", "-f", "-", stdin=budget)
    await shell.cluster.wait_for(
        lambda: shell.cluster.storage.get("policy/v1/poddisruptionbudgets", "shop", "api")["status"].get("currentHealthy") == 3
    )
    node = shell.cluster.pods("shop", "api")[0]["spec"]["nodeName"]
    refused = await shell.run("drain", node, fails=True)
    held = await shell.run("drain", node, "--ignore-daemonsets", "--timeout=8s", fails=True)
    await shell.run("-n", "shop", "delete", "pdb", "api")
    drained = await shell.run("drain", node, "--ignore-daemonsets", "--timeout=40s")
    cordoned = await shell.run("get", "node", node)
    pods = json.loads(await shell.run("-n", "shop", "get", "pods", "--field-selector", f"spec.nodeName={node}", "-o", "json"))
    await shell.run("uncordon", node)
    shell.cluster.silence(node)
    await shell.run("wait", "--for=condition=Ready=Unknown", f"node/{node}", "--timeout=40s")
    dead = await shell.run("get", "node", node)
    shell.cluster.wake(node)
    await shell.run("wait", "--for=condition=Ready", f"node/{node}", "--timeout=40s")

    assert "cannot delete DaemonSet-managed Pods" in refused
    assert "Cannot evict pod as it would violate the pod's disruption budget" in held
    assert "drained" in drained
    assert "SchedulingDisabled" in cordoned
    assert {one["metadata"]["labels"]["app"] for one in pods["items"]} == {"agent"}
    assert "NotReady" in dead
