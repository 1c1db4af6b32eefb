"""Act (f): a node falls silent under a workload whose budget is in the way; it is cordoned and drained, and its pods are found elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from responder.cli.demo.bodies import alertmanager
from responder.cli.demo.stage import Stage
from responder.model.incident import Entry, Incident, Mode, Phase
from responder.model.reason import Reason
from responder.sandbox.kinds import DEPLOYMENTS, NODES, PODS
from responder.sandbox.objects import clone

NAMESPACE, WORKLOAD, OTHER = "orders", "checkout", "mailer"
DYING, SPARE = "aks-orders-vmss000000", "aks-orders-vmss000001"
BUDGETS = "policy/v1/poddisruptionbudgets"


class NodeAct:
    """Two machines of one pool; the first dies with two of three replicas on it, and their budget wants two to be ready."""

    reports = (DYING,)

    def __init__(self) -> None:
        """Nobody has a hand in it yet."""
        self._person: asyncio.Task[None] | None = None

    async def before(self, stage: Stage) -> None:
        """See ``Act``."""
        cluster = stage.cluster
        pool = {"agentpool": "orders", "kubernetes.azure.com/agentpool": "orders"}
        cluster.add_node(DYING, labels=pool, pods="4")
        cluster.workload("DaemonSet", NAMESPACE, "agent", image="orders/agent:1", service=False)
        for name, replicas in ((WORKLOAD, 2), (OTHER, 1)):
            cluster.deployment(NAMESPACE, name, image=f"orders/{name}:5", replicas=replicas, template=_template(name))
        await cluster.wait_for(lambda: all(cluster.available(NAMESPACE, one) for one in (WORKLOAD, OTHER)), within=120)
        cluster.add_node(SPARE, labels=pool)
        _scale(stage, 3)
        selector = {"matchLabels": {"app": WORKLOAD}}
        cluster.storage.create(
            BUDGETS, {"metadata": {"namespace": NAMESPACE, "name": WORKLOAD}, "spec": {"minAvailable": 2, "selector": selector}}
        )
        await cluster.wait_for(lambda: cluster.available(NAMESPACE, WORKLOAD), within=120)
        for name in (WORKLOAD, OTHER):
            cluster.age(NAMESPACE, name, timedelta(days=30))

    async def trouble(self, stage: Stage) -> None:
        """See ``Act``."""
        cluster = stage.cluster
        stage.out.print(
            f"[bold](f)[/] node {DYING} falls silent; two of three replicas of {WORKLOAD} are on it, and its budget wants two"
        )
        cluster.silence(DYING)
        await cluster.wait_for(lambda: _ready(stage) == "Unknown", within=120, what="the node is Unknown")
        body = alertmanager("KubeNodeNotReady", stage.parts.clock.now(), node=DYING)
        await stage.post("/v1/alerts/alertmanager/prometheus", body, name="Alertmanager")
        self._person = asyncio.create_task(_help(stage), name="a person")

    async def ends(self, stage: Stage) -> None:
        """See ``Act``."""
        if self._person is not None:
            await self._person

        async def recovered() -> bool:
            found = await stage.incident(DYING)
            return found is not None and found.phase is Phase.RECOVERED

        await stage.until(recovered, f"{DYING} is recovered", within=60)
        await stage.until(lambda: not _cordoned(stage), "the cordon is given back", within=20)

    async def claims(self, stage: Stage) -> Sequence[tuple[str, bool]]:
        """See ``Act``."""
        cluster = stage.cluster
        every = await stage.parts.store.incidents(unclosed=False, limit=50)
        ours = [one for one in every if one.target.name == DYING and one.mode is Mode.ARMED]
        lines = await _timeline(stage)
        texts = [one.text for one in lines]
        evicted = [one for one in cluster.tried if one.verb == "evict" and one.namespace == NAMESPACE]
        cordoned = [one for one in cluster.writes if one.verb == "patch" and one.name == DYING]
        waits = next((number for number, one in enumerate(lines) if one.reason is Reason.BUDGET_BLOCKS), len(lines))
        return [
            (
                "(f) the node was cordoned, then drained pod by pod; its DaemonSet's pod stayed",
                bool(cordoned) and len(evicted) == 3 and any(_stays(pod) for pod in cluster.storage.all(PODS, NAMESPACE)),
            ),
            (
                "(f) while the budget allowed none, none of its pods was asked to go, and the timeline has its numbers",
                "needs 2 healthy pods and has 1" in " ".join(texts)
                and not any(f"evict pod {NAMESPACE}/{WORKLOAD}" in one for one in texts[:waits])
                and all(200 <= one.status < 300 for one in evicted),
            ),
            (
                "(f) nobody waited for a dead kubelet, and nobody called the node drained",
                any("is not drained: 3 pods still terminate on a dead node" in one for one in texts),
            ),
            (
                "(f) its pods were found elsewhere, all replicas ready, and that was proven and reported",
                len(ours) == 1
                and _whole(ours[0])
                and cluster.available(NAMESPACE, WORKLOAD)
                and cluster.available(NAMESPACE, OTHER)
                and any(DYING in str(card) and "hold time" in str(card) for card in stage.teams.cards),
            ),
            ("(f) the cordon was given back", not _cordoned(stage)),
        ]


async def _help(stage: Stage) -> None:
    """Give the workload one replica more once its budget holds the drain up: the other acts go on meanwhile."""
    for _ in range(300):
        if any(one.reason is Reason.BUDGET_BLOCKS for one in await _timeline(stage)):
            stage.out.print(f"[bold green]A person gives {WORKLOAD} one replica more, so that its budget can be kept.[/]")
            _scale(stage, 4)
            return
        await asyncio.sleep(0.1)


def _template(name: str) -> dict[str, Any]:
    spec = {
        "nodeSelector": {"agentpool": "orders"},
        "containers": [{"name": name, "image": f"orders/{name}:5"}],
        "terminationGracePeriodSeconds": 2,
    }
    return {"metadata": {"labels": {"app": name}}, "spec": spec}


def _scale(stage: Stage, replicas: int) -> None:
    found = stage.cluster.storage.get(DEPLOYMENTS, NAMESPACE, WORKLOAD)
    changed = clone(found)
    changed["spec"]["replicas"] = replicas
    stage.cluster.storage.update(DEPLOYMENTS, found, changed)


def _ready(stage: Stage) -> str:
    conditions = stage.cluster.storage.get(NODES, "", DYING)["status"].get("conditions") or []
    return next((str(one["status"]) for one in conditions if one["type"] == "Ready"), "")


def _cordoned(stage: Stage) -> bool:
    return bool(stage.cluster.storage.get(NODES, "", DYING)["spec"].get("unschedulable"))


def _stays(pod: dict[str, Any]) -> bool:
    meta = pod["metadata"]
    return pod["spec"].get("nodeName") == DYING and meta["name"].startswith("agent") and not meta.get("deletionTimestamp")


def _whole(incident: Incident) -> bool:
    return incident.phase is Phase.RECOVERED and any(
        run.rung == "move pods" and str(run.outcome) == "done" for run in incident.runs
    )


async def _timeline(stage: Stage) -> Sequence[Entry]:
    found = await stage.incident(DYING)
    return await stage.parts.store.timeline(found.id) if found is not None else ()
