"""Secure webhooks: tokens that Entra ID signed, against a double of it with real keys. The cases are azure.md 3's."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from responder.http.entra import COOL_DOWN, FAILED_PAUSE, KEPT, EntraDoor, Keys, Tenant
from responder.model.errors import KeysUnavailableError, NotPermittedError, ResponderError, SettingsError, UnauthenticatedError
from responder.settings import load_settings
from tests.builders import NOON
from tests.fakes.clock import FakeClock
from tests.fakes.entra import (
    AZNS,
    CLIENT_ID,
    EVENT_GRID,
    ID_URI,
    OTHER_TENANT,
    TENANT,
    Entra,
    claims,
    confused,
    jwk,
    key,
    signed,
    tampered,
    unsigned,
)
from tests.scenario.conftest import World

OTHER_APP = "00000003-0000-0000-c000-000000000000"


@dataclass
class Gate:
    """A door with its keys, its clock and the double behind it."""

    entra: Entra
    keys: Keys
    door: EntraDoor
    clock: FakeClock

    async def takes(self, token: str) -> str:
        """Return who calls, or the name of the refusal."""
        try:
            return await self.door.claims(token)
        except ResponderError as error:
            return type(error).__name__

    def good(self, version: str = "2.0", **changes: Any) -> dict[str, Any]:
        return claims(self.entra, version=version, at=self.clock.at, **changes)

    def after(self, seconds: float) -> int:
        return int((self.clock.at + timedelta(seconds=seconds)).timestamp())


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    clock = FakeClock(NOON)
    async with Entra() as entra, aiohttp.ClientSession() as session:
        tenant = Tenant(
            id=TENANT,
            audiences=(ID_URI, CLIENT_ID),
            authority=entra.url,
            issuers=(entra.v1(), entra.v2()),
            leeway=timedelta(seconds=60),
        )
        keys = Keys(tenant, session, seconds=clock.boottime)
        yield Gate(entra, keys, EntraDoor(tenant, keys, apps=[AZNS], roles=["ActionGroupsSecureWebhook"], now=clock.now), clock)


REFUSED, FORBIDDEN = UnauthenticatedError.__name__, NotPermittedError.__name__
CASES: dict[str, tuple[Callable[[Gate], str], str]] = {
    "good, version 1": (lambda gate: signed(gate.good("1.0")), AZNS),
    "good, version 2": (lambda gate: signed(gate.good()), AZNS),
    "another key under the same id": (lambda gate: signed(gate.good(), number=2), REFUSED),
    "expired": (lambda gate: signed(gate.good(exp=gate.after(-61))), REFUSED),
    "expired within the leeway": (lambda gate: signed(gate.good(exp=gate.after(-30))), AZNS),
    "not valid yet": (lambda gate: signed(gate.good(nbf=gate.after(90))), REFUSED),
    "another audience": (lambda gate: signed(gate.good(aud="api://somebody-else")), REFUSED),
    "no audience": (lambda gate: signed(gate.good(aud=None)), REFUSED),
    "no end": (lambda gate: signed(gate.good(exp=None)), REFUSED),
    "another tenant": (lambda gate: signed(gate.good(iss=gate.entra.v2(OTHER_TENANT), tid=OTHER_TENANT)), REFUSED),
    "another application": (lambda gate: signed(gate.good(azp=OTHER_APP)), FORBIDDEN),
    "without the role": (lambda gate: signed(gate.good(roles=["Reader"])), FORBIDDEN),
    "alg none": (lambda gate: unsigned(gate.good()), REFUSED),
    "HS256 with the public key": (lambda gate: confused(gate.good()), REFUSED),
    "a key id nobody has": (lambda gate: signed(gate.good(), kid="invented"), REFUSED),
    "garbage": (lambda _gate: "not.a.token", REFUSED),
    "oversized": (lambda gate: signed(gate.good(more="x" * 20_000)), REFUSED),
    "tampered": (lambda gate: tampered(gate.good()), REFUSED),
}  # fmt: skip
MORE: dict[str, tuple[Callable[[Gate], str], str]] = {
    "issued in the future": (lambda gate: signed(gate.good(iat=gate.after(90))), REFUSED),
    "a little ahead of us": (lambda gate: signed(gate.good(iat=gate.after(50), nbf=gate.after(50))), AZNS),
    "the right issuer, another tid": (lambda gate: signed(gate.good(tid=OTHER_TENANT)), REFUSED),
    "no tid": (lambda gate: signed(gate.good(tid=None)), REFUSED),
    "the issuer without its slash": (lambda gate: signed(gate.good("1.0", iss=gate.entra.v1().rstrip("/"))), REFUSED),
    "version 1's claim in a token of version 2": (lambda gate: signed(gate.good(azp=None, appid=AZNS)), FORBIDDEN),
    "version 2's claim in a token of version 1": (lambda gate: signed(gate.good("1.0", appid=None, azp=AZNS)), FORBIDDEN),
    "the client id as audience of version 1": (lambda gate: signed(gate.good("1.0", aud=CLIENT_ID)), AZNS),
    "no roles": (lambda gate: signed(gate.good(roles=None)), FORBIDDEN),
    "the role as a string": (lambda gate: signed(gate.good(roles="ActionGroupsSecureWebhook")), FORBIDDEN),
    "an end that is no time": (lambda gate: signed(gate.good(exp="tomorrow")), REFUSED),
    "an end that is true": (lambda gate: signed(gate.good(exp=True)), REFUSED),
    "its own key in the header": (lambda gate: signed(gate.good(), number=2, jwk=jwk(key(2), "k1"), jku="https://evil.example/keys"), REFUSED),
    "no key id": (lambda gate: signed(gate.good(), kid=""), REFUSED),
    "empty": (lambda _gate: "", REFUSED),
}  # fmt: skip


def test_there_are_the_eighteen_cases() -> None:
    """azure.md 3 counts them; the rest is ours."""
    assert len(CASES) == 18


@pytest.mark.parametrize("name", [*CASES, *MORE])
async def test_a_token_is_taken_or_refused(gate: Gate, name: str) -> None:
    """Two reasons to refuse: no sound token of our tenant for us (401), or of somebody who may not call (403)."""
    make, expected = {**CASES, **MORE}[name]

    assert await gate.takes(make(gate)) == expected


UNFIT: dict[str, dict[str, Any]] = {
    "for encryption": jwk(key(1), "k1", use="enc"),
    "of another kind": {"kty": "EC", "use": "sig", "kid": "k1", "crv": "P-256", "x": "AA", "y": "AA"},
    "for another algorithm": jwk(key(1), "k1", alg="RS512"),
    "too short": jwk(key(9, 1024), "k1"),
    "symmetric": {"kty": "oct", "kid": "k1", "k": "c2VjcmV0"},
    "broken": {"kty": "RSA", "kid": "k1", "n": "!", "e": "AQAB"},
}


@pytest.mark.parametrize("name", list(UNFIT))
async def test_a_key_that_is_not_for_rs256_signatures_is_none(gate: Gate, name: str) -> None:
    """A key set with nothing else is no key set: 503, not 401."""
    gate.entra.keys = {"k1": UNFIT[name]}

    assert await gate.takes(signed(gate.good())) == KeysUnavailableError.__name__


@pytest.mark.parametrize(
    "answer", ["text", [], {"keys": "none"}, {"keys": [1, None, "x"]}, {"keys": [{}] * 5000}, {"keys": [{"x": "y" * 300_000}]}]
)
async def test_a_key_server_that_answers_nonsense_is_down(gate: Gate, answer: Any) -> None:
    """Bounded, and told like an outage."""
    gate.entra.answer = answer

    assert await gate.takes(signed(gate.good())) == KeysUnavailableError.__name__


async def test_keys_are_only_fetched_from_the_authority(gate: Gate) -> None:
    """Metadata that points elsewhere is not followed."""
    async with Entra() as stranger:
        gate.entra.jwks_uri = f"{stranger.url}/{TENANT}/discovery/v2.0/keys"

        assert await gate.takes(signed(gate.good())) == KeysUnavailableError.__name__
        assert stranger.asked == []


async def test_invented_key_ids_never_flood_the_key_server(gate: Gate) -> None:
    """200 of them cost one fetch in each half minute."""
    await gate.takes(signed(gate.good()))
    before = gate.entra.fetches

    for number in range(200):
        assert await gate.takes(signed(gate.good(), kid=f"invented-{number}")) == REFUSED
    within = gate.entra.fetches
    gate.clock.forward(seconds=COOL_DOWN)
    await asyncio.gather(*(gate.takes(signed(gate.good(), kid=f"again-{number}")) for number in range(50)))

    assert (before, within, gate.entra.fetches) == (1, 1, 2)


async def test_a_rolled_over_key_is_fetched_once_for_all_who_ask(gate: Gate) -> None:
    """20 requests at once after a rollover: one fetch, all taken; the old key is gone."""
    await gate.takes(signed(gate.good()))
    gate.entra.keys = {"k2": jwk(key(2), "k2")}
    gate.entra.delay = 0.05
    gate.clock.forward(seconds=COOL_DOWN)

    took = await asyncio.gather(*(gate.takes(signed(gate.good(), kid="k2", number=2)) for _ in range(20)))

    assert took == [AZNS] * 20
    assert gate.entra.fetches == 2
    assert await gate.takes(signed(gate.good())) == REFUSED


async def test_known_keys_go_on_working_while_the_key_server_is_down_for_a_day(gate: Gate) -> None:
    """They are public; but a withdrawn one is not believed for ever. An unknown id cannot be judged meanwhile."""
    await gate.takes(signed(gate.good()))
    gate.entra.down = True

    gate.clock.forward(seconds=KEPT - 1)
    assert await gate.takes(signed(gate.good())) == AZNS
    assert await gate.takes(signed(gate.good(), kid="k2", number=2)) == KeysUnavailableError.__name__
    gate.clock.forward(seconds=2)
    assert await gate.takes(signed(gate.good())) == KeysUnavailableError.__name__
    gate.entra.down = False
    gate.clock.forward(seconds=FAILED_PAUSE)
    assert await gate.takes(signed(gate.good())) == AZNS


async def test_without_any_key_the_server_is_asked_every_five_seconds_at_most(gate: Gate) -> None:
    """Who cannot be judged is told to come back."""
    gate.entra.down = True

    took = [await gate.takes(signed(gate.good())) for _ in range(50)]

    assert set(took) == {KeysUnavailableError.__name__}
    assert gate.entra.asked == ["openid-configuration"]
    gate.clock.forward(seconds=FAILED_PAUSE)
    await gate.takes(signed(gate.good()))
    assert gate.entra.asked == ["openid-configuration"] * 2


async def test_keys_are_fetched_at_start_and_every_hour(gate: Gate) -> None:
    """So that a rollover and a withdrawal are seen without a request that needs them; sooner again while it fails."""
    waits: list[float] = []

    async def sleep(wait: timedelta) -> None:
        waits.append(wait.total_seconds())
        gate.clock.at += wait
        gate.entra.down = len(waits) == 2
        if len(waits) == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await gate.keys.run(sleep)

    assert waits == [3600.0, 3600.0, COOL_DOWN, 3600.0]


# --- the whole service


OURS = "00000000-0000-0000-0000-00000000000a"
SECURE, GRID, PLAIN = "/v1/alerts/azure-monitor/secure", "/v1/alerts/event-grid/grid", "/v1/alerts/azure-monitor/plain"


@pytest.fixture
async def secure(world: World) -> AsyncIterator[tuple[World, Entra]]:
    async with Entra() as entra:
        world.config["http"]["entra"] = entra.settings()
        world.config["sources"] = {
            "secure": {"kind": "azure_monitor", "entra": {}, "subscriptions": [OURS]},
            "grid": {"kind": "event_grid", "topics": [f"/subscriptions/{OURS}"], "entra": {}},
        }
        yield world, entra


def fired(subscription: str = OURS) -> dict[str, Any]:
    essentials = {
        "alertId": f"/subscriptions/{subscription}/providers/Microsoft.AlertsManagement/alerts/1", "alertRule": "r", "severity": "Sev1",
        "monitorCondition": "Fired", "monitoringService": "Platform", "firedDateTime": "2026-11-25T10:00:00Z",
    }  # fmt: skip
    return {"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": essentials, "alertContext": {}}}


VALIDATION = [
    {
        "id": "1", "topic": f"/subscriptions/{OURS}", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "subject": "",
        "data": {"validationCode": "c0de"},
    }
]  # fmt: skip


async def test_a_secure_webhook_takes_signed_tokens_alone(secure: tuple[World, Entra]) -> None:
    """Each sender's own application and role; no other token, and no secret in the query; a plain webhook takes what it took."""
    world, entra = secure
    await world.start()
    azns, grid = signed(claims(entra)), signed(claims(entra, version="1.0", app=EVENT_GRID))

    codes = {
        "action group": (await world.call("POST", SECURE, fired(), token=azns))[0],
        "event grid": (await world.call("POST", GRID, VALIDATION, token=grid))[0],
        "one as the other": (await world.call("POST", SECURE, fired(), token=grid))[0],
        "the other as one": (await world.call("POST", GRID, VALIDATION, token=azns))[0],
        "a person's token": (await world.call("POST", SECURE, fired(), token="all"))[0],
        "a secret in the query": (await world.call("POST", f"{SECURE}?token=all", fired(), token=""))[0],
        "nothing": (await world.call("POST", SECURE, fired(), token=""))[0],
        "a plain webhook": (await world.call("POST", f"{PLAIN}?token=all", fired(), token=""))[0],
        "a signed token elsewhere": (await world.call("POST", PLAIN, fired(), token=azns))[0],
        "a signed token for the API": (await world.call("GET", "/v1/incidents", token=azns))[0],
    }

    assert codes == {
        "action group": 202, "event grid": 200, "one as the other": 403, "the other as one": 403, "a person's token": 401,
        "a secret in the query": 401, "nothing": 401, "a plain webhook": 202, "a signed token elsewhere": 401, "a signed token for the API": 401,
    }  # fmt: skip


async def test_an_alert_of_another_subscription_is_kept_and_never_acted_on(secure: tuple[World, Entra]) -> None:
    """The token proves only that some action group of the tenant sent it."""
    world, entra = secure
    await world.start()

    code, _, _ = await world.call("POST", SECURE, fired("00000000-0000-0000-0000-00000000000b"), token=signed(claims(entra)))

    async def listed() -> bool:
        _, found, _ = await world.call("GET", "/v1/alerts?why=not_entitled")
        return len(found["alerts"]) == 1

    await world.until(listed)
    assert code == 202


async def test_an_outage_of_the_key_server_is_503_and_what_was_known_works_on(secure: tuple[World, Entra]) -> None:
    """Azure repeats 503, and never 401."""
    world, entra = secure
    entra.down = True
    await world.start()

    code, body, headers = await world.call("POST", SECURE, fired(), token=signed(claims(entra)))
    ready, _, _ = await world.call("GET", "/readyz", token="")
    _, examined, _ = await world.call("GET", "/v1/doctor")
    (keys,) = [one for one in examined["findings"] if one["what"] == "entra keys"]
    assert not keys["well"]
    assert "503" in keys["said"] + keys["advice"]
    entra.down = False

    async def taken() -> bool:
        return (await world.call("POST", SECURE, fired(), token=signed(claims(entra))))[0] == 202

    await world.until(taken)
    entra.down = True
    again, _, _ = await world.call("POST", SECURE, fired(), token=signed(claims(entra)))

    assert (code, headers["Retry-After"], ready, again) == (503, "5", 200, 202)
    assert "keys" in body["error"]["what"]


async def test_event_grid_may_ask_for_permission_without_a_token(secure: tuple[World, Entra]) -> None:
    """The specification leaves the token of this one request open; a wrong one is refused all the same."""
    world, entra = secure
    await world.start()

    async def options(token: str) -> int:
        headers = {"WebHook-Request-Origin": "eventgrid.azure.net", **({"Authorization": f"Bearer {token}"} if token else {})}
        async with world.session.options(f"{world.parts.url}{GRID}", headers=headers) as response:
            return response.status

    assert await options("") == 200
    assert await options(signed(claims(entra, app=EVENT_GRID))) == 200
    assert await options("wrong") == 401


async def test_a_secret_in_the_query_is_never_written_down(
    world: World, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in a log line, an answer, or the store: taken, refused, malformed, too large, broken by us, and no HTTP at all."""
    import structlog  # noqa: PLC0415 - the log is switched on for this test alone

    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    caplog.set_level(logging.DEBUG)
    secret = "s3cr3t-" + "q" * 20
    world.config["sources"] = {"grid": {"kind": "event_grid", "topics": [f"/subscriptions/{OURS}"]}}
    world.config["http"]["tokens"][1] = {"name": "plain", "roles": ["send"], "secret": {"env": "PLAIN"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIN", secret)
        await world.start()
    said: list[str] = []
    for path, raw in (
        (PLAIN, json.dumps(fired()).encode()),
        (PLAIN, b"{not json"),
        (PLAIN, b'"' + b"x" * (1 << 20) + b'"'),
        ("/v1/alerts/nagios/x", b"{}"),
        ("/v1/alerts/event-grid/other", b"{}"),
        (GRID, json.dumps(VALIDATION).encode()),
        ("/v1/incidents/x/close", b"{}"),
    ):
        _, body, _ = await world.call("POST", f"{path}?token={secret}", raw=raw, token="")
        said.append(json.dumps(body))
    runner = world.parts.store.runner
    real, runner.run = runner.run, _broken  # type: ignore[method-assign, assignment]
    said.append(json.dumps((await world.call("POST", f"{PLAIN}?token={secret}", fired(), token=""))[1]))
    runner.run = real  # type: ignore[method-assign]
    reader, writer = await asyncio.open_connection("127.0.0.1", world.parts.server.port)
    writer.write(f"POST {PLAIN}?token={secret} HTTP/9.9\r\nHost: x\x00y\r\n\r\n".encode())
    await reader.read(4096)
    writer.close()
    await world.until(lambda: _routed(world))
    _, timeline, _ = await world.call("GET", "/v1/deliveries")
    said.append(json.dumps(timeline))
    await world.stop()
    out = capsys.readouterr()
    kept = b"".join(path.read_bytes() for path in Path(world.folder).glob("responder.sqlite*"))

    assert "delivery_refused" in out.out
    assert "request_failed" in out.out
    assert secret not in out.out + out.err + caplog.text + "".join(said)
    assert secret.encode() not in kept


async def _broken(*_arguments: object) -> object:
    raise ZeroDivisionError("a bug of ours")


async def _routed(world: World) -> bool:
    found = await world.parts.store.deliveries(state=None, limit=9)
    return bool(found) and all(str(one.state) != "new" for one in found)


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no tenant": ({}, {"ag": {"kind": "azure_monitor", "entra": {}}}, "sources.ag.entra needs http.entra"),
    "keys without TLS": ({"entra": {"tenant": TENANT, "audiences": ["a"], "authority": "http://login.example"}}, {}, "https"),
    "a tenant by name": ({"entra": {"tenant": "contoso.com", "audiences": ["a"]}}, {}, "is no GUID"),
    "no audience": ({"entra": {"tenant": TENANT, "audiences": []}}, {}, "audiences"),
    "an hour of leeway": ({"entra": {"tenant": TENANT, "audiences": ["a"], "leeway": "1h"}}, {}, "at most 5m"),
    "a topic that is none": ({}, {"grid": {"kind": "event_grid", "topics": ["aks-prod"]}}, "is no ARM id"),
    "no topic": ({}, {"grid": {"kind": "event_grid", "topics": []}}, "topics"),
    "a subscription by name": ({}, {"ag": {"kind": "azure_monitor", "subscriptions": ["prod"]}}, "is no GUID"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_settings_that_cannot_be_safe_are_refused(tmp_path: Path, name: str) -> None:
    """At load, in words, with the line."""
    http, sources, said = WRONG[name]
    path = tmp_path / "responder.yaml"
    path.write_text(yaml.safe_dump({"http": {"authentication": False, **http}, "sources": sources}))

    with pytest.raises(SettingsError) as caught:
        load_settings(path)

    assert said in str(caught.value)


SERVICE = (
    "responder.cli.main",
    "typer",
    "rich",
    "jinja2",
    "alembic",
    "asyncpg",
    "azure.servicebus",
    "azure.identity",
    "azure.core",
)
"""What a service needs for its first page, its first migration, its database or its Azure, and not to begin."""


@pytest.mark.parametrize(
    ("begins", "unwanted"),
    [("responder.app, responder.cli.main", ()), ("responder.cli.serving", SERVICE)],
    ids=["command line", "service"],
)
async def test_cryptography_is_imported_only_where_a_source_needs_it(begins: str, unwanted: tuple[str, ...]) -> None:
    """Start-up time counts, and most installations have no secure webhook. The sandbox, which has the demonstration's doubles of both, stays away too."""
    unwanted = ("jwt", "cryptography", "responder.sandbox", *unwanted)
    code = f"import sys, {begins}; print(*(name for name in {unwanted} if name in sys.modules))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    loaded, _ = await process.communicate()

    assert (process.returncode, loaded.decode().split()) == (0, [])
