"""A real Alertmanager is asked what holds now: missed while we were away, lost on the way, silenced there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.app import App, assembled, serve
from responder.model.alert import AlertStatus
from responder.settings import load_settings
from tests.e2e.conftest import free_port, reachable, require, require_file, running, until

F, R = AlertStatus.FIRING, AlertStatus.RESOLVED


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A real Alertmanager whose receiver posts to a port of ours; its address and that port."""
    binary = require("prometheus-alertmanager", env="RESPONDER_E2E_ALERTMANAGER")
    require_file(
        Path("/usr/share/prometheus/alertmanager/default.tmpl"),
        "Debian's Alertmanager opens its templates by an absolute path: copy them there",
    )
    port, ours = free_port(), free_port()
    receiver = {
        "url": f"http://127.0.0.1:{ours}/v1/alerts/alertmanager/prometheus",
        "http_config": {"authorization": {"credentials": "the-senders-token"}},
    }
    elsewhere = {"receiver": "null", "matchers": ['alertname="Watchdog"']}
    route: dict[str, Any] = {
        "receiver": "responder", "group_by": ["alertname"], "group_wait": "1s", "group_interval": "1h", "repeat_interval": "4h", "routes": [elsewhere],
    }  # fmt: skip
    (tmp_path / "alertmanager.yml").write_text(
        yaml.safe_dump({"route": route, "receivers": [{"name": "responder", "webhook_configs": [receiver]}, {"name": "null"}]})
    )
    arguments = [
        binary, f"--config.file={tmp_path / 'alertmanager.yml'}", f"--storage.path={tmp_path / 'am'}", f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]  # fmt: skip
    with running(arguments, tmp_path / "alertmanager.log"):
        yield f"http://127.0.0.1:{port}", ours


def tool(url: str, *arguments: str) -> str:
    """Run amtool."""
    binary = require("amtool")
    done = subprocess.run(
        [binary, f"--alertmanager.url={url}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": "/nonexistent"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def add(url: str, name: str, *, over: bool = False, **labels: str) -> None:
    """Let an alert fire, or end; with a start to the nanosecond, as Prometheus' are."""
    now = datetime.now(tz=UTC)
    given = [f"{key}={value}" for key, value in labels.items()]
    end = now - timedelta(seconds=1) if over else now + timedelta(hours=1)
    tool(
        url,
        "alert",
        "add",
        name,
        *given,
        "--start",
        STARTS_AT,
        "--end",
        end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "--annotation",
        "summary=x",
    )


STARTS_AT = (datetime.now(tz=UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")


@contextlib.asynccontextmanager
async def service(folder: Path, url: str, port: int) -> AsyncIterator[App]:
    config: dict[str, Any] = {
        "store": {"path": str(folder / "responder.sqlite")},
        "http": {"listen": f"127.0.0.1:{port}", "tokens": [{"name": "am", "roles": ["send"], "secret": {"env": "SENDER"}}]},
        "sources": {
            "prometheus": {
                "kind": "alertmanager",
                "ask": {"url": url, "receivers": ["responder"], "every": "2s", "settled_after": "0s"},
            }
        },
    }
    path = folder / "responder.yaml"
    path.write_text(yaml.safe_dump(config))
    async with assembled(load_settings(path)) as app:
        started = asyncio.Event()
        task = asyncio.create_task(serve(app, started=started.set))
        await started.wait()
        try:
            yield app
        finally:
            app.supervisor.stop()
            await task


async def states(app: App) -> dict[str, AlertStatus]:
    return {one.name: one.status for one in await app.store.instances(why=None, firing=False, limit=99)}


async def becomes(app: App, wanted: dict[str, AlertStatus]) -> None:
    try:
        async with asyncio.timeout(25):
            while await states(app) != wanted:
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{await states(app)} is not {wanted}") from None


async def test_a_real_alertmanager_is_asked_and_nothing_is_invented(
    alertmanager: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missed and delivered alerts are one firing each; a lost Resolved is found; what is silenced or goes elsewhere is neither new nor over."""
    monkeypatch.setenv("SENDER", "the-senders-token")
    url, port = alertmanager
    await until(lambda: reachable(int(url.rsplit(":", 1)[1])), within=20, what="Alertmanager")
    add(url, "Missed", namespace="shop")
    add(url, "Watchdog")
    tool(url, "silence", "add", "alertname=Silenced", "--comment", "x", "--duration", "1h", "--author", "t")
    add(url, "Silenced", namespace="shop")
    await asyncio.sleep(1.5)  # its first notification finds nobody: group_interval keeps it from trying again

    async with service(tmp_path, url, port) as app:
        await becomes(app, {"Missed": F})
        add(url, "Delivered", namespace="shop")
        await becomes(app, {"Missed": F, "Delivered": F})
        await asyncio.sleep(3)
        kept = await app.store.instances(why=None, firing=False, limit=99)
        assert len(kept) == 2, [(one.name, one.instance) for one in kept]

    add(url, "Missed", namespace="shop", over=True)  # while we are away; group_interval is an hour
    async with service(tmp_path, url, port) as app:
        await becomes(app, {"Missed": R, "Delivered": F})
        tool(url, "silence", "add", "alertname=Delivered", "--comment", "x", "--duration", "1h", "--author", "t")
        await asyncio.sleep(5)
        assert await states(app) == {"Missed": R, "Delivered": F}
        silences = [
            one["id"]
            for one in json.loads(tool(url, "silence", "query", "-o", "json"))
            if "Silenced" in json.dumps(one["matchers"])
        ]
        tool(url, "silence", "expire", *silences)
        await becomes(app, {"Missed": R, "Delivered": F, "Silenced": F})
