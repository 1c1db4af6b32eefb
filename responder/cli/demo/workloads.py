"""Acts (a) to (d): a crash loop that a restart cures, told by two senders; one that nothing cures; one whose rule is in shadow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from responder.cli.demo.bodies import alertmanager, azure_prometheus
from responder.cli.demo.stage import Stage, crashing
from responder.model.incident import Mode, Phase
from responder.sandbox import Behaviour

WORKLOADS = ("api", "payments", "search")


class WorkloadsAct:
    """Three workloads of one namespace."""

    reports = WORKLOADS

    async def before(self, stage: Stage) -> None:
        """See ``Act``."""
        cluster = stage.cluster
        for workload, image in zip(WORKLOADS, ("shop/api:1.4", "shop/payments:2.0", "shop/search:7"), strict=True):
            cluster.deployment("shop", workload, image=image, replicas=2)
        await cluster.wait_for(lambda: all(cluster.available("shop", one) for one in WORKLOADS), within=120)
        for workload in WORKLOADS:
            cluster.age("shop", workload, timedelta(days=30))

    async def trouble(self, stage: Stage) -> None:
        """See ``Act``."""
        cluster, now = stage.cluster, stage.parts.clock.now
        crash = Behaviour(crash_after=3, log="FATAL: lock file /var/run/api.lock is held by pid 7\n")
        cluster.break_running("shop", "api", crash)
        cluster.behave("shop/payments:2.0", Behaviour(crash_after=3, exit_code=3, log="panic: ledger schema 41, expected 42\n"))
        cluster.break_running("shop", "search", Behaviour(crash_after=3, oom=True, log="index loading\n"))
        await cluster.wait_for(lambda: all(crashing(cluster, "shop", one) for one in ("api", "payments", "search")), within=90)
        api_pod = cluster.pods("shop", "api")[0]
        controller = api_pod["metadata"]["ownerReferences"][0]["name"]
        exporter = {"pod": "kube-state-metrics-7c8b8bf58c-x4vcd", "container": "kube-state-metrics", "job": "kube-state-metrics"}
        first = alertmanager("KubePodReadyStateLow", now(), namespace="shop", deployment="api", **exporter)
        stage.out.print(
            "[bold](a) and (b)[/] one crash loop, reported twice by Alertmanager (with its exporter's own labels) and once by Azure Monitor"
        )
        await stage.post("/v1/alerts/alertmanager/prometheus", first, name="Alertmanager")
        await stage.post(
            "/v1/alerts/azure-monitor/action-group",
            azure_prometheus("KubePodContainerRestart", now(), namespace="shop", controller=controller),
            name="Azure Monitor",
        )
        repeat = {**first, "notification_reason": "repeat interval elapsed"}
        await stage.post("/v1/alerts/alertmanager/prometheus", repeat, name="Alertmanager, again")
        stage.out.print("[bold](c)[/] a crash that nothing cures")
        pod = cluster.pods("shop", "payments")[0]["metadata"]["name"]
        await stage.post(
            "/v1/alerts/alertmanager/prometheus",
            alertmanager("KubePodCrashLooping", now(), namespace="shop", pod=pod),
            name="Alertmanager",
        )
        stage.out.print("[bold](d)[/] containers killed for memory; their rule is in shadow")
        controller = cluster.pods("shop", "search")[0]["metadata"]["ownerReferences"][0]["name"]
        await stage.post(
            "/v1/alerts/azure-monitor/action-group",
            azure_prometheus("KubeContainerOOMKilledCount", now(), namespace="shop", controller=controller),
            name="Azure Monitor",
        )

    async def ends(self, stage: Stage) -> None:
        """See ``Act``."""

        async def api_recovered() -> bool:
            found = await stage.incident("api")
            return found is not None and found.phase is Phase.RECOVERED

        await stage.until(api_recovered, "api is recovered", within=45)
        await stage.until(lambda: len(stage.pagerduty.incidents) >= 2, "PagerDuty level 2", within=60)
        payments = await stage.incident("payments")
        if payments is not None:
            stage.out.print("[bold green]The team lead acknowledges.[/]")
            await stage.post(f"/v1/incidents/{payments.id}/acknowledge", {}, name="a person")

        async def acknowledged() -> bool:
            found = await stage.incident("payments")
            return found is not None and bool(found.escalation.acknowledged_by)

        await stage.until(acknowledged, "the acknowledgement", within=10)
        await stage.until(lambda: any("shadow" in str(card) for card in stage.teams.cards), "the shadow message", within=20)

    async def claims(self, stage: Stage) -> Sequence[tuple[str, bool]]:
        """Check every claim against what the cluster, the receivers and the store saw."""
        store, cluster = stage.parts.store, stage.cluster
        every = await store.incidents(unclosed=False, limit=50)
        api = [one for one in every if one.target.name == "api" and one.mode is Mode.ARMED]
        payments = [one for one in every if one.target.name == "payments" and one.mode is Mode.ARMED]
        search = [one for one in every if one.target.name == "search"]
        restarts = [one for one in cluster.writes if one.verb == "patch" and one.name == "api"]
        evidence = [one.name for one in await store.evidence(api[0].id)] if api else []
        instances = await store.held(api[0].id) if api else []
        runs = {run.rung: run for run in payments[0].runs} if payments else {}
        triggers = [one for one in stage.pagerduty.received if one["event_action"] == "trigger"]
        first = triggers[0]["payload"]["custom_details"] if triggers else {}
        return [
            (
                "(a) evidence was captured before anything was done, previous logs included",
                any("/previous" in one for one in evidence),
            ),
            (
                "(a) api was restarted and is healthy again, proven",
                bool(api) and api[0].phase is Phase.RECOVERED and cluster.available("shop", "api"),
            ),
            (
                "(a) its recovery was reported to Teams",
                any("api" in str(card) and "hold time" in str(card) for card in stage.teams.cards),
            ),
            (
                "(b) three deliveries from two senders made one incident",
                len(api) == 1 and len(instances) == 2 and sum(one.count for one in instances) == 3,
            ),
            ("(b) and one restart, the only write to api that the cluster saw", len(restarts) == 1),
            (
                "(c) payments was restarted once, and that was not proven",
                "workload.restart" in runs and "not proven" in runs["workload.restart"].detail,
            ),
            (
                "(c) the rollback was skipped with its reason",
                "workload.rollback" in runs
                and runs["workload.rollback"].skipped
                and "new_revision" in runs["workload.rollback"].detail,
            ),
            (
                "(c) PagerDuty level 1 was called when the ladder was exhausted, with what was tried and seen",
                "workload.restart" in str(first.get("tried")) and "crash" in str(first.get("seen")),
            ),
            (
                "(c) level 2 was called after its time, and a person acknowledged",
                len(stage.pagerduty.incidents) == 2 and bool(payments) and bool(payments[0].escalation.acknowledged_by),
            ),
            (
                "(d) the shadow rule said what it would have done",
                any("would have" in str(card) and "search" in str(card) for card in stage.teams.cards),
            ),
            (
                "(d) and nothing was written to search",
                bool(search) and not any(one.name.startswith("search") for one in cluster.tried),
            ),
        ]
