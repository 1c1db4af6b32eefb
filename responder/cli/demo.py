"""``responder demo``: the main job, live, on a sandbox cluster. The real service over real HTTP; only the cluster and the receivers are doubles.

Every claim at its end is checked against what the cluster, the receivers and the API saw; the exit code is 0 only if all of it happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from responder.app import App, assembled, serve
from responder.clock import SpedUpClock
from responder.model.incident import EntryKind, Incident, Mode, Phase
from responder.sandbox import Behaviour, PagerDutyReceiver, SandboxCluster, TeamsReceiver, Timings
from responder.settings import load_settings
from responder.telemetry import configure_logging

SPEED = 20.0
CLUSTER = "aks-demo"
ENDS_WITHIN = 110.0
"""Real seconds after which the demonstration gives up."""

COLOURS = {
    EntryKind.ALERT: "cyan",
    EntryKind.DECISION: "white",
    EntryKind.EVIDENCE: "magenta",
    EntryKind.WRITE: "bold yellow",
    EntryKind.OUTCOME: "yellow",
    EntryKind.PAGE: "bold red",
    EntryKind.DELIVERED: "red",
    EntryKind.PERSON: "bold green",
    EntryKind.INTENT: "yellow",
}


@dataclass(slots=True)
class Stage:
    """Everything that takes part."""

    cluster: SandboxCluster
    pagerduty: PagerDutyReceiver
    teams: TeamsReceiver
    parts: App
    token: str
    session: aiohttp.ClientSession
    out: Console
    shown: dict[str, int] = field(default_factory=dict)
    began: float = 0.0

    async def post(self, path: str, body: Any, *, name: str = "demo") -> int:
        """Post to the service and return the status."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.post(f"{self.parts.url}{path}", json=body, headers=headers) as response:
            self.out.print(f"[cyan]→ POST {escape(path)} ({escape(name)}): {response.status}[/]")
            return response.status

    async def incident(self, workload: str) -> Incident | None:
        """Return the newest incident of a workload."""
        found = [one for one in await self.parts.store.incidents(unclosed=False, limit=50) if one.target.name == workload]
        armed = [one for one in found if one.mode is Mode.ARMED]
        return next(iter([*armed, *found]), None)

    async def show_news(self) -> None:
        """Print what is new on every timeline."""
        for one in reversed(list(await self.parts.store.incidents(unclosed=False, limit=50))):
            entries = await self.parts.store.timeline(one.id)
            for entry in entries[self.shown.get(one.id, 0) :]:
                mode = " [dim](shadow)[/]" if one.mode is Mode.SHADOW else ""
                text = escape(entry.text if len(entry.text) < 260 else entry.text[:259] + "…")
                self.out.print(
                    f"[dim]{entry.at:%H:%M:%S}[/] [bold]{escape(one.target.name):<9}[/]{mode} [{COLOURS[entry.kind]}]{text}[/]"
                )
            self.shown[one.id] = len(entries)

    async def until(self, holds: Callable[[], Any], what: str, *, within: float) -> None:
        """Wait until something holds, showing news meanwhile; ``within`` real seconds."""
        try:
            async with asyncio.timeout(within):
                while not await _asked(holds):
                    await self.show_news()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            self.out.print(f"[bold red]not seen within {within:.0f} s: {what}[/]")
        await self.show_news()


async def _asked(holds: Callable[[], Any]) -> bool:
    found = holds()
    return bool(await found if asyncio.iscoroutine(found) else found)


def run(*, keep: bool) -> int:
    """Run the demonstration and return the exit code."""
    return asyncio.run(_run(keep=keep))


@contextlib.asynccontextmanager
async def staged(out: Console, folder: Path) -> AsyncIterator[Stage]:
    """Start cluster, receivers and service, all on loopback."""
    clock = SpedUpClock(SPEED)
    async with (
        SandboxCluster(timings=Timings(speed=SPEED, every=0.5), now=clock.now) as cluster,
        PagerDutyReceiver() as pagerduty,
        TeamsReceiver() as teams,
        aiohttp.ClientSession() as session,
    ):
        token = secrets.token_hex(16)
        os.environ |= {"DEMO_TOKEN": token, "DEMO_ROUTING_KEY": secrets.token_hex(16), "DEMO_TEAMS_URL": teams.url}
        config = folder / "responder.yaml"
        config.write_text(yaml.safe_dump(_config(cluster, pagerduty, folder), sort_keys=False))
        async with assembled(load_settings(config), clock=clock) as parts:
            listening = asyncio.Event()
            service = asyncio.create_task(serve(parts, started=listening.set), name="service")
            try:
                await asyncio.wait({asyncio.ensure_future(listening.wait()), service}, return_when=asyncio.FIRST_COMPLETED)
                if service.done():
                    await service
                yield Stage(cluster=cluster, pagerduty=pagerduty, teams=teams, parts=parts, token=token, session=session, out=out)
            finally:
                parts.supervisor.stop()
                await service


def _config(cluster: SandboxCluster, pagerduty: PagerDutyReceiver, folder: Path) -> dict[str, Any]:
    kubeconfig = cluster.write_kubeconfig(folder / "kubeconfig")
    key = {"env": "DEMO_ROUTING_KEY"}
    return {
        "act": ["pod-crash-loop"],
        "store": {"kind": "sqlite", "path": str(folder / "responder.sqlite")},
        "http": {
            "listen": "127.0.0.1:0",
            "public_url": "http://127.0.0.1:8080",
            "tokens": [{"name": "demo", "roles": ["send", "view", "operate", "approve"], "secret": {"env": "DEMO_TOKEN"}}],
        },
        "clusters": {CLUSTER: {"kubeconfig": str(kubeconfig), "labels": [f'cluster="{CLUSTER}"']}},
        "channels": {
            "pagerduty": {"kind": "pagerduty", "routing_key": key, "endpoint": pagerduty.url, "fallback": "teams"},
            "team-lead": {"kind": "pagerduty", "routing_key": key, "endpoint": pagerduty.url},
            "teams": {"kind": "teams", "url": {"env": "DEMO_TEAMS_URL"}},
            "shadow": {"kind": "teams", "url": {"env": "DEMO_TEAMS_URL"}},
        },
        "policies": {
            "on-call": {
                "levels": [{"after": "0s", "channels": ["pagerduty"]}, {"after": "3m", "channels": ["team-lead"]}],
                "report": ["teams"],
            }
        },
        "routes": {"default": "on-call"},
        "clock": SPEED,
    }


def alertmanager(name: str, started_at: datetime, *, status: str = "firing", **labels: str) -> dict[str, Any]:
    """Return a webhook body in Alertmanager's shape (version 4)."""
    every = {"alertname": name, "cluster": CLUSTER, "severity": "warning", **labels}
    return {
        "version": "4",
        "groupKey": f'{{}}/{{}}:{{alertname="{name}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "responder",
        "groupLabels": {"alertname": name},
        "commonLabels": every,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": [
            {
                "status": status,
                "labels": every,
                "annotations": {"summary": f"{name} in {labels.get('namespace', '')}"},
                "startsAt": started_at.isoformat(),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus.example:9090/graph",
                "fingerprint": "",
            }
        ],
    }


def azure_prometheus(name: str, fired_at: datetime, **labels: str) -> dict[str, Any]:
    """Return a body in the shape of an Azure managed Prometheus alert (common schema)."""
    subscription = "/subscriptions/0f9b7a52-7a0c-4c1e-9a6e-0c3a51d2b7aa"
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {
            "essentials": {
                "alertId": f"{subscription}/providers/Microsoft.AlertsManagement/alerts/{secrets.token_hex(16)}",
                "alertRule": f"kubernetes-recommended/{name}",
                "severity": "Sev4",
                "signalType": "Metric",
                "monitorCondition": "Fired",
                "monitoringService": "Prometheus",
                "alertTargetIDs": [f"{subscription}/resourcegroups/mon/providers/microsoft.monitor/accounts/workspace"],
                "configurationItems": [CLUSTER],
                "originAlertId": secrets.token_hex(16),
                "firedDateTime": fired_at.isoformat(),
                "description": "",
                "essentialsVersion": "1.0",
                "alertContextVersion": "1.0",
            },
            "alertContext": {
                "interval": "PT1M",
                "expression": "sum by (namespace, controller, cluster) (increase(kube_pod_container_status_restarts_total[1h])) > 0",
                "expressionValue": "4",
                "for": "PT5M",
                "labels": {"alertname": name, "cluster": CLUSTER, "severity": "warning", **labels},
                "annotations": {},
                "ruleGroup": f"{subscription}/resourcegroups/mon/providers/Microsoft.AlertsManagement/prometheusRuleGroups/kubernetes",
            },
            "customProperties": None,
        },
    }


async def _run(*, keep: bool) -> int:
    out = Console(soft_wrap=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="responder-demo-") as name:
        folder = Path(name)
        with (folder / "log.jsonl").open("w") as log:
            configure_logging(stream=log)
            async with staged(out, folder) as stage:
                failed = await _play(stage)
                if keep:
                    await _keep(stage)
        return 1 if failed else 0


async def _play(stage: Stage) -> list[str]:
    out, cluster = stage.out, stage.cluster
    began = asyncio.get_running_loop().time()
    out.rule("[bold]Responder: a real service, a sandbox cluster, no internet")
    out.print(
        f"The clock runs {SPEED:g} times faster than real time; waits of minutes take seconds. Armed: pod-crash-loop. In shadow: everything else."
    )
    for workload, image in (("api", "shop/api:1.4"), ("payments", "shop/payments:2.0"), ("search", "shop/search:7")):
        cluster.deployment("shop", workload, image=image, replicas=2)
    await cluster.wait_for(lambda: all(cluster.available("shop", one) for one in ("api", "payments", "search")), within=120)
    for workload in ("api", "payments", "search"):
        cluster.age("shop", workload, timedelta(days=30))
    out.print("Three workloads are healthy. Now trouble begins.\n")
    await _trouble(stage)
    out.rule("[bold]Incident reports")
    for workload in ("api", "payments", "search"):
        incident = await stage.incident(workload)
        if incident is not None:
            out.print(Markdown(await stage.parts.reporter.markdown(incident)))
            out.print()
    failed = await _verdicts(stage)
    seconds = asyncio.get_running_loop().time() - began
    out.rule("[bold]What had to happen")
    for what, happened in failed:
        out.print(f"[{'green' if happened else 'bold red'}]{'yes' if happened else 'NO '}[/] {escape(what)}")
    out.print(f"\n{seconds:.0f} s of real time.")
    return [what for what, happened in failed if not happened]


async def _trouble(stage: Stage) -> None:
    cluster, now = stage.cluster, stage.parts.clock.now
    crash = Behaviour(crash_after=3, log="FATAL: lock file /var/run/api.lock is held by pid 7\n")
    cluster.break_running("shop", "api", crash)
    cluster.behave("shop/payments:2.0", Behaviour(crash_after=3, exit_code=3, log="panic: ledger schema 41, expected 42\n"))
    cluster.break_running("shop", "search", Behaviour(crash_after=3, oom=True, log="index loading\n"))
    await cluster.wait_for(lambda: all(_crashing(cluster, one) for one in ("api", "payments", "search")), within=90)
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


def _crashing(cluster: SandboxCluster, workload: str) -> bool:
    pods = cluster.pods("shop", workload)
    counts = [one["restartCount"] for pod in pods for one in pod["status"].get("containerStatuses") or []]
    return len(counts) >= 2 and min(counts) >= 1


async def _verdicts(stage: Stage) -> list[tuple[str, bool]]:
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
            bool(search) and not any(one.name.startswith("search") for one in cluster.writes),
        ),
    ]


async def _keep(stage: Stage) -> None:
    stage.out.rule("[bold]Kept running; Ctrl-C ends it")
    stage.out.print(f"export RESPONDER_URL={stage.parts.url} RESPONDER_TOKEN={stage.token}", markup=False)
    stage.out.print(f"Pages: {stage.parts.url}/ (any user name, the token as password)", markup=False)
    sys.stdout.flush()
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        await asyncio.Event().wait()
