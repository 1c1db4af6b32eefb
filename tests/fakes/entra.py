"""A double of Entra ID on loopback: metadata, signing keys, and tokens of any kind. It can roll keys over, be slow, be down, and counts what it is asked."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from responder.http.server import stop_serving

TENANT = "72f988bf-0000-41af-91ab-2d7cd011db47"
OTHER_TENANT = "11111111-0000-41af-91ab-2d7cd011db47"
CLIENT_ID = "5f0e1a2b-0000-4d33-9b55-000000000001"
ID_URI = "api://responder"
AZNS = "461e8683-5575-4561-ac7f-899cc907d62a"
EVENT_GRID = "4962773b-9cdb-44cf-a8bf-237846a00ab7"


@functools.cache
def key(number: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a private key, always the same for a number in one run."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(private: rsa.RSAPrivateKey, kid: str, **changes: Any) -> dict[str, Any]:
    """Return the public half as Entra publishes it."""
    numbers = private.public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    return {
        "kty": "RSA", "use": "sig", "kid": kid, "x5t": kid, "n": b64(numbers.n.to_bytes(size, "big")), "e": b64(numbers.e.to_bytes(3, "big")),
        "x5c": ["MIIC"], **changes,
    }  # fmt: skip


class Entra:
    """The double. ``keys``: what it publishes, by key id."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"k1": jwk(key(1), "k1")}
        self.down = False
        self.delay = 0.0
        self.answer: Any = None
        self.jwks_uri = ""
        self.asked: list[str] = []
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self._metadata)
        app.router.add_get("/{tenant}/discovery/v2.0/keys", self._jwks)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await stop_serving(self._runner)

    async def _metadata(self, request: web.Request) -> web.Response:
        return await self._said(
            request,
            {"issuer": self.v2(), "jwks_uri": self.jwks_uri or f"{self.url}/{request.match_info['tenant']}/discovery/v2.0/keys"},
        )

    async def _jwks(self, request: web.Request) -> web.Response:
        return await self._said(request, {"keys": list(self.keys.values())} if self.answer is None else self.answer)

    async def _said(self, request: web.Request, body: Any) -> web.Response:
        self.asked.append(request.path.rsplit("/", 1)[1])
        await asyncio.sleep(self.delay)
        return web.Response(status=503) if self.down else web.json_response(body)

    @property
    def fetches(self) -> int:
        return self.asked.count("keys")

    def v1(self, tenant: str = TENANT) -> str:
        return f"https://sts.windows.net/{tenant}/"

    def v2(self, tenant: str = TENANT) -> str:
        return f"{self.url}/{tenant}/v2.0"

    def settings(self) -> dict[str, Any]:
        """Return ``http.entra`` that takes its tokens."""
        return {"tenant": TENANT, "audiences": [ID_URI, CLIENT_ID], "authority": self.url}


def claims(entra: Entra, *, version: str = "2.0", at: datetime | None = None, app: str = AZNS, **changes: Any) -> dict[str, Any]:
    """Return the claims of a good token; a change to None leaves one out."""
    now = int((at or datetime.now(tz=UTC)).timestamp())
    first = version == "1.0"
    found = {
        "aud": ID_URI if first else CLIENT_ID,
        "iss": entra.v1() if first else entra.v2(),
        "iat": now - 60, "nbf": now - 60, "exp": now + 3600,
        ("appid" if first else "azp"): app,
        "roles": ["ActionGroupsSecureWebhook" if app == AZNS else "AzureEventGridSecureWebhookSubscriber"],
        "tid": TENANT, "ver": version, "oid": "o", "sub": "o", "idtyp": "app",
    }  # fmt: skip
    return {name: value for name, value in {**found, **changes}.items() if value is not None}


def signed(said: Mapping[str, Any], *, kid: str = "k1", number: int = 1, **headers: Any) -> str:
    """Return a token signed by a key."""
    return jwt.encode(dict(said), key(number), algorithm="RS256", headers={"kid": kid, **headers})


def unsigned(said: Mapping[str, Any]) -> str:
    """Return a token with ``alg: none``."""
    return f"{b64(json.dumps({'alg': 'none', 'typ': 'JWT', 'kid': 'k1'}).encode())}.{b64(json.dumps(dict(said)).encode())}."


def confused(said: Mapping[str, Any]) -> str:
    """Return a token whose HMAC secret is our public key: what a verifier that believes ``alg`` would take."""
    public = key(1).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    start = f"{b64(json.dumps({'alg': 'HS256', 'typ': 'JWT', 'kid': 'k1'}).encode())}.{b64(json.dumps(dict(said)).encode())}"
    return f"{start}.{b64(hmac.new(public, start.encode(), hashlib.sha256).digest())}"


def tampered(said: Mapping[str, Any]) -> str:
    """Return a signed token whose claims were changed afterwards."""
    head, _, signature = signed(said).split(".")
    return f"{head}.{b64(json.dumps({**said, 'roles': ['Everything'], 'exp': said['exp'] + 1}).encode())}.{signature}"
