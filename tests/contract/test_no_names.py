"""DNS is gone: every adapter says so as something that is worth another try, in bounded time, and shows no secret."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any, NoReturn

import aiohttp
import msgspec
import pytest
from kubernetes_asyncio.client import Configuration

from responder.clusters.kubernetes.client import Access, KubernetesClient
from responder.model.errors import SettingsError, StoreUnavailableError, TransientError
from responder.notifiers import build
from responder.stores import open_postgres
from tests.fakes.clock import FakeClock
from tests.unit.notifiers.test_notifiers import notice


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name resolves; the system's own resolver has no other seam."""

    def gone(*asked: Any, **more: Any) -> NoReturn:
        del asked, more
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", gone)


async def test_a_cluster_without_a_name_is_transient(no_names: None) -> None:
    """Its incidents wait as unknown, and are read again."""
    del no_names
    configuration = Configuration()
    configuration.host = "http://api.cluster.example:443"

    async def again() -> Configuration:
        return configuration

    client = KubernetesClient("prod", Access(configuration=configuration, reload=again))
    with pytest.raises(TransientError, match=r"name resolution|Cannot connect"):
        await client.read("/version", msgspec.Raw, within=timedelta(seconds=2))
    await client.close()


@pytest.mark.parametrize("kind", ["pagerduty", "teams", "webhook"])
async def test_a_channel_without_a_name_is_tried_again_and_its_url_is_in_no_error(kind: str, no_names: None) -> None:
    """The URL is the secret."""
    del no_names
    secret = "https://hooks.example/T0PSECRET/x"
    given = {"routing_key": "k" * 32, "endpoint": secret} if kind == "pagerduty" else {"url": secret}
    async with aiohttp.ClientSession() as session:
        channel = build(kind, "people", given, session)
        with pytest.raises(TransientError) as caught:
            await channel.send(notice())
        with pytest.raises(TransientError) as unreachable:
            await channel.reach()

    assert "T0PSECRET" not in f"{caught.value} {unreachable.value}"


async def test_a_database_without_a_name_stops_the_start_with_what_to_do(no_names: None) -> None:
    """Nothing can be done without a store; Kubernetes starts it again. The password is not shown."""
    del no_names
    with pytest.raises(SettingsError, match=r"db\.example.*check that the server runs") as caught:
        await open_postgres("postgresql://u:T0PSECRET@db.example/responder", FakeClock(), pool=1)

    assert "T0PSECRET" not in str(caught.value)


async def test_a_database_whose_name_is_gone_while_we_run_is_unavailable_until_it_is_back(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new connection asks for the name again; nothing is restarted."""
    store = await open_postgres(postgres_url, FakeClock(), pool=1, database_time=False)
    runner: Any = store.runner
    real = runner._url
    await runner._engine.dispose()

    def gone(*asked: Any, **more: Any) -> NoReturn:
        del asked, more
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", gone)
        runner._url = "postgresql://postgres@db.example/responder"
        runner._engine = _engine_of(runner)
        with pytest.raises(StoreUnavailableError, match="name resolution"):
            await store.backlog()
        await runner._engine.dispose()
    runner._url = real
    runner._engine = _engine_of(runner)

    assert await store.backlog() == 0
    await store.close()


def _engine_of(runner: Any) -> Any:
    from responder.stores.sql.runners import postgres  # noqa: PLC0415 - what open makes, for another host

    return postgres._engine(runner._url, postgres._SESSION, pool_size=1, max_overflow=0, pool_timeout=5.0)
