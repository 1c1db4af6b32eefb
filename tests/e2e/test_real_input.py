"""Real input: Debian's Prometheus and Alertmanager, a rule that fires on the sandbox cluster's metrics, the real webhook, a proven recovery."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.app import assembled, serve
from responder.model.incident import EntryKind, Phase
from responder.sandbox import Behaviour, SandboxCluster, Timings
from responder.settings import load_settings
from tests.e2e.conftest import free_port, reachable, require, require_file, running, until

RULES: dict[str, Any] = {
    "groups": [
        {
            "name": "pods",
            "interval": "1s",
            "rules": [
                {
                    "alert": "KubePodCrashLooping",
                    "expr": 'max by (namespace, pod, container) (kube_pod_container_status_waiting_reason{reason="CrashLoopBackOff"}) >= 1',
                    "for": "1s",
                    "labels": {"severity": "warning", "cluster": "sandbox"},
                    "annotations": {"summary": "Pod is crash looping."},
                }
            ],
        }
    ]
}


async def test_a_prometheus_alert_becomes_a_proven_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus scrapes, Alertmanager groups and posts; one restart; recovered; its own repeat and resolve are in the incident."""
    prometheus = require("prometheus", env="RESPONDER_E2E_PROMETHEUS")
    alertmanager = require("prometheus-alertmanager", env="RESPONDER_E2E_ALERTMANAGER")
    require_file(
        Path("/usr/share/prometheus/alertmanager/default.tmpl"),
        "Debian's Alertmanager opens its templates by an absolute path: copy them there",
    )
    monkeypatch.setenv("SENDER", "the-senders-token")
    prometheus_port, alertmanager_port = free_port(), free_port()
    async with SandboxCluster(timings=Timings(every=0.1, starts_in=0.2)) as cluster:
        cluster.deployment("shop", "api", image="shop/api:1", replicas=2)
        await cluster.wait_for(lambda: cluster.available("shop", "api"), within=30)
        config = tmp_path / "responder.yaml"
        config.write_text(yaml.safe_dump(_settings(cluster, tmp_path)))
        async with assembled(load_settings(config)) as app, contextlib.AsyncExitStack() as stack:
            started = asyncio.Event()
            service = asyncio.create_task(serve(app, started=started.set))
            await started.wait()
            stack.push_async_callback(_stopped, app, service)
            _write_configs(tmp_path, cluster, app.url, alertmanager_port)
            stack.enter_context(
                running(
                    [
                        alertmanager, f"--config.file={tmp_path / 'alertmanager.yml'}", f"--storage.path={tmp_path / 'am'}",
                        f"--web.listen-address=127.0.0.1:{alertmanager_port}", "--cluster.listen-address=",
                    ],
                    tmp_path / "alertmanager.log",
                )
            )  # fmt: skip
            await until(lambda: reachable(alertmanager_port), within=20, what="Alertmanager")
            stack.enter_context(
                running(
                    [
                        prometheus, f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                        f"--web.listen-address=127.0.0.1:{prometheus_port}",
                    ],
                    tmp_path / "prometheus.log",
                )
            )  # fmt: skip
            await until(lambda: reachable(prometheus_port), within=20, what="Prometheus")

            cluster.break_running("shop", "api", Behaviour(crash_after=0.5, log="FATAL: poisoned\n"))
            found: list[Any] = []
            held: Any = ()
            deadline = asyncio.get_running_loop().time() + 100
            while asyncio.get_running_loop().time() < deadline:
                found = list(await app.store.incidents(unclosed=False, limit=9))
                if found:
                    held = await app.store.held(found[0].id)
                    if found[0].phase is Phase.RECOVERED and all(str(one.status) == "resolved" for one in held):
                        break
                await asyncio.sleep(0.3)

            (incident,) = found
            timeline = await app.store.timeline(incident.id)
            texts = [entry.text for entry in timeline]
            assert incident.phase is Phase.RECOVERED, texts
            assert str(incident.target) == "workload/shop/api"
            assert {str(one.status) for one in held} == {"resolved"}, texts
            assert len([one for one in cluster.writes if one.name == "api"]) == 1
            assert [entry.kind for entry in timeline].count(EntryKind.WRITE) == 1
            assert any("repeats KubePodCrashLooping" in text for text in texts), texts
            assert any("resolved, says its sender" in text for text in texts), texts
            assert all(one.source_name == "prometheus" for one in held)


async def _stopped(app: Any, service: asyncio.Task[None]) -> None:
    app.supervisor.stop()
    await service


def _settings(cluster: SandboxCluster, folder: Path) -> dict[str, Any]:
    return {
        "act": ["pod-crash-loop"],
        "store": {"path": str(folder / "responder.sqlite")},
        "http": {
            "listen": "127.0.0.1:0",
            "absorb": "1s",
            "tokens": [{"name": "prometheus", "roles": ["send"], "secret": {"env": "SENDER"}}],
        },
        "clusters": {"sandbox": {"kubeconfig": str(cluster.write_kubeconfig(folder / "kubeconfig"))}},
        "channels": {"nobody": {"kind": "webhook", "url": {"env": "SENDER"}}},
        "policies": {"none": {"levels": [{"channels": ["nobody"]}]}},
        "routes": {"default": "none"},
        "rules": {},
        "rule_paths": [str(_fast_rule(folder))],
        "shipped_rules": False,
        "limits": {"group_wait": "8s"},
    }


def _fast_rule(folder: Path) -> Path:
    """Return the shipped rule with a shorter hold: the test waits in real time."""
    text = (Path(__file__).resolve().parents[2] / "rules" / "pod-crash-loop.yaml").read_text()
    (folder / "rules").mkdir()
    path = folder / "rules" / "pod-crash-loop.yaml"
    path.write_text(text.replace("ladder:\n", "hold: 15s\nladder:\n", 1))
    return path.parent


def _write_configs(folder: Path, cluster: SandboxCluster, url: str, alertmanager_port: int) -> None:
    (folder / "rules.yml").write_text(yaml.safe_dump(RULES))
    target = cluster.metrics_url.removeprefix("http://").removesuffix("/metrics")
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(folder / "rules.yml")],
                "scrape_configs": [
                    {"job_name": "kube-state-metrics", "honor_labels": True, "static_configs": [{"targets": [target]}]}
                ],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]},
            }
        )
    )
    receiver = {
        "url": f"{url}/v1/alerts/alertmanager/prometheus",
        "send_resolved": True,
        "http_config": {"authorization": {"credentials": "the-senders-token"}},
    }
    (folder / "alertmanager.yml").write_text(
        yaml.safe_dump(
            {
                "route": {
                    "receiver": "responder",
                    "group_by": ["alertname"],
                    "group_wait": "1s",
                    "group_interval": "2s",
                    "repeat_interval": "1s",
                },
                "receivers": [{"name": "responder", "webhook_configs": [receiver]}],
            }
        )
    )
