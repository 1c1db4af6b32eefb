"""The whole service with a Service Bus source, and the command line beside it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.model.errors import SettingsError
from responder.sandbox.service_bus import Broker
from responder.settings import load_settings
from tests.bus import LEAKS, alert, quick
from tests.scenario.conftest import World

pytestmark = LEAKS


@pytest.fixture(autouse=True)
def hurry() -> Iterator[None]:
    with quick():
        yield


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as made:
        made.queue("alerts")
        yield made


@pytest.fixture
def with_source(world: World, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("BUS", broker.connection_string)
    world.config["sources"] = {"bus": {"kind": "service_bus", "connection_string": {"env": "BUS"}, "queue": "alerts"}}
    return world


async def responder(world: World, *arguments: str) -> tuple[int, str, str]:
    env = {**os.environ, "RESPONDER_CONFIG": str(world.folder / "responder.yaml")}
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "responder", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    out, err = await done.communicate()
    return done.returncode or 0, out.decode(), err.decode()


async def test_a_message_becomes_a_routed_alert_and_a_dead_letter_is_seen_corrected_and_handled(
    with_source: World, broker: Broker
) -> None:
    """From the queue to the alerts; from the dead letters back to the queue; metrics count both."""
    world = with_source
    await world.start()
    broker.put("alerts", alert(1), message_id="good")
    broker.put("alerts", b"no json", message_id="bad")

    async def routed() -> bool:
        _, _, found = 0, 0, await world.parts.store.deliveries(state=None, limit=10)
        return [str(one.state) for one in found] == ["routed"]

    await world.until(routed)
    await world.until(lambda: broker.dead_letters("alerts"))
    listed = json.loads((await responder(world, "deadletter", "list", "--json"))[1])
    number = listed["dead_letters"][0]["sequence"]
    _, shown, _ = await responder(world, "deadletter", "show", str(number))
    code, again, _ = await responder(world, "deadletter", "resubmit", str(number))
    await world.until(lambda: broker.dead_letters("alerts"))
    missing, _, said = await responder(world, "deadletter", "show", "777")
    _, metrics, _ = await world.call("GET", "/metrics", token="")
    await world.stop()

    assert listed["entity"] == "alerts"
    assert "Malformed" in shown
    assert "no json" in shown
    assert (code, again) == (0, f"{number} bad: sent again (Malformed)\n")
    assert missing == 1
    assert "responder deadletter list" in said
    assert 'responder_service_bus_messages_total{event="dead_lettered",source="bus"} 2.0' in metrics
    assert 'responder_service_bus_connected{source="bus"} 1.0' in metrics
    assert broker.dead_letters("alerts")[0]["id"] == f"bad~{number}"


async def test_a_dead_broker_leaves_readiness_and_webhooks_alone(with_source: World, broker: Broker) -> None:
    """The gauge says it; nothing else suffers; and stopping does not wait for it."""
    world = with_source
    broker.refuse_connections = True
    await world.start()
    await world.until(lambda: broker.connections > 1)

    ready, _, _ = await world.call("GET", "/readyz", token="")
    _, examined, _ = await world.call("GET", "/v1/doctor")
    taken = await world.alert("KubePodCrashLooping", namespace="shop", pod="x")
    async with asyncio.timeout(15):
        await world.stop()

    assert (ready, taken) == (200, 202)
    (said,) = [one for one in examined["findings"] if one["what"] == "source bus"]
    assert not said["well"]
    assert said["said"]
    assert "its queue" in said["advice"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "neither namespace nor connection string": ({"queue": "q"}, "exactly one of namespace"),
    "a topic without a subscription": ({"namespace": "n", "topic": "t"}, "a topic and its subscription"),
    "both kinds of entity": ({"namespace": "n", "queue": "q", "topic": "t", "subscription": "s"}, "name a queue, or a topic"),
    "a secret inline": ({"connection_string": "Endpoint=sb://x;SharedAccessKey=secret", "queue": "q"}, "connection_string"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_a_source_that_cannot_work_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    """At load, in words; a secret is never repeated."""
    given, said = WRONG[name]
    path = tmp_path / "responder.yaml"
    path.write_text(yaml.safe_dump({"http": {"authentication": False}, "sources": {"bus": given}}))

    with pytest.raises(SettingsError) as caught:
        load_settings(path)

    assert said in str(caught.value)
    assert "SharedAccessKey" not in str(caught.value)


def test_no_azure_package_is_imported_until_a_link_is_opened() -> None:
    """Start-up time counts, and most installations have no Service Bus."""
    code = "import sys, responder.app, responder.cli.main; sys.exit(any(one.split('.')[0] == 'azure' for one in sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
