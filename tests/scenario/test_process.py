"""The service as a process of its own: SIGTERM, kill -9 in the middle of a rung, and the command line beside it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from responder.sandbox import Behaviour, SandboxCluster, Timings

RULES = Path(__file__).resolve().parents[2] / "rules"


@dataclass(slots=True)
class Place:
    """A configured service, not started."""

    cluster: SandboxCluster
    config: Path
    port: int

    def start(self) -> subprocess.Popen[bytes]:
        log = (self.config.parent / "log.jsonl").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "responder", "serve", "--config", str(self.config)],
            stderr=log,
            env={**os.environ, "TOKEN": "t"},
        )
        log.close()
        return process

    async def get(self, path: str) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": "Bearer t"}) as response,
        ):
            return await response.json()

    async def ready(self) -> None:
        async with asyncio.timeout(90):
            while True:
                try:
                    if (await self.get("/readyz"))["ready"]:
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)

    async def alert(self) -> int:
        one = {
            "status": "firing",
            "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop", "deployment": "api"},
            "startsAt": "2026-11-24T10:00:00Z",
        }
        url = f"http://127.0.0.1:{self.port}/v1/alerts/alertmanager/p"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"version": "4", "alerts": [one]}, headers={"Authorization": "Bearer t"}) as response,
        ):
            return response.status

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "RESPONDER_URL": f"http://127.0.0.1:{self.port}", "RESPONDER_TOKEN": "t"}
        return subprocess.run(
            [sys.executable, "-m", "responder", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=30,
        )


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    import socket  # noqa: PLC0415

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    rules = tmp_path / "rules"
    rules.mkdir()
    text = (RULES / "pod-crash-loop.yaml").read_text()
    (rules / "pod-crash-loop.yaml").write_text(text.replace("ladder:\n", "hold: 15s\nladder:\n", 1))
    async with SandboxCluster(timings=Timings(every=0.1, starts_in=0.2)) as cluster:
        cluster.deployment("shop", "api", image="shop/api:1", replicas=2)
        await cluster.wait_for(lambda: cluster.available("shop", "api"), within=30)
        config = {
            "act": ["pod-crash-loop"],
            "shipped_rules": False,
            "rule_paths": [str(rules)],
            "store": {"path": str(tmp_path / "responder.sqlite")},
            "http": {
                "listen": f"127.0.0.1:{port}",
                "tokens": [{"name": "ana", "roles": ["send", "view", "operate", "approve"], "secret": {"env": "TOKEN"}}],
            },
            "clusters": {"sandbox": {"kubeconfig": str(cluster.write_kubeconfig(tmp_path / "kubeconfig"))}},
            "channels": {"hook": {"kind": "webhook", "url": {"env": "TOKEN"}}},
            "policies": {"p": {"levels": [{"channels": ["hook"]}]}},
            "routes": {"default": "p"},
            "limits": {"group_wait": "2s"},
        }
        path = tmp_path / "responder.yaml"
        path.write_text(yaml.safe_dump(config))
        yield Place(cluster=cluster, config=path, port=port)


async def exited(process: subprocess.Popen[bytes], *, within: float = 90) -> int:
    ends_at = time.monotonic() + within
    while process.poll() is None and time.monotonic() < ends_at:
        await asyncio.sleep(0.05)
    if process.poll() is None:
        process.kill()
    return process.wait()


async def test_kill_9_in_the_middle_of_a_rung_repeats_nothing(place: Place) -> None:
    """Killed right after the cluster took the restart, before that was recorded; the next life proves it."""
    first = place.start()
    try:
        await place.ready()
        place.cluster.break_running("shop", "api", Behaviour(crash_after=0.5))
        await place.cluster.wait_for(
            lambda: all(pod["status"]["containerStatuses"][0]["restartCount"] for pod in place.cluster.pods("shop", "api")),
            within=20,
        )
        assert await place.alert() == 202
        async with asyncio.timeout(90):
            while not place.cluster.writes:
                await asyncio.sleep(0.005)
    finally:
        first.send_signal(signal.SIGKILL)
    await exited(first)
    second = place.start()
    try:
        await place.ready()
        async with asyncio.timeout(90):
            while True:
                (incident,) = (await place.get("/v1/incidents?all=true"))["incidents"]
                if incident["phase"] == "recovered":
                    break
                await asyncio.sleep(0.2)
        assert [one.name for one in place.cluster.writes] == ["api"]
        told = place.cli("report", incident["id"])
        assert "workload.restart" in told.stdout
    finally:
        second.send_signal(signal.SIGTERM)
    assert await exited(second) == 0


async def test_the_command_line_steers_a_running_service(place: Place) -> None:
    """List, pause, note, mode, close; JSON on request; exit codes 0, 1 and 2."""
    process = place.start()
    try:
        await place.ready()
        assert place.cli("mode", "off", "--why", "test").returncode == 0
        place.cluster.break_running("shop", "api", Behaviour(crash_after=0.5))
        await place.cluster.wait_for(
            lambda: all(pod["status"]["containerStatuses"][0]["restartCount"] for pod in place.cluster.pods("shop", "api")),
            within=20,
        )
        await place.alert()
        async with asyncio.timeout(90):
            while True:
                listed = json.loads((await asyncio.to_thread(place.cli, "incidents", "--json")).stdout)["incidents"]
                if listed and listed[0]["reason"] == "kill_switch":
                    break
                await asyncio.sleep(0.2)
        name = listed[0]["id"]
        results = [
            await asyncio.to_thread(place.cli, *words)
            for words in (
                ("pause", name),
                ("incidents", "note", name, "mine"),
                ("incidents", "acknowledge", name),
                ("undo", name),
            )
        ]
        assert [one.returncode for one in results] == [0, 0, 0, 0]
        wrong = await asyncio.to_thread(place.cli, "approve", name, "--plan", "x")
        assert (wrong.returncode, "asks nothing now" in wrong.stderr) == (1, True)
        assert (await asyncio.to_thread(place.cli, "nonsense")).returncode == 2
        assert (await asyncio.to_thread(place.cli, "incidents", "close", name, "--why", "done")).returncode == 0
        async with asyncio.timeout(90):
            while (await place.get("/v1/incidents"))["incidents"]:
                await asyncio.sleep(0.1)
        said = (await asyncio.to_thread(place.cli, "incidents", "timeline", name)).stdout
        assert "ana: mine" in said
        assert "closed by ana done" in said
        assert place.cluster.tried == []
    finally:
        process.send_signal(signal.SIGTERM)
    assert await exited(process) == 0


def test_check_reports_every_error_at_once_with_its_place(tmp_path: Path) -> None:
    """file:line:column for each, exit code 1."""
    (tmp_path / "bad.yaml").write_text(
        "rule: bad\ntitel: x\nowner: me\nrunbook: https://x.example\nmatch: [{}]\ntarget: workload\nladder:\n  - do: workload.restrat\n    within: soon\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "responder", "check", str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    for place in ("bad.yaml:2:1", "bad.yaml:8:", "bad.yaml:9:"):
        assert place in done.stdout, done.stdout


def test_explain_works_without_a_running_service(tmp_path: Path) -> None:
    """With a configuration and no cluster it says what it cannot know."""
    config = tmp_path / "responder.yaml"
    config.write_text(yaml.safe_dump({"http": {"listen": "127.0.0.1:0", "authentication": False}}))
    payload = tmp_path / "p.json"
    payload.write_text(
        json.dumps(
            {
                "version": "4",
                "alerts": [{"status": "firing", "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop"}}],
            }
        )
    )

    done = subprocess.run(
        [sys.executable, "-m", "responder", "explain", str(payload), "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "+ pod-crash-loop (shadow)" in done.stdout
    assert "- service-endpoints" in done.stdout
