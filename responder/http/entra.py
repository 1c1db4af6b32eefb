"""Entra-signed callers: the tokens of Azure Monitor's secure webhook and of Event Grid. Source: azure.md 3, protocols.md 1.7 and 3.5.

Checked in this order: length, header (RS256 and a key id, nothing else of it is believed), key of our tenant, signature, times, audience, issuer, tenant,
calling application, role. Imported only where a source asks for it: cryptography is large.

Keys are public and few: those that were fetched go on working for a day while their server is down. A key id that is not known is asked for at most once in
``COOL_DOWN``, whoever invents how many. What cannot be judged for want of keys is 503 and not 401: Azure repeats the first and never the second.

The decision a reader would question: the times are checked here and not by PyJWT, which reads the machine's own clock. Ours is the store's, the same on
every replica, and tests move it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from responder.http.auth import Caller, Role
from responder.model.errors import KeysUnavailableError, NotPermittedError, UnauthenticatedError
from responder.telemetry import logger

LONGEST_TOKEN = 16_384
LONGEST_ANSWER = 1 << 18
LEAST_KEY_BITS = 2048
MOST_KEYS = 100
FETCH_WITHIN = aiohttp.ClientTimeout(total=4)
"""For each of the two requests: an action group gives up after about ten seconds (protocols.md 1.6)."""

COOL_DOWN = 30.0
"""Seconds between two fetches for key ids that are not known. Entra publishes keys long before it signs with them, so this refuses nobody real."""

FAILED_PAUSE = 5.0
"""Seconds before another try while there are no keys at all."""

FRESH = timedelta(hours=1)
KEPT = 24 * 3600.0
"""Keys are fetched anew every hour, and without success believed for a day: so long may a withdrawn key still be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Whose tokens are taken.

    Attributes:
        id: The tenant's GUID, lower-cased.
        audiences: What ``aud`` may be: the application's client id and its id URI.
        authority: Where its metadata is, such as ``https://login.microsoftonline.com``; no slash at the end.
        issuers: ``iss`` of tokens of version 1.0 and of version 2.0.
        leeway: How far clocks may be apart.
    """

    id: str
    audiences: tuple[str, ...]
    authority: str
    issuers: tuple[str, str]
    leeway: timedelta


class Keys:
    """The signing keys of a tenant."""

    def __init__(
        self, tenant: Tenant, session: aiohttp.ClientSession, *, seconds: Callable[[], float], tls: ssl.SSLContext | None = None
    ) -> None:
        """Take where they are and a clock that never steps back, in seconds."""
        self._tenant = tenant
        self._session = session
        self._seconds = seconds
        self._tls = tls
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._problem = "not fetched yet"
        self._turn = asyncio.Lock()

    def problem(self) -> str:
        """Return why the keys could not be fetched last, and how many are known all the same; "" when they could."""
        return f"{self._problem}; {len(self._known())} keys are known from before" if self._problem else ""

    async def run(self, sleep: Callable[[timedelta], Any]) -> None:
        """Fetch now and every hour, until cancelled; sooner again while it fails."""
        while True:
            await self._fetch_unless_done(self._tried_at)
            await sleep(FRESH if self._problem == "" else timedelta(seconds=COOL_DOWN))

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """Return a key by its id; None when the tenant has none of it.

        Raises:
            KeysUnavailableError: It cannot be told: the key server does not answer.
        """
        known = self._known()
        if kid in known:
            return known[kid]
        tried_at = self._tried_at
        pause = COOL_DOWN if known else FAILED_PAUSE
        if tried_at is None or self._seconds() - tried_at >= pause:
            await self._fetch_unless_done(tried_at)
        found = self._known().get(kid)
        if found is None and self._problem:
            raise KeysUnavailableError(
                f"the signing keys of tenant {self._tenant.id} cannot be had: {self._problem}; repeat it, nothing was stored"
            )
        return found

    def _known(self) -> Mapping[str, jwt.PyJWK]:
        fresh = self._fetched_at is not None and self._seconds() - self._fetched_at < KEPT
        return self._keys if fresh else {}

    async def _fetch_unless_done(self, tried_at: float | None) -> None:
        """Fetch once for all who ask at the same time: who finds that somebody has tried meanwhile takes what came of it."""
        async with self._turn:
            if self._tried_at != tried_at:
                return
            try:
                self._keys = await self._fetched()
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.DecodeError) as error:
                self._problem = str(error) or f"{type(error).__name__} after {FETCH_WITHIN.total:g} s"
                logger().warning("keys_not_fetched", tenant=self._tenant.id, problem=self._problem, kept=len(self._known()))
            else:
                self._fetched_at, self._problem = self._seconds(), ""
                logger().info("keys_fetched", tenant=self._tenant.id, keys=len(self._keys))
            self._tried_at = self._seconds()  # and not before: who comes while it is under way waits for what comes of it

    async def _fetched(self) -> Mapping[str, jwt.PyJWK]:
        """Fetch the tenant's metadata and the keys it names, which must be at the same server."""
        authority = self._tenant.authority
        metadata = await self._get(f"{authority}/{self._tenant.id}/v2.0/.well-known/openid-configuration")
        where = str(metadata.get("jwks_uri", ""))
        if urlsplit(where)[:2] != urlsplit(authority)[:2]:
            raise ValueError(f"the metadata names keys at {where[:200]!r}, which is not at {authority}")
        keys = (await self._get(where)).get("keys")
        found = {
            key.key_id: key for one in (keys if isinstance(keys, list) else [])[:MOST_KEYS] if (key := _key(one)) is not None
        }
        if not found:
            raise ValueError(f"{where} has no RSA key for signatures")
        return {kid: key for kid, key in found.items() if kid is not None}

    async def _get(self, url: str) -> Mapping[str, Any]:
        options: dict[str, Any] = {"ssl": self._tls} if self._tls is not None else {}
        async with self._session.get(url, timeout=FETCH_WITHIN, allow_redirects=False, **options) as response:
            if response.status != 200:
                raise ValueError(f"{url} answers {response.status}")
            body = bytearray()
            async for piece in response.content.iter_chunked(1 << 14):
                body += piece
                if len(body) > LONGEST_ANSWER:
                    raise ValueError(f"{url} answers more than {LONGEST_ANSWER} bytes")
        answer = msgspec.json.decode(bytes(body))
        if not isinstance(answer, dict):
            raise ValueError(f"{url} answers no JSON object")  # noqa: TRY004 - a foreign answer, not a type of ours
        return answer


def _key(one: Any) -> jwt.PyJWK | None:
    """Return a key that RS256 signatures are checked with; None for any other."""
    if (
        not isinstance(one, dict)
        or one.get("kty") != "RSA"
        or one.get("use", "sig") != "sig"
        or one.get("alg", "RS256") != "RS256"
    ):
        return None
    if not isinstance(one.get("kid"), str) or not one["kid"]:
        return None
    try:
        key = jwt.PyJWK(one, algorithm="RS256")
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return key if isinstance(key.key, RSAPublicKey) and key.key.key_size >= LEAST_KEY_BITS else None


class EntraDoor:
    """Recognises the callers of one source by their tokens."""

    def __init__(
        self, tenant: Tenant, keys: Keys, *, apps: Sequence[str], roles: Sequence[str], now: Callable[[], datetime]
    ) -> None:
        """Take who may call: lower-cased client ids of applications, and roles of which the token must have one."""
        self._tenant = tenant
        self._keys = keys
        self._apps = frozenset(apps)
        self._roles = frozenset(roles)
        self._now = now

    async def caller(self, request: web.Request) -> Caller:
        """Return who calls; only the header ``Authorization`` is read.

        Raises:
            UnauthenticatedError: No token, or not a sound one of our tenant and for us.
            NotPermittedError: A sound one, of an application or with roles that may not call here.
            KeysUnavailableError: It cannot be told now.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnauthenticatedError("no token: this source takes tokens that Entra ID signed, in 'Authorization: Bearer …'")
        claims = await self.claims(token.strip())
        return Caller(name=f"entra {claims}", roles=frozenset({Role.SEND}))

    async def claims(self, token: str) -> str:
        """Return the client id of the application that a token was given to, when it may call; raises as ``caller``."""
        if len(token) > LONGEST_TOKEN:
            raise UnauthenticatedError(f"the token has {len(token)} characters; at most {LONGEST_TOKEN} are looked at")
        key = await self._keys.find(_key_id(token))
        if key is None:
            raise UnauthenticatedError("the token is signed with a key that our tenant does not have")
        claims = self._verified(token, key)
        self._in_time(claims)
        return self._permitted(claims)

    def _verified(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=self._tenant.audiences,
                issuer=self._tenant.issuers,
                options={
                    "require": ["exp", "iat", "iss", "aud", "tid"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "strict_aud": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise UnauthenticatedError("the token's signature is wrong") from None
        except jwt.InvalidAudienceError:
            raise UnauthenticatedError("the token is for another audience; http.entra.audiences names ours") from None
        except jwt.InvalidIssuerError:
            raise UnauthenticatedError("the token is of another tenant; http.entra.tenant names ours") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise UnauthenticatedError(f"the token cannot be read: {str(error)[:200]}") from None

    def _in_time(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._now().timestamp(), self._tenant.leeway.total_seconds()
        times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
        for name, value in times.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise UnauthenticatedError(f"the token's {name} is no time")
        if not now < times["exp"] + leeway:
            raise UnauthenticatedError("the token has expired")
        if not all(times[name] <= now + leeway for name in ("nbf", "iat") if name in times):
            raise UnauthenticatedError("the token is not valid yet; are the clocks right?")

    def _permitted(self, claims: Mapping[str, Any]) -> str:
        if str(claims["tid"]).lower() != self._tenant.id:
            raise UnauthenticatedError("the token is of another tenant; http.entra.tenant names ours")
        first = claims["iss"] == self._tenant.issuers[0]
        app = str(claims.get("appid" if first else "azp", "")).lower()
        if app not in self._apps:
            raise NotPermittedError(
                f"application {app[:64] or '(none)'} may not send here; sources.<name>.entra.apps names who may"
            )
        roles = claims.get("roles")
        if not isinstance(roles, list) or not self._roles & {one for one in roles if isinstance(one, str)}:
            raise NotPermittedError(
                f"application {app} lacks the role {' or '.join(sorted(self._roles))}; assign it to its service principal"
            )
        return app


def _key_id(token: str) -> str:
    """Return the key id in a token's header; nothing else of the header is used (``jku``, ``x5u``, ``jwk`` would let a caller bring their own key)."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise UnauthenticatedError("the token is not a JSON Web Token") from None
    if header.get("alg") != "RS256":
        raise UnauthenticatedError("the token is not signed with RS256")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid or len(kid) > 200:
        raise UnauthenticatedError("the token names no key")
    return kid
