"""The Entra double: token endpoint (workload identity, client secret), IMDS, OpenID metadata and keys; every token is really signed.

Source: azure.md 2.4 and 3; Microsoft identity platform, client credentials flow with a federated credential; Azure Instance Metadata Service.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

TENANT = "7d1f0e55-0000-4000-8000-00000000e017"
CLIENT = "7d1f0e55-0000-4000-8000-00000000c11e"
ARM_AUDIENCES = frozenset(
    {"https://management.azure.com", "https://management.azure.com/", "https://management.core.windows.net/"}
)
AKS_AUDIENCE = "6dae42f8-4368-4678-94ff-3960e28e3630"


@functools.cache
def _key() -> rsa.RSAPrivateKey:
    """Return this process' key: making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(slots=True)
class Entra:
    """One tenant.

    Attributes:
        assertion: What a workload's projected token must be; "" takes any.
        secret: What a client secret must be; "" takes any.
        lasts: Seconds that a token is good for.
        down: Answer every request with this status; 0 for none.
        asked: How often a token was asked for, by scope.
        kube_token: Handed out as the token for AKS' API servers instead of a signed one, where the API server double knows one word; "" for signed.
    """

    tenant: str = TENANT
    client: str = CLIENT
    assertion: str = ""
    secret: str = ""
    lasts: int = 3600
    down: int = 0
    kube_token: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _key: rsa.RSAPrivateKey = field(default_factory=_key)
    _kid: str = field(default_factory=lambda: secrets.token_hex(8))

    def routes(self, app: web.Application) -> None:
        """Add the authority's routes."""
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self._token)
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self._metadata)
        app.router.add_get("/{tenant}/discovery/v2.0/keys", self._keys)

    def instance_metadata(self) -> web.Application:
        """Return the application of the machine's metadata service, which speaks plain HTTP."""
        app = web.Application()
        app.router.add_get("/metadata/identity/oauth2/token", self._managed)
        return app

    def sign(self, audience: str, **claims: Any) -> str:
        """Return a token of this tenant, version 1 claims as Entra gives them to applications."""
        now = int(time.time())
        body = {
            "aud": audience, "iss": f"https://sts.windows.net/{self.tenant}/", "tid": self.tenant, "appid": self.client, "oid": self.client,
            "iat": now, "nbf": now - 5, "exp": now + self.lasts, "ver": "1.0", **claims,
        }  # fmt: skip
        return jwt.encode(body, self._key, algorithm="RS256", headers={"kid": self._kid})

    def audience(self, token: str) -> str:
        """Return whom a token of ours is for; "" when it is not ours, or its time is over."""
        try:
            told = jwt.decode(token, self._key.public_key(), algorithms=["RS256"], options={"verify_aud": False})
        except jwt.PyJWTError:
            return ""
        return str(told.get("aud", ""))

    def _issued(self, scope: str) -> str:
        audience = scope.removesuffix("/.default")
        self.asked[audience] += 1
        if audience == AKS_AUDIENCE and self.kube_token:
            return self.kube_token
        return self.sign(audience)

    async def _token(self, request: web.Request) -> web.Response:
        if self.down:
            return web.json_response({"error": "temporarily_unavailable"}, status=self.down)
        form = await request.post()
        proof = str(form.get("client_assertion", "")), str(form.get("client_secret", ""))
        good = any(one and one == (wanted or one) for one, wanted in zip(proof, (self.assertion, self.secret), strict=True))
        if request.match_info["tenant"] != self.tenant or form.get("client_id") != self.client or not good:
            said = "AADSTS70021: No matching federated identity record found for presented assertion."
            return web.json_response({"error": "invalid_client", "error_description": said, "error_codes": [70021]}, status=401)
        token = self._issued(str(form.get("scope", "")).split()[0])
        return web.json_response({"token_type": "Bearer", "expires_in": self.lasts, "access_token": token})

    async def _managed(self, request: web.Request) -> web.Response:
        if self.down:
            return web.json_response({"error": "temporarily_unavailable"}, status=self.down)
        if request.headers.get("Metadata") != "true":
            return web.json_response({"error": "invalid_request"}, status=400)
        resource = request.query.get("resource", "")
        now = int(time.time())
        answer = {"access_token": self._issued(resource), "expires_on": str(now + self.lasts), "expires_in": str(self.lasts)}
        return web.json_response({**answer, "resource": resource, "token_type": "Bearer", "client_id": self.client})

    async def _metadata(self, request: web.Request) -> web.Response:
        tenant = request.match_info["tenant"]
        return web.json_response(
            {
                "issuer": f"https://login.microsoftonline.com/{self.tenant}/v2.0",
                "token_endpoint": f"{self.url}/{tenant}/oauth2/v2.0/token",
                "jwks_uri": f"{self.url}/{tenant}/discovery/v2.0/keys",
                "authorization_endpoint": f"{self.url}/{tenant}/oauth2/v2.0/authorize",
            }
        )

    async def _keys(self, _request: web.Request) -> web.Response:
        public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return web.json_response({"keys": [{**public, "kid": self._kid, "use": "sig", "alg": "RS256"}]})
