"""Who is calling: bearer tokens, basic authentication and, for plain webhooks, a secret in the query; each names a person or a sender.

Comparison is constant-time over every configured token; nothing secret is logged or echoed.

The decision a reader would question: a secret in the query is accepted, although it ends in access logs elsewhere. An Azure Monitor action group
without Entra can send nothing else; it works only for ``POST /v1/alerts/…`` and only with the role ``send``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web

from responder.model.errors import UnauthenticatedError


class Role(StrEnum):
    """What a token may do. Source: ARCHITECTURE.md "The outside"."""

    SEND = "send"
    VIEW = "view"
    OPERATE = "operate"
    APPROVE = "approve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One configured token: who it names, what it may do, and the SHA-256 of its secret."""

    name: str
    roles: frozenset[Role]
    digest: bytes
    sources: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who was recognised. ``sources`` limits a sender to these source names; empty means any."""

    name: str
    roles: frozenset[Role]
    sources: frozenset[str] = frozenset()


ANYBODY = Caller(name="anybody", roles=frozenset(Role))
"""When authentication was switched off in the configuration, which start-up logs loudly."""


def token(name: str, secret: str, roles: Sequence[Role], sources: Sequence[str] = ()) -> Token:
    """Return a token whose secret is kept only as a digest."""
    return Token(name=name, roles=frozenset(roles), digest=hashlib.sha256(secret.encode()).digest(), sources=frozenset(sources))


class Authentication:
    """Recognises callers.

    Attributes:
        required: False recognises everybody as ``ANYBODY``.
    """

    def __init__(self, tokens: Sequence[Token], *, required: bool = True) -> None:
        self._tokens = tuple(tokens)
        self.required = required

    def caller(self, request: web.Request, *, query: bool = False) -> Caller:
        """Return who calls.

        Args:
            request: Its headers are read; with ``query`` also its parameter ``token``.
            query: Whether a secret in the query is accepted here.

        Raises:
            UnauthenticatedError: No token, or none that is known.
        """
        if not self.required:
            return ANYBODY
        secret = _secret(request, query=query)
        if not secret:
            raise UnauthenticatedError("no token: send 'Authorization: Bearer <token>'")
        digest = hashlib.sha256(secret.encode()).digest()
        found: Token | None = None
        for one in self._tokens:
            if hmac.compare_digest(one.digest, digest):
                found = one
        if found is None:
            raise UnauthenticatedError("the token is not known here")
        return Caller(name=found.name, roles=found.roles, sources=found.sources)


def _secret(request: web.Request, *, query: bool) -> str:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return password
    return request.query.get("token", "") if query else ""
