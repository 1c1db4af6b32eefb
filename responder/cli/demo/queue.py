"""Act (e): an alert that comes over Azure Service Bus, and a message that nobody can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

from responder.cli.demo.bodies import azure_prometheus
from responder.cli.demo.stage import QUEUE, Stage, crashing
from responder.model.incident import Mode, Phase
from responder.sandbox import Behaviour

NAMESPACE, WORKLOAD = "billing", "invoices"


class ServiceBusAct:
    """One workload; its alert is a message of a queue, read by the unmodified SDK over AMQP."""

    reports = (WORKLOAD,)

    async def before(self, stage: Stage) -> None:
        """See ``Act``."""
        cluster = stage.cluster
        cluster.deployment(NAMESPACE, WORKLOAD, image="billing/invoices:3.1", replicas=2)
        await cluster.wait_for(lambda: cluster.available(NAMESPACE, WORKLOAD), within=120)
        cluster.age(NAMESPACE, WORKLOAD, timedelta(days=30))

    async def trouble(self, stage: Stage) -> None:
        """See ``Act``."""
        cluster = stage.cluster
        cluster.break_running(NAMESPACE, WORKLOAD, Behaviour(crash_after=3, log="FATAL: spool directory is locked\n"))
        await cluster.wait_for(lambda: crashing(cluster, NAMESPACE, WORKLOAD), within=90)
        controller = cluster.pods(NAMESPACE, WORKLOAD)[0]["metadata"]["ownerReferences"][0]["name"]
        body = azure_prometheus("KubePodContainerRestart", stage.parts.clock.now(), namespace=NAMESPACE, controller=controller)
        stage.out.print("[bold](e)[/] an alert over Service Bus, sent twice, and a message that is no JSON")
        for _ in range(2):
            stage.bus.put(QUEUE, json.dumps(body).encode(), message_id="alert-1", content_type="application/json")
        stage.bus.put(QUEUE, b"<alert>restart invoices</alert>", message_id="strange-1", content_type="text/xml")

    async def ends(self, stage: Stage) -> None:
        """See ``Act``."""

        async def recovered() -> bool:
            found = await stage.incident(WORKLOAD)
            return found is not None and found.phase is Phase.RECOVERED

        await stage.until(recovered, f"{WORKLOAD} is recovered", within=45)
        await stage.until(lambda: stage.bus.dead_letters(QUEUE), "the dead letter", within=20)

    async def claims(self, stage: Stage) -> Sequence[tuple[str, bool]]:
        """See ``Act``."""
        queue = stage.bus.find(QUEUE)
        every = await stage.parts.store.incidents(unclosed=False, limit=50)
        ours = [one for one in every if one.target.name == WORKLOAD and one.mode is Mode.ARMED]
        restarts = [one for one in stage.cluster.writes if one.verb == "patch" and one.name == WORKLOAD]
        dead = stage.bus.dead_letters(QUEUE)
        return [
            (
                "(e) the alert's messages were completed, and its workload was restarted once and proven healthy",
                queue is not None
                and queue.completed["alert-1"] == 2
                and len(restarts) == 1
                and len(ours) == 1
                and ours[0].phase is Phase.RECOVERED,
            ),
            (
                "(e) the message that is no JSON is a dead letter with a reason",
                [one["id"] for one in dead] == ["strange-1"] and "JSON" in str(dead[0].get("DeadLetterErrorDescription")),
            ),
        ]
