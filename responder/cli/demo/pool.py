"""Act (g): pods that no node takes, in an AKS cluster that is reached by its resource id alone; ARM gives the one fitting pool another node."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from responder.cli.demo.bodies import alertmanager
from responder.cli.demo.stage import BATCH, Stage
from responder.model.incident import Mode, Phase
from responder.sandbox.kinds import DEPLOYMENTS
from responder.sandbox.objects import clone

NAMESPACE, WORKLOAD, POOL = "batch", "nightly", "batch"


class PoolAct:
    """One machine of the pool has room for one replica; a second one is wanted."""

    reports = (WORKLOAD,)

    async def before(self, stage: Stage) -> None:
        """See ``Act``."""
        cluster = stage.batch
        await stage.aks.pool("system", 1, mode="System")
        await stage.aks.pool(POOL, 1, labels={"workload": "batch"})
        cluster.deployment(NAMESPACE, WORKLOAD, image="batch/nightly:9", replicas=1, service=False, template=_template())
        await cluster.wait_for(lambda: cluster.available(NAMESPACE, WORKLOAD), within=120)
        cluster.age(NAMESPACE, WORKLOAD, timedelta(days=30))

    async def trouble(self, stage: Stage) -> None:
        """See ``Act``."""
        cluster = stage.batch
        found = cluster.storage.get(DEPLOYMENTS, NAMESPACE, WORKLOAD)
        changed = clone(found)
        changed["spec"]["replicas"] = 2
        cluster.storage.update(DEPLOYMENTS, found, changed)
        await cluster.wait_for(lambda: len(cluster.pods(NAMESPACE, WORKLOAD)) == 2, within=60)
        await stage.parts.clock.sleep(timedelta(seconds=30))  # real alerts come minutes later
        stage.out.print(f"[bold](g)[/] in {BATCH} a second replica of {WORKLOAD} fits on no node of pool {POOL}")
        labels = {"cluster": BATCH, "namespace": NAMESPACE, "deployment": WORKLOAD}
        body = alertmanager("KubeDeploymentReplicasMismatch", stage.parts.clock.now(), **labels)
        await stage.post("/v1/alerts/alertmanager/prometheus", body, name="Alertmanager")

    async def ends(self, stage: Stage) -> None:
        """See ``Act``."""

        async def recovered() -> bool:
            found = await stage.incident(WORKLOAD)
            return found is not None and found.phase is Phase.RECOVERED

        await stage.until(recovered, f"{WORKLOAD} is recovered", within=60)

    async def claims(self, stage: Stage) -> Sequence[tuple[str, bool]]:
        """See ``Act``."""
        every = await stage.parts.store.incidents(unclosed=False, limit=50)
        ours = [one for one in every if one.target.name == WORKLOAD and one.mode is Mode.ARMED]
        rungs = [run.rung for run in ours[0].runs if not run.skipped] if ours else []
        puts = [one for one in stage.azure.writes() if one.path.rsplit("/", 1)[-1] == POOL]
        return [
            ("(g) the autoscaler had its time first", rungs[:1] == ["wait"]),
            (
                "(g) ARM was asked once for a second node in the one pool that fits, and has it",
                len(puts) == 1 and stage.aks.pools[POOL].count == 2 and stage.aks.pools["system"].count == 1,
            ),
            (
                "(g) both replicas run, and that was proven",
                len(ours) == 1 and ours[0].phase is Phase.RECOVERED and stage.batch.available(NAMESPACE, WORKLOAD),
            ),
            (
                "(g) its API server was reached with a token of Entra, and nothing else was written to it",
                bool(stage.azure.entra.asked) and stage.batch.tried == [],
            ),
        ]


def _template() -> dict[str, Any]:
    """Return a pod that fills most of a machine of four cores and wants the pool's label."""
    container = {"name": WORKLOAD, "image": "batch/nightly:9", "resources": {"requests": {"cpu": "3"}}}
    return {
        "metadata": {"labels": {"app": WORKLOAD}},
        "spec": {"containers": [container], "nodeSelector": {"workload": "batch"}},
    }
