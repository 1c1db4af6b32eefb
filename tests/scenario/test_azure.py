"""A cluster by its resource id alone: address from ARM, tokens from Entra, a second opinion, and what ARM can do when its API is silent.

The service is put together as in production, over TLS, with the unmodified SDKs; only time jumps.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.app import HOME_AGAIN, App, assembled, find_home
from responder.model.incident import Incident, Mode, Signal, SignalKind
from responder.policy.roles import MACHINE_READS, OPERATION_READ
from responder.sandbox import SandboxCluster, Timings
from responder.sandbox.aks import SandboxAzure
from responder.sandbox.aks_state import Aks
from responder.service.intake import Intake
from responder.settings import load_settings
from responder.stores.sql.store import open_memory
from tests.azure import access
from tests.cases.stage import StageClock

KUBE_TOKEN = "a token of Entra for the API server"


@dataclass(slots=True)
class Installation:
    app: App
    clock: StageClock
    cluster: SandboxCluster
    double: SandboxAzure
    aks: Aks

    async def alert(self, **labels: str) -> None:
        one = {
            "status": "firing",
            "labels": {"alertname": "KubeAPIDown", **labels},
            "annotations": {},
            "startsAt": "2026-01-05T12:00:00Z",
        }
        body = json.dumps({"version": "4", "status": "firing", "receiver": "r", "alerts": [one]}).encode()
        await Intake(store=self.app.store, clock=self.clock).accept(source="alertmanager", source_name="test", body=body)
        await self.app.supervisor._router.route_due()

    async def until(self, *words: str, most: int = 300) -> Incident:
        """Let the service work, jumping over its waits, until its armed incident is in that phase or waits for that reason."""
        found: list[Incident] = []
        for _ in range(most):
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                await self.app.supervisor._worker.work_due(group)
            found = [one for one in await self.app.store.incidents(unclosed=False, limit=5) if one.mode is Mode.ARMED]
            if len(found) == 1 and {str(found[0].phase), str(found[0].reason)} & set(words):
                return found[0]
            self.clock.forward(timedelta(seconds=5))
            await asyncio.sleep(0.02)
        raise AssertionError([(str(one.phase), str(one.reason), one.detail) for one in found])

    async def approve(self, incident: Incident) -> None:
        assert incident.approval is not None
        body = {"digest": incident.approval.digest}
        await self.app.store.signal(
            Signal(incident=incident.id, kind=SignalKind.APPROVED, at=self.clock.now(), by="ana", body=body)
        )

    async def said(self, incident: Incident) -> str:
        return "\n".join(entry.text for entry in await self.app.store.timeline(incident.id))


@contextlib.asynccontextmanager
async def installed(folder: Path, **more: Any) -> AsyncIterator[Installation]:
    clock = StageClock()
    async with (
        SandboxCluster(timings=Timings(every=0.05), token=KUBE_TOKEN) as cluster,
        SandboxAzure(folder, now=clock.now) as double,
    ):
        aks = double.cluster("prod", server=cluster.url, takes=60.0)
        await aks.pool("system", 3, mode="System")
        double.entra.kube_token = KUBE_TOKEN
        how = access(double, folder)
        (folder / "key").write_text("k" * 32)
        config = {
            "act": ["cluster-unreachable"],
            "store": {"path": str(folder / "unused.sqlite")},
            "http": {"listen": "127.0.0.1:0", "authentication": False},
            "azure": {
                "client_id": how.client_id, "tenant_id": how.tenant_id, "token_file": how.token_file, "authority": how.authority,
                "endpoint": how.endpoint, "ca_file": how.ca_file,
            },
            "home": {"probe": double.metadata_url},
            "clusters": {"prod": {"resource_id": aks.resource_id}},
            "channels": {"pager": {"kind": "pagerduty", "routing_key": {"file": str(folder / "key")}}},
            "policies": {"people": {"levels": [{"after": "0s", "channels": ["pager"]}]}},
            "routes": {"default": "people"},
            **more,
        }  # fmt: skip
        (folder / "responder.yaml").write_text(yaml.safe_dump(config))
        async with assembled(load_settings(folder / "responder.yaml"), store=open_memory(clock), clock=clock) as app:
            clock.slept = app.supervisor._worker.heartbeat
            yield Installation(app=app, clock=clock, cluster=cluster, double=double, aks=aks)


async def test_a_cluster_is_reached_by_its_resource_id_without_a_kubeconfig(tmp_path: Path) -> None:
    """Address from listClusterUserCredential, the token from Entra for AKS' own application."""
    async with installed(tmp_path) as made:
        view = made.app.views["prod"]

        await view.answers()
        nodes = await view.nodes()

        assert len(nodes) == 3
        assert made.double.entra.asked["6dae42f8-4368-4678-94ff-3960e28e3630"] == 1


async def test_a_token_that_the_api_server_refuses_is_asked_for_anew(tmp_path: Path) -> None:
    """As when the cluster was moved: address and token are found out again after a 401."""
    async with installed(tmp_path) as made:
        made.double.entra.kube_token = "an old one"
        with pytest.raises(Exception, match="401"):
            await made.app.views["prod"].nodes()
        made.double.entra.kube_token = KUBE_TOKEN
        assert made.app.identity is not None
        await made.app.identity.close()  # its kept tokens go with it

        assert len(await made.app.views["prod"].nodes()) == 3


async def test_a_stopped_cluster_is_started_with_one_approval_and_proven(tmp_path: Path) -> None:
    """Silent twice while the world answers, Stopped by ARM's word, evidence first, one POST, and it answers again."""
    async with installed(tmp_path, components={"api": {"where": ['cluster="prod"', 'namespace="shop"', 'name="api"']}}) as made:
        made.cluster.deployment("shop", "api", image="shop/api:1")
        await made.app.views["prod"].answers()
        made.aks.power, made.cluster.faults.status = "Stopped", 503
        await made.alert()

        waiting = await made.until("approval")
        evidence = {one.name for one in await made.app.store.evidence(waiting.id)}
        await made.approve(waiting)
        await made.until("acting", "verifying")
        made.cluster.faults.status = 0
        recovered = await made.until("recovered")

        assert waiting.facts["api"] is False
        assert waiting.facts["power_state"] == "Stopped"
        assert "cloud/managedCluster" in evidence
        assert [one.path.rsplit("/", 1)[1] for one in made.double.writes()] == ["start"]
        assert made.aks.power == "Running"
        assert "start cluster" in await made.said(recovered)


async def test_an_operation_that_may_not_be_followed_ends_by_the_clusters_own_state(tmp_path: Path) -> None:
    """Operations lie on the subscription. A role on the cluster alone must not leave a rung waiting for an end that it may never read."""
    async with installed(tmp_path) as made:
        made.aks.power, made.cluster.faults.status = "Stopped", 503
        made.double.denied = {OPERATION_READ}
        await made.alert()

        await made.approve(await made.until("approval"))
        await made.until("acting", "verifying")
        made.cluster.faults.status = 0
        recovered = await made.until("recovered")

        assert [(run.rung, str(run.outcome)) for run in recovered.runs if not run.skipped] == [("cluster.start", "done")]
        assert "a bug or surprise" not in await made.said(recovered)
        assert [one.path.rsplit("/", 1)[1] for one in made.double.writes()] == ["start"]


async def test_an_operation_that_may_not_be_followed_is_not_begun_over_and_over(tmp_path: Path) -> None:
    """It failed, which only the operation says: the cluster is as before, and a second request would fail as the first did."""
    async with installed(tmp_path) as made:
        made.aks.power, made.cluster.faults.status = "Stopped", 503
        made.aks.fails["Microsoft.ContainerService/managedClusters/start/action"] = ("InternalOperationError", "it did not start")
        made.double.denied = {OPERATION_READ}
        await made.alert()

        await made.approve(await made.until("approval"))
        ended = await made.until("cloud_state")  # what is left of the ladder refuses a cluster that is stopped

        start = next(run for run in ended.runs if run.rung == "cluster.start")
        assert str(start.outcome) == "failed"
        assert [one.path.rsplit("/", 1)[1] for one in made.double.writes()] == ["start"]


async def test_an_approval_to_abort_is_good_for_as_long_as_it_is_the_same_operation(tmp_path: Path) -> None:
    """A person takes minutes to answer: how old the operation is meanwhile makes no other plan of it."""
    kind = "Microsoft.ContainerService/managedClusters/write"
    async with installed(tmp_path) as made:
        made.aks.seconds[kind] = None
        begun = made.aks.begin(kind, state="Upgrading", finish=_nothing, by="somebody")
        begun.began_at -= timedelta(hours=2)
        made.aks.log[-1]["at"] = begun.began_at
        made.cluster.faults.status = 503
        await made.alert()

        asked = await made.until("approval")
        still = asked
        for _ in range(20):
            made.clock.forward(timedelta(seconds=15))
            still = await made.until("approval")
        await made.approve(asked)
        await made.until("acting", "verifying")
        made.cluster.faults.status = 0
        recovered = await made.until("recovered")

        assert asked.approval is not None
        assert still.approval == asked.approval
        assert [one.path.rsplit("/", 1)[1] for one in made.double.writes()] == ["abort"]
        assert f"begun {begun.began_at:%Y-%m-%d %H:%M} UTC by somebody" in asked.detail
        assert "another one now" not in await made.said(recovered)


async def test_an_upgrade_in_its_maintenance_window_is_not_aborted_for_being_old(tmp_path: Path) -> None:
    """Two hours are long for an operation and not for an upgrade: while its window is open nobody is even asked. When it has closed a person is."""
    kind = "Microsoft.ContainerService/managedClusters/write"
    async with installed(tmp_path) as made:
        made.aks.seconds[kind] = None
        begun = made.aks.begin(kind, state="Upgrading", finish=_nothing, by="AKS auto-upgrade")
        begun.began_at -= timedelta(hours=2)
        made.aks.log[-1]["at"] = begun.began_at
        window = {"schedule": {"daily": {"intervalDays": 1}}, "durationHours": 4, "startTime": f"{begun.began_at:%H:%M}"}
        made.aks.maintenance = [{"name": "aksManagedAutoUpgradeSchedule", "properties": {"maintenanceWindow": window}}]
        made.cluster.faults.status = 503
        await made.alert()

        waiting = await made.until("foreign_activity")
        made.clock.forward(timedelta(hours=2, minutes=1))
        asked = await made.until("approval")

        assert "maintenance window aksManagedAutoUpgradeSchedule is open until" in waiting.detail
        assert waiting.approval is None
        assert asked.approval is not None
        assert made.double.writes() == []


async def test_evidence_is_taken_inside_a_cluster_that_runs_and_does_not_answer_us(tmp_path: Path) -> None:
    """run_command, the last resort; nothing else is sent to ARM, since ARM says that all is well."""
    async with installed(tmp_path) as made:
        made.aks.output = (0, "aks-system-12345678-vmss000000 NotReady")
        made.cluster.faults.status = 503
        await made.alert()

        incident = await made.until("exhausted")
        evidence = {one.name: one.content for one in await made.app.store.evidence(incident.id)}

        assert b"NotReady" in evidence["cloud/runCommand"]
        assert len(made.aks.ran) == 1
        assert not made.double.writes()


async def test_while_nobody_answers_us_nothing_is_done(tmp_path: Path) -> None:
    """The probe is silent too: our own network is in doubt, whatever ARM said last."""
    async with installed(tmp_path, home={"probe": "http://127.0.0.1:9/"}) as made:
        made.aks.power, made.cluster.faults.status = "Stopped", 503
        await made.alert()

        incident = await made.until("unknown")
        for _ in range(20):
            await made.until("unknown")
            made.clock.forward(timedelta(seconds=15))

        assert "our own network is in doubt" in (await made.until("unknown")).health_detail
        assert "api" not in incident.facts
        assert not made.double.writes()


async def test_the_cluster_that_hosts_us_is_refused(tmp_path: Path) -> None:
    """``home`` as a target: own_cluster, and nobody is even asked."""
    async with installed(tmp_path, home={"cluster": "prod", "probe": "http://127.0.0.1:9/"}) as made:
        made.app.views["prod"]._client._access.token = None  # type: ignore[attr-defined]
        made.aks.power, made.cluster.faults.status = "Stopped", 503
        made.app.supervisor._worker._parts.reader._reach._world = _There()  # type: ignore[union-attr]
        await made.alert()

        incident = await made.until("own_cluster")

        assert "hosts this program" in incident.detail
        assert not made.double.writes()


async def test_our_own_pod_tells_which_cluster_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``home``: until it was seen no rung reaches a cluster as a cluster; it is looked for until the cluster has answered."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    async with installed(tmp_path) as made:
        made.cluster.deployment("responder", "responder", image="responder:1", replicas=1, service=False)
        await made.cluster.wait_for(lambda: bool(made.cluster.pods("responder", "responder")))
        (own,) = made.cluster.pods("responder", "responder")
        monkeypatch.setenv("RESPONDER_POD", f"responder/{own['metadata']['name']}")
        monkeypatch.setenv("RESPONDER_POD_UID", own["metadata"]["uid"])
        made.aks.power, made.cluster.faults.status = "Stopped", 503
        looking = asyncio.create_task(find_home(made.app))
        await made.alert()

        unseen = await made.until("own_cluster")
        made.cluster.faults.status = 0
        made.clock.forward(HOME_AGAIN)
        async with asyncio.timeout(20):
            await looking
        made.cluster.faults.status = 503
        reach = (await made.app.reach.snapshot(unseen.target)).reach

        assert "home.cluster" in unseen.detail
        assert reach is not None
        assert reach.hosts_responder is True
        assert not made.double.writes()


async def _nothing() -> None:
    return None


class _There:
    async def answers(self) -> bool:
        return True


async def test_a_pod_that_fits_no_machine_gets_no_machine(tmp_path: Path) -> None:
    """The one pool by labels and taints is of machines with four cores, and the pod wants eight: another machine would stand empty."""
    async with installed(tmp_path, act=["pending-pods"], rules={}) as made:
        await made.aks.pool("batch", 1, labels={"workload": "batch"})
        for name in made.aks.pools["batch"].machines:
            made.cluster.add_node(name, labels={"agentpool": "batch", "workload": "batch"})
        container = {"name": "c", "image": "b:1", "resources": {"requests": {"cpu": "8"}}}
        template = {
            "metadata": {"labels": {"app": "big"}},
            "spec": {"containers": [container], "nodeSelector": {"workload": "batch"}},
        }
        made.cluster.deployment("shop", "big", image="b:1", replicas=1, service=False, template=template)
        await made.cluster.wait_for(lambda: bool(made.cluster.pods("shop", "big")))
        made.cluster.age("shop", "big", timedelta(days=1))
        await made.alert(alertname="KubeDeploymentReplicasMismatch", namespace="shop", deployment="big")

        incident = await made.until("exhausted")

        assert incident.facts["cause"] == "unschedulable"
        assert [(run.rung, run.skipped) for run in incident.runs] == [("wait", False), ("one more node", True)]
        assert not made.double.writes()


async def test_the_doctor_names_the_missing_permission_and_its_rung(tmp_path: Path) -> None:
    """Of armed rules only, and what to do about it."""
    async with installed(tmp_path) as made:
        made.double.denied = {"Microsoft.ContainerService/managedClusters/start/action"}

        lacks = await made.app.permissions.missing_in_cloud("prod")

        assert [str(one) for one in lacks] == [
            "Microsoft.ContainerService/managedClusters/start/action (cluster-unreachable/cluster.start)"
        ]


async def test_the_doctor_names_what_is_missing_on_other_scopes_than_the_clusters(tmp_path: Path) -> None:
    """Where it is missing, and the rungs that need it: whether a machine runs is asked in the node resource group, an operation's end on the subscription."""
    async with installed(tmp_path, act=["cluster-unreachable", "node-not-ready"]) as made:
        made.double.denied = {OPERATION_READ, MACHINE_READS[0]}

        lacks = {one.action: one for one in await made.app.permissions.missing_in_cloud("prod")}

        assert set(lacks) == {OPERATION_READ, MACHINE_READS[0]}
        assert lacks[MACHINE_READS[0]].rungs == ("reading", "node-not-ready/replace")
        assert "/resourcegroups/mc_" in str(lacks[MACHINE_READS[0]])
        assert str(lacks[OPERATION_READ]).startswith(
            f"{OPERATION_READ} on /subscriptions/{made.aks.subscription} (cluster-unreachable/"
        )
