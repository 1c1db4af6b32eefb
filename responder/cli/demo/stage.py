"""The stage of the demonstration: the sandbox's doubles, the real service in front of them, and what is shown of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import yaml
from rich.console import Console
from rich.markup import escape

from responder.app import App, assembled, serve
from responder.cli.demo.bodies import CLUSTER
from responder.clock import SpedUpClock
from responder.model.incident import EntryKind, Incident, Mode
from responder.sandbox import PagerDutyReceiver, SandboxCluster, TeamsReceiver, Timings
from responder.sandbox.aks import SandboxAzure
from responder.sandbox.aks_entra import CLIENT, TENANT
from responder.sandbox.aks_nodes import MachineNodes
from responder.sandbox.aks_state import Aks
from responder.sandbox.service_bus import Broker
from responder.settings import load_settings

QUEUE = "alerts"
BATCH = "aks-batch"
KUBE_TOKEN = "a token of Entra for the API server"  # noqa: S105 - the double's
SPEED = 20.0
"""The service's and the cluster's seconds in one real second."""

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
    bus: Broker
    batch: SandboxCluster
    azure: SandboxAzure
    aks: Aks
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


class Act(Protocol):
    """One part of the demonstration.

    Attributes:
        reports: Names of targets whose incident reports are printed.
    """

    @property
    def reports(self) -> Sequence[str]:
        """Return them."""

    async def before(self, stage: Stage) -> None:
        """Make what must be there, and healthy."""

    async def trouble(self, stage: Stage) -> None:
        """Break it and let senders say so."""

    async def ends(self, stage: Stage) -> None:
        """Wait until it is over, and play the people."""

    async def claims(self, stage: Stage) -> Sequence[tuple[str, bool]]:
        """Say what had to happen, and whether it did."""


def crashing(cluster: SandboxCluster, namespace: str, workload: str) -> bool:
    """Tell whether both pods of a workload have crashed at least once."""
    pods = cluster.pods(namespace, workload)
    counts = [one["restartCount"] for pod in pods for one in pod["status"].get("containerStatuses") or []]
    return len(counts) >= 2 and min(counts) >= 1


async def _asked(holds: Callable[[], Any]) -> bool:
    found = holds()
    return bool(await found if asyncio.iscoroutine(found) else found)


@contextlib.asynccontextmanager
async def staged(out: Console, folder: Path) -> AsyncIterator[Stage]:
    """Start cluster, receivers and service, all on loopback."""
    clock = SpedUpClock(SPEED)
    async with (
        SandboxCluster(timings=Timings(speed=SPEED, every=0.5), now=clock.now) as cluster,
        PagerDutyReceiver() as pagerduty,
        TeamsReceiver() as teams,
        Broker() as bus,
        SandboxCluster(timings=Timings(speed=SPEED, every=0.5), now=clock.now, nodes=0, token=KUBE_TOKEN) as batch,
        SandboxAzure(folder, now=clock.now) as azure,
        aiohttp.ClientSession() as session,
    ):
        token = secrets.token_hex(16)
        os.environ |= {"DEMO_TOKEN": token, "DEMO_ROUTING_KEY": secrets.token_hex(16), "DEMO_TEAMS_URL": teams.url}
        bus.queue(QUEUE)
        os.environ["DEMO_SERVICE_BUS"] = bus.connection_string
        aks = azure.cluster(BATCH, server=batch.url, nodes=MachineNodes(batch), takes=60.0)
        azure.entra.assertion, azure.entra.kube_token = "the projected token of our service account", KUBE_TOKEN
        config = folder / "responder.yaml"
        config.write_text(yaml.safe_dump(_config(cluster, pagerduty, azure, aks, folder), sort_keys=False))
        async with assembled(load_settings(config), clock=clock) as parts:
            listening = asyncio.Event()
            service = asyncio.create_task(serve(parts, started=listening.set), name="service")
            try:
                await asyncio.wait({asyncio.ensure_future(listening.wait()), service}, return_when=asyncio.FIRST_COMPLETED)
                if service.done():
                    await service
                yield Stage(
                    cluster=cluster,
                    pagerduty=pagerduty,
                    teams=teams,
                    bus=bus,
                    batch=batch,
                    azure=azure,
                    aks=aks,
                    parts=parts,
                    token=token,
                    session=session,
                    out=out,
                )
            finally:
                parts.supervisor.stop()
                await service


def _config(cluster: SandboxCluster, pagerduty: PagerDutyReceiver, azure: SandboxAzure, aks: Aks, folder: Path) -> dict[str, Any]:
    identity = folder / "azure-identity-token"
    identity.write_text(azure.entra.assertion)
    kubeconfig = cluster.write_kubeconfig(folder / "kubeconfig")
    key = {"env": "DEMO_ROUTING_KEY"}
    return {
        "act": ["pod-crash-loop", "node-not-ready", {"rule": "pending-pods", "where": [f'cluster="{BATCH}"']}],
        "rules": {"node-not-ready": {"page": "stuck"}},
        "store": {"kind": "sqlite", "path": str(folder / "responder.sqlite")},
        "http": {
            "listen": "127.0.0.1:0",
            "public_url": "http://127.0.0.1:8080",
            "tokens": [{"name": "demo", "roles": ["send", "view", "operate", "approve"], "secret": {"env": "DEMO_TOKEN"}}],
        },
        "sources": {
            "events": {"kind": "service_bus", "queue": QUEUE, "connection_string": {"env": "DEMO_SERVICE_BUS"}},
        },
        "azure": {
            "credential": "workload_identity",
            "client_id": CLIENT,
            "tenant_id": TENANT,
            "token_file": str(identity),
            "authority": azure.url,
            "endpoint": azure.url,
            "ca_file": str(azure.ca_file),
        },
        "home": {"probe": azure.metadata_url},
        "clusters": {
            CLUSTER: {"kubeconfig": str(kubeconfig), "labels": [f'cluster="{CLUSTER}"']},
            BATCH: {"resource_id": aks.resource_id, "labels": [f'cluster="{BATCH}"']},
        },
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
