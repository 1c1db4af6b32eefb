"""Replicas in the middle of a rung that ARM carries out: who is stopped and wakes up writes nothing, and what ARM was asked is asked once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from responder.sandbox import PagerDutyReceiver, SandboxCluster, Timings
from responder.sandbox.aks import Fault, SandboxAzure
from responder.sandbox.aks_state import Aks
from tests.azure import access
from tests.replicas import HEADERS, Fleet, alert

STARTS_WITHIN = 28.0
"""Seconds that ARM takes to start the cluster: longer than the lease of 15 s and the take-over after it."""


@dataclass(slots=True)
class Stopped:
    """A managed cluster that somebody stopped, and two replicas that may start it."""

    fleet: Fleet
    azure: SandboxAzure
    aks: Aks

    def asked(self) -> list[str]:
        """Return what ARM was asked to change."""
        return [one.path.rsplit("/", 1)[1] for one in self.azure.writes()]

    async def until(self, phase: str, *, within: float = 120) -> None:
        await self.fleet.until(lambda found: [one["phase"] for one in found] == [phase], within=within, what=phase)

    async def approved(self) -> None:
        """Alert, wait for the question, and say yes to this very plan."""
        await self.fleet.post("a", alert("", alertname="KubeAPIDown"))
        held, plan = await self._question()
        url = f"http://127.0.0.1:{self.fleet.replicas['b'].port}/v1/incidents/{held}/approve"
        async with self.fleet.session.post(url, json={"plan": plan}, headers=HEADERS) as response:
            assert response.status == 202, await response.text()

    async def _question(self) -> tuple[str, str]:
        """Return which incident asks for which plan."""
        async with asyncio.timeout(90):
            while True:
                for one in await self.fleet.incidents():
                    found = await self.fleet.get("b", f"/v1/incidents/{one['id']}")
                    if found["incident"]["approval"] is not None:
                        return one["id"], found["incident"]["approval"]["digest"]
                await asyncio.sleep(0.2)


@pytest.fixture
async def stopped(postgres_url: str, tmp_path: Path) -> AsyncIterator[Stopped]:
    async with (
        SandboxCluster(timings=Timings(every=0.1, starts_in=0.2)) as cluster,
        SandboxAzure(tmp_path) as azure,
        PagerDutyReceiver() as pagerduty,
        aiohttp.ClientSession() as session,
    ):
        aks = azure.cluster("sandbox", server=cluster.url, takes=STARTS_WITHIN)
        await aks.pool("system", 2, mode="System")
        how = access(azure, tmp_path)
        cloud = {
            name: getattr(how, name) for name in ("client_id", "tenant_id", "token_file", "authority", "endpoint", "ca_file")
        }
        more = {
            "azure": cloud,
            "home": {"probe": azure.metadata_url},
            "clusters": {"sandbox": {"kubeconfig": str(tmp_path / "kubeconfig"), "resource_id": aks.resource_id}},
        }
        db = await asyncpg.connect(postgres_url)
        fleet = Fleet(
            cluster=cluster, pagerduty=pagerduty, url=postgres_url, folder=tmp_path, session=session, db=db,
            armed="cluster-unreachable", more=more,
        )  # fmt: skip
        try:
            fleet.add("a")
            fleet.add("b")
            await fleet.start("a", "b")
            aks.power, cluster.faults.status = "Stopped", 503
            yield Stopped(fleet=fleet, azure=azure, aks=aks)
        finally:
            await fleet.aclose()
            await db.close()


@pytest.mark.parametrize("unanswered", [False, True], ids=["while ARM is at work", "before ARM has answered"])
async def test_a_replica_stopped_in_the_middle_of_a_rung_of_arms_that_wakes_up_writes_nothing(
    stopped: Stopped, unanswered: bool
) -> None:
    """SIGSTOP for longer than the lease: another follows the start to its end, and one request was made by all of them together."""
    if unanswered:
        stopped.azure.faults.append(Fault(path="/start$", method="POST", delay=4.0))
    await stopped.approved()
    async with asyncio.timeout(60):
        while stopped.asked() != ["start"]:
            await asyncio.sleep(0.05)
    if not unanswered:
        await asyncio.sleep(3)  # its token is stored, and it is asked how far it is
    (incident,) = await stopped.fleet.incidents()
    victim = stopped.fleet.holder(incident)
    zombie = stopped.fleet.replicas[victim]
    zombie.send(signal.SIGSTOP)
    logged = len(zombie.events("write_carried_out"))

    def taken(found: object) -> bool:
        del found
        return stopped.aks.power == "Running"

    await stopped.fleet.until(taken, within=90, what="the cluster is started")
    stopped.fleet.cluster.faults.status = 0
    await stopped.until("recovered")
    (incident,) = await stopped.fleet.incidents()
    assert stopped.fleet.holder(incident) != victim
    zombie.send(signal.SIGCONT)
    await asyncio.sleep(8)

    assert stopped.asked() == ["start"]
    assert len(zombie.events("write_carried_out")) - logged <= int(unanswered), (
        "it may log the one that it had sent, and none besides"
    )
    assert [one["phase"] for one in await stopped.fleet.incidents()] == ["recovered"]
